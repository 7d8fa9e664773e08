"""What listens to a training: the best weights, logs."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore import files

if TYPE_CHECKING:
    from rnncore.training.loop import Trainer


class Callback:
    """Told of what happens in a training; override what you need."""

    def on_begin(self, trainer: Trainer) -> None:
        """Hear that `run` begins, perhaps not for the first time."""

    def on_step(self, trainer: Trainer) -> None:
        """Hear of a step; ``trainer.loss`` is its loss."""

    def on_validation(self, trainer: Trainer) -> None:
        """Hear of a validation; ``trainer.validation_curve[-1]`` is its result."""

    def on_end(self, trainer: Trainer) -> None:
        """Hear that `run` is over, also where an error or a signal ends it."""


class KeepBest(Callback):
    """Keeps the weights of the best validation in memory.

    Attributes
    ----------
    weights : array or None
        All of the model's, flat; None before the first validation.
    """

    def __init__(self) -> None:
        self.weights: np.ndarray | None = None

    def on_validation(self, trainer: Trainer) -> None:
        """Keep the weights, if they are the best so far."""
        if trainer.is_best:
            self.weights = trainer.model.flat_params.copy()

    def restore(self, trainer: Trainer) -> None:
        """Give the best weights to the model, if there was a validation."""
        if self.weights is not None:
            with trainer.model.changing_weights() as flat:
                flat[...] = self.weights


class Log(Callback):
    """Turns a training into records; a subclass writes them."""

    def on_begin(self, trainer: Trainer) -> None:
        """Look where the training is."""
        self._points = len(trainer.training_curve)
        self._since = trainer.step, trainer.seconds

    def on_step(self, trainer: Trainer) -> None:
        """Write each new point of the training curve."""
        if len(trainer.training_curve) == self._points:
            return
        self._points = len(trainer.training_curve)
        step, _, seconds, value = trainer.training_curve[-1]
        steps, time = step - self._since[0], seconds - self._since[1]
        self._since = int(step), seconds
        rate = steps * trainer.items_per_step / time if time > 0 else 0.0
        self.write(trainer, {
            f"training_{trainer.model.measures[0].name}": value,
            "learning_rate": trainer.optimizer.lr,
            f"{trainer.source.item}_per_second": rate,
        })  # fmt: skip

    def on_validation(self, trainer: Trainer) -> None:
        """Write all measures of a validation."""
        values = trainer.validation_curve[-1][3:]
        self.write(trainer, {
            f"held_out_{measure.name}": value
            for measure, value in zip(trainer.model.measures, values, strict=True)
        })  # fmt: skip

    def write(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Write what is known at this step."""
        raise NotImplementedError


class JsonLines(Log):
    """Writes a training to a file, a JSON object a line.

    Each has ``step``, ``epoch`` and ``seconds`` of training, and either the training loss (the mean
    of the last 50 steps) with the learning rate and what is trained on a second, or the measures of
    a validation. A training that goes on from a checkpoint continues the file; lines of steps that
    it does again are dropped first.

    Parameters
    ----------
    path
        Replaced, where a training begins anew.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_begin(self, trainer: Trainer) -> None:
        """Keep the lines up to here."""
        super().on_begin(trainer)
        kept = []
        if trainer.step and self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    if json.loads(line)["step"] <= trainer.step:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError):  # cut off, where a process was killed
                    continue
        files.write_whole(self.path, "".join(kept).encode())

    def write(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Add a line."""
        where = {"step": trainer.step, "epoch": trainer.epochs, "seconds": trainer.seconds}
        # JSON has no word for what is not a number.
        known = {name: value if np.isfinite(value) else None for name, value in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(where | known) + "\n")
        except OSError as error:
            warnings.warn(
                f"step {trainer.step}: the log was not written ({error}); training goes on",
                RuntimeWarning,
                stacklevel=3,
            )


class TensorBoard(Log):
    """Writes the same as `JsonLines` for TensorBoard to show.

    Parameters
    ----------
    folder
        What ``tensorboard --logdir`` is given.

    Raises
    ------
    ImportError
        At the beginning of a training, if tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self._writer: Any = None

    def on_begin(self, trainer: Trainer) -> None:
        """Open the log; steps that are done again replace the old ones."""
        super().on_begin(trainer)
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                "tensorboardX: expected to be installed for a log that TensorBoard shows; "
                "`pip install tensorboardX`"
            ) from None
        self._writer = SummaryWriter(self.folder, purge_step=trainer.step + 1)

    def write(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Add points."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, trainer.step)

    def on_end(self, trainer: Trainer) -> None:
        """Close the log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
