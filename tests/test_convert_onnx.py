"""ONNX in and out: graphs of PyTorch's exporters and tf2onnx, and round trips."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import mutated, refused_or_read

import rnncore
from rnncore import convert
from rnncore.convert import ConversionError

onnx = pytest.importorskip("onnx", reason="converts ONNX: pip install onnx onnxruntime")
pytest.importorskip("onnxruntime", reason="holds against ONNX Runtime: pip install onnxruntime")
from onnx import helper, numpy_helper  # noqa: E402

FOLDER = Path(__file__).with_name("fixtures") / "convert"
FILES = sorted(path.stem for path in FOLDER.glob("*.onnx"))


def test_the_files_are_there() -> None:
    assert len(FILES) >= 11


@pytest.mark.parametrize("name", FILES)
def test_graphs_of_exporters(name: str) -> None:
    found = convert.load(FOLDER / f"{name}.onnx")
    assert found.proof.proven and found.proof.difference < 1e-5
    assert "onnxruntime" in found.proof.against
    kind = {"onnx2": "onnx2", "tf2onnx": "keras2"}.get(name.split("_")[0], "onnx")
    with np.load(FOLDER / f"{kind}_expected.npz") as expected:
        arrays = {k.removeprefix(f"{name}."): v for k, v in expected.items() if k.startswith(name)}
    if "h" in arrays:
        assert "the inputs h, c are the argument state" in str(found)
        result = found.model(arrays["x"], (arrays["h"], arrays["c"]))[0]
    else:
        result = found.model(arrays["x"])
    np.testing.assert_allclose(result, arrays["y"], atol=1e-6)


LAYERS = {
    "lstm": lambda **o: rnncore.LSTM(3, 5, seed=0, **o),
    "gru": lambda **o: rnncore.GRU(3, 5, seed=0, **o),
    "gru, reset before": lambda **o: rnncore.GRU(3, 5, seed=0, reset_after=False, **o),
    "gru of two biases": lambda **o: rnncore.GRU(3, 5, seed=0, **{"bias": "pytorch", **o}),
    "lstm of two biases": lambda **o: rnncore.LSTM(3, 5, seed=0, **{"bias": "pytorch", **o}),
    **{
        f"rnn {name}": lambda name=name, **o: rnncore.RNN(3, 5, nonlinearity=name, seed=0, **o)
        for name in ("tanh", "relu", "sigmoid")
    },
}  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_there_and_back(kind: str, bidirectional: bool, bias: bool) -> None:
    options: dict[str, Any] = {"bidirectional": bidirectional, "batch_first": bidirectional}
    layer = LAYERS[kind](**options, **({} if bias else {"bias": False}))
    model = convert.to_onnx(layer)  # held against ONNX Runtime, lengths and states too
    names = [one.name for one in model.graph.input]
    assert names == ["x", "lengths", "h", "c"][: 4 if "lstm" in kind else 3]
    found = convert.from_onnx(model)
    assert found.proof.proven and found.model.batch_first is bidirectional
    assert {"lengths", "h"} <= set(str(found).replace(",", " ").replace("'", " ").split())
    ours, theirs = layer.state_dict(), found.model.state_dict()
    assert list(ours) == list(theirs)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn relu"])
def test_several_layers_there_and_back(kind: str, tmp_path: Path) -> None:
    layer = LAYERS[kind](num_layers=3, bidirectional=True)
    path = tmp_path / "layer.onnx"
    convert.write(path, layer)
    found = convert.load(path)
    assert found.proof.proven and repr(found.model) == repr(layer)  # states of all layers, too
    state = found.model.state_dict()
    assert {name: array.tobytes() for name, array in layer.state_dict().items()} == {
        name: array.tobytes() for name, array in state.items()
    }
    other = rnncore.Sequential(
        rnncore.GRU(3, 5, seed=0), rnncore.GRU(5, 5, bias=False, seed=1),
        rnncore.GRU(5, 5, bias=False, seed=1), rnncore.GRU(5, 4, bias=False, seed=1),
    )  # fmt: skip
    parts = convert.from_onnx(convert.to_onnx(other)).model._children.values()
    assert [part.num_layers for part in parts] == [1, 2, 1]


def test_models_there_and_back() -> None:
    gru = rnncore.GRU(4, 6, batch_first=True, bidirectional=True, seed=0)
    head = rnncore.Linear(12, 3, seed=1)
    net = rnncore.Sequential(
        rnncore.Embedding(9, 4, seed=0), gru, convert.LastStep(True), head,
        convert.Activation("softmax"),
    )  # fmt: skip
    wave = rnncore.Sequential(
        convert.Skip(
            rnncore.Sequential(rnncore.LSTM(2, 6, seed=0), rnncore.Linear(6, 2, seed=1)), 2
        ),
        convert.Activation("tanh"), convert.FinalState(rnncore.LSTM(2, 4, 2, seed=2)),
        rnncore.Linear(4, 1, False, seed=3),
    )  # fmt: skip
    for model in (net, wave):
        found = convert.from_onnx(convert.to_onnx(model))
        assert found.proof.proven
        mine, theirs = [
            [array.tobytes() for array in one.state_dict().values()] for one in (model, found.model)
        ]
        assert mine == theirs
    one = rnncore.Sequential(
        rnncore.GRU(2, 3, batch_first=True, seed=0), rnncore.Linear(3, 1, seed=1),
        convert.Squeeze(),
    )  # fmt: skip
    found = convert.from_onnx(convert.to_onnx(one))
    assert found.proof.proven and found.model(np.ones((4, 7, 2), np.float32)).shape == (4, 7)
    swapped = rnncore.Sequential(convert.Swap(), rnncore.GRU(2, 3, seed=0))
    found = convert.from_onnx(convert.to_onnx(swapped))
    x = np.ones((4, 7, 2), np.float32)
    assert found.model(x).shape == (7, 4, 3)
    np.testing.assert_allclose(found.model(x), swapped(x), atol=1e-6)


def gru_model(**changes: Any) -> Any:
    rng = np.random.default_rng(0)
    arrays = {"W": (1, 15, 3), "R": (1, 15, 5), "B": (1, 30)}
    settings = {"hidden_size": 5, "linear_before_reset": 1, **changes}
    numbers = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
               for name, shape in arrays.items()]  # fmt: skip
    node = helper.make_node("GRU", ["x", *arrays], ["y"], **settings)
    x = helper.make_tensor_value_info("x", 1, ["t", "b", 3])
    y = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph([node], "g", [x], [y], numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_what_is_refused(tmp_path: Path) -> None:
    def refuse(match: str, source: Any) -> None:
        with pytest.raises(ConversionError, match=match):
            convert.from_onnx(source)

    assert convert.from_onnx(gru_model()).proof.proven
    assert "clip=3.0" in convert.from_onnx(gru_model(clip=3.0)).model.layer_name
    refuse("input_forget = 1", gru_model(input_forget=1))
    before = gru_model(linear_before_reset=0, activations=["HardSigmoid", "Tanh"])
    assert "gru_reset_before(hard_sigmoid" in convert.from_onnx(before).model.layer_name
    refuse("expected 2 activations of a GRU, got tanh", gru_model(activations=["Tanh"]))
    refuse("the activations Swish, tanh .gates: expected one of", gru_model(
        activations=["Swish", "Tanh"]))  # fmt: skip
    refuse("expected 3 gates of hidden_size 4", gru_model(hidden_size=4))
    refuse("W and R of 2 directions", gru_model(direction="bidirectional"))
    model = gru_model()
    model.graph.node.append(helper.make_node("Erf", ["y"], ["z"]))
    model.graph.output[0].name = "z"
    refuse("node 'Erf' .Erf. is none that rnncore has", model)
    model = gru_model()
    model.graph.node[0].input[1] = "x"
    refuse("expected W as numbers in the file", model)
    model = gru_model()
    model.graph.input.append(helper.make_tensor_value_info("z", 1, [1]))
    refuse("one input of data", model)
    model = gru_model()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    refuse("all weights in the file", model)
    refuse("damaged or of another", b"no model")
    with pytest.raises(ConversionError, match=r"convert\.in_dtype"):
        convert.to_onnx(rnncore.LSTM(3, 4, dtype="float64"))
    with pytest.raises(ConversionError, match="that ONNX has, of one hidden size"):
        convert.to_onnx(rnncore.LSTM(3, [4, 5]))


@pytest.mark.parametrize("name", [
    "leaky_relu(0.3)", "elu(0.5)", "hard_sigmoid(0.2, 0.5)", "hard_sigmoid", "softplus", "softsign",
    "thresholded_relu(0.1)", "tanh",
])  # fmt: skip
def test_activations_between_layers(name: str) -> None:
    net = rnncore.Sequential(rnncore.Linear(3, 4, seed=0), convert.Activation(name))
    found = convert.from_onnx(convert.to_onnx(net))
    assert found.proof.proven and found.model._children["1"].name.startswith(name.split(",")[0])
    with pytest.raises(ConversionError, match="an activation that ONNX has, got 'hard_tanh'"):
        convert.to_onnx(rnncore.Sequential(rnncore.Linear(3, 4), convert.Activation("hard_tanh")))


def test_one_direction_of_two_is_refused() -> None:
    rng = np.random.default_rng(0)
    arrays = {"W": (2, 20, 3), "R": (2, 20, 5)}
    held = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
            for name, shape in arrays.items()]  # fmt: skip
    held += [numpy_helper.from_array(np.array([n]), f"n{n}") for n in (0, 1, 2)]
    lstm = helper.make_node("LSTM", ["x", *arrays], ["y"], hidden_size=5, direction="bidirectional")
    one = [helper.make_node("Slice", ["y", f"n{k}", f"n{k + 1}", "n1"], [f"s{k}"]) for k in (0, 1)]
    flat = [helper.make_node("Squeeze", [f"s{k}", "n1"], [f"d{k}"]) for k in (0, 1)]

    def read(*names: str) -> Any:
        both = helper.make_node("Concat", list(names), ["z"], axis=2)
        nodes = [lstm, *one, *flat, *([both] if len(names) > 1 else [])]
        x, end = (helper.make_tensor_value_info(name, 1, shape) for name, shape in (
            ("x", ["t", "b", 3]), ("z" if len(names) > 1 else names[0], None)))  # fmt: skip
        graph = helper.make_graph(nodes, "g", [x], [end], held)
        return convert.from_onnx(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        )

    assert read("d0", "d1").proof.proven
    with pytest.raises(ConversionError, match=r"of all directions, .* got 'd1' otherwise"):
        read("d1")
    for names in (("d1", "d0"), ("d0", "d0")):
        with pytest.raises(ConversionError, match="not the two directions of one layer"):
            read(*names)


def test_a_node_alone_whatever_is_around_it() -> None:
    model = gru_model()
    node = copy.deepcopy(model.graph.node[0])
    node.name = "the gru"
    del model.graph.node[:]
    pads = numpy_helper.from_array(np.array([1, 0, 0, 0, 0, 0]), "pads")
    two = numpy_helper.from_array(np.array([0]), "zero")
    flat = numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[2])[0], "flat")
    model.graph.initializer.extend([pads, two, flat])
    node.input[0], node.input[3] = "padded", "bias"
    node.input.extend(["", "h"])
    model.graph.node.extend([
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Unsqueeze", ["flat", "zero"], ["bias"]),
        helper.make_node("RandomNormal", [], ["h"], shape=[1, 2, 5]), node,
        helper.make_node("Erf", ["y"], ["z"]),
    ])  # fmt: skip
    model.graph.output[0].name = "z"
    with pytest.raises(ConversionError, match="prefix takes a node alone: 'the gru'"):
        convert.from_onnx(model)
    found = convert.from_onnx(model, "the gru")
    assert found.proof.proven and "the inputs h are the argument state" in str(found)
    plain = convert.from_onnx(gru_model()).model.state_dict()
    for name, array in found.model.state_dict().items():
        assert (array == plain[name]).all()
    with pytest.raises(ConversionError, match="one of the recurrent nodes of ONNX, the gru, got"):
        convert.from_onnx(model, "other")
    model.graph.initializer.remove(flat)
    with pytest.raises(ConversionError, match="expected weights as numbers in the file"):
        convert.from_onnx(model, "the gru")


def test_without_onnx_runtime_its_reference_is_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    found = convert.load(FOLDER / "states.onnx")
    assert found.proof.proven and "the reference of onnx" in found.proof.against


def test_a_gru_without_linear_before_reset_is_not_taken_for_the_other() -> None:
    found = convert.from_onnx(gru_model(linear_before_reset=0))
    assert found.model.reset_after is False and found.proof.proven


def test_damaged_files(tmp_path: Path) -> None:
    content = (FOLDER / "states.onnx").read_bytes()
    refused, fine = refused_or_read(
        lambda path: convert.load(path, prove=False), tmp_path / "a.onnx", mutated(content, 1000)
    )
    assert refused > 300 and refused + fine == 1000
