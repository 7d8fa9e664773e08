r"""The words of a text, and what stands between them, numbered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_size, check_tokens
from rnncore.data.unknowns import smallest_dtype
from rnncore.data.words import UNKNOWN_WORD, check_words

WORDS = "words of a text"  # the alphabet in a file; "words" are those of sentences
BLOCK = 1 << 16  # characters split at a time
# Every character is of \w, of \s or of neither, so the pieces leave nothing out.
PIECE = re.compile(r" {2,}|\t+| ?\w+(?:['’]\w+)*| ?[^\w\s]|\s")


class TextWords:
    r"""The most frequent pieces of a text, numbered from 0, and one number for all others.

    A text is cut into pieces that, joined, are the text again:

    - a word, ``\w+``, with apostrophes inside it (``don't``), or a mark such as a comma, each with
      the one space before it, if there is one: ``"the end."`` is ``"the"``, ``" end"``, ``"."``;
    - several spaces or tabs in a row; every other space, a line end for example, by itself.

    So a word at the beginning of a line is another symbol than the same word after a space. What is
    written without spaces, such as Chinese, has no words by this rule; take characters.

    Parameters
    ----------
    text
        Any text.
    vocabulary_size
        How many pieces are known at most, the most frequent ones; None for no limit.
    least_count
        How often a piece has to be in the text to be known. Above 1 the text itself has unknown
        pieces, from which a model learns what to make of them.

    Attributes
    ----------
    words : tuple of str
        The pieces known, in the order of their numbers; of equally frequent ones the one that sorts
        first comes first.
    unknown : int
        The number of all others, the last one.

    Raises
    ------
    TypeError, ValueError
        If the text is no str, or empty, or no piece is as frequent as that.

    Examples
    --------
    >>> from rnncore.data import TextWords
    >>> vocabulary = TextWords("to be, or not to be")
    >>> vocabulary.words
    (' be', ' not', ' or', ' to', ',', 'to')
    >>> vocabulary.encode("to be or to have"), vocabulary.unknown
    (array([5, 0, 2, 3, 6], dtype=uint8), 6)
    >>> vocabulary.decode([5, 0, 4, 6])
    'to be,<unknown>'
    """

    unit = "words"

    def __init__(
        self, text: str, *, vocabulary_size: int | None = None, least_count: int = 1
    ) -> None:
        counts = count_pieces([_checked(text)])
        self._number(_most_frequent(counts, vocabulary_size, least_count))

    @classmethod
    def of(cls, counts: Counter[str], vocabulary_size: int | None, least_count: int) -> TextWords:
        """Return the vocabulary of pieces that `count_pieces` has counted."""
        vocabulary = cls.__new__(cls)
        vocabulary._number(_most_frequent(counts, vocabulary_size, least_count))
        return vocabulary

    def _number(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self.unknown = len(self.words)
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        """Return how many numbers there are, that of the unknown among them."""
        return len(self.words) + 1

    def __contains__(self, word: object) -> bool:
        """Whether a piece is known."""
        return word in self._numbers

    def __eq__(self, other: object) -> bool:
        """Return whether both give every piece the same number."""
        return isinstance(other, TextWords) and self.words == other.words

    __hash__ = None  # type: ignore[assignment]

    @property
    def dtype(self) -> np.dtype:
        """The smallest of uint8, uint16 and int32 that holds every number."""
        return smallest_dtype(len(self))

    def encode(self, text: str | bytes) -> NDArray[np.integer]:
        """Return the number of each piece of a text, (T,), of `dtype`.

        Raises
        ------
        TypeError
            If it is no str.
        """
        parts = [self.numbers(pieces) for pieces in pieces_of([_checked(text, empty=True)])]
        return np.concatenate([np.empty(0, self.dtype), *parts])

    def encode_into(self, tokens: NDArray[np.integer], blocks: Iterable[str | bytes]) -> int:
        """Fill `tokens` with the numbers of a text that comes in blocks; return how many."""
        place = 0
        for pieces in pieces_of(blocks):
            space = tokens[place : place + len(pieces)]
            space[...] = self.numbers(pieces)[: space.size]
            place += len(pieces)
        return place

    def numbers(self, pieces: list[str]) -> NDArray[np.integer]:
        """Return the number of each piece, as `pieces_of` gives them."""
        find, unknown = self._numbers.get, self.unknown
        return np.array([find(piece, unknown) for piece in pieces], self.dtype)

    def decode(self, tokens: ArrayLike) -> str:
        """Return the pieces numbered `tokens`, joined; the unknown is ``<unknown>``.

        Raises
        ------
        TypeError, ValueError
            If these are not integers, or not numbers of the vocabulary.
        """
        numbers = np.asarray(tokens)
        if not numbers.size:
            return ""
        words = (*self.words, UNKNOWN_WORD)
        return "".join(words[number] for number in check_tokens("tokens", numbers, len(self)))

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `from_json` reads."""
        return {"alphabet": WORDS, "symbols": list(self.words)}

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> TextWords:
        """Return the vocabulary that `to_json` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is of another kind, or not whole.
        """
        if description["alphabet"] != WORDS:
            raise ValueError(
                f"description: expected a vocabulary of {WORDS}, got one of "
                f"{description['alphabet']}"
            )
        words = check_words("symbols", description["symbols"])
        if not words or not all(words) or len(set(words)) != len(words):
            raise ValueError(
                "symbols: expected words that differ, one at least and none empty; use another copy"
            )
        vocabulary = cls.__new__(cls)
        vocabulary._number(words)
        return vocabulary


def pieces_of(blocks: Iterable[str | bytes]) -> Iterator[list[str]]:
    """Cut a text that comes in blocks into pieces, some at a time; see `TextWords`.

    Examples
    --------
    >>> list(pieces_of(["It's th", "e end.  "]))
    [["It's", ' the', ' end'], ['.', '  ']]
    """
    rest = ""
    for block in blocks:
        assert isinstance(block, str)
        for first in range(0, len(block), BLOCK):
            pieces = PIECE.findall(rest + block[first : first + BLOCK])
            # What comes next may go on with the last piece, or join the last two: don ' t.
            rest = "".join(pieces[-2:])
            if len(pieces) > 2:
                yield pieces[:-2]
    if rest:
        yield PIECE.findall(rest)


def count_pieces(blocks: Iterable[str | bytes]) -> Counter[str]:
    """Return how often each piece is in a text that comes in blocks."""
    counts: Counter[str] = Counter()
    for pieces in pieces_of(blocks):
        counts.update(pieces)
    return counts


def _most_frequent(
    counts: Counter[str], vocabulary_size: int | None, least_count: int
) -> list[str]:
    least = check_size("least_count", least_count)
    if vocabulary_size is not None:
        check_size("vocabulary_size", vocabulary_size)
    kept = [word for word, count in counts.items() if count >= least]
    if not kept:
        raise ValueError(
            f"least_count: expected a word of the text {least} times at least, but none is as "
            "frequent; give a smaller one"
        )
    return sorted(kept, key=lambda word: (-counts[word], word))[:vocabulary_size]


def _checked(text: Any, empty: bool = False) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, whose words can be told, got {type(text).__name__}")
    if not text and not empty:
        raise ValueError("text: expected at least one word to make a vocabulary of")
    return text
