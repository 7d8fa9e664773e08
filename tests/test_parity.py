"""Every build of the engine, in both dtypes, against the textbook of `rnncore.reference`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, Array, Case, infer, make_given, make_layer, named_states, run
from conftest import BUILDS

from rnncore import engine, reference
from rnncore.engine.builds import BUILDS as BUILD_TABLE
from rnncore.layers.recurrent import Recurrent

# Relative to the largest entry of each array.
TOLERANCE = {"float64": 5e-14, "float32": 5e-6}

PARITY_CASES = [case for case in CASES if not case.dropout]


def assert_close(results: dict[str, Array], expected: dict[str, Array], tolerance: float) -> None:
    """Compare all arrays; NaN is never close."""
    assert set(results) == set(expected)
    for name, right in expected.items():
        result = results[name]
        assert result.shape == right.shape, f"{name}: {result.shape}, expected {right.shape}"
        error = np.abs(result - right).max(initial=0)
        scale = np.abs(right).max(initial=0) or 1.0
        assert error <= tolerance * scale, f"{name}: error {error / scale:.2g} of the largest entry"


@lru_cache(maxsize=1)  # the builds of a case come one after another
def expected_results(case: Case) -> dict[str, Array]:
    """Compute in float64 what `cases.run` returns, with the textbook's functions alone."""
    layer, given = make_layer(case), make_given(case)
    x, dy = given.x, given.dy
    if case.batch_first:
        x, dy = x.swapaxes(0, 1), dy.swapaxes(0, 1)
    table = np.eye(case.I)
    if given.embedding is not None:
        table = given.embedding.state_dict()["weight"]
    if case.source != "features":
        x, saved_table = reference.embedding_forward(x, table)

    # Layer by layer, because hidden sizes may differ.
    layers = reference.layers_from_state_dict(case.kind, layer.state_dict())
    states, dstates = (_by_layer(s, case) for s in (given.state, given.dstate))
    finals, saved = [], []
    for parameters, state in zip(layers, states, strict=True):
        (x, final), kept = reference.forward(case.kind, x, [parameters], state, given.lengths)
        finals.append(final)
        saved.append(kept)
    y, starts, gradients = x, [], []
    for kept, dstate in zip(reversed(saved), reversed(dstates), strict=True):
        dy, start, [gradient] = reference.backward(dy, dstate, kept)
        starts.insert(0, start)
        gradients.insert(0, gradient)

    dx = dy
    if case.batch_first:
        y, dx = y.swapaxes(0, 1), dx.swapaxes(0, 1)
    results = {"y": y, **named_states("", _joined(finals, case)),
               **named_states("d", _joined(starts, case))}  # fmt: skip
    if case.source == "features":
        results["dx"] = dx
    elif case.source == "embedding":
        results["dembedding"] = reference.embedding_backward(dx, saved_table)
    named = reference.gradients_by_name(gradients)
    for name in layer.grads:
        if name.startswith("bias_hn"):
            results[f"d{name}"] = np.split(named[name.replace("hn", "hh")], 3)[2]
        else:
            results[f"d{name}"] = named[name]
    return results


def _by_layer(state: object, case: Case) -> list[object]:
    parts = state if isinstance(state, tuple) else (state,)
    if not isinstance(case.H, tuple):
        parts = tuple(np.split(part, case.layers) for part in parts)
    return [per if len(per) > 1 else per[0] for per in zip(*parts, strict=True)]


def _joined(states: list[object], case: Case) -> object:
    columns = zip(*(s if isinstance(s, tuple) else (s,) for s in states), strict=True)
    parts = [list(c) if isinstance(case.H, tuple) else np.concatenate(c) for c in columns]
    return tuple(parts) if case.kind == "lstm" else parts[0]


def assert_build(layer: Recurrent, build: str, dtype: str) -> None:
    """Fail unless every part of a layer runs on the compiled module of this build."""
    module = engine.load_kernels(build, np.dtype(dtype))
    assert Path(module.__file__).name.startswith(f"kernels_{build}_f{np.dtype(dtype).itemsize * 8}")
    vector_bytes = next(b.vector_bytes for b in BUILD_TABLE if b.name == build)
    assert module.lanes * np.dtype(dtype).itemsize == module.vector_bytes == vector_bytes
    assert layer._stack.kernels is module
    for direction in layer._stack.directions():
        assert direction.kernels is module and type(direction.layer) is module.Layer


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("case", PARITY_CASES, ids=str)
def test_outputs_states_and_gradients(
    case: Case, build: str, use_build: Callable[[str], None], nan_buffers: None
) -> None:
    use_build(build)
    for dtype in ("float64", "float32"):
        own = replace(case, dtype=dtype)
        layer, given = make_layer(own), make_given(own)
        copies = {name: array.copy() for name, array in given.arrays().items()}
        assert_build(layer, build, dtype)

        results = run(layer, given)
        assert {array.dtype for array in results.values()} == {np.dtype(dtype)}
        assert_close(results, expected_results(case), TOLERANCE[dtype])

        for name, array in infer(layer, given).items():
            assert np.array_equal(array, results[name]), f"{name}: inference is not training"
        for name, array in given.arrays().items():
            assert np.array_equal(array, copies[name]), f"{name} was changed"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("build", BUILDS)
def test_cases_stand_around_every_tail(build: str, dtype: str) -> None:
    module = engine.load_kernels(build, np.dtype(dtype))
    for size in (module.lanes, module.panel):
        around = {size - 1, size, size + 1} - {0}
        for kind in ("rnn_tanh", "lstm", "gru"):
            assert around <= {case.H for case in CASES if case.kind == kind}
            assert around <= {case.I for case in CASES if case.kind == kind}
    rows = module.Layer(module.cell("gru"), 3, 3, False, dtype).tile_rows
    around = {rows - 1, rows, rows + 1}
    for kind in ("rnn_tanh", "lstm", "gru"):
        assert around <= {case.B for case in CASES if case.kind == kind}


def test_a_used_workspace_changes_nothing(nan_buffers: None) -> None:
    # Large, then small, then large again in the same buffers.
    layer = make_layer(Case("lstm", 1, 1, 4, 10, layers=2, bidirectional=True))
    sizes = [(9, 13), (2, 3), (1, 1), (9, 13), (4, 7)]
    cases = [Case("lstm", T, B, 4, 10, 2, True, ragged) for T, B in sizes for ragged in (0, 1)]
    for case in cases:
        given = make_given(case)
        fresh = make_layer(Case("lstm", 1, 1, 4, 10, layers=2, bidirectional=True))
        used, new = run(layer, given), run(fresh, given)
        assert all(np.array_equal(used[name], new[name]) for name in new)
        assert all(np.array_equal(a, used[name]) for name, a in infer(layer, given).items())
