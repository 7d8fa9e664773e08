"""How to train: budgets, optimizer, schedule, how often to validate and save."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from rnncore.engine.precision import check_trains
from rnncore.layers.module import Module
from rnncore.settings import Choice, Positive, Share, Whole, check_settings, setting
from rnncore.training import schedules
from rnncore.training.optimizer import Optimizer
from rnncore.training.optimizers import SGD, Adam, AdamW, RMSprop

BUDGETS = ("epochs", "steps", "seconds")

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "sgd": partial(SGD, momentum=0.9),
}
DECAYS = {"adamw": 0.01}  # the weight decay of an optimizer where none is given; 0 of the others
BIASES = "*bias*"  # are not decayed


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _warm(settings: TrainingSettings, schedule: schedules.Schedule) -> schedules.Schedule:
    return schedules.warm_up(schedule, _given(settings.warmup, 0.0))


SCHEDULES: dict[str, Callable[[TrainingSettings], schedules.Schedule]] = {
    "cosine": lambda s: _warm(s, schedules.cosine()),
    "exponential": lambda s: _warm(
        s, schedules.exponential(_given(s.decay, 0.97), _given(s.decay_after, 10))
    ),
    "constant": lambda s: _warm(s, schedules.constant()),
    "one-cycle": lambda s: schedules.one_cycle(_given(s.warmup, 0.3)),
    "plateau": lambda s: schedules.ReduceOnPlateau(
        _given(s.decay, 0.5), _given(s.patience, 2), schedule=_warm(s, schedules.constant())
    ),
}
#: Settings that belong to some schedules alone.
OF_SCHEDULES = {
    "decay": ("exponential", "plateau"),
    "decay_after": ("exponential",),
    "patience": ("plateau",),
}


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How to train; written into every checkpoint.

    The training ends with the first of the budgets `epochs`, `steps` and `seconds` (of training
    alone, without validation and saving) that is used up, or with `early_stopping`; all count from
    the very beginning, also after a resume.

    Parameters
    ----------
    epochs, steps, seconds
        Budgets; at least one must be given.
    optimizer
        ``"adam"``, ``"adamw"``, ``"rmsprop"`` or ``"sgd"`` (with momentum 0.9).
    learning_rate
        The base rate, at the beginning; of one cycle the highest.
    weight_decay
        Of all parameters but the biases, whose names have ``bias`` in them; None: 0.01 for
        ``"adamw"``, otherwise 0.
    schedule
        ``"cosine"`` (down to 0 at the end of the budget), ``"one-cycle"`` (up and down to almost
        0), ``"exponential"`` (times `decay` each epoch from the end of epoch `decay_after` on),
        ``"plateau"`` (times `decay` when more than `patience` validations in a row were not
        better) or ``"constant"``.
    warmup
        The share of the budget over which the rate rises, for any schedule; None: 0, of one cycle
        0.3.
    decay, decay_after, patience
        Of the schedules that have them; None: 0.97 and 10 for ``"exponential"``, 0.5 and 2 for
        ``"plateau"``.
    accumulate
        How many batches make a step: their mean gradient. A step is never cut, so the last one
        may go beyond `epochs`.
    average
        The decay of an average of the weights, which is what is validated and saved; None: none.
    early_stopping
        End when so many validations in a row were not better than the best one; None: never.
    clip_norm
        The largest norm of all gradients together; infinity for no clipping.
    validations
        How often to validate, evenly over the budget.
    checkpoint_seconds
        Save at least so often.

    Raises
    ------
    ValueError
        If a value is out of its range, no budget is given, or something is set that belongs to
        another schedule.
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
    weight_decay: float | None = setting(
        None, Share(), "Not of biases.  [default: 0.01 (adamw), otherwise 0]", fixed=True
    )
    schedule: str = setting(
        "cosine",
        Choice(tuple(SCHEDULES)),
        "Of the learning rate: down to 0 over the budget, up and down, by --decay, or none.",
    )
    warmup: float | None = setting(
        None, Share(), "Share of the budget to rise in.  [default: 0; 0.3 (one-cycle)]"
    )
    decay: float | None = setting(
        None,
        Positive(),
        "Factor an epoch (exponential) or a reduction (plateau).  [default: 0.97; 0.5]",
    )
    decay_after: int | None = setting(
        None, Whole(0), "First epoch of exponential decay.  [default: 10]"
    )
    patience: int | None = setting(
        None, Whole(0), "Validations without progress that plateau waits for.  [default: 2]"
    )
    accumulate: int = setting(1, Whole(), "Batches whose mean gradient makes a step.")
    average: float | None = setting(
        None, Share(), "Decay of an average of the weights, which is saved.", fixed=True
    )
    early_stopping: int | None = setting(
        None, Whole(), "Validations without progress that end the training.  [default: none]"
    )
    clip_norm: float = setting(5.0, Positive(infinite=True), "Largest norm of the gradient.")
    validations: int = setting(20, Whole(), "How often, over the budget.")
    checkpoint_seconds: float = setting(60.0, Positive(infinite=True), "Save at least so often.")

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in BUDGETS):
            raise ValueError("budget: expected at least one of epochs, steps, seconds, got none")
        check_settings(self)
        for name, having in OF_SCHEDULES.items():
            value = getattr(self, name)
            if value is not None and self.schedule not in having:
                raise ValueError(
                    f"{name}: expected none under the schedule {self.schedule!r}, which has none, "
                    f"got {value!r}; choose the schedule {' or '.join(map(repr, having))}"
                )
        SCHEDULES[self.schedule](self)

    @classmethod
    def of_checkpoint(cls, kept: dict[str, Any]) -> TrainingSettings:
        """Return the settings that a checkpoint keeps, older ones included."""
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in kept.items() if name in names}
        having = {name for name, some in OF_SCHEDULES.items() if values.get("schedule") in some}
        return cls(**(values | {name: None for name in OF_SCHEDULES if name not in having}))

    def make_optimizer(self, module: Module) -> Optimizer:
        """Return the optimizer of a module, with no decay of biases.

        Raises
        ------
        ValueError
            If a layer has a precision that has no gradients.
        """
        for _, part in module.named_modules():
            check_trains(getattr(part, "precision", "float32"))
        decay = _given(self.weight_decay, DECAYS.get(self.optimizer, 0.0))
        any_biases = any(fnmatchcase(name, BIASES) for name in module.params)
        groups = [{"params": BIASES, "weight_decay": 0.0}] if decay and any_biases else []
        return OPTIMIZERS[self.optimizer](
            module, self.learning_rate, weight_decay=decay, groups=groups
        )

    def fraction_used(self, epochs: float, steps: int, seconds: float) -> float:
        """Return the used share of the budget that is nearest to its end, at most 1."""
        used = ((epochs, self.epochs), (steps, self.steps), (seconds, self.seconds))
        return min(1.0, max(amount / budget for amount, budget in used if budget is not None))

    def validations_due(self, fraction: float) -> int:
        """Return how many validations belong to a used share of the budget."""
        # k / n * n may fall short of k by rounding.
        return math.floor(fraction * self.validations * (1.0 + 1e-9))
