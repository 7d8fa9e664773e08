"""Digits by speakers who were never heard in training: each left out once.

    python examples/speech_speakers.py shared/data/speech/fsdd

A word alone, and random strings of five, of which nothing can be guessed: they tell the speaker.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rnncore import WordTranscriber
from rnncore.data.recordings import read_recordings
from rnncore.data.utterances import spoken

STRINGS = 200


def main(folder: Path) -> None:
    """Train once for each speaker, on all others, and print a table."""
    said, rows = read_recordings(folder, 8000), []
    who, speakers = np.array(said.speakers), sorted(set(said.speakers))
    print("| speaker left out | one word alone, % right | strings of five, % right |")
    print("|---|---:|---:|")
    for speaker in speakers:
        others = said.take(np.flatnonzero(who != speaker))
        mine = said.take(np.flatnonzero(who == speaker))
        transcriber = WordTranscriber(
            normalize="mean", bands=20, variation=0.2, dropout=0.5, noise=0.5, epochs=5
        ).fit(others)
        rng = np.random.default_rng(7)
        y = [[str(digit) for digit in rng.integers(0, 10, 5)] for _ in range(STRINGS)]
        X = [spoken(mine, words, rng) for words in y]
        right = transcriber.score(mine.samples, mine.words), transcriber.score(X, y)
        rows.append([100 * share for share in right])
        print(f"| {speaker} | {rows[-1][0]:.1f} | {rows[-1][1]:.1f} |", flush=True)
    alone, together = np.mean(rows, 0)
    print(f"| mean | {alone:.1f} | {together:.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
