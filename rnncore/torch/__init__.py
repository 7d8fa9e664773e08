"""The recurrent layers in the place of `torch.nn`'s, on the CPU.

`RNN`, `LSTM` and `GRU` have the arguments, parameters and results of PyTorch's;
`from_torch` puts the layers of a model on the engine. PyTorch is needed for this package alone.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        'rnncore.torch needs PyTorch, which is not installed; pip install "rnncore[torch]"'
    ) from error

from rnncore.torch.convert import from_torch
from rnncore.torch.modules import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "from_torch"]
