"""What this machine allows: multiply-adds and activations, bandwidth of caches, the shortest step.

    python bench/limits.py --output limits.json

All rates come from the engine's own loops: the tile on weights that stay in the first cache, and
the steps of an identity RNN over one row, whose weights pass once a step, at sizes that fit each
cache. What an activation takes is the difference between an RNN with it and an identity RNN over
many rows, whose multiply-adds leave no room beside them. The shortest step is that of a layer with
16 hidden units, which mostly waits for the step before: a chain of multiply-adds, then the gates.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from workloads import CHARACTERS, Case, Data, Workload, make_layer

import rnncore
from rnncore import engine
from rnncore.engine.workspace import aligned_empty

LEVELS = ("L1", "L2", "L3", "memory")
STEPS = ("lstm", "gru", "rnn_tanh")
#: How many of each a hidden unit takes a step.
ACTIVATIONS = {
    "lstm": {"sigmoid": 3, "tanh": 2},
    "gru": {"sigmoid": 2, "tanh": 1},
    "rnn_tanh": {"tanh": 1},
}
FEW_UNITS = 16
PASSES = 5
DEFAULT_SIZES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}


def cache_sizes() -> dict[str, int]:
    """Return bytes of each cache; usual sizes where the system does not tell."""
    sizes = dict(DEFAULT_SIZES)
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "type").read_text().strip() != "Instruction":
            number, unit = re.fullmatch(
                r"(\d+)([KM])", (index / "size").read_text().strip()
            ).groups()
            level = "L" + (index / "level").read_text().strip()
            sizes[level] = int(number) << {"K": 10, "M": 20}[unit]
    return sizes


def fastest(run: Callable[[], object], seconds: float) -> float:
    """Return the least seconds of one call."""
    run()
    best, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def product_seconds(
    rows: int, depth: int, columns: int, threads: int, seconds: float, precision: str = "float32"
) -> float:
    """Time x W^T + b on packed weights."""
    kernels, dtype = engine.kernels(np.float32), np.dtype(np.float32)
    linear = kernels.Linear(depth, columns, precision)
    buffer = aligned_empty(linear.packed_bytes // dtype.itemsize, dtype)
    W = np.ones((columns, depth), dtype)
    weights = kernels.LinearWeights(linear, buffer, W, None, threads)
    x, y = np.ones(rows * depth, dtype), aligned_empty(rows * linear.row_size, dtype)
    arguments = (weights, y, x, 0, depth, 1, 0, rows, threads)
    return fastest(lambda: kernels.linear_forward(*arguments), seconds)


def multiply_add_rate(
    cache: int, threads: int, seconds: float, precision: str = "float32"
) -> float:
    """Return FLOP/s of the tile, the weights of a panel filling half of the first cache.

    Lower precision rounds rows once for several panels: the best of four and sixteen counts.
    """
    panel, rows, rates = engine.kernels(np.float32).panel, 480, []
    depth = cache // 2 // (4 * panel) * {"bfloat16": 2, "int8": 4}.get(precision, 1)
    call = product_seconds(1, 1, 1, threads, seconds / 4)
    for panels in (4, 16):
        sizes = rows, depth, panels * panel
        whole = product_seconds(*sizes, threads, seconds / 2, precision)
        rates.append(2.0 * np.prod(sizes) / (whole - call))
    return max(rates)


def step_seconds(H: int, seconds: float, kind: str = "rnn_identity") -> float:
    """Time one step of one row; an RNN reads 4 H^2 bytes of weights."""
    steps = 4 * int(np.clip(2e6 / H**2, 4, 2000))
    layer = make_layer(Case(kind, steps, 1, 1, H, dtype="float32"))
    x = np.zeros((steps, 1, 1), np.float32)
    return fastest(lambda: layer(x), seconds) / steps


def unit_seconds(nonlinearity: str, seconds: float) -> float:
    """Time a hidden unit of one row and step, over many rows."""
    T, B, H = 16, 96, 128
    layer = make_layer(Case(f"rnn_{nonlinearity}", T, B, 1, H, dtype="float32"))
    x = np.zeros((T, B, 1), np.float32)
    return fastest(lambda: layer(x), seconds) / (T * B * H)


def bandwidth(low: float, high: float, threads: int, seconds: float) -> float:
    """Return bytes/s of weights in steps, the best of sizes from low to high bytes.

    What a step costs beside its weights is taken off: the time of a step with one hidden unit.
    """
    rnncore.set_num_threads(threads)
    beside = step_seconds(1, seconds / 4)
    sizes = {max(64, round((size / 4) ** 0.5 / 64) * 64) for size in (low, (low + high) / 2, high)}
    return max(4 * H * H / (step_seconds(H, seconds / len(sizes)) - beside) for H in sizes)


def measure(threads: list[int], seconds: float = 0.2) -> dict[str, Any]:
    """Measure all limits for each thread count, the best of some passes: a clock is not steady."""
    sizes = cache_sizes()
    passes = [measure_once(sizes, threads, seconds) for _ in range(PASSES)]
    rates = {
        count: {name: max(found["rates"][count][name] for found in passes) for name in some}
        for count, some in passes[0]["rates"].items()
    }
    shortest = {kind: min(found["shortest"][kind] for found in passes) for kind in STEPS}
    chain = (shortest["rnn_tanh"] - min(found["one"] for found in passes)) / (FEW_UNITS - 1)
    call = min(found["call"] for found in passes)
    units = {f: min(found["units"][f] for found in passes) for f in passes[0]["units"]}
    activations = {f: units[f] - units["identity"] for f in ("sigmoid", "tanh")}
    return {
        "sizes": sizes, "call": call, "rates": rates, "shortest": shortest, "chain": chain,
        "activations": activations,
    }  # fmt: skip


def measure_once(sizes: dict[str, int], threads: list[int], seconds: float) -> dict[str, Any]:
    """Return what one pass finds."""
    L3 = min(4 * sizes["L2"], sizes["L3"] / 4), min(8 * sizes["L2"], sizes["L3"] / 2)
    stream = rnncore.RNN(1, 1, seed=0).stream()
    x = np.zeros(1, np.float32)
    call = fastest(lambda: [stream.step(x) for _ in range(100)], seconds / 4) / 100
    own = {
        "L1": bandwidth(sizes["L1"] / 2, sizes["L1"] * 0.8, 1, seconds),
        "L2": bandwidth(sizes["L2"] / 4, sizes["L2"] * 0.6, 1, seconds),
    }
    rates = {}
    for count in {1, *threads}:
        rates[str(count)] = {
            "arithmetic": multiply_add_rate(sizes["L1"], count, seconds),
            **{level: rate * count for level, rate in own.items()},  # each core has its own
            "L3": bandwidth(*L3, count, seconds),
            "memory": bandwidth(2 * sizes["L3"], 2 * sizes["L3"], count, seconds),
        }
    shortest = {kind: step_seconds(FEW_UNITS, seconds / 4, kind) for kind in STEPS}
    one = step_seconds(1, seconds / 4, "rnn_tanh")
    rnncore.set_num_threads(1)
    units = {f: unit_seconds(f, seconds / 2) for f in ("identity", "sigmoid", "tanh")}
    return {"call": call, "rates": rates, "shortest": shortest, "one": one, "units": units}


class Part(NamedTuple):
    """What a part of a case has to do."""

    flops: float
    read: float = 0  # bytes of weights
    kept: float = 0  # bytes that must stay in a cache for that
    steps: int = 0  # that wait for one another
    units: float = 0  # hidden units of all rows and steps, which take activations


def parts(workload: Workload) -> Iterator[Part]:
    """Yield the parts of a case."""
    c, training = workload.case, workload.job in ("training", "text")
    if workload.job == "product":
        yield Part(2 * c.B * c.I * c.H)
        return
    rows, steps = c.T * c.B, c.T
    if c.ragged:
        lengths = Data(workload).lengths
        rows, steps = int(lengths.sum()), int(lengths.max())
    width, directions = c.I, c.directions
    for layer in range(c.layers):
        W_hx, W_hh = (4 * directions * c.gates * c.H * n for n in (width, c.H))
        tokens = workload.job == "text" and layer == 0
        if workload.job == "step":
            yield Part((W_hx + W_hh) / 2, W_hx + W_hh, W_hx + W_hh, units=c.H)
            return
        recurrence = Part(rows * W_hh / 2, steps * W_hh, W_hh / directions)
        projection = 0 if tokens else rows * W_hx / 2
        yield recurrence._replace(steps=steps * directions, units=rows * directions * c.H)
        yield Part(projection)
        if training:
            yield recurrence  # dh
            yield Part(rows * W_hh / 2)  # dW_hh
            yield Part(2 * projection)  # dx, dW_hx
        width = directions * c.H
    if workload.job == "text":
        yield Part(3 * 2 * rows * c.H * CHARACTERS)


def limit(workload: Workload, limits: dict[str, Any], threads: int) -> tuple[float, str]:
    """Return the least seconds that the limits allow, and the limit that takes most of them."""
    total: dict[str, float] = {}
    if workload.job == "step":  # runs on the thread that calls it
        threads, total["call"] = 1, limits["call"]
    rates, sizes, c = limits["rates"][str(threads)], limits["sizes"], workload.case
    side_by_side = min(threads, c.layers * c.directions)  # chains, at most
    activations = sum(
        count * limits["activations"][f] for f, count in ACTIVATIONS.get(c.kind, {}).items()
    )
    for flops, read, kept, steps, units in parts(workload):
        share = kept / threads
        fits = [level for level in LEVELS[:2] if share <= sizes[level]]
        fits += ["L3"] if kept <= sizes["L3"] else ["memory"]
        arithmetic = flops / rates["arithmetic"] + units * activations / threads
        seconds = {"arithmetic": arithmetic, fits[0]: read / rates[fits[0]]}
        if steps:
            step = limits["shortest"][c.kind] + (c.H - FEW_UNITS) * limits["chain"]
            seconds["latency"] = steps * step / side_by_side
        binding = max(seconds, key=lambda name: seconds[name])
        total[binding] = total.get(binding, 0.0) + seconds[binding]
    return sum(total.values()), max(total, key=lambda name: total[name])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--output", type=Path, default=Path("limits.json"))
    options = parser.parse_args()
    limits = measure(options.threads, 0.02 if options.quick else 0.2)
    options.output.write_text(json.dumps(limits, indent=1))
    for count, rates in limits["rates"].items():
        caches = ", ".join(f"{level} {rates[level] / 1e9:.0f} GB/s" for level in LEVELS)
        print(f"threads {count}: {rates['arithmetic'] / 1e9:.0f} GFLOP/s; {caches}")
    print(f"a call from Python: {limits['call'] * 1e9:.0f} ns")
    found = (f"{f} {seconds * 1e9:.3f} ns" for f, seconds in limits["activations"].items())
    print(f"an activation: {', '.join(found)}")
    shortest = ", ".join(f"{kind} {limits['shortest'][kind] * 1e9:.0f} ns" for kind in STEPS)
    more = f"a hidden unit more: {limits['chain'] * 1e9:.2f} ns"
    print(f"a step of {FEW_UNITS} hidden units: {shortest}; {more}")


if __name__ == "__main__":
    main()
