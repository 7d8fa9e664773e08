"""The command that looks inside a model while it takes the gradients of a batch."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from json import dumps
from pathlib import Path
from typing import Any

import click
import numpy as np

from rnncore import files, models
from rnncore.cli.options import option, together
from rnncore.data.sequence_source import SequenceSettings
from rnncore.estimators import KINDS

EXISTING = click.Path(path_type=Path)
Batch = tuple[Any, ...]


# What each kind of model reads, as its own commands read it. They import what they need, so that
# the command line stays light.


def _text(network: Any, source: Path, size: int, steps: int) -> Batch:
    from rnncore.data import read_tokens
    from rnncore.data.source import TextChunks

    _, tokens = read_tokens(str(source), network.vocabulary)
    return TextChunks(tokens, size, steps, unit=network.vocabulary.unit).batch(0)


def _tags(network: Any, source: Path, size: int, steps: int) -> Batch:
    from rnncore.data.tagged import TaggedSource, read_tagged

    words, tags = read_tagged(source)
    return TaggedSource(words, tags, network.vocabularies, _dealt(size)).batch(0)


def _series(network: Any, source: Path, size: int, steps: int) -> Batch:
    from rnncore.data.series import read_series
    from rnncore.estimators.forecaster_source import source_of

    series = read_series(source, network.known.names, network.known.covariates)
    return source_of(network, series, 0.0, settings=_dealt(size)).batch(0)


def _pairs(network: Any, source: Path, size: int, steps: int) -> Batch:
    from rnncore.data.pairs import PairSource, read_pairs

    return PairSource(read_pairs(source), network.pieces, _dealt(size)).batch(0)


def _sounds(network: Any, source: Path, size: int, steps: int) -> Batch:
    from rnncore.data.recordings import read_recordings
    from rnncore.data.utterances import UtteranceSettings, UtteranceSource

    recordings = read_recordings(source, network.sound.rate)
    cut = UtteranceSettings(batch_size=size)
    known = network.vocabulary, network.sound, cut, network.known, network.whole
    return UtteranceSource(recordings, *known).batch(0)


def _sequences(network: Any, source: Path, size: int, steps: int) -> Batch:
    try:
        with np.load(source, allow_pickle=False) as found:
            X, y = found["X"], found["y"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"DATA: expected an .npz file with the arrays X and y for a {network.kind}, got "
            f"{str(source)!r} ({error}); write one by np.savez(path, X=X, y=y)"
        ) from None
    return KINDS[network.kind].of_network(network).batch(X[:size], y[:size])  # type: ignore[attr-defined]


def _dealt(size: int) -> SequenceSettings:
    return SequenceSettings(batch_size=size)


READERS: dict[str, Callable[[Any, Path, int, int], Batch]] = {
    "forecaster": _series,
    "language model": _text,
    "sequence classifier": _sequences,
    "sequence regressor": _sequences,
    "tagger": _tags,
    "transcriber": _sounds,
    "translator": _pairs,
}


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("source", metavar="DATA", type=EXISTING)
@together(
    option("--batch-size", default=16, type=click.IntRange(min=1), help="Sequences looked at."),
    option("--sequence-length", default=100, type=click.IntRange(min=1), help="Steps of a text."),
    option("--picture", type=EXISTING, metavar="FILE", help="Draw into a PNG as well."),
    option("--arrays", type=EXISTING, metavar="FILE", help="Write the curves into an .npz file."),
    option("--json", is_flag=True, help="Write everything as JSON."),
)
def diagnose(
    model: Path,
    source: Path,
    batch_size: int,
    sequence_length: int,
    picture: Path | None,
    arrays: Path | None,
    json: bool,
) -> None:
    """Look inside MODEL while it takes the gradients of a batch of DATA.

    For each recurrent layer: how its states grow a step, how the gradient of the last step's loss
    grows a step back and what of it arrives at the first step, the largest absolute eigenvalue of
    W_hh, and which shares of the gates are saturated at the low and the high end. DATA is what the
    model was trained on, or the like of it; of classifiers and regressors an .npz file with X and
    y.
    """
    from rnncore.diagnostics import diagnose as look
    from rnncore.diagnostics import plot_diagnosis

    network = models.load(model)
    found = look(network, *READERS[network.kind](network, source, batch_size, sequence_length))
    click.echo(dumps(found.to_json()) if json else str(found))
    if arrays is not None:
        held = BytesIO()
        np.savez(held, **found.arrays())  # type: ignore[arg-type]
        files.write_whole(arrays, held.getvalue())
    if picture is not None:
        plot_diagnosis(picture, found)
