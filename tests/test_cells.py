"""Cells of the user's own: the standard cells written again must equal the engine's."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rnncore

numba = pytest.importorskip("numba")


def gru_forward(x, r, h_prev):
    g = 1 / (1 + math.exp(-(x[0] + r[0])))
    z = 1 / (1 + math.exp(-(x[1] + r[1])))
    n = math.tanh(x[2] + g * r[2])
    return (1 - z) * n + z * h_prev, (g, z, n, r[2])


def gru_backward(kept, dh, h_prev):
    g, z, n, r_n = kept
    dn = dh * (1 - z) * (1 - n * n)
    dz = dh * (h_prev - n) * z * (1 - z)
    dg = dn * r_n * g * (1 - g)
    return (dg, dz, dn), (dg, dz, dn * g), dh * z


def lstm_forward(x, r, previous):
    _, c_prev = previous
    i = 1 / (1 + math.exp(-(x[0] + r[0])))
    f = 1 / (1 + math.exp(-(x[1] + r[1])))
    g = math.tanh(x[2] + r[2])
    o = 1 / (1 + math.exp(-(x[3] + r[3])))
    c = f * c_prev + i * g
    return (o * math.tanh(c), c), (i, f, g, o, math.tanh(c))


def lstm_backward(kept, dstate, previous):
    i, f, g, o, t = kept
    dh, dc = dstate
    _, c_prev = previous
    dc = dc + dh * o * (1 - t * t)
    d = (dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g * g),
         dh * t * o * (1 - o))  # fmt: skip
    return d, d, (0.0 * dh, dc * f)


CELLS = {
    "GRU": rnncore.Cell("my gru", 3, 4, gru_forward, gru_backward),
    "LSTM": rnncore.Cell("my lstm", 4, 5, lstm_forward, lstm_backward, has_c=True),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_custom_cell_equals_the_engines_own(kind, dtype, bidirectional) -> None:
    settings = {"num_layers": 2, "bidirectional": bidirectional, "dtype": dtype}
    own = rnncore.Custom(CELLS[kind], 5, 19, **settings)
    engine = getattr(rnncore, kind)(5, 19, **settings, seed=0)
    with own.writable_params() as params:
        for name, array in params.items():
            array[...] = engine.params[name]
    with engine.writable_params() as params:
        for name, array in params.items():
            if name.startswith("bias_hn"):
                array[...] = 0
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 4, 5))
    lengths = [9, 0, 3, 7]
    (y, state), (expected, expected_state) = (m.forward(x, lengths=lengths) for m in (own, engine))
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)
    dy = rng.standard_normal(y.shape)
    (dx, dstate), (dx_expected, dstate_expected) = (
        m.backward(dy, s) for m, s in ((own, state), (engine, expected_state))
    )
    np.testing.assert_allclose(dx, dx_expected, rtol=0, atol=20 * tolerance)
    for a, b in zip(dstate, dstate_expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=20 * tolerance)
    for name, gradient in own.grads.items():
        scale = np.abs(engine.grads[name]).max()
        limit = 20 * tolerance * scale
        np.testing.assert_allclose(gradient, engine.grads[name], rtol=0, atol=limit)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gates, kept: .* got 9 and 1"):
        rnncore.Cell("x", 9, 1, gru_forward, gru_backward)
    with pytest.raises(TypeError, match=r"cell: expected an rnncore\.Cell, got str"):
        rnncore.Custom("lstm", 3, 4)


@pytest.mark.parametrize(
    ("forward", "backward", "words"),
    [
        (None, gru_backward, ("forward", "function", "NoneType")),
        (lambda x, r: 0, gru_backward, ("forward", "failed")),
        (lambda x, r, h: h, gru_backward, ("forward", "h, kept", "0.5")),
        (lambda x, r, h: (h, x), gru_backward, ("forward", "kept", "tuple of 4 numbers")),
        (lambda x, r, h: ((h, h), (h,) * 4), gru_backward, ("forward", "the state", "one number")),
        (gru_forward, lambda k, d, h: (0, 0), ("backward", "dx, dr, dh_prev", "(0, 0)")),
        (gru_forward, lambda k, d, h: ((0, 0), (0,) * 3, 0), ("backward", "dx", "of 3 numbers")),
        (gru_forward, lambda k, d, h: ((0,) * 3, (0,) * 3, (0, 0)), ("backward", "dh_prev")),
    ],
)
def test_functions_that_do_not_fit(forward, backward, words) -> None:
    with pytest.raises(TypeError) as caught:
        rnncore.Cell("mine", 3, 4, forward, backward)
    assert all(word in str(caught.value) for word in ("mine", *words)), caught.value


def test_what_numba_cannot_compile() -> None:
    def forward(x, r, h_prev):
        return float(f"{h_prev:.3f}"), (r[0],)

    cell = rnncore.Cell("mine", 1, 1, forward, lambda kept, dh, h: ((dh,), (dh,), dh))
    with pytest.raises(TypeError, match="cell 'mine': Numba cannot compile forward"):
        rnncore.Custom(cell, 2, 3)


def minimal_forward(x, r, h_prev):
    return math.tanh(x[0] + r[0]), (0.0,)


def minimal_backward(kept, dh, h_prev):
    return (dh,), (dh,), 0.0


def raises(x, r, h_prev):
    if h_prev > 1:
        raise ValueError("too large")
    return math.tanh(x[0] + r[0]), (0.0,)


@numba.njit
def refuses_large(number):
    if number > 1:
        raise ValueError("too large")
    return number


def calls_one_that_raises(x, r, h_prev):
    return refuses_large(h_prev), (0.0,)


def indexes_beyond(x, r, h_prev):
    return (x[0], r[0])[3 if h_prev == 0 else 0], (0.0,)


def steps_by_nothing(x, r, h_prev):
    total = 0.0
    for _ in range(0, 3, math.ceil(h_prev)):
        total += r[0]
    return total, (0.0,)


@numba.njit
def inverse(number):
    return 1 / number


inverse.compile("float64(float64)")  # in Python's error model: an exception at zero


def calls_one_that_divides(x, r, h_prev):
    return inverse(h_prev), (0.0,)


def backward_raises(kept, dh, h_prev):
    if dh > 1:
        raise ValueError("too large")
    return (dh,), (dh,), 0.0


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (raises, minimal_backward),
        (calls_one_that_raises, minimal_backward),
        (indexes_beyond, minimal_backward),
        (steps_by_nothing, minimal_backward),
        (calls_one_that_divides, minimal_backward),
        (minimal_forward, backward_raises),
    ],
)
def test_a_function_that_may_raise_is_refused(forward, backward) -> None:
    cell = rnncore.Cell("stops", 1, 1, forward, backward)
    which = "forward" if backward is minimal_backward else "backward"
    with pytest.raises(TypeError, match=f"cell 'stops': {which}: .* raises nothing"):
        rnncore.Custom(cell, 2, 3, dtype=np.float64)


def divides(x, r, h_prev):
    return 1 / h_prev + x[0] % h_prev, (0.0,)


def catches(x, r, h_prev):
    try:
        if h_prev > 1:
            raise ValueError("too large")
    except Exception:
        return 0.0, (0.0,)
    return math.tanh(x[0] + r[0]), (0.0,)


def is_long(x, r, h_prev):
    # Too long to be compiled into one piece with what calls it.
    a = math.tanh(x[0]) + math.exp(r[0]) + math.log(abs(h_prev) + 1) + math.erf(h_prev)
    for k in range(4):
        a = math.tanh(math.sin(a) + math.cos(a) + k) + math.floor(a) + int(a) // 3 + a % 3
    return math.tanh(a), (0.0,)


@pytest.mark.parametrize("forward", [minimal_forward, divides, catches, is_long])
def test_a_function_that_cannot_raise_is_taken(forward) -> None:
    layer = rnncore.Custom(rnncore.Cell("runs", 1, 1, forward, minimal_backward), 2, 3, seed=0)
    y, _ = layer(np.ones((1, 2, 2)))
    assert np.isfinite(y).all() == (forward is not divides)  # 1 / 0 is infinity


@pytest.mark.parametrize("kind", CELLS)
def test_the_gradient_of_every_state_of_a_custom_cell(kind: str) -> None:
    mine = rnncore.Custom(CELLS[kind], 3, 5, dtype=np.float64, seed=0)
    own = getattr(rnncore, kind)(3, 5, dtype=np.float64, seed=1)
    own.load_state_dict(mine.state_dict())
    x = np.random.default_rng(0).standard_normal((7, 2, 3))
    records = []
    for layer in (mine, own):
        y, _ = layer.forward(x)
        records.append(layer.backward(y, record=True)[2][0])
    # What of dL/dc comes through h, only a cell of the engine's own tells.
    assert list(records[0]) == ["h"]
    np.testing.assert_allclose(records[0]["h"], records[1]["h"], rtol=1e-10)
