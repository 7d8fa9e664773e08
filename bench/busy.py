"""Threads on a machine that is not theirs alone: `python bench/busy.py [--write] [--only WORD]`.

    python -m pip install torch onnxruntime onnx
    python bench/busy.py --write

Every side has a process of its own; they take turns, case by case and round after round, while
other processes keep processors busy, or a peer's threads spin in the same process, or more threads
are asked for than there are processors. What stands in the tables are medians over the rounds of
the mean and the 99th percentile of a call, as ratios of one round. `--write` puts them into
docs/performance.md. About five minutes on two processors that have nothing else to do; a peer that
is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from remote import Remote, RemoteError
from sides import OnnxRuntime, PyTorch, Rnncore
from workloads import Case, Data, Workload, assert_same

import rnncore

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARKS = ("<!-- busy -->", "<!-- /busy -->")
SIDES = {side.name: side for side in (Rnncore, PyTorch, OnnxRuntime)}
PEERS = ("ONNX Runtime", "PyTorch")
SECONDS, FEWEST = 0.12, 1  # of calls, and how many at least, for each timing
STEPS = 100
CASES = [
    Workload("training" if training else "sequence", Case(kind, STEPS, B, H, H, dtype="float32"))
    for training in (False, True)
    for kind in ("lstm", "gru")
    for B in (1, 32)
    for H in (128, 256, 512)
]
FEW = [w for w in CASES if w.case.H in (128, 256) and w.case.kind == "lstm" and w.job != "training"]


class Calls(NamedTuple):
    """Times of calls, in seconds."""

    mean: float
    p99: float
    median: float


class Caller:
    """One side, in its process: calls its cases again and again, perhaps in turn with a peer."""

    def __init__(
        self, name: str, threads: int, spinning: str | None = None, processor: int | None = None
    ) -> None:
        if processor is not None:
            os.sched_setaffinity(0, [processor])
        gc.disable()
        self.side: Any = SIDES[name](threads)
        self.peer: Any = SIDES[spinning](2) if spinning else None
        self.cases: dict[str, tuple[Any, ...]] = {}

    def prepare(self, workload: Workload) -> dict[str, np.ndarray] | None:
        """Set a case up and return what it computes; None where the side cannot do it."""
        make = getattr(self.side, workload.job, None)
        if make is None:
            return None
        data = Data(workload)
        side = make(data)
        peer = getattr(self.peer, workload.job)(data) if self.peer else None
        self.cases[str(workload)] = data, side, peer
        with side.context():
            return {name: np.asarray(array) for name, array in side.results().items()}

    def calls(
        self, workload: Workload, seconds: float = SECONDS, pause: float = 0.0
    ) -> Calls:
        """Time calls of a case, in turn with the peer's if there is one."""
        _, side, peer = self.cases[str(workload)]
        times: list[float] = []
        with ExitStack() as contexts:
            for one in (side, peer):
                if one is not None:
                    contexts.enter_context(one.context())
            ends = time.perf_counter() + seconds
            while len(times) < FEWEST or time.perf_counter() < ends:
                if peer is not None:
                    peer.run()
                if pause:
                    time.sleep(pause)
                began = time.perf_counter()
                side.run()
                times.append(time.perf_counter() - began)
        return Calls(float(np.mean(times)), float(np.percentile(times, 99)), median(times))

    def recovers(self, workload: Workload) -> float:
        """Return after how many seconds three calls in a row have got all threads again."""
        _, side, _ = self.cases[str(workload)]
        began, starts = time.perf_counter(), []
        while time.perf_counter() - began < 5:
            before, start = rnncore.count_stalls().spared, time.perf_counter()
            side.run()
            starts = [*starts, start] if rnncore.count_stalls().spared == before else []
            if len(starts) == 3:
                return float(starts[0] - began)
        return float("inf")

    def idles(self, workload: Workload, seconds: float) -> float:
        """Call once a second and return the processor's time between the calls, of a second."""
        _, side, _ = self.cases[str(workload)]
        used = 0.0
        for _ in range(int(seconds)):
            side.run()
            time.sleep(0.01)  # for threads to fall asleep
            before = time.process_time()
            time.sleep(0.99)
            used += time.process_time() - before
        return used / seconds


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processors busy with other processes."""
    script = "while True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(count)]
    try:
        time.sleep(0.2 if count else 0.0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def ratio(rounds: list[tuple[Calls, Calls]], what: str) -> float:
    """Return the median over rounds of the first side's time in terms of the second's."""
    return median(getattr(one, what) / getattr(other, what) for one, other in rounds)


class Bench:
    """The sides, and what is measured of them."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.missing = rounds, []
        self.one = Remote(1, Caller, "rnncore", 1)
        self.two = Remote(2, Caller, "rnncore", 2)
        self.peers: dict[str, Remote] = {}
        self.able: dict[tuple[Remote, str], bool] = {}
        self.expected: dict[str, dict[str, np.ndarray]] = {}
        for name in PEERS:
            try:
                self.peers[name] = Remote(2, Caller, name, 2)
            except RemoteError as error:
                self.missing.append(f"{name} ({error})")

    def prepare(self, sides: list[Remote], workload: Workload) -> list[Remote]:
        """Set a case up on all sides that can do it, with equal results."""
        able = []
        for side in sides:
            key = side, str(workload)
            if key not in self.able:
                results = side.call("prepare", workload)
                self.able[key] = results is not None
                if results is not None:
                    expected = self.expected.setdefault(str(workload), results)
                    assert_same(results, expected, str(side.arguments))
            able += [side] * self.able[key]
        return able

    def beside(self, cases: list[Workload], others: int, peers: bool) -> Iterator[list[str]]:
        """Yield a line a case: two threads in terms of one, and the peers in terms of these."""
        for workload in cases:
            given = list(self.peers.values()) if peers else []
            sides = self.prepare([self.one, self.two, *given], workload)
            found: dict[int, list[Calls]] = {id(side): [] for side in sides}
            seconds = SECONDS if others < 2 else 3 * SECONDS  # where calls differ the most
            with busy(others):
                for _ in range(self.rounds):
                    for side in sides:
                        side.call("calls", workload, 0.02)  # as the others left the processors
                        found[id(side)].append(side.call("calls", workload, seconds))
            one, two = found[id(self.one)], found[id(self.two)]
            pairs = list(zip(two, one, strict=True))
            line = [workload.job, workload.name, milliseconds(median(c.mean for c in two)),
                    f"{ratio(pairs, 'mean'):.2f}", f"{ratio(pairs, 'p99'):.2f}"]  # fmt: skip
            for side in given:
                calls = found.get(id(side))
                line.append(
                    f"{ratio(list(zip(calls, two, strict=True)), 'mean'):.2f}" if calls else ""
                )
            yield line

    def pairs(
        self, workload: Workload, one: Remote, two: Remote, **options: Any
    ) -> list[tuple[Calls, Calls]]:
        self.prepare([one, two], workload)
        for side in (one, two):
            side.call("calls", workload, 0.05)
        return [
            tuple(side.call("calls", workload, SECONDS, *options.values()) for side in (one, two))  # type: ignore[misc]
            for _ in range(self.rounds)
        ]

    def situations(self, cases: list[Workload]) -> Iterator[list[str]]:
        """Yield a line for each of the other situations: what, the limit, what was found."""
        for name in self.peers:
            alone, team = (Remote(2, Caller, "rnncore", n, name) for n in (1, 2))
            worst = {str(w): ratio(self.pairs(w, team, alone), "mean") for w in cases}
            yield [f"in turn with {name} in the same process: mean, of 1 thread's", "1.10",
                   shown(worst)]  # fmt: skip
            alone.close(), team.close()
        for threads in (4, 8, 64):
            many = Remote(2, Caller, "rnncore", threads)
            worst = {}
            for w in cases:
                best = min(
                    (self.one, self.two),
                    key=lambda side, w=w: self.median_of(side, w),  # type: ignore[misc]
                )
                worst[str(w)] = ratio(self.pairs(w, many, best), "mean")
            yield [f"{threads} threads asked for: mean, of the best number's", "1.10", shown(worst)]
            many.close()
        single, pinned = (
            Remote(n, Caller, "rnncore", n, None, min(os.sched_getaffinity(0))) for n in (1, 2)
        )
        worst = {str(w): ratio(self.pairs(w, pinned, single), "mean") for w in cases}
        yield ["2 asked for on one processor: mean, of 1 thread's there", "1.10", shown(worst)]
        single.close(), pinned.close()
        yield ["two processes of 2 threads at once: mean, of that alone", "2.20",
               shown({str(w): self.side_by_side(w) for w in cases})]  # fmt: skip
        for side, what in ((self.two, "2 threads"), (self.one, "1 thread")):
            after = {}
            for w in cases:
                steady, paused = self.median_of(side, w), []
                for _ in range(self.rounds):
                    paused.append(side.call("calls", w, SECONDS * 2, 0.005).median)
                after[str(w)] = median(paused) / steady
            limit = "1.50" if side is self.two else "no thread to wake"
            yield [f"a call every 5 ms, {what}: of a steady call", limit, shown(after)]
        slowest = 0.0
        for _ in range(self.rounds):
            with busy(2):
                self.two.call("calls", cases[-1], 0.3)
            slowest = max(slowest, self.two.call("recovers", cases[-1]))
        yield ["full speed after two busy processes have ended", "100 ms", milliseconds(slowest)]
        used = self.two.call("idles", cases[-1], 3.0)
        yield ["processor time between calls, one a second", "none", f"{100 * used:.2f} %"]

    def median_of(self, side: Remote, workload: Workload) -> float:
        self.prepare([side], workload)
        return median(side.call("calls", workload).median for _ in range(self.rounds))

    def side_by_side(self, workload: Workload) -> float:
        """Return the mean of a call while another process does the same, in terms of that alone."""
        other, ratios = Remote(2, Caller, "rnncore", 2), []
        self.prepare([self.two, other], workload)
        for _ in range(self.rounds):
            alone = self.two.call("calls", workload)
            with ThreadPoolExecutor(2) as pool:
                both = [
                    pool.submit(side.call, "calls", workload, SECONDS * 3)
                    for side in (self.two, other)
                ]
                ratios.append(max(calls.result().mean for calls in both) / alone.mean)
        other.close()
        return median(ratios)


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def shown(found: dict[str, float]) -> str:
    """Return the range of some ratios, and where the largest is."""
    worst = max(found, key=lambda name: found[name])
    return f"{min(found.values()):.2f} to {found[worst]:.2f} ({worst.split(': ')[1]})"


def table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def printed(lines: Iterator[list[str]]) -> list[list[str]]:
    """Collect lines, and show each as it comes."""
    found = []
    for line in lines:
        print("  ".join(line), flush=True)
        found.append(line)
    return found


def put_between(text: str, marks: tuple[str, str], section: str) -> str:
    """Return the text with the section between its marks, which are added where they miss."""
    whole = f"{marks[0]}\n\n{section}\n\n{marks[1]}"
    pattern = re.escape(marks[0]) + ".*?" + re.escape(marks[1])
    if re.search(pattern, text, re.DOTALL):
        return re.sub(pattern, lambda _: whole, text, flags=re.DOTALL)
    return f"{text.rstrip()}\n\n{whole}\n"


def carried_over(before: str, text: str) -> str:
    """Return a text with the section that another one has between the marks."""
    begin, end = map(re.escape, MARKS)
    found = re.search(f"{begin}\n\n(.*?)\n\n{end}", before, re.DOTALL)
    return put_between(text, MARKS, found[1]) if found else text


def processor() -> str:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} processors"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose name has this")
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    options = parser.parse_args()
    began, bench = time.perf_counter(), Bench(options.rounds)
    cases = [workload for workload in CASES if options.only in f"{workload.job} {workload}"]
    few = [workload for workload in FEW if workload in cases] or cases[:1]
    sections: list[str] = []
    head = ["job", "case", "2 threads", "mean, of 1 thread's", "p99, of 1 thread's"]
    peers = [f"{name}'s mean, of ours" for name in bench.peers]
    situations: list[tuple[str, int, bool]] = [
        ("A quiet machine", 0, False), ("One busy process beside", 1, True),
        ("Two busy processes beside", 2, False),
    ]  # fmt: skip
    for title, others, asks in situations:
        print(f"\n{title}")
        lines = printed(bench.beside(cases, others, asks))
        sections.append(f"### {title}\n\n" + table(head + (peers if asks else []), lines))
    print()
    rest = table(["situation", "at most", "found"], printed(bench.situations(few)))
    minutes = (time.perf_counter() - began) / 60
    print(f"\n{minutes:.1f} minutes; {processor()}; not here: {bench.missing or 'nobody'}")
    if options.write:
        text = PAGE.read_text()
        PAGE.write_text(put_between(text, MARKS, page(sections, rest, minutes, bench)))


def page(sections: list[str], rest: str, minutes: float, bench: Bench) -> str:
    versions = ", ".join(["rnncore " + rnncore.__version__, *bench.peers])
    intro = f"""## Beside other work

{date.today()}: {processor()}, the engine's `{rnncore.engine.chosen_build()[0]}` build; {versions}.
Written by `bench/busy.py` in {minutes:.1f} minutes. Layers of {STEPS} steps, (T, B, I, H). Every
side has a process of its own; the busy processes compute without end. Medians of {bench.rounds}
rounds, in which the sides take turns. Above 1 in a peer's column rnncore is the faster one."""
    return "\n\n".join([intro, *sections, "### Other situations\n\n" + rest])


if __name__ == "__main__":
    main()
