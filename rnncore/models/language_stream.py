"""A language model fed one symbol at a time."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from rnncore.layers.linear import Linear


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
