"""Products of bfloat16 and int8: what they round, which bits they give, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BUILDS
from processes import python

import rnncore
from rnncore import GRU, LSTM, RNN, LanguageModel, Linear, Recurrent, Sequential, engine, files
from rnncore.cells import library

Array = np.ndarray
LOW = ("bfloat16", "bfloat16x3", "int8")
KINDS: dict[str, Callable[..., Any]] = {
    "lstm": LSTM, "gru": GRU, "rnn": RNN,
    "reset before": lambda *sizes, **options: GRU(*sizes, reset_after=False, **options),
}  # fmt: skip


ONE_OF = "expected one of float32, bfloat16, bfloat16x3, int8"
FORMS = ("best", "plain", "squares")


@pytest.fixture(params=[(build, form) for build in BUILDS for form in FORMS], ids="-".join)
def product(request: Any, use_build: Callable[[str], None]) -> Any:
    """Each build, with the instructions that the processor has, that each has, and squares."""
    build, form = request.param
    use_build(build)
    kernels = engine.kernels(np.float32)
    kernels.use_products(form)
    yield lambda precision: kernels.products()[precision]
    kernels.use_products("best")


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def to_bfloat16(x: Array) -> Array:
    """Round to the nearest number with 8 significant bits, ties to even."""
    bits = x.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def to_int8(x: Array) -> tuple[Array, Array]:
    """Return whole numbers of each row, and its scale."""
    scale = np.abs(x).max(-1, keepdims=True) / np.float32(127)
    return np.rint(x / scale).astype(np.int64), scale


# What is multiplied


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 16, 20, 33])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (7, 33), (64, 64), (1027, 70)])
def test_products_are_of_rounded_numbers(product: Any, rows: int, depth: int, columns: int) -> None:
    x, layer = numbers(rows, depth), Linear(depth, columns, seed=1, precision="bfloat16")
    W, b = layer.params["weight"], layer.params["bias"]
    rounded = x if "widened" in product("bfloat16") else to_bfloat16(x)
    a, w = rounded.astype(np.float64), to_bfloat16(np.array(W)).astype(np.float64)
    error = np.abs(layer(x) - (a @ w.T + b))
    assert (error <= 2**-23 * np.sqrt(depth + 4) * (np.abs(a) @ np.abs(w).T + np.abs(b))).all()


@pytest.mark.parametrize("rows", [1, 3, 16, 33])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (7, 33), (64, 64), (1027, 70)])
def test_three_products_are_near_float32(product: Any, rows: int, depth: int, columns: int) -> None:
    x, layer = numbers(rows, depth), Linear(depth, columns, seed=1, precision="bfloat16x3")
    W, b = np.array(layer.params["weight"]), layer.params["bias"]
    y = layer(x)
    if "three squares" not in product("bfloat16x3"):
        layer.set_precision("float32")
        np.testing.assert_array_equal(layer(x), y)
        return
    terms = []  # what is multiplied, and what that leaves out
    for whole in (x, W):
        upper = to_bfloat16(whole)
        terms.append((upper.astype(np.float64), to_bfloat16(whole - upper).astype(np.float64)))
    (a, a_rest), (w, w_rest) = terms
    size = np.abs(x) @ np.abs(W).T + np.abs(b)
    expected = a @ w.T + a_rest @ w.T + a @ w_rest.T + b
    assert (np.abs(y - expected) <= 2**-23 * np.sqrt(3 * depth + 4) * size).all()
    exact = x.astype(np.float64) @ W.astype(np.float64).T + b
    assert (np.abs(y - exact) <= 3 * 2**-16 * size).all()
    assert (np.abs(exact - expected) > 0).any()


@pytest.mark.parametrize("rows", [1, 2, 6, 20])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (7, 33), (64, 64), (1027, 70)])
def test_whole_numbers_are_summed_exactly(
    product: Any, rows: int, depth: int, columns: int
) -> None:
    x, layer = numbers(rows, depth), Linear(depth, columns, seed=1, precision="int8")
    (qx, sx), (qw, sw) = to_int8(x), to_int8(np.array(layer.params["weight"]))
    expected = (qx @ qw.T) * (sx.astype(np.float64) * sw[:, 0]) + layer.params["bias"]
    # a number that lies between two whole ones may be rounded to either
    ties = np.abs(sx * sw[:, 0]) * 127 * (depth > 500)
    np.testing.assert_array_less(np.abs(layer(x) - expected), 1e-6 + ties)


@pytest.mark.parametrize("kind", KINDS)
def test_both_forms_of_int8_give_the_same_bits(kind: str) -> None:
    kernels, x = engine.kernels(np.float32), numbers(9, 5, 37)
    found = []
    for form in ("best", "plain"):
        kernels.use_products(form)
        layer = KINDS[kind](37, 50, num_layers=2, bidirectional=True, seed=0, precision="int8")
        found.append(layer(x)[0])
    kernels.use_products("best")
    np.testing.assert_array_equal(*found)


def test_ranges(product: Any) -> None:
    x = np.array([[3.4e38, 1], [np.inf, 1], [np.nan, 1], [1e-40, 1]], np.float32)
    layer = Linear(2, 1, bias=False, precision="bfloat16")
    layer.load_state_dict({"weight": np.ones((1, 2), np.float32)})
    y = layer(x)[:, 0]
    assert y[1] == np.inf and np.isnan(y[2]) and y[3] == 1
    assert y[0] == (np.float32(3.4e38) if "widened" in product("bfloat16") else np.inf)
    layer.set_precision("bfloat16x3")
    y = layer(x)[:, 0]
    assert np.isnan(y[2]) and y[3] == 1  # three products leave no number of infinity
    assert np.isnan(y[:2]).all() if "squares" in product("bfloat16x3") else y[1] == np.inf
    layer.set_precision("int8")
    y = layer(x)[:, 0]
    assert np.isnan(y[1]) and np.isnan(y[2])  # not a number whose row has no scale
    assert abs(y[3] - 1) < 1e-6 and abs(y[0] / 3.4e38 - 1) < 1e-5
    layer.load_state_dict({"weight": np.array([[np.inf, 1]], np.float32)})
    assert np.isnan(layer(np.ones((1, 2), np.float32))).all()


# How far layers and gradients are from those of float64


@pytest.mark.parametrize("kind", KINDS)
def test_long_sequences_stay_close(product: Any, kind: str) -> None:
    layer = KINDS[kind](24, 40, seed=0, dtype=np.float64)
    x = numbers(1000, 2, 24)
    exact = layer(x.astype(np.float64))[0]
    rounded = KINDS[kind](24, 40, precision="bfloat16")
    rounded.load_state_dict(layer.state_dict())
    assert np.abs(rounded(x)[0] - exact).max() <= 2 * 2**-8 * np.abs(exact).max()
    rounded.set_precision("bfloat16x3")
    assert np.abs(rounded(x)[0] - exact).max() <= 2 * 2**-16 * np.abs(exact).max()
    rounded.set_precision("int8")
    assert np.abs(rounded(x)[0] - exact).max() <= 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [12, 3, 0, 15, 7]])
@pytest.mark.parametrize(("features", "units"), [(23, 33), (600, 144)])
@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.01), ("bfloat16x3", 2e-5)])
def test_gradients(
    product: Any,
    nan_buffers: None,
    kind: str,
    lengths: Any,
    features: int,
    units: int,
    precision: str,
    most: float,
) -> None:
    # The larger sizes are more than a tile takes at a time, and leave the last panels narrow.
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "seed": 0}
    exact = KINDS[kind](features, units, dtype=np.float64, **options)
    rounded = KINDS[kind](features, units, precision=precision, **options)
    rounded.load_state_dict(exact.state_dict())
    x, dy = numbers(15, 5, features), numbers(15, 5, 2 * units, seed=1)
    found = []
    for layer in (exact, rounded):
        y, _ = layer.forward(x, lengths=lengths)
        dx, dstate = layer.backward(dy.astype(layer.dtype))
        states = dstate if isinstance(dstate, tuple) else (dstate,)
        found.append([y, dx, *states, *layer.grads.values()])
    for a, b in zip(*found, strict=True):
        assert np.isfinite(b).all()
        assert np.linalg.norm(b - a) <= most * np.linalg.norm(a)


@pytest.mark.parametrize("units", [5, 21])
@pytest.mark.parametrize("kind", KINDS)
def test_many_features_of_few_units(product: Any, kind: str, units: int) -> None:
    layer, x = KINDS[kind](601, units, seed=0), numbers(4, 7, 601)
    whole = layer(x)[0]
    for precision, most in (("bfloat16", 0.05), ("bfloat16x3", 1e-4), ("int8", 0.2)):
        layer.set_precision(precision)
        assert np.abs(layer(x)[0] - whole).max() < most


@pytest.mark.parametrize("rows", [3, 7])
@pytest.mark.parametrize("name", ["min_gru", "minimal_gated"])  # the first one has no W_hh
def test_cells_of_ones_own(product: Any, name: str, rows: int) -> None:
    layer, x = Recurrent(library.find(name), 20, 30, seed=0), numbers(50, rows, 20)
    whole = layer(x)[0]
    for precision, most in (("bfloat16", 0.01), ("bfloat16x3", 1e-4), ("int8", 0.03)):
        layer.set_precision(precision)
        error = np.abs(layer(x)[0] - whole).max()
        assert error < most and (error > 0 or precision == "bfloat16x3")


# The same bits whoever shares the work, and however it is cut


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_company(
    product: Any, threads: Callable[[int], None], kind: str, precision: str
) -> None:
    layer = KINDS[kind](37, 70, num_layers=2, seed=0, precision=precision)
    x, lengths = numbers(21, 9, 37), [21, 3, 0, 17, 20, 1, 9, 21, 4]
    threads(1)
    y, _ = layer(x, lengths=lengths)
    for number in (2, 3):
        threads(number)
        np.testing.assert_array_equal(layer(x, lengths=lengths)[0], y)
    for one in (0, 3, 8):  # alone
        alone = layer(x[: lengths[one], [one]])[0]
        np.testing.assert_array_equal(alone[:, 0], y[: lengths[one], one])
    first, carried = layer(x[:8, :1])  # in two calls, and step by step
    np.testing.assert_array_equal(
        np.concatenate([first, layer(x[8:, :1], carried)[0]])[:, 0], y[:, 0]
    )
    stream, both = layer.stream(), layer.streams()
    a, b = both.join(), both.join()
    for t in range(21):
        step = stream.step(x[t, 0])
        np.testing.assert_array_equal(step, y[t, 0])
        np.testing.assert_array_equal(both.step(x[[t, t], [0, 1]], [a, b])[0], step)


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize(("depth", "columns"), [(75, 33), (600, 130)])
def test_bits_of_a_row_do_not_depend_on_the_others(
    product: Any, precision: str, depth: int, columns: int
) -> None:
    layer, x = Linear(depth, columns, seed=0, precision=precision), numbers(70, depth)
    alone = np.concatenate([layer(row[None]) for row in x])
    for rows in (2, 6, 15, 16, 17, 31, 32, 33, 48, 70):
        np.testing.assert_array_equal(layer(x[:rows]), alone[:rows])


@pytest.mark.parametrize("precision", ["bfloat16", "bfloat16x3"])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_of_training_do_not_depend_on_threads_or_memory(
    product: Any, threads: Callable[[int], None], kind: str, precision: str
) -> None:
    layer = KINDS[kind](37, 70, seed=0, precision=precision)
    x, dy, found = numbers(64, 9, 37), numbers(64, 9, 70, seed=1), []
    for number, memory in ((1, None), (2, None), (3, None), (1, 1_200_000)):
        threads(number)
        layer.zero_grad()
        y, _ = layer.forward(x, memory=memory)
        dx, _ = layer.backward(dy)
        found.append([y, dx, *(array.copy() for array in layer.grads.values())])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("precision", LOW)
def test_rows_tokens_and_heads(product: Any, precision: str) -> None:
    table = rnncore.Embedding(11, 7, seed=0)
    first, head = LSTM(7, 5, bidirectional=True, seed=1), Linear(10, 3, seed=2)  # parts of 5
    net, ids = Sequential(first, head), np.random.default_rng(0).integers(0, 11, (6, 4))
    net.set_precision(precision)
    rows = head(first(ids, embedding=table, rows=True)[0]).unpack()
    np.testing.assert_array_equal(rows, head(first(table(ids))[0]))
    assert (first.precision, head.precision) == (precision, precision)


# Settings


def test_the_default_is_of_layers_made_later() -> None:
    before = LSTM(2, 3)
    rnncore.set_matmul_precision("bfloat16")
    try:
        assert rnncore.get_matmul_precision() == "bfloat16"
        assert (before.precision, LSTM(2, 3).precision) == ("float32", "bfloat16")
        assert LSTM(2, 3, precision="float32").precision == "float32"
        assert Linear(2, 3, dtype=np.float64).precision == "float64"
    finally:
        rnncore.set_matmul_precision("float32")


def test_the_environment_sets_the_default() -> None:
    script = "import rnncore; print(rnncore.LSTM(2, 3).precision)"
    assert python(script, RNNCORE_MATMUL_PRECISION="int8") == "int8\n"
    wrong = "import rnncore\ntry: rnncore.LSTM(2, 3)\nexcept ValueError as error: print(error)"
    assert python(wrong, RNNCORE_MATMUL_PRECISION="half") == (
        f"RNNCORE_MATMUL_PRECISION: {ONE_OF}, got 'half'\n"
    )


def test_there_and_back() -> None:
    layer, x = GRU(5, 8, seed=0), numbers(6, 2, 5)
    y, _ = layer.forward(x)
    layer.set_precision("bfloat16")
    with pytest.raises(RuntimeError, match="weights have changed"):
        layer.backward(y)
    assert (layer(x)[0] != y).any()
    layer.set_precision("float32")
    np.testing.assert_array_equal(layer(x)[0], y)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LSTM(2, 3, precision="fp16"), ONE_OF),
        (lambda: LSTM(2, 3, precision="int8", dtype=np.float64), "'float64' for a layer"),
        (lambda: LSTM(2, 3).set_precision("single"), ONE_OF),
        (lambda: LSTM(2, 3).set_precision(np.float32), ONE_OF),
        (lambda: LSTM(2, 3).set_precision(None), ONE_OF),
        (lambda: Linear(2, 3, dtype=np.float64).set_precision("bfloat16"), "make it of float32"),
        (lambda: rnncore.set_matmul_precision(16), "precision: expected one of"),
        (lambda: LSTM(2, 3, precision="int8").forward(numbers(4, 1, 2)), "for inference alone"),
        (lambda: Linear(2, 3, precision="int8").forward(numbers(4, 2)), "for inference alone"),
        (lambda: LSTM(2, 3, precision="int8").forward(numbers(4, 1, 2), memory=10**6), "inference"),
        (lambda: Linear(70_000, 1, precision="int8"), "takes at most 65536"),
    ],
)  # fmt: skip
def test_refusals(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_a_refused_change_leaves_all_layers_as_they_were() -> None:
    module = rnncore.Sequential(Linear(8, 4, seed=0), Linear(4, 70_000), Linear(70_000, 2, seed=0))
    x = numbers(3, 8)
    y = module(x)
    with pytest.raises(ValueError, match="takes at most 65536"):
        module.set_precision("int8")
    assert [part.precision for part in module._children.values()] == ["float32"] * 3
    np.testing.assert_array_equal(module(x), y)


@pytest.mark.parametrize("make", [lambda: LSTM(5, 8, seed=0), lambda: Linear(5, 8, seed=0)])
def test_pickles_from_before_there_was_another_precision(make: Callable[[], Any]) -> None:
    layer = make()
    state = layer.__getstate__()
    del state["precision"]
    copy = type(layer).__new__(type(layer))
    copy.__setstate__(state)
    assert copy.precision == "float32"
    x = numbers(3, 2, 5)
    np.testing.assert_array_equal(np.asarray(copy(x)[0]), np.asarray(layer(x)[0]))


def test_int8_of_huge_and_tiny_numbers(product: Any) -> None:
    layer, x = Linear(8, 3, bias=False, seed=0, precision="int8"), numbers(4, 8)
    exact = layer(x)
    for scale in (2.0**-140, 2.0**-60, 2.0**60, 2.0**125):
        found, size = layer(x * np.float32(scale)), float(np.abs(exact).max()) * scale
        assert np.isfinite(found).all()
        assert np.abs(found - exact * scale).max() <= max(1e-6 * size, 1e-35)
    weight, huge = np.array(layer.params["weight"]), np.zeros((3, 8), np.float32)
    huge[:, 0] = np.finfo(np.float32).max
    layer.load_state_dict({"weight": huge})
    found = layer(np.full((1, 8), 0.5, np.float32))
    np.testing.assert_allclose(found, np.full((1, 3), huge[0, 0] / 2), rtol=1e-6)
    layer.load_state_dict({"weight": weight * np.float32(2.0**-140)})
    assert (layer(x) == 0).all()


def test_files_say_in_what_they_were_trained(tmp_path: Path) -> None:
    text, path = "to be or not to be, that is the question. " * 40, tmp_path / "model.safetensors"
    model = LanguageModel(
        hidden_size=16, batch_size=4, learning_rate=0.02, epochs=4, precision="bfloat16"
    ).fit(text)
    score = model.score(text)
    model.save(path)
    loaded = rnncore.load(path)
    assert loaded.precision == loaded.network_.rnn.precision == "bfloat16"
    assert loaded.score(text) == score
    loaded.network_.set_precision("int8")
    assert 0 < abs(loaded.score(text) - score) < 0.01
    tensors, about = files.load(path)
    del about["model"]["precision"]  # as in files from before there was another than float32
    files.save(path, tensors, about)
    rnncore.set_matmul_precision("bfloat16")
    try:
        assert rnncore.load(path).network_.rnn.precision == "float32"
    finally:
        rnncore.set_matmul_precision("float32")


def test_a_training_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="for training, got 'int8', which is for inference alone"):
        LanguageModel(batch_size=4, precision="int8").fit("to be or not to be " * 40)


def test_what_runs_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    found = engine.kernels(np.float32).products()["bfloat16"]
    for size in (16, 256):
        said = LSTM(8, size, precision="bfloat16").explain(10, 1)
        assert said.partition("products   bfloat16, by ")[2].partition("\n")[0] in found
        assert "products   bfloat16, by " in said
    assert "products" not in LSTM(8, 16).explain(10, 1)
    rnncore.show_config()
    assert f"products   float32 by multiply-add, bfloat16 by {found}" in capsys.readouterr().out
