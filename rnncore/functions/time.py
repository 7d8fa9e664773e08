"""Ragged sequences as rows and back, and what sums a sequence up."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.rows import Rows
from rnncore.functions.products import einsum, sum
from rnncore.layers.broadcast import plain
from rnncore.layers.form import batch_of, check_lengths
from rnncore.layers.tape import raw, tape_of


def pack(x: Any, lengths: Any) -> Any:
    """Return the steps of sequences (T, B, features) as rows, without those beyond their ends.

    Examples
    --------
    >>> rows = pack(np.ones((3, 2, 4)), [3, 1])
    >>> rows.length, rows.features, unpack(rows).sum()
    (4, 4, np.float64(16.0))
    """
    array, tape = plain("x", raw(x)), tape_of(x)
    if np.ndim(array) != 3 or array.dtype.kind != "f":
        raise ValueError(
            f"x: expected floating-point numbers (T, B, features), got shape {np.shape(array)}"
        )
    batch = batch_of(array.shape[0], array.shape[1], lengths)
    rows = packed(np.ascontiguousarray(array), batch)
    return rows if tape is None else tape.record(rows, (x,), lambda d: (d.unpack(),))


def packed(array: np.ndarray, batch: Batch) -> Rows:
    """Return the rows of a batch of an array (steps, batch, features)."""
    out = np.empty((batch.rows, array.shape[2]), array.dtype)
    if batch.rows:
        batch.gather(out, array)
    return Rows.of(out, batch=batch)


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
    return tape.record(result, (rows,), lambda d: (packed(np.ascontiguousarray(d), batch),))


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
        return sum(x, 0)
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
