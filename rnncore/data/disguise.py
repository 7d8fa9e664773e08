"""Speakers disguised in training: other microphones, tongues, rhythms, rooms; parts hidden."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.spectra import FLOOR

# Of a disguise of strength 1:
MICROPHONE = 8.0  # decibels that bands are turned up and down by, times a normal number
EMPHASIS = 3.0  # decibels that moments are
DISTANCE = 10.0  # decibels, at most, that all of it is
TONGUE = 0.02  # of the mel scale: how far bands are moved
RHYTHM = 0.4  # of the tempo's logarithm
ROOM = 6.0  # decibels that the noise is louder or softer by, over frequencies
ECHO = 0.6  # seconds, at most, in which a room's echo falls by 60 decibels
ECHO_LEVELS = (-15.0, 3.0)  # decibels of a room's echo beside the voice, least and most
ENDS = 0.2  # the largest share of a word that is cut off at an end, of every other end


def curve(rng: np.random.Generator, count: int, ripples: int) -> NDArray[np.float64]:
    """Return a smooth random curve at places (count,) even from 0 to 1, of mean square 1 over many.

    ``sum_k a_k cos(pi k place)``, k from 1 to `ripples`, with normal a_k whose variances fall as
    1 / k.

    Examples
    --------
    >>> curve(np.random.default_rng(0), 5, 6).round(1)
    array([ 0.3, -0.1, -0. , -0. , -0.1])
    """
    spread, waves = _waves(count, ripples)
    found: NDArray[np.float64] = (rng.standard_normal(ripples) * spread) @ waves
    return found


@lru_cache(maxsize=1024)
def _waves(count: int, ripples: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    k = np.arange(1, ripples + 1)
    waves = np.cos(np.pi * np.outer(k, np.linspace(0, 1, count)))
    return 1 / np.sqrt(k * np.sum(0.5 / k)), waves


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
    if steps > 1:
        speed = np.exp(strength * RHYTHM * curve(rng, steps, 3))
        passed = np.cumsum(speed) - speed[0]
        power = interpolated(power, passed / passed[-1] * (steps - 1))
    moved = np.linspace(0, 1, bands) + strength * TONGUE * curve(rng, bands, 3)
    power = interpolated(power.T, np.clip(moved, 0, 1) * (bands - 1)).T
    decibels = strength * EMPHASIS * curve(rng, steps, 3)[:, None]
    decibels = decibels + strength * DISTANCE * rng.uniform(-1, 1)
    decibels = decibels + strength * MICROPHONE * rng.standard_normal() * curve(rng, bands, 6)
    return (power * 10 ** (decibels / 10)).astype(np.float32)


def coloured(
    noise: NDArray[np.float32], decibels: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return noise (N,) as in another room: louder and softer along a smooth curve over frequency.

    Examples
    --------
    >>> noise = np.ones(4, np.float32)
    >>> coloured(noise, 6.0, np.random.default_rng(0)).round(1)
    array([1.3, 1.3, 1.3, 1.3], dtype=float32)
    """
    spectrum = np.fft.rfft(noise, 1 << (len(noise) - 1).bit_length())  # a power of two is fast
    spectrum *= 10 ** (decibels / 20 * curve(rng, len(spectrum), 3))
    return np.fft.irfft(spectrum)[: len(noise)].astype(np.float32)


def shortened(
    power: NDArray[np.float32], share: float, least: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the power (T, bands) without some of its first and last moments, as if badly cut.

    Of every other end nothing is lost, of the others up to this share, but `least` moments stay.

    Examples
    --------
    >>> power = np.arange(10, dtype=np.float32)[:, None]
    >>> shortened(power, 0.3, 1, np.random.default_rng(0)).ravel()
    array([1., 2., 3., 4., 5., 6., 7., 8., 9.], dtype=float32)
    """
    lost = (np.maximum(0, rng.uniform(-1, 1, 2)) * (share * len(power) + 1)).astype(int)
    first, last = int(lost[0]), len(power) - int(lost[1])
    return power[first:last] if last - first >= least else power


def echoing(
    power: NDArray[np.float32], hop: float, strength: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the power (T, bands) as if said in a room, of every other word, with moments to fade.

    Echoes add up as powers do and fade exponentially, by 60 decibels in a time drawn for the room:

    ``e_t = a (e_(t-1) + p_(t-1))``, ``q_t = p_t + g (1 - a) / a e_t``

    with the ratio g of echo and voice drawn as well (after Lebart et al., "A new method based on
    spectral subtraction for speech dereverberation", 2001, who take it away).

    Parameters
    ----------
    power
    hop
        Seconds from moment to moment.
    strength
        Of the disguise: what the echo's level is multiplied by.
    rng

    Examples
    --------
    >>> power = np.array([[0.0], [1.0], [0.0]], np.float32)
    >>> echoing(power, 0.0125, 1.0, np.random.default_rng(0)).shape
    (8, 1)
    """
    inside, fading, level = rng.random(), ECHO * rng.uniform(0.2, 1.0), rng.uniform(*ECHO_LEVELS)
    if inside < 0.5:
        return power
    fall = 10 ** (-6 * hop / fading)
    count = len(power) + round(0.25 * fading / hop)
    padded = np.zeros((count, power.shape[1]), np.float32)
    padded[: len(power)] = power
    passed = np.subtract.outer(np.arange(count), np.arange(count))
    gain = strength * 10 ** (level / 10) * (1 - fall) / fall
    kernel = np.where(passed > 0, gain * fall ** np.maximum(passed, 0), passed == 0)
    found: NDArray[np.float32] = kernel.astype(np.float32) @ padded
    return found


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
