"""Backward passes of recurrent layers, as somebody sees them who looks on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.direction import Direction
from rnncore.engine.rows import Rows

if TYPE_CHECKING:
    from rnncore.layers.recurrent import Recurrent

Arrays = list[dict[str, np.ndarray]]  # of each direction of each layer, by name


class Seen(NamedTuple):
    """What one backward pass of a recurrent layer went through.

    Attributes
    ----------
    layer
    lengths
        (B,) The steps of each sequence.
    states, gradients
        Of each direction of each layer, in the order of the state, arrays (T, B, H) by name: states
        and gates as `Recurrent.record` returns them, and what `Recurrent.backward` records.
    """

    layer: Recurrent
    lengths: np.ndarray
    states: Arrays
    gradients: Arrays


class Watcher:
    """Who looks on, and what was seen so far, the last layer of a network first."""

    def __init__(self, last_alone: bool) -> None:
        self.last_alone = last_alone
        self.seen: list[Seen] = []


class _Active(threading.local):
    watcher: Watcher | None = None


_active = _Active()


def watching() -> Watcher | None:
    """Return who looks on on this thread, or None."""
    return _active.watcher


@contextmanager
def watch_backward(last_alone: bool = False) -> Iterator[list[Seen]]:
    """Look on while backward passes of recurrent layers run on this thread, by a tape or without.

    Parameters
    ----------
    last_alone
        Whether of dL/dy of each layer only that of the last step of each sequence counts, of a
        reverse direction that of the first step: so one sees how far back a loss reaches, also
        where there is one at every step. Gradients of parameters are of that as well.

    Yields
    ------
    seen
        A list that grows, in the order of the backward passes.

    Examples
    --------
    >>> import rnncore
    >>> layer = rnncore.GRU(3, 5, seed=0)
    >>> y, h = layer.forward(np.ones((7, 2, 3)))
    >>> with watch_backward() as seen:
    ...     dx, dh = layer.backward(y)
    >>> sorted(seen[0].states[0]), seen[0].gradients[0]["h"].shape
    (['h', 'n', 'r', 'z'], (7, 2, 5))
    """
    before, _active.watcher = _active.watcher, Watcher(last_alone)
    try:
        yield _active.watcher.seen
    finally:
        _active.watcher = before


def last_alone(
    dy: np.ndarray | Rows, batch: Batch, directions: Sequence[Direction]
) -> np.ndarray:
    """Return dy (T, B, features), zero but for the last step of each direction."""
    whole = dy.unpack() if isinstance(dy, Rows) else dy
    running = np.flatnonzero(batch.lengths)
    out = np.zeros_like(whole)
    size = whole.shape[2] // len(directions)
    for d, direction in enumerate(directions):
        step = np.zeros_like(running) if direction.reverse else batch.lengths[running] - 1
        columns = slice(d * size, (d + 1) * size)
        out[step, running, columns] = whole[step, running, columns]
    return out
