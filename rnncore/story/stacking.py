"""One, two and three layers, the same time for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.story.texts import text_of
from rnncore.training.plot import new_figure, save_png

SECONDS = 9.0
SIZES = {1: 152, 2: 104, 3: 84}  # layers and their units, about as many parameters


def draw(path: Path, data: Path | None) -> str:
    """Train a character model of each depth; draw their losses on text held out."""
    text, name = text_of(data)
    figure = new_figure(8, 4.5)
    axes, said = figure.subplots(), []
    for layers, size in SIZES.items():
        model = rnncore.LanguageModel(
            num_layers=layers, hidden_size=size, batch_size=32, epochs=None, seconds=SECONDS,
            validation_fraction=0.01, learning_rate=8e-3,
        ).fit(text)  # fmt: skip
        curve = np.array(model.validation_curve_)
        label = f"{layers} x {size}, {model.network_.num_parameters:,} parameters"
        axes.plot(curve[1:, 2], curve[1:, 3], label=label)
        said.append(f"{layers}: {curve[-1, 3]:.2f}")
    axes.set(xlabel="seconds of training", ylabel="bits per character, held out")
    axes.legend()
    save_png(figure, path)
    return f"{name}; bits per character after {SECONDS:.0f} s by layers: {', '.join(said)}."
