"""A tagged sentence, and the lines of a file that it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from rnncore.data.conllu_lines import (
    FULL,
    NO_TAG,
    PLAIN,
    TAG_COLUMN,
    TAGGED,
    is_blank,
    is_comment,
    is_word,
    lines_of,
)


class FileForm(NamedTuple):
    """How the file of a sentence is written.

    Parameters
    ----------
    columns
        10 for CoNLL-U, 2 for word and tag, 1 for words alone.
    encoding
        The byte order is part of the name where there are two.
    mark
        Whether the file begins with a byte order mark.
    """

    columns: int = FULL
    encoding: str = "utf-8"
    mark: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Sentence:
    r"""The words of a sentence, their tags, and the lines that they come from.

    `read_conllu` and `of` make them.

    Parameters
    ----------
    words, tags
        One tag for each word, ``_`` where there is none. Of CoNLL-U these are the syntactic
        words, numbered 1, 2, ...; neither ranges such as ``1-2`` nor empty nodes such as ``8.1``
        count.
    text
        All lines of the sentence as they stand in the file: comments, ranges, empty nodes, line
        ends, and the blank line behind it.
    form
        How the file is written.

    Examples
    --------
    >>> sentence = Sentence.of(["time", "flies"], ["NOUN", "VERB"], columns=2)
    >>> sentence.with_tags(["NOUN", "NOUN"]).text
    'time\tNOUN\nflies\tNOUN\n\n'
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    text: str = dataclasses.field(repr=False)
    form: FileForm

    @classmethod
    def of(
        cls, words: Iterable[str], tags: Iterable[str] | None = None, columns: int = FULL
    ) -> Sentence:
        """Return a sentence that no file has yet.

        Parameters
        ----------
        words
        tags
            None where there are none.
        columns
            10 for CoNLL-U, 2 for word and tag.

        Raises
        ------
        TypeError, ValueError
            If there is no word, words or tags cannot stand in such a line, or their numbers differ.
        """
        if columns not in TAG_COLUMN:
            raise ValueError(f"columns: expected 10 (CoNLL-U) or 2 (word, tag), got {columns!r}")
        if isinstance(words, str):
            raise TypeError("words: expected a list of str, got str; split a text into words first")
        known = tuple(words)
        if not known:
            raise ValueError("words: expected one word at least, got none; leave the sentence out")
        for word in known:
            _check_field("words", word)
        given = (NO_TAG,) * len(known) if tags is None else _check_tags(tags, len(known))
        lines = []
        for number, (word, tag) in enumerate(zip(known, given, strict=True), 1):
            fields = [word, tag]
            if columns == FULL:
                fields = [str(number), word, NO_TAG, tag, *[NO_TAG] * (FULL - 4)]
            lines.append("\t".join(fields) + "\n")
        return cls(known, given, "".join(lines) + "\n", FileForm(columns))

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.words)

    @property
    def comments(self) -> tuple[str, ...]:
        """The lines that begin with ``#``, such as ``# sent_id = 1``, without their ends."""
        bare = (line.rstrip("\r\n") for line in lines_of(self.text))
        return tuple(line for line in bare if is_comment(line, self.form.columns))

    def with_tags(self, tags: Iterable[str]) -> Sentence:
        """Return the sentence with other tags; nothing else in its lines changes.

        A file of words alone becomes one of words and tags.

        Raises
        ------
        TypeError, ValueError
            If there is not one tag for each word, or a tag is empty or has white space.
        """
        given = _check_tags(tags, len(self.words))
        columns = self.form.columns
        rest = iter(given)
        lines = []
        for line in lines_of(self.text):
            bare = line.rstrip("\r\n")
            if is_word(bare, columns):
                if columns == PLAIN:
                    fields = [bare, next(rest)]
                else:  # what stands behind the tag may stay in one piece
                    column = TAG_COLUMN[columns]
                    fields = bare.split("\t", column + 1)
                    fields[column] = next(rest)
                line = "\t".join(fields) + line[len(bare) :]
            lines.append(line)
        form = self.form._replace(columns=TAGGED if columns == PLAIN else columns)
        return Sentence(self.words, given, "".join(lines), form)


def _check_tags(tags: Iterable[str], count: int) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise TypeError("tags: expected a list of str, got str; give one tag for each word")
    given = tuple(tags)
    if len(given) != count:
        raise ValueError(f"tags: expected {count}, got {len(given)}; give one tag for each word")
    known: set[str] = set()
    for tag in given:
        if not isinstance(tag, str) or tag not in known:  # what is no str may have no hash
            _check_field("tags", tag)
            if tag.split() != [tag]:
                raise ValueError(
                    f"tags: expected no white space in a tag, got {tag!r}; take it out"
                )
            known.add(tag)
    return given


def _check_field(name: str, field: object) -> None:
    if not isinstance(field, str):
        raise TypeError(f"{name}: expected str, got {type(field).__name__}; give words and tags")
    if is_blank(field) or any(mark in field for mark in "\t\r\n\0"):
        raise ValueError(
            f"{name}: expected text without tabs and line ends, got {field!r}; give one word a "
            "line, and _ for nothing"
        )
