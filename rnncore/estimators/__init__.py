"""Estimators: models of sequences with scikit-learn's habits."""

from rnncore.estimators.estimator import Estimator, NotFittedError
from rnncore.estimators.sequence_classifier import SequenceClassifier
from rnncore.estimators.sequence_regressor import SequenceRegressor
from rnncore.estimators.tagger import Tagger

__all__ = ["Estimator", "NotFittedError", "SequenceClassifier", "SequenceRegressor", "Tagger"]
