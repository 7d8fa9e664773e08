"""Losses of numbers: squared, absolute, and Huber's between the two."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.losses.items import Double, Predictions, check_positive, loss_of_items
from rnncore.losses.loss import Loss
from rnncore.losses.recorded import recorded


@recorded("x")
def mse_loss(x: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Loss:
    """Squared error, and its gradient.

    The loss of a number is ``(x - t)^2``, and its slope ``2 (x - t)``.

    Parameters
    ----------
    x
        (...) predictions, float32 or float64; or rows of a batch.
    targets
        Numbers of the shape of x; for rows (T, B, features), of which padding does not count.
    weights
        A mask, or numbers of 0 or more, that broadcast to the shape of targets. What weighs 0
        counts for nothing, even a NaN.
    reduction
        "mean": the gradient is that of total / weight; "sum": that of total.

    Returns
    -------
    Loss
        Total, weight, and the gradient in x's dtype and form. Sums are taken in float64.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, or a weight is negative.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss = rnncore.mse_loss(np.array([1.0, 2.0, np.nan]), [0.0, 4.0, 0.0], weights=[1, 1, 0])
    >>> loss.mean, loss.gradient.tolist()
    (2.5, [1.0, -2.0, 0.0])
    """

    def function(t: Double, x: Double) -> tuple[Double, tuple[Double]]:
        d = x - t
        return d * d, (2 * d,)

    return loss_of_items(function, Predictions("x", x), targets, weights, reduction)


@recorded("x")
def l1_loss(x: Any, targets: Any, *, weights: Any = None, reduction: str = "mean") -> Loss:
    """Absolute error, and its gradient.

    The loss of a number is ``|x - t|``, and its slope the sign of ``x - t``, 0 where they are
    equal. Its minimum is the median of the targets, which outliers do not move.

    Parameters
    ----------
    x, targets, weights, reduction
        As of `mse_loss`.

    Returns
    -------
    Loss
        Total, weight, and the gradient in x's dtype and form.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss = rnncore.l1_loss(np.array([1.0, 2.0]), [0.0, 4.0])
    >>> loss.mean, loss.gradient.tolist()
    (1.5, [0.5, -0.5])
    """

    def function(t: Double, x: Double) -> tuple[Double, tuple[Double]]:
        d = x - t
        return np.abs(d), (np.sign(d),)

    return loss_of_items(function, Predictions("x", x), targets, weights, reduction)


@recorded("x")
def huber_loss(
    x: Any, targets: Any, *, delta: float = 1.0, weights: Any = None, reduction: str = "mean"
) -> Loss:
    """Huber's loss: squared near the target, absolute further away; and its gradient.

    With ``d = x - t`` the loss of a number is ``d^2 / 2`` where ``|d| <= delta`` and
    ``delta (|d| - delta / 2)`` elsewhere; its slope is d, clamped to [-delta, delta].

    Parameters
    ----------
    x, targets, weights, reduction
        As of `mse_loss`.
    delta
        Above 0: where the one becomes the other.

    Returns
    -------
    Loss
        Total, weight, and the gradient in x's dtype and form.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`, or if delta is not above 0.

    References
    ----------
    P. Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35, 1964.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss = rnncore.huber_loss(np.array([1.0, 7.0]), [0.5, 4.0])
    >>> loss.total, loss.gradient.tolist()
    (2.625, [0.25, 0.5])
    """
    edge = check_positive("delta", delta)

    def function(t: Double, x: Double) -> tuple[Double, tuple[Double]]:
        d = x - t
        slope = np.clip(d, -edge, edge)
        return slope * (d - slope / 2), (slope,)

    return loss_of_items(function, Predictions("x", x), targets, weights, reduction)
