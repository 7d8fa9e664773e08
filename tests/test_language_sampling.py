"""How a language model writes: what it draws from, where it ends, many texts at once."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from rnncore.data import TextWords, Vocabulary
from rnncore.models import LanguageNetwork
from rnncore.models.language_drawing import Drawing

TEXT = "a rose is a rose is a rose,\n"
ALL = {"top_p": 0.9, "top_k": 9, "repetition_penalty": 1.3, "repetition_window": 7}


def make(**settings: Any) -> LanguageNetwork:
    model = LanguageNetwork(Vocabulary(TEXT), **{"hidden_size": 6, "seed": 5, **settings})
    with model.changing_weights() as flat:
        flat *= 3.0  # far from uniform
    return model


def of_distribution(p: np.ndarray) -> LanguageNetwork:
    """Return a model that predicts p, whatever came before."""
    model = LanguageNetwork(Vocabulary("".join(map(chr, range(65, 65 + len(p))))), 4, 1, seed=0)
    model.head.load_state_dict({"weight": np.zeros((len(p), 4)), "bias": np.log(p)})
    return model


def shares(model: LanguageNetwork, n: int, **options: Any) -> np.ndarray:
    written = model.vocabulary.encode(model.sample(n, **options))
    return np.bincount(written, minlength=len(model.vocabulary)) / n


def kept(logits: np.ndarray, **options: Any) -> np.ndarray:
    """Return by definition which symbols may be drawn: one number a symbol, ties by number."""
    p = np.exp(logits - logits.max())
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda k: (-p[k], k))
    if options.get("top_k") is not None:
        least = p[order[min(options["top_k"], len(p)) - 1]]
        order = [k for k in order if p[k] >= least]
    if options.get("top_p") is not None:
        whole, total, some = sum(p[k] for k in order), 0.0, []
        for k in order:
            some.append(k)
            total += p[k]
            if total >= options["top_p"] * whole:
                break
        order = some
    return np.sort(order)


@pytest.mark.parametrize("top_k", [None, 1, 3, 50])
@pytest.mark.parametrize("top_p", [None, 0.05, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_only_the_likeliest_are_drawn(
    top_k: int | None, top_p: float | None, temperature: float
) -> None:
    rng = np.random.default_rng(0)
    uniforms = np.linspace(0, 1, 4000, endpoint=False)
    for logits in rng.standard_normal((5, 12)) * 2:
        drawing = Drawing(temperature, top_k, top_p)
        rows = np.repeat(logits[None], len(uniforms), 0)
        drawn = drawing.choose(rows, uniforms)
        expected = kept(logits / temperature, top_k=top_k, top_p=top_p)
        p = np.exp(logits / temperature)[expected]
        found = np.bincount(drawn, minlength=12) / len(uniforms)
        assert not found[np.setdiff1d(np.arange(12), expected)].any()
        np.testing.assert_allclose(found[expected], p / p.sum(), atol=2.5 / len(uniforms))
        for u, many in zip(uniforms[::97], drawn[::97], strict=True):  # one by one the same
            assert drawing.choose(logits.copy(), u) == many


def test_a_generator_gives_as_many_numbers_as_there_are_symbols() -> None:
    model, generator, other = make(), np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(6):
        text = model.sample(50, seed=generator, stop="s")
        assert model.sample(len(text), seed=other) == text
    assert generator.random() == other.random()


def test_a_long_prime_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = make(), []
    stream = model.stream()

    class Reading:
        def process(self, tokens: np.ndarray) -> None:
            sizes.append(len(tokens))
            stream.process(tokens)

    prime = TEXT[:20] * 30
    expected = model.sample(20, prime=prime, seed=1)
    monkeypatch.setattr(model, "stream", lambda: Reading())
    with pytest.raises(TypeError, match="stream"):
        model.sample(20, prime=prime, seed=1)  # what writes wants the engine's own
    assert max(sizes) <= 64 and sum(sizes) == 599
    monkeypatch.undo()
    assert model.sample(20, prime=prime, seed=1) == expected


def test_a_temperature_near_zero_takes_the_likeliest() -> None:
    logits = np.array([0.5, 3.0, -1.0])
    assert Drawing(1e-310).choose(logits, 0.999) == Drawing(0).choose(logits) == 1


def test_among_many_symbols_only_the_likeliest_are_drawn() -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal(5000).astype(np.float32) * 1.5
    rows = np.repeat(logits[None], 3000, 0)
    for options in ({"top_k": 40}, {"top_p": 0.7}, {"top_k": 400, "top_p": 0.5}):
        drawn = np.unique(Drawing(**options).choose(rows, rng.random(3000)))
        assert set(drawn) <= set(kept(logits.astype(float), **options))
        assert len(drawn) > 15


def test_what_is_no_number_is_refused() -> None:
    for strange in (math.nan, math.inf):
        for options in ({}, {"temperature": 0}, {"top_p": 0.5}):
            with pytest.raises(ValueError, match="predicts is not a number"):
                Drawing(**options).choose(np.array([0.0, strange, 1.0]), 0.5)
    with pytest.raises(ValueError, match="recent: expected symbols from 0 to 2, got 3"):
        Drawing(repetition_penalty=2.0).choose(np.zeros(3), 0.5, np.array([3]))


def test_of_equally_likely_ones_top_p_takes_the_first_and_top_k_all() -> None:
    uniforms = np.linspace(0, 1, 100, endpoint=False)
    rows = np.zeros((100, 4))
    assert set(Drawing(top_p=0.5).choose(rows.copy(), uniforms)) == {0, 1}
    assert set(Drawing(top_k=2).choose(rows.copy(), uniforms)) == {0, 1, 2, 3}


def test_what_must_not_come_never_comes() -> None:
    uniforms = np.linspace(0, 1, 999, endpoint=False)
    rows = np.repeat([[0.0, -math.inf, 1.0, 2.0]], 999, 0)
    recent = np.repeat([[1, 3]], 999, 0)
    for options in ({}, {"top_k": 4}, {"top_p": 0.99}, {"repetition_penalty": 5.0}):
        assert 1 not in Drawing(**options).choose(rows.copy(), uniforms, recent)


def test_a_penalty_on_repetition() -> None:
    logits = np.array([2.0, -2.0, 1.5, -1.0])
    drawing = Drawing(0, repetition_penalty=2.0)
    assert drawing.choose(logits, 0.0, np.array([0, 0, 1])) == 2  # 1, -4, 1.5, -1
    assert drawing.choose(logits, 0.0, np.array([], np.intp)) == 0
    assert drawing.window == 64 and Drawing().window == 0
    p = np.array([0.4, 0.35, 0.25])
    model = of_distribution(p * 20)  # of logits the sum does not matter, of the penalty it does
    # Greedy: never the one just written, and among the last two the third is left.
    assert model.sample(6, 0, repetition_penalty=9.0, repetition_window=1) == "ABABAB"
    assert model.sample(6, 0, repetition_penalty=9.0, repetition_window=2) == "ABCABC"
    # A prime was written too, but not what stands before every text.
    assert model.sample(3, 0, "A", repetition_penalty=9.0, repetition_window=2) == "ABCA"
    assert model.sample(2, 0, "CAB", repetition_penalty=9.0, repetition_window=2) == "CABCA"


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.8}], ids=str)
def test_the_shares_of_what_is_written(options: dict[str, Any]) -> None:
    p = np.array([0.05, 0.4, 0.1, 0.3, 0.15])
    n, model = 3000, of_distribution(p)
    expected = np.zeros(5)
    some = kept(np.log(p), **options)
    expected[some] = p[some] / p[some].sum()
    found = shares(model, n, seed=0, **options)
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / n)).all()


def test_the_options_change_nothing_where_they_leave_all() -> None:
    model = make()
    plain = model.sample(60, 0.9, "a", 3)
    for same in ({"top_k": 99}, {"top_p": 1.0}, {"repetition_penalty": 1.0}, {"stop": "aaaaa"}):
        assert model.sample(60, 0.9, "a", 3, **same) == plain


CELLS = list(itertools.product(("lstm", "gru", "rnn"), (None, 5), ("float32", "float64")))


@pytest.mark.parametrize(("cell", "embedding_size", "dtype"), CELLS)
@pytest.mark.parametrize("options", [{}, ALL, {"stop": "e"}], ids=str)
def test_a_sample_among_many_is_the_one_alone(
    cell: str, embedding_size: int | None, dtype: str, options: dict[str, Any]
) -> None:
    for hidden_size, num_layers in ((6, 2), (33, 1)):
        model = make(cell=cell, embedding_size=embedding_size, dtype=dtype,
                     hidden_size=hidden_size, num_layers=num_layers)  # fmt: skip
        many = model.sample(30, 0.9, "a rose", seed=7, samples=5, **options)
        alone = [model.sample(30, 0.9, "a rose", seed=7 + k, **options) for k in range(5)]
        assert many == alone and len(set(many)) > 1
        assert model.sample(30, 0.9, "a rose", seed=7, samples=1, **options) == alone[:1]


@pytest.mark.parametrize("unit", ["bytes", "words"])
def test_many_samples_of_bytes_and_words(unit: str) -> None:
    text = "grün und schön, €\n" * 3 + "blau\n"
    vocabulary: Any = Vocabulary(text.encode()) if unit == "bytes" else TextWords(text)
    model = LanguageNetwork(vocabulary, hidden_size=6, seed=0)
    for prime in ("", "grün ", "grün"):
        for options in ({}, {"stop": "n"}, {"repetition_penalty": 1.5, "top_p": 0.9}):
            many = model.sample(25, prime=prime, seed=3, samples=4, **options)
            alone = [model.sample(25, prime=prime, seed=3 + k, **options) for k in range(4)]
            assert many == alone
            pieces = model.sample_pieces(25, prime=prime, seed=3, **options)
            assert "".join(pieces) == alone[0]


def test_many_samples_without_a_seed_differ() -> None:
    model = make()
    one, two = (model.sample(30, samples=3) for _ in range(2))
    assert len({*one, *two}) == 6
    assert model.sample(0, prime="a", samples=2) == ["a", "a"]
    assert model.sample(2, 0, samples=1) == [model.sample(2, 0)]


def test_many_samples_have_the_weights_of_one_moment() -> None:
    model = make()
    expected = model.sample(20, seed=0)
    streams = model.streams()
    with model.changing_weights() as flat:
        flat[...] = np.nan
    one = streams.join()
    assert np.isfinite(streams.step([0], [one])).all()
    with pytest.raises(ValueError, match="model: expected finite weights"):
        model.sample(3, samples=2)
    assert expected


class TestStop:
    def test_it_is_the_last_thing_written(self) -> None:
        model = make()
        whole = model.sample(400, prime="a", seed=1)
        for stop in ("e", "se", "s", "\n"):
            end = whole.index(stop, 1) + len(stop)
            assert model.sample(400, prime="a", seed=1, stop=stop) == whole[:end]

    def test_the_prime_does_not_count(self) -> None:
        model = of_distribution(np.array([0.5, 0.5]))
        assert model.sample(50, prime="AB", seed=0, stop="AB")[2:].index("AB") >= 0
        # Not even its end with the beginning of what is written.
        written = [model.sample(50, prime="A", seed=k, stop="AB") for k in range(20)]
        assert any(text.startswith("AB") and len(text) > 2 for text in written)

    def test_a_text_within_a_text(self) -> None:
        model = of_distribution(np.array([0.5, 0.5]))
        for seed in range(30):
            text = model.sample(200, seed=seed, stop="AAB")
            assert text.endswith("AAB") and text.count("AAB") == 1

    def test_within_a_word(self) -> None:
        vocabulary = TextWords("one two. " * 5)
        model = LanguageNetwork(vocabulary, hidden_size=4, seed=0)
        text = model.sample(50, seed=0, stop="w")
        assert text.endswith("w") and text.count("w") == 1

    def test_a_character_of_several_bytes(self) -> None:
        model = LanguageNetwork(Vocabulary("ü".encode()), hidden_size=4, seed=0)
        text = model.sample(500, seed=1, stop="ü")
        assert text.endswith("ü") and text.count("ü") == 1

    def test_the_letter_that_is_never_written_is_named(self) -> None:
        for vocabulary in (Vocabulary(b"ab"), Vocabulary("ab"), TextWords("a b")):
            with pytest.raises(ValueError, match="got 'aü' with 'ü'"):
                LanguageNetwork(vocabulary, hidden_size=3, seed=0).sample(3, stop="aü")

    @pytest.mark.parametrize(
        ("stop", "kind", "match"),
        [
            ("", ValueError, "stop: expected a text, got an empty one"),
            ("Z", ValueError, "stop: expected what the model can write, got 'Z' with 'Z'"),
            (3, TypeError, "stop: expected a str, got int"),
        ],
    )
    def test_bad_input(self, stop: Any, kind: type[Exception], match: str) -> None:
        with pytest.raises(kind, match=match):
            make().sample(3, stop=stop)
        with pytest.raises(kind, match=match):
            make().sample_pieces(3, stop=stop)  # at once, not at the first character
        words = LanguageNetwork(TextWords("a rose"), hidden_size=3, seed=0)
        with pytest.raises(kind, match=match):
            words.sample(3, stop=stop, samples=2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"top_k": 0}, "top_k: expected a whole number, 1 or more, got 0"),
        ({"top_k": 1.5}, "top_k: .* got 1.5"),
        ({"top_p": 0.0}, "top_p: expected a share above 0 and at most 1, got 0.0"),
        ({"top_p": 1.1}, "top_p: .* got 1.1"),
        ({"top_p": float("nan")}, "top_p: .* got nan"),
        ({"top_p": True}, "top_p: .* got True"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: expected a finite number above 0"),
        ({"repetition_penalty": "2"}, "repetition_penalty: .* got '2'"),
        ({"repetition_penalty": 2.0, "repetition_window": 0}, "repetition_window: .* got 0"),
        ({"repetition_window": 9}, "repetition_window: expected none without a repetition_penalty"),
        ({"temperature": 0, "top_k": 3}, "top_k: expected none with temperature 0"),
        ({"temperature": 0, "top_p": 0.3}, "top_p: expected none with temperature 0"),
        ({"temperature": 0, "samples": 2}, "samples: expected 1 with temperature 0"),
        ({"samples": 0}, "samples: expected a whole number, 1 or more, got 0"),
        ({"samples": 2, "seed": -1}, "seed: expected a whole number, 0 or more, got -1"),
        ({"samples": 2, "seed": 1.5}, "seed: .* got 1.5"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make().sample(3, **options)
