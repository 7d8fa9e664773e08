"""What the rest of an utterance is worth in noise: years, times and prices of recorded digits.

    python examples/speech.py shared/data/speech/fsdd [picture.png]

The recordings of the test are takes 0 to 4. Read forward, a word is judged by those before it.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from rnncore import WordTranscriber
from rnncore.data.recordings import read_recordings
from rnncore.data.utterances import number_string, spoken

LEVELS, SEEDS, STRINGS = (np.inf, 20, 10, 5, 0, -5, -10), (0, 1, 2), 400
SETTINGS = {"strings": "numbers", "noise": 2.0, "frames_per_step": 3, "average": 0.998}
NAMES = ["none" if np.isinf(level) else f"{level} dB" for level in LEVELS]
PARTS = [f"{way}, {how}" for way in ("both", "forward") for how in ("word alone", "whole")]


def main(folder: Path, picture: Path | None = None) -> None:
    """Train three times each way, print a table, and draw it."""
    said, rng = read_recordings(folder, 8000), np.random.default_rng(7)
    held_out = np.array([fnmatch(name, "*_[0-4].wav") for name in said.names])
    train, test = (said.take(np.flatnonzero(part)) for part in (~held_out, held_out))
    y = [number_string(rng) for _ in range(STRINGS)]
    noisy = [[spoken(test, words, rng, 10 ** (-level / 20)) for words in y] for level in LEVELS]
    (words, *alone), columns = (sum(X, []) for X in (y, *noisy)), []  # noqa: RUF017
    for way in ("both", "forward"):
        clean, right = [], []
        for seed in SEEDS:
            transcriber = WordTranscriber(directions=way, epochs=13, seed=seed, **SETTINGS)
            transcriber.fit(train)
            clean.append(f"{100 * transcriber.score(test.samples, test.words):.2f}")
            heard = [transcriber.score(X, words) for X in alone]
            right.append([heard, [transcriber.score(X, y) for X in noisy]])
        print(f"Isolated clean words, read {way}, % right by seed: {', '.join(clean)}.\n")
        columns += [*(100 - 100 * np.mean(right, 0))]
    print(f"| speech above noise | {' | '.join(PARTS)} | both, ratio |\n|---|{5 * '---:|'}")
    for name, *row in [*zip(NAMES, *columns, strict=True), ("mean", *np.mean(columns, 1))]:
        print(f"| {name} |", " | ".join(f"{one:.2f}" for one in (*row, row[1] / row[0])), "|")
    if picture is not None:
        from matplotlib.figure import Figure

        axes = Figure(figsize=(7, 4), layout="constrained").subplots()
        for column, label in zip(columns, PARTS, strict=True):
            axes.plot(NAMES, column, "o-", label=label)
        axes.set(xlabel="speech above noise", ylabel="% of words wrong", yscale="log")
        axes.legend()
        axes.figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
