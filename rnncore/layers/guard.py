"""Locks of a tree of modules, for several threads that train and run it."""

from __future__ import annotations

import os
import threading
import weakref


class Guard:
    """What the modules of one tree share.

    A thread may enter again what it is in, as a signal handler does that calls a layer; and a child
    of fork starts with locks that nobody holds, whatever other threads were doing.

    Attributes
    ----------
    weights
        Held while weights change, and while they are packed: nobody reads them half changed.
    gradients
        Held while a backward pass adds to gradients: no two add at once.
    """

    __slots__ = ("__weakref__", "gradients", "weights")

    def __init__(self) -> None:
        self.renew()
        _guards.add(self)

    def renew(self) -> None:
        """Begin with new locks."""
        self.weights, self.gradients = threading.RLock(), threading.RLock()


_guards: weakref.WeakSet[Guard] = weakref.WeakSet()


def _after_fork() -> None:
    for guard in list(_guards):
        guard.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
