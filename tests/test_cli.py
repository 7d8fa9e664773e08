"""The commands, run as a user runs them."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnncore import files
from rnncore.data import TextSettings, UnitSettings
from rnncore.estimators import LanguageModel
from rnncore.models.language_network import LanguageSettings
from rnncore.training import TrainingSettings

DATA = Path(os.environ.get("RNNCORE_DATA", Path(__file__).parents[2] / "shared" / "data"))
COMMAND = [sys.executable, "-m", "rnncore.cli"]
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--sequence-length", "20", "--samples", "0"]


def run(
    *arguments: object, status: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, encoding="utf-8", cwd=cwd
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def refuse(*arguments: object, match: str) -> None:
    """Run, and expect exit status 2 and one sentence."""
    error = run(*arguments, status=2).stderr
    lines = [line for line in error.splitlines() if line and not line.startswith(("Usage", "Try"))]
    assert len(lines) == 1, error
    assert re.search(match, lines[0]), error


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog, and it is glad.\n" * 60)
    return path


@pytest.fixture(scope="module")
def folder(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished training."""
    folder = tmp_path_factory.mktemp("trained")
    done = run("train", "text", text_file, *SMALL, "--steps", 60, "--output", folder)
    assert re.search(r"Held-out loss: \d\.\d+ bits per character", done.stdout)
    assert re.search(r"chars/s, \d\.\d+ bits/char, .* left", done.stderr)
    return folder


def test_a_precision_without_gradients_leaves_nothing(text_file: Path, tmp_path: Path) -> None:
    words = "precision: expected float32, bfloat16 or bfloat16x3 for training, got 'int8'"
    to = tmp_path / "out"
    refuse("train", "text", text_file, *SMALL, "--precision", "int8", "--output", to, match=words)
    assert not to.exists()


def test_help_and_version() -> None:
    assert "demo" in run("--help").stdout
    assert re.fullmatch(r"rnncore, version \S+\n", run("--version").stdout)


def test_config() -> None:
    assert run("config").stdout.strip()


def test_sample(folder: Path) -> None:
    arguments = ("sample", folder / "best.safetensors", "--prime", "the ", "--seed", 1)
    written = run(*arguments, "--length", 50).stdout
    assert written.startswith("the ")
    assert len(written) == 4 + 50 + 1
    assert run(*arguments, "--length", 50).stdout == written
    assert run(*arguments, "--length", 50, "--temperature", 0).stdout != written


def test_sample_options(folder: Path) -> None:
    arguments = ("sample", folder / "best.safetensors", "--prime", "the ", "--length", 200)
    ends = run(*arguments, "--seed", 1, "--stop", "o").stdout
    assert ends.endswith("o\n") and ends[4:].count("o") == 1
    options = ("--top-k", 5, "--top-p", 0.9, "--repetition-penalty", 1.2, "--repetition-window", 8)
    many = run(*arguments, *options, "--seed", 3, "--samples", 3).stdout
    for seed in (3, 4, 5):
        alone = run(*arguments, *options, "--seed", seed).stdout
        assert f"--- seed {seed} ---\n{alone}" in many
    assert many.count("--- seed ") == 3
    assert run(*arguments, "--samples", 2).stdout.count("--- seed ") == 2
    written = run(*arguments, "--length", 1, "--seed", 7, "--samples", 300).stdout
    seeds = [int(seed) for seed in re.findall(r"--- seed (\d+) ---", written)]
    assert seeds == list(range(7, 307))  # more than are written at once
    refuse(*arguments, "--temperature", 0, "--top-k", 5, match="top_k: expected none with temp")
    refuse(*arguments, "--repetition-window", 5, match="repetition_window: expected none without")
    refuse(*arguments, "--stop", "", match="stop: expected a text, got an empty one")
    refuse(*arguments, "--stop", "Ω", match="stop: expected what the model can write")
    refuse(*arguments, "--top-p", 0, match="--top-p")


def test_evaluate(folder: Path, text_file: Path, tmp_path: Path) -> None:
    best = folder / "best.safetensors"
    model = LanguageModel.load(best)
    (tmp_path / "other").write_text("the dog\n\nthe Ω fox\n")
    alone = run("evaluate", best, text_file).stdout
    assert alone == f"{model.evaluate(text_file).describe()}\n"
    lines = run("evaluate", best, text_file, tmp_path / "other").stdout.splitlines()
    assert lines[0] == f"{text_file}: {alone.strip()}"
    assert "1 unknown character counted as 20.1 bits" in lines[1]
    assert lines[2].startswith("all: ") and len(lines) == 3
    last = run("evaluate", best, text_file, "--last", 0.05).stdout
    held_out = files.load(folder / "last.safetensors").metadata["training"]["validation_curve"]
    bits = float(last.split()[0])
    assert bits == pytest.approx(held_out[-1][3], abs=0.05)  # of one stream, its first symbol too
    each = run("evaluate", best, tmp_path / "other", "--each").stdout.splitlines()
    rows = [line.split("\t") for line in each]
    assert [row[2:] for row in rows] == [["0", "the dog"], ["0", ""], ["1", "the Ω fox"]]
    assert float(rows[0][0]) == pytest.approx(model.score_text("the dog").bits, abs=0.01)
    refuse("evaluate", best, match="Missing argument 'TEXT...'")
    refuse("evaluate", best, tmp_path / "gone", match="gone' does not exist")
    refuse("evaluate", text_file, text_file, match="not a safetensors file")
    refuse("evaluate", best, text_file, "--each", "--last", 0.1, match="--last: expected none")
    refuse("evaluate", best, text_file, "--last", 1, match="--last")
    refuse("evaluate", best, text_file, "--encoding", "utf-9", match="encoding: .*'utf-9'")
    refuse("evaluate", best, text_file, "--encoding", "bytes", match="encoding: .* 'bytes'")
    refuse("evaluate", best, "", match="TEXT: expected files, folders or patterns")
    refuse("evaluate", best, "", "--each", match="text source: .* got an empty name")


def test_the_printed_command_samples(text_file: Path, tmp_path: Path) -> None:
    done = run("train", "text", text_file, *SMALL, "--steps", 2, cwd=tmp_path)
    command = done.stdout.rsplit("Let it write: ", 1)[1].strip()
    written = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert len(written.stdout.decode()) == 501
    names = {path.name for path in (tmp_path / "rnncore-text").iterdir()}
    assert names >= {"last.safetensors", "best.safetensors"}


def test_interrupt_saves_and_the_printed_command_goes_on(text_file: Path, tmp_path: Path) -> None:
    """Train 8000 steps at a stretch and with a Ctrl-C in between: the same weights."""
    common = ["train", "text", str(text_file), *SMALL, "--dropout", "0.2", "--steps", "8000"]
    process = subprocess.Popen(
        [*COMMAND, *common, "--output", "cut"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.match(r"step [1-9]", line):
            process.send_signal(signal.SIGINT)
            break
    seen += process.stdout.read()
    assert process.wait(20) == 130, seen
    step = files.load(tmp_path / "cut" / "last.safetensors")[1]["training"]["step"]
    assert 0 < step < 8000
    assert f"Interrupted at step {step}" in seen
    command = seen.rsplit("Go on with: ", 1)[1].strip()
    subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)
    run(*common, "--output", "whole", cwd=tmp_path)
    cut, whole = (
        files.load(tmp_path / name / "last.safetensors")[0] for name in ("cut", "whole")
    )
    assert cut.keys() == whole.keys()
    assert all(cut[name].tobytes() == whole[name].tobytes() for name in whole)


def test_resume_with_a_larger_budget(folder: Path, text_file: Path, tmp_path: Path) -> None:
    last = folder / "last.safetensors"
    arguments = ("train", "text", text_file, "--resume", last, "--samples", 0)
    refuse(*arguments, match="it is used up; give a larger --epochs, --steps or --seconds")
    refuse(*arguments, "--hidden-size", 9, match="--hidden-size: expected 8 as in the checkpoint")
    refuse(*arguments, "--batch-size", 9, match="--batch-size: expected 4 as in the checkpoint")
    run(*arguments, "--steps", 70, "--hidden-size", 8, "--output", tmp_path)
    assert files.load(tmp_path / "last.safetensors")[1]["training"]["step"] == 70


def test_a_training_is_not_replaced_by_accident(folder: Path, text_file: Path) -> None:
    before = (folder / "last.safetensors").read_bytes()
    refuse("train", "text", text_file, *SMALL, "--output", folder, match="--overwrite")
    assert (folder / "last.safetensors").read_bytes() == before


def test_bytes_as_the_alphabet(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("grün und schön\n".encode("latin-1") * 30)
    refuse("train", "text", tmp_path / "a", match="--encoding latin-1.*--unit bytes")
    arguments = ("train", "text", tmp_path / "a", *SMALL)
    refuse(*arguments, "--encoding", "bytes", match="encoding: .*got 'bytes'.*--unit bytes")
    arguments = (*arguments, "--unit", "bytes")
    refuse(*arguments, "--encoding", "latin-1", match="encoding: expected none .* got 'latin-1'")
    done = run(*arguments, "--steps", 2, "--output", tmp_path / "out")
    assert "450 bytes; the last 22 held out" in done.stdout
    assert re.search(r"Held-out loss: \d\.\d+ bits per byte", done.stdout)
    assert re.search(r"bytes/s, \d\.\d+ bits/byte, .* left", done.stderr)
    last = tmp_path / "out" / "last.safetensors"
    run("sample", last, "--prime", "gr")
    run(*arguments[:3], "--resume", last, "--steps", 3)
    refuse(*arguments[:3], "--resume", last, "--unit", "words", match="--unit: expected bytes as")
    refuse(*arguments[:3], "--resume", last, "--least-count", 2, match="--least-count: expected no")


def test_words(tmp_path: Path) -> None:
    text, out = tmp_path / "a.txt", tmp_path / "out"
    line = "The king said: be good to the old king. The queen said: no, the king is bad\n"
    text.write_text(line * 60)  # of 22 words and marks
    begin = ("train", "text", text, "--samples", 0)
    cut = ("--batch-size", 4, "--sequence-length", 10, "--hidden-size", 8, "--dropout", 0.2)
    arguments = (*begin, *cut, "--unit", "words", "--vocabulary-size", 12)
    done = run(*arguments, "--steps", 40, "--output", out)
    assert "1,320 words; the last 66 held out; 1,240 trained on" in done.stdout
    assert re.search(r"; 12 known, 2\d\.\d % of the text is not", done.stdout)
    assert re.search(r"Held-out loss: \d\.\d+ nats per word", done.stdout)
    assert re.search(r"words/s, \d\.\d+ nats/word, .* left", done.stderr)
    log = (out / "log.jsonl").read_text()
    assert '"training_loss"' in log and '"words_per_second"' in log

    # it writes what it knows, whatever it is told
    best = out / "best.safetensors"
    written = run("sample", best, "--prime", "The emperor ", "--length", 30, "--seed", 1).stdout
    assert written.startswith("The emperor ") and "<unknown>" not in written
    vocabulary = files.load(best).metadata["model"]["vocabulary"]
    assert vocabulary["alphabet"] == "words of a text" and len(vocabulary["symbols"]) == 12

    # exactly as without a break
    last, whole = out / "last.safetensors", tmp_path / "whole"
    resumed = (*begin, "--resume", last, "--steps", 60, "--schedule", "constant")
    run(*arguments, "--steps", 25, "--schedule", "constant", "--output", out, "--overwrite")
    run(*resumed)
    run(*arguments, "--steps", 60, "--schedule", "constant", "--output", whole)
    cut_one, whole_one = (files.load(path / "last.safetensors")[0] for path in (out, whole))
    assert cut_one.keys() == whole_one.keys()
    assert all(cut_one[name].tobytes() == whole_one[name].tobytes() for name in whole_one)
    refuse(*resumed, "--unit", "characters", match="--unit: expected words as in the checkpoint")
    refuse(*resumed, "--vocabulary-size", 9, match="--vocabulary-size: expected none, since the ch")
    refuse(*begin, "--least-count", 2, match="least_count: .*unit 'characters'.*'words'")
    refuse(*begin, "--unit", "letters", match="--unit")

    # other words are unknown to it, and no more than that
    other = tmp_path / "other.txt"
    other.write_text("The emperor said: the queen is Ω.\n" * 60)
    more = ("train", "text", other, "--init-from", best, *cut[:4], "--samples", 0, "--steps", 1)
    run(*more, "--output", tmp_path / "more")
    begun = files.load(tmp_path / "more" / "last.safetensors").metadata
    assert begun["model"]["vocabulary"] == vocabulary


def test_demo(tmp_path: Path) -> None:
    start = time.monotonic()
    done = run("demo", "--seconds", 1, "--output", tmp_path / "demo")
    assert time.monotonic() - start < 60  # the budget counts, on a busy machine too
    samples = re.findall(r"--- a sample at step (\d+) ---\ndef ", done.stdout)
    assert samples[0] == "0"
    assert len(samples) >= 3
    assert "Held-out loss" in done.stdout
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names >= {"last.safetensors", "best.safetensors"}
    png = tmp_path / "demo" / "loss.png"
    if "pip install matplotlib" not in done.stdout:
        assert png.read_bytes().startswith(b"\x89PNG")
    command = done.stdout.rsplit("Let it write: ", 1)[1].strip()
    written = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert written.stdout.startswith(b"def ")


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_other_signals_save_as_well(
    text_file: Path, tmp_path: Path, name: str, status: int
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "train", "text", str(text_file), *SMALL, "--seconds", "60", "--output", "cut"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("step 0"):
            process.send_signal(getattr(signal, name))
            break
    seen += process.stdout.read()
    assert process.wait(20) == status, seen
    assert "Go on with: " in seen
    assert files.load(tmp_path / "cut" / "last.safetensors")[1]["training"]["step"] >= 0


def test_a_new_training_from_the_weights_of_a_model(folder: Path, tmp_path: Path) -> None:
    model, other = folder / "best.safetensors", tmp_path / "other.txt"
    other.write_text("dogs and foxes jump over the glad dog.\n" * 40)
    arguments = ("train", "text", other, "--samples", 0, "--output", tmp_path / "out")
    refuse(*arguments, "--resume", model, match="very data.*begin a new .* --init-from MODEL")
    arguments = (*arguments, "--steps", 1, "--batch-size", 3, "--sequence-length", 10)
    refuse(*arguments, "--resume", model, "--init-from", model, match="--init-from: expected none")
    refuse(*arguments, "--init-from", model, "--hidden-size", 9, match="--hidden-size: expected 8")
    run(*arguments, "--init-from", model, "--learning-rate", 1e-30)
    begun, first = (files.load(path) for path in (tmp_path / "out/last.safetensors", model))
    assert begun.metadata["model"] == first.metadata["model"]
    assert begun.metadata["training"]["step"] == 1
    assert begun.metadata["training"]["source"]["batch_size"] == 3
    for name in begun.metadata["model"], first.metadata["model"]:
        assert name["hidden_size"] == 8
    assert all(
        np.array_equal(array, first.tensors[name])
        for name, array in begun.tensors.items()
        if not name.startswith(("optimizer.", "carried_state.", "average."))
    )
    other.write_text("Ω and foxes\n" * 200)
    reason = "got 'Ω', which the model has never seen; .* --init-from: the symbols of .* stay"
    refuse(*arguments, "--overwrite", "--init-from", model, match=reason)


def test_a_resume_keeps_how_the_text_is_cut(folder: Path, text_file: Path, tmp_path: Path) -> None:
    last = folder / "last.safetensors"
    arguments = ("train", "text", text_file, "--resume", last, "--samples", 0, "--steps", 70)
    for option, value in (("--sequence-length", 9), ("--validation-fraction", 0.5),
                          ("--optimizer", "sgd"), ("--cell", "gru")):  # fmt: skip
        refuse(*arguments, option, value, match=f"{option}: expected .* as in the checkpoint")
    run(*arguments, "--schedule", "exponential", "--decay", 0.5, "--output", tmp_path)
    training = files.load(tmp_path / "last.safetensors")[1]["training"]
    assert training["settings"]["decay"] == 0.5
    # back to another schedule
    run(*arguments[:4], tmp_path / "last.safetensors", "--steps", 80, "--schedule", "constant")


def test_options_of_the_training_settings(text_file: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "optimizer": "adamw", "weight_decay": 0.1, "schedule": "plateau", "patience": 1,
        "decay": 0.7, "warmup": 0.1, "accumulate": 2, "average": 0.9,
    }  # fmt: skip
    options = [part for n, v in given.items() for part in (f"--{n.replace('_', '-')}", v)]
    run("train", "text", text_file, *SMALL, *options, "--steps", 20, "--output", tmp_path)
    last = tmp_path / "last.safetensors"
    tensors, metadata = files.load(last)
    settings = metadata["training"]["settings"]
    assert {name: settings[name] for name in given} == given
    assert (metadata["training"]["step"], metadata["training"]["position"]) == (20, 40)
    assert "average.raw" in tensors
    assert run("sample", last, "--length", 20, "--seed", 0).stdout
    arguments = ("train", "text", text_file, "--samples", 0, "--resume", last, "--steps", 24)
    for option, value in (("--average", 0.5), ("--weight-decay", 0.2)):
        refuse(*arguments, option, value, match=f"{option}: expected .* as in the checkpoint")
    run(*arguments, "--schedule", "one-cycle", "--accumulate", 1)
    training = files.load(last)[1]["training"]
    assert (training["step"], training["position"]) == (24, 44)
    assert [training["settings"][name] for name in ("decay", "patience")] == [None, None]


def test_sample_prints_as_it_writes(folder: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "sample", str(folder / "best.safetensors"), "--length", "100000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert len(process.stdout.read(20)) == 20  # and did not write all of it first
    finally:
        process.kill()
        process.communicate()


def test_every_setting_is_an_option_with_its_default() -> None:
    shown = re.sub(r"\s+", " ", run("train", "text", "--help").stdout)
    for kind in (UnitSettings, LanguageSettings, TextSettings, TrainingSettings):
        for field in dataclasses.fields(kind):
            option = f"--{field.name.replace('_', '-')} "
            assert option in shown
            about = shown.split(option, 1)[1][:200]
            assert field.metadata["help"].split("  ")[0] in shown
            if field.default is not None and field.default is not False:  # a flag is off
                assert f"default: {field.default}" in about, option


class TestBadInput:
    """Exit status 2, one sentence, no traceback."""

    def test_text(self, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").write_text("")
        (tmp_path / "short.txt").write_text("short")
        (tmp_path / "folder").mkdir()
        refuse("train", "text", tmp_path / "empty.txt", match="empty text")
        refuse("train", "text", tmp_path / "short.txt", match="2501 characters to train on, got 5")
        refuse("train", "text", tmp_path / "gone.txt", match="gone.txt' does not exist")
        refuse("train", "text", tmp_path / "folder", match="no file that is text")

    def test_options(self, text_file: Path) -> None:
        refuse("train", "text", match="Missing argument 'FILE...'")
        refuse("train", "text", text_file, "--hidden-size", 0, match="--hidden-size")
        refuse("train", "text", text_file, "--epochs", "inf", match="epochs: .* finite .* got inf")
        refuse("train", "text", text_file, "--decay", 0.5, match="decay: .* 'cosine', which has no")
        refuse("demo", "--seconds", "inf", match="seconds: expected a finite")
        refuse("train", "text", "/dev/zero", match="expected a regular file.*device or a pipe")
        refuse("train", "text", text_file, "--encoding", "utf-9", match="encoding: .*'utf-9'")

    def test_model_files(self, folder: Path, text_file: Path, tmp_path: Path) -> None:
        whole = (folder / "last.safetensors").read_bytes()
        cut = tmp_path / "cut"
        cut.write_bytes(whole[: len(whole) // 2])
        refuse("sample", cut, match="cut off, damaged")
        refuse("sample", text_file, match="not a safetensors file")
        refuse("sample", tmp_path / "gone", match="gone' does not exist")
        refuse("train", "text", text_file, "--resume", cut, match="cut off, damaged")

    def test_resume_with_a_seed(self, folder: Path, text_file: Path) -> None:
        last = folder / "last.safetensors"
        refuse("train", "text", text_file, "--resume", last, "--seed", 3, match="--seed: .* got 3")

    def test_resume_on_another_text(self, folder: Path, text_file: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.txt"
        last = folder / "last.safetensors"
        for text, reason in ((text_file.read_text()[1:], "very data"), ("ß" * 9000, "very files")):
            other.write_text(text)
            refuse("train", "text", other, "--resume", last, "--steps", 99, match=reason)

    def test_model_alone(self, folder: Path, text_file: Path, tmp_path: Path) -> None:
        tensors, metadata = files.load(folder / "last.safetensors")
        files.save(tmp_path / "m", tensors, {"model": metadata["model"]})
        refuse("train", "text", text_file, "--resume", tmp_path / "m", match="a model alone")

    def test_prime(self, folder: Path) -> None:
        refuse("sample", folder / "last.safetensors", "--prime", "ΩX", match="prime text: .*'X'")

    def test_an_output_that_cannot_be_made(self, text_file: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        output = tmp_path / "file" / "below"
        refuse(
            *("train", "text", text_file, *SMALL, "--output", output),
            match="--output: expected a folder that can be written to.*Not a directory",
        )

    def test_a_wrong_environment(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RNNCORE_NUM_THREADS", "9" * 20)
        refuse("sample", folder / "last.safetensors", match="RNNCORE_NUM_THREADS: expected a whole")
        monkeypatch.setenv("RNNCORE_NUM_THREADS", "1")
        monkeypatch.setenv("RNNCORE_ISA", "v9")
        refuse("sample", folder / "last.safetensors", match="^Error: RNNCORE_ISA: expected one of")


def test_what_is_not_finite_ends_with_status_1(text_file: Path, tmp_path: Path) -> None:
    error = run(
        *("train", "text", text_file, *SMALL, "--steps", 200, "--output", tmp_path / "out"),
        *("--learning-rate", 1e38, "--optimizer", "sgd", "--clip-norm", 1e38),
        status=1,
    ).stderr
    assert "training stopped after step" in error
    assert files.load(tmp_path / "out" / "last.safetensors")


@pytest.mark.skipif(not (DATA / "text").is_dir(), reason=f"no data in {DATA}")
def test_shakespeare(tmp_path: Path) -> None:
    done = run(
        *("train", "text", DATA / "text" / "tinyshakespeare.txt", "--steps", 120),
        *("--num-layers", 1, "--hidden-size", 64, "--learning-rate", 0.02, "--samples", 0),
        *("--validation-fraction", 0.02, "--validations", 1, "--output", tmp_path),
    )
    found = re.search(r"Held-out loss: (\S+) bits", done.stdout)
    assert found is not None
    assert float(found[1]) < 3.7  # the frequencies alone give 4.8
