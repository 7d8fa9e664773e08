"""What the rest of an utterance is worth in noise: years, times and prices of recorded digits.

    python examples/speech.py shared/data/speech/fsdd [picture.png]

The recordings of the test are takes 0 to 4.
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


def main(folder: Path, picture: Path | None = None) -> None:
    """Train three times, print a table, and draw it."""
    said, rng = read_recordings(folder, 8000), np.random.default_rng(7)
    held_out = np.array([fnmatch(name, "*_[0-4].wav") for name in said.names])
    train, test = (said.take(np.flatnonzero(part)) for part in (~held_out, held_out))
    y = [number_string(rng) for _ in range(STRINGS)]
    noisy = [[spoken(test, words, rng, 10 ** (-level / 20)) for words in y] for level in LEVELS]
    words, clean, wrong = sum(y, []), [], []  # noqa: RUF017
    for seed in SEEDS:
        transcriber = WordTranscriber(strings="numbers", average=0.998, epochs=10, seed=seed)
        transcriber.fit(train)
        clean.append(f"{100 * transcriber.score(test.samples, test.words):.2f}")
        alone = [transcriber.score([word for one in X for word in one], words) for X in noisy]
        wrong.append([alone, [transcriber.score(X, y) for X in noisy]])
    table = 100 - 100 * np.mean(wrong, 0)
    names = ["none" if np.isinf(level) else f"{level} dB" for level in LEVELS]
    print(f"Isolated clean words, % right with seeds 0, 1, 2: {', '.join(clean)}.\n")
    print("| speech above noise | one word alone, % wrong | whole utterance, % wrong | ratio |")
    print("|---|---:|---:|---:|")
    rows = [*zip(names, *table, strict=True), ("mean of all", *table.mean(1))]
    for name, alone, whole in rows:
        print(f"| {name} | {alone:.2f} | {whole:.2f} | {whole / alone:.2f} |")
    if picture is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for column, label in zip(table, ("one word alone", "whole utterance"), strict=True):
            axes.plot(names, column, "o-", label=label)
        axes.set(xlabel="speech above noise", ylabel="% of words wrong", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
