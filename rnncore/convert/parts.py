"""What stands between layers of a converted model: modules without weights of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore import functions as F
from rnncore.convert.errors import ConversionError
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent
from rnncore.layers.sequential import Sequential
from rnncore.layers.tape import raw, tape_of

#: The functions that an `Activation` may be. Softmax is over the last axis.
ACTIVATIONS = {"tanh": F.tanh, "sigmoid": F.sigmoid, "relu": F.relu, "softmax": F.softmax}


class Activation(Module):
    """A function of each number, such as "relu"; or "softmax" over the last axis.

    The names are those of `rnncore.cells.chosen.rnn`, with numbers behind them where a function
    has some.

    Examples
    --------
    >>> import numpy as np
    >>> Activation("leaky_relu(0.5)")(np.array([-1.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    def __init__(self, name: str, *, dtype: DTypeLike = np.float32) -> None:
        self._chosen: Any = None
        if name not in ACTIVATIONS:
            from rnncore.cells.activations import read_activation

            try:
                self._chosen = read_activation("activation", name)
            except ValueError as error:
                raise ConversionError(f"{error}, and it is not softmax") from None
            name = str(self._chosen)
        self.name = name
        super().__init__(dtype=dtype)

    def forward(self, x: Any) -> Any:
        """Return the function of x."""
        if self._chosen is not None:
            return _elementwise(self._chosen, x)
        return ACTIVATIONS[self.name](x)

    def _sizes_shown(self) -> list[str]:
        return [repr(self.name)]


def _elementwise(function: Any, x: Any) -> Any:
    # A function whose derivative is derived of its equation.
    from rnncore.cells.graph import Graph, derive, evaluate

    array, tape = raw(x), tape_of(x)
    y = np.asarray(function(array), array.dtype)
    if tape is None:
        return y
    graph = Graph()
    end = function.make(graph, graph.input("a"))
    slope = derive(graph, [(end, graph.number(1))])["a"]
    factor = np.asarray(evaluate([slope], {"a": array})[id(slope)], array.dtype)
    return tape.record(y, (x,), lambda d: (d * factor,))


class FinalState(Module):
    """What a recurrent layer remembers at the end: h of its last layer, in place of all steps.

    `y = h_T`, (B, directions * H); the second direction ends at the first step.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> FinalState(rnncore.GRU(3, 5, seed=0))(np.ones((7, 2, 3))).shape
    (2, 5)
    """

    def __init__(self, layer: Recurrent) -> None:
        super().__init__(children={"layer": layer})
        self.layer = layer

    def forward(self, x: Any, lengths: Any = None) -> Any:
        """Return h after the last step of each sequence."""
        _, state = self.layer(x, lengths=lengths)
        h = state[0] if isinstance(state, tuple) else state
        if isinstance(h, list):  # one array a layer, where sizes differ
            h = h[-1]
        if not self.layer.bidirectional:
            return h[-1]
        return F.concatenate([h[-2], h[-1]])


class LastStep(Module):
    """The last step of a batch of sequences of one length: y[-1], of both directions.

    Where a layer reads backwards as well, that is not what `FinalState` returns: its second half
    has read the last step alone.

    Parameters
    ----------
    batch_first
        Whether x is (B, T, features) in place of (T, B, features).

    Examples
    --------
    >>> import numpy as np
    >>> LastStep(batch_first=True)(np.arange(6.0).reshape(1, 3, 2)).tolist()
    [[4.0, 5.0]]
    """

    def __init__(self, batch_first: bool = False, *, dtype: DTypeLike = np.float32) -> None:
        self.batch_first = batch_first
        super().__init__(dtype=dtype)

    def forward(self, x: Any) -> Any:
        """Return the last step, (B, features)."""
        return F.take(x, (slice(None), -1) if self.batch_first else -1)

    def _sizes_shown(self) -> list[str]:
        return ["batch_first=True"] * self.batch_first


class Masked(Module):
    """Layers that pass over the steps of one value, wherever they are, as Keras's masks have it.

    A step of features (B, T, I) is passed over where all of them are `value`, one of token ids
    (B, T) where it is `value`: states stay what they were, and the step's output is 0.

    Parameters
    ----------
    inner
        Layers that take sequences first (`batch_first=True`).
    value
        What is passed over: 0 where Keras says nothing else.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> last = FinalState(rnncore.GRU(1, 4, batch_first=True, seed=0))
    >>> x = np.array([[0.0, 1.0, 0.0, 2.0]], np.float32)[..., None]
    >>> bool((Masked(last)(x) == last(x[:, [1, 3]])).all())
    True
    """

    def __init__(self, inner: Module, value: float = 0.0) -> None:
        super().__init__(children={"inner": inner})
        self.inner, self.value = inner, value

    def forward(self, x: Any) -> Any:
        """Return what the layers make of the other steps."""
        array = raw(x)
        kept = array != self.value if array.ndim == 2 else (array != self.value).any(-1)
        order = np.argsort(~kept, axis=1, kind="stable")  # what is kept comes first, as it stood
        each = np.arange(len(order))[:, None]
        y = _with_lengths(self.inner, F.take(x, (each, order)), kept.sum(1))
        if raw(y).ndim == 2:  # a last state
            return y
        back = F.take(y, (each, np.argsort(order, axis=1)))
        return F.multiply(back, kept[..., None].astype(raw(y).dtype))

    def _sizes_shown(self) -> list[str]:
        return [*super()._sizes_shown(), *[str(self.value)] * bool(self.value)]


def _with_lengths(module: Module, x: Any, lengths: np.ndarray) -> Any:
    if isinstance(module, Sequential):
        for part in module._children.values():
            x = _with_lengths(part, x, lengths)
        return x
    if isinstance(module, Recurrent):
        return module(x, lengths=lengths)[0]
    if isinstance(module, LastStep):  # of those that are kept
        return F.take(x, (np.arange(len(lengths)), lengths - 1))
    return module(x, lengths) if isinstance(module, FinalState) else module(x)


class Skip(Module):
    """Adds the first features of x to what a part makes of x: `y = inner(x) + x[..., :count]`.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> Skip(rnncore.Linear(3, 1, seed=0), 1)(np.ones((2, 3), np.float32)).shape
    (2, 1)
    """

    def __init__(self, inner: Module, count: int) -> None:
        super().__init__(children={"inner": inner})
        self.inner, self.count = inner, count

    def forward(self, x: Any) -> Any:
        """Return inner(x) + x[..., :count]."""
        y = self.inner(x)
        if isinstance(self.inner, Recurrent):
            y, _ = y
        return F.add(y, F.columns(x, 0, self.count))

    def _sizes_shown(self) -> list[str]:
        return [*super()._sizes_shown(), str(self.count)]


class Squeeze(Module):
    """Takes away the last axis, of one feature: y = x[..., 0].

    Examples
    --------
    >>> import numpy as np
    >>> Squeeze()(np.ones((7, 2, 1))).shape
    (7, 2)
    """

    def __init__(self, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(dtype=dtype)

    def forward(self, x: Any) -> Any:
        """Return x without its last axis, which must be of one number."""
        return F.reshape(x, x.shape[:-1])

    def _sizes_shown(self) -> list[str]:
        return []


class Swap(Module):
    """Exchanges steps and sequences: (T, B, ...) becomes (B, T, ...), or the other way.

    Examples
    --------
    >>> import numpy as np
    >>> Swap()(np.ones((7, 2, 3))).shape
    (2, 7, 3)
    """

    def __init__(self, *, dtype: DTypeLike = np.float32) -> None:
        super().__init__(dtype=dtype)

    def forward(self, x: Any) -> Any:
        """Return x with its first two axes exchanged."""
        return F.transpose(x, (1, 0, *range(2, len(x.shape))))

    def _sizes_shown(self) -> list[str]:
        return []
