"""Driving the compiled engine: the packed weights, the buffers and the order of the layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnncore import engine
from rnncore.engine.workspace import Workspace, aligned_empty
from rnncore.layers.batch import Batch
from rnncore.layers.rows import Rows


class Direction:
    """One direction of one layer: its parameters packed for the engine.

    `weights` are W_hx (G * H, I), W_hh (G * H, H), b_h (G * H,) or None, and b_hn (H,) or None,
    the bias of the last gate's recurrent part.
    """

    def __init__(
        self, cell: Any, input_size: int, hidden_size: int, reverse: bool, dtype: np.dtype
    ) -> None:
        self.kernels = engine.kernels(dtype)
        self.dtype = dtype
        self.cell, self.reverse = cell, reverse
        self.input_size, self.hidden_size = input_size, hidden_size
        task = self.task()
        self.gates: int = task.gates
        self.has_c: bool = task.has_c
        sizes = task.sizes
        self.z_size: int = sizes["z"]
        self.table_size: int = sizes["table"]
        self.state_size: int = sizes["state"]
        #: W_hx and W_hh for the forward pass or for the backward pass, in turn; b_x and b_h.
        self.packed: dict[str, np.ndarray | None] = {}
        self._buffers: dict[str, np.ndarray] = {}

    def task(self) -> Any:
        """Return a new task of the engine for this direction."""
        return self.kernels.Task(self.cell, self.input_size, self.hidden_size, self.reverse)

    def _space(self, name: str, size: int) -> np.ndarray:
        array = self._buffers.get(name)
        if array is None or array.size < size:
            array = self._buffers[name] = aligned_empty(size, self.dtype)
        self.packed[name] = array[:size]
        return array[:size]

    def pack(self, weights: dict[str, np.ndarray | None]) -> None:
        """Pack the weights for the forward pass."""
        b_hn, b_h = weights["b_hn"], None
        if b_hn is not None:
            b_h = np.zeros(self.gates * self.hidden_size, self.dtype)
            b_h[-self.hidden_size :] = b_hn
        self.packed["b_h"] = None if b_h is None else self._space("b_h", self.table_size)
        self.kernels.pack(
            self.task(), weights["W_hx"], weights["W_hh"], weights["b_h"], b_h,
            self._space("W_hx", self.table_size * self.input_size),
            self._space("W_hh", self.table_size * self.hidden_size),
            self._space("b_x", self.table_size), self.packed["b_h"], engine.get_num_threads(),
        )  # fmt: skip

    def pack_back(self, weights: dict[str, np.ndarray | None], parts: int, stride: int) -> None:
        """Pack the weights for the backward pass, where those for the forward pass were.

        The input stands in parts, `stride` apart.
        """
        columns = (parts - 1) * stride + self.input_size // parts
        panel = self.kernels.panel
        self.kernels.pack_back(
            self.task(), weights["W_hx"], weights["W_hh"], parts, stride,
            self._space("W_hx", self.table_size * -(-columns // panel) * panel),
            self._space("W_hh", self.table_size * self.state_size),
            engine.get_num_threads(),
        )  # fmt: skip

    def make_table(
        self,
        table: np.ndarray,
        W_hx: np.ndarray | None,
        embedding: np.ndarray | None,
        tokens: np.ndarray,
    ) -> None:
        """Write W_hx e_v + b_h for some tokens v, e_v its embedding (given) or one-hot row."""
        if embedding is None:
            self.kernels.one_hot_table(self.task(), table, W_hx, self.packed["b_x"], tokens)
        else:
            self.kernels.table_forward(
                self.task(), table, embedding, len(embedding), self.packed["W_hx"],
                self.packed["b_x"], engine.get_num_threads(),
            )  # fmt: skip

    def use_weights(self, task: Any) -> None:
        """Hand the weights packed for the forward pass to a task."""
        packed = self.packed
        task.set_weights(packed["W_hx"], packed["W_hh"], packed["b_x"], packed["b_h"])


@dataclass
class Pass:
    """One batch on its way through the stack, and what backward needs of it."""

    batch: Batch
    workspace: Workspace
    training: bool
    wavefront: bool = False  # layers run side by side
    tokens: np.ndarray | None = None  # (rows,) intp, places in `used`
    used: np.ndarray | None = None  # (n,) the tokens that the table holds
    embedding: np.ndarray | None = None  # (n, features), their vectors
    inputs: list[Rows | None] = field(default_factory=list)  # of each layer; None for tokens
    tasks: list[list[Any]] = field(default_factory=list)
    states: list[list[tuple[np.ndarray, np.ndarray | None]]] = field(default_factory=list)
    masks: list[np.ndarray | None] = field(default_factory=list)
    output: Rows | None = None

    def read_tokens(self, rows: np.ndarray, size: int, embedding: np.ndarray | None) -> None:
        """Make token ids (rows,) the input, one-hot of `size` or through an embedding.

        A vocabulary larger than the batch is not projected whole: the table holds what occurs.
        """
        vocabulary = size if embedding is None else len(embedding)
        if vocabulary <= len(rows):
            self.tokens, self.used, self.embedding = rows, np.arange(vocabulary), embedding
        else:
            self.used, self.tokens = np.unique(rows, return_inverse=True)
            self.embedding = None if embedding is None else embedding[self.used]
        self.inputs.append(None)


# What the places of `saved` hold after a forward pass; see src_cython/cells.
GATES = {"lstm": "ifgo", "gru": "nrz"}

MOST_LAYERS = 64  # of a wavefront, as in src_cython/task.pxi

States = list[list[np.ndarray | None]]  # [h or c][layer * directions + direction] -> (batch, H)


def forward_stack(
    layers: list[list[Direction]],
    run: Pass,
    initial: States,
    masks: list[np.ndarray | None],
) -> tuple[Rows, list[list[np.ndarray]]]:
    """Run all layers over a batch; run.inputs[0] or run.tokens is what the first one reads.

    Returns the rows of the last layer's output and the final states, each (running, H) with the
    longest sequence first. `masks` are multiplied with the outputs of each layer but the last.
    """
    batch, threads = run.batch, engine.get_num_threads()
    run.wavefront = use_wavefront(layers, batch.running, bool(masks), threads)
    for number, directions in enumerate(layers):
        tasks, states = [], []
        for d, direction in enumerate(directions):
            index = number * len(directions) + d
            task, h, c = _prepare(direction, run, number, d, threads)
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
        if not run.wavefront:
            directions[0].kernels.forward(tasks, threads)
        run.tasks.append(tasks)
        run.states.append(states)
        mask = masks[number] if number < len(masks) else None
        run.masks.append(mask)
        run.output = _join(directions, run, number, mask)
        run.inputs.append(run.output)
    if run.wavefront:
        layers[0][0].kernels.forward_wavefront([tasks[0] for tasks in run.tasks], threads)
    if not run.training:
        _forget(run)
    assert run.output is not None
    return run.output, _final_states(layers, run)


def _forget(run: Pass) -> None:
    # Tasks live on in the workspace; the caller's arrays shall not.
    for tasks in run.tasks:
        for task in tasks:
            task.forget()


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
        len(directions) > 1
        or directions[0].kernels.shares_weights(directions[0].task(), sequences, threads)
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
    direction: Direction, run: Pass, number: int, d: int, threads: int
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Set up the task of one direction; return it with its h and c.

    A dense batch like the one before finds its task ready.
    """
    batch, workspace = run.batch, run.workspace
    like = (batch.rows, batch.running, run.training, run.wavefront, threads)
    known = workspace.prepared.get((number, d)) if batch.dense else None
    if known is not None and known[0] == like:
        task, h, c = known[1:]
    else:
        task, h, c = _allocate(direction, run, number, d, threads)
        if batch.dense:
            workspace.prepared[number, d] = like, task, h, c
    direction.use_weights(task)
    x = run.inputs[number]
    if x is None:
        task.set_tokens(run.tokens, _table(run, direction, d, "table"))
    else:
        task.set_input(x.flat, x.first, x.stride, x.parts, x.part_stride)
    return task, h, c


def _allocate(
    direction: Direction, run: Pass, number: int, d: int, threads: int
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    batch, array = run.batch, run.workspace.array
    task = direction.task()
    sizes = direction.kernels.forward_sizes(task, batch.running, threads)
    z_rows = batch.rows if run.training else min(batch.rows, sizes["z_rows"])
    slots = batch.rows + batch.running
    z_of = number if run.training or run.wavefront else 0  # one chunk serves all layers in turn
    z = array(("z", z_of, d), (z_rows, direction.z_size))
    h = array(("h", number, d), (slots, direction.state_size))
    c = None
    if direction.has_c:
        c_rows = slots if run.training else batch.running
        c = array(("c", number, d), (c_rows, direction.state_size))
    scratch = array(("scratch", number if run.wavefront else 0, d), (sizes["scratch"],))
    task.set_batch(batch.offset, batch.running, run.training, z, h, c, scratch)
    return task, h, c


def _join(directions: list[Direction], run: Pass, number: int, mask: np.ndarray | None) -> Rows:
    """Rows of a layer's output, its directions side by side."""
    batch, size = run.batch, directions[0].state_size
    hidden = directions[0].hidden_size
    if len(directions) == 1 and mask is None:
        h = run.states[number][0][0]
        return Rows(h.reshape(-1), batch.rows, batch.running * size, size, hidden)
    y = run.workspace.array(("y", number), (batch.rows, len(directions) * size))
    for d, (direction, (h, _)) in enumerate(zip(directions, run.states[number], strict=True)):
        states = batch.outputs(h, direction.reverse)
        direction.kernels.move_rows(
            (y, d * size, y.shape[1], size, None), (states, 0, size, size, None), batch.rows, 1,
            size, 0, engine.get_num_threads(),
        )  # fmt: skip
        if mask is not None:
            y[:, d * size : d * size + hidden] *= mask[:, d * size : d * size + hidden]
    return Rows(y.reshape(-1), batch.rows, 0, y.shape[1], hidden, len(directions), size)


def backward_stack(
    layers: list[list[Direction]],
    run: Pass,
    grads: list[list[dict[str, np.ndarray | None]]],
    dy: np.ndarray | None,
    dfinal: States,
    dembedding: np.ndarray | None,
    dx: np.ndarray | None,
) -> list[list[np.ndarray]]:
    """Backpropagate through all layers; the pass is used up.

    dy is (rows, directions * state_size) with zeros in the padding; dfinal the gradients of the
    final states. Adds to `grads`, which mirror the weights, and to `dembedding`. Writes the
    gradient of the input into dx (rows, input_size), where somebody wants it. Returns those of the
    initial states, the longest sequence first.
    """
    kernels, threads = layers[0][0].kernels, engine.get_num_threads()
    wavefront = run.wavefront and kernels.backward_chunks(run.tasks[0][0]) >= 4 * len(layers)
    dstates: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for number in reversed(range(len(layers))):
        directions, tasks, x = layers[number], run.tasks[number], run.inputs[number]
        dxs, pairs = [], []
        for d, direction in enumerate(directions):
            pairs.append(
                _set_gradients(direction, run, tasks[d], grads[number][d], dy, dfinal, number, d)
            )
            if x is None:
                dtable = _table(run, direction, d, "dtable")
                dtable[...] = 0
                tasks[d].set_dtable(dtable)
            elif number or dx is not None:
                width = x.stride if number else x.depth
                out = dx if number == d == 0 else None
                if out is None:
                    out = run.workspace.array(("dx", number, d), (run.batch.rows, width))
                tasks[d].set_dx(out, width, width)
                dxs.append(out)
        dstates.insert(0, pairs)
        if not wavefront:
            kernels.backward(tasks, threads)
            if len(dxs) == 2:
                dxs[0] += dxs[1]
            mask = run.masks[number - 1] if number else None
            if mask is not None:
                dxs[0] *= mask
        dy = dxs[0] if dxs else None
    if wavefront:
        kernels.backward_wavefront([tasks[0] for tasks in reversed(run.tasks)], threads)
    initial: list[list[np.ndarray]] = [[], []]
    for number, directions in enumerate(layers):
        for d, direction in enumerate(directions):
            db_hn = grads[number][d]["b_hn"]
            if db_hn is not None:
                db_hn += _db_h(run, direction, number, d)[-direction.hidden_size :]
            for k in range(1 + direction.has_c):
                initial[k].append(dstates[number][d][k][:, : direction.hidden_size])
    if run.tokens is not None:
        _token_gradients(layers[0], run, grads[0], dembedding, threads)
    _forget(run)
    return initial


def _set_gradients(
    direction: Direction,
    run: Pass,
    task: Any,
    grads: dict[str, np.ndarray | None],
    dy: np.ndarray | None,
    dfinal: States,
    number: int,
    d: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Give a task its gradient buffers; return dh and dc, which become dL/dh_0 and dL/dc_0."""
    index = number * len(run.tasks[0]) + d
    batch, array, hidden = run.batch, run.workspace.array, direction.hidden_size
    dstates = []
    for k, name in enumerate(("dh", "dc")):
        buffer = array((name, number, d), (batch.running, direction.state_size))
        buffer[...] = 0
        given = dfinal[k][index]
        if given is not None:
            buffer[:, :hidden] = batch.in_order(given)
        dstates.append(buffer)
    task.set_weights_back(direction.packed["W_hx"], direction.packed["W_hh"])
    sizes = direction.kernels.backward_sizes(task, batch.rows)
    db_h = None
    if grads["b_hn"] is not None:
        db_h = _db_h(run, direction, number, d)
        db_h[...] = 0
    task.set_gradients(
        None if dy is None else dy.reshape(-1), d * direction.state_size,
        0 if dy is None else dy.shape[1], dstates[0], dstates[1] if direction.has_c else None,
        grads["W_hx"], grads["W_hh"], grads["b_h"], db_h,
        array(("dz_columns", number if run.wavefront else 0, d), (sizes["dz_columns"],)),
        array(("x_panels", number if run.wavefront else 0, d), (sizes["x_panels"],)),
        array(("h_panels", number if run.wavefront else 0, d), (sizes["h_panels"],)),
    )  # fmt: skip
    return dstates[0], dstates[1]


def _db_h(run: Pass, direction: Direction, number: int, d: int) -> np.ndarray:
    """Gradient of all recurrent biases; the parameters keep those of the last gate."""
    return run.workspace.array(("db_h", number, d), (direction.gates * direction.hidden_size,))


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
    sizes = direction.task().sizes
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
            back = direction.kernels.backward_sizes(direction.task(), rows)
            states = (rows + batch) * direction.state_size * (1 + direction.has_c)
            total += rows * direction.z_size + states + 2 * batch * direction.state_size
            if number or not tokens:
                total += rows * direction.input_size * 2  # x or its place in the state, and dx
            if number == 0:
                total += back["dz_columns"] + back["x_panels"] + back["h_panels"]
    total += rows * sum(direction.state_size for direction in layers[-1])  # dy
    return total * layers[0][0].dtype.itemsize


def _table(run: Pass, direction: Direction, d: int, name: str) -> np.ndarray:
    assert run.used is not None
    return run.workspace.array((name, d), (len(run.used) * direction.table_size,))


def make_table(run: Pass, direction: Direction, d: int, W_hx: np.ndarray | None) -> None:
    """Project all tokens at once; the rows of a pass over tokens are gathered from there."""
    assert run.used is not None
    direction.make_table(_table(run, direction, d, "table"), W_hx, run.embedding, run.used)


def _token_gradients(
    directions: list[Direction],
    run: Pass,
    grads: list[dict[str, np.ndarray | None]],
    dembedding: np.ndarray | None,
    threads: int,
) -> None:
    """From the gradients of the projected tables to those of W_hx and the embedding."""
    for d, direction in enumerate(directions):
        dtable = _table(run, direction, d, "dtable")
        if run.embedding is None:
            direction.kernels.one_hot_gradient(direction.task(), dtable, grads[d]["W_hx"], run.used)
            continue
        count, width = run.embedding.shape
        sizes = direction.kernels.backward_sizes(direction.task(), count)
        dE = run.workspace.array("dembedding", (count, width))
        direction.kernels.table_backward(
            direction.task(), dtable, run.embedding, count, direction.packed["W_hx"], dE,
            grads[d]["W_hx"], run.workspace.array(("dz_columns", 0, d), (sizes["dz_columns"],)),
            run.workspace.array(("x_panels", 0, d), (sizes["x_panels"],)), threads,
        )  # fmt: skip
        if dembedding is not None:
            dembedding[run.used] += dE
