"""The engine beside the best NumPy form of the same mathematics."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from sides import NumPy, Rnncore
from workloads import WORKLOADS, Data, Workload, assert_same


@lru_cache(maxsize=1)  # the benchmarks of a case come one after another
def checked(workload: Workload) -> Data:
    """Make the data of a case, after both sides have computed the same from it."""
    data = Data(workload)
    ours, numpys = (getattr(side(1), workload.job)(data).results() for side in (Rnncore, NumPy))
    assert_same(numpys, ours, str(workload))
    return data


@pytest.mark.parametrize("side", [Rnncore, NumPy], ids=lambda side: side.name)
@pytest.mark.parametrize("threads", [1, 2], ids=lambda count: f"{count}-threads")
@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_speed(
    benchmark: Any, workload: Workload, threads: int, side: Any, use_threads: Callable[[int], None]
) -> None:
    data = checked(workload)
    if side is NumPy:
        use_threads(threads)
    benchmark.group = str(workload)
    benchmark.name = f"{side.name}, {threads} thread{'s' * (threads > 1)}"
    benchmark(getattr(side(threads), workload.job)(data).run)
