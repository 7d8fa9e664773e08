"""The picture of forecasts, and their table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence

import numpy as np

from rnncore.data.series import Series
from rnncore.estimators.forecaster import Forecast
from rnncore.training.plot import new_figure, save_png

MOST = 6  # series of one picture


def plot_forecasts(
    path: str | os.PathLike[str],
    series: Sequence[Series],
    forecasts: Sequence[Forecast],
    most: int = 200,
) -> None:
    """Draw forecasts with their intervals after the last values into a PNG.

    Parameters
    ----------
    path
    series
        With the values before the forecasts, and perhaps with those that came.
    forecasts
        One of each series; the first six are drawn.
    most
        Values before them that are drawn.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    pairs = list(zip(series, forecasts, strict=True))[:MOST]
    figure = new_figure(8, 3 * len(pairs))
    for axes, (one, forecast) in zip(figure.subplots(len(pairs), squeeze=False)[:, 0], pairs,
                                     strict=True):  # fmt: skip
        begin = _place(one, forecast.dates[0])
        last = begin + len(forecast.dates)
        first = max(0, begin - most)
        shown = np.arange(first, min(len(one.values), last))
        ahead = np.arange(begin, last)
        axes.plot(shown, one.values[shown], color="black", lw=1, label="values")
        axes.plot(ahead, forecast.median, color="tab:red", lw=1.2, label="forecast")
        if (forecast.high > forecast.low).any():
            axes.fill_between(
                ahead, forecast.low, forecast.high, color="tab:red", alpha=0.2, lw=0,
                label="interval",
            )  # fmt: skip
        ticks = np.unique(np.linspace(first, last - 1, 5).astype(int))
        axes.set_xticks(ticks, [one.date(k) for k in ticks])
        axes.set(title=one.name)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    save_png(figure, path)


def _place(series: Series, date: str) -> int:
    # The forecast begins at the end of the series, or before values that came later.
    count = len(series.values)
    return next((k for k in range(count + 1) if series.date(k) == date), count)


def format_forecasts(forecasts: Sequence[Forecast]) -> str:
    """Return forecasts as CSV: series, date, forecast, low, high.

    Examples
    --------
    >>> one = np.array([1.5])
    >>> print(format_forecasts([Forecast("a", ("2020-01",), one, one - 1, one + 1)]))
    series,date,forecast,low,high
    a,2020-01,1.5,0.5,2.5
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", "date", "forecast", "low", "high"])
    for forecast in forecasts:
        for date, *numbers in zip(forecast.dates, *forecast[2:], strict=True):
            writer.writerow([forecast.name, date, *(f"{number:.7g}" for number in numbers)])
    return text.getvalue()
