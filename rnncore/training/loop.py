"""The training loop for language models."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import as_array, check_size, is_number
from rnncore.data.text import TextChunks, single_pass, split_text
from rnncore.training import schedules
from rnncore.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from rnncore.training.optimizers import SGD, Adam, Optimizer, RMSprop, clip_grad_norm

if TYPE_CHECKING:
    from rnncore.models.language_model import LanguageModel

BITS_PER_NAT = 1.0 / math.log(2.0)
RECORD_STEPS = 50  # one point of the training curve is the mean over so many steps


class NonFiniteError(ArithmeticError):
    """The loss or a gradient is infinite or not a number; the weights are still the old ones."""


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
    batch_size, sequence_length
        Parallel streams of text, and the steps through which gradients flow.
    optimizer
        ``"adam"``, ``"rmsprop"`` or ``"sgd"`` (with momentum 0.9).
    learning_rate
        The base rate, at the beginning.
    schedule
        ``"cosine"`` (down to 0 at the end of the budget), ``"exponential"`` (times `decay` each
        epoch from the end of epoch `decay_after` on) or ``"constant"``.
    clip_norm
        The largest norm of all gradients together; infinity for no clipping.
    validation_fraction
        The last part of the text, held out; 0 for none.
    validations
        How often to validate, evenly over the budget.
    checkpoint_seconds
        Save at least so often.

    Raises
    ------
    ValueError
        If a value is out of its range, or no budget is given.
    """

    epochs: float | None = None
    steps: int | None = None
    seconds: float | None = None
    batch_size: int = 50
    sequence_length: int = 50
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    decay: float = 0.97
    decay_after: int = 10
    clip_norm: float = 5.0
    validation_fraction: float = 0.05
    validations: int = 20
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        budgets = {name: getattr(self, name) for name in ("epochs", "steps", "seconds")}
        if all(value is None for value in budgets.values()):
            raise ValueError("budget: expected at least one of epochs, steps, seconds, got none")
        for name in ("steps", "batch_size", "sequence_length", "validations"):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name))
        check_size("decay_after", self.decay_after, 0)
        for name in ("epochs", "seconds", "learning_rate", "decay", "clip_norm",
                     "checkpoint_seconds"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (not is_number(value) or not value > 0):
                raise ValueError(f"{name}: expected a number above 0, got {value!r}")
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")

    def fraction_used(self, epochs: float, steps: int, seconds: float) -> float:
        """Return the used share of the budget that is nearest to its end, at most 1."""
        used = ((epochs, self.epochs), (steps, self.steps), (seconds, self.seconds))
        return min(1.0, max(amount / budget for amount, budget in used if budget is not None))


OPTIMIZERS: dict[str, Callable[[Any, float], Optimizer]] = {
    "adam": Adam,
    "rmsprop": RMSprop,
    "sgd": lambda module, lr: SGD(module, lr, momentum=0.9),
}
SCHEDULES: dict[str, Callable[[TrainingSettings], schedules.Schedule]] = {
    "cosine": lambda settings: schedules.cosine(),
    "exponential": lambda s: schedules.exponential(s.decay, s.decay_after),
    "constant": lambda settings: schedules.constant(),
}


class Callback:
    """Told of what happens in a training; override what you need."""

    def on_step(self, trainer: Trainer) -> None:
        """Hear of a step; ``trainer.loss`` is its loss in nats."""

    def on_validation(self, trainer: Trainer) -> None:
        """Hear of a validation; ``trainer.validation_curve[-1]`` is its result."""


class Trainer:
    """Trains a language model by truncated backpropagation through time.

    Each step takes the next chunk of B streams of text, carries the recurrent state over from
    the chunk before (and resets it where the streams wrap), clips the gradient's norm and lets
    the optimizer update the weights. With a folder it keeps two checkpoints there:
    ``last.safetensors``, and ``best.safetensors`` of the lowest validation loss.

    Parameters
    ----------
    model
    tokens : (N,) integers
        The whole text; the validation part is split off its end.
    settings
    folder
        For the checkpoints, made if need be; None keeps none.
    callbacks

    Attributes
    ----------
    step, epochs, seconds
        Steps done, passes over the text done (a fraction too), seconds of training.
    loss : float
        Of the last step, nats per character.
    training_curve, validation_curve : list of [step, epochs, seconds, bits per character]
    best : float
        The lowest validation loss so far, bits per character.
    interrupted : bool
        Whether the last `run` was ended by Ctrl-C.

    Examples
    --------
    >>> from rnncore.data import Vocabulary
    >>> from rnncore.models import LanguageModel
    >>> from rnncore.training import Trainer, TrainingSettings
    >>> text = "the quick brown fox jumps over the lazy dog. " * 50
    >>> model = LanguageModel(Vocabulary(text), hidden_size=16, num_layers=1, seed=0)
    >>> settings = TrainingSettings(steps=30, batch_size=4, sequence_length=20, learning_rate=0.02)
    >>> trainer = Trainer(model, model.vocabulary.encode(text), settings)
    >>> trainer.run()
    >>> trainer.step, trainer.validation_curve[-1][3] < trainer.validation_curve[0][3]
    (30, True)
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: NDArray[np.int32],
        settings: TrainingSettings,
        folder: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        if not isinstance(settings, TrainingSettings):
            raise TypeError(f"settings: expected TrainingSettings, got {type(settings).__name__}")
        tokens = as_array("tokens", tokens)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise TypeError(
                f"tokens: expected a text as integers (N,), got {tokens.dtype} of shape "
                f"{tokens.shape}; vocabulary.encode makes them"
            )
        self.model = model
        self.settings = settings
        self.folder = None if folder is None else Path(folder)
        self.callbacks = callbacks
        self.text_hash = hashlib.blake2b(
            np.ascontiguousarray(tokens).data, digest_size=16
        ).hexdigest()
        training, self.validation = split_text(tokens, settings.validation_fraction)
        self.chunks = TextChunks(training, settings.batch_size, settings.sequence_length)
        self.optimizer = OPTIMIZERS[settings.optimizer](model, settings.learning_rate)
        self.schedule = SCHEDULES[settings.schedule](settings)
        self.state: Any = None
        self.step = 0
        self.seconds = 0.0
        self.loss = math.nan
        self.best = math.inf
        self.training_curve: list[list[float]] = []
        self.validation_curve: list[list[float]] = []
        self.interrupted = False
        self._window = [0, 0.0]  # steps and sum of losses since the last point of the curve
        self._stop = False

    @property
    def epochs(self) -> float:
        """Passes over the training text done so far."""
        return self.chunks.position / self.chunks.chunks_per_epoch

    @property
    def fraction(self) -> float:
        """The share of the budget used, 0 to 1."""
        return self.settings.fraction_used(self.epochs, self.step, self.seconds)

    @property
    def last_path(self) -> Path | None:
        """The newest checkpoint."""
        return self.folder and self.folder / "last.safetensors"

    @property
    def best_path(self) -> Path | None:
        """The checkpoint with the lowest validation loss; absent without validation."""
        return self.folder and self.folder / "best.safetensors"

    def run(self) -> None:
        """Train until the budget is used up or Ctrl-C, which ends it with a checkpoint.

        Raises
        ------
        NonFiniteError
            If a loss or gradient is not finite. The step is not taken and no file is written:
            ``last.safetensors`` is the last good checkpoint.
        """
        self.interrupted = self._stop = False
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._interruptible():
            if self.step == 0:
                self._validate()
            self._save_last()
            saved_at = time.monotonic()
            validations_done = math.floor(self.fraction * self.settings.validations)
            while self.fraction < 1.0 and not self._stop:
                self._train_step()
                for callback in self.callbacks:
                    callback.on_step(self)
                due = math.floor(self.fraction * self.settings.validations)
                if due > validations_done and not self._stop:
                    validations_done = due
                    self._validate()
                    self._save_last()
                    saved_at = time.monotonic()
                elif time.monotonic() - saved_at > self.settings.checkpoint_seconds:
                    self._save_last()
                    saved_at = time.monotonic()
            self._save_last()
        self.interrupted = self._stop

    def _train_step(self) -> None:
        start = time.perf_counter()
        position = self.chunks.position
        self.optimizer.lr = self.settings.learning_rate * self.schedule(self.epochs, self.fraction)
        chunk = next(self.chunks)
        state = None if chunk.wrapped else self.state
        loss, state = self.model.forward(chunk.inputs, chunk.targets, state)
        if not math.isfinite(loss):
            self.chunks.position = position
            self._refuse(f"the next loss is {loss}, the weights were not changed")
        self.model.backward(accumulate=False)
        if not math.isfinite(clip_grad_norm(self.model, self.settings.clip_norm)):
            self.chunks.position = position
            self._refuse("the next gradient is not finite, the weights were not changed")
        self.optimizer.step()
        self.state = state
        self.step += 1
        self.loss = loss
        self.seconds += time.perf_counter() - start
        self._window = [self._window[0] + 1, self._window[1] + loss]
        if self.step % RECORD_STEPS == 0 or self.fraction >= 1.0:
            mean = self._window[1] / self._window[0] * BITS_PER_NAT
            self.training_curve.append([self.step, self.epochs, self.seconds, mean])
            self._window = [0, 0.0]

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

    def evaluate(self, tokens: NDArray[np.int32]) -> float:
        """Return the mean loss over all of `tokens` in bits per character, state carried.

        The text is read in as many parallel streams as leave each at least 1000 characters
        (at most `batch_size`), since each begins without knowing what came before.
        """
        streams = max(1, min(self.settings.batch_size, len(tokens) // 1000))
        total, count, state = 0.0, 0, None
        for chunk in single_pass(tokens, streams, self.settings.sequence_length):
            if self._stop:
                break
            loss, state = self.model.evaluate(chunk.inputs, chunk.targets, state)
            total += loss * chunk.inputs.size
            count += chunk.inputs.size
        return total / count * BITS_PER_NAT if count else math.nan

    def _validate(self) -> None:
        if self.validation.size == 0:
            return
        bits = self.evaluate(self.validation)
        if self._stop:  # cut short, so not the mean over all of it
            return
        self.validation_curve.append([self.step, self.epochs, self.seconds, bits])
        if bits < self.best:
            self.best = bits
            if self.best_path is not None:
                self._save_good(self.best_path)
        for callback in self.callbacks:
            callback.on_validation(self)

    def _save_last(self) -> None:
        if self.last_path is not None:
            self._save_good(self.last_path)

    def _save_good(self, path: Path) -> None:
        """Replace a good checkpoint by nothing but a good one."""
        if not np.isfinite(self.model.flat_params).all():
            self._refuse("the weights are not finite")
        self.save(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: the model and everything needed to go on as if never stopped."""
        tensors = self.model.state_dict()
        state = () if self.state is None else self.state
        for index, array in enumerate(state if isinstance(state, tuple) else (state,)):
            tensors[f"carried_state.{index}"] = array
        optimizer = self.optimizer.state_dict()
        for name in self.optimizer.moment_names:
            tensors[f"optimizer.{name}"] = optimizer.pop(name)
        training = {
            "settings": dataclasses.asdict(self.settings),
            "text_hash": self.text_hash,
            "optimizer": optimizer,
            "generator": self.model.generator.bit_generator.state,
            "position": self.chunks.position,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "window": self._window,
            "training_curve": self.training_curve,
            "validation_curve": self.validation_curve,
        }
        save_checkpoint(path, tensors, {"model": self.model.describe(), "training": training})

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go back to the point where `save` wrote the checkpoint at `path`.

        Raises
        ------
        CheckpointError
            If the file is damaged, holds a model without its training, or belongs to another
            model or another text.
        """
        tensors, metadata = load_checkpoint(path)
        name = os.fspath(path)
        if "training" not in metadata:
            raise CheckpointError(
                f"checkpoint: expected a training checkpoint, but {name!r} is a model alone; "
                "resume from last.safetensors or best.safetensors of a training folder"
            )
        training = metadata["training"]
        if training["text_hash"] != self.text_hash:
            raise CheckpointError(
                f"text: expected the very text that {name!r} was trained on, got another; name "
                "the same files in the same order, with the same encoding"
            )
        if metadata["model"] != self.model.describe():
            raise CheckpointError(f"checkpoint: {name!r} holds a model of other settings")
        self.model.load_state_dict({key: tensors[key] for key in self.model.state_dict()})
        self.optimizer.load_state_dict(
            training["optimizer"]
            | {key: tensors[f"optimizer.{key}"] for key in self.optimizer.moment_names}
        )
        carried = [tensors[key] for key in sorted(tensors) if key.startswith("carried_state.")]
        self.state = carried[0] if len(carried) == 1 else tuple(carried) or None
        self.model.generator.bit_generator.state = training["generator"]
        self.chunks.position = training["position"]
        self.step = training["step"]
        self.seconds = training["seconds"]
        self.best = training["best"]
        self._window = training["window"]
        self.training_curve = training["training_curve"]
        self.validation_curve = training["validation_curve"]

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end the step first, so that a checkpoint is never of half a step."""
        import signal

        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return

        def stop(signum: int, frame: object) -> None:
            if self._stop:  # the second Ctrl-C does not wait
                raise KeyboardInterrupt
            self._stop = True

        previous = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
