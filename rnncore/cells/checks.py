"""A cell's function and its gradients, tried out on ordinary numbers when it is defined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rnncore.cells.graph import Node, evaluate, in_order

if TYPE_CHECKING:
    from rnncore.cells.reading import Reading

STEP = 1e-6  # of a central difference
TOLERANCE = 1e-6  # beside numbers around 1; rounding is 1e-10, the next order of the step 1e-12


def check_values(
    name: str, reading: Reading, states: Mapping[str, Node], inputs: Mapping[str, np.ndarray]
) -> None:
    """Refuse a cell that is not finite, naming the line where that begins."""
    from rnncore.cells.reading import CellError

    ends = list(states.values())
    values = evaluate(ends, inputs)
    if all(np.isfinite(values[id(node)]).all() for node in ends):
        return
    for node in in_order(ends):
        value = np.broadcast_to(values[id(node)], 64)
        wrong = ~np.isfinite(value)
        if wrong.any():
            raise CellError(
                f"{reading.where(node.line)}: {name} is {value[wrong][0]} here at ordinary inputs; "
                "keep what goes into log, sqrt, exp and / in their range"
            )


def check_gradients(
    name: str,
    states: Mapping[str, Node],
    gradients: Mapping[str, Node],
    wanted: Sequence[str],
    inputs: Mapping[str, np.ndarray],
    by_hand: bool,
) -> None:
    """Refuse gradients that are not those of finite differences: which one, and by how much."""
    from rnncore.cells.reading import CellError

    def change(moved: Mapping[str, np.ndarray]) -> np.ndarray:
        values = evaluate(states.values(), moved)
        return sum((inputs[f"d.{state}"] * values[id(node)] for state, node in states.items()),
                   np.zeros(64))  # fmt: skip

    for one in wanted:
        up, down = ({**inputs, one: inputs[one] + sign * STEP} for sign in (1, -1))
        right = (change(up) - change(down)) / (2 * STEP)
        found = np.zeros(64)
        if one in gradients:
            node = gradients[one]
            found = np.broadcast_to(evaluate([node], inputs)[id(node)], 64)
        wrong = ~(np.abs(found - right) <= TOLERANCE * (1 + np.abs(right)))
        if wrong.any():
            at = int(np.argmax(np.where(wrong, np.abs(found - right), -1)))
            which = "its backward" if by_hand else "the derived backward"
            raise CellError(
                f"{name}: {which}: the gradient of {one} is {found[at]:.6g} where finite "
                f"differences say {right[at]:.6g}"
                + (
                    ""
                    if by_hand
                    else "; sqrt, log and / need a slope in the branch that is not taken as well"
                )
            )
