"""The proof that ends a conversion: the same inputs through the source's own engine and ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore.convert.errors import ConversionError, reading
from rnncore.convert.saved import in_dtype
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent

#: The most that a result may differ, of the largest number in it or of 1. Gates in the wrong order
#: are off by tenths; a long sequence rounds differently by less than this.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}

SPREAD = 30.0  # so many times what rounding does to ours it may do to both
LOST = 0.01  # of the largest number, from where on a difference grows no further
EPS = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)

Engine = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Proof:
    """How it is known that the converted model computes what its source computes.

    Attributes
    ----------
    against
        The engine or test vectors that it was held against; None: it is unproven.
    difference
        The largest difference, of the largest number in each result or of 1; None: unproven.
    inputs
        How many inputs were tried.
    why
        Why it is unproven.
    """

    against: str | None = None
    difference: float | None = None
    inputs: int = 0
    why: str = ""

    @property
    def proven(self) -> bool:
        """Whether there was something to hold it against."""
        return self.difference is not None

    def __str__(self) -> str:
        if self.difference is None:
            return f"unproven: {self.why}"
        number = f"{self.inputs} input{'s' * (self.inputs > 1)}"
        found = f"largest difference {self.difference:.1e} over {number}"
        return f"proven: {found} against {self.against}"


@dataclass(frozen=True)
class Converted:
    """A converted model, and what is known of it.

    Attributes
    ----------
    model
        A layer, or a `Sequential` of several.
    source
        What it was.
    proof
        Against what it was held, and how far it is off.
    notes
        What the source left open and how it was read, each a sentence.
    """

    model: Any
    source: str
    proof: Proof
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        lines = [f"{self.source} -> {self.model!r}", str(self.proof)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def trial_inputs(
    features: int,
    vocabulary: int,
    batch_first: bool,
    dtype: np.dtype,
    fixed: tuple[int | None, int | None] = (None, None),
) -> Iterator[np.ndarray]:
    """Yield random, long and extreme inputs; token ids where there is a vocabulary.

    `fixed` are steps and sequences where the source takes no other numbers of them.
    """
    rng = np.random.default_rng(0)
    for steps, batch, scale in ((1, 1, 1.0), (12, 3, 1.0), (400, 1, 0.5), (5, 2, 1e4), (5, 1, 0.0)):
        steps, batch = fixed[0] or steps, fixed[1] or batch
        shape = (batch, steps) if batch_first else (steps, batch)
        if vocabulary:
            yield rng.integers(0, vocabulary, shape)
        else:
            yield (scale * rng.standard_normal((*shape, features))).astype(dtype)


def outputs_of(model: Module) -> Engine:
    """Return what gives y, and of a recurrent layer its final states."""

    def outputs(x: np.ndarray) -> list[np.ndarray]:
        result = model(x)
        if not isinstance(model, Recurrent):
            return [result]
        y, state = result
        return [y, *(state if isinstance(state, tuple) else (state,))]

    return outputs


def prove(
    ours: Engine, theirs: Engine, against: str, inputs: Iterator[np.ndarray], model: Module
) -> Proof:
    """Hold one engine against the other.

    A long input may lead a model where it doubles the smallest difference every few steps, as some
    that write text do. What float32 makes of the input and what float64 does are then as far apart,
    and the input says nothing: it does not count.

    Raises
    ------
    ConversionError
        If they differ by more than rounding explains.
    """
    largest, count, bound = 0.0, 0, TOLERANCE["float64"]
    for x in inputs:
        mine = ours(x)
        if any(array.dtype == np.float32 for array in mine):
            bound = TOLERANCE["float32"]
        found = difference(mine, theirs(x), against)
        if not found <= bound and found <= SPREAD * _rounding(model, x, bound):
            continue
        largest = max(largest, found)
        count += 1
    if not count:
        return Proof(why=f"rounding alone leads as far apart as it is from {against}")
    if not largest <= bound:
        raise ConversionError(
            f"proof: expected the numbers of {against}, got a difference of {largest:.2g} where "
            f"{bound:g} is rounding; the source means something else than was read from it"
        )
    return Proof(against, largest, count)


def _rounding(model: Module, x: np.ndarray, bound: float) -> float:
    # How far apart rounding leads, by what float32 and float64 make of it.
    try:
        single, double = (outputs_of(in_dtype(model, kind)) for kind in (np.float32, np.float64))
    except ConversionError:  # a part that has no copy
        return 0.0
    given = x if x.dtype.kind in "iu" else x.astype(np.float32)
    found = difference(single(given), double(given), "float64")
    # Where float32 loses all, how much float64 keeps is not known.
    return found if bound == TOLERANCE["float32"] or found > LOST else found * EPS


def difference(ours: list[np.ndarray], expected: list[np.ndarray], against: str) -> float:
    """Return the largest difference, of the largest number of each array or of 1."""
    largest = 0.0
    for mine, other in zip(ours, expected, strict=True):
        mine, other = np.asarray(mine), np.asarray(other)
        if mine.shape != other.shape:
            raise ConversionError(
                f"proof: expected the shape {other.shape} of {against}, got {mine.shape}"
            )
        if not np.isfinite(other).all():  # where the source overflows there is nothing to compare
            continue
        scale = max(1.0, float(np.abs(other).max(initial=0)))
        gap = float(np.abs(mine.astype(np.float64) - other).max(initial=0)) / scale
        largest = max(largest, gap if np.isfinite(gap) else np.inf)
    return largest


def against_vectors(model: Module, test: Any, why: str = "there are no test vectors") -> Proof:
    """Return the proof by an input and what the source made of it.

    `test` is x and y, or None, for which it is unproven; each is an array or the path of a file,
    whose rows are steps of one sequence where it has no more axes.

    Raises
    ------
    ConversionError
        If the model makes something else of it.
    """
    if test is None:
        return Proof(why=why)
    x, y = (_vectors(name, one, model.dtype) for name, one in zip("xy", test, strict=True))
    with reading("test"):
        result = model(x)
        result = result[0] if isinstance(result, tuple) else result
        found = difference([result], [y], "the test vectors")
    if not found <= 1e-3:
        raise ConversionError(
            f"test: expected what the source computed, got a difference of {found:.2g}; the order "
            "of gates, the layout or the equations are others"
        )
    return Proof("the test vectors", found, 1)


def _vectors(name: str, given: Any, dtype: np.dtype) -> np.ndarray:
    if isinstance(given, str | os.PathLike):
        with reading(f"test: {name}"):
            as_array = os.fspath(given).endswith(".npy")
            given = np.load(given) if as_array else np.loadtxt(given, delimiter=",", ndmin=2)
    array = np.asarray(given, dtype)
    return array if array.ndim == 3 else array.reshape(len(array), 1, -1)
