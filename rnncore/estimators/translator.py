"""A translator with scikit-learn's habits: fit, predict, score, save, load."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_size
from rnncore.data.batches import SequenceBatches
from rnncore.data.pairs import (
    PairExamples,
    Pairs,
    PairSource,
    check_pairs,
    read_pairs,
    read_texts,
    split_pairs,
)
from rnncore.data.sequences import sequences_of
from rnncore.estimators.estimator import Estimator
from rnncore.models.translator_network import TranslatorNetwork, TranslatorSettings
from rnncore.training import Callback
from rnncore.training.plot import new_figure, save_png

#: Texts: a list of them, a Series of pandas, or the path of a file.
Given = Any

PIECES_AT_ONCE = 4096  # of the texts that are translated side by side, times the beam


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Translator(Estimator):
    """Writes to a text another one: its translation, how it is spoken, a date in another form.

    Parameters
    ----------
    hidden_size, num_layers, cell, directions, attention, embedding_size, dropout, source, target, \
merges, least_count, dtype, precision
        See `TranslatorNetwork`. `source` and `target` say what the texts are cut into; see
        `rnncore.data.Pieces`.
    beam_size, length_penalty
        How translations are looked for; see `rnncore.models.translation.Translation`.
    epochs, seconds, learning_rate, batch_size, weight_decay, average, early_stopping, \
validation_fraction, folder, verbose, seed
        See `Estimator`. What is held out are first texts, each with all second ones.

    Attributes
    ----------
    network_ : TranslatorNetwork
        With the weights of the best validation, or the last ones where there was none.
    training_curve_ : list of [step, epochs, seconds, nats per piece]
    validation_curve_ : list of [step, epochs, seconds, nats per piece, percent of pieces right]

    Examples
    --------
    >>> from rnncore.estimators import Translator
    >>> names = {"1": "one", "2": "two"}
    >>> X = [f"{a} {b}" for a in "12" for b in "12"] * 10
    >>> y = [" ".join(names[digit] for digit in text.split()) for text in X]
    >>> translator = Translator(hidden_size=16, source="words", target="words", epochs=20,
    ...                         learning_rate=0.02, dropout=0.0, batch_size=8).fit(X, y)
    >>> translator.predict(["2 1"])
    ['two one']
    """

    network_class = TranslatorNetwork

    hidden_size: int = 256
    num_layers: int = 1
    cell: str = "lstm"
    directions: str = "both"
    attention: str = "luong"
    embedding_size: int = 128
    dropout: float = 0.3
    source: str = "subwords"
    target: str = "subwords"
    merges: int = 1500
    least_count: int = 1
    dtype: str = "float32"
    precision: str | None = None
    beam_size: int = 5
    length_penalty: float = 1.0
    batch_size: int = 64
    average: float | None = 0.998

    def fit(
        self,
        X: Given,
        y: Any = None,
        validation: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn from texts and what belongs to them.

        Parameters
        ----------
        X, y
            Texts and as many others; a text that stands there several times may have several
            translations. Or X alone: a list of pairs, as `read_pairs` returns it, or the path of
            a file that it reads.
        validation
            Other texts, ``(X, y)``, a list of pairs or a file, that are measured on the way.
        callbacks
            Told of steps and validations; see `rnncore.training.Callback`.

        Raises
        ------
        TypeError, ValueError
            If X and y are not alike, a text is empty, or a parameter is out of its range.
        KeyboardInterrupt
            After Ctrl-C, when the step is done; what was learned so far is kept.
        """
        pairs = _pairs(X, y)
        settings = self._settings(TranslatorSettings)
        held_out = None
        if validation is not None:
            is_two = isinstance(validation, tuple)
            held_out = _pairs(*validation) if is_two else _pairs(validation, None)
        elif self.validation_fraction:
            _, others = self._hold_out(len({source for source, _ in pairs}))
            pairs, held_out = split_pairs(pairs, len(others), self._seed)
        check_pairs(pairs)
        network = TranslatorNetwork(settings.pieces_of(pairs), settings, seed=self._seed)
        source = PairSource(
            pairs, network.pieces, batch_size=self.batch_size, order=self._seed, held_out=held_out
        )
        self._train(network, source, callbacks)
        return self

    def predict(
        self, X: Given, *, beam_size: int | None = None, length_penalty: float | None = None
    ) -> list[str]:
        """Return a translation of each text; an empty one has an empty one.

        Parameters
        ----------
        X
            Texts, or the path of a file with one a line; there what stands behind a tab does not
            count.
        beam_size, length_penalty
            None: those of the estimator. A beam of 1 is the greedy search.
        """
        network = self._network()
        texts = _texts("X", X)
        size = self.beam_size if beam_size is None else check_size("beam_size", beam_size)
        penalty = self.length_penalty if length_penalty is None else length_penalty
        numbers = network.pieces.source.encode_all(texts)
        full, found = np.flatnonzero(numbers.lengths), [""] * len(texts)
        if full.size:
            at_once = max(1, PIECES_AT_ONCE // size)
            batches = SequenceBatches(
                numbers.lengths[full], tokens_per_batch=at_once, shuffle=False
            )
            for number in range(batches.per_epoch):
                indices = full[batches.indices(number)]
                written = network.translate(*numbers.take(indices).padded(), size, penalty)
                for index, pieces in zip(indices, written, strict=True):
                    found[index] = network.pieces.target.decode(pieces)
        return found

    def score(self, X: Given, y: Any = None) -> float:
        """Return the share of texts whose translation is right to the letter.

        X and y as in `fit`: of a text that stands there several times each y is right, and it
        counts once.

        Raises
        ------
        ValueError
            If X and y are not alike.
        """
        right = _right(_pairs(X, y))
        found = self.predict(list(right))
        return float(np.mean([text in right[x] for x, text in zip(right, found, strict=True)]))

    def bleu(self, X: Given, y: Any = None) -> float:
        """Return BLEU as sacrebleu counts it, from 0 to 100.

        X and y as in `fit`: each distinct text is translated once, and all y that stand beside it
        are its references.

        Raises
        ------
        ImportError
            If sacrebleu is not installed.

        References
        ----------
        M. Post, A call for clarity in reporting BLEU scores, WMT 2018.
        """
        right = _right(_pairs(X, y))
        return bleu(self.predict(list(right)), list(right.values()))

    def alignments(self, X: Given, y: Any = None) -> list[NDArray[Any]]:
        """Return how much of each source piece each target piece takes, of each pair.

        Returns
        -------
        weights : list of (T, S) arrays
            Rows add up to 1; the last one is that of the end of the target.

        Raises
        ------
        ValueError
            If the network has no attention, or X and y are not alike.
        """
        network, pairs = self._network(), _pairs(X, y)
        examples = PairExamples(pairs, network.pieces)
        found: list[NDArray[Any]] = network.alignments(examples.batch(np.arange(len(pairs))))
        return found

    def plot_alignment(self, path: str | os.PathLike[str], text: str, translation: str) -> None:
        """Draw where the translator looks, piece by piece, into a PNG.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            See `alignments`.
        """
        [weights] = self.alignments([text], [translation])
        pieces = self._network().pieces
        figure = new_figure(1.5 + 0.5 * weights.shape[1], 1.0 + 0.35 * len(weights))
        axes = figure.subplots()
        axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(weights.shape[1]), pieces.source.cut(text), rotation=45)
        axes.set_yticks(range(len(weights)), [*pieces.target.cut(translation), "(end)"])
        axes.xaxis.tick_top()
        save_png(figure, path)


def bleu(found: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return sacrebleu's BLEU of translations, of which each has one reference or several."""
    try:
        import sacrebleu
    except ImportError:
        raise ImportError(
            "bleu: sacrebleu is not installed; install it with `pip install 'rnncore[bleu]'`"
        ) from None
    most = max(map(len, references), default=0)
    columns: Any = [[one[k] if k < len(one) else None for one in references] for k in range(most)]
    return float(sacrebleu.corpus_bleu(list(found), columns).score)


def _texts(name: str, X: Given) -> list[str]:
    if isinstance(X, str | os.PathLike):
        return read_texts(X)
    texts = sequences_of(name, np.asarray(X, object) if isinstance(X, np.ndarray) else X)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected texts, got {type(text).__name__} as text {number}")
    return [str(text) for text in texts]


def _pairs(X: Given, y: Any) -> Pairs:
    if isinstance(X, str | os.PathLike):
        if y is not None:
            raise TypeError("y: expected none beside a file, which has both texts; leave y out")
        return read_pairs(X)
    if y is None and isinstance(X, list) and X and isinstance(X[0], tuple):
        return X
    if y is None:
        raise ValueError(
            "y: requires y, what belongs to each text, but the target y is None; give it, or pairs"
        )
    sources, targets = _texts("X", X), _texts("y", y)
    if len(sources) != len(targets):
        raise ValueError(f"y: expected a text for each of {len(sources)}, got {len(targets)}")
    return list(zip(sources, targets, strict=True))


def _right(pairs: Pairs) -> dict[str, list[str]]:
    # What is right for each distinct text; blanks as `predict` gives them.
    check_pairs(pairs)
    right: dict[str, list[str]] = {}
    for source, target in pairs:
        right.setdefault(source, []).append(" ".join(target.split()))
    return right
