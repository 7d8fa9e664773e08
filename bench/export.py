"""A step of an exported LSTM beside one of the engine's stream, without the calls from Python.

    python bench/export.py                # a table, of every compiler that is there
    python bench/export.py --write        # into docs/embed.md

The C is compiled with -O3 -march=native and takes its steps one by one; the stream takes the same
steps as one block, so what a call from Python costs is shared by a thousand. Both take turns; the
quickest round of each counts, as other programs only ever add to one. It is asserted first that
both compute the same numbers.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import rnncore

SIZES = 16, 32, 40, 64
STEPS, ROUNDS = 1000, 300
PAGE = Path(__file__).parents[1] / "docs/embed.md"
#: What RTNeural's fastest form takes by its own account, on a machine of theirs.
PUBLISHED = {16: 56, 32: 235, 40: 443, 64: 879}
DRIVER = """
void run(const float *x, float *y, int steps)
{
    static model_state state;
    model_reset(&state);
    for (int t = 0; t < steps; t++)
        model_step(&state, x + t, y + t * MODEL_OUTPUTS);
}
"""


def compiled(layer: rnncore.LSTM, compiler: str, weights: str, folder: Path) -> ctypes.CDLL:
    """Return a library with `run`."""
    name = f"{compiler}_{weights}_{layer.hidden_size}"
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    rnncore.export_c(layer, source, weights=weights, name="model")
    source.write_text(source.read_text() + DRIVER)
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", library, source], check=True)
    return ctypes.CDLL(str(library))


def measure(hidden_size: int, folder: Path) -> list[list[str]]:
    """Return rows of the table: compiler, weights, ns a step in C, of the stream, their ratio."""
    layer = rnncore.LSTM(1, hidden_size, seed=0)
    stream = layer.stream()
    x = np.random.default_rng(0).standard_normal((STEPS, 1)).astype(np.float32)
    y, expected = np.empty((2, STEPS, hidden_size), np.float32)
    places = [ctypes.c_void_p(array.ctypes.data) for array in (x, y)]
    sides = {}
    for compiler in filter(shutil.which, ("gcc", "clang")):
        for weights in ("float32", "float16", "int8"):
            library = compiled(layer, compiler, weights, folder)
            library.run(*places, STEPS)
            stream.reset()
            stream.process(x, expected)
            bound = {"float32": 1e-6, "float16": 1e-3, "int8": 1e-1}[weights]
            assert np.abs(y - expected).max() < bound
            sides[compiler, weights] = library.run
    best = dict.fromkeys([*sides, None], float("inf"))
    for _ in range(ROUNDS):
        for side, run in sides.items():
            begin = time.perf_counter()
            run(*places, STEPS)
            best[side] = min(best[side], time.perf_counter() - begin)
        begin = time.perf_counter()
        stream.process(x, expected)
        best[None] = min(best[None], time.perf_counter() - begin)
    ns = {side: seconds / STEPS * 1e9 for side, seconds in best.items()}
    return [
        [str(hidden_size), compiler, weights, f"{ns[compiler, weights]:.0f}", f"{ns[None]:.0f}",
         f"{ns[compiler, weights] / ns[None]:.2f}", str(PUBLISHED[hidden_size])]
        for compiler, weights in sides
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="into docs/embed.md")
    arguments = parser.parse_args()
    head = ["units", "compiler", "weights", "C, ns", "stream, ns", "C / stream", "RTNeural, ns"]
    rows = [head, ["---:", "---", "---", "---:", "---:", "---:", "---:"]]
    with tempfile.TemporaryDirectory() as folder:
        for hidden_size in SIZES:
            rows += measure(hidden_size, Path(folder))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    print(table)
    if arguments.write:
        page = PAGE.read_text()
        found = re.sub(
            r"(<!-- speed -->\n).*?(\n<!-- /speed -->)", rf"\1\n{table}\n\2", page, flags=re.S
        )
        PAGE.write_text(found)


if __name__ == "__main__":
    main()
