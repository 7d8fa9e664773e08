"""The commands about pairs of texts: train a translator, let it translate, say how good it is."""

from __future__ import annotations

import sys
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
from rnncore.cli.progress import program, run_training
from rnncore.data.pairs import PairSource, read_pairs, read_texts, split_pairs
from rnncore.data.sequence_source import SequenceSettings
from rnncore.estimators.translator import Translator
from rnncore.models.translator_network import TranslatorNetwork, TranslatorSettings
from rnncore.training import Trainer, TrainingSettings

EXISTING = click.Path(path_type=Path)
EPOCHS = 30.0  # where no budget is given


@click.command("pairs")
@click.argument("path", metavar="FILE", type=EXISTING)
@together(
    option("--held-out", type=EXISTING, metavar="FILE", help="Pairs that validations measure."),
    option("--hold-out", type=click.IntRange(min=1), metavar="COUNT",
           help="Or so many first texts of FILE, each with all that stands beside it."),
)  # fmt: skip
@options_of(
    TranslatorSettings, SequenceSettings, TrainingSettings, optimizer="adamw", weight_decay=1e-2,
    average=0.998, clip_norm=1.0, batch_size=64, epochs=EPOCHS,
)  # fmt: skip
@training_options("rnncore-pairs")
@click.pass_context
def train_pairs(
    ctx: click.Context, path: Path, held_out: Path | None, hold_out: int | None, **options: Any
) -> None:
    """Train a translator on FILE: two texts a line, with a tab between them.

    It learns to write the second one to the first. Ctrl-C saves a checkpoint and ends.
    """
    if held_out is not None and hold_out is not None:
        raise ValueError("--hold-out: expected none beside --held-out; leave one of them out")
    beginning = Beginning(given_options(ctx, options), options)
    model = beginning.model(TranslatorNetwork, TranslatorSettings, "pairs")
    cut, settings = beginning.settings(SequenceSettings, EPOCHS)
    folder = beginning.folder("rnncore-pairs")
    pairs = read_pairs(path)
    others = None if held_out is None else read_pairs(held_out)
    if hold_out is not None:
        pairs, others = split_pairs(pairs, hold_out)
    if model is None:
        made = TranslatorSettings(**values_of(TranslatorSettings, options))
        model = TranslatorNetwork(made.pieces_of(pairs), made, seed=options["seed"])
    data = PairSource(pairs, model.pieces, cut, held_out=others)
    trainer = Trainer(model, data, settings, folder)
    beginning.restore(trainer)
    known = model.pieces
    click.echo(
        f"{data.describe()}; {len(known.source):,} and {len(known.target):,} distinct pieces; "
        f"{model.num_parameters:,} parameters"
    )
    validated = [] if held_out is None else ["--held-out", str(held_out)]
    validated += [] if hold_out is None else ["--hold-out", str(hold_out)]
    go_on = [*program(), "train", "pairs", str(path), *validated, "--resume", "{}"]
    use = [*program(), "translate", "{}", str(held_out or path)]
    run_training(trainer, go_on, use, None, 0, "Let it translate", options["tensorboard"])


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@together(
    option("--output", type=EXISTING, metavar="FILE", help="Write there, not to the screen."),
    option("--beam-size", default=5, type=click.IntRange(min=1), help="1 is the greedy search."),
    option("--length-penalty", default=1.0, type=click.FloatRange(min=0),
           help="Power of the length that log-probabilities are divided by."),
    option("--score", type=click.Choice(["bleu", "exact"]),
           help="Compare with what stands behind the tabs of FILE; write nothing."),
)  # fmt: skip
def translate(
    model: Path, source: Path, output: Path | None, beam_size: int, length_penalty: float,
    score: str | None,
) -> None:  # fmt: skip
    """Translate each line of FILE with MODEL; what stands behind a tab does not count.

    FILE may be -, the standard input.
    """
    if score is not None and output is not None:
        raise ValueError("--output: expected none with --score, which writes nothing")
    if score is not None and str(source) == "-":
        raise ValueError("FILE: expected the name of a file with --score, got the standard input")
    loaded = model_of(files.load(model), model, TranslatorNetwork, "pairs")
    translator = Translator.of_network(loaded)
    translator.set_params(beam_size=beam_size, length_penalty=length_penalty)
    if score is not None:
        pairs = read_pairs(source)
        count = f"{len({text for text, _ in pairs}):,} distinct texts"
        if score == "bleu":
            click.echo(f"BLEU {translator.bleu(pairs):.2f} of {count}")
        else:
            click.echo(f"{100 * translator.score(pairs):.2f} % right of {count}")
        return
    if str(source) == "-":
        # Not splitlines(), as of a file: U+2028 and its like may stand in a text.
        *lines, last = sys.stdin.read().split("\n")
        given = [line.split("\t")[0] for line in (lines if not last else [*lines, last])]
    else:
        given = read_texts(source)
    written = "".join(f"{text}\n" for text in translator.predict(given))
    if output is None:
        click.echo(written, nl=False)
    else:
        files.write_whole(output, written.encode())
