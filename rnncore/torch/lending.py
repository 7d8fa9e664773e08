"""PyTorch's threads, on which the engine runs a module's passes.

Between its operators PyTorch's threads spin for some milliseconds, and threads of the engine's own
would wait for the processors on which they do. Where PyTorch runs on OpenMP, its library is asked
to run the engine's regions on these threads instead (libgomp, "The libgomp ABI": GOMP_parallel).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from rnncore.engine.compiled import Kernels

NAMES = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "omp_get_max_threads")


@cache
def addresses() -> tuple[int, ...] | None:
    """Return where the functions of PyTorch's OpenMP are; None: it has none that are known."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        found = ctypes.CDLL(str(library))  # is loaded already, and knows what it is linked to
        functions = [ctypes.cast(getattr(found, name), ctypes.c_void_p) for name in NAMES]
    except (OSError, AttributeError):
        return None
    return tuple(function.value or 0 for function in functions)


@contextmanager
def torch_threads(kernels: Kernels) -> Iterator[None]:
    """Have the engine's passes in this thread run on PyTorch's threads, as many as it may use.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.engine import kernels
    >>> with torch_threads(kernels(np.float32)):
    ...     pass
    """
    found = addresses()
    if found is not None:
        kernels.borrow(*found)
    try:
        yield
    finally:
        kernels.borrow(0, 0, 0, 0)
