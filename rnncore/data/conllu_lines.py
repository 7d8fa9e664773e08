"""The lines of CoNLL-U, and of one word and tag a line: what is in them, and what is malformed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import NoReturn

FULL, TAGGED, PLAIN = 10, 2, 1  # columns of CoNLL-U, of word and tag, of a word alone
WORD_COLUMN = {FULL: 1, TAGGED: 0, PLAIN: 0}
TAG_COLUMN = {FULL: 3, TAGGED: 1}  # of CoNLL-U the universal tag, UPOS
NO_TAG = "_"

#: Raises an error with the name of the file and the line.
Fail = Callable[[str], NoReturn]


def lines_of(text: str) -> Iterator[str]:
    """Give the lines with their ends; unlike `str.splitlines` it cuts at no other character."""
    return io.StringIO(text, newline="")


def is_blank(line: str) -> bool:
    """Whether a line, without its end, ends a sentence."""
    return not line.strip(" ")


def is_comment(line: str, columns: int) -> bool:
    """Whether a line, without its end, is a comment; where nothing is numbered, words may be #."""
    if columns == FULL:
        return line.startswith("#")
    return line.startswith("# ") and "\t" not in line


def is_word(line: str, columns: int) -> bool:
    """Whether a line, without its end and not malformed, is one of a word."""
    if is_blank(line) or is_comment(line, columns):
        return False
    return columns != FULL or line.partition("\t")[0].isdigit()


def columns_of(text: str, name: str) -> int:
    """Return how many columns a text has: 10, 2 or 1.

    The first line that can be no comment tells; in files of words with # alone the widest.
    """
    if "\0" in text:
        raise ValueError(
            f"{name}: expected text, got a NUL character; if it is UTF-16, give encoding 'utf-16'"
        )
    hashes = 0
    for number, line in enumerate(lines_of(text), 1):
        bare = line.rstrip("\r\n")
        count = bare.count("\t") + 1
        if bare.startswith("#"):
            if not is_comment(bare, TAGGED):
                hashes = max(hashes, count)
        elif not is_blank(bare):
            if count in WORD_COLUMN:
                return count
            raise ValueError(
                f"{name}, line {number}: expected ten columns (CoNLL-U), two (word, tag) or one "
                f"(word), got {count}; separate them with single tabs"
            )
    if hashes in (PLAIN, TAGGED):
        return hashes
    raise ValueError(f"{name}: expected one sentence at least, got none; give some that have words")


def fields_of(line: str, columns: int, fail: Fail) -> list[str]:
    """Return the fields of a line, without its end, that is no comment."""
    fields = line.split("\t")
    if len(fields) != columns:
        fail(
            f"expected {columns} columns separated by tabs, as in the lines before, got "
            f"{len(fields)}; mend the line"
        )
    if columns == PLAIN:
        if " " in line:
            fail("expected one word, or a word, a tab and its tag, got spaces; separate with a tab")
        return fields
    if " " in line or not all(fields):
        for column, field in enumerate(fields, 1):
            if is_blank(field):
                fail(
                    f"expected something in column {column}, got nothing; write _ where nothing is"
                )
    tag = fields[TAG_COLUMN[columns]]
    if tag.split() != [tag]:
        fail(f"expected a tag without white space, got {tag!r}; mend the line")
    return fields


class Numbers:
    """The numbers of a sentence's lines: words 1, 2, ...; ranges 1-2; empty nodes 8.1, 8.2, ..."""

    def __init__(self) -> None:
        self.last = self.empty = self.end = 0  # word, empty node behind it, word that ends a range
        self.began = False

    def take(self, number: str, fail: Fail) -> bool:
        """Whether this is the number of a word; anything out of order is refused."""
        self.began = True
        following = str(self.last + 1)
        if number == following:
            self.last, self.empty = self.last + 1, 0
            return True
        first, _, end = number.partition("-")
        if first == following and end.isascii() and end.isdigit() and len(end) < 10:
            # A range holds a word at least, and none that another range has.
            if int(end) > self.last >= self.end:
                self.end = int(end)
                return False
        elif number == f"{self.last}.{self.empty + 1}":
            self.empty += 1
            return False
        fail(
            f"expected {following}, a range from it such as {following}-{self.last + 2}, or the "
            f"empty node {self.last}.{self.empty + 1} in column 1, got {number!r}; put a blank "
            "line between sentences and number the words from 1"
        )

    def close(self, fail: Fail) -> None:
        """Refuse a range that goes on behind the last word."""
        if self.end > self.last:
            fail(
                f"expected words up to {self.end}, where a range ends, got {self.last}; mend the "
                "range"
            )


def missing_end(text: str) -> str:
    """Return what has to follow some lines so that a blank one stands behind them."""
    first, *_ = lines = list(lines_of(text))
    end = first[len(first.rstrip("\r\n")) :] or "\n"
    bare = lines[-1].rstrip("\r\n")
    ended = "" if lines[-1] != bare else end
    return ended if is_blank(bare) else ended + end
