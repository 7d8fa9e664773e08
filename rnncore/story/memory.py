"""The gradient flow of trained networks: LSTM, GRU and the simple network on the adding problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import rnncore
from rnncore.data.memory_tasks import adding_problem
from rnncore.diagnostics import diagnose
from rnncore.training import Callback, Trainer
from rnncore.training.plot import new_figure, save_png

STEPS, SECONDS = 150, 12.0
MODELS = {"lstm": 1e-2, "gru": 1e-2, "rnn": 1e-3}  # and their learning rates


class Begun(Callback):
    """Looks at the network of an estimator before it learns."""

    def __init__(self, *some: Any) -> None:
        self.some = some

    def on_begin(self, trainer: Trainer) -> None:
        """Take the gradients of some sequences."""
        model = rnncore.SequenceRegressor.of_network(trainer.model)
        self.found = diagnose(trainer.model, *model.batch(*self.some)).layers[0]


def draw(path: Path, data: Path | None) -> str:
    """Train three networks; draw their curves, and how far back their gradients reach."""
    X, y = adding_problem(10_000, STEPS, seed=0)
    test = adding_problem(300, STEPS, seed=1)
    figure = new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    said = []
    some = test[0][:100], test[1][:100]
    for (cell, learning_rate), colour in zip(MODELS.items(), ("C2", "C0", "C3"), strict=True):
        model = rnncore.SequenceRegressor(
            cell=cell, hidden_size=32, directions="forward", batch_size=50, epochs=None,
            seconds=SECONDS, learning_rate=learning_rate, weight_decay=0.0,
        ).fit(X, y, validation=test, callbacks=[begun := Begun(*some)])  # fmt: skip
        curve = np.array(model.validation_curve_)
        left.semilogy(curve[:, 0], curve[:, 3] * y.var(), colour, label=cell.upper())
        after = diagnose(model.network_, *model.batch(*some)).layers[0]
        carrier = "c" if cell == "lstm" else "h"
        for found, style in ((begun.found, ":"), (after, "-")):
            flow = found.gradients[carrier]
            label = f"{cell.upper()}, {carrier}" if found is after else None
            right.semilogy(range(1, STEPS + 1), flow / flow[-1], colour + style, label=label)
        said.append(f"{cell.upper()} {begun.found.gradient_growth:.3f} and "
                    f"{after.gradient_growth:.3f}")  # fmt: skip
    left.axhline(1 / 6, color="k", lw=0.5)
    left.set(xlabel="step of training", ylabel="squared error")
    right.set(xlabel="t; dotted: before training", ylabel="|dL/dh_t|, of the last step's")
    left.legend()
    right.legend()
    save_png(figure, path)
    return (
        f"T = {STEPS}, {SECONDS:.0f} s of training each. Growth of the gradient a step back, "
        f"before and after: {', '.join(said)}."
    )
