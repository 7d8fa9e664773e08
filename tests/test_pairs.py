"""Pairs of texts: files, splits, pieces, subwords, batches."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.data.pairs import (
    PairExamples,
    PairPieces,
    PairSource,
    read_pairs,
    read_texts,
    split_pairs,
)
from rnncore.data.pieces import KINDS, Pieces, words_of
from rnncore.data.subwords import Merge, Subwords, learn_merges

PAIRS = [("Go.", "Va !"), ("Go.", "Bouge !"), ("I see.", "Je comprends."), ("Help!", "À l'aide !")]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "pairs.tsv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# Files

@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_read(tmp_path: Path, end: str) -> None:
    text = "".join(f"{a}\t{b}{end}" for a, b in PAIRS)
    for content in (text.encode(), text.removesuffix(end).encode(), text.encode("utf-8-sig"),
                    text.encode("utf-16")):  # fmt: skip
        path = written(tmp_path, content)
        assert read_pairs(path) == PAIRS
        assert read_texts(path) == [a for a, _ in PAIRS]
    assert read_pairs(written(tmp_path, "a\u2028b\tc\x0cd\n")) == [("a\u2028b", "c\x0cd")]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a\tb\nc\n", r"pairs.tsv', line 2: expected two texts with one tab .* got no tab;"),
        ("a\tb\n\nc\td\n", "line 2: .* got no tab;"),
        ("a\tb\tc\n", "line 1: .* got 2 tabs; correct the line or take it out"),
        ("a\tb\n \tc\n", "line 2: expected text before the tab, got none"),
        ("a\t\n", "line 1: expected text behind the tab, got none"),
        ("", "expected a pair of texts at least"),
        (b"caf\xe9\tx\n", "expected .*pairs.tsv' to be utf-8 text"),
    ],
)
def test_a_malformed_file(tmp_path: Path, text: str | bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_pairs(written(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'.*none' does not exist"):
        read_pairs(tmp_path / "none")
    with pytest.raises(ValueError, match="is a folder"):
        read_texts(tmp_path)
    assert read_pairs(written(tmp_path, b"caf\xe9\tx\n"), "latin-1") == [("café", "x")]


def test_a_split_is_by_the_first_text() -> None:
    pairs = [(str(k % 50), str(k)) for k in range(200)]
    kept, held_out = split_pairs(pairs, 20)
    assert sorted(kept + held_out) == sorted(pairs)
    sides = [{source for source, _ in side} for side in (kept, held_out)]
    assert len(sides[1]) == 20 and not sides[0] & sides[1] and len(held_out) == 80
    assert split_pairs(pairs[::-1], 20)[1] == held_out[::-1]  # whatever the order of the file
    assert split_pairs(pairs, 20, order=1)[1] != held_out
    more = split_pairs([*pairs, ("new", "x")], 20)[1]
    assert len({a for a, _ in more} & sides[1]) >= 19
    assert split_pairs(pairs, 0) == (pairs, [])
    with pytest.raises(ValueError, match="expected fewer than the 50 distinct first texts, got 50"):
        split_pairs(pairs, 50)


# Pieces

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf"]), max_size=30)


@given(st.lists(TEXT, min_size=1, max_size=5), st.sampled_from(KINDS))
def test_pieces_put_together_are_the_text(texts: list[str], kind: str) -> None:
    pieces = Pieces([*texts, "a"], kind, merges=20)
    for text, numbers in zip(texts, pieces.encode_all(texts), strict=True):
        assert pieces.decode(numbers) == " ".join(text.split())
        assert numbers.max(initial=-1) < len(pieces) - 1  # all of them known
    again = Pieces.from_json(json.loads(json.dumps(pieces.to_json())))
    assert [again.cut(text) for text in texts] == [pieces.cut(text) for text in texts]
    assert again.vocabulary == pieces.vocabulary and again.kind == kind


def test_words_and_signs() -> None:
    assert words_of("I'm 3.5  m tall!") == [" I'", "m", " 3", ".", "5", " m", " tall", "!"]
    assert words_of("Où est-ce qu’il va\u202f?") == [" Où", " est", "-", "ce", " qu’", "il", " va",
                                                    " ?"]  # fmt: skip
    pieces = Pieces(["a b", "a c"], "words", least_count=2)
    assert len(pieces) == 2 and pieces.encode_all(["b a"])[0].tolist() == [1, 0]
    assert pieces.decode([0, 1, 0]) == "a <unknown> a"
    with pytest.raises(ValueError, match="kind: expected one of"):
        Pieces(["a"], "syllables")
    with pytest.raises(ValueError, match="one word at least"):
        Pieces(["  "], "words")


def naive_merges(words: dict[str, int], count: int) -> list[Merge]:
    """Count all pairs anew each time."""
    spelled = {word: list(word) for word in words}
    merges: list[Merge] = []
    while len(merges) < count:
        counts: Counter[Merge] = Counter()
        for word, parts in spelled.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        for parts in spelled.values():
            k = 0
            while k < len(parts) - 1:
                if (parts[k], parts[k + 1]) == best:
                    parts[k : k + 2] = [parts[k] + parts[k + 1]]
                k += 1
    return merges


@given(st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 9), max_size=12))
def test_merges_are_those_of_counting_anew(words: dict[str, int]) -> None:
    merges = learn_merges(words, 30)
    assert merges == naive_merges(words, 30)
    subwords = Subwords(merges)
    for word in [*words, "abcabca"]:
        assert "".join(subwords.cut(word)) == word


def test_subwords_cut_as_they_were_learned() -> None:
    subwords = Subwords(learn_merges({"banana": 3, "ananas": 2}, 50))
    assert subwords.cut("banana") == ("banana",) and subwords.cut("") == ()
    assert Subwords([]).cut("ab") == ("a", "b")
    assert Subwords([("b", "c"), ("a", "b")]).cut("abc") == ("a", "bc")  # the first learned wins


# Batches

def pieces() -> PairPieces:
    return PairPieces(Pieces([a for a, _ in PAIRS], "characters"), Pieces([b for _, b in PAIRS]))


def test_a_batch() -> None:
    known = pieces()
    batch = PairExamples(PAIRS, known).batch(np.array([3, 0]))
    assert batch.source.shape == (5, 2) and batch.source_lengths.tolist() == [5, 3]
    assert batch.target_lengths.tolist() == [5, 3]  # À l' aide ! and the end
    assert batch.target[-1].tolist() == [known.end] * 2 and batch.target[2, 1] == known.end
    assert known.target.decode(batch.target[:4, 0]) == "À l'aide !"
    assert known.target.decode(batch.target[:2, 1]) == "Va !"


def test_the_source_tells_values_apart() -> None:
    known = pieces()
    source = PairSource(PAIRS, known, batch_size=2, held_out=PAIRS[:1])
    assert source.fingerprint == PairSource(PAIRS, known, held_out=PAIRS[:1]).fingerprint
    assert source.fingerprint != PairSource(PAIRS, known).fingerprint
    assert source.fingerprint != PairSource(PAIRS[::-1], known, held_out=PAIRS[:1]).fingerprint
    assert source.describe() == "4 pairs of 15 pieces; 3 pieces held out"
    again = PairPieces.from_json(json.loads(json.dumps(known.to_json())))
    assert PairSource(PAIRS, again).fingerprint == PairSource(PAIRS, known).fingerprint


@pytest.mark.parametrize(
    ("pairs", "kind", "match"),
    [
        ([], ValueError, "one at least"),
        ([("a", " ")], ValueError, r"text on both sides, got \('a', ' '\) as pair 1"),
        ([("a", "b"), ("a", 3)], TypeError, "two texts, got .* as pair 2"),
    ],
)
def test_bad_pairs(pairs: list[tuple[str, str]], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        PairExamples(pairs, pieces())


def test_real_pairs(data_folder: Path) -> None:
    path = data_folder / "pairs" / "en-fr.tsv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    pairs = read_pairs(path)
    kept, held_out = split_pairs(pairs, 600)
    assert len(pairs) == 18065 and len({a for a, _ in held_out}) == 600
    french = [b for _, b in kept[:3000]]
    known = Pieces(french, "subwords", merges=300)
    assert all(known.joined(known.cut(text)) == " ".join(text.split()) for text in french)
