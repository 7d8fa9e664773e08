"""What recurrent layers share: parameters under PyTorch's names, shapes, and the three passes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import (
    as_array,
    as_real,
    check_dtype,
    check_flag,
    check_probability,
    check_seed,
    check_size,
    check_weights,
)
from rnncore.engine.workspace import Workspace, aligned_empty
from rnncore.layers.batch import Batch
from rnncore.layers.dropout import Dropout
from rnncore.layers.embedding import Embedding
from rnncore.layers.form import Form, check_input, check_state
from rnncore.layers.module import Module, Seed
from rnncore.layers.rows import Rows
from rnncore.layers.segments import Segments
from rnncore.layers.stack import (
    MOST_LAYERS,
    Direction,
    Pass,
    States,
    Sums,
    backward_stack,
    describe,
    forward_stack,
    make_tables,
    state_names,
)
from rnncore.layers.stream import make_stream, packed_copy
from rnncore.layers.tokens import Tokens

State = Any
"""h, or (h, c) for an LSTM: arrays (num_layers * directions, B, H)."""


class Recurrent(Module):
    """Base of RNN, LSTM and GRU, whose pages describe it."""

    layer_name = ""  # as errors call it

    def __init__(
        self,
        cell: Any,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        learn_initial_state: bool,
        dtype: DTypeLike,
        seed: Seed,
    ) -> None:
        self.input_size = check_size("input_size", input_size)
        self.num_layers = check_size("num_layers", num_layers)
        if isinstance(hidden_size, Sequence):
            if not hidden_size or num_layers not in (1, len(hidden_size)):
                raise ValueError(
                    f"hidden_size: expected one size a layer, {num_layers} in all, got "
                    f"{list(hidden_size)!r}"
                )
            self.num_layers = len(hidden_size)
            layer_sizes = [check_size("hidden_size", size) for size in hidden_size]
        else:
            layer_sizes = [check_size("hidden_size", hidden_size)] * self.num_layers
        self.hidden_size = hidden_size
        self.bias = check_flag("bias", bias)
        self.batch_first = check_flag("batch_first", batch_first)
        self.bidirectional = check_flag("bidirectional", bidirectional)
        self.learn_initial_state = check_flag("learn_initial_state", learn_initial_state)
        self.dropout = check_probability("dropout", dropout)
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                f"dropout: {self.dropout} has no effect on one layer, as it stands between layers; "
                "give several, or put an rnncore.Dropout behind",
                stacklevel=3,
            )
        dtype, seed = check_dtype(dtype), check_seed(seed)
        count = 2 if bidirectional else 1
        self._sizes = [size for size in layer_sizes for _ in range(count)]
        self._mixed_sizes = len(set(layer_sizes)) > 1
        self._layers: list[list[Direction]] = []
        width = self.input_size
        for size in layer_sizes:
            check_weights("input_size, hidden_size", 8 * size, max(width, size))  # 8 gates at most
            self._layers.append([Direction(cell, width, size, d == 1, dtype) for d in range(count)])
            width = count * size
        self.output_size = width
        self._has_c = self._layers[0][0].has_c
        self._has_b_hn = cell == "gru" and self.bias
        super().__init__(self._parameter_shapes(), dtype=dtype)
        self._dropout = Dropout(self.dropout, dtype=dtype, seed=seed)
        for direction in self._directions():
            for array in direction.weights.values():
                if array is not None:
                    bound = direction.hidden_size**-0.5
                    array[...] = self._dropout.generator.uniform(-bound, bound, array.shape)
        self._packed: dict[str, int] = {}  # for which pass, of which version
        self._packing = threading.Lock()
        self._kept: _Kept | None = None
        self._training_workspace = Workspace(dtype)
        self._idle_workspaces: list[Workspace] = []  # of inference, one for each caller at a time

    def __repr__(self) -> str:
        """Return how to make such a layer."""
        options = ("num_layers", 1), ("bidirectional", False), ("batch_first", False)
        shown = [f"{name}={getattr(self, name)}" for name, usual in options
                 if getattr(self, name) != usual]  # fmt: skip
        sizes = [str(self.input_size), str(self.hidden_size)]
        return f"{type(self).__name__}({', '.join([*sizes, *shown])})"

    # Parameters

    def _directions(self) -> list[Direction]:
        return [direction for layer in self._layers for direction in layer]

    def _ends(self) -> list[str]:
        # What the parameter names of each direction of each layer end in.
        return [
            f"_l{layer}" + "_reverse" * d
            for layer, directions in enumerate(self._layers)
            for d in range(len(directions))
        ]

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for end, direction in zip(self._ends(), self._directions(), strict=True):
            rows, size = direction.gates * direction.hidden_size, direction.hidden_size
            shapes[f"weight_ih{end}"] = (rows, direction.input_size)
            shapes[f"weight_hh{end}"] = (rows, size)
            if self.bias:
                shapes[f"bias_ih{end}"] = (rows,)
            if self._has_b_hn:
                shapes[f"bias_hn{end}"] = (size,)
            if self.learn_initial_state:
                for letter in "hc"[: 1 + self._has_c]:
                    shapes[f"initial_{letter}{end}"] = (size,)
        return shapes

    def _bind(self, flat_params: np.ndarray, flat_grads: np.ndarray) -> None:
        super()._bind(flat_params, flat_grads)
        names = {"W_hx": "weight_ih", "W_hh": "weight_hh", "b_h": "bias_ih", "b_hn": "bias_hn"}
        for end, direction in zip(self._ends(), self._directions(), strict=True):
            direction.weights = {k: self._params.get(name + end) for k, name in names.items()}
            direction.grads = {k: self._grads.get(name + end) for k, name in names.items()}

    def _own_state(self) -> dict[str, np.ndarray]:
        # PyTorch has two biases; the second is zero but for the part that is kept apart.
        state: dict[str, np.ndarray] = {}
        for name, array in self._params.items():
            if name.startswith("bias_hn"):
                state[name.replace("hn", "hh")][-len(array) :] = array
                continue
            state[name] = array.copy()
            if name.startswith("bias_ih"):
                state[name.replace("ih", "hh")] = np.zeros_like(array)
        return state

    def _load_own(self, state: Mapping[str, np.ndarray]) -> None:
        for name, array in self._params.items():
            if name.startswith("bias_hn"):
                array[...] = state[name.replace("hn", "hh")][-len(array) :]
                continue
            array[...] = state[name]
            if name.startswith("bias_ih"):
                second = np.array(state[name.replace("ih", "hh")], self.dtype)
                if self._has_b_hn:
                    second[-(len(second) // 3) :] = 0
                array += second

    def _refresh(self, which: str, apart: bool = False) -> None:
        # Pack the weights for the forward or the backward pass, if that is not what stands there
        # or they may have changed since. The two share a place, unless those for backward shall
        # stand apart.
        with self._packing:
            if which in self._packed and not self._stale(self._packed[which]):
                return
            if which == "forward" or not apart:
                self._packed.clear()
            for layer, directions in enumerate(self._layers):
                for direction in directions:
                    if which == "forward":
                        direction.pack()
                        continue
                    both = layer > 0 and len(directions) == 2
                    parts = (2, self._layers[layer - 1][0].state_size) if both else (1, 0)
                    direction.pack_back(*parts, apart)
            self._packed[which] = self._version

    # Running

    def __call__(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        *,
        embedding: Embedding | None = None,
    ) -> tuple[Any, State]:
        """Run the layer and keep nothing for backward; see the class for shapes."""
        x, tokens, form = self._check_input(x, lengths, embedding)
        initial = self._initial_state(state, x.shape[1], form)
        try:
            workspace = self._idle_workspaces.pop()
        except IndexError:
            workspace = Workspace(self.dtype)
        batch = Batch.of(x.shape[0], x.shape[1], form.lengths)
        run, _ = self._new_pass(batch, x, tokens, embedding, False, workspace)
        y, final = self._run(run, initial)
        self._idle_workspaces.append(workspace)
        return form.leave(y), self._leave_state(final, form)

    def forward(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        *,
        embedding: Embedding | None = None,
        memory: int | None = None,
    ) -> tuple[Any, State]:
        """Run the layer, with dropout between its layers, and keep what backward needs.

        Parameters
        ----------
        x, state, lengths, embedding
            See the class.
        memory
            Bytes that may be kept for backward, beside x, y, the weights and, for tokens, a table
            of what each contributes. Then only the states at the borders of segments are kept, and
            backward runs each segment again (Chen et al., Training deep nets with sublinear memory
            cost, 2016). Gradients are those of the full pass, to the bit. x must not change before
            backward. None keeps everything.

        Raises
        ------
        ValueError
            If `memory` is too little for one segment, or the layer is bidirectional.
        """
        x, tokens, form = self._check_input(x, lengths, embedding)
        initial = self._initial_state(state, x.shape[1], form)
        kept = _Kept(form, x.shape, embedding, state is None, self._version)
        batch = Batch.of(x.shape[0], x.shape[1], form.lengths)
        if memory is None:
            kept.run, kept.tokens = self._new_pass(
                batch, x, tokens, embedding, True, self._training_workspace
            )
            y, final = self._run(kept.run, initial)
        else:
            kept.segments = Segments.plan(self._layers, batch, memory, tokens, self.dtype)
            y, final = self._forward_segments(kept, batch, x, tokens, initial)
        self._kept = kept
        return form.leave(y), self._leave_state(final, form)

    def backward(
        self,
        dy: Any,
        dstate: State = None,
        *,
        input_gradient: bool = True,
        accumulate: bool = True,
    ) -> tuple[Any, State]:
        """Backpropagate through time from the last `forward`, into `grads`.

        Parameters
        ----------
        dy
            dL/dy in the shape of y; None is zero.
        dstate
            dL/d(final state) in the shape of the state; None is zero.
        input_gradient
            False skips the gradient of x, which then is None. It is None for tokens as well.
        accumulate
            Whether to add to `grads`, as several chunks of a batch want it. False replaces what
            stands there: the same as `zero_grad` before, in less time. The gradient of an
            embedding, a module of its own, is always added to.

        Returns
        -------
        dx, dstate
            dL/dx and dL/d(initial state).

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each forward serves one backward), or the weights have
            changed since (what is written through `params` is not noticed, and would be wrong).
        ValueError, TypeError
            If a gradient does not fit.
        """
        accumulate = check_flag("accumulate", accumulate)
        kept = self.check_kept()
        form, (steps, size) = kept.form, kept.shape[:2]
        dfinal = check_state(
            "dstate", dstate, self.layer_name, self._sizes, len(self._layers[0]), self._has_c,
            size, form, self.dtype,
        )  # fmt: skip
        if dy is not None:
            dy = self._check_dy(dy, form, steps, size)
        self._kept = None
        dx = None
        if input_gradient and kept.tokens is None:
            dx = aligned_empty(prod(kept.shape), self.dtype).reshape(kept.shape)
        sums = self._begin_sums(kept, accumulate)
        if kept.run is not None:
            self._refresh("backward")
            dinitial = self._backward_run(kept.run, sums, dy, dfinal, dx)
        else:
            dinitial = self._backward_segments(kept, sums, dy, dfinal, dx)
        self._finish_sums(sums, kept, dinitial)
        return None if dx is None else form.leave(dx), self._leave_state(dinitial, form)

    def record(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        *,
        embedding: Embedding | None = None,
    ) -> tuple[Any, State, list[dict[str, Any]]]:
        """Run the layer and return every state of every step as well, at the speed of `forward`.

        Returns
        -------
        y, state
            As a call returns them.
        records
            For each direction of each layer, in the order of the state: arrays (T, B, H) in the
            layout of y. `h`; for an LSTM `c` and the gates `i`, `f`, `g`, `o`; for a GRU the gates
            `r`, `z`, `n`. Zero beyond each sequence's end.

        Examples
        --------
        >>> import numpy as np, rnncore
        >>> y, state, records = rnncore.LSTM(3, 5, seed=0).record(np.ones((7, 2, 3)))
        >>> sorted(records[0]), records[0]["f"].shape
        (['c', 'f', 'g', 'h', 'i', 'o'], (7, 2, 5))
        """
        x, tokens, form = self._check_input(x, lengths, embedding)
        initial = self._initial_state(state, x.shape[1], form)
        batch = Batch.of(x.shape[0], x.shape[1], form.lengths)
        run, _ = self._new_pass(batch, x, tokens, embedding, True, Workspace(self.dtype))
        y, final = self._run(run, initial, dropout=False)
        records = []
        for number, directions in enumerate(self._layers):
            for d, direction in enumerate(directions):
                record = {}
                states = describe(direction, run, number, d) if batch.rows else {}
                for name in state_names(direction):
                    pieces = states.get(name, [])
                    whole = batch.empty((*x.shape[:2], direction.hidden_size), self.dtype)
                    column = 0
                    for rows in pieces:
                        batch.scatter(whole, rows, column)
                        column += rows.features
                    record[name] = form.leave(whole)
                records.append(record)
        return form.leave(y), self._leave_state(final, form), records

    def stream(self, *, tokens: bool = False, embedding: Embedding | None = None) -> Any:
        """Return a stream: an object with weights and state of its own, fed step by step.

        `step(x, out=None)` takes one step and `process(block, out=None)` several, without
        allocating when `out` is given; `reset`, `get_state`, `set_state` and `copy` handle the
        state. Steps, blocks and a call over the whole sequence give the same bits. Later changes
        of the layer's weights do not reach it.

        Parameters
        ----------
        tokens, embedding
            Whether a step is a token id, read one-hot or through `embedding`.

        Raises
        ------
        ValueError
            If the layer is bidirectional, where the second direction begins at the end; or has
            more than 64 layers; or the embedding does not fit.

        Examples
        --------
        >>> import numpy as np, rnncore
        >>> layer = rnncore.LSTM(3, 5, seed=0)
        >>> stream = layer.stream()
        >>> x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
        >>> steps = np.stack([stream.step(row) for row in x])
        >>> bool((steps == layer(x)[0]).all())
        True
        """
        if self.bidirectional:
            raise ValueError(
                "stream: a bidirectional layer cannot be fed step by step; its second direction "
                "begins at the end of the sequence"
            )
        if self.num_layers > MOST_LAYERS:
            raise ValueError(
                f"stream: expected at most {MOST_LAYERS} layers, got {self.num_layers}; stack "
                "several streams instead"
            )
        if embedding is not None:
            self._check_embedding(embedding)
        directions = [directions[0] for directions in self._layers]
        layers = packed_copy(directions)
        vocabulary, table = 0, None
        if tokens or embedding is not None:
            rows = None if embedding is None else embedding._params["weight"]
            vocabulary = self.input_size if rows is None else len(rows)
            table = aligned_empty(vocabulary * layers[0].table_size, self.dtype)
            everything = np.arange(vocabulary)
            layers[0].make_table(table, Tokens(everything, everything, rows))
        for direction in layers:
            del direction.weights  # the stream shall not keep the layer's parameters alive
        h, c = self._initial_state(None, 1, Form("time first"))
        zero = np.zeros(1, self.dtype)
        initial = [
            (zero if h_0 is None else h_0[0], zero if c_0 is None else c_0[0])
            for h_0, c_0 in zip(h, c, strict=True)
        ]
        return make_stream(layers, initial, vocabulary, table)

    # For models: outputs and their gradients stay in the engine's rows

    def forward_rows(
        self, x: Any, state: State = None, *, embedding: Embedding | None = None
    ) -> tuple[Rows, State]:
        """Run the layer as `forward` does, on batches without lengths and with a step at least.

        The rows of y, step by step, are good until the next pass.
        """
        x, tokens, form = self._check_input(x, None, embedding)
        assert form.lengths is None and x.size
        initial = self._initial_state(state, x.shape[1], form)
        kept = _Kept(form, x.shape, embedding, state is None, self._version)
        batch = Batch.of(x.shape[0], x.shape[1], None)
        run, kept.tokens = self._new_pass(
            batch, x, tokens, embedding, True, self._training_workspace
        )
        rows, last = self._run_stack(run, initial, True, None)
        kept.run, self._kept = run, kept
        return rows, self._leave_state(self._final(run, initial, last), form)

    def backward_rows(self, dy: Rows, accumulate: bool) -> None:
        """Do `backward` without dx from dy in rows as those of y, with zeros in the padding."""
        kept, self._kept = self.check_kept(), None
        assert kept.run is not None
        assert dy.length == kept.run.batch.rows and dy.stride == self.padded_output_size
        nothing: States = [[None] * len(self._sizes)] * 2
        sums = self._begin_sums(kept, accumulate)
        self._refresh("backward")
        first = backward_stack(self._layers, kept.run, sums, dy, nothing, None)
        self._finish_sums(sums, kept, first)

    def check_kept(self) -> _Kept:
        """Return what the last forward kept, or say why it cannot serve a backward."""
        kept = self._kept
        if kept is None:
            raise RuntimeError("backward: nothing was kept; call forward first, once for each")
        if kept.version != self._version:
            raise RuntimeError(
                "backward: the weights have changed since forward; call backward first, then "
                "change them"
            )
        if kept.embedding is not None and kept.embedding_version != kept.embedding._version:
            raise RuntimeError(
                "backward: the embedding has changed since forward; call backward first, then "
                "change it"
            )
        return kept

    def _begin_sums(self, kept: _Kept, adds: bool) -> Sums:
        if not adds and not kept.rows:
            self.zero_grad()
        elif not adds:  # to what the engine does not write itself is added all the same
            others = ("initial_", "bias_hn", *["weight_ih_l0"] * (kept.tokens is not None))
            for name, array in self._grads.items():
                if name.startswith(others):
                    array[...] = 0
        return Sums(self._layers, kept.tokens, self._training_workspace, adds)

    def _finish_sums(
        self, sums: Sums, kept: _Kept, dinitial: Sequence[Sequence[np.ndarray | None]]
    ) -> None:
        sums.finish(None if kept.embedding is None else kept.embedding._grads["weight"])
        # The gradient of a learned initial state, which all sequences share.
        if not (self.learn_initial_state and kept.default_state):
            return
        for k, letter in enumerate("hc"[: 1 + self._has_c]):
            for index, end in enumerate(self._ends()):
                given = dinitial[k][index]
                if given is not None:
                    self._grads[f"initial_{letter}{end}"] += given.sum(axis=0)

    # The passes, over checked arguments

    def _new_pass(
        self,
        batch: Batch,
        x: np.ndarray,
        tokens: bool,
        embedding: Embedding | None,
        training: bool,
        workspace: Workspace,
    ) -> tuple[Pass, Tokens | None]:
        # Over features (T, B, I) or token ids (T, B).
        self._refresh("forward")
        if not tokens:
            return self._set_up(batch, x, None, training, workspace), None
        found = self._find_tokens(x, batch, embedding)
        tables = self._make_tables(found, workspace)
        return self._set_up(batch, found.places, tables, training, workspace), found

    def _find_tokens(self, ids: np.ndarray, batch: Batch, embedding: Embedding | None) -> Tokens:
        weight = None if embedding is None else embedding._params["weight"]
        return Tokens.of(ids, batch, self.input_size, weight)

    def _make_tables(self, tokens: Tokens, workspace: Workspace) -> list[np.ndarray]:
        return make_tables(self._layers[0], tokens, workspace)

    def _set_up(
        self,
        batch: Batch,
        x: np.ndarray,
        tables: list[np.ndarray] | None,
        training: bool,
        workspace: Workspace,
    ) -> Pass:
        # Over features, or with tables over the places (T, B) of tokens in them; with the weights
        # packed for the forward pass.
        run = Pass(batch, workspace, training)
        if tables is not None:
            ids = batch.tokens(x)
            run.tokens = ids.copy() if training else ids  # the caller may change x before backward
            run.tables = tables
            run.inputs.append(None)
            return run
        if training:  # the caller may change x before backward
            rows = workspace.array("x", (batch.rows, x.shape[2]))
            batch.gather(rows, x)
            run.inputs.append(Rows.of(rows))
        else:
            run.inputs.append(Rows.of(x, placed=not batch.dense))
        return run

    def _run_stack(
        self, run: Pass, initial: States, dropout: bool, y: np.ndarray | None
    ) -> tuple[Rows, list[list[np.ndarray]]]:
        # The rows of the output, in y (T, B, features) or in the workspace, and final states.
        masks: list[np.ndarray | None] = []
        if dropout and self.dropout:
            for directions in self._layers[:-1]:
                width = len(directions) * directions[0].state_size
                masks.append(self._dropout.mask((run.batch.rows, width)))
        return forward_stack(self._layers, run, initial, masks, y)

    @property
    def padded_output_size(self) -> int:
        """Length of a row of the output in the engine, each direction padded to whole blocks."""
        return len(self._layers[-1]) * self._layers[-1][0].state_size

    def _run(
        self,
        run: Pass,
        initial: States,
        dropout: bool | None = None,
        y: np.ndarray | None = None,
    ) -> tuple[np.ndarray, States]:
        # y (T, B, features), the given one or a new one, and the final states.
        batch = run.batch
        shape = (batch.steps, batch.batch, self.output_size)
        if not batch.rows:
            y = np.empty(shape, self.dtype) if y is None else y
            y[...] = 0
            return y, self._zeros_for_none(initial, batch.batch)
        dropout = run.training if dropout is None else dropout
        one_direction = len(self._layers[-1]) == 1
        unpadded = one_direction and self.padded_output_size == self.output_size
        if y is None and unpadded and batch.dense and not run.training:
            # h is the output as it stands, if nobody needs it for backward.
            first = batch.running * self.output_size
            h = aligned_empty(first + batch.rows * self.output_size, self.dtype)
            run.states_out = h.reshape(-1, self.output_size)
            _, last = self._run_stack(run, initial, dropout, None)
            return h[first:].reshape(shape), self._final(run, initial, last)
        if y is None:
            y = aligned_empty(prod(shape), self.dtype).reshape(shape)
        y[batch.longest :] = 0
        _, last = self._run_stack(run, initial, dropout, y)
        return y, self._final(run, initial, last)

    def _final(self, run: Pass, initial: States, last: list[list[np.ndarray]]) -> States:
        # The states after a pass; sequences without a step keep theirs.
        if run.batch.dense:
            final: States = [[values.copy() for values in arrays] for arrays in last]
            final[1] = final[1] or [None] * len(final[0])
            return final
        final = self._zeros_for_none(initial, run.batch.batch)
        for arrays, ends in zip(final, last, strict=True):
            for out, values in zip(arrays, ends, strict=False):
                assert out is not None
                run.batch.restore(out, values)
        return final

    def _backward_run(
        self,
        run: Pass,
        sums: Sums,
        dy: np.ndarray | None,
        dfinal: States,
        dx: np.ndarray | None,
    ) -> States:
        # dy is dL/dy (T, B, features) or None. Adds to sums, writes dx (T, B, features) where it is
        # wanted; returns the gradient of the initial state.
        batch = run.batch
        if not batch.rows:
            if dx is not None:
                dx[...] = 0
            return self._zeros_for_none(dfinal, batch.batch)
        given = None if dy is None else Rows.of(dy, len(self._layers[-1]), not batch.dense)
        if dx is not None:
            dx[batch.longest :] = 0
        first = backward_stack(self._layers, run, sums, given, dfinal, dx)
        return self._final(run, dfinal, first)

    def _forward_segments(
        self, kept: _Kept, batch: Batch, x: np.ndarray, tokens: bool, initial: States
    ) -> tuple[np.ndarray, States]:
        # y (T, B, features) and the final states; what begins each segment is kept.
        segments, workspace, tables = kept.segments, self._training_workspace, None
        assert segments is not None
        self._refresh("forward")
        if tokens:
            kept.tokens = self._find_tokens(x, batch, kept.embedding)
            # A copy: ids that were checked shall not change.
            x, tables = kept.tokens.places.copy(), self._make_tables(kept.tokens, workspace)
        kept.x = x
        shape = (*x.shape[:2], self.output_size)
        y = aligned_empty(prod(shape), self.dtype).reshape(shape)
        final = self._zeros_for_none(initial, x.shape[1])
        for number in range(len(segments)):
            part, batch = segments.batch(number, kept.form.lengths)
            noise = self._dropout.generator.bit_generator.state if self.dropout else None
            segments.keep(final, noise)
            run = self._set_up(batch, x[part], tables, False, workspace)
            _, final = self._run(run, final, True, y[part])
        return y, final

    def _backward_segments(
        self,
        kept: _Kept,
        sums: Sums,
        dy: np.ndarray | None,
        dfinal: States,
        dx: np.ndarray | None,
    ) -> States:
        # Each segment forward once more, then backward.
        segments, x, workspace, tables = kept.segments, kept.x, self._training_workspace, None
        assert segments is not None and x is not None
        self._refresh("forward")
        if kept.tokens is not None:
            tables = self._make_tables(kept.tokens, workspace)
        self._refresh("backward", apart=True)
        generator = self._dropout.generator.bit_generator
        after = generator.state
        for number in reversed(range(len(segments))):
            part, batch = segments.batch(number, kept.form.lengths)
            initial, noise = segments.kept(number)
            if noise is not None:
                generator.state = noise
            run = self._set_up(batch, x[part], tables, True, workspace)
            if batch.rows:
                self._run_stack(run, initial, True, None)
            dfinal = self._backward_run(
                run, sums, None if dy is None else dy[part], dfinal,
                None if dx is None else dx[part],
            )  # fmt: skip
        generator.state = after
        return dfinal if len(segments) else self._zeros_for_none(dfinal, x.shape[1])

    # Arguments and results

    def _check_input(
        self, x: Any, lengths: Any, embedding: Embedding | None
    ) -> tuple[np.ndarray, bool, Form]:
        vocabulary = self.input_size
        if embedding is not None:
            self._check_embedding(embedding)
            pieces = x if isinstance(x, list | tuple) else [x]
            kinds = {as_array("x", piece).dtype for piece in pieces}
            if any(kind.kind not in "iu" for kind in kinds):
                raise TypeError(
                    f"x: expected integer token ids for the embedding, got {kinds.pop()}"
                )
            vocabulary = embedding.num_embeddings
        return check_input(
            x, lengths, self.layer_name, self.input_size, vocabulary, self.batch_first, self.dtype
        )

    def _check_embedding(self, embedding: object) -> None:
        if not isinstance(embedding, Embedding):
            raise TypeError(
                f"embedding: expected an rnncore.Embedding, got {type(embedding).__name__}"
            )
        if embedding.embedding_dim != self.input_size or embedding.dtype != self.dtype:
            raise ValueError(
                f"embedding: expected {self.dtype} vectors of size {self.input_size}, got "
                f"{embedding.dtype} of size {embedding.embedding_dim}"
            )

    def _check_dy(self, dy: Any, form: Form, steps: int, size: int) -> np.ndarray:
        if form.kind == "list":
            dy = [as_real("dy", piece, self.dtype) for piece in dy]
            shapes = [piece.shape for piece in dy]
        else:
            dy = as_real("dy", dy, self.dtype)
            shapes = dy.shape
        wanted = form.shape(steps, size, self.output_size)
        if shapes != wanted:
            raise ValueError(f"dy: expected the shape of y, {wanted}, got {shapes}")
        return np.ascontiguousarray(form.enter(dy))

    def _initial_state(self, state: State, size: int, form: Form) -> States:
        if state is None and self.learn_initial_state:
            letters = "hc"[: 1 + self._has_c]
            learned: States = [
                [np.tile(self._params[f"initial_{k}{end}"], (size, 1)) for end in self._ends()]
                for k in letters
            ]
            return learned if self._has_c else [*learned, [None] * len(self._sizes)]
        return check_state(
            "state", state, self.layer_name, self._sizes, len(self._layers[0]), self._has_c,
            size, form, self.dtype,
        )  # fmt: skip

    def _zeros_for_none(self, states: States, size: int) -> States:
        return [
            [
                np.zeros((size, hidden), self.dtype) if array is None else array.copy()
                for array, hidden in zip(arrays, self._sizes, strict=True)
            ]
            for arrays in states
        ]

    def _leave_state(self, states: States, form: Form) -> State:
        directions = len(self._layers[0])
        parts: list[Any] = []
        for arrays in states[: 1 + self._has_c]:
            found = [array for array in arrays if array is not None]
            if self._mixed_sizes:
                pieces = range(0, len(found), directions)
                layers = [np.stack(found[n : n + directions]) for n in pieces]
                parts.append([form.leave_state(array) for array in layers])
            else:
                together = np.stack(found) if len(found) > 1 else found[0][None]
                parts.append(form.leave_state(together))
        return tuple(parts) if self._has_c else parts[0]

    def explain(self, steps: int, batch: int, training: bool = False) -> str:
        """Say what runs for a dense batch of `batch` sequences of `steps` steps, and why.

        The build, how the threads share the work, the bytes of packed weights and buffers, and
        which parts are matrix products (GEMM), products with a vector (matvec), or gathers.

        Examples
        --------
        >>> import rnncore
        >>> print(rnncore.LSTM(8, 16).explain(100, 1))  # doctest: +ELLIPSIS
        LSTM 8 -> 16, float32, inference of T = 100, B = 1
        build ...
        """
        from rnncore.layers.explain import explain

        steps, batch = check_size("steps", steps, 0), check_size("batch", batch, 0)
        return explain(self, self._layers, steps, batch, training)


@dataclass
class _Kept:
    """What `backward` needs of the last `forward`: the pass, or what it takes to run it again."""

    form: Form
    shape: tuple[int, ...]  # of x, time first
    embedding: Embedding | None
    default_state: bool
    version: int  # of the weights
    embedding_version: int = field(init=False)
    tokens: Tokens | None = None
    run: Pass | None = None
    segments: Segments | None = None
    x: np.ndarray | None = None  # of segments: features (T, B, I), or places of tokens (T, B)

    @property
    def rows(self) -> int:
        """Steps of all sequences together."""
        lengths = self.form.lengths
        return self.shape[0] * self.shape[1] if lengths is None else int(lengths.sum())

    def __post_init__(self) -> None:
        self.embedding_version = -1 if self.embedding is None else self.embedding._version
