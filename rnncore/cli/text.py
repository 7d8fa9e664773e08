"""The commands about text: train a language model, let it write, the demo."""

from __future__ import annotations

import glob
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rnncore import files
from rnncore.cli.beginning import Beginning, model_of
from rnncore.cli.options import (
    given_options,
    option,
    options_of,
    together,
    training_options,
    values_of,
)
from rnncore.cli.progress import Show, program, run_training
from rnncore.data import TextSettings, TextSource, Vocabulary, read_tokens
from rnncore.data.vocabulary import BYTES
from rnncore.models.language_network import LanguageNetwork, LanguageSettings
from rnncore.settings import Positive
from rnncore.training import Trainer, TrainingSettings


@click.command("text")
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@options_of(LanguageSettings, TextSettings, TrainingSettings)
@together(
    option("--samples", default=3, type=click.IntRange(min=0), help="Shown on the way."),
    option(
        "--encoding",
        default="utf-8",
        help="Of the files; 'bytes' takes every byte as a character of its own.",
    ),
)
@training_options("rnncore-text")
@click.pass_context
def train_text(ctx: click.Context, sources: tuple[str, ...], **options: Any) -> None:
    """Train a character language model on FILE...: files, folders, patterns.

    Folders are read recursively, in sorted order. Ctrl-C saves a checkpoint and ends.
    """
    beginning = Beginning(given_options(ctx, options), options)
    model = beginning.model(LanguageNetwork, LanguageSettings, "text")
    if model is not None and model.vocabulary.is_bytes:
        options["encoding"] = BYTES
    cut, settings = beginning.settings(TextSettings)
    folder = beginning.folder("rnncore-text")
    vocabulary, tokens = _read(sources, model, options["encoding"], beginning.path)
    if model is None:
        values = values_of(LanguageSettings, options)
        model = LanguageNetwork(vocabulary, seed=options["seed"], **values)
    trainer = Trainer(model, TextSource(tokens, cut), settings, folder)
    beginning.restore(trainer)
    encoding = ["--encoding", options["encoding"]] if options["encoding"] != "utf-8" else []
    go_on = [*program(), "train", "text", *sources, *encoding, "--resume", "{}"]
    _run(trainer, go_on, options["samples"], tensorboard=options["tensorboard"])


def _read(
    sources: tuple[str, ...], model: LanguageNetwork | None, encoding: str, begun: Path | None
) -> tuple[Vocabulary, Any]:
    try:
        return read_tokens(sources, None if model is None else model.vocabulary, encoding)
    except ValueError as error:
        if begun is None or "never seen" not in str(error):
            raise
        raise ValueError(
            f"{error}; to resume from {str(begun)!r}, name the very files that it was trained on; "
            "a new training from its weights (--init-from) needs a text of its characters"
        ) from None


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@together(
    option("--length", default=1000, type=click.IntRange(min=0), help="Characters to write."),
    option(
        "--temperature",
        default=0.8,
        type=click.FloatRange(min=0),
        help="Below 1 safer, above 1 wilder, 0 always the likeliest.",
    ),
    option("--prime", default="", help="Text to go on from."),
    option("--seed", type=click.IntRange(min=0), help="The same seed writes the same text."),
)
def sample(model: Path, length: int, temperature: float, prime: str, seed: int | None) -> None:
    """Write text with MODEL, a model file or checkpoint."""
    loaded = model_of(files.load(model), model, LanguageNetwork, "text")
    for piece in loaded.sample_characters(length, temperature, prime, seed):
        click.echo(piece, nl=False)
        sys.stdout.flush()  # as it is written, into a pipe as well
    click.echo()


@click.command()
@together(
    option(
        "--seconds",
        default=120.0,
        type=click.FloatRange(min=0, min_open=True),
        help="Time of training.",
    ),
    option(
        "--output",
        default="rnncore-demo",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for the model and the loss curve; an older demo in it is replaced.",
    ),
)
def demo(seconds: float, output: Path) -> None:
    """Train on the Python standard library's source for two minutes, then write Python."""
    Positive().check("--seconds", seconds)
    # Not _*.py: among them are files that the build made, different on every machine.
    pattern = os.path.join(glob.escape(sysconfig.get_path("stdlib")), "[!_]*.py")
    vocabulary, tokens = read_tokens(pattern)
    click.echo(f"The text: Python's standard library, {pattern}")
    model = LanguageNetwork(vocabulary, hidden_size=128, num_layers=2, seed=0)
    settings = TrainingSettings(
        seconds=seconds, learning_rate=8e-3, validations=max(1, round(seconds / 10))
    )
    trainer = Trainer(model, TextSource(tokens, batch_size=32), settings, output)
    go_on = [*program(), "train", "text", pattern, "--resume", "{}"]
    _run(trainer, go_on, 3, prime="def ")


def _run(
    trainer: Trainer, go_on: list[str], samples: int, prime: str = "", tensorboard: bool = False
) -> None:
    model = trainer.model
    assert isinstance(model, LanguageNetwork)
    click.echo(f"{trainer.source.describe()}; {len(model.vocabulary)} distinct")
    click.echo(
        f"{model.settings['cell']} {model.settings['num_layers']} x "
        f"{model.settings['hidden_size']}, {model.flat_params.size:,} parameters"
    )
    use = [*program(), "sample", "{}", "--length", "500", *(["--prime", prime] if prime else [])]
    show = _sampler(model, prime) if samples else None
    run_training(trainer, go_on, use, show, samples, tensorboard=tensorboard)


def _sampler(model: LanguageNetwork, prime: str) -> Show:
    def show(trainer: Trainer, write: Callable[[str], object]) -> None:
        text = model.sample(300, temperature=0.7, prime=prime, seed=0)
        write(f"\n--- a sample at step {trainer.step} ---\n{text}\n---\n")

    return show
