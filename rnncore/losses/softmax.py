"""Softmax cross-entropy where a negative target does not count, in place if asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.arguments import DTYPES, as_array
from rnncore.engine import kernels
from rnncore.engine.rows import Rows
from rnncore.engine.threads import team_size


def as_targets(targets: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return targets of this shape as a copy of intp."""
    targets = as_array("targets", targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets: expected integers, got {targets.dtype}")
    if targets.shape != shape:
        raise ValueError(
            f"targets: expected the shape of logits without its last axis, {shape}, got "
            f"{targets.shape}"
        )
    if targets.dtype.kind == "u" and targets.size and targets.max() > np.iinfo(np.intp).max:
        raise ValueError(f"targets: expected integers below V, got {targets.max()}")
    return np.array(targets, np.intp, order="C")


def in_range(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return targets as (rows,), all below `classes`."""
    if targets.size and targets.max() >= classes:
        raise ValueError(f"targets: expected integers below {classes}, got {targets.max()}")
    return targets.reshape(-1)


def softmax_cross_entropy(
    logits: Any, targets: Any, out: Any = None
) -> tuple[float, Any]:
    """Mean cross-entropy of the softmax of logits, in nats, and its gradient.

    With p = softmax(l), the loss of a row is `-log p[target]` and `dloss/dl = p - one_hot(target)`,
    divided by the number of rows that count. Rows with a negative target do not.

    Parameters
    ----------
    logits
        (..., V), float32 or float64; or rows of a batch.
    targets
        (...) integers below V; for rows (T, B), of which padding does not count.
    out
        Array for the gradient, of the shape and dtype of logits and contiguous, or rows like them;
        made if None. It may be logits itself.

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
    if isinstance(logits, Rows):
        return _of_rows(logits, targets, out)
    logits = as_array("logits", logits)
    if logits.dtype not in DTYPES:
        raise TypeError(f"logits: expected float32 or float64, got {logits.dtype}")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits: expected (..., V) with V of 1 or more, got {logits.shape}")
    classes = logits.shape[-1]
    targets = in_range(as_targets(targets, logits.shape[:-1]), classes)
    if out is None:
        out = np.empty(logits.shape, logits.dtype)
    elif (
        not isinstance(out, np.ndarray) or out.shape != logits.shape or out.dtype != logits.dtype
        or not out.flags.carray
    ):  # fmt: skip
        came = type(out).__name__
        if isinstance(out, np.ndarray):
            came = f"{'' if out.flags.writeable else 'read-only '}{out.dtype} {out.shape}"
        raise ValueError(
            f"out: expected a contiguous, writable {logits.dtype} array {logits.shape}, got "
            f"{came}; leave it out to have one made"
        )
    rows = np.require(logits, logits.dtype.newbyteorder("="), ["C", "A"]).reshape(-1)
    return _run(out.reshape(-1), classes, rows, classes, targets, classes), out


def _of_rows(logits: Rows, targets: Any, out: Rows | None) -> tuple[float, Rows]:
    targets = _targets_of_rows(logits, targets)
    if out is None:
        out = logits.like(np.zeros((logits.length, logits.stride), logits.dtype))
    elif (
        not isinstance(out, Rows) or out.dtype != logits.dtype or out[1:8] != logits[1:8]
        or not out.is_of(logits.batch)
    ):  # fmt: skip
        raise ValueError("out: expected rows like those of logits, got others; leave it out")
    elif not logits.spare and np.may_share_memory(out.flat, logits.flat):
        raise ValueError(
            "out: expected rows that no backward reads, as Linear returns them, got the output of "
            "another layer; leave it out"
        )
    loss = _run(
        out.padded().reshape(-1), out.stride, logits.padded().reshape(-1), logits.stride, targets,
        logits.depth,
    )  # fmt: skip
    return loss, out


def _targets_of_rows(logits: Rows, targets: Any) -> np.ndarray:
    batch = logits.batch
    if batch is None or logits.parts != 1 or logits.placed:
        raise ValueError("logits: expected rows of a batch, as Linear returns them, got others")
    # Targets of padding do not count, whatever they are.
    rows = batch.tokens(as_targets(targets, (batch.steps, batch.batch)))
    return in_range(rows, logits.depth)


def cross_entropy_sum(logits: Rows, targets: Any) -> tuple[float, int]:
    """Return the sum of the losses of rows and how many count; logits are overwritten."""
    rows = _targets_of_rows(logits, targets)
    losses = _losses_of_rows(logits, rows)
    return float(np.sum(losses)), int(np.count_nonzero(rows >= 0))


def cross_entropy_each(logits: Rows, targets: Any) -> np.ndarray:
    """Return the loss of each row, (T, B) float64, 0 of padding; logits are overwritten."""
    losses, batch = _losses_of_rows(logits, _targets_of_rows(logits, targets)), logits.batch
    assert batch is not None
    found = np.zeros(batch.steps * batch.batch)
    found[slice(None) if batch.place_of_row is None else batch.place_of_row] = losses
    return found.reshape(batch.steps, batch.batch)


def _losses_of_rows(logits: Rows, targets: np.ndarray) -> np.ndarray:
    flat = logits.padded().reshape(-1)
    return _losses(flat, logits.stride, flat, logits.stride, targets, logits.depth, 1)


def _run(
    dlogits: np.ndarray, dstride: int, logits: np.ndarray, stride: int, targets: np.ndarray,
    classes: int,
) -> float:  # fmt: skip
    # The mean loss over rows that count; logits may be dlogits itself.
    counted = max(1, int(np.count_nonzero(targets >= 0)))
    losses = _losses(dlogits, dstride, logits, stride, targets, classes, counted)
    return float(np.sum(losses)) / counted


def _losses(
    dlogits: np.ndarray, dstride: int, logits: np.ndarray, stride: int, targets: np.ndarray,
    classes: int, counted: int,
) -> np.ndarray:  # fmt: skip
    losses = np.empty(targets.size, np.float64)
    kernels(dlogits.dtype).softmax_cross_entropy(
        dlogits, losses, logits, targets, classes, stride, dstride, 1 / counted, team_size()
    )
    return losses
