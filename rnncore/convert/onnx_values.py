"""What a value of an ONNX graph is known as while the graph is read.

Numbers, the data on its way (`Data`), what recurrent nodes remember at the end (`States`), an input
beside the data, or something that only says a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncore.convert.errors import ConversionError
from rnncore.convert.plan import Part

#: Nodes that leave their input as it is.
NOTHING = ("Identity", "Dropout", "Cast")


@dataclass(frozen=True)
class Data:
    """The input of the graph after some parts.

    `axes` has a letter an axis: "0" and "1" are the steps and sequences in the order of the input,
    "F" the features, "D" the directions, "S" an axis of one step, "N" all that are in `rows`.
    `first` features alone are left where it is not 0, to be added to something. Of two directions
    one is left where `way` says which, and one step of it where `step` does.
    """

    parts: tuple[Part, ...]
    axes: str
    ids: bool = False
    directions: int = 1
    first: int = 0
    rows: str = ""
    way: int | None = None
    step: int | None = None


@dataclass(frozen=True)
class States:
    """Last states of recurrent nodes, one direction each: the parts up to the node, and which."""

    each: tuple[tuple[tuple[Part, ...], int], ...]
    directions: int
    axes: str  # "D" or not, "B", "F"
    cell: bool = False


class Shape:
    """A value that only says a shape, which the model finds by itself."""


class Zero:
    """Zeros of any shape."""


@dataclass(frozen=True)
class Given:
    """An input of the graph beside the data."""

    name: str


def numbers(
    kind: str,
    settings: dict[str, Any],
    known: list[np.ndarray],
    axes: list[int] | None,
    refuse: Callable[[str], Any],
) -> Any:
    """Return what a node makes of numbers; of those that bring weights into shape alone."""
    first = known[0]
    if kind in NOTHING:
        return first
    if kind == "Transpose":
        return first.transpose(settings.get("perm"))
    if kind == "Squeeze":
        return first.squeeze(tuple(axes) if axes is not None else None)
    if kind == "Unsqueeze":
        return np.expand_dims(first, tuple(axes or ()))
    if kind == "Concat":
        return np.concatenate(known, settings["axis"])
    return refuse("computes with weights")


def width(parts: tuple[Part, ...]) -> int:
    """Return the features that the last layer with weights puts out."""
    for part in reversed(parts):
        for name in ("output_size", "out_features"):
            if hasattr(part, name):
                return int(getattr(part, name))
    raise ConversionError("skip: expected a layer with weights between its ends, got none")


def is_whole(states: States) -> bool:
    """Whether it is h of all directions of one layer, in their order."""
    parts = {id(parts[-1]) for parts, _ in states.each}
    order = [d for _, d in states.each] == list(range(states.directions))
    return len(parts) == 1 and order and not states.cell


def state_inputs(graph: Any) -> set[str]:
    """Return the inputs that reach nothing but lengths and states of recurrent nodes."""
    found: set[str] = set()
    rest: set[str] = set()
    for node in reversed(graph.node):
        recurrent = node.op_type in ("RNN", "LSTM", "GRU")
        onward = all(name in found and name not in rest for name in node.output if name)
        for place, name in enumerate(node.input):
            state = place in (4, 5, 6) if recurrent else onward
            (found if state else rest).add(name)
    return found - rest
