"""The command that writes a model as C."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from rnncore import files, models
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
    or a file of layers that `rnncore convert` reads, if it reads forward.
    """
    from rnncore.export import export_c

    click.echo(export_c(_load(model), output, weights=weights, name=name, check=check))


def _load(path: Path) -> Any:
    # A model of rnncore, or layers: in a file of rnncore's own, or what another program wrote.
    try:
        return models.load(path)
    except files.FileError:
        from rnncore.convert import ConversionError, load
        from rnncore.convert.loading import READERS

        if path.suffix.lower() not in READERS:
            raise
        with suppress(*[ConversionError] * (path.suffix == ".safetensors")):
            found = load(path)
            if found.source != "rnncore":
                click.echo(str(found))
            return found.model
        raise
