"""The commands: train a model on text, write text with it, try it all in two minutes."""

from __future__ import annotations

import dataclasses
import glob
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import rnncore
from rnncore.data import Vocabulary, read_text
from rnncore.data.text import BYTES
from rnncore.models import LanguageModel
from rnncore.training import (
    Callback,
    CheckpointError,
    NonFiniteError,
    Trainer,
    TrainingSettings,
    load_checkpoint,
)
from rnncore.training.loop import BITS_PER_NAT, OPTIMIZERS, SCHEDULES

BUDGETS = ("epochs", "steps", "seconds")
#: What --resume takes from the checkpoint and what nobody can change on the way.
FIXED_SETTINGS = ("batch_size", "sequence_length", "optimizer", "validation_fraction")
FIXED_MODEL = ("hidden_size", "num_layers", "cell", "embedding_size", "dropout", "dtype")


class _BadInput(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Turns errors about bad input into one sentence and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `rnncore sample ... | head`: click ends quietly
            raise
        except (ValueError, TypeError, OSError, MemoryError, ArithmeticError) as error:
            if os.environ.get("RNNCORE_DEBUG"):
                raise
            kind = click.ClickException if isinstance(error, NonFiniteError) else _BadInput
            raise kind(str(error) or type(error).__name__) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(rnncore.__version__, prog_name="rnncore")
def main() -> None:
    """Recurrent networks on the CPU: train them on text and let them write.

    With RNNCORE_DEBUG=1 in the environment, errors show where they came from.
    """
    if hasattr(sys.stdout, "reconfigure"):  # a model may write what the terminal cannot show
        sys.stdout.reconfigure(errors="replace")


@main.group()
def train() -> None:
    """Train a model."""


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _option(name: str, **keywords: Any) -> Callable[[Any], Any]:
    keywords.setdefault("show_default", keywords.get("default") is not None)
    return click.option(name, **keywords)


_AT_LEAST_ONE = click.IntRange(min=1)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_FRACTION = click.FloatRange(min=0, max=1, max_open=True)


@train.command("text")
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@_options(
    _option("--hidden-size", default=128, type=_AT_LEAST_ONE, help="Units of a layer."),
    _option("--num-layers", default=2, type=_AT_LEAST_ONE, help="Recurrent layers."),
    _option("--cell", default="lstm", type=click.Choice(["lstm", "gru", "rnn"])),
    _option(
        "--embedding-size",
        type=_AT_LEAST_ONE,
        help="Columns of a trained embedding.  [default: none, one-hot characters]",
    ),
    _option("--dropout", default=0.0, type=_FRACTION, help="Share of units zeroed in training."),
    _option("--dtype", default="float32", type=click.Choice(["float32", "float64"])),
    _option("--sequence-length", default=50, type=_AT_LEAST_ONE, help="Steps gradients flow."),
    _option("--batch-size", default=50, type=_AT_LEAST_ONE, help="Parallel streams of text."),
    _option("--epochs", type=_POSITIVE, help="Passes over the text.  [default: 50]"),
    _option("--steps", type=_AT_LEAST_ONE, help="Updates of the weights, instead of epochs."),
    _option("--seconds", type=_POSITIVE, help="Time of training, instead of epochs."),
    _option("--optimizer", default="adam", type=click.Choice(list(OPTIMIZERS))),
    _option("--learning-rate", default=2e-3, type=_POSITIVE),
    _option(
        "--schedule",
        default="cosine",
        type=click.Choice(list(SCHEDULES)),
        help="Of the learning rate: down to 0 over the budget, by --decay, or none.",
    ),
    _option("--decay", default=0.97, type=_POSITIVE, help="Factor an epoch (exponential)."),
    _option("--decay-after", default=10, type=click.IntRange(min=0), help="Its first epoch."),
    _option("--clip-norm", default=5.0, type=_POSITIVE, help="Largest norm of the gradient."),
    _option("--validation-fraction", default=0.05, type=_FRACTION, help="Held out at the end."),
    _option("--validations", default=20, type=_AT_LEAST_ONE, help="How often, over the budget."),
    _option("--seed", default=0, type=click.IntRange(min=0)),
    _option("--samples", default=3, type=click.IntRange(min=0), help="Shown on the way."),
    _option(
        "--encoding",
        default="utf-8",
        help="Of the files; 'bytes' takes every byte as a character of its own.",
    ),
    _option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for last.safetensors, best.safetensors and loss.png.  "
        "[default: rnncore-text, or the checkpoint's folder]",
    ),
    _option("--overwrite", is_flag=True, help="Replace a training that is in the folder."),
    _option(
        "--resume",
        type=click.Path(path_type=Path),
        metavar="CHECKPOINT",
        help="Go on from a checkpoint, on the same files. Settings come from it; a budget "
        "given here counts from the very beginning, not from the checkpoint.",
    ),
)
@click.pass_context
def train_text(ctx: click.Context, sources: tuple[str, ...], **options: Any) -> None:
    """Train a character language model on FILE...: files, folders, patterns.

    Folders are read recursively, in sorted order. Ctrl-C saves a checkpoint and ends.
    """
    resume: Path | None = options["resume"]
    if all(options[name] is None for name in BUDGETS):
        options["epochs"] = 50.0
    model: LanguageModel | None = None
    if resume is not None:
        given = {
            name: value
            for name, value in options.items()
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
        model, settings = _resume_settings(resume, given)
        if model.vocabulary.is_bytes:
            options["encoding"] = BYTES
    else:
        fields = {field.name for field in dataclasses.fields(TrainingSettings)}
        settings = TrainingSettings(**{k: v for k, v in options.items() if k in fields})
    folder = options["output"] or (resume.parent if resume else Path("rnncore-text"))
    _check_folder(folder, resume, options["overwrite"])

    text = read_text(sources, options["encoding"])
    if model is None:
        model = LanguageModel(
            Vocabulary(text), seed=options["seed"], **{name: options[name] for name in FIXED_MODEL}
        )
    trainer = Trainer(model, _encode(model, text, resume), settings, folder)
    if resume is not None:
        trainer.restore(resume)
        if trainer.fraction >= 1.0:
            raise ValueError(
                f"budget: expected more than what {str(resume)!r} has behind it (step "
                f"{trainer.step}, epoch {trainer.epochs:.2f}, {trainer.seconds:.0f} s of "
                "training), but it is used up; give a larger --epochs, --steps or --seconds"
            )
    encoding = ["--encoding", options["encoding"]] if options["encoding"] != "utf-8" else []
    go_on = [*_program(), "train", "text", *sources, *encoding, "--resume"]
    _run(trainer, options["samples"], go_on)


def _encode(model: LanguageModel, text: str | bytes, resume: Path | None) -> Any:
    try:
        return model.vocabulary.encode(text)
    except ValueError as error:
        raise ValueError(
            f"{error}; to resume from {str(resume)!r}, name the very files that it was trained on"
        ) from None


def _resume_settings(resume: Path, given: dict[str, Any]) -> tuple[LanguageModel, TrainingSettings]:
    model = LanguageModel.load(resume)
    _, metadata = load_checkpoint(resume)
    if "training" not in metadata:
        raise CheckpointError(
            f"--resume: expected a training checkpoint, but {str(resume)!r} is a model alone; "
            "give last.safetensors or best.safetensors of a training folder"
        )
    if "seed" in given:
        raise ValueError(
            f"--seed: expected none with --resume, which goes on with the random numbers of "
            f"{str(resume)!r}, got {given['seed']}; leave the option out, or train anew"
        )
    old = metadata["training"]["settings"]
    for name in (*FIXED_MODEL, *FIXED_SETTINGS):
        kept = model.settings[name] if name in FIXED_MODEL else old[name]
        if name in given and given[name] != kept:
            raise ValueError(
                f"--{name.replace('_', '-')}: expected {kept} as in the checkpoint "
                f"{str(resume)!r}, got {given[name]}; leave the option out, or train anew"
            )
    if any(name in given for name in BUDGETS):
        old |= dict.fromkeys(BUDGETS)
    return model, TrainingSettings(**{name: given.get(name, value) for name, value in old.items()})


def _check_folder(folder: Path, resume: Path | None, overwrite: bool) -> None:
    """Refuse to replace the checkpoints of another training."""
    last = folder / "last.safetensors"
    if not last.exists() or overwrite or (resume is not None and folder.samefile(resume.parent)):
        return
    raise ValueError(
        f"--output: expected a folder without a training, but {str(last)!r} exists; go on with "
        f"it by --resume {shlex.quote(str(last))}, choose another --output, or --overwrite it"
    )


def _make_folder(folder: Path) -> None:
    """Make the folder, if there is none; refuse one that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--output: expected a folder that can be written to, got {str(folder)!r} "
            f"({error.strerror}); choose another"
        ) from None


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@_options(
    _option("--length", default=1000, type=click.IntRange(min=0), help="Characters to write."),
    _option(
        "--temperature",
        default=0.8,
        type=click.FloatRange(min=0),
        help="Below 1 safer, above 1 wilder, 0 always the likeliest.",
    ),
    _option("--prime", default="", help="Text to go on from."),
    _option("--seed", type=click.IntRange(min=0), help="The same seed writes the same text."),
)
def sample(model: Path, length: int, temperature: float, prime: str, seed: int | None) -> None:
    """Write text with MODEL, a model file or checkpoint."""
    click.echo(LanguageModel.load(model).sample(length, temperature, prime, seed))


@main.command()
@_options(
    _option("--seconds", default=120.0, type=_POSITIVE, help="Time of training."),
    _option(
        "--output",
        default="rnncore-demo",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for the model and the loss curve; an older demo in it is replaced.",
    ),
)
def demo(seconds: float, output: Path) -> None:
    """Train on the Python standard library's source for two minutes, then write Python."""
    # Not _*.py: among them are files that the build made, different on every machine.
    pattern = os.path.join(glob.escape(sysconfig.get_path("stdlib")), "[!_]*.py")
    text = read_text(pattern)
    click.echo(f"The text: Python's standard library, {pattern}")
    model = LanguageModel(Vocabulary(text), hidden_size=128, num_layers=2, seed=0)
    settings = TrainingSettings(
        seconds=seconds,
        batch_size=32,
        learning_rate=8e-3,
        validations=max(1, round(seconds / 10)),
    )
    trainer = Trainer(model, model.vocabulary.encode(text), settings, output)
    _run(trainer, 3, [*_program(), "train", "text", pattern, "--resume"], prime="def ")


@main.command()
def config() -> None:
    """Show which build of the engine runs here, and why."""
    rnncore.show_config()


def _run(trainer: Trainer, samples: int, go_on: list[str], prime: str = "") -> None:
    """Train with a progress bar and samples; then say what came of it and how to use it."""
    model, settings = trainer.model, trainer.settings
    assert trainer.last_path is not None and trainer.best_path is not None
    held_out = trainer.validation.size
    total = held_out + trainer.chunks.chunks_per_epoch * settings.batch_size * (
        settings.sequence_length
    )
    click.echo(
        f"{total:,} characters, {len(model.vocabulary)} distinct; the last {held_out:,} held out"
    )
    click.echo(
        f"{model.settings['cell']} {model.settings['num_layers']} x "
        f"{model.settings['hidden_size']}, {model.flat_params.size:,} parameters"
    )
    _write_sample(trainer, prime, click.echo, samples > 0 and trainer.step == 0)
    _make_folder(trainer.last_path.parent)  # fail here, not below the bar
    progress = _Progress(trainer, samples, prime)
    trainer.callbacks = (*trainer.callbacks, progress)
    try:
        trainer.run()
    finally:
        progress.close()
    if trainer.interrupted:
        click.echo(f"Interrupted at step {trainer.step}; saved {trainer.last_path}.")
        click.echo(f"Go on with: {shlex.join([*go_on, str(trainer.last_path)])}")
        sys.exit(130)
    _write_sample(trainer, prime, click.echo, samples > 0)
    chosen = trainer.last_path
    if trainer.validation_curve:
        chosen = trainer.best_path
        click.echo(
            f"Held-out loss: {trainer.validation_curve[-1][3]:.3f} bits per character after "
            f"{trainer.seconds:.0f} s of training, {trainer.epochs:.2f} epochs "
            f"(lowest {trainer.best:.3f})"
        )
    click.echo(f"Model file: {chosen}")
    _plot(trainer)
    command = [*_program(), "sample", str(chosen), "--length", "500"]
    click.echo(f"Let it write: {shlex.join(command + (['--prime', prime] if prime else []))}")


def _write_sample(
    trainer: Trainer, prime: str, write: Callable[[str], object], wanted: bool = True
) -> None:
    if wanted:
        text = trainer.model.sample(300, temperature=0.7, prime=prime, seed=0)
        write(f"\n--- a sample at step {trainer.step} ---\n{text}\n---\n")


class _Progress(Callback):
    """A bar over the budget, the validation results, and samples on the way."""

    def __init__(self, trainer: Trainer, samples: int, prime: str) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=1.0,
            initial=trainer.fraction,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
            mininterval=0.2 if sys.stderr.isatty() else 5.0,
            dynamic_ncols=True,
        )
        self.samples = samples
        self.prime = prime
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
        size = trainer.settings.batch_size * trainer.settings.sequence_length
        rate = (trainer.step - step) * size / (trainer.seconds - seconds)
        left = (time.monotonic() - began) * (1.0 - now) / (now - fraction)
        self.bar.set_description_str(
            f"{self.bar.format_sizeof(rate)} chars/s, {self.mean_loss * BITS_PER_NAT:.3f} "
            f"bits/char, {self.bar.format_interval(left)} left",
            refresh=False,
        )
        self.bar.update(now - before)
        parts = self.samples + 1
        if int(before * parts) < int(now * parts) < parts:
            _write_sample(trainer, self.prime, self._write)

    def on_validation(self, trainer: Trainer) -> None:
        step, epochs, seconds, bits = trainer.validation_curve[-1]
        self._write(
            f"step {step}, epoch {epochs:.2f}, {seconds:.0f} s: held-out {bits:.3f} bits per char"
        )

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
    axes.set(xlabel="seconds of training", ylabel="bits per character")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    click.echo(f"Loss curve: {path}")


def _program() -> list[str]:
    """Return how this program was called, so that printed commands work as they stand."""
    started = Path(sys.argv[0])
    if started.suffix == ".py":  # python -m rnncore.cli
        return [sys.executable, "-m", "rnncore.cli"]
    found = shutil.which("rnncore")
    if found is not None and started.exists() and Path(found).samefile(started):
        return ["rnncore"]
    return [os.path.relpath(started) if started.is_absolute() else str(started)]


if __name__ == "__main__":
    main()
