"""Activations by choice, under the names that ONNX and Keras have for them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rnncore.arguments import is_number
from rnncore.cells.graph import Graph, Node, evaluate


class Kind(NamedTuple):
    """An activation: its numbers where none are given, and what it makes of a node and them."""

    numbers: tuple[float, ...]
    make: Callable[..., Node]


def _between(graph: Graph, a: Node, low: float, high: float) -> Node:
    return graph.greater(graph.less(a, graph.number(high)), graph.number(low))


def _line(graph: Graph, a: Node, alpha: float, beta: float) -> Node:
    return graph.add(graph.mul(a, graph.number(alpha)), graph.number(beta))


def _hard_sigmoid(graph: Graph, a: Node, alpha: float, beta: float) -> Node:
    return _between(graph, _line(graph, a, alpha, beta), 0, 1)


def _leaky(graph: Graph, a: Node, alpha: float) -> Node:
    below = graph.compare("<", a, graph.number(0))
    return graph.where(below, graph.mul(a, graph.number(alpha)), a)


def _elu(graph: Graph, a: Node, alpha: float) -> Node:
    # The smaller of a and 0, so that e^a stays finite where it is not taken.
    zero = graph.number(0)
    power = graph.function("exp", graph.less(a, zero))
    below = graph.mul(graph.sub(power, graph.number(1)), graph.number(alpha))
    return graph.where(graph.compare("<", a, zero), below, a)


def _thresholded(graph: Graph, a: Node, alpha: float) -> Node:
    above = graph.compare(">", a, graph.number(alpha))
    return graph.where(above, a, graph.number(0))


def _scaled_tanh(graph: Graph, a: Node, alpha: float, beta: float) -> Node:
    inside = graph.mul(a, graph.number(beta))
    return graph.mul(graph.function("tanh", inside), graph.number(alpha))


def _softplus(graph: Graph, a: Node) -> Node:
    # At zero the slopes of both parts add up to 1 / 2, where abs has 1 and so has this where.
    zero = graph.number(0)
    large = graph.where(graph.compare("<", a, zero), zero, a)
    small = graph.function("exp", graph.neg(graph.function("abs", a)))
    return graph.add(large, graph.function("log1p", small))


KINDS = {
    "tanh": Kind((), lambda graph, a: graph.function("tanh", a)),
    "sigmoid": Kind((), lambda graph, a: graph.function("sigmoid", a)),
    "relu": Kind((), lambda graph, a: graph.greater(a, graph.number(0))),
    "identity": Kind((), lambda graph, a: a),
    "affine": Kind((1.0, 0.0), _line),
    "leaky_relu": Kind((0.01,), _leaky),
    "thresholded_relu": Kind((1.0,), _thresholded),
    "elu": Kind((1.0,), _elu),
    "hard_sigmoid": Kind((1 / 6, 0.5), _hard_sigmoid),
    "hard_tanh": Kind((), lambda graph, a: _between(graph, a, -1, 1)),
    "scaled_tanh": Kind((1.0, 1.0), _scaled_tanh),
    "softplus": Kind((), _softplus),
    "softsign": Kind(
        (), lambda graph, a: graph.div(a, graph.add(graph.number(1), graph.function("abs", a)))
    ),
}


@dataclass(frozen=True)
class Activation:
    """A function of one number that a cell may call, `f(clip(a))`.

    Parameters
    ----------
    name
        One of `KINDS`.
    numbers
        Its alpha, and beta where it has one.
    clip
        Bound of its input, `-clip <= a <= clip`; None: there is none.
    """

    name: str
    numbers: tuple[float, ...]
    clip: float | None = None

    def make(self, graph: Graph, a: Node) -> Node:
        """Return what it makes of a node."""
        if self.clip is not None:
            a = _between(graph, a, -self.clip, self.clip)
        return KINDS[self.name].make(graph, a, *self.numbers)

    def __call__(self, a: Any) -> Any:
        """Return what it makes of numbers."""
        graph = Graph()
        node = self.make(graph, graph.input("a"))
        return evaluate([node], {"a": a})[id(node)]

    def __str__(self) -> str:
        """Return its name, with its numbers where they are not the usual ones."""
        if self.numbers == KINDS[self.name].numbers:
            return self.name
        return f"{self.name}({', '.join(map(repr, self.numbers))})"


def read_activation(argument: str, text: Any, clip: float | None = None) -> Activation:
    """Return the activation of a text, such as "tanh" or "leaky_relu(0.1)".

    Raises
    ------
    ValueError
        If it is none, naming the argument.
    """
    form = r"\s*([a-z_]+)\s*(?:\((.*)\))?\s*"
    found = re.fullmatch(form, text) if isinstance(text, str) else None
    kind = KINDS.get(found[1]) if found else None
    if found is None or kind is None:
        raise ValueError(
            f"{argument}: expected one of {', '.join(KINDS)}, with numbers behind it where it has "
            f'some, as in "leaky_relu(0.1)", got {text!r}'
        )
    numbers = kind.numbers if found[2] is None else _numbers(argument, text, found[2].split(","))
    if len(numbers) != len(kind.numbers):
        raise ValueError(
            f"{argument}: expected {len(kind.numbers)} numbers behind {found[1]}, got {text!r}"
        )
    return Activation(found[1], numbers, clip)


def _numbers(argument: str, text: str, parts: Sequence[str]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{argument}: expected finite numbers within the brackets, got {text!r}")
    return numbers


def check_clip(clip: Any) -> float | None:
    """Return the bound of what goes into activations, or None."""
    if clip is None:
        return None
    if not is_number(clip) or not 0 < clip < math.inf:
        raise ValueError(f"clip: expected a number above 0, or None, got {clip!r}")
    return float(clip)
