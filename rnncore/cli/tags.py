"""The commands about tags: train a tagger, let it tag, say how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rnncore import files, models
from rnncore.cli.options import (
    check_folder,
    given_options,
    names_of,
    option,
    options_of,
    refuse_changes,
    resumed_settings,
    together,
    training_options,
    values_of,
    with_budget,
)
from rnncore.cli.progress import program, run_training
from rnncore.data.conllu import format_conllu, read_conllu, write_conllu
from rnncore.data.sentence import Sentence
from rnncore.data.tagged import TaggedSettings, TaggedSource, TaggerVocabularies, Words
from rnncore.estimators.tagger import Tagger
from rnncore.models.tagger_model import TaggerModel, TaggerSettings
from rnncore.training import Trainer, TrainingSettings

EXISTING = click.Path(path_type=Path)
EPOCHS = 30.0  # where no budget is given


@click.command("tags")
@click.argument("source", metavar="FILE", type=EXISTING)
@option("--held-out", type=EXISTING, metavar="FILE", help="Sentences that validations measure.")
@options_of(
    TaggerSettings, TaggedSettings, TrainingSettings, optimizer="adamw", weight_decay=1e-2,
    average=0.998, clip_norm=1.0, epochs=EPOCHS,
)  # fmt: skip
@training_options("rnncore-tags")
@click.pass_context
def train_tags(ctx: click.Context, source: Path, held_out: Path | None, **options: Any) -> None:
    """Train a tagger on FILE: CoNLL-U, or one word and its tag a line.

    Sentences are apart by blank lines. Ctrl-C saves a checkpoint and ends.
    """
    given = given_options(ctx, options)
    resume, init_from = options["resume"], options["init_from"]
    if resume is not None and init_from is not None:
        raise ValueError(
            "--init-from: expected none with --resume, which goes on with the weights of its "
            "checkpoint; leave one of them out"
        )
    begun = resume or init_from
    contents = None if begun is None else files.load(begun)
    folder = options["output"] or (resume.parent if resume else Path("rnncore-tags"))
    check_folder(folder, resume, options["overwrite"])
    words, tags = _read(source)
    others = None if held_out is None else _read(held_out)
    cut, seed = TaggedSettings(**values_of(TaggedSettings, options)), options["seed"]
    if contents is None:
        settings = TaggerSettings(**values_of(TaggerSettings, options))
        model = TaggerModel(TaggerVocabularies.of(words, tags), settings, seed=seed)
    else:
        model = _tagger(contents, begun)
        where = f"the {'checkpoint' if resume else 'model'} {str(begun)!r}"
        refuse_changes(given, {k: model.settings[k] for k in names_of(TaggerSettings)}, where)
    if resume is not None and contents is not None:
        kept = _training_of(contents, resume)
        cut = TaggedSettings(**{name: kept["source"][name] for name in names_of(TaggedSettings)})
        seed = kept["source"]["batches_seed"]
        training = resumed_settings(given, kept, where)
    else:
        training = TrainingSettings(**with_budget(values_of(TrainingSettings, options), EPOCHS))
    data = TaggedSource(words, tags, model.vocabularies, cut, held_out=others, seed=seed)
    trainer = Trainer(model, data, training, folder)
    if resume is not None:
        trainer.restore(resume, contents)
        if trainer.fraction >= 1.0:
            raise ValueError(
                f"budget: expected more than what {str(resume)!r} has behind it (step "
                f"{trainer.step}, epoch {trainer.epochs:.2f}), but it is used up; give a larger "
                "--epochs, --steps or --seconds"
            )
    known = model.vocabularies
    click.echo(
        f"{data.describe()}; {len(known.words.words):,} distinct words, "
        f"{len(known.tags)} tags; {model.num_parameters:,} parameters"
    )
    validated = [] if held_out is None else ["--held-out", str(held_out)]
    go_on = [*program(), "train", "tags", str(source), *validated, "--resume", "{}"]
    run_training(trainer, go_on, [*program(), "tag", "{}", str(held_out or source)], None, 0,
                 "Let it tag")  # fmt: skip


def _training_of(contents: files.Contents, path: Path) -> dict[str, Any]:
    training = contents.metadata.get("training")
    if training is None:
        raise files.FileError(
            f"--resume: expected a training checkpoint, but {str(path)!r} is a model alone; give "
            "last.safetensors or best.safetensors of a training folder, or begin a new training "
            f"from its weights with --init-from {path}"
        )
    try:
        source = training["source"]
        for name in (*names_of(TaggedSettings), "batches_seed"):
            source[name]
    except (KeyError, TypeError) as error:
        raise files.FileError(
            f"checkpoint: {str(path)!r} holds no whole training ({error!r}); use another copy"
        ) from None
    found: dict[str, Any] = training
    return found


def _tagger(contents: files.Contents, path: Path) -> TaggerModel:
    model = models.from_contents(contents, path)
    if not isinstance(model, TaggerModel):
        raise ValueError(
            f"model file: expected a tagger, but {str(path)!r} holds a {model.kind}; give a file "
            "that `rnncore train tags` wrote"
        )
    return model


def _read(path: Path) -> tuple[Words, Words]:
    sentences = read_conllu(path)
    missing = [n for n, sentence in enumerate(sentences, 1) if "_" in sentence.tags]
    if missing:
        raise ValueError(
            f"{str(path)!r}: expected a tag for each word, but sentence {missing[0]} has words "
            "without one; tag it or take it out"
        )
    return [s.words for s in sentences], [s.tags for s in sentences]


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
    tagger = Tagger()
    tagger.model_ = _tagger(files.load(model), model)
    if score:
        words, tags = _read(source)
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
