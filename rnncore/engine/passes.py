"""A pass: one batch on its way through a stack of layers, and the buffers it needs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.direction import Direction
from rnncore.engine.noise import QUIET
from rnncore.engine.rows import Rows
from rnncore.engine.workspace import Lease

if TYPE_CHECKING:
    from rnncore.engine.compiled import Task

Layers = list[list[Direction]]  # [layer][direction]
States = list[list[np.ndarray | None]]  # [state][layer * directions + direction] -> (batch, H)
Buffer = tuple[Any, tuple[int, ...]]  # name, the kind first and then whose, and shape


class Plan(NamedTuple):
    """All that the buffers of a pass depend on, beside the layers."""

    rows: int
    running: int
    longest: int
    chunk: int  # steps a chunk of the backward pass
    training: bool
    wavefront: bool
    threads: int
    x_stride: int = 0  # numbers a row of the input; 0 for tokens
    x_moves: bool = False  # threads gather their rows of the input
    h_out: bool = False  # the last layer's h is an array of its own
    masked: bool = False  # the outputs of layers are multiplied with masks
    recurrent: bool = False  # and the states before W_hh
    zoneout: tuple[float, float] = (0.0, 0.0)  # of h and of the other states

    @property
    def chunk_rows(self) -> int:
        """Rows of the longest chunk of the backward pass."""
        return min(self.rows, self.chunk * self.running)


class Pass:
    """One batch on its way through the stack, and what backward needs of it.

    Attributes
    ----------
    plan
        What its buffers depend on.
    tokens, tables
        Places (rows,) in the tables of tokens, one of each direction of the first layer.
    inputs, tasks, states
        Of each layer: the rows of its input, None for tokens; the engine's tasks, and all states,
        of each direction.
    noise
        What is random in it.
    h_out
        The last layer's h, (slots, H), where it is the output.
    """

    plan: Plan

    def __init__(self, batch: Batch, lease: Lease, training: bool) -> None:
        self.batch, self.training = batch, training
        self.lease, self.workspace = lease, lease.workspace
        self.tokens: np.ndarray | None = None
        self.tables: list[np.ndarray] = []
        self.inputs: list[Rows | None] = []
        self.tasks: list[list[Task]] = []
        self.states: list[list[tuple[np.ndarray, ...]]] = []
        self.noise = QUIET
        self.h_out: np.ndarray | None = None


def forward_buffers(layers: Layers, plan: Plan, number: int, d: int) -> Iterator[Buffer]:
    """Name the buffers that one direction of one layer needs in the forward pass."""
    direction = layers[number][d]
    layer, size = direction.layer, direction.state_size
    sizes = layer.forward_sizes(plan.longest, plan.running, plan.threads)
    slots = plan.rows + plan.running
    own = number if plan.wavefront else 0  # one chunk, or scratch, serves all layers in turn
    z_rows = plan.rows if plan.training else sizes["rows"]
    yield ("z", number if plan.training else own, d), (z_rows, layer.z_size)
    if not (plan.h_out and number + 1 == len(layers)):
        yield ("h", number, d), (slots, size)
    if direction.carried:
        shape = direction.carried, slots if plan.training else plan.running, size
        yield ("c", number, d), shape
    yield ("scratch", own, d), (sizes["scratch"],)
    now = plan.rows if plan.training else plan.running
    if direction.cell.phases > 1:
        yield ("between", number if plan.training else own, d), (now, size)
    for k, (kind, many) in enumerate(_kinds(direction)):
        if plan.zoneout[k]:
            yield (f"{kind}_now", number, d), (*many, now, size)
    if plan.recurrent:
        yield ("masked", number, d), (slots, size)
    if not plan.training and (plan.x_moves if number == 0 else plan.running % plan.threads):
        stride = plan.x_stride if number == 0 else output_stride(layers[number - 1])
        if stride:
            yield ("x_rows", number, d), (sizes["x_rows"] * stride,)


def _kinds(direction: Direction) -> list[tuple[str, tuple[int, ...]]]:
    # h, and all other states together: what their buffers are called, and how many stand in one.
    return [("h", ()), ("c", (direction.carried,))][: len(direction.cell.states)]


def backward_buffers(layers: Layers, plan: Plan, number: int, d: int) -> Iterator[Buffer]:
    """Name those that it needs besides in the backward pass."""
    direction = layers[number][d]
    sizes = direction.layer.backward_sizes(plan.rows)
    own, shape = number if plan.wavefront else 0, (plan.running, direction.state_size)
    for k, (kind, many) in enumerate(_kinds(direction)):
        yield (f"d{kind}", number, d), (*many, *shape)
        if plan.zoneout[k] or (plan.recurrent and k == 0):
            yield (f"{kind}_aside", own, d), (*many, *shape)
    if direction.cell.phases > 1:
        yield ("dbetween", own, d), shape
    for name in ("dz_columns", "x_panels", "h_panels"):
        yield (name, own, d), (sizes[name],)


def output_buffer(layers: Layers, plan: Plan, number: int) -> Buffer | None:
    """Name that of the output of a layer; None: it is h as it stands."""
    if stands_alone(layers[number]) and not plan.masked:
        return None
    return ("y", number), (plan.rows, output_stride(layers[number]))


def stands_alone(directions: list[Direction]) -> bool:
    """Whether the states h of a layer are its output: of a reverse direction they lie elsewhere."""
    return len(directions) == 1 and not directions[0].reverse


def gradient_buffers(layers: Layers, plan: Plan, number: int, d: int) -> Iterator[Buffer]:
    """Name those of the gradients of a layer's input, and of the rows of dy and dx in a chunk."""
    last = number + 1 == len(layers)
    stride = output_stride(layers[number - 1]) if number else plan.x_stride
    if number or (d and stride):  # dx of the first direction goes where the caller wants it
        yield ("dx", number, d), (plan.rows, stride)
    if last:
        yield ("dy_rows", d), (plan.chunk_rows * layers[number][d].state_size,)


def output_stride(directions: list[Direction]) -> int:
    """Numbers a row of the output of a layer, each direction padded to whole blocks."""
    return len(directions) * directions[0].state_size


def all_buffers(layers: Layers, plan: Plan) -> Iterator[Buffer]:
    """Name all buffers of a pass over a dense batch; in training with those of its backward."""
    if plan.training and plan.x_stride:
        yield ("x",), (plan.rows, plan.x_stride)
    for number, directions in enumerate(layers):
        output = output_buffer(layers, plan, number) if number + 1 < len(layers) else None
        if output is not None:
            yield output
        for d in range(len(directions)):
            yield from forward_buffers(layers, plan, number, d)
            if plan.training:
                yield from backward_buffers(layers, plan, number, d)
                yield from gradient_buffers(layers, plan, number, d)


def count_bytes(buffers: Iterable[Buffer], dtype: np.dtype) -> int:
    """Bytes that buffers take; those of one name are one, as large as the largest needs it."""
    most: dict[Hashable, int] = {}
    for name, shape in buffers:
        most[name] = max(most.get(name, 0), prod(shape))
    return sum(most.values()) * dtype.itemsize
