"""A function of one unit as a graph: numbers in, operations, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


class Node:
    """A number of one unit: what `op` makes of other nodes, a constant, or an input by its name."""

    __slots__ = ("args", "data", "line", "op")

    def __init__(self, op: str, args: tuple[Node, ...], data: Any, line: int) -> None:
        self.op, self.args, self.data, self.line = op, args, data, line

    @property
    def is_condition(self) -> bool:
        """Whether it is true or false rather than a number."""
        return self.op in (*COMPARISONS, "and", "or", "not")

    def is_number(self, value: float | None = None) -> bool:
        """Whether it is a constant, or this one."""
        return self.op == "number" and (value is None or self.data == value)


class Graph:
    """Nodes, each of them once: two that are computed alike are one.

    Its methods make nodes; `line` is the line of the user's function that new ones belong to.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Node] = {}
        self.line = 0

    def _node(self, op: str, *args: Node, data: Any = None) -> Node:
        key = op, tuple(map(id, args)), repr(data)
        if key not in self._known:
            self._known[key] = Node(op, args, data, self.line)
        return self._known[key]

    def number(self, value: float) -> Node:
        """Return a constant."""
        return self._node("number", data=float(value))

    def input(self, name: str) -> Node:
        """Return what comes from outside under this name, such as "x.i" or "prev.c"."""
        return self._node("input", data=name)

    def add(self, a: Node, b: Node) -> Node:
        """Return a + b."""
        if a.is_number() and b.is_number():
            return self.number(a.data + b.data)
        if a.is_number(0):
            return b
        if b.is_number(0):
            return a
        if b.op == "neg":
            return self.sub(a, b.args[0])
        return self._node("+", a, b)

    def sub(self, a: Node, b: Node) -> Node:
        """Return a - b."""
        if a.is_number() and b.is_number():
            return self.number(a.data - b.data)
        if b.is_number(0):
            return a
        if a.is_number(0):
            return self.neg(b)
        if b.op == "neg":
            return self.add(a, b.args[0])
        return self._node("-", a, b)

    def mul(self, a: Node, b: Node) -> Node:
        """Return a b; a factor of zero makes it zero, whatever the other is."""
        if a.is_number() and b.is_number():
            return self.number(a.data * b.data)
        if a.is_number():
            a, b = b, a
        if b.is_number(0):
            return b
        if b.is_number(1):
            return a
        if b.is_number(-1):
            return self.neg(a)
        if a.op == "neg":
            return self.neg(self.mul(a.args[0], b))
        if b.op == "neg":
            return self.neg(self.mul(a, b.args[0]))
        return self._node("*", a, b)

    def div(self, a: Node, b: Node) -> Node:
        """Return a / b."""
        if b.is_number(1) or a.is_number(0):
            return a
        if a.is_number() and b.is_number() and b.data:
            return self.number(a.data / b.data)
        return self._node("/", a, b)

    def neg(self, a: Node) -> Node:
        """Return -a."""
        if a.is_number():
            return self.number(-a.data)
        return a.args[0] if a.op == "neg" else self._node("neg", a)

    def power(self, a: Node, exponent: int) -> Node:
        """Return a multiplied with itself, 1 / that below zero."""
        if exponent < 0:
            return self.div(self.number(1), self.power(a, -exponent))
        result, square = self.number(1), a
        while exponent:
            if exponent & 1:
                result = self.mul(result, square)
            square, exponent = self.mul(square, square), exponent >> 1
        return result

    def function(self, name: str, a: Node) -> Node:
        """Return one of `FUNCTIONS` of a."""
        if a.is_number():
            return self.number(float(FUNCTIONS[name](a.data)))
        return self._node(name, a)

    def compare(self, op: str, a: Node, b: Node) -> Node:
        """Return a condition."""
        return self._node(op, a, b)

    def logic(self, op: str, *conditions: Node) -> Node:
        """Return "and" or "or" of two conditions, or "not" of one."""
        return self._node(op, *conditions)

    def where(self, condition: Node, yes: Node, no: Node) -> Node:
        """Return one of two numbers."""
        return yes if yes is no else self._node("where", condition, yes, no)

    def less(self, a: Node, b: Node) -> Node:
        """Return the smaller of two numbers; a NaN stays where it is the first.

        Where they are equal the gradient is a constant's: there is none at the ends of hard_tanh.
        """
        if a.is_number():
            a, b = b, a
        return self.where(self.compare(">=", a, b), b, a)

    def greater(self, a: Node, b: Node) -> Node:
        """Return the larger of two numbers, likewise; so relu has no gradient at zero."""
        if a.is_number():
            a, b = b, a
        return self.where(self.compare("<=", a, b), b, a)


def _sigmoid(a: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(a, float)))


#: Functions of one number, in NumPy; the compiler has each of them as vector code.
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs, "exp": np.exp, "log": np.log, "log1p": np.log1p, "sigmoid": _sigmoid,
    "sqrt": np.sqrt, "tanh": np.tanh,
}  # fmt: skip

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "neg": np.negative,
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
    "!=": np.not_equal, "and": np.logical_and, "or": np.logical_or, "not": np.logical_not,
    "where": np.where, **FUNCTIONS,
}  # fmt: skip


def in_order(ends: Iterable[Node], known: Iterable[Node] = ()) -> list[Node]:
    """Return all that it takes to compute some nodes, each after what it is made of.

    Known nodes are not taken apart.
    """
    seen, order, stop = set(), [], set(map(id, known))
    waiting = [(node, False) for node in reversed(list(ends))]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            if id(node) not in stop:
                waiting.extend((arg, False) for arg in reversed(node.args))
    return order


def evaluate(ends: Iterable[Node], inputs: Mapping[str, Any]) -> dict[int, np.ndarray]:
    """Return the values, by id, of some nodes and of all that it takes, in NumPy."""
    values: dict[int, Any] = {}
    with np.errstate(all="ignore"):
        for node in in_order(ends):
            if node.op == "number":
                values[id(node)] = np.float64(node.data)
            elif node.op == "input":
                values[id(node)] = inputs[node.data]
            else:
                args = (values[id(arg)] for arg in node.args)
                values[id(node)] = _OPERATIONS[node.op](*args)
    return values


def spelled(ends: Mapping[str, Node]) -> str:
    """Return what is computed, as text that is the same wherever it is written alike."""
    order = in_order(ends.values())
    place = {id(node): k for k, node in enumerate(order)}
    lines = [
        f"{k} {node.op} {[place[id(arg)] for arg in node.args]} {node.data!r}"
        for k, node in enumerate(order)
    ]
    return "\n".join([*lines, *(f"{name} {place[id(node)]}" for name, node in ends.items())])


def derive(graph: Graph, ends: Iterable[tuple[Node, Node]]) -> dict[str, Node]:
    """Return the gradient of each input, by reverse mode.

    Parameters
    ----------
    graph
        Where the nodes of the gradients are made.
    ends
        Nodes, each with the gradient that arrives there.
    """
    arrived: dict[int, Node] = {}

    def give(node: Node, gradient: Node) -> None:
        before = arrived.get(id(node))
        arrived[id(node)] = gradient if before is None else graph.add(before, gradient)

    ends = list(ends)
    for node, gradient in ends:
        give(node, gradient)
    inputs = {}
    for node in reversed(in_order(node for node, _ in ends)):
        if node.is_condition or id(node) not in arrived:
            continue
        gradient = arrived[id(node)]
        graph.line = node.line
        if node.op == "input":
            inputs[node.data] = gradient
        for arg, part in _parts(graph, node, gradient):
            give(arg, part)
    return inputs


def _parts(graph: Graph, node: Node, d: Node) -> list[tuple[Node, Node]]:
    # What a node hands on of its gradient d. `y` is the node itself.
    g, one, y, args = graph, graph.number(1), node, node.args
    if node.op == "+":
        return [(args[0], d), (args[1], d)]
    if node.op == "-":
        return [(args[0], d), (args[1], g.neg(d))]
    if node.op == "*":
        return [(args[0], g.mul(d, args[1])), (args[1], g.mul(d, args[0]))]
    if node.op == "/":
        part = g.div(d, args[1])
        return [(args[0], part), (args[1], g.neg(g.mul(part, y)))]
    if node.op == "neg":
        return [(args[0], g.neg(d))]
    if node.op == "where":
        zero = g.number(0)
        return [(args[1], g.where(args[0], d, zero)), (args[2], g.where(args[0], zero, d))]
    if node.op not in FUNCTIONS:
        return []
    a = args[0]
    slope = {
        "abs": lambda: g.where(g.compare("<", a, g.number(0)), g.number(-1), one),
        "exp": lambda: y,
        "log": lambda: g.div(one, a),
        "log1p": lambda: g.div(one, g.add(one, a)),
        "sigmoid": lambda: g.mul(y, g.sub(one, y)),
        "sqrt": lambda: g.div(g.number(0.5), y),
        "tanh": lambda: g.sub(one, g.mul(y, y)),
    }[node.op]()
    return [(a, g.mul(d, slope))]
