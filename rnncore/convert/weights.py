"""Weights of any source, brought into the engine's order of gates and into a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore.convert.equations import Equations, ends_of, layer_of
from rnncore.convert.errors import ConversionError
from rnncore.layers.marks import RESET_AFTER
from rnncore.layers.recurrent import Recurrent

#: The gates in the engine's order of rows. Others call g "c", r "reset", z "update" or "u", n "h",
#: "c" or "o".
GATES = {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}

#: The order of others, in the engine's letters.
ORDERS = {
    "pytorch": {"lstm": "ifgo", "gru": "rzn", "rnn": "h"},
    "keras": {"lstm": "ifgo", "gru": "zrn", "rnn": "h"},
    "onnx": {"lstm": "iofg", "gru": "zrn", "rnn": "h"},
    "onednn": {"lstm": "ifgo", "gru": "zrn", "rnn": "h"},
    "cudnn": {"lstm": "ifgo", "gru": "rzn", "rnn": "h"},
    "paddle": {"gru": "zrn"},
    "dynet": {"lstm": "ifog"},  # and adds 1 to f when it runs
    "tensorflow 1": {"lstm": "igfo"},  # and adds forget_bias, 1 where nobody said, when it runs
}

WIDENED = {"float16": np.float32, "float32": np.float32, "float64": np.float64}
MOST = 2**31 - 1  # numbers in one array of weights


@dataclass
class Direction:
    """The weights of one direction of one layer: W (G H, I), R (G H, H), biases (G H,).

    `initial` has the states that it begins with, where they are learnt: h, or h and c. `own` has
    vectors (H,) of the cell's own by their names, such as peepholes.
    """

    W: np.ndarray
    R: np.ndarray
    bias: np.ndarray | None = None
    second_bias: np.ndarray | None = None
    initial: tuple[np.ndarray, ...] = field(default=())
    own: dict[str, np.ndarray] = field(default_factory=dict)


def widened(name: str, array: Any) -> np.ndarray:
    """Return numbers as float32, or float64 where they were that.

    Raises
    ------
    ConversionError
        If they are no floating-point numbers, or not all finite.
    """
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":  # of ml_dtypes
        array = array.astype(np.float32)
    if array.dtype.name not in WIDENED:
        raise ConversionError(
            f"{name}: expected floating-point numbers, got {array.dtype}; convert the weights to "
            "float32"
        )
    if not np.isfinite(array).all():
        raise ConversionError(f"{name}: expected finite numbers, got NaN or infinity")
    return np.ascontiguousarray(array, WIDENED[array.dtype.name])


def reordered(array: np.ndarray, order: str, kind: str) -> np.ndarray:
    """Return rows (G H, ...) that stand in this order of gates in the engine's."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[order.index(gate)] for gate in GATES[kind]])


def in_order(array: np.ndarray, order: str, kind: str) -> np.ndarray:
    """Return rows (G H, ...) of the engine in this order of gates."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[GATES[kind].index(gate)] for gate in order])


def check_order(kind: str, order: str, name: str = "gates") -> str:
    """Return the order of gates if each is there once."""
    if sorted(order) != sorted(GATES[kind]):
        raise ConversionError(
            f"{name}: expected each of the gates {', '.join(GATES[kind])} of a {kind.upper()} "
            f'once, in the order of the rows, such as "{GATES[kind]}", got {order!r}'
        )
    return order


def kind_of_shapes(source: str, W: Any, R: Any) -> str:
    """Return the kind whose number of gates the shapes (G H, I) and (G H, H) have."""
    rows, size = (*np.shape(R), 0, 0)[:2]
    kinds = {4: "lstm", 3: "gru", 1: "rnn"}
    if len(np.shape(W)) != 2 or len(np.shape(R)) != 2 or not size or rows % size:
        raise ConversionError(
            f"{source}: expected weights (gates * H, I) and (gates * H, H), got {np.shape(W)} and "
            f"{np.shape(R)}"
        )
    if rows // size not in kinds:
        raise ConversionError(
            f"{source}: expected 4 gates (LSTM), 3 (GRU) or 1 (RNN), got {rows // size} of {size} "
            "rows"
        )
    return kinds[rows // size]


def make_layer(
    source: str,
    equations: Equations,
    directions: Sequence[Sequence[Direction]],
    batch_first: bool = False,
    two_biases: bool | None = None,
) -> Recurrent:
    """Return a layer with weights that stand in the engine's order of gates.

    Parameters
    ----------
    source
        What errors call it.
    equations
        What it computes.
    directions
        One or two for each layer.
    batch_first
        Whether it takes (B, T, features).
    two_biases
        Whether to train both biases, as PyTorch does. None: where the second does something that
        one bias cannot hold to the bit.

    Raises
    ------
    ConversionError
        If shapes do not fit, or the engine has not these equations.
    """
    kind, every = equations.kind, [one for layer in directions for one in layer]
    for one in every:
        one.W, one.R = widened(source, one.W), widened(source, one.R)
    found = {array.dtype for one in every for array in (one.W, one.R)}
    dtype = np.dtype(np.float64 if np.dtype(np.float64) in found else np.float32)
    sizes = [layer[0].R.shape[-1] for layer in directions]
    width = directions[0][0].W.shape[-1]
    given = width
    count = len(directions[0])
    for layer, size in zip(directions, sizes, strict=True):
        rows = len(GATES[kind]) * size
        for one in layer:
            _check(source, "W", one.W, (rows, width))
            _check(source, "R", one.R, (rows, size))
            for bias in (one.bias, one.second_bias):
                if bias is not None:
                    _check(source, "bias", np.asarray(bias), (rows,))
            for initial in one.initial:
                _check(source, "initial state", np.asarray(initial), (size,))
        if len(layer) != count:
            raise ConversionError(f"{source}: expected {count} directions in each layer")
        width = count * size
    if two_biases is None:
        two_biases = any(_second_is_lost(one.second_bias, equations) for one in every)
    has_bias = any(one.bias is not None or one.second_bias is not None for one in every)
    made = layer_of(
        equations, source, given, sizes[0] if len(set(sizes)) == 1 else sizes, len(sizes),
        bias="pytorch" if two_biases and has_bias else has_bias, batch_first=batch_first,
        bidirectional=count == 2, dtype=dtype, seed=0,
        learn_initial_state=any(one.initial for one in every),
    )  # fmt: skip
    state: dict[str, np.ndarray] = {}
    if kind == "gru" and not equations.reset_after:
        state[RESET_AFTER] = np.zeros((), dtype)
    for number, pair in enumerate(directions):
        for end, one in zip(ends_of(number, count, equations.reverse), pair, strict=True):
            rows = len(one.W)
            state[f"weight_ih{end}"], state[f"weight_hh{end}"] = one.W, one.R
            if has_bias:
                for name, bias in (("bias_ih", one.bias), ("bias_hh", one.second_bias)):
                    bias = np.zeros(rows, dtype) if bias is None else widened(source, bias)
                    state[f"{name}{end}"] = bias
            for letter, initial in zip("hc", one.initial, strict=False):
                state[f"initial_{letter}{end}"] = widened(source, initial)
            state |= {f"{name}{end}": widened(source, own) for name, own in one.own.items()}
    made.load_state_dict(state)
    return made


def _second_is_lost(second: np.ndarray | None, equations: Equations) -> bool:
    # A GRU's second bias of n is a vector of its own where the reset gate comes after the product;
    # all else would be added to the first.
    if second is None:
        return False
    own = equations.kind == "gru" and equations.reset_after
    return bool(second[: 2 * len(second) // 3].any() if own else second.any())


def _check(source: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or not array.size:
        raise ConversionError(f"{source}: expected {name} of shape {shape}, got {array.shape}")
    if array.size > MOST:
        raise ConversionError(f"{source}: expected {MOST} numbers at most, got {array.size}")
