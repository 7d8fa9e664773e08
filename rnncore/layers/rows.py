"""Rows of numbers inside a flat buffer, as one part of the engine hands them to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Rows that begin at `first`, `stride` apart; each in `parts` of `depth`, `part_stride` apart.

    The parts of the output of a bidirectional layer are its directions: each stands in a place
    padded to whole panels, so that nothing has to be moved between layers.
    """

    flat: np.ndarray
    count: int
    first: int
    stride: int
    depth: int
    parts: int = 1
    part_stride: int = 0

    @property
    def features(self) -> int:
        """Numbers in a row, padding not counted."""
        return self.parts * self.depth

    def array(self) -> np.ndarray:
        """Return the rows as an array (count, features); a view where there is one part."""
        rows = self.flat[self.first : self.first + self.count * self.stride]
        rows = rows.reshape(self.count, self.stride)
        if self.parts == 1:
            return rows[:, : self.depth]
        places = rows[:, : self.parts * self.part_stride]
        return places.reshape(self.count, self.parts, -1)[:, :, : self.depth].reshape(
            self.count, self.features
        )

    @classmethod
    def of(cls, array: np.ndarray) -> Rows:
        """Describe a contiguous array (count, features)."""
        return cls(array.reshape(-1), array.shape[0], 0, array.shape[1], array.shape[1])
