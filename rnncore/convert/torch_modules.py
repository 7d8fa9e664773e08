"""Modules of PyTorch that `to_torch` needs beside those of torch.nn; imports PyTorch."""

from __future__ import annotations

from typing import Any

import torch


class Outputs(torch.nn.Sequential):
    """Runs modules one after another; of a recurrent one the output goes on."""

    def forward(self, x: Any) -> Any:
        """Return the output of the last one."""
        for one in self:
            x = one(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


class Final(torch.nn.Module):
    """The last state of a recurrent module."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        """Return h after the last step."""
        _, state = self.layer(x)
        h = state[0] if isinstance(state, tuple) else state
        return torch.cat((h[-2], h[-1]), -1) if self.layer.bidirectional else h[-1]


class Added(torch.nn.Module):
    """What a module makes of x, and the first features of x."""

    def __init__(self, inner: Any, count: int) -> None:
        super().__init__()
        self.inner, self.count = inner, count

    def forward(self, x: Any) -> Any:
        """Return inner(x) + x[..., :count]."""
        y = self.inner(x)
        return (y[0] if isinstance(y, tuple) else y) + x[..., : self.count]


class Squeezed(torch.nn.Module):
    """The last axis taken away."""

    def forward(self, x: Any) -> Any:
        """Return x without its last axis, of one number."""
        return x.squeeze(-1)


class Swapped(torch.nn.Module):
    """Steps and sequences exchanged."""

    def forward(self, x: Any) -> Any:
        """Return x with its first two axes exchanged."""
        return x.transpose(0, 1)


class Last(torch.nn.Module):
    """The last step of sequences."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first

    def forward(self, x: Any) -> Any:
        """Return x[-1], or x[:, -1]."""
        return x[:, -1] if self.batch_first else x[-1]
