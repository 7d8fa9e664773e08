"""What streams are made of: recurrent layers, linear ones behind them, tokens before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.layers.embedding import Embedding, check_embedding, vectors_of
from rnncore.layers.form import FORMS
from rnncore.layers.linear import Linear

if TYPE_CHECKING:
    from rnncore.engine.streams import Parts
    from rnncore.layers.recurrent import Recurrent


def stream_of(
    layers: Sequence[Recurrent],
    heads: Sequence[Linear],
    tokens: bool = False,
    embedding: Embedding | np.ndarray | None = None,
) -> Any:
    """Return a stream of layers that follow one another; see `parts_of`."""
    from rnncore.engine.streams import make_stream

    return make_stream(parts_of(layers, heads, tokens, embedding))


def streams_of(
    layers: Sequence[Recurrent],
    heads: Sequence[Linear],
    tokens: bool = False,
    embedding: Embedding | np.ndarray | None = None,
) -> Any:
    """Return streams that take their steps together; see `parts_of`."""
    from rnncore.engine.streams import make_streams

    return make_streams(parts_of(layers, heads, tokens, embedding))


def parts_of(
    layers: Sequence[Recurrent],
    heads: Sequence[Linear],
    tokens: bool,
    embedding: Embedding | np.ndarray | None,
) -> Parts:
    """Return a copy of the weights of layers that follow one another, as of one moment.

    All of them, and the embedding, belong to one module or to none.

    Raises
    ------
    ValueError
        If a layer is bidirectional or reads backwards, which begins at the end; if there are
        more than 64 recurrent layers or 8 linear ones; or if sizes or dtypes do not fit.
    """
    from rnncore.engine import streams

    first, kernels = layers[0], layers[0]._stack.kernels
    if any(layer.bidirectional or layer.reverse for layer in layers):
        raise ValueError(
            "stream: a bidirectional layer, or one that reads backwards, cannot be fed step by "
            "step; it begins at the end of the sequence"
        )
    size, dtype = first.input_size, first.dtype
    sizes = [(layer.input_size, layer._stack.sizes[-1], layer.dtype) for layer in layers]
    for of, leaves, has in [*sizes, *((h.in_features, h.out_features, h.dtype) for h in heads)]:
        if of != size or has != dtype:
            raise ValueError(
                f"stream: expected a layer of {size} inputs of {dtype}, as the one before has "
                f"outputs, got {of} of {has}"
            )
        size = leaves
    count = sum(layer.num_layers for layer in layers)
    if count > kernels.most_layers or len(heads) > kernels.most_heads:
        raise ValueError(
            f"stream: expected at most {kernels.most_layers} recurrent layers and "
            f"{kernels.most_heads} linear ones, got {count} and {len(heads)}; feed one stream "
            "with what another says"
        )
    vocabulary = first.input_size if tokens else 0
    if embedding is not None:
        vocabulary = check_embedding(embedding, first.input_size, dtype)
    with first._of_both("weights", embedding):
        initial = [states for layer in layers for states in _initial(layer)]
        jobs = [head._job("forward") for head in heads]
        vectors = None if embedding is None else np.ascontiguousarray(vectors_of(embedding))
        return streams.parts_of(
            [layer._stack for layer in layers], jobs, initial, vocabulary, vectors
        )


def _initial(layer: Recurrent) -> list[tuple[np.ndarray, ...]]:
    # The states of each layer that a stream begins with.
    one = Batch.of(1, 1, None)
    states = layer._initial_state(layer._given_state(None, one, FORMS["time first"]), one)
    zero = np.zeros(1, layer.dtype)
    return [
        tuple(zero if state is None else state[0] for state in of_layer)
        for of_layer in zip(*states, strict=True)
    ]
