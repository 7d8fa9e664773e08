"""Functions of arrays that a tape records: what stands between layers.

Each takes arrays, `rnncore.Rows` or values of a tape. It returns an array or rows, and a value
where one of its arguments is a value. dL/dx is the derivative of the loss by x, y the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnncore.arguments import as_array
from rnncore.engine import kernels
from rnncore.engine.batch import Batch
from rnncore.engine.rows import Rows
from rnncore.layers.form import check_lengths
from rnncore.layers.tape import (
    add,
    is_wanted,
    like,
    multiply,
    numbers,
    raw,
    recording,
    sum_to,
    take,
    tape_of,
)

__all__ = [
    "add", "columns", "concatenate", "dropout", "einsum", "gather", "matmul", "max_over_time",
    "mean", "mean_over_time", "multiply", "pack", "relu", "reshape", "sigmoid", "softmax", "stack",
    "sum", "take", "tanh", "transpose", "unpack",
]  # fmt: skip


def _elementwise(x: Any, y: Any, derivative: Callable[[Any], Any]) -> Any:
    # y and dy/dx are arrays of the numbers of x.
    array, tape = raw(x), tape_of(x)
    result = like(y, array)
    if tape is None:
        return result
    return tape.record(result, (x,), lambda d: (like(numbers(d) * derivative(y), array),))


def tanh(x: Any) -> Any:
    """Return tanh(x), element by element; dL/dx = dL/dy (1 - y^2).

    Examples
    --------
    >>> tanh(np.array([0.0, 100.0])).tolist()
    [0.0, 1.0]
    """
    return _elementwise(x, np.tanh(numbers(raw(x))), lambda y: 1 - y * y)


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), element by element; dL/dx = dL/dy y (1 - y).

    Examples
    --------
    >>> sigmoid(np.array([0.0, 1000.0, -1000.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    array = np.asarray(numbers(raw(x)))
    return _elementwise(x, np.tanh(array * 0.5) * 0.5 + 0.5, lambda y: y * (1 - y))


def relu(x: Any) -> Any:
    """Return max(x, 0), element by element; dL/dx = dL/dy where x > 0, else 0.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _elementwise(x, np.maximum(numbers(raw(x)), 0), lambda y: y > 0)


def dropout(x: Any, p: float, generator: np.random.Generator) -> Any:
    """Return x with numbers zeroed with probability p and the others divided by 1 - p.

    While no tape is open on this thread, x itself (Srivastava et al., 2014). `rnncore.Dropout` is
    the same as a module with a generator of its own.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p: expected a number from 0 to below 1, got {p!r}")
    if recording() is None or p == 0:
        return x
    array = numbers(raw(x))
    kept = generator.random(array.shape, np.float32) >= p
    mask = kept * array.dtype.type(1 / (1 - p))
    return _elementwise(x, array * mask, lambda y: mask)


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
        or any(one.batch is None or not one.batch.is_like(rows[0].batch) for one in rows)
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
    arrays = [numbers(raw(part)) for part in parts]
    result, tape = np.stack(arrays, axis), tape_of(*parts)
    if tape is None:
        return result
    return tape.record(result, tuple(parts), lambda d: tuple(np.moveaxis(d, axis, 0)))


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """Return an array in another shape, in C order."""
    array, tape = raw(x), tape_of(x)
    result = np.array(array.reshape(shape))
    if tape is None:
        return result
    return tape.record(result, (x,), lambda d: (np.reshape(d, array.shape),))


def transpose(x: Any, axes: Sequence[int]) -> Any:
    """Return an array with its axes in another order."""
    array, tape = raw(x), tape_of(x)
    result = np.ascontiguousarray(array.transpose(axes))
    if tape is None:
        return result
    back = np.argsort(axes)
    return tape.record(result, (x,), lambda d: (np.ascontiguousarray(d.transpose(back)),))


def sum(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the sum over some axes of an array, or over all of it.

    Examples
    --------
    >>> float(sum(np.ones((2, 3))))
    6.0
    """
    array, tape = numbers(raw(x)), tape_of(x)
    result = np.sum(array, axis)
    if tape is None:
        return result

    def back(d: Any) -> tuple[Any]:
        if axis is not None:
            d = np.expand_dims(d, axis)
        dx = np.broadcast_to(np.asarray(d, array.dtype), array.shape)
        return (like(dx, raw(x)),)

    return tape.record(result, (x,), back)


def mean(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the mean over some axes of an array, or over all of it.

    Examples
    --------
    >>> float(mean(np.arange(4.0)))
    1.5
    """
    array = numbers(raw(x))
    total = sum(x, axis)
    count = array.size // max(1, np.size(raw(total)))
    return multiply(total, 1.0 / max(1, count))


def matmul(a: Any, b: Any) -> Any:
    """Return the matrix product a b over the last two axes, the others broadcast.

    dL/da = dL/dy b^T and dL/db = a^T dL/dy.

    Examples
    --------
    >>> matmul(np.ones((5, 2, 3)), np.ones((3, 4))).shape
    (5, 2, 4)
    """
    x, y = raw(a), raw(b)
    if np.ndim(x) < 2 or np.ndim(y) < 2:
        raise ValueError(
            f"a, b: expected arrays of two axes at least, got shapes {np.shape(x)}, {np.shape(y)}"
        )
    result, tape = np.matmul(x, y), tape_of(a, b)
    if tape is None:
        return result

    def back(d: Any) -> tuple[Any, Any]:
        da = sum_to(np.matmul(d, np.swapaxes(y, -1, -2)), x) if is_wanted(a) else None
        db = sum_to(np.matmul(np.swapaxes(x, -1, -2), d), y) if is_wanted(b) else None
        return da, db

    return tape.record(result, (a, b), back)


def einsum(subscripts: str, *operands: Any) -> Any:
    """Return a sum of products in Einstein's notation, such as ``"bh,tbh->bt"`` for attention.

    The derivative by an operand is the sum of products of dL/dy and the other operands, over
    the indices that the operand has not.

    Parameters
    ----------
    subscripts
        As in `numpy.einsum`, with the result named after ``->``; letters alone, and no letter
        twice in an operand.

    Examples
    --------
    >>> einsum("bh,tbh->bt", np.ones((2, 3)), np.ones((5, 2, 3))).tolist()[0]
    [3.0, 3.0, 3.0, 3.0, 3.0]
    """
    given, arrow, out = subscripts.replace(" ", "").partition("->")
    names = given.split(",")
    letters = all(name.isalpha() or not name for name in (*names, out))
    if not arrow or not letters or any(len(set(name)) < len(name) for name in (*names, out)):
        raise ValueError(
            "subscripts: expected letters for every operand and, after '->', for the result, none "
            f"twice in one, got {subscripts!r}"
        )
    arrays = [np.asarray(raw(operand)) for operand in operands]
    result, tape = np.einsum(subscripts, *arrays, optimize=len(arrays) > 1), tape_of(*operands)
    if tape is None:
        return result
    sizes = {
        letter: size
        for name, array in zip(names, arrays, strict=True)
        for letter, size in zip(name, array.shape, strict=True)
    }

    def derivative(k: int, d: Any) -> Any:
        others = [j for j in range(len(arrays)) if j != k]
        there = set(out).union(*(names[j] for j in others))
        alone = "".join(letter for letter in names[k] if letter not in there)
        # Over what stands in this operand alone the derivative is constant.
        ones = np.ones([sizes[letter] for letter in alone], arrays[k].dtype)
        terms = ",".join([out, *(names[j] for j in others), alone]) + "->" + names[k]
        return np.einsum(terms, d, *(arrays[j] for j in others), ones, optimize=True)

    def back(d: Any) -> tuple[Any, ...]:
        return tuple(
            derivative(k, d) if is_wanted(operand) else None for k, operand in enumerate(operands)
        )

    return tape.record(result, operands, back)


def softmax(x: Any, mask: Any = None, axis: int = -1) -> Any:
    """Return exp(x) / sum(exp(x)) along an axis, of what a mask leaves; 0 elsewhere.

    dL/dx = y (dL/dy - sum(dL/dy y)). Where the mask leaves nothing, everything is 0.

    Parameters
    ----------
    mask
        Booleans that broadcast over x; True counts.

    Examples
    --------
    >>> softmax(np.zeros(4), np.array([True, True, False, False])).tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    array, tape = np.asarray(raw(x)), tape_of(x)
    kept: Any = True
    if mask is not None:
        kept = as_array("mask", mask)
        if kept.dtype != bool:
            raise TypeError(f"mask: expected booleans, True for what counts, got {kept.dtype}")
    lowest = np.finfo(array.dtype).min
    largest = np.max(np.where(kept, array, lowest), axis, keepdims=True)
    exps = np.where(kept, np.exp(np.where(kept, array - largest, 0)), 0)
    y = exps / np.maximum(exps.sum(axis, keepdims=True), np.finfo(array.dtype).tiny)
    if tape is None:
        return y

    def back(d: Any) -> tuple[Any]:
        return (y * (d - (d * y).sum(axis, keepdims=True)),)

    return tape.record(y, (x,), back)


def pack(x: Any, lengths: Any) -> Any:
    """Return the steps of sequences (T, B, features) as rows, without those beyond their ends.

    Examples
    --------
    >>> rows = pack(np.ones((3, 2, 4)), [3, 1])
    >>> rows.length, rows.features, unpack(rows).sum()
    (4, 4, np.float64(16.0))
    """
    array, tape = raw(x), tape_of(x)
    if np.ndim(array) != 3 or array.dtype.kind != "f":
        raise ValueError(
            f"x: expected floating-point numbers (T, B, features), got shape {np.shape(array)}"
        )
    batch = _batch(array.shape[0], array.shape[1], lengths)
    rows = _packed(np.ascontiguousarray(array), batch)
    return rows if tape is None else tape.record(rows, (x,), lambda d: (d.unpack(),))


def _batch(steps: int, size: int, lengths: Any) -> Batch:
    return Batch.of(steps, size, check_lengths(lengths, steps, size, "time first"))


def _packed(array: np.ndarray, batch: Batch) -> Rows:
    out = np.empty((batch.rows, array.shape[2]), array.dtype)
    if batch.rows:
        batch.gather(out, array)
    return Rows.of(out)._replace(batch=batch)


def unpack(rows: Any) -> Any:
    """Return rows as an array (T, B, features), zero beyond the end of each sequence."""
    array, tape = raw(rows), tape_of(rows)
    if not isinstance(array, Rows):
        raise TypeError(f"rows: expected rows, got {type(array).__name__}")
    result = array.unpack()
    if tape is None:
        return result
    batch = array.batch
    assert batch is not None
    return tape.record(result, (rows,), lambda d: (_packed(np.ascontiguousarray(d), batch),))


def _by_sequence(x: Any, lengths: Any) -> tuple[Any, np.ndarray]:
    # x as (T, B, features), and the length of each sequence.
    array = raw(x)
    if isinstance(array, Rows):
        if lengths is not None:
            raise ValueError("lengths: rows have their own; leave lengths out")
        assert array.batch is not None
        return unpack(x), array.batch.lengths
    if np.ndim(array) != 3:
        raise ValueError(f"x: expected (T, B, features) or rows, got shape {np.shape(array)}")
    steps, batch = array.shape[:2]
    if lengths is None:
        return x, np.full(batch, steps, np.intp)
    return x, check_lengths(lengths, steps, batch, "time first")


def mean_over_time(x: Any, lengths: Any = None) -> Any:
    """Return the mean over the steps of each sequence, (B, features); 0 for one without steps.

    Parameters
    ----------
    x
        (T, B, features), or rows.
    lengths
        The steps of each sequence of an array; None: all have T.

    Examples
    --------
    >>> mean_over_time(np.ones((3, 2, 1)), [3, 1]).tolist()
    [[1.0], [1.0]]
    """
    x, lengths = _by_sequence(x, lengths)
    array = raw(x)
    inside = np.arange(len(array))[:, None] < lengths
    share = (inside / np.maximum(lengths, 1)).astype(array.dtype)
    return einsum("tbf,tb->bf", x, share)


def max_over_time(x: Any, lengths: Any = None) -> Any:
    """Return the largest of the steps of each sequence, (B, features); 0 for one without steps.

    The derivative goes to the first step that has it. Parameters as in `mean_over_time`.

    Examples
    --------
    >>> max_over_time(np.arange(3.0).reshape(3, 1, 1)).tolist()
    [[2.0]]
    """
    x, lengths = _by_sequence(x, lengths)
    array, tape = raw(x), tape_of(x)
    if not len(array):
        return np.zeros(array.shape[1:], array.dtype)
    inside = (np.arange(len(array))[:, None] < lengths)[:, :, None]
    masked = np.where(inside, array, -np.inf)
    step = masked.argmax(0)[None]
    some = (lengths > 0)[:, None]
    result = np.where(some, np.take_along_axis(array, step, 0)[0], 0)
    if tape is None:
        return result

    def back(d: Any) -> tuple[Any]:
        dx = np.zeros(array.shape, array.dtype)
        np.put_along_axis(dx, step, np.where(some, d, 0)[None], 0)
        return (dx,)

    return tape.record(result, (x,), back)


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
    table, tape = raw(x), tape_of(x)
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
        batch = _batch(places.shape[0], places.shape[1], lengths)
        places = batch.tokens(np.ascontiguousarray(places, np.intp))
    if places.size and not 0 <= places.min() <= places.max() < len(table):
        raise ValueError(
            f"index: expected integers from 0 to {len(table) - 1}, got "
            f"{places.min()} to {places.max()}"
        )
    result: Any = table[places]
    if batch is not None:
        result = Rows.of(result)._replace(batch=batch)
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
