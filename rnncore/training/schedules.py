"""Learning-rate schedules: the factor on the base rate at each point of the training."""

from __future__ import annotations

import math
from collections.abc import Callable

#: A schedule gets the passes over the text done so far (1.5 = one and a half) and the share of
#: the budget used (0 to 1), and returns the factor on the base learning rate.
Schedule = Callable[[float, float], float]


def constant() -> Schedule:
    """Return the schedule ``factor = 1``.

    Examples
    --------
    >>> constant()(3.0, 0.5)
    1.0
    """
    return lambda epochs, fraction: 1.0


def exponential(decay: float = 0.97, after: int = 10) -> Schedule:
    """Return char-rnn's schedule: from the end of epoch `after` on, times `decay` every epoch.

    ``factor = decay ** max(0, floor(epochs) - after + 1)`` (char-rnn's train.lua, options
    ``learning_rate_decay`` and ``learning_rate_decay_after``).

    Raises
    ------
    ValueError
        If `decay` is not above 0 and at most 1, or `after` is negative.

    Examples
    --------
    >>> schedule = exponential(decay=0.5, after=2)
    >>> [schedule(epochs, 0.0) for epochs in (0.0, 1.9, 2.0, 3.5)]
    [1.0, 1.0, 0.5, 0.25]
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay: expected a number above 0 and at most 1, got {decay}")
    if after < 0:
        raise ValueError(f"after: expected a number of epochs, 0 or more, got {after}")
    return lambda epochs, fraction: decay ** max(0, math.floor(epochs) - after + 1)


def cosine(warmup: float = 0.0, floor: float = 0.0) -> Schedule:
    """Return half a cosine over the whole budget, from 1 down to `floor`.

    ``factor = floor + (1 - floor) * (1 + cos(pi * fraction)) / 2``, and over the first `warmup`
    share of the budget it rises linearly from 0 (Loshchilov and Hutter, "SGDR", 2017, eq. 5
    with one period).

    Examples
    --------
    >>> schedule = cosine()
    >>> [round(schedule(0.0, fraction), 3) for fraction in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    if not 0.0 <= warmup < 1.0:
        raise ValueError(f"warmup: expected a share of the budget from 0 to below 1, got {warmup}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor: expected a factor from 0 to 1, got {floor}")

    def factor(epochs: float, fraction: float) -> float:
        ramp = min(1.0, fraction / warmup) if warmup else 1.0
        return ramp * (floor + (1.0 - floor) * (1.0 + math.cos(math.pi * min(fraction, 1.0))) / 2.0)

    return factor
