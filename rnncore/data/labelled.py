"""Sequences with what belongs to them, numbered and ready for a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.ragged import Ragged


class LabelledExamples:
    """Sequences and their targets; see `rnncore.data.sequence_source.Examples`.

    Parameters
    ----------
    sequences
        Numbers (T, features), or those of symbols (T,).
    targets
        (N, ...), one a sequence; or one a step.

    Examples
    --------
    >>> x = Ragged.of([np.zeros((2, 3)), np.zeros((1, 3))])
    >>> [array.shape for array in LabelledExamples(x, np.array([0, 1])).batch(np.array([1, 0]))]
    [(2, 2, 3), (2,), (2,)]
    """

    def __init__(self, sequences: Ragged, targets: NDArray[Any] | Ragged) -> None:
        self._sequences, self._targets = sequences, targets
        self.lengths = sequences.lengths

    def batch(self, indices: NDArray[np.intp]) -> tuple[Any, ...]:
        """Return x (T, B, ...), lengths, and targets (B, ...) or (T, B, ...)."""
        x, lengths = self._sequences.take(indices).padded()
        if not isinstance(self._targets, Ragged):
            return x, lengths, self._targets[indices]
        targets = self._targets.take(indices)
        return x, lengths, targets.padded(-1 if targets.values.dtype.kind == "i" else 0)[0]

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that tells these examples from others."""
        targets = self._targets.values if isinstance(self._targets, Ragged) else self._targets
        return [self._sequences.values, self.lengths, targets]
