"""Bounded activations: states stay, gradients do not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import rnncore
from rnncore.diagnostics import follow_impulse, growth_per_step
from rnncore.training.plot import new_figure, save_png

UNITS, STEPS = 512, 50
NETS = (("tanh", 0.75), ("tanh", 3.0), ("tanh", 30.0), ("sigmoid", 3.0))


def draw(path: Path, data: Path | None) -> str:
    """Draw where the states of four networks lie, and what happens to a gradient."""
    figure = new_figure(12, 5.5)
    grid = figure.subplots(2, len(NETS))
    said = []
    for (above, below), (kind, variance) in zip(grid.T, NETS, strict=True):
        rnn = rnncore.RNN(UNITS, UNITS, nonlinearity=kind, bias=False)
        rnn.initialize({"weight_hh*": ("normal", math.sqrt(variance / UNITS))}, seed=0)
        found = follow_impulse(rnn, STEPS, 0)
        h = found.states["h"][5:].ravel()
        above.hist(h, np.linspace(0 if kind == "sigmoid" else -1, 1, 41), color="C0")
        above.set(title=f"{kind}, N(0, {variance:g}/n)", xlabel="h_t", yticks=[])
        below.semilogy(range(1, STEPS + 1), found.gradients, color="C3")
        below.set(xlabel="t", ylabel="|dL/dh_t|")
        growth = 1 / growth_per_step(found.gradients)
        slope = np.mean(1 - h * h if kind == "tanh" else h * (1 - h))
        said.append(f"{kind} {variance:g}/n: slope {slope:.2f}, gradient x {growth:.2f} a step")
    save_png(figure, path)
    return "; ".join(said) + "."
