"""Compiling an export and holding it against the model it was made from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SECONDS = 300  # that a compiler may take over large weights


def compiler() -> str:
    """Return the C compiler: `CC` of the environment, or the first one found."""
    named = os.environ.get("CC", "").split()
    for name in [*named[:1], "cc", "gcc", "clang"]:
        found = shutil.which(name)
        if found is not None:
            return found
    raise ValueError(
        "check: expected a C compiler, CC of the environment or cc, gcc or clang, got none; "
        "install one, or leave the check out and compile the file where there is one"
    )


def check(path: Path, name: str) -> float:
    """Compile the self-test of an export, run it, and return the largest difference it found.

    Raises
    ------
    ValueError
        If there is no compiler, or it refuses the file.
    ArithmeticError
        If the program differs from the model by more than it may.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "self_test")
        command = [
            compiler(), "-std=c99", "-O1", f"-D{name.upper()}_SELF_TEST", "-o", str(program),
            str(path),
        ]  # fmt: skip
        _run(command, "the compiler")
        done = _run([str(program)], "the self-test", expected=(0, 1))
    found = re.search(r"largest difference (\S+)", done.stdout)
    if found is None or done.returncode:
        raise ArithmeticError(
            f"check: expected {str(path)!r} to give what the model gives, got: "
            f"{done.stdout.strip()}; please report this model"
        )
    return float(found[1])


def _run(
    command: list[str], who: str, expected: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"check: expected {who} to run, got {error}") from None
    if done.returncode not in expected:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(
            f"check: expected {who} to succeed, got {' '.join(said[:3]) or done.returncode}; the "
            f"command was {' '.join(command)}"
        )
    return done
