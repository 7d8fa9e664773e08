"""A network over sequences that is fed step by step."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.inputs import Symbols
from rnncore.models.model import check_reads_forward

if TYPE_CHECKING:
    from rnncore.models.sequence_network import SequenceNetwork


class SequenceStream:
    """A network that reads one step after the other and says each time what it makes of them all.

    After T steps it says what the network says of the sequence of these T steps, or of step T where
    nothing is pooled. Its weights are its own: later changes of the network do not reach it.

    Raises
    ------
    ValueError
        If the network reads both ways: the second direction begins at the end of a sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.data.inputs import Numbers
    >>> from rnncore.data.outputs import Values
    >>> from rnncore.models.sequence_regressor import SequenceRegressorNetwork
    >>> network = SequenceRegressorNetwork(Numbers([0.0], [1.0]), Values([0.0], [1.0], True),
    ...                                    directions="forward", hidden_size=4, seed=0)
    >>> stream = network.stream()
    >>> [stream.step(x).shape for x in (0.5, -0.5)], stream.process(np.ones((3, 1))).shape
    ([(), ()], (3,))
    """

    def __init__(self, network: SequenceNetwork) -> None:
        check_reads_forward(network.settings)
        self._inputs, self._pooling = network.inputs, network.settings["pooling"]
        self._dtype, self._said = network.dtype, network.said
        with network._guard.weights:  # all of one moment
            symbols = network.embedding is not None
            self._rnn = network.rnn.stream(tokens=symbols, embedding=network.embedding)
            self._head = copy.deepcopy(network.head)
        size = self._rnn.output_size
        self._sum, self._steps = np.zeros(size), 0
        self._largest = np.full(size, -np.inf, self._dtype)

    def step(self, x: Any) -> NDArray[Any]:
        """Take one step: numbers (features,) or a symbol; return what is said now.

        Of a classifier the probabilities (K,); of a regressor a number, or numbers (K,).
        """
        return self.process([x])[-1]

    def process(self, block: Any) -> NDArray[Any]:
        """Take some steps: (T, features), a text or a list of words; return that of each."""
        if isinstance(self._inputs, Symbols):
            from rnncore.data.vocabulary import Vocabulary

            if isinstance(self._inputs.vocabulary, Vocabulary):
                block = "".join(block)
        else:
            block = np.asarray(block, np.float64)
            block = block if block.ndim > 1 else block[:, None]
        if not len(block):
            return self._said(self._head(np.zeros((0, self._rnn.output_size), self._dtype)))
        y = self._rnn.process(self._inputs.encode("block", [block], self._dtype).values)
        return self._said(self._head(self._pool(y)))

    def _pool(self, y: NDArray[Any]) -> NDArray[Any]:
        # What the pool holds after each of the steps.
        if self._pooling == "mean":
            sums = self._sum + np.cumsum(y, 0, dtype=np.float64)
            steps = self._steps + np.arange(1, len(y) + 1)
            self._sum, self._steps = sums[-1], int(steps[-1])
            return (sums / steps[:, None]).astype(self._dtype)
        if self._pooling == "max":
            largest = np.maximum(self._largest, np.maximum.accumulate(y, 0))
            self._largest = largest[-1]
            return largest
        return y

    def reset(self) -> None:
        """Forget everything: the next step is the first of a sequence."""
        self._rnn.reset()
        self._sum, self._steps = np.zeros_like(self._sum), 0
        self._largest = np.full_like(self._largest, -np.inf)

    def copy(self) -> SequenceStream:
        """Return a stream that goes its own way from here."""
        twin = copy.copy(self)
        twin._rnn = self._rnn.copy()
        return twin
