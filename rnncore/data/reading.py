"""Reading files, folders and patterns as one text, in blocks."""

from __future__ import annotations

import codecs
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.text_words import TextWords, count_pieces
from rnncore.data.units import TextVocabulary, UnitSettings
from rnncore.data.vocabulary import BYTES, Vocabulary, code_points_of

Sources = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

BLOCK_BYTES = 1 << 20  # read at a time
MAPPED_BYTES = 1 << 30  # numbered texts above that lie in a temporary file, not in memory
# What a file begins with that says how it is encoded, the longer ones first.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
OR_BYTES = ", or take the bytes themselves, with the unit 'bytes' (--unit bytes)"


def read_text(sources: Sources, encoding: str = "utf-8") -> str | bytes:
    r"""Read files, folders and globs as one text.

    The order is that of the arguments; inside a folder (searched recursively) and a glob the
    paths are sorted, so the same arguments give the same text on every machine. A file that is
    named twice is read once. In folders, hidden entries and files with a NUL character
    (programs, pictures, archives) are skipped. Line ends become ``\n`` as in Python's text mode,
    and a file without a last newline gets one where another file follows.

    Parameters
    ----------
    sources
        One path or several: files, folders, or patterns with ``*``, ``?``, ``[...]``, ``**``.
    encoding
        How the files are encoded, or ``"bytes"``: then nothing is decoded or added, every byte
        is a character of its own, and the result is ``bytes``. Files that begin with the mark of
        UTF-16 or UTF-32 are read as that where ``"utf-8"`` is expected.

    Returns
    -------
    text : str or bytes

    Raises
    ------
    FileNotFoundError
        If a path does not exist or a pattern matches nothing.
    ValueError
        If a folder holds no text, a file is not in `encoding`, a device or a pipe is named, or
        there is no text at all.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.txt", "a.txt"):
    ...         _ = pathlib.Path(folder, name).write_text(name)
    ...     read_text(folder)
    'a.txt\nb.txt'
    """
    files = TextFiles(sources, encoding)
    if files.encoding == BYTES:
        return b"".join(block for block in files.blocks() if isinstance(block, bytes))
    text = io.StringIO()  # one copy while it grows, not a list of all blocks beside it
    for block in files.blocks():
        text.write(str(block))
    return text.getvalue()


def read_tokens(
    sources: Sources,
    vocabulary: TextVocabulary | None = None,
    encoding: str = "utf-8",
    settings: UnitSettings | None = None,
) -> tuple[TextVocabulary, NDArray[np.integer]]:
    """Read files as `read_text` does and number them, without ever holding the text.

    Parameters
    ----------
    sources
        See `read_text`.
    vocabulary
        None: made of the text.
    encoding
        How the files are encoded; bytes as the unit are not decoded.
    settings
        What of the text becomes a symbol, where the vocabulary is made of it; None: characters.

    Returns
    -------
    vocabulary
    tokens : (N,) integers
        As small as the vocabulary allows; above a gigabyte they lie in a temporary file, mapped
        into memory.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_text`; or if the text has characters that the vocabulary does not.
    TypeError
        If there are settings beside a vocabulary.
    """
    if vocabulary is not None and settings is not None:
        raise TypeError(
            "settings: expected none beside a vocabulary, which says what it is made of"
        )
    settings = settings or UnitSettings()
    unit = settings.unit if vocabulary is None else vocabulary.unit
    files = TextFiles(sources, encoding_of(unit, encoding))
    length = files.length
    if unit == "words":
        counts = count_pieces(files.blocks())
        length = counts.total()
        vocabulary = vocabulary or TextWords.of(counts, **settings.limits)
    vocabulary = vocabulary or Vocabulary.of(files.code_points, unit == BYTES)
    dtype = vocabulary.dtype
    tokens: NDArray[np.integer]
    if length * dtype.itemsize > MAPPED_BYTES:
        with tempfile.TemporaryFile() as file:  # the mapping keeps it
            tokens = np.memmap(file, dtype, "w+", shape=(length,))
    else:
        tokens = np.empty(length, dtype)
    if vocabulary.encode_into(tokens, files.blocks()) != length:
        raise ValueError("text source: the files changed while they were read; try again")
    return vocabulary, tokens


class TextFiles:
    """Text files as one text that is read in blocks, as often as need be.

    Parameters
    ----------
    sources, encoding
        See `read_text`.

    Attributes
    ----------
    length : int
        Characters, or bytes.
    code_points : sorted distinct code points, or byte values
    """

    def __init__(self, sources: Sources, encoding: str = "utf-8") -> None:
        if isinstance(sources, str | os.PathLike):
            sources = [sources]
        self.encoding = encoding
        if encoding != BYTES:
            check_encoding(encoding)
        self.length = 0
        self._files: list[tuple[Path, str]] = []  # and what follows: a newline or nothing
        self._present = np.zeros(0, np.uint32)
        self._last = ""
        seen: set[str] = set()
        for source in sources:
            found_text = False
            paths, searched = find_files(source)
            for path in paths:
                real = os.path.realpath(path)
                if real in seen or self._take(path, searched):
                    seen.add(real)
                    found_text = True
            if not found_text:
                raise ValueError(
                    f"text source: expected a folder with text files, but in "
                    f"{os.fspath(source)!r} there is no file that is text; name a folder or file "
                    "that has some"
                )
        if not self.length:
            names = ", ".join(str(path) for path, _ in self._files) or "no file at all"
            raise ValueError(
                f"text: expected at least one character, got empty text from {names}; "
                "name files that have text"
            )
        self.code_points = self._present

    def _take(self, path: Path, searched: bool) -> bool:
        # Whether the file is text, read to its end once.
        length, last = 0, ""
        joined = bool(self._last) and self._last != "\n"

        def measured() -> Iterator[str | bytes]:
            nonlocal length, last
            for block in read_blocks(path, self.encoding):
                if searched and isinstance(block, str) and "\0" in block:
                    raise _NoTextError
                length += len(block)
                last = block[-1:] if isinstance(block, str) else "\n"
                yield block

        try:
            points = code_points_of(measured())
        except _NoTextError:
            return False
        except UnicodeError as error:
            if searched and _has_nul(path):
                return False
            raise undecodable(path, self.encoding, error) from None
        before = "\n" if joined and length else ""
        if before:
            points = np.union1d(points, np.array([10], np.uint32))
        self._present = np.union1d(self._present, points).astype(np.uint32)
        self.length += length + len(before)
        self._last = last or self._last
        self._files.append((path, before))
        return True

    def blocks(self) -> Iterator[str | bytes]:
        """Give the text piece by piece."""
        for path, before in self._files:
            if before:
                yield before
            yield from read_blocks(path, self.encoding)

    def lines(self) -> Iterator[str | bytes]:
        """Give the lines of each file, without their ends."""
        end: Any = b"\n" if self.encoding == BYTES else "\n"
        for path, _ in self._files:
            rest: Any = end[:0]
            for block in read_blocks(path, self.encoding):
                *whole, rest = (rest + block).split(end)
                yield from whole
            if rest:
                yield rest


class _NoTextError(Exception):
    pass


def check_encoding(encoding: str) -> None:
    """Refuse a name that is not one of a text's encoding."""
    try:
        codecs.getincrementaldecoder(encoding)
        "".encode(encoding)
    except LookupError:
        raise ValueError(
            f"encoding: expected a name that Python knows, such as 'utf-8', 'latin-1' or "
            f"'cp1252'; got {encoding!r}"
        ) from None


def encoding_of(unit: str, encoding: str) -> str:
    """Return what `TextFiles` takes for symbols of this unit, whose bytes are not decoded."""
    if encoding == BYTES:
        raise ValueError(
            "encoding: expected the name of one, got 'bytes'; to take the bytes themselves give "
            "the unit 'bytes' (--unit bytes)"
        )
    check_encoding(encoding)
    if unit != BYTES:
        return encoding
    if encoding != "utf-8":
        raise ValueError(
            "encoding: expected none for the unit 'bytes', which is not decoded, got "
            f"{encoding!r}; leave it out"
        )
    return BYTES


def marked_encoding(raw: bytes, encoding: str) -> str:
    """Return the encoding that a file's mark says where UTF-8 is expected."""
    if codecs.lookup(encoding).name != "utf-8":
        return encoding
    return next((name for mark, name in MARKS if raw.startswith(mark)), encoding)


def undecodable(
    path: Path, encoding: str, error: UnicodeError, or_bytes: str = OR_BYTES
) -> ValueError:
    """Return the error that says of a file that it is not in its encoding."""
    at = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
    advice = "convert it to UTF-8, or give its real encoding, for example encoding='latin-1'"
    if or_bytes:  # the command that reads such files has an option
        advice = "give its real encoding, for example encoding 'latin-1' (--encoding latin-1)"
    return ValueError(
        f"encoding: expected {str(path)!r} to be {encoding} text, but it is not{at}; "
        f"{advice}{or_bytes}"
    )


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of one regular file.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none of that name, or it is a folder, a device or a pipe.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"path: expected a file, but {str(file)!r} does not exist")
    if not file.is_file():
        kind = "a folder" if file.is_dir() else "a device or a pipe"
        raise ValueError(f"path: expected a file, but {str(file)!r} is {kind}; name a file")
    return file.read_bytes()


def read_whole(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    r"""Return the text of one file, line ends made ``\n``, without its byte order mark.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such regular file, or it is not in `encoding`.
    """
    check_encoding(encoding)
    raw = read_file(path)
    try:
        text = raw.decode(marked_encoding(raw, encoding))
    except UnicodeError as error:
        raise undecodable(Path(path), encoding, error, or_bytes="") from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def read_blocks(path: Path, encoding: str) -> Iterator[str | bytes]:
    r"""Give a file piece by piece: bytes, or characters with line ends ``\n``.

    Raises ``UnicodeDecodeError``, its start counted from the beginning of the file.
    """
    with open(path, "rb") as file:
        raw = file.read(BLOCK_BYTES)
        if encoding == BYTES:
            while raw:
                yield raw
                raw = file.read(BLOCK_BYTES)
            return
        encoding = marked_encoding(raw, encoding)
        decoder = codecs.getincrementaldecoder(encoding)()
        lines = io.IncrementalNewlineDecoder(None, translate=True)
        place, first = 0, True
        while True:
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                error.start += place - held
                raise
            text = lines.decode(text, final=not raw)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            if text:
                yield text
            if not raw:
                return
            place += len(raw)
            raw = file.read(BLOCK_BYTES)


def _has_nul(path: Path) -> bool:
    return any(b"\0" in block for block in read_blocks(path, BYTES) if isinstance(block, bytes))


def find_files(source: str | os.PathLike[str]) -> tuple[list[Path], bool]:
    """Return the files that one source stands for, and whether they were searched for."""
    name = os.fspath(source)
    if not name:  # which Path takes for the folder that one is in
        raise ValueError("text source: expected a file, a folder or a pattern, got an empty name")
    path = Path(name)
    if not path.exists() and any(mark in name for mark in "*?["):
        import glob

        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise FileNotFoundError(f"text source: no file matches the pattern {name!r}")
        files: list[Path] = []
        for match in matches:
            if os.path.isdir(match):
                files += _files_below(Path(match))
            elif os.path.isfile(match):
                files.append(Path(match))
        return files, True
    if not path.exists():
        raise FileNotFoundError(
            f"text source: expected a file, a folder or a pattern such as 'src/**/*.c', but "
            f"{name!r} does not exist"
        )
    if path.is_dir():
        return _files_below(path), True
    if not path.is_file():
        raise ValueError(
            f"text source: expected a regular file, but {name!r} is a device or a pipe, which may "
            f"have no end; write what you want of it to a file first, for example with `head -c "
            f"1000000 {name} > text.txt`"
        )
    return [path], False


def _files_below(folder: Path) -> list[Path]:
    files: list[Path] = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [
            path
            for name in names
            if not name.startswith(".") and (path := Path(base, name)).is_file()
        ]
    return sorted(files)
