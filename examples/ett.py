"""Long horizons: one GRU over segments on ETTh1, as in SegRNN (Lin et al. 2023).

    python examples/ett.py shared/data/series/ETTh1.csv [HORIZON ...] [--seed N]

The usual split, 12 months to train on, 4 to choose by, 4 to test; look-back 96; all seven columns,
standardised by the training part; squared and absolute errors are means over all test windows.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np

from rnncore import Forecaster
from rnncore.data.series import read_series
from rnncore.estimators.forecaster_source import windows_of

LOOK_BACK, MONTH = 96, 30 * 24
TRAINED, VALIDATED, TESTED = 12 * MONTH, 16 * MONTH, 20 * MONTH
PUBLISHED = {96: 0.368, 192: 0.408, 336: 0.444, 720: 0.446}


def main(path: Path, horizons: list[int], seed: int) -> None:
    """Train a model for each horizon and print its errors."""
    series = []
    for one in read_series(path):
        part = one.values[:TRAINED]
        standard = (one.values[:TESTED] - part.mean()) / part.std()
        series.append(dataclasses.replace(one, values=standard, times=None))
    print("| horizon | squared error | SegRNN's | absolute error | minutes |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for horizon in horizons:
        start = time.monotonic()
        forecaster = Forecaster(
            look_back=LOOK_BACK, horizon=horizon, segment=48, hidden_size=256, dropout=0.5,
            highway="none", series_vectors="each", interval=0, epochs=5, learning_rate=1e-3,
            batch_size=512, validation_fraction=1 - TRAINED / VALIDATED, seed=seed,
        ).fit([one.until(VALIDATED) for one in series])  # fmt: skip
        minutes = (time.monotonic() - start) / 60
        origins = np.arange(VALIDATED, TESTED - horizon + 1)
        windows = windows_of(forecaster.network_, series, [origins] * len(series))
        found = forecaster.network_.forecast(windows)[..., 0].reshape(len(series), -1, horizon)
        truth = [[one.values[k : k + horizon] for k in origins] for one in series]
        error = found - np.array(truth)
        print(f"| {horizon} | {np.mean(error**2):.3f} | {PUBLISHED.get(horizon, '')} | "
              f"{np.mean(np.abs(error)):.3f} | {minutes:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("horizons", type=int, nargs="*", default=list(PUBLISHED))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.path, given.horizons, given.seed)
