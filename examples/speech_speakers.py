"""Digits by speakers who were never heard in training: each left out once.

python examples/speech_speakers.py shared/data/speech/fsdd
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rnncore import WordTranscriber
from rnncore.data.recordings import read_recordings


def main(folder: Path) -> None:
    """Train once for each speaker, on all others, and print a table."""
    said, right = read_recordings(folder, 8000), []
    who = np.array(said.speakers)
    print("| speaker left out | words right, % |\n|---|---:|")
    for speaker in sorted(set(said.speakers)):
        others = said.take(np.flatnonzero(who != speaker))
        mine = said.take(np.flatnonzero(who == speaker))
        transcriber = WordTranscriber(
            longest=1, noise=0.5, variation=0.15, disguise=1.0, trim=0.02, frames_per_step=3,
            batch_size=32, epochs=12,
        ).fit(others)  # fmt: skip
        right.append(100 * transcriber.score(mine.samples, mine.words))
        print(f"| {speaker} | {right[-1]:.1f} |", flush=True)
    print(f"| mean | {np.mean(right):.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
