"""The recurrent weights: how far a step can stretch a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.layers.recurrent import Recurrent

Array = NDArray[np.floating]


def recurrent_weights(layer: Recurrent) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield for each direction of each layer its name and W_hh (H, H) of each gate by its letter.

    Cells whose gates do not read h have no W_hh, and no gates here.

    Examples
    --------
    >>> import rnncore
    >>> [(name, list(gates)) for name, gates in recurrent_weights(rnncore.GRU(3, 5, num_layers=2))]
    [('l0', ['r', 'z', 'n']), ('l1', ['r', 'z', 'n'])]
    """
    params = layer.params
    for name in params:
        kind, _, end = name.partition("_l")
        if kind == "weight_ih":
            W = params.get(f"weight_hh_l{end}")
            parts: Any = [] if W is None else W.reshape(-1, W.shape[1], W.shape[1])
            yield f"l{end}", dict(zip(layer._stack.cell.gates, parts, strict=W is not None))


def spectral_radii(gates: dict[str, Array]) -> dict[str, float]:
    """Return the largest absolute value among the eigenvalues of each gate's W_hh.

    Where a cell is linear, ``h_t = W h_{t-1}``, states and gradients grow by this factor a step in
    the long run; where it squashes, W of a radius below 1 makes them vanish.
    """
    return {
        gate: float(np.abs(np.linalg.eigvals(np.asarray(W, np.float64))).max())
        for gate, W in gates.items()
    }


def singular_values(gates: dict[str, Array]) -> dict[str, float]:
    """Return the largest singular value of each gate's W_hh: the most that a step stretches by."""
    return {gate: float(np.linalg.norm(np.asarray(W, np.float64), 2)) for gate, W in gates.items()}
