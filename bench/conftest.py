"""Threads of both sides of a benchmark."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

import rnncore

BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    """Return a function that sets the threads of the engine and of NumPy's BLAS."""
    before, restore = rnncore.get_num_threads(), None

    def use(count: int) -> None:
        nonlocal restore
        rnncore.set_num_threads(count)
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:  # then BLAS has what it started with
            settings = [os.environ[name] for name in BLAS_VARIABLES if name in os.environ]
            if (settings or [str(os.cpu_count())])[0] != str(count):
                pytest.skip(f"install threadpoolctl, or set {BLAS_VARIABLES[0]}={count}")
        else:
            restore = threadpool_limits(count, user_api="blas")

    yield use
    rnncore.set_num_threads(before)
    if restore is not None:
        restore.restore_original_limits()
