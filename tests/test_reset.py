"""Sequences that begin anew where a mask says so: what separate sequences are, to the last bit."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients_close, of_module

import rnncore
from rnncore.cells import library
from rnncore.layers.watching import watch_backward

OWN = ["min_gru", "s_lstm"] if importlib.util.find_spec("llvmlite") else []
KINDS = ["rnn_relu", "lstm", "gru", "gru_reset_before", *OWN]


def make(kind: str, *sizes: int, dtype: Any = np.float64, **options: Any) -> rnncore.Recurrent:
    cell: Any = getattr(library, kind) if kind in OWN else kind
    return rnncore.Recurrent(cell, *sizes, dtype=dtype, seed=0, **options)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def mask(T: int, B: int, share: float = 0.3) -> np.ndarray:
    found = np.random.default_rng(T).random((T, B)) < share
    found[: T // 2, -1] = False
    found[0, 0] = True
    return found


def states_of(layer: Any, B: int, seed: int) -> Any:
    shape = layer.num_layers * (1 + layer.bidirectional), B, layer.hidden_size
    states = tuple(np.abs(numbers(len(layer._stack.cell.states), *shape, seed=seed)) + 0.5)
    return states if len(states) > 1 else states[0]


def each(state: Any) -> list[np.ndarray]:
    return list(state) if isinstance(state, tuple) else [state]


def cut(array: np.ndarray, reset: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    """Return the pieces, sequence by sequence."""
    pieces = []
    for b, n in enumerate(lengths):
        borders = [0, *(np.flatnonzero(reset[1:n, b]) + 1), n]
        pieces += [array[i:j, b] for i, j in pairwise(borders)]
    return pieces


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("lengths", [None, [9, 0, 4, 9, 1]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pieces_are_separate_sequences(kind, options, lengths, dtype, nan_buffers, threads) -> None:
    threads(3)
    layer, steps = make(kind, 3, 17, dtype=dtype, **options), lengths or [9] * 5
    x, reset = numbers(9, 5, 3).astype(dtype), mask(9, 5)
    dy = numbers(9, 5, layer.output_size, seed=1).astype(dtype)
    pieces = cut(x, reset, steps)
    results = []
    for given, where, gradient in ((x, reset, dy), (pieces, None, cut(dy, reset, steps))):
        its = None if where is None else lengths
        y, _, kept = layer.forward(given, lengths=its, reset=where, keep=True)
        assert np.array_equal(np.concatenate(layer(given, lengths=its, reset=where)[0]),
                              np.concatenate(y))  # fmt: skip
        dx, _ = layer.backward(gradient, kept=kept, accumulate=False)
        results.append((y, dx, layer.flat_grads.copy()))
    (y, dx, grads), (y_pieces, dx_pieces, right) = results
    assert np.array_equal(grads, right)
    for found, separate in ((y, y_pieces), (dx, dx_pieces)):
        for a, b in zip(cut(found, reset, steps), separate, strict=True):
            assert np.array_equal(a, b)
        for b, n in enumerate(steps):
            assert not found[n:, b].any()
    for piece, right in zip(pieces, y_pieces, strict=True):
        assert np.array_equal(layer(piece)[0], right)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learned", [False, True])
def test_a_loop_over_steps_that_begins_anew(kind, learned) -> None:
    layer = make(kind, 3, 6, 2, learn_initial_state=learned)
    if learned:
        with layer.writable_params() as params:
            for name in (name for name in params if name.startswith("initial_")):
                params[name][...] = 0.3 + np.abs(numbers(6))
    x, reset, begin = numbers(8, 4, 3), mask(8, 4), states_of(layer, 4, 1)
    new = each(layer(x[:0])[1])
    state, outputs = each(begin), []
    for x_t, anew in zip(x, reset, strict=True):
        state = [np.where(anew[:, None], n, s) for n, s in zip(new, state, strict=True)]
        y, last = layer(x_t[None], tuple(state) if len(state) > 1 else state[0])
        state = each(last)
        outputs.append(y[0])
    y, final = layer(x, begin, reset=reset)
    np.testing.assert_allclose(y, np.stack(outputs), rtol=1e-12, atol=1e-14)
    for found, right in zip(each(final), state, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("lengths", "given"), [(None, True), ([4, 0, 3], True), ([4, 0, 3], False)]
)
@pytest.mark.parametrize("options", [
    {}, {"num_layers": 2, "bidirectional": True},
    {"learn_initial_state": True, "bidirectional": True},
    {"zoneout": 0.3, "num_layers": 2, "dropout": 0.3},
], ids=str)  # fmt: skip
def test_every_gradient(kind, lengths, options, given, nan_buffers) -> None:
    layer = make(kind, 2, 3, **options)
    x, reset, dy = numbers(4, 3, 2), mask(4, 3), numbers(4, 3, layer.output_size, seed=1)
    state, dstate = states_of(layer, 3, 2) if given else None, states_of(layer, 3, 3)
    generator = layer._dropout.generator.bit_generator
    before = generator.state

    def forward() -> Any:
        generator.state = before
        return layer.forward(x, state, lengths, reset=reset)

    def loss() -> float:
        y, last = forward()
        ends = zip(each(last), each(dstate), strict=True)
        return float(np.vdot(y, dy) + sum(np.vdot(s, d) for s, d in ends))

    layer.flat_grads[...] = np.nan
    forward()
    dx, dinitial = layer.backward(dy, dstate, accumulate=False)
    analytic = {name: array.copy() for name, array in layer.grads.items()} | {"x": dx}
    others = {"x": x}
    for k, array in enumerate(each(state) if given else []):
        others[f"state {k}"], analytic[f"state {k}"] = array, each(dinitial)[k]
    assert_gradients_close(analytic, of_module(layer, loss, **others))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["features", "tokens", "embedding"])
def test_segments_of_pieces(kind, source) -> None:
    layer = make(kind, 7, 20, 2)
    embedding = rnncore.Embedding(9, 7, dtype=np.float64, seed=1) if source == "embedding" else None
    x: Any = numbers(900, 3, 7)
    if source != "features":
        x = np.random.default_rng(0).integers(0, 7, (900, 3))
    options: Any = {"embedding": embedding} if embedding else {"tokens": source == "tokens"}
    reset, state, dstate = mask(900, 3, 0.004), states_of(layer, 3, 1), states_of(layer, 3, 2)
    results, lengths = [], [900, 500, 777]
    for memory in (None, 4_500_000 if kind == "s_lstm" else 2_500_000):
        if embedding:
            embedding.zero_grad()
        y, last, kept = layer.forward(
            x, state, lengths, reset=reset, memory=memory, keep=True, **options
        )
        assert (kept.segments is None) == (memory is None)
        found = layer.backward(y, dstate, kept=kept, accumulate=False, record=True)
        dx, dinitial, [*records] = found
        results.append([y, *each(last), *each(dinitial), layer.flat_grads.copy()])
        results[-1] += [array for record in records for array in record.values()]
        results[-1] += [dx] if dx is not None else []
        results[-1] += [embedding.grads["weight"].copy()] if embedding else []
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    assert all(np.isfinite(array).all() for array in results[0])


def test_layouts() -> None:
    layer, x, reset = make("gru", 3, 5), numbers(6, 2, 3), mask(6, 2)
    y, h = layer(x, reset=reset)
    one, h_one = layer(x[:, 0], reset=reset[:, 0])
    assert np.array_equal(one, y[:, 0]) and np.array_equal(h_one, h[:, 0])
    lists, _ = layer([x[:, 0], x[:4, 1]], reset=[reset[:, 0], reset[:4, 1]])
    assert np.array_equal(lists[0], y[:, 0]) and np.array_equal(lists[1], y[:4, 1])
    first = make("gru", 3, 5, batch_first=True)
    assert np.array_equal(first(x.swapaxes(0, 1), reset=reset.T)[0], y.swapaxes(0, 1))
    assert np.array_equal(layer(x, reset=np.zeros((6, 2), bool))[0], layer(x)[0])
    mixed = rnncore.Recurrent("lstm", 3, (5, 4), 2, dtype=np.float64)
    _, (h, _) = mixed(x, reset=reset)
    assert [part.shape for part in h] == [(1, 2, 5), (1, 2, 4)]
    for T, B in ((0, 2), (3, 0), (0, 0)):
        y, h = layer.forward(np.zeros((T, B, 3)), reset=np.zeros((T, B), bool))
        dx, dh = layer.backward(y, h)
        assert y.shape == (T, B, 5) and dx.shape == (T, B, 3) and dh.shape == (1, B, 5)


def test_whether_a_given_state_counts() -> None:
    layer, x = make("lstm", 3, 5, bidirectional=True), numbers(4, 1, 3)
    state, reset = states_of(layer, 1, 1), np.zeros((4, 1), bool)
    reset[0] = True
    y, last = layer.forward(x, state, reset=reset)
    _, (dh, dc) = layer.backward(y, last)
    given, zero = layer(x, state)[0], layer(x)[0]
    assert np.array_equal(y[..., :5], zero[..., :5]) and np.array_equal(y[..., 5:], given[..., 5:])
    assert not dh[0].any() and not dc[0].any() and dh[1].all() and dc[1].all()


@pytest.mark.parametrize("kind", ["lstm", "gru_reset_before", *OWN])
def test_streams(kind) -> None:
    layer, x, reset = make(kind, 3, 9, 2, learn_initial_state=True), numbers(150, 3), mask(150, 1)
    with layer.writable_params() as params:
        for name in (name for name in params if name.startswith("initial_")):
            params[name][...] = 0.3 + np.abs(numbers(9))
    y, final = layer(x, reset=reset[:, 0])
    stream = layer.stream()
    blocks = [stream.process(x[i : i + 50], reset=reset[i : i + 50, 0]) for i in (0, 50, 100)]
    assert np.array_equal(np.concatenate(blocks), y)
    assert np.array_equal(np.stack(each(stream.get_state())[0]), each(final)[0])
    ids = np.random.default_rng(0).integers(0, 3, 150)
    tokens = layer.stream(tokens=True).process(ids, reset=reset[:, 0])
    assert np.array_equal(tokens, layer(ids, tokens=True, reset=reset[:, 0])[0])
    with pytest.raises(TypeError, match="reset: expected True and False, got dtype int64"):
        stream.process(x, reset=reset[:, 0].astype(int))


def test_records_and_onlookers() -> None:
    layer, x, reset = make("lstm", 3, 5, 2, bidirectional=True), numbers(7, 3, 3), mask(7, 3)
    lengths = [7, 0, 5]
    y, _, records = layer.record(x, lengths=lengths, reset=reset)
    pieces = cut(x, reset, lengths)
    _, _, right = layer.record(pieces)
    for record, separate in zip(records, right, strict=True):
        for name, array in record.items():
            parts = zip(cut(array, reset, lengths), separate[name], strict=True)
            assert all(np.array_equal(a, b) for a, b in parts)
            assert not array[5:, 2].any() and not array[:, 1].any()
    layer.forward(x, lengths=lengths, reset=reset)
    with watch_backward() as seen:
        _, _, gradients = layer.backward(y, record=True)
    layer.forward(pieces)
    _, _, right = layer.backward(cut(y, reset, lengths), record=True)
    for record, separate in zip(gradients, right, strict=True):
        for name, array in record.items():
            parts = zip(cut(array, reset, lengths), separate[name], strict=True)
            assert all(np.array_equal(a, b) for a, b in parts)
    assert np.array_equal(seen[0].lengths, lengths)
    assert np.array_equal(seen[0].states[2]["c"], records[2]["c"])


def test_on_a_tape() -> None:
    layer, x, reset = make("gru", 3, 5), numbers(6, 2, 3), mask(6, 2)
    with rnncore.Tape(layer) as tape:
        start = tape.watch(x)
        y, h = layer(start, reset=reset)
        loss = rnncore.functions.sum(y * y) + rnncore.functions.sum(h)
    tape.backward(loss)
    found = layer.flat_grads.copy(), start.gradient
    y, h = layer.forward(x, reset=reset)
    dx, _ = layer.backward(2 * y, np.ones_like(h), accumulate=False)
    assert np.array_equal(found[0], layer.flat_grads) and np.array_equal(found[1], dx)


@pytest.mark.parametrize(("reset", "error", "words"), [
    (np.zeros((6, 2), int), TypeError, "reset: expected True and False, got dtype int64"),
    (np.zeros((6, 2)), TypeError, "got dtype float64; compare, as in reset > 0"),
    (np.zeros((2, 6), bool), ValueError, r"reset: expected shape \(6, 2\), got \(2, 6\)"),
    (np.zeros((6, 2, 3), bool), ValueError, r"expected shape \(6, 2\)"),
    (True, ValueError, r"expected shape \(6, 2\), got \(\)"),
])  # fmt: skip
def test_what_is_no_mask(reset, error, words) -> None:
    layer, x = make("gru", 3, 5), numbers(6, 2, 3)
    for run in (layer, layer.forward, layer.record):
        with pytest.raises(error, match=words):
            run(x, reset=reset)


def test_lists_and_rows_that_do_not_fit() -> None:
    layer, x = make("gru", 3, 5), numbers(6, 2, 3)
    rows, _ = layer(x, rows=True)
    good = np.zeros((6, 2), bool)
    with pytest.raises(ValueError, match="reset: expected arrays in and out, got rows"):
        layer(x, reset=good, rows=True)
    with pytest.raises(ValueError, match="reset: expected arrays in and out, got rows"):
        make("gru", 5, 5)(rows, reset=good)
    with pytest.raises(ValueError, match="reset: expected a list of 2 arrays as x is, got ndarray"):
        layer([x[:, 0], x[:, 1]], reset=good)
    with pytest.raises(ValueError, match=r"reset: expected shape \(6,\), got \(5,\)"):
        layer([x[:, 0], x[:, 1]], reset=[good[:, 0], good[:5, 1]])
