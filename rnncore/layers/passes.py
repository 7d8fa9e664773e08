"""The passes of a recurrent layer over checked arguments, and what they keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.cut import CutBatch
from rnncore.engine.noise import QUIET, Noise
from rnncore.engine.packed import Packed
from rnncore.engine.passes import Pass, States
from rnncore.engine.precision import check_trains
from rnncore.engine.rows import Rows
from rnncore.engine.segments import Segments
from rnncore.engine.sums import Sums
from rnncore.engine.tokens import Tokens, Vocabulary
from rnncore.engine.workspace import Lease, aligned_empty
from rnncore.layers.embedding import Embedding, check_embedding, owner_of, vectors_of
from rnncore.layers.form import Form, check_input, check_reset, check_rows
from rnncore.layers.guard import holding
from rnncore.layers.kept import Kept
from rnncore.layers.module import Module
from rnncore.layers.parameters import RecurrentModule
from rnncore.layers.states import State, StatefulModule
from rnncore.layers.watching import Watcher

if TYPE_CHECKING:
    from rnncore.engine.records import BackwardRecord

NOTHING = nullcontext()  # may be entered again and again


class Given(NamedTuple):
    """What a caller gave, checked.

    Attributes
    ----------
    x
        Features (T, B, I), token ids (T, B), or rows.
    tokens
        Whether these are token ids.
    form, batch, embedding
    state
        The initial states; None: those that the layer learns.
    """

    x: Any
    tokens: bool
    form: Form
    batch: Batch
    embedding: Embedding | np.ndarray | None
    state: States | None


class RecurrentPass(Kept):
    """What a recurrent layer keeps: the pass, or what it takes to run it again."""

    tokens: Tokens | None = None
    run: Pass | None = None
    segments: Segments | None = None
    lease: Lease | None = None  # of segments, as the next two
    x: np.ndarray | None = None  # features (T, B, I), or places of tokens (T, B)
    noise: Callable[[int], Noise] | None = None  # of a segment
    weight_keys: Sequence[int] = ()  # of what is dropped of each W_hh

    def __init__(self, layer: RecurrentModule, given: Given) -> None:
        super().__init__(layer)
        self.form, self.batch, self.embedding = given.form, given.batch, given.embedding
        self.state_given = given.state is not None
        self.learns_state = not self.state_given or (
            layer.learn_initial_state and given.batch.is_cut
        )
        self.owner = owner_of(given.embedding)
        self.owner_version = -1 if self.owner is None else self.owner._version

    def check(self) -> None:
        """Refuse a backward that must not use it, also after the embedding has changed."""
        super().check()
        owner = self.owner
        if owner is not None and (
            self.owner_version != owner._version or owner._guard.written_here()
        ):
            raise RuntimeError(
                "backward: the embedding has changed since forward; call backward first, then "
                "change it"
            )


class RecurrentPasses(StatefulModule):
    """A recurrent layer with its passes, in the engine's terms."""

    # Arguments and results

    def _enter(
        self, x: Any, state: State, lengths: Any, tokens: bool,
        embedding: Embedding | np.ndarray | None, reset: Any = None, rows: bool = False,
    ) -> Given:  # fmt: skip
        # All that can be wrong with a caller's arguments shows here, before anything changes.
        if reset is not None and (rows or isinstance(x, Rows)):
            raise ValueError("reset: expected arrays in and out, got rows; leave one of both")
        vocabulary = self.input_size
        if embedding is not None:
            vocabulary = check_embedding(embedding, self.input_size, self.dtype)
            tokens = True
        if isinstance(x, Rows):
            form = check_rows(x, lengths, tokens, self.layer_name, self.input_size, self.dtype)
            assert x.batch is not None
            initial = self._given_state(state, x.batch, form)
            return Given(x, False, form, x.batch, None, initial)
        x, form = check_input(
            x, lengths, tokens, self.layer_name, self.input_size, vocabulary, self.batch_first,
            self.dtype,
        )  # fmt: skip
        batch = Batch.of(x.shape[0], x.shape[1], form.lengths)
        if reset is not None:
            batch = CutBatch.of_mask(batch, check_reset(reset, form, batch))
        initial = self._given_state(state, batch, form)
        return Given(x, tokens, form, batch, embedding, initial)

    # Forward

    def _begin_pass(
        self, given: Given, training: bool, lease: Lease, weight_keys: Sequence[int] = ()
    ) -> tuple[Pass, Packed, Tokens | None, States]:
        # The initial states are those of the weights.
        batch = given.batch
        with self._weights_read(given.tokens, given.embedding):
            initial = self._initial_state(given.state, batch)
            if given.tokens:
                packed, found, tables = self._project_tokens(given, lease, training, weight_keys)
            else:
                packed, found = self._packed_for("forward", weight_keys, lease), None
        if found is None:
            return self._stack.begin(batch, given.x, lease, training), packed, None, initial
        run = self._stack.begin_tokens(batch, found.places, tables, lease, training)
        return run, packed, found, initial

    def _take(
        self, x: Any, state: State, lengths: Any, tokens: bool,
        embedding: Embedding | np.ndarray | None, rows: bool, reset: Any = None,
    ) -> tuple[Pass, Packed, States, Form, bool]:  # fmt: skip
        # What a call needs of its arguments and of the weights; `_finish` does the rest.
        given = self._enter(x, state, lengths, tokens, embedding, reset, rows)
        run, packed, _, initial = self._begin_pass(given, False, self._pool.lease())
        return run, packed, initial, given.form, rows or given.form.kind == "rows"

    def _finish(
        self, run: Pass, packed: Packed, initial: States, form: Form, rows: bool
    ) -> tuple[Any, State]:
        if rows:
            out, final = self._run_rows(run, packed, initial)
            return out, self._leave_state(final, form, run.batch)
        y, final = self._stack.run(run, packed, initial)
        return form.leave(y), self._leave_state(final, form, run.batch)

    def _project_tokens(
        self, given: Given, lease: Lease, training: bool, weight_keys: Sequence[int]
    ) -> tuple[Packed, Tokens, list[np.ndarray]]:
        ids, batch, embedding = given.x, given.batch, given.embedding
        packed = self._packed_for("forward", weight_keys, lease)
        owner, weight = owner_of(embedding), vectors_of(embedding)
        if not training and not isinstance(embedding, np.ndarray):
            whole = self._vocabulary(owner, weight, batch, packed)
            if whole is not None and whole.tables is not None:
                return packed, Tokens(ids, whole.used, weight), whole.tables
        found = Tokens.of(ids, batch, self.input_size, weight)
        return packed, found, self._stack.make_tables(found, packed, lease)

    def _vocabulary(
        self, module: Module | None, weight: np.ndarray | None, batch: Batch, packed: Packed
    ) -> Vocabulary | None:
        # With tables, if these weights have been read with before, and often enough.
        if self._guard.written_here() or (module is not None and module._guard.written_here()):
            return None
        of = (None, 0) if module is None else (module, module._version)
        version, found = self._packed_sets.get("vocabulary", (-1, None))
        if version != self._version or found.of != of:
            found = Vocabulary(of, self.input_size if weight is None else len(weight))
            self._packed_sets["vocabulary"] = self._version, found
        if found.tables is None:
            directions = self._stack.layers[0]
            row_bytes = len(directions) * directions[0].layer.table_size * self.dtype.itemsize
            if not found.pays(batch.rows, row_bytes):
                return None
            everything = Tokens(found.used, found.used, weight)
            found.tables = self._stack.make_tables(everything, packed)
        whole: Vocabulary = found
        return whole

    def _weights_read(self, tokens: bool, embedding: Embedding | np.ndarray | None) -> Any:
        # Held while weights are read as they are: they must not change before others are packed.
        if not (tokens or self.learn_initial_state):
            return NOTHING
        return self._of_both("weights", embedding)

    def _gradients(self, embedding: Embedding | np.ndarray | None) -> Any:
        return self._of_both("gradients", embedding)

    def _of_both(self, lock: str, embedding: Embedding | np.ndarray | None) -> Any:
        own, owner = getattr(self._guard, lock), owner_of(embedding)
        if owner is None or owner._guard is self._guard:
            return own
        return holding(own, getattr(owner._guard, lock))

    def _run_rows(
        self, run: Pass, packed: Packed, initial: States, noise: Noise = QUIET
    ) -> tuple[Rows, States]:
        stack, batch = self._stack, run.batch
        if batch.rows:
            return stack.forward(run, packed, initial, noise)
        last = stack.layers[-1]
        nothing = Rows(
            np.empty(0, self.dtype), 0, 0, stack.output_stride, last[0].hidden_size, len(last),
            last[0].state_size, False, batch,
        )  # fmt: skip
        return nothing, stack.zeros_for_none(initial, batch.batch)

    def _begin_forward(
        self, given: Given, rows: bool
    ) -> tuple[RecurrentPass, Pass, Packed, States, bool]:
        # Takes the weights; `_forward_run` does the rest.
        check_trains(self.precision)
        kept = RecurrentPass(self, given)
        kept.weight_keys = self._weight_keys()
        run, packed, kept.tokens, initial = self._begin_pass(
            given, True, self._pool.lease(), kept.weight_keys
        )
        return kept, run, packed, initial, rows or given.form.kind == "rows"

    def _forward_run(
        self, kept: RecurrentPass, run: Pass, packed: Packed, initial: States, rows: bool
    ) -> tuple[Any, State, RecurrentPass]:
        noise = self._whole_noise(kept.batch, run.workspace)
        y: Any
        if rows:
            y, final = self._run_rows(run, packed, initial, noise)
        else:
            y, final = self._stack.run(run, packed, initial, noise)
            y = kept.form.leave(y)
        kept.run = run
        return y, self._leave_state(final, kept.form, kept.batch), kept

    def _begin_segments(
        self, given: Given, segments: Segments
    ) -> tuple[RecurrentPass, Segments, list[np.ndarray] | None, Packed, States]:
        # The same for `_forward_segments`.
        check_trains(self.precision)
        kept, tables = RecurrentPass(self, given), None
        kept.segments, kept.x, kept.lease = segments, given.x, self._pool.lease()
        kept.weight_keys = keys = self._weight_keys()
        with self._weights_read(given.tokens, given.embedding):
            initial = self._initial_state(given.state, given.batch)
            if given.tokens:
                packed, kept.tokens, tables = self._project_tokens(given, kept.lease, True, keys)
                # A copy: ids that were checked shall not change.
                kept.x = kept.tokens.places.copy()
            else:
                packed = self._packed_for("forward", keys, kept.lease)
        return kept, segments, tables, packed, initial

    def _forward_segments(
        self,
        kept: RecurrentPass,
        segments: Segments,
        tables: list[np.ndarray] | None,
        packed: Packed,
        initial: States,
    ) -> tuple[Any, State, RecurrentPass]:
        assert kept.x is not None and kept.lease is not None
        rows = [segments.part(number)[1].rows for number in range(len(segments))]
        kept.noise = self._noise_of_segments(kept.batch, rows, kept.lease.workspace)
        y, final = segments.forward(kept.x, tables, packed, initial, kept.noise, kept.lease)
        return kept.form.leave(y), self._leave_state(final, kept.form, kept.batch), kept

    # Backward

    def _backward_run(
        self,
        kept: RecurrentPass,
        back: Packed,
        dy: np.ndarray | Rows | None,
        dfinal: States,
        input_gradient: bool,
        state_gradient: bool,
        accumulate: bool,
        record: BackwardRecord | None,
    ) -> tuple[Any, States]:
        run, batch = kept.run, kept.batch
        assert run is not None
        dx: Any = None
        if input_gradient and not kept.tokens:
            x = run.inputs[0]
            assert x is not None
            if kept.form.kind == "rows":
                dx = run.workspace.array(("dx", 0, 0), (batch.rows, x.stride))
                dx = x.like(dx, run.lease)
            else:
                shape = (batch.whole.steps, batch.whole.batch, self.input_size)
                dx = aligned_empty(prod(shape), self.dtype).reshape(shape)
                if batch.is_cut:
                    dx[...] = 0
        if isinstance(dy, np.ndarray):
            dy = batch.rows_of(dy, len(self._stack.layers[-1]))
        sums = self._begin_sums(kept, run.workspace, accumulate)
        embedding, learns_state, given = kept.embedding, kept.learns_state, kept.state_given
        kept.use_up()
        dinitial = self._stack.backward(
            run, back, sums, dy, dfinal, dx, state_gradient or learns_state, record
        )
        sums.finish()
        if learns_state:
            self._add_learned(dinitial, batch, given)
        dvectors = self._finish_tokens(sums, embedding, input_gradient, back)
        return dx if dvectors is None else dvectors, dinitial

    def _backward_segments(
        self,
        kept: RecurrentPass,
        packed: tuple[Packed, Packed],
        dy: np.ndarray | None,
        dfinal: States,
        input_gradient: bool,
        accumulate: bool,
        record: BackwardRecord | None,
    ) -> tuple[Any, States]:
        segments, x, lease, noise = kept.segments, kept.x, kept.lease, kept.noise
        batch = kept.batch
        assert segments is not None and x is not None and lease is not None and noise is not None
        dx = tables = None
        if kept.tokens is not None:
            tables = self._stack.make_tables(kept.tokens, packed[0], lease)
        elif input_gradient:
            dx = aligned_empty(x.size, self.dtype).reshape(x.shape)
            if batch.is_cut:
                dx[...] = 0
        sums = self._begin_sums(kept, lease.workspace, accumulate)
        embedding, learns_state, given = kept.embedding, kept.learns_state, kept.state_given
        kept.use_up()
        dinitial = segments.backward(
            x, tables, packed, noise, lease, sums, dy, dfinal, dx, record
        )
        sums.finish()
        if learns_state:
            self._add_learned(dinitial, batch, given)
        dvectors = self._finish_tokens(sums, embedding, input_gradient, packed[1])
        return dx if dvectors is None else dvectors, dinitial

    def _backward_record(
        self, batch: Batch, wanted: bool, watcher: Watcher | None
    ) -> BackwardRecord | None:
        if not wanted and watcher is None:
            return None
        from rnncore.engine.records import BackwardRecord

        whole = batch.whole
        return BackwardRecord(self._stack, whole.steps, whole.batch, watcher is not None)

    def _begin_sums(self, kept: RecurrentPass, workspace: Any, adds: bool) -> Sums:
        if not adds and not kept.batch.rows:
            self.zero_grad()
        elif not adds:  # to what the engine does not write itself is added all the same
            for array in self._summed_apart:
                array[...] = 0
            if kept.tokens is not None:
                for direction in self._stack.layers[0]:
                    direction.grads.W_hx[...] = 0
        drops = partial(self._drop, kept.weight_keys) if kept.weight_keys else None
        adds = adds or not kept.batch.rows
        return Sums(self._stack.layers, self._apart, kept.tokens, workspace, adds, drops)

    def _finish_tokens(
        self, sums: Sums, embedding: Embedding | np.ndarray | None, wanted: bool, back: Packed
    ) -> np.ndarray | None:
        # Returns the gradient of vectors that are no module's, if it is wanted.
        owner, dvectors = owner_of(embedding), None
        if owner is None and embedding is not None and wanted:
            dvectors = np.zeros_like(embedding)
        sums.finish_tokens(dvectors if owner is None else owner._grads["weight"], back.weights)
        return dvectors
