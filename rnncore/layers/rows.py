"""Rows of numbers inside a flat buffer, as one part of the engine hands them to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Rows that begin at `first`, `stride` apart; each in `parts` of `depth`, `part_stride` apart.

    The parts of the output of a bidirectional layer are its directions: each stands in a place
    padded to whole blocks, so that nothing has to be moved between layers.

    Rows that are `placed` stand where the caller has them, with all sequences in a step, not in the
    order of the engine (see `Batch`).
    """

    flat: np.ndarray
    length: int
    first: int
    stride: int
    depth: int
    parts: int = 1
    part_stride: int = 0
    placed: bool = False

    @property
    def features(self) -> int:
        """Numbers in a row, padding not counted."""
        return self.parts * self.depth

    def padded(self) -> np.ndarray:
        """Return the rows with all that lies between them, a view (count, stride)."""
        rows = self.flat[self.first : self.first + self.length * self.stride]
        return rows.reshape(self.length, self.stride)

    def array(self) -> np.ndarray:
        """Return the rows as an array (count, features); a view where there is one part."""
        rows = self.padded()
        if self.parts == 1:
            return rows[:, : self.depth]
        places = rows[:, : self.parts * self.part_stride]
        return places.reshape(self.length, self.parts, -1)[:, :, : self.depth].reshape(
            self.length, self.features
        )

    @classmethod
    def of(cls, array: np.ndarray, parts: int = 1, placed: bool = False) -> Rows:
        """Describe a contiguous array (..., features)."""
        width = array.shape[-1]
        depth, count = width // parts, array.size // width
        return cls(array.reshape(-1), count, 0, width, depth, parts, depth, placed)
