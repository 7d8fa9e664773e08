"""Recurrent networks on CPUs: compiled, hand-derived forward and backward passes.

Layers
    `RNN`, `LSTM`, `GRU`, `Linear`, `Embedding`, `Dropout`; `Module` puts them together; `Rows` is
    what they hand to each other; `Cell` and `Custom` are for recurrent cells of your own, and
    `Recurrent` runs any cell by its name.
Training
    `clip_grad_norm`, `SGD`, `Adam`, `RMSprop`; schedules, sources and the training loop are in
    `rnncore.training`.
Losses
    `cross_entropy`, `binary_cross_entropy_with_logits`, `mse_loss`, `l1_loss`, `huber_loss`,
    `quantile_loss`, `gaussian_nll_loss`, `ctc_loss`, each of which returns a `Loss`;
    `softmax_cross_entropy` may write its gradient in place.
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

from rnncore.config import __version__, show_config
from rnncore.engine.rows import Rows
from rnncore.engine.threads import count_stalls, get_num_threads, set_num_threads
from rnncore.layers import GRU, LSTM, RNN, Dropout, Embedding, Linear, Module, Recurrent

if TYPE_CHECKING:
    from rnncore.cells import Cell, Custom
    from rnncore.files import FileError
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
    from rnncore.models import LanguageModel, load
    from rnncore.training import SGD, Adam, RMSprop, clip_grad_norm

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Adam",
    "Cell",
    "Custom",
    "Dropout",
    "Embedding",
    "FileError",
    "LanguageModel",
    "Linear",
    "Loss",
    "Module",
    "RMSprop",
    "Recurrent",
    "Rows",
    "__version__",
    "binary_cross_entropy_with_logits",
    "clip_grad_norm",
    "count_stalls",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "get_num_threads",
    "huber_loss",
    "l1_loss",
    "load",
    "mse_loss",
    "quantile_loss",
    "set_num_threads",
    "show_config",
    "softmax_cross_entropy",
]  # fmt: skip

_LATER = {
    "Cell": "rnncore.cells",
    "Custom": "rnncore.cells",
    "FileError": "rnncore.files",
    "Loss": "rnncore.losses",
    "binary_cross_entropy_with_logits": "rnncore.losses",
    "cross_entropy": "rnncore.losses",
    "ctc_loss": "rnncore.losses",
    "gaussian_nll_loss": "rnncore.losses",
    "huber_loss": "rnncore.losses",
    "l1_loss": "rnncore.losses",
    "mse_loss": "rnncore.losses",
    "quantile_loss": "rnncore.losses",
    "softmax_cross_entropy": "rnncore.losses",
    "LanguageModel": "rnncore.models",
    "load": "rnncore.models",
    "Adam": "rnncore.training",
    "RMSprop": "rnncore.training",
    "SGD": "rnncore.training",
    "clip_grad_norm": "rnncore.training",
}


def __getattr__(name: str) -> Any:
    # Losses, models and training are imported at their first use: `import rnncore` stays light.
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'rnncore' has no attribute {name!r}")
