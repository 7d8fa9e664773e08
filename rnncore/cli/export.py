"""The command that writes a model as C."""

from __future__ import annotations

from pathlib import Path

import click

from rnncore import models
from rnncore.cli.options import option, together


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("output", metavar="FILE.c", type=click.Path(path_type=Path))
@together(
    option(
        "--weights",
        default="float32",
        type=click.Choice(["float32", "float16", "int8"]),
        help="How weights are stored; sums are float32 with all of them.",
    ),
    option("--name", help="How the functions begin.  [default: as the file is called]"),
    option("--check", is_flag=True, help="Compile the file's self-test, and run it."),
)
def export(model: Path, output: Path, weights: str, name: str | None, check: bool) -> None:
    """Write MODEL as one C99 file, with its weights and functions that take a step.

    It needs no library and allocates nothing. A language model, a sequence classifier or regressor,
    if it reads forward.
    """
    from rnncore.export import export_c

    click.echo(export_c(models.load(model), output, weights=weights, name=name, check=check))
