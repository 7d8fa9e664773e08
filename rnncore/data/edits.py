"""How many words of a transcript are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def edit_distance(found: Sequence[Any], truth: Sequence[Any]) -> int:
    """Return the fewest insertions, deletions and replacements that make one of the other.

    Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966.
    Its sum over all utterances divided by their number of words is the word error rate.

    Examples
    --------
    >>> edit_distance("nine oh four".split(), "nine zero four four".split())
    2
    """
    row = np.arange(len(truth) + 1)
    for number, one in enumerate(found, 1):
        cheapest = np.minimum(row[1:] + 1, row[:-1] + [one != other for other in truth])
        row = np.concatenate([[number], cheapest])
        # An insertion costs 1 for each place to the right of where it begins.
        row = np.minimum.accumulate(row - np.arange(len(row))) + np.arange(len(row))
    return int(row[-1])
