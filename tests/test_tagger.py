"""The tagger: estimator, model, files, trainer, command line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import rnncore
from rnncore import models
from rnncore.cli import main
from rnncore.data import read_conllu
from rnncore.data.tagged import Sentences, TaggedSource, TaggerVocabularies
from rnncore.estimators import NotFittedError, Tagger
from rnncore.models import LanguageNetwork
from rnncore.models.tagger_network import TaggerNetwork

NAMES = ["Ann", "Bob", "Cleo", "Dan"]
VERBS = ["sees", "hears", "calls", "meets"]


def made_up(count: int, seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """Return sentences in which "duck" is a noun after "the" and a verb after "to"."""
    rng = np.random.default_rng(seed)
    sentences, tags = [], []
    for _ in range(count):
        name, verb = rng.choice(NAMES), rng.choice(VERBS)
        if rng.random() < 0.5:
            sentences.append([name, verb, "the", "duck", "."])
            tags.append(["PROPN", "VERB", "DET", "NOUN", "PUNCT"])
        else:
            sentences.append([name, "has", "to", "duck"])
            tags.append(["PROPN", "AUX", "PART", "VERB"])
    return sentences, tags


SMALL: dict[str, Any] = {"hidden_size": 12, "word_size": 8, "character_size": 4, "spelling_size": 6,
                         "epochs": 12, "learning_rate": 0.02, "batch_size": 8, "average": 0.9,
                         "dropout": 0.1}  # fmt: skip


def fitted(**changed: Any) -> Tagger:
    return Tagger(**{**SMALL, **changed}).fit(*made_up(60))


def test_it_learns_what_stands_around_a_word() -> None:
    tagger = fitted()
    assert tagger.score(*made_up(40, seed=1)) > 0.99
    found = tagger.predict([["Ann", "has", "to", "duck"], [], ["Bob", "sees", "the", "duck", "."]])
    assert [tags[3:4] for tags in found] == [["VERB"], [], ["NOUN"]]
    forward = fitted(directions="forward", spelling="none", cell="gru", num_layers=2)
    assert forward.score(*made_up(40, seed=1)) > 0.9


def test_an_unknown_word_is_known_by_its_spelling() -> None:
    tagger = fitted(epochs=25)
    [tags] = tagger.predict([["Ann", "sees", "the", "duck", "."]])
    [same] = tagger.predict([["Ann", "zees", "the", "duck", "."]])  # no such word, -ees is known
    assert tags == same


def test_probabilities() -> None:
    tagger = fitted(epochs=2)
    arrays = tagger.predict_proba(made_up(9, seed=2)[0] + [[]])
    assert [len(array) for array in arrays[:-1]] == [len(s) for s in made_up(9, seed=2)[0]]
    assert arrays[-1].shape == (0, len(tagger.tags_))
    for array in arrays[:-1]:
        np.testing.assert_allclose(array.sum(1), 1, rtol=1e-5)
    # Each sentence by itself: the same, whatever stands beside it.
    for sentence, array in zip(made_up(9, seed=2)[0], arrays, strict=False):
        np.testing.assert_allclose(tagger.predict_proba([sentence])[0], array, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spelling", ["characters", "none"])
def test_tagging_gives_the_bits_of_training(spelling: str) -> None:
    # Without a tape equal words are projected once; on it each word by itself.
    sentences, tags = made_up(12)
    sentences[3] = ["a"]
    tags[3] = ["DET"]
    model = TaggerNetwork(TaggerVocabularies.of(sentences, tags), hidden_size=20, dropout=0.0,
                          word_dropout=0.0, spelling=spelling, seed=0)  # fmt: skip
    sentences[5] = ["Duck", "the", "the", "stranger"]  # an unknown form, a word twice
    batch = Sentences(sentences, model.vocabularies).batch(np.array([5, 3, 8, 5]))
    with rnncore.Tape():
        wanted = model.logits(batch).array.array()
    np.testing.assert_array_equal(model.logits(batch).array(), wanted)


def test_the_gradients_of_the_whole() -> None:
    sentences, tags = made_up(5)
    model = TaggerNetwork(TaggerVocabularies.of(sentences, tags), hidden_size=3, word_size=4,
                        character_size=3, spelling_size=2, dropout=0.0, word_dropout=0.0,
                        seed=0)  # fmt: skip
    batch = TaggedSource(sentences, tags, model.vocabularies).batch(0)
    with rnncore.Tape(model) as tape:
        loss = model.loss(*batch)
    tape.backward(loss)
    analytic, rng = model.flat_grads.copy(), np.random.default_rng(0)
    for place in rng.permutation(model.num_parameters)[:40]:  # float32: large steps
        values = []
        for step in (1e-2, -1e-2):
            with model.changing_weights() as flat:
                flat[place] += step
            values.append(model.measure(*batch, None)[0][0])
            with model.changing_weights() as flat:
                flat[place] -= step
        (above, count), (below, _) = values
        assert abs((above - below) / count / 2e-2 - analytic[place]) < 2e-4


def test_a_file_holds_it(tmp_path: Path) -> None:
    tagger, path = fitted(epochs=2), tmp_path / "tagger.safetensors"
    tagger.save(path)
    sentences, tags = made_up(20, seed=3)
    for again in (Tagger.load(path), pickle.loads(pickle.dumps(tagger))):
        assert again.predict(sentences) == tagger.predict(sentences)
        assert again.hidden_size == 12
    model = models.load(path)
    assert isinstance(model, TaggerNetwork) and model.kind == "tagger"
    loaded = rnncore.load(path)
    assert isinstance(loaded, Tagger) and loaded.predict(sentences) == tagger.predict(sentences)
    LanguageNetwork(rnncore.data.Vocabulary("ab"), hidden_size=4).save(path)
    with pytest.raises(rnncore.FileError, match="expected a tagger"):
        Tagger.load(path)
    assert tagger.score(sentences, tags) == tagger.score(sentences, tags)


def test_the_habits_of_estimators() -> None:
    tagger = Tagger(hidden_size=3)
    assert tagger.get_params()["hidden_size"] == 3 and repr(tagger) == "Tagger(hidden_size=3)"
    assert Tagger(**tagger.get_params()).get_params() == tagger.get_params()
    assert tagger.set_params(seed=4) is tagger and tagger.seed == 4
    with pytest.raises(ValueError, match="sead: expected a parameter of Tagger, one of epochs"):
        tagger.set_params(sead=4)
    for ask in (lambda: tagger.predict([["a"]]), lambda: tagger.tags_, lambda: tagger.save("x")):
        with pytest.raises(NotFittedError, match="call fit with data"):
            ask()
    Tagger(hidden_size=-1)  # nothing is looked at before fit
    with pytest.raises(ValueError, match="hidden_size"):
        Tagger(hidden_size=-1).fit(*made_up(3))
    one, two, other = (fitted(epochs=1, seed=k).network_.flat_params for k in (0, 0, 1))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_stream_tags_word_by_word() -> None:
    tagger = fitted(directions="forward", num_layers=2, epochs=2)
    stream, [sentence] = tagger.stream(), made_up(1, seed=5)[0]
    [whole] = tagger.predict_proba([sentence])
    np.testing.assert_allclose([stream.step(w) for w in sentence], whole, rtol=1e-5, atol=1e-7)
    stream.reset()
    first = stream.process(sentence[:2])
    twin = stream.copy()
    for each in (stream, twin):
        rest = each.process(sentence[2:])
        np.testing.assert_allclose(np.concatenate([first, rest]), whole, rtol=1e-5, atol=1e-7)
    assert stream.process([]).shape == (0, len(tagger.tags_))
    with pytest.raises(ValueError, match="reads both ways and needs the end of a sequence"):
        fitted(epochs=1).stream()


def test_sentences_from_files_and_tables(files: Path) -> None:
    from_file = Tagger(**{**SMALL, "epochs": 2}).fit(files / "train.tsv")
    from_lists = Tagger(**{**SMALL, "epochs": 2}).fit(*made_up(60))
    assert np.array_equal(from_file.network_.flat_params, from_lists.network_.flat_params)
    sentences, tags = made_up(60, 1)
    assert from_file.predict(str(files / "dev.tsv")) == from_lists.predict(sentences)
    assert from_file.score(files / "dev.tsv") == from_lists.score(sentences, tags)
    with pytest.raises(TypeError, match="y: expected none beside a file"):
        from_file.score(files / "dev.tsv", tags)
    with pytest.raises(ValueError, match="y: requires y"):
        from_file.score(sentences)
    pandas = pytest.importorskip("pandas")
    train_words, train_tags = made_up(60)
    index = [(k, t) for k, words in enumerate(train_words) for t in range(len(words))]
    columns = {"word": np.concatenate(train_words), "tag": np.concatenate(train_tags)}
    table = pandas.DataFrame(columns, index=pandas.MultiIndex.from_tuples(index))
    from_table = Tagger(**{**SMALL, "epochs": 2}).fit(table["word"], table["tag"])
    assert np.array_equal(from_table.network_.flat_params, from_lists.network_.flat_params)


def test_it_stops_early_with_the_best_weights(files: Path) -> None:
    options = {**SMALL, "epochs": 40, "early_stopping": 3}
    stopped = Tagger(**options).fit(files / "train.tsv", validation=files / "dev.tsv")
    shares = [row[4] for row in stopped.validation_curve_]
    assert len(shares) == np.argmax(shares) + 4 < 41
    assert stopped.score(files / "dev.tsv") * 100 == pytest.approx(max(shares))
    part = Tagger(**{**SMALL, "epochs": 3, "validation_fraction": 0.2}).fit(files / "train.tsv")
    assert len(part.validation_curve_) == 4


def test_a_tag_may_be_held_out() -> None:
    sentences, tags = made_up(20)
    held_out = Tagger(validation_fraction=0.2, seed=3)._hold_out(20)[1][0]
    tags[held_out] = ["RARE"] * len(tags[held_out])
    few = {**SMALL, "epochs": 1, "validation_fraction": 0.2, "seed": 3}
    assert "RARE" in Tagger(**few).fit(sentences, tags).tags_


def test_scikit_learn_takes_it() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.model_selection import GridSearchCV, cross_val_score

    sentences, tags = made_up(30)
    twin = sklearn.base.clone(Tagger(**SMALL))
    assert twin.get_params() == Tagger(**SMALL).get_params()
    assert len(cross_val_score(Tagger(**SMALL), sentences, tags, cv=3)) == 3
    search = GridSearchCV(Tagger(**{**SMALL, "epochs": 1}), {"hidden_size": [4, 8]}, cv=2)
    assert search.fit(sentences, tags).best_params_["hidden_size"] in (4, 8)


@pytest.mark.parametrize(
    ("X", "y", "match"),
    [
        ([["a"]], [["X"], ["Y"]], "a list for each of 1 sentences, got 2"),
        ([["a", "b"]], [["X"]], "expected 2 for sentence 1, one a word, got 1"),
        ([["a"], []], [["X"], []], "sentence 2 is empty"),
        ([], [], "expected one word at least"),
    ],
)
def test_bad_data(X: Any, y: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Tagger().fit(X, y)
    if X:
        with pytest.raises(ValueError, match=match):
            fitted(epochs=1).score(X, y)


def test_a_tag_that_the_model_has_never_seen() -> None:
    sentences, tags = made_up(20)
    with pytest.raises(ValueError, match="'INTJ', which the model has never seen"):
        Tagger(**SMALL).fit(sentences, tags, validation=([["oh"]], [["INTJ"]]))
    assert fitted(epochs=1).score([["oh"]], [["INTJ"]]) == 0.0  # wrong, as it cannot be found


def test_the_source_tells_values_apart() -> None:
    sentences, tags = made_up(20)
    known = TaggerVocabularies.of(sentences, tags)
    source = TaggedSource(sentences, tags, known)
    assert source.fingerprint == TaggedSource(sentences, tags, known).fingerprint
    other = [[tag if tag != "NOUN" else "VERB" for tag in row] for row in tags]
    assert source.fingerprint != TaggedSource(sentences, other, known).fingerprint
    assert source.fingerprint != TaggedSource([s[::-1] for s in sentences], tags, known).fingerprint
    batch = Sentences([["Ann", "ann"], ["Bob"]], known).batch(np.array([0, 1]))
    assert batch.words[0, 0] == batch.words[1, 0] and batch.spelled[0, 0] != batch.spelled[1, 0]


# The command line

def run(*words: Any) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, seed in (("train", 0), ("dev", 1)):
        sentences, tags = made_up(60, seed)
        lines = [
            "".join(f"{word}\t{tag}\n" for word, tag in zip(*pair, strict=True))
            for pair in zip(sentences, tags, strict=True)
        ]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


OPTIONS = ["--hidden-size", 12, "--word-size", 8, "--character-size", 4, "--spelling-size", 6,
           "--learning-rate", 0.02, "--batch-size", 8, "--average", 0.9]  # fmt: skip


def test_train_tags_and_tag(files: Path) -> None:
    out = files / "out"
    done = run("train", "tags", files / "train.tsv", "--held-out", files / "dev.tsv", *OPTIONS,
               "--epochs", 12, "--output", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "60 sentences of" in done.output and "Let it tag:" in done.output
    right = float(done.output.split("Held-out accuracy: ")[1].split()[0])
    assert right > 95
    model = out / "best.safetensors"
    scored = run("tag", model, files / "dev.tsv", "--score")
    assert scored.exit_code == 0 and float(scored.output.split()[0]) > 95
    plain = files / "plain.txt"
    plain.write_text("Ann\nhas\nto\nduck\n\nBob\nsees\nthe\nduck\n.\n")
    tagged = run("tag", model, plain)
    assert tagged.output.splitlines()[3] == "duck\tVERB"
    assert run("tag", model, plain, "--output", files / "new.tsv").exit_code == 0
    assert (files / "new.tsv").read_text() == tagged.output
    assert [s.tags[3] for s in read_conllu(files / "new.tsv")] == ["VERB", "NOUN"]


def test_train_tags_in_two_parts(files: Path) -> None:
    whole, parts = files / "whole", files / "parts"
    begin = ["train", "tags", files / "train.tsv", "--held-out", files / "dev.tsv"]
    fixed = [*OPTIONS, "--schedule", "constant"]
    assert run(*begin, *fixed, "--steps", 12, "--output", whole).exit_code == 0
    assert run(*begin, *fixed, "--steps", 5, "--output", parts).exit_code == 0
    last = parts / "last.safetensors"
    done = run(*begin, "--resume", last, "--steps", 12)
    assert done.exit_code == 0, done.output
    one, two = (rnncore.files.load(f / "last.safetensors").tensors for f in (whole, parts))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    more = run(*begin, "--init-from", last, "--epochs", 1, "--output", files / "more")
    assert more.exit_code == 0, more.output


def test_a_resume_into_another_folder_takes_the_best_along(files: Path) -> None:
    begin = ["train", "tags", files / "train.tsv", "--held-out", files / "dev.tsv"]
    assert run(*begin, *OPTIONS, "--epochs", 12, "--output", files / "a").exit_code == 0
    best = (files / "a" / "best.safetensors").read_bytes()
    done = run(*begin, "--resume", files / "a" / "last.safetensors", "--epochs", 13,
               "--output", files / "b")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (files / "b" / "best.safetensors").read_bytes() == best  # nothing is better than 100 %
    logs = [(files / name / "log.jsonl").read_text().splitlines() for name in "ab"]
    assert logs[1][: len(logs[0])] == logs[0] and len(logs[1]) > len(logs[0])


def test_errors_of_the_commands(files: Path) -> None:
    train = files / "train.tsv"
    (files / "bad.conllu").write_text("1\tAnn\tAnn\tPROPN\n")
    (files / "none.tsv").write_text("Ann\t_\n")
    (files / "strange.tsv").write_text("Ann\tNEW\n")
    text = files / "text.safetensors"
    LanguageNetwork(rnncore.data.Vocabulary("ab"), hidden_size=4).save(text)
    for words, match in (
        (["train", "tags", files / "missing"], "missing"),
        (["train", "tags", files / "bad.conllu"], "bad.conllu"),
        (["train", "tags", files / "none.tsv"], "has words without one"),
        (["train", "tags", train, "--held-out", files / "strange.tsv"], "never seen"),
        (["train", "tags", train, "--init-from", text], "expected a tagger"),
        (["tag", text, train], "expected a tagger, but"),
        (["tag", train, train], "train.tsv"),
    ):
        done = run(*words, "--output", files / "x") if words[0] == "train" else run(*words)
        assert done.exit_code == 2, (words, done.output)
        assert match in done.output and "Traceback" not in done.output
        assert not (files / "x").exists()


def test_real_sentences(data_folder: Path) -> None:
    folder = data_folder / "tagging" / "ud-english-ewt"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    sentences = read_conllu(folder / "dev.conllu")
    X, y = [s.words for s in sentences], [s.tags for s in sentences]
    tagger = Tagger(hidden_size=48, word_size=32, spelling_size=24, epochs=6, learning_rate=8e-3,
                    average=0.9).fit(X[:1500], y[:1500])  # fmt: skip
    assert tagger.score(X[1500:], y[1500:]) > 0.8


def test_a_resume_is_of_the_same_sentences_and_settings(files: Path) -> None:
    begin = ["train", "tags", files / "train.tsv", "--held-out", files / "dev.tsv"]
    assert run(*begin, *OPTIONS, "--steps", 3, "--output", files / "out").exit_code == 0
    last = files / "out" / "last.safetensors"
    for words, match in (
        ([*begin, "--batch-size", 9], "--batch-size: expected 8"),
        ([*begin, "--order", 3], "--order: expected 0"),
        ([*begin, "--hidden-size", 9], "--hidden-size: expected 12"),
        ([*begin, "--seed", 9], "--seed: expected none"),
        ([*begin, "--init-from", last], "--init-from: expected none"),
        (begin[:3], "expected the very data"),
        ([*begin[:4], files / "train.tsv"], "expected the very data"),
        ([*begin[:2], files / "dev.tsv"], "expected the very data"),
        ([*begin, "--steps", 3], "but it is used up"),
    ):
        done = run(*words, "--resume", last)
        assert done.exit_code == 2 and match in done.output, (words, done.output)
    model = models.load(last)
    model.save(files / "model")
    done = run(*begin, "--resume", files / "model", "--output", files / "x")
    assert done.exit_code == 2 and "is a model alone" in done.output


def test_a_new_training_from_a_model_has_random_numbers_of_its_own(files: Path) -> None:
    begin = ["train", "tags", files / "train.tsv", *OPTIONS, "--steps", 2]
    assert run(*begin, "--output", files / "first").exit_code == 0
    found = []
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        model = files / "first" / "last.safetensors"
        done = run(*begin, "--init-from", model, "--seed", seed, "--output", files / name)
        assert done.exit_code == 0, done.output
        found.append(models.load(files / name / "last.safetensors").flat_params)
    assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])


@pytest.mark.parametrize(
    "forged",
    [
        {"hidden_size": 10**6}, {"word_size": 10**6}, {"character_size": 10**6},
        {"spelling_size": 10**6}, {"num_layers": 10**6}, {"directions": "forward"},
        {"spelling": "none"}, {"cell": "gru"}, {"cell": "what"}, {"vocabularies": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_of_other_sizes_is_refused(tmp_path: Path, forged: dict[str, Any]) -> None:
    model = fitted(epochs=1).network_
    description = {**model.describe(), **forged}
    path = tmp_path / "tagger"
    rnncore.files.save(path, model.state_dict(), {"kind": "tagger", "model": description})
    with pytest.raises(rnncore.FileError, match=r"expected a tagger, but .* holds something else"):
        models.load(path)
