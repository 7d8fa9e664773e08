"""From plain arrays, whose names, order of gates and layout the caller says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnncore.convert.equations import Equations
from rnncore.convert.errors import ConversionError, reading
from rnncore.convert.proof import Converted, Proof, difference
from rnncore.convert.weights import (
    GATES,
    ORDERS,
    Direction,
    check_order,
    kind_of_shapes,
    make_layer,
    reordered,
    widened,
)


def from_numpy(
    arrays: Mapping[str, Any] | str | Path,
    W: str,
    R: str,
    bias: str | None = None,
    second_bias: str | None = None,
    *,
    gates: str,
    transposed: bool,
    reset_after: bool | None = None,
    nonlinearity: str | None = None,
    forget_bias: float = 0.0,
    inverted_update: bool = False,
    batch_first: bool = False,
    test: tuple[Any, Any] | None = None,
) -> Converted:
    """Return the layer of arrays that stand in any order of gates.

    Parameters
    ----------
    arrays
        Names to arrays, or the path of an .npz file.
    W, R, bias, second_bias
        The names of W_hx, W_hh and the biases.
    gates
        The gates in the order of the rows, in the letters of `LSTM` and `GRU`: "ifgo", "rzn"; or
        whose order it is: "pytorch", "keras", "onnx", "onednn", "cudnn", "dynet", "tensorflow 1".
    transposed
        Whether W is (I, gates * H), and R (H, gates * H), as in x W, in place of (gates * H, I).
    reset_after
        Of a GRU, and needed there: whether its reset gate comes after the product with h.
    nonlinearity
        Of an RNN, and needed there.
    forget_bias
        What the source adds to the forget gate when it runs: DyNet and TensorFlow 1 add 1.
    inverted_update
        Whether z weighs the new h, `h_t = z n + (1 - z) h_{t-1}`: z's weights are negated then.
    batch_first
        Whether x is to be (B, T, features).
    test
        x and y that the source computed, for the proof; without them it is unproven.

    Raises
    ------
    ConversionError
        If something does not fit, or is left open.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore import convert
    >>> rng = np.random.default_rng(0)
    >>> arrays = {"Wx": rng.standard_normal((3, 20)), "Wh": rng.standard_normal((5, 20))}
    >>> convert.from_numpy(arrays, "Wx", "Wh", gates="igfo", transposed=True).model
    LSTM(3, 5; 160 parameters)
    """
    if isinstance(arrays, str | Path):
        arrays = _read_npz(Path(arrays))
    found: list[np.ndarray | None] = []
    for argument, name in (("W", W), ("R", R), ("bias", bias), ("second_bias", second_bias)):
        if name is not None and name not in arrays:
            raise ConversionError(
                f"{argument}: expected one of the names {', '.join(map(str, arrays))}, got {name!r}"
            )
        found.append(None if name is None else widened(name, arrays[name]))
    if transposed:
        found[:2] = [one.T for one in found[:2] if one is not None]
    kind = kind_of_shapes(f"{W!r} and {R!r}", found[0], found[1])
    order = ORDERS[gates].get(kind) if gates in ORDERS else gates
    if order is None:
        raise ConversionError(f"gates: expected an order of a {kind.upper()}, got {gates!r}")
    if sorted(order) != sorted(GATES[kind]):
        check_order(kind, order)
    if kind == "gru" and reset_after is None:
        raise ConversionError(
            "reset_after: expected True or False for a GRU, whose weights do not say it: True "
            "where the reset gate comes after the product with h (PyTorch, CuDNN), else False"
        )
    if kind == "rnn" and nonlinearity is None:
        raise ConversionError(
            'nonlinearity: expected "tanh", "relu" or another for an RNN, got None'
        )
    weights, recurrent, first, second = (
        None if one is None else reordered(one, order, kind) for one in found
    )
    assert weights is not None and recurrent is not None
    size = recurrent.shape[1]
    if forget_bias:
        if kind != "lstm":
            raise ConversionError(
                f"forget_bias: expected 0 without a forget gate, got {forget_bias}"
            )
        first = np.zeros(len(weights), weights.dtype) if first is None else first
        first[size : 2 * size] += forget_bias
    if inverted_update:
        if kind != "gru":
            raise ConversionError("inverted_update: expected False without an update gate")
        for one in (weights, recurrent, first, second):  # sigmoid(-a) = 1 - sigmoid(a)
            if one is not None:
                one[size : 2 * size] *= -1
    activations = (nonlinearity,) if kind == "rnn" and nonlinearity else ()
    equations = Equations(kind, activations, reset_after is not False)
    model = make_layer(
        "arrays", equations, [[Direction(weights, recurrent, first, second)]], batch_first
    )
    return Converted(model, f"arrays: {kind.upper()}", vectors(model, test))


def vectors(model: Any, test: Sequence[Any] | None) -> Proof:
    """Return the proof by an input and what the source made of it.

    Raises
    ------
    ConversionError
        If the model makes something else of it.
    """
    if test is None:
        return Proof(why="there are no test vectors, and no engine of the source")
    x, y = (np.asarray(one, model.dtype) for one in test)
    result = model(x)
    result = result[0] if isinstance(result, tuple) else result
    found = difference([result], [y], "the test vectors")
    if not found <= 1e-3:
        raise ConversionError(
            f"test: expected what the source computed, got a difference of {found:.2g}; the order "
            "of gates, the layout or the equations are others"
        )
    return Proof("the test vectors", found, 1)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with reading(f"NumPy file {str(path)!r}"), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
