"""The stub of the compiled module names what the module has."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from conftest import BUILDS

from rnncore import engine

STUB = Path(engine.__file__).with_name("compiled.pyi")


def names_of(node: ast.ClassDef) -> set[str]:
    found = set()
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            found.add(part.target.id)
        elif isinstance(part, ast.FunctionDef):
            found.add(part.name)
    return found


def test_limits_stand_once() -> None:
    assert engine.kernels(np.float32).most_threads == engine.MOST_THREADS


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_stub_has_what_the_module_has(build: str, dtype: type) -> None:
    module = engine.load_kernels(build, np.dtype(dtype))
    classes = {node.name: names_of(node) for node in ast.parse(STUB.read_text()).body
               if isinstance(node, ast.ClassDef)}  # fmt: skip
    public = {name for name in dir(module) if not name.startswith("_")}
    assert classes.pop("Kernels") - {"__file__"} == public
    assert set(classes) <= public
    for name, members in classes.items():
        own = vars(getattr(module, name))
        assert {member for member in own if not member.startswith("_")} == members - {"__init__"}
