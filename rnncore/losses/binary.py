"""Binary cross-entropy of logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.arguments import as_array
from rnncore.losses.items import Double, Predictions, loss_of_items
from rnncore.losses.loss import Loss
from rnncore.losses.recorded import recorded


@recorded("x")
def binary_cross_entropy_with_logits(
    x: Any, targets: Any, *, pos_weight: Any = None, weights: Any = None, reduction: str = "mean"
) -> Loss:
    """Cross-entropy of yes and no, in nats, and its gradient.

    With ``p = sigmoid(x)`` and the weight w of a yes, the loss of a number is
    ``-(w t log p + (1 - t) log(1 - p))``, computed from x so that no logarithm is of 0. Its slope
    is ``(1 - t) p - w t (1 - p)``; without w that is ``p - t``.

    Parameters
    ----------
    x
        (...) logits, float32 or float64; or rows of a batch.
    targets
        Numbers from 0 to 1, or booleans, of the shape of x; for rows (T, B, features), of which
        padding does not count.
    pos_weight
        Numbers of 0 or more that broadcast to x, as (features,): what a yes weighs. For rows of few
        yeses give the number of noes over that of yeses. The weight of the loss does not contain
        it.
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
        If a dtype or shape does not fit, a target is not from 0 to 1, or a weight is negative.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> loss = rnncore.binary_cross_entropy_with_logits(np.array([0.0, 0.0]), [1, 0])
    >>> round(loss.mean, 6), loss.gradient.tolist()
    (0.693147, [-0.25, 0.25])
    """
    predictions = Predictions("x", x)
    w: Any = 1.0
    if pos_weight is not None:
        w = _pos_weight(pos_weight, predictions)

    def check(t: Double, x: Double) -> None:
        wrong = (t < 0) | (t > 1)
        if wrong.any():
            raise ValueError(
                f"targets: expected numbers from 0 to 1, got {t[wrong].flat[0]}; give 1 for yes "
                "and 0 for no"
            )

    def function(t: Double, x: Double) -> tuple[Double, tuple[Double]]:
        e = np.exp(-np.abs(x))
        # -log p and -log(1 - p); p and 1 - p
        rest = np.log1p(e)
        no, yes = rest + np.maximum(-x, 0), rest + np.maximum(x, 0)
        p, q = np.where(x >= 0, 1, e) / (1 + e), np.where(x >= 0, e, 1) / (1 + e)
        return w * t * no + (1 - t) * yes, ((1 - t) * p - w * t * q,)

    return loss_of_items(function, predictions, targets, weights, reduction, check=check)


def _pos_weight(pos_weight: Any, predictions: Predictions) -> Double:
    w = as_array("pos_weight", pos_weight)
    if w.dtype.kind not in "fiub":
        raise TypeError(f"pos_weight: expected real numbers, got {w.dtype}; give floats")
    if not ((w >= 0) & (w < np.inf)).all():
        raise ValueError(
            f"pos_weight: expected finite numbers of 0 or more, got {pos_weight!r}; give such "
            "numbers"
        )
    try:
        wide = np.broadcast_to(w.astype(np.float64), predictions.shape)
    except ValueError:
        raise ValueError(
            f"pos_weight: expected what broadcasts to {predictions.shape}, got {w.shape}; give one "
            "number a feature"
        ) from None
    return predictions.beside(wide)
