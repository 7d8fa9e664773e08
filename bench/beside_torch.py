"""What the benchmarks of models beside PyTorch share: equal steps first, ratios, and a page."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from busy import processor, put_between
from workloads import Array, assert_same

import rnncore

MARKS = ("<!-- peers -->", "<!-- /peers -->")
AFTER = "after the step: "  # what the names of weights begin with


def assert_same_step(expected: dict[str, Array], results: dict[str, Array]) -> None:
    """Fail unless PyTorch's losses and gradients are ours, and so are the weights after a step."""
    assert expected.keys() == results.keys(), sorted(results)
    before = {name for name in expected if not name.startswith(AFTER)}
    assert_same(*({n: a for n, a in some.items() if n in before} for some in (results, expected)),
                "PyTorch")  # fmt: skip
    for name in expected.keys() - before:
        difference = np.abs(results[name] - expected[name])
        # Adam's first step is lr g / (|g| + 1e-8): where g is hardly more than rounding it
        # differs by shares of lr.
        assert np.quantile(difference, 0.999) <= 1e-6, name


def rate(values: Any) -> str:
    """Return the median of what was done a second, and its quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def ratio(ours: list[float], theirs: list[float], aim: float) -> str:
    """Return the median of the ratios of the rounds, its quartiles, and whether it misses."""
    low, middle, high = np.percentile(np.array(ours) / np.array(theirs), (25, 50, 75))
    missed = ", missed" * bool(middle < aim)
    return f"{middle:.2f}x ({low:.2f} to {high:.2f}), aim {aim:g}x{missed}"


def run(
    description: str,
    needed: Path,
    page: Path,
    measure: Callable[[list[int], int], Iterable[list[str]]],
    section: Callable[[list[list[str]], int], str],
) -> None:
    """Measure as the command line says, print the lines, and put a section into the page."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options = parser.parse_args()
    if not needed.exists():
        parser.error(f"no {needed}; set RNNCORE_DATA to the folder of the data")
    start, lines, load = time.perf_counter(), [], os.getloadavg()[0]
    for line in measure(options.threads, options.rounds):
        print("  ".join(line), flush=True)
        lines.append(line)
    minutes = (time.perf_counter() - start) / 60
    print(f"{minutes:.1f} minutes; {processor()}")
    if options.write:
        build, _ = rnncore.engine.chosen_build()
        versions = f"rnncore {rnncore.__version__}, PyTorch {metadata.version('torch')}"
        head = f"""## Beside PyTorch

{date.today()}: {processor()}, the engine's `{build}` build; {versions}. Measured in
{minutes:.1f} minutes, beside {load:.1f} others that wanted a processor (the load before it).

"""
        text = head + section(lines, options.rounds)
        page.write_text(put_between(page.read_text(), MARKS, text))
