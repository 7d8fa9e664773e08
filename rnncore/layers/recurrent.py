"""Recurrent layers as a user calls them: run, train, record, stream, explain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

import numpy as np

from rnncore.arguments import check_flag, check_size
from rnncore.engine.rows import Rows
from rnncore.engine.segments import plan_segments
from rnncore.layers.embedding import Embedding
from rnncore.layers.form import check_gradient
from rnncore.layers.kept import find, remember
from rnncore.layers.passes import RecurrentPass, RecurrentPasses, State
from rnncore.layers.recording import record_recurrent
from rnncore.layers.streaming import stream_of, streams_of
from rnncore.layers.tape import recording
from rnncore.layers.watching import Seen, last_alone, watching


class Recurrent(RecurrentPasses):
    """Layers of any cell; the base of RNN, LSTM and GRU, whose pages describe the options.

    Parameters
    ----------
    cell
        The name of a built-in cell: "rnn_tanh", "rnn_relu", "rnn_sigmoid", "rnn_identity", "lstm",
        "gru", "gru_reset_before", or what `rnncore.cell` makes.
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, variational, \
recurrent_dropout, zoneout, weight_drop, learn_initial_state, precision, reverse, dtype, seed
        As in `RNN`.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> y, h = rnncore.Recurrent("gru", 3, 5, seed=0)(np.ones((7, 2, 3)))
    >>> y.shape
    (7, 2, 5)
    """

    def __call__(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        *,
        tokens: bool = False,
        embedding: Embedding | Any | None = None,
        rows: bool = False,
        reset: Any = None,
    ) -> tuple[Any, State]:
        """Run the layer; see the class for shapes, `forward` for `reset`.

        Nothing is kept for backward, unless a `Tape` is open: then it is a training pass.
        """
        tape = recording()
        if tape is not None:
            return record_recurrent(tape, self, x, state, lengths, tokens, embedding, rows, reset)
        return self._finish(*self._take(x, state, lengths, tokens, embedding, rows, reset))

    def ready(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        *,
        tokens: bool = False,
        embedding: Embedding | Any | None = None,
        rows: bool = False,
        keep: bool = False,
    ) -> Callable[[], Any]:
        """Do all of a call that asks for the weights, and return what does the rest.

        So a model whose parts run one after another takes the weights of all at one moment, while
        another thread may train it. With `keep` it is the `forward` that returns its pass.
        """
        if keep:
            given = self._enter(x, state, lengths, tokens, embedding)
            return partial(self._forward_run, *self._begin_forward(given, rows))
        taken = self._take(x, state, lengths, tokens, embedding, rows)
        return partial(self._finish, *taken)

    @overload
    def forward(
        self, x: Any, state: State = None, lengths: Any = None, *, tokens: bool = ...,
        embedding: Embedding | Any | None = ..., memory: int | None = ..., rows: bool = ...,
        reset: Any = ..., keep: Literal[False] = ...,
    ) -> tuple[Any, State]: ...  # fmt: skip
    @overload
    def forward(
        self, x: Any, state: State = None, lengths: Any = None, *, tokens: bool = ...,
        embedding: Embedding | Any | None = ..., memory: int | None = ..., rows: bool = ...,
        reset: Any = ..., keep: Literal[True],
    ) -> tuple[Any, State, RecurrentPass]: ...  # fmt: skip
    def forward(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        *,
        tokens: bool = False,
        embedding: Embedding | Any | None = None,
        memory: int | None = None,
        rows: bool = False,
        reset: Any = None,
        keep: bool = False,
    ) -> Any:
        """Run the layer, with dropout between its layers, and keep what backward needs.

        Parameters
        ----------
        x, state, lengths, tokens, embedding
            See the class.
        memory
            Bytes that may be kept for backward, beside x, y, the weights and, for tokens, a table
            of what each contributes. Where that is less than the whole pass takes, only the states
            at the borders of segments are kept, and backward runs each segment again (Chen et al.,
            Training deep nets with sublinear memory cost, 2016). Gradients are those of the full
            pass, to the bit. x must not change before backward. None keeps everything.
        rows
            Whether y shall be `Rows`, as another module takes them, in place of an array.
        reset
            Where sequences begin anew, as packed documents and episodes do: True and False in the
            layout of x, (T, B). True at (t, b) cuts sequence b between the steps t - 1 and t. The
            pieces are to each other as separate sequences are: each begins as one of which no state
            is given, at zeros or the learned initial state, in its own noise, and no gradient
            passes between them. In a reverse direction the cut is in the same place, so that it
            begins anew at step t - 1. `state` is what a sequence's first piece begins with (unless
            there is a reset at step 0), in a reverse direction its last; the state that is returned
            is that of the last piece, in a reverse direction of the first.
        keep
            Whether to return the pass as a third value, for `backward(..., kept=...)`: so a layer
            may run several times before its backward passes. Else the layer keeps it as its last,
            one for each thread; any call of `forward` in between, by a signal handler too,
            replaces it.

        Raises
        ------
        ValueError
            If `memory` is too little for one segment or, in two directions, for the whole.

        Examples
        --------
        >>> import numpy as np, rnncore
        >>> layer, x = rnncore.GRU(3, 5, seed=0), np.ones((7, 2, 3))
        >>> y1, h1, first = layer.forward(x, keep=True)
        >>> y2, h2, second = layer.forward(x, h1, keep=True)  # goes on from there
        >>> _, dh1 = layer.backward(np.ones_like(y2), kept=second)
        >>> _, dh0 = layer.backward(None, dh1, kept=first)
        """
        given = self._enter(x, state, lengths, tokens, embedding, reset, rows)
        segments = None
        if memory is not None:
            memory = check_size("memory", memory)
            if isinstance(given.x, Rows) or rows:
                raise ValueError("memory: expected arrays in and out, got rows; leave one of both")
            segments = plan_segments(
                self._stack, given.batch, given.form.lengths, memory, given.tokens,
                self.dropout > 0,
            )  # fmt: skip
        if not keep:
            remember(self, None)  # its buffers serve this pass
        if segments is None:
            y, last, kept = self._forward_run(*self._begin_forward(given, rows))
        else:
            y, last, kept = self._forward_segments(*self._begin_segments(given, segments))
        if keep:
            return y, last, kept
        remember(self, kept)
        return y, last

    @overload
    def backward(
        self, dy: Any, dstate: State = None, *, input_gradient: bool = ...,
        state_gradient: bool = ..., accumulate: bool = ..., kept: RecurrentPass | None = ...,
        record: Literal[False] = ...,
    ) -> tuple[Any, State]: ...  # fmt: skip
    @overload
    def backward(
        self, dy: Any, dstate: State = None, *, input_gradient: bool = ...,
        state_gradient: bool = ..., accumulate: bool = ..., kept: RecurrentPass | None = ...,
        record: Literal[True],
    ) -> tuple[Any, State, list[dict[str, Any]]]: ...  # fmt: skip
    def backward(
        self,
        dy: Any,
        dstate: State = None,
        *,
        input_gradient: bool = True,
        state_gradient: bool = True,
        accumulate: bool = True,
        kept: RecurrentPass | None = None,
        record: bool = False,
    ) -> Any:
        """Backpropagate through time from a `forward`, into `grads`.

        Parameters
        ----------
        dy
            dL/dy in the shape of y, or as rows of the same batch; None is zero.
        dstate
            dL/d(final state) in the shape of the state; None is zero.
        input_gradient
            False skips the gradient of x, which then is None. That of tokens is None as well, but
            where `embedding` was an array it is the gradient of the vectors.
        state_gradient
            False skips the gradient of the initial state, which then is None.
        accumulate
            Whether to add to `grads`, as several chunks of a batch want it. False replaces what
            stands there: the same as `zero_grad` before, in less time. The gradient of an
            embedding, a module of its own, is always added to.
        kept
            What that forward returned; None: the last one of this thread without `keep`.
        record
            Whether to return the gradients of every state of every step as a third value, as they
            come by. They take as much memory as the states, also beside `memory` of forward.

        Returns
        -------
        dx, dstate
            dL/dx, rows where x was rows, and dL/d(initial state).
        records
            With `record`, for each direction of each layer in the order of the state, arrays
            (T, B, H) in the layout of y: `h`, all of dL/dh_t, from the layer above and from step
            t + 1; for an LSTM without zoneout `c`, all of dL/dc_t. Zero beyond each sequence's end.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each forward serves one backward), or the weights have
            changed since. Nothing is changed then.
        ValueError, TypeError
            If a gradient does not fit.

        Examples
        --------
        How much of a loss of the last step arrives at each step before it:

        >>> import numpy as np, rnncore
        >>> layer, x = rnncore.RNN(3, 5, seed=0), np.ones((20, 1, 3))
        >>> y, h = layer.forward(x)
        >>> _, _, [record] = layer.backward(None, np.ones_like(h), record=True)
        >>> norms = np.linalg.norm(record["h"], axis=-1)[:, 0]
        >>> norms.shape, bool(norms[0] < 1e-3 * norms[-1])
        ((20,), True)
        """
        input_gradient = check_flag("input_gradient", input_gradient)
        accumulate = check_flag("accumulate", accumulate)
        state_gradient = check_flag("state_gradient", state_gradient)
        record = check_flag("record", record)
        kept = find(self, kept, RecurrentPass)
        vectors = isinstance(kept.embedding, np.ndarray)  # then dx is theirs, and has no layout
        with self._gradients(kept.embedding):
            kept.check()
            form, batch = kept.form, kept.batch
            dfinal, given = self._enter_gradient(dstate, batch, form), None
            if dy is not None:
                directions = len(self._stack.layers[-1])
                given = check_gradient(
                    dy, form, batch.whole, self.output_size, directions, self.dtype
                )
                if isinstance(given, Rows) and batch.is_cut:
                    given = given.unpack()
            x = None if kept.run is None or kept.tokens else kept.run.inputs[0]
            parts = (1, 0) if x is None or x.parts == 1 else (x.parts, x.part_stride)
            packed, lease = None, kept.lease
            if kept.segments is not None:
                assert lease is not None
                packed = self._packed_for("forward", kept.weight_keys, lease)
            else:
                assert kept.run is not None
                lease = kept.run.lease
            back = self._packed_for(parts, kept.weight_keys, lease)
            watcher = watching()
            found = self._backward_record(batch, record, watcher)
            if watcher is not None and watcher.last_alone and given is not None:
                given = last_alone(given, batch.whole, self._stack.layers[-1])
            if kept.segments is None:
                dx, dinitial = self._backward_run(
                    kept, back, given, dfinal, input_gradient, state_gradient, accumulate, found
                )
            else:
                assert packed is not None and not isinstance(given, Rows)
                dx, dinitial = self._backward_segments(
                    kept, (packed, back), given, dfinal, input_gradient, accumulate, found
                )
        if isinstance(dx, np.ndarray) and not vectors:
            dx = form.leave(dx)
        dstate = self._leave_state(dinitial, form, batch, False) if state_gradient else None
        if watcher is not None and found is not None:
            watcher.seen.append(Seen(self, batch.whole.lengths, found.states, found.gradients))
        if not record or found is None:
            return dx, dstate
        return dx, dstate, [
            {name: form.leave(array) for name, array in arrays.items()}
            for arrays in found.gradients
        ]

    def record(
        self,
        x: Any,
        state: State = None,
        lengths: Any = None,
        *,
        tokens: bool = False,
        embedding: Embedding | Any | None = None,
        reset: Any = None,
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
        from rnncore.engine.records import read_record

        given = self._enter(x, state, lengths, tokens, embedding, reset)
        run, packed, _, initial = self._begin_pass(given, True, self._pool.lease())
        y, final = self._stack.run(run, packed, initial)
        records = []
        for number, directions in enumerate(self._stack.layers):
            for d in range(len(directions)):
                found = read_record(self._stack, run, number, d)
                records.append({name: given.form.leave(a) for name, a in found.items()})
        last = self._leave_state(final, given.form, given.batch)
        return given.form.leave(y), last, records

    def stream(
        self, *, tokens: bool = False, embedding: Embedding | np.ndarray | None = None
    ) -> Any:
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
        return stream_of([self], [], tokens, embedding)

    def streams(
        self, *, tokens: bool = False, embedding: Embedding | np.ndarray | None = None
    ) -> Any:
        """Return streams that come and go, and take their steps together.

        `join()` begins one and returns its number, `leave(number)` ends it, and `step(x, at)` takes
        a step of those whose numbers stand in `at`, a row of x for each. Each gives the bits of a
        stream of its own. `reset`, `get_state` and `set_state` take a number.

        Parameters
        ----------
        tokens, embedding
            As in `stream`.

        Raises
        ------
        ValueError
            As `stream` does.

        Examples
        --------
        >>> import numpy as np, rnncore
        >>> streams = rnncore.GRU(3, 5, seed=0).streams()
        >>> a, b = streams.join(), streams.join()
        >>> x = np.ones((2, 3), np.float32)
        >>> streams.step(x, [a, b]).shape, streams.step(x[:1], [b]).shape
        ((2, 5), (1, 5))
        >>> streams.leave(a)
        >>> streams.numbers
        [1]
        """
        return streams_of([self], [], tokens, embedding)

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
        from rnncore.engine.explain import explain

        steps, batch = check_size("steps", steps, 0), check_size("batch", batch, 0)
        if steps * batch > 2**40:
            raise ValueError(f"steps, batch: expected 2**40 rows at most, got {steps * batch}")
        return explain(
            self.layer_name, self._stack, steps, batch, training, self.dropout > 0
        )
