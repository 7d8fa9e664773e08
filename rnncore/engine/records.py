"""Every state and gate of every step, out of what a training pass keeps."""

from __future__ import annotations

import numpy as np

from rnncore.engine.passes import Pass
from rnncore.engine.rows import Rows
from rnncore.engine.stack import Stack


def read_record(stack: Stack, run: Pass, number: int, d: int) -> dict[str, np.ndarray]:
    """Return arrays (T, B, H) of the states and named gates of one direction, zero in padding."""
    direction, batch = stack.layers[number][d], run.batch
    names = [*direction.cell.states, *direction.cell.places.replace(" ", "")]
    pieces = _describe(stack, run, number, d) if batch.rows else {}
    record = {}
    for name in names:
        whole = batch.empty((batch.steps, batch.batch, direction.hidden_size), stack.dtype)
        column = 0
        for rows in pieces.get(name, []):
            batch.scatter(whole, rows, column)
            column += rows.features
        record[name] = whole
    return record


def _describe(stack: Stack, run: Pass, number: int, d: int) -> dict[str, list[Rows]]:
    # Rows of each of them, by name, in pieces side by side.
    direction, count = stack.layers[number][d], run.batch.rows
    size, layer = direction.hidden_size, direction.layer
    found = {}
    for name, states in zip(direction.cell.states, run.states[number][d], strict=False):
        assert states is not None
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
