"""The memory of outputs: used again once nobody has it, and never before."""

from __future__ import annotations

import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rnncore import LSTM, Linear
from rnncore.engine.processor import address
from rnncore.engine.workspace import RECYCLED, _waiting, new_array

T, B, H = 40, 16, 64  # outputs of 160 KB


def numbers(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((T, B, H), np.float32)


@pytest.fixture(autouse=True)
def nothing_waits() -> None:
    gc.collect()
    _waiting.clear()


def test_memory_is_used_again_once_no_view_has_it() -> None:
    first = new_array((256, 256), np.dtype(np.float32))
    place, row = address(first), first[0]
    assert first.nbytes in RECYCLED and place % 64 == 0
    del first
    second = new_array((256, 256), np.dtype(np.float32))
    assert address(second) != place  # the row has it
    del row
    third = new_array((250, 200), np.dtype(np.float32))
    assert address(third) == place and third.flags.writeable and third.flags.c_contiguous
    del third
    assert address(new_array((100, 10, 50), np.dtype(np.float64))) != place  # too small


@pytest.mark.parametrize("size", [RECYCLED.start - 64, RECYCLED.stop])
def test_small_and_large_arrays_do_not_wait(size: int) -> None:
    array = new_array((size // 4,), np.dtype(np.float32))
    del array
    assert not _waiting


def test_outputs_that_somebody_holds_stay() -> None:
    layer, head = LSTM(H, H, seed=0), Linear(H, H, seed=1)
    right, held = [], []
    for seed in range(12):
        x = numbers(seed)
        y, _ = layer.forward(x)
        dx, _ = layer.backward(y)
        out = head(y)
        right.append([y.copy(), dx.copy(), out[3].copy()])
        held.append([y, memoryview(dx), out[3]])
    for kept, copies in zip(held, right, strict=True):
        for one, copied in zip(kept, copies, strict=True):
            np.testing.assert_array_equal(np.asarray(one), copied)
    del kept, one, held
    assert len(_waiting) == 8  # of 36 at most


def test_threads_get_memory_of_their_own() -> None:
    layer = LSTM(H, H, seed=0)
    expected = [layer(numbers(seed))[0].copy() for seed in range(4)]

    def run(seed: int) -> bool:
        x = numbers(seed)
        return all((layer(x)[0] == expected[seed]).all() for _ in range(40))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(4)))


def test_copies_and_release() -> None:
    layer = LSTM(H, H, seed=0)
    y = layer(numbers())[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y)), y)
    del y
    assert _waiting
    layer.release_memory()
    assert not _waiting
