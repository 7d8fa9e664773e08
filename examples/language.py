"""Learn a text character by character, measure the part that was held out, and write.

    python examples/language.py FOLDER NAME [SECONDS]

FOLDER has tinyshakespeare.txt, linux-kernel.c.txt and stacks-project.tex.txt; NAME is shakespeare,
linux or latex. The model is kept as NAME.safetensors.
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from rnncore import LanguageModel


class Recipe(NamedTuple):
    """A text, how long to learn from it, what to begin a sample with, and the model."""

    file: str
    seconds: float
    prime: str
    settings: dict[str, Any]


SETTINGS = {"embedding_size": 64, "batch_size": 32, "sequence_length": 100, "learning_rate": 0.008,
            "weight_decay": 0.01, "average": 0.998}  # fmt: skip
RECIPES = {
    "shakespeare": Recipe("tinyshakespeare.txt", 1200, "ROMEO:\n", {
        "hidden_size": 384, "num_layers": 2, "dropout": 0.4, "sequence_length": 64, "epochs": 18,
        "validation_fraction": 0.1}),
    "linux": Recipe("linux-kernel.c.txt", 1800, "static int ", {
        "hidden_size": 768, "num_layers": 1, "dropout": 0.25, "state_reset": 0.02, "epochs": 6,
        "precision": "bfloat16"}),
    "latex": Recipe("stacks-project.tex.txt", 1800, "\\begin{lemma}\n", {
        "hidden_size": 512, "num_layers": 1, "dropout": 0.2, "state_reset": 0.02, "epochs": 5}),
}  # fmt: skip


def main(folder: Path, name: str, seconds: float | None = None) -> None:
    """Train, measure, write."""
    recipe = RECIPES[name]
    budget = recipe.seconds if seconds is None else seconds
    model = LanguageModel(**(SETTINGS | recipe.settings), seconds=budget, verbose=True)
    path = folder / recipe.file
    with redirect_stdout(sys.stderr):  # how the training goes is no result
        model.fit(path).save(f"{name}.safetensors")
    share = model.validation_fraction
    found = model.evaluate(path, last=share)
    print(f"The last {100 * share:g} % of {path.name}: {found.describe()}.\n\n```text")
    print(model.sample(800, 0.8, prime=recipe.prime, seed=1, top_p=0.95), "\n```", sep="")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:]))
