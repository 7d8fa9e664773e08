"""The compiled engine: which build runs.

`src_cython/` is built once for each instruction set (baseline, x86-64-v3, x86-64-v4) and dtype.
The fastest build that this processor runs is taken at the first use; the environment variable
`RNNCORE_ISA` forces another one.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import DTypeLike

from rnncore.engine.builds import BUILDS
from rnncore.engine.processor import builds as runnable_builds
from rnncore.engine.threads import remember

if TYPE_CHECKING:
    from rnncore.engine.compiled import Kernels

BITS = {np.dtype(np.float32): 32, np.dtype(np.float64): 64}


def _path(build: str, bits: int) -> Path | None:
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"kernels_{build}_f{bits}{suffix}")
        if path.exists():
            return path
    return None


def installed_builds() -> list[str]:
    """Names of the builds that are installed, the fastest first."""
    return [b.name for b in BUILDS if _path(b.name, 32) and _path(b.name, 64)]


@cache
def chosen_build() -> tuple[str, str]:
    """Name the build in use and the reason for it.

    Raises
    ------
    ValueError
        If `RNNCORE_ISA` names no installed build, or one that this processor cannot run.
    """
    usable = [build for build in runnable_builds() if build in installed_builds()]
    forced = os.environ.get("RNNCORE_ISA")
    if forced:
        if forced not in usable:
            raise ValueError(
                f"RNNCORE_ISA: expected one of {', '.join(usable)} (installed, and this processor "
                f"runs them), got {forced!r}; set it to one of these or unset it"
            )
        return forced, "forced by RNNCORE_ISA"
    if not usable:
        raise ImportError(
            "rnncore: no compiled build for this processor is installed; install the package again"
        )
    return usable[0], "the fastest installed build that this processor runs"


@cache
def load_kernels(build: str, dtype: DTypeLike) -> Kernels:
    """Load the compiled module of one build; `kernels` is the one to use."""
    path = _path(build, BITS[np.dtype(dtype)])
    if path is None:
        raise ImportError(f"rnncore: the build {build!r} is not installed")
    loader = ExtensionFileLoader("rnncore.engine.kernels", str(path))
    spec = spec_from_file_location("rnncore.engine.kernels", path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    remember(cast("Kernels", module))
    return cast("Kernels", module)


def kernels(dtype: DTypeLike) -> Kernels:
    """Return the compiled module for a dtype, in the build chosen for this processor."""
    return load_kernels(chosen_build()[0], np.dtype(dtype))
