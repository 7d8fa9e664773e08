"""Every state and gate of every step, out of what a training pass keeps; and their gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnncore.engine.passes import Pass
from rnncore.engine.rows import Rows
from rnncore.engine.stack import Stack


def names_of_record(stack: Stack) -> list[str]:
    """Return the names of what is recorded: the states and the gates that have one."""
    return [*stack.cell.states, *stack.cell.places.replace(" ", "")]


def read_record(stack: Stack, run: Pass, number: int, d: int) -> dict[str, np.ndarray]:
    """Return arrays (T, B, H) of the states and named gates of one direction, zero in padding."""
    direction, batch = stack.layers[number][d], run.batch
    pieces = _describe(stack, run, number, d) if batch.rows else {}
    record = {}
    for name in names_of_record(stack):
        shape = batch.whole.steps, batch.whole.batch, direction.hidden_size
        whole = batch.empty(shape, stack.dtype)
        _place(run, pieces.get(name, []), whole)
        record[name] = whole
    return record


def _place(run: Pass, pieces: list[Rows], out: np.ndarray) -> None:
    # Rows in pieces side by side, into (T, B, H).
    column = 0
    for rows in pieces:
        run.batch.scatter(out, rows, column)
        column += rows.features


class BackwardRecord:
    """The gradients of every state of every step, as a backward pass comes by.

    A built-in LSTM's cell hands on ``dL/dc_t`` through ``c_{t+1}``; what comes through
    ``h_t = o tanh(c_t)`` is added here, ``dL/dh_t o (1 - tanh(c_t)^2)``. With zoneout c_t is not
    what h_t is computed from, and nothing is told of c.

    Parameters
    ----------
    stack, steps, batch
    with_states
        Whether to take the states and gates as well.

    Attributes
    ----------
    gradients
        Of each direction of each layer, dL/dh_t by the name "h", of an LSTM dL/dc_t by "c":
        (T, B, H), zero in padding.
    states
        Likewise, what `read_record` returns; empty without `with_states`.
    """

    def __init__(self, stack: Stack, steps: int, batch: int, with_states: bool = False) -> None:
        cell = stack.cell
        is_own = not isinstance(cell, stack.kernels.CustomCell) and not any(stack.zoneout)
        self._is_lstm = cell.name == "lstm" and is_own
        self._stack, self._begun = stack, list[Any]()
        self.gradients = self._zeros("hc"[: 1 + self._is_lstm], steps, batch)
        names = names_of_record(stack) if with_states else []
        self.states = self._zeros(names, steps, batch)

    def _zeros(
        self, names: Iterable[str], steps: int, batch: int
    ) -> list[dict[str, np.ndarray]]:
        stack, some = self._stack, list(names)
        return [
            {name: np.zeros((steps, batch, size), stack.dtype) for name in some}
            for size in stack.sizes
        ]

    def part(self, steps: slice) -> BackwardRecord:
        """Return the record of some of the steps, a view of this one."""
        part = BackwardRecord(self._stack, 0, 0)
        part.gradients, part.states = (
            [{name: array[steps] for name, array in arrays.items()} for arrays in whole]
            for whole in (self.gradients, self.states)
        )
        return part

    def begin(self, run: Pass, number: int, d: int) -> None:
        """Have a task keep the gradients, before it runs."""
        stack, index = self._stack, number * len(self._stack.layers[number]) + d
        shape = run.batch.rows, stack.layers[number][d].state_size
        dh, dc = run.workspace.array(("dh_steps", number, d), shape), None
        pieces = _describe(stack, run, number, d)
        for name, array in self.states[index].items():
            _place(run, pieces[name], array)
        slope = None
        if self._is_lstm:
            dc = run.workspace.array(("dc_steps", number, d), shape)
            o, c = (np.zeros_like(self.gradients[index]["c"]) for _ in "oc")
            _place(run, pieces["o"], o)
            _place(run, pieces["c"], c)
            slope = o * (1 - np.tanh(c) ** 2)
        run.tasks[number][d].set_steps(dh, dc)
        self._begun.append((index, {"h": dh, "c": dc}, slope))

    def finish(self, run: Pass) -> None:
        """Take what the tasks of a pass have kept."""
        for index, kept, slope in self._begun:
            gradients = self.gradients[index]
            for name, array in gradients.items():
                rows = kept[name]
                width, size = rows.shape[1], array.shape[2]
                _place(run, [Rows(rows.reshape(-1), len(rows), 0, width, size)], array)
            if slope is not None:
                gradients["c"] += gradients["h"] * slope
        self._begun.clear()


def _describe(stack: Stack, run: Pass, number: int, d: int) -> dict[str, list[Rows]]:
    # Rows of each of them, by name, in pieces side by side.
    direction, count = stack.layers[number][d], run.batch.rows
    size, layer = direction.hidden_size, direction.layer
    found = {}
    for name, states in zip(direction.cell.states, run.states[number][d], strict=True):
        rows = run.batch.outputs(states, direction.reverse)
        found[name] = [Rows(rows.reshape(-1), count, 0, rows.shape[1], size)]
    z = run.workspace.array(("z", number, d), (count * layer.z_size,))
    whole, rest = divmod(size, layer.block)
    stride = layer.places * layer.block
    for place, name in enumerate(direction.cell.places):
        first = place * layer.block
        pieces = [Rows(z, count, first, layer.z_size, layer.block, whole, stride)] if whole else []
        if rest:
            pieces.append(Rows(z, count, first + whole * stride, layer.z_size, rest))
        found[name] = pieces
    return found
