"""A tagger with scikit-learn's habits: fit, predict, score, save, load."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_size
from rnncore.data.batches import SequenceBatches
from rnncore.data.tagged import Sentences, TaggedSource, TaggerVocabularies, Words, check_tagged
from rnncore.estimators.estimator import Estimator
from rnncore.models.tagger_network import TaggerNetwork, TaggerSettings
from rnncore.training import Callback, Trainer, TrainingSettings

WORDS_PER_BATCH = 4096  # of predictions, padding counted


class Tagger(Estimator):
    """Gives each word of a sentence a tag, such as its part of speech.

    Parameters
    ----------
    hidden_size, num_layers, cell, directions, spelling, word_size, character_size, spelling_size, \
dropout, word_dropout
        See `TaggerNetwork`.
    epochs, learning_rate, batch_size, weight_decay, average
        Of the training; see `TrainingSettings`. The learning rate falls to 0 along a cosine.
    folder
        For checkpoints and resuming; None keeps none.
    seed
        For everything that is drawn.

    Attributes
    ----------
    model_ : TaggerNetwork
    tags_ : tuple of str
        In the order of the columns of `predict_proba`.
    validation_curve_ : list of [step, epochs, seconds, nats per word, percent right]
        Where `fit` was given sentences to validate on.

    Examples
    --------
    >>> from rnncore.estimators import Tagger
    >>> X, y = [["a", "dog"], ["the", "cat"]] * 8, [["DET", "NOUN"]] * 16
    >>> tagger = Tagger(hidden_size=8, spelling="none", epochs=20, learning_rate=0.02).fit(X, y)
    >>> tagger.predict([["the", "dog"]])
    [['DET', 'NOUN']]
    >>> tagger.score(X, y)
    1.0
    """

    model_class = TaggerNetwork

    def __init__(
        self,
        hidden_size: int = 200,
        num_layers: int = 1,
        cell: str = "lstm",
        directions: str = "both",
        spelling: str = "characters",
        word_size: int = 100,
        character_size: int = 32,
        spelling_size: int = 64,
        dropout: float = 0.5,
        word_dropout: float = 0.25,
        epochs: float = 30,
        learning_rate: float = 2e-3,
        batch_size: int = 32,
        weight_decay: float = 1e-2,
        average: float = 0.998,
        folder: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.hidden_size, self.num_layers, self.cell = hidden_size, num_layers, cell
        self.directions, self.spelling, self.word_size = directions, spelling, word_size
        self.character_size, self.spelling_size = character_size, spelling_size
        self.dropout, self.word_dropout = dropout, word_dropout
        self.epochs, self.learning_rate, self.batch_size = epochs, learning_rate, batch_size
        self.weight_decay, self.average = weight_decay, average
        self.folder, self.seed = folder, seed

    def fit(
        self,
        X: Words,
        y: Words,
        validation: tuple[Words, Words] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn from sentences and their tags.

        Parameters
        ----------
        X, y
            Lists of words, and of as many tags.
        validation
            Sentences and tags that are measured on the way.
        callbacks
            Told of steps and validations; see `rnncore.training.Callback`.

        Raises
        ------
        TypeError, ValueError
            If X and y are not alike, a sentence is empty, or a parameter is out of its range.
        """
        check_tagged(X, y)
        names = [field.name for field in dataclasses.fields(TaggerSettings)]
        settings = TaggerSettings(**{name: getattr(self, name) for name in names})
        model = TaggerNetwork(TaggerVocabularies.of(X, y), settings, seed=self.seed)
        source = TaggedSource(
            X, y, model.vocabularies, batch_size=self.batch_size, order=self.seed,
            held_out=validation,
        )  # fmt: skip
        training = TrainingSettings(
            epochs=self.epochs, learning_rate=self.learning_rate, optimizer="adamw",
            weight_decay=self.weight_decay, average=self.average, clip_norm=1.0,
            validations=max(1, round(self.epochs)),
        )  # fmt: skip
        trainer = Trainer(model, source, training, self.folder, callbacks)
        trainer.run()
        self.model_, self.validation_curve_ = model, trainer.validation_curve
        return self

    @property
    def tags_(self) -> tuple[str, ...]:
        """The tags, in the order of the columns of `predict_proba`."""
        tags: tuple[str, ...] = self._model().vocabularies.tags.words
        return tags

    def predict_proba(self, X: Words) -> list[NDArray[Any]]:
        """Return the probabilities of the tags of each word: arrays (T, tags), one a sentence."""
        model = self._model()
        numbered = Sentences(X, model.vocabularies)
        found: list[Any] = [np.zeros((0, len(self.tags_)), model.dtype)] * len(X)
        full = np.flatnonzero(numbered.lengths)
        if not full.size:
            return found
        lengths = numbered.lengths[full]
        batches = SequenceBatches(lengths, tokens_per_batch=WORDS_PER_BATCH, shuffle=False)
        for number in range(batches.per_epoch):
            indices = full[batches.indices(number)]
            probabilities = model.probabilities(numbered.batch(indices))
            for column, index in enumerate(indices):
                found[index] = probabilities[: numbered.lengths[index], column]
        return found

    def predict(self, X: Words) -> list[list[str]]:
        """Return the likeliest tag of each word."""
        tags = self.tags_
        return [[tags[k] for k in array.argmax(1)] for array in self.predict_proba(X)]

    def score(self, X: Words, y: Words) -> float:
        """Return the share of words whose tag is right; one that was never learned is wrong.

        Raises
        ------
        ValueError
            If X and y are not alike.
        """
        check_tagged(X, y)
        pairs = zip(self.predict(X), y, strict=True)
        right = [a == b for found, labels in pairs for a, b in zip(found, labels, strict=True)]
        check_size("X", len(right))
        return float(np.mean(right))
