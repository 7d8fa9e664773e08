"""Making streams: a stack of layers with weights and state of its own, fed step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnncore.engine.packed import Packed, Packing, Spare
from rnncore.engine.stack import Stack, fill_table
from rnncore.engine.tokens import Tokens
from rnncore.engine.workspace import aligned_empty

if TYPE_CHECKING:
    from rnncore.engine.compiled import Kernels, Layer, Stream, Task

LONGEST_CHUNK = 64  # steps; a longer block is taken in several


def stream_of(
    stack: Stack,
    initial: list[tuple[np.ndarray, ...]],
    vocabulary: int,
    embedding: np.ndarray | None,
) -> Stream:
    """Return a `Stream` over a copy of the weights of a stack of one direction.

    `initial` holds the states of each layer. With a vocabulary above zero the first layer reads
    token ids, one-hot or through an embedding (vocabulary, I).
    """
    jobs = [(direction.layer.packed_bytes, direction.pack) for direction in stack.directions()]
    packed, table = Packing(Spare(), stack.dtype, jobs).pack(), None
    if vocabulary:
        first = stack.layers[0][0]
        table = aligned_empty(vocabulary * first.layer.table_size, stack.dtype)
        everything = np.arange(vocabulary)
        fill_table(first, table, Tokens(everything, everything, embedding), packed.weights[0])
    layers = [direction.layer for direction in stack.directions()]
    return _make(
        stack.kernels, stack.dtype, layers, packed, initial, vocabulary, table, stack.zoneout
    )


def _make(
    kernels: Kernels,
    dtype: np.dtype,
    layers: list[Layer],
    packed: Packed,
    initial: list[tuple[np.ndarray, ...]],
    vocabulary: int,
    table: np.ndarray | None,
    zoneout: tuple[float, float],
) -> Stream:
    sizes = [layer.forward_sizes(LONGEST_CHUNK, 1, 1) for layer in layers]
    chunk = min(size["rows"] for size in sizes)
    offset = np.arange(chunk + 1, dtype=np.intp)
    tokens = np.zeros(chunk, np.intp) if vocabulary else None
    tasks: list[tuple[Task, np.ndarray]] = []
    for number, (layer, size) in enumerate(zip(layers, sizes, strict=True)):
        h = aligned_empty((chunk + 1) * layer.state_size, dtype)
        h[...] = 0
        c, carried = None, len(layer.cell.states) - 1
        if carried:
            c = aligned_empty(carried * layer.state_size, dtype)
            c[...] = 0
        task = kernels.Task(layer)
        task.set_weights(packed.weights[number])
        task.set_batch(
            offset, 1, False, aligned_empty(chunk * layer.z_size, dtype), h, c,
            aligned_empty(size["scratch"], dtype), kernels.backward_chunk(chunk, chunk),
        )  # fmt: skip
        if any(zoneout):
            h_now, c_now = (
                aligned_empty(many * layer.state_size, dtype) if rate else None
                for rate, many in zip(zoneout, (1, carried), strict=True)
            )
            task.set_noise(*zoneout, h_now, c_now, None)
        if number:
            below = layers[number - 1].state_size
            task.set_input(tasks[-1][1], below, below, 1, 0, False)
        elif tokens is not None:
            task.set_tokens(tokens, table)
        else:  # the stream points it to each x
            task.set_input(h, 0, layer.input_size, 1, 0, False)
        tasks.append((task, h))
    stream = kernels.Stream(
        [task for task, _ in tasks], chunk, tokens, vocabulary, initial, dtype,
        lambda: _make(kernels, dtype, layers, packed, initial, vocabulary, table, zoneout),
    )  # fmt: skip
    # Whoever feeds a stream in real time shall not wait for memory at the first step.
    stream.step(0 if vocabulary else np.zeros(layers[0].input_size, dtype))
    stream.reset()
    return stream
