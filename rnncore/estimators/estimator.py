"""What estimators share: scikit-learn's habits for models of sequences."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from rnncore import files
from rnncore.arguments import check_size, is_number
from rnncore.models.model import Model
from rnncore.settings import Share
from rnncore.training import (
    Callback,
    KeepBest,
    Progress,
    Source,
    Trainer,
    TrainingSettings,
    plot_curves,
)

K = TypeVar("K")


class NotFittedError(ValueError, AttributeError):
    """An estimator was asked before `fit`; both kinds of error, as in scikit-learn."""


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Estimator:
    """An object whose parameters are its fields, which `__init__` keeps without looking at them.

    `fit` learns from data into attributes that end in an underscore, and returns the estimator. So
    scikit-learn's `clone`, `cross_val_score`, `GridSearchCV` and pipelines take it.

    A subclass names its network's class, and its `fit` makes a network and a source of batches for
    `_train`. Fields called as one of `TrainingSettings` say how it trains.

    Parameters
    ----------
    epochs, seconds, learning_rate, weight_decay, average, early_stopping
        Of the training; see `TrainingSettings`. The learning rate falls to 0 along a cosine. Each
        epoch ends with a validation, where there is something to validate on.
    batch_size
        Sequences whose mean gradient makes a step.
    validation_fraction
        The share of the sequences that `fit` validates on, where it is given no others.
    folder
        For checkpoints; None keeps none.
    verbose
        Whether to show how the training goes.
    seed
        A whole number, for everything that is drawn: the same one learns the same.

    Attributes
    ----------
    network_
        With the weights of the best validation, or the last ones where there was none.
    training_curve_, validation_curve_ : list of [step, epochs, seconds, value, ...]
        See `Trainer`.
    """

    epochs: float | None = 30
    seconds: float | None = None
    learning_rate: float = 2e-3
    batch_size: int = 32
    weight_decay: float = 1e-2
    average: float | None = None
    early_stopping: int | None = None
    validation_fraction: float = 0.0
    folder: str | os.PathLike[str] | None = None
    verbose: bool = False
    seed: int = 0

    network_class: ClassVar[type[Model]]
    #: How scikit-learn deals with it: "classifier", "regressor" or None.
    estimator_type: ClassVar[str | None] = None
    # What estimators train with, where they have no parameter of that name.
    _training: ClassVar[dict[str, Any]] = {"optimizer": "adamw", "clip_norm": 1.0}

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **parameters: Any) -> Self:
        """Set some parameters, for the next `fit`.

        Raises
        ------
        ValueError
            If there is no parameter of a name.
        """
        names = self._parameter_names()
        for name, value in parameters.items():
            if name not in names:
                raise ValueError(
                    f"{name}: expected a parameter of {type(self).__name__}, one of "
                    f"{', '.join(names)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """Return the parameters that are not the defaults."""
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if repr(getattr(self, field.name)) != repr(field.default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` or `load` has been called."""
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what this is."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        kind = self.estimator_type
        return Tags(
            estimator_type=kind,
            target_tags=TargetTags(required=True, multi_output=kind == "regressor"),
            classifier_tags=ClassifierTags() if kind == "classifier" else None,
            regressor_tags=RegressorTags(poor_score=True) if kind == "regressor" else None,
            input_tags=InputTags(three_d_array=True),
            non_deterministic=False,
        )

    def _train(self, network: Model, source: Source, callbacks: Sequence[Callback]) -> None:
        best = KeepBest()
        shown = [Progress()] if self.verbose else []
        listening = [best, *shown, *callbacks]
        trainer = Trainer(network, source, self._training_settings(), self.folder, listening)
        trainer.run()
        # Interrupted before the first validation of what was learned, none is better than that.
        if trainer.signal is None or len(trainer.validation_curve) > 1:
            best.restore(trainer)
        self.network_ = network
        self.training_curve_ = trainer.curve_so_far()
        self.validation_curve_ = trainer.validation_curve
        # What has been learned so far is there, and who interrupted is obeyed.
        if trainer.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if trainer.signal is not None:
            raise SystemExit(128 + trainer.signal)

    def _settings(self, kind: type[K], **more: Any) -> K:
        """Return settings of this kind from the parameters of their names, and `more`."""
        own = self.get_params() | more
        return kind(**{field.name: own[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]

    def _training_settings(self) -> TrainingSettings:
        names = {field.name for field in dataclasses.fields(TrainingSettings)}
        values = {name: value for name, value in self.get_params().items() if name in names}
        epochs = self.epochs if is_number(self.epochs) else None
        if epochs is None or not math.isfinite(epochs):  # which the settings refuse
            often = {}
        else:
            often = {"validations": max(1, round(epochs))}
        return TrainingSettings(**(self._training | often | values))

    @property
    def _seed(self) -> int:
        # None would be another training each time, and a batch order is a whole number.
        return check_size("seed", self.seed, 0)

    def _hold_out(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which of so many sequences to train on and which to validate on, by the seed."""
        share = self.validation_fraction
        Share().check("validation_fraction", share)
        held_out = round(share * count)
        order = np.random.default_rng(self._seed).permutation(count)
        if share and not 0 < held_out < count:
            raise ValueError(
                f"validation_fraction: expected a share that leaves some of {count} sequences on "
                f"both sides, got {share}"
            )
        return np.sort(order[held_out:]), np.sort(order[:held_out])

    def _network(self) -> Any:
        if not hasattr(self, "network_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet; call fit with data, or load a file"
            )
        return self.network_

    def stream(self) -> Any:
        """Return a stream with weights of its own: it is fed step by step, and answers each time.

        Raises
        ------
        ValueError
            If the network reads both ways.
        NotFittedError
            Before `fit`.
        """
        return self._network().stream()

    def plot_curves(self, path: str | os.PathLike[str]) -> None:
        """Draw training and validation losses over time into a PNG.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If there has been no training: a file has no curves.
        """
        network = self._network()
        if not hasattr(self, "training_curve_"):
            raise NotFittedError("plot_curves: expected a training, but this was loaded; call fit")
        unit = network.measures[0].unit
        plot_curves(path, self.training_curve_, self.validation_curve_, unit)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted network to a file, as `rnncore.load` reads it too."""
        self._network().save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return a fitted estimator with the network of a file.

        Raises
        ------
        FileError
            If the file holds no whole network of this kind.
        """
        return cls.of_network(cls.network_class.from_contents(files.load(path), path))

    @classmethod
    def of_network(cls, network: Any) -> Self:
        """Return a fitted estimator with this network."""
        estimator = cls()
        estimator.network_ = network
        for name in set(cls._parameter_names()) & set(network.settings):
            setattr(estimator, name, network.settings[name])
        return estimator
