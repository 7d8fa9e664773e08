"""Sequences of unlike lengths behind one another, without padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import as_array, check_size


class Ragged:
    """Sequences in one array, one behind the other, and how long each is.

    Sequence b is ``values[starts[b] : starts[b] + lengths[b]]``. `padded` makes the form that
    layers take with `lengths`; ``list(ragged)`` the one that they take as a list.

    Parameters
    ----------
    values : (N, ...) array
        Of any dtype; not copied.
    lengths : (B,) integers
        Their sum is N; 0 is a sequence of nothing.

    Attributes
    ----------
    values, lengths
        The lengths as intp.
    starts : (B,) intp
        Where each sequence begins.

    Raises
    ------
    TypeError, ValueError
        If the lengths are no integers, one is below 0, or their sum is not N.

    Examples
    --------
    >>> ragged = Ragged(np.array([7, 8, 9, 4, 5]), [3, 0, 2])
    >>> ragged[2], ragged.take([2, 0]).values
    (array([4, 5]), array([4, 5, 7, 8, 9]))
    >>> tokens, lengths = ragged.padded()
    >>> tokens
    array([[7, 0, 4],
           [8, 0, 5],
           [9, 0, 0]])
    """

    def __init__(self, values: NDArray[Any], lengths: ArrayLike) -> None:
        self.values = as_array("values", values)
        self.lengths = check_lengths(lengths)
        ends = np.cumsum(self.lengths)
        total = int(ends[-1]) if ends.size else 0
        if not self.values.ndim or len(self.values) != total:
            raise ValueError(
                f"values: expected an array of {total} entries, the sum of the lengths, got shape "
                f"{self.values.shape}; give one length for each sequence"
            )
        self.starts = ends - self.lengths

    @classmethod
    def of(cls, sequences: Iterable[ArrayLike]) -> Ragged:
        """Return these sequences, (T, ...) each, put behind one another.

        Raises
        ------
        ValueError
            If there are none, or they differ in more than their length.
        """
        arrays = [as_array("sequences", sequence) for sequence in sequences]
        shapes = sorted({array.shape[1:] for array in arrays if array.ndim})
        if len(shapes) != 1 or not all(array.ndim for array in arrays):
            found = f"{len(shapes)} shapes {shapes}" if shapes else "none"
            raise ValueError(
                "sequences: expected one sequence at least, and all alike but for their length, "
                f"got {found}; give arrays (T, ...)"
            )
        # A sequence of nothing has no dtype to speak of: [] alone would make floats of the rest.
        full = [array for array in arrays if len(array)] or arrays
        return cls(np.concatenate(full), [len(array) for array in arrays])

    def __len__(self) -> int:
        """Return how many sequences there are."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Return one sequence, a view."""
        start = self.starts[index]
        return self.values[start : start + self.lengths[index]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Give the sequences, views, in their order."""
        return (self[index] for index in range(len(self)))

    def take(self, indices: ArrayLike) -> Ragged:
        """Return the sequences with these numbers, in this order, copied.

        Raises
        ------
        TypeError, IndexError
            If `indices` is not a flat array of whole numbers, or one is out of range.
        """
        chosen = as_array("indices", indices)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise TypeError(
                f"indices: expected whole numbers (B,), got {chosen.dtype} of shape "
                f"{chosen.shape}; give what a batch of SequenceBatches holds"
            )
        chosen = chosen.astype(np.intp)
        lengths = self.lengths[chosen]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if ends.size else 0
        # Entry i of the result comes from i + (its sequence's start here - its start there).
        shift = np.repeat(self.starts[chosen] - (ends - lengths), lengths)
        return Ragged(self.values[np.arange(total) + shift], lengths)

    def padded(self, fill: Any = 0) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Return the sequences side by side, padded to the longest.

        Parameters
        ----------
        fill
            What stands after the end of a sequence, such as -1 in targets that do not count.

        Returns
        -------
        array : (T, B, ...)
            Time first, of the dtype of `values`.
        lengths : (B,) intp

        Raises
        ------
        ValueError
            If the dtype of `values` does not hold `fill`.
        """
        steps = int(self.lengths.max(initial=0))
        dtype = self.values.dtype
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max:
            raise ValueError(
                f"fill: expected a number that {dtype} holds, got {fill!r}; convert the values, "
                "for example with .astype(np.int32)"
            )
        array = np.full((steps, len(self), *self.values.shape[1:]), fill, dtype)
        columns = np.repeat(np.arange(len(self)), self.lengths)
        array[np.arange(len(columns)) - self.starts[columns], columns] = self.values
        return array, self.lengths.copy()


def check_lengths(lengths: Any) -> NDArray[np.intp]:
    """Return a copy of the lengths of sequences as intp, or say what is wrong with them."""
    array = as_array("lengths", lengths)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"lengths: expected whole numbers (B,), got {array.dtype} of shape {array.shape}; give "
            "one for each sequence"
        )
    if array.size:
        check_size("lengths", int(array.min()), 0)
    return array.astype(np.intp)
