"""A tagger with scikit-learn's habits: fit, predict, score, save, load."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_size
from rnncore.data.conllu import read_conllu
from rnncore.data.sequences import sequences_of
from rnncore.data.tagged import (
    Sentences,
    TaggedSource,
    TaggerVocabularies,
    Words,
    check_tagged,
    read_tagged,
)
from rnncore.estimators.by_length import by_length
from rnncore.estimators.estimator import Estimator
from rnncore.models.tagger_network import TaggerNetwork, TaggerSettings
from rnncore.training import Callback

#: Sentences: lists of words, pandas' Series of them, or the path of a file.
Given = Any


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Tagger(Estimator):
    """Gives each word of a sentence a tag, such as its part of speech.

    Parameters
    ----------
    hidden_size, num_layers, cell, directions, spelling, word_size, character_size, spelling_size, \
dropout, word_dropout, precision
        See `TaggerNetwork`.
    epochs, seconds, learning_rate, batch_size, weight_decay, average, early_stopping, \
validation_fraction, folder, verbose, seed
        See `Estimator`.

    Attributes
    ----------
    network_ : TaggerNetwork
        With the weights of the best validation, or the last ones where there was none.
    tags_ : tuple of str
        In the order of the columns of `predict_proba`.
    training_curve_ : list of [step, epochs, seconds, nats per word]
    validation_curve_ : list of [step, epochs, seconds, nats per word, percent right]

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

    network_class = TaggerNetwork

    hidden_size: int = 200
    num_layers: int = 1
    cell: str = "lstm"
    directions: str = "both"
    spelling: str = "characters"
    word_size: int = 100
    character_size: int = 32
    spelling_size: int = 64
    dropout: float = 0.5
    word_dropout: float = 0.25
    precision: str | None = None
    average: float | None = 0.998

    def fit(
        self,
        X: Given,
        y: Any = None,
        validation: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn from sentences and their tags.

        Parameters
        ----------
        X, y
            Lists of words, and of as many tags; or Series of pandas, a word a row, whose index has
            two levels: sentence and word. Or X is the path of a file as `read_conllu` reads it,
            with the tags in it.
        validation
            Other sentences and tags, ``(X, y)``, or a file, that are measured on the way.
        callbacks
            Told of steps and validations; see `rnncore.training.Callback`.

        Raises
        ------
        TypeError, ValueError
            If X and y are not alike, a sentence is empty, or a parameter is out of its range.
        KeyboardInterrupt
            After Ctrl-C, when the step is done; what was learned so far is kept.
        """
        words, tags = _tagged(X, y)
        known = tags  # those of sentences that are held out as well
        settings = self._settings(TaggerSettings)
        held_out = None
        if validation is not None:
            is_file = isinstance(validation, str | os.PathLike)
            held_out = _tagged(validation, None) if is_file else _tagged(*validation)
        elif self.validation_fraction:
            check_tagged(words, tags)
            kept, others = self._hold_out(len(words))
            held_out = [words[k] for k in others], [tags[k] for k in others]
            words, tags = [words[k] for k in kept], [tags[k] for k in kept]
        check_tagged(words, tags)
        network = TaggerNetwork(TaggerVocabularies.of(words, known), settings, seed=self._seed)
        source = TaggedSource(
            words, tags, network.vocabularies, batch_size=self.batch_size, order=self._seed,
            held_out=held_out,
        )  # fmt: skip
        self._train(network, source, callbacks)
        return self

    @property
    def tags_(self) -> tuple[str, ...]:
        """The tags, in the order of the columns of `predict_proba`."""
        tags: tuple[str, ...] = self._network().vocabularies.tags.words
        return tags

    def predict_proba(self, X: Given) -> list[NDArray[Any]]:
        """Return the probabilities of the tags of each word: arrays (T, tags), one a sentence."""
        network = self._network()
        sentences = _words(X)
        numbered = Sentences(sentences, network.vocabularies)
        found: list[Any] = [np.zeros((0, len(self.tags_)), network.dtype)] * len(sentences)
        full = np.flatnonzero(numbered.lengths)
        if full.size:
            some = by_length(
                numbered.lengths[full],
                lambda indices: network.probabilities(numbered.batch(full[indices])), True,
            )  # fmt: skip
            for index, array in zip(full, some, strict=True):
                found[index] = array
        return found

    def predict(self, X: Given) -> list[list[str]]:
        """Return the likeliest tag of each word."""
        tags = self.tags_
        return [[tags[k] for k in array.argmax(1)] for array in self.predict_proba(X)]

    def score(self, X: Given, y: Any = None) -> float:
        """Return the share of words whose tag is right; one that was never learned is wrong.

        X and y as in `fit`.

        Raises
        ------
        ValueError
            If X and y are not alike.
        """
        words, tags = _tagged(X, y)
        check_tagged(words, tags)
        pairs = zip(self.predict(words), tags, strict=True)
        right = [a == b for found, labels in pairs for a, b in zip(found, labels, strict=True)]
        check_size("X", len(right))
        return float(np.mean(right))


def _words(X: Given) -> Words:
    if isinstance(X, str | os.PathLike):
        return [sentence.words for sentence in read_conllu(X)]
    sentences = sequences_of("X", X)
    return [one.tolist() if isinstance(one, np.ndarray) else one for one in sentences]


def _tagged(X: Given, y: Any) -> tuple[Words, Words]:
    if isinstance(X, str | os.PathLike):
        if y is not None:
            raise TypeError("y: expected none beside a file, which has the tags; leave y out")
        return read_tagged(X)
    if y is None:
        raise ValueError("y: requires y, the tags of each sentence, but the target y is None")
    return _words(X), _words(y)
