"""Tagged sentences as a source of batches: words, their characters, and tags."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.data.batches import SequenceBatches
from rnncore.data.fingerprint import fingerprint_of
from rnncore.data.ragged import Ragged
from rnncore.data.spelling import WordTable
from rnncore.data.vocabulary import Vocabulary
from rnncore.data.words import WordVocabulary
from rnncore.settings import Whole, check_settings, setting

Words = Sequence[Sequence[str]]


class TaggedBatch(NamedTuple):
    """What a tagger reads: T words at most of B sentences, and the U distinct ones spelled out.

    Parameters
    ----------
    words : (T, B) integers
        Numbers of words.
    lengths : (B,) integers
        Words of each sentence.
    letters : (L, U) integers
        Characters of the distinct words.
    sizes : (U,) integers
        How many each has.
    spelled : (T, B) integers
        Which of the distinct words each word is.
    """

    words: NDArray[Any]
    lengths: NDArray[np.intp]
    letters: NDArray[Any]
    sizes: NDArray[np.intp]
    spelled: NDArray[np.intp]


class TaggerVocabularies(NamedTuple):
    """What a tagger knows of words, characters and tags; the first two have an unknown."""

    words: WordVocabulary
    letters: Vocabulary
    tags: WordVocabulary

    @classmethod
    def of(cls, sentences: Words, tags: Words, least_count: int = 1) -> Self:
        """Return those of some sentences.

        Examples
        --------
        >>> found = TaggerVocabularies.of([["A", "dog"]], [["DET", "NOUN"]])
        >>> len(found.words), len(found.letters), found.tags.words
        (3, 5, ('DET', 'NOUN'))
        """
        return cls(
            WordVocabulary(sentences, least_count=least_count, lowercase=True),
            Vocabulary("".join(word for words in sentences for word in words), unknown=True),
            WordVocabulary(tags, unknown=False),
        )


class Sentences:
    """Sentences as numbers, looked up batch by batch.

    Parameters
    ----------
    sentences
        Lists of words.
    vocabularies
    """

    def __init__(self, sentences: Words, vocabularies: TaggerVocabularies) -> None:
        self._words = vocabularies.words.encode_all(sentences)
        self._table = WordTable(sentences, vocabularies.letters)
        self.lengths = self._words.lengths

    def batch(self, indices: NDArray[np.intp]) -> TaggedBatch:
        """Return the sentences with these numbers."""
        words, lengths = self._words.take(indices).padded()
        distinct = self._table.batch(indices)
        letters, sizes = distinct.characters.padded()
        spelled, _ = distinct.places.padded()
        return TaggedBatch(words, lengths, letters, sizes, spelled)

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that tells these sentences from others."""
        words, characters = self._table.sentences, self._table.characters
        return [self._words.values, self.lengths, words.values, characters.values,
                characters.lengths]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TaggedSettings:
    """How tagged sentences are cut into batches.

    Parameters
    ----------
    batch_size
        Sentences of a batch.
    order
        The same one deals the same batches.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    batch_size: int = setting(32, Whole(), "Sentences of a batch.", fixed=True)
    order: int = setting(0, Whole(0), "Which of the orders that batches may have.", fixed=True)

    def __post_init__(self) -> None:
        check_settings(self)


class TaggedBatches:
    """Numbered batches of tagged sentences of like length, tags last; see `SequenceBatches`."""

    def __init__(
        self, sentences: Sentences, tags: Ragged, batches: SequenceBatches
    ) -> None:
        self._sentences, self._tags, self._batches = sentences, tags, batches
        self.per_epoch = batches.per_epoch

    def batch(self, number: int) -> tuple[Any, ...]:
        """Return the five arrays of a `TaggedBatch`, and tags (T, B), -1 beyond each sentence."""
        indices = self._batches.indices(number)
        return *self._sentences.batch(indices), self._tags.take(indices).padded(-1)[0]

    def continues(self, number: int) -> bool:
        """Return False: each sentence stands for itself."""
        return False

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that tells these sentences from others."""
        return [*self._sentences.arrays(), self._tags.values]


class TaggedSource(TaggedBatches):
    """Tagged sentences to train on, and some held out; see `rnncore.training.Source`.

    Parameters
    ----------
    sentences, tags
        Lists of words, and of as many tags.
    vocabularies
        Those of the model.
    settings
        Its values can be given by name instead.
    held_out
        Sentences and tags that validations measure.

    Raises
    ------
    TypeError, ValueError
        If sentences and tags are not alike, there are none, a sentence is empty, or a tag is one
        that the model does not know.

    Examples
    --------
    >>> sentences, tags = [["A", "dog"], ["Dogs"]], [["DET", "NOUN"], ["NOUN"]]
    >>> source = TaggedSource(sentences, tags, TaggerVocabularies.of(sentences, tags))
    >>> [array.shape for array in source.batch(0)]
    [(2, 2), (2,), (4, 3), (3,), (2, 2), (2, 2)]
    """

    item = "words"

    def __init__(
        self,
        sentences: Words,
        tags: Words,
        vocabularies: TaggerVocabularies,
        settings: TaggedSettings | None = None,
        *,
        held_out: tuple[Words, Words] | None = None,
        **values: Any,
    ) -> None:
        if settings is not None and values:
            raise TypeError(f"settings: expected them alone, got {', '.join(values)} as well")
        self.tagged_settings = settings or TaggedSettings(**values)
        size, order = self.tagged_settings.batch_size, self.tagged_settings.order
        check_tagged(sentences, tags)
        numbered, tagged = Sentences(sentences, vocabularies), vocabularies.tags.encode_all(tags)
        super().__init__(numbered, tagged, SequenceBatches(numbered.lengths, size, seed=order))
        self.held_out: TaggedBatches | None = None
        self._held_out_words = 0
        if held_out is not None:
            check_tagged(*held_out)
            others = Sentences(held_out[0], vocabularies)
            self._held_out_words = int(others.lengths.sum())
            self.held_out = TaggedBatches(
                others, vocabularies.tags.encode_all(held_out[1]),
                SequenceBatches(others.lengths, size, shuffle=False),
            )  # fmt: skip
        self._count = len(numbered.lengths), int(numbered.lengths.sum())
        self.items_per_batch = max(1, round(self._count[1] / self.per_epoch))

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dataclasses.asdict(self.tagged_settings)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of words, spelling and tags, those held out among them."""
        arrays = self.arrays()
        return fingerprint_of(*arrays, *([] if self.held_out is None else self.held_out.arrays()))

    def describe(self) -> str:
        """Say how many sentences and words there are."""
        text = f"{self._count[0]:,} sentences of {self._count[1]:,} words"
        if self._held_out_words:
            text += f"; {self._held_out_words:,} words held out"
        return text


def check_tagged(sentences: Words, tags: Words) -> None:
    """Refuse sentences and tags that are not alike, or of which one is empty."""
    if len(sentences) != len(tags):
        raise ValueError(
            f"tags: expected a list for each of {len(sentences)} sentences, got {len(tags)}"
        )
    for number, (words, labels) in enumerate(zip(sentences, tags, strict=True), 1):
        if len(words) != len(labels):
            raise ValueError(
                f"tags: expected {len(words)} for sentence {number}, one a word, got {len(labels)}"
            )
        if not len(words):
            raise ValueError(f"sentences: expected words, but sentence {number} is empty")
