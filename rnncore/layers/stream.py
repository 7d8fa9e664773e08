"""Making streams: a stack of layers with weights and state of its own, fed step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.engine.workspace import aligned_empty
from rnncore.layers.stack import Direction

LONGEST_CHUNK = 64


def make_stream(
    layers: list[Direction],
    initial: list[tuple[np.ndarray, np.ndarray]],
    vocabulary: int,
    table: np.ndarray | None,
) -> Any:
    """Return a `Stream` over packed layers of one direction.

    `initial` holds h and c of each layer. With a vocabulary above zero the first layer reads token
    ids from the projected table.
    """
    kernels, dtype = layers[0].kernels, layers[0].dtype
    sizes = [
        direction.kernels.forward_sizes(direction.blank, LONGEST_CHUNK, 1, 1)
        for direction in layers
    ]
    chunk = min(size["rows"] for size in sizes)
    offset = np.arange(chunk + 1, dtype=np.intp)
    tokens = np.zeros(chunk, np.intp) if vocabulary else None
    tasks: list[tuple[Any, np.ndarray]] = []
    for number, (direction, size) in enumerate(zip(layers, sizes, strict=True)):
        h = aligned_empty((chunk + 1) * direction.state_size, dtype)
        c = aligned_empty(direction.state_size, dtype) if direction.has_c else None
        for state in (h, c):
            if state is not None:
                state[...] = 0
        task = direction.task()
        task.set_weights(*direction.packed)
        task.set_batch(
            offset, 1, False, aligned_empty(chunk * direction.z_size, dtype), h, c,
            aligned_empty(size["scratch"], dtype),
        )  # fmt: skip
        if number:
            below = layers[number - 1]
            task.set_input(tasks[-1][1], below.state_size, below.state_size, 1, 0, False)
        elif tokens is not None:
            task.set_tokens(tokens, table)
        else:  # the stream points it to each x
            task.set_input(h, 0, direction.input_size, 1, 0, False)
        tasks.append((task, h))
    stream = kernels.Stream(
        [task for task, _ in tasks], chunk, tokens, vocabulary, initial, dtype,
        lambda: make_stream(layers, initial, vocabulary, table),
    )  # fmt: skip
    # Whoever feeds a stream in real time shall not wait for memory at the first step.
    stream.step(0 if vocabulary else np.zeros(layers[0].input_size, dtype))
    stream.reset()
    return stream


def packed_copy(directions: list[Direction]) -> list[Direction]:
    """Return layers of one direction with packed weights of their own."""
    copies = []
    for old in directions:
        new = Direction(old.cell, old.input_size, old.hidden_size, False, old.dtype)
        new.weights = old.weights
        new.pack()
        copies.append(new)
    return copies
