"""Readers: text for language models, tagged words; vocabularies; batches of sequences."""

from rnncore.data.batches import SequenceBatches
from rnncore.data.fingerprint import fingerprint_of
from rnncore.data.ragged import Ragged
from rnncore.data.reading import read_text, read_tokens
from rnncore.data.source import TextChunks, TextSettings, TextSource, split_text
from rnncore.data.vocabulary import Vocabulary
from rnncore.data.words import BatchWords, WordTable, WordVocabulary, characters_of

__all__ = [
    "BatchWords", "Ragged", "SequenceBatches", "TextChunks", "TextSettings", "TextSource",
    "Vocabulary", "WordTable", "WordVocabulary", "characters_of", "fingerprint_of", "read_text",
    "read_tokens", "split_text",
]  # fmt: skip
