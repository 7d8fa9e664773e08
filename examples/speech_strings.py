"""Strings of 2 to 5 digits whose boundaries nobody knows; the same heard as a stream.

    python examples/speech_strings.py shared/data/speech/fsdd

Digits are drawn at random, so that none can be guessed from its neighbours; the recordings of the
test are takes 0 to 4.
"""

from __future__ import annotations

import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from rnncore import WordTranscriber
from rnncore.data.recordings import read_recordings
from rnncore.data.utterances import spoken

STRINGS, RATE, SEEDS = 600, 8000, (0, 1, 2)


def main(folder: Path) -> None:
    """Train both ways and forward, print a table, and listen to the test in blocks of 20 ms."""
    said, rng = read_recordings(folder, RATE), np.random.default_rng(7)
    held_out = np.array([fnmatch(name, "*_[0-4].wav") for name in said.names])
    train, test = (said.take(np.flatnonzero(part)) for part in (~held_out, held_out))
    y = [[*map(str, rng.integers(0, 10, rng.integers(2, 6)))] for _ in range(STRINGS)]
    X = [spoken(test, words, rng, pause=RATE // 5)[0] for words in y]
    print("| read | the likeliest path, % of words wrong, by seed | a beam of 8 |\n|---|---:|---:|")
    for directions, size in (("both", 128), ("forward", 192)):
        wrong: dict[int, list[str]] = {1: [], 8: []}  # by width of the beam
        for seed in SEEDS:
            transcriber = WordTranscriber(
                boundaries="unknown", directions=directions, hidden_size=size, noise=0.3,
                average=0.998, epochs=12, seed=seed,
            ).fit(train)  # fmt: skip
            for beam, some in wrong.items():
                some.append(f"{100 - 100 * transcriber.set_params(beam=beam).score(X, y):.2f}")
        print(f"| {directions} | {', '.join(wrong[1])} | {', '.join(wrong[8])} |", flush=True)
    whole, block = transcriber.set_params(beam=1).predict(X), RATE // 50
    stream, start, same = transcriber.stream(), time.perf_counter(), 0
    for sound, words in zip(X, whole, strict=True):
        stream.reset()
        for first in range(0, len(sound), block):
            stream.process(sound[first : first + block])
        same += stream.words == words
    taken, seconds = time.perf_counter() - start, sum(map(len, X)) / RATE
    print(
        f"\nThe stream, in blocks of 20 ms, says the same as the whole of {same} of {STRINGS} "
        f"strings; it takes {taken:.1f} s for {seconds:.0f} s of sound, a real-time factor of "
        f"{taken / seconds:.4f}."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
