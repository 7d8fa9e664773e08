"""ONNX's own node tests of RNN, LSTM and GRU, run on the engine through a small adapter."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest
from cases import Array

import rnncore

onnx = pytest.importorskip("onnx", reason="runs ONNX's node tests: pip install onnx")
from onnx.backend.test.case import node as onnx_nodes  # noqa: E402

# ONNX's order of gates, and how to bring it into the engine's.
ORDER = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}  # iofc to ifgo, zrh to rzn
LAYERS = {"RNN": rnncore.RNN, "LSTM": rnncore.LSTM, "GRU": rnncore.GRU}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # A module's import adds its tests to the list that `load_model_tests(kind="node")` returns;
    # these three take no time, all the others ten seconds.
    for name in ("gru", "lstm", "rnn"):
        importlib.import_module(f"onnx.backend.test.case.node.{name}")
NODE_TESTS = [
    test
    for test in onnx_nodes._NodeTestCases
    if test.model is not None and test.model.graph.node[0].op_type in LAYERS
]


def run_node(node: Any, arrays: list[Array]) -> list[Array]:
    """Run an RNN, LSTM or GRU node; skip with a reason what the engine does not do."""
    kind = node.op_type
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    names = {a: b for a, b in zip(node.input, INPUTS, strict=False) if a}
    given = {names[name]: array for name, array in zip(names, arrays, strict=True)}
    if "P" in given:
        pytest.skip("not covered: peephole connections")
    for name in ("activations", "clip", "input_forget"):
        if settings.get(name):
            pytest.skip(f"not covered: {name} = {settings[name]}")

    batch_first = settings.get("layout", 0) == 1
    x, W, R = given["X"], given["W"], given["R"]
    H, directions, order = R.shape[2], len(W), ORDER[kind]
    B = given.get("B", np.zeros((directions, 2 * W.shape[1]), x.dtype))
    steps = x.shape[1] if batch_first else x.shape[0]
    if kind == "GRU" and not settings.get("linear_before_reset", 0):
        # r * (R h + b) and R (r * h) + b are the same without a previous state, and where r is one
        # number for all units.
        reset = [a.reshape(directions, 3, H, -1)[:, 1] for a in (W, R)]
        alike = all(np.ptp(rows, axis=1).max() == 0 for rows in reset) and not B.any()
        if not alike and (steps > 1 or "initial_h" in given):
            pytest.skip("not covered: a reset gate before the linear map")
        recurrent_bias = B.reshape(directions, 2, 3, H)
        recurrent_bias[:, 0, 2] += recurrent_bias[:, 1, 2]  # outside the reset gate's reach
        recurrent_bias[:, 1, 2] = 0

    def gates(array: Array) -> Array:
        return array.reshape(len(order), H, *array.shape[1:])[order].reshape(array.shape)

    # A node that only reads backwards is the second direction of a layer of two.
    reverse_only = settings.get("direction", b"forward") == b"reverse"
    layer = LAYERS[kind](
        x.shape[-1], H, batch_first=batch_first, bidirectional=directions == 2 or reverse_only
    )
    state = {name: np.zeros_like(array) for name, array in layer.state_dict().items()}
    used = [1] if reverse_only else range(directions)
    for source, d in enumerate(used):
        end = "_l0" + "_reverse" * d
        state[f"weight_ih{end}"], state[f"weight_hh{end}"] = gates(W[source]), gates(R[source])
        Wb, Rb = np.split(B[source], 2)
        state[f"bias_ih{end}"], state[f"bias_hh{end}"] = gates(Wb), gates(Rb)
    layer.load_state_dict(state)

    count = len(layer._stack.layers[0])
    initial = []
    for name in ("initial_h", "initial_c")[: 2 if kind == "LSTM" else 1]:
        part = np.zeros((count, x.shape[0 if batch_first else 1], H), x.dtype)
        if name in given:
            part[list(used)] = given[name].swapaxes(0, 1) if batch_first else given[name]
        initial.append(part)
    y, final = layer(x, tuple(initial) if kind == "LSTM" else initial[0],
                     given.get("sequence_lens"))  # fmt: skip

    y = y.reshape(*y.shape[:2], count, H)[:, :, list(used)]  # (T, B, D, H) or (B, T, D, H)
    results = {"Y": y if batch_first else y.swapaxes(1, 2)}
    parts = final if kind == "LSTM" else (final,)
    for name, part in zip(("Y_h", "Y_c"), parts, strict=False):
        part = part[list(used)]
        results[name] = part.swapaxes(0, 1) if batch_first else part
    names = ("Y", "Y_h", "Y_c")
    return [results[n] for wanted, n in zip(node.output, names, strict=False) if wanted]


def test_the_node_tests_are_there() -> None:
    assert len(NODE_TESTS) >= 10
    assert {test.model.graph.node[0].op_type for test in NODE_TESTS} == set(LAYERS)


@pytest.mark.parametrize("test", NODE_TESTS, ids=lambda test: test.name)
def test_node(test: Any) -> None:
    [node] = test.model.graph.node
    for inputs, outputs in test.data_sets:
        results = run_node(node, [np.array(array) for array in inputs])
        assert len(results) == len(outputs)
        for result, expected in zip(results, outputs, strict=True):
            assert result.shape == expected.shape
            np.testing.assert_allclose(result, expected, rtol=test.rtol, atol=test.atol)
