"""The adding problem: which networks carry two numbers over 200 and 600 steps, and how they do it.

    python examples/long_memory.py [PICTURE.png] [STEPS,...] [SEEDS] [SEQUENCES]

The sum of two marked numbers is asked for at the end; who says 1 has a squared error of 0.167.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from rnncore import SequenceRegressor
from rnncore.data.memory_tasks import adding_problem
from rnncore.diagnostics import diagnose

given = [*sys.argv[1:], *("long-memory.png", "200,600", 3, 10_000)[len(sys.argv) - 1 :]]
tasks, (seeds, count) = [int(length) for length in given[1].split(",")], map(int, given[2:])
COMMON = {"hidden_size": 32, "directions": "forward", "batch_size": 50, "weight_decay": 0.0,
          "learning_rate": 1e-2, "epochs": 5}  # fmt: skip
EYE = {"rnn.weight_hh*": "identity", "rnn.bias*": "zeros", "rnn.weight_ih*": ("normal", 1e-3)}


def lasting(shape: tuple[int], rng: np.random.Generator) -> np.ndarray:
    """Return biases of i, f, g, o or r, z, n for 1 to T steps (Tallec and Ollivier 2018)."""
    f = np.log(rng.uniform(1, steps - 1, 32))
    return np.concatenate([-f * (shape == (128,)), f, 0 * f, 0 * f][: shape[0] // 32])


MODELS = {
    "LSTM, forget bias log U(1, T)": ("C2-", {"initialize": {"rnn.bias*": lasting}}),
    "LSTM, forget bias 1": ("C2--", {}),
    "LSTM, forget bias 0": ("C2:", {"initialize": {"rnn.bias*": "zeros"}}),
    "GRU, update bias log U(1, T)": ("C0-", {"cell": "gru", "initialize": {"rnn.bias*": lasting}}),
    "GRU, update bias 0": ("C0--", {"cell": "gru"}),
    "RNN, tanh": ("C3-", {"cell": "rnn", "learning_rate": 1e-3}),
    "RNN, ReLU, identity": ("C1-", {"cell": "rnn_relu", "learning_rate": 2e-3, "initialize": EYE}),
}
print("| T | network | squared error | < 0.001 at | gradient, a step back |\n|---|---|---|---|---|")
figure, axes = plt.subplots(2, len(tasks), figsize=(11, 7), squeeze=False, layout="constrained")
for (above, below), steps in zip(axes.T, tasks, strict=True):
    (X, y), held_out, test = (adding_problem(n, steps, k) for k, n in enumerate((count, 999, 999)))
    for name, (style, settings) in MODELS.items():
        rows = []
        for seed in range(seeds):
            model = SequenceRegressor(**COMMON | settings, seed=seed).fit(X, y, validation=held_out)
            curve = np.array(model.validation_curve_)[:, [0, 3]] * [1, y.var()]
            after = next((f"{step:.0f}" for step, error in curve if error < 1e-3), "never")
            found = diagnose(model.network_, *model.batch(*(one[:99] for one in test))).layers[0]
            flow = found.gradients.get("c", found.gradients["h"])
            error = f"{np.mean((model.predict(test[0]) - test[1]) ** 2):.5f}"
            rows.append([error, after, f"{found.gradient_growth:.3f}"])
            above.semilogy(*curve.T, style, alpha=0.3 if seed else 1, label=name[99 * seed :])
            below.semilogy(flow / flow[-1], style, alpha=0.3 if seed else 1)
        print(f"| {steps} | {name} |", *(", ".join(one) + " |" for one in zip(*rows, strict=True)))
    above.set(title=f"T = {steps}", xlabel="step of training", ylabel="squared error")
    below.set(xlabel="t", ylabel="|dL/dh_t|, of an LSTM |dL/dc_t|")
above.legend(fontsize=8)
plt.savefig(given[0], dpi=80)
