"""What each part of the tagger is worth: train it without, three seeds each, and print a table.

    python examples/tagging_table.py shared/data/tagging/ud-english-ewt [results.jsonl]

With a file each result is added to it as it is found: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev

from rnncore import Tagger
from rnncore.data import read_conllu

EPOCHS, SEEDS = 12, (0, 1, 2)
MODELS: dict[str, dict[str, object]] = {
    "LSTM, both directions, characters, 1 layer": {},
    "forward only": {"directions": "forward", "hidden_size": 400},  # as many states a word
    "words alone": {"spelling": "none"},
    "2 layers": {"num_layers": 2},
    "GRU": {"cell": "gru"},
    "RNN": {"cell": "rnn"},
}


def main(folder: Path, results: Path | None = None) -> None:
    """Train all models, then print the table."""
    files = {name: read_conllu(folder / f"{name}.conllu") for name in ("train", "dev", "test")}
    data = {name: ([s.words for s in all_], [s.tags for s in all_]) for name, all_ in files.items()}
    lines = results.read_text().splitlines() if results and results.exists() else []
    found = {(one["model"], one["seed"]): one for one in map(json.loads, lines)}
    for seed in SEEDS:
        for name, settings in MODELS.items():
            if (name, seed) in found:
                continue
            tagger = Tagger(epochs=EPOCHS, seed=seed).set_params(**settings).fit(*data["train"])
            scores = {part: tagger.score(*data[part]) for part in ("dev", "test")}
            found[name, seed] = {"model": name, "seed": seed, **scores}
            if results:
                with results.open("a") as file:
                    print(json.dumps(found[name, seed]), file=file)
    print("| model | dev, % right | test, % right |\n|---|---:|---:|")
    for name in MODELS:
        parts = ([100 * found[name, seed][part] for seed in SEEDS] for part in ("dev", "test"))
        print(f"| {name} |", " | ".join(f"{mean(p):.2f} ± {stdev(p):.2f}" for p in parts), "|")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
