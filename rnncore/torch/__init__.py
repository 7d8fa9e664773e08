"""The recurrent layers in the place of `torch.nn`'s, on the CPU."""

from __future__ import annotations

from rnncore.torch.modules import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN"]
