"""The layers of a module in the engine: passes as functions of input, states and weights."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from rnncore.engine import kernels
from rnncore.engine.batch import Batch
from rnncore.engine.direction import Parameters
from rnncore.engine.noise import QUIET, Noise
from rnncore.engine.packed import Packed
from rnncore.engine.passes import Pass, States
from rnncore.engine.rows import Rows
from rnncore.engine.stack import Stack
from rnncore.engine.sums import Sums
from rnncore.engine.workspace import Pool, Workspace, aligned_empty

Arrays = Sequence[np.ndarray]


class Kind(NamedTuple):
    """All that makes two modules run alike but for their weights.

    Attributes
    ----------
    mode
        PyTorch's name: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU".
    dtype
        "float32" or "float64".
    """

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    directions: int
    bias: bool
    dtype: str


class Net:
    """What drives the engine for all modules of one kind; it holds buffers and no weights."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.dtype = kind, np.dtype(kind.dtype)
        cell = kernels(self.dtype).cell(kind.mode.lower())
        sizes = [kind.hidden_size] * kind.num_layers
        self.stack = Stack(cell, kind.input_size, sizes, kind.directions, self.dtype)
        self.directions = self.stack.directions()
        self._pool = Pool(self.dtype)

    def weight_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of a module's parameters in PyTorch's order."""
        shapes: list[tuple[int, ...]] = []
        for direction in self.directions:
            rows = direction.gates * direction.hidden_size
            shapes += [(rows, direction.input_size), (rows, direction.hidden_size)]
            shapes += [(rows,), (rows,)] * self.kind.bias
        return shapes

    def parameters(self, arrays: Arrays) -> list[Parameters]:
        """Sort parameters, or their gradients, in PyTorch's order by directions: views."""
        each, found = 2 + 2 * self.kind.bias, []
        for k, direction in enumerate(self.directions):
            W_hx, W_hh, *biases = arrays[k * each : (k + 1) * each]
            bias, second = biases or (None, None)
            parts = direction.gates_of_own()
            own = tuple(None if second is None else second[rows] for rows in parts)
            found.append(Parameters(W_hx, W_hh, bias, second, own))
        return found

    def pack(self, weights: Arrays, back: bool) -> Packed:
        """Pack weights for the forward or for the backward pass."""
        packing = self.stack.packing_back() if back else self.stack.packing()
        return packing.pack(self.parameters(weights).__getitem__)

    def forward(
        self,
        x: np.ndarray,
        batch: Batch,
        h: np.ndarray | None,
        c: np.ndarray | None,
        packed: Packed,
        masks: Arrays,
        keep: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, Pass]:
        """Run a batch.

        Parameters
        ----------
        x
            (rows, I), or (T, B, I) of a dense batch. With `keep` it must not change before the
            backward pass.
        h, c
            (L * directions, B, H) Initial states; None: zero.
        masks
            For each layer but the last what its output is multiplied with, (rows, directions * H);
            or none at all.
        keep
            Whether there may be a backward pass.

        Returns
        -------
        y
            (rows, directions * H)
        h, c
            (L * directions, B, H) Final states; c is None for cells that have none.
        run
            What `backward` takes.
        """
        stack, width = self.stack, self.stack.output_size
        run = stack.begin(batch, Rows.of(x, batch=batch), self._pool.lease(), keep)
        initial, noise = self._states(h, c), self._noise(masks, run.workspace)
        if not batch.rows or (batch.dense and not keep):
            y, final = stack.run(run, packed, initial, noise)
            y = y.reshape(-1, width)
        else:
            y = aligned_empty(prod((batch.rows, width)), self.dtype).reshape(-1, width)
            rows = Rows.of(y, self.kind.directions, batch=batch)
            _, final = stack.forward(run, packed, initial, noise, rows)
        return y, *self._together(final), run

    def backward(
        self,
        run: Pass,
        packed_back: Packed,
        dy: np.ndarray | None,
        dh: np.ndarray | None,
        dc: np.ndarray | None,
        dx: np.ndarray | None,
        grads: Arrays,
        state_gradient: bool,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Go back through a batch; the pass is used up.

        Parameters
        ----------
        dy
            (rows, directions * H) None: zero.
        dh, dc
            (L * directions, B, H) Gradients of the final states; None: zero.
        dx
            (rows, I) Takes the gradient of x, where somebody wants it.
        grads
            Take those of the parameters, in PyTorch's order; biases hold zeros.
        state_gradient
            Whether somebody wants the gradients of the initial states, which are returned.
        """
        batch, stack = run.batch, self.stack
        apart = []  # two biases, and what is part of one
        if self.kind.bias:
            apart = [(n, d) for n, layer in enumerate(stack.layers) for d in range(len(layer))]
        if not batch.rows:
            for array in grads:
                array[...] = 0
        sums = Sums(
            stack.layers, apart, None, run.workspace, adds=not batch.rows,
            grads=self.parameters(grads),
        )  # fmt: skip
        given = None if dy is None else Rows.of(dy, self.kind.directions, batch=batch)
        into = None if dx is None else Rows.of(dx, batch=batch)
        initial = stack.backward(
            run, packed_back, sums, given, self._states(dh, dc), into, state_gradient
        )
        sums.finish()
        return self._together(initial)

    def _states(self, h: np.ndarray | None, c: np.ndarray | None) -> States:
        nothing: list[np.ndarray | None] = [None] * len(self.directions)
        given = (h, c)[: len(self.stack.cell.states)]
        return [nothing if array is None else list(array) for array in given]

    def _together(self, states: States) -> tuple[np.ndarray, np.ndarray | None]:
        return np.array(states[0]), np.array(states[1]) if len(states) > 1 else None

    def _noise(self, masks: Arrays, workspace: Workspace) -> Noise:
        # Masks as the outputs of layers stand in memory: each direction padded to whole blocks.
        size, count = self.kind.hidden_size, self.kind.directions
        padded_size = self.directions[0].state_size
        if not masks or padded_size == size:
            return Noise(masks) if masks else QUIET
        outputs = []
        for layer, mask in enumerate(masks):
            padded = workspace.array(("mask", layer), (len(mask), count, padded_size))
            padded[:, :, size:] = 0
            padded[:, :, :size] = mask.reshape(-1, count, size)
            outputs.append(padded.reshape(-1, count * padded_size))
        return Noise(outputs)


_nets: weakref.WeakValueDictionary[Kind, Net] = weakref.WeakValueDictionary()


def net_of(kind: Kind) -> Net:
    """Return the net of a kind, which lives as long as somebody holds it."""
    found = _nets.get(kind)
    if found is None:
        found = _nets[kind] = Net(kind)
    return found
