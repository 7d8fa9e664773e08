"""Noise of training: dropout variational and recurrent, zoneout, weight drop, and plain NumPy."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import BUILDS
from finite_differences import assert_gradients_close, of_module

import rnncore
from rnncore.cli.main import main
from rnncore.engine import kernels
from rnncore.engine.noise import drop, mask_of

CELLS = {
    "rnn": rnncore.RNN, "lstm": rnncore.LSTM, "gru": rnncore.GRU,
    "gru_reset_before": partial(rnncore.GRU, reset_after=False),
}  # fmt: skip
#: The options, each by itself and together.
OPTIONS: dict[str, dict[str, Any]] = {
    "recurrent": {"recurrent_dropout": 0.4},
    "zoneout": {"zoneout": 0.4},
    "weights": {"weight_drop": 0.4},
    "variational": {"dropout": 0.4, "variational": True},
    "all": {"dropout": 0.3, "variational": True, "recurrent_dropout": 0.2, "zoneout": 0.25,
            "weight_drop": 0.3},
    "rows": {"dropout": 0.3, "recurrent_dropout": 0.2, "zoneout": 0.25, "weight_drop": 0.3},
}  # fmt: skip


def happens(key: int, places: Any, p: float) -> np.ndarray:
    """Return where an event of probability p happens, as src_cython/noise.h says."""
    word, low = np.asarray(places, np.uint64), np.uint64(0xFFFFFFFF)
    x = (word + np.uint64(key & 0xFFFFFFFF)) & low
    x = (((x ^ (x >> np.uint64(16))) * np.uint64(0x21F0AAAD)) & low) ^ np.uint64(key >> 32)
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x735A2D97)) & low
    return x < round(p * 2**32)


def factors(key: int, shape: tuple[int, ...], p: float) -> np.ndarray:
    """Return masks of 0 and 1 / (1 - p)."""
    places = np.arange(np.prod(shape)).reshape(shape)
    return np.where(happens(key, places, p), 0, 1 / (1 - p))


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def step(
    kind: str, p: Any, end: str, W_hh: np.ndarray, x: np.ndarray, h: np.ndarray, c: np.ndarray,
    m: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return h and c of one step of one sequence; W_hh multiplies h m."""
    z_x = p["weight_ih" + end] @ x + p["bias_ih" + end]
    z_h = W_hh @ (h * m)
    if kind == "rnn":
        return np.tanh(z_x + z_h), c
    if kind == "lstm":
        i, f, g, o = np.split(z_x + z_h, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (r, z, n), (h_r, h_z, h_n) = np.split(z_x, 3), np.split(z_h, 3)
    r, z = sigmoid(r + h_r), sigmoid(z + h_z)
    if kind == "gru_reset_before":
        n = np.tanh(n + np.split(W_hh, 3)[2] @ (r * h * m))
    else:
        n = np.tanh(n + r * (h_n + p["bias_hn" + end]))
    return (1 - z) * n + z * h, c


def draw(generator: np.random.Generator, count: int) -> list[int]:
    return [int(key) for key in generator.integers(0, 2**64, count, np.uint64)]


def in_numpy(
    kind: str, layer: Any, x: np.ndarray, state: Any, lengths: np.ndarray, training: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return y and the last states, of a training pass or of inference."""
    g, p = copy.deepcopy(layer._dropout.generator), layer.params
    B, H, layers = x.shape[1], layer.hidden_size, layer.num_layers
    directions = 1 + layer.bidirectional
    count, zones = layers * directions, layer._stack.zoneout
    order = np.argsort(-lengths, kind="stable")
    running = int((lengths > 0).sum())
    starts = np.concatenate([[0], np.cumsum([(lengths > t).sum() for t in range(len(x))])])
    W = [p[f"weight_hh_l{k // directions}{'_reverse' * (k % directions)}"] for k in range(count)]
    m = np.ones((count, B, H))
    zone_keys: list[int] = []
    between = np.ones((layers, B, directions * H))
    if training and layer.weight_drop:
        keys = draw(g, count)
        W = [w * factors(key, w.shape, layer.weight_drop) for w, key in zip(W, keys, strict=True)]
    if training and layer.recurrent_dropout:
        for k, key in enumerate(draw(g, count)):
            m[k, :running] = factors(key, (running, H), layer.recurrent_dropout)
    if training and any(zones):
        zone_keys = draw(g, 2 * count)
    if training and layer.variational:
        for k, key in enumerate(draw(g, layers - 1)):
            between[k, :running] = factors(key, (running, directions * H), layer.dropout)
    h_0, c_0 = state if kind == "lstm" else (state, np.zeros_like(state))
    h_n, c_n = h_0.copy(), c_0.copy()
    for number in range(layers):
        y = np.zeros((len(x), B, directions * H))
        for d in range(directions):
            k, end = number * directions + d, f"_l{number}" + "_reverse" * d
            for rank, b in enumerate(order):
                h, c = h_0[k, b], c_0[k, b]
                steps = range(lengths[b])
                for t in reversed(steps) if d else steps:
                    new = step(kind, p, end, W[k], x[t, b], h, c, m[k, rank])
                    kept: list[np.ndarray] = []
                    for s, (rate, before, now) in enumerate(zip(zones, (h, c), new, strict=True)):
                        share: Any = rate
                        if training and rate:
                            places = (starts[t] + rank) * H + np.arange(H)
                            share = happens(zone_keys[2 * k + s], places, rate)
                        kept.append(share * before + (1 - share) * now)
                    h, c = kept
                    y[t, b, d * H : (d + 1) * H] = h
                h_n[k, b], c_n[k, b] = h, c
        x = y * between[number][np.argsort(order)] if number + 1 < layers else y
    return y, h_n, c_n


def make(
    kind: str, T: int, B: int, bidirectional: bool = False, ragged: bool = False, H: int = 5,
    **options: Any,
) -> tuple[Any, np.ndarray, Any, Any]:  # fmt: skip
    """Return two layers of a kind, with x, a state and lengths."""
    rng = np.random.default_rng([T, B])
    options = {"num_layers": 2, "dtype": np.float64, **options}
    layer = CELLS[kind](3, H, bidirectional=bidirectional, seed=1, **options)
    states = rng.standard_normal((2, options["num_layers"] * (1 + bidirectional), B, H))
    lengths = rng.permutation(np.linspace(0, T, B).astype(int)) if ragged else None
    return (layer, rng.standard_normal((T, B, 3)),
            tuple(states) if kind == "lstm" else states[0], lengths)  # fmt: skip


def repeat(layer: Any, seed: int = 7) -> None:
    """Have the next pass draw what others with this seed do."""
    layer._dropout.generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "rows"])
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(
    ("T", "B", "bidirectional", "ragged"),
    [(1, 1, False, False), (2, 3, True, False), (5, 3, False, True), (5, 4, True, True),
     (3, 9, False, False)],
)  # fmt: skip
def test_a_pass_is_that_of_numpy(
    kind: str, options: str, T: int, B: int, bidirectional: bool, ragged: bool, training: bool,
    nan_buffers: None,
) -> None:  # fmt: skip
    layer, x, state, lengths = make(kind, T, B, bidirectional, ragged, **OPTIONS[options])
    counts = np.full(B, T) if lengths is None else lengths
    right = in_numpy(kind, layer, x, state, counts, training)
    y, last = (layer.forward if training else layer)(x, state, lengths)
    found = (y, *last) if kind == "lstm" else (y, last)
    for array, expected in zip(found, right, strict=False):
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(
    ("options", "T", "B", "bidirectional", "ragged"),
    [(name, 2, 3, True, True) for name in OPTIONS]
    + [("all", 1, 1, True, False), ("rows", 5, 3, True, True), ("all", 5, 1, False, False),
       ("all", 2, 8, False, True)],
)  # fmt: skip
def test_every_gradient(
    kind: str, options: str, T: int, B: int, bidirectional: bool, ragged: bool, nan_buffers: None
) -> None:
    layer, x, state, lengths = make(kind, T, B, bidirectional, ragged, H=3, **OPTIONS[options])
    rng = np.random.default_rng(0)
    dy = rng.standard_normal((T, B, layer.output_size))
    dlast = [rng.standard_normal(s.shape) for s in (state if kind == "lstm" else [state])]

    def loss() -> float:
        repeat(layer)
        y, last = layer.forward(x, state, lengths)
        last = last if kind == "lstm" else [last]
        return float(np.vdot(y, dy) + sum(np.vdot(a, b) for a, b in zip(last, dlast, strict=True)))

    layer.flat_grads[...] = np.nan
    loss()
    dstate = tuple(dlast) if kind == "lstm" else dlast[0]
    dx, dinitial = layer.backward(dy, dstate, accumulate=False)
    others = dict(zip("hc", state if kind == "lstm" else [state], strict=False), x=x)
    dothers = dict(zip("hc", dinitial if kind == "lstm" else [dinitial], strict=False), x=dx)
    analytic = {name: array.copy() for name, array in layer.grads.items()} | dothers
    assert_gradients_close(analytic, of_module(layer, loss, **others))
    loss()
    layer.backward(dy, dstate)
    for name, gradient in layer.grads.items():
        np.testing.assert_allclose(gradient, 2 * analytic[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rates_scale_and_independence(dtype: Any) -> None:
    n = 400_000
    for p in (0.05, 0.5, 0.9):
        masks = [drop(kernels(dtype), p, key, np.ones(n, dtype)) for key in (3, 4, 3 << 40)]
        for mask in masks:
            assert set(np.unique(mask)) == {0, dtype(1 / (1 - p))}
            dropped = mask == 0
            assert np.array_equal(dropped, happens(3, np.arange(n), p)) == (mask is masks[0])
            sigma = (p * (1 - p) / n) ** 0.5
            assert abs(dropped.mean() - p) < 4 * sigma
            for lag in (1, 2, 7, 16, 128, 256, 1024):
                both = (dropped[lag:] & dropped[:-lag]).mean()
                assert abs(both - p * p) < 6 * sigma
        a, b, c = (mask == 0 for mask in masks)
        for left, right in ((a, b), (a, c)):
            assert abs((left & right).mean() - p * p) < 6 * (p * (1 - p) / n) ** 0.5


def test_sizes_around_a_vector() -> None:
    for n in (1, 2, 15, 16, 17, 33):
        for dtype in (np.float32, np.float64):
            x = np.full(n + 2, 7, dtype)
            given = x.copy()
            drop(kernels(dtype), 0.5, 5, given[1:-1], given[1:-1])
            assert given[0] == given[-1] == 7
            expected = np.where(happens(5, np.arange(n), 0.5), 0, 14)
            assert np.array_equal(given[1:-1], expected)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", CELLS)
def test_threads_and_budgets_change_no_bit(kind: str, options: str) -> None:
    found = []
    form: dict[str, Any] = {"H": 33, "dtype": np.float32, **OPTIONS[options]}
    for ragged in (False, True):
        layer, x, state, lengths = make(kind, 150, 7, ragged=ragged, **form)
        x = x.astype(np.float32)
        dy = np.random.default_rng(0).standard_normal((150, 7, 33)).astype(np.float32)
        for threads, memory in ((1, None), (2, None), (3, 1), (1, 10**10)):
            rnncore.set_num_threads(threads)
            try:
                if memory == 1:
                    with pytest.raises(ValueError, match="memory: expected at least") as error:
                        layer.forward(x, state, lengths, memory=1)
                    memory = int(str(error.value).split()[4])
                repeat(layer)
                y, last, kept = layer.forward(x, state, lengths, memory=memory, keep=True)
                assert (kept.segments is not None) == (threads == 3)
                dx, first = layer.backward(dy, kept=kept, accumulate=False)
            finally:
                rnncore.set_num_threads(2)
            arrays = [y, dx, layer.flat_grads.copy(), *map(np.asarray, (last, first))]
            arrays.append(np.frombuffer(str(layer._dropout.generator.bit_generator.state).encode(),
                                        np.uint8))  # fmt: skip
            found.append(arrays)
        for arrays in found[1:]:
            for array, right in zip(arrays, found[0], strict=True):
                assert np.array_equal(array, right)
        found.clear()


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_threads_that_share_units_change_no_bit(kind: str, bidirectional: bool) -> None:
    found = []
    for threads in (1, 2, 3, 4):
        layer, x, state, lengths = make(kind, 9, 3, bidirectional, True, H=200, **OPTIONS["all"])
        rnncore.set_num_threads(threads)
        try:
            y, last = layer.forward(x, state, lengths)
            dx, first = layer.backward(np.cos(y))
        finally:
            rnncore.set_num_threads(2)
        found.append((y, dx, layer.flat_grads, *map(np.asarray, (last, first))))
    for arrays in found[1:]:
        for array, right in zip(arrays, found[0], strict=True):
            assert np.array_equal(array, right)


@pytest.mark.parametrize("kind", CELLS)
def test_builds_draw_the_same(kind: str, use_build: Any) -> None:
    found = []
    for build in BUILDS:
        use_build(build)
        layer, x, state, lengths = make(kind, 7, 4, True, True, H=11, **OPTIONS["all"])
        y, _ = layer.forward(x, state, lengths)
        dx, _ = layer.backward(np.cos(y))
        found.append((y, dx, layer.flat_grads))
    for arrays in found[1:]:
        for array, right in zip(arrays, found[0], strict=True):
            np.testing.assert_allclose(array, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", CELLS)
def test_a_unit_once_dropped_stays_dropped_all_along_its_sequence(kind: str) -> None:
    layer = rnncore.layers.Dropout(0.5, variational=True, seed=0)
    x = np.ones((9, 4, 50), np.float32)
    y = layer.forward(x)
    assert (y == y[:1]).all() and set(np.unique(y)) == {0, 2}
    assert 0.3 < (y[0] == 0).mean() < 0.7 and not (y[:, 0] == y[:, 1]).all()
    assert np.array_equal(layer.backward(x), y)
    recurrent, x, state, lengths = make(kind, 9, 4, True, True)
    rows, _ = recurrent(x, state, lengths, rows=True)
    dropped = rnncore.Dropout(0.5, variational=True, dtype=np.float64, seed=0).forward(rows)
    mask = (dropped.unpack() / np.where(rows.unpack() == 0, 1, rows.unpack())).round(12)
    for b, length in enumerate(lengths):
        assert (mask[:length, b] == mask[:1, b]).all() and (mask[length:, b] == 0).all()


def test_inference_reads_no_noise() -> None:
    for kind in CELLS:
        for name, options in OPTIONS.items():
            layer, x, state, lengths = make(kind, 6, 3, ragged=True, **options)
            plain, *_ = make(kind, 6, 3, num_layers=2)
            plain.load_state_dict(layer.state_dict())
            y, _ = layer(x, state, lengths)
            right, _ = plain(x, state, lengths)
            same = np.array_equal(y, right)
            assert same == ("zoneout" not in options), (kind, name)
            stream = layer.stream()
            steps = np.stack([stream.step(row) for row in x[:, 0]])
            assert np.array_equal(steps, layer(x[:, 0])[0])
            assert np.array_equal(stream.copy().process(x[:, 1]), _after(layer, x))
            y_recorded, _, records = layer.record(x, state, lengths)
            assert np.array_equal(y_recorded, y) and np.array_equal(records[-1]["h"], y)


def _after(layer: Any, x: np.ndarray) -> np.ndarray:
    _, state = layer(x[:, 0])
    y, _ = layer(x[:, 1], state)
    return np.asarray(y)


def test_tokens_learned_states_and_rows_take_part() -> None:
    rng = np.random.default_rng(0)
    embedding = rnncore.Embedding(7, 3, dtype=np.float64, seed=0)
    layer, *_ = make("lstm", 5, 3, learn_initial_state=True, **OPTIONS["all"])
    tokens, dy = rng.integers(0, 7, (5, 3)), rng.standard_normal((5, 3, 5))
    repeat(layer)
    y, _ = layer.forward(tokens, embedding=embedding)
    layer.backward(dy)
    found, table = layer.flat_grads.copy(), embedding.grads["weight"].copy()
    layer.zero_grad()
    repeat(layer)
    vectors = embedding.params["weight"][tokens]
    y_right, _ = layer.forward(vectors)
    dx, _ = layer.backward(dy)
    np.testing.assert_allclose(y, y_right, rtol=1e-12)
    np.testing.assert_allclose(found, layer.flat_grads, rtol=1e-10, atol=1e-12)
    right = np.zeros_like(table)
    np.add.at(right, tokens, dx)
    np.testing.assert_allclose(table, right, rtol=1e-10, atol=1e-12)


def test_weight_drop_leaves_the_parameters_alone() -> None:
    layer, x, _, _ = make("gru", 4, 2, **OPTIONS["weights"])
    before = layer.flat_params.copy()
    y, _ = layer.forward(x)
    layer.backward(np.ones_like(y))
    assert np.array_equal(layer.flat_params, before)
    gradient = layer.grads["weight_hh_l0"]
    assert 0.2 < (gradient == 0).mean() < 0.6  # of a dropped weight there is none
    again, _ = layer.forward(x)
    assert not np.array_equal(again, y)  # another mask each pass


def test_an_empty_batch() -> None:
    layer, *_ = make("lstm", 1, 2, **OPTIONS["all"])
    for shape, lengths in (((0, 2, 3), None), ((3, 2, 3), [0, 0]), ((3, 0, 3), None)):
        layer.flat_grads[...] = 1
        y, _ = layer.forward(np.ones(shape), lengths=lengths)
        layer.backward(np.zeros_like(y), accumulate=False)
        assert not layer.flat_grads.any()


def test_copies_and_pickles_go_on_with_the_same_noise() -> None:
    layer, x, state, _ = make("lstm", 5, 3, **OPTIONS["all"])
    others = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    y, _ = layer.forward(x, state)
    for other in others:
        assert np.array_equal(other.forward(x, state)[0], y)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("lstm", {"zoneout": (0.1, 0.2, 0.3)}, "zoneout: expected a number, or two"),
        ("gru", {"zoneout": (0.1, 0.2)}, "the states of GRU are h"),
        ("lstm", {"zoneout": 1.0}, "zoneout: "),
        ("lstm", {"zoneout": (0.1, "x")}, "zoneout: "),
        ("rnn", {"recurrent_dropout": -0.1}, "recurrent_dropout: "),
        ("rnn", {"weight_drop": 1}, "weight_drop: "),
        ("rnn", {"weight_drop": float("nan")}, "weight_drop: "),
        ("gru", {"variational": True}, "variational: .*dropout is 0"),
        ("gru", {"variational": 0.5, "dropout": 0.5}, "variational: "),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        CELLS[kind](3, 5, 2, **options)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 1e-60, 2**-24, 1 - 2**-24, 1 - 1e-12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_are_those_that_numpy_would_draw(p: float, dtype: Any) -> None:
    for n in (0, 1, 2, 3, 7, 8, 9, 17, 1000, 100_001):
        for before in (0, 1, 2):
            for threads in (1, 2, 3):
                ours, numpys = np.random.default_rng(n), np.random.default_rng(n)
                for generator in (ours, numpys):
                    generator.random(before, np.float32)
                rnncore.set_num_threads(threads)
                try:
                    mask = mask_of(kernels(dtype), ours, p, np.full(n, np.nan, dtype))
                finally:
                    rnncore.set_num_threads(2)
                kept = numpys.random(n, np.float32) >= p
                assert np.array_equal(mask, kept * dtype(1 / (1 - p)))
                assert ours.bit_generator.state == numpys.bit_generator.state
    other = np.random.Generator(np.random.MT19937(0))
    mask = mask_of(kernels(dtype), other, p, np.full((3, 5), np.nan, dtype))
    kept = np.random.Generator(np.random.MT19937(0)).random((3, 5), np.float32) >= p
    assert np.array_equal(mask, kept * dtype(1 / (1 - p)))


def test_masks_of_segments_are_the_same_again_while_others_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # y is linear in x here, so <dy, y> = <dx, x>, if the masks are the same.
    layer = rnncore.RNN(
        4, 8, 3, bias=False, nonlinearity="identity", dropout=0.3, dtype=np.float64, seed=0
    )
    x = np.random.default_rng(0).standard_normal((600, 6, 4))
    with pytest.raises(ValueError, match="memory: expected at least") as error:
        layer.forward(x, memory=1)
    y, _, kept = layer.forward(x, memory=int(str(error.value).split()[4]), keep=True)
    draws = []

    def drawn_beside_another(kernels: Any, generator: Any, p: float, out: Any) -> Any:
        draws.append(layer._dropout.generator.random())  # another thread's pass
        return mask_of(kernels, generator, p, out)

    monkeypatch.setattr(rnncore.layers.noise, "mask_of", drawn_beside_another)
    dy = np.cos(y)
    dx, _ = layer.backward(dy, kept=kept)
    assert len(draws) > 2
    np.testing.assert_allclose(np.vdot(dy, y), np.vdot(dx, x), rtol=1e-12)


def test_dropout_gives_its_buffers_back() -> None:
    layer, x, _, _ = make("lstm", 6, 4)
    rows, _ = layer(x, rows=True)
    for options in ({}, {"variational": True}):
        dropout = rnncore.Dropout(0.5, dtype=np.float64, seed=0, **options)
        y, first = dropout.forward(rows, keep=True)
        z, second = dropout.forward(rows, keep=True)
        before = y.array().copy(), z.array().copy()
        assert not np.array_equal(*before)
        dz, dy = dropout.backward(rows, kept=second), dropout.backward(rows, kept=first)
        for found, right in ((y, before[0]), (z, before[1]), (dy, before[0]), (dz, before[1])):
            assert np.array_equal(found.array(), right)
        copied = pickle.loads(pickle.dumps(dropout))
        assert np.array_equal(copied.forward(x), dropout.forward(x))
        dropout.release_memory()
    with pytest.raises(ValueError, match=r"x: expected \(T, B, features\)"):
        rnncore.Dropout(0.5, variational=True).forward(np.ones(3, np.float32))
    dropout = rnncore.Dropout(0.5, variational=True, batch_first=True, seed=0)
    y = dropout.forward(np.ones((2, 9, 30)))
    assert (y == y[:, :1]).all() and not (y[0] == y[1]).all()
    empty = rnncore.Dropout(0.5, variational=True).forward(np.ones((0, 2, 3), np.float32))
    assert empty.shape == (0, 2, 3)


def test_a_language_model_takes_the_options_and_its_file_keeps_them(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("to be or not to be, that is the question. " * 40)
    options = {"--dropout": "0.2", "--recurrent-dropout": "0.1", "--zoneout": "0.05",
               "--weight-drop": "0.3", "--hidden-size": "8", "--steps": "3", "--samples": "0",
               "--batch-size": "4", "--output": str(tmp_path / "out")}  # fmt: skip
    flat = [word for pair in options.items() for word in pair]
    done = CliRunner().invoke(main, ["train", "text", str(text), *flat, "--variational"])
    assert done.exit_code == 0, done.output
    network: Any = rnncore.models.load(tmp_path / "out" / "last.safetensors")
    rnn = network.rnn
    assert (rnn.dropout, rnn.variational, network.dropout.variational) == (0.2, True, True)
    assert (rnn.recurrent_dropout, rnn.zoneout, rnn.weight_drop) == (0.1, 0.05, 0.3)
    tokens = network.vocabulary.encode("not to be")[:, None]
    stream = network.stream()
    found = np.stack([stream.step(int(token)) for token in tokens[:, 0]])
    right = network.probabilities(tokens)[0][:, 0]
    np.testing.assert_allclose(rnncore.functions.softmax(found), right, rtol=1e-4)
    model = rnncore.LanguageModel(hidden_size=8, zoneout=0.1, batch_size=4, epochs=1, seed=0)
    assert model.fit(text.read_text()).network_.rnn.zoneout == 0.1
    two = ["--zoneout", "0.05,0.5", "--hidden-size", "8", "--steps", "3", "--batch-size", "4"]
    more = ["--samples", "0", "--output", str(tmp_path / "two")]
    for how in (two, ["--resume", str(tmp_path / "two" / "last.safetensors"), "--steps", "4",
                      "--zoneout", "0.05,0.5"]):  # fmt: skip
        done = CliRunner().invoke(main, ["train", "text", str(text), *how, *more])
        assert done.exit_code == 0, done.output
    again = rnncore.LanguageModel.load(tmp_path / "two" / "last.safetensors")
    assert again.zoneout == again.network_.rnn.zoneout == (0.05, 0.5)
    for given in ("0.1,1", "a", "0.1,", "nan", "0.1,0.2,0.3"):
        wrong = CliRunner().invoke(main, ["train", "text", str(text), "--zoneout", given])
        assert wrong.exit_code == 2 and "zoneout" in wrong.output, wrong.output
    wrong = CliRunner().invoke(main, ["train", "text", str(text), "--variational"])
    assert wrong.exit_code != 0 and "variational" in wrong.output + str(wrong.exception)


def test_dropout_refuses_rows_of_another_dtype_and_an_array_for_rows_with_a_mask_each() -> None:
    x = np.ones((4, 2, 3))
    rows = rnncore.LSTM(3, 5, seed=0, dtype=np.float64).forward(x, rows=True)[0]
    with pytest.raises(TypeError, match="x: expected rows of float32, got float64"):
        rnncore.Dropout(0.5).forward(rows)
    dropout = rnncore.Dropout(0.5, variational=True, dtype=np.float64, seed=0)
    dropout.forward(rows)
    with pytest.raises(TypeError, match="dy: expected rows like y"):
        dropout.backward(np.ones((8, 5)))
