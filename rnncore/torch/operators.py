"""The recurrent layers as operators of PyTorch, for its autograd and its compiler.

`rnncore::recurrent` is a function of tensors: input, states, weights and masks in, output and
final states out, and a ticket. The ticket stands for what the engine keeps of the pass, and its
address is its name: while autograd holds the ticket, the pass is there; when it lets go, its
buffers serve the next one. Whoever comes with a ticket that has served, as in a second backward
pass, or with a copy of one, gets the forward pass run once more, to the same bits.

In eager mode the same two functions run without the dispatcher, which takes longer to call them
than a short pass takes.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnncore.engine.batch import Batch
from rnncore.engine.passes import Pass
from rnncore.torch.lending import torch_threads
from rnncore.torch.net import Kind
from rnncore.torch.weights import Weights, as_array, weights_of

TWICE = (
    "rnncore.torch: a gradient of a gradient was asked for, and these layers have none of second "
    "order; leave create_graph=True out, or use the layers of torch.nn for this model"
)
DTYPES = {torch.float32: "float32", torch.float64: "float64"}


class Form(NamedTuple):
    """What an operator is told beside tensors.

    Attributes
    ----------
    mode
        "LSTM", "GRU", "RNN_TANH" or "RNN_RELU".
    """

    mode: str
    num_layers: int
    bidirectional: bool


class Ticket(ctypes.Array[ctypes.c_uint8]):
    """A byte that stands for a pass, which one backward pass takes."""

    _type_, _length_ = ctypes.c_uint8, 1
    run: Pass

    def take(self) -> Pass | None:
        """Return the pass to the first who asks."""
        found: Pass | None = self.__dict__.pop("run", None)
        return found


_tickets: weakref.WeakValueDictionary[int, Ticket] = weakref.WeakValueDictionary()


def _write_ticket(run: Pass) -> Tensor:
    ticket = Ticket()
    ticket.run = run
    _tickets[ctypes.addressof(ticket)] = ticket
    return torch.frombuffer(ticket, dtype=torch.uint8)


def _take_pass(ticket: Tensor) -> Pass | None:
    found = _tickets.get(ticket.data_ptr())
    return None if found is None else found.take()


# Shapes


def _kind(x: Tensor, weights: Sequence[Tensor], form: Form) -> Kind:
    directions = 2 if form.bidirectional else 1
    bias = len(weights) == 4 * form.num_layers * directions
    dtype = DTYPES.get(x.dtype)
    if dtype is None or x.device.type not in ("cpu", "meta"):
        raise TypeError(
            f"input: rnncore.torch: expected float32 or float64 on the CPU, got {x.dtype} on "
            f"{x.device}; convert input and module with .to, or use torch.nn"
        )
    return Kind(
        form.mode, x.shape[-1], weights[1].shape[1], form.num_layers, directions, bias, dtype
    )


def _state_shape(
    x: Tensor, h: Tensor | None, batch_sizes: Tensor | None, kind: Kind
) -> tuple[int, Any, int]:
    if batch_sizes is None:
        sequences = x.shape[1]
    elif h is not None:
        sequences = h.shape[1]
    else:
        sequences = int(batch_sizes[0])
    return kind.num_layers * kind.directions, sequences, kind.hidden_size


def _batch_of(x: Tensor, batch_sizes: Tensor | None) -> Batch:
    # PyTorch packs sequences as the engine does: step by step, the longest first.
    if batch_sizes is None:
        return Batch.of(x.shape[0], x.shape[1], None)
    counts = batch_sizes.numpy()
    if not len(counts) or counts[-1] < 1 or (np.diff(counts) > 0).any() or counts.sum() != len(x):
        raise ValueError(
            f"input: expected sequences as pack_padded_sequence packs them, got {len(x)} rows and "
            f"batch_sizes {counts.tolist()}; a PackedSequence is not made by hand"
        )
    if counts[0] == counts[-1]:
        return Batch.of(len(counts), int(counts[0]), None)
    lengths = np.searchsorted(-counts, -np.arange(1, counts[0] + 1), "right")
    return Batch(len(counts), int(counts[0]), lengths)


def _state(name: str, state: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Any:
    if state is None:
        return None
    if tuple(state.shape) != shape or state.dtype != like.dtype:
        raise ValueError(
            f"{name}: expected {shape} of {like.dtype}, got {tuple(state.shape)} of {state.dtype}"
        )
    return as_array(state)


# The passes


def _run(
    x: Tensor, h: Tensor | None, c: Tensor | None, batch_sizes: Tensor | None,
    weights: Sequence[Tensor], masks: Sequence[Tensor], form: Form, keep: bool,
) -> tuple[Any, Any, Any, Pass, Weights]:  # fmt: skip
    kind = _kind(x, weights, form)
    known, batch = weights_of(weights[0], kind), _batch_of(x, batch_sizes)
    shape = (kind.num_layers * kind.directions, batch.batch, kind.hidden_size)
    begin = _state("h_0", h, x, shape), _state("c_0", c, x, shape)
    width = known.net.stack.output_size
    given = [as_array(mask).reshape(batch.rows, width) for mask in masks]
    with torch_threads(known.net.stack.kernels):
        packed = known.packed(weights, back=False)
        return *known.net.forward(as_array(x), batch, *begin, packed, given, keep), known


def forward(
    x: Tensor, h: Tensor | None, c: Tensor | None, batch_sizes: Tensor | None,
    weights: Sequence[Tensor], masks: Sequence[Tensor], form: Form, keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Pass]:  # fmt: skip
    """Run a batch; return y, h_n, c_n, and what `keep` has kept for a backward pass."""
    y, h_n, c_n, run, _ = _run(x, h, c, batch_sizes, weights, masks, form, keep)
    y = torch.from_numpy(y).view(*x.shape[:-1], y.shape[-1])
    return y, torch.from_numpy(h_n), None if c_n is None else torch.from_numpy(c_n), run


def backward(
    dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, x: Tensor, h: Tensor | None,
    c: Tensor | None, batch_sizes: Tensor | None, weights: Sequence[Tensor],
    masks: Sequence[Tensor], ticket: Tensor, form: Form, input_gradient: bool,
    state_gradient: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor]]:  # fmt: skip
    """Return the gradients of x, h, c and weights; of x and states, where they are wanted."""
    run = _take_pass(ticket)
    if run is None:
        *_, run, known = _run(x, h, c, batch_sizes, weights, masks, form, True)
    else:
        known = weights_of(weights[0], _kind(x, weights, form))
    net = known.net
    above = None if dy is None else as_array(dy).reshape(run.batch.rows, -1)
    dfinal = [None if gradient is None else as_array(gradient) for gradient in (dh, dc)]
    dx = torch.empty(x.shape, dtype=x.dtype) if input_gradient else None
    # What the engine replaces, and biases, to which it adds.
    empty = torch.empty, torch.zeros
    dweights = [empty[w.dim() == 1](w.shape, dtype=w.dtype) for w in weights]
    with torch_threads(net.stack.kernels):
        dh_0, dc_0 = net.backward(
            run, known.packed(weights, back=True), above, dfinal[0], dfinal[1],
            None if dx is None else dx.numpy(), [one.numpy() for one in dweights], state_gradient,
        )  # fmt: skip
    if not state_gradient:
        return dx, None, None, dweights
    return dx, torch.from_numpy(dh_0), None if dc_0 is None else torch.from_numpy(dc_0), dweights


# Eager mode


class Eager(torch.autograd.Function):
    """Both passes without the dispatcher."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor | None, c: Tensor | None, batch_sizes: Tensor | None,
        masks: Sequence[Tensor], form: Form, *weights: Tensor,
    ) -> Any:  # fmt: skip
        """Run a batch and keep what backward needs."""
        y, h_n, c_n, run = forward(x, h, c, batch_sizes, weights, masks, form, True)
        ctx.form, ctx.count = form, len(weights)
        ctx.save_for_backward(x, h, c, batch_sizes, _write_ticket(run), *weights, *masks)
        ctx.set_materialize_grads(False)
        return (y, h_n) if c_n is None else (y, h_n, c_n)

    @staticmethod
    def backward(ctx: Any, dy: Any, dh: Any, dc: Any = None) -> Any:
        """Return the gradients of what `forward` was given."""
        x, h, c, batch_sizes, ticket, *rest = ctx.saved_tensors
        weights, masks, wanted = rest[: ctx.count], rest[ctx.count :], ctx.needs_input_grad
        found = _backward(
            dy, dh, dc, x, h, c, batch_sizes, weights, masks, ticket, ctx.form, wanted[0],
            wanted[1] or wanted[2],
        )  # fmt: skip
        *given, dweights = found
        return *given, None, None, None, *dweights


def _backward(dy: Any, dh: Any, dc: Any, *rest: Any) -> Any:
    if torch.is_grad_enabled():  # somebody may go back through this: the operator refuses that
        *tensors, form, input_gradient, state_gradient = rest
        found = torch.ops.rnncore.recurrent_backward(
            dy, dh, dc, *tensors, *form, input_gradient, state_gradient
        )
        return _leave(found, form.mode, input_gradient, state_gradient)
    return backward(dy, dh, dc, *rest)


def _leave(found: Any, mode: str, input_gradient: bool, state_gradient: bool) -> Any:
    # What an operator returned, with None for what stands for nothing.
    dx, dh, dc, dweights = found
    return (
        dx if input_gradient else None, dh if state_gradient else None,
        dc if state_gradient and mode == "LSTM" else None, dweights,
    )  # fmt: skip


# The operators

FORM = "str mode, int num_layers, bool bidirectional"
GIVEN = "Tensor x, Tensor? h, Tensor? c, Tensor? batch_sizes, Tensor[] weights, Tensor[] masks"


def _or_empty(tensor: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty(0) if tensor is None else tensor


@torch.library.custom_op(
    "rnncore::recurrent", mutates_args=(), device_types="cpu",
    schema=f"({GIVEN}, {FORM}, bool keep) -> (Tensor, Tensor, Tensor, Tensor)",
)  # fmt: skip
def recurrent(
    x: Tensor, h: Tensor | None, c: Tensor | None, batch_sizes: Tensor | None,
    weights: Sequence[Tensor], masks: Sequence[Tensor], mode: str, num_layers: int,
    bidirectional: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return y, h_n, c_n (empty where cells have none), and the ticket of the pass."""
    form = Form(mode, num_layers, bidirectional)
    y, h_n, c_n, run = forward(x, h, c, batch_sizes, weights, masks, form, keep)
    ticket = _write_ticket(run) if keep else torch.zeros(1, dtype=torch.uint8)
    return y, h_n, _or_empty(c_n, x), ticket


@recurrent.register_fake
def _(
    x: Tensor, h: Tensor | None, c: Tensor | None, batch_sizes: Tensor | None,
    weights: Sequence[Tensor], masks: Sequence[Tensor], mode: str, num_layers: int,
    bidirectional: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    kind = _kind(x, weights, Form(mode, num_layers, bidirectional))
    if batch_sizes is None:
        sequences = x.shape[1]
    else:
        sequences = torch.library.get_ctx().new_dynamic_size() if h is None else h.shape[1]
    y = x.new_empty(*x.shape[:-1], kind.directions * kind.hidden_size)
    h_n = x.new_empty(kind.num_layers * kind.directions, sequences, kind.hidden_size)
    c_n = torch.empty_like(h_n) if mode == "LSTM" else x.new_empty(0)
    return y, h_n, c_n, x.new_empty(1, dtype=torch.uint8)


@torch.library.custom_op(
    "rnncore::recurrent_backward", mutates_args=(), device_types="cpu",
    schema=f"(Tensor? dy, Tensor? dh, Tensor? dc, {GIVEN}, Tensor ticket, {FORM}, "
    "bool input_gradient, bool state_gradient) -> (Tensor, Tensor, Tensor, Tensor[])",
)  # fmt: skip
def recurrent_backward(
    dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, x: Tensor, h: Tensor | None,
    c: Tensor | None, batch_sizes: Tensor | None, weights: Sequence[Tensor],
    masks: Sequence[Tensor], ticket: Tensor, mode: str, num_layers: int, bidirectional: bool,
    input_gradient: bool, state_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:  # fmt: skip
    """Return the gradients of x, h, c and weights; empty ones where nobody wants them."""
    form = Form(mode, num_layers, bidirectional)
    *found, dweights = backward(
        dy, dh, dc, x, h, c, batch_sizes, weights, masks, ticket, form, input_gradient,
        state_gradient,
    )  # fmt: skip
    dx, dh_0, dc_0 = (_or_empty(one, x) for one in found)
    return dx, dh_0, dc_0, dweights


@recurrent_backward.register_fake
def _(
    dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, x: Tensor, h: Tensor | None,
    c: Tensor | None, batch_sizes: Tensor | None, weights: Sequence[Tensor],
    masks: Sequence[Tensor], ticket: Tensor, mode: str, num_layers: int, bidirectional: bool,
    input_gradient: bool, state_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:  # fmt: skip
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    dstates = [x.new_empty(0), x.new_empty(0)]
    if state_gradient:
        sequences = h.shape[1] if h is not None else x.shape[1]
        directions = num_layers * (2 if bidirectional else 1)
        shape = directions, sequences, weights[1].shape[1]
        dstates = [x.new_empty(shape), x.new_empty(shape if mode == "LSTM" else 0)]
    dweights = [torch.empty_like(w, memory_format=torch.contiguous_format) for w in weights]
    return dx if input_gradient else x.new_empty(0), *dstates, dweights


def _keep_for_backward(ctx: Any, inputs: Any, output: Any) -> None:
    x, h, c, batch_sizes, weights, masks, *form, _ = inputs
    ctx.form, ctx.count = Form(*form), len(weights)
    ctx.save_for_backward(x, h, c, batch_sizes, output[3], *weights, *masks)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dy: Any, dh: Any, dc: Any, _: Any) -> Any:
    x, h, c, batch_sizes, ticket, *rest = ctx.saved_tensors
    weights, masks, wanted = rest[: ctx.count], rest[ctx.count :], ctx.needs_input_grad
    input_gradient, state_gradient = wanted[0], wanted[1] or wanted[2]
    found = torch.ops.rnncore.recurrent_backward(
        dy, dh, dc if ctx.form.mode == "LSTM" else None, x, h, c, batch_sizes, weights, masks,
        ticket, *ctx.form, input_gradient, state_gradient,
    )  # fmt: skip
    *given, dweights = _leave(found, ctx.form.mode, input_gradient, state_gradient)
    return *given, None, dweights, [None] * len(masks), None, None, None, None


def _refuse(ctx: Any, *gradients: Any) -> Any:
    raise RuntimeError(TWICE)


recurrent.register_autograd(_differentiate, setup_context=_keep_for_backward)
recurrent_backward.register_autograd(_refuse)
