"""Train a classifier of sequences with Lightning: whether most of some noise lies above zero.

python examples/torch_lightning.py [EPOCHS]
"""

import sys

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import rnncore.torch


class Classifier(lightning.LightningModule):
    """An LSTM, and a linear layer on its last state."""

    def __init__(self):
        super().__init__()
        self.rnn = rnncore.torch.LSTM(1, 32, batch_first=True)
        self.head = torch.nn.Linear(32, 2)

    def forward(self, x):
        """Return the logits (B, 2) of sequences (B, T, 1)."""
        _, (h, _) = self.rnn(x)
        return self.head(h[-1])

    def training_step(self, batch, number):
        """Return the loss of a batch."""
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self):
        """Return what trains it."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


lightning.seed_everything(0, verbose=False)
x = torch.randn(2000, 21, 1)
y = ((x > 0).sum(1) > 10).long()[:, 0]
model = Classifier()
trainer = lightning.Trainer(
    max_epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 15, accelerator="cpu", logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(model, DataLoader(TensorDataset(x[:1600], y[:1600]), batch_size=32, shuffle=True))
with torch.no_grad():
    share = (model(x[1600:]).argmax(1) == y[1600:]).float().mean()
print(f"accuracy {share:.2f}")
