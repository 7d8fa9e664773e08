"""A transcriber that listens: sound in blocks of any size, words as they are heard."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.audio import as_samples

if TYPE_CHECKING:
    from rnncore.models.transcriber_network import TranscriberNetwork


class SoundStream:
    """A transcriber that is fed sound as it comes in, such as blocks of 20 ms.

    However the sound is cut, it says the words that the network's likeliest path says of all of it.
    Its weights are its own: later changes of the network do not reach it.

    Attributes
    ----------
    words : list of str
        What was heard so far.

    Raises
    ------
    ValueError
        If the network reads both ways, or needs the boundaries of words.

    Examples
    --------
    >>> from rnncore.data import WordVocabulary
    >>> from rnncore.data.inputs import Numbers
    >>> from rnncore.data.spectra import SoundSettings
    >>> from rnncore.models.transcriber_network import TranscriberNetwork
    >>> words, inputs = WordVocabulary([["no", "yes"]], unknown=False), Numbers([0] * 5, [1] * 5)
    >>> network = TranscriberNetwork(words, SoundSettings(bands=5), inputs, directions="forward",
    ...                              boundaries="unknown", seed=0)
    >>> stream = network.stream()
    >>> [len(stream.process(np.zeros(160, np.float32))) <= 3 for block in range(3)], stream.frames
    ([True, True, True], 3)
    """

    def __init__(self, network: TranscriberNetwork) -> None:
        if network.whole:
            got = "known boundaries" if network.known else "both directions"
            raise ValueError(
                "stream: expected a network that reads forward and finds the boundaries of words, "
                f"but this one has {got}; fit one with directions='forward', boundaries='unknown'"
            )
        self._network, self.sound = network, network.sound
        with network._guard.weights:  # all of one moment
            self._rnn = network.frames.stream()
            self._head = copy.deepcopy(network.head)
        self._vocabulary = network.vocabulary.words
        self.words: list[str] = []
        self.frames = 0
        self._left, self._last = np.zeros(0, np.float32), 0

    def process(self, block: Any) -> list[str]:
        """Take samples (N,), at the network's rate; return the words that were heard in them."""
        if np.size(block):
            self._left = np.concatenate([self._left, as_samples("block", block)])
        hop = self.sound.frames_per_step * self.sound.hop
        full = (len(self._left) - self.sound.span()) // hop + 1
        if full < 1:
            return []
        frames = self.sound.features_of(self._left[: (full - 1) * hop + self.sound.span()])
        self._left = self._left[full * hop :]
        return self._heard(frames)

    def finish(self) -> list[str]:
        """End the sound, and return what is heard in it now: only in one shorter than a frame."""
        if self.frames or not len(self._left):
            return []
        return self._heard(self.sound.features_of(self._left))

    def _heard(self, frames: NDArray[Any]) -> list[str]:
        self.frames += len(frames)
        x = self._network.standardized(frames)
        path = self._head(self._rnn.process(x)).argmax(1).tolist()
        new = [
            k for k, before in zip(path, [self._last, *path], strict=False) if k not in (0, before)
        ]
        self._last = path[-1]
        words = [self._vocabulary[k - 1] for k in new]
        self.words += words
        return words

    def reset(self) -> None:
        """Forget everything: the next sample is the first."""
        self._rnn.reset()
        self.words, self.frames = [], 0
        self._left, self._last = np.zeros(0, np.float32), 0
