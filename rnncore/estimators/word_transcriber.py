"""A transcriber of spoken words with scikit-learn's habits: fit, predict, score, save, load."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_size
from rnncore.data.audio import as_samples, read_wav
from rnncore.data.edits import edit_distance
from rnncore.data.ragged import Ragged
from rnncore.data.recordings import Recordings, read_recordings
from rnncore.data.spectra import SoundSettings
from rnncore.data.utterances import (
    UtteranceSettings,
    UtteranceSource,
    frames_of,
    known_batch,
    voices_of,
)
from rnncore.data.words import WordVocabulary
from rnncore.estimators.estimator import Estimator
from rnncore.functions import softmax
from rnncore.models.alignments import beam_search, best_path
from rnncore.models.transcriber_network import TranscriberNetwork, TranscriberSettings
from rnncore.training import Callback

UTTERANCES_PER_BATCH = 32  # of predictions


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class WordTranscriber(Estimator):
    """Says which words sound is; learns from words that were recorded one by one.

    In training utterances are built of the recordings: strings of words by one speaker, in noise,
    with voices, tempo and loudness varied.

    Parameters
    ----------
    boundaries
        "known": an utterance is a list of words cut apart, and each is judged by all of them;
        "unknown": it is one recording, and the network finds out how many words there are.
    hidden_size, num_layers, context_size, cell, directions, dropout, label_smoothing, dtype, \
precision
        See `TranscriberNetwork`.
    rate, features, bands, frames_per_step, trim
        How sound is read: see `SoundSettings`.
    strings, longest, noise, variation, tempo, disguise
        How utterances are built: see `UtteranceSettings`.
    beam
        Prefixes that a search for the likeliest words keeps, where boundaries are unknown; 1: the
        words of the likeliest path, as a stream says them.
    voices
        In how many voices `predict` reads an utterance: frequencies warped by 0.85 to 1.15, each
        soft, as it is and loud, so three times as many readings. Their answers' geometric mean
        counts, ``p ~ prod_r p_r^(1 / R)``, which helps with speakers unlike all that were heard
        (as crops of pictures in Krizhevsky et al., "ImageNet classification with deep
        convolutional neural networks", 2012). 1: it is read once, as it is.
    epochs, seconds, learning_rate, batch_size, weight_decay, average, early_stopping, \
validation_fraction, folder, verbose, seed
        See `Estimator`; an epoch is as many utterances as there are recordings.

    Attributes
    ----------
    network_ : TranscriberNetwork
        With the weights of the best validation, or the last ones where there was none.
    words_ : tuple of str
        Those it knows.
    training_curve_ : list of [step, epochs, seconds, nats per word]
    validation_curve_ : list of [step, epochs, seconds, nats per word, percent of words wrong]

    Examples
    --------
    Two words, a tone that rises and one that falls:

    >>> import numpy as np
    >>> from rnncore.estimators import WordTranscriber
    >>> rising = np.sin(np.cumsum(np.linspace(0.2, 0.8, 1000)))
    >>> falling = rising[::-1]
    >>> transcriber = WordTranscriber(hidden_size=16, bands=20, epochs=30, learning_rate=0.02)
    >>> transcriber = transcriber.fit([rising, falling] * 8, ["up", "down"] * 8)
    >>> transcriber.predict([[falling, rising], rising])
    [['down', 'up'], ['up']]
    """

    network_class = TranscriberNetwork

    boundaries: str = "known"
    hidden_size: int = 96
    num_layers: int = 1
    context_size: int = 64
    cell: str = "lstm"
    directions: str = "both"
    dropout: float = 0.3
    label_smoothing: float = 0.0
    dtype: str = "float32"
    precision: str | None = None
    rate: int = 8000
    features: str = "log-mel"
    bands: int = 40
    frames_per_step: int = 1
    trim: float = 0.0
    strings: str = "random"
    longest: int = 5
    noise: float = 1.0
    variation: float = 0.1
    tempo: float | None = None
    disguise: float = 0.0
    beam: int = 1
    voices: int = 1
    epochs: float | None = 15
    learning_rate: float = 4e-3
    batch_size: int = 16

    def fit(
        self,
        X: Any,
        y: Sequence[str] | None = None,
        speakers: Sequence[Any] | None = None,
        validation: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn from recorded words.

        Parameters
        ----------
        X
            A recording each: arrays (N,) from -1 to 1 at `rate`, or paths of WAV files; or
            `Recordings`; or the path of a folder or a list, as `read_recordings` reads it.
        y
            The word that each is; none beside `Recordings` or a path, which have them.
        speakers
            Who says it; None: all are one's.
        validation
            Other recordings, ``(X, y)`` or what X may be alone, that are measured on the way.
        callbacks
            Told of steps and validations; see `rnncore.training.Callback`.

        Raises
        ------
        TypeError, ValueError, OSError
            If X and y are not alike, a file is no sound, or a parameter is out of its range.
        KeyboardInterrupt
            After Ctrl-C, when the step is done; what was learned so far is kept.
        """
        settings, sound = self._settings(TranscriberSettings), self._settings(SoundSettings)
        utterances = self._settings(UtteranceSettings, order=self._seed)
        recordings = self._recordings(X, y, speakers)
        held_out = None
        if validation is not None:
            held_out = self._recordings(*_pair(validation))
        elif self.validation_fraction:
            kept, others = self._hold_out(len(recordings))
            recordings, held_out = recordings.take(kept), recordings.take(others)
        source = UtteranceSource(
            recordings, WordVocabulary([recordings.words], unknown=False), sound, utterances,
            settings.known, settings.whole, held_out,
        )  # fmt: skip
        network = TranscriberNetwork(
            source.vocabulary, sound, source.inputs(), settings, seed=self._seed
        )
        self._train(network, source, callbacks)
        return self

    def _recordings(self, X: Any, y: Any, speakers: Any = None) -> Recordings:
        if isinstance(X, Recordings) or _is_path(X):
            if y is not None or speakers is not None:
                raise TypeError(
                    "y: expected none beside recordings that have their words, got some"
                )
            return X if isinstance(X, Recordings) else read_recordings(X, self.rate)
        if y is None:
            raise ValueError("y: requires y, the word of each recording, but the target y is None")
        names = [os.fspath(one) if _is_path(one) else f"X[{n}]" for n, one in enumerate(X)]
        samples = [_samples(one, self.rate) for one in X]
        return Recordings(samples, list(y), speakers, names)

    @property
    def words_(self) -> tuple[str, ...]:
        """The words that it knows."""
        words: tuple[str, ...] = self._network().vocabulary.words
        return words

    def predict_proba(self, X: Any) -> list[NDArray[Any]]:
        """Return probabilities of the words, (words, K) of each utterance.

        Boundaries unknown: (frames, 1 + K), the first the blank's.
        """
        network = self._network()
        if _is_path(X) or (isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype != object):
            raise TypeError("X: expected a list of utterances, got one; give [X]")
        found: list[NDArray[Any]] = []
        pieces = [self._pieces(utterance) for utterance in X]
        readings = voices_of(check_size("voices", self.voices))
        for first in range(0, len(pieces), UTTERANCES_PER_BATCH):
            some = pieces[first : first + UTTERANCES_PER_BATCH]
            logs: Any = 0.0
            for warp, gain in readings:
                arrays = self._batch(some, warp, gain)
                array = network.probabilities(*arrays)
                if len(readings) > 1:
                    tiny = np.finfo(array.dtype).tiny
                    logs = logs + np.log(np.maximum(array, tiny)) / len(readings)
            if len(readings) > 1:
                array = softmax(logs)
            found += [array[:length, b] for b, length in enumerate(arrays[-1])]
        return found

    def _batch(
        self, pieces: list[list[NDArray[np.float32]]], warp: float, gain: float
    ) -> tuple[NDArray[Any], ...]:
        network = self._network()
        frames = [frames_of(one, network.sound, network.whole, warp, gain) for one in pieces]
        return known_batch(frames) if network.known else Ragged.of([x for [x] in frames]).padded()

    def predict(self, X: Any) -> list[list[str]]:
        """Return the words of each utterance.

        Parameters
        ----------
        X
            Boundaries known: utterances as lists of words, or a word alone; unknown: recordings.
            Arrays (N,) at the network's rate, or paths of WAV files of any rate.

        Raises
        ------
        ValueError
            If an utterance is none, or boundaries are known and `beam` is not 1.
        """
        words, known = self.words_, self._network().known
        if check_size("beam", self.beam) > 1 and known:
            raise ValueError(
                f"beam: expected 1, as the boundaries of words are known, got {self.beam}; leave "
                "it out"
            )
        found = []
        for array in self.predict_proba(X):
            if known:
                labels = array.argmax(1).tolist()
            elif self.beam == 1:
                labels = [k - 1 for k in best_path(array)]
            else:
                tiny = np.finfo(array.dtype).tiny
                best, _ = beam_search(np.log(np.maximum(array, tiny)), self.beam)[0]
                labels = [k - 1 for k in best]
            found.append([words[k] for k in labels])
        return found

    def _pieces(self, utterance: Any) -> list[NDArray[np.float32]]:
        known, rate = self._network().known, self._network().sound.rate
        if isinstance(utterance, list | tuple):
            if not known or not len(utterance):
                expected = (
                    "one word at least" if known else "a recording, as boundaries are unknown"
                )
                raise ValueError(f"X: expected {expected}, got a list of {len(utterance)}")
            return [_samples(one, rate) for one in utterance]
        return [_samples(utterance, rate)]

    def score(self, X: Any, y: Sequence[Any]) -> float:
        """Return the share of words that are right: 1 less the word error rate.

        Insertions, deletions and replacements count, so it may be below 0.

        Parameters
        ----------
        X
            As in `predict`.
        y
            The words of each utterance: a text with spaces, or a list.

        Raises
        ------
        ValueError
            If X and y are not alike, or there is no word.
        """
        truth = [one.split() if isinstance(one, str) else list(one) for one in y]
        if len(truth) != len(X):
            raise ValueError(f"y: expected the words of each of {len(X)} utterances, got {len(y)}")
        count = check_size("y", sum(map(len, truth)))
        wrong = map(edit_distance, self.predict(X), truth)
        return 1 - sum(wrong) / count


def _samples(sound: Any, rate: int) -> NDArray[np.float32]:
    return read_wav(sound, rate)[0] if _is_path(sound) else as_samples("X", sound)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _pair(validation: Any) -> tuple[Any, Any]:
    return validation if isinstance(validation, tuple) else (validation, None)
