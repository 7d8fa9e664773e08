"""Windows of series: what a forecaster reads, scaled, and what it shall find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnncore.data.series import Series

Array = NDArray[Any]


def _square(x: Array) -> Array:
    return np.maximum(x, 0) ** 2


def _same(x: Array) -> Array:
    return x


#: Each with its inverse.
TRANSFORMS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "none": (_same, _same), "sqrt": (np.sqrt, _square), "log": (np.log, np.exp),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class WindowForm:
    """What a window is made of.

    Parameters
    ----------
    look_back, horizon
        L values are read, H are predicted.
    segment
        w values are read at once, and as many are written at once.
    centre
        What counts as 0: the "last" value of a window, or the "mean" of the series.
    scaling
        What counts as 1: a number of each "series", or one of each "window".
    transform
        What is done to values before: "none", "sqrt" or "log".
    calendar, covariates
        Features of a date, and columns beside the values.
    """

    look_back: int
    horizon: int
    segment: int = 1
    centre: str = "last"
    scaling: str = "series"
    transform: str = "none"
    calendar: int = 0
    covariates: int = 0

    def __post_init__(self) -> None:
        if self.look_back % self.segment:
            raise ValueError(
                f"look_back: expected a multiple of segment = {self.segment}, got {self.look_back}"
            )

    @property
    def segments(self) -> int:
        """Segments that are read."""
        return self.look_back // self.segment

    @property
    def written(self) -> int:
        """Segments that are written, the last of which may be longer than the horizon."""
        return -(-self.horizon // self.segment)

    @property
    def features(self) -> int:
        """Numbers of a segment beside its values."""
        return self.calendar + self.covariates * self.segment

    def transformed(self, series: Series) -> Array:
        """Return the values as the transform has them.

        Raises
        ------
        ValueError
            If one is too small for it.
        """
        least = {"none": -np.inf, "sqrt": 0.0, "log": np.nextafter(0, 1)}[self.transform]
        if (series.values < least).any():
            allowed = "above 0" if self.transform == "log" else "of 0 or more"
            raise ValueError(
                f"{series.name}: expected values {allowed} for the transform {self.transform!r}, "
                f"got {np.nanmin(series.values)}; choose another transform"
            )
        return TRANSFORMS[self.transform][0](series.filled())


class WindowBatch(NamedTuple):
    """Windows of B series, scaled: z = (x - centre) / scale.

    Parameters
    ----------
    segments : (L / w, B, w + features)
    ahead : (H / w rounded up, B, features)
        What is known of the steps ahead: calendar and covariates.
    levels : (B, L)
        The values relative to the mean of their series, whatever the centre is.
    offset : (B, 1)
        That mean relative to the centre.
    series : (B,) integers
        Which series it is; -1 for one that was not trained on.
    """

    segments: Array
    ahead: Array
    levels: Array
    offset: Array
    series: NDArray[np.intp]


class Windows:
    """Windows of some series; see `rnncore.data.sequence_source.Examples`.

    A window ends before its origin: it has the L values before, and its targets are the H after.

    Parameters
    ----------
    series
        With gaps as NaN. They are filled in for reading, one that reaches the origin with the
        value before it, and do not count as targets.
    form
    means, scales : (N,)
        Of each series, transformed.
    numbers : (N,)
        Which series of a network each one is; -1 for none of them.
    origins
        The origins of each series: a list of N arrays of integers, L at least.

    Attributes
    ----------
    places : (windows, 2)
        Series and origin of each window.
    """

    def __init__(
        self,
        series: Sequence[Series],
        form: WindowForm,
        means: Any,
        scales: Any,
        numbers: Any,
        origins: Sequence[Any],
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.form, self.dtype = form, np.dtype(dtype)
        self._means, self._scales = np.asarray(means), np.asarray(scales)
        self._numbers = np.asarray(numbers, np.intp)
        self.places = np.array(
            [(k, origin) for k, some in enumerate(origins) for origin in some], np.intp
        ).reshape(-1, 2)
        room = form.written * form.segment  # behind the end, where targets are not known
        blank = np.full(room, np.nan)
        self._starts = np.cumsum([0, *(len(one.values) + room for one in series)])[:-1]
        filled = [form.transformed(one) for one in series]
        self._filled = np.concatenate([x for one in filled for x in (one, blank)])
        unknown = np.concatenate([x for one in series for x in (np.isnan(one.values), blank != 0)])
        self._known = np.where(unknown, np.nan, self._filled)
        # The last known value at or before each place: a line across a gap would tell what is
        # behind it.
        seen = ~unknown
        seen[self._starts] = True
        self._last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), 0))
        self._features = np.concatenate(
            [_features(one, form, len(one.values) + room) for one in series]
        )
        self.lengths = np.full(len(self.places), form.segments, np.intp)

    def _parts(self, indices: Any) -> tuple[Array, Array, Array, Array, Array]:
        # Series and first target of windows (B,); their values (B, L), centres and scales (B, 1).
        form, (k, origins) = self.form, self.places[indices].T
        begin = self._starts[k] + origins
        inside = begin[:, None] + np.arange(-form.look_back, 0)
        x = self._filled[np.minimum(inside, self._last[begin - 1, None])]
        centre = x[:, -1:] if form.centre == "last" else self._means[k][:, None]
        scale = self._scales[k][:, None]
        if form.scaling == "window":
            found = np.sqrt(np.mean((x - centre) ** 2, 1, keepdims=True))
            # A window that stands still has no scale of its own.
            scale = np.where(found > 1e-3 * scale, found, scale)
        return k, begin, x, centre, scale

    def windows(self, indices: Any) -> WindowBatch:
        """Return what a network reads of the windows with these numbers."""
        form = self.form
        k, begin, x, centre, scale = self._parts(indices)
        mean = self._means[k][:, None]
        w, count = form.segment, len(x)
        segments = ((x - centre) / scale).reshape(count, form.segments, w)
        ahead = np.zeros((count, form.written, 0))
        if form.features:
            steps = w * np.arange(form.segments + form.written) - form.look_back
            firsts = begin[:, None] + steps
            inner = firsts[:, :, None] + np.arange(w)
            covariates = self._features[inner, form.calendar :].reshape(*firsts.shape, -1)
            more = np.concatenate([self._features[firsts, : form.calendar], covariates], 2)
            segments = np.concatenate([segments, more[:, : form.segments]], 2)
            ahead = more[:, form.segments :]

        def cast(array: Array) -> Array:
            return np.ascontiguousarray(array, self.dtype)

        return WindowBatch(
            cast(segments.transpose(1, 0, 2)), cast(ahead.transpose(1, 0, 2)),
            cast((x - mean) / scale), cast((mean - centre) / scale), self._numbers[k],
        )  # fmt: skip

    def targets(self, indices: Any) -> Array:
        """Return the scaled targets (B, H), NaN where they are not known."""
        _, begin, _, centre, scale = self._parts(indices)
        y = self._known[begin[:, None] + np.arange(self.form.horizon)]
        scaled: Array = ((y - centre) / scale).astype(self.dtype)
        return scaled

    def unscaled(self, indices: Any, z: Array) -> Array:
        """Return forecasts (B, H, K) of the windows as they are in the data."""
        *_, centre, scale = self._parts(indices)
        return TRANSFORMS[self.form.transform][1](z * scale[:, :, None] + centre[:, :, None])

    def without_gaps(self) -> Array:
        """Return the numbers of the windows whose values are all known, and the one after them."""
        k, origins = self.places.T
        gaps = np.concatenate([[0], np.cumsum(np.isnan(self._known))])
        begin = self._starts[k] + origins
        inside = gaps[begin + 1] - gaps[begin - self.form.look_back]
        whole: Array = np.flatnonzero(inside == 0)
        return whole

    def batch(self, indices: Any) -> tuple[Any, ...]:
        """Return those with these numbers, as the network's `forward` takes them."""
        return (*self.windows(indices), self.targets(indices))

    def arrays(self) -> list[Array]:
        """Return all that tells these examples from others."""
        known = np.nan_to_num(self._known, nan=-1e300)
        return [known, self._features, self._means, self._scales, self._numbers, self.places]


def _features(series: Series, form: WindowForm, steps: int) -> Array:
    # (steps, calendar + covariates); what lies behind the end of the covariates repeats the last.
    found = np.zeros((steps, form.calendar + form.covariates))
    if form.calendar:
        assert series.times is not None
        found[:, : form.calendar] = series.times.calendar(steps)
    if form.covariates:
        assert series.covariates is not None
        found[:, form.calendar :] = series.covariates[
            np.minimum(np.arange(steps), len(series.covariates) - 1)
        ]
    return found


def mean_and_scale(values: Array, form: WindowForm) -> tuple[float, float]:
    """Return the mean of a series, and how far its windows lie from their centre.

    ``scale = sqrt(mean (x_{t-k} - x_t)^2)`` over all lags k up to L where the centre is the last
    value, else the deviation from the mean; 1 of a constant.

    Parameters
    ----------
    values : (N,)
        Transformed; NaN does not count.
    """
    known = values[np.isfinite(values)]
    mean, square = float(known.mean()), float(known.var())
    if form.centre == "last":
        total, count = 0.0, 0
        for lag in range(1, min(form.look_back, len(values))):
            d = values[lag:] - values[:-lag]
            d = d[np.isfinite(d)]
            total, count = total + float(d @ d), count + len(d)
        square = total / max(1, count)
    scale = float(np.sqrt(square))
    return mean, scale if scale > 1e-12 * abs(mean) else 1.0
