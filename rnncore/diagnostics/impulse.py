"""One input at the first step, one gradient at the last: what of both is there in between."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_seed, check_size
from rnncore.diagnostics.measures import norms_of
from rnncore.layers.recurrent import Recurrent

Array = NDArray[np.floating]


class Impulse(NamedTuple):
    """What of an impulse is there at each of T steps; see `follow_impulse`.

    Attributes
    ----------
    norms, gradients : (T,)
        Of the states and of their gradients; of an LSTM those of c, which carries its memory.
    states
        Arrays (T, 1, H) by name, as `Recurrent.record` returns them.
    """

    norms: Array
    gradients: Array
    states: dict[str, Any]


def follow_impulse(
    layer: Recurrent, steps: int = 50, seed: int | np.random.Generator | None = None
) -> Impulse:
    """Give a layer of one direction an input at step 1, and its last state a random gradient.

    Parameters
    ----------
    layer
        The last of its layers is looked at.
    steps
        T.
    seed
        Of the input, N(0, 1) numbers, and of the gradient, of norm 1.

    References
    ----------
    S. Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen, 1991; Y. Bengio, P. Simard, P.
    Frasconi, Learning long-term dependencies with gradient descent is difficult, 1994.

    Examples
    --------
    Where W_hh turns and stretches by 0.9, that is what both lose a step:

    >>> import rnncore
    >>> from rnncore.diagnostics import growth_per_step
    >>> layer = rnncore.RNN(3, 8, nonlinearity="identity", bias=False, seed=0)
    >>> layer.initialize({"weight_hh*": ("orthogonal", 0.9)}, seed=0)
    >>> found = follow_impulse(layer, seed=0)
    >>> round(growth_per_step(found.norms), 4), round(1 / growth_per_step(found.gradients), 4)
    (0.9, 0.9)
    """
    steps, rng = check_size("steps", steps), check_seed(seed)
    if layer.bidirectional or layer.reverse:
        raise ValueError("layer: expected one direction, whose last step is the last of time")
    x = np.zeros((steps, 1, layer.input_size), layer.dtype)
    x[0] = rng.standard_normal(x[0].shape)
    if layer.batch_first:
        x = np.ascontiguousarray(x.swapaxes(0, 1))
    states = layer.record(x)[2][-1]
    y, _ = layer.forward(x)
    dy = np.zeros_like(y).reshape(steps, 1, -1)
    dy[-1] = rng.standard_normal(dy.shape[2])
    dy[-1] /= np.linalg.norm(dy[-1])
    before = layer.flat_grads.copy()
    gradients = layer.backward(dy.reshape(y.shape), record=True)[2][-1]
    layer.flat_grads[...] = before
    found = [
        {name: array.reshape(steps, 1, -1) for name, array in one.items()}
        for one in (states, gradients)
    ]
    carrier = "c" if "c" in found[1] else "h"
    norms, reached = (norms_of(one[carrier])[:, 0] for one in found)
    return Impulse(norms, reached, found[0])
