"""Digits by speakers who were never heard in training: each left out once, with three seeds.

python examples/speech_speakers.py shared/data/speech/fsdd
python examples/speech_speakers.py shared/data/speech/fsdd 0    # one seed
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rnncore import WordTranscriber
from rnncore.data.recordings import read_recordings

SEEDS = (0, 1, 2)
VOICES = 5  # that the words of the speaker left out are read in


def main(folder: Path, *seeds: int) -> None:
    """Train once for each seed and speaker, on all others, and print a table."""
    said, right = read_recordings(folder, 8000), []
    who = np.array(said.speakers)
    print(f"| speaker left out | words right, %, by seed | read in {VOICES} voices | mean |")
    print("|---|---:|---:|---:|")
    for speaker in sorted(set(said.speakers)):
        others = said.take(np.flatnonzero(who != speaker))
        mine, scores = said.take(np.flatnonzero(who == speaker)), []
        for seed in seeds or SEEDS:
            transcriber = WordTranscriber(
                longest=1, noise=0.5, variation=0.2, tempo=0.3, disguise=1.0, trim=0.02, bands=24,
                frames_per_step=2, label_smoothing=0.1, average=0.99, batch_size=32, epochs=40,
                seed=seed,
            ).fit(others)  # fmt: skip
            alone = transcriber.score(mine.samples, mine.words)
            several = transcriber.set_params(voices=VOICES).score(mine.samples, mine.words)
            scores.append([100 * alone, 100 * several])
        right.append(scores)
        print(row(speaker, scores), flush=True)
    print(row("mean", np.mean(right, 0)))


def row(name: str, scores: object) -> str:
    """Return a row of the table; scores are (seeds, [as it is, in several voices])."""
    alone, several = np.transpose(scores)
    each = [", ".join(f"{score:.1f}" for score in some) for some in (alone, several)]
    return f"| {name} | {each[0]} | {each[1]} | {several.mean():.1f} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
