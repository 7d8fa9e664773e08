"""A regressor of sequences, or of their steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.outputs import Values, as_values
from rnncore.estimators.sequence_estimator import SequenceEstimator
from rnncore.models.sequence_regressor import SequenceRegressorNetwork


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class SequenceRegressor(SequenceEstimator):
    """Predicts numbers of a sequence, or of each of its steps.

    Parameters
    ----------
    hidden_size, num_layers, cell, directions, pooling, embedding_size, dropout, standardize, \
dtype, precision, initialize
        See `SequenceEstimator`.
    epochs, seconds, learning_rate, batch_size, weight_decay, average, early_stopping, \
validation_fraction, folder, verbose, seed
        See `Estimator`.

    Attributes
    ----------
    network_ : SequenceRegressorNetwork
    training_curve_, validation_curve_ : list of [step, epochs, seconds, squared error]
        Of standardised targets: 1 is what the mean of the training's would have.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.estimators import SequenceRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal((rng.integers(5, 9), 2)) for _ in range(80)]
    >>> y = np.array([x.sum() for x in X])
    >>> regressor = SequenceRegressor(hidden_size=16, epochs=60, learning_rate=0.02).fit(X, y)
    >>> regressor.predict(X).shape, regressor.score(X, y) > 0.9
    ((80,), True)
    """

    network_class = SequenceRegressorNetwork
    estimator_type = "regressor"

    def predict(self, X: Any) -> Any:
        """Return the numbers of each sequence, (N,) or (N, K); or of its steps, a list."""
        found = self._predicted(X, "values")
        return found if self._network().settings["pooling"] == "none" else np.stack(found)

    def score(self, X: Any, y: Any) -> float:
        r"""Return the coefficient of determination, the mean of that of each column.

        ``R^2 = 1 - \sum (y - predicted)^2 / \sum (y - mean(y))^2``; of constant targets it is 1
        where all are right, else 0.
        """
        found = self.predict(X)
        targets = as_values(self._stacked(self._targets(y, found)))
        predicted = as_values(self._stacked(found))
        if targets.shape != predicted.shape:
            raise ValueError(f"y: expected shape {predicted.shape}, got {targets.shape}")
        wrong = ((targets - predicted) ** 2).sum(0)
        spread = ((targets - targets.mean(0)) ** 2).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(spread > 0, 1 - wrong / spread, np.where(wrong == 0, 1.0, 0.0))
        return float(np.mean(share))

    def _outputs_of(self, y: NDArray[Any], every: NDArray[Any]) -> Values:
        return Values.of(y)
