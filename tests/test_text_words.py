"""Words of a text: how it is cut, how the pieces are numbered, models of them."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnncore import files, models
from rnncore.data import TextSource, TextWords, UnitSettings, Vocabulary, read_tokens
from rnncore.data import text_words as module
from rnncore.data.text_words import pieces_of
from rnncore.data.units import text_vocabulary_from_json
from rnncore.models import LanguageNetwork
from rnncore.training import Trainer, TrainingSettings

# Texts with much of what the rule looks at.
LIKELY = st.text(st.sampled_from("ab '’.,-_ \t\n  é\u3000字") | st.characters(), max_size=60)


def cut(text: str) -> list[str]:
    return [piece for pieces in pieces_of([text]) for piece in pieces]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("the end.", ["the", " end", "."]),
        ("It's 'so', said he", ["It's", " '", "so", "'", ",", " said", " he"]),
        ("don't stop\n", ["don't", " stop", "\n"]),
        ("if x:\n    return -1", ["if", " x", ":", "\n", "    ", "return", " -", "1"]),
        ("a  b\t\tc \n", ["a", "  ", "b", "\t\t", "c", " ", "\n"]),
        ("well-known\n\n", ["well", "-", "known", "\n", "\n"]),
        (" ", [" "]),
        ("", []),
    ],
)
def test_the_rule(text: str, pieces: list[str]) -> None:
    assert cut(text) == pieces


@given(LIKELY)
def test_the_pieces_are_the_text(text: str) -> None:
    assert "".join(cut(text)) == text
    if text:
        vocabulary = TextWords(text)
        tokens = vocabulary.encode(text)
        assert vocabulary.decode(tokens) == text
        assert tokens.dtype == vocabulary.dtype and not (tokens == vocabulary.unknown).any()
        assert [vocabulary.words[token] for token in tokens] == cut(text)
        again = TextWords.from_json(json.loads(json.dumps(vocabulary.to_json())))
        assert again == vocabulary and np.array_equal(again.encode(text), tokens)
        assert text_vocabulary_from_json(vocabulary.to_json()) == vocabulary


@given(LIKELY, st.lists(st.integers(0, 60), max_size=6))
@example("don't", [3]).via("an apostrophe at the end of a block")
@example("don't", [3, 4]).via("an apostrophe that is a block")
@example("a   b", [2, 3]).via("spaces in several blocks")
def test_blocks_may_end_anywhere(text: str, places: list[int]) -> None:
    ends = sorted({0, len(text), *(place for place in places if place < len(text))})
    blocks = [text[a:b] for a, b in pairwise(ends)]
    assert [piece for pieces in pieces_of(blocks) for piece in pieces] == cut(text)


@given(LIKELY)
def test_a_long_block_is_cut_as_well(text: str) -> None:
    before, module.BLOCK = module.BLOCK, 3
    try:
        short = cut(text)
    finally:
        module.BLOCK = before
    assert short == cut(text)


@given(LIKELY.filter(bool), LIKELY, st.integers(1, 4), st.integers(1, 9))
def test_the_most_frequent_are_known(text: str, other: str, least: int, size: int) -> None:
    counts = Counter(cut(text))
    kept = sorted((w for w in counts if counts[w] >= least), key=lambda w: (-counts[w], w))[:size]
    if not kept:
        with pytest.raises(ValueError, match=r"least_count: .* none is as frequent"):
            TextWords(text, least_count=least)
        return
    vocabulary = TextWords(text, vocabulary_size=size, least_count=least)
    assert vocabulary.words == tuple(kept) and len(vocabulary) == len(kept) + 1
    numbers = [kept.index(w) if w in kept else len(kept) for w in cut(other)]
    assert vocabulary.encode(other).tolist() == numbers
    shown = "".join(w if w in vocabulary else "<unknown>" for w in cut(other))
    assert vocabulary.decode(numbers) == shown


def test_bad_arguments() -> None:
    for call, kind, match in (
        (lambda: TextWords(""), ValueError, "text: expected at least one word"),
        (lambda: TextWords(b"a"), TypeError, "text: expected a str, whose words .* got bytes"),
        (lambda: TextWords("a").encode(b"a"), TypeError, "text: .* got bytes"),
        (lambda: TextWords("a", vocabulary_size=0), ValueError, "vocabulary_size: .* got 0"),
        (lambda: TextWords("a", least_count=0), ValueError, "least_count: .* got 0"),
        (lambda: TextWords("a").decode([2]), ValueError, "tokens: index out of range"),
        (lambda: UnitSettings("syllables"), ValueError, "unit: expected one of characters, byt"),
        (lambda: UnitSettings("bytes", 9), ValueError, "vocabulary_size: .* the unit 'bytes'"),
        (lambda: UnitSettings(least_count=3), ValueError, "least_count: .* 'characters'"),
        (lambda: UnitSettings("words").vocabulary(b"a"), TypeError, "whose words can be told"),
    ):
        with pytest.raises(kind, match=match):
            call()


@pytest.mark.parametrize(
    "symbols", [None, [], [""], ["a", "a"], ["a", 1], "ab", [["a"]]], ids=str
)
def test_bad_descriptions(symbols: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="symbols: expected words"):
        TextWords.from_json({**TextWords("a").to_json(), "symbols": symbols})
    with pytest.raises(ValueError, match="expected a vocabulary of words of a text, got one of ch"):
        TextWords.from_json(Vocabulary("ab").to_json())


def test_files_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "to be, or not to be\n" * 500 + "don't"
    (tmp_path / "a").write_text(text)
    monkeypatch.setattr("rnncore.data.reading.BLOCK_BYTES", 7)
    vocabulary, tokens = read_tokens(tmp_path, settings=UnitSettings("words"))
    assert vocabulary == TextWords(text, least_count=2) and "don't" not in vocabulary
    assert np.array_equal(tokens, vocabulary.encode(text)) and tokens[-1] == vocabulary.unknown
    monkeypatch.setattr("rnncore.data.reading.MAPPED_BYTES", 1000)
    again, mapped = read_tokens(tmp_path, vocabulary)
    assert again is vocabulary and isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, tokens)
    few, _ = read_tokens(tmp_path, settings=UnitSettings("words", 3, 1))
    assert few == TextWords(text, vocabulary_size=3) and len(few) == 4


def test_the_text_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("to be, or not to be\n" * 200_000)
    tracemalloc.start()
    read_tokens(path, settings=UnitSettings("words"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size


# A model of words

TEXT = "The king said: be good to the old king. The queen said: no, the king is bad.\n" * 30


def make(text: str = TEXT, **settings: Any) -> LanguageNetwork:
    vocabulary = TextWords(text, **settings)
    return LanguageNetwork(vocabulary, hidden_size=8, num_layers=1, seed=0)


def test_units_are_named() -> None:
    model = make()
    assert model.measures[0].unit == "nats per word" and model.show(1.25) == "1.250 nats/word"
    assert model.settings["embedding_size"] == 8  # words are never one-hot
    source = TextSource(model.vocabulary.encode(TEXT), unit="words", batch_size=4)
    assert source.item == "words" and " words; the last" in source.describe()
    with pytest.raises(ValueError, match=r"expected .* = 21 words to train on, got 3"):
        TextSource(np.arange(3), unit="words", batch_size=2, sequence_length=10)
    for text, unit, short in ((b"ab", "byte", "bits/byte"), ("ab", "character", "bits/char")):
        other = LanguageNetwork(Vocabulary(text), hidden_size=4, seed=0)
        assert other.measures[0].unit == f"bits per {unit}" and other.show(0.0).endswith(short)


def test_a_file_holds_it(tmp_path: Path) -> None:
    model = make(vocabulary_size=9)
    model.save(tmp_path / "m")
    again = models.load(tmp_path / "m")
    assert again.vocabulary == model.vocabulary and again.settings == model.settings
    assert again.sample(20, seed=3) == model.sample(20, seed=3)
    for forged in (
        {"alphabet": "words"}, {"alphabet": "x"}, {"symbols": ["a"]}, {"symbols": None},
        {"alphabet": "characters"}, {"alphabet": []},
    ):  # fmt: skip
        description = model.describe()
        description["vocabulary"] = {**description["vocabulary"], **forged}
        files.save(tmp_path / "f", model.state_dict(), {"model": description})
        with pytest.raises(files.FileError, match="holds something else"):
            models.load(tmp_path / "f")


def test_the_unknown_is_never_written() -> None:
    model = make(vocabulary_size=12)
    unknown = model.vocabulary.unknown
    with model.head.writable_params() as params:
        params["bias"][unknown] = 50.0  # it is all that the model expects
    tokens = model.vocabulary.encode("The strange king")
    assert model.probabilities(tokens[:, None])[0][..., unknown].min() > 0.99
    for temperature in (0, 0.7, 5.0):
        text = model.sample(200, temperature, prime="The strange ghost said", seed=0)
        assert text.startswith("The strange ghost said") and "<unknown>" not in text
    letters = LanguageNetwork(Vocabulary("aab", unknown=True, least_count=2), hidden_size=4, seed=0)
    assert letters.sample(50, prime="ab?", seed=0) == "ab?" + 50 * "a"


def test_the_rest_keeps_its_proportions() -> None:
    """Of the words drawn, each is as frequent as its probability without the unknown."""
    model = make("a b c d a b c a b a", vocabulary_size=3)
    unknown = model.vocabulary.unknown
    p = model.probabilities(model.vocabulary.encode("a")[:, None])[0][0, 0].astype(float)
    p[unknown] = 0.0
    drawn = Counter(model.sample(1, prime="a", seed=seed)[1:] for seed in range(4000))
    found = np.array([drawn[word] for word in model.vocabulary.words]) / 4000
    np.testing.assert_allclose(found, (p / p.sum())[:unknown], atol=0.03)


def test_a_space_at_the_end_of_a_prime_belongs_to_the_next_word() -> None:
    model = make()
    for seed in range(20):
        text = model.sample(1, 2.0, prime="The king ", seed=seed)
        new = text.removeprefix("The king ")
        assert text.startswith("The king ") and f" {new}" in model.vocabulary
    spaces = make("a\na\nb\n b\n")  # " b" is the one word with a space
    assert spaces.sample(1, prime="a ", seed=0) == "a b"
    none = make("a\na\nb\n")
    assert none.sample(1, prime="a ", seed=0).removeprefix("a ") in none.vocabulary
    assert model.sample(0, prime="king  ") == "king  "


def test_a_resume_is_exact(tmp_path: Path) -> None:
    def trainer(folder: Path, steps: int) -> Trainer:
        model = LanguageNetwork(TextWords(TEXT, vocabulary_size=12), hidden_size=8, dropout=0.2,
                                seed=0)  # fmt: skip
        tokens = model.vocabulary.encode(TEXT)
        assert (tokens == model.vocabulary.unknown).any()
        source = TextSource(tokens, batch_size=4, sequence_length=10, unit="words")
        settings = TrainingSettings(steps=steps, schedule="constant")
        return Trainer(model, source, settings, folder)

    whole = trainer(tmp_path / "whole", 20)
    whole.run()
    trainer(tmp_path / "parts", 9).run()
    parts = trainer(tmp_path / "parts", 20)
    parts.restore(tmp_path / "parts" / "last.safetensors")
    parts.run()
    one, two = (
        files.load(tmp_path / name / "last.safetensors").tensors for name in ("whole", "parts")
    )
    assert one.keys() == two.keys()
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    assert [row[3] for row in whole.validation_curve][-1] == parts.validation_curve[-1][3]
