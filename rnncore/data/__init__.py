"""Readers: text for language models, tagged words; vocabularies; batches of sequences."""

from rnncore.data.batches import SequenceBatches
from rnncore.data.conllu import format_conllu, parse_conllu, read_conllu, write_conllu
from rnncore.data.fingerprint import fingerprint_of
from rnncore.data.pairs import read_pairs, split_pairs
from rnncore.data.pieces import Pieces
from rnncore.data.ragged import Ragged
from rnncore.data.reading import read_text, read_tokens
from rnncore.data.sentence import FileForm, Sentence
from rnncore.data.source import TextChunks, TextSettings, TextSource, split_text
from rnncore.data.spelling import BatchWords, WordTable, characters_of
from rnncore.data.text_words import TextWords
from rnncore.data.units import UnitSettings
from rnncore.data.vocabulary import Vocabulary
from rnncore.data.words import WordVocabulary

__all__ = [
    "BatchWords",
    "FileForm",
    "Pieces",
    "Ragged",
    "Sentence",
    "SequenceBatches",
    "TextChunks",
    "TextSettings",
    "TextSource",
    "TextWords",
    "UnitSettings",
    "Vocabulary",
    "WordTable",
    "WordVocabulary",
    "characters_of",
    "fingerprint_of",
    "format_conllu",
    "parse_conllu",
    "read_conllu",
    "read_pairs",
    "read_text",
    "read_tokens",
    "split_pairs",
    "split_text",
    "write_conllu",
]  # fmt: skip
