"""Layers and `Sequential`s in files of rnncore's own, and the same model in another precision."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore import files, layers
from rnncore.convert import parts
from rnncore.convert.errors import ConversionError, reading
from rnncore.layers.module import Module

KIND = "layers"

#: What a file may hold, by name; nothing else is made when one is read.
KNOWN: dict[str, type[Module]] = {
    kind.__name__: kind
    for kind in (
        layers.GRU, layers.LSTM, layers.RNN, layers.Recurrent, layers.Embedding, layers.Linear,
        layers.Sequential, parts.Activation, parts.FinalState, parts.LastStep, parts.Masked,
        parts.Skip, parts.Squeeze, parts.Swap,
    )
}  # fmt: skip
MOST_PARTS = 1000
LEFT_OUT = ("self", "dtype", "precision", "seed", "forget_bias")


def describe(module: Module) -> dict[str, Any]:
    """Return what `build` needs to make such a module, as `json` can write it.

    Raises
    ------
    ConversionError
        If it is none of the layers and parts that converted models are made of.
    """
    kind = type(module)
    if KNOWN.get(kind.__name__) is not kind:
        raise ConversionError(
            f"model: expected one of {', '.join(KNOWN)}, got {kind.__name__}, whose code no file "
            "can hold"
        )
    about: dict[str, Any] = {"type": kind.__name__}
    if module._children:
        about["parts"] = [describe(part) for part in module._children.values()]
    if kind is layers.Recurrent:
        about |= _about_cell(module)
    for name in set(_options(kind)) - set(about):
        about[name] = "bias" in module._shapes if kind is layers.Linear and name == "bias" else (
            getattr(module, name)
        )  # fmt: skip
    return about


def _about_cell(layer: Any) -> dict[str, Any]:
    cell = layer._cell
    if isinstance(cell, str):
        return {"cell": cell}
    return {"cell": cell.name, "cell_signature": cell.signature}


def _with_cell(about: dict[str, Any]) -> dict[str, Any]:
    # The cell of the description itself, if it has one that the engine has not.
    signature = about.pop("cell_signature", None)
    if signature is None:
        return about
    from rnncore.cells.library import find

    cell = find(about["cell"])
    if cell.signature != signature:
        raise ConversionError(
            f"cell: expected {cell.name!r} as it was when the file was written, signature "
            f"{signature!r:.50}, got one of other equations, {cell.signature}"
        )
    return {**about, "cell": cell}


def _options(kind: type[Module]) -> list[str]:
    known = inspect.signature(kind.__init__).parameters.values()
    return [
        one.name
        for one in known
        if one.name not in LEFT_OUT and one.annotation not in ("Module", "Recurrent")
    ]


def build(about: dict[str, Any], dtype: DTypeLike) -> Module:
    """Return a module of this description with any weights.

    Raises
    ------
    ConversionError
        If nothing of that description can be made.
    """
    with reading("description of the layers"):
        return _build(about, np.dtype(dtype), [0])


def _build(about: dict[str, Any], dtype: np.dtype, count: list[int]) -> Module:
    count[0] += 1
    if count[0] > MOST_PARTS:
        raise ConversionError(f"description of the layers: expected {MOST_PARTS} parts at most")
    about = _with_cell(dict(about))
    kind = KNOWN[about.pop("type")]
    inner = [_build(part, dtype, count) for part in about.pop("parts", [])]
    if set(about) - set(_options(kind)):
        raise KeyError(f"options of {kind.__name__}: {sorted(set(about) - set(_options(kind)))}")
    if inner:
        return kind(*inner, **about)  # type: ignore[arg-type]
    return kind(**about, dtype=dtype)


def in_dtype(model: Module, dtype: DTypeLike) -> Module:
    """Return a copy of a model that computes in float32 or float64.

    Examples
    --------
    >>> import rnncore
    >>> in_dtype(rnncore.GRU(3, 5, seed=0), "float64").dtype
    dtype('float64')
    """
    other = build(describe(model), dtype)
    other.load_state_dict({name: array.astype(dtype) for name, array in model.state_dict().items()})
    return other


def save(path: str | os.PathLike[str], model: Module) -> None:
    """Write a layer, or a `Sequential` of layers, to a safetensors file of rnncore's own.

    `load` reads it. Tensors have PyTorch's names, the description is JSON.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import rnncore
    >>> from rnncore import convert
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "layers.safetensors")
    ...     convert.save(path, rnncore.LSTM(1, 8, seed=0))
    ...     convert.load(path).model
    LSTM(1, 8; 320 parameters)
    """
    about = {"kind": KIND, "model": describe(model), "dtype": model.dtype.name}
    files.save(path, model.state_dict(), about)


def is_ours(path: Path) -> bool:
    """Whether a safetensors file is rnncore's own, not another program's."""
    with open(path, "rb") as file:
        size = min(int.from_bytes(file.read(8), "little"), files.LARGEST_HEADER)
        return b'"rnncore":' in file.read(size)


def from_contents(contents: files.Contents, path: str | os.PathLike[str]) -> Module:
    """Return the model of a file that is read already."""
    with reading(f"model file {os.fspath(path)!r}"):
        about = contents.metadata
        if about["kind"] != KIND:
            raise ConversionError(
                f"model file {os.fspath(path)!r}: expected layers, got a {about['kind']!r}; "
                "rnncore.load reads it"
            )
        if sum(array.size for array in contents.tensors.values()) < _numbers(about["model"]):
            raise ValueError("fewer numbers than the layers have")
        model = build(about["model"], about["dtype"])
        model.load_state_dict(contents.tensors)
        return model


def _numbers(about: dict[str, Any]) -> int:
    # So many weights the layers have at least: none is made that a file cannot fill.
    inner = sum(_numbers(part) for part in about.get("parts", []))
    sizes = about.get("hidden_size", 0)
    sizes = sizes if isinstance(sizes, list) else [sizes] * about.get("num_layers", 1)
    if len(sizes) > MOST_PARTS:
        raise ValueError("too many layers")
    own = sum(size * size for size in sizes) + sizes[0] * about.get("input_size", 0) if sizes else 0
    own += about.get("in_features", 0) * about.get("out_features", 0)
    return inner + own + about.get("num_embeddings", 0) * about.get("embedding_dim", 0)
