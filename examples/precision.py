"""What lower precision costs: language models trained and read in float32, bfloat16 and int8.

    python examples/precision.py shared/data/text/tinyshakespeare.txt

The same models, from the same seeds and by the same steps; bits a character of the part held out.
"""

import sys
from pathlib import Path

import numpy as np

from rnncore import LanguageModel

SEEDS, CHARACTERS, HELD_OUT = (0, 1, 2), 3e6, 0.1


def main(path: Path) -> None:
    """Train a model in both precisions for each seed, read with each, print a table."""
    text, found = path.read_text(), []
    print("| trained in | read in | bits a character | beside float32 |\n|---|---|---|---:|")
    for trained in ("float32", "bfloat16"):
        models = [
            LanguageModel(
                hidden_size=128, num_layers=2, learning_rate=0.005, precision=trained, seed=seed,
                validation_fraction=HELD_OUT, epochs=CHARACTERS / len(text) / (1 - HELD_OUT),
            ).fit(text)
            for seed in SEEDS
        ]  # fmt: skip
        for read in ("float32", "bfloat16", "int8"):
            for model in models:
                model.network_.set_precision(read)
            found.append(
                [model.evaluate(text, last=HELD_OUT).bits_per_character for model in models]
            )
            each = ", ".join(f"{bits:.4f}" for bits in found[-1])
            worse = np.mean(found[-1]) - np.mean(found[0])
            print(f"| {trained} | {read} | {each} | {worse:+.4f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
