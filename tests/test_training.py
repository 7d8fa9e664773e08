"""Schedules and the training loop."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnncore import files
from rnncore.data import TextChunks, TextSource, Vocabulary
from rnncore.models import LanguageNetwork, Measure, Model
from rnncore.training import (
    Callback,
    JsonLines,
    KeepBest,
    NonFiniteError,
    Progress,
    ReduceOnPlateau,
    TensorBoard,
    Trainer,
    TrainingSettings,
    constant,
    cosine,
    exponential,
    plot_curves,
)

TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind. " * 40


def test_schedules() -> None:
    assert constant()(9.0, 0.9) == 1.0
    decayed = exponential(0.97, 10)
    # char-rnn: at the end of epoch 10 the rate is multiplied for the first time.
    assert [decayed(e, 0.5) for e in (0.0, 9.99)] == [1.0, 1.0]
    assert decayed(10.0, 0.5) == 0.97
    assert decayed(12.5, 0.5) == pytest.approx(0.97**3)
    half = cosine(warmup=0.1, floor=0.2)
    assert half(0.0, 0.0) == 0.0
    assert half(0.0, 0.05) == pytest.approx(0.5 * (0.2 + 0.8 * (1 + math.cos(0.05 * math.pi)) / 2))
    assert half(0.0, 0.5) == pytest.approx(0.6)
    assert half(0.0, 1.0) == pytest.approx(0.2)
    for bad in (
        lambda: exponential(0.0),
        lambda: exponential(0.5, -1),
        lambda: cosine(warmup=1.0),
        lambda: cosine(floor=2.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            bad()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": 0},
        {"seconds": -1.0},
        {"epochs": float("nan")},
        {"steps": 1, "optimizer": "adagrad"},
        {"steps": 1, "schedule": "linear"},
        {"steps": 1, "learning_rate": 0.0},
        {"steps": 1, "clip_norm": 0.0},
        {"steps": 1, "validations": 0},
        {"steps": 1.5},
        {"steps": "a"},
        {"seconds": "a"},
        {"steps": 1, "decay": -1.0},
        {"steps": 1, "decay": 0.5},
        {"epochs": float("inf")},
        {"seconds": float("inf")},
        {"steps": 1, "learning_rate": float("inf")},
        {"steps": 1, "decay_after": -1},
        {"steps": 1, "patience": 2},
        {"steps": 1, "schedule": "plateau", "patience": -1},
        {"steps": 1, "schedule": "plateau", "decay_after": 3},
        {"steps": 1, "schedule": "plateau", "decay": 1.0},
        {"steps": 1, "warmup": 1.0},
        {"steps": 1, "weight_decay": -0.1},
        {"steps": 1, "accumulate": 0},
        {"steps": 1, "accumulate": 1.5},
        {"steps": 1, "average": 1.0},
    ],
    ids=str,
)
def test_bad_training_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{list(settings)[-1] if settings else 'budget'}: "):
        TrainingSettings(**settings)


def test_bad_arguments_of_a_trainer() -> None:
    model = LanguageNetwork(Vocabulary(TEXT), hidden_size=16, num_layers=1, seed=0)
    tokens = model.vocabulary.encode(TEXT)
    with pytest.raises(TypeError, match=r"settings: .* got NoneType"):
        Trainer(model, TextSource(tokens), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"source: .*TextSource"):
        Trainer(model, tokens, TrainingSettings(steps=1))  # type: ignore[arg-type]
    for wrong in (tokens[:, None], tokens.astype(float)):
        with pytest.raises(TypeError, match=r"tokens: expected a text as integers \(N,\), got"):
            TextSource(wrong)
    for wrong in ({"batch_size": 2.5}, {"sequence_length": 0}, {"validation_fraction": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
            TextSource(tokens, **wrong)


CUT = ("batch_size", "sequence_length", "validation_fraction")


def make(folder: Path | None = None, *callbacks: Callback, **settings: Any) -> Trainer:
    model = LanguageNetwork(Vocabulary(TEXT), hidden_size=16, num_layers=1, seed=0)
    cut = {"batch_size": 4, "sequence_length": 25}
    cut |= {name: settings.pop(name) for name in CUT if name in settings}
    settings = {"learning_rate": 0.02, **settings}
    source = TextSource(model.vocabulary.encode(TEXT), **cut)
    return Trainer(model, source, TrainingSettings(**settings), folder, callbacks)


class Recorder(Callback):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.validations: list[int] = []

    def on_step(self, trainer: Trainer) -> None:
        self.steps.append(trainer.step)

    def on_validation(self, trainer: Trainer) -> None:
        self.validations.append(trainer.step)


def test_training_learns_more_than_the_frequencies() -> None:
    trainer = make(epochs=4)
    trainer.run()
    frequencies = np.unique(list(TEXT), return_counts=True)[1] / len(TEXT)
    entropy = -(frequencies * np.log2(frequencies)).sum()
    first, last = trainer.validation_curve[0][3], trainer.validation_curve[-1][3]
    assert first == pytest.approx(math.log2(len(trainer.model.vocabulary)), abs=0.3)
    assert last < entropy / 2
    assert trainer.best == min(point[3] for point in trainer.validation_curve)


@pytest.mark.parametrize(
    ("budget", "steps"), [({"steps": 7}, 7), ({"epochs": 2}, 54), ({"epochs": 2, "steps": 9}, 9)]
)
def test_budgets(budget: dict[str, Any], steps: int) -> None:
    trainer = make(**budget)
    assert trainer.source.per_epoch == 27
    trainer.run()
    assert trainer.step == steps
    assert trainer.fraction == 1.0


def test_seconds() -> None:
    trainer = make(seconds=0.2)
    trainer.run()
    assert 0.2 <= trainer.seconds < 1.0
    assert trainer.step > 1


def test_callbacks_and_validations_are_even() -> None:
    recorder = Recorder()
    make(None, recorder, steps=20, validations=5).run()
    assert recorder.steps == list(range(1, 21))
    assert recorder.validations == [0, 4, 8, 12, 16, 20]


def test_validation_does_not_change_the_training() -> None:
    weights = []
    for settings in ({"validations": 1}, {"validations": 10}):
        trainer = make(steps=20, **settings)
        trainer.run()
        weights.append(trainer.model.flat_params.copy())
    assert np.array_equal(*weights)


def states_of(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Return a list that gets the states before and after each batch of a training."""
    calls: list[tuple[Any, Any]] = []
    forward = trainer.model.forward

    def record(tokens: Any, targets: Any, state: Any) -> Any:
        loss, after = forward(tokens, targets, state)
        calls.append((state, after))
        return loss, after

    monkeypatch.setattr(trainer.model, "forward", record)
    return calls


def test_state_is_carried_and_reset_where_the_text_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(epochs=2)
    calls = states_of(trainer, monkeypatch)
    trainer.run()
    n = trainer.source.per_epoch
    assert [i for i, (before, _) in enumerate(calls) if before is None] == [0, n]
    for i in range(1, n):
        assert calls[i][0] is calls[i - 1][1]


def test_evaluate_is_the_mean_over_every_character() -> None:
    trainer = make(steps=1, sequence_length=7)
    tokens = trainer.model.vocabulary.encode(TEXT)[:500]
    loss, _ = trainer.model.evaluate(tokens[:-1, None], tokens[1:, None])
    chunks = TextChunks(tokens, 1, 7, every_step=True)
    assert trainer.evaluate(chunks) == [pytest.approx(loss / math.log(2), rel=1e-5)]


def test_learning_rate_follows_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_step(self, trainer: Trainer) -> None:
            rates.append(trainer.optimizer.lr)

    make(None, Rates(), steps=4).run()
    expected = [0.02 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("where", "step", "message"),
    [
        ("weights", 4, "next loss is (nan|inf).*weights of head.weight"),
        ("gradient", 4, "next gradient is not finite.*the gradient of rnn.weight_hh_l0"),
        # Step 5 is validated and would be saved, before the next loss can tell.
        ("weights", 5, "the weights are not finite.*weights of head.weight"),
    ],
)
def test_what_is_not_finite_stops_before_anything_is_changed(
    tmp_path: Path, where: str, step: int, message: str
) -> None:
    trainer = make(tmp_path, steps=50)
    expected: list[bytes] = []

    class Break(Callback):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step != step:
                return
            if where == "weights":
                with trainer.model.writable_params() as params:
                    params["head.weight"][...] = np.inf
                trainer.model.weights_changed()
            else:
                backward = trainer.model.backward

                def broken(**options: bool) -> None:
                    backward(**options)
                    trainer.model.grads["rnn.weight_hh_l0"][3, 2] = np.nan

                trainer.model.backward = broken  # type: ignore[method-assign]
            expected.append(trainer.model.flat_params.tobytes())

    trainer.callbacks = (Break(),)
    with pytest.raises(NonFiniteError, match=f"step {step}, epoch .*{message}.*last.safetensors"):
        trainer.run()
    assert trainer.model.flat_params.tobytes() == expected[0]
    assert trainer.step == trainer.optimizer.steps_taken == trainer.position == step
    tensors, metadata = files.load(tmp_path / "last.safetensors")
    assert metadata["training"]["step"] == 3
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    LanguageNetwork.load(tmp_path / "last.safetensors")


def test_checkpoints_last_and_best(tmp_path: Path) -> None:
    trainer = make(tmp_path / "new" / "folder", steps=40, validations=4)
    trainer.run()
    last, best = (
        files.load(tmp_path / "new" / "folder" / f"{name}.safetensors")[1]["training"]
        for name in ("last", "best")
    )
    assert last["step"] == 40
    lowest = min(trainer.validation_curve, key=lambda point: point[3])
    assert best["step"] == lowest[0]
    assert best["best"] == lowest[3]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "best.safetensors",
        "last.safetensors",
    ]


def test_best_is_kept_when_the_loss_rises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(tmp_path, steps=4, validations=4)
    losses = iter([5.0, 3.0, 2.0, 4.0, 2.5])
    monkeypatch.setattr(trainer, "evaluate", lambda batches: [next(losses)])
    trainer.run()
    assert files.load(tmp_path / "best.safetensors")[1]["training"]["step"] == 2
    assert trainer.best == 2.0


def test_interrupt_finishes_the_step_and_saves_it(tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    trainer = make(tmp_path, Interrupt(), steps=20)
    trainer.run()
    assert trainer.interrupted
    assert trainer.step == 3
    assert signal.getsignal(signal.SIGINT) is handler

    whole, resumed = make(steps=20), make(tmp_path, steps=20)
    resumed.restore(tmp_path / "last.safetensors")
    whole.run()
    resumed.run()
    assert not resumed.interrupted
    assert whole.model.flat_params.tobytes() == resumed.model.flat_params.tobytes()
    assert resumed.validation_curve[-1][3] == whole.validation_curve[-1][3]
    # all but the seconds
    assert [p[::3] for p in resumed.training_curve] == [p[::3] for p in whole.training_curve]


def test_training_without_validation_and_without_a_folder() -> None:
    trainer = make(steps=3, validation_fraction=0.0)
    trainer.run()
    assert trainer.validation_curve == []
    assert trainer.best == math.inf
    assert trainer.last_path is None


class SignalAt(Callback):
    def __init__(self, step: int, number: int) -> None:
        self.at, self.number = step, number

    def on_step(self, trainer: Trainer) -> None:
        if trainer.step == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_that_ends_a_program_saves_first(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    handler = signal.getsignal(number)
    trainer = make(tmp_path, SignalAt(3, number), steps=20)
    trainer.run()
    assert (trainer.step, trainer.interrupted, trainer.signal) == (3, True, number)
    assert signal.getsignal(number) is handler
    assert files.load(tmp_path / "last.safetensors")[1]["training"]["step"] == 3


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        trainer = make(tmp_path, SignalAt(3, signal.SIGHUP), steps=6)
        trainer.run()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (trainer.step, trainer.interrupted) == (6, False)


def test_evaluate_after_an_interrupt_measures() -> None:
    trainer = make(None, SignalAt(3, signal.SIGINT), steps=20)
    trainer.run()
    assert trainer.interrupted
    held_out = trainer.source.held_out
    assert held_out is not None
    [bits] = trainer.evaluate(held_out)
    assert math.isfinite(bits)


def test_a_resume_from_step_0_validates_once(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=4, validations=1)
    trainer._validate()
    trainer.save(tmp_path / "zero")
    resumed = make(steps=4, validations=1)
    resumed.restore(tmp_path / "zero")
    resumed.run()
    assert [point[0] for point in resumed.validation_curve] == [0, 4]


def test_a_full_disk_on_the_way_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(tmp_path, steps=20, validations=4)
    save = trainer.save
    failing: set[int] = {5, 10}

    def full(path: Any) -> None:
        if trainer.step in failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path)

    monkeypatch.setattr(trainer, "save", full)
    with pytest.warns(RuntimeWarning, match=r"step (5|10): .*No space left.*tries again"):
        trainer.run()
    assert trainer.step == 20
    assert files.load(tmp_path / "last.safetensors")[1]["training"]["step"] == 20
    best = files.load(tmp_path / "best.safetensors")[1]["training"]
    assert best["best"] == trainer.best == best["validation_curve"][-1][3]
    for step in (0, 20):  # the first and the last must be written
        failing = {step}
        trainer = make(tmp_path, steps=20, validation_fraction=0.0)
        save = trainer.save
        monkeypatch.setattr(trainer, "save", full)
        with pytest.raises(OSError, match="No space"):
            trainer.run()


def test_the_trainer_knows_no_text() -> None:
    """A model of points, a source of its own, a second measure, the higher the better."""

    class Line(Model):
        kind = "line"
        measures = (
            Measure("score", "points", factor=-1.0, lower_is_better=False),
            Measure("batches", "of them"),
        )

        def __init__(self) -> None:
            super().__init__({"w": (1,)})
            self.settings: dict[str, Any] = {}
            self.generator = np.random.default_rng(0)

        def forward(self, x: Any, y: Any, state: Any) -> tuple[float, Any]:
            self.x, self.error = x, x * self.flat_params[0] - y
            return float(np.mean(self.error**2)), None

        def backward(self, *, accumulate: bool = True) -> None:
            self.flat_grads[0] = np.mean(2 * self.error * self.x)

        def measure(self, x: Any, y: Any, state: Any) -> Any:
            errors = (x * self.flat_params[0] - y) ** 2
            return [(float(errors.sum()), errors.size), (3.0, 1)], None

    class Points:
        fingerprint, settings, item, items_per_batch, per_epoch = "points", {}, "points", 8, 3

        def batch(self, number: int) -> Any:
            x = np.random.default_rng(number % 3).standard_normal(8)
            return x, 3 * x

        def continues(self, number: int) -> bool:
            return False

        def describe(self) -> str:
            return "24 points"

        @property
        def held_out(self) -> Any:
            return self

    trainer = Trainer(Line(), Points(), TrainingSettings(epochs=50, learning_rate=0.1))
    trainer.run()
    assert trainer.model.flat_params[0] == pytest.approx(3, abs=0.05)
    assert trainer.best == max(point[3] for point in trainer.validation_curve) > -0.01
    assert trainer.validation_curve[-1][4] == 3.0


def test_a_plateau_reduces_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_step(self, trainer: Trainer) -> None:
            rates.append(trainer.optimizer.lr)

    options: dict[str, Any] = {"schedule": "plateau", "decay": 0.25, "patience": 1}
    trainer = make(None, Rates(), steps=6, validations=6, warmup=0.3, **options)
    losses = iter([5.0, 4.0, 4.5, 4.2, 3.0, 3.5, 3.5])
    monkeypatch.setattr(trainer, "evaluate", lambda batches: [next(losses)])
    trainer.run()
    rise = [0.0, (1 / 6) / 0.3, 1.0, 0.25, 0.25, 0.25]
    assert rates == pytest.approx([0.02 * factor for factor in rise])
    with pytest.raises(ValueError, match=r"source: expected held-out data.*'plateau'"):
        make(steps=1, schedule="plateau", validation_fraction=0.0)


def test_a_plateau_of_a_score_that_should_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(steps=6, validations=6, schedule="plateau", decay=0.25, patience=0)
    measures = (Measure("score", "points", lower_is_better=False),)
    monkeypatch.setattr(trainer.model, "measures", measures)
    trainer.best = -math.inf  # as a trainer of such a model begins
    scores = iter([1.0, 2.0, 3.0, 2.5, 4.0, 3.0, 5.0])
    monkeypatch.setattr(trainer, "evaluate", lambda batches: [next(scores)])
    trainer.run()
    assert isinstance(trainer.schedule, ReduceOnPlateau)
    assert trainer.schedule.reductions == 2
    assert trainer.best == 5.0 == -trainer.schedule.best


def test_progress_counts_all_batches_of_a_step() -> None:
    trainer = make(steps=9, accumulate=3)
    progress = Progress()
    progress.on_begin(trainer)
    trainer.step, trainer.position, trainer.seconds, trainer.loss = 2, 6, 2.0, 1.0
    progress.on_step(trainer)
    assert progress.bar.desc.startswith("300 chars/s")  # 2 steps of 3 batches of 4 x 25, in 2 s
    progress.on_end(trainer)


def test_a_validation_that_a_signal_cut_short_is_made_up_for(tmp_path: Path) -> None:
    """Otherwise the rate of a resumed training would go another way."""

    class SignalWhileValidating(Callback):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == at:
                measure = trainer.model.measure

                def measured(*batch: Any) -> Any:
                    os.kill(os.getpid(), signal.SIGTERM)
                    return measure(*batch)

                trainer.model.measure = measured  # type: ignore[method-assign]

    options: dict[str, Any] = {
        "schedule": "plateau", "decay": 0.5, "patience": 0, "learning_rate": 3.0,
        "steps": 16, "validations": 8,
    }  # fmt: skip
    whole = make(**options)
    whole.run()
    assert isinstance(whole.schedule, ReduceOnPlateau) and whole.schedule.reductions > 1
    for at in (8, 16):
        first = make(tmp_path, SignalWhileValidating(), **options)
        first.run()
        assert first.step == at and first.interrupted
        assert first.validation_curve[-1][0] == at - 2
        resumed = make(**options)
        resumed.restore(tmp_path / "last.safetensors")
        resumed.run()
        curves = ([p[::3] for p in each.validation_curve] for each in (resumed, whole))
        assert next(curves) == next(curves)
        assert resumed.model.flat_params.tobytes() == whole.model.flat_params.tobytes()


def test_accumulated_batches_are_one_step_of_their_mean() -> None:
    """Four batches of one sequence are one of four sequences; the lines of the text are equal."""
    tokens = np.random.default_rng(0).integers(0, 5, 4 * 30 + 1)

    class Pieces:
        """`count` sequences a batch, none of which goes on."""

        fingerprint, settings, item, items_per_batch = "pieces", {}, "tokens", 30
        held_out = None

        def __init__(self, count: int) -> None:
            self.count, self.per_epoch = count, 4 // count

        def batch(self, number: int) -> Any:
            first = number % self.per_epoch * self.count
            columns = [tokens[30 * k : 30 * k + 31] for k in range(first, first + self.count)]
            x = np.stack(columns, 1)
            return x[:-1], x[1:]

        def continues(self, number: int) -> bool:
            return False

        def describe(self) -> str:
            return "pieces"

    ends = []
    for count, accumulate in ((4, 1), (2, 2), (1, 4)):
        model = LanguageNetwork(Vocabulary("abcde"), hidden_size=8, dtype="float64", seed=0)
        settings = TrainingSettings(
            steps=5, accumulate=accumulate, optimizer="sgd", learning_rate=0.5, clip_norm=0.05
        )
        trainer = Trainer(model, Pieces(count), settings)
        losses: list[float] = []

        class Losses(Callback):
            def on_step(self, trainer: Trainer, losses: list[float] = losses) -> None:
                losses.append(trainer.loss)

        trainer.callbacks = (Losses(),)
        trainer.run()
        assert (trainer.step, trainer.position, trainer.epochs) == (5, 5 * accumulate, 5.0)
        assert trainer.optimizer.steps_taken == 5
        assert trainer.training_curve[-1][3] == pytest.approx(np.mean(losses) / math.log(2))
        ends.append([*model.flat_params, *losses])
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ends[2], ends[0], rtol=1e-10, atol=1e-12)


def test_the_state_is_carried_through_the_batches_of_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = make(epochs=2, accumulate=4)  # 27 batches an epoch: a step goes over its end
    calls = states_of(trainer, monkeypatch)
    trainer.run()
    assert (trainer.step, trainer.position, len(calls)) == (14, 56, 56)  # the last step is whole
    fresh = [i for i, (before, _) in enumerate(calls) if before is None]
    assert fresh == [0, 27, 54]
    assert all(calls[i][0] is calls[i - 1][1] for i in range(1, 56) if i not in fresh)


def test_what_is_not_finite_in_a_later_batch_of_a_step_changes_nothing() -> None:
    trainer = make(steps=9, accumulate=3)
    forward, calls = trainer.model.forward, []

    def broken(*batch: Any) -> Any:
        calls.append(batch)
        loss, state = forward(*batch)
        return (math.nan if len(calls) == 8 else loss), state

    trainer.model.forward = broken  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=r"after step 2, .*next loss is nan"):
        trainer.run()
    assert (trainer.step, trainer.position, trainer.optimizer.steps_taken) == (2, 6, 2)


def test_the_optimizer_of_the_settings_decays_no_biases() -> None:
    for name, decay, groups in (
        ("adam", None, 0), ("adam", 0.1, 1), ("adamw", None, 1), ("adamw", 0.2, 1),
        ("adamw", 0.0, 0), ("sgd", 0.1, 1), ("rmsprop", 0.1, 1),
    ):  # fmt: skip
        trainer = make(steps=1, optimizer=name, weight_decay=decay)
        expected = {None: 0.01 if name == "adamw" else 0.0}.get(decay, decay)
        assert type(trainer.optimizer).__name__.lower() == name
        assert trainer.optimizer.weight_decay == expected
        assert len(trainer.optimizer.groups) == groups
        for group in trainer.optimizer.groups:
            biases = tuple(each for each in trainer.model.params if "bias" in each)
            assert group.names == biases and biases and group.weight_decay == 0.0


def test_a_model_that_is_frozen_as_a_whole_is_refused() -> None:
    trainer = make(steps=3)
    trainer.model.freeze()
    with pytest.raises(ValueError, match=r"model: expected something to train.*frozen"):
        trainer.run()
    trainer.model.head.unfreeze()
    before = trainer.model.rnn.flat_params.copy(), trainer.model.head.flat_params.copy()
    trainer.run()
    assert np.array_equal(trainer.model.rnn.flat_params, before[0])
    assert not np.array_equal(trainer.model.head.flat_params, before[1])


# Early stopping, the best weights, logs

def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float], **options: Any) -> Trainer:
    """Return a trainer that validates after each step, with these results."""
    trainer = make(steps=len(losses) - 1, validations=len(losses) - 1, **options)
    found = iter(losses)
    monkeypatch.setattr(trainer, "evaluate", lambda batches: [next(found)])
    return trainer


def test_early_stopping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    losses = [5.0, 4.0, 3.0, 3.5, 3.0, 2.0, 2.5, 2.6, 2.7, 1.0, 0.5]
    trainer = scripted(monkeypatch, losses, early_stopping=3)
    best = KeepBest()
    weights: list[np.ndarray] = []

    class Weights(Callback):
        def on_validation(self, trainer: Trainer) -> None:
            weights.append(trainer.model.flat_params.copy())

    trainer.callbacks = (best, Weights())
    trainer.run()
    assert trainer.step == 8 and trainer.stopped_early and trainer.is_done
    assert trainer.best == 2.0 and not trainer.is_best
    best.restore(trainer)
    assert np.array_equal(trainer.model.flat_params, weights[5])
    assert not np.array_equal(weights[5], weights[-1])
    trainer.save(tmp_path / "checkpoint")
    for wait, done in ((3, True), (4, False)):  # the curve of the file decides
        again = make(steps=10, validations=10, early_stopping=wait)
        again.restore(tmp_path / "checkpoint")
        assert again.stopped_early is done
    assert not scripted(monkeypatch, losses).stopped_early
    broken = scripted(monkeypatch, [np.nan, 5.0, np.nan, 4.0, 4.5, np.nan, 4.6], early_stopping=3)
    broken.run()
    assert broken.step == 6 and broken.best == 4.0  # what is no number is no best
    with pytest.raises(ValueError, match="by which early_stopping goes"):
        Trainer(trainer.model, TextSource(trainer.model.vocabulary.encode(TEXT), batch_size=4,
                sequence_length=25, validation_fraction=0.0),
                TrainingSettings(steps=1, early_stopping=1))  # fmt: skip


def test_a_log_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("of another training\n")
    whole = make(tmp_path, JsonLines(path), steps=120, validations=4)
    whole.run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    trained = [line for line in lines if "training_loss" in line]
    assert [line["step"] for line in trained] == [50, 100, 120]
    values = [row[3] for row in whole.training_curve]
    assert [line["training_loss"] for line in trained] == values
    assert all(line["chars_per_second"] > 0 and line["learning_rate"] >= 0 for line in trained)
    held_out = [line for line in lines if "held_out_loss" in line]
    assert [[line["step"], line["held_out_loss"]] for line in held_out] == [
        row[::3] for row in whole.validation_curve
    ]
    # One that goes on continues it: no step stands there twice, and no half line.
    first = make(tmp_path / "a", JsonLines(path), steps=120, validations=4)
    first.settings = dataclasses.replace(first.settings, steps=60)
    first.run()
    with path.open("a") as file:
        file.write('{"step": 77, "training_loss": 1.0}\n{"step": 7')
    second = make(None, JsonLines(path), steps=120, validations=4)
    second.restore(tmp_path / "a" / "last.safetensors")
    second.run()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == sorted(steps) and 77 not in steps and steps[-1] == 120
    assert len(set(steps)) == len(steps) - steps.count(60) - steps.count(120) + 2


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    trainer = make(None, log, steps=3, validations=1)

    class Break(Callback):
        def on_begin(self, trainer: Trainer) -> None:
            log.path = tmp_path / "no" / "log.jsonl"

    trainer.callbacks = (log, Break())
    with pytest.warns(RuntimeWarning, match="the log was not written .*training goes on"):
        trainer.run()
    assert trainer.step == 3


def test_a_log_for_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        make(None, TensorBoard(tmp_path), steps=1).run()
    monkeypatch.undo()
    pytest.importorskip("tensorboardX")
    make(None, TensorBoard(tmp_path), steps=60, validations=2).run()
    [written] = tmp_path.glob("events.*")
    content = written.read_bytes()
    assert b"training_loss" in content and b"held_out_loss" in content


def test_all_hear_of_the_end() -> None:
    heard = []

    class Listen(Callback):
        def on_begin(self, trainer: Trainer) -> None:
            heard.append("begin")

        def on_step(self, trainer: Trainer) -> None:
            raise RuntimeError("broken")

        def on_end(self, trainer: Trainer) -> None:
            heard.append("end")

    with pytest.raises(RuntimeError, match="broken"):
        make(None, Listen(), steps=1).run()
    assert heard == ["begin", "end"]


def test_a_picture_of_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plot_curves(tmp_path / "loss.png", [], [], "bits")
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    plot_curves(tmp_path / "loss.png", [[1, 0.1, 1.0, 2.0]], [], "bits")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [20, 29, 49, 50, 100])
def test_a_validation_is_never_late(count: int) -> None:
    settings = TrainingSettings(epochs=count, validations=count)
    due = [settings.validations_due(settings.fraction_used(k, 0, 0.0)) for k in range(count + 1)]
    assert due == list(range(count + 1))
