"""What a state dict says beside weights, and what names that do not fit tell.

A GRU with its reset gate before the product has parameters of the same names and shapes as one with
it after. So its state has one number more, the mark `reset_after`, which is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RESET_AFTER = "reset_after"

_TWO_GRUS = (
    "a GRU with reset_after=False has its reset gate before the product with W_hh, PyTorch's has "
    "it after: the same weights compute something else"
)


def is_mark(name: str) -> bool:
    """Whether a name of a state dict, with the names of parts before it, is that of a mark."""
    return name.split(".")[-1] == RESET_AFTER


def check_mark(name: str, value: Any) -> bool:
    """Whether a name is that of a mark; ValueError where it is and the value is not 0."""
    if is_mark(name) and value:
        raise ValueError(
            f"state: {name}: expected 0, as this layer was made with reset_after=False, got {value}"
            f"; {_TWO_GRUS}; make the layer with reset_after=True"
        )
    return is_mark(name)


def explain_names(missing: Sequence[str], unexpected: Sequence[str]) -> list[str]:
    """Return what names that are missing or unexpected say about the layer they come from."""
    said = []
    if any("weight_hr" in name for name in unexpected):
        said.append(
            "weight_hr belongs to an LSTM with a projection (proj_size), which this layer has not"
        )
    if any(is_mark(name) for name in unexpected):
        said.append(f"{_TWO_GRUS}; make the layer with reset_after=False")
    if any(is_mark(name) for name in missing):
        said.append(
            f"{_TWO_GRUS}; if these weights are of a GRU with reset_after=False, say so by "
            f'"{RESET_AFTER}": 0 beside them'
        )
    return said
