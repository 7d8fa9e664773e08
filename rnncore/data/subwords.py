"""Subwords: words cut into parts that are frequent in a text, learned from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

from rnncore.arguments import check_size

Merge = tuple[str, str]


def learn_merges(words: Mapping[str, int], count: int) -> list[Merge]:
    """Return which neighbours become one, the most frequent first.

    All words begin as characters. The pair of neighbours that stands together most often, over all
    words, is merged wherever it stands, and so on; pairs that are equally frequent come in the
    order of their characters. Pairs that are there once alone are not merged.

    Parameters
    ----------
    words
        Distinct words, and how often each is in the text.
    count
        Merges at most.

    References
    ----------
    R. Sennrich, B. Haddow, A. Birch, Neural machine translation of rare words with subword units,
    ACL 2016, algorithm 1.

    Examples
    --------
    >>> learn_merges({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 4)
    [('e', 's'), ('es', 't'), ('l', 'o'), ('lo', 'w')]
    """
    check_size("count", count, 0)
    spelled = [(list(word), times) for word, times in sorted(words.items())]
    counts: Counter[Merge] = Counter()
    places: defaultdict[Merge, set[int]] = defaultdict(set)  # words that have, or had, the pair
    for place, (parts, times) in enumerate(spelled):
        for pair in pairwise(parts):
            counts[pair] += times
            places[pair].add(place)
    # Entries that are no longer true are skipped when their turn comes.
    queue = [(-times, pair) for pair, times in counts.items()]
    heapify(queue)
    merges: list[Merge] = []
    while queue and len(merges) < count:
        times, best = heappop(queue)
        if -times != counts[best]:
            continue
        if -times < 2:
            break
        merges.append(best)
        changed: set[Merge] = set()
        for place in places.pop(best):
            parts, often = spelled[place]
            merged = merge(parts, best)
            for pair in pairwise(parts):
                counts[pair] -= often
                changed.add(pair)
            for pair in pairwise(merged):
                counts[pair] += often
                places[pair].add(place)
                changed.add(pair)
            parts[:] = merged
        for pair in changed:
            if counts[pair] > 0:
                heappush(queue, (-counts[pair], pair))
    return merges


def merge(parts: list[str], pair: Merge) -> list[str]:
    """Return the parts with this pair made one wherever it stands, from the left.

    Examples
    --------
    >>> merge(list("banana"), ("a", "n"))
    ['b', 'an', 'an', 'a']
    """
    merged: list[str] = []
    place = 0
    while place < len(parts):
        size = 2 if tuple(parts[place : place + 2]) == pair else 1
        merged.append("".join(parts[place : place + size]))
        place += size
    return merged


class Subwords:
    """Cuts words by merges, in the order in which they were learned.

    Examples
    --------
    >>> subwords = Subwords(learn_merges({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 4))
    >>> subwords.cut("lowest"), subwords.cut("west")
    (('low', 'est'), ('w', 'est'))
    """

    def __init__(self, merges: Iterable[Merge]) -> None:
        self.merges = [(first, second) for first, second in merges]
        self._rank = {pair: number for number, pair in enumerate(self.merges)}
        self._known: dict[str, tuple[str, ...]] = {}

    def cut(self, word: str) -> tuple[str, ...]:
        """Return the parts of a word, which are it together."""
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._cut(word)
        return found

    def _cut(self, word: str) -> tuple[str, ...]:
        parts, last = list(word), len(self.merges)
        while len(parts) > 1:
            ranks = [self._rank.get(pair, last) for pair in pairwise(parts)]
            best = min(ranks)
            if best == last:
                break
            parts = merge(parts, self.merges[best])
        return tuple(parts)
