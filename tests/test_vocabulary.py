"""Vocabularies of words and characters with unknowns, and the characters of a batch's words."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.data import Vocabulary, WordTable, WordVocabulary, characters_of
from rnncore.data import vocabulary as vocabulary_module

WORD = st.text(max_size=5)
SENTENCES = st.lists(st.lists(WORD, max_size=8), min_size=1, max_size=8).filter(any)


class TestWords:
    @given(SENTENCES, st.integers(1, 3), st.booleans())
    def test_numbers_and_words(
        self, sentences: list[list[str]], least_count: int, lowercase: bool
    ) -> None:
        vocabulary = WordVocabulary(sentences, least_count=least_count, lowercase=lowercase)
        seen = [word.lower() if lowercase else word for words in sentences for word in words]
        counts = Counter(seen)
        assert set(vocabulary.words) == {word for word in seen if counts[word] >= least_count}
        ranks = [-counts[word] for word in vocabulary.words]
        assert ranks == sorted(ranks)
        assert len(vocabulary) == len(vocabulary.words) + 1
        ragged = vocabulary.encode_all(sentences)
        assert ragged.values.dtype == np.int32
        for words, numbers in zip(sentences, ragged, strict=True):
            np.testing.assert_array_equal(vocabulary.encode(words), numbers)
            for word, number, found in zip(words, numbers, vocabulary.decode(numbers), strict=True):
                known = word.lower() if lowercase else word
                if counts[known] >= least_count:
                    assert found == known and word in vocabulary
                else:
                    assert number == vocabulary.unknown == len(vocabulary) - 1
                    assert found == "<unknown>" and word not in vocabulary

    @given(SENTENCES, st.booleans(), st.booleans())
    def test_json(self, sentences: list[list[str]], lowercase: bool, unknown: bool) -> None:
        vocabulary = WordVocabulary(sentences, lowercase=lowercase, unknown=unknown)
        again = WordVocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
        assert again == vocabulary and len(again) == len(vocabulary)
        for words in sentences:
            np.testing.assert_array_equal(again.encode(words), vocabulary.encode(words))
        other = WordVocabulary(sentences, lowercase=lowercase, unknown=not unknown)
        assert other != vocabulary

    def test_the_order_of_sentences_does_not_matter(self) -> None:
        sentences = [["b", "a"], ["c", "a"], ["d"]]
        assert WordVocabulary(sentences).words == ("a", "b", "c", "d")
        assert WordVocabulary(sentences[::-1]) == WordVocabulary(sentences)

    def test_counts_are_of_lower_case(self) -> None:
        vocabulary = WordVocabulary([["The", "the", "X"]], least_count=2, lowercase=True)
        assert vocabulary.words == ("the",)
        assert "THE" in vocabulary and 3 not in vocabulary

    def test_without_an_unknown_others_are_refused(self) -> None:
        tags = WordVocabulary([["NOUN", "VERB", "NOUN"]], unknown=False)
        assert tags.unknown is None and len(tags) == 2
        message = r"words: .*\('NOUN', 'VERB'\), got 'ADJ', 'X', which the model has never seen"
        with pytest.raises(ValueError, match=message):
            tags.encode(["X", "NOUN", "ADJ", "X"])
        with pytest.raises(ValueError, match="tokens: index out of range"):
            tags.decode([2])
        with pytest.raises(ValueError, match="and 2 more, which"):
            tags.encode([f"T{number}" for number in range(10)])

    def test_empty_sentences(self) -> None:
        vocabulary = WordVocabulary([[], ["a"]])
        assert vocabulary.encode([]).dtype == np.int32 and vocabulary.decode([]) == []
        assert vocabulary.encode_all([[], ["a"], []]).lengths.tolist() == [0, 1, 0]

    @pytest.mark.parametrize(
        ("sentences", "options", "kind", "message"),
        [
            ([], {}, ValueError, "sentences: expected one word at least"),
            ([[]], {}, ValueError, "sentences: expected one word at least"),
            (["a text"], {}, TypeError, "sentences: expected words as a list of str, got str"),
            ([["a", 1]], {}, TypeError, "sentences: .* got a int among them"),
            ([3], {}, TypeError, "sentences: .* got int"),
            ([["a"]], {"least_count": 0}, ValueError, "least_count: .* got 0"),
            ([["a"]], {"least_count": 2, "unknown": False}, ValueError, "least_count: .* got 2"),
            ([["a"]], {"lowercase": 1}, TypeError, "lowercase: .* got 1"),
            ([["a"]], {"unknown": None}, TypeError, "unknown: .* got None"),
        ],
    )
    def test_bad_arguments(
        self, sentences: Any, options: dict[str, Any], kind: type[Exception], message: str
    ) -> None:
        with pytest.raises(kind, match=message):
            WordVocabulary(sentences, **options)

    def test_a_string_is_no_list_of_words(self) -> None:
        vocabulary = WordVocabulary([["a", "b"]])
        for call in (vocabulary.encode, lambda words: characters_of(words, Vocabulary("ab"))):
            with pytest.raises(TypeError, match="words: expected words as a list of str, got str"):
                call("ab")

    def test_bad_description(self) -> None:
        good = WordVocabulary([["a", "b"]]).to_json()
        with pytest.raises(ValueError, match="expected a vocabulary of words, got one of charac"):
            WordVocabulary.from_json(Vocabulary("ab").to_json())
        with pytest.raises(ValueError, match="symbols: expected words that differ"):
            WordVocabulary.from_json({**good, "symbols": ["a", "a"]})
        with pytest.raises(TypeError, match="symbols: expected words"):
            WordVocabulary.from_json({**good, "symbols": "ab"})
        with pytest.raises(KeyError):
            WordVocabulary.from_json({"alphabet": "words", "symbols": ["a"]})


class TestUnknownCharacters:
    @given(st.text(min_size=1), st.text(), st.integers(1, 3))
    def test_what_is_known_keeps_its_number(self, text: str, other: str, least_count: int) -> None:
        counts = Counter(text)
        kept = sorted(letter for letter in counts if counts[letter] >= least_count)
        if not kept:
            with pytest.raises(ValueError, match=r"least_count: .* none is as frequent"):
                Vocabulary(text, unknown=True, least_count=least_count)
            return
        vocabulary = Vocabulary(text, unknown=True, least_count=least_count)
        assert len(vocabulary) == len(kept) + 1
        numbers = vocabulary.encode(text + other)
        expected = [kept.index(c) if c in kept else len(kept) for c in text + other]
        assert numbers.tolist() == expected
        shown = "".join(c if c in kept else "\ufffd" for c in text + other)
        assert vocabulary.decode(numbers) == shown
        again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
        assert again == vocabulary and again != Vocabulary("".join(kept))
        np.testing.assert_array_equal(again.encode(text + other), numbers)

    def test_counts_over_several_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vocabulary_module, "BLOCK", 2)
        vocabulary = Vocabulary("abcabdab", unknown=True, least_count=3)
        assert vocabulary.encode("abcd").tolist() == [0, 1, 2, 2]

    def test_bytes(self) -> None:
        vocabulary = Vocabulary(b"abca", unknown=True, least_count=2)
        assert vocabulary.encode("aü").tolist() == [0, 1, 1]
        assert vocabulary.decode([0, 1]) == "a?"
        again = Vocabulary.from_json(vocabulary.to_json())
        assert again == vocabulary and again.is_bytes

    def test_a_full_alphabet_and_an_unknown_need_one_number_more(self) -> None:
        full = bytes(range(256))
        assert Vocabulary(full).dtype == np.uint8
        assert Vocabulary(full, unknown=True).dtype == np.uint16

    def test_files_of_old_have_no_unknown(self) -> None:
        assert Vocabulary("ab").to_json() == {"alphabet": "characters", "symbols": "ab"}

    def test_a_count_needs_an_unknown(self) -> None:
        with pytest.raises(ValueError, match=r"least_count: .* got 2; give unknown=True"):
            Vocabulary("aab", least_count=2)
        with pytest.raises(TypeError, match="unknown: expected True or False"):
            Vocabulary("aab", unknown=2)  # type: ignore[arg-type]


class TestCharactersOfWords:
    @given(st.lists(WORD, max_size=9), st.booleans())
    def test_every_word_is_spelled(self, words: list[str], of_bytes: bool) -> None:
        text = "".join(words) + "x"
        vocabulary = Vocabulary(text.encode() if of_bytes else text)
        ragged = characters_of(words, vocabulary)
        assert [vocabulary.decode(numbers) for numbers in ragged] == words
        assert ragged.values.dtype == vocabulary.dtype

    @given(SENTENCES, st.data())
    def test_a_batch_spells_each_word_once(
        self, sentences: list[list[str]], data: st.DataObject
    ) -> None:
        characters = Vocabulary("".join(map("".join, sentences)) + "x")
        table = WordTable(sentences, characters)
        assert sorted(table.words) == sorted({word for words in sentences for word in words})
        chosen = data.draw(st.lists(st.integers(0, len(sentences) - 1), max_size=5))
        batch = table.batch(chosen)
        spelled = [characters.decode(numbers) for numbers in batch.characters]
        assert spelled == [table.words[number] for number in batch.words]
        assert len(set(spelled)) == len(spelled)
        assert len(batch.places) == len(chosen)
        for index, places in zip(chosen, batch.places, strict=True):
            assert [spelled[place] for place in places] == sentences[index]
        used = {word for index in chosen for word in sentences[index]}
        assert set(spelled) == used  # and none that the batch does not have

    def test_unknown_characters(self) -> None:
        with pytest.raises(ValueError, match="got 'c', which the model has never seen"):
            WordTable([["abc"]], Vocabulary("ab"))
        table = WordTable([["abc"]], Vocabulary("ab", unknown=True))
        assert table.characters.values.tolist() == [0, 1, 2]
