"""Small LSTMs fed in blocks, beside C++ whose sizes are fixed when it is compiled.

    python bench/blocks.py [--rounds 40] [--write]

The C++ (blocks.cpp) computes a layer in the two ways in which libraries for sound plug-ins do, one
with Eigen and one with xsimd; it needs a C++ compiler and the headers of both (Debian: apt install
libeigen3-dev libxsimd-dev). A block has 64 steps. Sides take turns, equal outputs are asserted
first, and medians are shown, ours with the call from Python. `--write` puts the table into
docs/embed.md.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from busy import processor, put_between, table

import rnncore

HERE = Path(__file__).parent
PAGE, MARKS = HERE.parent / "docs" / "embed.md", ("<!-- blocks -->", "<!-- /blocks -->")
SIZES, STEPS, CALLS = (3, 8, 12, 16, 20, 24, 32, 40, 64), 64, 40
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-I/usr/include/eigen3")


def measure(library: ctypes.CDLL, units: int, rounds: int) -> dict[str, float]:
    """Return nanoseconds a step of each side."""
    layer = rnncore.LSTM(1, units, seed=0)
    stream, state = layer.stream(), layer.state_dict()
    weights = [np.ascontiguousarray(state[f"{name}_l0"]) for name in ("weight_ih", "weight_hh")]
    bias = np.ascontiguousarray(state["bias_ih_l0"] + state["bias_hh_l0"])
    x = np.random.default_rng(0).standard_normal((STEPS, 1), np.float32)
    expected, out = stream.process(x).copy(), np.empty((STEPS, units), np.float32)

    def ours() -> float:
        begin = time.perf_counter()
        for _ in range(CALLS):
            stream.process(x, out)
        return (time.perf_counter() - begin) / CALLS / STEPS

    def theirs(name: str) -> float:
        function = getattr(library, f"{name}_{units}")
        function.restype = ctypes.c_double
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*weights, bias, x)]
        y = np.empty((STEPS, units), np.float32)
        seconds = function(*pointers, ctypes.c_long(STEPS), y.ctypes.data_as(ctypes.c_void_p),
                           ctypes.c_long(CALLS))  # fmt: skip
        assert np.abs(y - expected).max() < 1e-5, name
        return seconds

    sides = {"rnncore": ours, "Eigen": lambda: theirs("eigen"), "xsimd": lambda: theirs("xsimd")}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 + rounds):  # the first one warms up
        for name, side in sides.items():
            times[name].append(side())
    return {name: 1e9 * float(np.median(found[1:])) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, metavar="N")
    parser.add_argument("--write", action="store_true", help="put the table into docs/embed.md")
    options = parser.parse_args()
    rnncore.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "blocks.so"
        subprocess.run(["g++", *FLAGS, "-o", built, HERE / "blocks.cpp"], check=True)
        library = ctypes.CDLL(str(built))
        for units in SIZES:
            found = measure(library, units, options.rounds)
            ratios = [f"{found[name] / found['rnncore']:.2f}" for name in ("Eigen", "xsimd")]
            lines.append([str(units), *(f"{ns:.0f}" for ns in found.values()), *ratios])
            print("  ".join(lines[-1]), flush=True)
    if options.write:
        head = ["units", "rnncore, ns", "Eigen, ns", "xsimd, ns", "Eigen / rnncore",
                "xsimd / rnncore"]  # fmt: skip
        text = f"{processor()}; medians of {options.rounds} rounds.\n\n{table(head, lines)}"
        PAGE.write_text(put_between(PAGE.read_text(), MARKS, text))


if __name__ == "__main__":
    main()
