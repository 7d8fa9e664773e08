"""A training at the command line: progress, what came of it, the loss curve."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import click

from rnncore.cli.options import make_folder
from rnncore.training import Callback, JsonLines, Progress, TensorBoard, Trainer, plot_curves

#: Writes a sample of what the model has learnt.
Show = Callable[[Trainer, Callable[[str], object]], object]


def run_training(
    trainer: Trainer, go_on: list[str], use: list[str], show: Show | None, samples: int,
    invitation: str = "Let it write", tensorboard: bool = False,
) -> None:  # fmt: skip
    """Train with a progress bar and samples; then say what came of it and how to use it.

    `go_on` and `use` are commands that lack the checkpoint and the model file as ``{}``; `samples`
    is how often `show` is asked on the way, beside the beginning and the end.
    """
    model = trainer.model
    assert trainer.last_path is not None and trainer.best_path is not None
    if show is not None and trainer.step == 0:
        show(trainer, click.echo)
    make_folder(trainer.last_path.parent)  # fail here, not below the bar
    folder = trainer.last_path.parent
    logs: list[Callback] = [TensorBoard(folder / "tensorboard")] if tensorboard else []
    logs.append(JsonLines(folder / "log.jsonl"))
    trainer.callbacks = (*trainer.callbacks, *logs, _Samples(show, samples))
    trainer.run()
    if trainer.signal is not None:
        click.echo(f"Interrupted at step {trainer.step}; saved {trainer.last_path}.")
        click.echo(f"Go on with: {_command(go_on, trainer.last_path)}")
        sys.exit(128 + trainer.signal)
    if show is not None:
        show(trainer, click.echo)
    if trainer.stopped_early:
        count = trainer.settings.early_stopping
        click.echo(f"Stopped early: the last {count} validations were no better than one before.")
    chosen = trainer.last_path
    if trainer.validation_curve:
        if trainer.best_path.exists():  # not where a lone last.safetensors was resumed
            chosen = trainer.best_path
        measure, place = model.measures[model.decisive], 3 + model.decisive
        order = "lowest" if measure.lower_is_better else "highest"
        click.echo(
            f"Held-out {measure.name}: {trainer.validation_curve[-1][place]:.3f} {measure.unit} "
            "after "
            f"{trainer.seconds:.0f} s of training, {trainer.epochs:.2f} epochs "
            f"({order} {trainer.best:.3f})"
        )
    click.echo(f"Model file: {chosen}")
    _plot(trainer)
    click.echo(f"{invitation}: {_command(use, chosen)}")


def _command(words: list[str], path: Path) -> str:
    return shlex.join([str(path) if word == "{}" else word for word in words])


class _Samples(Progress):
    """The bar, with samples of what the model has learnt on the way."""

    def __init__(self, show: Show | None, count: int) -> None:
        self._show, self._count = show, count

    def on_step(self, trainer: Trainer) -> None:
        before, parts = self.bar.n, self._count + 1
        super().on_step(trainer)
        if self._show is not None and int(before * parts) < int(self.bar.n * parts) < parts:
            self._show(trainer, self.write)


def _plot(trainer: Trainer) -> None:
    assert trainer.folder is not None
    path = trainer.folder / "loss.png"
    unit = trainer.model.measures[0].unit
    try:
        plot_curves(path, trainer.curve_so_far(), trainer.validation_curve, unit)
    except ImportError as error:
        click.echo(f"No loss curve: {error}")
        return
    click.echo(f"Loss curve: {path}")


def program() -> list[str]:
    """Return how this program was called, so that printed commands work as they stand."""
    started = Path(sys.argv[0])
    if started.suffix == ".py":  # python -m rnncore.cli
        return [sys.executable, "-m", "rnncore.cli"]
    found = shutil.which("rnncore")
    if found is not None and started.exists() and Path(found).samefile(started):
        return ["rnncore"]
    return [os.path.relpath(started) if started.is_absolute() else str(started)]
