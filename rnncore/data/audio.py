"""Recorded sound as samples: WAV files of any rate, depth and number of channels."""

from __future__ import annotations

import os
import struct
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import as_array, check_size

UNTIL_THE_END = 0xFFFFFFFF  # the size of data that is written while it comes in


def read_wav(path: str | os.PathLike[str], rate: int | None = None) -> tuple[NDArray[Any], int]:
    """Return the samples of a WAV file and their rate.

    Parameters
    ----------
    path
        Of whole or floating-point numbers of any depth; what else soundfile reads serves as well.
    rate
        Samples a second to resample to; None: those of the file.

    Returns
    -------
    samples : (N,) float32
        From -1 to 1, the mean of all channels.
    rate : int

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If soundfile is not installed, or SciPy where it takes resampling.
    ValueError
        If it is no sound, has none, has less than its header says, or numbers that are not finite.

    Examples
    --------
    >>> import pathlib, tempfile, wave
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = str(pathlib.Path(folder, "tone.wav"))
    ...     with wave.open(path, "wb") as file:
    ...         file.setparams((1, 2, 8000, 0, "NONE", None))
    ...         file.writeframes(np.array([0, 16384], "<i2").tobytes())
    ...     read_wav(path)
    (array([0. , 0.5], dtype=float32), 8000)
    """
    name = os.fspath(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{name!r}: expected a WAV file, but there is none; check the path")
    try:
        import soundfile
    except ImportError:
        raise ImportError(
            "soundfile: expected to be installed for sound; `pip install soundfile`"
        ) from None
    _check_header(Path(path))
    try:
        found, own = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{name!r}: expected sound, such as a WAV file, but it is none ({error.error_string})"
        ) from None
    if not len(found):
        raise ValueError(f"{name!r}: expected sound, but it has no samples; leave it out")
    if not np.isfinite(found).all():
        raise ValueError(f"{name!r}: expected finite samples, but some are not; record it again")
    samples = found.mean(1)
    return (samples, own) if rate is None else (resample(samples, own, rate), rate)


def _check_header(path: Path) -> None:
    # libsndfile takes a file for whole that ends before its header says.
    with path.open("rb") as file:
        riff = file.read(12)
        if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
            return  # of another format
        left = path.stat().st_size - 12
        while len(head := file.read(8)) == 8:
            kind, size = struct.unpack("<4sI", head)
            left -= 8
            if size > left and size != UNTIL_THE_END:
                raise ValueError(
                    f"{os.fspath(path)!r}: its header says {size} bytes of "
                    f"{kind.decode('latin')!r}, but {left} are there; the file is cut off or "
                    "damaged, use another copy"
                )
            if kind == b"data":
                return
            left -= size + size % 2
            file.seek(size + size % 2, 1)
    raise ValueError(f"{os.fspath(path)!r}: expected sound, but it has no samples; leave it out")


def resample(samples: Any, rate: int, to: int) -> NDArray[np.float32]:
    """Return samples (N,) at another rate, by SciPy's polyphase filter.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    ValueError
        If a rate is no whole number above 0, or the samples are none.

    Examples
    --------
    >>> resample(np.zeros(441), 44100, 8000).shape
    (80,)
    """
    array = as_samples("samples", samples)
    rate, to = check_size("rate", rate), check_size("to", to)
    if rate == to:
        return array
    try:
        from scipy.signal import resample_poly
    except ImportError:
        raise ImportError(
            f"scipy: expected to be installed, to bring {rate} samples a second to {to}; "
            "`pip install scipy`"
        ) from None
    common = gcd(rate, to)
    found: NDArray[np.float32] = resample_poly(array, to // common, rate // common)
    return found.astype(np.float32, copy=False)


def as_samples(name: str, samples: Any) -> NDArray[np.float32]:
    """Return samples (N,) as float32; refuse what is none, is empty or not finite."""
    array = as_array(name, samples)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise ValueError(
            f"{name}: expected floating-point samples (N,) from -1 to 1, got {array.dtype} of "
            f"shape {array.shape}; take the mean of channels, divide whole numbers by their largest"
        )
    if not array.size or not np.isfinite(array).all():
        what = "not finite" if array.size else "none"
        raise ValueError(f"{name}: expected finite samples, got {what}; leave it out")
    return array.astype(np.float32, copy=False)
