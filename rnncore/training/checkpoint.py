"""What a checkpoint holds of a training, and a training that goes on from it."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore import files
from rnncore.training.schedules import ReduceOnPlateau

if TYPE_CHECKING:
    from rnncore.models.model import Model
    from rnncore.training.loop import Trainer


def contents(trainer: Trainer) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors and the metadata of a checkpoint."""
    model = trainer.model
    tensors = model.state_dict()
    state = () if trainer.state is None else trainer.state
    for index, array in enumerate(state if isinstance(state, tuple) else (state,)):
        tensors[f"carried_state.{index}"] = array
    optimizer = trainer.optimizer.state_dict()
    for name in trainer.optimizer.moment_names:
        tensors[f"optimizer.{name}"] = optimizer.pop(name)
    training = {
        "settings": dataclasses.asdict(trainer.settings),
        "source": trainer.source.settings,
        "fingerprint": trainer.source.fingerprint,
        "optimizer": optimizer,
        "generator": model.generator.bit_generator.state,
        "position": trainer.position,
        "step": trainer.step,
        "seconds": trainer.seconds,
        "best": trainer.best,
        "window": trainer._window,
        "training_curve": trainer.training_curve,
        "validation_curve": trainer.validation_curve,
        "validation_due": trainer._validation_due,
        "frozen": [name for name, part in model.named_modules() if part._frozen],
    }
    if isinstance(trainer.schedule, ReduceOnPlateau):
        training["schedule"] = trainer.schedule.state_dict()
    if trainer.average is not None and trainer.average.raw is not None:
        training["average"] = {"updates": trainer.average.updates}
        tensors["average.raw"] = trainer.average.raw
    return tensors, {**model.metadata(), "training": training}


def check(model: Model, metadata: dict[str, Any], name: str) -> None:
    """Refuse a file without a training, or that of another model; `name` is what errors call it."""
    if "training" not in metadata:
        raise files.FileError(
            f"checkpoint: expected a training checkpoint, but {name!r} is a model alone; resume "
            "from last.safetensors or best.safetensors of a training folder"
        )
    if not _describes(metadata, model):
        raise files.FileError(f"checkpoint: {name!r} holds a model of other settings")


def _describes(metadata: dict[str, Any], model: Model) -> bool:
    # A setting that came after the file was written was at the default of the constructor, or,
    # where that takes settings as a whole, at what the model was loaded with.
    settings = metadata.get("model")
    if metadata.get("kind", model.kind) != model.kind or not isinstance(settings, dict):
        return False
    now = json.loads(json.dumps(model.describe()))  # a file has lists where there are tuples
    parameters = inspect.signature(type(model)).parameters
    later = {
        name: parameters[name].default if name in parameters else value
        for name, value in now.items()
        if name not in settings
    }
    return bool(now == settings | later)


def take(
    trainer: Trainer, training: dict[str, Any], tensors: dict[str, np.ndarray], name: str
) -> None:
    """Have a trainer go on from what `contents` returned; `name` is what errors call the file."""
    # The first checkpoints have their own name for the fingerprint, and how the data is cut
    # among the settings.
    fingerprint = training.get("fingerprint", training.get("text_hash"))
    if fingerprint != trainer.source.fingerprint:
        raise files.FileError(
            f"source: expected the very data that {name!r} was trained on, got other data; "
            "name the same files in the same order, with the same encoding, or begin a new "
            "training from its weights (at the command line --init-from MODEL)"
        )
    cut = training.get("source", training["settings"])
    for key, value in trainer.source.settings.items():
        if cut[key] != value:
            raise files.FileError(
                f"{key}: expected {cut[key]} as in the checkpoint {name!r}, got {value}"
            )
    carried = [tensors[key] for key in sorted(tensors) if key.startswith("carried_state.")]
    counts = {key: training[key] for key in ("position", "step")}
    if not all(type(count) is int and count >= 0 for count in counts.values()):
        raise ValueError(f"expected whole numbers, got {counts}")
    numbers = [float(training["seconds"]), float(training["best"]), *training["window"]]
    steps_in_window, window_sum = numbers[2:]
    curves = [list(training["training_curve"]), list(training["validation_curve"])]
    moments = {key: tensors[f"optimizer.{key}"] for key in trainer.optimizer.moment_names}
    frozen = _frozen(trainer, training)
    raw = _raw(trainer, tensors)
    updates = {} if raw is None else {"updates": training["average"]["updates"]}
    generator = trainer.model.generator.bit_generator
    before = generator.state
    generator.state = training["generator"]
    try:
        trainer.optimizer.load_state_dict(training["optimizer"] | moments)
        if isinstance(trainer.schedule, ReduceOnPlateau) and "schedule" in training:
            trainer.schedule.load_state_dict(training["schedule"])
        if trainer.average is not None:
            trainer.average.swap_out()
        trainer.model.load_state_dict(
            {key: array for key, array in tensors.items() if not key.startswith(files.OF_TRAINING)}
        )
        _take_average(trainer, raw, updates)
    except BaseException:
        generator.state = before
        raise
    for name, part in trainer.model.named_modules():
        if frozen is not None:
            part._frozen = name in frozen
    trainer.state = carried[0] if len(carried) == 1 else tuple(carried) or None
    trainer.position, trainer.step = counts["position"], counts["step"]
    trainer.seconds, trainer.best = numbers[:2]
    trainer._window = [steps_in_window, window_sum]
    trainer.training_curve, trainer.validation_curve = curves
    at_the_beginning = trainer.step == 0 and not trainer.validation_curve
    trainer._validation_due = bool(training.get("validation_due", at_the_beginning))


def _frozen(trainer: Trainer, training: dict[str, Any]) -> list[str] | None:
    # The parts that are frozen; None in a file of before there were such.
    frozen = training.get("frozen")
    known = {name for name, _ in trainer.model.named_modules()}
    if frozen is not None and (not isinstance(frozen, list) or not known.issuperset(frozen)):
        raise ValueError(f"expected frozen parts among {sorted(known)}, got {frozen!r}")
    return frozen


def _raw(trainer: Trainer, tensors: dict[str, np.ndarray]) -> np.ndarray | None:
    # The weights that the steps go on from, where the model of the file is an average.
    raw, params = tensors.get("average.raw"), trainer.model.flat_params
    if raw is not None and (raw.shape, raw.dtype) != (params.shape, params.dtype):
        raise ValueError(f"expected average.raw as {params.dtype} {params.shape}, got {raw.shape}")
    return raw


def _take_average(trainer: Trainer, raw: np.ndarray | None, updates: dict[str, Any]) -> None:
    # The model has the weights of the file. Without an average of its own the trainer goes on
    # without; where the file has none, the average begins here.
    if trainer.average is not None:
        state = {"updates": 0, "mean": trainer.model.flat_params.copy()} | updates
        trainer.average.load_state_dict(state)
    if raw is not None:
        with trainer.model.changing_weights() as flat:
            flat[...] = raw
    if trainer.average is not None:
        trainer.average.swap_in()
