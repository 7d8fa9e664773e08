"""The characters that the words of a batch are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnncore.data.ragged import Ragged
from rnncore.data.vocabulary import Vocabulary
from rnncore.data.words import check_words


class BatchWords(NamedTuple):
    """The distinct words of a batch, each spelled once however often it stands there.

    Parameters
    ----------
    words : (U,) intp
        Their numbers in `WordTable.words`.
    places : Ragged of N intp
        For each word of the batch, sentence by sentence, where in `words` it is.
    characters : Ragged of U sequences
        The characters of each.
    """

    words: NDArray[np.intp]
    places: Ragged
    characters: Ragged


class WordTable:
    """The distinct words of sentences and their characters, made once, looked up batch by batch.

    Parameters
    ----------
    sentences
        Lists of words.
    characters
        The characters known, with an unknown if the words may have others.

    Attributes
    ----------
    words : list of str
        In the order in which they first appear.
    sentences : Ragged of intp
        The sentences as numbers of these words.
    characters : Ragged
        The characters of each word, numbered by the vocabulary.

    Raises
    ------
    TypeError, ValueError
        If the sentences are no lists of words, or have unknown characters and the vocabulary has
        no unknown.

    Examples
    --------
    >>> table = WordTable([["a", "bad", "cab"], ["a", "cab"]], Vocabulary("abcd"))
    >>> batch = table.batch([1, 1])
    >>> batch.words, batch.places.values
    (array([0, 2]), array([0, 1, 0, 1]))
    >>> batch.characters.padded()  # (characters, U), and how many of each word
    (array([[0, 2],
           [0, 0],
           [0, 1]], dtype=uint8), array([1, 3]))
    """

    def __init__(self, sentences: Iterable[Sequence[str]], characters: Vocabulary) -> None:
        listed = [check_words("sentences", words) for words in sentences]
        every = [word for words in listed for word in words]
        self.words = list(dict.fromkeys(every))
        numbers = {word: number for number, word in enumerate(self.words)}
        places = np.fromiter(map(numbers.__getitem__, every), np.intp, len(every))
        self.sentences = Ragged(places, [len(words) for words in listed])
        self.characters = characters_of(self.words, characters)

    def batch(self, indices: ArrayLike) -> BatchWords:
        """Return the distinct words of the sentences with these numbers.

        Raises
        ------
        TypeError, IndexError
            See `Ragged.take`.
        """
        chosen = self.sentences.take(indices)
        words, places = np.unique(chosen.values, return_inverse=True)
        return BatchWords(words, Ragged(places, chosen.lengths), self.characters.take(words))


def characters_of(words: Iterable[str], vocabulary: Vocabulary) -> Ragged:
    """Return the numbers of the characters (or bytes) of each word.

    Parameters
    ----------
    words
    vocabulary

    Returns
    -------
    characters : Ragged of the vocabulary's dtype

    Raises
    ------
    TypeError, ValueError
        If these are no words, or have unknown characters and the vocabulary has no unknown.

    Examples
    --------
    >>> characters_of(["cab", "", "ad"], Vocabulary("abcd")).values
    array([2, 0, 1, 0, 3], dtype=uint8)
    """
    listed = check_words("words", words)
    spelled = [word.encode() for word in listed] if vocabulary.is_bytes else listed
    return Ragged(vocabulary.encode("".join(listed)), [len(word) for word in spelled])
