"""Batches of sequences of like length."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.arguments import check_flag, check_size
from rnncore.data.fingerprint import fingerprint_of
from rnncore.data.ragged import check_lengths
from rnncore.settings import Share


class SequenceBatches:
    r"""Which sequences make up batch number n, a function of n and the seed alone.

    In every epoch each sequence stands in one batch. The sequences are sorted by their length,
    made longer by up to a share `noise`,

    ``key_i = length_i (1 + noise u_i),  u_i uniform in [0, 1)``

    and cut into batches at the same places in all epochs; the batches come in random order. So
    sequences of like length go together, though not always the same ones. The i-th smallest key
    is at most ``1 + noise`` times the i-th smallest length. The cuts count on that, and no epoch
    exceeds `tokens_per_batch`.

    Sorting with noise is the bucketing of Khomenko et al., "Accelerating recurrent neural network
    training using sequence bucketing and multi-GPU data parallelization", 2016, without borders
    between the buckets.

    Parameters
    ----------
    lengths : (N,) integers
        The steps of each sequence.
    batch_size
        Sequences in a batch at most. The N sequences are dealt to ``ceil(N / batch_size)``
        batches whose sizes differ by one at most.
    tokens_per_batch
        Instead of `batch_size`: steps times sequences of a batch at most, as if it were padded to
        the longest. A sequence longer than that is a batch of its own.
    seed
        A whole number; the same one gives the same batches on every machine.
    noise
        From 0, where only sequences of equal length change places, to below 1.
    shuffle
        False: by length, the shortest first, the same in all epochs and without noise, for data
        held out.

    Attributes
    ----------
    per_epoch : int
        Batches of an epoch.
    lengths : (N,) intp

    Raises
    ------
    TypeError, ValueError
        If there are no sequences, neither or both of the sizes are given, or a value is out of its
        range.

    Examples
    --------
    >>> batches = SequenceBatches([5, 1, 9, 2, 8, 1], batch_size=2, seed=0)
    >>> batches.per_epoch
    3
    >>> sorted(sorted(batches.indices(number).tolist()) for number in (0, 1, 2))
    [[0, 3], [1, 5], [2, 4]]
    >>> held_out = SequenceBatches([5, 1, 9], tokens_per_batch=10, shuffle=False)
    >>> [held_out.indices(number).tolist() for number in range(held_out.per_epoch)]
    [[1, 0], [2]]
    """

    def __init__(
        self,
        lengths: ArrayLike,
        batch_size: int | None = None,
        *,
        tokens_per_batch: int | None = None,
        seed: int = 0,
        noise: float = 0.1,
        shuffle: bool = True,
    ) -> None:
        self.lengths = check_lengths(lengths)
        if not self.lengths.size:
            raise ValueError("lengths: expected one sequence at least, got none; give some data")
        if (batch_size is None) == (tokens_per_batch is None):
            got = "neither" if batch_size is None else "both"
            raise ValueError(
                f"batch_size, tokens_per_batch: expected one of them, got {got}; give one, such "
                "as batch_size=32"
            )
        Share().check("noise", noise)
        self.shuffle = check_flag("shuffle", shuffle)
        self.seed = check_size("seed", seed, 0)
        self.noise = float(noise)
        self.batch_size: int | None = None
        self.tokens_per_batch: int | None = None
        if batch_size is not None:
            self.batch_size = check_size("batch_size", batch_size)
            self._cuts = _cut_evenly(len(self.lengths), self.batch_size)
        else:
            self.tokens_per_batch = check_size("tokens_per_batch", tokens_per_batch)
            bounds = np.sort(self.lengths)
            if self.shuffle:
                bounds = np.floor(bounds * (1.0 + self.noise)).astype(np.intp)
            self._cuts = _cut_by_tokens(bounds, self.tokens_per_batch)
        self.per_epoch = len(self._cuts) - 1
        # One tuple, replaced as a whole, so that several threads may ask.
        self._last = (-1, self._cuts, self._cuts)

    def indices(self, number: int) -> NDArray[np.intp]:
        """Return the numbers of the sequences in batch `number`, counted from the very first.

        Raises
        ------
        ValueError
            If `number` is no whole number of at least 0.
        """
        epoch, place = divmod(check_size("number", number, 0), self.per_epoch)
        known, order, batches = self._last
        if known != epoch:
            order, batches = self._epoch(epoch)
            self._last = (epoch, order, batches)
        batch = batches[place]
        return order[self._cuts[batch] : self._cuts[batch + 1]].copy()

    def batch(self, number: int) -> tuple[NDArray[np.intp]]:
        """Return `indices` as a batch of one array; see `rnncore.training.source.Batches`."""
        return (self.indices(number),)

    def continues(self, number: int) -> bool:
        """Return False: a sequence does not go on in the next batch."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """How the data is cut and shuffled, as `json` can write it."""
        names = ("batch_size", "tokens_per_batch", "seed", "noise", "shuffle")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the lengths; whoever has the sequences hashes them as well."""
        return fingerprint_of(self.lengths)

    def _epoch(self, epoch: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        # The sequences in order, and which batch comes when. NumPy promises the raw numbers of a
        # bit generator for all its versions, and its `permutation` for none.
        lengths = self.lengths
        if not self.shuffle:
            return np.argsort(lengths, kind="stable"), np.arange(self.per_epoch)
        bits = np.random.PCG64([self.seed, epoch])
        order = np.argsort(bits.random_raw(len(lengths)), kind="stable")
        uniform = (bits.random_raw(len(lengths)) >> np.uint64(11)) * 2.0**-53
        keys = lengths[order] * (1.0 + self.noise * uniform)
        order = order[np.argsort(keys, kind="stable")]
        return order, np.argsort(bits.random_raw(self.per_epoch), kind="stable")


def _cut_evenly(count: int, batch_size: int) -> NDArray[np.intp]:
    batches = -(-count // batch_size)
    return np.arange(batches + 1) * count // batches


def _cut_by_tokens(ordered: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    # As many sequences, from the shortest on, as are `size` steps when padded to the last of them.
    cuts, count = [0], len(ordered)
    longest = np.maximum(ordered, 1).tolist()  # sequences of nothing are not free
    while cuts[-1] < count:
        first = cuts[-1]

        def area(end: int, first: int = first) -> int:
            return (end - first) * longest[end - 1]

        fitting = bisect_right(range(first + 1, count + 1), size, key=area)
        cuts.append(first + max(1, fitting))
    return np.array(cuts, np.intp)
