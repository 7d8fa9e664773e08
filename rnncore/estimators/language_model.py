"""A language model with scikit-learn's habits: fit, score, sample, save, load."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.data.reading import TextFiles, encoding_of, read_text, read_tokens
from rnncore.data.source import TextChunks, TextSettings, TextSource
from rnncore.data.units import TextVocabulary, UnitSettings
from rnncore.data.vocabulary import BYTES
from rnncore.estimators.estimator import Estimator
from rnncore.estimators.text_scores import (
    Evaluation,
    TextScore,
    count_symbols,
    evaluate,
    score_text,
)
from rnncore.models.language_network import LanguageNetwork, LanguageSettings
from rnncore.models.language_sampling import Writer
from rnncore.settings import Share
from rnncore.training import Callback

#: A text, or the path of a file, folder or pattern, or a list of paths.
Text = str | bytes | os.PathLike[str] | Sequence[os.PathLike[str]]
STEPS = 1000  # of a text, measured at a time


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class LanguageModel(Estimator, Writer):
    """Learns from a text what comes next, and so judges texts and writes some.

    A text is a str, or bytes; an `os.PathLike` such as `pathlib.Path`, or a list of them, is read:
    files, folders and patterns, see `rnncore.data.read_text`. A `stream` is fed the numbers of
    `vocabulary_`, see `LanguageNetwork.stream`.

    Parameters
    ----------
    unit
        What is read and written one at a time: ``"characters"``, ``"bytes"`` or ``"words"``, as
        `rnncore.data.TextWords` cuts them.
    vocabulary_size, least_count
        Of words: how many are known, and how often each has to be in the text; None: 10000, and 2.
    hidden_size, num_layers, cell, embedding_size, tied, dropout, variational, \
recurrent_dropout, zoneout, weight_drop, state_reset, dtype, precision
        See `rnncore.models.LanguageNetwork`.
    batch_size, sequence_length
        Parallel streams of text, and the steps through which gradients flow.
    validation_fraction
        The last part of the text, which `fit` validates on, where it is given no other.
    epochs, seconds, learning_rate, weight_decay, average, early_stopping, folder, verbose, seed
        See `Estimator`. With the defaults it learns as `rnncore train text` does.

    Attributes
    ----------
    network_ : LanguageNetwork
        With the weights of the best validation, or the last ones where there was none.
    vocabulary_ : Vocabulary or TextWords
        The symbols by their numbers, which are the columns of `predict_proba`.
    training_curve_, validation_curve_ : list of [step, epochs, seconds, loss]
        In bits per character or byte, or in nats per word.

    Examples
    --------
    >>> from rnncore.estimators import LanguageModel
    >>> text = "to be or not to be, that is the question. " * 40
    >>> model = LanguageModel(hidden_size=16, batch_size=4, learning_rate=0.02, epochs=15)
    >>> model.fit(text).sample(12, temperature=0, prime="to be or ")
    'to be or not to be, t'
    >>> model.score("not to be") > model.score("eb ot ton")
    True
    """

    network_class = LanguageNetwork
    estimator_type = "density_estimator"
    _training: ClassVar[dict[str, Any]] = {"optimizer": "adamw", "clip_norm": 5.0}

    unit: str = "characters"
    vocabulary_size: int | None = None
    least_count: int | None = None
    hidden_size: int = 128
    num_layers: int = 2
    cell: str = "lstm"
    embedding_size: int | None = None
    tied: bool = False
    dropout: float = 0.0
    variational: bool = False
    recurrent_dropout: float = 0.0
    zoneout: float | tuple[float, float] = 0.0
    weight_drop: float = 0.0
    state_reset: float = 0.0
    dtype: str = "float32"
    precision: str | None = None
    sequence_length: int = 50
    batch_size: int = 50
    epochs: float | None = 50
    weight_decay: float = 0.0
    validation_fraction: float = 0.05

    def fit(
        self,
        X: Text,
        y: None = None,
        validation: Text | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn from a text.

        Parameters
        ----------
        X
            A text, or the paths of some.
        y
            Not used; it is here for scikit-learn.
        validation
            Another text, measured on the way, instead of the last part of X.
        callbacks
            Told of steps and validations; see `rnncore.training.Callback`.

        Raises
        ------
        TypeError, ValueError
            If X is no text, or too short a one, or a parameter is out of its range.
        FileNotFoundError
            If a path does not exist.
        KeyboardInterrupt
            After Ctrl-C, when the step is done; what was learned so far is kept.
        """
        made = self._settings(UnitSettings)
        cut = self._settings(TextSettings)
        for name, given in (("X", X), ("validation", validation)):
            _refuse_name(name, given)
        vocabulary, tokens = _learned(X, made)
        others = None if validation is None else _tokens("validation", validation, vocabulary)
        settings = dataclasses.asdict(self._settings(LanguageSettings))
        network = LanguageNetwork(vocabulary, **settings, seed=self._seed)
        source = TextSource(tokens, cut, held_out=others, unit=self.unit)
        self._train(network, source, callbacks)
        return self

    @property
    def vocabulary_(self) -> TextVocabulary:
        """The symbols by their numbers, which are the columns of `predict_proba`."""
        vocabulary: TextVocabulary = self._network().vocabulary
        return vocabulary

    def score(self, X: Text, y: None = None) -> float:
        """Return the mean log-likelihood of a symbol of a text, in nats; higher is better.

        ``1 / (T - 1) sum_t log p(x_t | x_1, ..., x_{t-1}),  t = 2, ..., T``

        The first symbol, which nothing comes before, is not counted. A word that is not known
        counts as the unknown, however it is spelled.

        Parameters
        ----------
        X
            A text, or the paths of some.
        y
            Not used; it is here for scikit-learn.

        Raises
        ------
        TypeError, ValueError
            If X is no text, has characters that the model has never seen, or fewer than two
            symbols.
        """
        return self._score(_text("X", X, self.vocabulary_.unit))

    def perplexity(self, X: Text) -> float:
        """Return ``exp(-score(X))``: between how many symbols the model is in doubt, as it were."""
        return math.exp(-self.score(X))

    def bits(self, X: Text) -> float:
        """Return the bits that a character of a text takes, whatever the unit.

        ``-score(X) / log(2) * symbols of X / characters of X``

        So models of characters, bytes and words can be compared; those of words only where few are
        unknown, since they do not say how an unknown word is spelled.
        """
        text = _text("X", X, self.vocabulary_.unit)
        symbols = len(self.vocabulary_.encode(text))
        characters = len(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
        return -self._score(text) / math.log(2.0) * symbols / characters

    def evaluate(
        self, X: Text, *, last: float | None = None, encoding: str = "utf-8"
    ) -> Evaluation:
        """Measure a text of any length: bits a character, perplexity, and what is not known.

        The state is carried from the beginning to the end, and the text is never held as a whole.
        Unlike `score` it counts the first symbol, as what comes after a line end, and characters
        that the model has never seen; see `Evaluation`.

        Parameters
        ----------
        X
            A text, or the paths of some, which are read as one.
        last
            Measure the last part of its symbols alone, this share of them, as `fit` and
            `rnncore train text` hold it out; None: all.
        encoding
            Of files; bytes as the unit are not decoded.

        Returns
        -------
        Evaluation

        Raises
        ------
        TypeError, ValueError
            If X is no text or an empty one, or `last` is no share.

        Examples
        --------
        >>> from rnncore.estimators import LanguageModel
        >>> text = "to be or not to be, that is the question. " * 40
        >>> model = LanguageModel(hidden_size=16, batch_size=4, epochs=1).fit(text)
        >>> found = model.evaluate(text, last=0.1)
        >>> found.characters, found.unknown, 1 < found.bits_per_character < 5
        (168, 0, True)
        """
        network, vocabulary = self._network(), self.vocabulary_
        blocks, skip = _blocks("X", X, vocabulary, encoding), 0
        if last is not None:
            Share().check("last", last)
            count = count_symbols(vocabulary, blocks())
            skip = count - round(last * count)
            if 0 < count == skip:
                raise ValueError(
                    f"last: expected a share that is one symbol at least of {count:,}, got {last}; "
                    "give a larger one"
                )
        found = evaluate(network, blocks(), skip)
        if not found.symbols:
            raise ValueError("X: expected a text to measure, got an empty one; give some text")
        return found

    def score_text(self, X: Text) -> TextScore:
        """Return how likely each symbol of a text is, the first one as after a line end.

        So candidates can be ranked, and one sees where a text surprises the model.

        Parameters
        ----------
        X
            A text, or the paths of some.

        Returns
        -------
        TextScore
            Symbols, their log-probabilities in nats, and the sum in nats and bits.

        Raises
        ------
        TypeError
            If X is no text.

        Examples
        --------
        >>> from rnncore.estimators import LanguageModel
        >>> text = "to be or not to be, that is the question. " * 40
        >>> model = LanguageModel(hidden_size=16, batch_size=4, learning_rate=0.02, epochs=15)
        >>> _ = model.fit(text)
        >>> some = "to ot be", "to be or", "be or ot"
        >>> max(some, key=lambda one: model.score_text(one).log_probability)
        'to be or'
        """
        return score_text(self._network(), _blocks("X", X, self.vocabulary_)())

    def _score(self, text: str | bytes) -> float:
        network, vocabulary = self._network(), self.vocabulary_
        tokens = vocabulary.encode(text)
        if len(tokens) < 2:
            raise ValueError(
                f"X: expected 2 {vocabulary.unit} at least, the second of which is predicted, got "
                f"{len(tokens)}; give more text"
            )
        chunks = TextChunks(tokens, batch_size=1, sequence_length=STEPS, every_step=True)
        total, count, state = 0.0, 0, None
        for number in range(chunks.per_epoch):
            [(part, symbols)], state = network.measure(*chunks.batch(number), state)
            total, count = total + part, count + symbols
        return -total / count

    def predict_proba(self, X: Text) -> NDArray[Any]:
        """Return the probability of each symbol to come next, after each symbol of a text.

        Parameters
        ----------
        X
            A text, or the paths of some, of T symbols.

        Returns
        -------
        probabilities : (T, V)
            Row t is of what comes after symbol t; columns are numbered as in `vocabulary_`.

        Raises
        ------
        TypeError, ValueError
            If X is no text, or has characters that the model has never seen.
        """
        network = self._network()
        tokens = _tokens("X", X, network.vocabulary)
        found = np.empty((len(tokens), len(network.vocabulary)), network.dtype)
        state = None
        for first in range(0, len(tokens), STEPS):
            part = tokens[first : first + STEPS, None]
            probabilities, state = network.probabilities(part, state)
            found[first : first + STEPS] = probabilities[:, 0]
        return found

    @classmethod
    def of_network(cls, network: Any) -> Self:
        """Return a fitted estimator with this network."""
        estimator = super().of_network(network)
        estimator.unit = network.vocabulary.unit
        return estimator

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what this is."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.input_tags.string, tags.input_tags.three_d_array = True, False
        return tags


def _paths(name: str, X: Any) -> list[os.PathLike[str]] | None:
    # Paths to read; None where X is a text itself.
    if isinstance(X, str | bytes):
        return None
    if isinstance(X, os.PathLike):
        return [X]
    if isinstance(X, list | tuple) and X and all(isinstance(path, os.PathLike) for path in X):
        return list(X)
    got = type(X).__name__
    if isinstance(X, list | tuple):
        strange = [part for part in X if not isinstance(part, os.PathLike)]
        got += f" with {type(strange[0]).__name__}" if strange else " without any"
    raise TypeError(
        f"{name}: expected a text, or a pathlib.Path or a list of them, got {got}; join texts to "
        "one, and make paths of names: [pathlib.Path(name) for name in names]"
    )


def _blocks(
    name: str, X: Any, vocabulary: TextVocabulary, encoding: str = "utf-8"
) -> Callable[[], Iterable[str | bytes]]:
    # What gives a text in blocks, as often as it is called.
    paths = _paths(name, X)
    if paths is not None:
        return TextFiles(paths, encoding_of(vocabulary.unit, encoding)).blocks
    if isinstance(X, bytes) and vocabulary.unit != BYTES:
        vocabulary.encode(X)  # which says what it expects
    return lambda: [X]


def _refuse_name(name: str, X: Any) -> None:
    if isinstance(X, str) and len(X) < 256 and os.path.exists(X):
        raise ValueError(
            f"{name}: expected a text to learn from, got {X!r}, the name of a file; give "
            f"pathlib.Path({X!r}) to read it"
        )


def _learned(X: Any, made: UnitSettings) -> tuple[TextVocabulary, NDArray[np.integer]]:
    paths = _paths("X", X)
    if paths is not None:
        return read_tokens(paths, settings=made)
    if not X:
        raise ValueError("X: expected a text to learn from, got an empty one; give some text")
    vocabulary = made.vocabulary(X)
    return vocabulary, vocabulary.encode(X)


def _text(name: str, X: Any, unit: str) -> str | bytes:
    paths = _paths(name, X)
    return X if paths is None else read_text(paths, encoding_of(unit, "utf-8"))


def _tokens(name: str, X: Any, vocabulary: TextVocabulary) -> NDArray[np.integer]:
    return vocabulary.encode(_text(name, X, vocabulary.unit))
