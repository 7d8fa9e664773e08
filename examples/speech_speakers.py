"""Digits by speakers who were never heard in training: each left out once, with three seeds.

python examples/speech_speakers.py shared/data/speech/fsdd
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rnncore import WordTranscriber
from rnncore.data.recordings import read_recordings

SEEDS = (0, 1, 2)


def main(folder: Path) -> None:
    """Train once for each seed and speaker, on all others, and print a table."""
    said, right = read_recordings(folder, 8000), []
    who = np.array(said.speakers)
    print("| speaker left out | words right, %, by seed | mean |\n|---|---:|---:|")
    for speaker in sorted(set(said.speakers)):
        others = said.take(np.flatnonzero(who != speaker))
        mine, scores = said.take(np.flatnonzero(who == speaker)), []
        for seed in SEEDS:
            transcriber = WordTranscriber(
                longest=1, noise=0.5, variation=0.15, disguise=1.0, trim=0.02, frames_per_step=3,
                batch_size=32, epochs=12, seed=seed,
            ).fit(others)  # fmt: skip
            scores.append(100 * transcriber.score(mine.samples, mine.words))
        right.append(scores)
        each = ", ".join(f"{score:.1f}" for score in scores)
        print(f"| {speaker} | {each} | {np.mean(scores):.1f} |", flush=True)
    each = ", ".join(f"{score:.1f}" for score in np.mean(right, 0))
    print(f"| mean | {each} | {np.mean(right):.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
