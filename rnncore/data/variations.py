"""What training changes in sound that is heard: other microphones, hidden bands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rnncore.data.spectra import SoundSettings

RIPPLES = 6  # cosines over the mel scale that make the curve of a microphone


def microphone(rng: np.random.Generator, bands: int, decibels: float) -> NDArray[np.float32]:
    """Return what another microphone multiplies the power in bands by, (bands,).

    In decibels ``z sum_k a_k cos(pi k m)`` at height m, 0 to 1, of the mel scale; k is 1 to 6, z
    and a_k are normal, z of deviation `decibels` and a_k of ``(k sum_j 1 / (2 j))^(-1/2)``, so that the
    root mean square of the sum is about 1.

    Examples
    --------
    >>> gains = microphone(np.random.default_rng(0), 5, 6)
    >>> (10 * np.log10(gains)).round(1)
    array([ 2.6, -0.4, -0. , -0.3, -1.1], dtype=float32)
    """
    k = np.arange(1, RIPPLES + 1)
    weights = rng.standard_normal(RIPPLES) / np.sqrt(k * np.sum(0.5 / k))
    curve = weights @ np.cos(np.pi * np.outer(k, np.linspace(0, 1, bands)))
    return (10 ** (decibels / 10 * rng.standard_normal() * curve)).astype(np.float32)


def masked(
    frames: NDArray[np.float32], sound: SoundSettings, share: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return features (T, F) with neighbouring bands replaced by the mean of all.

    How many is drawn from 0 up to this share of them.

    Examples
    --------
    >>> frames = np.arange(8, dtype=np.float32).reshape(2, 4)
    >>> masked(frames, SoundSettings(bands=4), 0.5, np.random.default_rng(1))
    array([[0. , 1. , 3.5, 3. ],
           [4. , 5. , 3.5, 7. ]], dtype=float32)
    """
    size = sound.frame_size
    count = rng.integers(0, int(share * size) + 1)
    if not count:
        return frames
    first, found = rng.integers(0, size - count + 1), frames.copy()
    found.reshape(-1, size)[:, first : first + count] = frames.mean()
    return found
