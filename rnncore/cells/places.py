"""Where the numbers of a cell stand between its forward and its backward step.

Forward finds `W_hx x + b` of each gate in the first places of `saved`, and leaves there what
backward needs; backward leaves gradients of the same places (src_cython/cells/cell.h).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rnncore.cells.graph import Graph, Node, in_order


class Places(NamedTuple):
    """What stands where.

    Attributes
    ----------
    x_gates, h_gates
        Gates, as the places of x and of h have them.
    names
        A letter a place, a space where it has none.
    saved
        What forward leaves, by place.
    gradients
        What backward leaves, by place.
    own
        The places of the gradients of own vectors.
    """

    x_gates: str
    h_gates: str
    names: str
    saved: dict[int, Node]
    gradients: dict[int, Node]
    own: list[int]

    @property
    def further(self) -> int:
        """Places that forward uses behind those that have names."""
        return max(0, 1 + max(self.saved, default=0) - len(self.names))


def assign_places(
    graph: Graph,
    gates: str,
    states: str,
    own: Sequence[str],
    recorded: Mapping[str, Node],
    gradients: Mapping[str, Node],
    at_hand: Iterable[Node],
    recurrent: bool,
    starts: Mapping[str, str],
) -> Places:
    """Say where everything stands.

    Parameters
    ----------
    gates, states, own
        The cell's letters, and the names of its vectors.
    recorded
        What each gate's letter stands for in a record.
    gradients
        Of "x.i", "h.i", "own.p", ..., "prev.h".
    at_hand
        What backward has without its being saved.
    recurrent
        Whether there is a W_hh.
    starts
        The gates whose W_hh h starts from a vector, by the vector's name.
    """
    zero = graph.number(0)

    def of(name: str) -> Node:
        return gradients.get(name, zero)

    apart = [gate for gate in gates if recurrent and of(f"x.{gate}") is not of(f"h.{gate}")]
    shared = [gate for gate in gates if gate not in apart]
    x_gates, h_gates = "".join([*apart, *shared]), "".join([*shared, *apart])
    count = len(gates) + len(apart)
    names = [" "] * count
    saved: dict[int, Node] = {}
    for place, gate in enumerate(x_gates):
        if gate in recorded:
            names[place], saved[place] = gate, recorded[gate]
    ends = [of(f"{part}.{gate}") for part in "xh" for gate in gates]
    handed = [name for name in own if name not in starts]
    ends += [of(f"own.{name}") for name in handed] + [of(f"prev.{state}") for state in states]
    for node in needed(ends, [*at_hand, *saved.values()]):
        place = next(place for place in range(len(saved) + 1) if place not in saved)
        for k, gate in enumerate(x_gates):
            # W_hx x + b of a gate stays where it is, if nothing is recorded there.
            if node.op == "input" and node.data == f"x.{gate}" and k not in saved:
                place = k
        saved[place] = node
    left = {place: of(f"x.{gate}") for place, gate in enumerate(x_gates)}
    if recurrent:
        left |= {len(apart) + k: of(f"h.{gate}") for k, gate in enumerate(h_gates)}
    left |= {count + k: of(f"own.{name}") for k, name in enumerate(handed)}
    own_places = [
        len(apart) + h_gates.index(starts[name]) if name in starts else count + handed.index(name)
        for name in own
    ]
    return Places(x_gates, h_gates, "".join(names), saved, left, own_places)


def needed(
    ends: Iterable[Node], at_hand: Iterable[Node], later: Iterable[Node] = ()
) -> list[Node]:
    """Return what has to be saved so that `ends` can be computed from it and from what is at hand.

    Who saves it knows neither gradients nor what comes `later`. Gates cannot be had later. What is
    made of them is saved as late as it is made, an activation rather than what went into it; what
    follows from something else that is saved is not.
    """
    ends = list(ends)
    order = in_order(ends)
    stop, unknown = set(map(id, at_hand)), set(map(id, later))
    can: dict[int, bool] = {}  # be computed in backward
    forward: dict[int, bool] = {}  # be computed in forward, which knows no gradient
    for node in order:
        part = node.data[:2] if node.op == "input" else ""
        can[id(node)] = id(node) in stop or (
            part not in ("x.", "h.") and all(can[id(arg)] for arg in node.args)
        )
        forward[id(node)] = (
            part != "d." and id(node) not in unknown and all(forward[id(arg)] for arg in node.args)
        )
    wanted: set[int] = set()
    seen: set[int] = set()
    waiting = [node for node in reversed(order) if node in set(ends)]
    while waiting:
        node = waiting.pop()
        if id(node) in seen or can[id(node)]:
            continue
        seen.add(id(node))
        lost = {id(arg) for arg in node.args if not can[id(arg)]}
        # 1 - i follows from i, which is wanted anyway
        cheap = node.op in ("+", "-", "*", "/", "neg") and len(lost) == 1
        if forward[id(node)] and not node.is_condition and not cheap:
            wanted.add(id(node))
        else:
            waiting.extend(node.args)
    found = []
    for node in order:  # again, with what is saved at hand
        if node.args and all(can[id(arg)] for arg in node.args):
            can[id(node)] = True
        if id(node) in wanted and not can[id(node)]:
            found.append(node)
            can[id(node)] = True
    return found
