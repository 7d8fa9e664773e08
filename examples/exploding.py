"""Why states and gradients explode and vanish: one input at t = 1, one gradient at t = T.

    python examples/exploding.py [PICTURE.png] [UNITS] [SEEDS]

Each network is drawn anew for each seed; a step, they grow by the factor of the table.
"""

import math
import sys

import matplotlib.pyplot as plt
import numpy as np

from rnncore import LSTM, RNN, Recurrent
from rnncore.diagnostics import follow_impulse, growth_per_step, saturation

picture, n, seeds = (*sys.argv[1:], *("exploding.png", 512, 10)[len(sys.argv) - 1 :])
n, seeds, T = int(n), int(seeds), 50


def make(kind: str, number: float, seed: int) -> Recurrent:
    """Return an RNN whose W_hh has this variance times n, or an LSTM of this forget bias."""
    if kind == "lstm":
        lstm = LSTM(n, n, seed=seed)
        with lstm.writable_params() as params:
            params["bias_ih_l0"][:] = np.repeat([0, number, 0, 0], n)
        return lstm
    rnn = RNN(n, n, nonlinearity=kind, bias=False)
    scales = {"weight_hh*": ("normal", math.sqrt(number / n)), "weight_ih*": ("normal", n**-0.5)}
    rnn.initialize(scales, seed=seed)
    return rnn


NETS = {
    "ReLU, W ~ N(0, 3/n)": ("relu", 3, "C3-"), "ReLU, W ~ N(0, 2/n), critical": ("relu", 2, "C7-"),
    "ReLU, W ~ N(0, 1.5/n)": ("relu", 1.5, "C0-"), "tanh, W ~ N(0, 3/n)": ("tanh", 3, "C1--"),
    "tanh, W ~ N(0, 30/n)": ("tanh", 30, "C6--"), "sigmoid, W ~ N(0, 3/n)": ("sigmoid", 3, "C4--"),
    "LSTM, forget bias 0": ("lstm", 0, "C8:"), "LSTM, forget bias 1": ("lstm", 1, "C2:"),
    "LSTM, forget bias 2": ("lstm", 2, "C2-"),
}  # fmt: skip
print("| network | states, a step | gradients, a step back | saturated, % |\n|---|---:|---:|---:|")
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for name, (kind, number, style) in NETS.items():
    found = [follow_impulse(make(kind, number, seed), T, seed) for seed in range(seeds)]
    grown = np.array([[growth_per_step(a.norms), 1 / growth_per_step(a.gradients)] for a in found])
    h, dh = (f"{column.mean():.3f} ± {column.std():.3f}" for column in grown.T)
    cell, gate = ("lstm", "g") if kind == "lstm" else (f"rnn_{kind}", "h")
    ends = [sum(saturation(cell, one.states, np.array([T]))[gate]) for one in found]
    print(f"| {name} | {h} | {dh} |", "" if kind == "relu" else f"{100 * np.mean(ends):.0f}", "|")
    pair = [one.norms / one.norms[0] for one in found], [one.gradients for one in found]
    for axis, curves in zip(axes, pair, strict=True):
        mean = np.exp(np.mean(np.log(curves), 0))  # over the seeds, geometric
        axis.semilogy(range(1, T + 1), mean, style, label=name)
axes[0].set(title="an input at t = 1: |h_t| / |h_1|, of an LSTM |c_t| / |c_1|", xlabel="t")
axes[1].set(title="a gradient at t = T: |dL/dh_t|, of an LSTM |dL/dc_t|", xlabel="t")
axes[0].legend(fontsize=7)
plt.savefig(picture, dpi=80)
