"""A part of an export: what it computes, as C, and what it needs of the state and of the stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.export.templates import fill
from rnncore.export.weights import Weights, padded

Array = NDArray[Any]


class Field(NamedTuple):
    """Numbers in the state: C type, how many, and what `reset` puts there, C of number j."""

    name: str
    size: int
    comment: str
    begin: str
    type: str = "float"

    @classmethod
    def of(cls, name: str, begin: Array, comment: str, weights: Weights) -> Self:
        """Return a field that begins with these numbers."""
        if begin.any():
            weights.vector(f"{name}_0", begin)
            return cls(name, len(begin), comment, f"{name}_0[j]")
        return cls(name, len(begin), comment, "0.0f")

    def declared(self) -> str:
        """Return its line in the struct."""
        return f"    {self.type} {self.name}[{self.size}]; /* {self.comment} */"

    def reset(self) -> str:
        """Return lines that bring it to its beginning."""
        loop = f"    for (int j = 0; j < {self.size}; j++)"
        return f"{loop}\n        state->{self.name}[j] = {self.begin};"


@dataclass
class Part:
    """A function of C and its place in the chain.

    Parameters
    ----------
    name
        Of the function; the names of its constants and fields begin with it.
    inputs, outputs
        Numbers in and out.
    equation, code
        For the comment at the top, and C.
    vocabulary
        Above 0: it reads a token below it in place of numbers.
    fields
        What it keeps in the state; without any it is not handed the state.
    locals
        Numbers on the stack.
    functions
        How many elementwise functions it takes, such as tanh.
    """

    name: str
    inputs: int
    outputs: int
    equation: str
    code: str
    vocabulary: int = 0
    fields: Sequence[Field] = ()
    locals: int = 0
    functions: int = 0

    def call(self, x: str, y: str) -> str:
        """Return the line that calls it."""
        state = "state, " if self.fields else ""
        return f"    {self.name}({state}{x}, {y});"


def linear(name: str, weight: Array, bias: Array | None, weights: Weights) -> Part:
    """Return the part y = W x + b."""
    matrix = weights.matrix(name, [weight], bias)
    outputs, inputs = weight.shape
    rows = padded(outputs)
    code = fill(
        "linear.c", name=name, rows=rows, outputs=outputs, products=matrix.product("sum", "x")
    )
    return Part(name, inputs, outputs, f"{outputs} numbers: y = W x + b", code, locals=rows)


def embedding(name: str, vectors: Array, weights: Weights) -> Part:
    """Return the part that looks up the vector of a token."""
    count, size = vectors.shape
    code = fill("embedding.c", name=name, row=weights.table(name, vectors).row("y", size))
    return Part(name, 1, size, f"the vector of a token, {size} numbers", code, vocabulary=count)


#: Functions of a number, by the names that activations have.
ELEMENTWISE = ("tanh", "sigmoid", "relu")


def activation(name: str, f: str, size: int) -> Part:
    """Return the part y = f(x), or softmax."""
    if f == "softmax":
        code = fill("softmax.c", name=name, size=size)
        return Part(name, size, size, "y = e^x / sum(e^x)", code, functions=size)
    if f not in ELEMENTWISE:
        raise ValueError(
            f"model: expected an activation of {', '.join(ELEMENTWISE)} or softmax, got {f!r}"
        )
    code = fill("elementwise.c", name=name, size=size, f=f)
    return Part(name, size, size, f"y = {f}(x)", code, functions=size)


def standardize(name: str, mean: Array, scale: Array, weights: Weights) -> Part:
    """Return the part (x - mean) / scale."""
    first = mean.astype(np.float32)
    weights.vector(f"{name}_mean", first)
    weights.vector(f"{name}_rest", mean - first.astype(np.float64))
    weights.vector(f"{name}_scale", scale)
    code = fill("standardize.c", name=name, size=len(mean))
    return Part(name, len(mean), len(mean), "y = (x - mean) / scale", code)


def rescale(name: str, mean: Array, scale: Array, weights: Weights) -> Part:
    """Return the part mean + scale x."""
    weights.vector(f"{name}_mean", mean)
    weights.vector(f"{name}_scale", scale)
    code = fill("rescale.c", name=name, size=len(mean))
    return Part(name, len(mean), len(mean), "y = mean + scale x", code)


def pool(name: str, kind: str, state: str, size: int) -> Part:
    """Return the part that is the mean or the largest of all steps so far."""
    if kind == "mean":
        fields = [
            Field(f"{name}_sum", size, "of x", "0.0f"),
            Field(f"{name}_rest", size, "what the sum is too large by", "0.0f"),
            Field(f"{name}_steps", 1, "how many", "0u", "uint32_t"),
        ]
        equation = "y = the mean of all x so far"
    else:
        fields = [Field(f"{name}_largest", size, "of x", "-3.402823466e38f")]
        equation = "y = the largest of all x so far"
    code = fill(f"{kind}.c", name=name, state=state, size=size)
    return Part(name, size, size, equation, code, fields=fields)


def skip(name: str, size: int) -> Part:
    """Return the part that adds the first numbers of what went before."""
    code = fill("skip.c", name=name, size=size)
    return Part(name, size, size, "y = x + the first numbers of what went before", code)
