"""The translator: estimator, network, search, files, command line."""

from __future__ import annotations

import itertools
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import rnncore
from rnncore.cli import main
from rnncore.data.pairs import PairSource
from rnncore.estimators import NotFittedError, Translator
from rnncore.estimators.translator import bleu
from rnncore.models import LanguageNetwork
from rnncore.models.translation import Translation
from rnncore.models.translator_network import TranslatorNetwork, TranslatorSettings

DIGITS = ["zero", "one", "two", "three", "four"]


def made_up(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return numbers, and their digits spelled from behind."""
    rng = np.random.default_rng(seed)
    numbers = ["".join(map(str, rng.integers(0, 5, rng.integers(1, 5)))) for _ in range(count)]
    return numbers, [" ".join(DIGITS[int(d)] for d in reversed(number)) for number in numbers]


SMALL: dict[str, Any] = {
    "hidden_size": 24, "embedding_size": 12, "source": "characters", "target": "words",
    "epochs": 25, "learning_rate": 0.02, "batch_size": 16, "dropout": 0.0, "average": 0.9,
}  # fmt: skip
PAIRS = list(zip(*made_up(6), strict=True))


def fitted(**changed: Any) -> Translator:
    return Translator(**{**SMALL, **changed}).fit(*made_up(250))


@pytest.fixture(scope="module")
def translator() -> Translator:
    return fitted()


def network(**changed: Any) -> TranslatorNetwork:
    settings = TranslatorSettings(
        **{"hidden_size": 6, "embedding_size": 4, "source": "characters", "target": "words",
           "dropout": 0.0, **changed}
    )  # fmt: skip
    return TranslatorNetwork(settings.pieces_of(PAIRS), settings, seed=0)


# What it learns

def test_it_learns(translator: Translator) -> None:
    X, y = made_up(60, seed=1)
    assert translator.score(X, y) > 0.95
    assert translator.predict(["012", "", "4"]) == ["two one zero", "", "four"]
    assert translator.predict([]) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"attention": "none"}, {"cell": "gru", "directions": "forward"},
        {"num_layers": 2, "epochs": 30}, {"source": "subwords", "target": "subwords", "merges": 9},
        {"target": "characters", "epochs": 30},
    ],
    ids=str,
)  # fmt: skip
def test_other_kinds_learn(changed: dict[str, Any]) -> None:
    assert fitted(**changed).score(*made_up(60, seed=1)) > 0.7


@pytest.mark.parametrize("directions", ["both", "forward"])
@pytest.mark.parametrize("attention", ["luong", "none"])
@pytest.mark.parametrize(("cell", "num_layers"), [("lstm", 2), ("gru", 1), ("rnn", 1)])
def test_gradients(directions: str, attention: str, cell: str, num_layers: int) -> None:
    model = network(directions=directions, attention=attention, cell=cell, num_layers=num_layers,
                    dtype="float64")  # fmt: skip
    with model.changing_weights() as flat:  # gradients of small weights are lost in round-off
        flat *= 3
    for size in (1, 3):
        batch = PairSource(PAIRS[:size], model.pieces).batch(0)
        errors = rnncore.check_gradients(
            model, lambda batch=batch: model.loss(*batch), most=12
        )
        assert errors.keys() == model.params.keys()


def test_the_loss_is_that_of_each_pair_by_itself() -> None:
    model = network(dtype="float64")
    batch = PairSource(PAIRS, model.pieces).batch(0)
    [(total, count), (right, of)], _ = model.measure(*batch, None)
    with rnncore.Tape():
        assert float(model.loss(*batch)) == pytest.approx(total / count, rel=1e-12)
    each = [model.measure(*PairSource([pair], model.pieces).batch(0), None)[0] for pair in PAIRS]
    assert sum(one[0][0] for one in each) == pytest.approx(total, rel=1e-9)
    assert sum(one[1][0] for one in each) == right and of == count == sum(
        len(target.split()) + 1 for _, target in PAIRS
    )


# Search

def log_probability(model: TranslatorNetwork, source: str, target: list[int]) -> float:
    """Return log p of the pieces and the end, by teacher forcing."""
    numbers, lengths = model.pieces.source.encode_all([source]).padded()
    wanted = np.array([*target, model.pieces.end])
    batch = (numbers, lengths, wanted[:, None], np.array([len(wanted)]))
    return -model.measure(*batch, None)[0][0][0]


def test_a_beam_that_holds_all_finds_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnncore.models.translation.MOST", (0.0, 3))
    # zero to three, unknown and the end: 4^0 + 4^1 + 4^2 translations of up to two pieces
    pairs = [(text, text) for text in ("0 1", "2 3")]
    for seed, penalty in itertools.product(range(4), (0.0, 0.7, 1.0)):
        settings = TranslatorSettings(
            hidden_size=6, source="words", target="words", dtype="float64", dropout=0.0
        )
        model = TranslatorNetwork(settings.pieces_of(pairs), settings, seed=seed)
        with model.writable_params() as params:
            params["head.weight"][...] *= 8  # far from uniform
        known = [k for k in range(model.pieces.end) if k != model.pieces.target.vocabulary.unknown]
        for source in ("0 1", "3"):
            texts = [t for n in range(3) for t in itertools.product(known, repeat=n)]
            best = max(
                texts,
                key=lambda t: log_probability(model, source, list(t)) / (len(t) + 1) ** penalty,
            )
            source_numbers = model.pieces.source.encode_all([source]).padded()
            [found] = model.translate(*source_numbers, 200, penalty)
            assert tuple(found.tolist()) == best


def test_a_translation_does_not_depend_on_its_neighbours(translator: Translator) -> None:
    X, _ = made_up(40, seed=2)
    for size in (1, 3):
        together = translator.predict(X, beam_size=size)
        assert together == [translator.predict([x], beam_size=size)[0] for x in X]
        assert translator.predict(X[::-1], beam_size=size) == together[::-1]


def test_a_beam_finds_what_is_likelier_than_the_greedy_search() -> None:
    rng, better = np.random.default_rng(0), 0
    model = network(dtype="float64")
    with model.writable_params() as params:
        params["head.weight"][...] *= 6
        params["head.bias"][model.pieces.end] = 1.0
    for _ in range(20):
        source = "".join(map(str, rng.integers(0, 5, 4)))
        numbers = model.pieces.source.encode_all([source]).padded()
        [greedy], [beam] = model.translate(*numbers), model.translate(*numbers, 6, 0.0)
        one, two = (log_probability(model, source, found.tolist()) for found in (greedy, beam))
        better += two > one + 1e-9
    assert better > 5


def test_a_translation_ends() -> None:
    model = network()
    with model.writable_params() as params:
        params["head.bias"][model.pieces.end] = -100.0
    numbers, lengths = model.pieces.source.encode_all(["0123", "4"]).padded()
    for size in (1, 3):
        assert [len(f) for f in model.translate(numbers, lengths, size)] == [
            18 - (size > 1), 12 - (size > 1)
        ]  # fmt: skip
    unknown = model.pieces.target.vocabulary.unknown
    with model.writable_params() as params:
        params["head.bias"][unknown] = 100.0
    for size in (1, 3):
        for found in model.translate(numbers, lengths, size):
            assert unknown not in found
    assert model.translate(numbers[:, :0], lengths[:0]) == []


@pytest.mark.parametrize(
    ("beam_size", "penalty", "match"),
    [(0, 1.0, "beam_size"), (2, -1.0, "length_penalty"), (2, np.nan, "length_penalty")],
)
def test_bad_searches(beam_size: int, penalty: float, match: str) -> None:
    model = network()
    with pytest.raises(ValueError, match=match):
        Translation(model, np.zeros((2, 1), int), [2]).search(beam_size, penalty)


def test_scores(translator: Translator) -> None:
    with pytest.raises(ValueError, match="one at least"):
        translator.score([], [])
    assert translator.score(["12", "12", "3"], ["wrong", "two one", "wrong"]) == 0.5
    pytest.importorskip("sacrebleu")
    assert translator.bleu(["0123", "0123"], ["wrong", "three two one zero"]) == pytest.approx(100)
    assert bleu(["a b c d e"], [["a b c d x"]]) < 90
    assert bleu(["a b c d e", "a"], [["a b c d x", "a b c d e"], ["a"]]) == pytest.approx(100)


def test_sacrebleu_is_named_where_it_is_missing(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"pip install 'rnncore\[bleu\]'"):
        translator.bleu(["1"], ["one"])


def test_alignments(translator: Translator, tmp_path: Path) -> None:
    X, y = made_up(8, seed=3)
    found = translator.alignments(X, y)
    sizes = [(len(t.split()) + 1, len(s)) for s, t in zip(X, y, strict=True)]
    assert [array.shape for array in found] == sizes
    for array in found:
        np.testing.assert_allclose(array.sum(1), 1, rtol=1e-5)
    [alone] = translator.alignments(X[:1], y[:1])
    np.testing.assert_allclose(alone, found[0], rtol=1e-4, atol=1e-6)
    pytest.importorskip("matplotlib")
    translator.plot_alignment(tmp_path / "picture.png", X[0], y[0])
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="this one has none"):
        fitted(attention="none", epochs=1).alignments(X, y)


# Files and habits

def test_a_file_holds_it(translator: Translator, tmp_path: Path) -> None:
    path, X = tmp_path / "translator.safetensors", made_up(20, seed=3)[0]
    translator.save(path)
    copied = pickle.loads(pickle.dumps(translator))
    for again in (Translator.load(path), rnncore.load(path), copied):
        assert isinstance(again, Translator) and again.predict(X) == translator.predict(X)
        assert again.hidden_size == 24 and again.source == "characters"
    LanguageNetwork(rnncore.data.Vocabulary("ab"), hidden_size=4).save(path)
    with pytest.raises(rnncore.FileError, match="expected a translator"):
        Translator.load(path)


@pytest.mark.parametrize(
    "forged",
    [
        {"hidden_size": 10**6}, {"embedding_size": 10**6}, {"num_layers": 10**6},
        {"directions": "forward"}, {"attention": "none"}, {"cell": "gru"}, {"cell": "what"},
        {"pieces": {}}, {"hidden_size": 7},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_of_other_sizes_is_refused(tmp_path: Path, forged: dict[str, Any]) -> None:
    model, path = network(), tmp_path / "translator"
    description = {**model.describe(), **forged}
    rnncore.files.save(path, model.state_dict(), {"kind": "translator", "model": description})
    with pytest.raises(rnncore.FileError, match=r"expected a translator, but .* something else"):
        rnncore.load(path)


def test_the_same_seed_gives_the_same_weights() -> None:
    some = (fitted(epochs=1, seed=k, dropout=0.3) for k in (0, 0, 1))
    one, two, other = (translator.network_.flat_params for translator in some)
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_held_out_texts_are_on_one_side() -> None:
    X, y = made_up(60)
    found = Translator(**{**SMALL, "epochs": 2, "validation_fraction": 0.2}).fit(X * 2, y * 2)
    assert len(found.validation_curve_) >= 2
    found = Translator(**{**SMALL, "epochs": 2}).fit(X, y, validation=made_up(9, seed=5))
    assert len(found.validation_curve_) >= 2


def test_files_and_tables(tmp_path: Path) -> None:
    path, (X, y) = tmp_path / "pairs.tsv", made_up(60)
    path.write_text("".join(f"{a}\t{b}\n" for a, b in zip(X, y, strict=True)))
    settings = {**SMALL, "epochs": 2}
    one = Translator(**settings).fit(X, y)
    assert Translator(**settings).fit(path, validation=path).predict(path) is not None
    assert one.predict(path) == one.predict(X) == one.predict(np.array(X))
    assert one.score(path) == one.score(X, y)
    pairs = list(zip(X, y, strict=True))
    assert one.score(pairs) == one.score(X, y)
    assert Translator(**settings).fit(pairs, validation=pairs).predict(X) is not None
    pandas = pytest.importorskip("pandas")
    assert one.predict(pandas.Series(X)) == one.predict(X)


@pytest.mark.parametrize(
    ("X", "y", "kind", "match"),
    [
        (["a"], ["b", "c"], ValueError, "expected a text for each of 1, got 2"),
        (["a"], None, ValueError, "requires y"),
        (["a", " "], ["b", "c"], ValueError, "text on both sides"),
        ([], [], ValueError, "one at least"),
        ([["a"]], ["b"], TypeError, "X: expected texts, got list as text 1"),
        ([("a", 3)], None, TypeError, "expected two texts, got .* as pair 1"),
        ("none.tsv", None, FileNotFoundError, "none.tsv"),
        ("none.tsv", ["a"], TypeError, "leave y out"),
    ],
)
def test_bad_data(X: Any, y: Any, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        Translator(**{**SMALL, "source": "words"}).fit(X, y)


def test_bad_parameters() -> None:
    Translator(hidden_size=-1)  # nothing is looked at before fit
    for changed, match in (
        ({"hidden_size": -1}, "hidden_size"), ({"hidden_size": 7}, "hidden_size: expected an even"),
        ({"source": "syllables"}, "source: expected one of subwords, words, characters"),
        ({"attention": "bahdanau"}, "attention: expected one of luong, none"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            fitted(**changed)
    with pytest.raises(NotFittedError):
        Translator().predict(["a"])


# The command line

def run(*words: Any, **more: Any) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words], **more)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, seed, count in (("train", 0, 200), ("dev", 1, 40)):
        pairs = zip(*made_up(count, seed), strict=True)
        (tmp_path / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    return tmp_path


OPTIONS = ["--hidden-size", 24, "--embedding-size", 12, "--source", "characters", "--target",
           "words", "--learning-rate", 0.02, "--batch-size", 16, "--average", 0.9]  # fmt: skip


def test_train_pairs_and_translate(files: Path) -> None:
    out, dev = files / "out", files / "dev.tsv"
    done = run("train", "pairs", files / "train.tsv", "--held-out", dev, *OPTIONS, "--dropout", 0,
               "--epochs", 25, "--output", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "200 pairs of" in done.output and "Let it translate:" in done.output
    model = out / "best.safetensors"
    scored = run("translate", model, dev, "--score", "exact")
    assert scored.exit_code == 0 and float(scored.output.split()[0]) > 85
    pytest.importorskip("sacrebleu")
    assert float(run("translate", model, dev, "--score", "bleu").output.split()[1]) > 80
    written = run("translate", model, dev, "--beam-size", 1)
    assert len(written.output.splitlines()) == 40
    assert run("translate", model, dev, "--beam-size", 1, "--output", files / "new").exit_code == 0
    assert (files / "new").read_text() == written.output
    typed = run("translate", model, "-", input="12\n\n")
    assert typed.output == Translator.load(model).predict(["12"])[0] + "\n\n"


def test_train_pairs_in_two_parts(files: Path) -> None:
    whole, parts = files / "whole", files / "parts"
    begin = ["train", "pairs", files / "train.tsv", "--hold-out", 10]
    fixed = [*OPTIONS, "--schedule", "constant", "--dropout", 0.2]
    assert run(*begin, *fixed, "--steps", 9, "--output", whole).exit_code == 0
    assert run(*begin, *fixed, "--steps", 4, "--output", parts).exit_code == 0
    last = parts / "last.safetensors"
    done = run(*begin, "--resume", last, "--steps", 9)
    assert done.exit_code == 0, done.output
    one, two = (rnncore.files.load(f / "last.safetensors").tensors for f in (whole, parts))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    for words, match in (
        ([*begin[:3]], "expected the very data"), ([*begin[:4], 11], "expected the very data"),
        ([*begin, "--target", "characters"], "--target: expected words"),
        ([*begin, "--steps", 9], "but it is used up"),
    ):  # fmt: skip
        done = run(*words, "--resume", last)
        assert done.exit_code == 2 and match in done.output, (words, done.output)
    more = run(*begin, "--init-from", last, "--epochs", 1, "--output", files / "more")
    assert more.exit_code == 0, more.output


def test_errors_of_the_commands(files: Path) -> None:
    train, dev = files / "train.tsv", files / "dev.tsv"
    (files / "bad.tsv").write_text("12\ttwo one\n3 three\n")
    text, model = files / "text.safetensors", files / "model.safetensors"
    LanguageNetwork(rnncore.data.Vocabulary("ab"), hidden_size=4).save(text)
    network().save(model)
    for words, match in (
        (["train", "pairs", files / "missing"], "missing"),
        (["train", "pairs", files / "bad.tsv"], "bad.tsv', line 2: expected two texts"),
        (["train", "pairs", train, "--held-out", files / "bad.tsv"], "line 2"),
        (["train", "pairs", train, "--hold-out", 10**6], "expected fewer than"),
        (["train", "pairs", train, "--hold-out", 1, "--held-out", dev], "expected none beside"),
        (["train", "pairs", train, "--init-from", text], "expected a translator"),
        (["train", "pairs", train, "--hidden-size", 7], "expected an even number"),
        (["translate", text, train], "expected a translator, but"),
        (["translate", train, train], "train.tsv"),
        (["translate", model, files / "missing"], "missing"),
        (["translate", model, files / "bad.tsv", "--score", "exact"], "bad.tsv', line 2"),
        (["translate", model, train, "--score", "exact", "--output", files / "x"], "--output"),
        (["translate", model, "-", "--score", "exact"], "standard input"),
    ):
        done = run(*words, "--output", files / "x") if words[0] == "train" else run(*words)
        assert done.exit_code == 2, (words, done.output)
        assert match in done.output and "Traceback" not in done.output, done.output
        assert not (files / "x").exists()
