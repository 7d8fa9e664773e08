"""One direction and two."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.training.plot import new_figure, save_png

STEPS = 30


def draw(path: Path, data: Path | None) -> str:
    """Train both; draw what they think along one sequence."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, STEPS, 1)).astype(np.float32)
    around = np.zeros((1000, STEPS))
    around[:, 1:] += X[:, :-1, 0]
    around[:, :-1] += X[:, 1:, 0]
    y = around > 0
    figure = new_figure(10, 5)
    axes, said = figure.subplots(2, 1, sharex=True), []
    for axis, (directions, name) in zip(
        axes, (("forward", "one direction"), ("both", "two directions")), strict=True
    ):
        model = rnncore.SequenceClassifier(
            hidden_size=24, directions=directions, pooling="none", epochs=8, learning_rate=1e-2,
        ).fit(X[:900], list(y[:900]))  # fmt: skip
        share = model.score(X[900:], list(y[900:]))
        said.append(f"{name} {100 * share:.0f} %")
        [probabilities] = model.predict_proba(X[-1:])
        colours = np.where(y[-1], "C2", "C3")
        axis.bar(range(1, STEPS + 1), probabilities[:, 1], color=colours)
        axis.axhline(0.5, color="k", lw=0.5)
        axis.set(ylim=(0, 1), ylabel="p(yes)", title=name)
    axes[1].set(xlabel="step t; green: yes is right, red: no is right")
    save_png(figure, path)
    return f"Right answers: {', '.join(said)}."
