"""What is random in the passes of a recurrent layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.direction import Direction, Parameters
from rnncore.engine.noise import QUIET, Noise, draw_keys, drop, mask_of, sequence_masks
from rnncore.engine.packed import Packed
from rnncore.engine.segments import draw_again
from rnncore.engine.workspace import Lease, Workspace
from rnncore.layers.parameters import RecurrentModule


class NoisyModule(RecurrentModule):
    """A recurrent layer with the noise of its training passes, drawn from its generator."""

    # Of weights

    def _packed_for(self, kind: Any, weight_keys: Sequence[int], lease: Lease) -> Packed:
        # For one kind of pass; with weight drop for this pass alone.
        if not weight_keys:
            packed: Packed = self._packed(kind)
            return packed
        largest = max(d.params.W_hh.size for d in self._stack.directions())
        with self._guard.weights:
            out = lease.workspace.array(("W_hh",), (largest,))
            return self._packing(kind).pack(partial(self._drop_weight, weight_keys, out))

    def _drop_weight(self, keys: Sequence[int], out: np.ndarray, k: int) -> Parameters:
        params = self._stack.directions()[k].params
        into = out[: params.W_hh.size].reshape(params.W_hh.shape)
        return params._replace(W_hh=self._drop(keys, k, params.W_hh, into))

    def _drop(self, keys: Sequence[int], k: int, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        return drop(self._stack.kernels, self.weight_drop, keys[k], x, out)

    # Of states and outputs

    def _mask_width(self, layer: int) -> int:
        directions = self._stack.layers[layer]
        return len(directions) * directions[0].state_size

    def _draw_mask(
        self, workspace: Workspace, generator: np.random.Generator, layer: int, rows: int
    ) -> np.ndarray:
        out = workspace.array(("mask", layer), (rows, self._mask_width(layer)))
        return mask_of(self._stack.kernels, generator, self.dropout, out)

    def _draw_keys(self, count: int) -> list[int]:
        return draw_keys(self._dropout.generator, count)

    def _weight_keys(self) -> Sequence[int]:
        return self._draw_keys(len(self._names)) if self.weight_drop else ()

    def _noise(self, batch: Batch) -> Noise:
        # Of a training pass, but for masks of a row each.
        stack, running = self._stack, batch.running
        directions = stack.directions()
        recurrent: list[np.ndarray] = []
        zoneout: list[tuple[int, int]] = []
        outputs: list[np.ndarray] = []
        if self.recurrent_dropout:
            recurrent = [
                self._sequence_masks(self.recurrent_dropout, key, running, [direction])
                for key, direction in zip(self._draw_keys(len(directions)), directions, strict=True)
            ]
        if any(stack.zoneout):
            keys = self._draw_keys(2 * len(directions))
            zoneout = list(zip(keys[::2], keys[1::2], strict=True))
        if self.variational:
            below = stack.layers[:-1]
            outputs = [
                self._sequence_masks(self.dropout, key, running, layer)[None]
                for key, layer in zip(self._draw_keys(len(below)), below, strict=True)
            ]
        return Noise(outputs, recurrent, zoneout)

    def _sequence_masks(self, p: float, key: int, count: int, side: list[Direction]) -> np.ndarray:
        # For the outputs of directions side by side.
        shape = count, len(side), side[0].hidden_size
        return sequence_masks(
            self._stack.kernels, self.dtype, p, key, shape, side[0].state_size
        )

    def _masks_of_rows(self) -> int:
        # How many layers have one, below their next.
        return self.num_layers - 1 if self.dropout and not self.variational else 0

    def _whole_noise(self, batch: Batch, workspace: Workspace) -> Noise:
        if not self._noisy:
            return QUIET
        noise = self._noise(batch)
        masks = range(self._masks_of_rows() if batch.rows else 0)
        if masks:
            draw = partial(self._draw_mask, workspace, self._dropout.generator)
            noise = noise._replace(outputs=[draw(layer, batch.rows) for layer in masks])
        return noise

    def _noise_of_segments(
        self, batch: Batch, rows: list[int], workspace: Workspace
    ) -> Callable[[int], Noise]:
        whole, first = self._noise(batch), np.cumsum([0, *rows])
        draw = partial(self._draw_mask, workspace)
        masks = draw_again(self._dropout.generator, draw, self._masks_of_rows(), rows)

        def noise(number: int) -> Noise:
            part = whole._replace(first_row=int(first[number]))
            return part if whole.outputs else part._replace(outputs=masks(number))

        return noise
