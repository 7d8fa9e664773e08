"""The elementary functions over all exponents, what is not a number, and denormal numbers.

The engine flushes numbers below the smallest normal one to zero, in what it reads and in what it
writes, and gives the caller's floating-point mode back.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import time
from collections.abc import Callable

import numpy as np
import pytest
from cases import MAIN_KINDS, Array, Case, infer, make_given, make_layer, run
from conftest import BUILDS

import rnncore
from rnncore import engine

Function = Callable[[Array], Array]

EXACT: dict[str, Function] = {
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
MOST_ULPS = 4


def engine_function(name: str, build: str, x: Array) -> Array:
    """Apply a function of the engine to any number of numbers."""
    kernels = engine.load_kernels(build, x.dtype)
    padded = np.zeros(-(-x.size // kernels.lanes) * kernels.lanes, x.dtype)
    padded[: x.size] = x
    out = np.full_like(padded, np.nan)
    kernels.map_function(name, out, padded)
    return out[: x.size]


def dense_sweep(dtype: np.dtype, each: int) -> Array:
    """Return numbers of both signs from every exponent, the ends of each binade among them."""
    bits, whole = (23, np.uint32) if dtype == np.float32 else (52, np.uint64)
    rng = np.random.default_rng(0)
    exponents = np.arange((1 << (dtype.itemsize * 8 - 1 - bits)) - 1, dtype=whole)
    mantissas = rng.integers(0, 1 << bits, (len(exponents), each), whole)
    mantissas[:, :3] = 0, 1, (1 << bits) - 1
    positive = ((exponents[:, None] << whole(bits)) | mantissas).view(dtype).ravel()
    return np.concatenate([positive, -positive])


def near(dtype: np.dtype, name: str) -> Array:
    """Return a fine sweep of where the function is neither constant nor linear."""
    limit = {"exp": 89, "sigmoid": 90, "tanh": 10} if dtype == np.float32 else {
        "exp": 710, "sigmoid": 710, "tanh": 21}  # fmt: skip
    return np.linspace(-limit[name], limit[name], 400_001).astype(dtype)


def assert_exact(name: str, x: Array, result: Array) -> None:
    """Compare with the function in more than the precision of the result."""
    dtype = x.dtype
    tiny, largest = np.finfo(dtype).tiny, np.finfo(dtype).max
    wide = np.float64 if dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(wide))
        rounded = exact.astype(dtype)
        error = np.abs(result.astype(wide) - exact) / np.spacing(np.abs(rounded)).astype(wide)
    # Below the smallest normal number the result is zero, of the right sign.
    small = np.abs(exact) < tiny * (1 + MOST_ULPS * np.finfo(dtype).eps)
    flushed = small & (result == 0) & (np.signbit(result) == np.signbit(exact))
    overflow = (np.abs(exact) > largest) & (result == rounded)
    wrong = ~((error <= MOST_ULPS) | flushed | overflow)
    if wrong.any():
        worst = np.flatnonzero(wrong)[np.argmax(np.nan_to_num(error[wrong], nan=np.inf))]
        raise AssertionError(
            f"{name}: {np.count_nonzero(wrong)} of {x.size} are more than {MOST_ULPS} ulp off, "
            f"from x = {x[wrong].min()!r} to {x[wrong].max()!r}; at x = {x[worst]!r} the engine "
            f"gives {result[worst]!r}, exact is {exact[worst]!r}"
        )


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_functions_over_all_exponents(dtype: type, build: str, name: str) -> None:
    if dtype == np.float64 and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("long double is no wider than double here")
    known = np.dtype(dtype)
    for x in (dense_sweep(known, 2048 if dtype == np.float32 else 96), near(known, name)):
        assert_exact(name, x, engine_function(name, build, x))


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_functions_at_special_values(dtype: type, build: str) -> None:
    denormal = np.finfo(dtype).smallest_subnormal
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, denormal, -denormal], dtype)
    expected = {
        "exp": [np.inf, 0.0, np.nan, 1.0, 1.0, 1.0, 1.0],
        "sigmoid": [1.0, 0.0, np.nan, 0.5, 0.5, 0.5, 0.5],
        "tanh": [1.0, -1.0, np.nan, 0.0, -0.0, 0.0, -0.0],
    }
    for name, values in expected.items():
        result = engine_function(name, build, x)
        right = np.array(values, dtype)
        np.testing.assert_array_equal(result, right, err_msg=name)
        known = ~np.isnan(right)
        assert np.array_equal(np.signbit(result)[known], np.signbit(right)[known]), name


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_functions_never_turn_back(dtype: type, build: str) -> None:
    # All three rise; a step down by more than their error would make training jump.
    for name in EXACT:
        x = np.sort(near(np.dtype(dtype), name))
        y = engine_function(name, build, x)
        with np.errstate(invalid="ignore"):
            falls = y[:-1] - y[1:]
        assert np.all(~(falls > 2 * MOST_ULPS * np.spacing(np.abs(y[:-1])))), name


# Numbers that are not finite go through a layer as IEEE says: where they can reach, no further.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["rnn_relu", "rnn_identity", *MAIN_KINDS])
def test_what_is_not_finite_reaches_no_other_sequence(kind: str, value: float) -> None:
    case = Case(kind, 6, 8, 3, 5, bidirectional=True, ragged=True)
    layer, given = make_layer(case), make_given(case)
    clean = infer(layer, given)
    b = int(np.argmax(given.lengths))
    given.x[2, b, 1] = value
    results = infer(layer, given)
    others = np.arange(case.B) != b
    for name, array in results.items():
        assert np.array_equal(array[:, others], clean[name][:, others]), name
    if np.isnan(value):
        assert np.isnan(results["y"][2:, b, : case.H]).all()  # from there on
        assert np.array_equal(results["y"][:2, b, : case.H], clean["y"][:2, b, : case.H])
        assert np.isnan(results["y"][:3, b, case.H :]).all()  # and back from there


@pytest.mark.parametrize("H", [5, 64])  # with and without padding in the engine
@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_sigmoid", "lstm", "gru", "gru_reset_before"])
def test_an_infinite_input_saturates(kind: str, H: int) -> None:
    # tanh(inf) = 1, sigmoid(inf) = 1: outputs stay finite, and so do gradients that do not
    # multiply the infinity itself.
    case = Case(kind, 3, 2, 2, H)
    layer, given = make_layer(case), make_given(case)
    given.x[1, 0, 0] = np.inf
    results = run(layer, given)
    for name in ("y", "dx", "dh", "dweight_hh_l0", "dbias_ih_l0"):
        assert np.isfinite(results[name]).all(), name


def test_what_is_not_finite_in_the_loss() -> None:
    logits = np.array([[np.inf, 0.0], [0.0, np.nan], [-np.inf, 1.0], [1000.0, -1000.0]])
    loss, dlogits = rnncore.softmax_cross_entropy(logits[2:], np.array([1, 0]))
    assert loss == 0 and np.array_equal(dlogits, np.zeros((2, 2)))
    loss, dlogits = rnncore.softmax_cross_entropy(logits[2:], np.array([0, 0]))
    assert loss == np.inf
    for row in logits[:2]:
        loss, dlogits = rnncore.softmax_cross_entropy(row[None], np.array([1]))
        assert np.isnan(loss) or np.isinf(loss)
        assert np.isnan(dlogits).any()


# Denormal numbers


def denormals(shape: tuple[int, ...], dtype: str) -> Array:
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    return (rng.integers(1, 1 << 20, shape) * info.smallest_subnormal).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["rnn_identity", "lstm", "gru", "gru_reset_before"])
def test_denormal_inputs_are_zeros(kind: str, dtype: str) -> None:
    case = Case(kind, 5, 9, 4, 6, dtype=dtype)
    layer, given = make_layer(case), make_given(case)
    zeros = np.zeros_like(given.x)
    given.x = denormals(given.x.shape, dtype)
    assert np.all(given.x != 0)
    with_denormals = run(layer, given)
    given.x = zeros
    with_zeros = run(layer, given)
    assert all(np.array_equal(with_denormals[name], with_zeros[name]) for name in with_zeros)


def test_denormal_inputs_cost_no_time(threads: Callable[[int], None]) -> None:
    threads(1)
    case = Case("rnn_identity", 40, 16, 64, 64, dtype="float32")
    layer, given = make_layer(case), make_given(case)
    layer.weights_changed()
    small = denormals(given.x.shape, "float32")
    # weights this small make the states denormal as well
    given.state = None

    def seconds(x: Array) -> float:
        begin = time.perf_counter()
        layer.forward(x)
        layer.backward(given.dy)
        return time.perf_counter() - begin

    for _ in range(5):  # another program may disturb a round
        times = [(seconds(given.x), seconds(small)) for _ in range(25)]
        ordinary, denormal = np.min(times, axis=0)
        if denormal <= 1.1 * ordinary:
            return
    raise AssertionError(f"denormal inputs take {denormal / ordinary:.2f} times as long")


@pytest.mark.parametrize("count", [1, 2])
def test_the_callers_denormals_come_back(count: int, threads: Callable[[int], None]) -> None:
    threads(count)
    case = Case("lstm", 40, 16, 16, 32, dtype="float32")
    run(make_layer(case), make_given(case))
    for dtype in (np.float32, np.float64):
        half = np.finfo(dtype).tiny * np.ones(8, dtype) / dtype(2)
        assert np.all(half > 0) and np.all(half * dtype(2) == np.finfo(dtype).tiny)


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64") or platform.system() != "Linux",
    reason="reads MXCSR out of the floating-point environment of Linux on x86-64",
)
@pytest.mark.parametrize("mode", [0x1F80, 0x9FC0, 0x5F80, 0x1F80 & ~0x0400])
def test_the_callers_floating_point_mode_comes_back(mode: int) -> None:
    # default; denormals flushed; rounding up; overflow unmasked
    libm = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
    mxcsr_at = 28  # fenv_t: the seven words of the x87, then MXCSR

    def environment() -> ctypes.Array:
        words = (ctypes.c_ubyte * 32)()
        assert libm.fegetenv(words) == 0
        return words

    case = Case("gru", 4, 3, 3, 5)
    layer, given = make_layer(case), make_given(case)
    run(layer, given)
    before = environment()
    changed = environment()
    changed[mxcsr_at : mxcsr_at + 4] = list(mode.to_bytes(4, "little"))
    try:
        assert libm.fesetenv(changed) == 0
        layer(given.x)
        layer.forward(given.x)
        layer.backward(given.dy)
        after = environment()
    finally:
        libm.fesetenv(before)
    control = ~0x3F  # the low bits only say what has happened
    assert int.from_bytes(bytes(after[mxcsr_at : mxcsr_at + 4]), "little") & control == (
        mode & control
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("build", BUILDS)
def test_the_largest_of_rows(build: str, dtype: type) -> None:
    kernels, rng = engine.load_kernels(build, np.dtype(dtype)), np.random.default_rng(0)
    for classes in (1, 2, 15, 16, 17, 127, 128, 129, 300):
        x = rng.integers(-9, 9, (7, classes + 2)).astype(dtype)  # with ties
        x[2] = -np.inf
        x[3, ::3] = -np.inf
        x[4] = np.arange(classes + 2)
        for count in {1, min(3, classes), classes}:
            values = np.full(7 * count, np.nan, dtype)
            places, sums = np.full(7 * count, -1), np.full(7, np.nan)
            kernels.largest(values, places, sums, x.reshape(-1), classes, classes + 2, count, 2)
            inside = x[:, :classes].astype(float)
            expected = np.argsort(-inside, axis=1, kind="stable")[:, :count]
            assert np.array_equal(places.reshape(7, count), expected)
            assert np.array_equal(
                values.reshape(7, count), np.take_along_axis(x[:, :classes], expected, 1)
            )
            assert sums[2] == -np.inf
            rest = np.arange(7) != 2
            with np.errstate(divide="ignore"):
                right = np.log(np.exp(inside[rest] - 9).sum(1)) + 9
            np.testing.assert_allclose(sums[rest], right, rtol=0, atol=20 * np.finfo(dtype).eps * 9)
