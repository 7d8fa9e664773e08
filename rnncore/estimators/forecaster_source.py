"""Series as a source of windows, and what is learnt of them before and after a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.data.sequence_source import ExampleBatches, SequenceSource
from rnncore.data.series import Series
from rnncore.data.windows import Windows, mean_and_scale
from rnncore.models.forecaster_network import ForecasterNetwork, ForecasterSettings, SeriesKnown
from rnncore.settings import Share


def training_counts(
    series: Sequence[Series], settings: ForecasterSettings, share: float
) -> list[int]:
    """Return how many values of each series are trained on; the last share of them is held out.

    Raises
    ------
    ValueError
        If a series is too short.
    """
    Share().check("validation_fraction", share)
    least, counts = settings.look_back + 1, []
    for one in series:
        held_out = max(round(share * len(one.values)), settings.horizon) if share else 0
        counts.append(len(one.values) - held_out)
        if counts[-1] < least:
            raise ValueError(
                f"series: expected {least} values or more to train on, look_back and one to "
                f"predict, but {one.name!r} has {max(0, counts[-1])} of {len(one.values)}; give "
                "more, choose a smaller look_back, or hold out less"
            )
        if not np.isfinite(one.values[settings.look_back : counts[-1]]).any():
            raise ValueError(
                f"series: expected known values to predict, but {one.name!r} has none after the "
                f"first {settings.look_back}; choose a smaller look_back"
            )
    return counts


def known_of(
    series: Sequence[Series], settings: ForecasterSettings, share: float = 0.0
) -> SeriesKnown:
    """Return what a network has to know of the series, from the part that is trained on.

    Raises
    ------
    ValueError
        If they have other steps or covariates, or one is too short.
    """
    first, form = series[0], settings.form()
    step = "" if first.times is None else first.times.step_text
    for one in series:
        found = "" if one.times is None else one.times.step_text
        if found != step or one.covariate_names != first.covariate_names:
            raise ValueError(
                f"series: expected all to have the steps and covariates of {first.name!r}, "
                f"{step or 'no dates'} and {first.covariate_names}, but {one.name!r} has "
                f"{found or 'no dates'} and {one.covariate_names}; train a model for each kind"
            )
    training = [
        one.until(count)
        for one, count in zip(series, training_counts(series, settings, share), strict=True)
    ]
    of_values = [
        mean_and_scale(np.where(np.isnan(one.values), np.nan, form.transformed(one)), form)
        for one in training
    ]
    means, scales = zip(*of_values, strict=True)
    covariate_means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    if first.covariates is not None:
        rows = np.concatenate([
            one.covariates[: len(one.values)] for one in training if one.covariates is not None
        ])  # fmt: skip
        spread = rows.std(0)
        covariate_means = tuple(rows.mean(0).tolist())
        deviations = tuple(np.where(spread > 0, spread, 1.0).tolist())
    return SeriesKnown(
        tuple(one.name for one in series), means, scales, step,
        0 if first.times is None else first.times.calendar_size, first.covariate_names,
        covariate_means, deviations,
    )  # fmt: skip


def levels_of(
    network: ForecasterNetwork, series: Sequence[Series]
) -> list[tuple[int, float, float]]:
    """Return number, mean and scale of each series; of one that is not known from its values."""
    known, form = network.known, network.form
    numbers, found = {name: k for k, name in enumerate(known.names)}, []
    for one in series:
        k = numbers.get(one.name, -1)
        of_one = (known.means[k], known.scales[k])
        found.append((k, *(of_one if k >= 0 else mean_and_scale(form.transformed(one), form))))
    return found


def windows_of(
    network: ForecasterNetwork,
    series: Sequence[Series],
    origins: Sequence[Any],
    levels: Sequence[tuple[int, float, float]] | None = None,
) -> Windows:
    """Return windows of series as the network reads them.

    Parameters
    ----------
    network, series, origins
    levels
        See `levels_of`; None: of these series.

    Raises
    ------
    ValueError
        If the series have other steps or covariates than those that it has learnt from.
    """
    known, parts = network.known, []
    for one in series:
        step = "" if one.times is None else one.times.step_text
        if (known.calendar and step != known.step) or one.covariate_names != known.covariates:
            raise ValueError(
                f"series: expected steps of {known.step or 'any length'} and the covariates "
                f"{known.covariates} that the model has learnt from, but {one.name!r} has "
                f"{step or 'no dates'} and {one.covariate_names}"
            )
        if one.covariates is not None:
            standard = (one.covariates - known.covariate_means) / known.covariate_deviations
            one = dataclasses.replace(one, covariates=standard)
        parts.append(one)
    which, means, scales = zip(*(levels or levels_of(network, series)), strict=True)
    return Windows(parts, network.form, means, scales, which, origins, network.dtype)


def source_of(
    network: ForecasterNetwork, series: Sequence[Series], share: float, **values: Any
) -> SequenceSource:
    """Return the windows to train on, and those whose targets are all held out."""
    s = network.forecaster_settings
    counts = training_counts(series, s, share)
    training = [one.until(count) for one, count in zip(series, counts, strict=True)]
    windows = windows_of(network, training, [_origins(one, s.look_back, 1) for one in training])
    held_out = None
    if share:
        later = [_origins(one, count, s.horizon) for one, count in zip(series, counts, strict=True)]
        held_out = windows_of(network, series, later, levels_of(network, training))
    return SequenceSource(windows, held_out=held_out, item="segments", name="windows", **values)


def _origins(series: Series, first: int, targets: int) -> np.ndarray:
    # With so many values behind, of which one at least is known.
    origins = np.arange(first, len(series.values) - targets + 1)
    known = np.isfinite(series.values)
    return origins[[bool(known[k : k + targets].any()) for k in origins]]


def windows_in(batches: ExampleBatches) -> Windows:
    """Return the windows that such a source is made of."""
    assert isinstance(batches.examples, Windows)
    return batches.examples


def finish(network: ForecasterNetwork, series: Sequence[Series], source: SequenceSource) -> None:
    """Calibrate the intervals on what was held out, then fit a kept highway to all values."""
    if source.held_out is None:
        return
    network.calibrate(windows_in(source.held_out))
    s = network.forecaster_settings
    if s.highway == "kept":
        origins = [_origins(one, s.look_back, 1) for one in series]
        network.begin_highway(windows_of(network, series, origins))


def history_of(series: Series, count: int) -> Series:
    """Return the last values of a series, with the dates and covariates from there on."""
    first = len(series.values) - count
    times, covariates = series.times, series.covariates
    return dataclasses.replace(
        series, values=series.values[first:],
        times=None if times is None else times._replace(start=times.at(first)),
        covariates=None if covariates is None else covariates[first:],
    )  # fmt: skip
