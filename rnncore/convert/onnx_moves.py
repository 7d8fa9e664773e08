"""Nodes of an ONNX graph that bring data into shape: which axes it has, and what is left of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rnncore.convert import plan
from rnncore.convert.errors import ConversionError
from rnncore.convert.onnx_values import Data, Shape, States, is_whole, width


class Moves:
    """What reads such nodes, each by the method of its name.

    Attributes
    ----------
    source
        What errors call the graph.
    dims
        The sizes of its input, where they are known.
    time
        Which axis of the input has the steps, once that is known.
    """

    source: str
    dims: list[int | None]
    time: str | None

    def _refuse(self, node: Any, why: str) -> Any:
        raise ConversionError(
            f"{self.source}: node {node.name or node.op_type!r} ({node.op_type}) {why}"
        )

    def _axes(self, settings: dict[str, Any], inputs: list[Any]) -> list[int] | None:
        if "axes" in settings:
            return list(settings["axes"])
        if len(inputs) > 1 and isinstance(inputs[1], np.ndarray):
            return [int(axis) for axis in np.atleast_1d(inputs[1])]
        return None

    def _transpose(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        value = inputs[0]
        perm = list(settings.get("perm", range(len(value.axes))[::-1]))
        if sorted(perm) != list(range(len(value.axes))):
            self._refuse(node, f"has {len(perm)} axes where its data has {len(value.axes)}")
        return dataclasses.replace(value, axes="".join(value.axes[k] for k in perm))

    def _squeeze(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        value, axes = inputs[0], self._axes(settings, inputs)
        if axes is None:
            axes = [k for k, letter in enumerate(value.axes) if letter in "DS"]
        axes = [axis % len(value.axes) for axis in axes]
        for axis in axes:
            letter = value.axes[axis]
            alone = letter == "F" and isinstance(value, Data) and width(value.parts) == 1
            if alone:
                value = dataclasses.replace(value, parts=(*value.parts, plan.squeeze))
            elif letter not in "DS" or (letter == "D" and value.directions != 1):
                self._refuse(node, f"takes away axis {axis}, which is not one number")
        left = "".join(letter for k, letter in enumerate(value.axes) if k not in axes)
        if isinstance(value, States) and len(value.each) != 1:
            self._refuse(node, "takes away an axis of several states")
        return dataclasses.replace(value, axes=left)

    def _reshape(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        value, shape = inputs[0], inputs[1] if len(inputs) > 1 else settings.get("shape")
        if isinstance(value, Data) and self._together(value, shape):
            axes = value.axes[:-1]
            return dataclasses.replace(value, axes="NF" if len(axes) > 1 else value.axes, rows=axes)
        if isinstance(value, Data) and value.axes == "NF" and self._apart(value, shape):
            return dataclasses.replace(value, axes=f"{value.rows}F", rows="")
        if not value.axes.endswith(("DF", "SF")) or not self._merges(value, shape):
            self._refuse(
                node, f"brings axes {value.axes} into a shape that rnncore does not follow"
            )
        return dataclasses.replace(value, axes=f"{value.axes[:-2]}F")

    def _together(self, value: Data, shape: Any) -> bool:
        # Whether all axes but the features become one, as for a product of matrices.
        if isinstance(shape, Shape) or shape is None or len(shape) != 2:
            return False
        plain = value.axes[-1] == "F" and "D" not in value.axes
        return plain and int(shape[1]) == width(value.parts)

    def _apart(self, value: Data, shape: Any) -> bool:
        # Whether these become what they were.
        if isinstance(shape, Shape):
            return True
        known = shape is not None and len(shape) == len(value.rows) + 1
        return known and int(shape[-1]) in (-1, width(value.parts))

    def _merges(self, value: Any, shape: Any) -> bool:
        # Whether a shape leaves all axes but the last two, which become one.
        if isinstance(shape, Shape):
            return True
        if shape is None or len(shape) != len(value.axes) - 1:
            return False
        parts = value.each[0][0] if isinstance(value, States) else value.parts
        *leading, last = (int(n) for n in shape)
        whole = last in (-1, width(parts))
        return whole and all(n in (0, -1, *filter(None, self.dims)) for n in leading)

    def _flatten(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        value = inputs[0]
        if settings.get("axis", 1) == 1 and len(value.axes) == 2:
            return value
        if settings.get("axis", 1) == 1 and value.axes[1:] in ("DF", "SF"):
            return dataclasses.replace(value, axes=f"{value.axes[0]}F")
        return self._refuse(node, f"puts axes {value.axes} together")

    def _gather(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        table, index = inputs[0], inputs[1]
        if isinstance(table, np.ndarray) and isinstance(index, Data):
            if not index.ids or settings.get("axis", 0) != 0:
                self._refuse(node, "looks up something else than token ids in a table")
            return Data((*index.parts, plan.embedding(self.source, table)), f"{index.axes}F")
        if not isinstance(index, np.ndarray) or index.size != 1:
            self._refuse(node, "takes several things by index")
        axis = settings.get("axis", 0) % len(table.axes)
        return self._one(node, table, axis, int(index.reshape(-1)[0]), keep=index.ndim > 0)

    def _one(self, node: Any, value: Any, axis: int, index: int, keep: bool) -> Any:
        # One step, one direction, or one layer's state.
        letter = value.axes[axis]
        if isinstance(value, States):
            count = len(value.each)
            if letter != "D" or not -count <= index < count:
                self._refuse(node, f"takes place {index} of axis {letter}")
            left = value.axes if keep else value.axes.replace("D", "")
            return dataclasses.replace(value, each=(value.each[index],), axes=left)
        left = value.axes.replace(letter, "S" if keep else "")
        if letter == "D" and -value.directions <= index < value.directions:
            way = index % value.directions if value.directions > 1 else None
            return dataclasses.replace(value, axes=left, way=way)
        if letter == self.time and value.way is not None and value.step is None:
            return dataclasses.replace(value, axes=left, step=index)
        if letter != self.time or index != -1:
            self._refuse(node, f"takes place {index} of axis {letter}, not the last step")
        if "D" in value.axes and value.directions != 1:
            self._refuse(node, "takes a step while directions are apart")
        return dataclasses.replace(
            value, parts=(*value.parts, plan.last_step(self.time == "1")), axes=left
        )

    def _slice(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        value = inputs[0]
        lists = [settings.get(name) for name in ("starts", "ends", "axes", "steps")]
        for place, one in enumerate(inputs[1:5]):
            if one is not None:
                if not isinstance(one, np.ndarray):
                    self._refuse(node, "cuts where the graph computes")
                lists[place] = [int(n) for n in np.atleast_1d(one)]
        starts, ends, axes, steps = lists
        if not starts or not ends or len(starts) != 1 or steps not in (None, [1]):
            return self._refuse(node, "cuts several axes, or with steps")
        axis = (axes or [0])[0] % len(value.axes)
        start, end = starts[0], ends[0]
        if start == 0 and end >= 2**31 - 1:
            return value
        if isinstance(value, Data) and value.axes[axis] == "F" and start == 0 < end:
            return dataclasses.replace(value, first=end)
        if start == -1 and end >= 2**31 - 1:
            return self._one(node, value, axis, -1, keep=True)
        if end == start + 1:
            return self._one(node, value, axis, start, keep=True)
        return self._refuse(node, f"cuts {start} to {end} of axis {value.axes[axis]}")

    def _concat(self, node: Any, settings: dict[str, Any], inputs: list[Any]) -> Any:
        if all(isinstance(one, Data) for one in inputs):
            return self._directions(node, inputs, settings["axis"] % len(inputs[0].axes))
        if not all(isinstance(one, States) for one in inputs):
            self._refuse(node, "puts data together")
        first, axis = inputs[0], settings["axis"] % len(inputs[0].axes)
        if any(one.axes != first.axes or one.cell != first.cell for one in inputs):
            self._refuse(node, "puts states of different shapes together")
        each = tuple(pair for one in inputs for pair in one.each)
        if first.axes[axis] == "D":
            return dataclasses.replace(first, each=each)
        whole = dataclasses.replace(first, each=each)
        if first.axes[axis] != "F" or "D" in first.axes or not is_whole(whole):
            self._refuse(node, "puts states together that are not the two directions of one layer")
        return whole

    def _directions(self, node: Any, inputs: list[Data], axis: int) -> Data:
        # Both directions of one layer, which stood apart: of every step, or of one step each.
        first = inputs[0]
        alike = all(one.parts == first.parts and one.axes == first.axes for one in inputs)
        ends = tuple(one.step for one in inputs)
        parts: dict[Any, tuple[Any, ...]] = {
            (None, None): (), (-1, 0): (plan.Final(),),
            (-1, -1): (plan.last_step(self.time == "1"),),
        }  # fmt: skip
        if not alike or [one.way for one in inputs] != [0, 1] or first.axes[axis] != "F":
            self._refuse(node, "puts data together that is not the two directions of one layer")
        if ends not in parts:
            self._refuse(node, f"puts the steps {ends} of two directions together")
        return dataclasses.replace(
            first, parts=(*first.parts, *parts[ends]), way=None, step=None, directions=1
        )
