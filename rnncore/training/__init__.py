"""Optimizers, learning-rate schedules, the training loop, checkpoints."""

from rnncore.files import FORMAT_VERSION
from rnncore.files import FileError as CheckpointError
from rnncore.files import load as load_checkpoint
from rnncore.files import save as save_checkpoint
from rnncore.training.loop import Callback, NonFiniteError, Trainer
from rnncore.training.optimizers import SGD, Adam, Optimizer, RMSprop, clip_grad_norm
from rnncore.training.schedules import Schedule, constant, cosine, exponential
from rnncore.training.settings import TrainingSettings
from rnncore.training.source import Batches, Source

__all__ = [
    "FORMAT_VERSION",
    "SGD",
    "Adam",
    "Batches",
    "Callback",
    "CheckpointError",
    "NonFiniteError",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "Source",
    "Trainer",
    "TrainingSettings",
    "clip_grad_norm",
    "constant",
    "cosine",
    "exponential",
    "load_checkpoint",
    "save_checkpoint",
]
