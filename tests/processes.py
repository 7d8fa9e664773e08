"""Scripts in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys


def python(script: str, **environment: str) -> str:
    """Run a script and return what it prints; fail with what it complains of."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env={**os.environ, **environment},
        text=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
