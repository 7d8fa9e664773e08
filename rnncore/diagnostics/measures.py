"""Numbers that tell how states and gradients fare over the steps of sequences."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

#: What the gates of the built-in cells are squashed by, and what h is where it has no gates.
SQUASHED = {
    "lstm": {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"},
    "gru": {"r": "sigmoid", "z": "sigmoid", "n": "tanh"},
    "gru_reset_before": {"r": "sigmoid", "z": "sigmoid", "n": "tanh"},
    "rnn_tanh": {"h": "tanh"},
    "rnn_sigmoid": {"h": "sigmoid"},
    "rnn_relu": {"h": "relu"},
}
BOUNDS = {"sigmoid": (0.1, 0.9), "tanh": (-0.9, 0.9), "relu": (0.0, math.inf)}


def inside(lengths: NDArray[np.integer], steps: int) -> NDArray[np.bool_]:
    """Return which places (T, B) are steps of a sequence."""
    found: NDArray[np.bool_] = np.arange(steps)[:, None] < np.asarray(lengths)
    return found


def norms_of(array: Array) -> Array:
    """Return the Euclidean norm of each vector of (T, B, H), in float64: (T, B)."""
    # A gradient of 1e-30 has a norm, though its square is no float32.
    found: Array = np.linalg.norm(np.asarray(array, np.float64), axis=-1)
    return found


def mean_norms(norms: Array, lengths: NDArray[np.integer]) -> Array:
    """Return the mean over the sequences that have each step; NaN where none has: (T,)."""
    mask = inside(lengths, len(norms))
    counts = mask.sum(1)
    total = np.where(mask, norms, 0).sum(1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def growth_per_step(norms: Array, lengths: NDArray[np.integer] | None = None) -> float:
    """Return the factor by which norms grow a step: least squares through their logarithms.

    ``log |v_t| = a_b + t log(growth)``, with one growth for all sequences b and an a_b for each, so
    that sequences of unlike length count as they should. Zeros are left out.

    Parameters
    ----------
    norms : (T,) or (T, B)
    lengths : (B,)
        The steps of each sequence; None: T.

    Returns
    -------
    growth
        Above 1 they grow, below 1 they vanish; NaN where no sequence has two steps that are not 0.

    Examples
    --------
    >>> round(growth_per_step(3 * 0.9 ** np.arange(20)), 6)
    0.9
    """
    norms = np.asarray(norms, np.float64)
    norms = norms[:, None] if norms.ndim == 1 else norms
    mask = (norms > 0) & np.isfinite(norms)
    if lengths is not None:
        mask &= inside(lengths, len(norms))
    counts = np.maximum(mask.sum(0), 1)
    logs = np.log(np.where(mask, norms, 1))
    t = np.where(mask, np.arange(len(norms))[:, None], 0.0)
    t = np.where(mask, t - t.sum(0) / counts, 0)
    spread = float((t * t).sum())
    return math.exp(float((t * logs).sum()) / spread) if spread else math.nan


def saturation(
    cell: str, states: Mapping[str, Array], lengths: NDArray[np.integer]
) -> dict[str, tuple[float, float]]:
    """Return for each gate the shares of its values at the low and at the high end.

    Sigmoids are counted below 0.1 and above 0.9, tanh below -0.9 and above 0.9; of a relu the share
    of zeros. A gate that is saturated passes hardly any gradient on to what it is computed from.

    Parameters
    ----------
    cell
        The name of a built-in cell; of others nothing is known.
    states
        Arrays (T, B, H) by name, as `Recurrent.record` returns them.
    lengths : (B,)
    """
    shares = {}
    for name, kind in SQUASHED.get(cell, {}).items():
        values = states[name][inside(lengths, len(states[name]))]
        low, high = BOUNDS[kind]
        below = values <= low if kind == "relu" else values < low
        count = max(1, values.size)
        shares[name] = (float(below.sum()) / count, float((values > high).sum()) / count)
    return shares
