"""A training at the command line: progress, what came of it, the loss curve."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rnncore.cli.options import make_folder
from rnncore.training import Callback, Trainer

#: Writes a sample of what the model has learnt.
Show = Callable[[Trainer, Callable[[str], object]], object]


def run_training(
    trainer: Trainer, go_on: list[str], use: list[str], show: Show | None, samples: int,
    invitation: str = "Let it write",
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
    progress = _Progress(trainer, show, samples)
    trainer.callbacks = (*trainer.callbacks, progress)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RuntimeWarning)
            warnings.showwarning = progress.show_warning
            trainer.run()
    finally:
        progress.close()
    if trainer.signal is not None:
        click.echo(f"Interrupted at step {trainer.step}; saved {trainer.last_path}.")
        click.echo(f"Go on with: {_command(go_on, trainer.last_path)}")
        sys.exit(128 + trainer.signal)
    if show is not None:
        show(trainer, click.echo)
    chosen = trainer.last_path
    if trainer.validation_curve:
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


class _Progress(Callback):
    """A bar over the budget, the validation results, and samples on the way."""

    def __init__(self, trainer: Trainer, show: Show | None, samples: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=1.0,
            initial=trainer.fraction,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
            mininterval=0.2 if sys.stderr.isatty() else 5.0,
            dynamic_ncols=True,
        )
        self.show = show
        self.samples = samples
        self.start = time.monotonic(), trainer.fraction, trainer.step, trainer.seconds
        self.mean_loss: float | None = None

    def on_step(self, trainer: Trainer) -> None:
        began, fraction, step, seconds = self.start
        # A running mean over about the last 50 steps.
        self.mean_loss = (
            trainer.loss
            if self.mean_loss is None
            else self.mean_loss + (trainer.loss - self.mean_loss) / min(trainer.step - step, 50)
        )
        before, now = self.bar.n, trainer.fraction
        size = trainer.source.items_per_batch * trainer.settings.accumulate
        rate = (trainer.step - step) * size / (trainer.seconds - seconds)
        left = (time.monotonic() - began) * (1.0 - now) / (now - fraction)
        self.bar.set_description_str(
            f"{self.bar.format_sizeof(rate)} {trainer.source.item}/s, "
            f"{trainer.model.show(self.mean_loss)}, {self.bar.format_interval(left)} left",
            refresh=False,
        )
        self.bar.update(now - before)
        parts = self.samples + 1
        if self.show is not None and int(before * parts) < int(now * parts) < parts:
            self.show(trainer, self._write)

    def on_validation(self, trainer: Trainer) -> None:
        step, epochs, seconds, *values = trainer.validation_curve[-1]
        shown = ", ".join(
            f"{value:.3f} {measure.unit}"
            for measure, value in zip(trainer.model.measures, values, strict=True)
        )
        self._write(f"step {step}, epoch {epochs:.2f}, {seconds:.0f} s: held-out {shown}")

    def show_warning(self, message: Warning | str, *where: Any, **more: Any) -> None:
        """Show a warning above the bar."""
        self._write(f"Warning: {message}")

    def _write(self, text: str) -> None:
        # Above the bar, and at once where a pipe or a file would keep it back.
        self.bar.write(text)
        sys.stdout.flush()

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        self.bar.refresh()
        self.bar.close()


def _plot(trainer: Trainer) -> None:
    assert trainer.folder is not None
    path = trainer.folder / "loss.png"
    try:
        import matplotlib
    except ImportError:
        click.echo("No loss curve: that needs matplotlib, `pip install matplotlib`.")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for curve, label in (
        (trainer.training_curve, "training"),
        (trainer.validation_curve, "held out"),
    ):
        if curve:
            axes.plot([p[2] for p in curve], [p[3] for p in curve], ".-", ms=3, label=label)
    axes.set(xlabel="seconds of training", ylabel=trainer.model.measures[0].unit)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
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
