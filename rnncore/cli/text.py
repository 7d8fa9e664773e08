"""The commands about text: train a language model, let it write, measure it, the demo."""

from __future__ import annotations

import glob
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

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
from rnncore.data import TextSettings, TextSource, UnitSettings, read_tokens
from rnncore.data.reading import TextFiles, encoding_of
from rnncore.data.units import TextVocabulary
from rnncore.estimators.language_model import LanguageModel
from rnncore.models.language_network import LanguageNetwork, LanguageSettings
from rnncore.models.language_sampling import fresh_seed
from rnncore.settings import Positive
from rnncore.training import Source, Trainer, TrainingSettings

EXISTING = click.Path(path_type=Path)
AT_ONCE = 256  # texts written in one batch: more are not faster, and would be held in memory


@click.command("text")
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@options_of(UnitSettings, LanguageSettings, TextSettings, TrainingSettings)
@together(
    option("--samples", default=3, type=click.IntRange(min=0), help="Shown on the way."),
    option("--encoding", default="utf-8", help="Of the files; bytes as the unit are not decoded."),
)
@training_options("rnncore-text")
@click.pass_context
def train_text(ctx: click.Context, sources: tuple[str, ...], **options: Any) -> None:
    """Train a language model on FILE...: files, folders, patterns.

    It learns characters, or bytes or words (--unit). Folders are read recursively, in sorted order.
    Ctrl-C saves a checkpoint and ends.
    """
    beginning = Beginning(given_options(ctx, options), options)
    model = beginning.model(LanguageNetwork, LanguageSettings, "text")
    cut, settings = beginning.settings(TextSettings)
    folder = beginning.folder("rnncore-text")
    encoding = options["encoding"]
    if model is None:
        made = UnitSettings(**values_of(UnitSettings, options))
        vocabulary, tokens = read_tokens(sources, encoding=encoding, settings=made)
        values = values_of(LanguageSettings, options)
        model = LanguageNetwork(vocabulary, seed=options["seed"], **values)
    else:
        unit = model.vocabulary.unit
        beginning.refuse({"unit": unit}, ("vocabulary_size", "least_count"))
        tokens = _read(sources, model.vocabulary, encoding, options)
    source = TextSource(tokens, cut, unit=model.vocabulary.unit)
    trainer = Trainer(model, source, settings, folder)
    beginning.restore(trainer)
    coded = ["--encoding", encoding] if encoding != "utf-8" else []
    go_on = [*program(), "train", "text", *sources, *coded, "--resume", "{}"]
    _run(trainer, go_on, options["samples"], tensorboard=options["tensorboard"])


def _read(
    sources: tuple[str, ...], vocabulary: TextVocabulary, encoding: str, options: dict[str, Any]
) -> NDArray[np.integer]:
    try:
        return read_tokens(sources, vocabulary, encoding)[1]
    except ValueError as error:
        if "never seen" not in str(error):
            raise
        resumed = options["resume"]
        if resumed is None:
            advice = (
                f"--init-from: the symbols of {str(options['init_from'])!r} stay as they are; take "
                "those out of the text, or train anew"
            )
        else:
            advice = (
                f"to resume from {str(resumed)!r}, name the very files that it was trained on; a "
                "new training from its weights (--init-from) needs a text of its characters"
            )
        raise ValueError(f"{error}; {advice}") from None


@click.command()
@click.argument("model", type=EXISTING)
@together(
    option(
        "--length", default=1000, type=click.IntRange(min=0), help="Characters, bytes or words."
    ),
    option(
        "--temperature",
        default=0.8,
        type=click.FloatRange(min=0),
        help="Below 1 safer, above 1 wilder, 0 always the likeliest.",
    ),
    option("--prime", default="", help="Text to go on from."),
    option("--stop", help="Text that ends it; a line end in bash is $'\\n'."),
    option("--top-k", type=click.IntRange(min=1), help="Draw from so many likeliest alone."),
    option("--top-p", type=click.FloatRange(0, 1, min_open=True),
           help="Draw from as few likeliest as have this share."),
    option("--repetition-penalty", default=1.0, type=click.FloatRange(min=0, min_open=True),
           help="Above 1 makes less likely what was just written."),
    option("--repetition-window", type=click.IntRange(min=1),
           help="Symbols back that the penalty looks.  [default: 64]"),
    option("--samples", default=1, type=click.IntRange(min=1),
           help="Texts to write at once; the seed that writes each one alone is printed."),
    option("--seed", type=click.IntRange(min=0), help="The same seed writes the same text."),
)  # fmt: skip
def sample(model: Path, length: int, samples: int, seed: int | None, **how: Any) -> None:
    """Write text with MODEL, a model file or checkpoint."""
    loaded = model_of(files.load(model), model, LanguageNetwork, "text")
    if samples > 1:
        first = fresh_seed() if seed is None else seed
        for begun in range(first, first + samples, AT_ONCE):
            count = min(AT_ONCE, first + samples - begun)
            texts = loaded.sample(length, seed=begun, samples=count, **how)
            for number, text in enumerate(texts, begun):
                click.echo(f"--- seed {number} ---\n{text}")
        return
    for piece in loaded.sample_pieces(length, seed=seed, **how):
        click.echo(piece, nl=False)
        sys.stdout.flush()  # as it is written, into a pipe as well
    click.echo()


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("sources", nargs=-1, required=True, metavar="TEXT...")
@together(
    option("--last", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
           help="Measure the last part of each TEXT alone, as training holds it out."),
    option("--each", is_flag=True,
           help="Print for each line, by itself: bits, bits per character, unknown symbols, line."),
    option("--encoding", default="utf-8", help="Of the files; bytes as the unit are not decoded."),
)  # fmt: skip
def evaluate(
    model: Path, sources: tuple[str, ...], last: float | None, each: bool, encoding: str
) -> None:
    """Say how well MODEL predicts each TEXT: files, folders, patterns.

    Bits per character, whatever the model reads; of bytes and words bits per byte and perplexity
    per word as well. The state is carried through a whole TEXT, however long.
    """
    loaded = LanguageModel.of_network(
        model_of(files.load(model), model, LanguageNetwork, "text")
    )
    if each:
        if last is not None:
            raise ValueError("--last: expected none with --each, which measures every line")
        _print_lines(loaded, sources, encoding)
        return
    if "" in sources:  # which Path takes for the folder that one is in
        raise ValueError("TEXT: expected files, folders or patterns, got an empty name")
    found = []
    for source in sources:
        found.append(loaded.evaluate(Path(source), last=last, encoding=encoding))
        name = f"{source}: " if len(sources) > 1 else ""
        click.echo(name + found[-1].describe())
    if len(found) > 1:
        click.echo(f"all: {sum(found[1:], found[0]).describe()}")


def _print_lines(model: LanguageModel, sources: tuple[str, ...], encoding: str) -> None:
    for line in TextFiles(sources, encoding_of(model.vocabulary_.unit, encoding)).lines():
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        if not line:
            click.echo("0.00\t0.0000\t0\t")
            continue
        one = model.evaluate(line)
        bits = one.bits_per_character
        click.echo(f"{bits * one.characters:.2f}\t{bits:.4f}\t{one.unknown}\t{text}")


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
    click.echo(f"{trainer.source.describe()}; {_distinct(model.vocabulary, trainer.source)}")
    click.echo(
        f"{model.settings['cell']} {model.settings['num_layers']} x "
        f"{model.settings['hidden_size']}, {model.flat_params.size:,} parameters"
    )
    length = str(5 * _shown(model) // 3)
    use = [*program(), "sample", "{}", "--length", length, *(["--prime", prime] if prime else [])]
    show = _sampler(model, prime) if samples else None
    run_training(trainer, go_on, use, show, samples, tensorboard=tensorboard)


def _distinct(vocabulary: TextVocabulary, source: Source) -> str:
    if vocabulary.unknown is None or not isinstance(source, TextSource):
        return f"{len(vocabulary)} distinct"
    unknown = np.count_nonzero(source.tokens == vocabulary.unknown) / len(source.tokens)
    return f"{vocabulary.unknown:,} known, {100 * unknown:.1f} % of the text is not"


def _shown(model: LanguageNetwork) -> int:
    # Symbols of a sample: of words fewer, which is about as much text.
    return 60 if model.vocabulary.unit == "words" else 300


def _sampler(model: LanguageNetwork, prime: str) -> Show:
    def show(trainer: Trainer, write: Callable[[str], object]) -> None:
        text = model.sample(_shown(model), temperature=0.7, prime=prime, seed=0)
        write(f"\n--- a sample at step {trainer.step} ---\n{text}\n---\n")

    return show
