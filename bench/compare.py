"""Compare the speed of two trees: `python bench/compare.py OLD NEW [--quick] [--only WORD]`.

Each tree is a process of its own; they take turns, old new new old, case by case, over the
benchmark cases of tests/cases.py, streams, linear layers, optimizers, character models and calls so
small that only Python's part is left. Both must compute the same numbers first. What stands in the
table is the ratio of medians old / new: above 1 the new tree is faster. A case below 0.97 is
measured again with more rounds before it counts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

TESTS = str(Path(__file__).parents[1] / "tests")
LEAST = 0.97


def cases() -> dict[str, list[Any]]:
    """Return by name which function of this file sets a case up, and its arguments."""
    sys.path.insert(0, TESTS)
    from cases import BENCHMARKS, CHARACTER_MODELS

    found: dict[str, list[Any]] = {}
    for benchmark in BENCHMARKS:
        found[str(benchmark)] = ["layer_call", asdict(benchmark.case), benchmark.training]
    for kind in ("LSTM", "GRU"):
        for H in (32, 40, 64):
            found[f"stream-{kind}-{H}"] = ["stream_step", kind, H]
        for what in ("call", "forward", "training"):
            found[f"overhead-{kind}-{what}"] = ["tiny", kind, what]
    products = ((1, 16, 3), (1, 128, 64), (64, 16, 3), (64, 128, 64), (2048, 256, 512))
    for sizes in products:
        name = "linear-{}x{}-{}".format(*sizes)
        found[name] = ["linear", *sizes]
        found[name + "-training"] = ["linear", *sizes, True]
    found["adam-1M"] = ["adam"]
    for model in CHARACTER_MODELS[:3]:
        found["characters-" + "x".join(map(str, model))] = ["characters", *model]
    return found


def layer_call(case: dict[str, Any], training: bool) -> Callable[[], Any]:
    import rnncore

    kind = {"lstm": rnncore.LSTM, "gru": rnncore.GRU}.get(case["kind"], rnncore.RNN)
    layer = kind(
        case["I"], case["H"], num_layers=case["layers"], bidirectional=case["bidirectional"], seed=0
    )
    rng, T, B = np.random.default_rng(0), case["T"], case["B"]
    x = rng.standard_normal((T, B, case["I"])).astype(np.float32)
    lengths = rng.integers(1, T + 1, B) if case["ragged"] else None
    if not training:
        return lambda: layer(x, lengths=lengths)
    dy = rng.standard_normal((T, B, layer.output_size)).astype(np.float32)

    def step() -> Any:
        y, _ = layer.forward(x, lengths=lengths)
        dx, _ = layer.backward(dy, accumulate=False)
        return y, dx, layer.flat_grads

    return step


def stream_step(kind: str, H: int) -> Callable[[], Any]:
    import rnncore

    stream = getattr(rnncore, kind)(H, H, seed=0).stream()
    x, out = np.ones(H, np.float32), np.empty(H, np.float32)
    stream.reset()

    def step() -> Any:
        return stream.step(x, out)

    return step


def tiny(kind: str, what: str) -> Callable[[], Any]:
    import rnncore

    layer, x = getattr(rnncore, kind)(8, 8, seed=0), np.ones((1, 1, 8), np.float32)
    if what == "call":
        return lambda: layer(x)
    if what == "forward":
        return lambda: layer.forward(x)

    def step() -> Any:
        layer.forward(x)
        return layer.backward(x, accumulate=False)

    return step


def linear(rows: int, inputs: int, outputs: int, training: bool = False) -> Callable[[], Any]:
    import rnncore

    layer = rnncore.Linear(inputs, outputs, seed=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, inputs)).astype(np.float32)
    dy = rng.standard_normal((rows, outputs)).astype(np.float32)
    if not training:
        return lambda: layer(x)

    def step() -> Any:
        y = layer.forward(x)
        return y, layer.backward(dy, accumulate=False)

    return step


def adam() -> Callable[[], Any]:
    import rnncore

    layer = rnncore.Linear(1000, 1000, seed=0)
    layer.flat_grads[...] = 1e-3
    optimizer = rnncore.Adam(layer)

    def step() -> Any:
        optimizer.step()
        return layer.flat_params[:5]

    return step


def characters(layers: int, H: int, B: int, T: int) -> Callable[[], Any]:
    import rnncore
    from rnncore import models
    from rnncore.data import Vocabulary

    # Trees before it was renamed have it by its first name.
    network = models.LanguageNetwork if hasattr(models, "LanguageNetwork") else models.LanguageModel
    text = "".join(map(chr, range(32, 127)))
    model = network(Vocabulary(text), hidden_size=H, num_layers=layers, seed=0)
    tokens = np.random.default_rng(0).integers(0, len(text), (T + 1, B))
    optimizer = rnncore.Adam(model, lr=1e-4)

    def step() -> Any:
        loss, _ = model.forward(tokens[:-1], tokens[1:])
        model.backward(accumulate=False)
        optimizer.step()
        return np.float64(loss)

    return step


def arrays(value: Any) -> list[np.ndarray]:
    """Return all arrays in a nest of tuples and lists."""
    if isinstance(value, tuple | list):
        return [array for part in value for array in arrays(part)]
    return [] if value is None else [np.ascontiguousarray(value)]


def work() -> None:
    """Answer one line after another: set up a case and digest its results, or time it."""
    import rnncore

    step = None
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            rnncore.set_num_threads(request["threads"])
            function, *arguments = request["case"]
            step = globals()[function](*arguments)
            found = hashlib.blake2b(digest_size=8)
            for array in arrays(step()):
                found.update(array.tobytes())
            for _ in range(3):
                step()
            begin = time.perf_counter()
            step()
            seconds = time.perf_counter() - begin
            print(json.dumps({"digest": found.hexdigest(), "seconds": seconds}), flush=True)
            continue
        assert step is not None
        begin = time.perf_counter()
        for _ in range(request["calls"]):
            step()
        print((time.perf_counter() - begin) / request["calls"], flush=True)


class Worker:
    """A process over one tree."""

    def __init__(self, tree: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.path.abspath(tree)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work"], env=environment, text=True, cwd=tree,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def ratio(
    old: Worker, new: Worker, case: list[Any], threads: int, rounds: int
) -> tuple[float, float]:
    """Return median old / median new of a case, and the spread of the rounds."""
    first, second = (side.ask(case=case, threads=threads) for side in (old, new))
    if first["digest"] != second["digest"]:
        sys.exit(f"{case}: the two trees compute different numbers")
    calls = max(1, math.ceil(0.03 / max(first["seconds"], 1e-7)))
    times: tuple[list[float], list[float]] = [], []
    for turn in range(rounds):
        for side in ((0, 1), (1, 0))[turn % 2]:
            times[side].append((old, new)[side].ask(calls=calls))
    spread = max((max(side) - min(side)) / median(side) for side in times)
    return median(times[0]) / median(times[1]), spread


def main() -> None:
    """Compare two trees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", nargs="?")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", default="", help="cases whose names have this in them")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--quick", action="store_true", help="four rounds")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return
    rounds = 4 if options.quick else options.rounds
    old, new = Worker(options.old), Worker(options.new)
    found: dict[str, float] = {}
    for threads in map(int, options.threads.split(",")):
        for name, case in cases().items():
            if options.only not in name:
                continue
            speed, spread = ratio(old, new, case, threads, rounds)
            if speed < LEAST:
                speed, spread = ratio(old, new, case, threads, 3 * rounds)
            found[f"{name} on {threads}"] = speed
            print(f"{speed:6.3f}  (spread {spread:.2f})  {name} on {threads}", flush=True)
    mean = math.exp(sum(map(math.log, found.values())) / len(found))
    slow = {name: speed for name, speed in found.items() if speed < LEAST}
    print(f"geometric mean {mean:.3f} of {len(found)} cases; below {LEAST}: {slow or 'none'}")
    sys.exit(1 if slow or mean < 0.995 else 0)


if __name__ == "__main__":
    main()
