"""A language model fed one symbol at a time, for one text or for several at once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnncore.layers.linear import Linear

if TYPE_CHECKING:
    from rnncore.models.language_network import LanguageNetwork


class LanguageStream:
    """A language model that is fed one symbol at a time and carries its state.

    Its weights are its own: later changes of the model do not reach it.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> from rnncore.data import Vocabulary
    >>> from rnncore.models import LanguageNetwork
    >>> model = LanguageNetwork(Vocabulary("abc"), hidden_size=8, num_layers=1, seed=0)
    >>> stream = model.stream()
    >>> logits = [stream.step(token) for token in (0, 1, 2)]
    >>> tokens = np.array([[0], [1], [2]])
    >>> np.array_equal(logits, model.head(model.rnn(tokens, tokens=True)[0])[:, 0])
    True
    """

    def __init__(self, rnn: Any, head: Linear) -> None:
        self.rnn, self.head = rnn, head

    def step(self, token: int) -> NDArray[Any]:
        """Return the logits (V,) of what comes after the token, and all tokens before it."""
        return self.head(self.rnn.step(token))

    def reset(self) -> None:
        """Forget everything."""
        self.rnn.reset()

    def get_state(self) -> Any:
        """Return the state of the recurrent layers."""
        return self.rnn.get_state()

    def set_state(self, state: Any) -> None:
        """Take a state as `get_state` gives it."""
        self.rnn.set_state(state)

    def copy(self) -> LanguageStream:
        """Return a stream that goes its own way from here."""
        return LanguageStream(self.rnn.copy(), self.head)


class LanguageStreams:
    """Several streams of a language model, which take their steps in one pass of the engine.

    Each gives the bits that a `LanguageStream` of its own would give. The weights are its own:
    later changes of the model do not reach it. It begins with one stream.

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
