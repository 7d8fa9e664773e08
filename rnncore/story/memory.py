"""The gradient flow of trained networks: LSTM, GRU and the simple network on the adding problem."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.data.memory_tasks import adding_problem
from rnncore.diagnostics import diagnose
from rnncore.training.plot import new_figure, save_png

STEPS, SECONDS = 100, 14.0
MODELS = {"lstm": 1e-2, "gru": 1e-2, "rnn": 1e-3}  # and their learning rates


def draw(path: Path, data: Path | None) -> str:
    """Train three networks; draw their curves, and how far back their gradients reach."""
    X, y = adding_problem(10_000, STEPS, seed=0)
    test = adding_problem(1000, STEPS, seed=1)
    figure = new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    said = []
    for cell, learning_rate in MODELS.items():
        model = rnncore.SequenceRegressor(
            cell=cell, hidden_size=32, directions="forward", batch_size=50, epochs=None,
            seconds=SECONDS, learning_rate=learning_rate, weight_decay=0.0,
        ).fit(X, y, validation=test)  # fmt: skip
        curve = np.array(model.validation_curve_)
        left.semilogy(curve[:, 0], curve[:, 3] * y.var(), label=cell.upper())
        found = diagnose(model.network_, *model.batch(test[0][:100], test[1][:100]))["rnn.l0"]
        carrier = "c" if "c" in found.gradients else "h"
        flow = found.gradients[carrier]
        right.semilogy(range(1, STEPS + 1), flow / flow[-1], label=f"{cell.upper()}, {carrier}")
        said.append(f"{cell.upper()} {found.gradient_growth:.3f}")
    left.axhline(1 / 6, color="k", lw=0.5)
    left.set(xlabel="step of training", ylabel="squared error; saying 1 has 0.167")
    right.set(xlabel="t", ylabel="gradient of the trained network, of its last step's")
    left.legend()
    right.legend()
    save_png(figure, path)
    return (
        f"T = {STEPS}, {SECONDS:.0f} s of training each. Growth of the gradient a step back: "
        f"{', '.join(said)}."
    )
