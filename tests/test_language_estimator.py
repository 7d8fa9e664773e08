"""The language model as an estimator: habits, measures, texts and paths, files, Ctrl-C."""

from __future__ import annotations

import math
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import rnncore
from rnncore import estimators, models
from rnncore.cli import main
from rnncore.data import TextSource, TextWords, Vocabulary, read_text
from rnncore.estimators import LanguageModel, NotFittedError, Tagger
from rnncore.models import LanguageNetwork
from rnncore.training import Callback, Trainer

TEXT = "The king said: be good to the old king. The queen said: no, the king is bad.\n" * 30
UNITS = ("characters", "bytes", "words")
SMALL: dict[str, Any] = {
    "hidden_size": 12, "num_layers": 1, "epochs": 3, "learning_rate": 0.02, "batch_size": 4,
    "sequence_length": 10,
}  # fmt: skip


def fitted(unit: str = "characters", **changed: Any) -> LanguageModel:
    return LanguageModel(unit=unit, **{**SMALL, **changed}).fit(TEXT)


@pytest.mark.parametrize("unit", UNITS)
def test_it_learns_and_writes(unit: str) -> None:
    model = fitted(unit, epochs=20)
    # untrained, all symbols are as likely as each other
    assert model.perplexity(TEXT) < len(model.vocabulary_) / 3
    assert model.score("The king said") > model.score("said The king")
    text = model.sample(9, temperature=0, prime="The king said")
    assert text.startswith("The king said:")
    assert text == "".join(model.sample_pieces(9, temperature=0, prime="The king said"))
    one, two, other = (model.sample(20, temperature=5.0, seed=seed) for seed in (1, 1, 2))
    assert one == two != other
    assert len(model.validation_curve_) == 21
    assert model.network_.measures[0].unit in ("bits per character", "bits per byte",
                                               "nats per word")  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_score_is_the_mean_of_what_is_predicted(
    unit: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = LanguageNetwork(fitted(unit, epochs=0.1).vocabulary_, hidden_size=7, dtype=dtype,
                              dropout=0.3, seed=1)  # fmt: skip
    model = LanguageModel.of_network(network)
    text = TEXT[:700]
    tokens = model.vocabulary_.encode(text).astype(int)
    probabilities = model.predict_proba(text)
    assert probabilities.shape == (len(tokens), len(model.vocabulary_))
    assert probabilities.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=tolerance)
    picked = probabilities[np.arange(len(tokens) - 1), tokens[1:]].astype(float)
    score = model.score(text)
    assert score == pytest.approx(np.log(picked).mean(), rel=tolerance)
    column = tokens[:, None]
    [(total, count)], _ = network.measure(column[:-1], column[1:])
    assert (count, score) == (len(tokens) - 1, pytest.approx(-total / count, rel=1e-12))
    assert model.perplexity(text) == pytest.approx(math.exp(-score))
    symbols = len(tokens) / len(text)
    assert model.bits(text) == pytest.approx(-score / math.log(2) * symbols)
    # the state is carried from part to part
    monkeypatch.setattr("rnncore.estimators.language_model.STEPS", 9)
    assert model.score(text) == pytest.approx(score, rel=1e-12)
    assert np.array_equal(model.predict_proba(text), probabilities)
    stream = model.stream()
    logits = np.array([stream.step(token) for token in tokens[:5]], float)
    stepped = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities[:5], stepped, rtol=10 * tolerance)


def test_bits_are_of_characters_whatever_the_unit() -> None:
    text = "grün und schön, €\n" * 40
    cut = {**SMALL, "epochs": 1}
    words = LanguageModel(unit="words", **cut).fit(text)
    raw = LanguageModel(unit="bytes", **cut).fit(text)
    for model, symbols in ((raw, len(text.encode())), (words, words.vocabulary_.encode(text).size)):
        expected = -model.score(text) * symbols / math.log(2) / len(text)
        assert model.bits(text) == pytest.approx(expected)
    assert raw.bits(text.encode()) == raw.bits(text)
    assert raw.score(text.encode()) == raw.score(text)


def test_a_text_and_its_file_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text("the old queen")
    (tmp_path / "c.log").write_text("Ω")
    for unit in UNITS:
        one = fitted(unit, epochs=1)
        for paths in (tmp_path / "a.txt", [tmp_path / "a.txt"], (tmp_path / "a*",)):
            two = LanguageModel(unit=unit, **{**SMALL, "epochs": 1}).fit(paths)
            assert np.array_equal(one.network_.flat_params, two.network_.flat_params)
            assert one.score(paths) == one.score(TEXT)
    both = [tmp_path / "b.txt", tmp_path / "a.txt"]
    model = LanguageModel(**{**SMALL, "epochs": 1}).fit(both)
    assert model.score(tmp_path / "*.txt") == model.score(read_text(tmp_path / "*.txt"))
    assert model.predict_proba(tmp_path / "b.txt").shape == (13, len(model.vocabulary_))


def test_it_trains_as_the_command_does(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    options = [part for name, value in SMALL.items() for part in (f"--{name}", value)]
    for unit in UNITS:
        words = ["train", "text", tmp_path / "a.txt", "--unit", unit, "--samples", 0,
                 "--validation-fraction", 0, "--output", tmp_path / unit,
                 *(str(part).replace("_", "-") for part in options)]  # fmt: skip
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        model = fitted(unit, validation_fraction=0.0)
        there = models.load(tmp_path / unit / "last.safetensors")
        assert there.vocabulary == model.vocabulary_
        assert np.array_equal(there.flat_params, model.network_.flat_params)


def test_the_defaults_are_those_of_the_command() -> None:
    from rnncore.data import TextSettings, UnitSettings
    from rnncore.models.language_network import LanguageSettings
    from rnncore.training import TrainingSettings

    parameters = LanguageModel().get_params()
    for settings in (UnitSettings(), LanguageSettings(), TextSettings()):
        for name, value in vars(settings).items():
            assert parameters[name] == value
    # The optimizers differ by nothing but the weight decay, of which there is none.
    made = LanguageModel()._training_settings()
    assert made == TrainingSettings(epochs=50, validations=50, optimizer="adamw", weight_decay=0.0)


@pytest.mark.parametrize("unit", UNITS)
def test_another_text_to_validate_on(unit: str, tmp_path: Path) -> None:
    other = "The old queen said: the king is good.\n" * 5
    (tmp_path / "other").write_text(other)
    model = LanguageModel(unit=unit, **SMALL).fit(TEXT, validation=tmp_path / "other")
    same = LanguageModel(unit=unit, **SMALL).fit(TEXT, validation=other)
    assert len(model.validation_curve_) == 4
    assert [row[3] for row in model.validation_curve_] == [row[3] for row in same.validation_curve_]
    best = min(row[3] for row in model.validation_curve_)
    factor = math.log(2) if unit != "words" else 1.0
    assert -model.score(other) / factor == pytest.approx(best, rel=1e-6)
    # the whole text is learned
    source = TextSource(np.arange(50) % 9, held_out=np.arange(30) % 9, batch_size=2,
                        sequence_length=5)  # fmt: skip
    assert source.per_epoch == 4 and source.held_out is not None and source.held_out.used == 29
    assert source.describe().startswith("50 characters; 30 others held out")
    alone = TextSource(np.arange(50) % 9, batch_size=2, sequence_length=5)
    assert source.fingerprint != alone.fingerprint
    with pytest.raises(ValueError, match=r"held_out: expected 2 characters at least, .* got 1"):
        TextSource(np.arange(50) % 9, held_out=np.arange(1), batch_size=2, sequence_length=5)


def test_early_stopping_keeps_the_best() -> None:
    model = LanguageModel(**{**SMALL, "epochs": 60, "learning_rate": 0.3, "early_stopping": 2})
    model.fit(TEXT[:800], validation=TEXT[800:1000] + TEXT[:100])
    values = [row[3] for row in model.validation_curve_]
    assert len(values) < 61 and values.index(min(values)) == len(values) - 3
    held_out = TEXT[800:1000] + TEXT[:100]
    assert -model.score(held_out) / math.log(2) == pytest.approx(min(values), rel=1e-6)


def test_the_habits_of_estimators() -> None:
    model = LanguageModel(hidden_size=3)
    assert model.get_params()["hidden_size"] == 3
    assert repr(model) == "LanguageModel(hidden_size=3)"
    assert LanguageModel(**model.get_params()).get_params() == model.get_params()
    assert model.set_params(seed=4) is model and model.seed == 4
    with pytest.raises(ValueError, match="sead: expected a parameter of LanguageModel, one of"):
        model.set_params(sead=4)
    for ask in (
        lambda: model.score("a"), lambda: model.perplexity("a"), lambda: model.bits("a"),
        lambda: model.predict_proba("a"), lambda: model.sample(3), lambda: model.sample_pieces(3),
        model.stream, lambda: model.vocabulary_, lambda: model.save("x"),
    ):  # fmt: skip
        with pytest.raises(NotFittedError, match="call fit with data"):
            ask()
    LanguageModel(hidden_size=-1, unit="x")  # nothing is looked at before fit
    one, two, other = (fitted(epochs=1, seed=k).network_.flat_params for k in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert not hasattr(model, "predict")


def test_scikit_learn_takes_it(tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.utils import get_tags

    small = {**SMALL, "epochs": 1}
    twin = sklearn.base.clone(LanguageModel(unit="words", **small))
    assert twin.get_params() == LanguageModel(unit="words", **small).get_params()
    assert get_tags(twin).target_tags.required is False
    assert get_tags(twin).estimator_type == "density_estimator"
    # Files are what is held out in turn.
    paths = [tmp_path / name for name in "abcd"]
    for path in paths:
        path.write_text(TEXT)
    scores = cross_val_score(LanguageModel(**small), paths, cv=2, error_score="raise")
    assert len(scores) == 2 and np.isfinite(scores).all()
    search = GridSearchCV(LanguageModel(**small), {"hidden_size": [4, 16]}, cv=2)
    found = search.fit(paths).best_estimator_
    assert found.score(TEXT) == pytest.approx(search.score(TEXT))


@pytest.mark.parametrize("unit", UNITS)
def test_files(unit: str, tmp_path: Path) -> None:
    model, path = fitted(unit, epochs=1, folder=tmp_path / "out"), tmp_path / "m"
    model.save(path)
    kinds = {"characters": Vocabulary, "bytes": Vocabulary, "words": TextWords}
    best = tmp_path / "out" / "best.safetensors"
    for again in (
        rnncore.load(path), LanguageModel.load(path), pickle.loads(pickle.dumps(model)),
        rnncore.load(best),
    ):  # fmt: skip
        assert isinstance(again, LanguageModel) and type(again.vocabulary_) is kinds[unit]
        assert (again.unit, again.hidden_size, again.num_layers) == (unit, 12, 1)
        assert again.score(TEXT) == model.score(TEXT)
        assert again.sample(9, seed=0) == model.sample(9, seed=0)
    assert isinstance(models.load(path), LanguageNetwork)
    with pytest.raises(rnncore.FileError, match="expected a tagger"):
        Tagger.load(path)
    with pytest.raises(NotFittedError, match="this was loaded"):
        rnncore.load(path).plot_curves(tmp_path / "x.png")


def test_every_kind_of_file_has_an_estimator() -> None:
    assert set(estimators.KINDS) == set(models.KINDS)
    for kind, estimator in estimators.KINDS.items():
        assert estimator.network_class.__name__ == models.KINDS[kind][1]
    with pytest.raises(rnncore.FileError, match="'gone' does not exist"):
        rnncore.load("gone")


@pytest.mark.parametrize(
    ("X", "changed", "kind", "match"),
    [
        ("", {}, ValueError, "X: expected a text to learn from, got an empty one"),
        (b"", {"unit": "bytes"}, ValueError, "X: expected a text to learn from, got an empty"),
        ("short", {}, ValueError, "batch_size .* = 41 characters to train on, got 5"),
        ("so short", {"unit": "words", "least_count": 1}, ValueError, "= 41 words to .* got 2"),
        ([TEXT, TEXT], {}, TypeError, r"X: expected a text, or a pathlib.Path .* got list with st"),
        (["a.txt", Path("a")], {}, TypeError, r"with str; join .* \[pathlib.Path\(name\) for"),
        ([], {}, TypeError, "X: .* got list without any"),
        (None, {}, TypeError, "X: .* got NoneType"),
        (3, {}, TypeError, "X: .* got int"),
        (Path("gone"), {}, FileNotFoundError, "'gone' does not exist"),
        (TEXT.encode(), {}, TypeError, "whose characters can be told, got bytes; .* 'bytes'"),
        (TEXT.encode(), {"unit": "words"}, TypeError, "whose words can be told, got bytes"),
        (TEXT, {"unit": "letters"}, ValueError, "unit: expected one of characters, bytes, words"),
        (TEXT, {"vocabulary_size": 9}, ValueError, "vocabulary_size: expected none for the unit"),
        (TEXT, {"unit": "words", "least_count": 9999}, ValueError, "least_count: "),
        (TEXT, {"hidden_size": 0}, ValueError, "hidden_size"),
        (TEXT, {"cell": "transformer"}, ValueError, "cell: no cell is called .transformer."),
        (TEXT, {"batch_size": 0}, ValueError, "batch_size"),
        (TEXT, {"epochs": None}, ValueError, "budget: expected at least one of epochs"),
        (TEXT, {"validation_fraction": 1.0}, ValueError, "validation_fraction"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_input(X: Any, changed: dict[str, Any], kind: type[Exception], match: str) -> None:
    model = LanguageModel(**{**SMALL, **changed})
    with pytest.raises(kind, match=match):
        model.fit(X)
    assert not hasattr(model, "network_")


def test_the_name_of_a_file_is_not_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("king").write_text(TEXT)
    with pytest.raises(ValueError, match=r"got 'king', the name of a file; give pathlib.Path\('k"):
        LanguageModel(**SMALL).fit("king")
    assert np.isfinite(fitted(epochs=0.1).score("king"))  # but a text to measure may be a word


def test_bad_input_to_measure() -> None:
    model = fitted(epochs=0.1)
    for call in (model.score, model.perplexity, model.bits, model.predict_proba):
        with pytest.raises(ValueError, match="got 'Ω', which the model has never seen"):
            call("The Ω")
        with pytest.raises(TypeError, match=r"X: expected a text, .* got list with str"):
            call(["The king"])
        with pytest.raises(TypeError, match="text: expected str, got bytes"):
            call(b"The king")
    for call in (model.score, model.perplexity, model.bits):
        for text in ("", "T"):
            with pytest.raises(ValueError, match=r"X: expected 2 characters .* got [01];"):
                call(text)
    assert model.predict_proba("").shape == (0, len(model.vocabulary_))
    words = fitted("words", epochs=0.1)
    assert np.isfinite(words.score("Some Ω king"))
    with pytest.raises(ValueError, match="X: expected 2 words at least"):
        words.score("king")
    with pytest.raises(TypeError, match="text: expected a str, whose words can be told, got bytes"):
        words.score(b"the king")
    with pytest.raises(ValueError, match="got 'Ω', which the model has never seen"):
        LanguageModel(**SMALL).fit(TEXT, validation="Ω" * 50)


class Interrupt(Callback):
    """Presses Ctrl-C after some steps."""

    def on_step(self, trainer: Trainer) -> None:
        if trainer.step == 40:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_keeps_what_was_learned(tmp_path: Path) -> None:
    model = LanguageModel(**{**SMALL, "epochs": 1000, "folder": tmp_path})
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXT, callbacks=[Interrupt()])
    untrained = LanguageModel.of_network(
        LanguageNetwork(Vocabulary(TEXT), hidden_size=12, num_layers=1, seed=0)
    )
    assert model.score(TEXT) > untrained.score(TEXT)
    assert model.sample(3, seed=0)
    assert rnncore.files.load(tmp_path / "last.safetensors").metadata["training"]["step"] == 40


def test_verbose_shows_the_unit(capsys: pytest.CaptureFixture[str]) -> None:
    fitted("words", epochs=1, verbose=True)
    shown = capsys.readouterr()
    assert "words/s" in shown.err and "nats/word" in shown.err
    assert "held-out" in shown.out and "nats per word" in shown.out
    fitted(epochs=0.1)
    assert capsys.readouterr() == ("", "")
