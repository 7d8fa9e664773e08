"""Classifier and regressor of sequences: data, networks, streams, files, scikit-learn."""

from __future__ import annotations

import pickle
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnncore
from rnncore.data.inputs import Numbers, Symbols
from rnncore.data.labelled import LabelledExamples
from rnncore.data.outputs import Classes, Values
from rnncore.data.ragged import Ragged
from rnncore.data.sequence_source import SequenceSource
from rnncore.estimators import NotFittedError, SequenceClassifier, SequenceRegressor
from rnncore.models.sequence_classifier import SequenceClassifierNetwork
from rnncore.models.sequence_network import POOLINGS, SequenceBatch
from rnncore.models.sequence_regressor import SequenceRegressorNetwork
from rnncore.training import Callback

SMALL: dict[str, Any] = {"hidden_size": 12, "epochs": 25, "learning_rate": 0.02, "batch_size": 8}
RNG = np.random.default_rng
OFFSET = np.array([100.0, 0.0])


def drawn(count: int, features: int = 2, seed: int = 0) -> list[np.ndarray]:
    """Return sequences of 3 to 9 steps."""
    rng = RNG(seed)
    return [rng.standard_normal((rng.integers(3, 10), features)) for _ in range(count)]


def signs(sequences: list[np.ndarray]) -> np.ndarray:
    return np.array(["up" if x[:, 0].sum() > 0 else "down" for x in sequences])


# What they learn

@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_classifier_learns(pooling: str, cell: str) -> None:
    X, others = drawn(120), drawn(60, seed=1)
    found = SequenceClassifier(**SMALL, pooling=pooling, cell=cell).fit(X, signs(X))
    assert found.classes_.tolist() == ["down", "up"]
    assert found.score(others, signs(others)) > 0.85
    probabilities = found.predict_proba(others)
    assert probabilities.shape == (60, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (found.predict(others) == found.classes_[probabilities.argmax(1)]).all()


def test_a_regressor_learns() -> None:
    X, others = drawn(120), drawn(60, seed=1)
    y = np.array([x.sum(0) for x in X]) + OFFSET
    found = SequenceRegressor(**SMALL).fit(X, y)
    truth = np.array([x.sum(0) for x in others]) + OFFSET
    assert found.predict(others).shape == (60, 2) and found.score(others, truth) > 0.8
    wrong = ((found.predict(others) - truth) ** 2).sum(0)
    expected = np.mean(1 - wrong / ((truth - truth.mean(0)) ** 2).sum(0))
    assert found.score(others, truth) == pytest.approx(expected)
    one = SequenceRegressor(**SMALL).fit(X, y[:, 0])
    assert one.predict(others).shape == (60,) and one.score(others, truth[:, 0]) > 0.8


def test_each_step_has_a_target_of_its_own() -> None:
    X, others = drawn(80), drawn(30, seed=1)

    def before(sequences: list[np.ndarray]) -> list[np.ndarray]:  # what stood a step before
        return [np.concatenate([[0.0], x[:-1, 0]]) for x in sequences]

    regressor = SequenceRegressor(**SMALL, pooling="none", directions="forward")
    regressor.fit(X, before(X))
    assert regressor.score(others, before(others)) > 0.8
    assert [len(one) for one in regressor.predict(others)] == [len(x) for x in others]
    labels = [one > 0 for one in before(X)]
    classifier = SequenceClassifier(**SMALL, pooling="none").fit(X, labels)
    assert classifier.score(others, [one > 0 for one in before(others)]) > 0.85
    assert classifier.classes_.dtype == bool
    found = classifier.predict_proba(others)
    assert [array.shape for array in found] == [(len(x), 2) for x in others]


def test_symbols() -> None:
    names, ends = ["anna", "otto", "maria", "udo", "olga", "hugo"] * 8, ["a", "o"] * 24
    by_letter = SequenceClassifier(**SMALL).fit(names, ends)
    assert by_letter.predict(["petra", "bruno", "zzza"]).tolist() == ["a", "o", "a"]
    sentences = [["the", "good", "film"], ["a", "bad", "film", "indeed"]] * 12
    by_word = SequenceClassifier(**SMALL).fit(sentences, [1, 0] * 12)
    assert by_word.predict([["good"], ["the", "bad", "unheard"]]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="expected a list of words, not empty, as sequence 2"):
        by_word.predict([["good"], "good"])


def test_weights_of_classes() -> None:
    X = drawn(100)
    y = np.where(np.arange(100) < 90, "often", "rare")  # nothing in X tells them apart
    few = {**SMALL, "epochs": 4}
    plain = SequenceClassifier(**few).fit(X, y).predict_proba(X)[:, 1].mean()
    balanced = SequenceClassifier(**few, class_weight="balanced").fit(X, y)
    assert balanced.predict_proba(X)[:, 1].mean() > plain + 0.2
    same = SequenceClassifier(**few, class_weight={"often": 100 / 180, "rare": 5.0}).fit(X, y)
    assert np.allclose(same.predict_proba(X), balanced.predict_proba(X), atol=1e-5)
    with pytest.raises(ValueError, match=r"class_weight: expected labels of y, got 'never', 1"):
        SequenceClassifier(**few, class_weight={"never": 2.0, 1: 2.0}).fit(X, y)
    with pytest.raises(ValueError, match="class_weight: expected a dict, 'balanced' or None"):
        SequenceClassifier(**few, class_weight="even").fit(X, y)


def test_a_file_keeps_what_weighs_and_what_is_standardised(tmp_path: Path) -> None:
    X, path = drawn(40), tmp_path / "model"
    y = np.where(np.arange(40) < 30, 3, 7)
    few = {**SMALL, "epochs": 1}
    SequenceClassifier(**few, class_weight={7: 2.5}, standardize=False).fit(X, y).save(path)
    again = SequenceClassifier.load(path)
    assert again.class_weight == {3: 1.0, 7: 2.5} and again.standardize is False
    trained = [one.set_params(**few).fit(X, y).network_.flat_params.copy()
               for one in (again, SequenceClassifier.load(path))]  # fmt: skip
    assert np.array_equal(*trained)
    SequenceRegressor(**few).fit(X, y).save(path)
    assert SequenceRegressor.load(path).standardize is True
    SequenceClassifier(**few).fit(X, y).save(path)
    assert SequenceClassifier.load(path).class_weight is None
    network = SequenceClassifier.load(path).network_
    for weights in ([1.0], [1.0, 2.0, 3.0], "balanced"):
        wrong = {**network.describe(), "class_weights": weights}
        described = {"kind": network.kind, "model": wrong}
        rnncore.files.save(path, network.state_dict(), described)
        with pytest.raises(rnncore.FileError, match="holds something else"):
            SequenceClassifier.load(path)


def test_tables_without_rows() -> None:
    pandas = pytest.importorskip("pandas")
    index = pandas.MultiIndex.from_arrays([[], []], names=["sequence", "step"])
    with pytest.raises(ValueError, match="X: expected one sequence at least, got none"):
        SequenceClassifier(**SMALL).fit(pandas.DataFrame({"a": []}, index=index), [])


# The forms that data comes in

def test_all_forms_of_numbers_are_the_same(tmp_path: Path) -> None:
    X = [RNG(k).standard_normal((5, 2)) for k in range(12)]
    y = np.arange(12) % 2
    few = {**SMALL, "epochs": 2, "dtype": "float64"}
    expected = SequenceClassifier(**few).fit(X, y).predict_proba(X)
    paths = []
    for k, x in enumerate(X):
        paths.append(tmp_path / (f"{k}.npy" if k % 2 else f"{k}.csv"))
        if k % 2:
            np.save(paths[-1], x)
        else:
            np.savetxt(paths[-1], x, delimiter=",", fmt="%.17g")
    for form in (np.stack(X), [x.tolist() for x in X], tuple(X), paths):
        found = SequenceClassifier(**few).fit(form, y)
        assert np.array_equal(found.predict_proba(form), expected)
    one = SequenceRegressor(**few).fit([x[:, 0] for x in X], y)  # one feature
    assert np.array_equal(
        one.predict([x[:, :1] for x in X]), one.predict(np.stack([x[:, 0] for x in X]))
    )
    pandas = pytest.importorskip("pandas")
    index = pandas.MultiIndex.from_product([range(12), range(5)], names=["sequence", "step"])
    table = pandas.DataFrame(np.concatenate(X), index=index, columns=["a", "b"])
    assert np.array_equal(
        SequenceClassifier(**few).fit(table, pandas.Series(y)).predict_proba(table), expected
    )
    apart = table.sample(frac=1.0, random_state=0)
    with pytest.raises(ValueError, match="rows of each sequence together, but some stand apart"):
        SequenceClassifier(**few).fit(apart, y)


@pytest.mark.parametrize(
    ("X", "match"),
    [
        ([np.zeros((2, 2)), np.zeros((2, 3))], "sequence 2 with 2 features, as the others have"),
        ([np.zeros((2, 2)), np.zeros((0, 2))], "sequence 2, one step at least, got shape"),
        ([np.zeros((2, 2)), np.full((2, 2), np.nan)], "got NaN or infinity at step 1"),
        ([np.zeros(2, int), np.ones(2, int)], "whole numbers .T,., which may be values or symbols"),
        ([["a"], np.zeros((2, 2))], "expected words as a list of str, got a ndarray"),
        (["abc", ["a"]], "of one kind, got texts"),
        ([np.zeros((2, 2), complex), np.zeros((2, 2))], "Complex data not supported"),
        ([np.zeros((2, 2, 2)), np.zeros((2, 2))], "got shape"),
        (np.zeros(4), "expected sequences, an array"),
        ("abc", "expected sequences: a list of them"),
        ({"a": 1}, "expected sequences: a list of them"),
        ([], "expected one sequence at least|one target for each of 0"),
        ([Path("missing.npy"), Path("missing.npy")], "'missing.npy', but it cannot be read"),
    ],
)
def test_bad_sequences(X: Any, match: str) -> None:
    y = [0, 1][: len(X)] if len(X) < 3 else [0, 1, 0, 1][: len(X)]
    with pytest.raises((ValueError, TypeError), match=match):
        SequenceClassifier(**SMALL).fit(X, y)


@pytest.mark.parametrize(
    ("make", "y", "match"),
    [
        (SequenceClassifier, [0, 1], "one target for each of 4 sequences"),
        (SequenceClassifier, [0, 0, 0, 0], "got one class"),
        (SequenceClassifier, [0.5, 1, 0, 1], "Unknown label type: continuous"),
        (SequenceClassifier, [None, "a", "b", "c"], "all str or all numbers, got NoneType, str"),
        (SequenceClassifier, np.zeros((4, 2)), r"one label a sequence, \(N,\), got shape"),
        (SequenceClassifier, None, "requires y to be passed"),
        (SequenceRegressor, [0, 1, 2, np.nan], "expected finite numbers, got NaN"),
        (SequenceRegressor, ["a", "b", "c", "d"], "expected numbers, got"),
        (SequenceRegressor, np.zeros((4, 2, 2)), r"numbers \(N,\) or \(N, K\), got shape"),
    ],
)
def test_bad_targets(make: Any, y: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make(**SMALL).fit(drawn(4), y)


def test_bad_targets_of_steps_and_later() -> None:
    X = drawn(4)
    each = SequenceClassifier(**SMALL, pooling="none")
    with pytest.raises(ValueError, match=f"expected {len(X[1])} targets for sequence 2"):
        each.fit(X, [np.zeros(len(X[0]), int), [1], [0], [1]])
    with pytest.raises(ValueError, match="targets of the steps of 4 sequences, got 1"):
        each.fit(X, [[1]])
    found = SequenceClassifier(**{**SMALL, "epochs": 1}).fit(X, list("abab"))
    assert found.score(X, list("cccc")) == 0.0  # never learned, so wrong
    with pytest.raises(ValueError, match="got c, which the model has never seen"):
        found.fit(X, list("abab"), validation=(X, list("abac")))
    regressor = SequenceRegressor(**{**SMALL, "epochs": 1}).fit(X, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="expected shape"):
        regressor.score(X, np.zeros(4))
    for setting, wrong in (("pooling", "first"), ("hidden_size", 0), ("dtype", "float16"),
                           ("epochs", 0), ("validation_fraction", 1),
                           ("batch_size", 0)):  # fmt: skip
        with pytest.raises(ValueError, match=f"{setting}: expected"):
            SequenceClassifier(**{**SMALL, setting: wrong}).fit(X, list("abab"))


# Networks, streams, files

def network(pooling: str, kind: str, symbols: bool, directions: str = "both") -> Any:
    inputs = Symbols.of(["abcd"]) if symbols else Numbers([1.0, 2.0], [2.0, 1.0])
    common = {"pooling": pooling, "directions": directions, "hidden_size": 5, "embedding_size": 3,
              "dtype": "float64", "num_layers": 2, "seed": 0}  # fmt: skip
    if kind == "classifier":
        return SequenceClassifierNetwork(inputs, Classes(["a", "b", "c"]), **common)
    return SequenceRegressorNetwork(inputs, Values([1.0, 0.0], [1.0, 2.0], False), **common)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("symbols", [False, True])
def test_gradients(pooling: str, kind: str, symbols: bool) -> None:
    model, rng = network(pooling, kind, symbols), RNG(1)
    lengths = np.array([4, 2, 1])
    inside = np.arange(4)[:, None] < lengths
    x = rng.integers(0, 5, (4, 3)) if symbols else rng.standard_normal((4, 3, 2))
    shape = (4, 3) if pooling == "none" else (3,)
    if kind == "classifier":
        targets = rng.integers(0, 3, shape)
        if pooling == "none":
            targets = np.where(inside, targets, -1)
    else:
        targets = rng.standard_normal((*shape, 2))
    rnncore.check_gradients(model, lambda: model.loss(x, lengths, targets))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("symbols", [False, True])
def test_a_stream_says_what_the_whole_says(pooling: str, symbols: bool) -> None:
    model = network(pooling, "regressor", symbols, "forward")
    x: Any = "abcdabx" if symbols else RNG(2).standard_normal((7, 2))
    encoded = model.inputs.encode("x", [x], np.float64)
    stream, blocks = model.stream(), model.stream()
    stepped = np.stack([stream.step(one) for one in x])
    twin = None
    parts = []
    for begin, end in ((0, 3), (3, 3), (3, 4), (4, 7)):
        parts.append(blocks.process(x[begin:end]))
        twin = twin or blocks.copy()
    np.testing.assert_allclose(np.concatenate(parts), stepped, rtol=1e-13)
    assert twin is not None
    np.testing.assert_allclose(twin.process(x[3:]), stepped[3:], rtol=1e-13)
    for steps in range(1, 8):
        batch = SequenceBatch(encoded.values[:steps, None], np.array([steps]))
        out = model.out(batch)
        whole = out.array()[-1] if pooling == "none" else out[0]
        np.testing.assert_allclose(stepped[steps - 1], model.said(whole), rtol=1e-12, atol=1e-14)
    stream.reset()
    assert np.array_equal(stream.step(x[0]), stepped[0])
    with pytest.raises(ValueError, match="reads both ways"):
        network(pooling, "regressor", symbols).stream()


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7), seed=st.integers(0, 99),
       pooling=st.sampled_from(POOLINGS))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_a_sequence_by_itself(lengths: list[int], seed: int, pooling: str) -> None:
    found = SequenceRegressor.of_network(network(pooling, "regressor", False))
    X = [RNG(seed + k).standard_normal((n, 2)) for k, n in enumerate(lengths)]
    for together, x in zip(found.predict(X), X, strict=True):
        np.testing.assert_allclose(together, found.predict([x])[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", [SequenceClassifier, SequenceRegressor])
@pytest.mark.parametrize("symbols", [False, True])
def test_a_file_holds_it(make: Any, symbols: bool, tmp_path: Path) -> None:
    X: Any = ["ab", "ba", "abc", "c"] * 3 if symbols else drawn(12)
    y = np.array([0, 1, 0, 3] * 3)
    found = make(**{**SMALL, "epochs": 2, "pooling": "mean", "hidden_size": 7}).fit(X, y)
    found.save(tmp_path / "model")
    for again in (make.load(tmp_path / "model"), pickle.loads(pickle.dumps(found))):
        assert np.array_equal(again.predict(X), found.predict(X))
        assert (again.hidden_size, again.pooling) == (7, "mean")
    with pytest.raises(NotFittedError, match="expected a training, but this was loaded"):
        make.load(tmp_path / "model").plot_curves(tmp_path / "loss.png")
    description = found.network_.describe()
    wrong: list[dict[str, Any]] = [
        {"hidden_size": 10**6}, {"num_layers": 10**6}, {"directions": "forward"}, {"cell": "gru"},
        {"pooling": "what"}, {"inputs": {}}, {"outputs": {}}, {"inputs": {"of": "what"}},
        {"embedding_size": 10**6} if symbols else {"inputs": {"of": "numbers", "mean": [0.0],
                                                              "scale": [1.0]}},
    ]  # fmt: skip
    for forged in wrong:
        rnncore.files.save(tmp_path / "forged", found.network_.state_dict(),
                           {"kind": found.network_.kind, "model": {**description, **forged}})
        with pytest.raises(rnncore.FileError, match="holds something else"):
            make.load(tmp_path / "forged")


def test_streams_of_estimators_say_what_they_predict() -> None:
    X = drawn(30)
    few = {**SMALL, "epochs": 2, "directions": "forward"}
    classifier = SequenceClassifier(**few).fit(X, signs(X))
    regressor = SequenceRegressor(**few).fit(X, np.array([x.sum() + 1000 for x in X]))
    for x in X[:3]:
        [probabilities] = classifier.predict_proba([x])
        np.testing.assert_allclose(classifier.stream().process(x)[-1], probabilities, rtol=1e-5)
        [value] = regressor.predict([x])
        np.testing.assert_allclose(regressor.stream().process(x)[-1], value, rtol=1e-5)
        assert value > 900


def test_what_could_be_misread_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = drawn(6)
    monkeypatch.chdir(tmp_path)
    for k, x in enumerate(X):
        np.save(f"{k}.npy", x)
    names = [f"{k}.npy" for k in range(6)]
    with pytest.raises(ValueError, match=r"names of files, such as '0\.npy'; give pathlib"):
        SequenceClassifier(**SMALL).fit(names, [0, 1] * 3)
    for y, kinds in ((["a", "b", np.nan] * 2, "float, str"), (["a", 1, 2] * 2, "int, str")):
        for share in (0.0, 0.5):
            with pytest.raises(ValueError, match=f"all str or all numbers, got {kinds}"):
                SequenceClassifier(**{**SMALL, "validation_fraction": share}).fit(X, y)
    each = SequenceClassifier(**{**SMALL, "epochs": 1, "pooling": "none"})
    steps = [np.arange(len(x)) % 2 for x in X]
    from_files = each.fit([Path(name) for name in names], steps).predict_proba(X)
    assert all(map(np.array_equal, from_files, each.fit(X, steps).predict_proba(X)))
    rare = ["a", "b", "a", "b", "a", "c"]  # held out or not, c is a class
    for seed in range(4):
        part = SequenceClassifier(**{**SMALL, "epochs": 1, "validation_fraction": 0.3}, seed=seed,
                                  class_weight="balanced")  # fmt: skip
        assert part.fit(X, rare).classes_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="expected numbers that float32 holds"):
        SequenceClassifier(**SMALL, standardize=False).fit([x * 1e300 for x in X], [0, 1] * 3)
    for epochs in (np.inf, np.nan):
        with pytest.raises(ValueError, match="epochs: expected a finite number above 0"):
            SequenceClassifier(**{**SMALL, "epochs": epochs}).fit(X, [0, 1] * 3)


# Training

def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    X, others = drawn(40), drawn(30, seed=1)
    noise = RNG(5).choice(["up", "down"], 40)  # to learn by heart, and be worse for it
    found = SequenceClassifier(**{**SMALL, "epochs": 30, "folder": tmp_path / "here"})
    found.fit(X, noise, validation=(others, signs(others)))
    losses = [row[3] for row in found.validation_curve_]
    assert np.argmin(losses) < len(losses) - 1
    best = SequenceClassifier.load(tmp_path / "here" / "best.safetensors")
    assert np.array_equal(best.network_.flat_params, found.network_.flat_params)
    stopped = SequenceClassifier(**{**SMALL, "epochs": 30, "early_stopping": 3})
    stopped.fit(X, noise, validation=(others, signs(others)))
    assert len(stopped.validation_curve_) == np.argmin(losses) + 4
    assert np.array_equal(stopped.network_.flat_params, found.network_.flat_params)
    part = SequenceClassifier(**{**SMALL, "validation_fraction": 0.25}).fit(X, signs(X))
    assert len(part.validation_curve_) == 26 and len(part.training_curve_) > 0
    with pytest.raises(ValueError, match="by which early_stopping goes, got none"):
        SequenceClassifier(**SMALL, early_stopping=2).fit(X, signs(X))
    with pytest.raises(ValueError, match="leaves some of 3 sequences on both sides"):
        SequenceClassifier(**SMALL, validation_fraction=0.1).fit(X[:3], [0, 1, 0])


def test_it_shows_how_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X = drawn(20)
    found = SequenceClassifier(**{**SMALL, "epochs": 2, "verbose": True})
    found.fit(X, signs(X), validation=(X, signs(X)))
    shown = capsys.readouterr()
    assert "% right" in shown.out and "steps/s" in shown.err and "left" in shown.err
    pytest.importorskip("matplotlib")
    found.plot_curves(tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_source_of_numbers_tells_them_apart() -> None:
    x = Ragged.of(drawn(4))
    one, two, other = (
        SequenceSource(LabelledExamples(Ragged(x.values * scale, x.lengths), np.arange(4)))
        for scale in (1.0, 1.0, 1.001)
    )
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_a_signal_ends_it_and_keeps_what_was_learned() -> None:
    class Interrupt(Callback):
        def on_step(self, trainer: Any) -> None:
            if trainer.step == 5:
                signal.raise_signal(signal.SIGINT)

    X = drawn(40)
    found = SequenceClassifier(**SMALL)
    with pytest.raises(KeyboardInterrupt):
        found.fit(X, signs(X), callbacks=[Interrupt()])
    [(step, *_, loss)] = found.training_curve_  # though it is told every 50 steps
    assert step == 5 and 0 < loss < 2 and found.predict(X).shape == (40,)


def test_the_same_seed_learns_the_same() -> None:
    X = drawn(30)
    few = {**SMALL, "epochs": 2, "dropout": 0.3}
    one, two, other = (
        SequenceClassifier(**few, seed=seed).fit(X, signs(X)).predict_proba(X)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    with pytest.raises(ValueError, match="seed: expected a whole number"):
        SequenceClassifier(**few, seed=None).fit(X, signs(X))


# scikit-learn

#: Its checks that do not hold for sequences, and why.
NOT_FOR_SEQUENCES = {
    "check_estimators_unfitted": "the error is rnncore's, of the same base classes",
    "check_n_features_in": "rows (T,) are sequences of any length, not of T features",
    "check_n_features_in_after_fitting": "rows (T,) are sequences of any length",
    "check_classifiers_train": "rows (T,) of another length are sequences too",
    "check_estimators_dtypes": "whole numbers (T,) may be symbols, and are not guessed",
    "check_estimators_empty_data_messages": "the message speaks of steps",
    "check_classifier_data_not_an_array": "whole numbers (T,) may be symbols",
    "check_supervised_y_2d": "a column of labels is taken without a warning",
}


@pytest.mark.parametrize("make", [SequenceClassifier, SequenceRegressor])
def test_scikit_learns_own_checks(make: Any) -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = checks.check_estimator(
            make(**{**SMALL, "hidden_size": 16}), expected_failed_checks=NOT_FOR_SEQUENCES,
            on_fail=None,
        )  # fmt: skip
    failed = {one["check_name"]: one["exception"] for one in found if one["status"] == "failed"}
    assert not failed and len(found) > 40


def test_scikit_learn_takes_them() -> None:
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_classifier, is_regressor
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    X = drawn(60)
    few = SequenceClassifier(**{**SMALL, "epochs": 12})
    assert is_classifier(few) and is_regressor(SequenceRegressor())
    assert clone(few).get_params() == few.get_params()
    assert cross_val_score(few, X, signs(X), cv=3).mean() > 0.6
    search = GridSearchCV(few, {"pooling": ["last", "mean"]}, cv=2, n_jobs=2)
    assert search.fit(X, signs(X)).best_params_["pooling"] in ("last", "mean")
    double = FunctionTransformer(lambda sequences: [2 * x for x in sequences])
    pipeline = make_pipeline(double, few).fit(X, signs(X))
    assert pipeline.score(X, signs(X)) > 0.6
    pipeline.set_params(sequenceclassifier__hidden_size=3)
    joblib = pytest.importorskip("joblib")
    fitted = joblib.Parallel(n_jobs=2)(
        joblib.delayed(clone(few).set_params(seed=k).fit)(X, signs(X)) for k in range(2)
    )
    assert np.array_equal(fitted[0].predict_proba(X), clone(few).fit(X, signs(X)).predict_proba(X))


def test_digits_as_sequences_of_rows() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    X = images.reshape(-1, 8, 8)
    few = SequenceClassifier(hidden_size=32, epochs=8, learning_rate=0.01)
    found = few.fit(X[:1200], labels[:1200])
    assert found.score(X[1200:], labels[1200:]) > 0.9
