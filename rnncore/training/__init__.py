"""Optimizers, learning-rate schedules, sources, the training loop."""

from rnncore.training.loop import Callback, NonFiniteError, Trainer
from rnncore.training.optimizers import SGD, Adam, Optimizer, RMSprop, clip_grad_norm
from rnncore.training.schedules import Schedule, constant, cosine, exponential
from rnncore.training.settings import TrainingSettings
from rnncore.training.source import Batches, Source

__all__ = [
    "SGD",
    "Adam",
    "Batches",
    "Callback",
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
]
