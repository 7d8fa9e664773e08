"""Reading and writing tagged sentences: CoNLL-U, and one word and tag a line."""

from __future__ import annotations

import codecs
import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from rnncore import files
from rnncore.data.conllu_lines import (
    FULL,
    NO_TAG,
    PLAIN,
    TAG_COLUMN,
    WORD_COLUMN,
    Numbers,
    columns_of,
    fields_of,
    is_blank,
    is_comment,
    lines_of,
    missing_end,
)
from rnncore.data.reading import check_encoding, marked_encoding, read_file, undecodable
from rnncore.data.sentence import FileForm, Sentence

MARK = "\ufeff"  # the byte order mark, decoded


def read_conllu(path: str | os.PathLike[str], encoding: str = "utf-8") -> list[Sentence]:
    r"""Read the sentences of a CoNLL-U file, or of one with a word and its tag in a line.

    CoNLL-U has ten columns; the word is the second, its universal tag the fourth. A file of two
    columns has word and tag, one of a single column words alone; there lines that begin with
    ``"# "`` and have no tab are comments. Columns are separated by tabs, sentences by blank lines.
    Line ends may be ``\n``, ``\r\n`` or ``\r``; a byte order mark is no part of the text.

    Parameters
    ----------
    path
    encoding
        Files that begin with the mark of UTF-16 or UTF-32 are read as that where ``"utf-8"`` is
        expected.

    Returns
    -------
    sentences : list of Sentence
        `write_conllu` makes the same bytes of them again.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no regular file, not in `encoding`, malformed (the message names the line), or has
        no sentence.

    References
    ----------
    Universal Dependencies, "CoNLL-U Format", version 2.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "two.tsv")
    ...     _ = path.write_text("time\tNOUN\nflies\tVERB\n\ngo\tVERB\n")
    ...     [sentence.words for sentence in read_conllu(path)]
    [('time', 'flies'), ('go',)]
    """
    check_encoding(encoding)
    file = Path(path)
    raw = read_file(file)
    exact = _exact_encoding(raw, encoding)
    try:
        text = raw.decode(exact)
    except UnicodeError as error:
        raise undecodable(file, encoding, error, or_bytes="") from None
    return _parse(text, f"path: {str(file)!r}", exact)


def parse_conllu(text: str) -> list[Sentence]:
    r"""Return the sentences of a text in the form that `read_conllu` reads.

    Raises
    ------
    ValueError
        If the text is malformed (the message names the line) or has no sentence.

    Examples
    --------
    >>> [sentence] = parse_conllu("# newdoc\nGo\n!\n")
    >>> sentence.words, sentence.tags, sentence.comments
    (('Go', '!'), ('_', '_'), ('# newdoc',))
    """
    return _parse(text, "text", "utf-8")


def _parse(text: str, name: str, encoding: str) -> list[Sentence]:
    body = text.removeprefix(MARK)
    columns = columns_of(body, name)
    form = FileForm(columns, encoding, len(body) < len(text))
    sentences: list[Sentence] = []
    block: list[str] = []  # lines since the last sentence
    words: list[str] = []
    tags: list[str] = []
    known: dict[str, str] = {}  # one object for equal strings: a treebank repeats its words
    numbers = Numbers()
    number, closed = 0, False

    def fail(message: str) -> NoReturn:
        raise ValueError(f"{name}, line {number}: {message}")

    def close() -> None:
        if not words:
            fail("expected a sentence with one word at least, got none; take its lines out")
        numbers.close(fail)
        sentences.append(Sentence(tuple(words), tuple(tags), "".join(block), form))
        for collected in (block, words, tags):
            collected.clear()

    for line in lines_of(body):
        bare = line.rstrip("\r\n")
        blank = is_blank(bare)
        if closed and not blank:
            close()
            numbers, closed = Numbers(), False
        number += 1
        block.append(line)
        if blank:
            closed = bool(words) or numbers.began
            continue
        if is_comment(bare, columns):
            continue
        fields = fields_of(bare, columns, fail)
        if columns == FULL and not numbers.take(fields[0], fail):
            continue
        word = fields[WORD_COLUMN[columns]]
        tag = NO_TAG if columns == PLAIN else fields[TAG_COLUMN[columns]]
        words.append(known.setdefault(word, word))
        tags.append(known.setdefault(tag, tag))
    if words or numbers.began:
        close()
    elif sentences:  # comments behind the last sentence
        last = sentences[-1]
        sentences[-1] = dataclasses.replace(last, text=last.text + "".join(block))
    return sentences


def write_conllu(
    path: str | os.PathLike[str], sentences: Iterable[Sentence], encoding: str | None = None
) -> None:
    """Write sentences as they were read, the tags perhaps replaced; the file is whole or not there.

    Parameters
    ----------
    path
        Of a file or a new one; it may be the one that the sentences come from.
    sentences
        A blank line is put between two of them only where there is none.
    encoding
        None: that of the file of the first sentence, with its byte order mark if it had one.

    Raises
    ------
    OSError
        If it cannot be written; what was there before stays.
    TypeError, ValueError
        If there are no sentences, they are of files with unlike columns, the encoding does not have
        a character, or `path` is a device or a pipe.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "go.conllu")
    ...     write_conllu(path, [Sentence.of(["Go", "!"])])
    ...     path.read_text().count("_")
    16
    """
    sentences = list(sentences)
    text = format_conllu(sentences)
    form = sentences[0].form
    name = form.encoding if encoding is None else encoding
    check_encoding(name)
    try:
        content = (MARK * (form.mark and encoding is None) + text).encode(name)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"encoding: expected one that has all characters, got {name!r}, which has no "
            f"{error.object[error.start]!r}; give encoding 'utf-8'"
        ) from None
    files.write_whole(path, content)


def format_conllu(sentences: Iterable[Sentence]) -> str:
    """Return the text of a file of these sentences, without a byte order mark.

    Raises
    ------
    TypeError, ValueError
        If there are none, or they are of files with unlike columns.
    """
    parts: list[str] = []
    columns: set[int] = set()
    for sentence in sentences:
        if not isinstance(sentence, Sentence):
            raise TypeError(
                f"sentences: expected Sentence, got {type(sentence).__name__}; make one of words "
                "and tags with Sentence.of"
            )
        if parts:
            parts.append(missing_end(parts[-1]))
        parts.append(sentence.text)
        columns.add(sentence.form.columns)
    if len(columns) != 1:
        got = (
            f"some with {' and some with '.join(map(str, sorted(columns)))}" if columns else "none"
        )
        raise ValueError(
            f"sentences: expected one at least, all with the same number of columns, got {got}; "
            "make those that differ with Sentence.of"
        )
    return "".join(parts)


def _exact_encoding(raw: bytes, encoding: str) -> str:
    # A codec that leaves a byte order mark where it is, so that the same bytes can be written.
    name = codecs.lookup(marked_encoding(raw, encoding)).name
    if name == "utf-8-sig":
        return "utf-8"
    if name in ("utf-16", "utf-32"):
        big = codecs.BOM_UTF16_BE if name == "utf-16" else codecs.BOM_UTF32_BE
        little = codecs.BOM_UTF16_LE if name == "utf-16" else codecs.BOM_UTF32_LE
        if raw.startswith((big, little)):
            return name + ("-be" if raw.startswith(big) else "-le")
        return name + ("-le" if sys.byteorder == "little" else "-be")
    return name
