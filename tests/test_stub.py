"""The stub of the compiled module names what the module has."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BUILDS

from rnncore import engine

STUB = Path(engine.__file__).with_name("compiled.pyi")
SOURCE = Path(__file__).parents[1] / "src_cython"

#: Names of the parameters, and whether each may be left out.
Parameters = list[tuple[str, bool]]


def names_of(node: ast.ClassDef) -> set[str]:
    found = set()
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            found.add(part.target.id)
        elif isinstance(part, ast.FunctionDef):
            found.add(part.name)
    return found


def classes_of_stub() -> dict[str, ast.ClassDef]:
    tree = ast.parse(STUB.read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def said(function: ast.FunctionDef) -> Parameters:
    """Return the parameters of a function or method of the stub, without self."""
    names = [argument.arg for argument in function.args.args]
    required = len(names) - len(function.args.defaults)
    return [(name, k >= required) for k, name in enumerate(names)][1:]


def had(function: Any, method: bool) -> Parameters:
    """Return those of a compiled one."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.default is not p.empty) for p in parameters][method:]


def written(name: str) -> Parameters:
    """Return those of a class: of the last `__init__` in the source after its name."""
    texts = [path.read_text() for path in SOURCE.glob("*.pxi")]
    [body] = [text.split(f"cdef class {name}")[1] for text in texts
              if re.search(rf"cdef class {name}\b[(:]", text)]  # fmt: skip
    found = re.search(r"def __init__\(self, ([^)]*)\):", body)
    assert found is not None
    parts = re.split(r",\s+", found[1])
    parts = [part.replace(" not None", "") for part in parts]
    return [(part.split("=")[0].split()[-1], "=" in part) for part in parts]


def test_limits_stand_once() -> None:
    assert engine.kernels(np.float32).most_threads == engine.threads.MOST_THREADS


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_stub_has_what_the_module_has(build: str, dtype: type) -> None:
    module = engine.load_kernels(build, np.dtype(dtype))
    classes = {name: names_of(node) for name, node in classes_of_stub().items()}
    public = {name for name in dir(module) if not name.startswith("_")}
    assert classes.pop("Kernels") - {"__file__"} == public
    assert set(classes) <= public
    for name, members in classes.items():
        own = vars(getattr(module, name))
        open_to_all = {member for member in members if not member.startswith("_")}
        assert {member for member in own if not member.startswith("_")} == open_to_all


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_take_what_the_stub_says(dtype: type) -> None:
    module, count = engine.kernels(dtype), 0
    for name, node in classes_of_stub().items():
        owner = module if name == "Kernels" else getattr(module, name)
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                function = getattr(owner, part.name)
                assert said(part) == had(function, name != "Kernels"), (name, part.name)
                count += 1
    assert count > 40


@pytest.mark.skipif(not SOURCE.is_dir(), reason="the source is not here")
def test_classes_are_made_of_what_the_stub_says() -> None:
    count = 0
    for name, node in classes_of_stub().items():
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                assert said(part) == written(name), name
                count += 1
    assert count >= 9
