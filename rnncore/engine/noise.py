"""Noise of a training pass: masks, and the keys of what the engine draws by itself.

What happens at a place is a function of a key and the place (`src_cython/noise.h`). So it is the
same for any number of threads, and in a second pass over the same steps, and nothing is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore.engine.threads import team_size

if TYPE_CHECKING:
    from rnncore.engine.batch import Batch
    from rnncore.engine.compiled import Kernels


class Noise(NamedTuple):
    """The noise of one pass over a batch, or over a part of one; by default none.

    Attributes
    ----------
    outputs
        What the outputs of each layer but the last are multiplied with, padded as they are, see
        `multiply_rows`.
    recurrent
        For each direction of each layer what the state is multiplied with before W_hh, a row
        (padded to whole blocks) for each sequence, the longest first.
    zoneout
        For each direction the keys of zoneout of h and of c; empty: its expectation.
    first_row
        The rows before this part.
    """

    outputs: Sequence[np.ndarray] = ()
    recurrent: Sequence[np.ndarray] = ()
    zoneout: Sequence[tuple[int, int]] = ()
    first_row: int = 0


QUIET = Noise()


def draw_keys(generator: np.random.Generator, count: int) -> list[int]:
    """Draw keys of 64 bits."""
    return generator.integers(0, 2**64, count, np.uint64).tolist()


def drop(
    kernels: Kernels, p: float, key: int, x: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Return x with each number zero with probability p, and 1 / (1 - p) times itself otherwise.

    `out`, of the shape of x, may be x.
    """
    out = np.empty_like(x) if out is None else out
    kernels.drop(out.reshape(-1), x.reshape(-1), p, key, team_size())
    return out


def mask_of(
    kernels: Kernels, generator: np.random.Generator, p: float, out: np.ndarray
) -> np.ndarray:
    """Fill out with 0 where ``generator.random(out.shape, np.float32) < p``, else 1 / (1 - p)."""
    source, scale = generator.bit_generator, 1 / (1 - p)
    highest = (math.ceil(float(np.float32(p)) * 2**24) << 8) - 1  # that is below p; -1: none is
    if type(source) is not np.random.PCG64 or not kernels.has_pcg64 or highest < 0:
        np.multiply(
            generator.random(out.shape, np.float32) >= p, out.dtype.type(scale), out=out
        )
        return out
    with source.lock:
        state: Any = source.state
        kernels.mask_as_numpy(out.reshape(-1), state, highest, scale, team_size())
        source.state = state
    return out


def sequence_masks(
    kernels: Kernels, dtype: np.dtype, p: float, key: int, shape: tuple[int, int, int], size: int
) -> np.ndarray:
    """Return masks (sequences, parts * size) of parts of fewer units, (sequences, parts, units)."""
    sequences, parts, units = shape
    padded = np.zeros((sequences, parts, size), dtype)
    padded[:, :, :units] = drop(kernels, p, key, np.ones(shape, dtype))
    return padded.reshape(sequences, parts * size)


def multiply_rows(
    rows: np.ndarray, mask: np.ndarray, batch: Batch | None, out: np.ndarray
) -> None:
    """Multiply rows of a batch with masks: out = rows * mask, which may be in place.

    A mask is (rows, n), or (1, sequences, n) for all steps of each sequence, the longest first.
    """
    if mask.ndim == 3:
        assert batch is not None
        if batch.dense and len(rows):
            rows, out = (array.reshape(-1, *mask.shape[1:]) for array in (rows, out))  # views
        else:
            mask = mask[0, batch.sequence_of_row]
    np.multiply(rows, mask, out=out)
