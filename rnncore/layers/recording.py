"""How layers run while a tape is open: their training passes, with the way back on the tape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore.layers.tape import Tape, is_wanted, raw

if TYPE_CHECKING:
    from rnncore.layers.attention import Attention
    from rnncore.layers.dropout import Dropout
    from rnncore.layers.embedding import Embedding
    from rnncore.layers.linear import Linear
    from rnncore.layers.recurrent import Recurrent


def _flat(state: Any) -> list[Any]:
    # The arrays of a state: of h, of (h, c), and of lists where hidden sizes differ.
    if isinstance(state, tuple | list):
        return [array for part in state for array in _flat(part)]
    return [] if state is None else [state]


def _like(state: Any, arrays: list[Any]) -> Any:
    # These arrays in the form of a state; takes them from the list.
    if isinstance(state, tuple | list):
        return type(state)(_like(part, arrays) for part in state)
    return arrays.pop(0)


def _raw(state: Any) -> Any:
    if isinstance(state, tuple | list):
        return type(state)(_raw(part) for part in state)
    return raw(state)


def record_recurrent(
    tape: Tape,
    layer: Recurrent,
    x: Any,
    state: Any,
    lengths: Any,
    tokens: bool,
    embedding: Embedding | Any | None,
    rows: bool,
    reset: Any = None,
) -> tuple[Any, Any]:
    """Run a recurrent layer; return y and the last state, values of the tape."""
    vectors = raw(embedding)
    y, last, kept = layer.forward(
        raw(x), _raw(state), lengths, tokens=tokens, embedding=vectors, rows=rows, reset=reset,
        keep=True,
    )  # fmt: skip
    given, left = _flat(state), _flat(last)
    if isinstance(y, list):
        raise TypeError(
            "x: a list of sequences cannot be recorded; pad it to (T, B, I) and give lengths"
        )

    def back(dy: Any, *dlast: Any) -> tuple[Any, ...]:
        dstate: Any = None
        if any(derivative is not None for derivative in dlast):
            pairs = zip(dlast, left, strict=True)
            dstate = _like(last, [np.zeros_like(array) if d is None else d for d, array in pairs])
        if module is not None and not tape.adds_to(module):
            module.zero_own_grad()
        dx, dinitial = layer.backward(
            dy, dstate, input_gradient=is_wanted(read), state_gradient=bool(given),
            accumulate=tape.adds_to(layer), kept=kept,
        )  # fmt: skip
        return dx, *(_flat(dinitial) if given else ())

    module = None if vectors is None or isinstance(vectors, np.ndarray) else vectors.owner
    read = x if embedding is None else embedding  # what the gradient dx is of
    y, *values = tape.record((y, *left), (read, *given), back, trains=True)
    return y, _like(last, values)


def record_linear(tape: Tape, layer: Linear, x: Any) -> Any:
    """Run a linear layer; return y, a value of the tape."""
    y, kept = layer.forward(raw(x), keep=True)

    def back(dy: Any) -> tuple[Any]:
        wanted, adds = is_wanted(x), tape.adds_to(layer)
        return (layer.backward(dy, input_gradient=wanted, accumulate=adds, kept=kept),)

    return tape.record(y, (x,), back, trains=True)


def record_embedding(tape: Tape, layer: Embedding, tokens: Any, lengths: Any) -> Any:
    """Look tokens up; return their vectors, a value of the tape."""
    vectors, kept = layer.forward(tokens, lengths, keep=True)

    def back(dy: Any) -> tuple[()]:
        if not tape.adds_to(layer.owner):
            layer.owner.zero_own_grad()
        layer.backward(dy, kept=kept)
        return ()

    return tape.record(vectors, (), back, trains=True)


def record_dropout(tape: Tape, layer: Dropout, x: Any) -> Any:
    """Zero some of x; return the rest, a value of the tape if x is one."""
    y, kept = layer.forward(raw(x), keep=True)
    return tape.record(y, (x,), lambda dy: (layer.backward(dy, kept=kept),))


def record_attention(tape: Tape, layer: Attention, query: Any, memory: Any, lengths: Any) -> Any:
    """Run attention; return y, a value of the tape."""
    y, kept = layer.forward(raw(query), raw(memory), lengths, keep=True)

    def back(dy: Any) -> tuple[Any, Any]:
        dquery, dmemory = layer.backward(dy, accumulate=tape.adds_to(layer.keys), kept=kept)
        return dquery, dmemory

    return tape.record(y, (query, memory), back, trains=True)
