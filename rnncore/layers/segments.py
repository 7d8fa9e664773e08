"""Gradient checkpointing through time: keep states at the borders, run each segment again.

Chen, Xu, Zhang and Guestrin, Training deep nets with sublinear memory cost (2016), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from rnncore.arguments import check_size
from rnncore.layers.batch import Batch
from rnncore.layers.stack import Direction, States, bytes_kept


@dataclass
class Segments:
    """A sequence cut into segments of `length` steps, the last one shorter.

    Of each segment it keeps the state that it begins with, and that of the dropout generator.
    """

    steps: int
    sequences: int
    order: np.ndarray | None  # of the sequences, see Batch
    chunk: int  # steps a chunk of the backward pass
    length: int
    _states: list[np.ndarray] = field(default_factory=list)
    _shapes: list[list[tuple[int, ...]]] = field(default_factory=list)
    _noise: list[Any] = field(default_factory=list)

    @classmethod
    def plan(
        cls,
        layers: list[list[Direction]],
        batch: Batch,
        memory: int,
        tokens: bool,
        dtype: np.dtype,
    ) -> Segments:
        """Choose the longest segments that fit into `memory` bytes.

        Segments are whole chunks of the backward pass over the whole batch, so that the
        gradients of weights are summed in the order of the full pass.

        Raises
        ------
        ValueError
            If the layers are bidirectional, or no segment length fits.
        """
        memory = check_size("memory", memory)
        if len(layers[0]) == 2:
            raise ValueError(
                "memory: a bidirectional layer needs the whole sequence at once; leave memory out, "
                "or use layers of one direction"
            )
        steps, sequences = batch.steps, batch.batch
        chunk_rows = layers[0][0].kernels.chunk_rows
        chunk = max(1, chunk_rows * batch.longest // max(1, batch.rows))
        state = sequences * sum(d.state_size * (1 + d.has_c) for layer in layers for d in layer)
        fixed = bytes_kept(layers, 0, sequences, tokens)
        per_chunk = bytes_kept(layers, chunk, sequences, tokens) - fixed
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
                f"memory: expected at least {least} bytes for {steps} steps of {sequences} "
                f"sequences, got {memory}; give more, or fewer sequences at a time"
            )
        return cls(steps, sequences, batch.order, chunk, max(1, best) * chunk)

    def keep(self, states: States, noise: Any) -> None:
        """Keep what the next segment begins with; an array for all states takes least room."""
        arrays = [[array for array in part if array is not None] for part in states]
        self._shapes = [[array.shape for array in part] for part in arrays]
        flat = [array.ravel() for part in arrays for array in part]
        self._states.append(np.concatenate(flat))
        self._noise.append(noise)

    def kept(self, number: int) -> tuple[States, Any]:
        """Return what a segment begins with."""
        flat, first, states = self._states[number], 0, []
        for shapes in self._shapes:
            part: list[np.ndarray | None] = []
            for shape in shapes:
                last = first + prod(shape)
                part.append(flat[first:last].reshape(shape))
                first = last
            states.append(part)
        return states, self._noise[number]

    def __len__(self) -> int:
        return -(-self.steps // self.length)

    def batch(self, number: int, lengths: np.ndarray | None) -> tuple[slice, Batch]:
        """Return the steps of a segment, and its batch."""
        begin = number * self.length
        end = min(begin + self.length, self.steps)
        inside = None if lengths is None else np.clip(lengths - begin, 0, end - begin)
        return slice(begin, end), Batch(end - begin, self.sequences, inside, self.order, self.chunk)
