"""Files with bytes changed, cut off or put in, each of which has one clear error or none."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rnncore.convert import ConversionError

MOST_MEMORY = 400_000_000  # bytes that a damaged file of a few KB may make a reader take


def mutated(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield a file with some bytes changed, a piece removed, doubled, or its end cut off."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        changed, way = bytearray(content), rng.integers(4)
        first = int(rng.integers(len(content)))
        last = min(first + int(rng.integers(1, 64)), len(content))
        if way == 0:
            for place in rng.integers(0, len(content), int(rng.integers(1, 6))):
                changed[place] = int(rng.integers(256))
        elif way == 1:
            del changed[first:last]
        elif way == 2:
            changed[first:first] = changed[first:last]
        else:
            del changed[first:]
        yield bytes(changed)


def mutated_json(content: str, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield a JSON file with one thing in it replaced by another, removed or doubled."""
    rng = np.random.default_rng(seed)
    others: list[Any] = [
        None, True, -1, 0, 3, 2**40, 10**400, 1.5, float("nan"), 1e999, "", "lstm", "x" * 99, [],
        {}, [[]], [1.0], [["a"]], {"type": "lstm"},
    ]  # fmt: skip
    for _ in range(count):
        whole = json.loads(content)
        holder, key = whole, None
        while isinstance(holder, dict | list) and holder:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = keys[int(rng.integers(len(keys)))]
            if not isinstance(holder[key], dict | list) or rng.random() < 0.25:
                break
            if not holder[key]:
                break
            holder = holder[key]
        way = rng.integers(3)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        else:
            holder[key] = others[int(rng.integers(len(others)))]
        yield json.dumps(whole).encode()


def refused_or_read(
    read: Callable[[Path], Any], path: Path, contents: Iterator[bytes]
) -> tuple[int, int]:
    """Read each; return how many were refused, in one sentence, and how many could be read."""
    refused = fine = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in contents:
        path.write_bytes(content)
        try:
            read(path)
        except ConversionError as error:
            said = str(error)
            assert said and "\n" not in said and len(said) < 1000, said
            refused += 1
        else:
            fine += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < MOST_MEMORY
    return refused, fine
