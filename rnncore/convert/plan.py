"""The parts of a model as they are found one after another, before modules are made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnncore import layers
from rnncore.convert import saved
from rnncore.convert.errors import ConversionError
from rnncore.convert.parts import Activation, FinalState, LastStep, Masked, Skip, Squeeze, Swap
from rnncore.convert.weights import widened
from rnncore.layers.module import Module


@dataclass(frozen=True)
class Final:
    """Of the recurrent layer before it, the last state alone."""


@dataclass(frozen=True)
class Added:
    """What these parts make of x, and the first `count` features of x."""

    inner: tuple[Any, ...]
    count: int


@dataclass(frozen=True)
class Hidden:
    """These parts, from which the steps of this value are hidden."""

    inner: tuple[Any, ...]
    value: float


#: A part of a plan: a module with weights, one of the above, or what makes a module of a dtype.
Part = Module | Final | Added | Hidden | Callable[[np.dtype], Module]


def activation(name: str) -> Part:
    """Return the part for an `Activation` of this name."""
    return lambda dtype: Activation(name, dtype=dtype)


def last_step(batch_first: bool) -> Part:
    """Return the part for `LastStep`."""
    return lambda dtype: LastStep(batch_first, dtype=dtype)


def swap(dtype: np.dtype) -> Module:
    """Return a `Swap`."""
    return Swap(dtype=dtype)


def squeeze(dtype: np.dtype) -> Module:
    """Return a `Squeeze`."""
    return Squeeze(dtype=dtype)


def linear(source: str, weight: Any, bias: Any = None) -> layers.Linear:
    """Return a `Linear` of a weight (out, in) and a bias (out,)."""
    weight = widened(f"{source}: weight", weight)
    state = {"weight": weight}
    if bias is not None:
        state["bias"] = widened(f"{source}: bias", bias)
    if (
        weight.ndim != 2
        or not weight.size
        or (bias is not None and state["bias"].shape != weight.shape[:1])
    ):
        raise ConversionError(
            f"{source}: expected a weight (out, in) and a bias (out,), got shapes "
            f"{[array.shape for array in state.values()]}"
        )
    out, size = weight.shape
    layer = layers.Linear(size, out, bias is not None, dtype=weight.dtype, seed=0)
    layer.load_state_dict(state)
    return layer


def embedding(source: str, weight: Any) -> Module:
    """Return an `Embedding` of the vectors (n, size)."""
    weight = widened(f"{source}: table", weight)
    if weight.ndim != 2 or not weight.size:
        raise ConversionError(f"{source}: expected a table (n, size), got {weight.shape}")
    return layers.Embedding.from_pretrained(weight, freeze=False)


def stacked(plan: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return a plan with recurrent layers of one kind and size, one behind the other, as one."""
    parts: list[Part] = []
    for part in plan:
        before = parts[-1] if parts else None
        if isinstance(part, layers.Recurrent) and isinstance(before, layers.Recurrent):
            both = _stacked(before, part)
            if both is not None:
                parts[-1] = both
                continue
        parts.append(part)
    return tuple(parts)


def _stacked(first: layers.Recurrent, then: layers.Recurrent) -> Module | None:
    told, other = saved.describe(first), saved.describe(then)
    count = told["num_layers"]
    if {**other, "input_size": told["input_size"], "num_layers": count} != told:
        return None
    layer = saved.build({**told, "num_layers": count + 1}, first.dtype)
    state = then.state_dict()
    layer.load_state_dict(
        first.state_dict() | {name.replace("_l0", f"_l{count}"): state[name] for name in state}
    )
    return layer


def made(source: str, plan: list[Part] | tuple[Part, ...]) -> Module:
    """Return the layer of a plan of one, or a `Sequential`."""
    parts = _made(source, plan, _dtype(source, plan))
    return parts[0] if len(parts) == 1 else layers.Sequential(*parts)


def _dtype(source: str, plan: list[Part] | tuple[Part, ...]) -> np.dtype:
    found = [part.dtype for part in plan if isinstance(part, Module)]
    found += [_dtype(source, part.inner) for part in plan if isinstance(part, Added | Hidden)]
    if not found:
        raise ConversionError(f"{source}: expected a layer with weights, got none")
    if len(set(found)) > 1:
        raise ConversionError(
            f"{source}: expected one dtype in all layers, got float32 and float64"
        )
    return found[0]


def _made(source: str, plan: list[Part] | tuple[Part, ...], dtype: np.dtype) -> list[Module]:
    parts: list[Module] = []
    for part in plan:
        if isinstance(part, Module):
            parts.append(part)
        elif isinstance(part, Added | Hidden):
            inner = _made(source, part.inner, dtype)
            whole = inner[0] if len(inner) == 1 else layers.Sequential(*inner)
            if isinstance(part, Added):
                parts.append(Skip(whole, part.count))
            else:
                parts.append(Masked(whole, part.value))
        elif isinstance(part, Final):
            before = parts.pop() if parts else None
            if not isinstance(before, layers.Recurrent):
                raise ConversionError(f"{source}: expected a last state of a recurrent layer")
            parts.append(FinalState(before))
        else:
            parts.append(part(dtype))
    return parts
