"""Sound as features: the logarithm of the power in bands of the mel scale, or its cosines."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.audio import as_samples
from rnncore.settings import Choice, Share, Whole, check_settings, setting

WINDOW, HOP = 0.025, 0.0125  # seconds
FLOOR = 1e-3  # added to the power in a band: what is softer is silence
COEFFICIENTS = 13  # of the cosines
BEND = 0.85  # of half the rate: up to there frequencies are warped in proportion


@dataclasses.dataclass(frozen=True)
class SoundSettings:
    """How sound becomes features.

    Frames of 25 ms, one each 12.5 ms, are weighted by Hann's window w and transformed, with zeros
    behind them up to a power of two of twice their length at least. Their power in triangular bands
    of the mel scale is taken by its logarithm,

    ``s_tk = log(0.001 + sum_f M_fk |sum_n w_n x_(t hop + n) exp(-2 pi i f n / N)|^2)``

    and that is ``features="log-mel"``. ``"mfcc"`` are the first 13 numbers of its orthonormal
    cosine transform over k (DCT-II; Davis and Mermelstein, "Comparison of parametric
    representations for monosyllabic word recognition", 1980). Frames begin with the first sample,
    and one that is not full is left out. Neighbouring frames may be one step of the network
    together, which makes sequences shorter. A sound shorter than a step is one step, with zeros
    behind it.

    Parameters
    ----------
    rate
        Samples a second; sound of other rates is resampled.
    features
    bands
        Of the mel scale.
    frames_per_step
        Neighbouring frames whose features are one step's; those that do not fill one are left out.
    trim
        What is softer than this share of the loudest frame's level is cut off before and behind a
        word, but for a frame; see `trimmed`. Not in a stream, which cannot know what comes.

    Raises
    ------
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> sound = SoundSettings(bands=24)
    >>> sound.window, sound.hop, sound.size, sound.features_of(np.zeros(360, np.float32)).shape
    (200, 100, 24, (2, 24))
    """

    rate: int = setting(8000, Whole(1000), "Samples a second that sound is brought to.", fixed=True)
    features: str = setting(
        "log-mel", Choice(("log-mel", "mfcc")), "What a frame is to the network.", fixed=True
    )
    bands: int = setting(40, Whole(), "Of the mel scale.", fixed=True)
    frames_per_step: int = setting(
        1, Whole(), "Neighbouring frames that are one step of the network.", fixed=True,
        then=1,
    )
    trim: float = setting(
        0.0, Share(), "Words end where sound is softer than this share of the loudest.", fixed=True,
        then=0.0,
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return round(WINDOW * self.rate)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(HOP * self.rate)

    @property
    def points(self) -> int:
        """Of a frame's transform: a power of two, and twice the frame at least."""
        return 1 << (2 * self.window - 1).bit_length()

    @property
    def frame_size(self) -> int:
        """Features of a frame."""
        return self.bands if self.features == "log-mel" else min(COEFFICIENTS, self.bands)

    @property
    def size(self) -> int:
        """Features of a step."""
        return self.frames_per_step * self.frame_size

    def span(self, hop: int | None = None) -> int:
        """Return the samples of a step; `hop` as in `features_of`."""
        return self.window + (self.frames_per_step - 1) * (self.hop if hop is None else hop)

    def filters(self, warp: float = 1.0) -> NDArray[np.float32]:
        """Return those of the mel scale, (points / 2 + 1, bands); see `mel_filters`."""
        return mel_filters(self.rate, self.points, self.bands, warp)

    def features_of(
        self, samples: NDArray[np.float32], warp: float = 1.0, hop: int | None = None
    ) -> NDArray[np.float32]:
        """Return the features of samples (N,), an array (T, size).

        Parameters
        ----------
        samples
        warp
            What frequencies are multiplied by, as if the speaker were smaller: see `mel_filters`.
        hop
            Samples from frame to frame, where it is not `self.hop`: as if the speaker were faster.
        """
        return self.features_in(self.power(samples, warp, hop))

    def power(
        self, samples: NDArray[np.float32], warp: float = 1.0, hop: int | None = None
    ) -> NDArray[np.float32]:
        """Return the power in bands of each frame, (frames, bands); see `features_of`."""
        samples, span = as_samples("samples", samples), self.span(hop)
        if len(samples) < span:
            samples = np.pad(samples, (0, span - len(samples)))
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.window)
        frames = frames[:: self.hop if hop is None else hop]
        spectrum = np.fft.rfft(frames * _hann(self.window), self.points)
        found = np.square(spectrum.real) + np.square(spectrum.imag)
        power: NDArray[np.float32] = found.astype(np.float32, copy=False) @ self.filters(warp)
        return power

    def features_in(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features (T, size) of the power in bands (frames, bands)."""
        full = len(power) // self.frames_per_step * self.frames_per_step
        logs = np.log(power[:full] + np.float32(FLOOR))
        if self.features == "mfcc":
            try:
                from scipy.fft import dct
            except ImportError:
                raise ImportError(
                    "scipy: expected to be installed for features='mfcc'; `pip install scipy`"
                ) from None
            logs = dct(logs, norm="ortho")[:, : self.frame_size]
        found: NDArray[np.float32] = logs.reshape(-1, self.size)
        return found


def trimmed(samples: NDArray[np.float32], sound: SoundSettings) -> NDArray[np.float32]:
    """Return samples (N,) without the soft edges, but for a frame of each.

    Speakers leave unlike silences before and behind a word, which say nothing about it. Frames
    belong to it from the first one whose root mean square is at least `sound.trim` times that of
    the loudest to the last one.

    Examples
    --------
    >>> word = np.concatenate([np.zeros(4000), np.ones(2000), np.zeros(3000)]).astype(np.float32)
    >>> len(word), len(trimmed(word, SoundSettings(trim=0.1)))
    (9000, 2400)
    """
    if not sound.trim or len(samples) < sound.window:
        return samples
    sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, len(samples) - sound.window + 1, sound.hop)
    energies = sums[starts + sound.window] - sums[starts]
    heard = np.flatnonzero(energies >= sound.trim**2 * energies.max())
    first, last = heard[0] * sound.hop, heard[-1] * sound.hop + sound.window
    return samples[max(0, first - sound.hop) : last + sound.hop]


@lru_cache(maxsize=8)
def _hann(size: int) -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def mel(frequency: Any) -> Any:
    """Return how high frequencies in Hz sound, ``2595 log10(1 + f / 700)``.

    O'Shaughnessy, Speech Communication: Human and Machine, 1987.

    Examples
    --------
    >>> round(float(mel(1000.0)), 2)
    999.99
    """
    return 2595.0 * np.log10(1.0 + np.asarray(frequency) / 700.0)


@lru_cache(maxsize=64)
def mel_filters(rate: int, points: int, bands: int, warp: float = 1.0) -> NDArray[np.float32]:
    """Return triangular filters (points / 2 + 1, bands) over the frequencies of a transform.

    The corners of the triangles are even in mel from 0 to half the rate; filter k rises from corner
    k to 1 at corner k + 1 and falls to 0 at corner k + 2, along frequency.

    With a `warp` corners are moved as the voice of a smaller speaker would be (above 1; below: of a
    larger one): in proportion up to a bend, from there evenly up to half the rate (Jaitly and
    Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition", 2013).

    Raises
    ------
    ValueError
        If a band holds no frequency of the transform.

    Examples
    --------
    >>> mel_filters(8000, 16, 3)[2:5].round(2)
    array([[0.17, 0.83, 0.  ],
           [0.  , 0.65, 0.35],
           [0.  , 0.2 , 0.8 ]], dtype=float32)
    """
    half = rate / 2
    corners = 700.0 * (10.0 ** (np.linspace(0.0, mel(half), bands + 2) / 2595.0) - 1.0)
    bend = BEND * half * min(warp, 1.0)
    above = half - (half - bend) / (half - bend / warp) * (half - corners)
    corners = np.where(corners <= bend / warp, corners * warp, above)
    places = np.linspace(0.0, half, points // 2 + 1)[:, None]
    widths = np.diff(corners)
    rising = (places - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - places) / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    if not filters.any(0).all():
        raise ValueError(
            f"bands: expected fewer than {bands} at {rate} samples a second: one of them holds no "
            "frequency; choose fewer"
        )
    filters.flags.writeable = False
    return filters
