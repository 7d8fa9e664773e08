"""Estimators: models of sequences with scikit-learn's habits."""

from __future__ import annotations

import os
from typing import Any

from rnncore import files, models
from rnncore.estimators.estimator import Estimator, NotFittedError
from rnncore.estimators.forecaster import Forecast, Forecaster
from rnncore.estimators.language_model import LanguageModel
from rnncore.estimators.sequence_classifier import SequenceClassifier
from rnncore.estimators.sequence_regressor import SequenceRegressor
from rnncore.estimators.tagger import Tagger
from rnncore.estimators.text_scores import Evaluation, TextScore
from rnncore.estimators.translator import Translator
from rnncore.estimators.word_transcriber import WordTranscriber

__all__ = [
    "KINDS", "Estimator", "Evaluation", "Forecast", "Forecaster", "LanguageModel",
    "NotFittedError", "SequenceClassifier", "SequenceRegressor", "Tagger", "TextScore",
    "Translator", "WordTranscriber", "load",
]  # fmt: skip

#: The estimator of the kind that a file names.
KINDS: dict[str, type[Estimator]] = {
    estimator.network_class.kind: estimator
    for estimator in (
        Forecaster,
        LanguageModel,
        SequenceClassifier,
        SequenceRegressor,
        Tagger,
        Translator,
        WordTranscriber,
    )
}


def load(path: str | os.PathLike[str]) -> Any:
    """Return the fitted estimator of a model file or of a checkpoint, of whatever kind.

    `rnncore.models.load` returns the network alone.

    Raises
    ------
    FileError
        If the file is not a whole model file of this version, or of a kind that is not known.

    Examples
    --------
    >>> import pathlib, tempfile, rnncore
    >>> text = "to be or not to be, that is the question. " * 9
    >>> model = rnncore.LanguageModel(hidden_size=8, batch_size=2, epochs=1).fit(text)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     model.save(path)
    ...     again = rnncore.load(path)
    >>> again, again.score("not to be") == model.score("not to be")
    (LanguageModel(hidden_size=8, precision='float32'), True)
    """
    network = models.from_contents(files.load(path), path)
    return KINDS[network.kind].of_network(network)
