"""Cells of your own, compiled into the engine: see `rnncore.cell`, and `rnncore.cells.library`."""

from rnncore.cells.definition import Cell, cell
from rnncore.cells.functions import (
    exp,
    hard_sigmoid,
    hard_tanh,
    log,
    log1p,
    relu,
    sigmoid,
    softplus,
    softsign,
    sqrt,
    tanh,
    where,
)
from rnncore.cells.reading import CellError

__all__ = [
    "Cell", "CellError", "cell", "exp", "hard_sigmoid", "hard_tanh", "log", "log1p", "relu",
    "sigmoid", "softplus", "softsign", "sqrt", "tanh", "where",
]  # fmt: skip
