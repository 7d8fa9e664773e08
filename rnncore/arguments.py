"""Checks at the door: what is wrong with an argument, and what to do about it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))  # that the engine computes in


def check_size(name: str, value: object, least: int = 1) -> int:
    """Return `value` as an int of at least `least`, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number, {least} or more, got {value!r}")
    return int(value)


def check_weights(names: str, rows: int, columns: int) -> None:
    """Refuse a weight array (rows, columns) that is too large to index."""
    if rows * columns > np.iinfo(np.int32).max:
        raise ValueError(
            f"{names}: the weights of {rows} x {columns} overflow what one array can hold; choose "
            "smaller sizes"
        )


def check_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype if the engine computes in it."""
    try:
        known = np.dtype(dtype)
    except TypeError:
        known = np.dtype(object)
    if known not in DTYPES:
        raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}")
    return known


def check_flag(name: str, value: object) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_mask(name: str, mask: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of True and False of this shape."""
    array = as_array(name, mask)
    if array.dtype != np.bool_ and array.size:
        raise TypeError(
            f"{name}: expected True and False, got dtype {array.dtype}; compare, as in {name} > 0"
        )
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return array.astype(np.bool_, copy=False)


def check_seed(seed: Any) -> np.random.Generator:
    """Return the generator itself, or one that begins at `seed`; None: anywhere."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ValueError(
            f"seed: expected a whole number, 0 or more, a numpy Generator, or None, got {seed!r}"
        ) from None


def is_number(value: object) -> bool:
    """Whether `value` is a number, True and False not counted."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_probability(name: str, p: Any) -> float:
    """Return p if it is at least 0 and below 1."""
    if not is_number(p) or not 0 <= p < 1:
        raise ValueError(
            f"{name}: dropout probability has to be between 0 and 1 (1 excluded), got {p!r}"
        )
    return float(p)


def check_tokens(name: str, tokens: object, vocabulary: int) -> np.ndarray:
    """Return a copy of token ids as intp, or say which one is out of range.

    A copy, since what was checked must not change before it is used.
    """
    ids = as_array(name, tokens)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer token ids, got {ids.dtype}; use integers")
    # Unsigned numbers above the largest intp stay what they are until they are checked.
    ids = np.array(ids, np.intp if ids.dtype.kind == "i" else np.uintp, order="C")
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        wrong = ids[(ids < 0) | (ids >= vocabulary)].flat[0]
        raise ValueError(
            f"{name}: index out of range: expected token ids from 0 to {vocabulary - 1}, got "
            f"{wrong}; check the vocabulary"
        )
    return ids.astype(np.intp, copy=False)


def as_array(name: str, x: object) -> np.ndarray:
    """Return x as an array, or say that it is none."""
    masked = type(x) is not np.ndarray and isinstance(x, np.ndarray) and hasattr(x, "mask")
    if masked and np.any(x.mask):  # type: ignore[attr-defined]
        raise TypeError(
            f"{name}: expected an array, got a masked one with hidden numbers; fill them with "
            ".filled(...), or give lengths"
        )
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            f"{name}: expected an array, got nested sequences of different lengths; pad them, or "
            "give a list of arrays where the layer takes one"
        ) from None
    except (TypeError, RuntimeError) as error:  # a tensor of a kind that NumPy has not, for example
        raise TypeError(
            f"{name}: expected an array, got {type(x).__name__} that NumPy cannot read ({error}); "
            "of a tensor give .detach().float().numpy()"
        ) from None


def as_real(name: str, x: object, dtype: np.dtype) -> np.ndarray:
    """Return a contiguous array of the dtype; real floating numbers are converted, nothing else.

    Raises
    ------
    TypeError
        If the array is of another kind: integers, booleans, complex numbers, objects, text.
    """
    if type(x) is np.ndarray and x.dtype is dtype:  # most are as they should be
        flags = x.flags
        if flags.c_contiguous and flags.aligned:
            return x
    array = as_array(name, x)
    if array.dtype.kind != "f":
        thing = array.dtype.kind == "O" and not isinstance(x, np.ndarray)
        came = type(x).__name__ if thing else f"dtype {array.dtype}"
        raise TypeError(
            f"{name}: expected floating-point numbers, got {came}; convert with .astype(np.{dtype})"
        )
    array = np.asarray(array, dtype, order="C")
    return array if array.flags.aligned else array.copy()
