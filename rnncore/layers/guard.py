"""Locks of a tree of modules, for several threads that train and run it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Seconds that a fork waits for threads that are changing weights.
FORK_WAITS = 1.0


class Guard:
    """What the modules of one tree share.

    A thread may enter again what it is in, as a signal handler does that calls a layer. Who needs
    both locks takes `gradients` first; who needs those of two trees takes them by `holding`.

    Attributes
    ----------
    weights
        Held while weights change, and while they are packed: nobody reads them half changed.
    gradients
        Held while a backward pass adds to gradients, and while weights change: no two add at once,
        and the weights of a pass stay what they are until its gradients are whole.
    writer
        The thread that is changing weights, or 0.
    """

    __slots__ = ("__weakref__", "gradients", "weights", "writer")

    weights: Any
    gradients: Any

    def __init__(self) -> None:
        self.renew()
        self.writer = 0
        _guards[id(self)] = self

    def renew(self) -> None:
        """Begin with new locks."""
        self.weights, self.gradients = threading.RLock(), threading.RLock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold both locks while weights change."""
        with self.gradients, self.weights:
            before, self.writer = self.writer, threading.get_ident()
            try:
                yield
            finally:
                self.writer = before

    def written_here(self) -> bool:
        """Whether this thread is changing the weights."""
        return self.writer != 0 and self.writer == threading.get_ident()


@contextmanager
def holding(first: Any, second: Any) -> Iterator[None]:
    """Hold two locks, which others may ask for in the other order.

    Nobody waits for one while it holds the other.
    """
    while True:
        first.acquire()
        if second.acquire(blocking=False):
            break
        first.release()
        first, second = second, first
    try:
        yield
    finally:
        second.release()
        first.release()


class _HalfChanged:
    # In a child of fork: the lock of weights that another thread was changing.

    def acquire(self, blocking: bool = True) -> bool:
        raise RuntimeError(
            "this process was forked while another thread was changing the weights of this module, "
            "which are half old and half new here; make it anew, or fork before the other thread "
            "trains"
        )

    __enter__ = acquire

    def __exit__(self, *_: Any) -> None:
        pass


_guards: weakref.WeakValueDictionary[int, Guard] = weakref.WeakValueDictionary()
_held: list[tuple[Guard, Any]] = []


def _all_guards() -> list[Guard]:
    # In one go, because other threads make modules meanwhile.
    return [guard for found in _guards.valuerefs() if (guard := found()) is not None]


def _before_fork() -> None:
    # A child shall find no weights half changed.
    ends = time.monotonic() + FORK_WAITS
    for guard in _all_guards():
        lock = guard.weights
        if lock.acquire(timeout=max(0.0, ends - time.monotonic())):
            _held.append((guard, lock))


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()[1].release()


def _after_fork_in_child() -> None:
    # Locks that nobody holds, whatever other threads were doing.
    whole = {guard for guard, _ in _held}
    _held.clear()
    for guard in _all_guards():
        half = guard.writer not in (0, threading.get_ident()) and guard not in whole
        guard.renew()
        guard.writer = 0 if guard.writer != threading.get_ident() else guard.writer
        if half:
            guard.weights = _HalfChanged()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
