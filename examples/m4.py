"""The M4 competition, hourly: one model for all 414 series, 48 values ahead.

    python examples/m4.py shared/data/series [EPOCHS [SEEDS]]

Scored as the competition did; OWA holds sMAPE and MASE against those of the forecast naive2.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np

from rnncore import Forecaster
from rnncore.estimators.accuracy import coverage, mase, owa, smape
from rnncore.estimators.baselines import naive2, seasonal_naive

HORIZON, DAY = 48, 24
CELLS = "| {} | {:.3f} | {:.3f} | {:.3f} | {} | {} |"


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the series of a file, one a row."""
    _, *rows = csv.reader(path.read_text().splitlines())
    return {name: np.array([float(cell) for cell in cells if cell]) for name, *cells in rows}


def main(folder: Path, epochs: float = 3, seeds: int = 3) -> None:
    """Train with each seed and print the scores."""
    past, future = (read(folder / f"m4-hourly-{part}.csv") for part in ("train", "test"))

    def scores(forecasts: dict[str, np.ndarray]) -> tuple[float, float]:
        of_each = [(smape(y, f), mase(y, f, past[name], DAY))
                   for name, y in future.items() for f in [forecasts[name]]]  # fmt: skip
        return tuple(np.mean(of_each, 0).tolist())

    print("| | sMAPE | MASE | OWA | covered | minutes |\n|---|---:|---:|---:|---:|---:|")
    reference = scores({name: naive2(y, HORIZON, DAY) for name, y in past.items()})
    naive = scores({name: seasonal_naive(y, HORIZON, DAY) for name, y in past.items()})
    print(CELLS.format("seasonal naive", *naive, owa(*naive, *reference), "", ""))
    for seed in range(seeds):
        start = time.monotonic()
        forecaster = Forecaster(
            look_back=7 * DAY, horizon=HORIZON, segment=DAY, transform="log", scaling="window",
            highway="trained", batch_size=256, average=0.999, epochs=epochs, seed=seed,
        )  # fmt: skip
        found = forecaster.fit(past).predict(past)
        minutes = (time.monotonic() - start) / 60
        ours = scores({one.name: one.median for one in found})
        share = np.mean([coverage(future[one.name], one.low, one.high) for one in found])
        print(CELLS.format(f"Forecaster, seed {seed}", *ours, owa(*ours, *reference),
                           f"{100 * share:.1f} %", f"{minutes:.1f}"), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
