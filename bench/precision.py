"""Lower precision beside float32, and beside peers in theirs.

    python bench/precision.py [--threads 1 2] [--seconds 2] [--only LSTM] [--write]

Each library has a process of its own, and they are asked in turn: a round times every side once,
and a ratio is the median over the rounds. A side whose outputs are further from those of float32
than its precision allows stops the run. `--write` puts the table into docs/precision.md. Twelve
minutes on two processors that have nothing else to do.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from busy import put_between
from limits import cache_sizes, multiply_add_rate
from low_sides import KINDS, Array, Case, OneDNN, OnnxRuntime, OpenVINO, PyTorch, Rnncore
from remote import Remote, RemoteError

from rnncore import engine

PAGE = Path(__file__).parents[1] / "docs" / "precision.md"
MARKS = "<!-- table -->", "<!-- end of table -->"
# of the outputs' norm
MOST = {"float32": 1e-5, "bfloat16x3": 1e-4, "bfloat16": 0.02, "int8": 0.1}
CASES = [
    *(Case("LSTM", "inference", *sizes) for sizes in (
        (100, 1, 64), (100, 1, 128), (100, 1, 256), (100, 1, 512), (100, 1, 1024), (64, 16, 128),
        (64, 32, 256), (64, 64, 512), (32, 64, 1024))),
    *(Case("LSTM", "training", *sizes) for sizes in (
        (100, 1, 256), (64, 32, 256), (64, 64, 128), (64, 64, 512))),
    *(Case(kind, what, *sizes) for kind in ("GRU", "RNN") for what in ("inference", "training")
      for sizes in ((100, 1, 256), (64, 32, 256))),
    *(Case(kind, "stream", 1, 1, H) for kind in KINDS for H in (64, 128, 256)),
]  # fmt: skip


OWN = [(Rnncore, "float32"), (Rnncore, "bfloat16"), (Rnncore, "int8")]
if "tdpbf16ps" in engine.kernels(np.float32).products()["bfloat16x3"]:
    OWN.append((Rnncore, "bfloat16x3"))
SIDES = [*OWN, (PyTorch, "bfloat16"), (OpenVINO, "bfloat16"), (OneDNN, "bfloat16"),
         (OnnxRuntime, "int8")]  # fmt: skip
HEAD = ["case", "float32, us", *(precision for _, precision in OWN[1:]),
        *(f"{side.name} {precision}" for side, precision in SIDES[len(OWN):]),
        "of the tiles' rates, %"]  # fmt: skip


def operations(case: Case) -> float:
    """Return the floating-point operations of its products."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[case.kind]
    products = 2 if case.what == "inference" else 6  # W_hx x, W_hh h; dx, dh, and dW of both
    return 2.0 * products * case.T * case.B * gates * case.H**2


def measure(
    sides: list[Any], case: Case, seconds: float, pause: float, rates: list[float]
) -> list[str]:
    """Return the cells of a row, given the rates of our own sides."""
    found: list[Array | None] = []
    for (who, precision), side in zip(SIDES, sides, strict=True):
        try:
            y = None if side is None else side.call("prepare", case)
        except RemoteError as error:
            print(f"{who.name}: {error}")
            y = None
        if y is not None and found:
            error = np.linalg.norm(y - found[0]) / np.linalg.norm(found[0])
            assert error < MOST[precision], (case, precision, error)
        found.append(y)
    times: list[list[float]] = [[] for _ in sides]
    end = time.monotonic() + seconds * sum(y is not None for y in found)
    while time.monotonic() < end or len(times[0]) < 5:
        for side, y, kept in zip(sides, found, times, strict=True):
            if y is not None:
                time.sleep(pause)
                kept.append(side.call("time"))
    cells = [str(case), f"{np.median(times[0]) * 1e6:,.0f}"]
    for kept in times[1:]:
        ratio = np.median(np.array(times[0][: len(kept)]) / kept) if kept else None
        cells.append("" if ratio is None else f"{ratio:.2f}")
    shares = [
        f"{100 * operations(case) / float(np.median(kept)) / rate:.0f}"
        for kept, rate in zip(times, rates, strict=False)
        if kept and case.B > 1
    ]
    return [*cells, ", ".join(shares)]


def main() -> None:
    """Measure all cases and print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options, out = parser.parse_args(), io.StringIO()
    for threads in options.threads:
        sides: list[Any] = []
        for kind, precision in SIDES:
            try:
                sides.append(Remote(threads, kind, precision, threads))
            except RemoteError as error:
                print(f"{kind.name} is left out: {error}")
                sides.append(None)
        build, _ = engine.chosen_build()
        ways = engine.kernels(np.float32).products().items()
        products = "; ".join(f"{name} by {product}" for name, product in ways)
        cache = cache_sizes()["L1"]
        rates = [multiply_add_rate(cache, threads, 1.0, precision) for _, precision in OWN]
        each = zip((precision for _, precision in OWN), rates, strict=True)
        tiles = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in each)
        print(f"\n{threads} thread{'s' * (threads > 1)}, build {build}; {products}. Tiles whose "
              f"weights are in the first cache, GFLOP/s: {tiles}\n", file=out)  # fmt: skip
        print(f"| {' | '.join(HEAD)} |\n|---|{'---:|' * (len(HEAD) - 1)}", file=out)
        for case in CASES:
            if options.only in str(case):
                pause = 0.3 if threads > 1 else 0.0  # threads of peers spin for a while
                cells = measure(sides, case, options.seconds, pause, rates)
                row = f"| {' | '.join(cells)} |"
                print(row, flush=True)
                print(row, file=out)
    if options.write:
        PAGE.write_text(put_between(PAGE.read_text(), MARKS, out.getvalue().strip()))
    else:
        print(out.getvalue())


if __name__ == "__main__":
    main()
