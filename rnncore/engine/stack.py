"""Layers over one another: what drives the compiled engine through a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore.engine import kernels
from rnncore.engine.batch import Batch
from rnncore.engine.direction import Direction
from rnncore.engine.noise import QUIET, Noise, multiply_rows
from rnncore.engine.packed import Job, Packed, Packing, Spare
from rnncore.engine.passes import Layers, Pass, Plan, States, output_stride, stands_alone
from rnncore.engine.rows import Rows
from rnncore.engine.sums import Sums
from rnncore.engine.tasks import begin_layer, forget, set_dx, set_gradients, set_output
from rnncore.engine.threads import team_size
from rnncore.engine.tokens import Tokens, fill_table
from rnncore.engine.workspace import Lease, aligned_empty, new_array

if TYPE_CHECKING:
    from rnncore.engine.compiled import Cell
    from rnncore.engine.records import BackwardRecord


class Stack:
    """One or more layers, each in one or both directions.

    Parameters
    ----------
    cell
        What `engine.kernels(dtype).cell` returns, or a cell of the user's own.
    input_size, sizes
        Features of the input, and the hidden size of each layer.
    directions
        1 or 2, of which the second reads backwards.
    dtype
        float32 or float64.
    zoneout, recurrent_dropout
        Rates of zoneout of h and of the other states, and whether training passes have masks on
        the states.
    storage
        The precision of products, which is how weights are stored; None: the dtype.
    reverse
        Whether the only direction reads backwards.
    """

    def __init__(
        self, cell: Cell, input_size: int, sizes: Sequence[int], directions: int,
        dtype: np.dtype, zoneout: tuple[float, float] = (0.0, 0.0),
        recurrent_dropout: bool = False, storage: str | None = None, reverse: bool = False,
    ) -> None:  # fmt: skip
        self.kernels = kernels(dtype)
        self.cell, self.dtype = cell, dtype
        self.storage = storage or dtype.name
        self.zoneout, self.recurrent_dropout = zoneout, recurrent_dropout
        self.layers: Layers = []
        width = input_size
        for size in sizes:
            self.layers.append(
                [
                    Direction(self.kernels, cell, width, size, reverse or d == 1, self.storage)
                    for d in range(directions)
                ]
            )
            width = directions * size
        self.input_size, self.output_size = input_size, width
        #: Hidden sizes, one for each direction of each layer.
        self.sizes = [size for size in sizes for _ in range(directions)]
        #: Numbers a row of the output, each direction padded to whole blocks.
        self.output_stride = output_stride(self.layers[-1])
        self._spare = Spare()
        self._packings: dict[Any, Packing] = {}

    def directions(self) -> list[Direction]:
        """Return the directions of all layers in the order of the states."""
        return [direction for directions in self.layers for direction in directions]

    # Weights

    def packing(self) -> Packing:
        """Return how all weights are packed for the forward pass."""
        if "forward" not in self._packings:
            jobs: list[Job] = [(d.layer.packed_bytes, d.pack) for d in self.directions()]
            self._packings["forward"] = Packing(self._spare, self.dtype, jobs)
        return self._packings["forward"]

    def packing_back(self, parts: int = 1, part_stride: int = 0) -> Packing:
        """Return the same for the backward pass; the input of the first layer stands in parts."""
        kind = parts, part_stride
        if kind not in self._packings:
            jobs: list[Job] = []
            for number, directions in enumerate(self.layers):
                if number:
                    parts = len(directions)
                    part_stride = self.layers[number - 1][0].state_size if parts > 1 else 0
                for direction in directions:
                    pack = partial(direction.pack_back, parts=parts, part_stride=part_stride)
                    jobs.append((direction.layer.packed_back_bytes(parts, part_stride), pack))
            self._packings[kind] = Packing(self._spare, self.dtype, jobs)
        return self._packings[kind]

    def release(self) -> None:
        """Let go of memory that no weights are packed in."""
        self._spare.buffers.clear()

    # Setting up

    def chunk(self, batch: Batch) -> int:
        """Return the steps a chunk of the backward pass over a batch."""
        if not batch.chunk:  # the same in all builds
            batch.chunk = self.kernels.backward_chunk(batch.longest, batch.rows)
        return batch.chunk

    def begin(
        self, batch: Batch, x: np.ndarray | Rows, lease: Lease, training: bool
    ) -> Pass:
        """Return a pass over features (T, B, I), or rows of them."""
        run = Pass(batch, lease, training)
        if isinstance(x, Rows):
            run.inputs.append(x)
        elif training or batch.is_cut:  # the caller may change x before backward
            rows = run.workspace.array(("x",), (batch.rows, x.shape[2]))
            batch.gather(rows, x)
            run.inputs.append(Rows.of(rows))
        else:
            run.inputs.append(Rows.of(x, placed=not batch.dense))
        return run

    def begin_tokens(
        self, batch: Batch, places: np.ndarray, tables: list[np.ndarray], lease: Lease,
        training: bool,
    ) -> Pass:  # fmt: skip
        """Return a pass over tokens, with tables over their places (T, B) in them."""
        run = Pass(batch, lease, training)
        run.tokens = batch.tokens(places)
        run.tables = tables
        run.inputs.append(None)
        return run

    def make_tables(
        self, tokens: Tokens, packed: Packed, lease: Lease | None = None
    ) -> list[np.ndarray]:
        """Project all tokens at once; a pass over tokens gathers its rows from there.

        The tables stand in leased memory, or without a lease in their own.
        """
        tables = []
        for d, direction in enumerate(self.layers[0]):
            size = len(tokens.used) * direction.layer.table_size
            if lease is None:
                table = aligned_empty(size, self.dtype)
            else:
                table = lease.workspace.array(("table", d), (size,))
            fill_table(direction, table, tokens, packed.weights[d])
            tables.append(table)
        return tables

    def use_wavefront(self, sequences: int, dropout: bool, threads: int) -> bool:
        """Whether layers run side by side, each a chunk of steps behind the one below.

        Where rows are few a step is too short to be shared among threads, but a stack is not.
        Weights too large for a thread's cache are better shared by all.
        """
        if threads == 1 or dropout or sequences >= 4 * threads:
            return False
        if not 1 < len(self.layers) <= self.kernels.most_layers:
            return False
        return not any(
            len(directions) > 1 or directions[0].reverse or directions[0].layer.splits(threads)
            for directions in self.layers
        )

    # Forward

    def forward(
        self,
        run: Pass,
        packed: Packed,
        initial: States,
        noise: Noise = QUIET,
        y: np.ndarray | Rows | None = None,
    ) -> tuple[Rows, States]:
        """Run all layers over a batch with a row at least.

        Writes the output to y (T, B, features), or rows without padding, if that is given. Returns
        its rows, and the final states in the caller's order; sequences without a step keep theirs.
        """
        if run.tasks:
            raise RuntimeError("a pass runs once: it has; begin another one")
        batch, threads, x, masks = run.batch, team_size(), run.inputs[0], noise.outputs
        run.noise = noise
        wavefront = self.use_wavefront(batch.running, bool(masks), threads)
        run.plan = Plan(
            batch.rows, batch.running, batch.longest, self.chunk(batch), run.training, wavefront,
            threads, 0 if x is None else x.stride, x is not None
            and (x.placed or batch.running % threads > 0), run.h_out is not None, bool(masks),
            bool(noise.recurrent), self.zoneout,
        )  # fmt: skip
        for number, directions in enumerate(self.layers):
            begin_layer(self.layers, run, packed, initial, number)
            last = number + 1 == len(self.layers)
            output = set_output(self.layers, run, number, y if last else None)
            if not last:
                run.inputs.append(output)
            if not wavefront:
                directions[0].kernels.forward(run.tasks[number], threads)
            if number < len(masks):
                multiply_rows(output.padded(), masks[number], batch, output.padded())
        if wavefront:
            self.kernels.forward_wavefront([tasks[0] for tasks in run.tasks], threads)
        forget(run, keep_input=run.training)
        return output, self._final(run, initial, run.states)

    def _final(
        self, run: Pass, initial: States, states: list[list[Any]], backward: bool = False
    ) -> States:
        # The last states of each direction of each layer, or going backward the gradients of the
        # first, in the caller's order; sequences without a step keep what they began with.
        batch, dense, index = run.batch, run.batch.dense, 0
        final: States = [[] for _ in initial]
        if not dense:
            final = self.zeros_for_none(initial, batch.batch)
        for directions, pairs in zip(self.layers, states, strict=True):
            for direction, pair in zip(directions, pairs, strict=True):
                for k, array in enumerate(pair):
                    # in slots, but for gradients and for all but h of inference
                    slots = not backward and (k == 0 or run.training)
                    at_end = slots and not direction.reverse
                    rows = batch.ends if at_end else slice(0, batch.running)
                    values = array[rows, : direction.hidden_size]
                    if dense:
                        final[k].append(values.copy())
                        continue
                    out = final[k][index]
                    assert out is not None
                    batch.restore(out, values)
                index += 1
        return final

    def zeros_for_none(self, states: States, size: int) -> States:
        """Return copies of states (size, H), zeros where there is none."""
        return [
            [
                np.zeros((size, hidden), self.dtype) if array is None else array.copy()
                for array, hidden in zip(arrays, self.sizes, strict=True)
            ]
            for arrays in states
        ]

    def run(
        self,
        run: Pass,
        packed: Packed,
        initial: States,
        noise: Noise = QUIET,
        y: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        """Do what `forward` does, over any batch; return y (T, B, features), given or new."""
        batch = run.batch
        shape = (batch.whole.steps, batch.whole.batch, self.output_size)
        if not batch.rows:
            y = np.empty(shape, self.dtype) if y is None else y
            y[...] = 0
            return y, self.zeros_for_none(initial, batch.batch)
        if batch.is_cut:
            y = batch.empty(shape, self.dtype) if y is None else y
            rows, final = self.forward(run, packed, initial, noise)
            batch.scatter(y, rows)
            return y, final
        unpadded = stands_alone(self.layers[-1]) and self.output_stride == self.output_size
        if y is None and unpadded and batch.dense and not run.training:
            # h is the output as it stands, if nobody needs it for backward.
            first = batch.running * self.output_size
            h = new_array((first + batch.rows * self.output_size,), self.dtype)
            run.h_out = h.reshape(-1, self.output_size)
            _, final = self.forward(run, packed, initial, noise)
            return h[first:].reshape(shape), final
        if y is None:
            y = new_array(shape, self.dtype)
        y[batch.longest :] = 0
        _, final = self.forward(run, packed, initial, noise, y)
        return y, final

    # Backward

    def backward(
        self,
        run: Pass,
        packed_back: Packed,
        sums: Sums,
        dy: Rows | None,
        dfinal: States,
        dx: np.ndarray | Rows | None,
        state_gradient: bool = True,
        record: BackwardRecord | None = None,
    ) -> States:
        """Backpropagate through all layers; the pass is used up. Adds to `sums`.

        The parts of dy are the directions, and where these are padded to whole blocks the padding
        holds zeros; dfinal are the gradients of the final states. Writes the gradient of the input
        into dx, (T, B, features) or rows like those of the input, where somebody wants it. Returns
        those of the initial states, in the caller's order; not `state_gradient`: anything. `record`
        takes those of all states.
        """
        batch, threads = run.batch, team_size()
        if not batch.rows:
            if isinstance(dx, np.ndarray):
                dx[...] = 0
            return self.zeros_for_none(dfinal, batch.batch)
        scattered = dx if batch.is_cut and isinstance(dx, np.ndarray) else None
        if isinstance(dx, np.ndarray) and scattered is None:
            dx[batch.longest :] = 0
        chunks = self.kernels.backward_chunks(run.tasks[0][0])
        wavefront = run.plan.wavefront and chunks >= 4 * len(self.layers)
        dstates: list[list[tuple[np.ndarray, ...]]] = []
        for number in reversed(range(len(self.layers))):
            directions, tasks, x = self.layers[number], run.tasks[number], run.inputs[number]
            dxs, pairs = [], []
            for d in range(len(directions)):
                task, weights = tasks[d], packed_back.weights[number * len(directions) + d]
                pairs.append(
                    set_gradients(
                        self.layers, run, weights, sums, dy, dfinal, number, d, state_gradient
                    )
                )
                if record is not None:
                    record.begin(run, number, d)
                if x is None:
                    task.set_dtable(sums.dtables[d])
                elif number or dx is not None:
                    into = dx if number == 0 and scattered is None else None
                    dxs.append(set_dx(run, task, x, into, number, d))
            dstates.insert(0, pairs)
            if not wavefront:
                self.kernels.backward(tasks, threads)
                if len(dxs) == 2:
                    dxs[0] += dxs[1]
                if 0 < number <= len(run.noise.outputs):
                    multiply_rows(dxs[0], run.noise.outputs[number - 1], batch, dxs[0])
            if number and x is not None:
                dy = x._replace(flat=dxs[0].reshape(-1), first=0)
        if wavefront:
            self.kernels.backward_wavefront([tasks[0] for tasks in reversed(run.tasks)], threads)
        if scattered is not None and x is not None:
            batch.scatter(scattered, x._replace(flat=dxs[0].reshape(-1), first=0))
        if record is not None:
            record.finish(run)
        forget(run, keep_input=False)
        sums.adds = True
        return self._final(run, dfinal, dstates, backward=True)
