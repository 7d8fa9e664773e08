"""The training loop: it asks a source for batches and a model for losses, and knows no data."""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from rnncore import files
from rnncore.training import checkpoint
from rnncore.training.average import Average
from rnncore.training.callbacks import Callback
from rnncore.training.clipping import clip_grad_norm
from rnncore.training.schedules import ReduceOnPlateau
from rnncore.training.settings import SCHEDULES, TrainingSettings
from rnncore.training.source import Batches, Source

if TYPE_CHECKING:
    from rnncore.models.model import Model

RECORD_STEPS = 50  # one point of the training curve is the mean over so many steps
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, kill, a terminal that is closed


class NonFiniteError(ArithmeticError):
    """The loss or a gradient is infinite or not a number; the weights are still the old ones."""


class Trainer:
    """Trains a model on a source of batches.

    Each step takes the next batch (or the mean over the next few: `accumulate` of the settings),
    carries the model's state over from the batch before where the source says that it goes on,
    clips the gradient's norm and lets the optimizer update the weights. With a folder it keeps
    two checkpoints there: ``last.safetensors``, and ``best.safetensors`` of the best validation.

    With `average` of the settings, what is validated, what the model of a file has, and what `run`
    and `restore` leave in the model are the averaged weights; steps go on from its own weights,
    which checkpoints hold too.

    PyTorch's recurrent layers train two biases where these have one: their sum moves twice as
    far there, so that Adam, clipping and weight decay take another path.

    Parameters
    ----------
    model
        Such as a `LanguageNetwork`; `rnncore.models.Model` says what it has.
    source
        Such as `rnncore.data.TextSource`; `Source` says what it has.
    settings
    folder
        For the checkpoints, made if need be; None keeps none.
    callbacks

    Attributes
    ----------
    step, position, epochs, seconds
        Steps done, the next batch, passes over the data done (a fraction too), seconds of training.
    loss : float
        Of the last step, as the model's `forward` gives it.
    training_curve, validation_curve : list of [step, epochs, seconds, value]
        In the unit of the model's first measure; a validation has all measures, in their order.
    best : float
        The best validation so far, by the model's decisive measure.
    is_best : bool
        Whether that is the last one.
    interrupted : bool
        Whether the last `run` was ended by Ctrl-C or another signal.
    signal : int or None
        Which one.
    average : Average or None
        Of the weights, where the settings want it.

    Raises
    ------
    ValueError
        If the schedule or early stopping needs validations and the source holds out nothing.

    Examples
    --------
    >>> from rnncore.data import TextSource, Vocabulary
    >>> from rnncore.models import LanguageNetwork
    >>> from rnncore.training import Trainer, TrainingSettings
    >>> text = "the quick brown fox jumps over the lazy dog. " * 50
    >>> model = LanguageNetwork(Vocabulary(text), hidden_size=16, num_layers=1, seed=0)
    >>> source = TextSource(model.vocabulary.encode(text), batch_size=4, sequence_length=20)
    >>> trainer = Trainer(model, source, TrainingSettings(steps=30, learning_rate=0.02))
    >>> trainer.run()
    >>> trainer.step, trainer.validation_curve[-1][3] < trainer.validation_curve[0][3]
    (30, True)
    """

    def __init__(
        self,
        model: Model,
        source: Source,
        settings: TrainingSettings,
        folder: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        if not isinstance(settings, TrainingSettings):
            raise TypeError(f"settings: expected TrainingSettings, got {type(settings).__name__}")
        if not all(hasattr(source, name) for name in ("batch", "continues", "per_epoch")):
            raise TypeError(
                f"source: expected a source of batches, got {type(source).__name__}; for a text "
                "give rnncore.data.TextSource(model.vocabulary.encode(text))"
            )
        self.model = model
        self.source = source
        self.settings = settings
        self.folder = None if folder is None else Path(folder)
        self.callbacks = callbacks
        self.optimizer = settings.make_optimizer(model)
        self.schedule = SCHEDULES[settings.schedule](settings)
        if source.held_out is None:
            if isinstance(self.schedule, ReduceOnPlateau):
                raise ValueError(
                    f"source: expected held-out data, by which the schedule {settings.schedule!r} "
                    "goes, got none; hold some out, or choose another schedule"
                )
            if settings.early_stopping is not None:
                raise ValueError(
                    "source: expected held-out data, by which early_stopping goes, got none; hold "
                    "some out, or leave early_stopping out"
                )
        self.average = None if settings.average is None else Average(model, settings.average)
        self.state: Any = None
        self.step = self.position = 0
        self.seconds = 0.0
        self.loss = math.nan
        decisive = model.measures[model.decisive]
        self.best = math.inf if decisive.lower_is_better else -math.inf
        self.is_best = False
        self.training_curve: list[list[float]] = []
        self.validation_curve: list[list[float]] = []
        self.interrupted = False
        self.signal: int | None = None
        self._window = [0, 0.0]  # steps and sum of losses since the last point of the curve
        self._validation_due = True  # at the beginning, and where a signal came in between
        self._running = False

    @property
    def epochs(self) -> float:
        """Passes over the data done so far."""
        return self.position / self.source.per_epoch

    @property
    def fraction(self) -> float:
        """The share of the budget used, 0 to 1."""
        return self.settings.fraction_used(self.epochs, self.step, self.seconds)

    @property
    def stopped_early(self) -> bool:
        """Whether the last `early_stopping` validations were no better than one before them."""
        wait = self.settings.early_stopping
        if wait is None or not self.validation_curve:
            return False
        decisive, best = self.model.measures[self.model.decisive], 0
        values = [row[3 + self.model.decisive] for row in self.validation_curve]
        for number, value in enumerate(values):
            first = math.isnan(values[best]) and not math.isnan(value)
            if first or decisive.better(value, values[best]):
                best = number
        return len(values) - 1 - best >= wait

    @property
    def is_done(self) -> bool:
        """Whether `run` would do nothing more."""
        return self.fraction >= 1.0 or self.stopped_early

    @property
    def items_per_step(self) -> int:
        """How many of the source's items a step learns from."""
        return self.source.items_per_batch * self.settings.accumulate

    @property
    def last_path(self) -> Path | None:
        """The newest checkpoint."""
        return self.folder and self.folder / "last.safetensors"

    @property
    def best_path(self) -> Path | None:
        """The checkpoint of the best validation; absent without validation."""
        return self.folder and self.folder / "best.safetensors"

    def run(self) -> None:
        """Train until the budget is used up, early stopping or a signal ends it.

        Ctrl-C, SIGTERM and SIGHUP let the step end first. A checkpoint on the way that cannot be
        written (a full disk) is a warning, and the next one is tried; the first and the last must
        be written.

        Raises
        ------
        NonFiniteError
            If a loss or gradient is not finite. The step is not taken and no file is written:
            ``last.safetensors`` is the last good checkpoint.
        OSError
            If the first or the last checkpoint cannot be written.
        ValueError
            If the whole model is frozen.
        """
        if self.model.frozen:
            raise ValueError(
                "model: expected something to train, but all its parts are frozen; unfreeze one"
            )
        self.interrupted, self.signal = False, None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._interruptible():
                for callback in self.callbacks:
                    callback.on_begin(self)
                self._run()
        finally:
            if self.average is not None:
                self.average.swap_in()
            for callback in self.callbacks:
                callback.on_end(self)
        self.interrupted = self.signal is not None

    def _run(self) -> None:
        if self._validation_due:
            self._validate()
        self._save_last()
        saved_at = time.monotonic()
        validations_done = self.settings.validations_due(self.fraction)
        while not self.is_done and self.signal is None:
            self._train_step()
            for callback in self.callbacks:
                callback.on_step(self)
            due = self.settings.validations_due(self.fraction)
            self._validation_due = due > validations_done
            validates = self._validation_due and self.signal is None
            if validates:
                validations_done = due
                self._validate()
            late = time.monotonic() - saved_at > self.settings.checkpoint_seconds
            if validates or late:
                self._try_to_save(self._save_last)
                saved_at = time.monotonic()
        self._save_last()

    def _try_to_save(self, save: Callable[[], None]) -> bool:
        try:
            save()
        except OSError as error:
            warnings.warn(
                f"step {self.step}: the checkpoint was not written ({error}); training goes on "
                "and tries again at the next occasion",
                RuntimeWarning,
                stacklevel=4,
            )
            return False
        return True

    def _train_step(self) -> None:
        start = time.perf_counter()
        if self.average is not None:
            self.average.swap_out()
        self.optimizer.lr = self.settings.learning_rate * self.schedule(self.epochs, self.fraction)
        loss, state = self._gradient()
        if not math.isfinite(clip_grad_norm(self.model, self.settings.clip_norm)):
            self._refuse("the next gradient is not finite, the weights were not changed")
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        self.state = state
        self.step += 1
        self.position += self.settings.accumulate
        self.loss = loss
        self.seconds += time.perf_counter() - start
        self._window = [self._window[0] + 1, self._window[1] + loss]
        if self.step % RECORD_STEPS == 0 or self.fraction >= 1.0:
            self.training_curve = self.curve_so_far()
            self._window = [0, 0.0]

    def curve_so_far(self) -> list[list[float]]:
        """Return `training_curve`, and as its last point the steps that have come since."""
        count, total = self._window
        if not count:
            return self.training_curve
        mean = self.model.measures[0].value(total, count)
        return [*self.training_curve, [self.step, self.epochs, self.seconds, mean]]

    def _gradient(self) -> tuple[float, Any]:
        # The mean over the next batches; returns the mean loss and the state after them.
        count, total, state = self.settings.accumulate, 0.0, self.state
        for number in range(self.position, self.position + count):
            state = state if self.source.continues(number) else None
            loss, state = self.model.forward(*self.source.batch(number), state)
            if not math.isfinite(loss):
                self._refuse(f"the next loss is {loss}, the weights were not changed")
            self.model.backward(accumulate=number > self.position)
            total += loss
        if count > 1:
            np.multiply(self.model.flat_grads, 1.0 / count, out=self.model.flat_grads)
        return total / count, state

    def _averaged(self) -> AbstractContextManager[object]:
        return nullcontext() if self.average is None else self.average.applied()

    def _refuse(self, what: str) -> NoReturn:
        broken = [
            f"the {kind} of {name}"
            for kind, arrays in (("weights", self.model.params), ("gradient", self.model.grads))
            for name, array in arrays.items()
            if not np.isfinite(array).all()
        ]
        where = f" (not finite: {', '.join(broken)})" if broken else ""
        last = self.last_path
        kept = f"The last good checkpoint is {str(last)!r}. " if last and last.exists() else ""
        raise NonFiniteError(
            f"training stopped after step {self.step}, epoch {self.epochs:.2f}: {what}{where}. "
            f"{kept}Use a smaller learning_rate or clip_norm"
        )

    def evaluate(self, batches: Batches) -> list[float]:
        """Return the model's measures over all of some batches, state carried.

        Such as ``trainer.evaluate(source.held_out)``; sums and counts are added, so that batches
        of other sizes count as much as they hold.
        """
        totals = [[0.0, 0.0] for _ in self.model.measures]
        state: Any = None
        for number in range(batches.per_epoch):
            if self._running and self.signal is not None:
                break
            if not batches.continues(number):
                state = None
            parts, state = self.model.measure(*batches.batch(number), state)
            for total, part in zip(totals, parts, strict=True):
                total[0] += part[0]
                total[1] += part[1]
        return [
            measure.value(total, count) if count else math.nan
            for measure, (total, count) in zip(self.model.measures, totals, strict=True)
        ]

    def _validate(self) -> None:
        with self._averaged():
            self._validate_weights()

    def _validate_weights(self) -> None:
        if self.source.held_out is None:
            return
        values = self.evaluate(self.source.held_out)
        if self.signal is not None:  # cut short, so not the mean over all of it
            return
        self._validation_due = False
        decisive = self.model.measures[self.model.decisive]
        before, value = self.best, values[self.model.decisive]
        if isinstance(self.schedule, ReduceOnPlateau):
            self.schedule.observe(value if decisive.lower_is_better else -value)
        self.validation_curve.append([self.step, self.epochs, self.seconds, *values])
        self.is_best = decisive.better(value, before)
        if self.is_best:
            self.best = value
            path = self.best_path
            if path is not None and not self._try_to_save(lambda: self._save_good(path)):
                self.best, self.is_best = before, False  # the file still is of the one before
        for callback in self.callbacks:
            callback.on_validation(self)

    def _save_last(self) -> None:
        if self.last_path is not None:
            self._save_good(self.last_path)

    def _save_good(self, path: Path) -> None:
        """Replace a good checkpoint by nothing but a good one."""
        raw = None if self.average is None else self.average.raw
        if not all(np.isfinite(x).all() for x in (self.model.flat_params, raw) if x is not None):
            self._refuse("the weights are not finite")
        self.save(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: the model and everything needed to go on as if never stopped.

        With an average of the weights the model in the file has that; its own weights are beside.
        """
        with self._averaged():
            tensors, metadata = checkpoint.contents(self)
        files.save(path, tensors, metadata)

    def restore(self, path: str | os.PathLike[str], contents: files.Contents | None = None) -> None:
        """Go back to the point where `save` wrote the checkpoint at `path`.

        Parts that were frozen then are frozen, all others are not.

        Parameters
        ----------
        path
        contents
            What `rnncore.files.load` returned, where the file is read already.

        Raises
        ------
        FileError
            If the file is damaged, holds a model without its training, or belongs to another
            model or other data.
        """
        tensors, metadata = files.load(path) if contents is None else contents
        name = os.fspath(path)
        checkpoint.check(self.model, metadata, name)
        try:
            checkpoint.take(self, metadata["training"], tensors, name)
        except files.FileError:
            raise
        except (
            KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError
        ) as error:  # fmt: skip
            raise files.FileError(
                f"checkpoint: {name!r} holds no whole training ({type(error).__name__}: {error}); "
                "use another copy"
            ) from None

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let a signal wait for the end of the step: a checkpoint is never of half a step."""
        import signal

        def stop(number: int, frame: object) -> None:
            if self.signal is not None:  # the second one does not wait
                if number == signal.SIGINT:
                    raise KeyboardInterrupt
                raise SystemExit(128 + number)
            self.signal = number

        before = {}
        self._running = True
        try:
            if threading.current_thread() is threading.main_thread():  # no other may handle them
                for number in (getattr(signal, name, None) for name in STOPPING):
                    # What is ignored (nohup) stays ignored.
                    if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                        before[number] = signal.signal(number, stop)
            yield
        finally:
            self._running = False
            for number, handler in before.items():
                signal.signal(number, handler)
