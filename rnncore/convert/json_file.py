"""JSON that another program wrote: numbers, lists and names, checked as they are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from rnncore.convert.errors import ConversionError, reading

LARGEST = 256_000_000  # bytes


def read_json(what: str, source: Any) -> Any:
    """Return what a file holds, or the object itself."""
    if not isinstance(source, str | os.PathLike):
        return source
    content = Path(source).read_bytes()
    if len(content) > LARGEST:
        raise ConversionError(f"{what}: expected {LARGEST} bytes at most, got {len(content)}")
    with reading(what):
        return json.loads(content)


def numbers(what: str, value: Any, axes: int) -> np.ndarray:
    """Return nested lists of numbers as float32 of so many axes."""
    with reading(what):
        array = np.asarray(value)
        if array.dtype.kind not in "fiu" or array.ndim != axes:
            raise ValueError(f"expected numbers of {axes} axes, got {array.dtype} of {array.ndim}")
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError("expected finite numbers")
        return array


def whole(what: str, value: Any, most: int = 100_000) -> int:
    """Return a whole number from 1."""
    if type(value) is not int or not 1 <= value <= most:
        raise ConversionError(
            f"{what}: expected a whole number from 1 to {most}, got {value!r:.50}"
        )
    return value
