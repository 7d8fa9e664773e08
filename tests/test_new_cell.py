"""A new built-in cell is one file and one line: a peephole LSTM in a copy of the engine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import assert_tokens_agree
from finite_differences import assert_gradients_close, of_module

import rnncore
from rnncore import engine

ROOT = Path(__file__).parents[1]
needs = [name for name in ("Cython", "setuptools") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(needs) or shutil.which(os.environ.get("CC", "cc")) is None,
    reason=f"builds the engine: needs a C compiler, Cython and setuptools ({needs} missing)",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the source, add the cell, and build it."""
    folder = tmp_path_factory.mktemp("engine")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("src_cython", "rnncore"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "*.c"))
    shutil.copy(ROOT / "tests/fixtures/peephole.h", folder / "src_cython/cells")
    listed = folder / "src_cython/cells/cells.h"
    line = '#include "cells/gru.h"\n'
    listed.write_text(listed.read_text().replace(line, line + '#include "cells/peephole.h"\n'))
    flags = os.environ.get("RNNCORE_CFLAGS", "") + " -O1"
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, text=True,
        env={**os.environ, "RNNCORE_BUILDS": "baseline", "RNNCORE_CFLAGS": flags},
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture
def peephole(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Have layers run on that build; return what makes them."""

    def path(build: str, bits: int) -> Path:
        [found] = (tree / "rnncore/engine").glob(f"kernels_{build}_f{bits}*")
        return found

    monkeypatch.setattr(engine, "_path", path)
    monkeypatch.setattr(engine, "chosen_build", lambda: ("baseline", "asked for by a test"))
    engine.load_kernels.cache_clear()

    def make(*sizes: Any, **options: Any) -> rnncore.Recurrent:
        layer = rnncore.Recurrent("peephole", *sizes, dtype=np.float64, seed=0, **options)
        assert Path(engine.kernels(np.float64).__file__).is_relative_to(tree)
        return layer

    yield make
    engine.load_kernels.cache_clear()


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def run(p: Any, end: str, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Any:
    """Return y and the last states of one direction, in plain NumPy."""
    outputs = []
    for x_t in x:
        z = x_t @ p["weight_ih" + end].T + h @ p["weight_hh" + end].T + p["bias_ih" + end]
        z_i, z_f, z_g, z_o = np.split(z, 4, axis=-1)
        i = sigmoid(z_i + p["peephole_i" + end] * c)
        f = sigmoid(z_f + p["peephole_f" + end] * c)
        c = f * c + i * np.tanh(z_g)
        h = sigmoid(z_o + p["peephole_o" + end] * c) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c


def test_the_engine_knows_it_by_its_descriptor(peephole: Any) -> None:
    layer = peephole(3, 5, 2, bidirectional=True)
    cell = engine.kernels(np.float64).cell("peephole")
    assert cell.own == ("peephole_i", "peephole_f", "peephole_o") and cell.starts == (-1, -1, -1)
    assert {"peephole_i_l0", "peephole_o_l1_reverse"} <= set(layer.params)
    state = layer.state_dict()
    other = peephole(3, 5, 2, bidirectional=True)
    with other.changing_weights() as flat:
        flat[...] = 0
    other.load_state_dict(state)
    assert np.array_equal(other.flat_params, layer.flat_params)


@pytest.mark.parametrize("B", [1, 3, 7, 40])
@pytest.mark.parametrize("H", [1, 5, 8, 33])
def test_outputs_and_states(peephole: Any, B: int, H: int) -> None:
    rng = np.random.default_rng(B)
    layer = peephole(4, H, bidirectional=True)
    x, h, c = rng.standard_normal((9, B, 4)), *rng.standard_normal((2, 2, B, H))
    y, (h_n, c_n) = layer(x, (h, c))
    for d, end in enumerate(("_l0", "_l0_reverse")):
        step = -1 if d else 1
        right, h_d, c_d = run(layer.params, end, x[::step], h[d], c[d])
        half = y[..., d * H : (d + 1) * H]
        np.testing.assert_allclose(half, right[::step], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(h_n[d], h_d, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(c_n[d], c_d, rtol=1e-12, atol=1e-14)
    _, _, records = layer.record(x, (h, c))
    assert sorted(records[0]) == ["c", "f", "g", "h", "i", "o"]


@pytest.mark.parametrize(
    ("T", "B", "H", "layers", "bidirectional", "lengths"),
    [(4, 1, 5, 1, False, None), (3, 3, 9, 1, True, [3, 0, 2]), (3, 7, 4, 2, False, None),
     (260, 2, 3, 1, False, None)],
)  # fmt: skip
def test_every_gradient(
    peephole: Any, T: int, B: int, H: int, layers: int, bidirectional: bool, lengths: Any
) -> None:
    layer = peephole(2, H, layers, bidirectional=bidirectional)
    rng, count = np.random.default_rng(1), layers * (1 + bidirectional)
    x, dy = rng.standard_normal((T, B, 2)), rng.standard_normal((T, B, layer.output_size))
    state, dstate = (tuple(rng.standard_normal((2, count, B, H))) for _ in range(2))

    def loss() -> float:
        y, last = layer(x, state, lengths)
        return float(np.vdot(y, dy) + sum(np.vdot(s, d) for s, d in zip(last, dstate, strict=True)))

    layer.flat_grads[...] = np.nan
    layer.forward(x, state, lengths)
    dx, (dh, dc) = layer.backward(dy, dstate, accumulate=False)
    analytic = {name: array.copy() for name, array in layer.grads.items()}
    analytic |= {"h": dh, "c": dc} | ({"x": dx} if T < 100 else {})
    others = {"h": state[0], "c": state[1]} | ({"x": x} if T < 100 else {})
    assert_gradients_close(analytic, of_module(layer, loss, **others))
    layer.forward(x, state, lengths)
    layer.backward(dy, dstate)
    for name, gradient in layer.grads.items():
        np.testing.assert_allclose(gradient, 2 * analytic[name], rtol=1e-12)


def test_tokens_streams_threads_and_segments(peephole: Any, threads: Any) -> None:
    ids = np.random.default_rng(0).integers(0, 7, (900, 1))
    assert_tokens_agree(peephole(7, 20, 2), ids, 1_700_000, threads)


def test_without_biases_the_vectors_stay(peephole: Any) -> None:
    layer = peephole(3, 4, bias=False)
    assert list(layer.params) == ["weight_ih_l0", "weight_hh_l0",
                                  "peephole_i_l0", "peephole_f_l0", "peephole_o_l0"]  # fmt: skip
    params = {**layer.params, "bias_ih_l0": 0}
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    right, _, _ = run(params, "_l0", x, np.zeros((2, 4)), np.zeros((2, 4)))
    np.testing.assert_allclose(layer(x)[0], right, rtol=1e-12)


@pytest.mark.parametrize(
    ("T", "B", "H", "bidirectional", "lengths"),
    [
        (110, 1, 64, False, None),  # threads share the units of a step
        (90, 2, 65, True, None),  # and so in both directions, the last block not full
        (9, 40, 33, False, None),  # the sequences
        (9, 40, 33, True, [*range(10)] * 4),
        (120, 13, 16, True, [120 - 9 * k for k in range(13)]),
    ],
)  # fmt: skip
def test_any_number_of_threads_gives_the_same_bits(
    peephole: Any, threads: Any, T: int, B: int, H: int, bidirectional: bool, lengths: Any
) -> None:
    rng, layer = np.random.default_rng(0), peephole(4, H, bidirectional=bidirectional)
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, layer.output_size))
    shared, results = set(), []
    for count in (1, 2, 3):
        threads(count)
        plan = layer._stack.layers[0][0].layer.plan(T, B, False, count)
        shared.add((plan["row_threads"] > 1, plan["unit_threads"] > 1))
        y, state = layer.forward(x, lengths=lengths)
        dx, dstate = layer.backward(dy, accumulate=False)
        results.append((y, *state, dx, *dstate, layer.flat_grads.copy()))
    assert len(shared) > 1  # with more threads the work is shared
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    # one backward pass over it all against the sum over halves of the batch
    threads(1)
    if B > 1:
        once, halves = layer.grads["peephole_f_l0"].copy(), 0
        for half in (slice(0, B // 2), slice(B // 2, B)):
            layer.forward(x[:, half], lengths=None if lengths is None else lengths[half])
            layer.backward(dy[:, half], accumulate=False)
            halves = halves + layer.grads["peephole_f_l0"]
        np.testing.assert_allclose(halves, once, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("bias", [True, False, "pytorch"])
@pytest.mark.parametrize("source", ["one-hot", "embedding"])
def test_gradients_over_tokens(peephole: Any, bias: Any, source: str) -> None:
    layer, rng = peephole(3, 5, bias=bias, bidirectional=True), np.random.default_rng(2)
    table = rnncore.Embedding(6, 3, dtype=np.float64, seed=1) if source == "embedding" else None
    ids, lengths = rng.integers(0, 6 if table else 3, (4, 3)), [4, 1, 2]
    dy = rng.standard_normal((4, 3, 10))

    def loss() -> float:
        return float(np.vdot(layer(ids, None, lengths, tokens=True, embedding=table)[0], dy))

    layer.forward(ids, None, lengths, tokens=True, embedding=table)
    layer.backward(dy, accumulate=False)
    assert_gradients_close(layer.grads, of_module(layer, loss))


@pytest.mark.parametrize("H", [5, 33])
def test_a_stream_of_features(peephole: Any, H: int) -> None:
    layer = peephole(4, H, 2)
    x = np.random.default_rng(3).standard_normal((70, 4))
    y, (h, c) = layer(x)
    stream = layer.stream()
    assert np.array_equal(np.stack([stream.step(row) for row in x]), y)
    last = stream.get_state()
    assert np.array_equal(last[0], h) and np.array_equal(last[1], c)
    stream.reset()
    assert np.array_equal(stream.process(x), y)


def test_noise_comes_to_a_cell_that_knows_nothing_of_it(peephole: Any) -> None:
    layer = peephole(2, 5, recurrent_dropout=0.3, zoneout=(0.2, 0.3), weight_drop=0.3)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((4, 3, 2)), rng.standard_normal((4, 3, 5))
    state, begun = tuple(rng.standard_normal((2, 1, 3, 5))), np.random.default_rng(2)

    def loss() -> float:
        layer._dropout.generator.bit_generator.state = begun.bit_generator.state
        return float(np.vdot(layer.forward(x, state, [4, 2, 3])[0], dy))

    loss()
    dx, (dh, dc) = layer.backward(dy, accumulate=False)
    analytic = {name: array.copy() for name, array in layer.grads.items()}
    numerical = of_module(layer, loss, x=x, h=state[0], c=state[1])
    assert_gradients_close(analytic | {"x": dx, "h": dh, "c": dc}, numerical)
