"""Parts of speech: one word in several sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.data.tagged import read_tagged
from rnncore.training.plot import new_figure, save_png

SECONDS, WORD = 30.0, "that"
SENTENCES = ("I like that", "that book is mine", "I know that it works", "it is not that bad")


def draw(path: Path, data: Path | None) -> str:
    """Train for a short while; draw what the word is taken for."""
    assert data is not None
    tagger = rnncore.Tagger(
        hidden_size=100, word_size=50, spelling_size=32, epochs=None, seconds=SECONDS,
        average=0.99, learning_rate=6e-3,
    )  # fmt: skip
    tagger.fit(data / "train.conllu")
    rows = [
        tagger.predict_proba([sentence.split()])[0][sentence.split().index(WORD)]
        for sentence in SENTENCES
    ]
    shares = np.array(rows)
    some = shares.max(0) > 0.02
    figure = new_figure(8, 3)
    axes = figure.subplots()
    image = axes.imshow(shares[:, some], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(int(some.sum())), np.array(tagger.tags_)[some])
    axes.set_yticks(range(len(SENTENCES)), SENTENCES)
    axes.set(title=f"the tag of {WORD!r}")
    figure.colorbar(image, ax=axes, label="probability")
    save_png(figure, path)
    X, y = read_tagged(data / "test.conllu")
    right = 100 * tagger.score(X, y)
    return f"After {SECONDS:.0f} s of training {right:.1f} % of the test's words get the right tag."
