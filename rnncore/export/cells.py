"""Recurrent cells in C: a line in `CELLS` and a template each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnncore.export.activations import functions_of
from rnncore.export.parts import Field, Part
from rnncore.export.templates import fill
from rnncore.export.weights import Weights, padded

Array = NDArray[Any]


@dataclass
class Layer:
    """One recurrent layer: arrays as the engine has them, which rounding writes to.

    Parameters
    ----------
    cell
        One of `CELLS`.
    W_hx, W_hh
        (G H, I) and (G H, H).
    bias
        (G H,) or None.
    own
        (H,) each or None: what the cell has of its own, such as a GRU's bias_hn.
    one_hot
        Whether the input is a token.
    zoneout
        How much of h and of c stays, in the mean.
    begin
        Initial states (H,) by their letters; none: zeros.
    """

    cell: str
    W_hx: Array
    W_hh: Array
    bias: Array | None
    own: tuple[Array | None, ...] = ()
    one_hot: bool = False
    zoneout: tuple[float, ...] = (0.0, 0.0)
    begin: dict[str, Array] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """H."""
        return self.W_hh.shape[1]

    @property
    def rows(self) -> int:
        """Gates times units."""
        return len(self.W_hh)

    def initial(self, letter: str) -> Array:
        """Return what a state begins with."""
        return self.begin.get(letter, np.zeros(self.units, np.float32))


class Products(NamedTuple):
    """What the gates are made of: C, the field that h stands in, numbers on the stack.

    `second` is C for the gates that wait for others.
    """

    code: str
    field: Field
    locals: int
    second: str = ""


def joined(name: str, layer: Layer, weights: Weights) -> Products:
    """Return z = W [x h] + b, one product; of a token z = (W_hx's column + b) + W_hh h."""
    rows, inputs = padded(layer.rows), layer.W_hx.shape[1]
    if layer.one_hot:
        table = weights.table(name, layer.W_hx.T)
        matrix = weights.matrix(name, [layer.W_hh], layer.bias)
        code = [f"    float start[{rows}];", table.row("start", rows, f"{name}_b[j] + ")]
        code.append(matrix.product("z", "in", "start"))
        inputs = 0
    else:
        matrix = weights.matrix(name, [layer.W_hx, layer.W_hh], layer.bias)
        code = [f"    for (int k = 0; k < {inputs}; k++)", "        in[k] = x[k];"]
        code.append(matrix.product("z", "in"))
    begin = np.concatenate([np.zeros(inputs, np.float32), layer.initial("h")])
    comment = "x and h, which it reads as one" if inputs else "h"
    kept = Field.of(f"{name}_in", begin, comment, weights)
    return Products("\n".join(code), kept, rows * (2 if layer.one_hot else 1))


def apart(name: str, layer: Layer, weights: Weights) -> Products:
    """Return a = W_hx x + b_h and b = W_hh h + b_own, where the last gate's b_own is bias_hn."""
    inner = np.zeros(layer.rows, np.float32)
    if layer.own and layer.own[0] is not None:
        inner[-layer.units :] = layer.own[0]
    code = _of_input(name, layer, weights)
    code += "\n" + weights.matrix(f"{name}_h", [layer.W_hh], inner).product("b", "h")
    kept = Field.of(f"{name}_h", layer.initial("h"), "h", weights)
    return Products(code, kept, 2 * padded(layer.rows))


def in_turn(name: str, layer: Layer, weights: Weights) -> Products:
    """Return a = W_hx x + b_h and b = W_hh h of all gates but the last, and then its c = W_hh s."""
    H = layer.units
    first, last = layer.W_hh[:-H], layer.W_hh[-H:]
    code = _of_input(name, layer, weights)
    code += "\n" + weights.matrix(f"{name}_h", [first], None).product("b", "h")
    kept = Field.of(f"{name}_h", layer.initial("h"), "h", weights)
    second = weights.matrix(f"{name}_n", [last], None).product("c", "s")
    numbers = padded(layer.rows) + padded(len(first)) + padded(H) + H
    return Products(code, kept, numbers, second)


def _of_input(name: str, layer: Layer, weights: Weights) -> str:
    # a = W_hx x + b_h
    if not layer.one_hot:
        return weights.matrix(f"{name}_x", [layer.W_hx], layer.bias).product("a", "x")
    rows = padded(layer.rows)
    table = weights.table(name, layer.W_hx.T)
    bias = np.zeros(layer.rows) if layer.bias is None else layer.bias
    weights.vector(f"{name}_x_b", bias, rows)
    return table.row("a", rows, f"{name}_x_b[j] + ")


class Cell(NamedTuple):
    """How a cell is written in C.

    Attributes
    ----------
    title, equation
        For the comment at the top.
    template
        Its file; `$products` and `$second` are the lines that `products` returns.
    states
        "h" or "hc".
    functions
        Elementwise functions of a unit.
    f
        What C calls the functions of gates, candidate and, in an LSTM, cell state.
    """

    title: str
    equation: str
    template: str
    products: Callable[[str, Layer, Weights], Products]
    states: str = "h"
    functions: int = 1
    f: tuple[str, ...] = ("sigmoid_of", "tanh_of", "tanh_of")


CELLS = {
    "lstm": Cell(
        "LSTM",
        "i, f, o = sigmoid(z), g = tanh(z), z = W [x h] + b; c = f c + i g; h = o tanh(c)",
        "lstm", joined, "hc", 5,
    ),
    "gru": Cell(
        "GRU",
        "r, z = sigmoid(a + b), n = tanh(a + r b), a = W_x x + b_x, b = W_h h + b_h; "
        "h = (1 - z) n + z h",
        "gru", apart, functions=3,
    ),
    "gru_reset_before": Cell(
        "GRU, its reset gate before the product",
        "r, z = sigmoid(a + W_h h), n = tanh(a + W_n (r h)), a = W_x x + b_x; h = (1 - z) n + z h",
        "gru_reset_before", in_turn, functions=3,
    ),
    "rnn_tanh": Cell("RNN", "h = tanh(W [x h] + b)", "rnn", joined, f=("tanh_of",)),
    "rnn_relu": Cell("RNN", "h = relu(W [x h] + b)", "rnn", joined, f=("relu_of",)),
    "rnn_sigmoid": Cell("RNN", "h = sigmoid(W [x h] + b)", "rnn", joined, f=("sigmoid_of",)),
    "rnn_identity": Cell("RNN", "h = W [x h] + b", "rnn", joined, f=("",)),
}  # fmt: skip


def recurrent(name: str, state: str, layer: Layer, weights: Weights) -> Part:
    """Return the part of one recurrent layer.

    Raises
    ------
    ValueError
        If there is no C for its cell.
    """
    cell, own_functions = _cell_of(name, layer.cell)
    inputs, see = layer.W_hx.shape[1], dict.fromkeys(("see_i", "see_f", "see_o"), "")
    if cell.template == "lstm" and layer.own:
        for gate, values in zip("ifo", layer.own, strict=True):
            assert values is not None
            vector = weights.vector(f"{name}_p_{gate}", values)
            see[f"see_{gate}"] = f" + {vector}[u] * {'c_new' if gate == 'o' else 'c[u]'}"
    products = cell.products(name, layer, weights)
    fields = [products.field]
    if "c" in cell.states:
        fields.append(Field.of(f"{name}_c", layer.initial("c"), "c", weights))
    new = {
        letter: _mixed(f"{letter}_new", f"{letter}[u]", rate)
        for letter, rate in zip(cell.states, layer.zoneout, strict=False)
    }
    code = fill(
        f"{cell.template}.c", name=name, state=state, inputs=0 if layer.one_hot else inputs,
        units=layer.units, rows=padded(layer.rows), equation=cell.equation, gate=cell.f[0],
        candidate=cell.f[1 % len(cell.f)], out=cell.f[-1], **see,
        argument="int token" if layer.one_hot else "const float *RESTRICT x",
        products=products.code, second=products.second, first_rows=padded(layer.rows - layer.units),
        second_rows=padded(layer.units), **new,
    )  # fmt: skip
    return Part(
        name, inputs, layer.units, f"{cell.title} of {layer.units} units: {cell.equation}",
        own_functions + code,
        vocabulary=inputs if layer.one_hot else 0, fields=fields, locals=products.locals,
        functions=cell.functions * layer.units,
    )  # fmt: skip


def _cell_of(name: str, cell: str) -> tuple[Cell, str]:
    # How a cell is written, and the functions in C that a choice of activations needs.
    from rnncore.cells.chosen import choice_of

    if cell in CELLS:
        return CELLS[cell], ""
    choice = choice_of("lstm(sigmoid, tanh, tanh, peepholes)" if cell == "peephole_lstm" else cell)
    if choice is None:
        raise ValueError(
            f"model: expected cells of these kinds: {', '.join(CELLS)}, or of "
            f"rnncore.cells.chosen; got {cell!r}, which has no C yet; see rnncore/export/cells.py"
        )
    functions, names = functions_of(name, choice.functions())
    known = CELLS["rnn_tanh" if choice.kind == "rnn" else choice.kind]
    said = ", ".join([*choice.activations, *["its gates see c"] * choice.peepholes])
    return known._replace(
        title=f"{known.title} with {said} in place of the usual functions", f=tuple(names)
    ), functions


def _mixed(new: str, old: str, rate: float) -> str:
    # Zoneout at inference: (1 - p) new + p old.
    if not rate:
        return new
    kept = np.float32(rate)
    return f"MULTIPLY_ADD({1 - kept!s}f, {new}, {kept!s}f * {old})"
