"""The team of threads without Python: fixtures/team.c, under several forms and sanitizers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER = shlex.split(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="needs a C compiler")
FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function",
         "-pthread", "-DREAL_BITS=32", "-DVECTOR_BYTES=16", f"-I{ROOT / 'src_cython'}"]  # fmt: skip
PORTABLE = "-DRNNCORE_PORTABLE_THREADS"

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that builds the program with further flags, once each."""
    folder, built = tmp_path_factory.mktemp("team"), dict[tuple[str, ...], Path]()

    def with_flags(*flags: str, compiler: list[str] = COMPILER) -> Path:
        key = (*compiler, *flags)
        if key not in built:
            target = folder / f"team{len(built)}"
            source = str(ROOT / "tests/fixtures/team.c")
            subprocess.run(
                [*compiler, *FLAGS, *flags, source, "-o", str(target)], check=True, timeout=60
            )
            built[key] = target
        return built[key]

    return with_flags


def holds(program: Path, check: str, *before: str) -> None:
    command = [*before, str(program), check]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{check}: {done.returncode}\n{done.stderr[-3000:]}"


CHECKS = ["wraps", "pauses", "callers", "forks", "signals"]


@pytest.mark.parametrize("check", CHECKS)
def test_the_team_keeps_its_word(check: str, build: Build) -> None:
    holds(build(), check)


@pytest.mark.parametrize("check", [*CHECKS, "recovers"])
def test_the_portable_form_does_too(check: str, build: Build) -> None:
    holds(build(PORTABLE), check)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
@pytest.mark.parametrize("flags", [(), (PORTABLE,)], ids=["futex", "portable"])
def test_threads_that_cannot_be_had(flags: tuple[str, ...], build: Build) -> None:
    holds(build(*flags), "no_threads")


@pytest.mark.skipif(sys.platform != "linux", reason="setarch is Linux's")
@pytest.mark.parametrize("flags", [(), (PORTABLE,)], ids=["futex", "portable"])
def test_the_thread_sanitizer_finds_nothing(flags: tuple[str, ...], build: Build) -> None:
    try:
        program = build("-fsanitize=thread", *flags)
    except subprocess.CalledProcessError:
        pytest.skip("this compiler has no thread sanitizer")
    fixed = ["setarch", "-R"]  # addresses that the sanitizer's map has a place for
    if shutil.which("setarch") is None or subprocess.run([*fixed, "true"]).returncode:
        pytest.skip("addresses cannot be fixed here")
    for check in ("wraps", "pauses", "callers"):
        holds(program, check, *fixed)


def test_it_compiles_for_arm(build: Build) -> None:
    compiler = "aarch64-linux-gnu-gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    for flags in ((), (PORTABLE,)):
        program = build("-static", *flags, compiler=[compiler])
        if shutil.which("qemu-aarch64"):
            holds(program, "wraps", "qemu-aarch64")
