"""To Keras: a `.keras` file with the same weights, and the model that Keras makes of it."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rnncore import files, layers
from rnncore.convert import proof
from rnncore.convert.equations import STANDARD, Equations, ends_of, equations_of
from rnncore.convert.errors import ConversionError, needed
from rnncore.convert.hdf5_out import hdf5_of
from rnncore.convert.keras_config import Layer, file_names
from rnncore.convert.parts import Activation, FinalState, LastStep, Masked
from rnncore.convert.sizes import sizes_of
from rnncore.convert.weights import ORDERS, in_order
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent

VERSION = "3.0.0"  # of Keras, which reads files of it ever since
CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
#: What Keras 3 calls activations; the others are the same.
ACTIVATIONS = {"identity": "linear", "leaky_relu(0.2)": "leaky_relu"}
ALIKE = ("tanh", "sigmoid", "relu", "elu", "hard_sigmoid", "softplus", "softsign")


def to_keras(model: Module) -> Any:
    """Return the Keras 3 model of a layer or of a `Sequential`, held against ours.

    It is a `keras.Sequential` of float32 or float64 that takes (B, T, features), or token ids, with
    any number of steps. `write` makes the file without Keras; `from_keras` gives back the same
    bits, where a bias is one vector, and of a GRU always.

    Parameters
    ----------
    model
        RNN, LSTM, GRU, Linear, Embedding, Dropout, or a `Sequential` of them and of `Activation`,
        `FinalState`, `LastStep`; or a `Masked` of such. Recurrent layers take (B, T, features)
        (`batch_first=True`), where they are not alone.

    Raises
    ------
    ConversionError
        If Keras has no such layer, or is not installed.

    Examples
    --------
    >>> import pytest, rnncore
    >>> _ = pytest.importorskip("keras", exc_type=ImportError)
    >>> from rnncore import convert
    >>> made = convert.to_keras(rnncore.LSTM(3, 5, batch_first=True, seed=0))
    >>> type(made.layers[0]).__name__, made.layers[0].units
    ('LSTM', 5)
    """
    content = keras_of(model)
    keras = needed("keras", "keras", "to make a model of it, beside an engine for it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(content)
        made = keras.saving.load_model(path, compile=False)
    features, vocabulary, batch_first = sizes_of(model)

    def ours(x: np.ndarray) -> list[np.ndarray]:
        y = model(x if batch_first or vocabulary else x.swapaxes(0, 1))
        y = y[0] if isinstance(y, tuple) else y
        y = y.astype(np.float32)  # as most of its engines multiply float64, too
        return [y if batch_first or vocabulary or y.ndim < 3 else y.swapaxes(0, 1)]

    def theirs(x: np.ndarray) -> list[np.ndarray]:
        y = made(x.astype(np.int32) if vocabulary else x, training=False)
        return [np.asarray(y.detach().cpu() if hasattr(y, "detach") else y)]

    inputs = proof.trial_inputs(features, vocabulary, True, model.dtype)
    proof.prove(ours, theirs, f"keras {keras.__version__}", inputs, model)
    return made


def keras_of(model: Module) -> bytes:
    """Return the bytes of the `.keras` file of a model; Keras need not be installed.

    Raises
    ------
    ConversionError
        If Keras has no such layer.
    """
    value = model.value if isinstance(model, Masked) else None
    inner = model.inner if isinstance(model, Masked) else model
    parts = list(inner._children.values()) if type(inner) is layers.Sequential else [inner]
    writer = _Writer(model.dtype.name, alone=len(parts) == 1)
    for part in parts:
        writer.write(part)
    features, vocabulary, _ = sizes_of(model)
    shape = [None, None] if vocabulary else [None, None, features]
    if value is not None and vocabulary:
        if value:
            writer.refuse(model, "hides another id than 0")
        [table] = (one for one in writer.found if one.kind == "Embedding")
        table.config["mask_zero"] = True
    elif value is not None:
        writer.found.insert(0, Layer("Masking", {"mask_value": value}))
    kind = "int32" if vocabulary else model.dtype.name
    entries = [_entry(Layer("InputLayer", {"batch_shape": shape, "dtype": kind}), "input")]
    names = file_names([layer.kind for layer in writer.found])
    weights: dict[str, Any] = {}
    for name, layer in zip(names, writer.found, strict=True):
        if layer.kind != "Masking":
            layer.config["dtype"] = model.dtype.name
        entries.append(_entry(layer, name))
        each = len(layer.arrays) // max(1, len(layer.places))
        for k, place in enumerate(layer.places):
            group = weights.setdefault(name, {})
            for one in f"{place}vars".split("/"):
                group = group.setdefault(one, {})
            group |= {str(n): one for n, one in enumerate(layer.arrays[k * each : (k + 1) * each])}
    about = _entry(Layer("Sequential", {"layers": entries, "build_input_shape": shape}), "rnncore")
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        # The hour is left out: equal models give equal files.
        for name, content in (
            ("metadata.json", json.dumps({"keras_version": VERSION, "date_saved": ""})),
            ("config.json", json.dumps(about)),
            ("model.weights.h5", hdf5_of({"layers": weights})),
        ):
            archive.writestr(zipfile.ZipInfo(name), content)
    return held.getvalue()


def _entry(layer: Layer, name: str) -> dict[str, Any]:
    module = "keras" if layer.kind == "Sequential" else "keras.layers"
    config = {"name": name, **layer.config}
    return {
        "module": module, "class_name": layer.kind, "config": config, "registered_name": None,
    }  # fmt: skip


class _Writer:
    def __init__(self, dtype: str, alone: bool) -> None:
        self.dtype, self.alone = dtype, alone
        self.found: list[Layer] = []

    def refuse(self, model: Module, why: str) -> Any:
        """Raise a ConversionError of a part."""
        raise ConversionError(f"model: expected what Keras has, got {model!r}, which {why}")

    def write(self, part: Module) -> None:
        """Add the layers of a part."""
        if isinstance(part, Recurrent):
            self._recurrent(part, last=False)
        elif isinstance(part, FinalState):
            self._recurrent(part.layer, last=True)
        elif isinstance(part, LastStep):
            before = self.found[-1] if self.found else None
            if before is None or not before.config.get("return_sequences") or not part.batch_first:
                self.refuse(part, "comes after no layer of one direction, sequences first")
            assert before is not None
            before.config["return_sequences"] = False
        elif type(part) is layers.Linear:
            weight, *bias = part.state_dict().values()
            config = {"units": part.out_features, "use_bias": bool(bias)}
            self.found.append(Layer("Dense", config, [weight.T, *bias]))
        elif type(part) is layers.Embedding:
            config = {"input_dim": part.num_embeddings, "output_dim": part.embedding_dim}
            self.found.append(Layer("Embedding", config, [part.state_dict()["weight"]]))
        elif isinstance(part, Activation):
            self._activation(part)
        elif type(part) is layers.Dropout and not part.variational:
            self.found.append(Layer("Dropout", {"rate": part.p}))
        else:
            self.refuse(part, "is no layer of it")

    def _recurrent(self, layer: Recurrent, last: bool) -> None:
        equations = equations_of(layer)
        if equations is None or layer.learn_initial_state or layer.zoneout:
            self.refuse(layer, "is no LSTM, GRU or RNN that begins at zero, without zoneout")
        assert equations is not None
        functions = self._functions(layer, equations)
        if layer.reverse and not (last and layer.num_layers == 1):
            self.refuse(layer, "reads backwards, whose output Keras turns round")
        kind = CLASSES[equations.kind]
        if not layer.batch_first and not self.alone:
            self.refuse(layer, "takes steps first; make it with batch_first=True")
        state, count = layer.state_dict(), 1 + layer.bidirectional
        for number, size in enumerate(layer._layer_sizes):
            ends = ends_of(number, count, layer.reverse)
            arrays = [array for end in ends for array in _arrays(layer, equations, state, end)]
            every = not last or number < layer.num_layers - 1
            config = {
                "units": size, "return_sequences": every, "use_bias": bool(layer.bias),
                **functions,
            }  # fmt: skip
            if layer.reverse:
                config["go_backwards"] = True
            if equations.kind == "gru":
                config["reset_after"] = equations.reset_after
            if layer.bidirectional:
                entry = _entry(Layer(kind, {**config, "dtype": self.dtype}), kind.lower())
                self.found.append(
                    Layer("Bidirectional", {"layer": entry, "merge_mode": "concat"}, arrays)
                )
            else:
                self.found.append(Layer(kind, config, arrays))


    def _activation(self, part: Activation) -> None:
        name, _, number = part.name.rstrip(")").partition("(")
        if part.name in ("softmax", *ALIKE) and name != "elu":
            self.found.append(Layer("Activation", {"activation": part.name}))
        elif name == "leaky_relu":
            self.found.append(Layer("LeakyReLU", {"negative_slope": float(number or 0.01)}))
        elif name == "elu":
            self.found.append(Layer("ELU", {"alpha": float(number or 1)}))
        else:
            self.refuse(part, "is none of its activations")

    def _functions(self, layer: Recurrent, equations: Equations) -> dict[str, str]:
        known = {**ACTIVATIONS, **{name: name for name in ALIKE}}
        found = [known.get(text, "") for text in equations.activations]
        if not all(found) or found[1:2] != found[-1:] * (len(found) > 1):
            self.refuse(layer, f"has activations {', '.join(equations.activations)}")
        if equations.clip is not None or equations.peepholes:
            self.refuse(layer, "has a clip or peepholes")
        if equations.kind == "rnn" or equations.activations == STANDARD[equations.kind]:
            return {"activation": found[-1]}
        return {"activation": found[-1], "recurrent_activation": found[0]}


def _arrays(
    layer: Recurrent, equations: Equations, state: dict[str, np.ndarray], end: str
) -> list[np.ndarray]:
    kind = equations.kind
    names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if layer.bias else ()))
    W, R, *pair = (in_order(state[name + end], ORDERS["keras"][kind], kind) for name in names)
    if not pair:
        return [W.T, R.T]
    after = kind == "gru" and equations.reset_after
    return [W.T, R.T, np.stack(pair) if after else pair[0] + pair[1]]


def write_keras(path: str | os.PathLike[str], model: Module) -> None:
    """Write the `.keras` file of a model, as a whole or not at all."""
    files.write_whole(path, keras_of(model))
