"""Parts of arrays, arrays put together, in another shape, or taken by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.arguments import as_array
from rnncore.engine import kernels
from rnncore.engine.rows import Rows
from rnncore.layers.broadcast import like, numbers, plain
from rnncore.layers.form import batch_of
from rnncore.layers.tape import is_wanted, raw, tape_of


def concatenate(parts: Sequence[Any], axis: int = -1) -> Any:
    """Return several arrays one after another along an axis; rows of one batch, their features.

    Examples
    --------
    >>> concatenate([np.zeros((2, 1)), np.ones((2, 2))]).shape
    (2, 3)
    """
    arrays = [raw(part) for part in parts]
    if not arrays:
        raise ValueError("parts: expected at least one array, got none")
    rows = [array for array in arrays if isinstance(array, Rows)]
    if rows and (
        len(rows) < len(arrays) or axis not in (-1, 1)
        or not all(one.is_of(rows[0].batch) for one in rows)
    ):  # fmt: skip
        raise ValueError("parts: expected arrays alone, or rows of one batch along their features")
    array = np.concatenate([numbers(array) for array in arrays], axis)
    result, tape = like(array, arrays[0]), tape_of(*parts)
    if tape is None:
        return result
    ends = np.cumsum([numbers(one).shape[axis] for one in arrays])[:-1]

    def back(d: Any) -> tuple[Any, ...]:
        pieces = np.split(numbers(d), ends, axis)
        return tuple(
            like(piece, one) if is_wanted(part) else None
            for piece, one, part in zip(pieces, arrays, parts, strict=True)
        )

    return tape.record(result, tuple(parts), back)


def columns(x: Any, first: int, last: int) -> Any:
    """Return the features first to last - 1 of an array or of rows.

    Examples
    --------
    >>> columns(np.arange(6).reshape(2, 3), 1, 3).tolist()
    [[1, 2], [4, 5]]
    """
    array, tape = raw(x), tape_of(x)
    whole = numbers(array)
    if not 0 <= first <= last <= whole.shape[-1]:
        raise ValueError(
            f"first, last: expected 0 <= first <= last <= {whole.shape[-1]}, got {first}, {last}"
        )
    result = like(np.array(whole[..., first:last]), array)
    if tape is None:
        return result

    def back(d: Any) -> tuple[Any]:
        dx = np.zeros(whole.shape, whole.dtype)
        dx[..., first:last] = numbers(d)
        return (like(dx, array),)

    return tape.record(result, (x,), back)


def stack(parts: Sequence[Any], axis: int = 0) -> Any:
    """Return arrays of one shape along a new axis.

    Examples
    --------
    >>> stack([np.zeros(3), np.ones(3)]).shape
    (2, 3)
    """
    arrays = [plain("parts", raw(part)) for part in parts]
    result, tape = np.stack(arrays, axis), tape_of(*parts)
    if tape is None:
        return result
    return tape.record(result, tuple(parts), lambda d: tuple(np.moveaxis(d, axis, 0)))


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """Return an array in another shape, in C order."""
    array, tape = plain("x", raw(x)), tape_of(x)
    result = np.array(array.reshape(shape))
    if tape is None:
        return result
    return tape.record(result, (x,), lambda d: (np.reshape(d, array.shape),))


def transpose(x: Any, axes: Sequence[int]) -> Any:
    """Return an array with its axes in another order."""
    array, tape = plain("x", raw(x)), tape_of(x)
    result = np.ascontiguousarray(array.transpose(axes))
    if tape is None:
        return result
    back = np.argsort(axes)
    return tape.record(result, (x,), lambda d: (np.ascontiguousarray(d.transpose(back)),))


def gather(x: Any, index: Any, lengths: Any = None) -> Any:
    """Return the vectors x[index] of a table x (N, features); what is taken twice adds up.

    Parameters
    ----------
    index
        Integers (...), from 0 to N - 1. Or (T, B) with lengths, of which padding does not count:
        then the result is rows.

    Examples
    --------
    >>> gather(np.array([[1.0], [2.0]]), [1, 1, 0]).ravel().tolist()
    [2.0, 2.0, 1.0]
    """
    table, tape = plain("x", raw(x)), tape_of(x)
    places = as_array("index", index)
    if places.dtype.kind not in "iu" or np.ndim(table) != 2:
        raise TypeError(
            f"x, index: expected a table (N, features) and integers, got shape {np.shape(table)} "
            f"and dtype {places.dtype}"
        )
    batch = None
    if lengths is not None:
        if places.ndim != 2:
            raise ValueError(f"index: expected (T, B) beside lengths, got shape {places.shape}")
        batch = batch_of(places.shape[0], places.shape[1], lengths)
        places = batch.tokens(np.ascontiguousarray(places, np.intp))
    if places.size and not 0 <= places.min() <= places.max() < len(table):
        raise ValueError(
            f"index: expected integers from 0 to {len(table) - 1}, got "
            f"{places.min()} to {places.max()}"
        )
    result: Any = table[places]
    if batch is not None:
        result = Rows.of(result, batch=batch)
    if tape is None:
        return result
    places = np.array(places, np.intp).reshape(-1)

    def back(d: Any) -> tuple[Any]:
        dx = np.zeros(table.shape, table.dtype)
        add_rows(dx, places, np.asarray(numbers(d)).reshape(-1, table.shape[1]))
        return (dx,)

    return tape.record(result, (x,), back)


def add_rows(out: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
    """Add rows (n, features) to those of `out` at some places (n,), one after another."""
    rows = np.ascontiguousarray(rows, out.dtype)
    kernels(out.dtype).add_rows(out.reshape(-1), places, rows.reshape(-1), out.shape[1])
