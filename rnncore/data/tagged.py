"""Tagged sentences as a source of batches: words, their characters, and tags."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.data.conllu import read_conllu
from rnncore.data.ragged import Ragged
from rnncore.data.sequence_source import SequenceSettings, SequenceSource
from rnncore.data.spelling import WordTable
from rnncore.data.vocabulary import Vocabulary
from rnncore.data.words import WordVocabulary

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
        self._table = WordTable(sentences, vocabularies.letters)
        numbers, places = vocabularies.words.encode(self._table.words), self._table.sentences
        self._words = Ragged(numbers[places.values], places.lengths)
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


class TaggedExamples:
    """Tagged sentences as numbers.

    Parameters
    ----------
    sentences, tags
        Lists of words, and of as many tags.
    vocabularies

    Raises
    ------
    TypeError, ValueError
        If sentences and tags are not alike, a sentence is empty, or a tag is not known.
    """

    def __init__(self, sentences: Words, tags: Words, vocabularies: TaggerVocabularies) -> None:
        check_tagged(sentences, tags)
        self._sentences = Sentences(sentences, vocabularies)
        try:
            self._tags = vocabularies.tags.encode_all(tags)
        except ValueError as error:
            raise ValueError(f"tags: {str(error).removeprefix('words: ')}") from None
        self.lengths = self._sentences.lengths

    def batch(self, indices: NDArray[np.intp]) -> tuple[Any, ...]:
        """Return the five arrays of a `TaggedBatch`, and tags (T, B), -1 beyond each sentence."""
        return *self._sentences.batch(indices), self._tags.take(indices).padded(-1)[0]

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that tells these sentences from others."""
        return [*self._sentences.arrays(), self._tags.values]


class TaggedSource(SequenceSource):
    """Tagged sentences to train on, and some held out.

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
        See `TaggedExamples`; or if there are no sentences.

    Examples
    --------
    >>> sentences, tags = [["A", "dog"], ["Dogs"]], [["DET", "NOUN"], ["NOUN"]]
    >>> source = TaggedSource(sentences, tags, TaggerVocabularies.of(sentences, tags))
    >>> [array.shape for array in source.batch(0)]
    [(2, 2), (2,), (4, 3), (3,), (2, 2), (2, 2)]
    """

    def __init__(
        self,
        sentences: Words,
        tags: Words,
        vocabularies: TaggerVocabularies,
        settings: SequenceSettings | None = None,
        *,
        held_out: tuple[Words, Words] | None = None,
        **values: Any,
    ) -> None:
        others = None if held_out is None else TaggedExamples(*held_out, vocabularies)
        super().__init__(
            TaggedExamples(sentences, tags, vocabularies), settings, held_out=others, item="words",
            name="sentences", **values,
        )  # fmt: skip


def read_tagged(path: str | os.PathLike[str]) -> tuple[Words, Words]:
    """Return the words and the tags of a file's sentences; see `read_conllu`.

    Raises
    ------
    ValueError
        If the file is malformed, or a word has no tag.
    """
    sentences = read_conllu(path)
    missing = [n for n, sentence in enumerate(sentences, 1) if "_" in sentence.tags]
    if missing:
        raise ValueError(
            f"{os.fspath(path)!r}: expected a tag for each word, but sentence {missing[0]} has "
            "words without one; tag it or take it out"
        )
    return [s.words for s in sentences], [s.tags for s in sentences]


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
