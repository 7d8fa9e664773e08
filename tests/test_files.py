"""Files: kinds, what is read and when, malformed files, what killed processes leave."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import rnncore
from rnncore import files, models
from rnncore.cli import main
from rnncore.data import TextSource, Vocabulary
from rnncore.models import LanguageNetwork
from rnncore.training import Trainer, TrainingSettings

TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 20
CUT = {"batch_size": 4, "sequence_length": 20}


@pytest.fixture
def model() -> LanguageNetwork:
    return LanguageNetwork(Vocabulary(TEXT), hidden_size=6, num_layers=1, embedding_size=3, seed=0)


@pytest.fixture
def checkpoint(model: LanguageNetwork, tmp_path: Path) -> Path:
    source = TextSource(model.vocabulary.encode(TEXT), **CUT)
    trainer = Trainer(model, source, TrainingSettings(steps=3), tmp_path)
    trainer.run()
    return tmp_path / "last.safetensors"


def test_load_returns_the_model_of_the_kind_in_the_file(
    model: LanguageNetwork, checkpoint: Path, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    for path in (tmp_path / "model", checkpoint):
        assert files.load(path).metadata["kind"] == "language model"
        loaded = models.load(path)
        assert isinstance(loaded, LanguageNetwork)
        assert loaded.flat_params.tobytes() == model.flat_params.tobytes()
    # the first files named no kind
    files.save(tmp_path / "old", model.state_dict(), {"model": model.describe()})
    assert isinstance(models.load(tmp_path / "old"), LanguageNetwork)
    files.save(tmp_path / "other", {}, {"kind": "painter", "model": {}})
    with pytest.raises(rnncore.FileError, match=r"tagger.*\), but .*other' holds a 'paint"):
        models.load(tmp_path / "other")
    with pytest.raises(rnncore.FileError, match=r"expected a language model, but .* a 'painter'"):
        LanguageNetwork.load(tmp_path / "other")


def test_loading_imports_no_training_code(model: LanguageNetwork, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    script = (
        f"import sys; from rnncore import models; models.load({str(tmp_path / 'm')!r}).sample(3)\n"
        "print([m for m in sys.modules if m.startswith(('rnncore.training', 'rnncore.cli'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_loading_draws_no_weights_and_leaves_a_working_generator(
    model: LanguageNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(tmp_path / "m")
    before: list[Any] = []
    load = LanguageNetwork.load_state_dict

    def remember(self: LanguageNetwork, state: Any) -> None:
        before.append(self.state_dict())
        load(self, state)

    monkeypatch.setattr(LanguageNetwork, "load_state_dict", remember)
    loaded = LanguageNetwork.load(tmp_path / "m")
    assert len(before) == 1
    assert not any(before[0][name].any() for name in ("head.weight", "rnn.weight_hh_l0"))
    assert loaded.generator.uniform(size=3).any()
    assert loaded.generator.standard_normal(3).any()


def test_a_resume_opens_its_file_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    opened: list[str] = []
    real = builtins.open

    def count(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if mode == "rb":
            opened.append(str(path))
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(builtins, "open", count)
    checksum = files._checksum
    hashed: list[int] = []
    monkeypatch.setattr(files, "_checksum", lambda *a: hashed.append(len(opened)) or checksum(*a))
    out = str(tmp_path / "out")
    arguments = ["--resume", str(checkpoint), "--steps", "4", "--samples", "0", "--output", out]
    done = CliRunner().invoke(main, ["train", "text", str(tmp_path / "text.txt"), *arguments])
    assert done.exit_code == 0, done.output
    assert opened.count(str(checkpoint)) == 1
    assert hashed.count(1) == 1  # read, hashed; only then the text was opened


def forge(path: Path, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Write a file whose checksum is right."""
    files.save(path, tensors, metadata)


def test_malformed_files_give_one_error_of_one_kind(checkpoint: Path, tmp_path: Path) -> None:
    whole, path = checkpoint.read_bytes(), tmp_path / "broken"
    tensors = files.load(checkpoint).tensors
    n = struct.unpack("<Q", whole[:8])[0]
    generator = random.Random(0)
    numbers = ["-1", "0", "1e9", "99999999999999999999", "null", "[]", "{}", '"F32"', "true"]
    for _ in range(400):
        content = bytearray(whole)
        kind = generator.randrange(4)
        if kind == 0:  # bytes anywhere
            for _ in range(generator.randrange(1, 9)):
                content[generator.randrange(len(content))] = generator.randrange(256)
        elif kind == 1:  # another size of the header
            content[:8] = struct.pack("<Q", generator.choice([0, n - 1, n + 1, 2**40, 2**64 - 1]))
        elif kind == 2:  # another number in the header
            header = whole[8 : 8 + n].decode()
            places = [i for i, c in enumerate(header) if c.isdigit()]
            place = generator.choice(places)
            header = header[:place] + generator.choice(numbers) + header[place + 1 :]
            content = bytearray(struct.pack("<Q", len(header.encode())) + header.encode())
            content += whole[8 + n :]
        else:
            content = content[: generator.randrange(len(content))]
        path.write_bytes(content)
        try:
            loaded = files.load(path)
        except files.FileError as error:
            assert "\n" not in str(error)
        else:
            assert all(np.array_equal(loaded.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("depth", [100_000])
def test_deep_json(tmp_path: Path, depth: int) -> None:
    entries = ["[" * depth + "]" * depth, json.dumps({"__metadata__": {"rnncore": "[" * depth}})]
    for entry in entries:
        content = entry.encode()
        (tmp_path / "m").write_bytes(struct.pack("<Q", len(content)) + content)
        with pytest.raises(files.FileError, match="damaged"):
            files.load(tmp_path / "m")


def test_forged_contents_with_a_right_checksum(checkpoint: Path, tmp_path: Path) -> None:
    """Whatever stands in the JSON of a whole file: FileError, from the model or the trainer."""
    tensors, metadata = files.load(checkpoint)
    generator, path = random.Random(1), tmp_path / "forged"
    values = [None, -1, 0, 10**12, 1e308, True, "x", [], {}, [[]], float("nan")]
    places = []

    def walk(node: Any, way: tuple[Any, ...]) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((*way, key))
            if isinstance(node[key], dict | list):
                walk(node[key], (*way, key))

    walk(metadata, ())
    refused = 0
    for _ in range(300):
        changed = json.loads(json.dumps(metadata))
        *way, key = generator.choice(places)
        node = changed
        for step in way:
            node = node[step]
        if generator.random() < 0.3 and isinstance(node, dict):
            del node[key]
        else:
            node[key] = generator.choice(values)
        forge(path, tensors, changed)
        try:
            model = models.load(path)
            source = TextSource(model.vocabulary.encode(TEXT), **CUT)
            Trainer(model, source, TrainingSettings(steps=3)).restore(path)
        except files.FileError:
            refused += 1
        except ValueError as error:  # a vocabulary without characters of the text
            assert "never seen" in str(error)
    assert refused > 100


def test_arrays_without_bytes_may_claim_any_size(model: LanguageNetwork, tmp_path: Path) -> None:
    tensors = model.state_dict() | {"head.weight": np.zeros((0, 2**40), np.float32)}
    forge(tmp_path / "m", tensors, {"model": {**model.describe(), "hidden_size": 2**40}})
    with pytest.raises(files.FileError, match=r"head.weight is \(0, "):
        models.load(tmp_path / "m")


def test_temporary_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = (tmp_path / f".m.{pid}.tmp" for pid in (ended.pid, os.getppid()))
    other, unlike = tmp_path / f".other.{ended.pid}.tmp", tmp_path / ".m.notes.tmp"
    for path in (dead, alive, other, unlike):
        path.write_text("")
    files.save(tmp_path / "m", {}, {})
    assert not dead.exists()
    assert alive.exists() and other.exists() and unlike.exists()


def test_devices_and_pipes_are_not_replaced_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match="device or a pipe"):
            files.save(path, {}, {})
        with pytest.raises(files.FileError, match="device or a pipe"):
            files.load(path)
    assert not list(tmp_path.glob(".*"))


def test_the_checksum_is_the_one_of_the_first_files() -> None:
    metadata = {"a": 1}
    digest = hashlib.blake2b(b'{"a": 1}w <f4 (2,)' + bytes(8), digest_size=16).hexdigest()
    assert files._checksum({"w": np.zeros(2, np.float32)}, metadata) == digest


def test_the_command_line_says_that_the_disk_is_full_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    save, calls = files.save, []

    def full(path: Any, *contents: Any) -> None:
        calls.append(path)
        if len(calls) in (4, 5):
            raise OSError(28, "No space left on device")
        save(path, *contents)

    monkeypatch.setattr(files, "save", full)
    small = ["--hidden-size", "4", "--batch-size", "4", "--sequence-length", "20"]
    command = ["train", "text", str(tmp_path / "text.txt"), *small, "--samples", "0"]
    done = CliRunner().invoke(main, [*command, "--steps", "9", "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "Warning: step" in done.output and "No space left" in done.output
    assert files.load(tmp_path / "out" / "last.safetensors").metadata["training"]["step"] == 9
