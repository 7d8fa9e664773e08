"""What it takes to have rnncore: seconds of its import, bytes of its folder.

python bench/footprint.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

import rnncore

RUNS = 9
IMPORTS = """
from time import perf_counter
start = perf_counter()
import numpy
middle = perf_counter()
import rnncore
print(middle - start, perf_counter() - middle)
"""


class Footprint(NamedTuple):
    numpy_seconds: float  # of `import numpy`
    rnncore_seconds: float  # of `import rnncore` after it
    size: int  # bytes of the package's folder, without what it depends on


def measure() -> Footprint:
    """Return medians over fresh processes, and the size."""
    command = [sys.executable, "-c", IMPORTS]
    # An installed package has bytecode; some shells keep Python from writing any.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    outputs = [
        subprocess.check_output(command, text=True, env=environment).split()
        for _ in range(1 + RUNS)
    ][1:]  # the first one brings the files into memory
    numpys, ours = np.median(np.array(outputs, float), axis=0)
    files = [path for path in Path(rnncore.__file__).parent.rglob("*") if path.is_file()]
    return Footprint(float(numpys), float(ours), sum(path.stat().st_size for path in files))


if __name__ == "__main__":
    footprint = measure()
    print(f"import numpy: {footprint.numpy_seconds * 1e3:.0f} ms")
    print(f"import rnncore after it: {footprint.rnncore_seconds * 1e3:.0f} ms")
    print(f"size: {footprint.size / 1e6:.1f} MB")
