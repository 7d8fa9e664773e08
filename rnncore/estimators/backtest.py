"""Forecasts from several origins, held against what came and against baselines."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_size
from rnncore.data.series import Series, series_of
from rnncore.estimators.accuracy import coverage, seasonal_error, smape
from rnncore.estimators.baselines import (
    Autoregression,
    naive_with_drift,
    seasonal_naive,
    statsforecast_model,
)
from rnncore.estimators.forecaster import Forecaster
from rnncore.estimators.forecaster_source import levels_of, windows_of
from rnncore.settings import Choice

Array = NDArray[Any]
OF_STATSFORECAST = ("AutoETS", "AutoARIMA")
BASELINES = ("seasonal naive", "naive with drift", "autoregression")


class Backtested(NamedTuple):
    """How good one way to forecast was over the first steps ahead, from all origins.

    Parameters
    ----------
    name
    steps
        1 to this one.
    mase, smape
        See `rnncore.estimators.accuracy`; means over origins, and then over series.
    coverage
        The share of values in their intervals; NaN where there are none.
    """

    name: str
    steps: int
    mase: float
    smape: float
    coverage: float


class Backtest(NamedTuple):
    """What `backtest` found; as text it is a table in Markdown."""

    rows: tuple[Backtested, ...]
    origins: int

    def __str__(self) -> str:
        steps = sorted({row.steps for row in self.rows})
        found = {(row.name, row.steps): row for row in self.rows}
        head = " | ".join(f"MASE, 1 to {k} | sMAPE | covered" for k in steps)
        lines = [f"| {self.origins} origins | {head} |", "|---|" + "---:|" * 3 * len(steps)]
        for name in dict.fromkeys(row.name for row in self.rows):
            cells = []
            for k in steps:
                row = found[name, k]
                share = "" if np.isnan(row.coverage) else f"{100 * row.coverage:.1f} %"
                cells.append(f"{row.mase:.3f} | {row.smape:.2f} | {share}")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines)


def backtest(
    forecaster: Forecaster,
    X: Any,
    test: int,
    steps: Sequence[int] | None = None,
    *,
    season: int = 1,
    every: int = 1,
    baselines: Sequence[str] = BASELINES,
    fitted: bool = False,
) -> Backtest:
    """Fit on all but the last values of each series, then forecast from origins among these.

    Nothing is fitted again on the way; every forecast knows all values before its origin. The
    autoregression has the look-back of the forecaster as its highest order.

    Parameters
    ----------
    forecaster
        Its parameters; a copy of it is fitted.
    X
        As `Forecaster.fit` takes it.
    test
        Values at the end of each series that `fit` does not see.
    steps
        The errors are means over steps 1 to each of these; None: to the horizon.
    season
        m of seasonal naive and of the denominator of MASE, which is of the training part.
    every
        Origins are so many steps apart.
    baselines
        Some of "seasonal naive", "naive with drift", "autoregression", "AutoETS", "AutoARIMA".
    fitted
        Whether `forecaster` is fitted, on the right part, and is used as it is.

    Raises
    ------
    ImportError
        If AutoETS or AutoARIMA is asked for, and statsforecast is not installed.
    TypeError, ValueError
        If a series is too short, or a parameter is out of its range.

    Examples
    --------
    >>> y = np.sin(np.arange(200) / 4) + np.random.default_rng(0).normal(0, 0.1, 200)
    >>> forecaster = Forecaster(look_back=25, horizon=5, hidden_size=4, epochs=1)
    >>> found = backtest(forecaster, y, 40, season=25)
    >>> found.origins, [row.name for row in found.rows][:2]
    (36, ['Forecaster', 'seasonal naive'])
    """
    series, test = series_of("X", X), check_size("test", test)
    season, every = check_size("season", season), check_size("every", every)
    for name in baselines:
        Choice((*BASELINES, *OF_STATSFORECAST)).check("baselines", name)
    makers = [(name, _maker(name, season, forecaster.look_back)) for name in baselines]
    horizon = forecaster.horizon
    wanted = [check_size("steps", k) for k in (steps or [horizon])]
    if max(wanted) > horizon or test < horizon:
        raise ValueError(
            f"steps, test: expected steps up to the horizon {horizon} and a test of at least as "
            f"many values, got {wanted} and {test}"
        )
    training = [one.until(max(1, len(one.values) - test)) for one in series]
    if not fitted:
        forecaster = copy.deepcopy(forecaster).fit(training)
    origins = [
        np.arange(len(one.values), len(whole.values) - horizon + 1, every)
        for one, whole in zip(training, series, strict=True)
    ]
    network = forecaster._network()
    for one in training:
        if len(one.values) < network.form.look_back:
            raise ValueError(
                f"X: expected {network.form.look_back} values or more before the test, as the "
                f"model reads, but {one.name!r} has {len(one.values)}; make the test shorter"
            )
    levels = levels_of(network, training)
    found = network.forecast(windows_of(network, series, origins, levels))
    parts = np.split(found, np.cumsum([len(some) for some in origins])[:-1])
    has_intervals = network.forecaster_settings.interval > 0
    scores: dict[str, list[Array]] = {}
    for whole, past, some, ours in zip(series, training, origins, parts, strict=True):
        actual = np.stack([whole.values[k : k + horizon] for k in some])
        scale = seasonal_error(past.values, season)
        middle = ours[..., ours.shape[-1] // 2]
        ends = (ours[..., 0], ours[..., -1]) if has_intervals else None
        rows = {type(forecaster).__name__: _score(actual, middle, scale, wanted, ends)}
        for name, maker in makers:
            model = maker(past)
            forecasts = np.stack([model(whole.until(int(k)).filled(), horizon) for k in some])
            rows[name] = _score(actual, forecasts, scale, wanted)
        for name, row in rows.items():
            scores.setdefault(name, []).append(row)
    means = {name: np.mean(some, 0) for name, some in scores.items()}
    table = tuple(
        Backtested(name, k, *map(float, mean))
        for name, all_ in means.items() for k, mean in zip(wanted, all_, strict=True)
    )  # fmt: skip
    return Backtest(table, sum(map(len, origins)))


def _maker(name: str, season: int, most: int) -> Callable[[Series], Any]:
    # What fits a baseline to the training part of a series.
    if name == "seasonal naive":
        return lambda _: partial(seasonal_naive, season=season)
    if name == "naive with drift":
        return lambda _: naive_with_drift
    if name == "autoregression":
        return lambda past: Autoregression(past.values, most)
    fit = statsforecast_model(name, season)
    return lambda past: fit(past.filled())


def _score(
    actual: Array,
    forecast: Array,
    scale: float,
    wanted: Sequence[int],
    ends: tuple[Array, Array] | None = None,
) -> Array:
    rows = []
    for k in wanted:
        y, f = actual[:, :k], forecast[:, :k]
        covered = np.nan if ends is None else coverage(y, ends[0][:, :k], ends[1][:, :k])
        rows.append((np.nanmean(np.abs(y - f)) / scale, smape(y, f), covered))
    return np.array(rows)
