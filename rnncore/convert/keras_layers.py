"""Layers of Keras as parts of a plan: equations, order of gates, and layout of the arrays.

Kernels are (I, gates H) and (H, gates H), as for x W; gates i, f, c, o of an LSTM, z, r, h of a
GRU, whose bias is (2, 3 H) where the reset gate comes after the product and (3 H,) where before.
CuDNNLSTM and CuDNNGRU hold both biases, (2 gates H,), and the matrix of each gate in the order of
CuDNN's memory: (H, I), written into the place of (I, H). Source: keras/src/layers/rnn of Keras 3,
and keras/saving/legacy/hdf5_format.py of Keras 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.convert import plan
from rnncore.convert.equations import Equations
from rnncore.convert.errors import ConversionError
from rnncore.convert.keras_config import NOTHING, RECURRENT, Layer, layer_of
from rnncore.convert.parts import Activation
from rnncore.convert.plan import Part
from rnncore.convert.weights import ORDERS, Direction, make_layer, reordered, widened
from rnncore.layers.recurrent import Recurrent

#: What differs between the two directions of a Bidirectional must not.
ALIKE = ("units", "activation", "recurrent_activation", "use_bias", "reset_after",
         "return_sequences")  # fmt: skip


class Reader:
    """Makes parts of layers, and keeps the notes on what was left out.

    Parameters
    ----------
    source
        What errors call it.
    version
        The version of Keras that wrote it; "" where nobody says.
    """

    def __init__(self, source: str, version: str) -> None:
        self.source, self.version = source, version
        self.notes: list[str] = []
        self.names: list[str] = []
        self.here = source

    def plan(self, layers: list[Layer]) -> list[Part]:
        """Return the parts of the layers of a model.

        Raises
        ------
        ConversionError
            If a layer is none that rnncore has, or does not fit the one before.
        """
        parts: list[Part] = []
        masks: list[float] = []
        width, steps = 0, True  # features so far, where known; whether there still are steps
        for number, layer in enumerate(layers):
            self.here = f"{self.source}: layer {number} ({layer.kind:.50})"
            if layer.places:
                self.names.append(layer.kind)
            if layer.kind == "Masking" or layer.config.get("mask_zero"):
                if parts or masks:
                    self.refuse("the first layer, and one mask alone", "another before it")
                masks.append(_mask_value(layer))
            for part in self._parts(layer):
                takes, gives = _widths(part)
                if width and takes not in (0, width):
                    self.refuse(f"{width} features", f"weights for {takes}")
                if layer.kind == "Embedding" and parts:
                    self.refuse("the first layer", "others before it")
                if isinstance(part, Recurrent) and not steps:
                    self.refuse("return_sequences=True in the layer before", "False")
                steps = steps and not isinstance(part, plan.Final)
                width = gives or width
                parts.append(part)
        return [plan.Hidden(tuple(parts), masks[0])] if masks else parts

    def refuse(self, expected: str, got: str) -> Any:
        """Raise a ConversionError of the layer that is being read."""
        raise ConversionError(f"{self.here}: expected {expected}, got {got:.100}")

    def _parts(self, layer: Layer) -> list[Part]:
        kind, config, arrays = layer.kind, layer.config, layer.arrays
        if kind in NOTHING or kind == "Masking":
            return []
        if kind in RECURRENT or kind in ("RNN", "Bidirectional"):
            return self._recurrent(layer)
        if kind == "Dense":
            self._count(arrays, 2 if config.get("use_bias", True) else 1)
            bias = arrays[1] if len(arrays) == 2 else None
            made = plan.linear(self.here, arrays[0].T, bias)
            return [made, *self._activation(config.get("activation"))]
        if kind == "Embedding":
            self._count(arrays, 1)
            return [plan.embedding(self.here, arrays[0])]
        if kind == "TimeDistributed":
            inner = layer.inner
            if inner.kind not in ("Dense", "Activation", *NOTHING):
                self.refuse("Dense, Activation or Dropout within", inner.kind)
            return self._parts(Layer(inner.kind, inner.config, arrays))
        if kind == "Activation":
            return self._activation(config["activation"])
        if kind == "Softmax" and config.get("axis", -1) == -1:
            return self._activation("softmax")
        if kind == "ReLU" and not any(
            config.get(name) for name in ("max_value", "negative_slope", "threshold")
        ):
            return self._activation("relu")
        if kind in ("LeakyReLU", "ELU"):
            usual = {"LeakyReLU": ("leaky_relu", 0.3), "ELU": ("elu", 1.0)}[kind]
            number = config.get("negative_slope", config.get("alpha", usual[1]))
            return [plan.activation(f"{usual[0]}({float(number)!r})")]
        return self.refuse("a recurrent layer, Dense, Embedding, or what does nothing", kind)

    def _count(self, arrays: list[np.ndarray], *counts: int) -> None:
        if len(arrays) not in counts:
            self.refuse(f"{counts[0]} arrays; build the model before", f"{len(arrays)}")

    def _activation(self, name: Any) -> list[Part]:
        if name in (None, "linear"):
            return []
        text = name if name == "softmax" else self._function(name)
        try:
            Activation(text)
        except ConversionError as error:
            self.refuse("an activation that rnncore has", f"{name!r} ({error})")
        return [plan.activation(text)]

    def _recurrent(self, layer: Layer) -> list[Part]:
        first, config = layer, layer.config
        if layer.kind == "Bidirectional":
            first = layer.inner
            second = layer_of(config["backward_layer"]) if config.get("backward_layer") else first
            differ = [name for name in ALIKE if first.config.get(name) != second.config.get(name)]
            if differ or first.kind != second.kind or first.config.get("go_backwards"):
                self.refuse("two directions of one kind", f"others in {differ or 'go_backwards'}")
            if config.get("merge_mode", "concat") != "concat":
                self.refuse("merge_mode='concat'", f"{config.get('merge_mode')!r}")
        options = first.config
        if first.kind == "RNN":
            first = first.inner
            options = {**first.config, **options}
        if first.kind not in RECURRENT:
            self.refuse("LSTM, GRU or SimpleRNN", first.kind)
        kind, count = RECURRENT[first.kind], 1 + (layer.kind == "Bidirectional")
        size, use_bias = options["units"], options.get("use_bias", True)
        self._count(layer.arrays, count * (3 if use_bias else 2))
        each, cudnn = len(layer.arrays) // count, first.kind.startswith("CuDNN")
        pairs = [layer.arrays[each * k : each * (k + 1)] for k in range(count)]
        pairs = [self._without_cudnn(kind, arrays, cudnn) for arrays in pairs]
        layer.arrays = [array for arrays in pairs for array in arrays]
        found = [self._direction(kind, arrays, options) for arrays in pairs]
        after = {one for _, one in found}
        if len(after) != 1 or any(one.R.shape[1] != size for one, _ in found):
            self.refuse(f"weights of {size!r:.20} units, as its configuration says", "others")
        every = options.get("return_sequences", False)
        self._say(options)
        made = make_layer(
            self.here, self._equations(kind, options, after == {True}, every),
            [[one for one, _ in found]], batch_first=True,
        )  # fmt: skip
        return [made] if every else [made, plan.Final()]

    def _without_cudnn(self, kind: str, arrays: list[np.ndarray], cudnn: bool) -> list[np.ndarray]:
        # The arrays as LSTM and GRU have them. Weights of CuDNN are told by their bias, since
        # Keras 2 loads them into either.
        gates = len(ORDERS["keras"][kind])
        W, R, *bias = (widened(self.here, one) for one in arrays)
        size = R.shape[0] if R.ndim == 2 else 0
        if not size or W.ndim != 2 or R.shape[1] != gates * size or W.shape[1] != gates * size:
            self.refuse(
                f"kernels (I, {gates} H) and (H, {gates} H)", f"shapes {W.shape} and {R.shape}"
            )
        if kind == "rnn" or not bias or bias[0].shape != (2 * gates * size,):
            if cudnn:
                self.refuse(f"a bias ({2 * gates * size},) as CuDNN has", f"{len(arrays)} arrays")
            return [W, R, *bias]
        W = np.hstack([one.reshape(size, -1).T for one in np.hsplit(W, gates)])
        R = np.hstack([one.T for one in np.hsplit(R, gates)])
        pair = bias[0].reshape(2, -1)
        return [W, R, pair.sum(0) if kind == "lstm" else pair]

    def _direction(
        self, kind: str, arrays: list[np.ndarray], options: dict[str, Any]
    ) -> tuple[Direction, bool]:
        # The weights in the engine's order, and whether the reset gate comes after the product.
        order = ORDERS["keras"][kind]
        W, R, *given = arrays
        shape = given[0].shape if given else None
        after = bool(options.get("reset_after")) if shape is None else len(shape) == 2
        if kind == "gru" and bool(options.get("reset_after", after)) != after:
            self.refuse(f"reset_after={after}, as its bias {shape} says", f"{not after}")
        if len(shape or ()) == 2 and kind == "gru":
            given = list(given[0])
        weight, recurrent, *pair = (reordered(one, order, kind) for one in (W.T, R.T, *given))
        first, second = (*pair, None, None)[:2]
        return Direction(weight, recurrent, first, second), after

    def _equations(self, kind: str, options: dict[str, Any], after: bool, every: bool) -> Equations:
        usual = {"lstm": "sigmoid", "gru": "sigmoid"}
        state = self._function(options.get("activation", "tanh"))
        gate = self._function(options.get("recurrent_activation", usual.get(kind)))
        functions = {"lstm": (gate, state, state), "gru": (gate, state), "rnn": (state,)}[kind]
        reverse, other = bool(options.get("go_backwards")), []
        if reverse and every:
            other.append("go_backwards with return_sequences, whose output runs backwards")
        if options.get("time_major"):
            other.append("time_major")
        return Equations(kind, functions, after or kind != "gru", reverse, tuple(other))

    def _function(self, name: Any) -> str:
        if name in (None, "linear"):
            return "identity"
        if not isinstance(name, str):
            self.refuse("an activation of Keras's own", repr(name))
        if name == "hard_sigmoid":  # another function since Keras 3
            if not self.version:
                self.refuse(
                    "the file of a model, which says its version of Keras",
                    "hard_sigmoid, another function in Keras 3 than before",
                )
            old = self.version.split(".")[0] in ("1", "2")
            return "hard_sigmoid(0.2, 0.5)" if old else "hard_sigmoid"
        if name == "leaky_relu":
            return "leaky_relu(0.2)"
        return str(name)[:50]

    def _say(self, options: dict[str, Any]) -> None:
        for name in ("dropout", "recurrent_dropout"):
            if options.get(name):
                self.notes.append(f"{name}={options[name]!r:.20} is left out")
        if options.get("stateful"):
            self.notes.append("stateful: pass on the state that a call returns, or use a stream")


def _mask_value(layer: Layer) -> float:
    if layer.kind == "Embedding":
        return 0.0
    value = layer.config.get("mask_value", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConversionError(f"Masking: expected one number as mask_value, got {value!r:.50}")
    return float(value)


def _widths(part: Part) -> tuple[int, int]:
    # The features that a part takes and gives; 0 where it takes any, or gives what it takes.
    if isinstance(part, Recurrent):
        return part.input_size, part.output_size
    takes = getattr(part, "in_features", 0)
    return takes, getattr(part, "out_features", getattr(part, "embedding_dim", 0))
