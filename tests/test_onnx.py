"""ONNX's own node tests of RNN, LSTM and GRU, each through `rnncore.convert`, none left out."""

from __future__ import annotations

import copy
import importlib
import warnings
from typing import Any

import numpy as np
import pytest

from rnncore import convert

onnx = pytest.importorskip("onnx", reason="runs ONNX's node tests: pip install onnx")
pytest.importorskip("llvmlite", reason="peepholes are a cell by choice: pip install llvmlite")
from onnx.backend.test.case import node as onnx_nodes  # noqa: E402

KINDS = {"RNN", "LSTM", "GRU"}
WEIGHTS = ("W", "R", "B", "P")
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
    if test.model is not None and test.model.graph.node[0].op_type in KINDS
]


def with_weights(model: Any, given: dict[str, Any]) -> Any:
    """Return the model of a test with the weights within, as files have them."""
    model = copy.deepcopy(model)
    for value in list(model.graph.input):
        if value.name in given:
            array = onnx.numpy_helper.from_array(np.array(given[value.name]), value.name)
            model.graph.initializer.append(array)
            model.graph.input.remove(value)
    return model


def test_the_node_tests_are_there() -> None:
    assert len(NODE_TESTS) >= 14
    assert {test.model.graph.node[0].op_type for test in NODE_TESTS} == KINDS


@pytest.mark.parametrize("test", NODE_TESTS, ids=lambda test: test.name)
def test_node(test: Any) -> None:
    [node] = test.model.graph.node
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    batch_first = settings.get("layout", 0) == 1
    places = {place: name for place, name in zip(INPUTS, node.input, strict=False) if name}
    for arrays, outputs in test.data_sets:
        values = dict(zip([name for name in node.input if name], arrays, strict=True))
        weights = {places[place]: values[places[place]] for place in WEIGHTS if place in places}
        found = convert.from_onnx(with_weights(test.model, weights))
        assert found.proof.proven
        layer, given = found.model, {place: values[name] for place, name in places.items()}
        state: Any = [given[name] for name in ("initial_h", "initial_c") if name in given]
        if batch_first:
            state = [one.swapaxes(0, 1) for one in state]
        y, final = layer(
            given["X"], (tuple(state) if len(state) > 1 else state[0]) if state else None,
            given.get("sequence_lens"),
        )  # fmt: skip
        directions = 1 + layer.bidirectional
        y = y.reshape(*y.shape[:2], directions, layer.hidden_size)
        results = {"Y": y if batch_first else y.swapaxes(1, 2)}
        finals = final if isinstance(final, tuple) else (final,)
        for name, one in zip(("Y_h", "Y_c"), finals, strict=False):
            results[name] = one.swapaxes(0, 1) if batch_first else one
        names = zip(("Y", "Y_h", "Y_c"), node.output, strict=False)
        wanted = [name for name, kept in names if kept]
        assert len(wanted) == len(outputs)
        for name, right in zip(wanted, outputs, strict=True):
            assert results[name].shape == right.shape
            np.testing.assert_allclose(results[name], right, rtol=test.rtol, atol=test.atol)
