"""The layers that a configuration of Keras describes, one after another; no code in it is run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore.convert.errors import ConversionError

RECURRENT = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn", "CuDNNLSTM": "lstm",
             "CuDNNGRU": "gru", "LSTMCell": "lstm", "GRUCell": "gru",
             "SimpleRNNCell": "rnn"}  # fmt: skip
#: What does nothing in inference.
NOTHING = ("InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise",
           "AlphaDropout", "ActivityRegularization", "Identity")  # fmt: skip
#: Operations by which Keras 3 computes the mask that a layer passes on.
OF_MASKS = ("NotEqual", "Any")
MOST_LAYERS = 1000


@dataclass
class Layer:
    """A layer of Keras: its class, its configuration, and its arrays in Keras's order.

    `place` is what Keras 3 calls it in its files.
    """

    kind: str
    config: dict[str, Any]
    arrays: list[np.ndarray] = field(default_factory=list)
    place: str = ""

    @property
    def inner(self) -> Layer:
        """The layer or cell that a wrapper is around."""
        found = self.config.get("layer", self.config.get("cell"))
        if not isinstance(found, dict):
            raise ConversionError(f"{self.kind}: expected the one layer that it is around")
        return layer_of(found)

    @property
    def places(self) -> list[str]:
        """Where its arrays are within its group in a file of Keras 3; empty without weights."""
        if self.kind in ("Dense", "Embedding"):
            return [""]
        if self.kind in RECURRENT or self.kind == "RNN":
            return ["" if self.kind.startswith("CuDNN") else "cell/"]
        both = ("forward_layer", "backward_layer")
        ways = {"Bidirectional": both, "TimeDistributed": ("layer",)}.get(self.kind, ())
        return [f"{way}/{place}" for way in ways for place in self.inner.places]


def layer_of(about: dict[str, Any]) -> Layer:
    """Return a layer of its JSON, refused if its class is somebody's own.

    Raises
    ------
    ConversionError
        If it is not one of Keras's own classes.
    """
    kind, config = about["class_name"], about["config"]
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise TypeError(f"class_name and config of a layer, got {kind!r:.50}")
    module, own = about.get("module"), about.get("registered_name")
    theirs = module is None or str(module).split(".")[0] in ("keras", "tf_keras", "builtins")
    if kind == "Lambda" or ">" in kind or not theirs or own not in (None, kind):
        raise ConversionError(
            f"{kind:.50}: expected a layer of Keras's own, got one of {own or module!s:.50}, "
            "whose code is not run; give the layers around it"
        )
    if kind in ("Sequential", "Functional", "Model"):
        raise ConversionError(
            f"{kind}: expected layers, got a model within the model; put its layers into one"
        )
    return Layer(kind, config)


def chain_of(about: Any, prefix: Sequence[str] = ()) -> list[Layer]:
    """Return the layers of a model's JSON, or of a single layer's, in their order.

    `prefix` are the names of those to take, where it is not all of them.

    Raises
    ------
    ConversionError
        If they do not stand one after another, or are not Keras's own.
    """
    if not isinstance(about, dict):
        raise TypeError(f"a dict of class_name and config, got {about!r:.50}")
    kind, config = about["class_name"], about["config"]
    if kind in ("Sequential", "Functional", "Model"):
        entries = config if isinstance(config, list) else config["layers"]  # a list in Keras 1
    else:
        entries = [about]
    if len(entries) > MOST_LAYERS:
        raise ConversionError(f"model: expected {MOST_LAYERS} layers at most, got {len(entries)}")
    places = dict(zip(map(_name, entries), file_names([one["class_name"] for one in entries]),
                      strict=True))  # fmt: skip
    if prefix:
        known = {_name(one): one for one in entries}
        missing = [name for name in prefix if name not in known]
        if missing:
            raise ConversionError(
                f"prefix: expected names of layers, {', '.join(known)}, got {', '.join(missing)}"
            )
        entries = [known[name] for name in prefix]
    elif kind in ("Functional", "Model"):
        entries = _in_a_row(config)
    layers = [layer_of(one) for one in entries]
    for entry, layer in zip(entries, layers, strict=True):
        layer.place = places[_name(entry)]
    return layers


def _in_a_row(config: dict[str, Any]) -> list[dict[str, Any]]:
    masks = {_name(one) for one in config["layers"] if one["class_name"] in OF_MASKS}
    entries = [one for one in config["layers"] if one["class_name"] not in OF_MASKS]
    for before, one in zip([None, *entries], entries, strict=False):
        calls = one["inbound_nodes"]
        reads = [name for name in _read_by(calls) if name not in masks]
        expected = [] if before is None else [_name(before)]
        if len(calls) != len(expected) or reads != expected:
            raise ConversionError(
                f"layer {_name(one)!r:.50}: expected a model whose layers stand one after another, "
                f"got one that reads {', '.join(map(repr, reads)) or 'nothing':.80} and is called "
                f"{len(calls)} times; name those to take by prefix"
            )
    outputs = [name for name in _read_by(config["output_layers"]) if name not in masks]
    if not entries or outputs != [_name(entries[-1])]:
        raise ConversionError(
            f"model: expected its last layer as its one output, got {', '.join(outputs)!r:.80}"
        )
    return entries


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("name") or entry["config"]["name"])


def _read_by(node: Any) -> list[str]:
    # The layers in [name, node, output] of Keras 2, and in keras_history of Keras 3.
    if isinstance(node, dict):
        return [name for one in node.values() for name in _read_by(one)]
    if not isinstance(node, list):
        return []
    if len(node) >= 3 and isinstance(node[0], str) and type(node[1]) is type(node[2]) is int:
        if node[1] or node[2]:
            raise ConversionError(
                f"layer {node[0]!r:.50}: expected its first output at its first call to be read, "
                f"got output {node[2]} of call {node[1]}; states that are read are not converted"
            )
        return [node[0], *_read_by(node[3:])]
    return [name for one in node for name in _read_by(one)]


def file_names(kinds: list[str]) -> list[str]:
    """Return what Keras 3 calls each layer in its files: `lstm`, `lstm_1`, `time_distributed`."""
    counts: dict[str, int] = {}
    names = []
    for kind in kinds:
        name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
        number = counts[name] = counts.get(name, -1) + 1
        names.append(f"{name}_{number}" if number else name)
    return names
