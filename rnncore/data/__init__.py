"""Readers: text for language models."""

from rnncore.data.reading import read_text, read_tokens
from rnncore.data.source import TextChunks, TextSettings, TextSource, split_text
from rnncore.data.vocabulary import Vocabulary

__all__ = [
    "TextChunks", "TextSettings", "TextSource", "Vocabulary", "read_text", "read_tokens",
    "split_text",
]  # fmt: skip
