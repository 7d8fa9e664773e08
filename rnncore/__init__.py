"""Recurrent networks on CPUs: compiled, hand-derived forward and backward passes.

Layers
    `RNN`, `LSTM`, `GRU`, `Linear`, `Embedding`, `Dropout`; `Module` puts them together; `Rows` is
    what they hand to each other; `Cell` and `Custom` are for recurrent cells of your own, and
    `Recurrent` runs any cell by its name. `Module` and `Sequential` are for nets made of them.
Gradients
    `Tape` records layers and what stands between them, `functions`; `check_gradients`.
Training
    `softmax_cross_entropy`, `clip_grad_norm`, `SGD`, `Adam`, `AdamW`, `RMSprop`; schedules,
    averages of weights, sources and the training loop are in `rnncore.training`.
Text
    `LanguageModel`; vocabularies and reading files are in `rnncore.data`.
Files
    `load` reads a model of whatever kind; `FileError` says why a file is none.
Settings
    `set_num_threads`, `get_num_threads`, `count_stalls`, `show_config`.

`rnncore.reference` has the mathematics in plain NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnncore import functions
from rnncore.config import __version__, show_config
from rnncore.engine.rows import Rows
from rnncore.engine.threads import count_stalls, get_num_threads, set_num_threads
from rnncore.layers import (
    GRU,
    LSTM,
    RNN,
    Dropout,
    Embedding,
    Linear,
    Module,
    Recurrent,
    Sequential,
    Tape,
    Value,
)
from rnncore.losses import softmax_cross_entropy

if TYPE_CHECKING:
    from rnncore.cells import Cell, Custom
    from rnncore.estimators import Tagger
    from rnncore.files import FileError
    from rnncore.gradients import GradientError, check_gradients
    from rnncore.models import LanguageModel, load
    from rnncore.training import SGD, Adam, AdamW, RMSprop, clip_grad_norm

__all__ = [
    "GRU", "LSTM", "RNN", "SGD", "Adam", "AdamW", "Cell", "Custom", "Dropout", "Embedding",
    "FileError", "GradientError", "LanguageModel", "Linear", "Module", "RMSprop", "Recurrent",
    "Rows", "Sequential", "Tagger", "Tape", "Value", "__version__", "check_gradients",
    "clip_grad_norm", "count_stalls", "functions", "get_num_threads", "load", "set_num_threads",
    "show_config", "softmax_cross_entropy",
]  # fmt: skip

_LATER = {
    "Cell": "rnncore.cells",
    "Custom": "rnncore.cells",
    "FileError": "rnncore.files",
    "GradientError": "rnncore.gradients",
    "check_gradients": "rnncore.gradients",
    "Tagger": "rnncore.estimators",
    "LanguageModel": "rnncore.models",
    "load": "rnncore.models",
    "Adam": "rnncore.training",
    "AdamW": "rnncore.training",
    "RMSprop": "rnncore.training",
    "SGD": "rnncore.training",
    "clip_grad_norm": "rnncore.training",
}


def __getattr__(name: str) -> Any:
    # Models and training are imported at their first use: `import rnncore` stays light.
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'rnncore' has no attribute {name!r}")
