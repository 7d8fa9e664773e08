"""A language model writes: symbol after symbol, each drawn from what it predicts."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_seed, check_size, is_number
from rnncore.data.text_words import TextWords
from rnncore.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from rnncore.models.language_network import LanguageNetwork


class Prime:
    """A text to go on from, as a language model reads it.

    Attributes
    ----------
    text : str
        What is written first.
    tokens : (T,) integers
        What is read of it. Where words carry the space before them, a last single space is not
        read: it belongs to the word that comes next.
    spaced : bool
        Whether there is such a space, so that the next word begins with it.
    left_out, left_out_first : integers
        The symbols that are not written: the unknown; as the first one all without a space, too.
    """

    def __init__(self, text: str, vocabulary: Vocabulary | TextWords) -> None:
        if not isinstance(text, str):
            raise TypeError(f"prime: expected a str, got {type(text).__name__}")
        if vocabulary.unit != "bytes":
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.text, self.spaced = text, False
        unknown = [] if vocabulary.unknown is None else [vocabulary.unknown]
        self.left_out = np.array(unknown, np.intp)
        self.left_out_first = self.left_out
        if isinstance(vocabulary, TextWords) and text.endswith(" ") and text[-2:] != "  ":
            begins = np.array([word.startswith(" ") for word in vocabulary.words])
            if begins.any():
                self.spaced = True
                self.left_out_first = np.append(np.flatnonzero(~begins), self.left_out)
        try:
            self.tokens = vocabulary.encode(text[:-1] if self.spaced else text)
        except ValueError as error:
            raise ValueError(f"prime {error}") from None
        if not self.tokens.size:
            self.tokens = _line_end(vocabulary)


def sample_pieces(
    network: LanguageNetwork, length: int, temperature: float, prime: str, seed: int | None
) -> Iterator[str]:
    """Check the arguments and return the pieces; see `LanguageNetwork.sample_pieces`."""
    length = check_size("length", length, 0)
    if not is_number(temperature) or not 0.0 <= temperature < math.inf:
        raise ValueError(f"temperature: expected a finite number, 0 or more, got {temperature!r}")
    read = Prime(prime, network.vocabulary)
    return _pieces(network, length, float(temperature), read, check_seed(seed))


def _pieces(
    network: LanguageNetwork, length: int, temperature: float, prime: Prime,
    generator: np.random.Generator,
) -> Iterator[str]:  # fmt: skip
    vocabulary = network.vocabulary
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # of bytes
    if prime.text:
        yield prime.text
    context, stream = prime.tokens, network.stream()
    for number in range(length):
        for token in context:
            logits = stream.step(int(token)).astype(np.float64)
        logits = _checked(logits)
        logits[prime.left_out if number else prime.left_out_first] = -math.inf
        context = np.array([_draw(logits, temperature, generator)])
        if isinstance(vocabulary, Vocabulary) and vocabulary.is_bytes:
            yield decoder.decode(vocabulary.decode_bytes(context))
        else:
            yield vocabulary.decode(context)[int(number == 0 and prime.spaced) :]
    if rest := decoder.decode(b"", final=True):
        yield rest


def _checked(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if not math.isfinite(logits.max()):
        raise ValueError(
            "model: expected finite weights, but what it predicts is not a number; load "
            "another checkpoint, or train with a smaller learning_rate"
        )
    return logits


def _draw(logits: NDArray[np.float64], temperature: float, generator: np.random.Generator) -> int:
    if temperature == 0.0:
        return int(logits.argmax())
    # a temperature near 0 makes some of them -inf, whose exp is 0
    with np.errstate(over="ignore"):
        total = np.exp((logits - logits.max()) / temperature).cumsum()
    return int(np.searchsorted(total, generator.random() * total[-1], side="right"))


def _line_end(vocabulary: Vocabulary | TextWords) -> NDArray[np.integer]:
    try:
        return vocabulary.encode("\n")
    except ValueError:
        return np.zeros(1, dtype=np.int32)
