"""The characters of a text, numbered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_tokens

BYTES = "bytes"  # stands where an encoding is asked for: the alphabet is the file's bytes
BLOCK = 1 << 16  # characters numbered at a time


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
    (4, array([1, 3, 2, 0], dtype=uint8), 'hello')
    """

    is_bytes: bool
    symbols: NDArray[np.uint32]

    def __init__(self, text: str | bytes) -> None:
        if not isinstance(text, str | bytes):
            raise TypeError(f"text: expected str or bytes, got {type(text).__name__}")
        if not text:
            raise ValueError("text: expected at least one character to make a vocabulary of")
        self._number(code_points_of([text]), isinstance(text, bytes))

    @classmethod
    def of(cls, symbols: NDArray[np.uint32], is_bytes: bool) -> Vocabulary:
        """Return the vocabulary of these sorted, distinct code points or byte values."""
        vocabulary = cls.__new__(cls)
        vocabulary._number(symbols, is_bytes)
        return vocabulary

    def _number(self, symbols: NDArray[np.uint32], is_bytes: bool) -> None:
        self.is_bytes = is_bytes
        self.symbols = symbols
        # One entry more than the largest code point: unknown larger ones are clipped onto it.
        self._numbers = np.full(int(symbols[-1]) + 2, -1, dtype=np.int32)
        self._numbers[symbols] = np.arange(symbols.size, dtype=np.int32)

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

    @property
    def dtype(self) -> np.dtype:
        """The smallest of uint8, uint16 and int32 that holds every number."""
        small = np.uint16 if len(self) <= 1 << 16 else np.int32
        return np.dtype(np.uint8 if len(self) <= 1 << 8 else small)

    def encode(self, text: str | bytes) -> NDArray[np.integer]:
        """Return the number of each character of `text`, shape ``(len(text),)``, of `dtype`.

        Raises
        ------
        ValueError
            If `text` has characters that the vocabulary does not; the message lists them.
        """
        if self.is_bytes and isinstance(text, str):
            text = text.encode("utf-8")
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
            numbers = self._numbers[np.minimum(codes, self._numbers.size - 1)]
            if numbers.size and numbers.min() < 0:
                unknown.update(np.unique(codes[numbers < 0]).tolist())
            space = tokens[place : place + numbers.size]
            space[...] = numbers[: space.size]
            place += numbers.size
        if unknown:
            shown = ", ".join(repr(chr(code)) for code in sorted(unknown)[:8])
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            raise ValueError(
                f"text: expected only characters of the vocabulary ({len(self)} symbols), got "
                f"{shown}{more}, which the model has never seen; leave them out"
            )
        return place

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
        codes = self.symbols[numbers.astype(np.intp)]
        return codes.astype(np.uint8 if self.is_bytes else "<u4").tobytes()

    def to_json(self) -> dict[str, str]:
        """Return a description that `json` can write and `from_json` reads."""
        symbols = self.symbols.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        return {"alphabet": BYTES if self.is_bytes else "characters", "symbols": symbols}

    @classmethod
    def from_json(cls, description: dict[str, str]) -> Vocabulary:
        """Return the vocabulary that `to_json` described."""
        symbols = description["symbols"]
        return cls(symbols.encode("latin-1") if description["alphabet"] == BYTES else symbols)


def code_points_of(blocks: Iterable[str | bytes]) -> NDArray[np.uint32]:
    """Return the sorted distinct code points of a text that comes in blocks."""
    present = np.zeros(0x110000, dtype=bool)
    for codes in _codes(blocks):
        present[codes] = True
    return np.flatnonzero(present).astype(np.uint32)


def _codes(blocks: Iterable[str | bytes]) -> Iterator[NDArray[np.integer]]:
    # A code point takes four bytes, so never those of the whole text at once.
    for text in blocks:
        for first in range(0, len(text), BLOCK):
            part = text[first : first + BLOCK]
            if isinstance(part, bytes):
                yield np.frombuffer(part, dtype=np.uint8).astype(np.uint32)
            else:
                yield np.frombuffer(part.encode("utf-32-le", "surrogatepass"), dtype="<u4")
