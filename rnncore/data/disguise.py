"""Speakers disguised in training: other microphones, tongues, rhythms, emphases; hidden bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.spectra import FLOOR

# Of a disguise of strength 1:
MICROPHONE = 8.0  # decibels that bands are turned up and down by, times a normal number
EMPHASIS = 3.0  # decibels that moments are
TONGUE = 0.02  # of the mel scale: how far bands are moved
RHYTHM = 0.4  # of the tempo's logarithm


def curve(rng: np.random.Generator, places: NDArray[Any], ripples: int) -> NDArray[np.float64]:
    """Return a smooth random curve at places (N,) from 0 to 1, of mean square 1 over many.

    ``sum_k a_k cos(pi k place)``, k from 1 to `ripples`, with normal a_k whose variances fall as
    1 / k.

    Examples
    --------
    >>> curve(np.random.default_rng(0), np.linspace(0, 1, 5), 6).round(1)
    array([ 0.3, -0.1, -0. , -0. , -0.1])
    """
    k = np.arange(1, ripples + 1)
    weights = rng.standard_normal(ripples) / np.sqrt(k * np.sum(0.5 / k))
    found: NDArray[np.float64] = weights @ np.cos(np.pi * np.outer(k, places))
    return found


def disguised(
    power: NDArray[np.float32], strength: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the power in bands (T, bands) as if somebody else had said it, elsewhere.

    Time is bent, and so is the mel scale; moments are louder or softer, and so are bands: all along
    smooth curves, in proportion to `strength`, so that few speakers pass for many.

    Examples
    --------
    >>> power = np.ones((4, 5), np.float32)
    >>> other, same = (disguised(power, k, np.random.default_rng(0)) for k in (1.0, 0.0))
    >>> other.shape, np.array_equal(other, power), np.array_equal(same, power)
    ((4, 5), False, True)
    """
    steps, bands = power.shape
    time, height = np.linspace(0, 1, steps), np.linspace(0, 1, bands)
    if steps > 1:
        speed = np.exp(strength * RHYTHM * curve(rng, time, 3))
        passed = np.cumsum(speed) - speed[0]
        power = interpolated(power, passed / passed[-1] * (steps - 1))
    moved = height + strength * TONGUE * curve(rng, height, 3)
    power = interpolated(power.T, np.clip(moved, 0, 1) * (bands - 1)).T
    decibels = strength * EMPHASIS * curve(rng, time, 3)[:, None]
    decibels = decibels + strength * MICROPHONE * rng.standard_normal() * curve(rng, height, 6)
    return (power * 10 ** (decibels / 10)).astype(np.float32)


def masked(
    power: NDArray[np.float32], share: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the power in bands (T, bands), some neighbours hidden under the geometric mean of all.

    How many is drawn from 0 up to this share of them (Park et al., "SpecAugment", 2019).

    Examples
    --------
    >>> power = np.arange(8, dtype=np.float32).reshape(2, 4)
    >>> masked(power, 0.5, np.random.default_rng(1)).round(1)
    array([[0. , 1. , 1.2, 3. ],
           [4. , 5. , 1.2, 7. ]], dtype=float32)
    """
    bands, found = power.shape[1], power.copy()
    hidden = rng.integers(0, int(share * bands) + 1)
    first = rng.integers(0, bands - hidden + 1)
    found[:, first : first + hidden] = np.exp(np.log(found + FLOOR).mean()) - FLOOR
    return found


def blended(
    power: NDArray[np.float32], other: NDArray[np.float32], share: float
) -> NDArray[np.float32]:
    """Return the power (T, bands) of a voice between two that say the same word.

    Logarithms are mixed, with this share of the other's, which takes as long as the first then
    (mixup within a word; Zhang et al., "mixup: beyond empirical risk minimization", 2018).

    Examples
    --------
    >>> one, other = np.full((3, 1), 1.0, np.float32), np.full((2, 1), 4.0, np.float32)
    >>> blended(one, other, 0.5).round(2).T
    array([[2., 2., 2.]], dtype=float32)
    """
    other = interpolated(other, np.linspace(0, len(other) - 1, len(power)))
    logs = (1 - share) * np.log(power + FLOOR) + share * np.log(other + FLOOR)
    return np.maximum(np.exp(logs) - FLOOR, 0).astype(np.float32)


def interpolated(rows: NDArray[Any], places: NDArray[np.float64]) -> NDArray[Any]:
    """Return rows (T, F) at places (N,) from 0 to T - 1, between two of them in proportion.

    Examples
    --------
    >>> interpolated(np.array([[0.0], [1.0], [3.0]]), np.array([0.5, 1.5, 2.0])).tolist()
    [[0.5], [2.0], [3.0]]
    """
    before = np.minimum(places.astype(int), max(0, len(rows) - 2))
    share = (places - before)[:, None]
    after = np.minimum(before + 1, len(rows) - 1)
    found: NDArray[Any] = (1 - share) * rows[before] + share * rows[after]
    return found
