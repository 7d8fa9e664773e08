"""The functions that a cell may call. They take numbers, so that a cell can be tried by hand."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnncore.cells.activations import KINDS, Activation
from rnncore.cells.graph import Graph, Node


def sigmoid(a: Any) -> Any:
    """Return 1 / (1 + e^-a)."""
    return 0.5 * (1 + np.tanh(0.5 * a))


def tanh(a: Any) -> Any:
    """Return the hyperbolic tangent."""
    return np.tanh(a)


def exp(a: Any) -> Any:
    """Return e^a."""
    return np.exp(a)


def log(a: Any) -> Any:
    """Return the natural logarithm."""
    return np.log(a)


def log1p(a: Any) -> Any:
    """Return log(1 + a), exact for small a."""
    return np.log1p(a)


def sqrt(a: Any) -> Any:
    """Return the square root."""
    return np.sqrt(a)


def softplus(a: Any) -> Any:
    """Return log(1 + e^a)."""
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


def softsign(a: Any) -> Any:
    """Return a / (1 + |a|)."""
    return a / (1 + np.abs(a))


def relu(a: Any) -> Any:
    """Return a where it is above zero, else zero."""
    return np.maximum(a, 0)


def hard_sigmoid(a: Any) -> Any:
    """Return a / 6 + 1 / 2 between 0 and 1."""
    return np.clip(a / 6 + 0.5, 0, 1)


def hard_tanh(a: Any) -> Any:
    """Return a between -1 and 1."""
    return np.clip(a, -1, 1)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition holds, else `no`."""
    return np.where(condition, yes, no)


class Function(NamedTuple):
    """How many numbers a function takes, and what it is in a graph."""

    arity: int
    make: Callable[..., Node]


def _plain(name: str) -> Function:
    return Function(1, lambda graph, a: graph.function(name, a))


def _activation(name: str) -> Function:
    return Function(1, Activation(name, KINDS[name].numbers).make)


FUNCTIONS: dict[str, Function] = {
    **{name: _plain(name) for name in ("sigmoid", "tanh", "exp", "log", "log1p", "sqrt", "abs")},
    **{name: _activation(name)
       for name in ("softplus", "softsign", "relu", "hard_sigmoid", "hard_tanh")},
    "min": Function(2, Graph.less),
    "max": Function(2, Graph.greater),
    "where": Function(3, Graph.where),
}

# The same functions under the names of Python, of math and of NumPy.
_SAME: list[tuple[Any, str]] = [
    *((globals()[name], name) for name in FUNCTIONS if name in globals()),
    *((getattr(module, name), name) for module in (math, np)
      for name in ("tanh", "exp", "log", "log1p", "sqrt")),
    (builtins.abs, "abs"), (math.fabs, "abs"), (np.abs, "abs"), (np.fabs, "abs"),
    (builtins.min, "min"), (builtins.max, "max"), (np.minimum, "min"), (np.maximum, "max"),
    (np.where, "where"),
]  # fmt: skip


def known(function: Any) -> Function | None:
    """Return what this is in a graph: one of the functions, or an activation; None: neither."""
    if isinstance(function, Activation):
        return Function(1, function.make)
    return next((FUNCTIONS[name] for same, name in _SAME if same is function), None)
