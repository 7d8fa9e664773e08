"""The engine beside its peers: same cases, same numbers, rounds interleaved.

    python -m pip install -r bench/requirements-peers.txt
    python bench/peers.py --output peers.json
    python bench/peers.py --threads 1 --only "batch: LSTM"

Every side has a process of its own for each thread count, and they are asked in turn. A round
times every side once; the ratio of a case is the median over rounds of the best peer's time divided
by the engine's time of the same round, beside its quartiles. A peer that is not installed, or
fails, is left out and named; one whose numbers differ stops the run.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import sys
import time
from contextlib import suppress
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from remote import Remote, RemoteError
from sides import PEERS, NumPy, Rnncore
from workloads import WORKLOADS, Array, Data, Side, Workload, assert_same

from rnncore import engine

CONTESTANTS = {contestant.name: contestant for contestant in (Rnncore, NumPy, *PEERS)}
MEMORY_OF = ("rnncore", "PyTorch")  # whose peak memory is measured
MEMORY_PROCESSES = 3
SHORTEST_SECONDS = 5e-3  # a timing covers as many calls as this takes
WARM_SECONDS = 2e-3  # of calls before it: they wake threads, bring weights back into the caches
LONG_SECONDS = 2e-2  # a call so long needs none before it
FIRST_CALLS = 9  # that are timed, unless they take longer
FIRST_SECONDS = 1.0
SECONDS = 2.0  # of timing, for each case and thread count
FEWEST_ROUNDS = 5
QUICK_SIZE = 2e8  # layers * T * B * H * (I + H)


class Stand:
    """A contestant in its process: prepares a case, then runs it as often as asked."""

    def __init__(self, name: str, threads: int) -> None:
        gc.disable()
        self.threads, self.contestant = threads, CONTESTANTS[name](threads)

    def version(self) -> str:
        return self.contestant.version

    def prepare(self, workload: Workload) -> dict[str, Array] | None:
        """Make the side of a case and return its results; None where it cannot do the case."""
        self.side: Any = None  # the case before ends here
        make: Any = getattr(self.contestant, workload.job, None)
        self.data = Data(workload)  # stays alive: some sides read x in place
        side: Side | None = make(self.data) if make else None
        if side is None:
            return None
        results = {name: np.asarray(array) for name, array in side.results().items()}
        self.side = side
        self.settle()
        return results

    def peak_memory(self, workload: Workload) -> int | None:
        """Return the bytes that it takes to make a side and run it, above what there was before."""
        make, data = getattr(self.contestant, workload.job), Data(workload)
        side = make(data)
        with side.context():  # once beforehand: the code comes into memory and is not counted
            side.run()
        del side
        before = reset_peak_memory()
        make(data).results()
        return None if before is None else memory("VmHWM") - before

    def first_call(self, workload: Workload) -> float:
        """Return the seconds of the first call of a new side, the median of a few.

        It comes right after calls of one in use, so that what the two share is awake and in the
        caches: code, clock, threads.
        """
        times, clock, data = [], time.perf_counter, Data(workload)
        end = clock() + FIRST_SECONDS
        while not times or (len(times) < FIRST_CALLS and clock() < end):
            release_memory()  # or the new one would take the pages of the one before it
            new = getattr(self.contestant, workload.job)(data)
            start = now = clock()
            while now == start or now < start + WARM_SECONDS:
                self.side.run()
                now = clock()
            before, start = clock(), clock()
            new.run()
            times.append(clock() - start - (start - before))  # without what a look takes
            del new
        self.settle()
        return float(np.median(times))

    def time(self, warm: bool) -> float:
        """Return the seconds of one call: of the first, or warm and over as many as take long."""
        run, clock = self.side.run, time.perf_counter
        with self.side.context():
            fastest, now = np.inf, clock()
            end = now + WARM_SECONDS
            while warm and now < end:
                run()
                before, now = now, clock()
                fastest = min(fastest, now - before)
            calls = max(1, int(SHORTEST_SECONDS / fastest))
            start = clock()
            for _ in range(calls):
                run()
            seconds = (clock() - start) / calls
        self.settle()
        return seconds

    def settle(self) -> None:
        """Wait until idle threads have stopped spinning, lest they disturb the next side."""
        gc.collect()
        end, used = time.perf_counter() + 0.5, np.inf
        while self.threads > 1 and used > 1e-3 and time.perf_counter() < end:
            used = -time.process_time()
            time.sleep(1e-2)  # two ticks of a usual system, which counts in ticks
            used += time.process_time()


def memory(field: str) -> int:
    """Return VmRSS or VmHWM (the most that VmRSS was) of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def release_memory() -> None:
    """Give memory that nobody uses back to the system, where it has a function for that."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> int | None:
    """Let VmHWM begin at the VmRSS of now, which is returned; None where the system has no such."""
    release_memory()  # or memory of the case before would be used again
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return memory("VmRSS")
    except (AttributeError, OSError):
        return None


class Comparison:
    """All contestants with so many threads, and what had to be left out."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.left_out: dict[str, str] = {}  # who, or who in which case: why
        self.stands: dict[str, Remote] = {}
        for name in CONTESTANTS:
            try:
                self.stands[name] = Remote(threads, Stand, name, threads)
            except RemoteError as error:
                self.leave_out(name, error)
        self.versions = {name: stand.call("version") for name, stand in self.stands.items()}

    def leave_out(self, who: str, why: RemoteError) -> None:
        self.left_out[who] = str(why)
        print(f"left out: {who}: {why}", file=sys.stderr)

    def close(self) -> None:
        for stand in self.stands.values():
            stand.close()

    def ask(self, name: str, workload: Workload, method: str, *arguments: Any) -> Any:
        """Call a method of a side; where it fails, note that and return None."""
        try:
            return self.stands[name].call(method, *arguments)
        except RemoteError as error:
            self.leave_out(f"{name}, {workload}", error)
            return None

    def prepare(self, workload: Workload) -> list[str]:
        """Let all make their sides; check that these compute the same; return who takes part."""
        expected: dict[str, Array] = {}
        names = []
        for name in self.stands:
            if name == NumPy.name and workload.job == "text":
                continue  # its whole training step takes seconds
            results = self.ask(name, workload, "prepare", workload)
            if results is not None:
                expected = expected or results
                assert_same(results, expected, f"{name}, {workload}")
                names.append(name)
        return names

    def peak_memory(self, workload: Workload, names: list[str]) -> dict[str, int | None]:
        """Measure training steps in processes in which there was nothing before; medians."""
        peaks: dict[str, int | None] = {}
        for name in names:
            if workload.job not in ("training", "text") or name not in MEMORY_OF:
                continue
            try:
                found = []
                for _ in range(MEMORY_PROCESSES):
                    stand = Remote(self.threads, Stand, name, self.threads)
                    found.append(stand.call("peak_memory", workload))
                    stand.close()
            except RemoteError as error:
                self.leave_out(f"{name}, memory of {workload}", error)
                continue
            peaks[name] = None if None in found else int(np.median(found))
        return peaks

    def measure(self, workload: Workload, names: list[str], seconds: float) -> dict[str, Array]:
        """Time sides in turn, in as many rounds as about `seconds` allow, or the fewest."""
        start = time.perf_counter()
        first = {name: self.ask(name, workload, "time", False) for name in names}
        once = {name: value for name, value in first.items() if value is not None}
        pause = time.perf_counter() - start - sum(once.values())
        warm = {name: once[name] < LONG_SECONDS for name in once}
        stretches = [
            max(once[name], warm[name] * (WARM_SECONDS + SHORTEST_SECONDS)) for name in once
        ]
        rounds = int(np.clip(seconds / (sum(stretches) + pause), FEWEST_ROUNDS, 50))
        times: dict[str, list[float | None]] = {name: [] for name in once}
        order = list(once)
        for _ in range(rounds):
            for name in order:
                times[name].append(self.ask(name, workload, "time", warm[name]))
            order = [name for name in order[1:] + order[:1] if None not in times[name]]
        return {name: np.array(times[name]) for name in once if name in order}

    def compare(self, workload: Workload, seconds: float) -> dict[str, Any] | None:
        """Return what the report needs of a case; None if rnncore itself failed."""
        names = self.prepare(workload)
        times = self.measure(workload, names, seconds)
        if Rnncore.name not in times:
            return None
        row: dict[str, Any] = {
            "group": workload.group, "name": workload.name, "threads": self.threads,
            "target": workload.target(self.threads), "rounds": len(times[Rnncore.name]),
            "seconds": {name: quartiles(values) for name, values in times.items()},
            "first_call": self.ask(Rnncore.name, workload, "first_call", workload),
            "peak_memory": self.peak_memory(workload, names),
        }  # fmt: skip
        peers = set(times) - {Rnncore.name}
        if workload.group != "product":  # NumPy's product is a BLAS, a peer like the others
            peers -= {NumPy.name}
        for key, among in (("ratio", peers), ("numpy", {NumPy.name} & set(times))):
            if among:
                best = min(among, key=lambda name: np.median(times[name]))
                row[key] = {"to": best, **quartiles(times[best] / times[Rnncore.name])}
        return row


def quartiles(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "low": float(low), "high": float(high)}


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


def summary(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    case, own = f"{row['group']}: {row['name']}", row["seconds"][Rnncore.name]["median"]
    text = f"{row['threads']} thread{'s' * (row['threads'] > 1)}  {case:56} {own * 1e6:11.1f} us"
    if "ratio" in row:
        r = row["ratio"]
        text += f"  {r['median']:6.2f}x ({r['low']:.2f} to {r['high']:.2f}) of {r['to']}"
    return text


def run(threads: list[int], only: str = "", seconds: float = SECONDS, quick: bool = False) -> Any:
    """Compare in all chosen cases, one thread count after the other."""
    rows: list[Any] = []
    left_out: dict[str, str] = {}
    for count in threads:
        comparison = Comparison(count)
        for workload in chosen(only, quick):
            start = time.perf_counter()
            row = comparison.compare(workload, seconds)
            if row is not None:
                rows.append(row)
                took = time.perf_counter() - start
                print(f"{summary(row)}  [{took:.1f} s]", file=sys.stderr)
        comparison.close()
        left_out |= comparison.left_out
    return {
        "machine": machine(), "versions": comparison.versions, "left_out": left_out, "rows": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--only", default="", help="a group, or part of what is printed of a case")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of timing for each case")
    parser.add_argument("--quick", action="store_true", help="few cases and rounds: a smoke run")
    parser.add_argument("--output", type=Path, default=Path("peers.json"))
    options = parser.parse_args()
    if not chosen(options.only, options.quick):
        parser.error(f"--only: no case has {options.only!r} in its name")
    seconds = 0.0 if options.quick else options.seconds
    results = run(options.threads, options.only, seconds, options.quick)
    options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
