"""Gradient checkpointing through time: keep states at the borders, run each segment again.

Chen, Xu, Zhang and Guestrin, Training deep nets with sublinear memory cost (2016), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore.layers.batch import Batch
from rnncore.layers.stack import Direction, States, bytes_kept


@dataclass
class Segments:
    """A sequence cut into segments of `length` steps, the last one shorter.

    Attributes
    ----------
    states
        The state each segment begins with.
    noise
        The state of the dropout generator each segment begins with.
    """

    steps: int
    batch: int
    length: int
    states: list[States] = field(default_factory=list)
    noise: list[Any] = field(default_factory=list)

    @classmethod
    def plan(
        cls,
        layers: list[list[Direction]],
        steps: int,
        batch: int,
        memory: int,
        tokens: bool,
        dtype: np.dtype,
    ) -> Segments:
        """Choose the longest segments that fit into `memory` bytes.

        Segments are whole chunks of the backward pass, so that the gradients of weights are
        summed in the order of the full pass.

        Raises
        ------
        ValueError
            If the layers are bidirectional, or no segment length fits.
        """
        if len(layers[0]) == 2:
            raise ValueError(
                "memory: a bidirectional layer needs the whole sequence at once; leave memory out, "
                "or use layers of one direction"
            )
        chunk = max(1, layers[0][0].kernels.chunk_rows // max(1, batch))
        state = batch * sum(d.state_size * (1 + d.has_c) for layer in layers for d in layer)
        fixed = bytes_kept(layers, 0, batch, tokens)
        per_chunk = bytes_kept(layers, chunk, batch, tokens) - fixed
        best, least = 0, 0
        chunks = -(-steps // chunk)
        for count in range(1, chunks + 1):
            borders = -(-chunks // count) * state * dtype.itemsize
            needed = fixed + count * per_chunk + borders
            least = min(least, needed) if least else needed
            if needed <= memory:
                best = count
        if not best and chunks:
            raise ValueError(
                f"memory: expected at least {least} bytes for {steps} steps of {batch} sequences, "
                f"got {memory}; give more, or fewer sequences at a time"
            )
        return cls(steps, batch, max(1, best) * chunk)

    def batches(self, lengths: np.ndarray | None) -> Iterator[tuple[int, int, Batch]]:
        """Yield where each segment begins and ends, and its batch."""
        for begin in range(0, self.steps, self.length):
            end = min(begin + self.length, self.steps)
            inside = None if lengths is None else np.clip(lengths - begin, 0, end - begin)
            yield begin, end, Batch(end - begin, self.batch, inside)
