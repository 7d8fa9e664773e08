"""Steps of two phases: where their numbers stand, and their four functions.

The first phase makes a number of each unit, s, of some gates; the second gates multiply s of all
units in place of h, and the states are made of them (src_cython/cells/cell.h). What the second
phase needs of the first one's gates the first one saves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rnncore.cells.graph import Graph, Node, in_order
from rnncore.cells.places import needed

if TYPE_CHECKING:
    from rnncore.cells.compiled import Vectors


class Phases(NamedTuple):
    """What stands where, and what is computed of it.

    Attributes
    ----------
    gates
        In the order of their places, those of the second phase last.
    second
        How many of them these are.
    names
        A letter a place, a space where it has none.
    states, between
        What the second phase makes, and s, which the first one does.
    saved
        What the phases leave, the first and the second, by place.
    gradients
        What they leave going back, by place.
    before
        The gradient of h before the step, as far as each phase has it.
    """

    gates: str
    second: int
    names: str
    states: dict[str, Node]
    between: Node
    saved: tuple[dict[int, Node], dict[int, Node]]
    gradients: tuple[dict[int, Node], dict[int, Node]]
    before: tuple[Node, Node]

    @property
    def further(self) -> int:
        """Places that forward uses behind those that have names."""
        used = [*self.saved[0], *self.saved[1]]
        return max(0, 1 + max(used, default=0) - len(self.names))

    def gates_of_h(self, phase: int) -> str:
        """Return the gates of one product."""
        count = len(self.gates) - self.second
        return self.gates[count:] if phase else self.gates[:count]


def assign_phases(
    graph: Graph,
    gates: str,
    second: str,
    states: dict[str, Node],
    between: Node,
    recorded: Mapping[str, Node],
    gradients: tuple[Mapping[str, Node], Mapping[str, Node]],
) -> Phases:
    """Say where everything stands.

    Parameters
    ----------
    gates, second
        The cell's letters, and those that multiply s.
    states, between
        The states, of which h is the only one, and s.
    recorded
        What each gate's letter stands for in a record.
    gradients
        Of "x.i", "h.i", ..., "prev.h": what comes of dL/ds, and what of dL/dh.

    Raises
    ------
    ValueError
        If a gate is read by both phases, or its parts `x.i` and `h.i` differently.
    """
    first = "".join(gate for gate in gates if gate not in second)
    order, zero = first + second, graph.number(0)
    for gate in gates:
        parts = [tuple(some.get(f"{part}.{gate}") for part in "xh") for some in gradients]
        read = [k for k, pair in enumerate(parts) if pair != (None, None)]
        apart = any(x is not h for x, h in parts)
        if apart or len(read) != 1 or (gate in second and read != [1]):
            raise ValueError(f"gate {gate}: expected one phase that reads it, as z.{gate} alone")
    prev = [graph.input(f"prev.{state}") for state in states]
    inputs = [graph.input(f"{part}.{gate}") for gate in second for part in "xh"]
    place_of = {gate: place for place, gate in enumerate(order)}
    left = [
        {place_of[gate]: some[f"x.{gate}"] for gate in order if f"x.{gate}" in some}
        for some in gradients
    ]
    before = gradients[0].get("prev.h", zero), gradients[1].get("prev.h", zero)
    saved: tuple[dict[int, Node], dict[int, Node]] = {}, {}
    names = [" "] * len(order)
    for gate, node in recorded.items():
        names[place_of[gate]], saved[gate in second][place_of[gate]] = gate, node

    def save(phase: int, node: Node, kept: Collection[int]) -> None:
        # In a place that is free, and none of `kept`.
        if any(one is node and place not in kept for place, one in saved[phase].items()):
            return
        taken = {*saved[0], *saved[1], *kept}
        others = range(len(first), len(order))  # x of the second gates, until that phase
        taken |= set(others) if phase == 0 else set()
        saved[phase][next(place for place in range(99) if place not in taken)] = node

    # What first_backward needs must not stand where backward, which runs before, leaves gradients.
    for node in needed([*left[0].values(), before[0]], prev):
        save(0, node, left[1])
    going_back = [*left[1].values(), before[1]]
    at_hand = [*prev, *inputs, *saved[0].values()]
    for node in needed([*states.values(), *going_back], at_hand, inputs):
        save(0, node, ())
    at_hand = [*prev, *states.values(), *saved[0].values(), *saved[1].values()]
    for node in needed(going_back, at_hand):
        save(1, node, ())
    return Phases(
        order, len(second), "".join(names), states, between, saved, (left[0], left[1]), before
    )


class _View(NamedTuple):
    # The gates that one function sees, as `Step.load_input` asks for them.
    x_gates: str
    h_gates: str


def write_phases(vectors: Vectors, module: Any, phases: Phases) -> None:
    """Write forward and backward of both phases."""
    first, second = phases.saved
    h = phases.states["h"]
    _write(vectors, module, "first_forward", phases, 0, {}, first, h=phases.between)
    _write(vectors, module, "forward", phases, 1, first, second, h=h)
    both = {**first, **second}
    _write(vectors, module, "backward", phases, 1, both, phases.gradients[1], dh=phases.before[1])
    # The gradients that `backward` has left stand where nothing of this is read.
    kept = {place: node for place, node in both.items() if place not in phases.gradients[1]}
    _write(vectors, module, "first_backward", phases, 0, kept, phases.gradients[0],
           dh=phases.before[0])  # fmt: skip


def _write(
    vectors: Vectors,
    module: Any,
    name: str,
    phases: Phases,
    phase: int,
    known: Mapping[int, Node],
    left: Mapping[int, Node],
    **out: Node,
) -> None:
    # A function that leaves numbers in places and one in a field, of what stands in places before.
    from rnncore.cells.compiled import Step

    step = Step(vectors, module, name, phases.states)
    view: Any = _View(phases.gates, phases.gates_of_h(phase))
    [(field, result)] = out.items()

    def body() -> None:
        ends = [*left.values(), result]
        at_hand = list(known.values())
        if name == "backward":
            at_hand += phases.states.values()
        there = {id(node) for node in in_order(ends, at_hand)}
        values = {}
        for place, node in known.items():
            if id(node) in there:
                values[id(node)] = step.load("saved", "saved_stride", place)
        if name == "backward" and id(phases.states["h"]) in there:
            values.setdefault(id(phases.states["h"]), step.load("h", "state_stride"))
        for node in in_order(ends, at_hand):
            if node.op != "input" or id(node) in values:
                continue
            if node.data == "d.s":
                values[id(node)] = step.load("dy", "dy_stride")
            else:
                values[id(node)] = step.load_input(node.data, view, ())
        vectors.compute(ends, values)
        for place, node in left.items():
            if not (node.op == "input" and node.data == f"x.{phases.gates[place : place + 1]}"):
                step.store(values[id(node)], "saved", "saved_stride", place)
        total = values[id(result)]
        if name == "first_backward":
            total = vectors.add(total, step.load("dh", "state_stride"))
        step.store(total, field, "state_stride")

    step.loops(body)
