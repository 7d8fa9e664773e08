"""Activations by choice in C, as small functions of the layer that calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: What each is of x, its alpha {0} and beta {1}.
BODIES = {
    "tanh": "return tanh_of(x);",
    "sigmoid": "return sigmoid_of(x);",
    "relu": "return relu_of(x);",
    "identity": "return x;",
    "affine": "return MULTIPLY_ADD({0}, x, {1});",
    "leaky_relu": "return x < 0.0f ? {0} * x : x;",
    "thresholded_relu": "return x > {0} ? x : 0.0f;",
    "elu": "return x < 0.0f ? {0} * (exp_of(x) - 1.0f) : x;",
    "hard_sigmoid": (
        "const float line = MULTIPLY_ADD({0}, x, {1});\n"
        "    return line < 0.0f ? 0.0f : line > 1.0f ? 1.0f : line;"
    ),
    "hard_tanh": "return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;",
    "scaled_tanh": "return {0} * tanh_of({1} * x);",
    "softsign": "return x / (1.0f + (x < 0.0f ? -x : x));",
}  # fmt: skip
CLIP = "    x = x < -{0} ? -{0} : x > {0} ? {0} : x;\n"


def function_of(name: str, activation: Any) -> str:
    """Return the C function of an activation (`rnncore.cells.activations`) under this name.

    Raises
    ------
    ValueError
        If there is no C for it.
    """
    if activation.name not in BODIES:
        raise ValueError(
            f"model: expected activations of {', '.join(BODIES)}, got {activation.name}, which has "
            "no C yet; see rnncore/export/activations.py"
        )
    clip = "" if activation.clip is None else CLIP.format(_number(activation.clip))
    body = BODIES[activation.name].format(*map(_number, activation.numbers))
    return f"static inline float {name}(float x)\n{{\n{clip}    {body}\n}}\n\n"


def functions_of(name: str, activations: Sequence[Any]) -> tuple[str, list[str]]:
    """Return the functions of the activations of a layer, and what they are called."""
    code, names = "", list[str]()
    for k, one in enumerate(activations):
        same = next((n for n, other in zip(names, activations, strict=False) if other == one), None)
        names.append(same or f"{name}_f{k}")
        code += "" if same else function_of(names[-1], one)
    return code, names


def _number(value: float) -> str:
    return f"{np.float32(value)!s}f"
