"""Arrays and rows as operands of one function."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.engine.rows import Rows


def numbers(array: Any) -> Any:
    """Return rows as an array (rows, features); anything else as it is."""
    return array.array() if isinstance(array, Rows) else array


def plain(name: str, array: Any) -> Any:
    """Return an array as it is; refuse rows, which have no axis of time."""
    if isinstance(array, Rows):
        raise TypeError(
            f"{name}: expected an array, got rows; unpack() makes one (T, B, features)"
        )
    return array


def like(array: Any, model: Any) -> Any:
    """Return an array (rows, features) as rows of the batch of a model, if that is rows."""
    if not isinstance(model, Rows):
        return array
    return Rows.of(np.ascontiguousarray(array), batch=model.batch)


def sum_to(gradient: Any, model: Any) -> Any:
    """Sum a gradient over the axes that an operand was broadcast along."""
    if isinstance(model, Rows):
        return gradient
    array, shape = numbers(gradient), np.shape(model)
    if np.shape(array) == shape:
        return array
    array = np.asarray(array)
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    kept = tuple(k for k, size in enumerate(shape) if size == 1 and array.shape[k] > 1)
    return array.sum(axis=kept, keepdims=True) if kept else array


def common_rows(*operands: Any) -> Any:
    """Return the rows that elementwise results are like, or None; refuse several batches."""
    rows = [one for one in operands if isinstance(one, Rows)]
    if not rows:
        return None
    for one in rows:
        if not one.is_of(rows[0].batch):
            raise ValueError("expected rows of one batch, got those of several, or of none")
    for one in operands:
        if not isinstance(one, Rows) and np.ndim(one) > 1:
            raise ValueError(
                f"expected rows, a number or an array (features,) beside rows, got shape "
                f"{np.shape(one)}; pack() it first"
            )
    return rows[0]
