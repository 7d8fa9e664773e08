"""Sequence to sequence: dates in another form, and where the writer looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore

SECONDS = 15.0
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def draw(path: Path, data: Path | None) -> str:
    """Train a translator of dates; draw its attention for one that it has not seen."""
    dates = [
        (f"{month} {day}, {year}", f"{year}-{number:02}-{day:02}")
        for year in (2024, 2025, 2026)
        for number, month in enumerate(MONTHS, 1)
        for day in range(1, 29)
    ]
    order = np.random.default_rng(0).permutation(len(dates))
    pairs = [dates[k] for k in order]
    translator = rnncore.Translator(
        hidden_size=48, embedding_size=32, source="characters", target="characters", dropout=0.0,
        epochs=None, seconds=SECONDS, learning_rate=1e-2, batch_size=32,
    ).fit(pairs[:800])  # fmt: skip
    text, written = pairs[-1]
    translator.plot_alignment(path, text, written)
    right = translator.score(pairs[800:])
    return f"{100 * right:.0f} % of {len(pairs) - 800} dates never seen are right; drawn: {text}."
