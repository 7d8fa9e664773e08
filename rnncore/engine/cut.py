"""Sequences that begin anew in their midst: a ragged batch of the pieces in between."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from rnncore.engine import kernels
from rnncore.engine.batch import Batch
from rnncore.engine.rows import Rows
from rnncore.engine.threads import team_size
from rnncore.engine.workspace import empty


class CutBatch(Batch):
    """The pieces of a batch whose sequences begin anew at some steps.

    What is a sequence to the engine is a piece here, so that pieces run side by side, and nothing
    of one reaches another. The caller's arrays (T, B, n) are those of the `whole` batch: rows are
    gathered from them and scattered into them. Each of the caller's sequences has one piece at
    least, if of no step.

    Attributes
    ----------
    whole
        The caller's batch.
    first, last
        (B,) The first and the last piece of each of the caller's sequences.
    first_is_new
        (B,) Whether the first piece begins anew as well, at step 0.
    """

    first_is_new: np.ndarray
    is_cut = True

    def __init__(
        self, whole: Batch, sequence: np.ndarray, start: np.ndarray, lengths: np.ndarray,
        order: np.ndarray | None = None, chunk: int = 0, steps: int | None = None,
    ) -> None:  # fmt: skip
        steps = int(lengths.max(initial=0)) if steps is None else steps
        super().__init__(steps, len(sequence), lengths, order, chunk)
        self._whole, self._sequence, self._start = whole, sequence, start
        every = np.arange(whole.batch)
        self.first = np.searchsorted(sequence, every)
        self.last = np.searchsorted(sequence, every, "right") - 1

    @classmethod
    def of_mask(cls, whole: Batch, reset: np.ndarray) -> CutBatch:
        """Cut a batch before the steps where a mask (T, B) says so."""
        lengths = whole.lengths
        begins = reset & (np.arange(whole.steps)[:, None] < lengths)
        first_is_new = np.asarray(begins[:1].any(axis=0))
        begins[:1] = True
        sequence, start = np.nonzero(begins.T)
        if not whole.steps:
            sequence, start = np.arange(whole.batch), np.zeros(whole.batch, np.intp)
        ends = np.append(start[1:], 0)
        last = np.append(np.diff(sequence) > 0, True)[: len(sequence)]
        ends = np.where(last, lengths[sequence], ends[: len(sequence)])
        batch = cls(whole, sequence, start, ends - start)
        batch.first_is_new = first_is_new
        return batch

    def part(self, begin: int, end: int) -> CutBatch:
        """Return these steps of each piece."""
        lengths = np.clip(self.lengths - begin, 0, end - begin)
        return CutBatch(
            self._whole, self._sequence, self._start + begin, lengths, self.order, self.chunk,
            end - begin,
        )  # fmt: skip

    @property
    def whole(self) -> Batch:
        """The caller's batch."""
        return self._whole

    @cached_property
    def place_of_row(self) -> np.ndarray:
        """Where each row comes from in the caller's (T, B)."""
        assert self.order is not None
        step, position = self._step_and_position
        piece = self.order[position]
        return (self._start[piece] + step) * self._whole.batch + self._sequence[piece]

    @cached_property
    def row_of_place(self) -> np.ndarray:
        """The row of each of these places, -1 where padding is."""
        rows = np.full(self._whole.steps * self._whole.batch, -1, np.intp)
        rows[self.place_of_row] = np.arange(self.rows)
        return rows

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array (T, B, n) for `scatter` to fill; zeros where it has no rows."""
        full = self.rows == self._whole.steps * self._whole.batch
        return (empty if full else np.zeros)(shape, dtype)

    def scatter(self, out: np.ndarray, rows: Rows, column: int = 0) -> None:
        """Write rows into out (T, B, n), from a column on; what else is there stays."""
        kernels(out.dtype).move_rows(
            (out, column, out.shape[2], rows.depth, self.place_of_row),
            (rows.flat, rows.first, rows.stride, rows.part_stride, None),
            self.rows, rows.parts, rows.depth, team_size(),
        )  # fmt: skip

    def rows_of(self, array: np.ndarray, parts: int) -> Rows:
        """Return the rows of an array (T, B, n), in parts."""
        rows = np.empty((self.rows, array.shape[2]), array.dtype)
        self.gather(rows, array)
        return Rows.of(rows, parts)

    # States: of the caller's sequences, (B, n), and of the pieces

    def pieces(self, reverse: bool, at_end: bool) -> tuple[np.ndarray, np.ndarray]:
        """Say which piece begins (or ends) with each sequence's state, and for which sequences.

        A reverse direction begins with the last piece. A forward direction begins with no given
        state where step 0 begins anew.
        """
        sequences = np.arange(self._whole.batch)
        if reverse != at_end:
            return self.last, sequences
        if not reverse:
            sequences = np.flatnonzero(~self.first_is_new)
        return self.first[sequences], sequences

    def spread(
        self, state: np.ndarray | None, reverse: bool, at_end: bool, new: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Return (pieces, n): a state (B, n) where it belongs, elsewhere `new` (n,), or zeros."""
        if state is None and new is None:
            return None
        width, dtype = next((a.shape[-1], a.dtype) for a in (state, new) if a is not None)
        out = np.zeros((self.batch, width), dtype)
        if new is not None:
            out[...] = new
        if state is not None:
            pieces, sequences = self.pieces(reverse, at_end)
            out[pieces] = state[sequences]
        return out

    def pick(self, states: np.ndarray, reverse: bool, at_end: bool) -> np.ndarray:
        """Return (B, n) of states (pieces, n); zeros where there is none."""
        out = np.zeros((self._whole.batch, states.shape[1]), states.dtype)
        pieces, sequences = self.pieces(reverse, at_end)
        out[sequences] = states[pieces]
        return out
