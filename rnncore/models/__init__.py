"""Whole models, made of layers."""

from rnncore.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
