"""What a language model makes of a text: totals in constant memory, and each symbol by itself."""

from __future__ import annotations

import math
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnncore.data import TextSource, TextWords, Vocabulary
from rnncore.data.reading import TextFiles
from rnncore.data.text_words import pieces_of
from rnncore.estimators import LanguageModel, text_scores
from rnncore.models import LanguageNetwork

TEXT = "The grün king said:\nbe good to the old king. The queen said: no, it's bad.\n" * 9
OTHER = "The queen said: be good, Ω king!\nno → no\n" * 4
UNITS = ("characters", "bytes", "words")


def make(unit: str, **settings: Any) -> LanguageModel:
    vocabulary: Any = {
        "characters": Vocabulary, "bytes": lambda text: Vocabulary(text.encode()),
        "words": lambda text: TextWords(text, least_count=2),
    }[unit](TEXT)  # fmt: skip
    settings = {"hidden_size": 7, "dtype": "float64", "seed": 1, **settings}
    network = LanguageNetwork(vocabulary, **settings)
    with network.changing_weights() as flat:
        flat *= 2.0  # far from uniform
    return LanguageModel.of_network(network)


def by_definition(model: LanguageModel, text: str) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Return symbols, whether they are known, and ``-log p`` of each, from `predict_proba`."""
    unit, vocabulary = model.vocabulary_.unit, model.vocabulary_
    if unit == "words":
        symbols: list[Any] = [piece for pieces in pieces_of([text]) for piece in pieces]
        known = np.array([symbol in vocabulary for symbol in symbols])
        read = symbols
    else:
        raw = text.encode() if unit == "bytes" else text
        symbols = [raw[k : k + 1] for k in range(len(raw))]
        there = {*TEXT.encode()} if unit == "bytes" else {*TEXT}
        known = np.array([(s[0] if unit == "bytes" else s) in there for s in symbols])
        read = [symbol for symbol, some in zip(symbols, known, strict=True) if some]
    whole = (b"\n" if unit == "bytes" else "\n") + type(symbols[0])().join(read)
    p = model.predict_proba(whole)
    tokens = vocabulary.encode(whole).astype(int)
    costs = -np.log(p[np.arange(len(read)), tokens[1:]])
    nats = np.full(len(symbols), math.log(256 if unit == "bytes" else 0x110000))
    nats[known if unit != "words" else slice(None)] = costs
    return symbols, known, nats


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", [TEXT, OTHER], ids=["known", "unknown"])
@pytest.mark.parametrize("steps", [1000, 9])
def test_by_definition(unit: str, text: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_scores, "STEPS", steps)
    model = make(unit)
    symbols, known, nats = by_definition(model, text)
    found = model.evaluate(text)
    assert (found.unit, found.characters, found.symbols) == (unit, len(text), len(symbols))
    assert found.unknown == np.count_nonzero(~known)
    assert (found.unknown > 0) == (text is OTHER)
    assert found.nats == pytest.approx(nats.sum(), rel=1e-12)
    assert found.unknown_nats == pytest.approx(nats[~known].sum(), rel=1e-12)
    assert found.bits_per_character == pytest.approx(nats.sum() / math.log(2) / len(text))
    assert found.nats_per_character == pytest.approx(nats.sum() / len(text))
    assert found.bits_per_symbol == pytest.approx(nats.mean() / math.log(2))
    assert found.perplexity == pytest.approx(math.exp(nats.mean()))
    score = model.score_text(text)
    assert score.symbols == symbols
    np.testing.assert_allclose(score.log_probabilities, -nats, rtol=1e-10)
    assert score.log_probability == pytest.approx(-nats.sum())
    assert score.bits == pytest.approx(nats.sum() / math.log(2))


@pytest.mark.parametrize("unit", UNITS)
def test_probabilities_sum_to_one_over_all_texts_of_a_length(unit: str) -> None:
    if unit == "words":
        model = LanguageModel.of_network(LanguageNetwork(TextWords(" a b"), 4, 1, seed=0))
        texts = [a + b for a in (" a", " b", " c") for b in (" a", " b", " c")]
    else:
        raw: Any = "ab\n" if unit == "characters" else b"ab\n"
        model = LanguageModel.of_network(LanguageNetwork(Vocabulary(raw), 4, 1, seed=0))
        texts = [a + b for a in "ab\n" for b in "ab\n"]
    total = sum(math.exp(model.score_text(text).log_probability) for text in texts)
    assert total == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("unit", UNITS)
def test_files_are_a_text(unit: str, tmp_path: Path) -> None:
    model = make(unit)
    (tmp_path / "a").write_text(TEXT)
    (tmp_path / "b").write_text(OTHER)
    assert model.evaluate(tmp_path / "a") == model.evaluate(TEXT)
    both = model.evaluate([tmp_path / "a", tmp_path / "b"])
    assert both.nats == pytest.approx(model.evaluate(TEXT + OTHER).nats, rel=1e-12)
    # One after the other with a state carried is not one by itself and the other by itself.
    apart = model.evaluate(TEXT) + model.evaluate(OTHER)
    assert both.nats != pytest.approx(apart.nats, rel=1e-6)
    for name in ("characters", "symbols", "unknown"):
        assert getattr(both, name) == getattr(apart, name)
    score = model.score_text(tmp_path / "a")
    assert np.array_equal(score.log_probabilities, model.score_text(TEXT).log_probabilities)
    if unit == "bytes":
        assert model.evaluate(TEXT.encode()) == model.evaluate(TEXT)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("share", [0.1, 0.37, 0.9])
def test_the_last_part_is_what_training_holds_out(
    unit: str, share: float, tmp_path: Path
) -> None:
    model = make(unit)
    tokens = model.vocabulary_.encode(TEXT)
    source = TextSource(tokens, batch_size=1, sequence_length=5, validation_fraction=share)
    assert source.held_out is not None
    found = model.evaluate(TEXT, last=share)
    assert found.symbols == source.held_out.used + 1
    scores = model.score_text(TEXT[len(TEXT) - found.characters :])
    assert found.nats == pytest.approx(-scores.log_probability, rel=1e-9)
    (tmp_path / "a").write_text(TEXT)
    assert model.evaluate(tmp_path / "a", last=share) == found


def test_characters_of_bytes_are_counted_across_blocks(tmp_path: Path) -> None:
    model = LanguageModel.of_network(LanguageNetwork(Vocabulary("€x\n".encode()), 3, 1, seed=0))
    raw = ("€" * 100).encode()
    blocks = [raw[first : first + 4] for first in range(0, len(raw), 4)]
    found = text_scores.evaluate(model.network_, blocks)
    assert (found.characters, found.symbols) == (100, 300)
    assert text_scores.evaluate(model.network_, [b"x\xe2\x82"]).characters == 2  # x and U+FFFD


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    model = make("characters", hidden_size=4, num_layers=1, dtype="float32")
    peaks = []
    for copies in (8_000, 65_000, 130_000):  # 136 kB, and more than one and two blocks of 1 MB
        path = tmp_path / str(copies)
        path.write_text("the king said no\n" * copies)
        tracemalloc.start()
        assert model.evaluate(path, last=0.5).symbols == copies * 17 // 2
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 6e6 and peaks[2] < 1.1 * peaks[1]


def test_what_is_said() -> None:
    said = {unit: make(unit).evaluate(OTHER).describe() for unit in UNITS}
    assert "12 unknown characters counted as 20.1 bits each, without " in said["characters"]
    assert "bits per byte; 164 characters, 176 bytes; 24 unknown bytes counted" in said["bytes"]
    assert "perplexity" in said["words"] and "how they are spelled not counted" in said["words"]
    assert "unknown" not in make("characters").evaluate(TEXT).describe()
    assert "1 unknown character counted" in make("characters").evaluate("Ω").describe()
    assert make("characters").evaluate("Ω").describe().endswith("20.1 bits each")


@pytest.mark.parametrize("unit", ["characters", "bytes"])
def test_without_the_unknown_counts_those_that_are_known(unit: str) -> None:
    model = make(unit)
    scores = model.score_text(OTHER).log_probabilities
    known = scores > -math.log(256 if unit == "bytes" else 0x110000)
    bits = -scores[known].mean() / math.log(2)
    assert f"without {bits:.4f} bits per {unit[:-1]}" in model.evaluate(OTHER).describe()


@pytest.mark.parametrize("unit", ["characters", "bytes"])
def test_lines_of_files_are_not_joined(unit: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n\ntwo")  # without a last line end
    (tmp_path / "b").write_text("three\n")
    files = TextFiles([tmp_path / "a", tmp_path / "b"], "bytes" if unit == "bytes" else "utf-8")
    lines = ["one", "", "two", "three"]
    assert list(files.lines()) == ([x.encode() for x in lines] if unit == "bytes" else lines)


def test_encodings_that_a_unit_has_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(TEXT)
    with pytest.raises(ValueError, match="encoding: expected the name of one, got 'bytes'"):
        make("characters").evaluate(tmp_path / "a", encoding="bytes")
    with pytest.raises(ValueError, match="encoding: expected none for the unit 'bytes'"):
        make("bytes").evaluate(tmp_path / "a", encoding="latin-1")


def test_a_last_part_that_is_nothing() -> None:
    with pytest.raises(ValueError, match="last: expected a share that is one symbol at least of"):
        make("characters").evaluate(TEXT, last=1e-9)


def test_candidates_are_ranked() -> None:
    model = LanguageModel(hidden_size=16, num_layers=1, batch_size=4, learning_rate=0.02, epochs=9)
    model.fit(TEXT)
    found = [model.score_text(s).bits for s in ("The queen said: no", "no said: The queen")]
    assert found[0] < found[1]


def test_a_vocabulary_with_an_unknown_character_predicts_it() -> None:
    vocabulary = Vocabulary("aab\n" * 9, unknown=True)
    model = LanguageModel.of_network(LanguageNetwork(vocabulary, 4, 1, seed=0))
    found = model.evaluate("aΩb")
    assert found.unknown == 1 and found.unknown_nats < 3
    assert found.nats == pytest.approx(-model.score_text("aΩb").log_probability)


def test_weights_that_are_not_finite() -> None:
    model = make("characters")
    with model.network_.changing_weights() as flat:
        flat[-1] = np.nan
    for call in (model.evaluate, model.score_text):
        with pytest.raises(ValueError, match="model: expected finite weights"):
            call(TEXT)


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "language.md").read_text()
    exec("\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)), {})
    said = capsys.readouterr().out.splitlines()
    assert said[1].endswith("per character; 168 characters") and said[3] == "to be"


def test_nothing_and_bad_input() -> None:
    model = make("characters")
    assert model.score_text("").log_probability == 0.0
    with pytest.raises(ValueError, match="X: expected a text to measure, got an empty one"):
        model.evaluate("")
    for last in (1.0, -0.1, "all"):
        with pytest.raises(ValueError, match="last: expected a number from 0 to below 1"):
            model.evaluate(TEXT, last=last)
    for unit in ("characters", "words"):
        for call in (make(unit).evaluate, make(unit).score_text):
            with pytest.raises(TypeError, match=r"text: expected .*str, .*got bytes"):
                call(b"The king")
            with pytest.raises(TypeError, match=r"X: expected a text, .* got list with str"):
                call(["The king"])
            with pytest.raises(FileNotFoundError, match="'gone' does not exist"):
                call(Path("gone"))
