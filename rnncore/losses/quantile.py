"""The pinball loss, whose minimum is a quantile."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.arguments import as_array
from rnncore.losses.items import Double, Predictions, loss_of_items
from rnncore.losses.loss import Loss
from rnncore.losses.recorded import recorded


@recorded("x")
def quantile_loss(
    x: Any, targets: Any, quantiles: Any, *, weights: Any = None, reduction: str = "mean"
) -> Loss:
    """Pinball loss of several quantiles at once, and its gradient.

    With ``e = t - x_k`` for the quantile q_k, the loss of a target is the mean over k of
    ``max(q_k e, (q_k - 1) e)``. The slope is ``-q_k`` below the target and ``1 - q_k`` above it,
    over the number of quantiles; at the target itself it is 0.

    Parameters
    ----------
    x
        (..., Q) predictions, one a quantile, float32 or float64; or rows of a batch.
    targets
        (...) numbers; for rows (T, B), of which padding does not count.
    quantiles
        (Q,) numbers between 0 and 1, both excluded, as (0.1, 0.5, 0.9).
    weights
        A mask, or numbers of 0 or more, that broadcast to the shape of targets. What weighs 0
        counts for nothing, even a NaN.
    reduction
        "mean": the gradient is that of total / weight; "sum": that of total.

    Returns
    -------
    Loss
        Total, weight, and the gradient in x's dtype and form.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, a quantile is none, or a weight is negative.

    References
    ----------
    R. Koenker and G. Bassett, Regression quantiles, Econometrica 46, 1978; for networks of several
    quantiles R. Wen et al., A multi-horizon quantile recurrent forecaster, 2017, section 3.2.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss = rnncore.quantile_loss(np.array([[1.0, 3.0]]), [2.0], (0.25, 0.75))
    >>> loss.mean, loss.gradient.tolist()
    (0.25, [[-0.125, 0.125]])
    """
    predictions = Predictions("x", x)
    q = as_array("quantiles", quantiles)
    if q.ndim != 1 or q.dtype.kind != "f" or not q.size or not ((q > 0) & (q < 1)).all():
        raise ValueError(
            f"quantiles: expected (Q,) numbers between 0 and 1, both excluded, got {quantiles!r}; "
            "give for example (0.1, 0.5, 0.9)"
        )
    if not predictions.shape or predictions.shape[-1] != q.size:
        raise ValueError(
            f"x: expected a last axis of {q.size}, one number a quantile, got {predictions.shape}; "
            "give as many outputs as quantiles"
        )
    q = q.astype(np.float64)

    def function(t: Double, x: Double) -> tuple[Double, tuple[Double]]:
        e = t[..., None] - x
        losses = np.maximum(q * e, (q - 1) * e).mean(axis=-1)
        # e > 0: -q;  e < 0: 1 - q;  e = 0: 0;  a NaN stays one
        sign = np.sign(e)
        return losses, (((0.5 - q) * np.abs(sign) - 0.5 * sign) / q.size,)

    return loss_of_items(function, predictions, targets, weights, reduction, per_row=True)
