"""Modules one after another."""

from __future__ import annotations

from typing import Any

from rnncore.layers.dropout import Dropout
from rnncore.layers.embedding import Embedding
from rnncore.layers.linear import Linear
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent
from rnncore.layers.streaming import stream_of, streams_of


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

    def stream(self) -> Any:
        """Return a stream over all modules, one call of the engine a step; see `Recurrent.stream`.

        They are recurrent layers, and linear ones behind them; an embedding may be the first, then
        a step is a token id. Dropout does nothing here, as outside training.

        Raises
        ------
        ValueError
            If other modules are among them, or as `Recurrent.stream` does.

        Examples
        --------
        >>> import numpy as np, rnncore
        >>> net = rnncore.Sequential(rnncore.LSTM(1, 8, seed=0), rnncore.Linear(8, 1, seed=0))
        >>> x = np.ones((3, 1), np.float32)
        >>> bool((net.stream().process(x) == net(x)).all())
        True
        """
        return stream_of(*self._chain())

    def streams(self) -> Any:
        """Return streams that take their steps together; see `Recurrent.streams` and `stream`."""
        return streams_of(*self._chain())

    def _chain(self) -> tuple[list[Recurrent], list[Linear], bool, Embedding | None]:
        modules = [one for one in self._children.values() if not isinstance(one, Dropout)]
        embedding = modules.pop(0) if isinstance(modules[0], Embedding) else None
        count = 0
        while count < len(modules) and isinstance(modules[count], Recurrent):
            count += 1
        layers, heads = modules[:count], modules[count:]
        strange = [type(one).__name__ for one in heads if not isinstance(one, Linear)]
        if not layers or strange:
            raise ValueError(
                "stream: expected recurrent layers and linear ones behind them, got "
                f"{', '.join(type(one).__name__ for one in self._children.values())}; feed a "
                "stream of the recurrent layers, and call the others with what it says"
            )
        return layers, heads, embedding is not None, embedding
