"""How good forecasts are: the measures of the M4 competition, and the coverage of intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_size


def seasonal_error(history: ArrayLike, season: int = 1) -> float:
    """Return how wrong the seasonal naive forecast of one step is within a history.

    ``mean |y_t - y_{t-m}|`` over the t where both are known; the denominator of `mase`.

    Raises
    ------
    ValueError
        If no pair is known, or the history repeats itself exactly.

    Examples
    --------
    >>> seasonal_error([1.0, 2.0, 4.0])
    1.5
    """
    y, m = _numbers("history", history), check_size("season", season)
    differences = np.abs(y[m:] - y[:-m])
    differences = differences[np.isfinite(differences)]
    if not differences.size or not differences.mean() > 0:
        raise ValueError(
            f"history: expected values that differ from those {m} steps before, got {y.size} values"
            f" with {differences.size} such pairs and no difference; give a longer history, or "
            "leave this series out"
        )
    return float(differences.mean())


def mase(actual: ArrayLike, forecast: ArrayLike, history: ArrayLike, season: int = 1) -> float:
    """Return the mean absolute scaled error: 1 is what seasonal naive makes in the history.

    ``mean |y - f| / mean |h_t - h_{t-m}|``. Values that are NaN in `actual` do not count.

    References
    ----------
    R. Hyndman and A. Koehler, Another look at measures of forecast accuracy, International Journal
    of Forecasting 22, 2006.

    Examples
    --------
    >>> mase([5.0, 6.0], [5.0, 8.0], [1.0, 2.0, 4.0])
    0.6666666666666666
    """
    y, f = _pair(actual, forecast)
    return float(np.mean(np.abs(y - f)) / seasonal_error(history, season))


def smape(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Return the symmetric mean absolute percentage error, from 0 to 200.

    ``200 mean |y - f| / (|y| + |f|)``, a step where both are 0 counting as 0.

    References
    ----------
    S. Makridakis et al., The M4 competition: 100,000 time series and 61 forecasting methods,
    International Journal of Forecasting 36, 2020.

    Examples
    --------
    >>> smape([1.0, 2.0], [1.0, 6.0])
    50.0
    """
    y, f = _pair(actual, forecast)
    size = np.abs(y) + np.abs(f)
    return float(200 * np.mean(np.abs(y - f) / np.where(size > 0, size, 1)))


def owa(smape: float, mase: float, naive_smape: float, naive_mase: float) -> float:
    """Return the overall weighted average of M4: 1 is the forecast `naive2`.

    ``(smape / smape of naive2 + mase / mase of naive2) / 2``, each of them a mean over all series.

    Examples
    --------
    >>> round(owa(13.912, 1.193, 18.383, 2.395), 3)
    0.627
    """
    return (smape / naive_smape + mase / naive_mase) / 2


def coverage(actual: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Return the share of values that lie within their intervals.

    Examples
    --------
    >>> coverage([1.0, 5.0], [0.0, 0.0], [2.0, 2.0])
    0.5
    """
    y, below = _pair(actual, low)
    _, above = _pair(actual, high)
    return float(np.mean((y >= below) & (y <= above)))


def _pair(actual: ArrayLike, forecast: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    y, f = _numbers("actual", actual), _numbers("forecast", forecast)
    if y.shape != f.shape:
        raise ValueError(
            f"forecast: expected the shape of actual, {y.shape}, got {f.shape}; give one forecast "
            "for each value"
        )
    known = np.isfinite(y)
    if not known.any():
        raise ValueError("actual: expected one known value at least, got none")
    return y[known], f[known]


def _numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers, got {type(values).__name__}") from None
