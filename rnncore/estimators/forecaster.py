"""A forecaster of series: the next values with intervals, of one series or of many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_flag, check_size
from rnncore.data.series import Series, series_of
from rnncore.estimators.estimator import Estimator
from rnncore.estimators.forecaster_source import (
    finish,
    history_of,
    known_of,
    levels_of,
    source_of,
    windows_in,
    windows_of,
)
from rnncore.models.forecaster_network import ForecasterNetwork, ForecasterSettings
from rnncore.training import Callback


class Forecast(NamedTuple):
    """What is said of the next values of a series.

    Parameters
    ----------
    name
        Of the series.
    dates
        A text for each step, in the form of the data; numbers from 1 on where it has no dates.
    median, low, high : (steps,)
        What half of the values shall lie below, and the ends of the interval; without intervals
        all three are the same.
    """

    name: str
    dates: tuple[str, ...]
    median: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Forecaster(Estimator):
    """Predicts the next values of series, and in which interval they will lie.

    Parameters
    ----------
    look_back, horizon, segment, hidden_size, num_layers, cell, highway, series_vectors, centre, \
scaling, transform, head, interval, dropout, dtype, precision
        See `ForecasterNetwork`.
    epochs, seconds, learning_rate, batch_size, weight_decay, average, early_stopping, folder, \
verbose, seed
        See `Estimator`.
    validation_fraction
        The last share of each series, which is not trained on: it chooses the best weights and
        calibrates the intervals. With 0 intervals are as training left them.
    refit
        Whether to train a second time, on all values, once the intervals are calibrated.

    Attributes
    ----------
    network_ : ForecasterNetwork
    training_curve_, validation_curve_ : list of [step, epochs, seconds, loss]

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.estimators import Forecaster
    >>> y = np.sin(np.arange(300) / 4) + np.arange(300) / 50
    >>> forecaster = Forecaster(look_back=50, horizon=10, segment=10, hidden_size=8, epochs=2)
    >>> [forecast] = forecaster.fit(y).predict(y)
    >>> truth = np.sin(np.arange(300, 310) / 4) + np.arange(300, 310) / 50
    >>> float(np.abs(forecast.median - truth).max()) < 0.05
    True
    """

    look_back: int = 96
    horizon: int = 24
    segment: int = 1
    hidden_size: int = 64
    num_layers: int = 1
    cell: str = "gru"
    highway: str = "kept"
    series_vectors: str = "none"
    centre: str = "last"
    scaling: str = "series"
    transform: str = "none"
    head: str = "quantile"
    interval: float = 0.9
    dropout: float = 0.0
    dtype: str = "float32"
    precision: str | None = None
    batch_size: int = 128
    refit: bool = False

    network_class = ForecasterNetwork

    def fit(self, X: Any, y: Any = None, callbacks: Sequence[Callback] = ()) -> Self:
        """Learn from one series or several.

        Parameters
        ----------
        X
            A CSV file; a `rnncore.data.Series` or several, as `read_series` returns; an array (N,);
            arrays by name; a DataFrame of pandas, a column a series.
        y
            Not used; it is there for scikit-learn.
        callbacks
            Told of steps and validations; see `rnncore.training.Callback`.

        Raises
        ------
        TypeError, ValueError
            If X is none of these, a series is too short, or a parameter is out of its range.
        KeyboardInterrupt
            After Ctrl-C, when the step is done; what was learned so far is kept.
        """
        settings = self._settings(ForecasterSettings)
        series, share = series_of("X", X), self.validation_fraction
        widening = self._fit(series, settings, share, callbacks).widening
        if check_flag("refit", self.refit) and share:
            self._fit(series, settings, 0.0, callbacks).widening = widening
        return self

    def _fit(
        self,
        series: list[Series],
        settings: ForecasterSettings,
        share: float,
        callbacks: Sequence[Callback],
    ) -> ForecasterNetwork:
        network = ForecasterNetwork(known_of(series, settings, share), settings, seed=self._seed)
        source = source_of(network, series, share, batch_size=self.batch_size, order=self._seed)
        network.begin_highway(windows_in(source))
        self._train(network, source, callbacks)
        finish(network, series, source)
        return network

    def predict(self, X: Any, steps: int | None = None) -> list[Forecast]:
        """Return what comes after the end of each series.

        Parameters
        ----------
        X
            As in `fit`: `look_back` values of each series at least; covariates must be known ahead.
        steps
            None: the horizon. Beyond it the medians are read as if they had come, and the next
            steps are predicted from there; half the interval's width is then
            ``sqrt(width^2 + last^2)``, with the last of the steps before, as if errors were
            independent.

        Raises
        ------
        TypeError, ValueError
            If a series is too short, or covariates are missing.
        """
        network = self._network()
        steps = network.form.horizon if steps is None else check_size("steps", steps)
        return [forecast_of(network, one, steps) for one in series_of("X", X)]

    def score(self, X: Any, y: Any = None) -> float:
        """Return how much smaller the error is than that of repeating the last value.

        ``1 - mean |y - median| / mean |y - last|`` over the last `horizon` values of each series,
        predicted from those before; the mean over all series. 1 is a forecast without error.
        """
        horizon, shares = self._network().form.horizon, []
        for one in series_of("X", X):
            count = len(one.values) - horizon
            check_size(f"{one.name}: values before the last {horizon}", count)
            actual, history = one.values[count:], one.until(count)
            [found] = self.predict(history)
            error = np.nanmean(np.abs(actual - found.median))
            naive = np.nanmean(np.abs(actual - history.filled()[-1]))
            shares.append(1 - error / naive if naive else float(error == 0))
        return float(np.mean(shares))

    def stream(self, history: Any = ()) -> ForecastStream:
        """Return a stream that begins after a history, without covariates; see `ForecastStream`.

        Raises
        ------
        ValueError
            If the history is not one series of `look_back` values or more, without covariates.
        NotFittedError
            Before `fit`.
        """
        return ForecastStream(self._network(), series_of("history", history))


class ForecastStream:
    """Takes the values of a series as they come, and says each time what comes next.

    Parameters
    ----------
    network
    history
        One series, of `look_back` values at least.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.estimators import Forecaster
    >>> y = np.sin(np.arange(200) / 4)
    >>> stream = Forecaster(look_back=20, horizon=3, epochs=1).fit(y).stream(y[:100])
    >>> stream.step(y[100]).dates
    ('102', '103', '104')
    """

    def __init__(self, network: ForecasterNetwork, history: Sequence[Series]) -> None:
        if len(history) != 1 or history[0].covariates is not None:
            raise ValueError(
                f"history: expected one series without covariates, got {len(history)}; make a "
                "stream of each, and predict with covariates by predict"
            )
        self._network, [self._series] = network, history
        self._levels = levels_of(network, history)
        self._gone = 0
        self.forecast()

    def step(self, value: float) -> Forecast:
        """Take the next value, NaN where it is missing, and return what comes after it."""
        return self.process([value])

    def process(self, values: Any) -> Forecast:
        """Take some values, and return what comes after the last one."""
        values = np.concatenate([self._series.values, np.asarray(values, np.float64).reshape(-1)])
        series = dataclasses.replace(self._series, values=values)
        look_back = self._network.form.look_back
        # A gap at the beginning of a window is filled from before it.
        keep = min(len(values), 2 * look_back)
        self._gone += len(values) - keep
        self._series = history_of(series, keep)
        return self.forecast()

    def forecast(self) -> Forecast:
        """Return what comes next."""
        steps = self._network.form.horizon
        found = forecast_of(self._network, self._series, steps, self._levels)
        if self._series.times is None:
            numbers = (int(date) + self._gone for date in found.dates)
            return found._replace(dates=tuple(map(str, numbers)))
        return found


def forecast_of(
    network: ForecasterNetwork,
    series: Series,
    steps: int,
    levels: Sequence[tuple[int, float, float]] | None = None,
) -> Forecast:
    """Return what comes after the end of one series; see `Forecaster.predict`, `levels_of`."""
    form, count = network.form, len(series.values)
    if count < form.look_back:
        raise ValueError(
            f"series: expected {form.look_back} values or more, as the model reads, but "
            f"{series.name!r} has {count}"
        )
    if series.covariates is not None and len(series.covariates) < count + steps:
        raise ValueError(
            f"series: expected the covariates of {steps} steps ahead of {series.name!r}, got "
            f"{len(series.covariates) - count}; add rows that have them, with no value"
        )
    _check_dates(series, steps)
    dates = tuple(series.date(count + k) for k in range(steps))
    parts: list[NDArray[Any]] = []
    before = np.zeros(2)
    levels = levels or levels_of(network, [series])
    while sum(map(len, parts)) < steps:
        windows = windows_of(network, [series], [[len(series.values)]], levels)
        [found] = network.forecast(windows)
        low, median, high = found[:, 0], found[:, found.shape[1] // 2], found[:, -1]
        below, above = np.hypot(median - low, before[0]), np.hypot(high - median, before[1])
        before = np.array([below[-1], above[-1]])
        parts.append(np.stack([median, median - below, median + above], 1))
        series = dataclasses.replace(series, values=np.concatenate([series.values, median]))
    return Forecast(series.name, dates, *np.concatenate(parts)[:steps].T)


def _check_dates(series: Series, steps: int) -> None:
    count = len(series.values)
    try:
        series.date(count + steps - 1)
    except (ValueError, OverflowError):  # datetime knows no other
        assert series.times is not None
        raise ValueError(
            f"steps: expected dates up to the year 9999, but of {series.name!r} {steps} of them, "
            f"{series.times.step_text} apart, come after {series.date(count - 1)}; give fewer"
        ) from None
