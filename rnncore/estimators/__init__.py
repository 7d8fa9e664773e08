"""Estimators: models of sequences with scikit-learn's habits."""

from rnncore.estimators.estimator import Estimator, NotFittedError
from rnncore.estimators.tagger import Tagger

__all__ = ["Estimator", "NotFittedError", "Tagger"]
