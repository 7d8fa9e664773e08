"""Digits pixel by pixel and symbols after a delay: who remembers what came first.

    python examples/digits_by_pixel.py [PICTURE.png] [EPOCHS] [SEEDS] [SEQUENCES]

scikit-learn's digits are read as 64 steps of one number; a quarter of them is the test. The copy
task has 3 symbols of 4 kinds, 50 steps of nothing, then asks for the 3: guesses are 25 % right.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rnncore import SequenceClassifier
from rnncore.data.memory_tasks import copy_memory

DEFAULTS = "digits.png", 40, 3, 3_000
picture, epochs, seeds, count = (*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :])
epochs, seeds, count = int(epochs), int(seeds), int(count)
COMMON = {"directions": "forward", "batch_size": 50, "weight_decay": 0.0}
COMMON |= {"learning_rate": 5e-3, "validation_fraction": 0.1}
IDENTITY = {"rnn.weight_hh*": "identity", "rnn.bias*": "zeros", "rnn.weight_ih*": ("normal", 1e-2)}


def lasting(shape: tuple[int], rng: np.random.Generator) -> np.ndarray:
    """Return biases of i, f, g, o for memories of 1 to 60 steps (Tallec and Ollivier 2018)."""
    f = np.log(rng.uniform(1, 60, shape[0] // 4))
    return np.concatenate([-f, f, 0 * f, 0 * f])


MODELS = {
    "LSTM, forget bias log U(1, T)": {"initialize": {"rnn.bias*": lasting}},
    "LSTM, forget bias 1": {},
    "GRU": {"cell": "gru"},
    "RNN, tanh": {"cell": "rnn", "learning_rate": 2e-3},
    "RNN, ReLU, identity": {"cell": "rnn_relu", "learning_rate": 1e-3, "initialize": IDENTITY},
}
X, test_X, y, test_y = train_test_split(*load_digits(return_X_y=True), random_state=0)
by_step = {"pooling": "none", "standardize": False, "epochs": epochs / 4, "class_weight": {0: 0.05}}
copies = [copy_memory(n, 50, 4, 3, seed) for seed, n in ((0, count), (1, 500))]
tasks = {"digits": ((X, y), (test_X, test_y), {"epochs": epochs}), "copy": (*copies, by_step)}
print("| task | network | % right, test |\n|---|---|---:|")
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for axis, (task, (train, test, more)) in zip(axes, tasks.items(), strict=True):
    for number, (name, settings) in enumerate(MODELS.items()):
        options, found = COMMON | more | settings, []
        for seed in range(seeds):
            model = SequenceClassifier(seed=seed, **options).fit(train[0], list(train[1]))
            right = np.array(model.predict(test[0])) == test[1]
            found.append(f"{100 * np.mean(right[:, -3:] if task == 'copy' else right):.1f}")
            curve, alpha = np.array(model.validation_curve_)[:, [1, 3]].T, 0.3 if seed else 1
            axis.semilogy(*curve, f"C{number}", alpha=alpha, label=None if seed else name)
        print(f"| {task} | {name} |", ", ".join(found), "|", flush=True)
    axis.set(title=task, xlabel="epoch", ylabel="loss held out, nats")
axes[0].legend(fontsize=8)
plt.savefig(picture, dpi=80)
