"""Modules one after another."""

from __future__ import annotations

from typing import Any

from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent


class Sequential(Module):
    """Runs modules one after another, each on what the one before returns.

    Of a recurrent layer, which returns its output and its last state, the output goes on.

    Parameters
    ----------
    *modules
        Parts `0`, `1`, ... of this one.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> net = rnncore.Sequential(rnncore.GRU(3, 8, seed=0), rnncore.Linear(8, 2, seed=0))
    >>> net(np.ones((7, 4, 3), np.float32)).shape
    (7, 4, 2)
    >>> list(net.params)[-1]
    '1.bias'
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        if not modules:
            raise ValueError("modules: expected at least one, got none")
        for number, module in enumerate(modules):
            setattr(self, str(number), module)

    def forward(self, x: Any) -> Any:
        """Return what the last module makes of x."""
        for module in self._children.values():
            x = module(x)
            if isinstance(module, Recurrent):
                x, _ = x
        return x
