"""The commands about tags: train a tagger, let it tag, say how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
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
from rnncore.data.conllu import format_conllu, read_conllu, write_conllu
from rnncore.data.sentence import Sentence
from rnncore.data.sequence_source import SequenceSettings
from rnncore.data.tagged import TaggedSource, TaggerVocabularies, read_tagged
from rnncore.estimators.tagger import Tagger
from rnncore.models.tagger_network import TaggerNetwork, TaggerSettings
from rnncore.training import Trainer, TrainingSettings

EXISTING = click.Path(path_type=Path)
EPOCHS = 30.0  # where no budget is given


@click.command("tags")
@click.argument("source", metavar="FILE", type=EXISTING)
@option("--held-out", type=EXISTING, metavar="FILE", help="Sentences that validations measure.")
@options_of(
    TaggerSettings, SequenceSettings, TrainingSettings, optimizer="adamw", weight_decay=1e-2,
    average=0.998, clip_norm=1.0, epochs=EPOCHS,
)  # fmt: skip
@training_options("rnncore-tags")
@click.pass_context
def train_tags(ctx: click.Context, source: Path, held_out: Path | None, **options: Any) -> None:
    """Train a tagger on FILE: CoNLL-U, or one word and its tag a line.

    Sentences are apart by blank lines. Ctrl-C saves a checkpoint and ends.
    """
    beginning = Beginning(given_options(ctx, options), options)
    model = beginning.model(TaggerNetwork, TaggerSettings, "tags")
    cut, settings = beginning.settings(SequenceSettings, EPOCHS)
    folder = beginning.folder("rnncore-tags")
    words, tags = read_tagged(source)
    others = None if held_out is None else read_tagged(held_out)
    if model is None:
        made = TaggerSettings(**values_of(TaggerSettings, options))
        model = TaggerNetwork(TaggerVocabularies.of(words, tags), made, seed=options["seed"])
    data = TaggedSource(words, tags, model.vocabularies, cut, held_out=others)
    trainer = Trainer(model, data, settings, folder)
    beginning.restore(trainer)
    known = model.vocabularies
    click.echo(
        f"{data.describe()}; {len(known.words.words):,} distinct words, "
        f"{len(known.tags)} tags; {model.num_parameters:,} parameters"
    )
    validated = [] if held_out is None else ["--held-out", str(held_out)]
    go_on = [*program(), "train", "tags", str(source), *validated, "--resume", "{}"]
    use = [*program(), "tag", "{}", str(held_out or source)]
    run_training(trainer, go_on, use, None, 0, "Let it tag", options["tensorboard"])


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("source", metavar="FILE", type=EXISTING)
@together(
    option("--output", type=EXISTING, metavar="FILE", help="Write there, not to the screen."),
    option("--score", is_flag=True, help="Say how many tags of FILE are found; write nothing."),
)
def tag(model: Path, source: Path, output: Path | None, score: bool) -> None:
    """Tag the words of FILE with MODEL; the rest of its lines stays as it is.

    FILE is CoNLL-U, or has one word a line and blank lines between sentences.
    """
    if score and output is not None:
        raise ValueError("--output: expected none with --score, which writes nothing")
    tagger = Tagger.of_network(model_of(files.load(model), model, TaggerNetwork, "tags"))
    if score:
        words, tags = read_tagged(source)
        count = sum(map(len, words))
        click.echo(f"{100 * tagger.score(words, tags):.2f} % of {count:,} words")
        return
    tagged = _tagged(tagger, read_conllu(source))
    if output is None:
        click.echo(format_conllu(tagged), nl=False)
    else:
        write_conllu(output, tagged)


def _tagged(tagger: Tagger, sentences: Sequence[Sentence]) -> list[Sentence]:
    found = tagger.predict([sentence.words for sentence in sentences])
    return [one.with_tags(tags) for one, tags in zip(sentences, found, strict=True)]
