"""Learning-rate schedules: the factor on the base rate at each point of the training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rnncore.arguments import check_size, is_number

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
    _check_floor(floor)

    def factor(epochs: float, fraction: float) -> float:
        return floor + (1.0 - floor) * (1.0 + math.cos(math.pi * min(fraction, 1.0))) / 2.0

    return warm_up(factor, warmup)


def warm_up(schedule: Schedule, warmup: float = 0.05) -> Schedule:
    """Return a schedule that rises linearly from 0 over the first `warmup` share of the budget.

    ``factor = min(1, fraction / warmup) * schedule(epochs, fraction)``: the schedule goes its way
    meanwhile. (Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2, there from a
    rate above 0.)

    Raises
    ------
    ValueError
        If `warmup` is not from 0 to below 1.

    Examples
    --------
    >>> schedule = warm_up(constant(), warmup=0.25)
    >>> [schedule(0.0, fraction) for fraction in (0.0, 0.125, 0.25, 1.0)]
    [0.0, 0.5, 1.0, 1.0]
    """
    _check_warmup(warmup)
    if warmup == 0.0:
        return schedule
    return lambda epochs, fraction: min(1.0, fraction / warmup) * schedule(epochs, fraction)


def one_cycle(warmup: float = 0.3, start: float = 0.04, floor: float = 4e-6) -> Schedule:
    """Return one cycle: half a cosine up from `start` to 1, then half a cosine down to `floor`.

    The base learning rate is the highest one. With ``c(a, b, x) = b + (a - b) * (1 + cos(pi x)) /
    2``, the factor is ``c(start, 1, fraction / warmup)`` over the first `warmup` share of the
    budget, and ``c(1, floor, (fraction - warmup) / (1 - warmup))`` after it.

    Source: Smith, "A disciplined approach to neural network hyper-parameters", 2018, section 4;
    torch.optim.lr_scheduler.OneCycleLR with its default values and without a cycle of the momentum.

    Raises
    ------
    ValueError
        If `warmup` is not from 0 to below 1, or a factor not from 0 to 1.

    Examples
    --------
    >>> schedule = one_cycle(warmup=0.5, start=0.1, floor=0.0)
    >>> [round(schedule(0.0, fraction), 3) for fraction in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """
    _check_warmup(warmup)
    if not is_number(start) or not 0.0 <= start <= 1.0:
        raise ValueError(f"start: expected a factor from 0 to 1, got {start!r}")
    _check_floor(floor)

    def between(a: float, b: float, x: float) -> float:
        return b + (a - b) * (1.0 + math.cos(math.pi * x)) / 2.0

    def factor(epochs: float, fraction: float) -> float:
        if fraction < warmup:
            return between(start, 1.0, fraction / warmup)
        return between(1.0, floor, (min(fraction, 1.0) - warmup) / (1.0 - warmup))

    return factor


class ReduceOnPlateau:
    """A schedule that falls by a factor whenever validations have stopped getting better.

    ``factor = max(floor, decay ** reductions) * schedule(epochs, fraction)``. A reduction comes
    with the first validation after `patience` others in a row that were not better than the best
    so far by at least `threshold` of it. The `Trainer` gives it every validation.

    Parameters
    ----------
    decay
        Above 0 and below 1.
    patience
        How many validations without progress are waited for, 0 or more.
    threshold
        The progress that counts, as a share of the best value: 0 or more.
    floor
        The smallest factor, from 0 to 1.
    schedule
        What is reduced; None: a constant rate.

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau (its `factor` is `decay`; relative
    threshold, no cooldown).

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> schedule = ReduceOnPlateau(decay=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.1, 2.2):
    ...     schedule.observe(loss)
    >>> schedule(0.0, 0.0)
    0.5
    """

    def __init__(
        self,
        decay: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        floor: float = 0.0,
        schedule: Schedule | None = None,
    ) -> None:
        if not is_number(decay) or not 0.0 < decay < 1.0:
            raise ValueError(f"decay: expected a number above 0 and below 1, got {decay!r}")
        if not is_number(threshold) or not 0.0 <= threshold < math.inf:
            raise ValueError(f"threshold: expected a finite number, 0 or more, got {threshold!r}")
        _check_floor(floor)
        self.decay = float(decay)
        self.patience = check_size("patience", patience, 0)
        self.threshold = float(threshold)
        self.floor = float(floor)
        self.schedule = constant() if schedule is None else schedule
        self.reductions = 0
        self.best = math.inf
        self.waited = 0

    def __call__(self, epochs: float, fraction: float) -> float:
        """Return the factor on the base rate."""
        reduced = max(self.floor, self.decay**self.reductions)
        return reduced * self.schedule(epochs, fraction)

    def observe(self, value: float) -> None:
        """Take the value of a validation, the lower the better; of a score give the negative.

        What is not finite is no progress.
        """
        # The first value is progress; infinity less a share of it would be no number.
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if math.isfinite(value) and value < self.best - margin:
            self.best, self.waited = float(value), 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.reductions += 1
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what `observe` has changed, as `json` can write it."""
        best = self.best if math.isfinite(self.best) else None
        return {"reductions": self.reductions, "best": best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError
            If a count is missing or none, or the best value is no number; nothing is changed then.
        """
        if not isinstance(state, dict):
            raise TypeError(f"state: expected what state_dict returns, got {type(state).__name__}")
        counts = [state.get(name) for name in ("reductions", "waited")]
        best = state.get("best")
        wrong = not (best is None or (is_number(best) and math.isfinite(best)))
        if wrong or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(
                "state: expected counts 'reductions' and 'waited' and a number 'best', got "
                f"{state!r}; give what state_dict returned"
            )
        self.reductions, self.waited = (int(count) for count in counts if count is not None)
        self.best = math.inf if best is None else float(best)


def _check_warmup(warmup: float) -> None:
    if not is_number(warmup) or not 0.0 <= warmup < 1.0:
        raise ValueError(
            f"warmup: expected a share of the budget from 0 to below 1, got {warmup!r}"
        )


def _check_floor(floor: float) -> None:
    if not is_number(floor) or not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor: expected a factor from 0 to 1, got {floor!r}")
