"""Driving the compiled engine: the packed weights, the buffers and the order of the layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore import engine
from rnncore.engine.workspace import Workspace, aligned_empty
from rnncore.layers.batch import Batch
from rnncore.layers.rows import Rows
from rnncore.layers.tokens import Tokens


class Direction:
    """One direction of one layer: its parameters packed for the engine.

    `weights` are W_hx (G * H, I), W_hh (G * H, H), b_h (G * H,) or None, and b_hn (H,) or None,
    the bias of the last gate's recurrent part; `grads` their gradients. `blank` is a task that
    never runs: it tells the engine the cell and its sizes.
    """

    def __init__(
        self, cell: Any, input_size: int, hidden_size: int, reverse: bool, dtype: np.dtype
    ) -> None:
        self.kernels = engine.kernels(dtype)
        self.dtype = dtype
        self.cell, self.reverse = cell, reverse
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weights: dict[str, np.ndarray | None]
        self.grads: dict[str, np.ndarray | None]
        self.blank = self.task()
        self.gates: int = self.blank.gates
        self.has_c: bool = self.blank.has_c
        sizes = self.blank.sizes
        self.z_size: int = sizes["z"]
        self.table_size: int = sizes["table"]
        self.state_size: int = sizes["state"]
        #: W_hx, W_hh, b_x and b_h for the forward pass; W_hx and W_hh for the backward pass.
        self.packed: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
        self.packed_back: tuple[np.ndarray, np.ndarray]
        self._buffers: dict[str, np.ndarray] = {}

    def task(self) -> Any:
        """Return a new task of the engine for this direction."""
        return self.kernels.Task(self.cell, self.input_size, self.hidden_size, self.reverse)

    def _space(self, name: str, size: int) -> np.ndarray:
        array = self._buffers.get(name)
        if array is None or array.size < size:
            array = self._buffers[name] = aligned_empty(size, self.dtype)
        return array[:size]

    def pack(self) -> None:
        """Pack the weights for the forward pass."""
        weights, b_h, packed_b_h = self.weights, None, None
        b_hn = weights["b_hn"]
        if b_hn is not None:
            b_h = np.zeros(self.gates * self.hidden_size, self.dtype)
            b_h[-self.hidden_size :] = b_hn
            packed_b_h = self._space("b_h", self.table_size)
        self.packed = (
            self._space("W_hx", self.table_size * self.input_size),
            self._space("W_hh", self.table_size * self.hidden_size),
            self._space("b_x", self.table_size), packed_b_h,
        )  # fmt: skip
        self.kernels.pack(
            self.blank, weights["W_hx"], weights["W_hh"], weights["b_h"], b_h, *self.packed,
            engine.get_num_threads(),
        )  # fmt: skip

    def pack_back(self, parts: int, stride: int, apart: bool) -> None:
        """Pack the weights for the backward pass; the input stands in parts, `stride` apart.

        They take the place of those for the forward pass, unless they shall stand `apart`.
        """
        columns = (parts - 1) * stride + self.input_size // parts
        lanes, end = self.kernels.lanes, "_back" * apart
        self.packed_back = (
            self._space("W_hx" + end, self.table_size * -(-columns // lanes) * lanes),
            self._space("W_hh" + end, self.table_size * -(-self.hidden_size // lanes) * lanes),
        )
        self.kernels.pack_back(
            self.blank, self.weights["W_hx"], self.weights["W_hh"], parts, stride,
            *self.packed_back, engine.get_num_threads(),
        )  # fmt: skip

    def make_table(self, table: np.ndarray, tokens: Tokens) -> None:
        """Write W_hx e_v + b_h for the tokens v, e_v its embedding or one-hot row."""
        packed_W_hx, _, packed_b_x, _ = self.packed
        if tokens.embedding is None:
            W_hx = self.weights["W_hx"]
            self.kernels.one_hot_table(self.blank, table, W_hx, packed_b_x, tokens.used)
        else:
            self.kernels.table_forward(
                self.blank, table, tokens.embedding, len(tokens.used), packed_W_hx, packed_b_x,
                engine.get_num_threads(),
            )  # fmt: skip


@dataclass
class Pass:
    """One batch on its way through the stack, and what backward needs of it."""

    batch: Batch
    workspace: Workspace
    training: bool
    wavefront: bool = False  # layers run side by side
    tokens: np.ndarray | None = None  # (rows,) intp, places in the table of tokens
    tables: list[np.ndarray] = field(default_factory=list)  # of each direction of the first layer
    inputs: list[Rows | None] = field(default_factory=list)  # of each layer; None for tokens
    tasks: list[list[Any]] = field(default_factory=list)
    states: list[list[tuple[np.ndarray, np.ndarray | None]]] = field(default_factory=list)
    masks: list[np.ndarray | None] = field(default_factory=list)
    states_out: np.ndarray | None = None  # the last layer's h, (slots, H), where it is the output


# What the places of `saved` hold after a forward pass; see src_cython/cells.
GATES = {"lstm": "ifgo", "gru": "nrz"}

MOST_LAYERS = 64  # of a wavefront, as in src_cython/task.pxi

States = list[list[np.ndarray | None]]  # [h or c][layer * directions + direction] -> (batch, H)


def forward_stack(
    layers: list[list[Direction]],
    run: Pass,
    initial: States,
    masks: list[np.ndarray | None],
    y: np.ndarray | None,
) -> tuple[Rows, list[list[np.ndarray]]]:
    """Run all layers over a batch; run.inputs[0] or run.tokens is what the first one reads.

    Writes the output to y (steps, batch, features), if that is given. Returns its rows, and the
    final states, each (running, H) with the longest sequence first. `masks` are multiplied with the
    outputs of each layer but the last.
    """
    batch, threads = run.batch, engine.get_num_threads()
    run.wavefront = use_wavefront(layers, batch.running, bool(masks), threads)
    for number, directions in enumerate(layers):
        tasks, states = [], []
        for d, direction in enumerate(directions):
            index = number * len(directions) + d
            task, h, c = _prepare(direction, run, number, d, number == len(layers) - 1, threads)
            batch.begin(h, direction.reverse, initial[0][index])
            if c is not None:
                start = initial[1][index]
                if run.training:
                    batch.begin(c, direction.reverse, start)
                else:
                    c[...] = 0
                    if start is not None:
                        c[:, : direction.hidden_size] = batch.in_order(start)
            tasks.append(task)
            states.append((h, c))
        run.tasks.append(tasks)
        run.states.append(states)
        mask = masks[number] if number < len(masks) else None
        run.masks.append(mask)
        last = number + 1 == len(layers)
        output = _set_output(directions, run, number, y if last else None, mask is not None)
        if not last:
            run.inputs.append(output)
        if not run.wavefront:
            directions[0].kernels.forward(tasks, threads)
        if mask is not None:
            output.padded()[...] *= mask
    if run.wavefront:
        layers[0][0].kernels.forward_wavefront([tasks[0] for tasks in run.tasks], threads)
    _forget(run, keep_input=run.training)
    return output, _final_states(layers, run)


def _forget(run: Pass, keep_input: bool) -> None:
    # Tasks live on in the workspace. What the caller gave shall not; nor the input, once no pass
    # will read it any more.
    for tasks in run.tasks:
        for task in tasks:
            task.forget(keep_input)


def use_wavefront(
    layers: list[list[Direction]], sequences: int, dropout: bool, threads: int
) -> bool:
    """Whether layers run side by side, each a chunk of steps behind the one below.

    Where rows are few a step is too short to be shared among threads, but a stack is not. Weights
    too large for a thread's cache are better shared by all.
    """
    if not 1 < len(layers) <= MOST_LAYERS or threads == 1 or sequences >= 4 * threads or dropout:
        return False
    return not any(
        len(directions) > 1 or directions[0].kernels.splits(directions[0].blank, threads)
        for directions in layers
    )


def _final_states(layers: list[list[Direction]], run: Pass) -> list[list[np.ndarray]]:
    final: list[list[np.ndarray]] = [[], []]
    for directions, states in zip(layers, run.states, strict=True):
        for direction, (h, c) in zip(directions, states, strict=True):
            final[0].append(run.batch.final(h, direction.reverse)[:, : direction.hidden_size])
            if c is not None:
                last = run.batch.final(c, direction.reverse) if run.training else c
                final[1].append(last[:, : direction.hidden_size])
    return final


def _prepare(
    direction: Direction, run: Pass, number: int, d: int, last: bool, threads: int
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Set up the task of one direction; return it with its h and c.

    A dense batch like the one before finds its task ready.
    """
    batch, workspace = run.batch, run.workspace
    out = run.states_out if last else None  # h of its own, where it is the output
    like = (batch.rows, batch.running, batch.chunk, run.training, run.wavefront, threads,
            out is None)  # fmt: skip
    known = workspace.prepared.get((number, d)) if batch.dense else None
    if known is not None and known[0] == like:
        task, h, c = known[1:]
    else:
        task, h, c = _allocate(direction, run, number, d, threads, out is None)
        if batch.dense:
            workspace.prepared[number, d] = like, task, h, c
    if out is not None:
        h = out
        task.set_states(h)
    assert h is not None
    task.set_weights(*direction.packed)
    x = run.inputs[number]
    if x is None:
        task.set_tokens(run.tokens, run.tables[d])
    else:
        task.set_input(x.flat, x.first, x.stride, x.parts, x.part_stride, x.placed)
    return task, h, c


def _allocate(
    direction: Direction, run: Pass, number: int, d: int, threads: int, has_h: bool
) -> tuple[Any, np.ndarray | None, np.ndarray | None]:
    batch, array = run.batch, run.workspace.array
    task = direction.task()
    sizes = direction.kernels.forward_sizes(task, batch.longest, batch.running, threads)
    z_rows = batch.rows if run.training else sizes["rows"]
    slots = batch.rows + batch.running
    z_of = number if run.training or run.wavefront else 0  # one chunk serves all layers in turn
    z = array(("z", z_of, d), (z_rows, direction.z_size))
    h = array(("h", number, d), (slots, direction.state_size)) if has_h else None
    c = None
    if direction.has_c:
        c_rows = slots if run.training else batch.running
        c = array(("c", number, d), (c_rows, direction.state_size))
    scratch = array(("scratch", number if run.wavefront else 0, d), (sizes["scratch"],))
    task.set_batch(batch.offset, batch.running, run.training, z, h, c, scratch, batch.chunk)
    if batch.order is not None:
        task.set_rank(batch.rank)
    x = run.inputs[number]
    if x is not None and not run.training and (x.placed or batch.running % threads):
        task.set_x_rows(array(("x_rows", number, d), (sizes["x_rows"] * x.stride,)))
    return task, h, c


def _set_output(
    directions: list[Direction], run: Pass, number: int, y: np.ndarray | None, masked: bool
) -> Rows:
    """Tell the tasks of a layer where its output goes, the directions side by side; return that."""
    batch, count, hidden = run.batch, len(directions), directions[0].hidden_size
    size, tasks = directions[0].state_size, run.tasks[number]
    if y is not None:
        output = Rows.of(y, count, not batch.dense)
    elif count == 1 and not masked:
        h = run.states[number][0][0]
        return Rows(h.reshape(-1), batch.rows, batch.running * size, size, hidden, 1, size)
    else:
        flat = run.workspace.array(("y", number), (batch.rows * count * size,))
        flat.reshape(-1, size)[:, hidden:] = 0
        output = Rows(flat, batch.rows, 0, count * size, hidden, count, size)
    for d, task in enumerate(tasks):
        first = d * output.part_stride
        task.set_output(output.flat, first, output.stride, output.placed, y is not None)
    return output


def backward_stack(
    layers: list[list[Direction]],
    run: Pass,
    sums: Sums,
    dy: Rows | None,
    dfinal: States,
    dx: np.ndarray | None,
) -> list[list[np.ndarray]]:
    """Backpropagate through all layers; the pass is used up.

    The parts of dy are the directions, and where these are padded to whole blocks the padding holds
    zeros; dfinal are the gradients of the final states. Adds to `sums`. Writes the gradient of the
    input into dx (steps, batch, input_size), where somebody wants it. Returns those of the initial
    states, the longest sequence first.
    """
    kernels, threads = layers[0][0].kernels, engine.get_num_threads()
    wavefront = run.wavefront and kernels.backward_chunks(run.tasks[0][0]) >= 4 * len(layers)
    dstates: list[list[tuple[np.ndarray, np.ndarray | None]]] = []
    for number in reversed(range(len(layers))):
        directions, tasks, x = layers[number], run.tasks[number], run.inputs[number]
        dxs, pairs = [], []
        for d, direction in enumerate(directions):
            pairs.append(_set_gradients(direction, run, tasks[d], sums, dy, dfinal, number, d))
            if x is None:
                tasks[d].set_dtable(sums.dtables[d])
            elif number or dx is not None:
                dxs.append(_set_dx(run, tasks[d], x, None if number else dx, number, d))
        dstates.insert(0, pairs)
        if not wavefront:
            kernels.backward(tasks, threads)
            if len(dxs) == 2:
                dxs[0] += dxs[1]
            mask = run.masks[number - 1] if number else None
            if mask is not None:
                dxs[0] *= mask
        if number and x is not None:
            dy = x._replace(flat=dxs[0].reshape(-1), first=0)
    if wavefront:
        kernels.backward_wavefront([tasks[0] for tasks in reversed(run.tasks)], threads)
    initial: list[list[np.ndarray]] = [[], []]
    for number, directions in enumerate(layers):
        for d, direction in enumerate(directions):
            for k, array in enumerate(dstates[number][d]):
                if array is not None:
                    initial[k].append(array[:, : direction.hidden_size])
    _forget(run, keep_input=False)
    sums.adds = True
    return initial


def _chunk_rows(kernels: Any, batch: Batch) -> int:
    # Rows of the longest chunk of the backward pass.
    steps = batch.chunk or max(1, kernels.chunk_rows * batch.longest // batch.rows)
    return min(batch.rows, steps * batch.running)


def _set_dx(
    run: Pass, task: Any, x: Rows, dx: np.ndarray | None, number: int, d: int
) -> np.ndarray:
    """Tell a task where the gradient of its input goes, rows or `dx` of the caller; return that."""
    batch, array, width = run.batch, run.workspace.array, x.stride
    if dx is None or batch.dense:
        shape = (batch.rows, width)
        out = array(("dx", number, d), shape) if dx is None or d else dx.reshape(shape)
        task.set_dx(out.reshape(-1), width)
        return out
    # Both directions write all steps that have rows.
    shape = (batch.longest * batch.batch, width)
    out = array(("dx", number, d), shape) if d else dx[: batch.longest].reshape(shape)
    dx_rows = array(("dx_rows", d), (_chunk_rows(engine.kernels(dx.dtype), batch) * width,))
    task.set_dx(out.reshape(-1), width, dx_rows, leaves=len(run.tasks[0]) == 1)
    return out


def _set_gradients(
    direction: Direction,
    run: Pass,
    task: Any,
    sums: Sums,
    dy: Rows | None,
    dfinal: States,
    number: int,
    d: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Give a task its gradient buffers; return dh and dc, which become dL/dh_0 and dL/dc_0."""
    index = number * len(run.tasks[0]) + d
    batch, array, grads = run.batch, run.workspace.array, direction.grads
    known = run.workspace.prepared.get(("back", number, d)) if batch.dense else None
    if known is None or known[0] is not task:
        known = task, *_allocate_back(direction, run, task, number, d)
        if batch.dense:
            run.workspace.prepared["back", number, d] = known
    _, dh, dc = known
    for buffer, given in ((dh, dfinal[0][index]), (dc, dfinal[1][index])):
        if buffer is not None:
            buffer[...] = 0
            if given is not None:
                buffer[:, : direction.hidden_size] = batch.in_order(given)
    task.set_weights_back(*direction.packed_back)
    first = stride = 0
    flat = dy_rows = None
    if dy is not None:
        flat, first, stride = dy.flat, dy.first + d * dy.part_stride, dy.stride
        if dy.placed or dy.part_stride < direction.state_size:
            count = _chunk_rows(direction.kernels, batch)
            dy_rows = array(("dy_rows", d), (count * direction.state_size,))
    task.set_gradients(
        flat, first, stride, dy_rows, grads["W_hx"], grads["W_hh"], grads["b_h"],
        sums.db_h.get((number, d)), sums.adds,
    )  # fmt: skip
    return dh, dc


def _allocate_back(
    direction: Direction, run: Pass, task: Any, number: int, d: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Give a task the buffers of its backward pass, which serve it for all batches like this."""
    batch, array = run.batch, run.workspace.array
    sizes = direction.kernels.backward_sizes(task, batch.rows)
    shape = (batch.running, direction.state_size)
    dh = array(("dh", number, d), shape)
    dc = array(("dc", number, d), shape) if direction.has_c else None
    scratch_of = number if run.wavefront else 0
    scratch = (
        array((name, scratch_of, d), (sizes[name],))
        for name in ("dz_columns", "x_panels", "h_panels")
    )
    task.set_batch_back(dh, dc, *scratch)
    return dh, dc


def state_names(direction: Direction) -> list[str]:
    """Name the states and gates that `describe` returns."""
    return ["h", *"c" * direction.has_c, *GATES.get(direction.cell, "")]


def describe(direction: Direction, run: Pass, number: int, d: int) -> dict[str, list[Rows]]:
    """Rows of every state and gate of a training pass, by name, in pieces side by side."""
    h, c = run.states[number][d]
    size, count = direction.hidden_size, run.batch.rows
    found = {}
    for name, states in (("h", h), ("c", c)):
        if states is not None:
            rows = run.batch.outputs(states, direction.reverse)
            found[name] = [Rows(rows.reshape(-1), count, 0, rows.shape[1], size)]
    width = direction.z_size
    z = run.workspace.array(("z", number, d), (count * width,))
    sizes = direction.blank.sizes
    block, stride = sizes["block"], sizes["places"] * sizes["block"]
    whole, rest = divmod(size, block)
    for place, name in enumerate(GATES.get(direction.cell, "")):
        first = place * block
        found[name] = [Rows(z, count, first, width, block, whole, stride)] if whole else []
        if rest:
            found[name].append(Rows(z, count, first + whole * stride, width, rest))
    return found


def bytes_kept(layers: list[list[Direction]], steps: int, batch: int, tokens: bool) -> int:
    """Bytes of the buffers of a training pass over a dense batch, backward included."""
    rows = steps * batch
    total = 0
    for number, directions in enumerate(layers):
        for direction in directions:
            back = direction.kernels.backward_sizes(direction.blank, rows)
            states = (rows + batch) * direction.state_size * (1 + direction.has_c)
            total += rows * direction.z_size + states + 2 * batch * direction.state_size
            if number:
                total += rows * direction.input_size  # dx of this layer, dy of the one below
            if number == 0:
                total += back["dz_columns"] + back["x_panels"] + back["h_panels"]
    if not tokens:
        total += rows * layers[0][0].input_size  # a copy of x
        total += rows * layers[0][0].input_size * (len(layers[0]) - 1)  # dx of the second direction
    chunk = min(rows, max(batch, layers[0][0].kernels.chunk_rows))
    total += chunk * sum(direction.state_size for direction in layers[-1])  # dy
    return total * layers[0][0].dtype.itemsize


def make_tables(
    directions: list[Direction], tokens: Tokens, workspace: Workspace
) -> list[np.ndarray]:
    """Project all tokens at once; the rows of a pass over tokens are gathered from there."""
    tables = []
    for d, direction in enumerate(directions):
        table = workspace.array(("table", d), (len(tokens.used) * direction.table_size,))
        direction.make_table(table, tokens)
        tables.append(table)
    return tables


class Sums:
    """Gradients of the parameters while a backward pass, whole or in segments, adds to them.

    The engine adds to the `grads` of each direction of each layer itself, or, unless `adds`,
    replaces them, which makes it true. What it sums in a layout of its own, the gradients of all
    recurrent biases and of the table of tokens, `finish` adds to them: once, so that segments give
    the sums of one pass.
    """

    def __init__(
        self,
        layers: list[list[Direction]],
        tokens: Tokens | None,
        workspace: Workspace,
        adds: bool,
    ) -> None:
        self.layers, self.tokens, self.workspace, self.adds = layers, tokens, workspace, adds
        self.db_h: dict[tuple[int, int], np.ndarray] = {}
        self.dtables: list[np.ndarray] = []
        for number, directions in enumerate(layers):
            for d, direction in enumerate(directions):
                if direction.grads["b_hn"] is not None:
                    size = direction.gates * direction.hidden_size
                    self.db_h[number, d] = workspace.array(("db_h", number, d), (size,))
                    self.db_h[number, d][...] = 0
        if tokens is not None:
            for d, direction in enumerate(layers[0]):
                size = len(tokens.used) * direction.table_size
                self.dtables.append(workspace.array(("dtable", d), (size,)))
                self.dtables[d][...] = 0

    def finish(self, dembedding: np.ndarray | None) -> None:
        """Add what is not in `grads` yet; the gradient of the embedding to `dembedding`."""
        for (number, d), db_h in self.db_h.items():
            db_hn = self.layers[number][d].grads["b_hn"]
            assert db_hn is not None
            db_hn += db_h[-len(db_hn) :]  # the parameters keep those of the last gate
        for d, dtable in enumerate(self.dtables):
            assert self.tokens is not None
            direction, used, embedding = self.layers[0][d], self.tokens.used, self.tokens.embedding
            dW_hx = direction.grads["W_hx"]
            if embedding is None:
                direction.kernels.one_hot_gradient(direction.blank, dtable, dW_hx, used)
                continue
            array, (count, width) = self.workspace.array, embedding.shape
            sizes = direction.kernels.backward_sizes(direction.blank, count)
            dE = array(("dembedding", 0), (count, width))
            direction.kernels.table_backward(
                direction.blank, dtable, embedding, count, direction.packed_back[0], dE, dW_hx,
                array(("dz_columns", 0, d), (sizes["dz_columns"],)),
                array(("x_panels", 0, d), (sizes["x_panels"],)), engine.get_num_threads(),
            )  # fmt: skip
            if dembedding is not None:
                dembedding[used] += dE
