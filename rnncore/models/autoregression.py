"""Linear autoregressions by least squares, and what they say of several steps ahead."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Linear(NamedTuple):
    """``y = constant + weights x`` of the last L values x, the latest last."""

    weights: Array
    constant: Array


def fit_autoregression(x: Array, y: Array) -> Linear:
    r"""Return the least-squares prediction of the next value from the last p of L.

    The order p is that of the lowest AIC, ``n log(RSS_p / n) + 2 p``. One QR decomposition of the
    columns, the latest value first, has the residuals of all orders:
    ``RSS_p = |y|^2 - \sum_{i <= p} (q_i y)^2``.

    Parameters
    ----------
    x : (n, L)
        Windows.
    y : (n,)
        What came next.

    Returns
    -------
    Linear
        Of weights (L,), 0 beyond the order, and a constant ().

    Examples
    --------
    >>> series = np.array([1.0, 3.0, 4.0, 1.0, -3.0, -4.0, -1.0, 3.0, 4.0])
    >>> x = np.lib.stride_tricks.sliding_window_view(series[:-1], 3)
    >>> found = fit_autoregression(x, series[3:])
    >>> found.weights.round(6).tolist()
    [0.0, -1.0, 1.0]
    """
    n, size = x.shape
    columns = np.concatenate([np.ones((n, 1)), x[:, ::-1]], 1)[:, : max(2, n // 2)]
    q, _ = np.linalg.qr(columns)
    # What rounding leaves of an exact fit is no better than another's.
    total = float(y @ y)
    rss = np.maximum(total - np.cumsum((y @ q) ** 2), 1e-12 * max(total, 1e-300))
    aic = n * np.log(rss) + 2 * np.arange(len(rss))
    order = max(1, int(aic[1:].argmin()) + 1) if size else 0
    found = np.linalg.lstsq(columns[:, : order + 1], y, rcond=None)[0]
    weights = np.zeros(size)
    weights[size - order :] = found[:0:-1]
    return Linear(weights, np.asarray(found[0]))


def iterated(one: Linear, steps: int) -> Linear:
    """Return the prediction of several steps, each from the window that the one before ends.

    Parameters
    ----------
    one
        The prediction of one step.
    steps

    Returns
    -------
    Linear
        Of weights (steps, L) and constants (steps,).

    Examples
    --------
    >>> iterated(Linear(np.array([0.5]), np.array(1.0)), 2).constant.tolist()
    [1.0, 1.5]
    """
    size = len(one.weights)
    # Each value of the window and of the steps as a row: its weights of x, then a constant.
    rows = np.concatenate([np.eye(size), np.zeros((size, 1))], 1)
    for _ in range(steps):
        step = one.weights @ rows[-size:]
        step[-1] += one.constant
        rows = np.concatenate([rows, step[None]])
    return Linear(rows[size:, :-1], rows[size:, -1])
