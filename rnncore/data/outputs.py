"""What belongs to a sequence or to each of its steps: a class, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.data.inputs import mean_and_scale

Array = NDArray[Any]


class Classes:
    """Labels, numbered from 0 in their order.

    Parameters
    ----------
    labels : (K,)
        Distinct and sorted: str, whole numbers, floats or bool.

    Examples
    --------
    >>> outputs = Classes.of(np.array(["no", "yes", "no"]))
    >>> outputs.labels.tolist(), outputs.encode(np.array(["yes"])).tolist()
    (['no', 'yes'], [1])
    """

    def __init__(self, labels: Any) -> None:
        self.labels = np.asarray(labels)
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "biufU":
            raise ValueError(
                "y: expected labels that are str or numbers of one kind, got "
                f"{self.labels.dtype} of shape {self.labels.shape}; Unknown label type"
            )
        if len(np.unique(self.labels)) != len(self.labels):
            raise ValueError("labels: expected distinct ones, got one twice")

    @classmethod
    def of(cls, y: Array) -> Self:
        """Return the classes of labels (N,)."""
        y = as_labels(y)
        if y.dtype.kind == "f" and (not np.isfinite(y).all() or (y != np.trunc(y)).any()):
            raise ValueError(
                "y: expected labels, got numbers that are not whole. Unknown label type: "
                "continuous; a regressor predicts numbers"
            )
        return cls(np.unique(y))

    @property
    def size(self) -> int:
        """Classes."""
        return len(self.labels)

    def encode(self, y: Array) -> NDArray[np.intp]:
        """Return the numbers of labels (N,).

        Raises
        ------
        ValueError
            If one is not known.
        """
        y = as_labels(y)
        places = np.searchsorted(self.labels, y) if _comparable(self.labels, y) else None
        if places is None or (self.labels[np.minimum(places, self.size - 1)] != y).any():
            strange = sorted({str(one) for one in y.tolist()} - set(map(str, self.labels.tolist())))
            raise ValueError(
                f"y: expected the labels {self.labels.tolist()!r:.200}, got "
                f"{', '.join(strange[:5]) or y.dtype}, which the model has never seen"
            )
        return places

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `from_json` reads."""
        return {"dtype": self.labels.dtype.str, "labels": self.labels.tolist()}

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        return cls(np.array(description["labels"], np.dtype(description["dtype"])))


def _comparable(labels: Array, y: Array) -> bool:
    return (labels.dtype.kind == "U") == (y.dtype.kind == "U")


def plain_labels(y: Any) -> Array:
    """Return targets as an array; of str among others as objects, which NumPy makes str."""
    array = np.asarray(y)
    return np.asarray(y, object) if array.dtype.kind == "U" else array


def as_labels(y: Any) -> Array:
    """Return labels (N,) as an array of str or of numbers."""
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"y: expected one label a sequence, (N,), got shape {array.shape}")
    if array.dtype == object:
        if all(isinstance(one, str) for one in array):
            return array.astype(str)
        if all(isinstance(one, int | np.integer) for one in array):
            return array.astype(np.int64)
        kinds = sorted({type(one).__name__ for one in array})
        raise ValueError(
            f"y: expected labels that are all str or all numbers, got {', '.join(kinds)}. Unknown "
            "label type"
        )
    return array


class Values:
    """Numbers to predict, standardised as those that a model has learnt from.

    Parameters
    ----------
    mean, scale : (K,)
    flat
        Whether a sequence's value is a number rather than an array (K,).

    Examples
    --------
    >>> outputs = Values.of(np.array([1.0, 3.0]))
    >>> outputs.encode(np.array([5.0])).tolist(), outputs.decode(np.array([[3.0]])).tolist()
    ([[3.0]], [5.0])
    """

    def __init__(self, mean: Any, scale: Any, flat: bool) -> None:
        self.mean, self.scale = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
        self.flat = bool(flat)
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape or not self.mean.size:
            raise ValueError(f"mean, scale: expected one of each, got {self.mean.shape}")

    @classmethod
    def of(cls, y: Array) -> Self:
        """Return how numbers (N,) or (N, K) are scaled."""
        y = as_values(y)
        return cls(*mean_and_scale(y if y.ndim == 2 else y[:, None]), y.ndim == 1)

    @property
    def size(self) -> int:
        """Numbers of a sequence."""
        return len(self.mean)

    def encode(self, y: Any) -> Array:
        """Return numbers (N,) or (N, K) standardised, (N, K)."""
        y = as_values(y)
        if y.ndim != 2 - self.flat or (y.ndim == 2 and y.shape[1] != self.size):
            expected = "(N,)" if self.flat else f"(N, {self.size})"
            raise ValueError(f"y: expected numbers {expected} as in training, got shape {y.shape}")
        return (y.reshape(-1, self.size) - self.mean) / self.scale

    def decode(self, z: Array) -> Array:
        """Return standardised numbers (N, K) as they are."""
        values: Array = z.astype(np.float64) * self.scale + self.mean
        return values[..., 0] if self.flat else values

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `from_json` reads."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "flat": self.flat}

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        return cls(description["mean"], description["scale"], description["flat"])


def as_values(y: Any) -> Array:
    """Return finite numbers (N,) or (N, K) as float64."""
    try:
        array = np.asarray(y).astype(np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"y: expected numbers, got {type(y).__name__} ({error})") from None
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(f"y: expected numbers (N,) or (N, K), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("y: expected finite numbers, got NaN or infinity; leave such examples out")
    return array


Outputs = Classes | Values


def by_step(y: Any, sequences: Sequence[Any]) -> list[Array]:
    """Return targets of the steps of each sequence, as many as it has steps."""
    if len(y) != len(sequences):
        raise ValueError(
            f"y: expected targets of the steps of {len(sequences)} sequences, got {len(y)}"
        )
    found = []
    for number, (targets, sequence) in enumerate(zip(y, sequences, strict=True), 1):
        array = plain_labels(targets)
        if not array.ndim or len(array) != len(sequence):
            raise ValueError(
                f"y: expected {len(sequence)} targets for sequence {number}, one a step, got shape "
                f"{array.shape}; for one a sequence choose another pooling than 'none'"
            )
        found.append(array)
    return found
