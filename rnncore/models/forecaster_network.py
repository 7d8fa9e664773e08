"""A network that reads a window of a series, segment by segment, and predicts what comes next."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnncore import functions as F
from rnncore import layers
from rnncore.arguments import check_seed
from rnncore.data.windows import TRANSFORMS, WindowBatch, WindowForm, Windows
from rnncore.layers.tape import Value
from rnncore.losses import gaussian_nll_loss, quantile_loss
from rnncore.models.autoregression import fit_autoregression, iterated
from rnncore.models.model import (
    PRECISION,
    CellName,
    Measure,
    check_depth,
    check_sizes,
    layer_size,
    recurrent,
    with_weights,
)
from rnncore.models.taped import TapedModel
from rnncore.settings import Choice, Share, Whole, check_settings, chosen, setting

MOST_FITTED = 40_000  # windows that an autoregression is fitted to
BATCH = 1024  # windows predicted at once


@dataclasses.dataclass(frozen=True)
class ForecasterSettings:
    """Defaults, rules and help of what a forecaster's network is made with."""

    look_back: int = setting(96, Whole(), "Values read.", fixed=True)
    horizon: int = setting(24, Whole(), "Values predicted.", fixed=True)
    segment: int = setting(1, Whole(), "Values read and written at once.", fixed=True)
    hidden_size: int = setting(64, Whole(), "Units.", fixed=True)
    num_layers: int = setting(1, Whole(), "Recurrent layers.", fixed=True)
    cell: str = setting("gru", CellName(), fixed=True)
    highway: str = setting(
        "kept",
        Choice(("kept", "trained", "none")),
        "Whether the linear autoregression stays as least squares found it.",
        fixed=True,
    )
    series_vectors: str = setting(
        "none", Choice(("none", "each")), "Whether each series has a vector.", fixed=True
    )
    centre: str = setting(
        "last", Choice(("last", "mean")), "What counts as 0: last value, or mean.", fixed=True
    )
    scaling: str = setting(
        "series", Choice(("series", "window")), "What counts as 1, a number of each.", fixed=True
    )
    transform: str = setting(
        "none", Choice(tuple(TRANSFORMS)), "Of values, before all else.", fixed=True
    )
    head: str = setting("quantile", Choice(("quantile", "gaussian")), fixed=True)
    interval: float = setting(0.9, Share(), "What intervals shall cover; 0: none.", fixed=True)
    dropout: float = setting(0.0, Share(), "Share of units zeroed in training.", fixed=True)
    dtype: str = setting("float32", Choice(("float32", "float64")), fixed=True)
    precision: str | None = PRECISION

    def __post_init__(self) -> None:
        check_settings(self)
        self.form()

    def form(self, calendar: int = 0, covariates: int = 0) -> WindowForm:
        """Return what windows are made of, with so many features."""
        return WindowForm(
            self.look_back, self.horizon, self.segment, self.centre, self.scaling, self.transform,
            calendar, covariates,
        )  # fmt: skip

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Lower end, median and upper end; without intervals the median."""
        tail = (1 - self.interval) / 2
        return (tail, 0.5, 1 - tail) if self.interval else (0.5,)


class SeriesKnown(NamedTuple):
    """What was learnt of the series themselves, on the training part alone.

    Parameters
    ----------
    names
        Of the series, in their order.
    means, scales
        Of each; see `rnncore.data.windows.mean_and_scale`.
    step
        Between two dates, as one says it; "" where there are none.
    calendar
        Features of a date.
    covariates
        Names of columns beside the values, with mean and deviation of each.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    step: str = ""
    calendar: int = 0
    covariates: tuple[str, ...] = ()
    covariate_means: tuple[float, ...] = ()
    covariate_deviations: tuple[float, ...] = ()


class ForecasterNetwork(TapedModel):
    """Reads a window in segments, and writes the horizon in segments, all of them at once.

    The window's values are ``z = (x - centre) / scale``. A segment of w of them is a step:

    ``x_i = relu(W_in segment_i + b);  h = rnn(x_1 .. x_n)``

    The j-th segment ahead is one step from there, with a vector of its place j, one of the series
    k, and what is known of the future (calendar, covariates) as input:

    ``y_j = rnn(p_j + s_k + W_a ahead_j; h);  out_j = W dropout(y_j) + b``

    and the forecast is ``A x + a + out``, where A is a linear highway past the network, of the
    window's levels. W begins at 0, A at 0 or at what an autoregression says (`begin_highway`).

    Segments and the steps ahead in parallel are of SegRNN, the highway is of LSTNet.

    Parameters
    ----------
    known
        What was learnt of the series; see `SeriesKnown`.
    settings
        Its values can be given by name instead.
    seed
        For the initial weights and for dropout.

    References
    ----------
    S. Lin et al., SegRNN: Segment recurrent neural network for long-term time series forecasting,
    2023. G. Lai et al., Modeling long- and short-term temporal patterns with deep neural networks,
    SIGIR 2018, section 3.6.

    Examples
    --------
    >>> from rnncore.models.forecaster_network import ForecasterNetwork, SeriesKnown
    >>> known = SeriesKnown(names=("a",), means=(0.0,), scales=(1.0,))
    >>> network = ForecasterNetwork(known, look_back=4, horizon=2, seed=0)
    >>> network.settings["cell"], network.form.segments
    ('gru', 4)
    """

    kind = "forecaster"
    measures = (Measure("loss", "scaled error"),)

    def __init__(
        self,
        known: SeriesKnown,
        settings: ForecasterSettings | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        **values: Any,
    ) -> None:
        s = chosen(ForecasterSettings, settings, values)
        super().__init__(dtype=s.dtype)
        self.known, self.settings, self.forecaster_settings = known, dataclasses.asdict(s), s
        #: Added to each end of the intervals, scaled, a step of the horizon each; see `Forecaster`.
        self.widening: NDArray[Any] = np.zeros((2, s.horizon))
        self.form = s.form(known.calendar, len(known.covariates))
        self.generator = check_seed(seed)
        common: dict[str, Any] = {"dtype": s.dtype, "seed": self.generator}
        form, size = self.form, s.hidden_size
        self.reader = layers.Linear(s.segment + form.features, size, **common)
        self.rnn = recurrent(
            s.cell, size, size, num_layers=s.num_layers, dropout=s.dropout, **common
        )
        self.places = layers.Embedding(form.written, size, **common)
        self.vectors: Any = None
        if s.series_vectors == "each":
            self.vectors = layers.Embedding(len(known.names), size, **common)
        self.ahead: Any = None
        if form.features:
            self.ahead = layers.Linear(form.features, size, **common)
        self.dropout = layers.Dropout(s.dropout, **common)
        self.outputs = len(s.quantiles) if s.head == "quantile" else 2
        self.head = layers.Linear(size, s.segment * self.outputs, **common)
        self.linear: Any = None
        if s.highway != "none":
            self.linear = layers.Linear(s.look_back, s.horizon, **common)
        for part in (self.head, self.linear):
            if part is not None:
                with part.writable_params() as params:
                    for array in params.values():
                        array[...] = 0
        if s.highway == "kept":
            self.linear.freeze()
        if s.head == "gaussian":  # a deviation of 1 to begin with
            with self.head.writable_params() as params:
                params["bias"].reshape(s.segment, 2)[:, 1] = 1
        self._settle_precision()

    def out(self, batch: WindowBatch) -> Any:
        """Return the scaled forecasts (B, H, quantiles), or (B, H, 2): mean and deviation."""
        form, (_, count, _) = self.form, batch.segments.shape
        _, state = self.rnn(F.relu(self.reader(batch.segments)))
        n = form.written
        if isinstance(state, tuple):
            state = tuple(_repeated(one, n) for one in state)
        else:
            state = _repeated(state, n)
        table, ids = self._asked(batch.series)
        if self.ahead is None:  # a place and a series are a token: few are projected for many rows
            y, _ = self.rnn(ids, state, embedding=table)
        else:
            x = table[ids] + self.ahead(batch.ahead.reshape(1, n * count, -1))
            y, _ = self.rnn(x, state)
        found = self.head(self.dropout(y))
        found = F.reshape(found, (n, count, form.segment, self.outputs))
        found = F.reshape(F.transpose(found, (1, 0, 2, 3)), (count, -1, self.outputs))
        out = found[:, : form.horizon] if found.shape[1] > form.horizon else found
        if self.linear is None:
            return out
        middle = self.linear(batch.levels) + batch.offset
        middle = F.reshape(middle, (count, form.horizon, 1))
        if self.forecaster_settings.head == "quantile":
            return out + middle
        return out + middle * np.array([1, 0], self.dtype)

    def _asked(self, series: NDArray[np.intp]) -> tuple[Any, NDArray[np.intp]]:
        # p_j + s_k of each place with each series that occurs, and which of them each of the places
        # of each window is, (1, places x B).
        n = self.form.written
        places = self.places(np.arange(n))
        if self.vectors is None:
            return places, np.repeat(np.arange(n), len(series))[None]
        occur, which = np.unique(series, return_inverse=True)
        known = (occur >= 0).astype(self.dtype)[:, None]
        vectors = self.vectors(np.maximum(occur, 0)) * known
        table = F.reshape(places, (n, 1, -1)) + F.reshape(vectors, (1, len(occur), -1))
        ids = np.arange(n)[:, None] * len(occur) + which
        return F.reshape(table, (n * len(occur), -1)), ids.reshape(1, -1)

    def _loss(self, batch: Any, reduction: str) -> Any:
        *arrays, targets = batch
        out, known = self.out(WindowBatch(*arrays)), np.isfinite(targets)
        targets, weights = np.where(known, targets, 0), known.astype(self.dtype)
        if self.forecaster_settings.head == "quantile":
            q = self.forecaster_settings.quantiles
            return quantile_loss(out, targets, q, weights=weights, reduction=reduction)
        mean, deviation = out[..., 0], out[..., 1]
        return gaussian_nll_loss(
            mean, targets, deviation * deviation, eps=1e-4, weights=weights, reduction=reduction
        )

    def loss(self, *batch: Any) -> Value:
        """Return the mean pinball loss, or negative log-likelihood.

        The last argument has the scaled targets (B, H), NaN where one is not known.
        """
        loss: Value = self._loss(batch, "mean")
        return loss

    def measure(self, *batch: Any) -> tuple[list[tuple[float, float]], None]:
        """Return sum and count of the losses."""
        *arrays, _ = batch
        found = self._loss(arrays, "sum")
        return [(found.total, found.weight)], None

    def predict(self, batch: WindowBatch) -> NDArray[Any]:
        """Return the scaled forecasts (B, H, quantiles), in rising order, with `widening`."""
        out = np.asarray(self.out(batch), np.float64)
        if self.forecaster_settings.head == "gaussian":
            steps = [NormalDist().inv_cdf(q) for q in self.forecaster_settings.quantiles]
            out = out[..., :1] + np.abs(out[..., 1:]) * np.array(steps)
        out.sort(axis=-1)  # quantiles of little data may cross
        if out.shape[-1] == 3:
            middle = out[..., 1]
            out[..., 0] = np.minimum(out[..., 0] - self.widening[0], middle)
            out[..., 2] = np.maximum(out[..., 2] + self.widening[1], middle)
        return out

    def begin_highway(self, windows: Windows) -> None:
        """Set the highway to the autoregression that fits these windows best.

        The step after each is fitted, of at most 40,000 of them, evenly chosen. Windows with gaps
        count only where too few have none. See `rnncore.models.autoregression`.
        """
        if self.linear is None:
            return
        chosen = windows.without_gaps()
        if len(chosen) < 4 * self.form.look_back:
            chosen = np.arange(len(windows.places))
        count = min(len(chosen), MOST_FITTED)
        indices = chosen[np.linspace(0, len(chosen) - 1, count).astype(np.intp)]
        batch = windows.windows(indices)
        y = windows.targets(indices)[:, 0] - batch.offset[:, 0]
        known = np.isfinite(y)
        if not known.any():
            raise ValueError("windows: expected one known target at least, got none")
        one = fit_autoregression(batch.levels[known].astype(float), y[known].astype(float))
        found = iterated(one, self.form.horizon)
        with self.linear.writable_params() as params:
            params["weight"][...], params["bias"][...] = found

    def calibrate(self, windows: Windows) -> None:
        """Set `widening` so that, of these windows, intervals cover what they shall cover.

        At each step of the horizon each end moves by what leaves the wanted share of known targets
        beyond it: conformal quantile regression, for each end by itself. Intervals only become
        wider: what comes later is rarely easier.

        References
        ----------
        Y. Romano, E. Patterson and E. Candes, Conformalized quantile regression, NeurIPS 2019,
        section 4.
        """
        if not self.forecaster_settings.interval or not len(windows.places):
            return
        self.widening = np.zeros_like(self.widening)
        places = np.arange(len(windows.places))
        parts = [places[k : k + BATCH] for k in range(0, len(places), BATCH)]
        z = np.concatenate([self.predict(windows.windows(part)) for part in parts])
        y = np.concatenate([windows.targets(part) for part in parts]).astype(float)
        for step in range(self.form.horizon):
            known = np.isfinite(y[:, step])
            if known.any():
                count = int(known.sum())  # of few windows the share has to be larger
                share = min(1.0, (1 - self.forecaster_settings.quantiles[0]) * (count + 1) / count)
                beyond = (z[known, step, 0] - y[known, step], y[known, step] - z[known, step, -1])
                self.widening[:, step] = [max(0.0, np.quantile(one, share)) for one in beyond]

    def forecast(self, windows: Windows) -> NDArray[Any]:
        """Return the forecasts of windows as they are in the data: (windows, H, quantiles)."""
        places = np.arange(len(windows.places))
        parts = [places[k : k + BATCH] for k in range(0, len(places), BATCH)]
        return np.concatenate([
            windows.unscaled(part, self.predict(windows.windows(part))) for part in parts
        ])  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return the settings and what is known of the series as `json` can write them."""
        known = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.known._asdict().items()
        }
        return {**self.settings, "known": known, "widening": self.widening.tolist()}

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return the model of a file; sizes that its tensors do not have are refused first."""
        settings = dict(description)
        found = settings.pop("known")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found.items()
        }
        known = SeriesKnown(**fields)
        widening = np.array(settings.pop("widening"), np.float64)
        sizes = [
            layer_size(settings["cell"], "rnn", settings["hidden_size"]),
            ("reader.weight", 0, settings["hidden_size"]),
            ("places.weight", 0, -(-settings["horizon"] // settings["segment"])),
        ]
        if settings["series_vectors"] == "each":
            sizes.append(("vectors.weight", 0, len(known.names)))
        if settings["highway"] != "none":
            sizes.append(("linear.weight", 0, settings["horizon"]))
            sizes.append(("linear.weight", 1, settings["look_back"]))
        check_sizes(tensors, sizes)
        check_depth(tensors, "rnn", settings["num_layers"])
        count, means, scales = len(known.names), np.array(known.means), np.array(known.scales)
        if means.shape != (count,) or scales.shape != (count,) or not (scales > 0).all():
            raise ValueError("means, scales: expected one of each for each name, scales above 0")
        made = known, ForecasterSettings(**settings)
        model = with_weights(lambda blank: cls(*made, seed=blank), tensors)
        if widening.shape != model.widening.shape or not np.isfinite(widening).all():
            raise ValueError(f"widening is {widening.shape}, not {model.widening.shape}")
        model.widening = widening
        return model


def _repeated(state: Any, times: int) -> Any:
    # (layers, B, H) as (layers, times * B, H)
    return state if times == 1 else F.concatenate([state] * times, axis=1)
