"""What depth is worth to a character model: 1 to 4 layers, at equal parameters and at equal time.

    python examples/depth.py shared/data/text/linux-kernel.c.txt picture.png

Equal time is that of one layer of LSTM; how many characters it is enough for is measured.
"""

import sys
import time
from pathlib import Path

import numpy as np

from rnncore import LanguageModel
from rnncore.training.plot import new_figure, save_png

CELLS, DEPTHS, SEEDS = ("rnn", "gru", "lstm"), (1, 2, 3, 4), (0, 1, 2)
PARAMETERS, CHARACTERS, SYMBOLS = 100_000, 1e6, 97
RATE = {"rnn": 0.002, "gru": 0.005, "lstm": 0.005}


def units(cell: str, layers: int) -> int:
    """Return the largest size of the layers that has no more than so many parameters."""
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    a, b = (2 * layers - 1) * gates, (gates + 1) * SYMBOLS + layers * gates
    return int((np.sqrt(b * b + 4 * a * PARAMETERS) - b) / (2 * a))


def learn(text: str, cell: str, layers: int, seed: int, characters: float) -> tuple[float, float]:
    """Train on so many characters; return bits a character held out, and seconds a character."""
    model = LanguageModel(
        cell=cell, num_layers=layers, hidden_size=units(cell, layers), batch_size=32, seed=seed,
        sequence_length=64, epochs=characters / len(text) / 0.95, learning_rate=RATE[cell],
    )  # fmt: skip
    begin = time.process_time()
    model.fit(text)
    return model.validation_curve_[-1][3], (time.process_time() - begin) / characters


def main(path: Path, picture: Path) -> None:
    """Train them all, print a table, draw it."""
    text, bits = path.read_text(), np.zeros((2, len(CELLS), len(DEPTHS), len(SEEDS)))
    budget = CHARACTERS * learn(text, "lstm", 1, 0, CHARACTERS / 8)[1]
    print("cell | layers | units | equal characters, bits | equal time, bits | characters\n"
          "---|---:|---:|---:|---:|---:")  # fmt: skip
    for i, j in np.ndindex(len(CELLS), len(DEPTHS)):
        more = budget / learn(*(kind := (text, CELLS[i], DEPTHS[j])), 0, CHARACTERS / 8)[1]
        bits[:, i, j] = [[learn(*kind, s, n)[0] for s in SEEDS] for n in (CHARACTERS, more)]
        both = [f"{one.mean():.3f} ± {one.std():.3f}" for one in bits[:, i, j]]
        print(*kind[1:], units(*kind[1:]), *both, f"{more / 1e6:.2f} M", sep=" | ", flush=True)
    figure = new_figure(8, 4)
    for k, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        axes.set(xlabel="layers", title=f"bits a character, equal {('characters', 'time')[k]}")
        axes.plot(DEPTHS, bits[k].mean(2).T, "o-", label=CELLS)
        axes.legend()
    save_png(figure, picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
