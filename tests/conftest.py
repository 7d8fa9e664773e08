"""What all tests share: where the data is, how hypothesis searches, builds of the engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import rnncore
from rnncore import engine
from rnncore.engine import processor, threads, workspace

# The same examples in every run: a failure is never a matter of luck.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

#: The builds that are installed and that this processor runs.
BUILDS = [build for build in engine.installed_builds() if build in processor.builds()]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of RNNCORE_DATA, or the one beside the repository."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RNNCORE_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}; set RNNCORE_DATA to the folder that holds it")
    return folder


@pytest.fixture
def use_build(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that has layers made from now on use another build."""

    def use(build: str) -> None:
        monkeypatch.setattr(engine, "chosen_build", lambda: (build, "asked for by a test"))

    return use


@pytest.fixture
def nan_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill every new buffer with NaN: whoever reads what nobody wrote is found out."""
    empty = workspace.aligned_empty

    def filled(size: int, dtype: np.dtype) -> np.ndarray:
        array = empty(size, dtype)
        array.fill(np.nan)
        return array

    for name, module in list(sys.modules.items()):
        if name.startswith("rnncore.") and hasattr(module, "aligned_empty"):
            monkeypatch.setattr(module, "aligned_empty", filled)


@pytest.fixture(autouse=True, scope="session")
def share_always() -> Iterator[None]:
    """Have as many threads run as a test asks for, whatever else the processors have to do."""
    threads.share_always(True)
    yield
    threads.share_always(False)


@pytest.fixture(name="threads")
def set_threads() -> Iterator[Callable[[int], None]]:
    """Return `set_num_threads`; the number from before comes back after the test."""
    before = rnncore.get_num_threads()
    yield rnncore.set_num_threads
    rnncore.set_num_threads(before)
