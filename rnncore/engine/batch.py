"""How a batch of sequences lies in memory: rows packed step by step, the longest first."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from rnncore.engine import kernels
from rnncore.engine.rows import Rows
from rnncore.engine.threads import team_size
from rnncore.engine.workspace import empty


class Batch:
    """The rows of a batch of `batch` sequences of up to `steps` steps.

    Row `offset[t] + i` is step t of the i-th longest sequence, so the sequences that run at step t
    are the first `offset[t + 1] - offset[t]` of them. Without lengths every sequence has `steps`
    steps and keeps its place.

    States stand in slots: slot t + 1 begins at row `running + offset[t]`, slot 0 at row 0. A
    forward direction begins in slot 0 and leaves the state after step t in slot t + 1; a reverse
    direction begins a sequence of n steps in slot n and leaves the state after step t in slot t.

    Attributes
    ----------
    rows
        Steps of all sequences together.
    longest
        Steps of the longest sequence; those beyond are padding for all.
    running
        Sequences with at least one step.
    order
        The caller's index of the i-th longest sequence, all `batch` of them. Given for a part of a
        batch, whose sequences keep the order that they have in the whole.
    chunk
        Steps a chunk of the backward pass.
    """

    @classmethod
    def of(cls, steps: int, batch: int, lengths: np.ndarray | None) -> Batch:
        """Return the batch; dense ones of the same size are one object."""
        return _dense_batch(steps, batch) if lengths is None else cls(steps, batch, lengths)

    def __init__(
        self,
        steps: int,
        batch: int,
        lengths: np.ndarray | None,
        order: np.ndarray | None = None,
        chunk: int = 0,
    ) -> None:
        self.steps, self.batch, self.chunk = steps, batch, chunk
        self.dense = lengths is None
        self.order = order
        self.ends: slice | np.ndarray
        self.longest = steps
        if lengths is None:
            self.running = batch if steps else 0
            self.rows = steps * batch
            self.offset = np.arange(steps + 1, dtype=np.intp) * batch
            self.ends = slice(self.rows, self.rows + self.running)
            return
        if self.order is None:
            self.order = np.argsort(-lengths, kind="stable")
        in_order = lengths[self.order].astype(np.intp)
        self.running = int(np.count_nonzero(lengths))
        self.longest = int(in_order[0]) if batch else 0
        # sequences longer than t
        counts = np.searchsorted(-in_order, -np.arange(self.longest), side="left")
        self.offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        self.rows = int(self.offset[-1])
        # the last slot of each sequence
        slot = np.concatenate([[0], self.running + self.offset[:-1]])
        self.ends = slot[in_order[: self.running]] + np.arange(self.running)

    def is_like(self, other: Batch | None) -> bool:
        """Whether rows of the other are rows of this one."""
        if self is other or other is None or self.dense != other.dense:
            return self is other
        if (self.steps, self.batch) != (other.steps, other.batch):
            return False
        return self.dense or np.array_equal(self.lengths, other.lengths)

    #: Whether what the engine takes for sequences are pieces of the caller's; see cut.py.
    is_cut = False

    @property
    def whole(self) -> Batch:
        """The batch as the caller's arrays have it."""
        return self

    @cached_property
    def lengths(self) -> np.ndarray:
        """The steps of each of the caller's sequences."""
        lengths = np.full(self.batch, self.steps, np.intp)
        if self.order is not None:
            counts = np.diff(self.offset)
            lengths[self.order] = np.searchsorted(-counts, -np.arange(1, self.batch + 1), "right")
        return lengths

    @cached_property
    def rank(self) -> np.ndarray:
        """How many sequences are longer than each of the caller's, or as long and before it."""
        assert self.order is not None
        rank = np.empty_like(self.order)
        rank[self.order] = np.arange(self.batch)
        return rank

    @cached_property
    def _step_and_position(self) -> tuple[np.ndarray, np.ndarray]:
        # Of each row: its step, and how many sequences of that step are longer.
        step = np.repeat(np.arange(len(self.offset) - 1), np.diff(self.offset))
        return step, np.arange(self.rows) - self.offset[step]

    @property
    def sequence_of_row(self) -> np.ndarray:
        """How many sequences are longer than the one of each row, or as long and before it."""
        return self._step_and_position[1]

    @cached_property
    def place_of_row(self) -> np.ndarray | None:
        """Where each row comes from in the caller's (steps, batch); None: it keeps its place."""
        if self.order is None:
            return None
        step, position = self._step_and_position
        return step * self.batch + self.order[position]

    @cached_property
    def row_of_place(self) -> np.ndarray | None:
        """The row of each of these places, -1 where padding is; None likewise."""
        if self.place_of_row is None:
            return None
        rows = np.full(self.steps * self.batch, -1, np.intp)
        rows[self.place_of_row] = np.arange(self.rows)
        return rows

    @cached_property
    def _slot_below(self) -> np.ndarray:
        # The slot that a reverse direction writes at each row.
        step, position = self._step_and_position
        return np.concatenate([[0], self.running + self.offset[:-1]])[step] + position

    def tokens(self, x: np.ndarray) -> np.ndarray:
        """Return token ids (steps, batch) as (rows,)."""
        rows = x.reshape(-1)
        if self.place_of_row is not None:
            rows = rows.take(self.place_of_row)
        return np.ascontiguousarray(rows)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array (steps, batch, n) for `scatter` to fill; zeros where it has no rows."""
        return (empty if self.rows else np.zeros)(shape, dtype)

    def gather(self, out: np.ndarray, x: np.ndarray) -> None:
        """Write x (steps, batch, n) into out (rows, n), row by row."""
        width = x.shape[2]
        kernels(out.dtype).move_rows(
            (out, 0, width, 0, None), (x, 0, width, 0, self.place_of_row),
            self.rows, 1, width, team_size(),
        )  # fmt: skip

    def scatter(self, out: np.ndarray, rows: Rows, column: int = 0) -> None:
        """Write rows into out (steps, batch, n), from a column on, and zeros where padding is."""
        kernels(out.dtype).move_rows(
            (out, column, out.shape[2], rows.depth, None),
            (rows.flat, rows.first, rows.stride, rows.part_stride, self.row_of_place),
            self.steps * self.batch, rows.parts, rows.depth, team_size(),
        )  # fmt: skip

    def rows_of(self, array: np.ndarray, parts: int) -> Rows:
        """Describe an array (steps, batch, n) of the caller's as rows in parts."""
        return Rows.of(array, parts, placed=not self.dense)

    def outputs(self, states: np.ndarray, reverse: bool) -> np.ndarray:
        """Return the rows of slots (rows + running, n) that hold the state after each row."""
        if not reverse:
            return states[self.running :]
        return states[: self.rows] if self.dense else states[self._slot_below]

    def begins(self, reverse: bool) -> slice | np.ndarray:
        """Return the slots of the initial states."""
        return self.ends if reverse else slice(0, self.running)

    def begin(self, states: np.ndarray, reverse: bool, initial: np.ndarray | None) -> None:
        """Put the initial state (batch, n) of each sequence in its slot; None is zero."""
        place = self.begins(reverse)
        if not reverse or self.dense:
            states = states[place]
            states[...] = 0
            if initial is not None:
                states[:, : initial.shape[1]] = self.in_order(initial)
            return
        states[place] = 0
        if initial is not None:
            states[place, : initial.shape[1]] = self.in_order(initial)

    def in_order(self, values: np.ndarray) -> np.ndarray:
        """Return the rows of values (batch, n) of running sequences, the longest first."""
        return values if self.order is None else values[self.order[: self.running]]

    def restore(self, out: np.ndarray, values: np.ndarray) -> None:
        """Write values (running, n), the longest first, into out (batch, n) in the caller's order.

        Sequences without a step keep what `out` holds.
        """
        if self.order is None:
            out[: self.running] = values
        else:
            out[self.order[: self.running]] = values


@lru_cache(maxsize=16)
def _dense_batch(steps: int, batch: int) -> Batch:
    return Batch(steps, batch, None)
