"""Forecasts of CO2 and of sunspots from many origins, beside baselines, with three seeds.

    python examples/forecasting.py shared/data/series [PICTURES]

The last fifth of each series is the test; nothing of it is fitted on. With a folder for pictures
the last forecasts are drawn into it. With `pip install 'rnncore[forecast]'` AutoETS is a baseline
too, and for the sunspots AutoARIMA.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from rnncore import Forecaster
from rnncore.data.series import read_series
from rnncore.estimators.backtest import BASELINES, backtest
from rnncore.estimators.plot_forecast import plot_forecasts

SEEDS = (0, 1, 2)
CO2 = Forecaster(look_back=104, horizon=52, segment=52, hidden_size=32, epochs=60, batch_size=64,
                 dropout=0.2, validation_fraction=0.25, refit=True)  # fmt: skip
SUNSPOTS = Forecaster(look_back=11, horizon=11, segment=11, hidden_size=32, epochs=30,
                      batch_size=32, learning_rate=5e-3, transform="sqrt",
                      validation_fraction=0.4, refit=True)  # fmt: skip
TASKS = {
    "co2-weekly.csv": (CO2, (1, 12, 52), 52, ("AutoETS",)),
    "sunspots-yearly.csv": (SUNSPOTS, (1, 5, 11), 11, ("AutoETS", "AutoARIMA")),
}


def main(folder: Path, pictures: Path | None = None) -> None:
    """Print a table for each file and seed."""
    for name, (forecaster, steps, season, further) in TASKS.items():
        beside = (*BASELINES, *(further if find_spec("statsforecast") else ()))
        series = read_series(folder / name)
        test = len(series[0].values) // 5
        for seed in SEEDS:
            found = backtest(
                forecaster.set_params(seed=seed), series, test, steps, season=season,
                baselines=beside if seed == SEEDS[0] else (),
            )  # fmt: skip
            head, line, ours, *others = str(found).splitlines()
            if seed == SEEDS[0]:
                print("", f"{name}, season {season}:", "", head, line, *others, sep="\n")
            print(ours.replace("Forecaster", f"Forecaster, seed {seed}"), flush=True)
        if pictures is not None:
            past = [series[0].until(len(series[0].values) - max(steps))]
            forecasts = forecaster.fit(past).predict(past)
            picture = pictures / f"{Path(name).stem}.png"
            plot_forecasts(picture, series, forecasts, max(steps) * 6)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
