"""To ONNX: a graph with lengths and states as inputs, and states as outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import layers
from rnncore.convert import heads, proof
from rnncore.convert.equations import STANDARD, ends_of, equations_of
from rnncore.convert.errors import ConversionError, needed
from rnncore.convert.onnx_node import NAMES, PEEPHOLES
from rnncore.convert.parts import Activation, FinalState, LastStep, Skip, Squeeze, Swap
from rnncore.convert.sizes import sizes_of
from rnncore.convert.weights import ORDERS, in_order
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent

OPSET = 17


def to_onnx(model: Module) -> Any:
    """Return the `onnx.ModelProto` of a layer or of a `Sequential`, checked in ONNX Runtime.

    Its input `x` and output `y` are laid out as the model's, with any number of steps and
    sequences. `lengths` (B,) are the steps of each sequence. Of a single recurrent layer `h` (and
    `c`), (num_layers * directions, B, H), are inputs, and `h_T` (and `c_T`) outputs. A `Sequential`
    begins with zeros.

    Parameters
    ----------
    model
        RNN, LSTM, GRU, Linear, Embedding, or a `Sequential` of them and of the parts in
        `rnncore.convert`.

    Raises
    ------
    ConversionError
        If ONNX has no such node, or the packages onnx or onnxruntime are not installed.

    Examples
    --------
    >>> import pytest, rnncore
    >>> _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    >>> from rnncore import convert
    >>> [one.name for one in convert.to_onnx(rnncore.GRU(3, 5, seed=0)).graph.input]
    ['x', 'lengths', 'h']
    """
    onnx = needed("onnx", "rnncore[convert]", "to write ONNX")
    made = _Writer(onnx, model).model()
    _check(made, model)
    return made


class _Writer:
    def __init__(self, onnx: Any, model: Module) -> None:
        self.onnx, self.whole = onnx, model
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.lone = isinstance(model, Recurrent)
        self.kind = onnx.helper.np_dtype_to_tensor_dtype(model.dtype)
        self.features, self.vocabulary, self.batch_first = sizes_of(model)
        self.recurrent = [m for _, m in model.named_modules() if isinstance(m, Recurrent)]
        self.outputs: list[tuple[str, list[Any]]] = []

    def model(self) -> Any:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        y, axes = self._write(self.whole, "x")
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        steps = ["batch", "steps"] if self.batch_first else ["steps", "batch"]
        if self.vocabulary:
            inputs = [helper.make_tensor_value_info("x", kinds.INT64, steps)]
        else:
            inputs = [helper.make_tensor_value_info("x", self.kind, [*steps, self.features])]
        if self.recurrent:
            inputs.append(helper.make_tensor_value_info("lengths", kinds.INT32, ["batch"]))
        states = self._states() if self.lone else []
        inputs += [helper.make_tensor_value_info(name, self.kind, [count, "batch", size])
                   for name, count, size in states]  # fmt: skip
        outputs = [helper.make_tensor_value_info("y", self.kind, [None] * axes)]
        outputs += [helper.make_tensor_value_info(f"{name}_T", self.kind, [count, "batch", size])
                    for name, count, size in states]  # fmt: skip
        constants = [self.onnx.numpy_helper.from_array(array, name)
                     for name, array in self.constants.items()]  # fmt: skip
        graph = helper.make_graph(self.nodes, "rnncore", inputs, outputs, constants)
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="rnncore")
        self.onnx.checker.check_model(made)
        return made

    def _states(self) -> list[tuple[str, int, int]]:
        layer = self.whole
        assert isinstance(layer, Recurrent)
        count = layer.num_layers * (1 + layer.bidirectional)
        return [(letter, count, layer._layer_sizes[0]) for letter in layer._stack.cell.states]

    def _node(self, kind: str, inputs: list[str], outputs: int = 1, **settings: Any) -> Any:
        names = [f"{kind.lower()}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, names, **settings))
        return names[0] if outputs == 1 else names

    def _constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.array(array, order="C")
        return name

    def _weight(self, name: str, array: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def _write(self, model: Module, x: str, name: str = "", axes: int = 3) -> tuple[str, int]:
        """Write a part that reads x; return its output and how many axes that has."""
        state = model.state_dict()
        if isinstance(model, Recurrent):
            y, _, _ = self._recurrent(model, x, name)
            return y, 3
        if type(model) is layers.Sequential:
            for part, child in model._children.items():
                x, axes = self._write(child, x, f"{name}{part}.", axes)
            return x, axes
        if type(model) is layers.Linear:
            y = self._node("MatMul", [x, self._weight(f"{name}weight", state["weight"].T)])
            if "bias" in state:
                y = self._node("Add", [y, self._weight(f"{name}bias", state["bias"])])
            return y, axes
        if type(model) is layers.Embedding:
            return self._node("Gather", [self._weight(f"{name}weight", state["weight"]), x]), 3
        if isinstance(model, Activation):
            if model.name == "softmax":
                return self._node("Softmax", [x], axis=-1), axes
            kind, numbers = heads.to_node(model.name)
            return self._node(kind, [x], 1, **numbers), axes
        if isinstance(model, FinalState):
            _, last, count = self._recurrent(model.layer, x, f"{name}layer.")
            turned = self._node("Transpose", [last], perm=[1, 0, 2])
            size = model.layer._layer_sizes[-1]
            return self._node("Reshape", [turned, self._constant([0, count * size])]), 2
        if isinstance(model, LastStep):
            last = self._constant(np.array(-1))
            return self._node("Gather", [x, last], axis=int(model.batch_first)), axes - 1
        if isinstance(model, Skip):
            y, _ = self._write(model.inner, x, f"{name}inner.", axes)
            ends = [self._constant([n]) for n in (0, model.count, axes - 1)]
            return self._node("Add", [y, self._node("Slice", [x, *ends])]), axes
        if isinstance(model, Squeeze):
            return self._node("Squeeze", [x, self._constant([-1])]), axes - 1
        if isinstance(model, Swap):
            return self._node("Transpose", [x], perm=[1, 0, *range(2, axes)]), axes
        raise ConversionError(f"model: expected what ONNX has, got {type(model).__name__}")

    def _recurrent(self, layer: Recurrent, x: str, name: str) -> tuple[str, str, int]:
        kind, settings = _node_of(layer)
        state, count = layer.state_dict(), 1 + layer.bidirectional
        if layer.batch_first:
            x = self._node("Transpose", [x], perm=[1, 0, 2])
        letters = layer._stack.cell.states
        lasts: list[list[str]] = [[] for _ in letters]
        for number in range(layer.num_layers):
            ends = ends_of(number, count, layer.reverse)
            size = layer._layer_sizes[number]
            inputs = [x]
            for what in ("weight_ih", "weight_hh"):
                arrays = [self._rows(kind, state[what + end]) for end in ends]
                inputs.append(self._weight(f"{name}{what}_l{number}", np.stack(arrays)))
            if layer.bias:
                arrays = [np.concatenate([self._rows(kind, state[what + end])
                          for what in ("bias_ih", "bias_hh")]) for end in ends]  # fmt: skip
                inputs.append(self._weight(f"{name}bias_l{number}", np.stack(arrays)))
            else:
                inputs.append("")
            inputs += ["lengths", *self._initial(letters, number, count)]
            if f"p_i{ends[0]}" in state:
                arrays = [np.concatenate([state[one + end] for one in PEEPHOLES]) for end in ends]
                inputs += [""] * (7 - len(inputs))
                inputs.append(self._weight(f"{name}peepholes_l{number}", np.stack(arrays)))
            y, *last = self._node(kind, inputs, 1 + len(letters), hidden_size=size, **settings)
            for of_all, one in zip(lasts, last, strict=True):
                of_all.append(one)
            turned = self._node("Transpose", [y], perm=[0, 2, 1, 3])
            x = self._node("Reshape", [turned, self._constant([0, 0, count * size])])
        if self.lone:
            for letter, of_all in zip(letters, lasts, strict=True):
                kind_of = "Concat" if len(of_all) > 1 else "Identity"
                options = {"axis": 0} if len(of_all) > 1 else {}
                self.nodes.append(
                    self.onnx.helper.make_node(kind_of, of_all, [f"{letter}_T"], **options)
                )
        if layer.batch_first:
            x = self._node("Transpose", [x], perm=[1, 0, 2])
        return x, lasts[0][-1], count

    def _initial(self, letters: str, number: int, count: int) -> list[str]:
        if not self.lone:
            return []
        found = []
        for letter in letters:
            ends = [self._constant([n]) for n in (number * count, (number + 1) * count, 0)]
            found.append(self._node("Slice", [letter, *ends]))
        return found

    @staticmethod
    def _rows(kind: str, array: np.ndarray) -> np.ndarray:
        return in_order(array, ORDERS["onnx"][kind.lower()], kind.lower())


def _node_of(layer: Recurrent) -> tuple[str, dict[str, Any]]:
    equations = equations_of(layer)
    differs = [name for name, usual in (("learn_initial_state", False), ("zoneout", 0.0))
               if getattr(layer, name) != usual]  # fmt: skip
    if equations is None or differs or len(set(layer._layer_sizes)) > 1:
        raise ConversionError(
            f"model: expected a recurrent layer that ONNX has, of one hidden size, got {layer!r}"
            + f" with {', '.join(differs)}" * bool(differs)
        )
    count = 1 + layer.bidirectional
    settings: dict[str, Any] = {"direction": "bidirectional"} if count == 2 else {}
    if equations.reverse:
        settings["direction"] = "reverse"
    if equations.kind == "gru":
        settings["linear_before_reset"] = int(equations.reset_after)
    if equations.activations != STANDARD[equations.kind]:
        settings |= _activations(equations.activations, count)
    if equations.clip is not None:
        settings["clip"] = equations.clip
    return equations.kind.upper(), settings


def _activations(texts: tuple[str, ...], count: int) -> dict[str, Any]:
    # As ONNX names them, for each direction; their alphas and betas in the order of use.
    from rnncore.cells.activations import read_activation

    known = {ours: name for name, ours in NAMES.items()}
    names: list[str] = []
    alphas: list[float] = []
    betas: list[float] = []
    for text in texts:
        one = read_activation("activations", "affine" if text == "identity" else text)
        if one.name not in known:
            raise ConversionError(f"model: expected activations that ONNX has, got {text}")
        names.append(known[one.name])
        alphas += one.numbers[:1]
        betas += one.numbers[1:]
    settings = {"activations": names * count, "activation_alpha": alphas * count,
                "activation_beta": betas * count}  # fmt: skip
    return {name: values for name, values in settings.items() if values}


def _check(made: Any, model: Module) -> None:
    onnxruntime = needed("onnxruntime", "onnxruntime", "to check the graph")
    if model.dtype != np.float32 and any(
        isinstance(part, Recurrent) for _, part in model.named_modules()
    ):
        raise ConversionError(
            "model: expected float32, since ONNX Runtime runs no recurrent node in float64, got "
            "float64; convert.in_dtype(model, 'float32') is a copy of it"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    features, vocabulary, batch_first = sizes_of(model)
    names = [one.name for one in made.graph.input]
    rng = np.random.default_rng(1)
    given: dict[str, np.ndarray] = {}

    def ours(x: np.ndarray) -> list[np.ndarray]:
        size, steps = x.shape[:2] if batch_first else x.shape[1::-1]
        given.clear()
        given["x"] = x
        if not isinstance(model, Recurrent):
            if "lengths" in names:
                given["lengths"] = np.full(size, steps, np.int32)
            return [model(x)]
        given["lengths"] = rng.integers(1, steps + 1, size).astype(np.int32)
        count = model.num_layers * (1 + model.bidirectional)
        shape = (count, size, model._layer_sizes[0])
        state = tuple(rng.standard_normal(shape).astype(x.dtype) for _ in names[2:])
        given.update(zip(names[2:], state, strict=True))
        y, last = model(x, state if len(state) > 1 else state[0], given["lengths"])
        return [y, *(last if isinstance(last, tuple) else (last,))]

    inputs = proof.trial_inputs(features, vocabulary, batch_first, model.dtype)
    proof.prove(ours, lambda x: list(session.run(None, given)),
                f"onnxruntime {onnxruntime.__version__}", inputs, model)  # fmt: skip
