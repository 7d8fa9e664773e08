"""Text for language models: read it, number its characters, cut it into streams and chunks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_tokens

BYTES = "bytes"  # stands where an encoding is asked for: the alphabet is the file's bytes


def read_text(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], encoding: str = "utf-8"
) -> str | bytes:
    r"""Read files, folders and globs as one text.

    The order is that of the arguments; inside a folder (searched recursively) and a glob the
    paths are sorted, so the same arguments give the same text on every machine. A file that is
    named twice is read once. In folders, hidden entries and files with a NUL character
    (programs, pictures, archives) are skipped. Line ends become ``\n`` as in Python's text mode.

    Parameters
    ----------
    sources
        One path or several: files, folders, or patterns with ``*``, ``?``, ``[...]``, ``**``.
    encoding
        How the files are encoded, or ``"bytes"``: then nothing is decoded, every byte is a
        character of its own, and the result is ``bytes``.

    Returns
    -------
    text : str or bytes

    Raises
    ------
    FileNotFoundError
        If a path does not exist or a pattern matches nothing.
    ValueError
        If a folder holds no text, a file is not in `encoding`, or there is no text at all.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.txt", "a.txt"):
    ...         _ = pathlib.Path(folder, name).write_text(name + " ")
    ...     read_text(folder)
    'a.txt b.txt '
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    if encoding != BYTES:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError(
                f"encoding: expected a name that Python knows, such as 'utf-8', 'latin-1' or "
                f"'cp1252', or 'bytes'; got {encoding!r}"
            ) from None
    parts: list[str] = []
    raw_parts: list[bytes] = []
    seen: set[str] = set()
    paths: list[Path] = []
    for source in sources:
        found_text = False
        files, searched = _find_files(source)
        for path in files:
            real = os.path.realpath(path)
            if real in seen:
                found_text = True
                continue
            raw = path.read_bytes()
            if encoding == BYTES:
                raw_parts.append(raw)
            else:
                part = _decode(raw, path, encoding, skip_binary=searched)
                if part is None:
                    continue
                parts.append(part)
            seen.add(real)
            paths.append(path)
            found_text = True
        if not found_text:
            raise ValueError(
                f"text source: expected a folder with text files, but in {os.fspath(source)!r} "
                "there is no file that is text; name a folder or file that has some"
            )
    text: str | bytes = b"".join(raw_parts) if encoding == BYTES else "".join(parts)
    if not text:
        names = ", ".join(map(str, paths)) or "no file at all"
        raise ValueError(
            f"text: expected at least one character, got empty text from {names}; "
            "name files that have text"
        )
    return text


def _find_files(source: str | os.PathLike[str]) -> tuple[list[Path], bool]:
    """Return the files that one source stands for, and whether they were searched for."""
    name = os.fspath(source)
    path = Path(name)
    if not path.exists() and any(mark in name for mark in "*?["):
        import glob

        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise FileNotFoundError(f"text source: no file matches the pattern {name!r}")
        files: list[Path] = []
        for match in matches:
            files += _files_below(Path(match)) if os.path.isdir(match) else [Path(match)]
        return files, True
    if not path.exists():
        raise FileNotFoundError(
            f"text source: expected a file, a folder or a pattern such as 'src/**/*.c', but "
            f"{name!r} does not exist"
        )
    return (_files_below(path), True) if path.is_dir() else ([path], False)


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


def _decode(raw: bytes, path: Path, encoding: str, skip_binary: bool) -> str | None:
    try:
        text = raw.decode(encoding)
    except UnicodeError as error:
        if skip_binary and b"\0" in raw:
            return None
        at = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise ValueError(
            f"encoding: expected {str(path)!r} to be {encoding} text, but it is not{at}; give its "
            "real encoding, for example encoding 'latin-1' (--encoding latin-1), or take the "
            "bytes themselves as the alphabet with encoding 'bytes' (--encoding bytes)"
        ) from None
    if skip_binary and "\0" in text:
        return None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


class Vocabulary:
    """The sorted distinct characters (or bytes) of a text, numbered from 0.

    Parameters
    ----------
    text
        Any text; its distinct characters become the vocabulary. With ``bytes`` the symbols are
        byte values: strings are then encoded and decoded as UTF-8 on their way in and out.

    Examples
    --------
    >>> vocabulary = Vocabulary("hello")
    >>> len(vocabulary), vocabulary.encode("hole"), vocabulary.decode([1, 0, 2, 2, 3])
    (4, array([1, 3, 2, 0], dtype=int32), 'hello')
    """

    is_bytes: bool
    symbols: NDArray[np.uint32]

    def __init__(self, text: str | bytes) -> None:
        if not isinstance(text, str | bytes):
            raise TypeError(f"text: expected str or bytes, got {type(text).__name__}")
        if not text:
            raise ValueError("text: expected at least one character to make a vocabulary of")
        self.is_bytes = isinstance(text, bytes)
        codes = _code_points(text)
        present = np.zeros(int(codes.max()) + 1, dtype=bool)
        present[codes] = True
        self.symbols = np.flatnonzero(present).astype(np.uint32)
        # One entry more than the largest code point: unknown larger ones are clipped onto it.
        self._numbers = np.full(present.size + 1, -1, dtype=np.int32)
        self._numbers[self.symbols] = np.arange(self.symbols.size, dtype=np.int32)

    def __len__(self) -> int:
        """Return the number of distinct symbols."""
        return self.symbols.size

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same symbols and the same kind of alphabet."""
        return (
            isinstance(other, Vocabulary)
            and self.is_bytes == other.is_bytes
            and np.array_equal(self.symbols, other.symbols)
        )

    __hash__ = None  # type: ignore[assignment]

    def encode(self, text: str | bytes) -> NDArray[np.int32]:
        """Return the number of each character of `text`, shape ``(len(text),)``, int32.

        Raises
        ------
        ValueError
            If `text` has characters that the vocabulary does not; the message lists them.
        """
        if self.is_bytes and isinstance(text, str):
            text = text.encode("utf-8")
        if not isinstance(text, bytes if self.is_bytes else str):
            raise TypeError(f"text: expected str, got {type(text).__name__}")
        codes = _code_points(text)
        tokens: NDArray[np.int32] = self._numbers[np.minimum(codes, self._numbers.size - 1)]
        unknown = np.unique(codes[tokens < 0])
        if unknown.size:
            shown = ", ".join(repr(chr(code)) for code in unknown[:8])
            more = f" and {unknown.size - 8} more" if unknown.size > 8 else ""
            raise ValueError(
                f"text: expected only characters of the vocabulary ({len(self)} symbols), got "
                f"{shown}{more}, which the model has never seen; leave them out"
            )
        return tokens

    def decode(self, tokens: ArrayLike) -> str:
        """Return the characters numbered `tokens`; bytes that are not UTF-8 become U+FFFD.

        Raises
        ------
        TypeError, ValueError
            If these are not integers, or not numbers of the vocabulary.
        """
        numbers = np.asarray(tokens)
        if numbers.size:
            numbers = check_tokens("tokens", numbers, len(self))
        codes = self.symbols[numbers.astype(np.intp)]
        if self.is_bytes:
            return codes.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def to_json(self) -> dict[str, str]:
        """Return a description that `json` can write and `from_json` reads."""
        symbols = self.symbols.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        return {"alphabet": BYTES if self.is_bytes else "characters", "symbols": symbols}

    @classmethod
    def from_json(cls, description: dict[str, str]) -> Vocabulary:
        """Return the vocabulary that `to_json` described."""
        symbols = description["symbols"]
        return cls(symbols.encode("latin-1") if description["alphabet"] == BYTES else symbols)


def _code_points(text: str | bytes) -> NDArray[np.uint32]:
    if isinstance(text, bytes):
        return np.frombuffer(text, dtype=np.uint8).astype(np.uint32)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def split_text(
    tokens: NDArray[np.int32], validation_fraction: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Split off the last part of a text for validation.

    Parameters
    ----------
    tokens : (N,) integers
    validation_fraction
        At least 0 and below 1; ``round(N * validation_fraction)`` tokens are split off.

    Returns
    -------
    training, validation : views of `tokens`

    Raises
    ------
    ValueError
        If the fraction is out of range.

    Examples
    --------
    >>> split_text(np.arange(10, dtype=np.int32), 0.2)[1]
    array([8, 9], dtype=int32)
    """
    if not 0.0 <= validation_fraction < 1.0:
        raise ValueError(
            f"validation_fraction: expected a number from 0 to below 1, got {validation_fraction}"
        )
    cut = len(tokens) - round(len(tokens) * validation_fraction)
    return tokens[:cut], tokens[cut:]


class Chunk(NamedTuple):
    """A chunk of B parallel streams; ``targets[t] = inputs[t + 1]``, both (T, B) integers.

    ``wrapped`` is true where the streams begin anew, so that the state must begin anew as well.
    """

    inputs: NDArray[np.int32]
    targets: NDArray[np.int32]
    wrapped: bool


class TextChunks:
    """Endless chunks of T steps from B contiguous streams of one text.

    The text is cut into B streams of equal length, stream b beginning at character ``b * L``,
    and each chunk goes T characters further in all of them, so that the state after one chunk
    is the state before the next (truncated backpropagation through time). After the last whole
    chunk the streams wrap to their beginning. This is the arrangement of char-rnn (Karpathy,
    "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015).

    Parameters
    ----------
    tokens : (N,) integers
    batch_size
        B, the number of streams.
    sequence_length
        T, the number of steps of a chunk.

    Attributes
    ----------
    position : int
        Chunks given so far, counted from the very first; assign it to go there.
    chunks_per_epoch : int

    Raises
    ------
    ValueError
        If the text is shorter than one batch, ``B * T + 1`` characters.

    Examples
    --------
    >>> chunks = TextChunks(np.arange(13, dtype=np.int32), batch_size=2, sequence_length=3)
    >>> inputs, targets, wrapped = next(chunks)
    >>> inputs[:, 1], targets[:, 1], wrapped
    (array([6, 7, 8], dtype=int32), array([7, 8, 9], dtype=int32), True)
    >>> next(chunks).wrapped, next(chunks).wrapped
    (False, True)
    """

    def __init__(
        self, tokens: NDArray[np.int32], batch_size: int = 50, sequence_length: int = 50
    ) -> None:
        for name, value in (("batch_size", batch_size), ("sequence_length", sequence_length)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        needed = batch_size * sequence_length + 1
        if len(tokens) < needed:
            raise ValueError(
                f"text: expected at least batch_size * sequence_length + 1 = {needed} characters "
                f"to train on, got {len(tokens)}; give more text, or a smaller batch_size or "
                "sequence_length"
            )
        self.sequence_length = sequence_length
        self.position = 0
        self.chunks_per_epoch = (len(tokens) - 1) // batch_size // sequence_length
        self._streams = _streams(tokens, batch_size, self.chunks_per_epoch * sequence_length)

    def __iter__(self) -> Iterator[Chunk]:
        """Return the iterator itself."""
        return self

    def __next__(self) -> Chunk:
        """Return the next chunk; there is always one."""
        index = self.position % self.chunks_per_epoch
        self.position += 1
        start = index * self.sequence_length
        stop = start + self.sequence_length
        return Chunk(self._streams[start:stop], self._streams[start + 1 : stop + 1], index == 0)


def single_pass(
    tokens: NDArray[np.int32], batch_size: int, sequence_length: int
) -> Iterator[Chunk]:
    """Give every step of B streams once, the last chunk shorter where T does not divide them.

    Raises ``ValueError`` if there are not two tokens for each stream.
    """
    length = (len(tokens) - 1) // batch_size
    if length < 1:
        raise ValueError(
            f"text: expected at least {batch_size + 1} characters for {batch_size} streams, got "
            f"{len(tokens)}"
        )
    streams = _streams(tokens, batch_size, length)
    for start in range(0, length, sequence_length):
        stop = min(start + sequence_length, length)
        yield Chunk(streams[start:stop], streams[start + 1 : stop + 1], start == 0)


def _streams(tokens: NDArray[np.int32], batch_size: int, length: int) -> NDArray[np.int32]:
    """Return (length + 1, B) where column b holds tokens[b * length : (b + 1) * length + 1]."""
    return tokens[np.arange(length + 1)[:, None] + length * np.arange(batch_size)]
