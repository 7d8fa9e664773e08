"""How to train: budgets, optimizer, schedule, how often to validate and save."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from rnncore.settings import Choice, Positive, Whole, check_settings, setting
from rnncore.training import schedules
from rnncore.training.optimizer import Optimizer
from rnncore.training.optimizers import SGD, Adam, RMSprop

BUDGETS = ("epochs", "steps", "seconds")

OPTIMIZERS: dict[str, Callable[[Any, float], Optimizer]] = {
    "adam": Adam,
    "rmsprop": RMSprop,
    "sgd": lambda module, lr: SGD(module, lr, momentum=0.9),
}
SCHEDULES: dict[str, Callable[[TrainingSettings], schedules.Schedule]] = {
    "cosine": lambda settings: schedules.cosine(),
    "exponential": lambda s: schedules.exponential(
        0.97 if s.decay is None else s.decay, 10 if s.decay_after is None else s.decay_after
    ),
    "constant": lambda settings: schedules.constant(),
}


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How to train; written into every checkpoint.

    The training ends with the first of the budgets `epochs`, `steps` and `seconds` (of training
    alone, without validation and saving) that is used up; all count from the very beginning,
    also after a resume.

    Parameters
    ----------
    epochs, steps, seconds
        Budgets; at least one must be given.
    optimizer
        ``"adam"``, ``"rmsprop"`` or ``"sgd"`` (with momentum 0.9).
    learning_rate
        The base rate, at the beginning.
    schedule
        ``"cosine"`` (down to 0 at the end of the budget), ``"exponential"`` (times `decay` each
        epoch from the end of epoch `decay_after` on) or ``"constant"``.
    decay, decay_after
        Of the exponential schedule alone; None: 0.97 and 10.
    clip_norm
        The largest norm of all gradients together; infinity for no clipping.
    validations
        How often to validate, evenly over the budget.
    checkpoint_seconds
        Save at least so often.

    Raises
    ------
    ValueError
        If a value is out of its range, no budget is given, or a decay under a schedule that has
        none.
    """

    epochs: float | None = setting(
        None, Positive(), "Passes over the data; the first budget used up ends.  [default: 50]"
    )
    steps: int | None = setting(
        None, Whole(), "Updates of the weights; the first budget used up ends."
    )
    seconds: float | None = setting(
        None, Positive(), "Time of training; the first budget used up ends."
    )
    optimizer: str = setting("adam", Choice(tuple(OPTIMIZERS)), fixed=True)
    learning_rate: float = setting(2e-3, Positive())
    schedule: str = setting(
        "cosine",
        Choice(tuple(SCHEDULES)),
        "Of the learning rate: down to 0 over the budget, by --decay, or none.",
    )
    decay: float | None = setting(
        None, Positive(), "Factor an epoch (exponential).  [default: 0.97]"
    )
    decay_after: int | None = setting(None, Whole(0), "Its first epoch.  [default: 10]")
    clip_norm: float = setting(5.0, Positive(infinite=True), "Largest norm of the gradient.")
    validations: int = setting(20, Whole(), "How often, over the budget.")
    checkpoint_seconds: float = setting(60.0, Positive(infinite=True), "Save at least so often.")

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in BUDGETS):
            raise ValueError("budget: expected at least one of epochs, steps, seconds, got none")
        check_settings(self)
        for name in ("decay", "decay_after"):
            value = getattr(self, name)
            if value is not None and self.schedule != "exponential":
                raise ValueError(
                    f"{name}: expected none under the schedule {self.schedule!r}, which has no "
                    f"decay, got {value!r}; choose the schedule 'exponential'"
                )
        SCHEDULES[self.schedule](self)

    @classmethod
    def of_checkpoint(cls, kept: dict[str, Any]) -> TrainingSettings:
        """Return the settings that a checkpoint keeps, older ones included."""
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in kept.items() if name in names}
        if values.get("schedule") != "exponential":
            values |= {"decay": None, "decay_after": None}
        return cls(**values)

    def fraction_used(self, epochs: float, steps: int, seconds: float) -> float:
        """Return the used share of the budget that is nearest to its end, at most 1."""
        used = ((epochs, self.epochs), (steps, self.steps), (seconds, self.seconds))
        return min(1.0, max(amount / budget for amount, budget in used if budget is not None))
