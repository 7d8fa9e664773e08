"""States and gradients explode or vanish, by the variance of the recurrent weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import rnncore
from rnncore.diagnostics import follow_impulse, growth_per_step
from rnncore.training.plot import new_figure, save_png

UNITS, STEPS, SEEDS = 256, 50, 6
#: The variance of W_hh times n, or None for an LSTM whose forget gates begin at sigmoid(2).
NETS = {
    "ReLU, N(0, 3/n)": 3.0,
    "ReLU, N(0, 2/n)": 2.0,
    "ReLU, N(0, 1.5/n)": 1.5,
    "LSTM": None,
}


def draw(path: Path, data: Path | None) -> str:
    """Draw the mean over seeds of what is left of an impulse, both ways."""
    figure = new_figure(11, 4.5)
    axes, said = figure.subplots(1, 2), []
    for name, variance in NETS.items():
        found = [follow_impulse(_layer(variance, seed), STEPS, seed) for seed in range(SEEDS)]
        norms = [np.log(one.norms / one.norms[0]) for one in found]
        gradients = [np.log(one.gradients) for one in found]
        for axis, logs in zip(axes, (norms, gradients), strict=True):
            axis.semilogy(range(1, STEPS + 1), np.exp(np.mean(logs, 0)), label=name)
        growth = np.mean([growth_per_step(one.norms) for one in found])
        said.append(f"{name}: {growth:.2f}")
    axes[0].set(title="|h_t| / |h_1|; an input at t = 1", xlabel="t")
    axes[1].set(title=f"|dL/dh_t|; a gradient at t = {STEPS}", xlabel="t")
    axes[0].legend()
    save_png(figure, path)
    return (
        f"Growth of the state a step, mean over {SEEDS} seeds of {UNITS} units: {', '.join(said)}. "
        "Of the LSTM c is drawn."
    )


def _layer(variance: float | None, seed: int) -> rnncore.Recurrent:
    if variance is None:
        lstm = rnncore.LSTM(UNITS, UNITS, seed=seed)
        bias = np.repeat([0.0, 2.0, 0.0, 0.0], UNITS)  # of i, f, g, o
        lstm.initialize({"bias*": lambda *_: bias}, seed=seed)
        return lstm
    rnn = rnncore.RNN(UNITS, UNITS, nonlinearity="relu", bias=False)
    rnn.initialize({"weight_hh*": ("normal", math.sqrt(variance / UNITS))}, seed=seed)
    return rnn
