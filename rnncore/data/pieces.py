"""Text as numbered pieces: words, characters or subwords, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

from numpy.typing import ArrayLike

from rnncore.data.ragged import Ragged
from rnncore.data.subwords import Subwords, learn_merges
from rnncore.data.words import UNKNOWN_WORD, WordVocabulary
from rnncore.settings import Choice

KINDS = ("subwords", "words", "characters")

# A word keeps the space before it and an apostrophe behind it, any other sign stands by itself: so
# the pieces put together are the text.
WORD = re.compile(r" ?\w+['’]?| ?[^\w\s]")


class Pieces:
    """The pieces that texts are cut into, numbered, the most frequent first.

    Space between words is one blank, whatever it was. The last number is that of all pieces that
    are not known.

    Parameters
    ----------
    texts
        Those to learn from.
    kind
        "words" and signs; "characters"; or "subwords", frequent parts of words (see
        `learn_merges`).
    merges
        Merges of characters that subwords are made by, at most.
    least_count
        How often a piece has to be in the texts to be known.

    Attributes
    ----------
    kind : str
    vocabulary : WordVocabulary

    Raises
    ------
    TypeError, ValueError
        If there is no text, or a value is out of its range.

    Examples
    --------
    >>> pieces = Pieces(["I'm here.", "Here I am !"], "words")
    >>> pieces.cut("I'm here !")
    [" I'", 'm', ' here', ' !']
    >>> pieces.decode(pieces.encode_all(["I am   here."])[0])
    'I am here.'
    """

    def __init__(
        self, texts: Sequence[str], kind: str = "words", *, merges: int = 0, least_count: int = 1
    ) -> None:
        Choice(KINDS).check("kind", kind)
        subwords = None
        if kind == "subwords":
            words = Counter(word for text in texts for word in words_of(text))
            subwords = Subwords(learn_merges(words, merges))
        self._set_up(kind, subwords)
        cut = (self.cut(text) for text in texts)
        self.vocabulary = WordVocabulary(cut, least_count=least_count)

    def _set_up(self, kind: str, subwords: Subwords | None) -> None:
        self.kind, self._subwords = kind, subwords

    def __len__(self) -> int:
        """Return how many numbers there are, that of the unknown among them."""
        return len(self.vocabulary)

    def cut(self, text: str) -> list[str]:
        """Return the pieces of a text."""
        if self.kind == "characters":
            return list(" ".join(text.split()))
        words = words_of(text)
        if self._subwords is None:
            return words
        return [part for word in words for part in self._subwords.cut(word)]

    def encode_all(self, texts: Iterable[str]) -> Ragged:
        """Return the numbers of the pieces of several texts."""
        return self.vocabulary.encode_all([self.cut(text) for text in texts])

    def decode(self, numbers: ArrayLike) -> str:
        """Return the text of some pieces."""
        return self.joined(self.vocabulary.decode(numbers))

    def joined(self, pieces: Iterable[str]) -> str:
        """Return the text of some pieces, as `cut` returns them."""
        found = "".join(f" {one}" if one == UNKNOWN_WORD else one for one in pieces)
        return " ".join(found.split())

    def to_json(self) -> dict[str, Any]:
        """Return a description that `json` can write and `from_json` reads."""
        merges = [] if self._subwords is None else self._subwords.merges
        return {"kind": self.kind, "merges": [list(pair) for pair in merges],
                "vocabulary": self.vocabulary.to_json()}  # fmt: skip

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Self:
        """Return the pieces that `to_json` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not whole.
        """
        pieces, kind = cls.__new__(cls), description["kind"]
        Choice(KINDS).check("kind", kind)
        merges = [(str(first), str(second)) for first, second in description["merges"]]
        pieces._set_up(kind, Subwords(merges) if kind == "subwords" else None)
        pieces.vocabulary = WordVocabulary.from_json(description["vocabulary"])
        return pieces


def words_of(text: str) -> list[str]:
    """Return the words and signs of a text, each with the space before it.

    Examples
    --------
    >>> words_of("J'ai dit non !")
    [" J'", 'ai', ' dit', ' non', ' !']
    """
    return WORD.findall(" " + " ".join(text.split()))
