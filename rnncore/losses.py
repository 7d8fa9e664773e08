"""Losses, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import engine


def cross_entropy_rows(
    logits: np.ndarray, targets: np.ndarray, dlogits: np.ndarray, losses: np.ndarray
) -> float:
    """Fill losses (rows,) and dlogits (rows, classes); logits may be dlogits itself.

    Rows of logits and dlogits may be padded. Returns the mean loss over rows that count.
    """
    counted = int(np.count_nonzero(targets >= 0))
    engine.kernels(dlogits.dtype).softmax_cross_entropy(
        _base(dlogits), losses, _base(logits), targets, logits.shape[1], _stride(logits),
        _stride(dlogits), 1 / max(1, counted), engine.get_num_threads(),
    )  # fmt: skip
    return float(np.sum(losses)) / max(1, counted)


def check_targets(targets: Any, shape: tuple[int, ...], classes: int) -> np.ndarray:
    """Return targets of this shape as intp (rows,), all below `classes`."""
    targets = np.asarray(targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets: expected integers, got {targets.dtype}")
    if targets.shape != shape:
        raise ValueError(
            f"targets: expected the shape of logits without its last axis, {shape}, got "
            f"{targets.shape}"
        )
    if targets.size and targets.max() >= classes:
        raise ValueError(f"targets: expected integers below {classes}, got {targets.max()}")
    return np.ascontiguousarray(targets, np.intp).reshape(-1)


def _stride(rows: np.ndarray) -> int:
    return rows.strides[0] // rows.itemsize


def _base(rows: np.ndarray) -> np.ndarray:
    # The contiguous array that padded rows (count, n) begin in.
    if rows.flags.c_contiguous:
        return rows
    return np.lib.stride_tricks.as_strided(rows, (rows.shape[0], _stride(rows)))


def softmax_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, out: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of the softmax of logits, in nats, and its gradient.

    With p = softmax(l), the loss of a row is `-log p[target]` and `dloss/dl = p - one_hot(target)`,
    divided by the number of rows that count. Rows with a negative target do not.

    Parameters
    ----------
    logits
        (..., V), float32 or float64.
    targets
        (...) integers below V.
    out
        Array for the gradient, of the shape and dtype of logits and contiguous; made if None.

    Returns
    -------
    loss : float
        In nats; divide by log(2) for bits.
    dlogits : ndarray
        (..., V), the gradient of the mean loss.

    Raises
    ------
    TypeError, ValueError
        If dtypes or shapes do not fit, or a target is V or above.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss, dlogits = rnncore.softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 6), dlogits.tolist()
    (1.386294, [[0.25, 0.25, -0.75, 0.25]])
    """
    logits = np.asarray(logits)
    if logits.dtype not in engine.BITS:
        raise TypeError(f"logits: expected float32 or float64, got {logits.dtype}")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits: expected (..., V) with V of 1 or more, got {logits.shape}")
    classes = logits.shape[-1]
    targets = check_targets(targets, logits.shape[:-1], classes)
    if out is None:
        out = np.empty(logits.shape, logits.dtype)
    elif out.shape != logits.shape or out.dtype != logits.dtype or not out.flags.carray:
        raise ValueError(
            f"out: expected a contiguous, writable {logits.dtype} array {logits.shape}, got "
            f"{'' if out.flags.writeable else 'read-only '}{out.dtype} {out.shape}; leave it out "
            "to have one made"
        )
    losses = np.empty(targets.size, np.float64)
    loss = cross_entropy_rows(
        np.ascontiguousarray(logits).reshape(-1, classes),
        targets,
        out.reshape(-1, classes),
        losses,
    )
    return loss, out
