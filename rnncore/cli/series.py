"""The commands about series: train a forecaster, let it predict."""

from __future__ import annotations

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
from rnncore.data.sequence_source import SequenceSettings
from rnncore.data.series import Series, read_series
from rnncore.estimators.forecaster import Forecaster
from rnncore.estimators.forecaster_source import finish, known_of, source_of, windows_in
from rnncore.estimators.plot_forecast import format_forecasts, plot_forecasts
from rnncore.models.forecaster_network import ForecasterNetwork, ForecasterSettings
from rnncore.training import Trainer, TrainingSettings

EXISTING = click.Path(path_type=Path)
EPOCHS = 20.0  # where no budget is given


@click.command("series")
@click.argument("source", metavar="FILE", type=EXISTING)
@together(
    option("--column", multiple=True, help="To predict; may stand several times.  "
           "[default: all others]"),
    option("--covariate", multiple=True, help="To read beside the values and ahead "
           "of them; may stand several times."),
    option("--date", help="The column of dates.  [default: the first, if it has dates]"),
    option("--held-out", default=0.2, type=click.FloatRange(min=0, max=1, max_open=True),
           help="Share at the end of each series that chooses the weights and calibrates the "
           "intervals."),
)  # fmt: skip
@options_of(
    ForecasterSettings, SequenceSettings, TrainingSettings, optimizer="adamw", weight_decay=1e-2,
    clip_norm=1.0, epochs=EPOCHS, batch_size=128,
)  # fmt: skip
@training_options("rnncore-series")
@click.pass_context
def train_series(
    ctx: click.Context,
    source: Path,
    column: tuple[str, ...],
    covariate: tuple[str, ...],
    date: str | None,
    held_out: float,
    **options: Any,
) -> None:
    """Train a forecaster on FILE: CSV with a line of names, a column of dates and one a series.

    Rows that are left out and empty cells are gaps. Ctrl-C saves a checkpoint and ends. What is
    calibrated after the training is model.safetensors in the folder.
    """
    beginning = Beginning(given_options(ctx, options), options)
    model = beginning.model(ForecasterNetwork, ForecasterSettings, "series")
    cut, settings = beginning.settings(SequenceSettings, EPOCHS)
    folder = beginning.folder("rnncore-series")
    series = read_series(source, column or None, covariate, date)
    begun = model is None
    if model is None:
        made = ForecasterSettings(**values_of(ForecasterSettings, options))
        model = ForecasterNetwork(known_of(series, made, held_out), made, seed=options["seed"])
    data = source_of(model, series, held_out, settings=cut)
    if begun:
        model.begin_highway(windows_in(data))
    trainer = Trainer(model, data, settings, folder)
    beginning.restore(trainer)
    click.echo(f"{_described(series)}; {data.describe()}; {model.num_parameters:,} parameters")
    chosen = [
        word for name, some in (("--column", column), ("--covariate", covariate))
        for one in some for word in (name, one)
    ] + (["--date", date] if date else [])  # fmt: skip
    go_on = [*program(), "train", "series", str(source), *chosen, "--held-out", str(held_out)]
    last = folder / "model.safetensors"
    use = [*program(), "forecast", str(last), str(source), *(["--date", date] if date else [])]
    invitation = "Let it predict"
    last.unlink(missing_ok=True)  # of the training that this one replaces
    run_training(
        trainer, [*go_on, "--resume", "{}"], use, None, 0, invitation, options["tensorboard"]
    )
    assert trainer.best_path is not None and trainer.last_path is not None
    has_best = trainer.validation_curve and trainer.best_path.exists()
    best = trainer.best_path if has_best else trainer.last_path
    network = ForecasterNetwork.load(best)
    finish(network, series, data)
    network.save(last)


def _described(series: list[Series]) -> str:
    gaps, count = sum(one.gaps for one in series), sum(len(one.values) for one in series)
    first = series[0]
    text = f"{len(series)} series of {count:,} values"
    if first.times is not None:
        text += f", {first.times.step_text} apart from {first.date(0)} on"
    if gaps:
        text += f"; {gaps:,} missing, read as on a line between their neighbours, never a target"
    return text


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("source", metavar="FILE", type=EXISTING)
@together(
    option("--steps", type=click.IntRange(min=1), help="How far ahead.  [default: the horizon]"),
    option("--column", multiple=True, help="To predict; may stand several times.  "
           "[default: those that the model has learnt]"),
    option("--date", help="The column of dates.  [default: the first, if it has dates]"),
    option("--output", type=EXISTING, metavar="FILE", help="Write there, not to the screen."),
    option("--picture", type=EXISTING, metavar="FILE", help="Draw into a PNG as well."),
)  # fmt: skip
def forecast(
    model: Path,
    source: Path,
    steps: int | None,
    column: tuple[str, ...],
    date: str | None,
    output: Path | None,
    picture: Path | None,
) -> None:
    """Predict with MODEL what comes after the end of each series of FILE, as CSV.

    A row for each series and step: series, date, forecast, and the ends of the interval.
    """
    network = model_of(files.load(model), model, ForecasterNetwork, "series")
    series = read_series(source, column or network.known.names, network.known.covariates, date)
    found = Forecaster.of_network(network).predict(series, steps)
    text = format_forecasts(found)
    if output is None:
        click.echo(text, nl=False)
    else:
        files.write_whole(output, text.encode())
    if picture is not None:
        plot_forecasts(picture, series, found)
