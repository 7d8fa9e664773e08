"""How a translator looks for the best translation: greedily, or with a beam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from rnncore.arguments import check_size, is_number
from rnncore.engine import kernels
from rnncore.engine.threads import team_size

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
        running, pieces = np.arange(count), np.full(count, end)
        written = np.full((count, int(self._most.max())), end)
        for step in range(written.shape[1]):
            pieces = self._known(self._logits(pieces, None)).argmax(1)
            written[running, step] = pieces
            kept = np.flatnonzero((pieces != end) & (self._most > step + 1))
            if not kept.size:
                break
            if len(kept) < len(running):
                running, pieces = running[kept], pieces[kept]
                self._keep(kept, kept)
        lengths = np.where((written == end).any(1), (written == end).argmax(1), written.shape[1])
        return [row[:length] for row, length in zip(written, lengths, strict=True)]

    def _beam(self, size: int, penalty: float) -> list[NDArray[np.intp]]:
        count, end = len(self._most), self._end
        running, found = np.arange(count), [np.zeros(0, np.intp)] * count
        tokens, scores = np.full((count, 1), end), np.zeros((count, 1))
        runs, lengths = np.ones((count, 1), bool), np.zeros((count, 1), np.intp)
        written = np.zeros((count, 1, 0), np.intp)
        for step in range(int(self._most.max())):
            # What has ended costs nothing: it has one continuation, itself.
            logits = self._logits(tokens[runs], runs)
            best, values, sums = self._best(logits, size)
            last = np.broadcast_to((self._most <= step + 1)[:, None], runs.shape)[runs]
            if last.any():  # nothing but the end
                best[last], values[last] = end, -np.inf
                values[last, 0] = logits[last, end]
            each = best.shape[1]
            pieces = np.full((*tokens.shape, each), end)
            totals = np.full(pieces.shape, -np.inf)
            totals[:, :, 0] = scores
            pieces[runs], totals[runs] = best, scores[runs][:, None] + (values - sums[:, None])
            after = lengths + runs
            values = (totals / after[:, :, None] ** penalty).reshape(len(running), -1)
            chosen = np.argsort(-values, axis=1, kind="stable")[:, :size]
            chosen += np.arange(len(running))[:, None] * values.shape[1]
            beam = chosen // each  # of all texts
            tokens, scores = pieces.take(chosen), totals.take(chosen)
            lengths, parents = after.take(beam), np.cumsum(runs).take(beam) - 1
            before = written.reshape(runs.size, step)[beam]
            written = np.concatenate([before, tokens[:, :, None]], 2)
            runs = (tokens != end) & (scores > -np.inf)
            goes_on = runs.any(1)
            for place in np.flatnonzero(~goes_on):
                found[running[place]] = written[place, 0, : lengths[place, 0] - 1]
            kept = np.flatnonzero(goes_on)
            if not kept.size:
                break
            running, tokens, scores = running[kept], tokens[kept], scores[kept]
            runs, lengths, written = runs[kept], lengths[kept], written[kept]
            self._keep(kept, parents[kept][runs])
        return found

    def _logits(self, pieces: NDArray[np.intp], runs: NDArray[np.bool_] | None) -> NDArray[Any]:
        # Of the last pieces (N,) of N beginnings, which of those (B, K) of each text; None: one
        # each.
        network = self._network
        state = tuple(self._state) if len(self._state) > 1 else self._state[0]
        y, state = network.decoder(pieces[None], state, embedding=network.target)
        self._state = list(state) if isinstance(state, tuple) else [state]
        if self._memory is not None and runs is not None:
            queries = np.zeros((*runs.shape, y.shape[2]), y.dtype)
            queries[runs] = y[0]
            context = network.attention(queries.swapaxes(0, 1), self._memory)
            found = network.write(y, context.swapaxes(0, 1)[runs][None])
        elif self._memory is not None:
            found = network.write(y, network.attention(y, self._memory))
        else:
            found = network.write(y, None)
        logits: NDArray[Any] = network.head(found)[0]
        return logits

    def _known(self, logits: NDArray[Any]) -> NDArray[Any]:
        # In place: what is not known is never written.
        if self._unknown is not None:
            logits[:, self._unknown] = -np.inf
        return logits

    def _best(
        self, logits: NDArray[Any], count: int
    ) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[np.float64]]:
        # The largest of each row that are known, (N, count), what they are, and log sum e^x.
        if self._unknown is None:
            return _largest(logits, count)
        best, values, sums = _largest(logits, count + 1)
        is_unknown = best == self._unknown
        if not is_unknown[:, :count].any():
            return best[:, :count], values[:, :count], sums
        known = np.argsort(is_unknown, axis=1, kind="stable")[:, :-1]
        return np.take_along_axis(best, known, 1), np.take_along_axis(values, known, 1), sums

    def _keep(self, texts: NDArray[np.intp], rows: NDArray[np.intp]) -> None:
        # Go on with some of the texts, and with these of the beginnings that were run.
        self._state = [array[:, rows] for array in self._state]
        if len(texts) < len(self._most):
            self._most = self._most[texts]
            if self._memory is not None:
                self._memory = self._memory.take(texts)


def _largest(
    logits: NDArray[Any], count: int
) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[np.float64]]:
    rows, classes = logits.shape
    count, stride = min(count, classes), logits.strides[0] // logits.itemsize
    # What lies between the rows of a layer's output belongs to it.
    flat = as_strided(logits, ((rows - 1) * stride + classes,), (logits.itemsize,))
    places, values = np.empty((rows, count), np.intp), np.empty((rows, count), logits.dtype)
    sums = np.empty(rows)
    kernels(logits.dtype).largest(
        values.reshape(-1), places.reshape(-1), sums, flat, classes, stride, count, team_size(),
    )  # fmt: skip
    return places, values, sums
