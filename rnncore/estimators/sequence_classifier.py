"""A classifier of sequences, or of their steps."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.data.outputs import Classes, as_labels
from rnncore.estimators.sequence_estimator import SequenceEstimator
from rnncore.models.sequence_classifier import SequenceClassifierNetwork


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(SequenceEstimator):
    """Says which class a sequence is of, or each of its steps.

    Parameters
    ----------
    class_weight
        What mistakes about a class weigh: a dict, 1 for labels that are not in it; "balanced": as
        if all classes were equally frequent; None: all the same.
    hidden_size, num_layers, cell, directions, pooling, embedding_size, dropout, standardize, \
dtype, precision, initialize
        See `SequenceEstimator`.
    epochs, seconds, learning_rate, batch_size, weight_decay, average, early_stopping, \
validation_fraction, folder, verbose, seed
        See `Estimator`.

    Attributes
    ----------
    network_ : SequenceClassifierNetwork
    classes_ : array
        The labels, in the order of the columns of `predict_proba`.
    training_curve_ : list of [step, epochs, seconds, nats]
    validation_curve_ : list of [step, epochs, seconds, nats, percent right]

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.estimators import SequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((rng.integers(5, 9), 2)) for _ in range(60)]
    >>> y = np.array(["up" if x[:, 0].sum() > 0 else "down" for x in X])
    >>> classifier = SequenceClassifier(hidden_size=8, epochs=30, learning_rate=0.02).fit(X, y)
    >>> classifier.classes_.tolist(), classifier.score(X, y) > 0.9
    (['down', 'up'], True)
    >>> names = SequenceClassifier(epochs=20).fit(["anna", "otto", "olga", "udo"] * 5, [1, 0] * 10)
    >>> names.predict(["anna"]).tolist()
    [1]
    """

    network_class = SequenceClassifierNetwork
    estimator_type = "classifier"

    class_weight: dict[Any, float] | str | None = None

    @classmethod
    def of_network(cls, network: Any) -> Self:
        """Return a fitted estimator with this network; weights of classes are a dict."""
        estimator = super().of_network(network)
        if network.class_weights is not None:
            labels, weights = network.outputs.labels.tolist(), network.class_weights.tolist()
            estimator.class_weight = dict(zip(labels, weights, strict=True))
        return estimator

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, in the order of the columns of `predict_proba`."""
        labels: NDArray[Any] = self._network().outputs.labels
        return labels

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of the classes: (N, K), or a list of (T, K) of the steps."""
        found = self._predicted(X, "probabilities")
        return found if self._network().settings["pooling"] == "none" else np.stack(found)

    def predict(self, X: Any) -> Any:
        """Return the likeliest class of each sequence (N,), or of its steps, a list of (T,)."""
        found = self._predicted(X, "probabilities")
        labels = [self.classes_[array.argmax(-1)] for array in found]
        return labels if self._network().settings["pooling"] == "none" else np.stack(labels)

    def score(self, X: Any, y: Any) -> float:
        """Return the share of classes found; a label that was never learned is wrong."""
        found = self.predict(X)
        targets = self._targets(y, found)
        right = self._stacked(found) == as_labels(self._stacked(targets))
        return float(np.mean(right))

    def _outputs_of(self, y: NDArray[Any], every: NDArray[Any]) -> Classes:
        classes = Classes.of(every)
        if classes.size < 2:
            raise ValueError(
                f"y: expected two classes at least, got one class: {classes.labels.tolist()}"
            )
        return classes

    def _prepare(self, network: SequenceClassifierNetwork, y: NDArray[Any]) -> None:
        labels, weight = network.outputs.labels, self.class_weight
        if weight is None:
            return
        if isinstance(weight, dict):
            unknown = set(weight) - set(labels.tolist())
            if unknown:
                named = ", ".join(sorted(map(repr, unknown)))
                raise ValueError(f"class_weight: expected labels of y, got {named}")
            network.class_weights = np.array([weight.get(one, 1.0) for one in labels.tolist()])
        elif weight == "balanced":
            counts = np.bincount(network.outputs.encode(y), minlength=len(labels))
            network.class_weights = len(y) / (len(labels) * np.maximum(counts, 1))
        else:
            raise ValueError(
                f"class_weight: expected a dict, 'balanced' or None, got {weight!r}"
            )
