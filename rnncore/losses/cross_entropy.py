"""Cross-entropy of classes, with weights, smoothed labels and targets to ignore."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.arguments import as_array, is_number
from rnncore.engine import kernels
from rnncore.engine.threads import team_size
from rnncore.losses.items import Double, Predictions, as_weights, check_reduction
from rnncore.losses.loss import Loss
from rnncore.losses.recorded import recorded

SIZE = 1 << 15  # numbers in float64 at a time, which stay in a cache


@recorded("x")
def cross_entropy(
    x: Any,
    targets: Any,
    *,
    weights: Any = None,
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Loss:
    """Cross-entropy of the softmax of x, in nats, and its gradient.

    With ``p = softmax(x)``, class weights w and smoothing s, the loss of a row with target y is
    ``-(1 - s) w_y log p_y - s / V sum_k w_k log p_k``, and its gradient
    ``((1 - s) w_y + s / V sum_k w_k) p - (1 - s) w_y one_hot(y) - s / V w``. As in PyTorch the
    weight of a row is w_y, times its own weight, so the mean divides by their sum.

    Parameters
    ----------
    x
        (..., V) logits, float32 or float64; or rows of a batch.
    targets
        (...) integers from 0 to V - 1; for rows (T, B), of which padding does not count.
    weights
        A mask, or numbers of 0 or more, that broadcast to the shape of targets. What weighs 0
        counts for nothing, even a NaN or a target that is no class.
    class_weights
        (V,) numbers of 0 or more; None: 1.
    label_smoothing
        From 0 to 1: how much of a target is spread over all classes.
    ignore_index
        Rows with this target count for nothing.
    reduction
        "mean": the gradient is that of total / weight; "sum": that of total.

    Returns
    -------
    Loss
        Total, weight, and the gradient in x's dtype and form.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, a target is no class, or a weight is negative.

    References
    ----------
    Smoothing: C. Szegedy et al., Rethinking the inception architecture, CVPR 2016, section 7.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss = rnncore.cross_entropy(np.zeros((2, 4)), [2, -100])
    >>> round(loss.mean, 6), loss.weight, loss.gradient[0].tolist()
    (1.386294, 1.0, [0.25, 0.25, -0.75, 0.25])
    """
    mean = check_reduction(reduction)
    smoothing = _check_smoothing(label_smoothing)
    if not isinstance(ignore_index, int | np.integer):
        raise TypeError(
            f"ignore_index: expected an integer, got {ignore_index!r}; give what marks such targets"
        )
    predictions = Predictions("x", x)
    if not predictions.shape or predictions.shape[-1] == 0:
        raise ValueError(
            f"x: expected (..., V) with V of 1 or more, got {predictions.shape}; give a last axis "
            "of classes"
        )
    shape, classes = predictions.shape[:-1], predictions.shape[-1]
    if class_weights is not None:
        class_weights = _check_class_weights(class_weights, classes)
    own = as_weights(weights, shape, predictions).reshape(-1)
    rows = predictions.beside(_as_labels(targets, shape)).reshape(-1)
    counts = (own != 0) & (rows != ignore_index)
    rows = _classes_of(rows, counts, classes, ignore_index)
    factors = np.where(counts, own, 0)
    of_class = np.ones(classes) if class_weights is None else class_weights
    of_target = np.where(counts, of_class[rows], 0)
    total_weight = float(np.sum(factors * of_target))
    scale = (1 / total_weight if total_weight else 0.0) if mean else 1.0
    if not smoothing:
        rows[of_target == 0] = -1  # the kernel leaves such rows out
    plain = weights is None and class_weights is None and not smoothing
    losses, gradient = _softmax(predictions, rows, scale if plain else 1.0)
    if smoothing:
        losses = _smooth(predictions, gradient, rows, losses, of_class, of_target, smoothing)
    elif not plain:
        losses *= of_target
    if not plain:
        each = factors * scale if smoothing else factors * of_target * scale
        gradient *= each[:, None].astype(gradient.dtype)
    total = float(np.sum(factors * losses))
    return Loss(total, total_weight, _give(predictions, gradient))


def _softmax(x: Predictions, targets: np.ndarray, weight: float) -> tuple[Double, np.ndarray]:
    # Losses, and weight times the gradient (rows, V or more) of each.
    given, classes = x.given, x.shape[-1]
    if given is not None and given.parts == 1:
        logits, stride = given.padded(), given.stride
        gradient = np.zeros(logits.shape, x.dtype)
    else:
        logits = np.require(x.array, x.dtype, ["C", "A"])
        gradient, stride = np.empty((targets.size, classes), x.dtype), classes
    losses = np.empty(targets.size)
    kernels(x.dtype).softmax_cross_entropy(
        gradient.reshape(-1), losses, logits.reshape(-1), targets, classes, stride, stride, weight,
        team_size(),
    )  # fmt: skip
    return losses, gradient


def _smooth(
    x: Predictions, gradient: np.ndarray, targets: np.ndarray, losses: Double, of_class: Double,
    of_target: Double, smoothing: float,
) -> Double:  # fmt: skip
    # -log p_k = loss + x_y - x_k, and p = gradient + one_hot(y); both of rows that count. The
    # matrices are as large as x and stay in its dtype: sums alone are float64.
    classes, all_weights = x.shape[-1], float(of_class.sum())
    share, rest = smoothing / classes, 1 - smoothing
    counts = np.flatnonzero(targets >= 0)
    y = targets[counts]
    slope = gradient[:, :classes]
    slope *= (rest * of_target + share * all_weights)[:, None].astype(slope.dtype)
    slope[counts, y] += share * all_weights
    slope -= (share * of_class).astype(slope.dtype)
    smoothed = np.zeros_like(losses)
    logits = x.array.reshape(targets.size, classes)
    step = max(1, SIZE // classes)
    for first in range(0, len(counts), step):
        rows, of_rows = counts[first : first + step], y[first : first + step]
        part = logits[rows].astype(np.float64)
        gap = part[np.arange(len(rows)), of_rows][:, None] - part
        spread = all_weights * losses[rows] + np.einsum("rk,k->r", gap, of_class)
        smoothed[rows] = rest * of_target[rows] * losses[rows] + share * spread
    return smoothed


def _give(x: Predictions, gradient: np.ndarray) -> Any:
    if x.given is not None and x.given.parts == 1:
        return x.given.like(gradient)
    return x.give(gradient)


def _as_labels(targets: Any, shape: tuple[int, ...]) -> np.ndarray:
    labels = as_array("targets", targets)
    if labels.dtype.kind not in "iu" and labels.size:
        raise TypeError(
            f"targets: expected integers, got {labels.dtype}; give the number of each class"
        )
    if labels.shape != shape:
        raise ValueError(
            f"targets: expected the shape of x without its last axis, {shape}, got {labels.shape}; "
            "give one class a row"
        )
    if labels.dtype.kind == "u":  # the largest would become negative
        labels = np.minimum(labels, np.iinfo(np.intp).max)
    return labels.astype(np.intp)


def _classes_of(
    targets: np.ndarray, counts: np.ndarray, classes: int, ignore_index: int
) -> np.ndarray:
    # A contiguous copy, -1 where a row does not count.
    wrong = counts & ((targets < 0) | (targets >= classes))
    if wrong.any():
        raise ValueError(
            f"targets: expected integers from 0 to {classes - 1}, or ignore_index={ignore_index}, "
            f"got {targets[wrong][0]}; correct it, or give it as ignore_index"
        )
    return np.where(counts, targets, -1)


def _check_class_weights(class_weights: Any, classes: int) -> Double:
    array = as_array("class_weights", class_weights)
    if array.dtype.kind not in "fiub" or array.shape != (classes,):
        raise ValueError(
            f"class_weights: expected ({classes},) numbers, one a class, got {array.dtype} "
            f"{array.shape}; give one for each"
        )
    if not ((array >= 0) & (array < np.inf)).all():
        raise ValueError(
            f"class_weights: expected finite numbers of 0 or more, got {class_weights!r}; give 0 "
            "to a class that does not count"
        )
    return array.astype(np.float64)


def _check_smoothing(smoothing: Any) -> float:
    if not is_number(smoothing) or not 0 <= smoothing <= 1:
        raise ValueError(
            f"label_smoothing: expected a number from 0 to 1, got {smoothing!r}; 0 leaves labels "
            "as they are"
        )
    return float(smoothing)
