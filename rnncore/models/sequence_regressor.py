"""A network that gives each sequence, or each step, numbers."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from rnncore import functions as F
from rnncore.data.outputs import Values
from rnncore.engine.rows import Rows
from rnncore.layers.tape import Value
from rnncore.losses import mse_loss
from rnncore.models.model import Measure
from rnncore.models.sequence_network import SequenceBatch, SequenceNetwork


class SequenceRegressorNetwork(SequenceNetwork):
    """A `SequenceNetwork` whose outputs are standardised numbers, with the squared error.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.data.inputs import Numbers
    >>> outputs = Values.of(np.array([10.0, 30.0]))
    >>> network = SequenceRegressorNetwork(Numbers([0.0], [1.0]), outputs, pooling="none", seed=0)
    >>> batch = SequenceBatch(np.zeros((4, 3, 1), np.float32), np.array([4, 2, 1]))
    >>> network.values(batch).shape
    (4, 3)
    """

    kind = "sequence regressor"
    measures = (Measure("loss", "squared error, standardised"),)
    outputs_class = Values

    def loss(self, *batch: Any) -> Value:
        """Return the mean squared error of standardised targets, (B, K) or (T, B, K)."""
        *arrays, targets = batch
        loss: Value = mse_loss(self.out(SequenceBatch(*arrays)), targets)
        return loss

    def measure(self, *batch: Any) -> tuple[list[tuple[float, float]], None]:
        """Return sum and count of the squared errors."""
        *arrays, targets, _ = batch
        found = mse_loss(self.out(SequenceBatch(*arrays)), targets, reduction="sum")
        return [(found.total, found.weight)], None

    def values(self, batch: SequenceBatch) -> NDArray[Any]:
        """Return the numbers as they are in the data: (B[, K]), or (T, B[, K]) of each step."""
        out = self.out(batch)
        return self.said(F.unpack(out) if isinstance(out, Rows) else out)

    def said(self, out: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers as they are in the data."""
        outputs: Values = self.outputs
        return outputs.decode(out)
