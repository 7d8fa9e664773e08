"""Whole models, made of layers."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from rnncore import files
from rnncore.models.language_network import LanguageNetwork
from rnncore.models.model import Measure, Model, kind_of

__all__ = ["KINDS", "LanguageNetwork", "Measure", "Model", "from_contents", "load"]

#: The kind that a file names: module and class, imported when a file asks for it.
KINDS = {
    "forecaster": ("rnncore.models.forecaster_network", "ForecasterNetwork"),
    "language model": ("rnncore.models.language_network", "LanguageNetwork"),
    "sequence classifier": ("rnncore.models.sequence_classifier", "SequenceClassifierNetwork"),
    "sequence regressor": ("rnncore.models.sequence_regressor", "SequenceRegressorNetwork"),
    "tagger": ("rnncore.models.tagger_network", "TaggerNetwork"),
    "transcriber": ("rnncore.models.transcriber_network", "TranscriberNetwork"),
    "translator": ("rnncore.models.translator_network", "TranslatorNetwork"),
}


def load(path: str | os.PathLike[str]) -> Any:
    """Return the network of a model file or of a checkpoint, of whatever kind.

    `rnncore.load` returns the estimator around it.

    Raises
    ------
    FileError
        If the file is not a whole model file of this version, or of a kind that is not known.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from rnncore import models
    >>> from rnncore.data import Vocabulary
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     models.LanguageNetwork(Vocabulary("abc"), hidden_size=4, seed=0).save(path)
    ...     models.load(path).kind
    'language model'
    """
    return from_contents(files.load(path), path)


def from_contents(contents: files.Contents, path: str | os.PathLike[str]) -> Any:
    """Return the model of a file that is read already; `path` is what errors name."""
    kind = kind_of(contents.metadata)
    if kind not in KINDS:
        raise files.FileError(
            f"model file: expected one of the kinds that this rnncore knows "
            f"({', '.join(KINDS)}), but {os.fspath(path)!r} holds a {kind!r}; use the rnncore "
            "release that wrote it"
        )
    module, name = KINDS[kind]
    return getattr(import_module(module), name).from_contents(contents, path)
