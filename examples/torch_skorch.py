"""Train a classifier of sequences with skorch: whether most of some noise lies above zero.

python examples/torch_skorch.py [EPOCHS]
"""

import sys

import numpy as np
import torch
from skorch import NeuralNetClassifier

import rnncore.torch


class Classifier(torch.nn.Module):
    """A GRU, and a linear layer on its last state."""

    def __init__(self):
        super().__init__()
        self.rnn = rnncore.torch.GRU(1, 32, batch_first=True)
        self.head = torch.nn.Linear(32, 2)

    def forward(self, X):
        """Return the logits (B, 2) of sequences (B, T, 1)."""
        _, h = self.rnn(X)
        return self.head(h[-1])


torch.manual_seed(0)
X = np.random.default_rng(0).standard_normal((2000, 21, 1)).astype(np.float32)
y = ((X > 0).sum(1) > 10).astype(np.int64)[:, 0]
net = NeuralNetClassifier(
    Classifier, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.01,
    batch_size=32, max_epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 15, verbose=0,
)  # fmt: skip
net.fit(X[:1600], y[:1600])
print(f"accuracy {net.score(X[1600:], y[1600:]):.2f}")
