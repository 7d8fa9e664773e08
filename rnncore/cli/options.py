"""Options of a command, made of the dataclasses that hold its settings."""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rnncore.settings import AtLeastZero, Choice, Flag, Positive, Rule, Share, Shares, Whole
from rnncore.training.settings import BUDGETS, OF_SCHEDULES, TrainingSettings

Decorator = Callable[[Any], Any]

EPOCHS = 50.0  # where no budget is given


def option(name: str, **keywords: Any) -> Decorator:
    """Return a click option that shows its default, where it has one."""
    keywords.setdefault("show_default", keywords.get("default") is not None)
    return click.option(name, **keywords)


def together(*options: Decorator) -> Decorator:
    """Return all options as one decorator, listed in this order."""

    def decorate(function: Any) -> Any:
        for each in reversed(options):
            function = each(function)
        return function

    return decorate


def flag(name: str) -> str:
    """Return how a setting is called at the command line."""
    return f"--{name.replace('_', '-')}"


class _SharesType(click.ParamType):
    name = "float[,float]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            shares = tuple(float(word) for word in value.split(","))
            Shares().check(param.name, shares)
        except ValueError:
            self.fail(f"{value!r} is no number from 0 to below 1, nor two with a comma between.")
        return shares if len(shares) > 1 else shares[0]


class _ChoiceType(click.Choice):
    # Names, and where a rule knows more than can be listed, such as cells by choice, those too.
    def __init__(self, rule: Choice) -> None:
        super().__init__(rule.names)
        self.rule = rule

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str) or "(" not in value:
            return super().convert(value, param, ctx)
        try:
            self.rule.check(param.name, value)
        except ValueError as error:
            self.fail(f"{error}.")
        return value


def click_type(rule: Rule) -> click.ParamType:
    """Return click's type of what a rule allows."""
    if isinstance(rule, Whole):
        return click.IntRange(min=rule.least)
    if isinstance(rule, Positive):
        return click.FloatRange(min=0, min_open=True)
    if isinstance(rule, AtLeastZero):
        return click.FloatRange(min=0)
    if isinstance(rule, Share):
        return click.FloatRange(min=0, max=1, max_open=True)
    if isinstance(rule, Shares):
        return _SharesType()
    if isinstance(rule, Flag):
        return click.BOOL
    assert isinstance(rule, Choice)
    return _ChoiceType(rule)


def options_of(*settings: type, **defaults: Any) -> Decorator:
    """Return an option for each field of these dataclasses, in their order.

    `defaults` are those of the command, where they are not those of the settings; `epochs` is the
    budget where none is given, as in `with_budget`.
    """
    epochs = defaults.pop("epochs", EPOCHS)
    return together(
        *(
            option(
                flag(field.name),
                is_flag=isinstance(field.metadata["rule"], Flag),
                default=defaults.get(field.name, field.default),
                type=click_type(field.metadata["rule"]),
                help=field.metadata["help"].replace(f"{EPOCHS:g}]", f"{epochs:g}]"),
            )
            for kind in settings
            for field in dataclasses.fields(kind)
        )
    )


def names_of(settings: type, fixed: bool = False) -> list[str]:
    """Return the names of the settings, or of those alone that a resume cannot change."""
    return [
        field.name for field in dataclasses.fields(settings) if not fixed or field.metadata["fixed"]
    ]


def values_of(settings: type, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the options say for the settings."""
    return {name: options[name] for name in names_of(settings)}


def given_options(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that stand on the command line."""
    typed = click.core.ParameterSource.COMMANDLINE
    return {
        name: value for name, value in options.items() if ctx.get_parameter_source(name) == typed
    }


def with_budget(values: dict[str, Any], epochs: float = EPOCHS) -> dict[str, Any]:
    """Return the values with the budget that is used where none is given."""
    none = all(values[name] is None for name in BUDGETS)
    return {**values, "epochs": epochs} if none else values


def refuse_changes(given: dict[str, Any], kept: dict[str, Any], where: str) -> None:
    """Refuse a given option that differs from what a file keeps."""
    for name, value in kept.items():
        if name in given and given[name] != value:
            raise ValueError(
                f"{flag(name)}: expected {value} as in {where}, got {given[name]}; leave the "
                "option out, or train anew"
            )


def resumed_settings(
    given: dict[str, Any], training: dict[str, Any], where: str
) -> TrainingSettings:
    """Return the settings of a checkpoint with what may change on the way."""
    old = dataclasses.asdict(TrainingSettings.of_checkpoint(training["settings"]))
    fixed = names_of(TrainingSettings, fixed=True)
    refuse_changes(given, {name: old[name] for name in fixed}, where)
    if "seed" in given:
        raise ValueError(
            f"--seed: expected none with --resume, which goes on with the random numbers of "
            f"{where}, got {given['seed']}; leave the option out, or train anew"
        )
    if any(name in given for name in BUDGETS):
        old |= dict.fromkeys(BUDGETS)
    if given.get("schedule", old["schedule"]) != old["schedule"]:
        old |= dict.fromkeys(OF_SCHEDULES)
    return TrainingSettings(**{name: given.get(name, value) for name, value in old.items()})


def training_options(folder: str) -> Decorator:
    """Return the options that every training command has, `folder` being its default output."""
    return together(
        option("--seed", default=0, type=click.IntRange(min=0), help="Of all random numbers."),
        option(
            "--output",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder for last.safetensors, best.safetensors, log.jsonl and loss.png.  "
            f"[default: {folder}, or the checkpoint's folder]",
        ),
        option("--tensorboard", is_flag=True, help="Log for TensorBoard as well, in that folder."),
        option("--overwrite", is_flag=True, help="Replace a training that is in the folder."),
        option(
            "--resume",
            type=click.Path(path_type=Path),
            metavar="CHECKPOINT",
            help="Go on from a checkpoint, on the same files. Settings come from it; a budget "
            "given here counts from the very beginning, not from the checkpoint.",
        ),
        option(
            "--init-from",
            type=click.Path(path_type=Path),
            metavar="MODEL",
            help="Begin a new training with the weights and settings of a model, on any files "
            "that it knows the characters of.",
        ),
    )


def check_folder(folder: Path, resume: Path | None, overwrite: bool) -> None:
    """Refuse to replace the checkpoints of another training."""
    last = folder / "last.safetensors"
    if not last.exists() or overwrite or (resume is not None and folder.samefile(resume.parent)):
        return
    raise ValueError(
        f"--output: expected a folder without a training, but {str(last)!r} exists; go on with "
        f"it by --resume {shlex.quote(str(last))}, choose another --output, or --overwrite it"
    )


def make_folder(folder: Path, name: str = "--output") -> None:
    """Make the folder, if there is none; refuse one, by this name, that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{name}: expected a folder that can be written to, got {str(folder)!r} "
            f"({error.strerror}); choose another"
        ) from None
