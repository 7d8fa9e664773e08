"""A language model that goes on with several texts at once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rnncore.models.language_network import LanguageNetwork


class LanguageStreams:
    """Several streams of a language model, which take their steps in one pass of the engine.

    Each gives the bits that a stream of its own would give, see `LanguageNetwork.stream`. The
    weights are its own: later changes of the model do not reach it. It begins with one stream.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> from rnncore.data import Vocabulary
    >>> from rnncore.models import LanguageNetwork
    >>> model = LanguageNetwork(Vocabulary("abc"), hidden_size=8, num_layers=1, seed=0)
    >>> streams, one = model.streams(), model.stream()
    >>> _ = streams.step(np.array([[0], [1]])), one.step(0), one.step(1)
    >>> streams.take([0, 0, 0])
    >>> logits = streams.step(np.array([[0, 1, 2]]))
    >>> logits.shape, np.array_equal(logits[2], one.step(2))
    ((3, 3), True)
    """

    def __init__(self, network: LanguageNetwork) -> None:
        self._network = copy.deepcopy(network)
        self._state: Any = None

    def step(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """Take T symbols of each stream, (T, B); return the logits (B, V) of what comes next."""
        logits, self._state = self._network.logits(tokens, self._state)
        return logits.array()[-tokens.shape[1] :]

    def take(self, streams: Any) -> None:
        """Go on with these streams alone, by their numbers; one may stand there several times."""
        if isinstance(self._state, tuple):
            self._state = tuple(np.take(part, streams, axis=1) for part in self._state)
        else:
            self._state = np.take(self._state, streams, axis=1)
