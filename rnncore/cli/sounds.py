"""The commands about sound: train a transcriber, let it transcribe."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import numpy as np

from rnncore import files
from rnncore.cli.beginning import Beginning, model_of
from rnncore.cli.options import (
    given_options,
    option,
    options_of,
    refuse_changes,
    together,
    training_options,
    values_of,
)
from rnncore.cli.progress import program, run_training
from rnncore.data.audio import read_wav
from rnncore.data.edits import edit_distance
from rnncore.data.recordings import Recordings, read_labels, read_recordings
from rnncore.data.spectra import SoundSettings
from rnncore.data.utterances import UtteranceSettings, UtteranceSource
from rnncore.data.words import WordVocabulary
from rnncore.estimators.word_transcriber import WordTranscriber
from rnncore.models.transcriber_network import TranscriberNetwork, TranscriberSettings
from rnncore.training import Trainer, TrainingSettings

EXISTING = click.Path(path_type=Path)
EPOCHS = 15.0  # where no budget is given
BLOCK = 0.02  # seconds of sound that --stream reads at a time


@click.command("sounds")
@click.argument("source", metavar="FOLDER", type=EXISTING)
@option(
    "--held-out", metavar="PATTERN",
    help="Of files of FOLDER, such as '*_[0-4].wav', that validations measure.",
)  # fmt: skip
@options_of(
    TranscriberSettings, SoundSettings, UtteranceSettings, TrainingSettings, optimizer="adamw",
    weight_decay=1e-2, clip_norm=1.0, learning_rate=4e-3, batch_size=16, epochs=EPOCHS,
)  # fmt: skip
@training_options("rnncore-sounds")
@click.pass_context
def train_sounds(ctx: click.Context, source: Path, held_out: str | None, **options: Any) -> None:
    """Train a transcriber on recorded words: FOLDER has WAV files word_speaker_take.wav.

    FOLDER may be a list as well: a path, a word and perhaps a speaker a line, with tabs between.
    Ctrl-C saves a checkpoint and ends.
    """
    beginning = Beginning(given_options(ctx, options), options)
    model = beginning.model(TranscriberNetwork, TranscriberSettings, "sounds")
    cut, settings = beginning.settings(UtteranceSettings, EPOCHS)
    folder = beginning.folder("rnncore-sounds")
    if model is None:
        sound = SoundSettings(**values_of(SoundSettings, options))
    else:
        sound = model.sound
        kept = dataclasses.asdict(sound)
        refuse_changes(given_options(ctx, options), kept, f"the file {str(beginning.path)!r}")
    recordings, others = _split(read_recordings(source, sound.rate), held_out)
    words = WordVocabulary([recordings.words], unknown=False)
    made = TranscriberSettings(**values_of(TranscriberSettings, options))
    form = made if model is None else model
    data = UtteranceSource(
        recordings, words if model is None else model.vocabulary, sound, cut, form.known,
        form.whole, others,
    )  # fmt: skip
    if model is None:
        model = TranscriberNetwork(words, sound, data.inputs(), made, seed=options["seed"])
    trainer = Trainer(model, data, settings, folder)
    beginning.restore(trainer)
    click.echo(
        f"{data.describe()}; {len(model.vocabulary)} distinct; {model.num_parameters:,} parameters"
    )
    validated = [] if held_out is None else ["--held-out", held_out]
    go_on = [*program(), "train", "sounds", str(source), *validated, "--resume", "{}"]
    use = [*program(), "transcribe", "{}", (recordings if others is None else others).names[0]]
    run_training(trainer, go_on, use, None, 0, "Let it transcribe", options["tensorboard"])


def _split(recordings: Recordings, pattern: str | None) -> tuple[Recordings, Recordings | None]:
    if pattern is None:
        return recordings, None
    chosen = np.array([fnmatch(Path(name).name, pattern) for name in recordings.names])
    if chosen.all() or not chosen.any():
        raise ValueError(
            f"--held-out: expected a pattern of some of {len(chosen)} files, got {pattern!r}, of "
            f"{'all' if chosen.any() else 'none'}; try '*_[0-4].wav'"
        )
    return recordings.take(np.flatnonzero(~chosen)), recordings.take(np.flatnonzero(chosen))


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("sources", metavar="FILE...", nargs=-1, required=True, type=EXISTING)
@together(
    option(
        "--labels", type=EXISTING, metavar="FILE",
        help="Where the words of FILE are: begin and end in seconds a line, a tab between.",
    ),
    option("--together", is_flag=True, help="Each FILE is a word of one utterance."),
    option(
        "--beam", default=1, type=click.IntRange(min=1),
        help="Prefixes that a search for the likeliest words keeps; boundaries unknown.",
    ),
    option(
        "--voices", default=1, type=click.IntRange(min=1),
        help="How many voices FILE is read in, for speakers unlike all that were heard.",
    ),
    option("--stream", is_flag=True, help="Read blocks of 20 ms; write words as they are heard."),
    option("--score", is_flag=True, help="FILE is a folder as of training: count wrong words."),
)  # fmt: skip
def transcribe(
    model: Path, sources: tuple[Path, ...], labels: Path | None, together: bool, beam: int,
    voices: int, stream: bool, score: bool,
) -> None:  # fmt: skip
    """Write the words of sound FILE... with MODEL, a line a file."""
    found = model_of(files.load(model), model, TranscriberNetwork, "sounds")
    transcriber = WordTranscriber.of_network(found).set_params(beam=beam, voices=voices)
    single = {"--labels": labels is not None, "--stream": stream, "--score": score}
    several = [name for name, given in {**single, "--together": together}.items() if given]
    if len(several) > 1:
        raise ValueError(f"{several[1]}: expected none with {several[0]}; leave one of them out")
    if several and several[0] in single and len(sources) > 1:
        raise ValueError(f"{several[0]}: expected one FILE, got {len(sources)}")
    if (labels is not None or together) and not found.known:
        raise ValueError(
            f"{several[0]}: expected none, as this model finds the boundaries of words itself"
        )
    for name, given in (("--beam", beam), ("--voices", voices)):
        if given > 1 and stream:
            raise ValueError(
                f"{name}: expected none with --stream, which says the likeliest path of one "
                f"reading, got {given}; leave one of them out"
            )
    if stream:
        _listen(transcriber, sources[0])
    elif score:
        said = read_recordings(sources[0], found.sound.rate)
        wrong = sum(
            edit_distance(words, [word])
            for words, word in zip(transcriber.predict(said.samples), said.words, strict=True)
        )
        click.echo(f"{100 * wrong / len(said):.2f} % of {len(said):,} words wrong")
    elif labels is not None:
        samples, rate = read_wav(sources[0], found.sound.rate)
        [words] = transcriber.predict([read_labels(labels, samples, rate)])
        click.echo(" ".join(words))
    elif together:
        click.echo(" ".join(transcriber.predict([list(sources)])[0]))
    else:
        sounds = [read_wav(source, found.sound.rate)[0] for source in sources]
        for source, words in zip(sources, transcriber.predict(sounds), strict=True):
            named = f"{source}\t" if len(sources) > 1 else ""
            click.echo(named + " ".join(words))


def _listen(transcriber: WordTranscriber, source: Path) -> None:
    stream = transcriber.stream()
    samples, rate = read_wav(source, stream.sound.rate)
    size = round(BLOCK * rate)
    for first in range(0, len(samples), size):
        for word in stream.process(samples[first : first + size]):
            click.echo(f"{(first + size) / rate:.2f} s\t{word}")
    for word in stream.finish():
        click.echo(f"{len(samples) / rate:.2f} s\t{word}")
