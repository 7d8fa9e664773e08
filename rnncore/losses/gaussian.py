"""The likelihood of numbers under a Gaussian whose mean and variance are both predicted."""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np

from rnncore.arguments import check_flag
from rnncore.losses.items import Double, Predictions, check_positive, loss_of_items
from rnncore.losses.loss import Loss
from rnncore.losses.recorded import recorded


@recorded("x", "var")
def gaussian_nll_loss(
    x: Any,
    targets: Any,
    var: Any,
    *,
    full: bool = False,
    eps: float = 1e-6,
    weights: Any = None,
    reduction: str = "mean",
) -> Loss:
    """Negative log-likelihood of targets under Gaussians, and its gradient for mean and variance.

    With ``v = max(var, eps)`` and ``d = x - t`` the loss of a number is ``(log v + d^2 / v) / 2``,
    and ``(log 2 pi) / 2`` more if `full`. Its slopes are ``d / v`` and ``(1 - d^2 / v) / 2v``; the
    second is taken at v where var is smaller, as if it were v, so that it finds its way out of
    there.

    Parameters
    ----------
    x
        (...) means, float32 or float64; or rows of a batch.
    targets
        Numbers of the shape of x; for rows (T, B, features), of which padding does not count.
    var
        Variances of 0 or more, of the shape, dtype and form of x: the output of a softplus or exp.
    full
        Whether the constant is part of the loss.
    eps
        Above 0: no variance counts as smaller.
    weights
        A mask, or numbers of 0 or more, that broadcast to the shape of targets. What weighs 0
        counts for nothing, even a NaN.
    reduction
        "mean": the gradient is that of total / weight; "sum": that of total.

    Returns
    -------
    Loss
        Total, weight, and the gradients (dx, dvar), in the dtype and form of x and var.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, or a variance or weight is negative.

    References
    ----------
    D. Nix and A. Weigend, Estimating the mean and variance of the target probability distribution,
    ICNN 1994.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss = rnncore.gaussian_nll_loss(np.array([3.0]), [1.0], np.array([1.0]))
    >>> loss.mean, [slope.tolist() for slope in loss.gradient]
    (2.0, [[2.0], [-1.5]])
    """
    mean, variance = Predictions("x", x), Predictions("var", var)
    variance.check_like(mean)
    least = check_positive("eps", eps)
    constant = log(2 * pi) / 2 if check_flag("full", full) else 0.0

    def check(t: Double, x: Double, v: Double) -> None:
        if (v < 0).any():
            raise ValueError(
                f"var: expected variances of 0 or more, got {v[v < 0].flat[0]}; take the exp or "
                "softplus of what a layer gives"
            )

    def function(t: Double, x: Double, v: Double) -> tuple[Double, tuple[Double, Double]]:
        v = np.maximum(v, least)
        d = x - t
        ratio = d * d / v
        return (np.log(v) + ratio) / 2 + constant, (d / v, (1 - ratio) / (2 * v))

    return loss_of_items(function, (mean, variance), targets, weights, reduction, check=check)
