"""Predictions in batches of sequences of like length, given back in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.batches import SequenceBatches

STEPS_PER_BATCH = 16384  # padding counted; the more, the more words that are equal


def by_length(
    lengths: NDArray[np.intp], predict: Callable[[NDArray[np.intp]], NDArray[Any]], by_step: bool
) -> list[NDArray[Any]]:
    """Return what is predicted of each sequence, in their order.

    Parameters
    ----------
    lengths : (N,)
        Steps of each sequence, one at least.
    predict
        Takes the numbers of B sequences, and returns an array (B, ...), or (T, B, ...) by step.
    by_step
        Which of the two.
    """
    found: list[Any] = [None] * len(lengths)
    batches = SequenceBatches(lengths, tokens_per_batch=STEPS_PER_BATCH, shuffle=False)
    for number in range(batches.per_epoch):
        indices = batches.indices(number)
        array = predict(indices)
        for column, index in enumerate(indices):
            found[index] = array[: lengths[index], column] if by_step else array[column]
    return found
