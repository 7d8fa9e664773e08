"""The characters of a text, numbered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_flag, check_tokens
from rnncore.data.unknowns import check_least_count, smallest_dtype, some_of

BYTES = "bytes"  # stands where an encoding is asked for: the alphabet is the file's bytes
BLOCK = 1 << 16  # characters numbered at a time


class Vocabulary:
    """The sorted distinct characters (or bytes) of a text, numbered from 0.

    Parameters
    ----------
    text
        Any text; its distinct characters become the vocabulary. With ``bytes`` the symbols are
        byte values: strings are then encoded and decoded as UTF-8 on their way in and out.
    unknown
        Whether there is one number more, the last, for all that the vocabulary does not know; it
        is decoded as U+FFFD, or a byte as ``?``. Without it such characters are refused.
    least_count
        How often a character has to be in the text to be known; above 1 only with `unknown`. So
        the text that a model learns from has unknowns too.

    Raises
    ------
    TypeError, ValueError
        If the text is neither str nor bytes, or empty, or no character is as frequent as that.

    Examples
    --------
    >>> vocabulary = Vocabulary("hello")
    >>> len(vocabulary), vocabulary.encode("hole"), vocabulary.decode([1, 0, 2, 2, 3])
    (4, array([1, 3, 2, 0], dtype=uint8), 'hello')
    >>> Vocabulary("hello", unknown=True, least_count=2).encode("lol")
    array([0, 1, 0], dtype=uint8)
    """

    is_bytes: bool
    symbols: NDArray[np.uint32]
    has_unknown: bool

    def __init__(self, text: str | bytes, *, unknown: bool = False, least_count: int = 1) -> None:
        if not isinstance(text, str | bytes):
            raise TypeError(f"text: expected str or bytes, got {type(text).__name__}")
        if not text:
            raise ValueError("text: expected at least one character to make a vocabulary of")
        least_count = check_least_count(least_count, check_flag("unknown", unknown))
        symbols = code_points_of([text])
        if least_count > 1:
            symbols = symbols[_counts_of(symbols, text) >= least_count]
            if not symbols.size:
                raise ValueError(
                    f"least_count: expected a character of the text {least_count} times at least, "
                    "but none is as frequent; give a smaller one"
                )
        self._number(symbols, isinstance(text, bytes), unknown)

    @classmethod
    def of(cls, symbols: NDArray[np.uint32], is_bytes: bool) -> Vocabulary:
        """Return the vocabulary of these sorted, distinct code points or byte values."""
        vocabulary = cls.__new__(cls)
        vocabulary._number(symbols, is_bytes)
        return vocabulary

    def _number(self, symbols: NDArray[np.uint32], is_bytes: bool, unknown: bool = False) -> None:
        self.is_bytes = is_bytes
        self.symbols = symbols
        self.has_unknown = unknown
        # One entry more than the largest code point: unknown larger ones are clipped onto it.
        absent = symbols.size if unknown else -1
        self._numbers = np.full(int(symbols[-1]) + 2, absent, dtype=np.int32)
        self._numbers[symbols] = np.arange(symbols.size, dtype=np.int32)

    def __len__(self) -> int:
        """Return the number of distinct symbols, the unknown among them."""
        return self.symbols.size + self.has_unknown

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same symbols and the same kind of alphabet."""
        return (
            isinstance(other, Vocabulary)
            and self.is_bytes == other.is_bytes
            and self.has_unknown == other.has_unknown
            and np.array_equal(self.symbols, other.symbols)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def unit(self) -> str:
        """What its symbols are: ``"characters"`` or ``"bytes"``."""
        return BYTES if self.is_bytes else "characters"

    @property
    def unknown(self) -> int | None:
        """The number of all that is not known, if there is one."""
        return self.symbols.size if self.has_unknown else None

    @property
    def dtype(self) -> np.dtype:
        """The smallest of uint8, uint16 and int32 that holds every number."""
        return smallest_dtype(len(self))

    def encode(self, text: str | bytes) -> NDArray[np.integer]:
        """Return the number of each character of `text`, shape ``(len(text),)``, of `dtype`.

        Raises
        ------
        ValueError
            If `text` has characters that the vocabulary does not, and it has no unknown; the
            message lists them.
        """
        if self.is_bytes and isinstance(text, str):
            text = as_bytes(text)
        if not isinstance(text, bytes if self.is_bytes else str):
            expected = "str or bytes" if self.is_bytes else "str"
            raise TypeError(f"text: expected {expected}, got {type(text).__name__}")
        tokens = np.empty(len(text), self.dtype)
        self.encode_into(tokens, [text])
        return tokens

    def encode_into(self, tokens: NDArray[np.integer], blocks: Iterable[str | bytes]) -> int:
        """Fill `tokens` with the numbers of a text that comes in blocks; return how many."""
        unknown: set[int] = set()
        place = 0
        for codes in _codes(blocks):
            numbers = self._look_up(codes)
            if numbers.size and numbers.min() < 0:
                unknown.update(np.unique(codes[numbers < 0]).tolist())
            space = tokens[place : place + numbers.size]
            space[...] = numbers[: space.size]
            place += numbers.size
        if unknown:
            raise ValueError(
                f"text: expected only characters of the vocabulary ({len(self)} symbols), got "
                f"{some_of(self._named(unknown))}, which the model has never seen; leave them out"
            )
        return place

    def numbers(self, text: str | bytes) -> NDArray[np.int32]:
        """Return the number of each character as `encode` does, but -1 for those that have none.

        Examples
        --------
        >>> Vocabulary("hello").numbers("hi")
        array([ 1, -1], dtype=int32)
        """
        if self.is_bytes and isinstance(text, str):
            text = as_bytes(text)
        parts = [self._look_up(codes) for codes in _codes([text])]
        return np.concatenate([np.empty(0, np.int32), *parts])

    def _look_up(self, codes: NDArray[np.integer]) -> NDArray[np.int32]:
        numbers: NDArray[np.int32] = self._numbers[np.minimum(codes, self._numbers.size - 1)]
        return numbers

    def _named(self, codes: Iterable[int]) -> list[str] | list[bytes]:
        return [bytes((code,)) for code in codes] if self.is_bytes else [chr(c) for c in codes]

    def decode(self, tokens: ArrayLike) -> str:
        """Return the characters numbered `tokens`; bytes that are not UTF-8 become U+FFFD.

        Raises
        ------
        TypeError, ValueError
            If these are not integers, or not numbers of the vocabulary.
        """
        raw = self.decode_bytes(tokens)
        if self.is_bytes:
            return raw.decode("utf-8", "replace")
        return raw.decode("utf-32-le", "surrogatepass")

    def decode_bytes(self, tokens: ArrayLike) -> bytes:
        """Return the bytes numbered `tokens`, or their characters in UTF-32."""
        numbers = np.asarray(tokens)
        if numbers.size:
            numbers = check_tokens("tokens", numbers, len(self))
        symbols = self.symbols
        if self.has_unknown:
            symbols = np.append(symbols, np.uint32(ord("?" if self.is_bytes else "\ufffd")))
        codes = symbols[numbers.astype(np.intp)]
        return codes.astype(np.uint8 if self.is_bytes else "<u4").tobytes()

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `from_json` reads."""
        symbols = self.symbols.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        description = {"alphabet": BYTES if self.is_bytes else "characters", "symbols": symbols}
        return {**description, "unknown": True} if self.has_unknown else description

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Vocabulary:
        """Return the vocabulary that `to_json` described."""
        symbols = description["symbols"]
        text = symbols.encode("latin-1") if description["alphabet"] == BYTES else symbols
        return cls(text, unknown=description.get("unknown", False))


def as_bytes(text: str) -> bytes:
    """Return a text in UTF-8; what an argument of a command has that is none, as its own bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text: expected what UTF-8 can write, got {text[error.start]!r}; leave it out"
        ) from None


def code_points_of(blocks: Iterable[str | bytes]) -> NDArray[np.uint32]:
    """Return the sorted distinct code points of a text that comes in blocks."""
    present = np.zeros(0x110000, dtype=bool)
    for codes in _codes(blocks):
        present[codes] = True
    return np.flatnonzero(present).astype(np.uint32)


def _counts_of(symbols: NDArray[np.uint32], text: str | bytes) -> NDArray[np.intp]:
    # How often each of these, all code points of the text, is in it.
    counts = np.zeros(symbols.size, np.intp)
    for codes in _codes([text]):
        counts += np.bincount(np.searchsorted(symbols, codes), minlength=symbols.size)
    return counts


def _codes(blocks: Iterable[str | bytes]) -> Iterator[NDArray[np.integer]]:
    # A code point takes four bytes, so never those of the whole text at once.
    for text in blocks:
        for first in range(0, len(text), BLOCK):
            part = text[first : first + BLOCK]
            if isinstance(part, bytes):
                yield np.frombuffer(part, dtype=np.uint8).astype(np.uint32)
            else:
                yield np.frombuffer(part.encode("utf-32-le", "surrogatepass"), dtype="<u4")
