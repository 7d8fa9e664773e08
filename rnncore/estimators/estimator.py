"""What estimators share: scikit-learn's habits for models of sequences."""

from __future__ import annotations

import inspect
import os
from typing import Any, ClassVar, Self

from rnncore import files
from rnncore.models.model import Model


class NotFittedError(ValueError, AttributeError):
    """An estimator was asked before `fit`; both kinds of error, as in scikit-learn."""


class Estimator:
    """An object whose parameters are those of its `__init__`, which does nothing but keep them.

    `fit` learns from data into attributes that end in an underscore, and returns the estimator. So
    scikit-learn's `clone`, `cross_val_score` and `GridSearchCV` take it.
    """

    model_class: ClassVar[type[Model]]
    model_: Any

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

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
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value != defaults[name].default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` or `load` has been called."""
        return hasattr(self, "model_")

    def _model(self) -> Any:
        if not hasattr(self, "model_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet; call fit with data, or load a file"
            )
        return self.model_

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file, as `rnncore.load` reads it too."""
        self._model().save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return a fitted estimator with the model of a file.

        Raises
        ------
        FileError
            If the file holds no whole model of this kind.
        """
        estimator = cls()
        model = cls.model_class.from_contents(files.load(path), path)
        estimator._take(model)
        return estimator

    def _take(self, model: Any) -> None:
        self.model_ = model
        for name in set(self._parameter_names()) & set(model.settings):
            setattr(self, name, model.settings[name])
