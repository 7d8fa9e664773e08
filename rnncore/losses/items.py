"""What all losses share: predictions as arrays or rows, targets and weights beside them, sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import DTYPES, as_array, is_number
from rnncore.engine.rows import Rows
from rnncore.losses.loss import Loss

Double = NDArray[np.float64]

#: Predictions and targets without those that do not count -> losses, gradients of each prediction.
Items = Callable[..., tuple[Double, tuple[Double, ...]]]


def check_reduction(reduction: object) -> bool:
    """Return whether it is the mean."""
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        raise ValueError(
            f"reduction: expected 'mean' or 'sum', got {reduction!r}; give one of these"
        )
    return reduction == "mean"


def check_positive(name: str, value: Any) -> float:
    """Return a finite number above 0."""
    if not is_number(value) or not 0 < value < np.inf:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}; give such a number")
    return float(value)


class Predictions:
    """Predictions as an array, whether they came as one or as `Rows`.

    Attributes
    ----------
    shape
        As the targets lie beside them: of the array, or (T, B, V).
    array
        Rows (n, V), a view where that is possible; an array as it came.
    """

    def __init__(self, name: str, x: Any) -> None:
        self.name = name
        self.given: Rows | None = None
        self.place: np.ndarray | None = None
        if isinstance(x, Rows):
            if x.batch is None or x.placed:
                raise ValueError(
                    f"{name}: expected rows of a batch, as Linear returns them, got others; give "
                    "an array"
                )
            self.given, self.place = x, x.batch.place_of_row
            self.shape: tuple[int, ...] = (x.batch.steps, x.batch.batch, x.features)
            self.array = x.array()
        else:
            x = as_array(name, x)
            self.shape, self.array = x.shape, x
        # the same dtype in another byte order equals neither
        self.dtype = self.array.dtype.newbyteorder("=")
        if self.dtype not in DTYPES:
            raise TypeError(
                f"{name}: expected float32 or float64, got {self.array.dtype}; convert with "
                ".astype(np.float32)"
            )

    def check_like(self, first: Predictions) -> None:
        """Refuse predictions that are no second ones of the same items."""
        if (self.given is None) != (first.given is None):
            raise TypeError(
                f"{self.name}: expected {first.kind} like {first.name}, got {self.kind}; give both "
                "in the same form"
            )
        alike = self.shape == first.shape and self.dtype == first.dtype
        if self.given is not None and first.given is not None and self.given.batch is not None:
            alike = alike and self.given.batch.is_like(first.given.batch)
        if not alike:
            raise ValueError(
                f"{self.name}: expected the shape, dtype and batch of {first.name}, {first.dtype} "
                f"{first.shape}, got {self.dtype} {self.shape}; give one of each for every item"
            )

    @property
    def kind(self) -> str:
        """How they came."""
        return "rows" if self.given is not None else "an array"

    def beside(self, array: np.ndarray) -> np.ndarray:
        """Return numbers (T, B, ...) beside rows as (n, ...); those beside an array as they are."""
        if self.given is None:
            return array
        flat = array.reshape(self.shape[0] * self.shape[1], *array.shape[2:])
        return flat if self.place is None else flat[self.place]

    def give(self, gradient: np.ndarray) -> Any:
        """Return a gradient of `array` in the form in which the predictions came."""
        if self.given is None:
            return gradient.astype(self.dtype, copy=False).reshape(self.shape)
        rows = self.given
        padded = np.zeros((rows.length, rows.stride), self.dtype)
        if rows.parts == 1:
            padded[:, : rows.depth] = gradient
        else:
            places = padded[:, : rows.parts * rows.part_stride]
            parts = places.reshape(rows.length, rows.parts, rows.part_stride)
            parts[:, :, : rows.depth] = gradient.reshape(rows.length, rows.parts, rows.depth)
            padded[:, : rows.parts * rows.part_stride] = parts.reshape(rows.length, -1)
        return rows.like(padded)


def as_numbers(name: str, values: Any, shape: tuple[int, ...]) -> Double:
    """Return real numbers of this shape in float64."""
    array = as_array(name, values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}; give floats")
    if array.shape != shape:
        raise ValueError(
            f"{name}: expected shape {shape}, got {array.shape}; reshape them, nothing is broadcast"
        )
    return array.astype(np.float64)


def as_weights(weights: Any, shape: tuple[int, ...], x: Predictions | None = None) -> Double:
    """Return weights of items of this shape in float64, those beside x alone; ones if None."""
    if weights is None:
        rows = x.given if x is not None else None
        return np.ones(shape if rows is None else (rows.length, *shape[2:]))
    array = as_array("weights", weights)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"weights: expected numbers or True and False, got {array.dtype}; give a mask or "
            "weights"
        )
    try:
        array = np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"weights: expected what broadcasts to {shape}, got {array.shape}; add axes of length "
            "1, for example weights[..., None]"
        ) from None
    array = (array if x is None else x.beside(array)).astype(np.float64)
    wrong = ~((array >= 0) & (array < np.inf))
    if wrong.any():
        raise ValueError(
            f"weights: expected finite numbers of 0 or more, got {array[wrong].flat[0]}; give 0 to "
            "what does not count"
        )
    return array


def reduced(losses: Double, weights: Double, mean: bool) -> tuple[float, float, Double]:
    """Return total, weight, and what the gradient of each item is multiplied by.

    Losses are 0 where weights are.
    """
    total, weight = float(np.sum(weights * losses)), float(np.sum(weights))
    return total, weight, weights / weight if mean and weight else weights


def loss_of_items(
    function: Items,
    x: Predictions | tuple[Predictions, ...],
    targets: Any,
    weights: Any,
    reduction: str,
    per_row: bool = False,
    check: Callable[..., None] | None = None,
) -> Loss:
    """Return the loss of items by themselves: each number of x, or `per_row` each last axis.

    Numbers under a weight of 0 are replaced by ones: nobody sees them.
    """
    mean = check_reduction(reduction)
    several = x if isinstance(x, tuple) else (x,)
    first = several[0]
    shape = first.shape[:-1] if per_row else first.shape
    numbers = first.beside(as_numbers("targets", targets, shape))
    factors = as_weights(weights, shape, first)
    hidden = factors == 0
    given = [part.array.astype(np.float64) for part in several]
    if hidden.any():
        for array in (numbers, *given):
            array[hidden] = 1
    if check is not None:
        check(numbers, *given)
    losses, gradients = function(numbers, *given)
    total, weight, scale = reduced(losses, factors, mean)
    if per_row:
        scale = scale[..., None]
    # a weight of 0 beside an infinite slope
    slopes = tuple(
        part.give(np.multiply(scale, slope, out=np.zeros(slope.shape), where=scale != 0))
        for part, slope in zip(several, gradients, strict=True)
    )
    return Loss(total, weight, slopes if isinstance(x, tuple) else slopes[0])
