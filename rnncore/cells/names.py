"""Cells by their names, for models and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnncore.cells.definition import Cell

#: What names in models stand for already.
BUILT_IN = (
    "lstm", "gru", "rnn", "rnn_tanh", "rnn_relu", "rnn_sigmoid", "rnn_identity", "gru_reset_before",
)  # fmt: skip

#: What rnncore.cells.library has.
LIBRARY = (
    "peephole_lstm", "coupled_lstm", "hard_lstm", "s_lstm", "minimal_gated", "ind_rnn", "leaky_rnn",
    "min_gru", "min_lstm", "rg_lru",
)  # fmt: skip

_known: dict[str, Cell] = {}


def remember(cell: Cell) -> None:
    """Have a cell found by its name; a later one of the same name takes its place."""
    from rnncore.cells.reading import CellError

    if cell.name in BUILT_IN:
        raise CellError(
            f"{cell.name}: this is the engine's own cell; give the function another name"
        )
    _known[cell.name] = cell


def is_known(name: str) -> bool:
    """Whether there is a cell of this name so far."""
    return name in _known


def find(name: str) -> Cell:
    """Return the cell of this name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not is_known(name):
        raise ValueError(
            f"cell: no cell is called {name!r}; expected {', '.join(BUILT_IN[:3])}, "
            f"{', '.join(sorted(_known))}, or one that @rnncore.cell has made before: import the "
            "module that defines it first"
        )
    return _known[name]
