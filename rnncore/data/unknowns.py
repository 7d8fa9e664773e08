"""What vocabularies of characters and of words share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rnncore.arguments import check_size

SHOWN = 8  # of the unknown ones an error lists


def check_least_count(least_count: object, unknown: bool) -> int:
    """Return a least count, which leaves out nothing unless there is an unknown."""
    count = check_size("least_count", least_count)
    if count > 1 and not unknown:
        raise ValueError(
            f"least_count: expected 1 without an unknown, since rarer ones would have no number, "
            f"got {count}; give unknown=True"
        )
    return count


def some_of(strings: Iterable[str] | Iterable[bytes]) -> str:
    """Return the first few of some strings in order, quoted, and how many more there are."""
    ordered = sorted(strings)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(map(repr, ordered[:SHOWN])) + more


def smallest_dtype(count: int) -> np.dtype:
    """Return the smallest of uint8, uint16 and int32 that holds numbers below `count`."""
    small = np.uint16 if count <= 1 << 16 else np.int32
    return np.dtype(np.uint8 if count <= 1 << 8 else small)
