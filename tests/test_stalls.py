"""Threads beside other work: how many run, what decides it, how the engine gets out of the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import python

import rnncore
from rnncore.engine import threads

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
needs_two = pytest.mark.skipif(threads.processors() < 2, reason="needs two processors")

BUSY = [sys.executable, "-c", "while True: pass"]


@needs_linux
@needs_two
def test_beside_busy_processes_it_runs_alone_and_comes_back() -> None:
    script = """
import time, numpy as np, rnncore
from rnncore.engine import kernels
rnncore.set_num_threads(2)
layer, x = rnncore.LSTM(256, 256, seed=0), np.ones((100, 1, 256), np.float32)
expected = layer(x)[0]
def call(seconds, until):
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends and not until():
        assert np.array_equal(layer(x)[0], expected)
    return until()
state = kernels(np.float32).team_state
print("ready", flush=True); input()
print(call(10, lambda: state()[2] == 1), rnncore.count_stalls().stalls > 0)
spared = rnncore.count_stalls().spared
call(1, lambda: False)
print(rnncore.count_stalls().spared - spared > 10, flush=True)
assert "1 of 2 (set_num_threads) for the moment" in layer.explain(100, 1) or state()[2] == 0
input()
print(call(10, lambda: state()[2] == 0), "threads    2 (set" in layer.explain(100, 1))
"""
    engine = subprocess.Popen(
        [sys.executable, "-c", script], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert engine.stdin is not None and engine.stdout is not None
    busy: list[subprocess.Popen[bytes]] = []
    try:
        assert engine.stdout.readline() == "ready\n"
        busy += [subprocess.Popen(BUSY) for _ in range(2 * threads.processors())]
        engine.stdin.write("\n")
        engine.stdin.flush()
        assert engine.stdout.readline() == "True True\n"
        assert engine.stdout.readline() == "True\n"
        while busy:
            busy[-1].kill()
            busy.pop().wait()
        engine.stdin.write("\n")
        engine.stdin.flush()
        assert engine.stdout.readline() == "True True\n"
        assert engine.wait(10) == 0
    finally:
        for process in [engine, *busy]:
            process.kill()
            process.wait()


@needs_linux
def test_between_calls_nobody_spins() -> None:
    script = """
import time, numpy as np, rnncore
rnncore.set_num_threads(2)
layer, x = rnncore.LSTM(256, 256), np.ones((50, 8, 256), np.float32)
used = 0
for _ in range(5):
    layer(x)
    time.sleep(0.01)
    before = time.process_time()
    time.sleep(0.1)
    used += time.process_time() - before
print(used)
"""
    assert float(python(script)) < 0.02


def test_no_more_threads_than_processors() -> None:
    script = """
import numpy as np, rnncore
from rnncore.engine import threads
rnncore.set_num_threads(64)
layer, x = rnncore.GRU(64, 64, seed=0), np.ones((20, 300, 64), np.float32)
print(threads.team_size(), rnncore.get_num_threads())
print(layer.explain(20, 300))  # before a call, which may find a processor busy
rnncore.show_config()
layer(x)
"""
    lines = python(script).splitlines()
    most = min(64, threads.processors())
    assert lines[0] == f"{most} 64"
    said = [line for line in lines if line.startswith("threads ")]
    assert len(said) == 2
    for line in said:
        assert f"{most} of 64 (set_num_threads), as there are no more processors" in line
    assert any(f"{most} threads share the sequences" in line for line in lines) or most == 1


def groups(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, (1.5, "cpu.max")),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"},
         (0.5, "cpu.max")),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "400000 100000\n"},
         (3.0, "cpu.max")),
        ("0::/not/seen/in/here\n", {"cpu.max": "200000 50000\n"}, (4.0, "cpu.max")),
        ("4:cpu,cpuacct:/box\n1:name=systemd:/x\n0::/\n",
         {"cpu/box/cpu.cfs_quota_us": "250000\n", "cpu/box/cpu.cfs_period_us": "100000\n"},
         (2.5, "cpu.cfs_quota_us")),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_the_quota_of_a_container(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: tuple[float, str] | None
) -> None:
    assert threads.quota(cgroup, groups(tmp_path, files)) == expected


@pytest.mark.parametrize(("granted", "most"), [(0.5, 1), (1.9, 1), (2.0, 2), (3.5, 3), (64.0, 4)])
def test_the_default_is_the_whole_processors_of_the_quota(
    monkeypatch: pytest.MonkeyPatch, granted: float, most: int
) -> None:
    monkeypatch.delenv("RNNCORE_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "processors", lambda: 4)
    monkeypatch.setattr(threads, "quota", lambda: (granted, "cpu.max"))
    number, reason = threads._default()
    assert number == most
    expected = f"quota of {granted:g} processors (cpu.max)" if most < 4 else "the 4 processors"
    assert expected in reason


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@needs_linux
def test_a_child_of_fork_counts_again() -> None:
    script = """
import os, rnncore
before = rnncore.get_num_threads()
child = os.fork()
if child == 0:
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    os._exit(rnncore.get_num_threads())
print(before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {"RNNCORE_NUM_THREADS": ""}
    assert python(script, **environment) == f"{threads.processors()} 1\n"


def test_a_number_set_by_another_thread_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threads.processors() + 1

    def processors() -> int:  # the moment at which the other thread comes
        rnncore.set_num_threads(1)
        return found

    before = rnncore.get_num_threads()
    monkeypatch.setattr(threads, "processors", processors)
    monkeypatch.setattr(threads, "_always", False)
    try:
        rnncore.set_num_threads(2)
        assert threads.team_size() in (1, 2)
        assert rnncore.get_num_threads() == threads.team_size() == 1
    finally:
        monkeypatch.undo()
        rnncore.set_num_threads(before)


def test_stalls_are_counted_over_all_modules() -> None:
    for dtype in (np.float32, np.float64):
        rnncore.engine.kernels(dtype)
    found = rnncore.count_stalls()
    assert found.stalls >= 0 and found.spared >= 0 and isinstance(found, tuple)


@needs_linux
@needs_two
def test_a_worker_that_has_slept_is_there_soon() -> None:
    # The call that wakes it is not held up by the sleep of a sleeper.
    rnncore_threads, layer = rnncore.get_num_threads(), rnncore.LSTM(128, 128, seed=0)
    x = np.ones((100, 16, 128), np.float32)
    rnncore.set_num_threads(2)
    try:
        times = []
        for _ in range(40):
            time.sleep(0.005)
            began = time.perf_counter()
            layer(x)
            times.append(time.perf_counter() - began)
        steady = []
        for _ in range(40):
            began = time.perf_counter()
            layer(x)
            steady.append(time.perf_counter() - began)
    finally:
        rnncore.set_num_threads(rnncore_threads)
    assert float(np.median(times)) < float(np.median(steady)) + 2e-3
