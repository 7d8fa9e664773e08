"""Rows of numbers inside a flat buffer, as one part of a network hands them to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from rnncore.engine.batch import Batch


class Rows(NamedTuple):
    """The steps of a batch of sequences, one row each, without padding in time.

    Row r begins at `first + r * stride` of `flat` and has `parts` of `depth` numbers, `part_stride`
    apart. The parts of the output of a bidirectional layer are its directions: each stands in a
    place padded with zeros to whole blocks, so that nothing has to be moved between layers.

    Layers, `Linear`, `Dropout` and losses take rows where they take arrays, and give rows for rows.
    `unpack` brings them back to (T, B, features).

    Attributes
    ----------
    length
        How many rows.
    placed
        Whether they stand where the caller has them, all sequences in each step, in place of the
        engine's order (see `rnncore.engine.batch.Batch`).
    batch
        Whose rows they are; None: of no batch.
    spare
        Whether no module reads them later, so that a loss may write its gradient there.
    owner
        What lends the memory; it is not used for anything else while somebody holds the rows.
    """

    flat: np.ndarray
    length: int
    first: int
    stride: int
    depth: int
    parts: int = 1
    part_stride: int = 0
    placed: bool = False
    batch: Batch | None = None
    owner: Any = None
    spare: bool = False

    @property
    def features(self) -> int:
        """Numbers in a row, padding not counted."""
        return self.parts * self.depth

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return self.flat.dtype

    def is_of(self, batch: Batch | None) -> bool:
        """Whether these are rows of this batch, or of one with the same lengths."""
        return batch is not None and batch.is_like(self.batch)

    def check(self, name: str) -> None:
        """Refuse rows that reach beyond their array, as only made by hand they do."""
        end = self.first + self.length * self.stride
        if (
            self.first < 0 or self.length < 0 or self.depth < 1 or self.parts < 1
            or (self.parts > 1 and self.part_stride < self.depth)
            or self.depth + (self.parts - 1) * self.part_stride > self.stride
            or end > self.flat.size or self.placed
            or not self.flat.flags.carray or self.flat.ndim != 1
        ):  # fmt: skip
            raise ValueError(
                f"{name}: expected rows as a layer, Linear or Dropout returns them, got some that "
                "do not fit into their array; give an array"
            )

    def __add__(self, _: Any) -> Any:
        raise TypeError("rows are no array: unpack() makes one, array() shows their numbers")

    def __mul__(self, other: Any) -> Any:
        return self + other

    def __rmul__(self, other: Any) -> Any:
        return self + other

    def __reduce__(self) -> Any:
        copied = self._replace(flat=self.padded().flatten(), first=0, owner=None, spare=False)
        return Rows, tuple(copied)

    def padded(self) -> np.ndarray:
        """Return the rows with all that lies between them, a view (length, stride)."""
        rows = self.flat[self.first : self.first + self.length * self.stride]
        return rows.reshape(self.length, self.stride)

    def array(self) -> np.ndarray:
        """Return the rows as an array (length, features); a view where there is one part."""
        rows = self.padded()
        if self.parts == 1:
            return rows[:, : self.depth]
        places = rows[:, : self.parts * self.part_stride]
        parts = places.reshape(self.length, self.parts, self.part_stride)
        return parts[:, :, : self.depth].reshape(self.length, self.features)

    def unpack(self) -> np.ndarray:
        """Return them as a new array (T, B, features), zeros beyond the end of each sequence."""
        assert self.batch is not None
        out = self.batch.empty((self.batch.steps, self.batch.batch, self.features), self.dtype)
        self.batch.scatter(out, self)
        return out

    def like(self, padded: np.ndarray, owner: Any = None) -> Rows:
        """Return such rows over another array (length, stride)."""
        return self._replace(
            flat=padded.reshape(-1), first=0, placed=False, owner=owner, spare=False
        )

    @classmethod
    def of(
        cls, array: np.ndarray, parts: int = 1, placed: bool = False, batch: Batch | None = None
    ) -> Rows:
        """Describe a contiguous array (..., features)."""
        width = array.shape[-1]
        depth, count = width // parts, array.size // width
        return cls(array.reshape(-1), count, 0, width, depth, parts, depth, placed, batch)
