"""Optimizers, learning-rate schedules, sources, the training loop."""

from rnncore.training.average import Average
from rnncore.training.clipping import clip_grad_norm
from rnncore.training.groups import Group
from rnncore.training.loop import Callback, NonFiniteError, Trainer
from rnncore.training.optimizer import Optimizer
from rnncore.training.optimizers import SGD, Adam, AdamW, RMSprop
from rnncore.training.schedules import (
    ReduceOnPlateau,
    Schedule,
    constant,
    cosine,
    exponential,
    one_cycle,
    warm_up,
)
from rnncore.training.settings import TrainingSettings
from rnncore.training.source import Batches, Source

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Average",
    "Batches",
    "Callback",
    "Group",
    "NonFiniteError",
    "Optimizer",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "Source",
    "Trainer",
    "TrainingSettings",
    "clip_grad_norm",
    "constant",
    "cosine",
    "exponential",
    "one_cycle",
    "warm_up",
]
