"""Forecasts that any model has to be better than."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_size
from rnncore.models.autoregression import fit_autoregression, iterated

Array = NDArray[Any]


def seasonal_naive(history: ArrayLike, steps: int, season: int = 1) -> Array:
    """Return the last season again and again; with ``season=1`` the last value.

    Examples
    --------
    >>> seasonal_naive([1.0, 2.0, 3.0], 4, season=2).tolist()
    [2.0, 3.0, 2.0, 3.0]
    """
    last = _history(history, check_size("season", season))[-season:]
    return np.resize(last, check_size("steps", steps))


def naive_with_drift(history: ArrayLike, steps: int, season: int = 1) -> Array:
    """Return the last season, and the mean slope of the whole history from there.

    ``f_h = y_{N + h - m k} + k m (y_N - y_1) / (N - 1)``, k whole seasons before.

    Examples
    --------
    >>> naive_with_drift([1.0, 2.0, 4.0], 2).tolist()
    [5.5, 7.0]
    """
    y = _history(history, max(2, season))
    slope = (y[-1] - y[0]) / (len(y) - 1)
    seasons = np.arange(check_size("steps", steps)) // season + 1
    return seasonal_naive(y, steps, season) + seasons * season * slope


def naive2(history: ArrayLike, steps: int, season: int) -> Array:
    """Return M4's reference: the last value, adjusted for the season where there is one.

    The season is one if the autocorrelation at m is beyond its 90 % limit; it is taken out by a
    classical multiplicative decomposition.

    References
    ----------
    S. Makridakis et al., The M4 competition, International Journal of Forecasting 36, 2020; its
    program, which this follows step by step.
    """
    y, m = _history(history, 2), check_size("season", season)
    if m == 1 or not _is_seasonal(y, m):
        return np.full(check_size("steps", steps), y[-1])
    # A centred moving average over a season, its ends counting half where m is even, as in R.
    window = np.r_[0.5, np.ones(m - 1), 0.5] / m if m % 2 == 0 else np.ones(m) / m
    half = m // 2
    trend = np.full(len(y), np.nan)
    trend[half : len(y) - half] = np.convolve(y, window, "valid")
    ratio = y / trend
    figure = np.array([np.nanmean(ratio[k::m]) for k in range(m)])
    seasonal = np.resize(figure / figure.mean(), len(y))
    found: Array = y[-1] / seasonal[-1] * np.resize(seasonal[-m:], check_size("steps", steps))
    return found


def _is_seasonal(y: Array, m: int) -> bool:
    if len(y) < 3 * m:
        return False
    d = y - y.mean()
    correlations = np.array([d[k:] @ d[: len(d) - k] for k in range(1, m + 1)]) / (d @ d)
    spread = np.sqrt(1 + 2 * np.sum(correlations[:-1] ** 2))
    return bool(abs(correlations[-1]) > 1.645 / np.sqrt(len(y)) * spread)


class Autoregression:
    """A linear autoregression by least squares, ``y_t = c + a_1 y_{t-1} + .. + a_p y_{t-p}``.

    Its order p is the one, up to `most`, with the lowest AIC, all of them judged on the same
    values. Several steps are forecast one after the other.

    Parameters
    ----------
    values : (N,)
        To fit on; equations with a NaN do not count.
    most
        The highest order tried; at most a third of the values are used up by it.

    Examples
    --------
    >>> model = Autoregression(np.sin(np.arange(60) / 3), 8)
    >>> bool(abs(model(np.sin(np.arange(20) / 3), 2)[1] - np.sin(21 / 3)) < 1e-6)
    True
    """

    def __init__(self, values: ArrayLike, most: int) -> None:
        y = np.asarray(values, np.float64)
        self.most = min(check_size("most", most), max(1, len(y) // 3))
        windows = np.lib.stride_tricks.sliding_window_view(y, self.most + 1)
        windows = windows[np.isfinite(windows).all(1)]
        if len(windows) < 3:
            raise ValueError(
                f"values: expected three or more stretches of {self.most + 1} without gaps, got "
                f"{len(windows)}; choose a smaller most"
            )
        # Centred: levels far from 0 would leave little of the precision.
        self._level = float(windows.mean())
        windows = windows - self._level
        self._one = fit_autoregression(windows[:, :-1], windows[:, -1])

    def __call__(self, history: ArrayLike, steps: int) -> Array:
        """Return the next values after a history without gaps."""
        x = _history(history, self.most)[-self.most :] - self._level
        found = iterated(self._one, check_size("steps", steps))
        forecast: Array = found.weights @ x + found.constant + self._level
        return forecast


def statsforecast_model(name: str, season: int) -> Callable[[ArrayLike], Any]:
    """Return what fits AutoETS or AutoARIMA of statsforecast to values.

    Form and coefficients come from these values; a forecast filters a whole history with them.

    Raises
    ------
    ImportError
        If statsforecast is not installed.
    """
    try:
        from statsforecast import models
    except ImportError:
        raise ImportError(
            f"{name}: expected the package statsforecast, which is not installed; "
            "pip install 'rnncore[forecast]'"
        ) from None

    def fit(values: ArrayLike) -> Callable[[ArrayLike, int], Array]:
        fitted = getattr(models, name)(season_length=season).fit(_history(values, 2))

        def forecast(history: ArrayLike, steps: int) -> Array:
            return np.asarray(fitted.forward(y=_history(history, 2), h=steps)["mean"])

        return forecast

    return fit


def _history(values: ArrayLike, least: int) -> Array:
    y = np.asarray(values, np.float64)
    if y.ndim != 1 or len(y) < least or not np.isfinite(y).all():
        raise ValueError(
            f"history: expected {least} numbers or more, without gaps, got shape {y.shape}"
            f"{'' if np.isfinite(y).all() else ' with gaps'}; fill gaps first"
        )
    return y
