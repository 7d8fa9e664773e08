"""What a language model reads and writes one at a time: characters, bytes or words."""

from __future__ import annotations

import dataclasses
from typing import Any

from rnncore.data.text_words import WORDS, TextWords
from rnncore.data.vocabulary import BYTES, Vocabulary
from rnncore.settings import Choice, Whole, check_settings, setting

UNITS = ("characters", BYTES, "words")
WORDS_KNOWN, WORDS_COUNT = 10_000, 2  # how many words are known, and how often they have to be seen

#: A vocabulary that a `LanguageNetwork` takes.
TextVocabulary = Vocabulary | TextWords


@dataclasses.dataclass(frozen=True)
class UnitSettings:
    """What of a text becomes a symbol, and which of them are known.

    Parameters
    ----------
    unit
        ``"characters"``, ``"bytes"`` (of UTF-8, where the text is a str), or ``"words"`` as
        `TextWords` cuts them.
    vocabulary_size, least_count
        Of words: how many are known, and how often each has to be in the text; None: 10000, and 2.

    Raises
    ------
    ValueError
        If a value is out of its range, or given for a unit that has none.
    """

    unit: str = setting(
        "characters", Choice(UNITS), "What the model reads and writes one at a time.", fixed=True
    )
    vocabulary_size: int | None = setting(
        None, Whole(), f"Words known, the most frequent.  [default: {WORDS_KNOWN}]", fixed=True
    )
    least_count: int | None = setting(
        None, Whole(), f"Times a known word is in the text.  [default: {WORDS_COUNT}]", fixed=True
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("vocabulary_size", "least_count"):
            value = getattr(self, name)
            if value is not None and self.unit != "words":
                raise ValueError(
                    f"{name}: expected none for the unit {self.unit!r}, of which all are known, "
                    f"got {value!r}; leave it out, or choose the unit 'words'"
                )

    @property
    def limits(self) -> dict[str, int]:
        """What `TextWords` is given."""
        size, least = self.vocabulary_size, self.least_count
        return {
            "vocabulary_size": WORDS_KNOWN if size is None else size,
            "least_count": WORDS_COUNT if least is None else least,
        }

    def vocabulary(self, text: str | bytes) -> TextVocabulary:
        """Return the vocabulary of a text.

        Raises
        ------
        TypeError, ValueError
            If the text is bytes and they are not the unit; or see `Vocabulary` and `TextWords`.
        """
        if self.unit == BYTES:
            return Vocabulary(text.encode() if isinstance(text, str) else text)
        if isinstance(text, bytes):
            raise TypeError(
                f"text: expected a str, whose {self.unit} can be told, got bytes; decode it, or "
                "choose the unit 'bytes'"
            )
        return TextWords(text, **self.limits) if self.unit == "words" else Vocabulary(text)


def text_vocabulary_from_json(description: dict[str, Any]) -> TextVocabulary:
    """Return the vocabulary that a language model's file describes.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is of a kind that is not known, or not whole.
    """
    kinds: dict[str, type[TextVocabulary]] = {
        "characters": Vocabulary, BYTES: Vocabulary, WORDS: TextWords
    }  # fmt: skip
    return kinds[description["alphabet"]].from_json(description)
