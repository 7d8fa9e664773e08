"""The comparison of two trees finds what differs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from conftest import BUILDS

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import bits  # noqa: E402


def test_a_changed_bit_is_found() -> None:
    a = np.linspace(0, 1, 5, dtype=np.float32)
    b = a.copy()
    b[2] = np.nextafter(b[2], 2, dtype=np.float32)
    assert bits.digest([a, (a,)]) == bits.digest([a.copy(), (a,)])
    assert len({bits.digest([a]), bits.digest([b]), bits.digest([a[None]]),
                bits.digest([a.astype(np.float64)])}) == 4  # fmt: skip
    assert bits.differing({0: "x", 1: "y"}, {0: "x", 1: "z", 2: "w"}) == [1, 2]


def test_a_tree_is_itself() -> None:
    root = str(BENCH.parent)
    command = [sys.executable, str(BENCH / "bits.py"), root, root, "--cases", "30"]
    command += ["--isa", BUILDS[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "30 cases, 0 refused by both, 0 differ" in done.stdout
