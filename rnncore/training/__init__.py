"""Optimizers, learning-rate schedules, sources, the training loop and who listens to it."""

from rnncore.training.average import Average
from rnncore.training.callbacks import Callback, JsonLines, KeepBest, TensorBoard
from rnncore.training.clipping import clip_grad_norm
from rnncore.training.groups import Group
from rnncore.training.loop import NonFiniteError, Trainer
from rnncore.training.optimizer import Optimizer
from rnncore.training.optimizers import SGD, Adam, AdamW, RMSprop
from rnncore.training.plot import plot_curves
from rnncore.training.progress import Progress
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
    "JsonLines",
    "KeepBest",
    "NonFiniteError",
    "Optimizer",
    "Progress",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "Source",
    "TensorBoard",
    "Trainer",
    "TrainingSettings",
    "clip_grad_norm",
    "constant",
    "cosine",
    "exponential",
    "one_cycle",
    "plot_curves",
    "warm_up",
]
