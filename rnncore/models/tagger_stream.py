"""A tagger that is fed word by word."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnncore import functions as F
from rnncore.data.tagged import Sentences
from rnncore.layers.linear import Linear
from rnncore.models.model import check_reads_forward

if TYPE_CHECKING:
    from rnncore.models.tagger_network import TaggerNetwork


class TaggerStream:
    """A tagger that says of each word what it is as soon as it comes, from the words before it.

    Its weights are its own: later changes of the network do not reach it.

    Raises
    ------
    ValueError
        If the network reads both ways: the second direction begins at the end of a sentence.

    Examples
    --------
    >>> from rnncore.estimators import Tagger
    >>> X, y = [["a", "dog"], ["the", "cat"]] * 8, [["DET", "NOUN"]] * 16
    >>> stream = Tagger(hidden_size=8, directions="forward", epochs=5).fit(X, y).stream()
    >>> stream.step("the").shape, stream.process(["old", "dog"]).shape
    ((2,), (2, 2))
    """

    def __init__(self, network: TaggerNetwork) -> None:
        check_reads_forward(network.settings)
        self._network = copy.deepcopy(network)
        self._context: Any = self._network.context.stream()
        self._head: Linear = self._network.head

    def step(self, word: str) -> NDArray[Any]:
        """Take a word; return the probabilities of its tags, (K,)."""
        probabilities: NDArray[Any] = self.process([word])[0]
        return probabilities

    def process(self, words: Sequence[str]) -> NDArray[Any]:
        """Take some words; return the probabilities of their tags, (T, K)."""
        network = self._network
        if not len(words):
            return np.zeros((0, len(network.vocabularies.tags)), network.dtype)
        batch = Sentences([words], network.vocabularies).batch(np.array([0]))
        y = self._context.process(network.vectors(batch)[batch.spelled[:, 0]])
        probabilities: NDArray[Any] = F.softmax(self._head(y))
        return probabilities

    def reset(self) -> None:
        """Forget everything: the next word begins a sentence."""
        self._context.reset()

    def copy(self) -> TaggerStream:
        """Return a stream that goes its own way from here."""
        twin = copy.copy(self)
        twin._context = self._context.copy()
        return twin
