"""Making streams: layers with weights and states of their own, fed step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnncore.engine.packed import Job, Packed, Packing, Spare
from rnncore.engine.stack import Stack, fill_table
from rnncore.engine.threads import team_size
from rnncore.engine.tokens import Tokens
from rnncore.engine.workspace import aligned_empty

if TYPE_CHECKING:
    from rnncore.engine.compiled import Kernels, Layer, LinearWeights, Stream, Streams, Task

LONGEST_CHUNK = 64  # steps, or rows of a step; more are taken in several passes


class Parts(NamedTuple):
    """What a stream is made of.

    Parameters
    ----------
    layers
        All recurrent layers, each with the rates of its zoneout of h and of the other states.
    weights, heads
        What they are packed to, and the packed linear layers behind them.
    initial
        The states of each layer.
    vocabulary, table
        Above zero the first layer reads token ids: rows of a projected table.
    packed
        Holds the memory of the weights.
    """

    kernels: Kernels
    dtype: np.dtype
    layers: list[tuple[Layer, tuple[float, float]]]
    weights: list
    heads: list[LinearWeights]
    initial: list[tuple[np.ndarray, ...]]
    vocabulary: int
    table: np.ndarray | None
    packed: Packed


def parts_of(
    stacks: Sequence[Stack],
    heads: Sequence[Job],
    initial: list[tuple[np.ndarray, ...]],
    vocabulary: int,
    embedding: np.ndarray | None,
) -> Parts:
    """Return copies of the weights of stacks of one direction, and of linear layers behind them.

    With a vocabulary above zero the first layer reads token ids, one-hot or through an embedding
    (vocabulary, I).
    """
    first = stacks[0]
    directions = [direction for stack in stacks for direction in stack.directions()]
    jobs = [(direction.layer.packed_bytes, direction.pack) for direction in directions]
    packed = Packing(Spare(), first.dtype, [*jobs, *heads]).pack()
    table, count = None, len(directions)
    if vocabulary:
        reader = first.layers[0][0]
        table = aligned_empty(vocabulary * reader.layer.table_size, first.dtype)
        everything = np.arange(vocabulary)
        fill_table(reader, table, Tokens(everything, everything, embedding), packed.weights[0])
    layers = [
        (direction.layer, stack.zoneout) for stack in stacks for direction in stack.directions()
    ]
    return Parts(
        first.kernels, first.dtype, layers, packed.weights[:count], packed.weights[count:],
        initial, vocabulary, table, packed,
    )  # fmt: skip


def make_stream(parts: Parts) -> Stream:
    """Return a `Stream` that begins anew."""
    sizes = [layer.forward_sizes(LONGEST_CHUNK, 1, 1) for layer, _ in parts.layers]
    chunk = min(size["rows"] for size in sizes)
    tasks, outputs, tokens = _buffers(parts, np.arange(chunk + 1, dtype=np.intp), 1, chunk, 1)
    stream = parts.kernels.Stream(
        tasks, parts.heads, outputs, chunk, tokens, parts.vocabulary, parts.initial, parts.dtype,
        lambda: make_stream(parts),
    )  # fmt: skip
    # Whoever feeds a stream in real time shall not wait for memory at the first step.
    stream.step(0 if parts.vocabulary else np.zeros(stream.input_size, parts.dtype))
    stream.reset()
    return stream


def make_streams(parts: Parts) -> Streams:
    """Return `Streams` of which there are none yet."""
    offset, most, threads = np.array([0, LONGEST_CHUNK], np.intp), LONGEST_CHUNK, team_size()
    tasks, outputs, tokens = _buffers(parts, offset, most, most, threads)
    return parts.kernels.Streams(
        tasks, parts.heads, outputs, offset, most, threads, tokens, parts.vocabulary,
        parts.initial, parts.dtype, parts.packed,
    )  # fmt: skip


def _buffers(
    parts: Parts, offset: np.ndarray, batch: int, rows: int, threads: int
) -> tuple[list[Task], list[np.ndarray], np.ndarray | None]:
    # Tasks over so many rows of a pass, room for what the heads say of them, and for their tokens.
    kernels, dtype = parts.kernels, parts.dtype
    tokens = np.zeros(rows, np.intp) if parts.vocabulary else None
    tasks: list[tuple[Task, np.ndarray]] = []
    for number, (layer, zoneout) in enumerate(parts.layers):
        states = batch * layer.state_size
        h = aligned_empty(rows * layer.state_size + states, dtype)
        h[...] = 0
        c, carried = None, len(layer.cell.states) - 1
        if carried:
            c = aligned_empty(carried * states, dtype)
            c[...] = 0
        size = layer.forward_sizes(len(offset) - 1, batch, threads)
        z = aligned_empty(max(rows, size["rows"]) * layer.z_size, dtype)
        task = kernels.Task(layer)
        task.set_weights(parts.weights[number])
        task.set_batch(
            offset, batch, False, z, h, c, aligned_empty(size["scratch"], dtype),
            kernels.backward_chunk(rows, rows),
        )  # fmt: skip
        if layer.cell.phases > 1:
            task.set_between(aligned_empty(states, dtype))
        if any(zoneout):
            h_now, c_now = (
                aligned_empty(many * states, dtype) if rate else None
                for rate, many in zip(zoneout, (1, carried), strict=True)
            )
            task.set_noise(*zoneout, h_now, c_now, None)
        if number:
            below = parts.layers[number - 1][0].state_size
            task.set_input(tasks[-1][1], below, below, 1, 0, False)
        elif tokens is not None:
            task.set_tokens(tokens, parts.table)
        else:  # the stream points it to each x
            task.set_input(h, 0, layer.input_size, 1, 0, False)
        tasks.append((task, h))
    outputs = [aligned_empty(rows * head.row_size, dtype) for head in parts.heads]
    return [task for task, _ in tasks], outputs, tokens
