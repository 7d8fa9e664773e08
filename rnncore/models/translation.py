"""How a translator looks for the best translation: greedily, or with a beam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_size, is_number

if TYPE_CHECKING:
    from rnncore.models.translator_network import TranslatorNetwork

MOST = 2.0, 10  # pieces of a translation: so many times those of the text, and so many more


class Translation:
    """Texts that are being translated, side by side; one that is done makes way.

    The greedy search (a beam of 1) takes the likeliest piece each time. A beam of K keeps K
    beginnings of each translation: of all their continuations those K with the highest

    ``score(y) = log p(y | x) / |y|^a``

    where |y| counts pieces, the end among them, and a is the length penalty. One that has reached
    its end stays as it is as long as K others do not pass it. The search is over when all K have
    ended.

    Normalised by length as in Y. Wu et al., Google's neural machine translation system, 2016,
    section 7, with |y| for their (5 + |y|) / 6.

    Parameters
    ----------
    network
    source, lengths
        Pieces (S, B), and how many of each text, one at least.
    """

    def __init__(self, network: TranslatorNetwork, source: Any, lengths: Any) -> None:
        self._network = network
        memory, state = network.read(source, lengths)
        self._memory = None if network.attention is None else network.attention.read(memory)
        self._state: list[Any] = list(state) if isinstance(state, tuple) else [state]
        factor, more = MOST
        self._most = (factor * np.asarray(lengths) + more).astype(np.intp)
        self._end = network.pieces.end
        self._unknown = network.pieces.target.vocabulary.unknown

    def search(self, beam_size: int = 1, length_penalty: float = 1.0) -> list[NDArray[np.intp]]:
        """Return the pieces of the best translation of each text, without the end.

        Raises
        ------
        TypeError, ValueError
            If the beam is not a whole number of at least 1, or the penalty no number of at least 0.
        """
        check_size("beam_size", beam_size)
        if not is_number(length_penalty) or not 0 <= length_penalty < np.inf:
            raise ValueError(
                f"length_penalty: expected a number of at least 0, got {length_penalty!r}"
            )
        if not len(self._most):
            return []
        return self._greedy() if beam_size == 1 else self._beam(beam_size, float(length_penalty))

    def _greedy(self) -> list[NDArray[np.intp]]:
        count, end = len(self._most), self._end
        running, tokens = np.arange(count), np.full((count, 1), end)
        written = np.full((count, int(self._most.max())), end)
        for step in range(written.shape[1]):
            tokens = self._known(self._logits(tokens)).argmax(2)
            written[running, step] = tokens[:, 0]
            goes_on = (tokens[:, 0] != end) & (self._most > step + 1)
            if not goes_on.any():
                break
            if not goes_on.all():
                kept = np.flatnonzero(goes_on)
                running, tokens = running[kept], tokens[kept]
                self._keep(kept, np.zeros((len(kept), 1), np.intp))
        return [row[: (row != end).argmin() if (row == end).any() else None] for row in written]

    def _beam(self, size: int, penalty: float) -> list[NDArray[np.intp]]:
        count, end = len(self._most), self._end
        running, found = np.arange(count), [np.zeros(0, np.intp)] * count
        tokens, scores = np.full((count, 1), end), np.zeros((count, 1))
        ended, lengths = np.zeros((count, 1), bool), np.zeros((count, 1), np.intp)
        written = np.zeros((count, 1, 0), np.intp)
        for step in range(int(self._most.max())):
            logits = self._logits(tokens)
            sums = _log_sum_exp(logits)
            logits = self._known(logits)
            size_now = min(size, logits.shape[2])
            # The best K of a beginning are enough: the best K of all are among them.
            pieces = np.argpartition(logits, -size_now, axis=2)[:, :, -size_now:]
            last = self._most <= step + 1
            pieces[last, :, 0] = end
            logs = np.take_along_axis(logits, pieces, 2) - sums
            if last.any():
                logs[last] = np.where(np.arange(size_now) == 0, logs[last], -np.inf)
            # What has ended has one continuation: itself.
            pieces[ended] = end
            logs[ended] = np.where(np.arange(size_now) == 0, 0.0, -np.inf)
            totals = scores[:, :, None] + logs
            after = lengths + ~ended
            values = (totals / after[:, :, None] ** penalty).reshape(len(running), -1)
            chosen = np.argsort(-values, axis=1, kind="stable")[:, :size]
            beam = chosen // size_now
            tokens = np.take_along_axis(pieces.reshape(len(running), -1), chosen, 1)
            scores = np.take_along_axis(totals.reshape(len(running), -1), chosen, 1)
            lengths = np.take_along_axis(after, beam, 1)
            written = np.concatenate(
                [np.take_along_axis(written, beam[:, :, None], 1), tokens[:, :, None]], 2
            )
            ended = tokens == end
            over = (ended | (scores == -np.inf)).all(1)
            for place in np.flatnonzero(over):
                found[running[place]] = written[place, 0, : lengths[place, 0] - 1]
            kept = np.flatnonzero(~over)
            if not kept.size:
                break
            running, tokens, scores = running[kept], tokens[kept], scores[kept]
            ended, lengths, written = ended[kept], lengths[kept], written[kept]
            self._keep(kept, beam[kept])
        return found

    def _logits(self, tokens: NDArray[np.intp]) -> NDArray[Any]:
        # (B, K) last pieces of K beginnings of each text -> (B, K, pieces)
        network, (texts, beams) = self._network, tokens.shape
        state = tuple(self._state) if len(self._state) > 1 else self._state[0]
        y, state = network.decoder(network.target(tokens.reshape(1, -1)), state)
        self._state = list(state) if isinstance(state, tuple) else [state]
        queries = np.ascontiguousarray(y.reshape(texts, beams, -1).swapaxes(0, 1))
        found: NDArray[Any] = network.head(network.write(queries, self._memory)).swapaxes(0, 1)
        return found

    def _known(self, logits: NDArray[Any]) -> NDArray[Any]:
        # In place: what is not known is never written.
        if self._unknown is not None:
            logits[:, :, self._unknown] = -np.inf
        return logits

    def _keep(self, texts: NDArray[np.intp], beams: NDArray[np.intp]) -> None:
        # Go on with some of the texts, and with these of their beginnings.
        before = len(self._most)
        for number, array in enumerate(self._state):
            parts = array.reshape(len(array), before, -1, array.shape[2])
            kept = parts[:, texts[:, None], beams]
            self._state[number] = kept.reshape(len(array), -1, array.shape[2])
        if len(texts) < before:
            self._most = self._most[texts]
            if self._memory is not None:
                self._memory = self._memory.take(texts)


def _log_sum_exp(logits: NDArray[Any]) -> NDArray[Any]:
    largest = logits.max(2, keepdims=True)
    sums: NDArray[Any] = np.log(np.exp(logits - largest).sum(2, keepdims=True)) + largest
    return sums
