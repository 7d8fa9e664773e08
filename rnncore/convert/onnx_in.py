"""From ONNX: a recurrent node, or a graph of recurrent layers and what stands around them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rnncore.convert import plan, proof
from rnncore.convert.errors import ConversionError, needed, reading
from rnncore.convert.onnx_graph import Data, Graph, States
from rnncore.convert.onnx_part import only, recurrent_nodes
from rnncore.convert.proof import Converted, Proof
from rnncore.convert.sizes import sizes_of
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent

LARGEST = 2**31 - 1  # bytes that protobuf takes


def from_onnx(source: Any, prefix: str = "", *, prove: bool = True) -> Converted:
    """Return the rnncore model of an ONNX graph.

    The graph may have RNN, LSTM and GRU nodes, embeddings (Gather), Gemm, MatMul and Add, Tanh,
    Sigmoid, Relu and Softmax, sums around layers, and Transpose, Squeeze, Reshape, Slice, Gather
    and Concat where they bring outputs and last states into shape. The model takes the data of the
    graph in the graph's layout and returns its first output. Where a node has lengths or initial
    states that are inputs of the graph, they are the arguments `lengths` and `state` of the layer.

    Parameters
    ----------
    source
        The path of a file, its bytes, or an `onnx.ModelProto`. Weights must be within.
    prefix
        The name of a recurrent node, which is taken alone, whatever else is in the graph.
    prove
        Whether to hold the result against ONNX Runtime, or without it against ONNX's own reference.

    Raises
    ------
    ConversionError
        If the source is damaged, or has nodes or equations that rnncore has not.

    Examples
    --------
    >>> import pytest, rnncore
    >>> _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    >>> from rnncore import convert
    >>> model = convert.to_onnx(rnncore.LSTM(3, 5, seed=0))
    >>> convert.from_onnx(model).model
    LSTM(3, 5; 180 parameters)
    """
    onnx = needed("onnx", "rnncore[convert]", "to read ONNX")
    what = "ONNX"
    if isinstance(source, str | os.PathLike):
        what = f"ONNX file {os.fspath(source)!r}"
        source = Path(source).read_bytes()
    import google.protobuf.message as protobuf

    with reading(what, (protobuf.Error,)):
        model = onnx.load_model_from_string(source) if isinstance(source, bytes) else source
        prefix = prefix if isinstance(prefix, str) else "".join(prefix)
        if prefix:
            model = only(onnx, model, prefix, what)
        graph = _read(onnx, model, what)
        end = graph.end
        if isinstance(end, States):
            parts = end.each[0][0]
            lone = len(parts) == 1
            end = Data(parts if lone else (*parts, plan.Final()), end.axes)
            if lone:
                graph.output = ""
        flipped = "01" in end.axes[::-1].replace("D", "")  # of data with both axes
        parts = (*end.parts, *([plan.swap] if flipped else []))
        if len(graph.states) <= 2:  # h, or h and c, of all layers
            parts = plan.stacked(parts)
        result = plan.made(what, parts)
    notes = list(graph.notes)
    if graph.lengths:
        notes.append(f"the input {graph.lengths!r} is the argument lengths of the layer")
    if graph.states and isinstance(result, Recurrent):
        notes.append(f"the inputs {', '.join(graph.states)} are the argument state of the layer")
    elif graph.states:
        notes.append(
            f"the inputs {', '.join(graph.states)} are states of the layers, which begin with "
            "zeros here; a stream keeps them from step to step"
        )
    kinds = [node.op_type for node in graph.graph.node if node.op_type in ("RNN", "LSTM", "GRU")]
    return Converted(
        result, f"{what}: {' + '.join(kinds) or 'no recurrent node'}",
        _proof(result, model, graph, end, onnx) if prove else Proof(why="prove=False"),
        tuple(notes),
    )  # fmt: skip


def _read(onnx: Any, model: Any, what: str) -> Graph:
    # The graph, followed to its end; an error says which nodes may be taken alone.
    try:
        graph = Graph(onnx, model, what)
        graph.end = graph.read()
    except ConversionError as error:
        known = recurrent_nodes(model)
        alone = f"; prefix takes a node alone: {', '.join(map(repr, known))}"
        several = len(model.graph.node) > 1 and known
        raise ConversionError(f"{error}{alone if several else ''}") from None
    return graph


def _proof(result: Module, model: Any, graph: Graph, end: Data, onnx: Any) -> Proof:
    features, vocabulary, _ = sizes_of(result)
    batch_first = graph.time == "1"
    dims = ([*graph.dims, None, None] if len(graph.dims) > 1 else [None, None])[:2]
    steps, batch = dims[::-1] if batch_first else dims
    kind = onnx.helper.tensor_dtype_to_np_dtype(graph.input_type.elem_type)
    rank, states = len(graph.dims), _state_shapes(graph)
    for name, (shape, _) in states.items():  # which may say how many sequences, where x does not
        batch = batch or shape[0 if name == graph.lengths or _batch_first_states(graph) else 1]
    rng = np.random.default_rng(1)
    given: dict[str, np.ndarray] = {}

    def feed(x: np.ndarray) -> dict[str, np.ndarray]:
        size = x.shape[0 if batch_first else 1] if rank == 3 or vocabulary else 1
        length = x.shape[1 if batch_first else 0]
        given.clear()
        given[graph.input.name] = x.astype(kind)
        for name, (shape, dtype) in states.items():
            whole = [one or size for one in shape]
            lone = isinstance(result, Recurrent)
            given[name] = (
                rng.integers(1 if lone else length, length + 1, whole).astype(dtype)
                if name == graph.lengths
                else (rng.standard_normal(whole) * lone).astype(dtype)
            )
        return given

    def theirs(run: Callable[[dict[str, Any]], Any], x: np.ndarray) -> list[np.ndarray]:
        try:
            found = run(given)
        except Exception as error:  # they have no common base
            why = " ".join(str(error).split())[:200]
            raise _EngineError(f"{type(error).__name__}: {why}") from None
        names = [one.name for one in graph.graph.output]
        outputs = dict(zip(names, found, strict=True))
        y = outputs[graph.output or graph.graph.output[0].name]
        if "D" in end.axes:  # directions stand apart
            y = np.moveaxis(y, end.axes.index("D"), -2)
            y = y.reshape(*y.shape[:-2], -1)
        return [y]

    def ours(x: np.ndarray) -> list[np.ndarray]:
        feed(x)
        if not isinstance(result, Recurrent):
            return [result(given[graph.input.name].astype(x.dtype))]
        state: Any = tuple(given[name] for name in graph.states) or None
        if state is not None and _batch_first_states(graph):
            state = tuple(one.swapaxes(0, 1) for one in state)
        if state is not None and len(result._stack.cell.states) == 1:
            [state] = state
        y, last = result(
            given[graph.input.name].astype(x.dtype), state, given.get(graph.lengths or "")
        )
        if graph.output:
            return [y]
        h = last[0] if isinstance(last, tuple) else last
        return [np.moveaxis(h, 0, 1).reshape(h.shape[1], -1)]

    why = []
    for run, against in _engines(model, onnx):
        inputs = proof.trial_inputs(features, vocabulary, batch_first, result.dtype, (steps, batch))
        if rank < 3 and not vocabulary:
            inputs = (x.reshape(-1, features)[: dims[0]] if rank == 2 else x[0, 0] for x in inputs)
        try:
            return proof.prove(ours, partial(theirs, run), against, inputs, result)
        except _EngineError as error:
            why.append(f"{against} does not run it ({error})")
    return Proof(why="; ".join(why) or "no engine of ONNX reads it")


class _EngineError(Exception):
    """What an engine of ONNX raises when it runs."""


def _engines(model: Any, onnx: Any) -> Iterator[tuple[Callable[[dict[str, Any]], Any], str]]:
    # ONNX Runtime, if it is there and has these nodes in this precision; ONNX's own reference.
    with suppress(Exception):  # theirs have no common base
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
        yield lambda given: session.run(None, given), f"onnxruntime {onnxruntime.__version__}"
    with suppress(Exception):
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        yield lambda given: evaluator.run(None, given), f"the reference of onnx {onnx.__version__}"


def _state_shapes(graph: Graph) -> dict[str, tuple[list[int], Any]]:
    shapes = {}
    for one in graph.graph.input:
        if one.name in (graph.lengths, *graph.states):
            kind = graph.onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
            dims = [dim.dim_value for dim in one.type.tensor_type.shape.dim]
            shapes[one.name] = dims, kind
    return shapes


def _batch_first_states(graph: Graph) -> bool:
    return any(
        attribute.name == "layout" and attribute.i == 1
        for node in graph.graph.node for attribute in node.attribute
    )  # fmt: skip
