"""One recurrent node of an ONNX graph that has more than rnncore can follow."""

from __future__ import annotations

from typing import Any

from rnncore.convert.errors import ConversionError

RECURRENT = ("RNN", "LSTM", "GRU")


def recurrent_nodes(model: Any) -> list[str]:
    """Return the names of the recurrent nodes, or of their outputs where they have none."""
    return [_name(node) for node in model.graph.node if node.op_type in RECURRENT]


def only(onnx: Any, model: Any, name: str, source: str) -> Any:
    """Return a model of this node alone: x, and the states and lengths it reads, are its inputs.

    Raises
    ------
    ConversionError
        If there is no such node, or its weights are no numbers in the file.
    """
    known = recurrent_nodes(model)
    if known.count(name) != 1:
        raise ConversionError(
            f"prefix: expected one of the recurrent nodes of {source}, {', '.join(known)}, got "
            f"{name!r}"
        )
    [node] = [one for one in model.graph.node
              if one.op_type in RECURRENT and _name(one) == name]  # fmt: skip
    made = {output: one for one in model.graph.node for output in one.output}
    held = {one.name: one for one in model.graph.initializer}
    given = {one.name for one in model.graph.input} - set(held)
    before: list[Any] = []  # nodes that bring weights into shape

    def constant(wanted: str) -> bool:
        # Whether it comes of numbers in the file alone; then what makes it comes along.
        if wanted in held or not wanted:
            return True
        one = made.get(wanted)
        if wanted in given or one is None or not (one.input or one.op_type == "Constant"):
            return False
        if not all(map(constant, one.input)):
            return False
        if one not in before:
            before.append(one)
        return True

    helper, kinds = onnx.helper, onnx.TensorProto
    width = [constant(one) for one in node.input]
    if not all(width[1:4]):
        raise ConversionError(f"{source}: node {name!r}: expected weights as numbers in the file")
    kind = held[node.input[1]].data_type if node.input[1] in held else kinds.FLOAT
    settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    state = [2 if settings.get("direction") == b"bidirectional" else 1, "B",
             settings.get("hidden_size")]  # fmt: skip
    if settings.get("layout"):
        state[:2] = state[1::-1]
    shapes: dict[int, list[Any]] = {0: ["first", "second", None], 4: ["B"], 5: state, 6: state}
    inputs = [
        helper.make_tensor_value_info(text, kinds.INT32 if place == 4 else kind, shapes[place])
        for place, text in enumerate(node.input)
        if text and (place == 0 or (place in shapes and not width[place]))
    ]
    outputs = [helper.make_tensor_value_info(text, kind, None) for text in node.output if text]
    numbers = {text for one in [node, *before] for text in one.input if text in held}
    graph = helper.make_graph(
        [*before, node], "part", inputs, outputs, [held[text] for text in sorted(numbers)]
    )
    return helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )


def _name(node: Any) -> str:
    return str(node.name or next(filter(None, node.output), ""))
