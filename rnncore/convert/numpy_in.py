"""From plain arrays, whose names, order of gates and layout the caller says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnncore.convert.equations import Equations
from rnncore.convert.errors import ConversionError, reading
from rnncore.convert.proof import Converted, against_vectors
from rnncore.convert.weights import (
    ORDERS,
    Direction,
    check_order,
    kind_of_shapes,
    make_layer,
    reordered,
    widened,
)

Names = str | Sequence[str | Sequence[str]]


def from_numpy(
    arrays: Mapping[str, Any] | str | Path,
    W: Names,
    R: Names,
    bias: Names | None = None,
    second_bias: Names | None = None,
    *,
    gates: str,
    transposed: bool,
    reset_after: bool | None = None,
    nonlinearity: str | None = None,
    activations: Sequence[str] = (),
    clip: float | None = None,
    forget_bias: float = 0.0,
    inverted_update: bool | None = None,
    batch_first: bool = False,
    test: tuple[Any, Any] | None = None,
) -> Converted:
    """Return the layer of arrays that stand in any order of gates.

    Parameters
    ----------
    arrays
        Names to arrays, or the path of an .npz file.
    W, R, bias, second_bias
        The names of W_hx, W_hh and the biases. Of several layers a list with a name for each; of
        two directions a pair of names, forward first, in the place of each.
    gates
        The gates in the order of the rows, in the letters of `LSTM` and `GRU`: "ifgo", "rzn"; or
        whose order it is: "pytorch", "keras", "onnx", "onednn", "cudnn", "dynet", "tensorflow 1",
        "paddle" (the GRU of its fluid API, whose R holds the matrix of z and r, then that of n;
        those of `paddle.nn` are as PyTorch's).
    transposed
        Whether W is (I, gates * H), and R (H, gates * H), as in x W, in place of (gates * H, I).
    reset_after
        Of a GRU, and needed there: whether its reset gate comes after the product with h.
    nonlinearity
        Of an RNN, and needed there: an activation of `rnncore.cells.chosen.rnn`.
    activations
        Of an LSTM or GRU that has others than the usual ones: of gates, candidate and, in an LSTM,
        cell state, such as ("hard_sigmoid(0.2, 0.5)", "tanh", "tanh").
    clip
        What goes into activations of gates and candidate is at most this, and at least minus this.
    forget_bias
        What the source adds to the forget gate when it runs: DyNet and TensorFlow 1 add 1.
    inverted_update
        Whether z weighs the new h, `h_t = z n + (1 - z) h_{t-1}`: z's weights are negated then.
        True of madmom, and of Paddle unless `origin_mode`. None: False, and asked of Paddle.
    batch_first
        Whether x is to be (B, T, features).
    test
        x and the y that the source made of it, for the proof; without them it is unproven. Arrays,
        or paths of .csv (a row a step) or .npy files.

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
    names = [_each_layer(name, one, W) for name, one in (
        ("W", W), ("R", R), ("bias", bias), ("second_bias", second_bias))]  # fmt: skip
    first = [_array(arrays, "W", names[0][0][0]), _array(arrays, "R", names[1][0][0])]
    kind = kind_of_shapes(f"{W!r} and {R!r}", *(one.T if transposed else one for one in first))
    order = ORDERS[gates].get(kind) if gates in ORDERS else gates
    if order is None:
        raise ConversionError(f"gates: expected an order of a {kind.upper()}, got {gates!r}")
    check_order(kind, order)
    if gates == "paddle":
        if reset_after or not transposed or inverted_update is None:
            raise ConversionError(
                "inverted_update, transposed, reset_after: expected (not origin_mode), True and "
                f"False or None for Paddle, got {inverted_update}, {transposed} and {reset_after}"
            )
        reset_after = False
    if kind == "gru" and reset_after is None:
        raise ConversionError(
            "reset_after: expected True or False for a GRU, whose weights do not say it: True "
            "where the reset gate comes after the product with h (PyTorch, CuDNN), else False"
        )
    if kind == "rnn" and nonlinearity is None:
        raise ConversionError(
            'nonlinearity: expected "tanh", "relu" or another for an RNN, got None'
        )
    if forget_bias and kind != "lstm":
        raise ConversionError(f"forget_bias: expected 0 without a forget gate, got {forget_bias}")
    if inverted_update and kind != "gru":
        raise ConversionError("inverted_update: expected False without an update gate")

    def direction(*given: str | None) -> Direction:
        found = [None if name is None else _array(arrays, argument, name) for argument, name in zip(
            ("W", "R", "bias", "second_bias"), given, strict=True)]  # fmt: skip
        if gates == "paddle":
            found[1] = _paddle(found[1])
        if gates == "onednn" and kind == "gru":
            found[2:] = _onednn(*found[1:])
        if transposed:
            found[:2] = [one.T for one in found[:2] if one is not None]
        return _direction(found, kind, order, forget_bias, bool(inverted_update))

    functions = (nonlinearity,) if kind == "rnn" and nonlinearity else tuple(activations)
    equations = Equations(kind, functions, reset_after is not False, clip=clip)
    directions = [
        [direction(*given) for given in zip(*layer, strict=True)]
        for layer in zip(*names, strict=True)
    ]
    model = make_layer("arrays", equations, directions, batch_first)
    return Converted(model, f"arrays: {kind.upper()}", against_vectors(model, test))


def _direction(
    found: list[np.ndarray | None], kind: str, order: str, forget_bias: float, inverted: bool
) -> Direction:
    # W, R and the biases, rows (gates * H, ...) in this order, as the engine has them.
    known = [one.shape for one in found if one is not None]
    if any(not shape or shape[0] % len(order) for shape in known):
        raise ConversionError(f"arrays: expected rows of {len(order)} gates, got shapes {known}")
    W, R, first, second = (None if one is None else reordered(one, order, kind) for one in found)
    assert W is not None and R is not None
    size = len(W) // len(order)
    if forget_bias:
        first = np.zeros(len(W), W.dtype) if first is None else first
        first[size : 2 * size] += forget_bias
    for one in (W, R, first, second):
        if inverted and one is not None:
            one[size : 2 * size] *= -1  # sigmoid(-a) = 1 - sigmoid(a)
    return Direction(W, R, first, second)


def _each_layer(argument: str, given: Names | None, like: Names) -> list[list[Any]]:
    # The name of each direction of each layer, as many as W has.
    def listed(names: Any) -> list[list[Any]]:
        if names is None or isinstance(names, str):
            return [[names]]
        return [[one] if isinstance(one, str) else list(one) for one in names]

    wanted = listed(like)
    found = listed(given) if given is not None else [[None] * len(layer) for layer in wanted]
    if not wanted or [len(layer) for layer in found] != [len(layer) for layer in wanted]:
        raise ConversionError(
            f"{argument}: expected names like those of W, {like!r}, got {given!r}"
        )
    return found


def _array(arrays: Mapping[str, Any], argument: str, name: str) -> np.ndarray:
    if name not in arrays:
        raise ConversionError(
            f"{argument}: expected one of the names {', '.join(map(str, arrays))}, got {name!r}"
        )
    return widened(name, arrays[name])


def _paddle(R: np.ndarray | None) -> np.ndarray:
    # In memory (H, 2 H) of z and r, then (H, H) of n, though its shape says (H, 3 H). Source:
    # Paddle's gru_op, where state_weight begins 2 H H numbers behind gate_weight.
    assert R is not None
    size, flat = len(R), R.reshape(-1)
    both, last = np.split(flat, [2 * size * size])
    return np.hstack([both.reshape(size, 2 * size), last.reshape(size, size)])


def _onednn(R: Any, bias: Any, second: Any) -> list[Any]:
    # Its GRU with the reset gate after the product has a fourth bias, within that gate's reach.
    size = min(R.shape)
    if bias is None or second is not None or bias.shape != (4 * size,):
        return [bias, second]
    return [bias[: 3 * size], np.concatenate([np.zeros(2 * size, bias.dtype), bias[3 * size :]])]


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with reading(f"NumPy file {str(path)!r}"), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
