"""The squares of AMX: the instructions that the engine gives, and the bits that they make."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BUILDS
from processes import python

from rnncore import engine

EMULATOR = Path(__file__).with_name("amx_emulator.c")
#: Layers and a stream in squares, all numbers one after another into a file.
RUN = """
import ctypes, os
import numpy as np
import rnncore
from rnncore import engine
emulator = ctypes.CDLL(os.environ["EMULATOR"])
emulator.amx_begin()
kernels = engine.kernels(np.float32)
kernels.use_products(os.environ["FORM"])
rnncore.set_num_threads(2)
rng, found = np.random.default_rng(0), []
precision = os.environ["PRECISION"]
for name, B in (("LSTM", 37), ("GRU", 5), ("RNN", 1)):
    layer = getattr(rnncore, name)(75, 70, num_layers=2, bidirectional=True, seed=0,
                                   precision=precision)
    x = rng.standard_normal((9, B, 75), np.float32)
    lengths = rng.integers(1, 10, B)
    y, _ = layer.forward(x, lengths=lengths)
    found += [y, layer.backward(np.ones_like(y))[0], *layer.grads.values()]
stream = rnncore.LSTM(40, 130, seed=0, precision=precision).stream()
found += [stream.process(rng.standard_normal((5, 40), np.float32))]
head = rnncore.Linear(600, 33, seed=0, precision=precision)
found += [head(rng.standard_normal((50, 600), np.float32))]
np.save(os.environ["RESULTS"], np.concatenate([one.ravel() for one in found]))
print(ctypes.c_long.in_dll(emulator, "amx_products").value)
"""


def here(feature: str) -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and feature in info.read_text().split()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if sys.platform != "linux" or platform.machine() != "x86_64" or compiler is None:
        pytest.skip("for x86-64 and Linux, with a compiler")
    library = tmp_path_factory.mktemp("amx") / "emulator.so"
    subprocess.run([compiler, "-O2", "-mfma", "-shared", "-fPIC", "-o", library, EMULATOR, "-lm"],
                   check=True)  # fmt: skip
    return library


@pytest.mark.skipif("v4" not in BUILDS or not here("avx512_bf16"), reason="needs avx512_bf16")
@pytest.mark.parametrize("precision", ["bfloat16", "bfloat16x3"])
def test_the_instructions_give_the_bits_of_their_definition(
    emulator: Path, tmp_path: Path, precision: str
) -> None:
    """By the emulator where there is no AMX; where there is, by the processor itself."""
    results, counts = [], []
    for form in ("squares", "amx"):
        file = tmp_path / f"{form}.npy"
        printed = python(
            RUN,
            EMULATOR=str(emulator),
            FORM=form,
            RESULTS=str(file),
            RNNCORE_ISA="v4",
            PRECISION=precision,
        )
        results.append(np.load(file))
        counts.append(int(printed))
    np.testing.assert_array_equal(*results)
    assert np.isfinite(results[0]).all() and results[0].size > 100_000
    if not here("amx_bf16"):
        assert counts[0] == 0 and counts[1] > 1000


def test_a_layer_says_what_multiplies() -> None:
    kernels = engine.kernels(np.float32)
    cell = kernels.cell("lstm")
    kernels.use_products("squares")
    try:
        layer = kernels.Layer(cell, 3, 3, False, "bfloat16")
        assert (layer.product, layer.tile_rows) == ("squares in C", 32)
        assert kernels.products()["bfloat16"] == "squares in C"
        assert kernels.products()["bfloat16x3"] == "three squares in C"
        with pytest.raises(ValueError, match="form: expected best, plain, squares or amx"):
            kernels.use_products("fast")
    finally:
        kernels.use_products("best")
    assert kernels.Layer(cell, 3, 3, False, "float32").tile_rows == 6
