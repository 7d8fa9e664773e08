"""The builds of the engine: one source, compiled once for each instruction set.

The one table of them: setup.py compiles by it, `processor` asks the processor by it, and the engine
and the tests take names and sizes from it. It imports nothing of the package, so that setup.py can
read it before anything is compiled.
"""

from __future__ import annotations

from typing import NamedTuple


class Build(NamedTuple):
    """One instruction set.

    Attributes
    ----------
    name
        As in RNNCORE_ISA and RNNCORE_BUILDS.
    machines
        What `platform.machine()` says where it can be compiled; empty: everywhere.
    vector_bytes
        16, 32 or 64.
    flags
        Of the compiler.
    features
        What the processor has to have, as `__builtin_cpu_supports` calls it.
    """

    name: str
    machines: tuple[str, ...]
    vector_bytes: int
    flags: tuple[str, ...]
    features: tuple[str, ...]


_X86 = ("x86_64", "amd64")
_V3 = ("avx2", "fma", "bmi", "bmi2")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

#: The fastest first.
BUILDS = (
    Build("v4", _X86, 64, ("-march=x86-64-v4", "-mprefer-vector-width=512"), _V4),
    Build("v3", _X86, 32, ("-march=x86-64-v3",), _V3),
    Build("baseline", (), 16, (), ()),
)


def possible(machine: str) -> list[Build]:
    """Return the builds that can be compiled for a machine."""
    return [build for build in BUILDS if not build.machines or machine.lower() in build.machines]
