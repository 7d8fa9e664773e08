"""English to French, with attention and without, beam against greedy; prints a table of BLEU.

    python examples/translation.py shared/data/pairs/en-fr.tsv [MODELS]

With a folder, models are kept there: a run that was stopped goes on with those that are done.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rnncore import Translator
from rnncore.data import read_pairs, split_pairs
from rnncore.estimators.translator import bleu

SETTINGS = {"epochs": 24, "dropout": 0.4, "learning_rate": 3e-3}
SEARCHES = {"greedy": 1, "beam of 5": 5, "beam of 10": 10}


def trigrams(text: str) -> frozenset[str]:
    """Return the parts of three characters of a text."""
    text = f"  {text.lower()}  "
    return frozenset(text[k : k + 3] for k in range(len(text) - 2))


def main(path: Path, models: Path) -> None:
    """Train what is not there yet, translate 600 sentences that were held out."""
    pairs, test = split_pairs(read_pairs(path), 600)
    pairs, validation = split_pairs(pairs, 600, order=1)
    right: dict[str, list[str]] = {}
    for english, french in test:
        right.setdefault(english, []).append(french)
    print("| | search | BLEU, all translations | BLEU, the first one | seconds |")
    print("|---|---|---:|---:|---:|")

    def show(name: str, search: str, found: list[str], seconds: float) -> None:
        scores = bleu(found, list(right.values())), bleu(found, [r[:1] for r in right.values()])
        print(f"| {name} | {search} | {scores[0]:.1f} | {scores[1]:.1f} | {seconds:.1f} |")

    known, begin = [(trigrams(english), french) for english, french in pairs], time.monotonic()
    nearest = [max(known, key=lambda one: len(a & one[0]) / len(a | one[0]))[1]
               for a in map(trigrams, right)]  # fmt: skip
    show("nearest training sentence", "", nearest, time.monotonic() - begin)
    for attention in ("none", "luong"):
        file = models / f"{attention}.safetensors"
        if not file.exists():
            begin, work = time.monotonic(), time.process_time()
            model = Translator(attention=attention, **SETTINGS)
            model.fit(*zip(*pairs, strict=True), validation=tuple(zip(*validation, strict=True)))
            model.save(file)
            print(f"{attention}: {time.monotonic() - begin:.0f} s of training, of a processor "
                  f"{time.process_time() - work:.0f} s", file=sys.stderr)  # fmt: skip
        model = Translator.load(file)
        for search, size in SEARCHES.items():
            begin = time.monotonic()
            found = model.predict(list(right), beam_size=size)
            show(f"attention: {attention}", search, found, time.monotonic() - begin)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(*map(Path, [*sys.argv[1:], folder][:2]))
