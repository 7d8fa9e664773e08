"""What a sequence is made of: numbers a step, standardised, or symbols."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnncore.data.ragged import Ragged
from rnncore.data.sequences import numbers_of
from rnncore.data.vocabulary import Vocabulary
from rnncore.data.words import WordVocabulary


class Numbers:
    """Sequences of numbers, standardised as those that a model has learnt from.

    ``z = (x - mean) / scale``

    Parameters
    ----------
    mean, scale : (features,)

    Examples
    --------
    >>> inputs = Numbers.of([np.array([[1.0], [3.0]])], standardize=True)
    >>> inputs.mean.tolist(), inputs.scale.tolist(), inputs.encode("X", [[5.0]]).values.tolist()
    ([2.0], [1.0], [[3.0]])
    """

    def __init__(self, mean: Any, scale: Any) -> None:
        self.mean, self.scale = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape or not self.mean.size:
            raise ValueError(
                f"mean, scale: expected one of each a feature, got shapes {self.mean.shape} and "
                f"{self.scale.shape}"
            )

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]], standardize: bool) -> Self:
        """Return how arrays (T, features) are read; `standardize` False: as they are."""
        count = arrays[0].shape[1]
        if not standardize:
            return cls(np.zeros(count), np.ones(count))
        steps = np.concatenate(arrays).astype(np.float64)
        return cls(*mean_and_scale(steps))

    @property
    def standardize(self) -> bool:
        """Whether they are read otherwise than as they are."""
        return bool(self.mean.any() or (self.scale != 1).any())

    @property
    def size(self) -> int:
        """Features."""
        return len(self.mean)

    def encode(self, name: str, sequences: Sequence[Any], dtype: DTypeLike = np.float32) -> Ragged:
        """Return the standardised sequences; errors call them `name`."""
        arrays = numbers_of(name, sequences, np.float64, self.size)
        found = Ragged.of(arrays)
        with np.errstate(over="ignore"):
            values = ((found.values - self.mean) / self.scale).astype(dtype)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: expected numbers that {np.dtype(dtype)} holds when standardised, got "
                "larger ones; scale them, or choose dtype='float64'"
            )
        return Ragged(values, found.lengths)

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `inputs_from_json` reads."""
        return {"of": "numbers", "mean": self.mean.tolist(), "scale": self.scale.tolist()}


class Symbols:
    """Sequences of words, or of characters.

    Parameters
    ----------
    vocabulary
        With an unknown.

    Examples
    --------
    >>> inputs = Symbols.of(["Ann", "Bob"])
    >>> inputs.encode("X", ["Bo"]).values, inputs.size
    (array([1, 4], dtype=uint8), 6)
    """

    def __init__(self, vocabulary: Vocabulary | WordVocabulary) -> None:
        self.vocabulary = vocabulary

    @classmethod
    def of(cls, sequences: Sequence[Any]) -> Self:
        """Return those of texts, character by character, or of lists of words."""
        if isinstance(sequences[0], str):
            return cls(Vocabulary("".join(sequences), unknown=True))
        return cls(WordVocabulary(sequences))

    @property
    def size(self) -> int:
        """Symbols, the unknown among them."""
        return len(self.vocabulary)

    def encode(self, name: str, sequences: Sequence[Any], dtype: DTypeLike = np.int32) -> Ragged:
        """Return the numbers of the symbols; errors call the sequences `name`."""
        kind = str if isinstance(self.vocabulary, Vocabulary) else list | tuple | np.ndarray
        for number, sequence in enumerate(sequences, 1):
            if not isinstance(sequence, kind) or not len(sequence):
                expected = "a text" if kind is str else "a list of words"
                raise ValueError(
                    f"{name}: expected {expected}, not empty, as sequence {number}, got "
                    f"{sequence!r:.80}"
                )
        if isinstance(self.vocabulary, WordVocabulary):
            return self.vocabulary.encode_all(sequences)
        return Ragged(self.vocabulary.encode("".join(sequences)), [len(one) for one in sequences])

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `inputs_from_json` reads."""
        return {"of": "symbols", "vocabulary": self.vocabulary.to_json()}


Inputs = Numbers | Symbols


def inputs_of(name: str, sequences: Sequence[Any], standardize: bool) -> Inputs:
    """Return how such sequences are read: texts, lists of words, or numbers."""
    if not len(sequences):
        raise ValueError(f"{name}: expected one sequence at least, got none; give some data")
    first = sequences[0]
    if all(isinstance(one, str) and os.path.isfile(one) for one in sequences):
        raise ValueError(
            f"{name}: expected sequences, got the names of files, such as {first!r}; give "
            f"pathlib.Path({first!r}) to read one"
        )
    if isinstance(first, str) or (
        isinstance(first, list | tuple | np.ndarray) and len(first) and isinstance(first[0], str)
    ):
        found = Symbols.of(sequences) if all_alike(sequences) else None
        if found is None:
            raise TypeError(
                f"{name}: expected sequences of one kind, got texts, lists of words or numbers "
                "among each other"
            )
        found.encode(name, sequences)
        return found
    return Numbers.of(numbers_of(name, sequences, np.float64), standardize)


def all_alike(sequences: Sequence[Any]) -> bool:
    """Return whether all are texts, or none is."""
    return len({isinstance(one, str) for one in sequences}) == 1


def inputs_from_json(description: dict[str, Any]) -> Inputs:
    """Return what `to_json` described.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not whole.
    """
    if description["of"] == "numbers":
        return Numbers(description["mean"], description["scale"])
    if description["of"] != "symbols":
        raise ValueError(f"inputs: expected numbers or symbols, got {description['of']!r}")
    known = description["vocabulary"]
    is_words = known["alphabet"] == "words"
    return Symbols((WordVocabulary if is_words else Vocabulary).from_json(known))


def mean_and_scale(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and standard deviation of the columns; the deviation of a constant is 1."""
    mean, scale = rows.mean(0), rows.std(0)
    # What rounding leaves of a constant is none to divide by.
    return mean, np.where(scale > 1e-12 * np.abs(mean), scale, 1.0)
