"""Gradient checkpointing through time: keep states at the borders, run each segment again.

Chen, Xu, Zhang and Guestrin, Training deep nets with sublinear memory cost (2016), section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.cut import CutBatch
from rnncore.engine.noise import Noise
from rnncore.engine.packed import Packed
from rnncore.engine.passes import (
    Pass,
    Plan,
    States,
    all_buffers,
    count_bytes,
    output_stride,
)
from rnncore.engine.stack import Stack
from rnncore.engine.sums import Sums
from rnncore.engine.threads import team_size
from rnncore.engine.workspace import Lease, aligned_empty

if TYPE_CHECKING:
    from rnncore.engine.records import BackwardRecord

#: The noise of the segment of this number.
Noises = Callable[[int], Noise]
#: Draws the mask of so many rows of a layer.
Draw = Callable[["np.random.Generator", int, int], np.ndarray]  # naming it imports numpy.random


def pass_bytes(stack: Stack, steps: int, batch: int, tokens: bool, dropout: bool) -> int:
    """Bytes of the buffers of a training pass over a dense batch, backward included."""
    return _bytes(stack, steps * batch, steps, batch, tokens, dropout)


def _bytes(stack: Stack, rows: int, steps: int, batch: int, tokens: bool, dropout: bool) -> int:
    threads = team_size()
    chunk = stack.kernels.backward_chunk(steps, rows)
    x_stride = 0 if tokens else stack.input_size
    wavefront = stack.use_wavefront(batch, dropout, threads)
    plan = Plan(
        rows, batch, steps, chunk, True, wavefront, threads, x_stride, masked=dropout,
        recurrent=stack.recurrent_dropout, zoneout=stack.zoneout,
    )  # fmt: skip
    buffers = list(all_buffers(stack.layers, plan))
    if stack.recurrent_dropout:
        directions = enumerate(stack.directions())
        buffers += [(("state mask", k), (batch, d.state_size)) for k, d in directions]
    if dropout:
        # A mask of each layer's output but the last, and what it is drawn from.
        masks = [(("mask", n), (rows, output_stride(d))) for n, d in enumerate(stack.layers[:-1])]
        widest = max((width for _, (_, width) in masks), default=0)
        buffers += [*masks, (("drawn",), (2 * rows * widest,))]
    return count_bytes(buffers, stack.dtype)


class Segments:
    """A batch cut into segments of `length` steps, the last one shorter.

    Of each segment it keeps the state that it begins with.
    """

    def __init__(self, stack: Stack, batch: Batch, lengths: np.ndarray | None, length: int) -> None:
        self.stack, self.lengths, self.length = stack, lengths, length
        self.steps, self.sequences, self.order = batch.steps, batch.batch, batch.order
        self._cut = batch if isinstance(batch, CutBatch) else None
        self.chunk = stack.chunk(batch)
        self._states: dict[int, np.ndarray] = {}
        self._shapes: list[list[tuple[int, ...]]] = []

    def __len__(self) -> int:
        return -(-self.steps // self.length)

    def part(self, number: int) -> tuple[slice, Batch]:
        """Return the steps of a segment in the caller's arrays, and its batch."""
        begin = number * self.length
        end = min(begin + self.length, self.steps)
        if self._cut is not None:  # each piece has these steps elsewhere
            return slice(None), self._cut.part(begin, end)
        lengths = None if self.lengths is None else np.clip(self.lengths - begin, 0, end - begin)
        batch = Batch(end - begin, self.sequences, lengths, self.order, self.chunk)
        return slice(begin, end), batch

    def _in_order(self) -> list[int]:
        # Their numbers, in the order in which the layers read them.
        numbers = list(range(len(self)))
        return numbers[::-1] if self.stack.layers[0][0].reverse else numbers

    def _keep(self, number: int, states: States) -> None:
        # What the next segment begins with; an array for all states takes least room.
        arrays = [[array for array in part if array is not None] for part in states]
        self._shapes = [[array.shape for array in part] for part in arrays]
        self._states[number] = np.concatenate(
            [array.ravel() for part in arrays for array in part]
        )

    def _kept(self, number: int) -> States:
        flat, first, states = self._states[number], 0, []
        for shapes in self._shapes:
            part: list[np.ndarray | None] = []
            for shape in shapes:
                last = first + prod(shape)
                part.append(flat[first:last].reshape(shape))
                first = last
            states.append(part)
        return states

    def _begin(
        self, x: np.ndarray, tables: list[np.ndarray] | None, number: int, lease: Lease,
        training: bool,
    ) -> tuple[slice, Pass]:  # fmt: skip
        part, batch = self.part(number)
        if tables is None:
            return part, self.stack.begin(batch, x[part], lease, training)
        return part, self.stack.begin_tokens(batch, x[part], tables, lease, training)

    def forward(
        self,
        x: np.ndarray,
        tables: list[np.ndarray] | None,
        packed: Packed,
        initial: States,
        noise: Noises,
        lease: Lease,
    ) -> tuple[np.ndarray, States]:
        """Return y (T, B, features) and the final states, and keep what begins each segment.

        x is (T, B, I), or with `tables` the places (T, B) of tokens in them.
        """
        shape = (*x.shape[:2], self.stack.output_size)
        y = aligned_empty(prod(shape), self.stack.dtype).reshape(shape)
        if self._cut is not None:
            y[...] = 0
        final = self.stack.zeros_for_none(initial, self.sequences)
        for number in self._in_order():
            self._keep(number, final)
            part, run = self._begin(x, tables, number, lease, False)
            _, final = self.stack.run(run, packed, final, noise(number), y[part])
        return y, final

    def backward(
        self,
        x: np.ndarray,
        tables: list[np.ndarray] | None,
        packed: tuple[Packed, Packed],
        noise: Noises,
        lease: Lease,
        sums: Sums,
        dy: np.ndarray | None,
        dfinal: States,
        dx: np.ndarray | None,
        record: BackwardRecord | None = None,
    ) -> States:
        """Run each segment forward once more, then backward; see `Stack.backward`.

        `packed` are the weights of `forward` for both passes; `noise` is that of `forward`.
        """
        for number in reversed(self._in_order()):
            part, run = self._begin(x, tables, number, lease, True)
            if run.batch.rows:
                self.stack.forward(run, packed[0], self._kept(number), noise(number))
            given = None
            if dy is not None:
                given = run.batch.rows_of(dy[part], len(self.stack.layers[-1]))
            dfinal = self.stack.backward(
                run, packed[1], sums, given, dfinal, None if dx is None else dx[part],
                record=None if record is None else record.part(part),
            )
        return dfinal if len(self) else self.stack.zeros_for_none(dfinal, self.sequences)


def plan_segments(
    stack: Stack, batch: Batch, lengths: np.ndarray | None, memory: int, tokens: bool, dropout: bool
) -> Segments | None:
    """Choose the longest segments that fit into `memory` bytes; None: everything does.

    Segments are whole chunks of the backward pass over the whole batch, so that the gradients of
    weights are summed in the order of the full pass.

    Raises
    ------
    ValueError
        If no segment length fits, or the layers have two directions and the whole pass does not.
    """
    steps, sequences = batch.steps, batch.batch
    whole = _bytes(stack, batch.rows, batch.longest, batch.running, tokens, dropout)
    if whole <= memory:
        return None
    if len(stack.layers[0]) == 2:
        raise ValueError(
            f"memory: expected at least {whole} bytes for {steps} steps of {sequences} sequences, "
            f"got {memory}; a bidirectional layer needs the whole sequence at once, so give that "
            "much, leave memory out, or use layers of one direction"
        )
    chunk = stack.chunk(batch)
    state = sequences * sum(d.state_size * len(d.cell.states) for d in stack.directions())
    fixed = pass_bytes(stack, 0, sequences, tokens, dropout)
    per_chunk = pass_bytes(stack, chunk, sequences, tokens, dropout) - fixed
    best, least = 0, whole
    chunks = -(-steps // chunk)
    for count in range(1, chunks + 1):
        borders = -(-chunks // count) * state * stack.dtype.itemsize
        needed = fixed + count * per_chunk + borders
        least = min(least, needed)
        if needed <= memory:
            best = count
    if not best:
        raise ValueError(
            f"memory: expected at least {least} bytes for {steps} steps of {sequences} sequences, "
            f"got {memory}; give more, or fewer sequences at a time"
        )
    return Segments(stack, batch, lengths, best * chunk)


def draw_again(
    generator: np.random.Generator, draw: Draw, layers: int, rows: list[int]
) -> Callable[[int], list[np.ndarray]]:
    """Return a function that gives the masks of a segment, forward and again backward.

    The numbers are those of one pass over all rows, which draws all of a layer before the next
    layer's. So a copy of the generator passes once over everything, and its state at each border is
    kept. The masks are drawn by the copy: another thread may draw from the generator meanwhile.
    """
    states: list[list[Any]] = []
    source, own = generator.bit_generator, copy.deepcopy(generator)
    with source.lock:
        own.bit_generator.state = source.state
        for layer in range(layers):
            states.append([])
            for count in rows:
                states[-1].append(own.bit_generator.state)
                draw(own, layer, count)
        source.state = own.bit_generator.state

    def masks(number: int) -> list[np.ndarray]:
        drawn = []
        for layer in range(layers):
            own.bit_generator.state = states[layer][number]
            drawn.append(draw(own, layer, rows[number]))
        return drawn

    return masks
