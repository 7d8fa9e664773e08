"""The same bits for any number of threads, many Python threads at once, fork, and settings."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, infer, make_given, make_layer, run
from conftest import BUILDS
from processes import python

import rnncore
from rnncore.engine import stack, workspace
from rnncore.layers.recurrent import Recurrent

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# Shapes that take each path. What the engine does with them is asserted below.
ROWS = Case("lstm", 12, 32, 16, 65, ragged=True)
SHAPES = [
    *(replace(ROWS, kind=kind) for kind in ("rnn_tanh", "lstm", "gru", "gru_reset_before")),
    *(Case(kind, 8, 1, 7, 600) for kind in ("rnn_relu", "lstm", "gru", "gru_reset_before")),
    Case("lstm", 20, 1, 7, 300, bidirectional=True),
    Case("gru", 12, 9, 70, 40, 2, bidirectional=True, ragged=True),
    Case("lstm", 100, 1, 9, 40, layers=3),
    Case("gru", 70, 3, 9, 40, layers=2, ragged=True),
    Case("gru", 3, 600, 9, 40),
    Case("lstm", 300, 17, 9, 33, layers=2, bidirectional=True, ragged=True),
    Case("lstm", 40, 20, 12, 24, source="one-hot"),
    Case("gru", 40, 20, 12, 24, source="embedding"),
    Case("rnn_tanh", 1, 1, 1, 1),
    # units are shared though there are rows for all: large weights, sequences that end
    Case("lstm", 5, 17, 9, 768),
    Case("gru", 4, 9, 70, 1024, bidirectional=True, source="one-hot"),
    Case("lstm", 60, 24, 9, 256, ragged=True),
    # outputs that are written past the caches
    Case("lstm", 100, 49, 9, 128, ragged=True),
    Case("gru", 70, 33, 64, 128, bidirectional=True),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_the_same_bits_for_any_number_of_threads(
    case: Case, dtype: str, threads: Callable[[int], None], nan_buffers: None
) -> None:
    case = replace(case, dtype=dtype)
    layer, given = make_layer(case), make_given(case)
    threads(1)
    expected = run(layer, given)
    assert all(np.isfinite(array).all() for array in expected.values())
    for count in (2, 3, 4, 2):
        threads(count)
        for name, array in run(layer, given).items():
            assert np.array_equal(array, expected[name]), f"{name} on {count} threads"
        for name, array in infer(layer, given).items():
            assert np.array_equal(array, expected[name]), f"{name} on {count} threads, inference"


@pytest.mark.parametrize("build", BUILDS)
def test_the_same_bits_on_every_build(
    build: str, threads: Callable[[int], None], use_build: Callable[[str], None]
) -> None:
    use_build(build)
    for case in (ROWS, Case("gru", 6, 1, 7, 600), Case("lstm", 100, 1, 9, 40, layers=2)):
        layer, given = make_layer(case), make_given(case)
        threads(1)
        expected = run(layer, given)
        threads(4)
        results = run(layer, given)
        assert all(np.array_equal(results[name], expected[name]) for name in expected)


def sharing(case: Case, count: int) -> dict[str, int]:
    """Return how the engine shares a layer's work among threads."""
    direction = make_layer(case)._stack.layers[0][0]
    tokens = case.source != "features"
    return direction.layer.plan(case.T, case.B, tokens, count)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_shapes_take_the_paths(dtype: str) -> None:
    def plan(case: Case) -> dict[str, int]:
        return sharing(replace(case, dtype=dtype), 2)

    for case in SHAPES[:4]:
        assert plan(case)["row_threads"] == 2, case
    for case in SHAPES[4:8]:
        assert plan(case)["unit_threads"] == 2, case
    assert all(plan(case)["splits_weights"] for case in SHAPES[-5:-3])
    assert plan(Case("rnn_tanh", 1, 1, 1, 1)) | {"chunk": 0} == {
        "row_threads": 1, "unit_threads": 1, "tiles": 1, "chunk": 0, "splits_weights": False
    }  # fmt: skip


@needs_linux
def test_a_team_is_there() -> None:
    # In a fresh process, because a team once woken stays.
    script = """
import os, numpy as np, rnncore
rnncore.engine.threads.share_always(True)
rnncore.set_num_threads(3)
layer, x = rnncore.LSTM(64, 64), np.ones((50, 24, 64), np.float32)
before = len(os.listdir("/proc/self/task"))
rnncore.set_num_threads(1); layer(x)
alone = len(os.listdir("/proc/self/task")) - before
rnncore.set_num_threads(3); layer(x)
print(alone, len(os.listdir("/proc/self/task")) - before)
"""
    assert python(script).split() == ["0", "2"]


# Many Python threads at once

PARALLEL = [
    Case("lstm", 20, 24, 16, 32, ragged=True, dtype="float32"),
    Case("gru", 30, 1, 8, 300),
    Case("rnn_tanh", 15, 7, 5, 17, 2, True, dtype="float32"),
    Case("lstm", 40, 2, 6, 20, layers=2),
]


def at_once(workers: int, work: Callable[[int], bool]) -> bool:
    """Call work(0), work(1), ... on threads that begin together; return whether all were right."""
    gate = threading.Barrier(workers)

    def begin(number: int) -> bool:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(workers) as pool:
        return all(list(pool.map(begin, range(workers))))


def test_separate_layers_at_once(threads: Callable[[int], None]) -> None:
    threads(2)
    expected = [run(make_layer(case), make_given(case)) for case in PARALLEL]

    def work(number: int) -> bool:
        case = PARALLEL[number % len(PARALLEL)]
        right = expected[number % len(PARALLEL)]
        layer, given = make_layer(case), make_given(case)
        for _ in range(12):
            results = run(layer, given)
            if not all(np.array_equal(results[name], right[name]) for name in right):
                return False
        return True

    assert at_once(8, work)


@pytest.mark.parametrize("case", [*PARALLEL, Case("gru", 30, 20, 9, 16, source="embedding")],
                         ids=str)  # fmt: skip
def test_one_layer_for_inference_at_once(case: Case, threads: Callable[[int], None]) -> None:
    threads(2)
    given = [make_given(case) for _ in range(6)]
    rng = np.random.default_rng(0)
    for g in given:
        g.embedding = given[0].embedding
        g.x = rng.permuted(g.x, axis=0)
    layer = make_layer(case)
    expected = [infer(layer, g) for g in given]

    def work(number: int) -> bool:
        for _ in range(20):
            results = infer(layer, given[number])
            if not all(np.array_equal(results[name], expected[number][name]) for name in results):
                return False
        return True

    assert at_once(6, work)


@pytest.fixture
def hasty_switches() -> object:
    """Have Python change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_first_inference_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights are packed by whoever comes first, and nobody may run on what is packed by half.
    # Allocating takes long here and hands the interpreter to the others.
    case = Case(kind, 2, 2, 6, 20, 2, True)
    given = make_given(case)
    expected = infer(make_layer(case), given)
    delay = iter(np.random.default_rng(0).uniform(0, 0.002, 100_000).tolist())

    def slow_empty(size: int, dtype: np.dtype) -> np.ndarray:
        array = workspace.aligned_empty(size, dtype)
        array.fill(np.nan)
        time.sleep(next(delay))
        return array

    monkeypatch.setattr(stack, "aligned_empty", slow_empty)
    for _ in range(10):
        layer = make_layer(case)

        def work(number: int, layer: Recurrent = layer) -> bool:
            results = infer(layer, given)
            return all(np.array_equal(results[name], expected[name]) for name in results)

        assert at_once(4, work)


def test_inference_with_two_embeddings_at_once(hasty_switches: object) -> None:
    case = Case("lstm", 10, 4, 6, 20, source="embedding")
    layer = make_layer(case)
    given = [make_given(case) for _ in range(2)]
    given[1].embedding = rnncore.Embedding(7, 6, dtype=np.float64, seed=9)
    expected = [infer(layer, g)["y"] for g in given]
    assert not np.array_equal(*expected)

    def work(number: int) -> bool:
        results = (infer(layer, given[number % 2])["y"] for _ in range(100))
        return all(np.array_equal(result, expected[number % 2]) for result in results)

    assert at_once(4, work)


def test_linear_and_loss_at_once(threads: Callable[[int], None]) -> None:
    threads(2)
    linear = rnncore.Linear(40, 50, seed=0)
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((300, 40)), rng.integers(0, 50, 300)
    y = linear(x)
    loss, dlogits = rnncore.softmax_cross_entropy(y, targets)

    def work(number: int) -> bool:
        for _ in range(20):
            logits = linear(x)
            if not np.array_equal(logits, y):
                return False
            again, gradient = rnncore.softmax_cross_entropy(logits, targets)
            if again != loss or not np.array_equal(gradient, dlogits):
                return False
        return True

    assert at_once(6, work)


def test_the_interpreter_runs_on(threads: Callable[[int], None]) -> None:
    # Kernels leave the GIL to others.
    threads(1)
    layer = rnncore.LSTM(256, 256, seed=0)
    x = np.ones((400, 16, 256), np.float32)
    layer(x[:1])
    ticks, going = [], True

    def tick() -> None:
        while going:
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    begin = time.perf_counter()
    layer(x)
    end = time.perf_counter()
    going = False
    ticker.join()
    inside = sum(begin < t < end for t in ticks)
    assert inside >= 5, f"{inside} ticks in {end - begin:.3f} s"


# fork


def in_child(work: Callable[[], bool]) -> None:
    """Fork; fail unless work() is true in the child within a minute."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_fork_works(threads: Callable[[int], None]) -> None:
    threads(3)
    case = Case("lstm", 30, 24, 16, 32, bidirectional=True)
    layer, given = make_layer(case), make_given(case)
    expected = run(layer, given)

    def work() -> bool:
        for own in (layer, make_layer(case)):
            results = run(own, given)
            if not all(np.array_equal(results[name], expected[name]) for name in expected):
                return False
        return True

    in_child(work)
    in_child(lambda: (in_child(work), work())[1])  # and a child of a child
    assert work()  # the parent goes on with its team


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_fork_works_while_the_team_is_busy(threads: Callable[[int], None]) -> None:
    threads(2)
    case = Case("gru", 60, 24, 16, 48)
    given = make_given(case)
    expected = infer(make_layer(case), given)
    going = True

    def keep_busy() -> None:
        layer = make_layer(case)
        while going:
            infer(layer, given)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(5):
            layer = make_layer(case)
            in_child(
                lambda layer=layer: all(
                    np.array_equal(array, expected[name])
                    for name, array in infer(layer, given).items()
                )
            )
    finally:
        going = False
        busy.join()


# Settings


def other_thread_counts() -> dict[str, int]:
    """Ask the OpenMP and BLAS libraries of this process how many threads they will use."""
    functions = ("omp_get_max_threads", "openblas_get_num_threads", "openblas_get_num_threads64_",
                 "scipy_openblas_get_num_threads", "scipy_openblas_get_num_threads64_",
                 "MKL_Get_Max_Threads")  # fmt: skip
    maps = Path("/proc/self/maps").read_text()
    libraries = set(re.findall(r"/\S*(?:omp|blas|mkl)\S*\.so\S*", maps))
    found = {}
    for path in sorted(libraries):
        library = ctypes.CDLL(path)
        for name in functions:
            if hasattr(library, name):
                found[f"{Path(path).name}:{name}"] = getattr(library, name)()
    return found


@needs_linux
def test_other_libraries_keep_their_threads(threads: Callable[[int], None]) -> None:
    environment = dict(os.environ)
    before = other_thread_counts()
    if not before:
        pytest.skip("no OpenMP or BLAS library in this process")
    for count in (1, 3):
        threads(count)
        run(make_layer(ROWS), make_given(ROWS))
        assert other_thread_counts() == before
    assert dict(os.environ) == environment


@needs_linux
def test_the_engine_brings_no_openmp() -> None:
    script = """
import rnncore, numpy as np
rnncore.LSTM(4, 4)(np.ones((2, 2, 4), np.float32))
print([line for line in open("/proc/self/maps") if "gomp" in line or "libomp" in line])
"""
    assert python(script).strip() == "[]"


def test_set_num_threads(threads: Callable[[int], None]) -> None:
    for count in (1, 2, 64, np.int64(3)):
        threads(count)
        assert rnncore.get_num_threads() == count
        layer = rnncore.LSTM(20, 30, seed=0)
        assert np.isfinite(layer(np.ones((30, 16, 20), np.float32))[0]).all()


@pytest.mark.parametrize("wrong", [0, -1, 65, 10**20, 2.5, "2", None, True, "", np.nan])
def test_set_num_threads_refuses(wrong: object) -> None:
    before = rnncore.get_num_threads()
    with pytest.raises((ValueError, TypeError), match="threads") as caught:
        rnncore.set_num_threads(wrong)  # type: ignore[arg-type]
    assert repr(wrong) in str(caught.value)
    assert rnncore.get_num_threads() == before


def test_the_environment_sets_the_threads() -> None:
    script = "import rnncore; print(rnncore.get_num_threads())"
    assert python(script, RNNCORE_NUM_THREADS="3").strip() == "3"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert python(script, RNNCORE_NUM_THREADS="").strip() == str(usable)


@needs_linux
def test_the_default_is_the_processors_of_this_process() -> None:
    script = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import rnncore; "
    script += "print(rnncore.get_num_threads())"
    environment = {k: v for k, v in os.environ.items() if k != "RNNCORE_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert done.stdout.split() == [b"1"], done.stderr


@pytest.mark.parametrize("wrong", ["0", "-2", "many", "1.5", "65", "9" * 20])
def test_a_wrong_number_in_the_environment(wrong: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import rnncore; rnncore.get_num_threads()"], text=True,
        env={**os.environ, "RNNCORE_NUM_THREADS": wrong}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 1
    [last] = done.stderr.strip().splitlines()[-1:]
    assert last.startswith("ValueError: RNNCORE_NUM_THREADS") and repr(wrong) in last


def test_numbers_do_not_depend_on_blas(threads: Callable[[int], None]) -> None:
    # The engine's sums are its own.
    script = """
import numpy as np, rnncore, hashlib
rng = np.random.default_rng(0)
layer = rnncore.LSTM(40, 70, 2, seed=0)
y, _ = layer.forward(rng.standard_normal((30, 20, 40)))
dx, _ = layer.backward(np.ones_like(y))
print(hashlib.sha256(y.tobytes() + dx.tobytes() + layer.flat_grads.tobytes()).hexdigest())
"""
    one = python(script, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", RNNCORE_NUM_THREADS="1")
    two = python(script, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2", RNNCORE_NUM_THREADS="2")
    assert one == two


@pytest.mark.parametrize("kind", [rnncore.LSTM, rnncore.GRU, rnncore.RNN])
def test_threads_without_a_row_leave_that_of_one_sequence_alone(
    threads: Callable[[int], None], kind: Callable[..., Any]
) -> None:
    # Two directions share more threads than there are rows; short steps are not shared by units.
    layer = kind(8, 24, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((3000, 1, 8)).astype(np.float32)
    threads(1)
    y, _ = layer(x)
    for number in (3, 4, 5):
        threads(number)
        np.testing.assert_array_equal(layer(x)[0], y)
        np.testing.assert_array_equal(layer.forward(x)[0], y)
