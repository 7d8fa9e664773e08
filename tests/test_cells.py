"""Cells of the user's own: what they compute, their gradients, and their machine code."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from cases import assert_tokens_agree
from cells_again import AGAIN
from conftest import BUILDS
from finite_differences import assert_gradients_close, of_module

import rnncore
from rnncore import cells, engine
from rnncore.cells import (
    exp,
    hard_tanh,
    library,
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
from rnncore.cells.library import rg_lru

pytest.importorskip("llvmlite")

LIBRARY = {name: made for name, made in vars(library).items() if isinstance(made, cells.Cell)}


# The engine's cells, written again


@pytest.mark.parametrize("kind", AGAIN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("H", "B"), [(19, 4), (64, 1)])
def test_a_cell_written_again_equals_the_engines_own(kind, dtype, bidirectional, H, B) -> None:
    settings = {"num_layers": 2, "bidirectional": bidirectional, "dtype": dtype}
    again = rnncore.Recurrent(AGAIN[kind], 5, H, **settings)
    own = getattr(rnncore, kind)(5, H, **settings, seed=0)
    with again.writable_params() as params:
        for name, array in params.items():
            array[...] = own.params[name]
    with own.writable_params() as params:
        for name, array in params.items():
            if name.startswith("bias_hn"):
                array[...] = 0
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((9, B, 5)), [9, 0, 3, 7][:B]
    results = []
    for layer in (again, own):
        y, state = layer.forward(x, lengths=lengths)
        dx, dstate = layer.backward(np.cos(y), state)
        grads = [layer.grads[name] for name in again.grads]
        results.append([y, *np.atleast_1d(state), dx, *np.atleast_1d(dstate), *grads])
    tolerance = 1e-13 if dtype == np.float64 else 1e-6
    for found, right in zip(*results, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=tolerance * np.abs(right).max())


# Machine code

REGISTERS = {64: "zmm", 32: "ymm", 16: "xmm"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*LIBRARY, *AGAIN])
def test_the_code_has_vectors_alone(name, dtype) -> None:
    made = LIBRARY.get(name) or AGAIN[name]
    code = made.assembly(dtype)
    lines = [line.split() for line in code.splitlines() if line.startswith("\t")]
    names = {line[0] for line in lines if not line[0].startswith(".")}
    width = engine.kernels(dtype).vector_bytes
    if REGISTERS[width] not in code and "xmm" not in code:
        pytest.skip("registers of another processor")
    assert code.count(f"%{REGISTERS[width]}") > 20
    # no calls, and no arithmetic on single numbers
    assert not [one for one in names if one.startswith("call")]
    kind = "ss" if dtype == np.float32 else "sd"
    scalar = {f"{v}{one}{kind}" for v in ("v", "")
              for one in ("add", "sub", "mul", "div", "sqrt", "max", "min")}  # fmt: skip
    assert not names & scalar
    assert not [one for one in names if one.startswith("vf") and one.endswith(kind)]
    if width == 64:
        assert [one for one in names if one.startswith(("vfmadd", "vfnmadd", "vmulp"))]


# Functions


@rnncore.cell(gates="a")
def of_sigmoid(x):
    return sigmoid(x.a)


@rnncore.cell(gates="a")
def of_tanh(x):
    return tanh(x.a)


@rnncore.cell(gates="a")
def of_exp(x):
    return exp(x.a)


@rnncore.cell(gates="a")
def of_log(x):
    return where(x.a > 0, log(abs(x.a)), 0.0)


@rnncore.cell(gates="a")
def of_log1p(x):
    return where(x.a > -1, log1p(max(x.a, -0.999)), 0.0)


@rnncore.cell(gates="a")
def of_softplus(x):
    return softplus(x.a)


@rnncore.cell(gates="a")
def of_softsign(x):
    return softsign(x.a)


@rnncore.cell(gates="a")
def of_sqrt(x):
    return sqrt(abs(x.a) + 0.001)


def identity(cell, numbers, dtype):
    """Return the cell's h for these numbers at its gate."""
    layer = rnncore.Recurrent(cell, 1, 1, bias=False, dtype=dtype)
    with layer.writable_params() as params:
        params["weight_ih_l0"][...] = 1
    return layer(numbers.reshape(1, -1, 1))[0].reshape(-1)


RIGHT = {
    of_sigmoid: lambda a: 1 / (1 + np.exp(-a)), of_tanh: np.tanh, of_exp: np.exp,
    of_log: lambda a: np.where(a > 0, np.log(np.abs(a)), 0),
    of_log1p: lambda a: np.where(a > -1, np.log1p(np.maximum(a, -0.999)), 0),
    of_softplus: lambda a: np.logaddexp(0, a), of_softsign: lambda a: a / (1 + np.abs(a)),
    of_sqrt: lambda a: np.sqrt(np.abs(a) + 0.001),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", RIGHT, ids=lambda cell: cell.name)
def test_functions_are_exact_to_a_few_last_places(cell, dtype) -> None:
    rng = np.random.default_rng(0)
    ordinary = rng.standard_normal(4000) * 4
    spread = np.sign(ordinary) * 10.0 ** rng.uniform(-20, 1.8, 4000)
    near_one = 1 + rng.standard_normal(1000) * 10.0 ** rng.uniform(-6, -1, 1000)
    numbers = np.concatenate([ordinary, spread, near_one]).astype(dtype)
    right = RIGHT[cell](numbers.astype(np.longdouble))
    found = identity(cell, numbers, dtype)
    place = np.spacing(np.maximum(np.abs(right), np.finfo(dtype).tiny).astype(dtype))
    # log1p and softplus have a rounding more than exp and tanh, log at -0.999 many: it is steep
    assert np.max(np.abs(found - right) / place) < (8 if cell is not of_log1p else 300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", [of_sigmoid, of_tanh, of_exp, of_softplus])
def test_functions_at_the_ends(cell, dtype) -> None:
    largest = np.finfo(dtype).max
    numbers = np.array([-np.inf, -largest, -1e4, 1e4, largest, np.inf, np.nan], dtype)
    found = identity(cell, numbers, dtype)
    with np.errstate(all="ignore"):
        right = RIGHT[cell](numbers)
    np.testing.assert_array_equal(found, right)


@rnncore.cell(gates="a")
def of_relu(x):
    return relu(x.a)


@rnncore.cell(gates="a")
def of_hard_tanh(x):
    return hard_tanh(x.a)


@pytest.mark.parametrize(
    ("cell", "a", "slope"),
    [("rnn_relu", 0.0, 0.0), (of_relu, 0.0, 0.0), (of_relu, -0.0, 0.0), (of_relu, 1e-30, 1.0),
     (of_hard_tanh, 1.0, 0.0), (of_hard_tanh, -1.0, 0.0), (of_softplus, 0.0, 0.5)],
)  # fmt: skip
def test_slopes_where_there_is_a_corner(cell, a, slope) -> None:
    layer = rnncore.Recurrent(cell, 1, 1, bias=False, seed=0)
    with layer.writable_params() as params:
        params["weight_ih_l0"][...] = 1
    layer.forward(np.full((1, 1, 1), a))
    assert layer.backward(np.ones((1, 1, 1)))[0] == slope


# The library against plain NumPy


def logistic(a):
    return 1 / (1 + np.exp(-a))


def split(z, count):
    return np.split(z, count, axis=-1)


def step_peephole(x, h, s, own):
    (i, f, g, o), c = split(x + h, 4), s[1]
    i, f = logistic(i + own["p_i"] * c), logistic(f + own["p_f"] * c)
    c = f * c + i * np.tanh(g)
    return logistic(o + own["p_o"] * c) * np.tanh(c), c


def step_coupled(x, h, s, own):
    f, g, o = split(x + h, 3)
    c = s[1] + (1 - logistic(f)) * (np.tanh(g) - s[1])
    return logistic(o) * np.tanh(c), c


def step_hard(x, h, s, own):
    i, f, g, o = split(x + h, 4)
    i, f, o = (np.minimum(np.maximum(0, a + 3), 6) / 6 for a in (i, f, o))
    c = f * s[1] + i * np.minimum(np.maximum(g, -1), 1)
    return o * np.minimum(np.maximum(c, -1), 1), c


def step_s_lstm(x, h, s, own):
    # Equations 8 to 17 of the paper: scaled by e^-m, which cancels out of h = o c / n.
    i, f, z, o = split(x + h, 4)
    log_f = -np.logaddexp(0, -f)
    m = np.where(s[2] == 0, i, np.maximum(log_f + s[3], i))
    i, f = np.exp(i - m), np.exp(log_f + s[3] - m)
    c, n = f * s[1] + i * np.tanh(z), f * s[2] + i
    return logistic(o) * (c / n), c, n, m


def step_minimal(x, h, s, own):
    (x_f, x_n), (h_f, h_n) = split(x, 2), split(h, 2)
    f = logistic(x_f + h_f)
    return (s[0] + f * (np.tanh(x_n + f * h_n) - s[0]),)


def step_ind(x, h, s, own):
    return (np.maximum(0, x + own["u"] * s[0]),)


def step_leaky(x, h, s, own):
    tau = 1 + np.exp(own["log_tau"])
    return ((1 - 1 / tau) * s[0] + np.tanh(x + h) / tau,)


def step_min_gru(x, h, s, own):
    z, n = split(x, 2)
    return (s[0] + logistic(z) * (n - s[0]),)


def step_min_lstm(x, h, s, own):
    f, i, n = split(x, 3)
    share = logistic(f) / (logistic(f) + logistic(i))
    return (share * s[0] + (1 - share) * n,)


def step_rg_lru(x, h, s, own):
    r, i, n = split(x, 3)
    log_a = 8 * logistic(r) * np.log(logistic(own["a"]))
    return (np.exp(log_a) * s[0] + np.sqrt(1 - np.exp(2 * log_a)) * logistic(i) * n,)


STEPS = {
    "peephole_lstm": step_peephole, "coupled_lstm": step_coupled, "hard_lstm": step_hard,
    "s_lstm": step_s_lstm, "minimal_gated": step_minimal, "ind_rnn": step_ind,
    "leaky_rnn": step_leaky, "min_gru": step_min_gru, "min_lstm": step_min_lstm,
    "rg_lru": step_rg_lru,
}  # fmt: skip


@pytest.mark.parametrize("scale", [30, 1000])
@pytest.mark.parametrize("name", LIBRARY)
def test_large_inputs_leave_numbers(name: str, scale: float) -> None:
    x, found = np.random.default_rng(0).standard_normal((20, 3, 8)) * scale, []
    for dtype in (np.float64, np.float32):
        layer = rnncore.Recurrent(LIBRARY[name], 8, 12, seed=0, dtype=dtype)
        y, _ = layer.forward(x.astype(dtype))
        dx, _ = layer.backward(np.ones_like(y))
        found.append([y, dx])
    for exact, near in zip(*found, strict=True):
        assert np.isfinite(exact).all() and np.isfinite(near).all()
        assert np.linalg.norm(near - exact) <= 2e-4 * np.linalg.norm(exact)


def test_every_cell_of_the_library_is_tested() -> None:
    assert set(STEPS) == set(LIBRARY)


def plain(layer, cell, end, x, states, lengths, reverse):
    """Return y and the last states of one direction, a sequence at a time."""
    p = {name.removesuffix(end): array for name, array in layer.params.items()
         if name.endswith(end)}  # fmt: skip
    y = np.zeros((len(x), x.shape[1], layer.hidden_size))
    last = [state.copy() for state in states]
    for b, length in enumerate(lengths):
        s = [state[b] for state in states]
        for t in reversed(range(length)) if reverse else range(length):
            h = p["weight_hh"] @ s[0] if "weight_hh" in p else 0
            s = STEPS[cell.name](p["weight_ih"] @ x[t, b] + p["bias_ih"], h, s, p)
            y[t, b] = s[0]
        for k, state in enumerate(s):
            last[k][b] = state
    return y, last


def states_of(cell, rng, shape):
    """Return states to begin with; what is divided by is positive."""
    states = [rng.standard_normal(shape) for _ in cell.states]
    if cell is library.s_lstm:
        states[2] = 0.5 + np.abs(states[2])
    return tuple(states)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize(("H", "lengths"), [(1, [6]), (5, [6, 0, 3]), (33, [6, 5, 6, 2, 1, 6, 4])])
def test_the_library_against_numpy(name, H, lengths, nan_buffers) -> None:
    cell, rng, B = LIBRARY[name], np.random.default_rng(1), len(lengths)
    layer = rnncore.Recurrent(cell, 4, H, bidirectional=True, dtype=np.float64, seed=2)
    x = rng.standard_normal((6, B, 4))
    states = states_of(cell, rng, (2, B, H))
    y, final = layer(x, states if len(states) > 1 else states[0], lengths)
    for d, end in enumerate(("_l0", "_l0_reverse")):
        right, last = plain(layer, cell, end, x, [s[d] for s in states], lengths, d == 1)
        np.testing.assert_allclose(y[..., d * H : (d + 1) * H], right, rtol=1e-12, atol=1e-13)
        for found, state in zip(np.reshape(final, (-1, 2, B, H)), last, strict=True):
            np.testing.assert_allclose(found[d], state, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize(
    ("T", "B", "H", "layers", "bidirectional", "lengths", "bias"),
    [(4, 1, 5, 1, False, None, True), (3, 3, 4, 2, True, [3, 0, 2], "pytorch"),
     (2, 7, 3, 1, False, None, False)],
)  # fmt: skip
def test_every_gradient(name, T, B, H, layers, bidirectional, lengths, bias, nan_buffers) -> None:
    cell = LIBRARY[name]
    layer = rnncore.Recurrent(
        cell, 2, H, layers, bias, bidirectional=bidirectional, dtype=np.float64, seed=4
    )
    rng, count = np.random.default_rng(1), layers * (1 + bidirectional)
    x, dy = rng.standard_normal((T, B, 2)), rng.standard_normal((T, B, layer.output_size))
    state = states_of(cell, rng, (count, B, H))
    dstate = tuple(rng.standard_normal((len(cell.states), count, B, H)))
    whole = len(cell.states) > 1

    def loss() -> float:
        y, last = layer(x, state if whole else state[0], lengths)
        last = last if whole else (last,)
        return float(np.vdot(y, dy) + sum(np.vdot(s, d) for s, d in zip(last, dstate, strict=True)))

    layer.flat_grads[...] = np.nan
    layer.forward(x, state if whole else state[0], lengths)
    dx, dlast = layer.backward(dy, dstate if whole else dstate[0], accumulate=False)
    analytic = {name: array.copy() for name, array in layer.grads.items()} | {"x": dx}
    others = {"x": x}
    for k, letter in enumerate(cell.states):
        analytic[letter], others[letter] = (dlast[k] if whole else dlast), state[k]
    assert_gradients_close(analytic, of_module(layer, loss, **others))


# All that the engine does with a cell


@pytest.mark.parametrize("name", LIBRARY)
def test_threads_streams_segments_and_tokens(name, threads) -> None:
    layer = rnncore.Recurrent(LIBRARY[name], 7, 40, 2, seed=0)
    ids = np.random.default_rng(0).integers(0, 7, (700, 3))
    assert_tokens_agree(layer, ids, 3_000_000, threads)
    x = np.random.default_rng(1).standard_normal((70, 7)).astype(np.float32)
    stream = layer.stream()
    assert np.array_equal(np.stack([stream.step(row) for row in x]), layer(x)[0])


def test_a_record_has_the_gates_by_their_letters() -> None:
    layer = rnncore.Recurrent(library.peephole_lstm, 3, 5, dtype=np.float64, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    _, _, [record] = layer.record(x)
    assert sorted(record) == ["c", "f", "g", "h", "i", "o"]
    before = np.concatenate([np.zeros((1, 2, 5)), record["c"][:-1]])
    np.testing.assert_allclose(record["c"], record["f"] * before + record["i"] * record["g"])
    np.testing.assert_allclose(record["h"], record["o"] * np.tanh(record["c"]))
    layer = rnncore.Recurrent(library.min_gru, 3, 5, dtype=np.float64, seed=0)
    _, _, [record] = layer.record(x)
    right = x @ layer.params["weight_ih_l0"][5:].T + layer.params["bias_ih_l0"][5:]
    np.testing.assert_allclose(record["n"], right)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_the_gradient_of_every_state(kind: str) -> None:
    mine = rnncore.Recurrent(AGAIN[kind], 3, 5, dtype=np.float64, seed=0)
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


def test_cells_without_a_product() -> None:
    for name in ("ind_rnn", "min_gru", "min_lstm", "rg_lru"):
        layer = rnncore.Recurrent(LIBRARY[name], 3, 5)
        assert LIBRARY[name].elementwise and "weight_hh_l0" not in layer.params
        assert f"{name}, 9 times 2 x 5, no product" in layer.explain(9, 2)
        again = rnncore.Recurrent(LIBRARY[name], 3, 5, seed=1)
        again.load_state_dict(layer.state_dict())
        assert np.array_equal(again.flat_params, layer.flat_params)
    layer = rnncore.Recurrent(library.peephole_lstm, 3, 5)
    assert layer.explain(9, 2).startswith("peephole_lstm 3 -> 5") and "weight_hh_l0" in layer.params


@pytest.mark.parametrize("noise", [
    {"zoneout": (0.2, 0.3)}, {"recurrent_dropout": 0.3}, {"weight_drop": 0.4, "zoneout": 0.1},
], ids=str)  # fmt: skip
def test_noise_is_that_of_the_engines_own_cell(noise) -> None:
    settings = {"num_layers": 2, "dtype": np.float64, "seed": 3, **noise}
    x = np.random.default_rng(0).standard_normal((9, 4, 5))
    results = []
    again = rnncore.Recurrent(AGAIN["LSTM"], 5, 19, **settings)
    for layer in (again, rnncore.LSTM(5, 19, **settings)):
        y, _ = layer.forward(x)
        dx, _ = layer.backward(np.cos(y))
        results.append((y, dx, layer.flat_grads, layer(x)[0]))
    for found, right in zip(*results, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("option", ["recurrent_dropout", "weight_drop"])
def test_noise_on_a_product_that_is_none(option) -> None:
    with pytest.raises(ValueError, match=rf"{option}: expected 0, got 0\.2: min_gru has no W_hh"):
        rnncore.Recurrent(library.min_gru, 3, 4, **{option: 0.2})
    layer = rnncore.Recurrent(library.min_gru, 3, 4, zoneout=0.2, seed=0)
    y, _ = layer.forward(np.ones((6, 2, 3)))
    layer.backward(np.ones_like(y))
    assert np.isfinite(layer.flat_grads).all() and (layer.flat_grads != 0).any()


@rnncore.cell(gates="a", own={"weight_hh_own": (1.0, 2.0), "bias_ih_own": 1.0, "initial_own": 2.0})
def named_alike(z, prev, own):
    return tanh(own.weight_hh_own * z.a + own.bias_ih_own) + 0.1 * own.initial_own * prev.h


def test_own_vectors_may_be_called_almost_like_others() -> None:
    layer = rnncore.Recurrent(named_alike, 3, 5, learn_initial_state=True, seed=0)
    assert (layer.params["initial_own_l0"] == 2).all() and not layer.params["initial_h_l0"].any()
    found = []
    for before in (0.0, np.nan):
        layer.flat_grads[...] = before
        y, _ = layer.forward(np.ones((4, 2, 3)))
        layer.backward(y, accumulate=False)
        found.append(layer.flat_grads.copy())
    assert np.array_equal(*found) and found[0].all()


def test_own_vectors_begin_where_the_cell_says() -> None:
    layer = rnncore.Recurrent(rg_lru, 3, 500, seed=0)
    a = layer.params["a_l0"]
    assert 2.2 <= a.min() < 2.3 and 6.8 < a.max() <= 6.9
    assert np.abs(layer.params["weight_ih_l0"]).max() <= 500**-0.5


@pytest.mark.parametrize("build", BUILDS)
def test_every_build(build, use_build) -> None:
    if not hasattr(engine.load_kernels(build, np.float64), "elementary"):
        pytest.skip("an older build")
    x = np.random.default_rng(0).standard_normal((5, 3, 2))
    right = rnncore.Recurrent(library.peephole_lstm, 2, 9, dtype=np.float64, seed=0)(x)[0]
    use_build(build)
    layer = rnncore.Recurrent(library.peephole_lstm, 2, 9, dtype=np.float64, seed=0)
    np.testing.assert_allclose(layer(x)[0], right, rtol=1e-12)


# A backward of one's own


def backward_of_lstm(d, kept, prev):
    t = tanh(kept.c)
    dc = d.c + d.h * kept.o * (1 - t * t)
    return {
        "z.i": dc * kept.g * kept.i * (1 - kept.i),
        "z.f": dc * prev.c * kept.f * (1 - kept.f),
        "z.g": dc * kept.i * (1 - kept.g * kept.g),
        "z.o": d.h * t * kept.o * (1 - kept.o),
        "prev.c": dc * kept.f,
    }


def lstm_by_hand(z, prev):
    i, f, g, o = sigmoid(z.i), sigmoid(z.f), tanh(z.g), sigmoid(z.o)
    c = f * prev.c + i * g
    return o * tanh(c), c


def test_a_backward_written_by_hand() -> None:
    cell = rnncore.cell(gates="ifgo", states="hc", backward=backward_of_lstm)(lstm_by_hand)
    a, b = (rnncore.Recurrent(one, 3, 9, dtype=np.float64, seed=0) for one in (cell, AGAIN["LSTM"]))
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    for layer in (a, b):
        layer.forward(x)
        layer.backward(np.ones((5, 2, 9)))
    np.testing.assert_allclose(a.flat_grads, b.flat_grads, rtol=1e-12, atol=1e-15)


def wrong_sign(d, kept, prev):
    return {"z.n": -d.h * (1 - kept.n * kept.n)}


def forgets(d, kept, prev):
    return {}


@pytest.mark.parametrize("backward", [wrong_sign, forgets])
def test_a_wrong_backward_is_refused(backward) -> None:
    def rnn(z):
        n = tanh(z.n)
        return n

    with pytest.raises(rnncore.CellError, match=r"its backward: the gradient of x\.n is .* fin"):
        rnncore.cell(gates="n", backward=backward)(rnn)


# Names


def test_a_cell_is_pickled_by_its_name() -> None:
    layer = rnncore.Recurrent(library.min_gru, 3, 4, seed=0)
    again = pickle.loads(pickle.dumps(layer))
    x = np.ones((2, 1, 3), np.float32)
    assert np.array_equal(again(x)[0], layer(x)[0])
    assert b"sigmoid" not in pickle.dumps(layer)


def test_a_signature_follows_the_equations() -> None:
    def first(z, prev):
        a = sigmoid(z.a)
        return a * prev.h

    def same(z, prev):
        gate = sigmoid(z.a)  # another name for it
        return gate * prev.h

    def other(z, prev):
        return sigmoid(z.a) * prev.h * 0.5

    signatures = [rnncore.cell(gates="a")(one).signature for one in (first, same, other)]
    assert signatures[0] == signatures[1] != signatures[2]


def test_without_llvmlite_a_sentence_says_what_to_install() -> None:
    code = ("import sys; sys.modules['llvmlite'] = None\n"
            "import rnncore\nfrom rnncore.cells.library import min_gru\n"
            "try: rnncore.Recurrent(min_gru, 2, 3)\n"
            "except ImportError as error: print(error)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "rnncore[cells]"' in done.stdout and done.stdout.count("\n") == 1
