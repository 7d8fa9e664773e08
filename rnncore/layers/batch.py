"""How a batch of sequences lies in memory: rows packed step by step, the longest first."""

from __future__ import annotations

import numpy as np

from rnncore import engine
from rnncore.layers.rows import Rows


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
    running
        Sequences with at least one step.
    order
        The caller's index of the i-th longest sequence, all `batch` of them.
    """

    def __init__(self, steps: int, batch: int, lengths: np.ndarray | None) -> None:
        self.steps, self.batch = steps, batch
        self.dense = lengths is None
        self.ends: slice | np.ndarray
        #: where each row comes from in the caller's (steps, batch); None: it keeps its place
        self.place_of_row: np.ndarray | None = None
        if lengths is None:
            self.running = batch if steps else 0
            self.rows = steps * batch
            self.offset = np.arange(steps + 1, dtype=np.intp) * batch
            self.ends = slice(self.rows, self.rows + self.running)
            return
        self.order = np.argsort(-lengths, kind="stable")
        in_order = lengths[self.order].astype(np.intp)
        self.running = int(np.count_nonzero(lengths))
        longest = int(in_order[0]) if batch else 0
        # counts[t]: sequences longer than t
        counts = np.searchsorted(-in_order, -np.arange(longest), side="left")
        self.offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        self.rows = int(self.offset[-1])
        step = np.repeat(np.arange(longest), counts)
        position = np.arange(self.rows) - self.offset[step]
        self.place_of_row = step * batch + self.order[position]
        # the slot that a reverse direction writes at each row, and the last slot of each sequence
        slot = np.concatenate([[0], self.running + self.offset[:-1]])
        self.slot_below = slot[step] + position
        self.ends = slot[in_order[: self.running]] + np.arange(self.running)

    def tokens(self, x: np.ndarray) -> np.ndarray:
        """Return token ids (steps, batch) as (rows,)."""
        rows = x.reshape(-1)
        if self.place_of_row is not None:
            rows = rows.take(self.place_of_row)
        return np.ascontiguousarray(rows)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array (steps, batch, n) for `scatter` to fill: its padding is zero."""
        # Zeros that come fresh from the system cost nothing where nobody writes.
        make = np.empty if self.dense and self.rows else np.zeros
        return make(shape, dtype)

    def gather(self, out: np.ndarray, x: np.ndarray, parts: int = 1) -> None:
        """Write x (steps, batch, n) into out (rows, width), row by row.

        The n numbers are in `parts`; each fills the first of its share of the width, zeros the
        rest.
        """
        depth, place = x.shape[2] // parts, out.shape[1] // parts
        engine.kernels(out.dtype).move_rows(
            (out, 0, out.shape[1], place, None), (x, 0, x.shape[2], depth, self.place_of_row),
            self.rows, parts, depth, place - depth, engine.get_num_threads(),
        )  # fmt: skip

    def scatter(self, out: np.ndarray, rows: Rows, column: int = 0) -> None:
        """Write rows into out (steps, batch, n), from a column on; what is padding stays."""
        engine.kernels(out.dtype).move_rows(
            (out, column, out.shape[2], rows.depth, self.place_of_row),
            (rows.flat, rows.first, rows.stride, rows.part_stride, None),
            self.rows, rows.parts, rows.depth, 0, engine.get_num_threads(),
        )  # fmt: skip

    def outputs(self, states: np.ndarray, reverse: bool) -> np.ndarray:
        """Return the rows of slots (rows + running, n) that hold the state after each row."""
        if not reverse:
            return states[self.running :]
        return states[: self.rows] if self.dense else states[self.slot_below]

    def begin(self, states: np.ndarray, reverse: bool, initial: np.ndarray | None) -> None:
        """Put the initial state (batch, n) of each sequence in its slot; None is zero."""
        place = self.ends if reverse else slice(0, self.running)
        if not reverse or self.dense:
            states = states[place]
            states[...] = 0
            if initial is not None:
                states[:, : initial.shape[1]] = self.in_order(initial)
            return
        states[place] = 0
        if initial is not None:
            states[place, : initial.shape[1]] = self.in_order(initial)

    def final(self, states: np.ndarray, reverse: bool) -> np.ndarray:
        """Return the last state (running, n) of each sequence, the longest first."""
        return states[: self.running] if reverse else states[self.ends]

    def in_order(self, values: np.ndarray) -> np.ndarray:
        """Return the rows of values (batch, n) of running sequences, the longest first."""
        return values if self.dense else values[self.order[: self.running]]

    def restore(self, out: np.ndarray, values: np.ndarray) -> None:
        """Write values (running, n), the longest first, into out (batch, n) in the caller's order.

        Sequences without a step keep what `out` holds.
        """
        if self.dense:
            out[: self.running] = values
        else:
            out[self.order[: self.running]] = values
