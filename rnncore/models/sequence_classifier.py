"""A network that gives each sequence, or each step, a class."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore import functions as F
from rnncore.data.outputs import Classes
from rnncore.engine.rows import Rows
from rnncore.layers.tape import Value
from rnncore.losses import cross_entropy
from rnncore.models.model import Measure
from rnncore.models.sequence_network import SequenceBatch, SequenceNetwork


class SequenceClassifierNetwork(SequenceNetwork):
    """A `SequenceNetwork` whose outputs are ``p = softmax(out)``, with a weight for each class.

    Examples
    --------
    >>> from rnncore.data.inputs import Numbers
    >>> network = SequenceClassifierNetwork(Numbers([0.0], [1.0]), Classes(["a", "b"]), seed=0)
    >>> batch = SequenceBatch(np.zeros((4, 3, 1), np.float32), np.array([4, 2, 1]))
    >>> network.probabilities(batch).shape
    (3, 2)
    """

    kind = "sequence classifier"
    measures = (
        Measure("loss", "nats"),
        Measure("accuracy", "% right", factor=100.0, lower_is_better=False),
    )
    decisive = 0
    outputs_class = Classes
    #: (K,) or None: what the loss of each class is multiplied by, in training alone.
    class_weights: NDArray[Any] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the settings, inputs, outputs and weights of classes as `json` can write them."""
        weights = self.class_weights
        return super().describe() | (
            {} if weights is None else {"class_weights": weights.tolist()}
        )

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return the model of a file; see `SequenceNetwork`."""
        settings = dict(description)
        weights = settings.pop("class_weights", None)
        network = super().from_description(settings, tensors)
        if weights is not None:
            network.class_weights = np.array(weights, np.float64)
            if network.class_weights.shape != (network.outputs.size,):
                raise ValueError(f"class_weights: {weights} for {network.outputs.size} classes")
        return network

    def loss(self, *batch: Any) -> Value:
        """Return the mean of ``-w log p(target)``; targets (B,) or (T, B), -1 beyond the end."""
        *arrays, targets = batch
        loss: Value = cross_entropy(
            self.out(SequenceBatch(*arrays)), targets, class_weights=self.class_weights,
            ignore_index=-1,
        )  # fmt: skip
        return loss

    def measure(self, *batch: Any) -> tuple[list[tuple[float, float]], None]:
        """Return sum and count of the losses, and of what is right."""
        *arrays, targets, _ = batch
        out = self.out(SequenceBatch(*arrays))
        found = cross_entropy(
            out, targets, class_weights=self.class_weights, ignore_index=-1, reduction="sum"
        )
        if isinstance(out, Rows):
            assert out.batch is not None
            right = out.array().argmax(1) == out.batch.tokens(np.asarray(targets))
        else:
            right = out.argmax(1) == targets
        return [(found.total, found.weight), (float(right.sum()), float(len(right)))], None

    def probabilities(self, batch: SequenceBatch) -> NDArray[Any]:
        """Return those of the classes: (B, K), or (T, B, K) where nothing is pooled."""
        out = self.out(batch)
        return self.said(F.unpack(out) if isinstance(out, Rows) else out)

    def said(self, out: NDArray[Any]) -> NDArray[Any]:
        """Return the probabilities of the classes."""
        found: NDArray[Any] = F.softmax(out)
        return found
