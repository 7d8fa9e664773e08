"""The frame of all commands: errors as one sentence, and the list of what there is."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

import rnncore
from rnncore.cli import convert, diagnose, export, pairs, series, sounds, story, tags, text
from rnncore.training import NonFiniteError


class _BadInput(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Turns errors about bad input into one sentence and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `rnncore sample ... | head`: click ends quietly
            raise
        except (
            ValueError, TypeError, OSError, MemoryError, ArithmeticError, ImportError
        ) as error:  # fmt: skip
            if os.environ.get("RNNCORE_DEBUG"):
                raise
            kind = click.ClickException if isinstance(error, NonFiniteError) else _BadInput
            raise kind(_said(error)) from error


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:  # without the number of the error
        return f"{os.fspath(error.filename)!r}: {error.strerror}; name another file or folder"
    return str(error) or type(error).__name__


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(rnncore.__version__, prog_name="rnncore")
def main() -> None:
    """Recurrent networks on the CPU: train them, let them write, tag, hear, predict, translate.

    With RNNCORE_DEBUG=1 in the environment, errors show where they came from.
    """
    if hasattr(sys.stdout, "reconfigure"):  # a model may write what the terminal cannot show
        sys.stdout.reconfigure(errors="replace")


@main.group()
def train() -> None:
    """Train a model."""


@main.command()
def config() -> None:
    """Show which build of the engine runs here, and why."""
    rnncore.show_config()


train.add_command(series.train_series)
train.add_command(text.train_text)
train.add_command(pairs.train_pairs)
train.add_command(tags.train_tags)
train.add_command(sounds.train_sounds)
main.add_command(convert.convert)
main.add_command(diagnose.diagnose)
main.add_command(export.export)
main.add_command(series.forecast)
main.add_command(text.evaluate)
main.add_command(text.sample)
main.add_command(text.demo)
main.add_command(story.story)
main.add_command(tags.tag)
main.add_command(sounds.transcribe)
main.add_command(pairs.translate)
