"""Pairs of texts, such as a sentence and its translation, as a source of batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_size
from rnncore.data.pieces import Pieces
from rnncore.data.ragged import Ragged
from rnncore.data.reading import read_whole
from rnncore.data.sequence_source import SequenceSettings, SequenceSource

Pairs = Sequence[tuple[str, str]]


def read_pairs(path: str | os.PathLike[str], encoding: str = "utf-8") -> list[tuple[str, str]]:
    r"""Read the pairs of a file: two texts in a line, with a tab between them.

    Parameters
    ----------
    path
    encoding
        Files that begin with the mark of UTF-16 or UTF-32 are read as that where ``"utf-8"`` is
        expected.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no regular file, not in `encoding`, empty, or a line (the message names it) does
        not have exactly one tab and text on both sides of it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.tsv")
    ...     _ = path.write_text("Go.\tVa !\nHelp!\tÀ l'aide !\n", encoding="utf-8")
    ...     read_pairs(path)
    [('Go.', 'Va !'), ('Help!', "À l'aide !")]
    """
    pairs = []
    for number, line in enumerate(_lines(path, encoding), 1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise ValueError(
                f"{os.fspath(path)!r}, line {number}: expected two texts with one tab between "
                f"them, got {len(columns) - 1 or 'no'} tab{'s' * (len(columns) > 2)}; correct the "
                "line or take it out"
            )
        for side, text in zip(("before", "behind"), columns, strict=True):
            if not text.strip():
                raise ValueError(
                    f"{os.fspath(path)!r}, line {number}: expected text {side} the tab, got none; "
                    "take the line out"
                )
        pairs.append((columns[0], columns[1]))
    if not pairs:
        raise ValueError(f"{os.fspath(path)!r}: expected a pair of texts at least, got none")
    return pairs


def read_texts(path: str | os.PathLike[str], encoding: str = "utf-8") -> list[str]:
    """Return the lines of a file; of lines with a tab what stands before it.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such regular file, or it is not in `encoding`.
    """
    return [line.split("\t")[0] for line in _lines(path, encoding)]


def _lines(path: str | os.PathLike[str], encoding: str) -> list[str]:
    # Not splitlines(): U+2028 and its like may stand in a text.
    lines = read_whole(path, encoding).split("\n")
    return lines[:-1] if not lines[-1] else lines


def split_pairs(
    pairs: Pairs, count: int, order: int = 0
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return pairs to train on, and those of `count` distinct first texts, which are held out.

    Which ones depends on a hash of the texts alone, so that a file with further pairs holds out
    most of the same. No first text is on both sides.

    Parameters
    ----------
    pairs
    count
        Distinct first texts to hold out.
    order
        Another number holds out others.

    Raises
    ------
    ValueError
        If there are not more distinct first texts than that.

    Examples
    --------
    >>> pairs = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]
    >>> kept, held_out = split_pairs(pairs, 1)
    >>> held_out, kept
    ([('c', '4')], [('a', '1'), ('b', '2'), ('a', '3')])
    """
    distinct = {source for source, _ in pairs}
    if check_size("count", count, 0) >= len(distinct):
        raise ValueError(
            f"count: expected fewer than the {len(distinct)} distinct first texts, got {count}"
        )
    key = check_size("order", order, 0).to_bytes(8, "little")

    def place(text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key).digest()

    chosen = set(sorted(distinct, key=place)[:count])
    kept = [pair for pair in pairs if pair[0] not in chosen]
    return kept, [pair for pair in pairs if pair[0] in chosen]


class PairBatch(NamedTuple):
    """What a translator learns from: B pairs of S and T pieces at most.

    Parameters
    ----------
    source : (S, B) integers
    source_lengths : (B,) integers
    target : (T, B) integers
        The pieces to find, of each text and then the end.
    target_lengths : (B,) integers
        The end counted.
    """

    source: NDArray[Any]
    source_lengths: NDArray[np.intp]
    target: NDArray[Any]
    target_lengths: NDArray[np.intp]


class PairPieces(NamedTuple):
    """The pieces of both sides."""

    source: Pieces
    target: Pieces

    @property
    def end(self) -> int:
        """The number that ends a target, and stands before it."""
        return len(self.target)

    def encode_targets(self, texts: Sequence[str]) -> Ragged:
        """Return the numbers of the targets' pieces, the end behind each."""
        numbers = self.target.encode_all(texts)
        ends = np.cumsum(numbers.lengths)
        return Ragged(np.insert(numbers.values, ends, self.end), numbers.lengths + 1)

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `from_json` reads."""
        return {name: pieces.to_json() for name, pieces in self._asdict().items()}

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Self:
        """Return those that `to_json` described."""
        found = {name: Pieces.from_json(description[name]) for name in cls._fields}
        return cls(**found)


class PairExamples:
    """Pairs as numbers.

    Raises
    ------
    ValueError
        If a text is empty.
    """

    def __init__(self, pairs: Pairs, pieces: PairPieces) -> None:
        check_pairs(pairs)
        self._source = pieces.source.encode_all([source for source, _ in pairs])
        self._target = pieces.encode_targets([target for _, target in pairs])
        self._end = pieces.end
        self.lengths = self._target.lengths

    def batch(self, indices: NDArray[np.intp]) -> PairBatch:
        """Return the pairs with these numbers."""
        source, source_lengths = self._source.take(indices).padded()
        target, target_lengths = self._target.take(indices).padded(self._end)
        return PairBatch(source, source_lengths, target, target_lengths)

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that tells these pairs from others."""
        return [self._source.values, self._source.lengths, self._target.values, self.lengths]


class PairSource(SequenceSource):
    """Pairs to train on, and some held out; a batch is a `PairBatch`.

    Parameters
    ----------
    pairs
    pieces
        Those of the model.
    settings
        Its values can be given by name instead.
    held_out
        Pairs that validations measure.

    Examples
    --------
    >>> pairs = [("1", "one"), ("12", "one two")]
    >>> pieces = PairPieces(Pieces(["12"], "characters"), Pieces(["one two"], "words"))
    >>> [array.shape for array in PairSource(pairs, pieces).batch(0)]
    [(2, 2), (2,), (3, 2), (2,)]
    """

    def __init__(
        self,
        pairs: Pairs,
        pieces: PairPieces,
        settings: SequenceSettings | None = None,
        *,
        held_out: Pairs | None = None,
        **values: Any,
    ) -> None:
        others = None if held_out is None else PairExamples(held_out, pieces)
        super().__init__(
            PairExamples(pairs, pieces), settings, held_out=others, item="pieces", name="pairs",
            **values,
        )  # fmt: skip


def check_pairs(pairs: Pairs) -> None:
    """Refuse pairs that are not two texts with something in them each."""
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise TypeError(f"pairs: expected two texts, got {pair!r} as pair {number}")
        if not all(text.strip() for text in pair):
            raise ValueError(f"pairs: expected text on both sides, got {pair!r} as pair {number}")
    if not pairs:
        raise ValueError("pairs: expected one at least, got none")
