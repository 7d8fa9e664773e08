"""Packed weights: one set a version, never changed while somebody may be reading it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnncore.engine.direction import Parameters
from rnncore.engine.workspace import ALIGNMENT, aligned_empty

#: Bytes that something takes packed, and the function that packs it into a buffer of that size.
Job = tuple[int, Callable[..., Any]]
#: The parameters of a job, where they are others than those of its direction.
Others = Callable[[int], Parameters]


class Spare:
    """Memory of packed weights that nobody holds any more.

    Packings of the same weights share it, so their buffers are as large as the largest needs them.
    """

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self.largest = 0  # numbers

    def take(self, dtype: np.dtype) -> np.ndarray:
        """Return a buffer that is large enough for any of the packings."""
        while self.buffers:
            try:
                buffer = self.buffers.pop()
            except IndexError:  # another thread was there first
                break
            if buffer.size >= self.largest:  # what is too small goes
                return buffer
        return aligned_empty(self.largest, dtype)


class Packing:
    """How weights are packed for one kind of pass: what, and where in one buffer."""

    def __init__(self, spare: Spare, dtype: np.dtype, jobs: Sequence[Job]) -> None:
        self.spare, self.dtype = spare, dtype
        self.places: list[tuple[slice, Callable[..., Any]]] = []
        self.bytes = first = 0
        for size, pack in jobs:
            self.bytes += size
            last = first + -(-size // ALIGNMENT) * ALIGNMENT // dtype.itemsize
            self.places.append((slice(first, last), pack))
            first = last
        spare.largest = max(spare.largest, first)

    def pack(self, others: Others | None = None) -> Packed:
        """Pack the weights as they are now, or others in their place."""
        return Packed(self.spare, self.spare.take(self.dtype), self.places, others)


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

    def __init__(
        self, spare: Spare, buffer: np.ndarray, places: Any, others: Others | None = None
    ) -> None:
        self._spare, self._buffer = spare, buffer
        self.weights: list[Any] = [
            pack(buffer[place], *() if others is None else (others(k),))
            for k, (place, pack) in enumerate(places)
        ]

    def __del__(self) -> None:
        if hasattr(self, "_buffer"):  # not so where making it was interrupted
            self._spare.buffers.append(self._buffer)
