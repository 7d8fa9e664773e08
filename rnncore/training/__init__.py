"""Optimizers, learning-rate schedules, the training loop, checkpoints."""

from rnncore.training.checkpoint import (
    FORMAT_VERSION,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from rnncore.training.loop import Callback, NonFiniteError, Trainer, TrainingSettings
from rnncore.training.optimizers import SGD, Adam, Optimizer, RMSprop, clip_grad_norm
from rnncore.training.schedules import Schedule, constant, cosine, exponential

__all__ = [
    "FORMAT_VERSION",
    "SGD",
    "Adam",
    "Callback",
    "CheckpointError",
    "NonFiniteError",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "Trainer",
    "TrainingSettings",
    "clip_grad_norm",
    "constant",
    "cosine",
    "exponential",
    "load_checkpoint",
    "save_checkpoint",
]
