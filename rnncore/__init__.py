"""Recurrent networks on CPUs: compiled, hand-derived forward and backward passes.

Layers
    `RNN`, `LSTM`, `GRU`, `Linear`, `Embedding`, `Dropout`; `Module` and `Sequential` are for nets
    made of them; `Rows` is what they hand to each other; `cell` makes recurrent cells of your
    own, and `Recurrent` runs any cell.
Gradients
    `Tape` records layers and what stands between them, `functions`; `check_gradients`.
Losses
    `cross_entropy`, `binary_cross_entropy_with_logits`, `mse_loss`, `l1_loss`, `huber_loss`,
    `quantile_loss`, `gaussian_nll_loss`, `ctc_loss`: each returns a `Loss`, or on a tape a value;
    `softmax_cross_entropy` may write its gradient in place.
Training
    `clip_grad_norm`, `SGD`, `Adam`, `AdamW`, `RMSprop`; schedules, averages of weights, sources
    and the training loop are in `rnncore.training`.
Models
    `SequenceClassifier` and `SequenceRegressor` say what sequences are, `Tagger` tags words,
    `WordTranscriber` hears them, `LanguageModel` learns a text and writes, `Forecaster` predicts
    series, `Translator` writes another text to a text, with scikit-learn's habits;
    `rnncore.models` has the networks themselves, `rnncore.data` vocabularies and readers.
Files
    `load` reads a model of whatever kind; `FileError` says why a file is none. `export_c` writes a
    model as C.
Looking inside
    `rnncore.diagnostics`: states, gradients, gates and recurrent weights of any model on any batch.
Settings
    `set_num_threads`, `get_num_threads`, `count_stalls`, `show_config`; `set_matmul_precision`,
    `get_matmul_precision`.

`rnncore.reference` has the mathematics in plain NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnncore import functions
from rnncore.config import __version__, show_config
from rnncore.engine.precision import get_matmul_precision, set_matmul_precision
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

if TYPE_CHECKING:
    from rnncore.cells import CellError, cell
    from rnncore.estimators import (
        Forecaster,
        LanguageModel,
        SequenceClassifier,
        SequenceRegressor,
        Tagger,
        Translator,
        WordTranscriber,
        load,
    )
    from rnncore.export import export_c
    from rnncore.files import FileError
    from rnncore.gradients import GradientError, check_gradients
    from rnncore.losses import (
        Loss,
        binary_cross_entropy_with_logits,
        cross_entropy,
        ctc_loss,
        gaussian_nll_loss,
        huber_loss,
        l1_loss,
        mse_loss,
        quantile_loss,
        softmax_cross_entropy,
    )
    from rnncore.training import SGD, Adam, AdamW, RMSprop, clip_grad_norm

__all__ = [
    "GRU", "LSTM", "RNN", "SGD", "Adam", "AdamW", "CellError", "Dropout", "Embedding",
    "FileError", "Forecaster", "GradientError", "LanguageModel", "Linear", "Loss", "Module",
    "RMSprop", "Recurrent", "Rows", "SequenceClassifier", "SequenceRegressor", "Sequential",
    "Tagger", "Tape", "Translator", "Value", "WordTranscriber", "__version__",
    "binary_cross_entropy_with_logits", "cell", "check_gradients", "clip_grad_norm", "count_stalls",
    "cross_entropy", "ctc_loss", "export_c", "functions",
    "gaussian_nll_loss", "get_matmul_precision", "get_num_threads", "huber_loss", "l1_loss",
    "load", "mse_loss", "quantile_loss", "set_matmul_precision", "set_num_threads", "show_config",
    "softmax_cross_entropy",
]  # fmt: skip

_LATER = {
    "rnncore.cells": ("CellError", "cell"),
    "rnncore.estimators": (
        "Forecaster", "LanguageModel", "SequenceClassifier", "SequenceRegressor", "Tagger",
        "Translator", "WordTranscriber", "load",
    ),
    "rnncore.export": ("export_c",),
    "rnncore.files": ("FileError",),
    "rnncore.gradients": ("GradientError", "check_gradients"),
    "rnncore.losses": (
        "Loss", "binary_cross_entropy_with_logits", "cross_entropy", "ctc_loss",
        "gaussian_nll_loss", "huber_loss", "l1_loss", "mse_loss", "quantile_loss",
        "softmax_cross_entropy",
    ),
    "rnncore.training": ("SGD", "Adam", "AdamW", "RMSprop", "clip_grad_norm"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> Any:
    # Losses, models and training are imported at their first use: `import rnncore` stays light.
    if name in _MODULE_OF:
        from importlib import import_module

        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'rnncore' has no attribute {name!r}")
