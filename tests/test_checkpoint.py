"""Model files and checkpoints: whole or refused, and a resume that leaves no trace."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from rnncore import files
from rnncore.data import TextSource, Vocabulary
from rnncore.models import LanguageNetwork
from rnncore.training import Callback, ReduceOnPlateau, Trainer, TrainingSettings

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b.c": np.array([np.nan, -0.0, np.inf]),
    "empty": np.zeros((0, 4), dtype=np.float32),
}
METADATA = {"settings": {"size": 3, "none": None, "rate": 0.1}, "vocabulary": 'ä"\n\0'}
TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind. " * 20


def test_round_trip(tmp_path: Path) -> None:
    files.save(tmp_path / "m", TENSORS, METADATA)
    tensors, metadata = files.load(tmp_path / "m")
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].tobytes() == tensor.tobytes()


def test_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    files.save(tmp_path / "m", {"a": TENSORS["a"].T}, {})
    assert np.array_equal(files.load(tmp_path / "m")[0]["a"], TENSORS["a"].T)


def test_equal_contents_make_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        files.save(tmp_path / name, TENSORS, METADATA)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    files.save(tmp_path / "m", TENSORS, METADATA)
    whole = (tmp_path / "m").read_bytes()
    for size in [*range(0, 16), *range(16, len(whole), 7), len(whole) - 1]:
        (tmp_path / "m").write_bytes(whole[:size])
        with pytest.raises(files.FileError, match="model file: expected"):
            files.load(tmp_path / "m")


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    files.save(tmp_path / "m", TENSORS, METADATA)
    whole = (tmp_path / "m").read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "m").write_bytes(damaged)
        try:
            tensors, metadata = files.load(tmp_path / "m")
        except files.FileError:
            continue
        # A flip in the blanks that pad the header changes nothing that is read.
        assert metadata == METADATA
        assert all(tensors[n].tobytes() == t.tobytes() for n, t in TENSORS.items())


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for content in (b"hello, this is a text", pickle.dumps(TENSORS), bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(files.FileError, match="damaged or not a safetensors file"):
            files.load(path)
    save_file({"a": TENSORS["a"]}, path, metadata={"format": "pt"})
    with pytest.raises(files.FileError, match="of another program"):
        files.load(path)
    save_file({"a": TENSORS["a"]}, path)
    with pytest.raises(files.FileError, match="of another program"):
        files.load(path)
    with pytest.raises(files.FileError, match="does not exist"):
        files.load(tmp_path / "gone")
    with pytest.raises(files.FileError, match="is a folder"):
        files.load(tmp_path)


def test_other_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, "FORMAT_VERSION", 99)
        files.save(tmp_path / "m", TENSORS, METADATA)
    with pytest.raises(files.FileError, match=r"version 99 and this rnncore reads version 1"):
        files.load(tmp_path / "m")


def test_whole_files_that_are_no_language_model(tmp_path: Path) -> None:
    path = tmp_path / "m"
    model = LanguageNetwork(Vocabulary(TEXT), hidden_size=4, seed=0)
    tensors, metadata = model.state_dict(), {"model": model.describe()}
    one_less = {name: tensor for name, tensor in tensors.items() if name != "head.bias"}
    for other_tensors, other_metadata in (
        (tensors, {"model": {**model.describe(), "hidden_size": 5}}),
        (tensors, {"model": {**model.describe(), "cell": "hopfield"}}),
        (tensors, {"tagger": {}}),
        (one_less, metadata),
    ):
        files.save(path, other_tensors, other_metadata)
        with pytest.raises(files.FileError, match="expected a language model"):
            LanguageNetwork.load(path)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_in_the_middle_of_saving_leaves_the_old_file(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "m"
    files.save(path, TENSORS, {"age": "old"})
    # The disk holds part of the new file when the process dies.
    script = f"""
import os, numpy
from rnncore import files
os.{moment} = lambda *arguments: os._exit(9)
files.save({str(path)!r}, {{"a": numpy.zeros(1000)}}, {{"age": "new"}})
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert files.load(path)[1] == {"age": "old"}
    files.save(path, TENSORS, {"age": "newer"})
    assert files.load(path)[1] == {"age": "newer"}


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    files.save(path, TENSORS, METADATA)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.save(path, TENSORS, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links and folder descriptors")
def test_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "m"
    files.save(target, {}, {})
    os.symlink(target, tmp_path / "link")
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        events.append("sync folder" if os.path.isdir(f"/dev/fd/{descriptor}/.") else "sync file")
        fsync(descriptor)

    def record_replace(source: str, destination: str) -> None:
        assert os.path.dirname(source) == os.path.dirname(destination)
        events.append("replace")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    files.save(tmp_path / "link", TENSORS, METADATA)
    assert events == ["sync file", "replace", "sync folder"]
    assert (tmp_path / "link").is_symlink()
    assert files.load(target)[1] == METADATA


def source(model: LanguageNetwork, text: str) -> TextSource:
    return TextSource(model.vocabulary.encode(text), batch_size=4, sequence_length=30)


def trained(steps: int, folder: Path | None, model: dict[str, Any], **settings: Any) -> Trainer:
    """Return a trainer of a tiny model, 11 chunks an epoch, so that 17 steps wrap."""
    language_model = LanguageNetwork(Vocabulary(TEXT), hidden_size=8, seed=3, **model)
    trainer = Trainer(
        language_model,
        source(language_model, TEXT),
        TrainingSettings(steps=30, **settings),
        folder,
    )
    go(trainer, steps)
    return trainer


def go(trainer: Trainer, steps: int) -> None:
    while trainer.step < steps:
        trainer._train_step()


def everything(trainer: Trainer) -> dict[str, Any]:
    average, weights = trainer.average, trainer.model.flat_params
    if average is not None and average.raw is not None:
        assert np.array_equal(weights, average.mean)
        weights = average.raw
    return {
        "weights": weights.tobytes(),
        "average": average and (average.updates, average.mean.tobytes()),
        "optimizer": [moment.tobytes() for moment in trainer.optimizer.moments.values()],
        "state": np.asarray(trainer.state).tobytes(),  # (h, c) or h
        "generator": trainer.model.generator.bit_generator.state,
        "loss": trainer.loss,
        "step": (trainer.step, trainer.optimizer.steps_taken, trainer.optimizer.lr),
        "position": trainer.position,
    }


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ({}, {}),
        ({"dropout": 0.3}, {"optimizer": "rmsprop", "schedule": "exponential"}),
        ({"embedding_size": 5, "dtype": "float64", "dropout": 0.2}, {"optimizer": "sgd"}),
        ({"cell": "gru", "dropout": 0.3}, {}),
        ({"cell": "rnn", "embedding_size": 5}, {"clip_norm": 0.1}),
        ({"dropout": 0.2, "variational": True, "recurrent_dropout": 0.2, "zoneout": 0.1,
          "weight_drop": 0.3, "state_reset": 0.4}, {}),
        ({"dropout": 0.2}, {"optimizer": "adamw", "average": 0.9, "schedule": "one-cycle"}),
        ({"embedding_size": 5, "dropout": 0.2}, {"accumulate": 3, "warmup": 0.4}),
        ({}, {"optimizer": "sgd", "weight_decay": 0.1, "average": 0.5, "accumulate": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("pause", [1, 11, 17])
def test_resume_equals_uninterrupted_training_to_the_last_bit(
    tmp_path: Path, model: dict[str, Any], settings: dict[str, Any], pause: int
) -> None:
    uninterrupted = trained(25, None, model, **settings)

    first = trained(pause, None, model, **settings)
    first.save(tmp_path / "checkpoint")
    resumed = trained(0, None, model, **settings)
    resumed.model.generator.random(17)  # nothing of the fresh model may matter
    with resumed.model.changing_weights() as flat:
        flat[...] = np.nan
    resumed.restore(tmp_path / "checkpoint")
    assert everything(resumed) | {"loss": first.loss} == everything(first)
    go(resumed, 25)
    assert everything(resumed) == everything(uninterrupted)
    assert not np.array_equal(first.model.flat_params, resumed.model.flat_params)


def test_restore_refuses_another_text_model_or_a_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    trainer = trained(2, None, {})
    trainer.save(path)
    other = Trainer(trainer.model, source(trainer.model, TEXT[1:]), trainer.settings)
    with pytest.raises(files.FileError, match="expected the very data"):
        other.restore(path)
    with pytest.raises(files.FileError, match="model of other settings"):
        trained(0, None, {"num_layers": 1}).restore(path)
    trainer.model.save(path)
    with pytest.raises(files.FileError, match="a model alone"):
        trainer.restore(path)


def test_a_checkpoint_is_a_model_file_too(tmp_path: Path) -> None:
    trainer = trained(3, None, {"dropout": 0.2, "embedding_size": 4})
    trainer.save(tmp_path / "checkpoint")
    trainer.model.save(tmp_path / "model")
    names = ("checkpoint", "model")
    written = {LanguageNetwork.load(tmp_path / n).sample(50, seed=1) for n in names}
    assert written == {trainer.model.sample(50, seed=1)}


def test_a_checkpoint_as_the_first_ones_were_resumes(tmp_path: Path) -> None:
    """Without a kind, how the text is cut among the settings, a decay under every schedule."""
    uninterrupted, first = trained(25, None, {"dropout": 0.2}), trained(11, None, {"dropout": 0.2})
    first.save(tmp_path / "new")
    tensors, metadata = files.load(tmp_path / "new")
    training = metadata["training"]
    training["text_hash"] = training.pop("fingerprint")
    training["settings"] |= {"decay": 0.97, "decay_after": 10, **training.pop("source")}
    del metadata["kind"], metadata["model"]["weight_drop"], metadata["model"]["state_reset"]
    files.save(tmp_path / "old", tensors, metadata)
    settings = TrainingSettings.of_checkpoint(training["settings"])
    assert settings == first.settings
    model = LanguageNetwork.load(tmp_path / "old")
    resumed = Trainer(model, source(model, TEXT), settings)
    resumed.restore(tmp_path / "old")
    go(resumed, 25)
    assert everything(resumed) == everything(uninterrupted)
    # int32 values, as the hash of the first checkpoints was made
    tokens = model.vocabulary.encode(TEXT).astype(np.int32)
    assert training["text_hash"] == hashlib.blake2b(tokens.data, digest_size=16).hexdigest()


def test_another_cut_of_the_same_text_is_refused(tmp_path: Path) -> None:
    trainer = trained(2, None, {})
    trainer.save(tmp_path / "checkpoint")
    tokens = trainer.model.vocabulary.encode(TEXT)
    other = TextSource(tokens, batch_size=5, sequence_length=30)
    with pytest.raises(files.FileError, match=r"batch_size: expected 4 .* got 5"):
        Trainer(trainer.model, other, trainer.settings).restore(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "plateau", "patience": 0, "learning_rate": 3.0},
        {"schedule": "plateau", "patience": 1, "decay": 0.7, "learning_rate": 3.0, "warmup": 0.2},
        {"average": 0.9, "accumulate": 2, "optimizer": "adamw"},
        {"average": 0.5, "schedule": "plateau", "patience": 0, "learning_rate": 3.0},
    ],
    ids=str,
)
def test_a_run_in_two_parts_is_one_run(tmp_path: Path, settings: dict[str, Any]) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == at:
                os.kill(os.getpid(), signal.SIGINT)

    whole = trained(0, tmp_path / "whole", {"dropout": 0.2}, validations=10, **settings)
    whole.run()
    for at in (7, 12, 20):  # at 12 a validation is due
        first = trained(0, tmp_path / "parts", {"dropout": 0.2}, validations=10, **settings)
        first.callbacks = (Stop(),)
        first.run()
        assert first.step == at
        resumed = trained(0, tmp_path / "parts", {"dropout": 0.2}, validations=10, **settings)
        resumed.restore(tmp_path / "parts" / "last.safetensors")
        resumed.run()
        assert everything(resumed) == everything(whole)
        for name in ("last", "best"):
            ends = [files.load(tmp_path / f / f"{name}.safetensors") for f in ("whole", "parts")]
            for key, tensor in ends[0].tensors.items():
                assert tensor.tobytes() == ends[1].tensors[key].tobytes()
            one, two = (end.metadata["training"] for end in ends)
            assert one["step"] == two["step"] and one["best"] == two["best"]
            assert one.get("schedule") == two.get("schedule")
            assert [p[::3] for p in one["validation_curve"]] == [
                p[::3] for p in two["validation_curve"]
            ]
    if settings.get("schedule") == "plateau":
        assert isinstance(whole.schedule, ReduceOnPlateau) and whole.schedule.reductions >= 1


def test_what_is_frozen_is_frozen_after_a_resume(tmp_path: Path) -> None:
    def frozen(steps: int) -> Trainer:
        trainer = trained(0, None, {"embedding_size": 5})
        trainer.model.rnn.freeze()
        go(trainer, min(steps, 9))
        trainer.model.rnn.unfreeze()  # on the way, as a callback would
        trainer.model.head.freeze()
        go(trainer, steps)
        return trainer

    whole, first = frozen(25), frozen(12)
    first.save(tmp_path / "checkpoint")
    resumed = trained(0, None, {"embedding_size": 5})
    resumed.model.rnn.freeze()
    resumed.restore(tmp_path / "checkpoint")
    assert resumed.model.head.frozen and not resumed.model.rnn.frozen
    go(resumed, 25)
    assert everything(resumed) == everything(whole)
    assert resumed.optimizer.state_dict()["steps_missed"] == [
        16 if name.startswith("head") else 9 if name.startswith("rnn") else 0
        for name in resumed.model.params
    ]
    tensors, metadata = files.load(tmp_path / "checkpoint")
    for wrong in (["tail"], "head", [3]):
        metadata["training"]["frozen"] = wrong
        files.save(tmp_path / "broken", tensors, metadata)
        with pytest.raises(files.FileError, match="no whole training"):
            resumed.restore(tmp_path / "broken")
    del metadata["training"]["frozen"]  # as files of before have it: nothing is said
    files.save(tmp_path / "old", tensors, metadata)
    resumed.restore(tmp_path / "old")
    assert resumed.model.head.frozen


def test_broken_states_of_schedules_and_averages_are_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": "plateau", "average": 0.9}
    trainer = trained(3, None, {}, **options)
    trainer.save(tmp_path / "good")
    tensors, metadata = files.load(tmp_path / "good")
    for key, wrong in (
        ("schedule", {"reductions": -1}), ("schedule", None), ("average", {"updates": "a"}),
        ("average", {}), ("average", None),
    ):  # fmt: skip
        training = metadata["training"] | {key: wrong}
        files.save(tmp_path / "broken", tensors, metadata | {"training": training})
        with pytest.raises(files.FileError, match="no whole training"):
            trained(0, None, {}, **options).restore(tmp_path / "broken")
