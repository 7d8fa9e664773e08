"""Keras in and out: files that Keras 2 and 3 wrote, layers and models, and what is refused."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from mutations import mutated, mutated_json, refused_or_read

import rnncore
from rnncore import convert
from rnncore.cells import chosen
from rnncore.cli.main import main
from rnncore.convert import ConversionError
from rnncore.convert.hdf5_in import File
from rnncore.convert.hdf5_out import hdf5_of

os.environ.setdefault("KERAS_BACKEND", "torch")  # where Keras is installed, the proof runs in it
FOLDER = Path(__file__).with_name("fixtures") / "convert"
CONFIG = FOLDER / "keras3_functional.json"
FILES: dict[str, dict[str, Any]] = {
    "keras3_tagger.keras": {}, "keras3_simple.h5": {},
    "keras3_functional.weights.h5": {"config": CONFIG},
    "keras2_plain.h5": {}, "keras2_both.keras": {}, "keras2_cudnn.h5": {},
    "keras2_cudnn.keras": {},
}  # fmt: skip


def expected(name: str) -> tuple[np.ndarray, np.ndarray]:
    name = name.split(".")[0]
    with np.load(FOLDER / f"{name[:6]}_expected.npz") as held:
        return held[f"{name}.x"], held[f"{name}.y"]


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    found = convert.load(FOLDER / name, **FILES[name])
    assert found.proof.proven or "Keras is not installed" in str(found)
    x, y = expected(name)
    kept = x[..., None] != 0 if "tagger" in name else True  # what Keras says of other steps
    np.testing.assert_allclose(found.model(x) * kept, y * kept, atol=1e-6)
    path = tmp_path / "ours.safetensors"
    convert.write(path, found.model)
    assert (convert.load(path).model(x) == found.model(x)).all()


def test_the_command(tmp_path: Path) -> None:
    weights, out = str(FOLDER / "keras3_functional.weights.h5"), str(tmp_path / "a.safetensors")
    words = ["convert", weights, out, "--config", str(CONFIG), "--no-proof"]
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 0 and "LSTM + LSTM + Dense" in said.output
    said = CliRunner().invoke(main, ["convert", weights])
    assert said.exit_code and "weights alone" in said.output
    assert said.output.startswith("Error: ") and said.output.count("\n") == 1


def test_weights_alone_say_neither_order_nor_activations() -> None:
    path = FOLDER / "keras3_functional.weights.h5"
    with pytest.raises(ConversionError, match=r"model\.to_json\(\) as config"):
        convert.from_keras(path)
    for config in (CONFIG.read_text(), json.loads(CONFIG.read_text()), str(CONFIG)):
        assert isinstance(convert.from_keras(path, config, prove=False).model, convert.Masked)


def test_masks_are_passed_over_wherever_they_are() -> None:
    layer = rnncore.LSTM(3, 4, 2, batch_first=True, bidirectional=True, dtype="float64", seed=0)
    head = rnncore.Linear(8, 2, dtype="float64", seed=1)
    masked = convert.Masked(rnncore.Sequential(layer, head), -1.0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 9, 3))
    kept = rng.random((4, 9)) < 0.6
    kept[1], kept[2] = False, True
    x[~kept] = -1.0
    with rnncore.Tape(masked) as tape:
        loss = rnncore.mse_loss(masked(tape.watch(x)), np.zeros((4, 9, 2)))
    tape.backward(loss)
    grads = {name: array.copy() for name, array in masked.grads.items()}
    masked.zero_grad()
    result = masked(x)
    for one, steps, out in zip(x, kept, result, strict=True):
        assert not out[~steps].any()
        if steps.any():
            alone, _ = layer(one[None, steps])
            np.testing.assert_allclose(out[steps], head(alone)[0], atol=1e-14)
    for name, array in list(masked.params.items())[:2] + list(masked.params.items())[-2:]:
        flat, eps = np.array(array), 1e-6
        place = np.unravel_index(np.abs(grads[name]).argmax(), flat.shape)
        values = []
        for sign in (1, -1):
            with masked.writable_params() as params:
                params[name][place] = flat[place] + sign * eps
            values.append(float((masked(x) ** 2).mean()))
        with masked.writable_params() as params:
            params[name][place] = flat[place]
        slope = (values[0] - values[1]) / (2 * eps)
        np.testing.assert_allclose(grads[name][place], slope, rtol=1e-6)


OUT = {
    "LSTM": lambda: rnncore.LSTM(3, 5, batch_first=True, seed=0),
    "GRU": lambda: rnncore.GRU(3, 5, 2, bidirectional=True, batch_first=True, seed=0),
    "GRU, reset before": lambda: rnncore.GRU(
        3, 5, batch_first=True, reset_after=False, seed=0
    ),
    "LSTM, other activations": lambda: rnncore.Recurrent(
        chosen.lstm("hard_sigmoid", "softsign", "softsign"), 3, 5, batch_first=True, seed=0
    ),
    "GRU of two biases": lambda: rnncore.GRU(3, 5, bias="pytorch", seed=0),
    "RNN": lambda: rnncore.RNN(3, [4, 6], nonlinearity="identity", bias=False, seed=0),
    "float64": lambda: rnncore.Sequential(
        rnncore.LSTM(2, 3, dtype="float64", batch_first=True, seed=0),
        rnncore.Linear(3, 1, dtype="float64", seed=1),
    ),
    "words": lambda: rnncore.Sequential(
        rnncore.Embedding(9, 4, seed=0), rnncore.Dropout(0.1),
        rnncore.LSTM(4, 5, bidirectional=True, batch_first=True, seed=0),
        convert.FinalState(rnncore.GRU(10, 3, batch_first=True, seed=0)),
        rnncore.Linear(3, 2, seed=0), convert.Activation("elu(0.5)"),
        convert.Activation("leaky_relu(0.1)"), convert.Activation("softsign"),
        convert.Activation("hard_sigmoid"), convert.Activation("softmax"),
    ),
    "masked words": lambda: convert.Masked(rnncore.Sequential(
        rnncore.Embedding(9, 4, seed=0),
        convert.FinalState(rnncore.GRU(4, 3, 2, batch_first=True, seed=0)),
    )),
    "masked": lambda: convert.Masked(rnncore.Sequential(
        rnncore.RNN(2, 3, nonlinearity="relu", batch_first=True, seed=0), convert.LastStep(True),
        rnncore.Linear(3, 1, False, seed=0),
    ), -1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", OUT)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    ours, path = OUT[name](), tmp_path / "a.keras"
    convert.write(path, ours)
    content = path.read_bytes()
    convert.write(path, ours)
    assert path.read_bytes() == content
    found = convert.load(path, prove=False).model
    mine, theirs = [
        [array.tobytes() for array in one.state_dict().values()] for one in (ours, found)
    ]
    assert mine == theirs
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (2, 6)) if "words" in name else rng.normal(
        size=(2, 6, 2 if name in ("masked", "float64") else 3))  # fmt: skip
    x = x.astype(ours.dtype) if x.dtype.kind == "f" else x
    if name == "masked":
        x[0, 4:] = -1.0
    first = "two biases" in name or name == "RNN"
    y, again = ours(x.swapaxes(0, 1) if first else x), found(x)
    y, again = (one[0] if isinstance(one, tuple) else one for one in (y, again))
    assert (y == (again.swapaxes(0, 1) if first else again)).all()


def test_what_keras_has_not(tmp_path: Path) -> None:
    lstm = rnncore.LSTM(3, 4, batch_first=True, seed=0)
    for model in (
        rnncore.LSTM(3, 4, learn_initial_state=True), rnncore.GRU(3, 4, zoneout=0.1),
        rnncore.Sequential(rnncore.LSTM(3, 4), rnncore.Linear(4, 1)), convert.Swap(),
        convert.Skip(rnncore.Linear(3, 3), 3),
        rnncore.Recurrent(chosen.lstm(peepholes=True), 3, 4),
        rnncore.Sequential(lstm, rnncore.Linear(4, 4), convert.LastStep(True)),
        convert.Masked(rnncore.Sequential(rnncore.Embedding(9, 3), convert.FinalState(
            rnncore.GRU(3, 4, batch_first=True))), 2.0),
    ):  # fmt: skip
        with pytest.raises(ConversionError, match="model: expected what Keras has, got"):
            convert.write(tmp_path / "a.keras", model)


def test_files_of_many_layers() -> None:
    tree = {f"layer {n}": {"vars": {"0": np.full((n % 3, 2), n, "f8")}} for n in range(300)}
    root = File(hdf5_of(tree)).root
    assert set(root.children()) == set(tree)
    for name, group in tree.items():
        assert (root[f"{name}/vars/0"].array() == group["vars"]["0"]).all()
    assert not File(hdf5_of({})).root.children()


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": kind.lower(), **config}}


def model(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"layers": list(layers)}}


def read(*layers: dict[str, Any], name: str = "keras2_plain.h5") -> Any:
    """Return a file's model with its layers described like this."""
    return convert.from_keras(FOLDER / name, model(*layers), prove=False)


SIMPLE, GRU = layer("SimpleRNN", units=4, return_sequences=True), layer("GRU", units=5)
LSTM, DENSE = layer("LSTM", units=4), layer("Dense", units=2)
GRU["config"] |= {"return_sequences": True, "reset_after": True}


def changed(about: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {**about, "config": {**about["config"], **config}}


REFUSED = {
    "no activation of rnncore": (changed(DENSE, activation="gelu"), "rnncore has, got .gelu."),
    "an activation of one's own": (
        changed(DENSE, activation={"class_name": "function"}), "an activation of Keras's own"),
    "a layer of one's own": ({**DENSE, "class_name": "Mine>Dense"}, "of Keras's own, got"),
    "registered by somebody": ({**DENSE, "registered_name": "Mine>D"}, "own, got one of Mine>D"),
    "of another module": ({**DENSE, "module": "os"}, "own, got one of os, whose code is not run"),
    "Lambda": (layer("Lambda", function="x"), "whose code is not run"),
    "Conv1D": (layer("Conv1D"), "expected a recurrent layer, Dense, Embedding", DENSE),
    "a model within": (layer("Sequential", layers=[]), "a model within the model"),
    "units": (changed(DENSE, use_bias=False), "expected 1 arrays"),
    "another layer behind": (DENSE, "expected those of 5 layers, got those of simple_rnn", LSTM),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_layers(what: str) -> None:
    last, match, *more = REFUSED[what]
    with pytest.raises(ConversionError, match=match):
        read(SIMPLE, GRU, LSTM, last, *more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("change", "match"), [
    ({"activation": "swish"}, r"the activations sigmoid, swish, swish"),
    ({"go_backwards": True, "return_sequences": True}, "whose output runs backwards"),
    ({"time_major": True}, "time_major"),
    ({"units": 3}, "weights of 3 units"),
    ({"use_bias": False}, "expected 2 arrays"),
])  # fmt: skip
def test_refused_settings(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConversionError, match=match):
        read(SIMPLE, GRU, changed(LSTM, **change), DENSE)


@pytest.mark.parametrize(("change", "cell"), [
    ({"activation": "relu"}, "lstm(sigmoid, relu, relu)"),
    ({"recurrent_activation": "hard_sigmoid"}, "lstm(hard_sigmoid(0.2, 0.5), tanh, tanh)"),
    ({"activation": "leaky_relu"}, "lstm(sigmoid, leaky_relu(0.2), leaky_relu(0.2))"),
])  # fmt: skip
def test_other_activations(change: dict[str, Any], cell: str) -> None:
    pytest.importorskip("llvmlite")
    found = read(SIMPLE, GRU, changed(LSTM, **change), DENSE).model
    names = [part.layer.layer_name for part in found._children.values() if hasattr(part, "layer")]
    assert names == [cell]


def test_what_a_file_says_of_itself_must_agree() -> None:
    def refuse(match: str, *layers: dict[str, Any], **options: Any) -> None:
        with pytest.raises(ConversionError, match=match):
            read(*layers, **options)

    refuse("reset_after=True, as its bias", SIMPLE, changed(GRU, reset_after=False), LSTM, DENSE)
    refuse("return_sequences=True in the layer before", SIMPLE, changed(
        GRU, return_sequences=False), LSTM, DENSE)  # fmt: skip
    refuse(r"expected kernels .I, 4 H. and .H, 4 H., got shapes", SIMPLE, LSTM, DENSE, DENSE)
    turned = layer("Bidirectional", layer=layer("GRU", units=3, return_sequences=True))
    refuse("expected 2 features, got weights for 3", DENSE, turned, name="keras2_both.keras")
    both = layer("Bidirectional", layer=layer("LSTM", units=4, return_sequences=True))
    cudnn = layer("CuDNNGRU", units=5, return_sequences=True)
    x, y = expected("keras2_cudnn")
    made = read(both, cudnn, DENSE, name="keras2_cudnn.h5").model
    np.testing.assert_allclose(made(x), y, atol=1e-6)  # told by its bias, whatever it is called
    for change in ({"merge_mode": "sum"}, {"backward_layer": layer("LSTM", units=3)}):
        refuse("merge_mode='concat'|two directions of one kind", changed(both, **change), cudnn,
               DENSE, name="keras2_cudnn.h5")  # fmt: skip
    refuse("as CuDNN has", SIMPLE, layer("CuDNNGRU", units=5, return_sequences=True), LSTM, DENSE)


def test_some_layers_by_their_names() -> None:
    path = FOLDER / "keras3_functional.weights.h5"
    names = [one["config"]["name"] for one in json.loads(CONFIG.read_text())["config"]["layers"]
             if one["class_name"] == "LSTM"]  # fmt: skip
    whole = convert.from_keras(path, CONFIG, prove=False).model.state_dict()
    found = convert.from_keras(path, CONFIG, names)
    assert found.proof.proven or "not installed" in str(found)
    assert [type(part).__name__ for part in found.model._children.values()] == [
        "LSTM", "FinalState"]  # fmt: skip
    for name, array in found.model.state_dict().items():
        assert (array == whole[f"inner.{name}"]).all()
    last = convert.from_keras(path, CONFIG, names[1], prove=False).model
    assert (last.state_dict()["layer.weight_hh_l0"] == whole["inner.1.layer.weight_hh_l0"]).all()
    with pytest.raises(ConversionError, match=r"prefix: expected names of layers, .*, got gone"):
        convert.from_keras(path, CONFIG, ["gone"])
    described = {**LSTM["config"], "name": "lstm"}  # one of the layers of a file, described by hand
    some = read({"class_name": "LSTM", "config": described}).model
    every = convert.load(FOLDER / "keras2_plain.h5", prove=False).model
    assert (some.state_dict()["layer.weight_ih_l0"]
            == every.state_dict()["2.layer.weight_ih_l0"]).all()  # fmt: skip


def test_a_gru_with_the_reset_gate_before_is_not_taken_for_the_other() -> None:
    pytest.importorskip("llvmlite")
    x, y = expected("keras2_before")
    found = convert.load(FOLDER / "keras2_before.h5", prove=False)
    assert "gru_reset_before(hard_sigmoid(0.2, 0.5), tanh)" in [
        getattr(part, "layer_name", "") for _, part in found.model.named_modules()
    ]
    np.testing.assert_allclose(found.model(x), y, atol=1e-6)


def functional(*layers: tuple[str, list[Any]], output: str) -> dict[str, Any]:
    entries = [{**layer("LSTM" if nodes else "InputLayer"), "name": name, "inbound_nodes": nodes}
               for name, nodes in layers]  # fmt: skip
    return {"class_name": "Functional", "config": {"layers": entries, "output_layers": [
        [output, 0, 0]]}}  # fmt: skip


def test_graphs_of_layers_that_are_no_chain() -> None:
    def refuse(match: str, *layers: tuple[str, list[Any]], output: str) -> None:
        with pytest.raises(ConversionError, match=match):
            convert.from_keras(
                FOLDER / "keras3_functional.weights.h5", functional(*layers, output=output)
            )

    x, a = ("x", []), ("a", [[["x", 0, 0, {}]]])
    refuse("'b': .*one after another, .* reads 'x'", x, a, ("b", [[["x", 0, 0, {}]]]), output="b")
    refuse("reads 'x', 'a'", x, a, ("b", [[["x", 0, 0, {}], ["a", 0, 0, {}]]]), output="b")
    refuse("called 2 times", x, ("a", [[["x", 0, 0, {}]], [["x", 0, 0, {}]]]), output="a")
    refuse("got output 1 of call 0", x, a, ("b", [[["a", 0, 1, {}]]]), output="b")
    refuse("its last layer as its one output, got 'x'", x, a, output="x")


def test_a_small_file_does_not_become_a_large_one(tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 10**8)
    (tmp_path / "a.keras").write_bytes(held.getvalue())
    with pytest.raises(ConversionError, match=r"config\.json is larger than such a file can hold"):
        convert.load(tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["keras3_functional.weights.h5", "keras2_plain.h5",
                                  "keras3_tagger.keras"])  # fmt: skip
def test_damaged_files(name: str, tmp_path: Path) -> None:
    options = {**FILES[name], "prove": False}
    refused, fine = refused_or_read(
        lambda path: convert.load(path, **options), tmp_path / name,
        mutated((FOLDER / name).read_bytes(), 400),
    )  # fmt: skip
    assert refused > 200 and refused + fine == 400


def test_damaged_configurations(tmp_path: Path) -> None:
    weights = FOLDER / "keras3_functional.weights.h5"
    refused, fine = refused_or_read(
        lambda path: convert.from_keras(weights, path, prove=False), tmp_path / "a.json",
        mutated_json(CONFIG.read_text(), 400),
    )  # fmt: skip
    assert refused > 50 and refused + fine == 400
