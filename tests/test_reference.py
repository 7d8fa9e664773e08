"""The textbook is right: by finite differences, by PyTorch's numbers, and the checker by mistakes.

Every other test of the package measures against `rnncore.reference`; here it is measured itself.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import (
    assert_gradients_close,
    gradient_error,
    numerical_gradient,
    numerical_gradients,
)
from fixtures.make_fixtures import CELLS as TORCH_CELLS
from fixtures.make_fixtures import CONFIGS, Case, load_cases, torch_case
from numpy.typing import NDArray

from rnncore import reference

Array = NDArray[Any]

GATES = {"rnn": 1, "lstm": 4, "gru": 3, "gru_reset_before": 3}


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    return rng.normal(size=shape) * scale


def cell_parameters(kind: str, I: int, H: int, rng: np.random.Generator) -> dict[str, Array]:  # noqa: E741
    rows = GATES[kind] * H
    parameters = {
        "W_hx": normal(rng, rows, I, scale=0.6),
        "W_hh": normal(rng, rows, H, scale=0.6),
        "b_h": normal(rng, rows, scale=0.6),
    }
    if kind == "gru":
        parameters["b_hn"] = normal(rng, H, scale=0.6)
    return parameters


def cell_inputs(kind: str, T: int, B: int, rng: np.random.Generator) -> dict[str, Array]:
    """Everything a cell's forward takes, in its order."""
    states = ("h0", "c0") if kind == "lstm" else ("h0",)
    return {
        "x": normal(rng, T, B, 3),
        **{s: normal(rng, B, 4) for s in states},
        **cell_parameters(kind, 3, 4, rng),
    }


def check_gradients(name: str, inputs: dict[str, Any], **options: str) -> None:
    """Hold ``name_backward`` against finite differences of ``name_forward``, for every input.

    The loss is a random weighted sum of all outputs, so every output has a gradient of its own.
    """
    forward: Callable[..., Any] = getattr(reference, f"{name}_forward")
    backward: Callable[..., Any] = getattr(reference, f"{name}_backward")
    rng = np.random.default_rng(99)

    def outputs() -> tuple[tuple[Array, ...], Any]:
        out, saved = forward(**inputs, **options)
        return (out if isinstance(out, tuple) else (out,)), saved

    out, saved = outputs()
    upstream = [normal(rng, *q.shape) for q in out]
    untouched = {k: v.copy() for k, v in inputs.items()}, [u.copy() for u in upstream]
    gradients = backward(*upstream, saved)
    for before, now in zip(untouched[0].values(), inputs.values(), strict=True):
        np.testing.assert_array_equal(before, now)
    for before, now in zip(untouched[1], upstream, strict=True):
        np.testing.assert_array_equal(before, now)

    def loss() -> float:
        return sum(float(np.sum(q * u)) for q, u in zip(outputs()[0], upstream, strict=True))

    differentiable = {k: v for k, v in inputs.items() if v.dtype.kind == "f"}
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert_gradients_close(
        dict(zip(differentiable, gradients, strict=True)),
        numerical_gradients(loss, differentiable),
    )


# -- Gradients of single functions ----------------------------------------------------------------


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("T", [1, 2, 5])
@pytest.mark.parametrize("cell", reference.CELLS)
def test_cell_gradients(cell: str, T: int, B: int) -> None:
    kind, options = cell, dict[str, str]()
    if cell.startswith("rnn_"):
        kind, options["nonlinearity"] = cell.split("_")
    check_gradients(kind, cell_inputs(kind, T, B, np.random.default_rng(T * 10 + B)), **options)


@pytest.mark.parametrize("shape", [(), (4,), (3, 2)])
def test_linear_gradients(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    inputs = {"x": normal(rng, *shape, 3), "W": normal(rng, 5, 3), "b": normal(rng, 5)}
    check_gradients("linear", inputs)


def embedding_inputs() -> dict[str, Array]:
    rng = np.random.default_rng(2)
    ids = np.array([[0, 3], [3, 3], [5, 1]])  # a token twice, and tokens never
    return {"ids": ids, "W_e": normal(rng, 6, 4)}


def test_embedding_gradients() -> None:
    check_gradients("embedding", embedding_inputs())


def check_loss(name: str) -> None:
    """Check the gradients of a weighted loss of numbers, classes or labels."""
    rng = np.random.default_rng(5)
    x = {"x": 2 * normal(rng, 6, 3)}
    t, w = rng.standard_normal((6, 3)), rng.uniform(0.5, 2, (6, 3))
    if name == "gaussian_nll_loss":
        x["var"] = np.exp(normal(rng, 6, 3))
    calls: dict[str, Callable[[], tuple[float, Any]]] = {
        "cross_entropy": lambda: reference.cross_entropy(
            x["x"], np.arange(6) % 3, w[:, 0], w[0], 0.2),
        "binary_cross_entropy_with_logits": lambda: reference.binary_cross_entropy_with_logits(
            x["x"], np.abs(t) % 1, w, 3.0),
        "mse_loss": lambda: reference.mse_loss(x["x"], t, w),
        "l1_loss": lambda: reference.l1_loss(x["x"], t, w),
        "huber_loss": lambda: reference.huber_loss(x["x"], t, w, 1.5),
        "quantile_loss": lambda: reference.quantile_loss(x["x"], t[:, 0], w[:, 0], (0.2, 0.5, 0.7)),
        "gaussian_nll_loss": lambda: reference.gaussian_nll_loss(x["x"], t, x["var"], w),
        "ctc_loss": lambda: reference.ctc_loss(x["x"], [1, 2, 2]),
    }  # fmt: skip
    found = calls[name]()[1]
    found = found if isinstance(found, tuple) else (found,)
    numeric = numerical_gradients(lambda: calls[name]()[0], x)
    assert_gradients_close(dict(zip(x, found, strict=True)), numeric)


LOSSES = (
    "cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "huber_loss",
    "quantile_loss", "gaussian_nll_loss", "ctc_loss",
)  # fmt: skip


def check_softmax_cross_entropy(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    logits = normal(rng, *shape, 7, scale=3.0)
    targets = rng.integers(7, size=shape)
    _, dlogits = reference.softmax_cross_entropy(logits, targets)
    numeric = numerical_gradient(
        lambda: reference.softmax_cross_entropy(logits, targets)[0], logits
    )
    assert_gradients_close({"logits": dlogits}, {"logits": numeric})


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 2)])
def test_softmax_cross_entropy_gradients(shape: tuple[int, ...]) -> None:
    check_softmax_cross_entropy(shape)


def test_softmax_cross_entropy_is_stable() -> None:
    logits = np.array([[1e4, 0.0], [-1e4, 0.0]])
    loss, dlogits = reference.softmax_cross_entropy(logits, np.array([0, 0]))
    assert loss == 5e3
    np.testing.assert_array_equal(dlogits, [[0, 0], [-0.5, 0.5]])


# -- Gradients of whole layers --------------------------------------------------------------------

STACKS: dict[str, dict[str, Any]] = {
    "stacked": {"depth": 3, "T": 2},
    "bidirectional": {"directions": 2},
    "ragged": {"lengths": [2, 3, 0]},
    "all": {"depth": 2, "directions": 2, "lengths": [3, 0, 1]},
}


def stack(
    cell: str, depth: int = 1, directions: int = 1, T: int = 3, dtype: Any = np.float64
) -> tuple[Array, list[list[dict[str, Array]]], Any]:
    """Random x, layers and initial state for 3 sequences (I=3, H=2)."""
    kind = "rnn" if cell.startswith("rnn_") else cell
    rng = np.random.default_rng(depth * 10 + directions)
    layers = [
        [
            {
                name: p.astype(dtype)
                for name, p in cell_parameters(kind, 2 * directions if level else 3, 2, rng).items()
            }
            for _ in range(directions)
        ]
        for level in range(depth)
    ]
    states = [normal(rng, depth * directions, 3, 2).astype(dtype) for _ in range(2)]
    x = normal(rng, T, 3, 3).astype(dtype)
    return x, layers, tuple(states) if kind == "lstm" else states[0]


def as_tuple(state: Any) -> tuple[Array, ...]:
    return state if isinstance(state, tuple) else (state,)


def check_stack_gradients(cell: str, lengths: list[int] | None = None, **sizes: int) -> None:
    x, layers, state = stack(cell, **sizes)
    (y, state_T), saved = reference.forward(cell, x, layers, state, lengths)
    rng = np.random.default_rng(98)
    dy = normal(rng, *y.shape)
    dstate_T = [normal(rng, *s.shape) for s in as_tuple(state_T)]
    upstream = tuple(dstate_T) if cell == "lstm" else dstate_T[0]
    dx, dstate, dlayers = reference.backward(dy, upstream, saved)

    def loss() -> float:
        (y, state_T), _ = reference.forward(cell, x, layers, state, lengths)
        ends = zip(as_tuple(state_T), dstate_T, strict=True)
        return float(np.sum(y * dy) + sum(np.sum(s * ds) for s, ds in ends))

    def by_name(x: Array, states: tuple[Array, ...], layers: Any) -> dict[str, Array]:
        return {
            "x": x,
            **{f"state {k}": s for k, s in enumerate(states)},
            **{
                f"{name} {level} {d}": p
                for level, layer in enumerate(layers)
                for d, parameters in enumerate(layer)
                for name, p in parameters.items()
            },
        }

    assert_gradients_close(
        by_name(dx, as_tuple(dstate), dlayers),
        numerical_gradients(loss, by_name(x, as_tuple(state), layers)),
    )


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"])
def test_stack_gradients(cell: str, kind: str) -> None:
    check_stack_gradients(cell, **STACKS[kind])


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_no_state_is_a_state_of_zeros(cell: str) -> None:
    x, layers, state = stack(cell, depth=2, directions=2)
    zeros = tuple(np.zeros_like(s) for s in as_tuple(state))
    results = []
    for given in (None, zeros if cell == "lstm" else zeros[0]):
        outputs, saved = reference.forward(cell, x, layers, given)
        results.append((outputs, reference.backward(outputs[0], given, saved)))
    np.testing.assert_equal(results[0], results[1])


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_padding_is_never_read(cell: str) -> None:
    x, layers, state = stack(cell, depth=2, directions=2)
    lengths = np.array([2, 0, 3])
    padded = np.arange(3)[:, None] >= lengths
    x[padded] = 0
    (y, state_T), saved = reference.forward(cell, x, layers, state, lengths)
    dy = normal(np.random.default_rng(5), *y.shape)
    dx, dstate, dlayers = reference.backward(dy, None, saved)
    assert not y[padded].any()
    assert not dx[padded].any()
    for s_T, s in zip(as_tuple(state_T), as_tuple(state), strict=True):
        np.testing.assert_array_equal(s_T[:, 1], s[:, 1])  # the sequence of no steps

    x[padded] = np.nan
    (y2, state_T2), saved = reference.forward(cell, x, layers, state, lengths)
    dy[padded] = np.nan
    dx2, dstate2, dlayers2 = reference.backward(dy, None, saved)
    np.testing.assert_equal((y2, state_T2), (y, state_T))
    np.testing.assert_equal((dx2, dstate2, dlayers2), (dx, dstate, dlayers))


@pytest.mark.parametrize("cell", ["rnn_relu", "lstm", "gru", "gru_reset_before"])
def test_ragged_batch_equals_its_sequences_alone(cell: str) -> None:
    x, layers, state = stack(cell, depth=2, directions=2)
    lengths = [2, 0, 3]
    (y, state_T), _ = reference.forward(cell, x, layers, state, lengths)
    for b, n in enumerate(lengths):
        one = tuple(s[:, b : b + 1] for s in as_tuple(state))
        (y_b, state_b), _ = reference.forward(cell, x[:n, b : b + 1], layers, one)
        np.testing.assert_allclose(y[:n, b : b + 1], y_b, rtol=1e-13)
        for s_T, s_b in zip(as_tuple(state_T), as_tuple(state_b), strict=True):
            np.testing.assert_allclose(s_T[:, b : b + 1], s_b, rtol=1e-13)


# -- Forward by hand, dtypes, sizes, bad input ----------------------------------------------------


@pytest.mark.parametrize(
    ("nonlinearity", "f"),
    [
        ("tanh", math.tanh),
        ("relu", lambda a: max(a, 0.0)),
        ("sigmoid", lambda a: 1 / (1 + math.exp(-a))),
        ("identity", lambda a: a),
    ],
)
def test_rnn_forward_equals_its_equation(nonlinearity: str, f: Callable[[float], float]) -> None:
    q = cell_inputs("rnn", 4, 2, np.random.default_rng(6))
    (y, h_T), _ = reference.rnn_forward(**q, nonlinearity=nonlinearity)
    for b in range(2):
        h = [float(v) for v in q["h0"][b]]
        for t in range(4):
            h = [
                f(
                    sum(q["W_hx"][k, i] * q["x"][t, b, i] for i in range(3))
                    + sum(q["W_hh"][k, j] * h[j] for j in range(4))
                    + q["b_h"][k]
                )
                for k in range(4)
            ]
            np.testing.assert_allclose(y[t, b], h, rtol=1e-13)
        np.testing.assert_array_equal(h_T[b], y[-1, b])


@pytest.mark.parametrize("cell", reference.CELLS)
def test_float32_stays_float32(cell: str) -> None:
    results = []
    for dtype in (np.float64, np.float32):
        x, layers, state = stack(cell, depth=2, directions=2, dtype=dtype)
        (y, state_T), saved = reference.forward(cell, x, layers, state, [2, 0, 3])
        dx, dstate, dlayers = reference.backward(y, state_T, saved)
        named = reference.gradients_by_name(dlayers)
        results.append([y, *as_tuple(state_T), dx, *as_tuple(dstate), *named.values()])
        assert {q.dtype for q in results[-1]} == {np.dtype(dtype)}
        (y, _), _ = reference.forward(cell, x, layers)
        assert y.dtype == dtype
    for exact, single in zip(*results, strict=True):
        assert gradient_error(single.astype(np.float64), exact) < 1e-5


def test_float32_stays_float32_around_the_recurrence() -> None:
    single = np.float32
    x, saved = reference.embedding_forward(np.array([1, 0]), np.ones((2, 3), single))
    y, saved_y = reference.linear_forward(x, np.ones((4, 3), single), np.ones(4, single))
    _, dy = reference.softmax_cross_entropy(y, np.array([3, 1]))
    gradients = reference.linear_backward(dy, saved_y)
    dW_e = reference.embedding_backward(gradients[0], saved)
    assert {q.dtype for q in (x, y, dy, *gradients, dW_e)} == {np.dtype(single)}


def test_sigmoid_is_exact_and_silent() -> None:
    types: list[tuple[Any, float]] = [(np.float64, -700.0), (np.float32, -80.0)]
    for dtype, lowest in types:
        a: Array = np.linspace(lowest, -lowest, 2001).astype(dtype)
        # 1 - s(-a) would lose the small values; exp(a) / (1 + exp(a)) keeps them where a < 0
        wide = np.exp(-np.abs(a.astype(np.longdouble)))
        exact = np.where(a < 0, wide, 1) / (1 + wide)
        s = reference.sigmoid(a)
        assert s.dtype == dtype
        np.testing.assert_allclose(s, exact.astype(np.float64), rtol=4 * float(np.finfo(dtype).eps))
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            ends = reference.sigmoid(np.array([-np.inf, -1e4, -0.0, 1e2, np.inf], dtype))
        np.testing.assert_array_equal(ends, [0, 0, 0.5, 1, 1])
        assert np.isnan(reference.sigmoid(np.array(np.nan, dtype)))


@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0), (0, 0)])
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_no_steps_or_no_sequences(cell: str, T: int, B: int) -> None:
    x, layers, _ = stack(cell, depth=2, directions=2)
    state = tuple(np.ones((4, B, 2)) for _ in range(reference.CELLS[cell].state_arrays))
    (y, state_T), saved = reference.forward(cell, x[:T, :B], layers, state)
    assert y.shape == (T, B, 4)
    dx, dstate, dlayers = reference.backward(y, state_T, saved)
    assert dx.shape == (T, B, 3)
    for s in (*as_tuple(state_T), *as_tuple(dstate)):
        np.testing.assert_array_equal(s, np.ones((4, B, 2)) if T == 0 else np.empty((4, 0, 2)))
    assert not any(g.any() for g in reference.gradients_by_name(dlayers).values())


def test_bad_input_is_named() -> None:
    x, layers, _ = stack("gru")
    with pytest.raises(ValueError, match=r"one of rnn_tanh.*gru, gru_reset_before; got 'elman'"):
        reference.forward("elman", x, layers)
    with pytest.raises(ValueError, match=r"nonlinearity must be one of tanh.*; got 'softsign'"):
        reference.rnn_forward(x, x, x, x, x, "softsign")
    for lengths in ([1, 2], [1, 2, 4], [1, 2, -1]):
        with pytest.raises(ValueError, match=r"lengths must hold one number in 0 \.\. 3 for each"):
            reference.forward("gru", x, layers, lengths=lengths)


# -- Check the checker: planted mistakes ----------------------------------------------------------

#: (function, what it says, the mistake), each replaced in the function's source.
MISTAKES = [
    # the time shift that lived for years in a well-known library
    ("rnn_backward", "h[:-1]", "h[1:]"),
    ("lstm_backward", "h[:-1]", "h[1:]"),
    ("gru_backward", "h[:-1]", "h[1:]"),
    ("rnn_backward", "slope(h[t + 1])", "slope(h[t])"),
    ("lstm_backward", "df = dc * c[t]", "df = dc * c[t + 1]"),
    # signs
    ("rnn_backward", "dh = da[t] @ W_hh", "dh = -da[t] @ W_hh"),
    ("lstm_backward", "dc + dh * o[t]", "dc - dh * o[t]"),
    ("gru_backward", "h[t] - n[t]", "n[t] - h[t]"),
    # missing terms
    ("rnn_backward", "dh = dh + dy[t]", "dh = dy[t]"),
    ("rnn_backward", "dh = dh_T", "dh = 0 * dh_T"),
    ("lstm_backward", "dh_T, dc_T\n", "dh_T, 0 * dc_T\n"),
    ("lstm_backward", "* (1 - tanh_c[t + 1] ** 2)", ""),
    ("lstm_backward", "dc = dc * f[t]", "pass"),
    ("gru_backward", "dh = dh + du[t] @ W_hh", "dh = du[t] @ W_hh"),
    ("gru_backward", "dm = da_n[t] * r[t]", "dm = da_n[t]"),
    ("linear_backward", "_rows(dy).sum(axis=0)", "_rows(dy).mean(axis=0)"),
    # swapped gates and operands
    ("lstm_backward", "da_i, da_f, da_g, da_o = ", "da_f, da_i, da_g, da_o = "),
    ("lstm_backward", "da_i, da_f, da_g, da_o = ", "da_i, da_f, da_o, da_g = "),
    ("lstm_backward", "di = dc * g[t]", "di = dc * i[t]"),
    ("gru_backward", "da_r, da_z, da_n = ", "da_z, da_r, da_n = "),
    ("gru_backward", "dh = dh * z[t]", "dh = dh * (1 - z[t])"),
    ("gru_backward", "dW_hh = _rows(du)", "dW_hh = _rows(da)"),
    ("gru_backward", "db_hn = _rows(du_n)", "db_hn = _rows(da_n)"),
    ("rnn_backward", "dh = da[t] @ W_hh", "dh = da[t] @ W_hh.T"),
    # wrong slopes
    ("lstm_backward", "dg * (1 - g[t] ** 2)", "dg * (1 - g[t])"),
    ("lstm_backward", "do * o[t] * (1 - o[t])", "do * (1 - o[t])"),
    ("gru_backward", "dz * z[t] * (1 - z[t])", "dz * z[t]"),
    # the GRU of two products
    ("gru_reset_before_backward", "dr = ds * h[t]", "dr = ds * h[t + 1]"),
    ("gru_reset_before_backward", "dh = dh + ds * r[t]", "dh = dh + ds"),
    ("gru_reset_before_backward", "dh = dh + ds * r[t]", "dh = ds * r[t]"),
    ("gru_reset_before_backward", "da_r, da_z, da_n = ", "da_z, da_r, da_n = "),
    ("gru_reset_before_backward", "dW_hn = _rows(da_n).T @ _rows(s)",
     "dW_hn = _rows(da_n).T @ _rows(h[:-1])"),
    ("gru_reset_before_backward", "da_r[t] @ W_hr", "da_r[t] @ W_hz"),
    # around the recurrence
    ("embedding_backward", "np.add.at(dW_e, ids, dx)", "dW_e[ids] += dx"),
    ("softmax_cross_entropy", "np.exp(log_p_target) - 1", "np.exp(log_p_target)"),
    ("softmax_cross_entropy", "dlogits / targets.size", "dlogits"),
    # losses
    ("cross_entropy", "q.sum(axis=1, keepdims=True) * np.exp(log_p)", "np.exp(log_p)"),
    ("cross_entropy", "* np.exp(log_p) - q", "* np.exp(log_p) + q"),
    ("binary_cross_entropy_with_logits", "- pos_weight * targets * (1", "- targets * (1"),
    ("mse_loss", "a * 2 * (x", "a * (x"),
    ("l1_loss", "a * np.sign(x - targets)", "a * np.sign(targets - x)"),
    ("huber_loss", "near, d, delta * np.sign(d)", "near, d, np.sign(d)"),
    ("quantile_loss", "np.where(e < 0, 1 - q, 0)", "np.where(e < 0, q, 0)"),
    ("gaussian_nll_loss", "(1 / v - d**2 / v**2) / 2", "(1 / v - d**2 / v) / 2"),
    ("gaussian_nll_loss", "(a * d / v,", "(a * d,"),
    ("ctc_loss", "dlogits[:, places[s]] -= np.exp", "dlogits[:, places[s]] = -np.exp"),
    ("ctc_loss", "log_p[t + 1, places[later]] + beta", "log_p[t, places[later]] + beta"),
    ("ctc_loss", "beta[-1, -2:] = 0", "beta[-1, -1:] = 0"),
    # around the cells: directions, layers, lengths
    ("backward", "np.sum(dx, axis=0)", "dx[0]"),
    ("backward", "doutputs[d]", "doutputs[0]"),
    ("backward", "[ds_T[k] for", "[ds_T[k - d] for"),
    ("direction_backward", "dparameters[name] += dp", "dparameters[name] = dp"),
    ("direction_backward", "dx[steps], *rest =", "dx[steps[0][::-1], steps[1]], *rest ="),
    ("direction_backward", "(ds_T[batch] for", "(0 * ds_T[batch] for"),
]


def gradient_check_of(function: str) -> None:
    """Run the gradient check that covers `function`."""
    rng = np.random.default_rng(7)
    match function.removesuffix("_backward"):
        case "rnn" | "lstm" | "gru" | "gru_reset_before" as kind:
            check_gradients(kind, cell_inputs(kind, 3, 2, rng))
        case "linear":
            check_gradients("linear", {k: normal(rng, 4, 4) for k in "xW"} | {"b": normal(rng, 4)})
        case "embedding":
            check_gradients("embedding", embedding_inputs())
        case "softmax_cross_entropy":
            check_softmax_cross_entropy((3, 2))
        case loss if loss in LOSSES:
            check_loss(loss)
        case _:
            check_stack_gradients("rnn_tanh", **STACKS["all"])


@pytest.mark.parametrize("function", dict.fromkeys(m[0] for m in MISTAKES))
def test_checker_accepts_what_is_right(function: str) -> None:
    gradient_check_of(function)


@pytest.mark.parametrize(("function", "right", "wrong"), MISTAKES)
def test_checker_catches_planted_mistake(
    function: str, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = inspect.getsource(getattr(reference, function))
    assert source.count(right) == 1, "the line to spoil must be there, once"
    names: dict[str, Any] = dict(vars(reference))
    exec(source.replace(right, wrong), names)
    monkeypatch.setattr(reference, function, names[function])
    with pytest.raises(AssertionError, match="relative error"):
        gradient_check_of(function)


def test_finite_differences_are_exact() -> None:
    q = np.linspace(-2, 2, 12).reshape(3, 2, 2)[:, ::-1]
    before = q.copy()
    numeric = numerical_gradient(lambda: float(np.sum(np.sin(3 * q) * np.exp(q))), q)
    exact = (3 * np.cos(3 * q) + np.sin(3 * q)) * np.exp(q)
    np.testing.assert_array_equal(q, before)
    assert gradient_error(numeric, exact) < 1e-11


def test_finite_differences_step_around_a_kink() -> None:
    q = np.array([0.004, -0.002, 3.0])
    numeric = numerical_gradient(lambda: float(np.sum(np.maximum(q, 0))), q)
    np.testing.assert_allclose(numeric, [1, 0, 1], atol=1e-9)


def test_finite_differences_refuse_what_they_cannot_do() -> None:
    with pytest.raises(TypeError, match="float64"):
        numerical_gradient(lambda: 0.0, np.zeros(2, np.float32))
    q = np.zeros(1)
    with pytest.raises(ValueError, match="derivative"):
        numerical_gradient(lambda: float(np.abs(q).sum() + q.sum() + (q > 0).sum()), q)
    with pytest.raises(ValueError, match="derivative"):
        numerical_gradient(lambda: float("nan"), q)


@pytest.mark.parametrize(
    "analytic",
    [
        {"q": np.array([1.0, -2.0])},
        {"q": np.array([1.0, 2.0 + 1e-6])},
        {"q": np.array([1.0, np.nan])},
        {"q": np.array([[1.0, 2.0]])},
        {"p": np.array([1.0, 2.0])},
        {},
    ],
)
def test_assert_gradients_close_fails(analytic: dict[str, Array]) -> None:
    numeric = {"q": np.array([1.0, 2.0])}
    assert_gradients_close({"q": np.array([1.0, 2.0 + 1e-8])}, numeric)
    with pytest.raises(AssertionError):
        assert_gradients_close(analytic, numeric)


# -- PyTorch --------------------------------------------------------------------------------------


def assert_equals_torch(case: Case, rtol: float = 1e-12) -> None:
    """Run the reference on the case's inputs; compare every result and gradient."""
    cell, arrays = case.config["cell"], case.arrays
    layers = reference.layers_from_state_dict(cell, arrays)
    names = ("h", "c") if cell == "lstm" else ("h",)
    state = tuple(arrays[f"{s}0"] for s in names) if "h0" in arrays else None
    (y, state_T), saved = reference.forward(cell, arrays["x"], layers, state, arrays.get("lengths"))
    dstate_T = tuple(arrays[f"d{s}_T"] for s in names)
    dx, dstate, dlayers = reference.backward(arrays["dy"], dstate_T, saved)

    ours = {"y": y, "dx": dx}
    for name, s_T, ds in zip(names, as_tuple(state_T), as_tuple(dstate), strict=True):
        ours[f"{name}_T"] = s_T
        if state is not None:
            ours[f"d{name}0"] = ds
    for name, gradient in reference.gradients_by_name(dlayers).items():
        if name in arrays:  # without bias PyTorch has none
            ours[f"d{name}"] = gradient
    given = {"x", "h0", "c0", "lengths", "dy", "dh_T", "dc_T"}
    given |= {name for name in arrays if name.startswith(("weight", "bias"))}
    assert_gradients_close(
        ours, {name: a for name, a in arrays.items() if name not in given}, rtol=rtol
    )


STORED = load_cases()


def test_stored_cases_are_complete() -> None:
    assert [case.config for case in STORED] == [
        {"cell": cell, **config} for cell in TORCH_CELLS for config in CONFIGS
    ]


@pytest.mark.parametrize("case", STORED, ids=str)
def test_equals_stored_torch_results(case: Case) -> None:
    assert_equals_torch(case)


def test_a_wrong_number_from_torch_would_be_seen() -> None:
    config, arrays = STORED[0]
    for name in ("y", "h_T", "dx", "dh0", "dweight_hh_l0", "dbias_hh_l0"):
        changed = {**arrays, name: arrays[name] * (1 + 1e-9)}
        with pytest.raises(AssertionError, match=name):
            assert_equals_torch(Case(config, changed))


@pytest.mark.parametrize("lengths", [None, [5, 2, 4], [1, 1, 5]], ids=["full", "ragged", "short"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_equals_torch(
    cell: str, num_layers: int, bidirectional: bool, bias: bool, lengths: list[int] | None
) -> None:
    pytest.importorskip("torch")
    config = {"cell": cell, "T": 5, "B": 3, "I": 4, "H": 3, "num_layers": num_layers}
    config |= {"bidirectional": bidirectional, "bias": bias}
    config |= {"lengths": lengths} if lengths else {}
    assert_equals_torch(torch_case(config, seed=num_layers))


@pytest.mark.parametrize(
    ("cell", "T", "B"), list(itertools.product(TORCH_CELLS, (1, 2, 50), (1, 7)))
)
def test_equals_torch_at_other_sizes(cell: str, T: int, B: int) -> None:
    pytest.importorskip("torch")
    config = {"cell": cell, "T": T, "B": B, "I": 1, "H": 9, "num_layers": 2, "bidirectional": True}
    # with random weights this large the gradients of 50 steps can grow, and rounding with them
    assert_equals_torch(torch_case(config, seed=T + B), rtol=1e-10)


def test_stored_results_are_what_torch_gives() -> None:
    pytest.importorskip("torch")
    for seed, stored in enumerate(STORED):
        fresh = torch_case(stored.config, seed)
        assert set(fresh.arrays) == set(stored.arrays)
        for name, array in stored.arrays.items():
            np.testing.assert_allclose(fresh.arrays[name], array, rtol=1e-9, atol=1e-12)


def test_embedding_linear_and_loss_equal_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    ids, targets = rng.integers(5, size=(4, 3)), rng.integers(6, size=(4, 3))
    W_e, W, b = normal(rng, 5, 2), normal(rng, 6, 2), normal(rng, 6)
    x, saved_x = reference.embedding_forward(ids, W_e)
    logits, saved_y = reference.linear_forward(x, W, b)
    loss, dlogits = reference.softmax_cross_entropy(logits, targets)
    dx, dW, db = reference.linear_backward(dlogits, saved_y)
    dW_e = reference.embedding_backward(dx, saved_x)

    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in {"e": W_e, "W": W, "b": b}.items()}
    embedded = torch.nn.functional.embedding(torch.tensor(ids), theirs["e"])
    their_logits = torch.nn.functional.linear(embedded, theirs["W"], theirs["b"])
    their_loss = torch.nn.functional.cross_entropy(
        their_logits.reshape(-1, 6), torch.tensor(targets).reshape(-1)
    )
    their_loss.backward()
    assert loss == pytest.approx(their_loss.item(), rel=1e-13)
    assert_gradients_close(
        {"e": dW_e, "W": dW, "b": db}, {k: v.grad.numpy() for k, v in theirs.items()}, rtol=1e-12
    )
