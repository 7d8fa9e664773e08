"""What lower precision costs: python examples/precision.py DATA [text] [tags] [pairs].

Models of the same seeds and steps, by what was held out; DATA has text/, tagging/ and pairs/.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from rnncore import LanguageModel, Tagger, Translator
from rnncore.data import read_pairs, split_pairs
from rnncore.data.tagged import read_tagged
from rnncore.estimators.translator import bleu

SEEDS, HELD_OUT, SENTENCES = (0, 1, 2), 0.1, 600
EPOCHS = {"text": 3.0, "tags": 6.0, "pairs": 24.0}


def task(data: Path, name: str) -> tuple[str, Any, Any]:
    """Return what is measured, what trains a model, and what measures it."""
    epochs = EPOCHS[name]
    if name == "text":
        text = (data / "text/tinyshakespeare.txt").read_text()
        size = {"hidden_size": 128, "num_layers": 2, "learning_rate": 0.005, "epochs": epochs}
        return ("bits a character",
                lambda **how: LanguageModel(**size, validation_fraction=HELD_OUT, **how).fit(text),
                lambda model: model.evaluate(text, last=HELD_OUT).bits_per_character)  # fmt: skip
    if name == "tags":
        train, test = (data / f"tagging/ud-english-ewt/{part}.conllu" for part in ("train", "test"))
        return ("words right, %", lambda **how: Tagger(epochs=epochs, **how).fit(train),
                lambda model: 100 * model.score(*read_tagged(test)))  # fmt: skip
    known, test = split_pairs(read_pairs(data / "pairs/en-fr.tsv"), SENTENCES)
    english = list(dict(test))
    right = [[french for one, french in test if one == sentence] for sentence in english]
    size = {"epochs": epochs, "dropout": 0.4, "learning_rate": 3e-3}
    return ("BLEU", lambda **how: Translator(**size, **how).fit(known),
            lambda model: bleu(model.predict(english), right))  # fmt: skip


def main(data: Path, names: list[str]) -> None:
    """Train in both precisions with each seed, measure in all three, print tables."""
    for unit, train, measure in [task(data, name) for name in names]:
        print(f"\n| trained in | read in | {unit} | beside float32 |\n|---|---|---|---:|")
        table: list[list[float]] = []
        for trained in ("float32", "bfloat16"):
            models = [train(precision=trained, seed=seed) for seed in SEEDS]
            for read in ("float32", "bfloat16", "int8"):
                for model in models:
                    model.network_.set_precision(read)
                table.append([measure(model) for model in models])
                each, worse = ", ".join(f"{one:.4f}" for one in table[-1]), np.mean(table[-1])
                print(f"| {trained} | {read} | {each} | {worse - np.mean(table[0]):+.4f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["text"])
