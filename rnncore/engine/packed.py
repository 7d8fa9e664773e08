"""Packed weights: one set a version, never changed while somebody may be reading it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnncore.engine.workspace import ALIGNMENT, aligned_empty

#: Bytes that something takes packed, and the function that packs it into a buffer of that size.
Job = tuple[int, Callable[[np.ndarray], Any]]


class Packing:
    """How weights are packed for one kind of pass: what, and where in one buffer.

    Buffers are lent by `spare`, a list that packings of the same weights may share: the sets of
    several kinds then take turns in the same memory.
    """

    def __init__(self, spare: list[np.ndarray], dtype: np.dtype, jobs: Sequence[Job]) -> None:
        self.spare, self.dtype = spare, dtype
        self.places: list[tuple[slice, Callable[[np.ndarray], Any]]] = []
        self.bytes = first = 0
        for size, pack in jobs:
            self.bytes += size
            last = first + -(-size // ALIGNMENT) * ALIGNMENT // dtype.itemsize
            self.places.append((slice(first, last), pack))
            first = last
        self.size = first

    def pack(self) -> Packed:
        """Pack the weights as they are now."""
        spare = self.spare
        while spare:
            try:
                buffer = spare.pop()
            except IndexError:  # another thread was there first
                break
            if buffer.size >= self.size:  # what is too small goes
                return Packed(spare, buffer, self.places)
        return Packed(spare, aligned_empty(self.size, self.dtype), self.places)


class Packed:
    """The weights of one version, packed for one kind of pass.

    Who holds a set can count on it while others train. When nobody does any more, its memory goes
    back to where it came from, for a later version.

    Attributes
    ----------
    weights
        What each job of the packing returned.
    """

    __slots__ = ("_buffer", "_spare", "weights")

    def __init__(self, spare: list[np.ndarray], buffer: np.ndarray, places: Any) -> None:
        self._spare, self._buffer = spare, buffer
        self.weights: list[Any] = [pack(buffer[place]) for place, pack in places]

    def __del__(self) -> None:
        self._spare.append(self._buffer)
