"""A character model: what it expects next, and what it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.story.texts import text_of
from rnncore.training.plot import new_figure, save_png

SECONDS, SHOWN, LIKELIEST = 20.0, 40, 8


def draw(path: Path, data: Path | None) -> str:
    """Train, draw the likeliest next characters along a line of the text, and let it write."""
    text, name = text_of(data)
    model = rnncore.LanguageModel(
        num_layers=1, hidden_size=160, batch_size=32, epochs=None, seconds=SECONDS,
        learning_rate=8e-3, validation_fraction=0.0,
    ).fit(text[:-2000])  # fmt: skip
    held_out = text[-2000:]
    some = held_out[-400:]
    expected = model.predict_proba(some)[-SHOWN - 1 : -1]
    figure = new_figure(11, 3.5)
    axes = figure.subplots()
    order = np.argsort(-expected, axis=1)[:, :LIKELIEST]
    shares = np.take_along_axis(expected, order, axis=1)
    image = axes.imshow(shares.T, aspect="auto", cmap="Greens", vmin=0, vmax=1)
    symbols = model.vocabulary_.decode
    for t, row in enumerate(order):
        for k, symbol in enumerate(row):
            character = _shown(symbols([symbol]))
            right = character == _shown(some[t - SHOWN])
            colour = "red" if right else "black"
            axes.text(t, k, character, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(SHOWN), [_shown(one) for one in some[-SHOWN:]])
    axes.set(xlabel="the text", ylabel="the likeliest, from above", yticks=[])
    figure.colorbar(image, ax=axes)
    save_png(figure, path)
    sample = model.sample(300, temperature=0.7, prime=text[:1], seed=0)
    return f"{name}: {model.bits(held_out):.2f} bits per character held out. It writes:\n\n{sample}"


def _shown(character: str) -> str:
    return {" ": "␣", "\n": "↵", "\t": "⇥"}.get(character, character).replace("$", r"\$")
