"""From Keras 2 and 3: layers, models, and files that hold them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rnncore.convert import plan, proof
from rnncore.convert.errors import ConversionError, reading
from rnncore.convert.json_file import read_json
from rnncore.convert.keras_config import NOTHING, Layer, chain_of
from rnncore.convert.keras_file import read_file
from rnncore.convert.keras_layers import Reader
from rnncore.convert.parts import Masked
from rnncore.convert.proof import Converted, Proof
from rnncore.convert.saved import in_dtype
from rnncore.convert.sizes import sizes_of
from rnncore.layers.module import Module

#: The settings of a layer that say what it computes in inference.
SETTINGS = (
    "units", "activation", "recurrent_activation", "use_bias", "return_sequences", "go_backwards",
    "reset_after", "mask_zero", "mask_value", "input_dim", "output_dim", "axis",
    "negative_slope", "alpha",
)  # fmt: skip
PACKAGES: tuple[str, ...] = ("keras", "tf_keras")


def from_keras(
    source: Any, config: Any = None, prefix: str | Sequence[str] = (), *, prove: bool = True
) -> Converted:
    """Return the rnncore model of a Keras layer, model or file; x is (B, T, features) or token ids.

    Layers stand one after another: LSTM, GRU, SimpleRNN, `RNN` of their cells, CuDNNLSTM and
    CuDNNGRU of Keras 2, Bidirectional (`merge_mode="concat"`), Embedding, Dense, TimeDistributed of
    it, Activation, ReLU, Softmax; what does nothing in inference, such as Dropout, is left out.
    Without `return_sequences` a layer becomes a `FinalState`. With Masking, or an Embedding with
    `mask_zero`, the whole is a `Masked`, which passes over hidden steps wherever they are.

    Parameters
    ----------
    source
        A built layer or model of Keras; or the path of a file: `.keras`, an `.h5` of Keras 2, or
        weights alone (`.weights.h5`), which need `config`. No code in them is run, so a Lambda or
        a class of somebody's own is refused.
    config
        What `model.to_json()` returned, as text, as an object, or the path of a file: of weights
        alone, or in place of what the file says.
    prefix
        The names of the layers to take, one after another; none: all of them.
    prove
        Whether to hold the result against Keras, in float32, in which most of its engines multiply
        float64 as well. Without Keras it is unproven.

    Raises
    ------
    ConversionError
        If the source is damaged, leaves something open, or has equations that rnncore has not.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import rnncore
    >>> from rnncore import convert
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.keras")
    ...     convert.write(path, rnncore.GRU(3, 5, seed=0))
    ...     convert.from_keras(path, prove=False).model
    GRU(3, 5, batch_first=True; 140 parameters)
    """
    what, path, packages = "Keras", None, PACKAGES
    prefix = [prefix] if isinstance(prefix, str) else prefix
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        what = f"Keras file {str(path)!r}"
        layers, version = read_file(path, _json(config), prefix)
    else:
        layers, version, package = _layers_of(source, prefix)
        packages = (package,)
    reader = Reader(what, version)
    with reading(what):
        model = plan.made(what, reader.plan(layers))
    whole = None if prefix else path
    found = _proof(model, layers, packages, whole, version) if prove else Proof(why="prove=False")
    return Converted(model, f"{what}: {' + '.join(reader.names)}", found, tuple(reader.notes))


def _json(config: Any) -> Any:
    if isinstance(config, str) and config.lstrip().startswith("{"):
        with reading("config"):
            return json.loads(config)
    return read_json("config", config)


def _layers_of(source: Any, prefix: Sequence[str]) -> tuple[list[Layer], str, str]:
    # The layers of an object, the version of its package, and the package.
    package = type(source).__module__.split(".")[0]
    if package not in PACKAGES or not hasattr(source, "get_weights"):
        raise ConversionError(
            "source: expected a layer or model of Keras, or the path of a file, got "
            f"{type(source).__name__} of {type(source).__module__}"
        )
    whole = hasattr(source, "to_json")
    with reading("Keras"):
        about = json.loads(source.to_json()) if whole else _about(source)
        layers = chain_of(about, prefix)
    theirs = {one.name: one for one in (source.layers if whole else [source])}
    for layer in layers:
        if layer.places:
            one = theirs[layer.config["name"]]
            if type(one).__module__.split(".")[0] != package:
                raise ConversionError(
                    f"{type(one).__name__}: expected a layer of Keras's own, got one of "
                    f"{type(one).__module__}"
                )
            layer.arrays = one.get_weights()
    return layers, str(import_module(package).__version__), package


def _about(layer: Any) -> dict[str, Any]:
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def _proof(
    model: Module, layers: list[Layer], packages: tuple[str, ...], path: Path | None, version: str
) -> Proof:
    for package in packages:
        try:
            keras = import_module(package)
            break
        except ImportError:
            continue
    else:
        return Proof(why="Keras is not installed, or not what its KERAS_BACKEND says")
    features, vocabulary, _ = sizes_of(model)
    theirs = keras.Sequential([
        keras.Input((None,) if vocabulary else (None, features), dtype=(
            "int32" if vocabulary else "float32")),
        *(_rebuilt(keras, layer, version) for layer in layers if layer.kind not in NOTHING),
    ])  # fmt: skip
    against = f"{package} {keras.__version__}"
    if not _loads(theirs, layers, path):
        theirs.set_weights([array for layer in layers for array in layer.arrays])
    hidden: list[np.ndarray] = []  # of an input, which steps count

    def inputs() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(1)
        for x in proof.trial_inputs(features, vocabulary, True, np.dtype(np.float32)):
            if isinstance(model, Masked):
                x[rng.random(x.shape[:2]) < 0.3] = model.value
                kept = x != model.value
                hidden[:] = [kept if vocabulary else kept.any(-1)]
            yield x

    def run(x: np.ndarray) -> list[np.ndarray]:
        y = theirs(x.astype(np.int32) if vocabulary else x, training=False)
        y = np.asarray(y.detach().cpu() if hasattr(y, "detach") else y)
        if hidden and y.ndim == 3:
            y = y * hidden[0][..., None]
        return [y]

    ours = proof.outputs_of(in_dtype(model, np.float32))
    return proof.prove(lambda x: ours(x)[:1], run, against, inputs(), model)


def _loads(theirs: Any, layers: list[Layer], path: Path | None) -> bool:
    # Whether Keras itself reads the weights of the file, into layers that are made here.
    if path is None or any(layer.kind == "RNN" or layer.kind.startswith("CuDNN")
                           for layer in _every(layers)):  # fmt: skip
        return False
    try:
        theirs.load_weights(str(path))
    except Exception:  # it knows no such file any more, or goes by its name
        return False
    return True


def _every(layers: list[Layer]) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        if layer.kind in ("Bidirectional", "TimeDistributed"):
            yield layer.inner


def _rebuilt(keras: Any, layer: Layer, version: str) -> Any:
    kind, config = layer.kind, layer.config
    if kind == "RNN":
        inner = layer.inner
        kind, config = inner.kind.removesuffix("Cell"), {**inner.config, **config}
    options = {name: config[name] for name in SETTINGS if name in config}
    for name in ("activation", "recurrent_activation"):
        if options.get(name) == "hard_sigmoid" and version[:1] != keras.__version__[:1]:
            options[name] = _hard_sigmoid(keras, 0.2 if version[:1] in "12" else 1 / 6)
    if kind.endswith("GRU"):
        options.setdefault("reset_after", kind.startswith("CuDNN"))
    kind = kind.removeprefix("CuDNN")
    made = getattr(keras.layers, kind)
    if kind == "Bidirectional":
        return made(_rebuilt(keras, layer.inner, version), merge_mode="concat", dtype="float32")
    if kind == "TimeDistributed":
        return made(_rebuilt(keras, layer.inner, version), dtype="float32")
    return made(**options, dtype="float32")


def _hard_sigmoid(keras: Any, slope: float) -> Any:
    # That of another version of Keras than the one that is installed.
    clip = keras.ops.clip if hasattr(keras, "ops") else keras.backend.clip
    return lambda x: clip(slope * x + 0.5, 0.0, 1.0)
