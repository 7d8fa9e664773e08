"""English to French, with attention and without, beam against greedy; prints a table of BLEU.

    python examples/translation.py shared/data/pairs/en-fr.tsv [MODELS]

600 English sentences are held out with all their translations. With a folder, models are kept
there, and a picture of where one looks: a run that was stopped goes on with those that are done.
"""

import sys
import tempfile
from pathlib import Path
from statistics import mean

from rnncore import Translator
from rnncore.data import read_pairs, split_pairs
from rnncore.estimators.translator import bleu

SETTINGS = {"epochs": 24, "dropout": 0.4, "learning_rate": 3e-3}
SEEDS, HELD_OUT = (0, 1, 2), 600


def trigrams(text: str) -> frozenset[str]:
    """Return the parts of three characters of a text."""
    return frozenset(f"  {text.lower()}  "[k : k + 3] for k in range(len(text) + 2))


def main(path: Path, models: Path) -> None:
    """Train what is not there yet, translate the sentences that were held out."""
    pairs, test = split_pairs(read_pairs(path), HELD_OUT)
    (pairs, validation), right = split_pairs(pairs, HELD_OUT, order=1), {}
    for english, french in test:
        right.setdefault(english, []).append(french)
    print("| | search | BLEU, all translations right | BLEU, the first one |\n|---|---|---:|---:|")

    def show(name: str, several: list[list[str]]) -> None:
        scores = (mean(bleu(found, [french[:count] for french in right.values()])
                       for found in several) for count in (None, 1))  # fmt: skip
        print(f"| {name} |", " | ".join(f"{score:.1f}" for score in scores), "|", flush=True)

    known = [(trigrams(english), french) for english, french in pairs]
    show("translation of the nearest training sentence |", [[
        max(known, key=lambda one: len(a & one[0]) / len(a | one[0]))[1]
        for a in map(trigrams, right)]])  # fmt: skip
    for attention in ("none", "luong"):
        translators = []
        for seed in SEEDS:
            if not (file := models / f"{attention}-{seed}.safetensors").exists():
                model = Translator(attention=attention, seed=seed, **SETTINGS)
                model.fit(pairs, validation=validation).save(file)
            translators.append(Translator.load(file))
        for name, size in (("greedy", 1), ("beam of 5", 5), ("beam of 10", 10)):
            show(f"attention: {attention} | {name}",
                 [one.predict(list(right), beam_size=size) for one in translators])  # fmt: skip
    translators[0].plot_alignment(models / "alignment.png", "I am not afraid.", "Je n'ai pas peur.")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(*map(Path, [*sys.argv[1:], folder][:2]))
