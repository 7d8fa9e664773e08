"""A hash that names the values of data, so that a resume on other data is found out."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # numbers hashed at a time


def fingerprint_of(*arrays: NDArray[Any]) -> str:
    """Return a hash of the values of arrays of numbers, the same for every integer type.

    Parameters
    ----------
    arrays : (N, ...), each
        The sizes count as well where there are several.

    Returns
    -------
    fingerprint : str
        BLAKE2b (RFC 7693) of 16 bytes, in hexadecimal, over the numbers as little-endian int32, or
        float64 where they are floating-point numbers.

    Examples
    --------
    >>> one, two = np.arange(3), np.arange(3, dtype=np.uint8)
    >>> fingerprint_of(one) == fingerprint_of(two), fingerprint_of(one) == fingerprint_of(one, one)
    (True, False)
    >>> fingerprint_of(np.array([0.5])) == fingerprint_of(np.array([0.25]))
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if len(arrays) > 1:
            digest.update(len(array).to_bytes(8, "little"))
        dtype = "<f8" if array.dtype.kind == "f" else "<i4"
        for first in range(0, len(array), BLOCK):
            part = array[first : first + BLOCK]
            digest.update(np.ascontiguousarray(part, dtype=dtype).data)
    return digest.hexdigest()
