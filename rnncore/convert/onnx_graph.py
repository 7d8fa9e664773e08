"""Reads an ONNX graph: follows the data from its input to its output, part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.convert import heads, plan
from rnncore.convert.errors import ConversionError
from rnncore.convert.onnx_moves import Moves
from rnncore.convert.onnx_node import read_node
from rnncore.convert.onnx_values import (
    NOTHING,
    Data,
    Given,
    Shape,
    States,
    Zero,
    is_whole,
    numbers,
    state_inputs,
    width,
)
from rnncore.convert.plan import Part

OF_SHAPES = ("Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Cast", "Reshape", "Mul", "Add",
             "Identity", "Equal", "Where", "Sub", "Div")  # fmt: skip


class Graph(Moves):
    """A graph, read node by node.

    Parameters
    ----------
    onnx
        The package.
    model
        The model, whose graph may have one input of data.
    source
        What errors call it.
    """

    def __init__(self, onnx: Any, model: Any, source: str) -> None:
        self.onnx, self.source = onnx, source
        self.graph = model.graph
        versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
        self.opset = max(versions, default=1)
        self.notes: list[str] = []
        self.time: str | None = None  # "0" or "1": which axis of the input has the steps
        self.lengths: str | None = None  # the inputs that are lengths and states
        self.states: list[str] = []
        self.values: dict[str, Any] = {}
        self.end: Any = None  # what `read` returned
        for one in self.graph.initializer:
            self.values[one.name] = self._array(one)
        given = [one for one in self.graph.input if one.name not in self.values]
        used = state_inputs(self.graph)
        data = [one for one in given if one.name not in used]
        if len(data) != 1:
            raise ConversionError(
                f"{source}: expected one input of data, beside lengths and states, got "
                f"{[one.name for one in data]}"
            )
        for one in given:
            self.values[one.name] = Given(one.name)
        self.input = data[0]
        self.input_type = self.input.type.tensor_type
        self.dims = [one.dim_value or None for one in self.input_type.shape.dim]
        self.ids = self.input_type.elem_type in (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
        rank = len(self.dims)
        if (not self.ids and not 1 <= rank <= 3) or (self.ids and rank != 2):
            raise ConversionError(
                f"{source}: expected an input of features (steps, sequences, features) or of token "
                f"ids (steps, sequences), got {rank} axes"
            )
        axes = "01" if self.ids else "01F"[3 - rank :]
        self.values[self.input.name] = Data((), axes, self.ids)

    def read(self) -> Any:
        """Return what the graph puts out: the `Data` or `States` of its first such output."""
        if len(self.graph.node) > 10_000:
            raise ConversionError(f"{self.source}: expected 10,000 nodes at most")
        for node in self.graph.node:
            found = self._node(node)
            for name, value in zip(node.output, found, strict=False):
                if name:
                    self.values[name] = value
        outputs = [(one.name, self.values.get(one.name)) for one in self.graph.output]
        for self.output, value in outputs:
            if isinstance(value, Data):
                if value.way is not None or value.axes == "NF":
                    raise ConversionError(
                        f"{self.source}: expected an output of all directions, steps and sequences "
                        f"apart, got {self.output!r} otherwise"
                    )
                return value
        for self.output, value in outputs:
            if isinstance(value, States):
                return value
        raise ConversionError(
            f"{self.source}: expected an output that the input leads to, got none"
        )

    def _array(self, tensor: Any) -> np.ndarray:
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            raise ConversionError(
                f"{self.source}: expected all weights in the file, got {tensor.name!r} in another; "
                "save the model as one file"
            )
        return np.asarray(self.onnx.numpy_helper.to_array(tensor))

    def _node(self, node: Any) -> tuple[Any, ...]:
        if node.domain not in ("", "ai.onnx"):
            self._refuse(node, "is of another domain")
        settings = {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        inputs = [self.values.get(name) if name else None for name in node.input]
        if any(name and value is None for name, value in zip(node.input, inputs, strict=True)):
            self._refuse(node, "reads a value that no node before it makes")
        kind = node.op_type
        if kind == "Constant":
            return (self._constant(node, settings),)
        if kind in ("RNN", "LSTM", "GRU"):
            return self._recurrent(node, settings, inputs)
        if kind == "Shape":
            return (Shape(),)
        if kind == "ConstantOfShape":
            value = settings.get("value")
            zero = value is None or not self._array(value).any()
            return (Zero() if zero else self._refuse(node, "makes numbers that are not 0"),)
        places = [k for k, one in enumerate(inputs) if isinstance(one, Data | States)]
        if not places:
            return (self._no_data(node, settings, inputs),)
        step: Callable[..., Any] | None = getattr(self, f"_{kind.lower()}", None)
        if kind in NOTHING:
            return tuple([inputs[0]] * len(node.output))
        if kind in heads.NODES:
            return (self._then(node, inputs[0], plan.activation(heads.of_node(kind, settings))),)
        if step is None:
            self._refuse(node, "is none that rnncore has between layers")
        assert step is not None
        return (step(node, settings, inputs),)

    def _constant(self, node: Any, settings: dict[str, Any]) -> Any:
        if "value" in settings:
            return self._array(settings["value"])
        for name in ("value_float", "value_floats", "value_int", "value_ints"):
            if name in settings:
                return np.asarray(settings[name])
        return self._refuse(node, "is no number")

    def _no_data(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        # Of shapes and zeros nothing is asked but what they are; numbers are brought into shape.
        known = [one for one in inputs if one is not None]
        kind = node.op_type
        if not known:
            self._refuse(node, "makes numbers of nothing")
        if any(isinstance(one, Shape) for one in known):
            if kind == "Expand" and isinstance(known[0], Zero):
                return Zero()
            if kind == "Expand" and isinstance(known[0], np.ndarray) and not known[0].any():
                return Zero()
            return Shape() if kind in OF_SHAPES else self._refuse(node, "makes numbers of a shape")
        if any(isinstance(one, Zero) for one in known):
            return Zero()
        if all(isinstance(one, np.ndarray) for one in known):
            return numbers(
                kind,
                settings,
                known,
                self._axes(settings, known),
                lambda why: self._refuse(node, why),
            )
        if kind in (*NOTHING, "Transpose", "Unsqueeze", "Squeeze", "Slice", "Reshape"):
            return known[0]  # an input of states on its way to a node
        return self._refuse(node, "changes an input that is no data")

    def _then(self, node: Any, value: Any, *parts: Part) -> Data:
        value = self._data(node, value)
        return dataclasses.replace(value, parts=(*value.parts, *parts))

    def _data(self, node: Any, value: Any, cut: bool = False) -> Data:
        """Return data; of a last state without an axis of directions, that of all directions."""
        if isinstance(value, States):
            if "D" in value.axes or not is_whole(value):
                self._refuse(node, "reads the last state of one direction of two")
            return Data((*value.each[0][0], plan.Final()), "1F" if self.time == "0" else "0F")
        if not isinstance(value, Data):
            self._refuse(node, "has its data at another input")
        found: Data = value
        if found.way is not None:
            self._refuse(node, "reads one direction of two")
        if found.first and not cut:
            self._refuse(node, f"reads the first {found.first} features alone")
        return found

    def _recurrent(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> tuple[Any, ...]:
        data = self._data(node, inputs[0])
        batch_axis_first = settings.get("layout", 0) == 1
        steps = data.axes[1 if batch_axis_first else 0]
        if len(data.axes) != 3 or data.axes[2] != "F" or data.ids or steps not in "01":
            self._refuse(node, f"reads axes {data.axes}, not steps, sequences and features")
        if self.time not in (None, steps):
            self._refuse(node, "reads along another axis than the node before")
        self.time = steps
        for place, name in ((4, "sequence_lens"), (5, "initial_h"), (6, "initial_c")):
            one = inputs[place] if len(inputs) > place else None
            if isinstance(one, Shape | Data | States):
                self._refuse(node, f"has {name} that the graph computes")
            if isinstance(one, Given):
                if place == 4:
                    self.lengths = one.name
                elif one.name not in self.states:
                    self.states.append(one.name)
                inputs[place] = None
            elif isinstance(one, Zero):
                inputs[place] = None
            elif place == 4 and one is not None:
                self._refuse(node, "has sequence_lens that are fixed")
        layer, directions = read_node(self.source, node, settings, inputs, self.time == "1")
        parts = (*data.parts, layer)
        rest = data.axes[1] if not batch_axis_first else data.axes[0]
        axes = f"{rest}{steps}DF" if batch_axis_first else f"{steps}D{rest}F"
        y = Data(parts, axes, directions=directions)
        each = tuple((parts, d) for d in range(directions))
        h = States(each, directions, "BDF" if batch_axis_first else "DBF")
        return y, h, dataclasses.replace(h, cell=True)

    def _softmax(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        data = self._data(node, inputs[0])
        axis = settings.get("axis", -1 if self.opset >= 13 else 1) % len(data.axes)
        if axis != len(data.axes) - 1 or data.axes[-1] != "F":
            self._refuse(node, f"is over axis {axis}, not the features")
        return self._then(node, data, plan.activation("softmax"))

    def _gemm(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        weight, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
        scaled = settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0
        if scaled or settings.get("transA") or not isinstance(weight, np.ndarray):
            self._refuse(node, "scales, or multiplies something else than data by weights")
        weight = weight if settings.get("transB") else weight.T
        if bias is not None:
            bias = np.broadcast_to(bias, (1, len(weight)))[0]
        return self._then(node, inputs[0], self._linear(weight, bias))

    def _matmul(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        data = self._data(node, inputs[0])
        if not isinstance(inputs[1], np.ndarray) or data.axes[-1] != "F":
            self._refuse(node, "multiplies something else than data by weights")
        return self._then(node, data, self._linear(inputs[1].T, None))

    def _linear(self, weight: np.ndarray, bias: Any) -> Part:
        return plan.linear(self.source, weight, bias)

    def _add(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        numbers = [one for one in inputs if isinstance(one, np.ndarray)]
        if len(numbers) == 1:
            data = self._data(node, inputs[0] if inputs[1] is numbers[0] else inputs[1])
            last = data.parts[-1] if data.parts else None
            weight = getattr(last, "params", {}).get("weight")
            if weight is None or not hasattr(last, "in_features") or "bias" in last.params:  # type: ignore[union-attr]
                self._refuse(node, "adds numbers where no product with weights came before")
            assert weight is not None
            bias = np.broadcast_to(numbers[0], (*[1] * (len(data.axes) - 1), len(weight))).reshape(
                -1
            )
            return dataclasses.replace(
                data, parts=(*data.parts[:-1], self._linear(np.array(weight), bias))
            )
        before, after = sorted(
            (self._data(node, one, True) for one in inputs), key=lambda d: len(d.parts)
        )
        inner = after.parts[len(before.parts) :]
        if (
            before.axes != after.axes
            or after.parts[: len(before.parts)] != before.parts
            or not inner
        ):
            self._refuse(node, "adds two things of which one does not come of the other")
        if after.first or before.first > width(inner):
            self._refuse(node, "adds a part of the features")
        added = plan.Added(inner, before.first or width(inner))
        return dataclasses.replace(after, parts=(*before.parts, added))
