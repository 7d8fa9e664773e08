"""The M4 competition, hourly: one model for all 414 series, 48 values ahead.

    python examples/m4.py shared/data/series [--epochs N] [--seeds N]

Scored as the competition did: means over all series of sMAPE and MASE, and OWA, which holds both
against the forecast naive2.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from rnncore import Forecaster
from rnncore.data.series import Series
from rnncore.estimators.accuracy import coverage, mase, owa, smape
from rnncore.estimators.baselines import naive2, seasonal_naive

HORIZON, DAY = 48, 24


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the series of a file, one a row."""
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return {name: np.array([float(cell) for cell in cells if cell]) for name, *cells in rows}


def main(folder: Path, epochs: float, seeds: int) -> None:
    """Train with each seed and print the scores."""
    past, future = (read(folder / f"m4-hourly-{part}.csv") for part in ("train", "test"))

    def scores(forecasts: list[np.ndarray]) -> tuple[float, float]:
        pairs = [(y, f, past[name]) for (name, y), f in zip(future.items(), forecasts, strict=True)]
        return (float(np.mean([smape(y, f) for y, f, _ in pairs])),
                float(np.mean([mase(y, f, h, DAY) for y, f, h in pairs])))  # fmt: skip

    reference = scores([naive2(y, HORIZON, DAY) for y in past.values()])
    print("| | sMAPE | MASE | OWA | covered | minutes |\n|---|---:|---:|---:|---:|---:|")
    naive = scores([seasonal_naive(y, HORIZON, DAY) for y in past.values()])
    for name, found in (("naive2", reference), ("seasonal naive", naive)):
        print(f"| {name} | {found[0]:.3f} | {found[1]:.3f} | {owa(*found, *reference):.3f} | | |")
    for seed in range(seeds):
        start = time.monotonic()
        forecaster = Forecaster(
            look_back=7 * DAY, horizon=HORIZON, segment=DAY, transform="log", scaling="window",
            highway="trained", batch_size=256, average=0.999, epochs=epochs, seed=seed,
        )  # fmt: skip
        series = [Series(name, values) for name, values in past.items()]
        forecasts = forecaster.fit(series).predict(series)
        minutes = (time.monotonic() - start) / 60
        found = scores([one.median for one in forecasts])
        truth = np.concatenate([future[one.name] for one in forecasts])
        low, high = (np.concatenate(some) for some in zip(*(f[3:] for f in forecasts), strict=True))
        print(f"| Forecaster, seed {seed} | {found[0]:.3f} | {found[1]:.3f} | "
              f"{owa(*found, *reference):.3f} | {100 * coverage(truth, low, high):.1f} % | "
              f"{minutes:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    main(given.folder, given.epochs, given.seeds)
