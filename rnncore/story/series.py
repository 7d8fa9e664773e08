"""What comes next in a series."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.data.series import Series, read_series
from rnncore.estimators.plot_forecast import plot_forecasts

HORIZON = 22


def draw(path: Path, data: Path | None) -> str:
    """Learn from a series but for its end, and draw the forecast beside what came."""
    whole = _series() if data is None else read_series(data)[0]
    past = whole.until(len(whole.values) - HORIZON)
    forecaster = rnncore.Forecaster(
        look_back=22, horizon=HORIZON, segment=11, hidden_size=32, epochs=30, batch_size=32,
        learning_rate=5e-3, transform="sqrt", validation_fraction=0.2, refit=True,
    ).fit([past])  # fmt: skip
    [forecast] = forecaster.predict([past])
    plot_forecasts(path, [whole], [forecast], 120)
    came = whole.values[-HORIZON:]
    inside = np.mean((came >= forecast.low) & (came <= forecast.high))
    error = np.abs(forecast.median - came).mean()
    flat = np.abs(past.values[-1] - came).mean()
    return (
        f"{whole.name}: mean absolute error {error:.1f}, of the last value {flat:.1f}; "
        f"{100 * inside:.0f} % of what came is within the interval."
    )


def _series() -> Series:
    t = np.arange(300)
    rng = np.random.default_rng(0)
    values = 60 + 50 * np.sin(t * 2 * np.pi / 11) + 5 * rng.standard_normal(300)
    return Series("a noisy sine", values)
