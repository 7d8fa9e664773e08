"""Truncated backpropagation through time: what a chunk does not see is not learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.training.plot import new_figure, save_png

DELAY, STEPS, STREAMS = 10, 24_000, 32
CHUNKS = (5, 10, 20, 40)


def draw(path: Path, data: Path | None) -> str:
    """Train one network for each length of the chunks; draw their losses."""
    figure = new_figure(8, 4.5)
    axes, said = figure.subplots(), []
    for chunk in CHUNKS:
        losses = _learn(chunk)
        window = max(1, 800 // chunk)
        smooth = np.convolve(losses, np.full(window, 1 / window), "valid")
        axes.plot(np.arange(len(smooth)) * chunk, smooth, label=f"chunks of {chunk} steps")
        said.append(f"{chunk}: {smooth[-1]:.3f}")
    axes.axhline(np.log(2), color="k", lw=0.5)
    axes.set(xlabel="steps read", ylabel="loss, nats; guessing is 0.693")
    axes.legend()
    save_png(figure, path)
    return f"Loss at the end by steps a chunk, to be said again after {DELAY}: {', '.join(said)}."


def _learn(chunk: int) -> list[float]:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (DELAY + STEPS, STREAMS))
    rnn, head = rnncore.GRU(1, 32, seed=0), rnncore.Linear(32, 2, seed=1)
    net = rnncore.Module(children={"rnn": rnn, "head": head})
    optimizer, state, losses = rnncore.Adam(net, lr=5e-3), None, []
    for first in range(0, STEPS - chunk + 1, chunk):
        x = bits[DELAY + first : DELAY + first + chunk, :, None].astype(np.float32)
        y, last, kept = rnn.forward(x, state, keep=True)  # the state goes on, its gradient ends
        logits, read = head.forward(y, keep=True)
        loss, dlogits = rnncore.softmax_cross_entropy(logits, bits[first : first + chunk])
        rnn.backward(
            head.backward(dlogits, accumulate=False, kept=read), accumulate=False, kept=kept
        )
        optimizer.step()
        state = last
        losses.append(float(loss))
    return losses
