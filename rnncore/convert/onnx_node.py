"""A recurrent node of ONNX: its weights and equations.

ONNX's rows are i, o, f, c of an LSTM and z, r, h of a GRU; W is (directions, gates H, I), R
(directions, gates H, H), B (directions, 2 gates H) both biases. The reset gate of a GRU comes
before the product unless `linear_before_reset` says otherwise. Source: onnx.ai/onnx/operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.convert.equations import STANDARD, Equations
from rnncore.convert.errors import ConversionError
from rnncore.convert.weights import ORDERS, Direction, make_layer, reordered, widened
from rnncore.layers.recurrent import Recurrent

#: What ONNX's names are in the engine's, and the alpha and beta that they have where none is given.
NAMES = {
    "Affine": "affine", "Elu": "elu", "HardSigmoid": "hard_sigmoid", "LeakyRelu": "leaky_relu",
    "Relu": "relu", "ScaledTanh": "scaled_tanh", "Sigmoid": "sigmoid", "Softplus": "softplus",
    "Softsign": "softsign", "Tanh": "tanh", "ThresholdedRelu": "thresholded_relu",
}  # fmt: skip
NUMBERS = {
    "affine": (1.0, 0.0), "elu": (1.0,), "hard_sigmoid": (0.2, 0.5), "leaky_relu": (0.01,),
    "scaled_tanh": (1.0, 1.0), "thresholded_relu": (1.0,),
}  # fmt: skip
PEEPHOLES = ("p_i", "p_o", "p_f")


def read_node(
    source: str, node: Any, settings: dict[str, Any], inputs: list[Any], batch_first: bool
) -> tuple[Recurrent, int]:
    """Return the layer of a node whose weights are numbers, and its number of directions.

    Raises
    ------
    ConversionError
        If shapes do not fit, or the engine has not its equations.
    """
    kind = node.op_type.lower()
    what = f"{source}: node {node.name or node.op_type!r}"
    inputs = [*inputs, *[None] * (8 - len(inputs))]
    for place, name in ((1, "W"), (2, "R"), (3, "B"), (7, "P")):
        if not (isinstance(inputs[place], np.ndarray) or (inputs[place] is None and place > 2)):
            raise ConversionError(f"{what}: expected {name} as numbers in the file")
    W, R, B, P = (inputs[place] for place in (1, 2, 3, 7))
    way = settings.get("direction", b"forward")
    count = 2 if way == b"bidirectional" else 1
    order = ORDERS["onnx"][kind]
    if W.ndim != 3 or R.ndim != 3 or len(W) != count or len(R) != count:
        raise ConversionError(
            f"{what}: expected W and R of {count} directions, got {W.shape} and {R.shape}"
        )
    size = R.shape[2]
    rows = len(order) * size
    if settings.get("hidden_size", size) != size or not W.shape[1] == R.shape[1] == rows:
        raise ConversionError(
            f"{what}: expected {len(order)} gates of hidden_size "
            f"{settings.get('hidden_size', size)}, got {W.shape} and {R.shape}"
        )
    if B is not None and B.shape != (count, 2 * rows):
        raise ConversionError(f"{what}: expected B of shape {(count, 2 * rows)}, got {B.shape}")
    initial = [inputs[place] for place in (5, 6) if inputs[place] is not None]
    if settings.get("layout", 0) == 1:
        initial = [one.swapaxes(0, 1) for one in initial]
    if not any(one.any() for one in initial):  # zeros for any number of sequences
        initial = []
    if any(one.shape != (count, 1, size) for one in initial):
        raise ConversionError(f"{what}: expected initial states of one sequence, or as inputs")
    if kind == "lstm" and len(initial) == 1:
        raise ConversionError(f"{what}: expected both initial_h and initial_c, got one")
    peepholes = P is not None and P.any()
    if peepholes and (kind != "lstm" or P.shape != (count, 3 * size)):
        raise ConversionError(f"{what}: expected P of shape {(count, 3 * size)}, got {P.shape}")
    directions = []
    for d in range(count):
        first, second = (None, None) if B is None else np.split(B[d], 2)
        weights, recurrent, first, second = (
            None if one is None else reordered(widened(what, one), order, kind)
            for one in (W[d], R[d], first, second)
        )
        assert weights is not None and recurrent is not None
        states = tuple(widened(what, one[d, 0]) for one in initial)
        own = dict(zip(PEEPHOLES, np.split(P[d], 3), strict=True)) if peepholes else {}
        directions.append(Direction(weights, recurrent, first, second, states, own))
    equations = _equations(kind, settings, count, way == b"reverse", bool(peepholes))
    return make_layer(what, equations, [directions], batch_first), count


def _equations(
    kind: str, settings: dict[str, Any], count: int, reverse: bool, peepholes: bool
) -> Equations:
    other = []
    if settings.get("input_forget"):
        other.append("input_forget = 1 (one gate for both)")
    functions = _activations(kind, settings, count)
    if any(one != functions[0] for one in functions):
        other.append("other activations in the second direction")
    return Equations(
        kind, functions[0], bool(settings.get("linear_before_reset", 0)) or kind != "gru", reverse,
        tuple(other), shortest(settings["clip"]) if settings.get("clip") else None, peepholes,
    )  # fmt: skip


def _activations(kind: str, settings: dict[str, Any], count: int) -> list[tuple[str, ...]]:
    usual = STANDARD.get(kind, ("tanh",))
    known = {name.lower(): ours for name, ours in NAMES.items()}
    names = [one.decode() for one in settings.get("activations", [])]
    names = [known.get(name.lower(), name) for name in names]
    if not names:
        return [usual]
    alphas, betas = (list(settings.get(f"activation_{one}", [])) for one in ("alpha", "beta"))
    found = []
    for name in names:
        numbers = list(NUMBERS.get(name, ()))
        for place, given in enumerate((alphas, betas)):
            if place < len(numbers) and given:  # ONNX deals them out to those that take some
                numbers[place] = shortest(given.pop(0))
        shown = f"({', '.join(map(repr, numbers))})" if numbers else ""
        found.append("identity" if name + shown == "affine(1.0, 0.0)" else name + shown)
    each = len(usual)
    return [tuple(found[k : k + each]) for k in range(0, each * count, each)]


def shortest(number: float) -> float:
    """Return the shortest decimal that is this float32 of ONNX: 0.2 of 0.200000003."""
    return float(str(np.float32(number)))
