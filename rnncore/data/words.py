"""The words of sentences, numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_flag, check_tokens
from rnncore.data.ragged import Ragged
from rnncore.data.unknowns import check_least_count, some_of

UNKNOWN_WORD = "<unknown>"  # what the number of all unknown words is decoded as


class WordVocabulary:
    """The distinct words of some sentences, numbered from 0, the most frequent first.

    Words that are equally frequent stand in the order of their code points, so that the same
    sentences in any order give the same numbers. All that is not in the vocabulary has the number
    `unknown`, the last one. Without an unknown it serves for tags.

    Parameters
    ----------
    sentences
        Lists of words.
    least_count
        How often a word has to be in the sentences to be known; above 1 only with `unknown`.
    lowercase
        Whether words are made lower case before they are counted and looked up.
    unknown
        Whether there is a number for words that are not known; without it they are refused.

    Attributes
    ----------
    words : tuple of str
        Those known, in the order of their numbers.
    unknown : int or None
        The number of all others.
    lowercase : bool

    Raises
    ------
    TypeError, ValueError
        If the sentences are no lists of words, there is no word at all, or `least_count` is above 1
        without an unknown.

    Examples
    --------
    >>> vocabulary = WordVocabulary([["the", "cat"], ["The", "dog"]], lowercase=True)
    >>> vocabulary.words, vocabulary.unknown, len(vocabulary)
    (('the', 'cat', 'dog'), 3, 4)
    >>> vocabulary.encode(["The", "cow"])
    array([0, 3], dtype=int32)
    >>> tags = WordVocabulary([["DET", "NOUN"]], unknown=False)
    >>> tags.decode([1, 0])
    ['NOUN', 'DET']
    """

    def __init__(
        self,
        sentences: Iterable[Sequence[str]],
        *,
        least_count: int = 1,
        lowercase: bool = False,
        unknown: bool = True,
    ) -> None:
        self.lowercase = check_flag("lowercase", lowercase)
        least = check_least_count(least_count, check_flag("unknown", unknown))
        counts: Counter[str] = Counter()
        for words in sentences:
            counts.update(check_words("sentences", words))
        if not counts:
            raise ValueError("sentences: expected one word at least, got none; give some data")
        if lowercase:
            lowered: Counter[str] = Counter()
            for word, count in counts.items():
                lowered[word.lower()] += count
            counts = lowered
        kept = [word for word, count in counts.items() if count >= least]
        self._number(sorted(kept, key=lambda word: (-counts[word], word)), unknown)

    def _number(self, words: Iterable[str], unknown: bool) -> None:
        self.words = tuple(words)
        self.unknown = len(self.words) if unknown else None
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        """Return how many numbers there are, that of the unknown among them."""
        return len(self.words) + (self.unknown is not None)

    def __contains__(self, word: object) -> bool:
        """Whether a word is known."""
        return isinstance(word, str) and (word.lower() if self.lowercase else word) in self._numbers

    def __eq__(self, other: object) -> bool:
        """Return whether both give every word the same number."""
        return isinstance(other, WordVocabulary) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def encode(self, words: Iterable[str]) -> NDArray[np.int32]:
        """Return the numbers of the words of one sentence, (T,) int32.

        Raises
        ------
        TypeError
            If these are not words: a string alone, for example.
        ValueError
            If there is no unknown and words are not known; the message lists them.
        """
        listed = check_words("words", words)
        find = self._numbers.get
        absent = -1 if self.unknown is None else self.unknown
        if self.lowercase:
            numbers = [find(word.lower(), absent) for word in listed]
        else:
            numbers = [find(word, absent) for word in listed]
        if absent < 0 and -1 in numbers:
            strange = {word for word, number in zip(listed, numbers, strict=True) if number < 0}
            raise ValueError(
                f"words: expected only those of the vocabulary ({some_of(self.words)}), got "
                f"{some_of(strange)}, which the model has never seen; leave them out"
            )
        return np.array(numbers, np.int32)

    def encode_all(self, sentences: Iterable[Sequence[str]]) -> Ragged:
        """Return the numbers of the words of several sentences, without padding.

        Raises
        ------
        TypeError, ValueError
            See `encode`.
        """
        listed = [check_words("sentences", words) for words in sentences]
        numbers = self.encode([word for words in listed for word in words])
        return Ragged(numbers, [len(words) for words in listed])

    def decode(self, tokens: ArrayLike) -> list[str]:
        """Return the words numbered `tokens`, (T,); the unknown is ``<unknown>``.

        Raises
        ------
        TypeError, ValueError
            If these are not integers, or not numbers of the vocabulary.
        """
        numbers = np.asarray(tokens)
        if not numbers.size:
            return []
        words = (*self.words, UNKNOWN_WORD)
        return [words[number] for number in check_tokens("tokens", numbers, len(self)).ravel()]

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `from_json` reads."""
        return {
            "alphabet": "words",
            "symbols": list(self.words),
            "lowercase": self.lowercase,
            "unknown": self.unknown is not None,
        }

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> WordVocabulary:
        """Return the vocabulary that `to_json` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is of another kind, or not whole.
        """
        if description["alphabet"] != "words":
            raise ValueError(
                "description: expected a vocabulary of words, got one of "
                f"{description['alphabet']}; read it with Vocabulary.from_json"
            )
        words = check_words("symbols", description["symbols"])
        if len(set(words)) != len(words):
            raise ValueError("symbols: expected words that differ, got one twice; use another copy")
        vocabulary = cls.__new__(cls)
        vocabulary.lowercase = check_flag("lowercase", description["lowercase"])
        vocabulary._number(words, check_flag("unknown", description["unknown"]))
        return vocabulary


def check_words(name: str, words: Iterable[str]) -> Sequence[str]:
    """Return words as a list or tuple, or say that they are none.

    A string is a sequence of strings too, but of characters, and nobody means that.
    """
    listed = words if isinstance(words, list | tuple) else None
    if listed is None and not isinstance(words, str | bytes):
        try:
            listed = list(words)
        except TypeError:
            listed = None
    # The types first: that takes a third of the time, and a subclass of str is rare.
    if listed is None or not (
        set(map(type, listed)) <= {str} or all(isinstance(word, str) for word in listed)
    ):
        strange = [] if listed is None else [word for word in listed if not isinstance(word, str)]
        got = f"a {type(strange[0]).__name__} among them" if strange else type(words).__name__
        raise TypeError(
            f"{name}: expected words as a list of str, got {got}; split a text into words first"
        )
    return listed
