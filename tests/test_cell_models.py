"""Models of cells by name, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import rnncore
from rnncore.cells import library, names, sigmoid, tanh
from rnncore.cli import main

pytest.importorskip("llvmlite")

TEXT = "to be or not to be, that is the question. " * 9


def half(z, prev):
    a = sigmoid(z.a)
    return a * prev.h + (1 - a) * tanh(z.n)


def other_half(z, prev):
    a = sigmoid(z.a)
    return a * prev.h + a * tanh(z.n)


other_half.__name__ = "half"


@pytest.fixture
def half_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the cell "half", and forget it afterwards."""
    monkeypatch.setattr(names, "_known", dict(names._known))
    rnncore.cell(gates="an")(half)


def test_the_names_of_the_library() -> None:
    made = {name for name, one in vars(library).items() if isinstance(one, rnncore.cells.Cell)}
    assert made == set(names.LIBRARY)


@pytest.mark.parametrize("cell", ["half", "min_gru", "peephole_lstm", "s_lstm"])
@pytest.mark.parametrize("embedding_size", [None, 5])
def test_a_language_model(half_cell, cell, embedding_size, tmp_path: Path) -> None:
    model = rnncore.LanguageModel(
        hidden_size=8, cell=cell, num_layers=2, embedding_size=embedding_size, batch_size=2,
        epochs=1,
    ).fit(TEXT)  # fmt: skip
    model.save(tmp_path / "model.safetensors")
    again = rnncore.load(tmp_path / "model.safetensors")
    assert again.score("not to be") == model.score("not to be")
    assert again.sample(9, seed=0) == model.sample(9, seed=0)
    assert b"sigmoid" not in (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("cell", ["half", "rg_lru"])
def test_sequences_of_both_directions(half_cell, cell, tmp_path: Path) -> None:
    x = [np.random.default_rng(k).standard_normal((5 + k, 2)) for k in range(8)]
    y = ["a", "b"] * 4
    model = rnncore.SequenceClassifier(
        hidden_size=6, cell=cell, directions="both", epochs=2, batch_size=4
    ).fit(x, y)
    model.save(tmp_path / "model.safetensors")
    again = rnncore.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


@pytest.mark.parametrize("cell", ["half", "coupled_lstm", "min_lstm", "s_lstm"])
def test_a_tagger_and_a_translator(half_cell, cell, tmp_path: Path) -> None:
    sentences = [["the", "dog", "barks"], ["a", "cat", "sleeps"]] * 4
    tagger = rnncore.Tagger(cell=cell, hidden_size=8, epochs=1, batch_size=4)
    tagger.fit(sentences, [["DET", "NOUN", "VERB"]] * 8)
    tagger.save(tmp_path / "tagger.safetensors")
    again = rnncore.load(tmp_path / "tagger.safetensors")
    assert again.predict(sentences[:2]) == tagger.predict(sentences[:2])
    translator = rnncore.Translator(cell=cell, hidden_size=8, epochs=1, batch_size=4)
    translator.fit(["one two", "three", "two", "one"] * 2, ["1 2", "3", "2", "1"] * 2)
    translator.save(tmp_path / "translator.safetensors")
    again = rnncore.load(tmp_path / "translator.safetensors")
    assert again.predict(["two one"]) == translator.predict(["two one"])


def test_a_file_asks_for_its_cell(half_cell, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    rnncore.LanguageModel(hidden_size=4, cell="half", batch_size=2, epochs=1).fit(TEXT).save(path)
    rnncore.cell(gates="an")(other_half)
    with pytest.raises(rnncore.FileError, match=r"'half' as it was when .* other gates"):
        rnncore.load(path)
    del names._known["half"]
    with pytest.raises(rnncore.FileError, match=r"cell of your own; .*'half'.* import the module"):
        rnncore.load(path)
    rnncore.cell(gates="an")(half)
    rnncore.load(path)


def test_a_cell_that_is_none() -> None:
    with pytest.raises(ValueError, match="no cell is called 'nothing'; expected lstm, gru, rnn, "):
        rnncore.LanguageModel(cell="nothing").fit(TEXT)


@pytest.mark.parametrize("cell", ["min_gru", "lstm(hard_sigmoid, tanh, tanh)"])
def test_the_command_line_knows_the_library(cell: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 9)
    said = CliRunner().invoke(main, [
        "train", "text", str(tmp_path / "text.txt"), "--cell", cell, "--hidden-size", "8",
        "--epochs", "1", "--output", str(tmp_path / "out"),
    ])  # fmt: skip
    assert said.exit_code == 0, said.output
    last = tmp_path / "out/last.safetensors"
    assert rnncore.load(last).cell == cell
    said = CliRunner().invoke(main, ["train", "text", str(tmp_path / "text.txt"), "--resume",
                                     str(last), "--epochs", "2"])  # fmt: skip
    assert said.exit_code == 0, said.output
    for wrong, words in (
        ("lstm(swish, tanh, tanh)", "expected one of tanh"), ("lstm(tanh)", "no cell is called"),
        ("lsmt", "is not one of"),
    ):  # fmt: skip
        said = CliRunner().invoke(main, ["train", "text", str(last), "--cell", wrong])
        assert said.exit_code == 2 and words in said.output and "Error: Invalid" in said.output
