"""Buffers that grow and are used again, so that a kernel never waits for the allocator."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from math import prod
from typing import Any

import numpy as np

from rnncore.engine.processor import address

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def aligned_empty(size: int, dtype: np.dtype) -> np.ndarray:
    """Return a flat uninitialised array that begins on a cache line."""
    itemsize = dtype.itemsize
    spare = ALIGNMENT // itemsize
    array = np.empty(size + spare, dtype)
    first = -(address(array) // itemsize) % spare
    return array[first : first + size]


#: Bytes of arrays whose memory is used again. Smaller ones the allocator keeps at hand, and for
#: larger ones NumPy asks for large pages; those between may come from the system page by page each
#: time, which takes as long as a tenth of a training step.
RECYCLED = range(1 << 17, 1 << 22)
_waiting: deque[np.ndarray] = deque(maxlen=8)


class _Memory:
    """What an array stands in; when no array or view does any more, it waits for the next one."""

    def __init__(self, block: np.ndarray) -> None:
        self.__array_interface__ = block.__array_interface__
        self._block, self._waiting = block, _waiting  # which may end before this does

    def __del__(self) -> None:
        if hasattr(self, "_waiting"):  # not so where making it was interrupted
            self._waiting.append(self._block)  # atomic; of too many the oldest one goes


def new_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised array for the caller, which begins on a cache line."""
    size = prod(shape)
    needed = size * dtype.itemsize
    if needed not in RECYCLED:
        return aligned_empty(size, dtype).reshape(shape)
    for _ in range(len(_waiting)):
        try:
            block = _waiting.pop()  # the last one is in the caches; atomic, as threads may ask
        except IndexError:
            continue
        if needed <= block.nbytes <= 2 * needed:
            break
        _waiting.appendleft(block)
    else:
        block = aligned_empty(size, dtype)
    return np.asarray(_Memory(block)).view(np.uint8)[:needed].view(dtype).reshape(shape)


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return the same, begun anywhere if it is small: NumPy makes these four times as fast."""
    small = prod(shape) * dtype.itemsize < RECYCLED.start
    return np.empty(shape, dtype) if small else new_array(shape, dtype)


class Workspace:
    """Named buffers; asking for a larger one replaces the smaller.

    Examples
    --------
    >>> import numpy as np
    >>> workspace = Workspace(np.dtype(np.float32))
    >>> workspace.array("h", (3, 4)).shape
    (3, 4)
    """

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self._buffers: dict[Hashable, np.ndarray] = {}
        #: What was set up over the buffers; forgotten when one of them is replaced.
        self.prepared: dict[Hashable, Any] = {}

    def array(self, name: Hashable, shape: tuple[int, ...]) -> np.ndarray:
        """Return the buffer of this name with the given shape; what it holds is undefined."""
        size = prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            self.prepared.clear()
            self._buffers.pop(name, None)
            del buffer  # first: unless a pass still needs it, the two are never held together
            buffer = self._buffers[name] = aligned_empty(size, self.dtype)
        return buffer[:size].reshape(shape)


class Lease:
    """A workspace for as long as somebody holds the lease: a pass, rows, or who keeps them.

    Then it goes back to its pool, and the next pass finds it there.
    """

    __slots__ = ("_pool", "workspace")

    def __init__(self, pool: list[Workspace], workspace: Workspace) -> None:
        self._pool, self.workspace = pool, workspace

    def __del__(self) -> None:
        if hasattr(self, "workspace"):  # not so where making it was interrupted
            self._pool.append(self.workspace)


class Pool:
    """Workspaces that are used again, one a pass at a time.

    Examples
    --------
    >>> import numpy as np
    >>> pool = Pool(np.dtype(np.float32))
    >>> first, second = pool.lease(), pool.lease()
    >>> first.workspace is second.workspace
    False
    >>> workspace = second.workspace
    >>> del second
    >>> pool.lease().workspace is workspace
    True
    """

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self._idle: list[Workspace] = []

    def lease(self) -> Lease:
        """Lend a workspace, the one that was given back last or a new one."""
        try:
            workspace = self._idle.pop()  # atomic: several threads may ask
        except IndexError:
            workspace = Workspace(self.dtype)
        return Lease(self._idle, workspace)

    def release(self) -> None:
        """Let go of what nobody holds, old arrays included: the system gets their memory back."""
        self._idle.clear()
        _waiting.clear()
