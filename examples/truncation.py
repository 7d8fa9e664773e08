"""How far gradients should flow: truncation against what is learnt, and memory against time.

    python examples/truncation.py shared/data/text/linux-kernel.c.txt picture.png

All read as many characters, the state carried on. Then one long pass gets less and less memory.
"""

import sys
import time
from pathlib import Path

import numpy as np

import rnncore
from rnncore import LanguageModel
from rnncore.training.plot import new_figure, save_png

LENGTHS, ROWS, CHARACTERS, SEEDS = (4, 8, 16, 32, 64, 128, 256), 2048, 4e6, (0, 1, 2)
STEPS, BATCH, SIZE, SHARES = 4096, 8, 128, 0.5 ** np.arange(6)


def learnt(text: str, length: int, seed: int) -> float:
    """Return bits a character on the part held out."""
    model = LanguageModel(
        num_layers=1, hidden_size=192, sequence_length=length, batch_size=ROWS // length, seed=seed,
        epochs=CHARACTERS / len(text) / 0.95, learning_rate=0.005,
    ).fit(text)  # fmt: skip
    return model.validation_curve_[-1][3]


def main(path: Path, picture: Path) -> None:
    """Train and time, print two tables, draw them."""
    text, bits, times = path.read_text(), [], []
    print("| steps of gradients | bits a character, held out |\n|---:|---:|")
    for length in LENGTHS:
        bits.append(found := [learnt(text, length, seed) for seed in SEEDS])
        print(f"| {length} | {np.mean(found):.3f} ± {np.std(found):.3f} |", flush=True)
    layer, x = rnncore.LSTM(SIZE, SIZE, seed=0), np.ones((STEPS, BATCH, SIZE), np.float32)
    whole = 4 * STEPS * BATCH * SIZE * 8  # bytes: four gates, h, c and x of each step, and some
    print("\n| memory of a pass, MB | forward and backward, relative |\n|---:|---:|")
    for share in SHARES:
        rounds = []
        for _ in range(7):
            begin = time.process_time()
            y, _ = layer.forward(x, memory=int(share * whole))
            layer.backward(y, input_gradient=False)
            rounds.append(time.process_time() - begin)
        times.append(np.median(rounds))
        print(f"| {share * whole / 1e6:.0f} | {times[-1] / times[0]:.2f} |", flush=True)
    left, right = (figure := new_figure(8, 4)).subplots(1, 2)
    left.plot(LENGTHS, np.mean(bits, 1), "o-")
    left.set(xscale="log", xlabel="steps of gradients", ylabel="bits a character, held out")
    right.plot([share * whole / 1e6 for share in SHARES], np.array(times) / times[0], "o-")
    right.set(xscale="log", xlabel="memory of a pass, MB", ylabel="time of a pass", ylim=0)
    save_png(figure, picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
