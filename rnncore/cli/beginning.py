"""How a training command begins: anew, from a checkpoint, or with the weights of a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rnncore import files, models
from rnncore.cli.options import (
    EPOCHS,
    check_folder,
    flag,
    make_folder,
    names_of,
    refuse_changes,
    resumed_settings,
    values_of,
    with_budget,
)
from rnncore.models import Model
from rnncore.settings import kept_values
from rnncore.training import Trainer, TrainingSettings

M = TypeVar("M", bound=Model)
C = TypeVar("C")


def model_of(contents: files.Contents, path: Path, kind: type[M], command: str) -> M:
    """Return the model of a file, which is of this class; `command` makes such files."""
    model = models.from_contents(contents, path)
    if not isinstance(model, kind):
        raise ValueError(
            f"model file: expected a {kind.kind}, but {str(path)!r} holds a {model.kind}; give a "
            f"file that `rnncore train {command}` wrote"
        )
    return model


class Beginning:
    """What a training goes on from: nothing, ``--resume`` or ``--init-from``.

    Parameters
    ----------
    given, options
        The options that stand on the command line, and all of them.

    Attributes
    ----------
    path : Path or None
        The file.
    """

    def __init__(self, given: dict[str, Any], options: dict[str, Any]) -> None:
        self._resume, init_from = options["resume"], options["init_from"]
        if self._resume is not None and init_from is not None:
            raise ValueError(
                "--init-from: expected none with --resume, which goes on with the weights of its "
                "checkpoint; leave one of them out"
            )
        self._given, self._options = given, options
        self.path: Path | None = self._resume or init_from
        # Read once, for the model and for the training.
        self._contents = None if self.path is None else files.load(self.path)
        what = "model" if self._resume is None else "checkpoint"
        self._where = f"the {what} {str(self.path)!r}"

    def model(self, kind: type[M], settings: type, command: str) -> M | None:
        """Return the model of the file, of these settings and made by this command, if any."""
        if self._contents is None or self.path is None:
            return None
        model = model_of(self._contents, self.path, kind, command)
        kept = {name: model.settings[name] for name in names_of(settings)}
        refuse_changes(self._given, kept, self._where)
        if self._resume is None:  # a new training has random numbers of its own
            new = np.random.default_rng(self._options["seed"])
            model.generator.bit_generator.state = new.bit_generator.state
        return model

    def refuse(self, kept: dict[str, Any], never: Iterable[str]) -> None:
        """Refuse given options that differ from what the file keeps, and those it decides alone."""
        refuse_changes(self._given, kept, self._where)
        for name in never:
            if name in self._given:
                raise ValueError(
                    f"{flag(name)}: expected none, since {self._where} decides it, got "
                    f"{self._given[name]}; leave the option out, or train anew"
                )

    def settings(self, cut: type[C], epochs: float = EPOCHS) -> tuple[C, TrainingSettings]:
        """Return how the data is cut and how to train; `epochs` is the budget if none is given."""
        if self._resume is None or self._contents is None:
            training = with_budget(values_of(TrainingSettings, self._options), epochs)
            return cut(**values_of(cut, self._options)), TrainingSettings(**training)
        kept = self._contents.metadata.get("training")
        if kept is None:
            raise files.FileError(
                f"--resume: expected a training checkpoint, but {str(self.path)!r} is a model "
                "alone; give last.safetensors or best.safetensors of a training folder, or begin a "
                f"new training from its weights with --init-from {self.path}"
            )
        try:
            # The first checkpoints have how the data is cut among the settings.
            found = kept.get("source", kept["settings"])
            values = kept_values(cut, found)
            found.update(values)  # which `restore` compares
            refuse_changes(self._given, values, self._where)
            return cut(**values), resumed_settings(self._given, kept, self._where)
        except (KeyError, AttributeError, TypeError) as error:
            raise files.FileError(
                f"checkpoint: {str(self.path)!r} holds no whole training ({error!r}); use another "
                "copy"
            ) from None

    def folder(self, default: str) -> Path:
        """Return where checkpoints go; refuse a folder that has those of another training."""
        beside = Path(default) if self._resume is None else self._resume.parent
        folder: Path = self._options["output"] or beside
        check_folder(folder, self._resume, self._options["overwrite"])
        return folder

    def restore(self, trainer: Trainer) -> None:
        """Bring a trainer to where the checkpoint is, if there is one; some budget must be left."""
        if self._resume is None:
            return
        trainer.restore(self._resume, self._contents)
        if trainer.stopped_early:
            raise ValueError(
                f"--early-stopping: expected a training to go on with, but that of "
                f"{str(self._resume)!r} has stopped early; give a larger --early-stopping"
            )
        if trainer.is_done:
            raise ValueError(
                f"budget: expected more than what {str(self._resume)!r} has behind it (step "
                f"{trainer.step}, epoch {trainer.epochs:.2f}, {trainer.seconds:.0f} s of "
                "training), but it is used up; give a larger --epochs, --steps or --seconds"
            )
        self._take_along(trainer.folder)

    def _take_along(self, folder: Path | None) -> None:
        # In another folder the best weights and the log so far are this training's as well.
        assert self._resume is not None and folder is not None
        beside = self._resume.parent
        if folder.resolve() == beside.resolve():
            return
        make_folder(folder)
        for name in ("best.safetensors", "log.jsonl"):
            if (beside / name).exists():
                files.write_whole(folder / name, (beside / name).read_bytes())
            else:
                (folder / name).unlink(missing_ok=True)
