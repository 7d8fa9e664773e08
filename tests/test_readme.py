"""Every code block of the README runs, and of the page of cells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
SHELL = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


def run(command: list[str], folder: Path) -> str:
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_block_is_of_a_kind_that_runs() -> None:
    assert {kind for kind, _ in BLOCKS} <= {"python", "sh", "text"}
    assert len(PYTHON) > 3 and len(SHELL) > 3


def test_commands_and_python_run_in_the_order_of_the_page(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("*.pyc"))
    for line in SHELL:
        if line.startswith(("rnncore ", "printf ")) and "demo" not in line:
            said = run(["bash", "-c", line], tmp_path)
            assert said.strip() or line.startswith("printf ")
    (tmp_path / "page.py").write_text("\n".join(PYTHON))
    out = run([sys.executable, "page.py"], tmp_path)
    assert "(100, 8, 128) (4, 8, 64) (256, 64)" in out
    error = float(re.search(r"mean squared error (\S+)", out)[1])
    assert error < 0.05, "the forecaster learned: an untrained one is at 0.5"
    assert "[['PROPN', 'VERB', 'DET', 'NOUN'], ['PROPN', 'AUX', 'PART', 'VERB']]" in out


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
    assert "pip install" in run(["make", "-n", "-B", target], ROOT)


def test_pip_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"\[(.*)\]", next(line for line in SHELL if "pip install" in line))[1]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_every_shell_line_is_covered() -> None:
    known = ("make ", "printf ", "rnncore ", "python3 -m venv", ".venv/bin/")
    assert all(line.startswith(known) for line in SHELL if line)


def test_the_page_of_precision_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs/precision.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "precision.py").write_text(block)
    assert run([sys.executable, "precision.py"], tmp_path).split() == ["True", "int8", "bfloat16"]


def test_the_page_of_cells_runs(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    page = (ROOT / "docs/cells.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) > 6
    (tmp_path / "cells.py").write_text("\n".join(blocks))
    run([sys.executable, "cells.py"], tmp_path)
