"""Readers: text for language models."""

from rnncore.data.text import Chunk, TextChunks, Vocabulary, read_text, split_text

__all__ = ["Chunk", "TextChunks", "Vocabulary", "read_text", "split_text"]
