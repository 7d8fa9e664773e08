"""The engine beside its peers: same cases, same numbers, rounds interleaved in one process.

    python -m pip install -r bench/requirements-peers.txt
    python bench/peers.py --output peers.json

A peer that is not installed is left out and named. Each thread count runs in a process of its own.
A round times every side once, in turn; the ratio of a case is the median over rounds of the best
peer's time divided by the engine's time of the same round, beside its quartiles.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from sides import PEERS, NumPy, Rnncore
from workloads import WORKLOADS, Data, Side, Workload, assert_same

from rnncore import engine

SHORTEST_SECONDS = 2e-3  # a timing covers as many calls as this takes
LONG_SECONDS = 2e-2  # a call so long needs no call before it to warm up
SECONDS = 2.0  # of timing, for each case and thread count
QUICK_SIZE = 2e8  # layers * T * B * H * (I + H)
SETTLE_SECONDS = 8e-3  # until the threads of the side before have stopped spinning


def timed(side: Side, calls: int, warm: bool) -> float:
    """Return the seconds of one call, over so many."""
    with side.context():
        if warm:
            side.run()  # wakes threads, brings weights back into the caches
        start = time.perf_counter()
        for _ in range(calls):
            side.run()
        return (time.perf_counter() - start) / calls


def measure(sides: dict[str, Side], seconds: float, settle: float) -> dict[str, np.ndarray]:
    """Time all sides in turn, in as many rounds as about `seconds` allow; at least three."""
    once = {name: timed(side, 1, warm=False) for name, side in sides.items()}
    warm = {name: once[name] < LONG_SECONDS for name in sides}
    calls = {name: int(np.clip(SHORTEST_SECONDS / once[name], 1, 2000)) for name in sides}
    round_seconds = sum(once[name] * (calls[name] + warm[name]) + settle for name in sides)
    rounds = int(np.clip(seconds / round_seconds, 3, 50))
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            time.sleep(settle)
            times[name].append(timed(sides[name], calls[name], warm[name]))
        order = order[1:] + order[:1]
    return {name: np.array(values) for name, values in times.items()}


def quartiles(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "low": float(low), "high": float(high)}


def compare(
    workload: Workload, contestants: list[Any], threads: int, seconds: float
) -> dict[str, Any]:
    """Check that all sides compute the same, time them, and return what the report needs."""
    data, sides, first = Data(workload), {}, {}
    expected: dict[str, Any] = {}
    for contestant in contestants:
        if contestant.name == NumPy.name and workload.job == "text":
            continue  # its whole training step takes seconds; see test_text.py
        make = getattr(contestant, workload.job, None)
        side = make(data) if make else None
        if side is None:
            continue
        with side.context():
            start = time.perf_counter()
            side.run()
            first[contestant.name] = time.perf_counter() - start
        if workload.job == "text":
            side = make(data)  # the first step again, from the first weights
        results = side.results()
        if expected:
            assert_same(results, expected, f"{contestant.name}, {workload}")
        expected = expected or results
        sides[contestant.name] = side
    gc.collect()
    gc.disable()
    times = measure(sides, seconds, SETTLE_SECONDS if threads > 1 else 0.0)
    gc.enable()
    row: dict[str, Any] = {
        "group": workload.group, "name": workload.name, "threads": threads,
        "target": workload.target(threads), "rounds": len(times[Rnncore.name]),
        "seconds": {name: quartiles(values) for name, values in times.items()},
        "first_call": first,
    }  # fmt: skip
    for key, among in (("ratio", set(sides) - {Rnncore.name, NumPy.name}), ("numpy", {NumPy.name})):
        if rivals := among & set(sides):
            best = min(rivals, key=lambda name: np.median(times[name]))
            row[key] = {"to": best, **quartiles(times[best] / times[Rnncore.name])}
    return row


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    module = engine.kernels(np.float32)
    return {
        "processor": cpu_name(), "processors": os.cpu_count(),
        "system": platform.system(), "python": platform.python_version(),
        "build": engine.chosen_build()[0], "vector": f"{module.lanes} float32",
        "date": date.today().isoformat(),
    }  # fmt: skip


def installed(threads: int) -> tuple[list[Any], list[str]]:
    """Return the contestants that can be made, and the names of those that cannot."""
    contestants, missing = [Rnncore(threads), NumPy(threads)], []
    for peer in PEERS:
        try:
            contestants.append(peer(threads))
        except ImportError:
            missing.append(peer.name)
    return contestants, missing


def chosen(only: str, quick: bool) -> list[Workload]:
    """Return the cases asked for; in a quick run the smallest of each group and cell."""
    workloads = [w for w in WORKLOADS if only == w.group or fnmatch(str(w), f"*{only}*")]
    if not quick:
        return workloads
    sizes = {
        w: w.case.layers * w.case.T * w.case.B * w.case.H * (w.case.I + w.case.H) for w in workloads
    }
    smallest: dict[tuple[str, str], Workload] = {}
    for w in sorted(workloads, key=lambda w: sizes[w], reverse=True):
        smallest[w.group, w.case.kind] = w
    return [w for w in workloads if w in smallest.values() and sizes[w] < QUICK_SIZE]


def run_here(threads: int, workloads: list[Workload], seconds: float) -> dict[str, Any]:
    """Compare in this process, whose environment has the thread count."""
    contestants, missing = installed(threads)
    for name in missing:
        print(f"{name} is not installed and left out", file=sys.stderr)
    rows = []
    for workload in workloads:
        start = time.perf_counter()
        row = compare(workload, contestants, threads, seconds)
        rows.append(row)
        own = row["seconds"][Rnncore.name]["median"]
        text = f"{threads} thread{'s' * (threads > 1)}  {workload!s:56} {own * 1e6:11.1f} us"
        if "ratio" in row:
            r = row["ratio"]
            text += f"  {r['median']:6.2f}x ({r['low']:.2f} to {r['high']:.2f}) of {r['to']}"
        print(f"{text}  [{time.perf_counter() - start:.1f} s]", file=sys.stderr)
    versions = {contestant.name: contestant.version for contestant in contestants}
    return {"machine": machine(), "versions": versions, "missing": missing, "rows": rows}


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process in which nobody uses more threads than these."""
    count = str(threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
             "VECLIB_MAXIMUM_THREADS", "RNNCORE_NUM_THREADS", "NPROC")  # fmt: skip
    settings = {**os.environ, **dict.fromkeys(names, count), "JAX_PLATFORMS": "cpu"}
    if threads == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return settings


def run(threads: list[int], only: str = "", seconds: float = SECONDS, quick: bool = False) -> Any:
    """Run each thread count in a process of its own; return all results as one."""
    rows: list[Any] = []
    for count in threads:
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, "part.json")
            command = [sys.executable, __file__, "--here", "--threads", str(count), "--only", only,
                       "--seconds", str(seconds), "--output", str(part)]  # fmt: skip
            subprocess.run(command + ["--quick"] * quick, env=environment(count), check=True)
            results = json.loads(part.read_text())
        rows += results["rows"]
    return {**results, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--only", default="", help="a group, or part of what is printed of a case")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of timing for each case")
    parser.add_argument("--quick", action="store_true", help="few cases and rounds: a smoke run")
    parser.add_argument("--output", type=Path, default=Path("peers.json"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not chosen(options.only, options.quick):
        parser.error(f"--only: no case has {options.only!r} in its name")
    seconds = 0.0 if options.quick else options.seconds
    if options.here:
        workloads = chosen(options.only, options.quick)
        results = run_here(options.threads[0], workloads, seconds)
    else:
        results = run(options.threads, options.only, seconds, options.quick)
    options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
