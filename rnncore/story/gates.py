"""What the gates of a trained LSTM do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import rnncore
from rnncore.data.memory_tasks import adding_problem
from rnncore.training.plot import new_figure, save_png

STEPS, SECONDS = 50, 10.0


def draw(path: Path, data: Path | None) -> str:
    """Train on the adding problem; draw gates and cells on one sequence."""
    X, y = adding_problem(10_000, STEPS, seed=0)
    model = rnncore.SequenceRegressor(
        hidden_size=16, directions="forward", batch_size=50, epochs=None, seconds=SECONDS,
        learning_rate=1e-2, weight_decay=0.0,
    ).fit(X, y)  # fmt: skip
    test, sums = adding_problem(1000, STEPS, seed=1)
    error = np.mean((model.predict(test) - sums) ** 2)
    network: Any = model.network_
    x = ((test[0] - network.inputs.mean) / network.inputs.scale).astype(np.float32)
    record = network.rnn.record(x[:, None])[2][0]

    names = {"i": "input gate i", "f": "forget gate f", "o": "output gate o", "c": "cell c"}
    figure = new_figure(10, 8)
    for axis, (gate, name) in zip(figure.subplots(4, 1, sharex=True), names.items(), strict=True):
        values = record[gate][:, 0].T
        most = np.abs(values).max()
        limits = (-most, most, "RdBu") if gate == "c" else (0, 1, "viridis")
        image = axis.imshow(values, aspect="auto", vmin=limits[0], vmax=limits[1], cmap=limits[2])
        for place in np.flatnonzero(test[0, :, 1]):
            axis.axvline(place, color="red", lw=1)
        axis.set(ylabel=name, yticks=[])
        figure.colorbar(image, ax=axis)
    axis.set(xlabel="step t; red: the marked numbers")
    save_png(figure, path)
    return f"Squared error after {SECONDS:.0f} s of training: {error:.5f}; saying 1 has 0.167."
