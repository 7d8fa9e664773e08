"""What a language model makes of a text: how likely each symbol of it is, and all together."""

from __future__ import annotations

import codecs
import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.text_words import TextWords, pieces_of
from rnncore.data.units import TextVocabulary
from rnncore.data.vocabulary import as_bytes
from rnncore.models.language_drawing import check_predicted
from rnncore.models.language_network import LanguageNetwork
from rnncore.models.language_sampling import line_end

BLOCK = 1 << 16  # characters numbered at a time
STEPS = 1000  # of a text, measured at a time
CODE_POINTS = 0x110000

ONE = {"characters": "character", "bytes": "byte", "words": "word"}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well a language model predicts a text.

    Each symbol is predicted from all before it, the first as after a line end. A character that the
    model has never seen, and has no number for, is not predicted: it counts as many nats as name
    any of Unicode's 1,114,112 code points, or any of 256 bytes. An unknown word is one symbol to
    the model, whose probability counts; how it is spelled does not.

    Attributes
    ----------
    unit : str
        What a symbol is.
    characters, symbols : int
        Of the text. Bytes are read as UTF-8 to count its characters.
    unknown : int
        Symbols that the model does not know.
    nats : float
        ``-log p(text)``, all of it.
    unknown_nats : float
        What of that is for the unknown ones.

    Examples
    --------
    >>> from rnncore.estimators.text_scores import Evaluation
    >>> found = Evaluation("words", characters=1000, symbols=200, unknown=3, nats=900.0,
    ...                    unknown_nats=12.0)
    >>> round(found.bits_per_character, 3), round(found.perplexity, 2)
    (1.298, 90.02)
    """

    unit: str
    characters: int = 0
    symbols: int = 0
    unknown: int = 0
    nats: float = 0.0
    unknown_nats: float = 0.0

    def __add__(self, other: Evaluation) -> Evaluation:
        """Return that of both texts."""
        added = [a + b for a, b in zip(self._counts(), other._counts(), strict=True)]
        return Evaluation(self.unit, *added)  # type: ignore[arg-type]

    def _counts(self) -> tuple[float, ...]:
        return self.characters, self.symbols, self.unknown, self.nats, self.unknown_nats

    @property
    def nats_per_character(self) -> float:
        """Nats that a character takes."""
        return self.nats / max(1, self.characters)

    @property
    def bits_per_character(self) -> float:
        """Bits that a character takes, whatever the unit, so that models can be compared."""
        return self.nats_per_character / math.log(2.0)

    @property
    def bits_per_symbol(self) -> float:
        """Bits that a character, byte or word takes."""
        return self.nats / math.log(2.0) / max(1, self.symbols)

    @property
    def perplexity(self) -> float:
        """Between how many symbols the model is in doubt, as it were."""
        return math.exp(self.nats / max(1, self.symbols))

    def describe(self) -> str:
        """Return it in words, in one line."""
        bits, nats = self.bits_per_character, self.nats_per_character
        said = f"{bits:.4f} bits ({nats:.4f} nats) per character"
        if self.unit == "bytes":
            said += f", {self.bits_per_symbol:.4f} bits per byte"
        elif self.unit == "words":
            said += f", perplexity {self.perplexity:.2f} per word"
        said += f"; {self.characters:,} characters"
        if self.unit != "characters":
            said += f", {self.symbols:,} {self.unit}"
        return said + self._unknown_said()

    def _unknown_said(self) -> str:
        if not self.unknown:
            return ""
        one, bits = ONE[self.unit], self.unknown_nats / math.log(2.0) / self.unknown
        said = f"; {self.unknown:,} unknown {self.unit if self.unknown > 1 else one}"
        if self.unit == "words":
            share = 100 * self.unknown / self.symbols
            return f"{said} ({share:.1f} %), {bits:.2f} bits each, how they are spelled not counted"
        said += f" counted as {bits:.1f} bits each"
        known = self.symbols - self.unknown
        if not known:
            return said
        without = dataclasses.replace(self, symbols=known, nats=self.nats - self.unknown_nats)
        return f"{said}, without {without.bits_per_symbol:.4f} bits per {one}"


@dataclasses.dataclass(frozen=True)
class TextScore:
    """What each symbol of a text costs a language model.

    Attributes
    ----------
    symbols : list of str or bytes
        The characters, words or bytes.
    log_probabilities : (T,) float64
        ``log p(x_t | x_1, ..., x_{t-1})`` in nats, the first symbol as after a line end; see
        `Evaluation` for unknown ones.
    """

    symbols: list[Any]
    log_probabilities: NDArray[np.float64]

    @property
    def log_probability(self) -> float:
        """``log p(text)`` in nats, 0 at most."""
        return float(self.log_probabilities.sum())

    @property
    def bits(self) -> float:
        """``-log2 p(text)``."""
        return -self.log_probability / math.log(2.0)


def evaluate(network: LanguageNetwork, blocks: Iterable[str | bytes], skip: int = 0) -> Evaluation:
    """Measure a text that comes in blocks, in memory that does not grow with it.

    Parameters
    ----------
    network
    blocks
        str, or bytes for a model of bytes.
    skip
        How many symbols at the beginning to leave out.
    """
    scorer, found = _Scorer(network), Evaluation(network.vocabulary.unit)
    letters = codecs.getincrementaldecoder("utf-8")("replace")
    for part in _parts(network.vocabulary, blocks):
        skipped, skip = min(skip, len(part)), max(0, skip - len(part))
        part = part[skipped:]
        whole = "".join(part) if isinstance(part, list) else part
        characters = len(letters.decode(whole) if isinstance(whole, bytes) else whole)
        known, nats = scorer.take(part)
        found += Evaluation(
            found.unit, characters, len(nats), int(np.count_nonzero(~known)), float(nats.sum()),
            float(nats[~known].sum()),
        )  # fmt: skip
    more = len(letters.decode(b"", final=True))
    return dataclasses.replace(found, characters=found.characters + more)


def score_text(network: LanguageNetwork, blocks: Iterable[str | bytes]) -> TextScore:
    """Return what each symbol of a text costs that comes in blocks."""
    symbols: list[Any] = []
    for part in _parts(network.vocabulary, blocks):
        symbols += [bytes((one,)) for one in part] if isinstance(part, bytes) else part
    nats = [_Scorer(network).take(symbols)[1]] if symbols else []
    return TextScore(symbols, -np.concatenate([np.empty(0), *nats]))


def count_symbols(vocabulary: TextVocabulary, blocks: Iterable[str | bytes]) -> int:
    """Return how many symbols a text has that comes in blocks."""
    return sum(map(len, _parts(vocabulary, blocks)))


def _parts(
    vocabulary: TextVocabulary, blocks: Iterable[str | bytes]
) -> Iterator[str | bytes | list[str]]:
    # The symbols of a text, some at a time.
    if isinstance(vocabulary, TextWords):
        yield from pieces_of(blocks)
        return
    for block in blocks:
        for first in range(0, len(block), BLOCK):
            part = block[first : first + BLOCK]
            yield as_bytes(part) if isinstance(part, str) and vocabulary.is_bytes else part


class _Scorer:
    """Takes the symbols of a text, part after part, and says what each costs."""

    def __init__(self, network: LanguageNetwork) -> None:
        self._network, self._state = network, None
        self._last = line_end(network.vocabulary)[-1:]
        self._unknown = network.vocabulary.unknown
        choices = 256 if network.vocabulary.unit == "bytes" else CODE_POINTS
        self._nats_of_none = math.log(choices)  # of what has no number

    def take(self, symbols: Any) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return of each symbol whether it is known, and ``-log p``."""
        vocabulary = self._network.vocabulary
        if not isinstance(vocabulary, TextWords) and isinstance(symbols, list):
            symbols = (b"" if vocabulary.is_bytes else "").join(symbols)
        numbers = vocabulary.numbers(symbols).astype(np.int32)
        there = numbers >= 0
        nats = np.full(len(numbers), self._nats_of_none)
        nats[there] = self._take(numbers[there])
        return there if self._unknown is None else numbers != self._unknown, nats

    def _take(self, tokens: NDArray[np.int32]) -> NDArray[np.float64]:
        found = np.empty(len(tokens))
        inputs = np.concatenate([self._last, tokens]).astype(np.int32)
        for first in range(0, len(tokens), STEPS):
            targets = tokens[first : first + STEPS, None]
            logs, self._state = self._network.log_probabilities(
                inputs[first : first + len(targets), None], targets, self._state
            )
            found[first : first + STEPS] = -logs[:, 0]
        check_predicted(bool(np.isfinite(found).all()))
        self._last = inputs[-1:]
        return found
