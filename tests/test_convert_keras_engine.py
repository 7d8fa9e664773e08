"""Layers and models of Keras itself, held against it; needs Keras 3 and an engine of it."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_convert_keras import OUT

import rnncore
from rnncore import convert
from rnncore.convert import ConversionError

h5py = pytest.importorskip("h5py", reason="makes files for Keras: pip install h5py")
keras = pytest.importorskip("keras", reason="holds against Keras: pip install keras",
                            exc_type=ImportError)  # fmt: skip
K = keras.layers
FOLDER = Path(__file__).with_name("fixtures") / "convert"


def filled(model: Any, inputs: Any = None) -> Any:
    """Return a model of Keras with random weights, built of its layers where it is a list."""
    if isinstance(model, list):
        model = keras.Sequential([keras.Input((None, 3)) if inputs is None else inputs, *model])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=one.shape) * 0.6 for one in model.get_weights()])
    return model


def functional() -> Any:
    x = keras.Input((None,), dtype="int32")
    y = K.Embedding(7, 4, mask_zero=True)(x)
    y = K.Bidirectional(K.LSTM(4, return_sequences=True))(y)
    return filled(keras.Model(x, K.Dense(2)(K.Dropout(0.2)(y))))


def ids() -> Any:
    return keras.Input((None,), dtype="int32")


MODELS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: filled([K.LSTM(5)]),
    "GRU, twice": lambda: filled([
        K.GRU(5, return_sequences=True, dropout=0.1), K.GRU(4, use_bias=False),
        K.Dense(3, activation="softmax"),
    ]),
    "GRU, reset before": lambda: filled([K.GRU(5, reset_after=False)]),
    "SimpleRNN": lambda: filled([
        K.SimpleRNN(4, activation="relu", use_bias=False), K.Dense(4, "softplus", use_bias=False),
        K.LeakyReLU(0.2), K.ELU(0.5), K.Dense(3, "leaky_relu"),
    ]),
    "both directions": lambda: filled([
        K.Bidirectional(K.LSTM(4, return_sequences=True)), K.Bidirectional(K.GRU(3)),
        K.Dense(2), K.Activation("tanh"),
    ]),
    "cells": lambda: filled([K.RNN(K.LSTMCell(4), return_sequences=True), K.RNN(K.GRUCell(3))]),
    "Masking": lambda: filled([
        K.Masking(0.0), K.LSTM(4, return_sequences=True), K.TimeDistributed(K.Dense(2)), K.ReLU(),
    ]),
    "words": lambda: filled([K.Embedding(9, 4), K.GRU(3)], ids()),
    "functional": functional,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_and_their_files(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    found = convert.from_keras(model)
    assert found.proof.proven and found.proof.difference < 1e-5 and found.proof.inputs == 5
    assert f"keras {keras.__version__}" in found.proof.against
    state = {key: array.tobytes() for key, array in found.model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "a.keras")
        model.save(tmp_path / "a.h5")
    model.save_weights(tmp_path / "a.weights.h5")
    for end, config in ((".keras", None), (".h5", None), (".weights.h5", model.to_json())):
        prove = name in ("both directions", "words")  # the weights read by Keras itself
        again = convert.from_keras(tmp_path / f"a{end}", config, prove=prove)
        assert again.proof.proven == prove
        theirs = {key: array.tobytes() for key, array in again.model.state_dict().items()}
        assert theirs == state, end


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype: str, tmp_path: Path) -> None:
    options = {"recurrent_initializer": "zeros", "dtype": dtype}  # no other is made in float16
    layers = [K.LSTM(4, return_sequences=True, **options), K.Dense(2, dtype=dtype)]
    model = filled([*layers])
    model.save(tmp_path / "a.keras")
    found = convert.load(tmp_path / "a.keras")
    assert found.proof.proven
    assert found.model.dtype == ("float64" if dtype == "float64" else "float32")
    kernel = np.asarray(keras.ops.convert_to_numpy(layers[1].kernel)).astype(found.model.dtype)
    assert (found.model.params["1.weight"] == kernel.T).all()


def test_the_gru_and_the_hard_sigmoid_of_old() -> None:
    pytest.importorskip("llvmlite", reason="makes cells by choice: pip install llvmlite")
    found = convert.load(FOLDER / "keras2_before.h5")
    assert found.proof.proven and found.proof.difference < 1e-5


def test_hard_sigmoid_is_asked_for_where_no_version_is(tmp_path: Path) -> None:
    model = filled([K.SimpleRNN(3), K.Dense(2, "hard_sigmoid")])
    assert convert.from_keras(model).proof.proven
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ConversionError, match="another function in Keras 3 than before"):
        convert.from_keras(tmp_path / "a.weights.h5", model.to_json())


def test_layers_of_a_model_that_is_no_chain() -> None:
    x = keras.Input((None, 3))
    y = K.LSTM(4, return_sequences=True, name="inside")(x)
    model = filled(keras.Model(x, K.Concatenate()([x, y])))
    with pytest.raises(ConversionError, match="name those to take by prefix"):
        convert.from_keras(model)
    assert convert.from_keras(model, prefix="inside").proof.proven


def test_a_layer_alone_and_what_is_no_layer() -> None:
    layer = K.GRU(4, return_sequences=True)
    with pytest.raises(ConversionError, match="build the model before"):
        convert.from_keras(layer)
    layer.build((None, None, 3))
    found = convert.from_keras(layer)
    assert isinstance(found.model, rnncore.GRU) and found.proof.proven

    class Mine(K.LSTM):
        pass

    for wrong in (3, Mine(3), keras.Sequential([keras.Input((None, 2)), Mine(3)])):
        with pytest.raises(ConversionError, match="expected a layer"):
            convert.from_keras(wrong)


def test_a_proof_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from rnncore.convert import keras_layers

    model = filled([K.LSTM(5)])
    monkeypatch.setitem(keras_layers.ORDERS["keras"], "lstm", "iofg")
    with pytest.raises(ConversionError, match=r"the numbers of keras .*, got a difference"):
        convert.from_keras(model)


@pytest.mark.parametrize("name", OUT)
def test_out(name: str, tmp_path: Path) -> None:
    model, path = OUT[name](), tmp_path / "a.keras"
    convert.to_keras(model)  # held against ours
    convert.write(path, model)
    with zipfile.ZipFile(path) as archive, h5py.File(
        io.BytesIO(archive.read("model.weights.h5"))
    ) as file:
        found: dict[str, np.ndarray] = {}
        file.visititems(lambda name, one: found.update(
            {name: one[()]} if isinstance(one, h5py.Dataset) else {}))  # fmt: skip
    assert sum(array.size for array in found.values()) >= model.num_parameters
    theirs = keras.saving.load_model(path)
    arrays = sorted(array.tobytes() for array in theirs.get_weights())
    assert sorted(array.tobytes() for array in found.values()) == arrays


def test_links_and_sizes_of_a_file_lead_nowhere(tmp_path: Path) -> None:
    plain, path = FOLDER / "keras2_plain.h5", tmp_path / "a.h5"
    secret = tmp_path / "other.h5"
    with h5py.File(secret, "w") as file:
        file["numbers"] = np.ones(4, np.float32)

    def refuse(match: str, change: Callable[[Any, str], None]) -> None:
        path.write_bytes(plain.read_bytes())
        with h5py.File(path, "a") as file:
            dense = file["model_weights"]["dense"]
            kernel = dense.attrs["weight_names"][0]
            del dense[kernel]
            change(dense, kernel)
        with pytest.raises(ConversionError, match=match):
            convert.from_keras(path, prove=False)

    def linked(link: Any) -> Callable[[Any, str], None]:
        return lambda group, name: group.__setitem__(name, link)

    def created(**options: Any) -> Callable[[Any, str], None]:
        return lambda group, name: group.create_dataset(name, **options)

    refuse("newer form|KeyError", linked(h5py.ExternalLink(str(secret), "numbers")))
    refuse("KeyError", linked(h5py.SoftLink("/model_weights")))
    refuse("stand one after another", created(shape=(10**9, 1), dtype="f4", chunks=(1000, 1)))
    refuse("are not in the file", created(shape=(10**9, 1), dtype="f4"))
    refuse("no floating-point", created(data=np.ones((4, 2), np.int32)))
    refuse("in another file", created(shape=(4, 2), dtype="f4", external=[(str(secret), 0, 32)]))
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["model_config"] = "{}"
    with pytest.raises(ConversionError, match="where h5py writes 0"):
        convert.from_keras(path)
