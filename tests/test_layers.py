"""The public face of the layers: shapes, states, lengths, tokens, views, dropout, memory."""

from __future__ import annotations

import copy
import gc
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from cases import Array, Case, Given, infer, make_given, make_layer, named_states, run
from finite_differences import assert_gradients_close, of_module
from hypothesis import given as given_that
from hypothesis import settings
from hypothesis import strategies as st

import rnncore
from rnncore.layers.recurrent import Recurrent

KINDS = ("rnn_tanh", "lstm", "gru")


def assert_same_bits(results: dict[str, Array], expected: dict[str, Array]) -> None:
    assert set(results) == set(expected)
    for name in expected:
        assert results[name].dtype == expected[name].dtype, name
        assert np.array_equal(results[name], expected[name]), name


# Shapes


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind: str, batch_first: bool, bidirectional: bool) -> None:
    T, B, H, L, D = 7, 4, 5, 2, 1 + bidirectional
    layer = make_layer(Case(kind, T, B, 3, H, L, bidirectional, batch_first=batch_first))
    x = np.ones((B, T, 3) if batch_first else (T, B, 3))
    for call in (layer, layer.forward):
        y, state = call(x)
        assert y.shape == (*x.shape[:2], D * H)
        assert {a.shape for a in named_states("", state).values()} == {(L * D, B, H)}
        assert isinstance(state, tuple) == (kind == "lstm")
        assert y.flags.c_contiguous and y.flags.writeable
    dx, dstate = layer.backward(np.ones_like(y))
    assert dx.shape == x.shape
    assert {a.shape for a in named_states("", dstate).values()} == {(L * D, B, H)}


@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_is_the_same_layer(kind: str) -> None:
    case = Case(kind, 6, 4, 3, 5, 2, True, True)
    given = make_given(case)
    expected = run(make_layer(case), given)
    layer = make_layer(case)
    layer.batch_first = True
    given.x, given.dy = given.x.swapaxes(0, 1), given.dy.swapaxes(0, 1)
    results = run(layer, given)
    for name in ("y", "dx"):
        results[name] = results[name].swapaxes(0, 1)
    assert_same_bits(results, expected)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_without_a_batch_axis(kind: str, batch_first: bool) -> None:
    case = Case(kind, 6, 1, 3, 5, 2, True, batch_first=batch_first)
    layer, given = make_layer(case), make_given(case)
    expected = run(layer, given)
    axis = 0 if batch_first else 1
    alone = replace_arrays(given, lambda a: a.squeeze(axis), lambda a: a[:, 0])
    results = run(layer, alone)
    assert results["y"].shape == (6, 10)
    for name, right in expected.items():
        if name in ("y", "dx"):
            right = right.squeeze(axis)
        elif name in ("h", "c", "dh", "dc"):
            right = right[:, 0]
        assert np.array_equal(results[name], right), name
    # a length is a number or a list of one
    short = layer(given.x.squeeze(axis)[:4], alone.state)
    for length in (4, [4], np.int64(4), np.array([4])):
        y, state = layer(given.x.squeeze(axis), alone.state, length)
        assert np.array_equal(y[:4], short[0]) and not y[4:].any()
        assert all(map(np.array_equal, state, short[1]))


def replace_arrays(given: Given, steps: Any, states: Any) -> Given:
    """Return a copy with functions applied to x and dy, and to each array of the states."""

    def apply(state: Any) -> Any:
        return tuple(states(a) for a in state) if isinstance(state, tuple) else states(state)

    return replace(
        given, x=steps(given.x), dy=steps(given.dy), state=apply(given.state),
        dstate=apply(given.dstate),
    )  # fmt: skip


@pytest.mark.parametrize("T, B", [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_do(kind: str, T: int, B: int) -> None:
    for ragged in (False, True):
        case = Case(kind, T, B, 3, 5, 2, True)
        layer, given = make_layer(case), make_given(case)
        given.lengths = np.zeros(B, int) if ragged else None
        results = run(layer, given)
        assert results["y"].shape == (T, B, 10) and results["dx"].shape == (T, B, 3)
        # states pass through, gradients of the weights are zero
        for name, array in named_states("", given.state).items():
            assert np.array_equal(results[name], array)
        for name, array in named_states("d", given.dstate).items():
            assert np.array_equal(results[name], array)
        assert not layer.flat_grads.any()
        assert_same_bits(infer(layer, given), {n: results[n] for n in infer(layer, given)})
        _, state = layer(given.x)
        assert all(not array.any() for array in named_states("", state).values())


def test_no_lengths_of_no_sequences() -> None:
    layer = rnncore.LSTM(3, 5, seed=0)
    for lengths in ([], (), np.zeros(0, int)):
        assert layer(np.zeros((4, 0, 3)), lengths=lengths)[0].shape == (4, 0, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_empty_sequences(kind: str) -> None:
    case = Case(kind, 4, 3, 2, 5, 2, True)
    layer, given = make_layer(case), make_given(case)
    given.lengths = np.zeros(3, int)
    results = run(layer, given)
    assert not results["y"].any() and not results["dx"].any() and not layer.flat_grads.any()
    for name, array in named_states("", given.state).items():
        assert np.array_equal(results[name], array)
    for name, array in named_states("d", given.dstate).items():
        assert np.array_equal(results[name], array)


def test_hidden_size_of_each_layer() -> None:
    layer = rnncore.LSTM(3, [7, 4, 9], bidirectional=True, seed=0)
    assert layer.num_layers == 3
    y, (h, c) = layer.forward(np.ones((5, 2, 3), np.float32))
    assert y.shape == (5, 2, 18)
    assert [a.shape for a in h] == [a.shape for a in c] == [(2, 2, 7), (2, 2, 4), (2, 2, 9)]
    assert layer.params["weight_ih_l1_reverse"].shape == (16, 14)
    _, (dh, _) = layer.backward(np.ones_like(y), (h, c))
    assert [a.shape for a in dh] == [a.shape for a in h]
    # sizes that are all the same make an ordinary stack
    plain, listed = rnncore.GRU(3, 5, 2, seed=1), rnncore.GRU(3, [5, 5], seed=1)
    x = np.ones((4, 2, 3), np.float32)
    assert np.array_equal(plain(x)[0], listed(x)[0])
    assert listed(x)[1].shape == (2, 2, 5)


def test_states_without_a_batch_axis_for_each_layer() -> None:
    layer = rnncore.GRU(3, (4, 6), seed=0)
    y, h = layer(np.ones((5, 3), np.float32))
    assert [a.shape for a in h] == [(1, 4), (1, 6)]
    assert layer(np.ones((5, 3), np.float32), h)[0].shape == y.shape


# States and chunks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ("rnn_tanh", "rnn_relu", "lstm", "gru"))
def test_chunks_with_the_state_carried_are_the_whole_sequence(kind: str, dtype: str) -> None:
    for B, layers in ((1, 1), (1, 3), (3, 2), (40, 2)):
        case = Case(kind, 40, B, 4, 21, layers, dtype=dtype)
        layer, given = make_layer(case), make_given(case)
        whole = infer(layer, given)
        for cuts in ([1], [7, 8, 33], range(1, 40) if layers == 1 else [20]):
            state, parts = given.state, []
            for chunk in np.split(given.x, list(cuts)):
                y, state = layer(chunk, state)
                parts.append(y)
            results = {"y": np.concatenate(parts), **named_states("", state)}
            assert_same_bits(results, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_through_chunks_is_the_whole_sequence(kind: str) -> None:
    # Where the gradient of the state is carried back as well, chunks are the full pass.
    case = Case(kind, 20, 3, 4, 6, 2)
    layer, given = make_layer(case), make_given(case)
    whole = run(layer, given)
    layer.zero_grad()
    states = [given.state]
    for t in range(0, 20, 5):
        states.append(layer(given.x[t : t + 5], states[-1])[1])
    dstate, pieces = given.dstate, []
    for t in range(15, -1, -5):
        layer.forward(given.x[t : t + 5], states[t // 5])
        dx, dstate = layer.backward(given.dy[t : t + 5], dstate)
        pieces.insert(0, dx)
    results = {"dx": np.concatenate(pieces), **named_states("d", dstate)}
    results.update({f"d{name}": gradient for name, gradient in layer.grads.items()})
    for name, array in results.items():
        np.testing.assert_allclose(array, whole[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("source", ["features", "one-hot", "embedding"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_add_up(kind: str, source: str) -> None:
    case = Case(kind, 70, 5, 4, 7, 2, bidirectional=True, ragged=True, source=source)
    layer, given = make_layer(case), make_given(case)

    def backward(**options: bool) -> Array:
        layer.forward(given.x, given.state, given.lengths, **given.options)
        layer.backward(given.dy, given.dstate, **options)
        return layer.flat_grads.copy()

    layer.flat_grads[...] = np.inf
    once = backward(accumulate=False)
    if given.embedding is not None:
        dembedding = given.embedding.flat_grads.copy()
    layer.zero_grad()
    assert backward().tobytes() == once.tobytes()
    if given.embedding is not None:  # a module of its own: always added to
        np.testing.assert_allclose(given.embedding.flat_grads, 2 * dembedding, rtol=1e-12)
    np.testing.assert_allclose(backward(accumulate=True), 2 * once, rtol=1e-12)
    assert np.array_equal(backward(accumulate=False), once)


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_gradients_that_vanish_are_zero_to_the_bit(kind: str) -> None:
    # products of denormal size may be flushed to -0, which zero_grad and a sum turn into 0
    case = Case(kind, 3, 2, 33, 17, dtype="float32")
    layer, given = make_layer(case), make_given(case)
    bits = []
    for accumulate in (True, False):
        layer.zero_grad()
        layer.forward(given.x)
        layer.backward(given.dy * np.float32(1e-38), accumulate=accumulate)
        bits.append(layer.flat_grads.tobytes())
    assert bits[0] == bits[1]


def test_gradients_of_nothing_are_zero() -> None:
    # no step, no row, and a learned state that another one stood above
    layer = rnncore.GRU(3, 4, learn_initial_state=True, seed=0)
    for x, lengths in ((np.zeros((0, 2, 3)), None), (np.ones((5, 2, 3)), [0, 0])):
        layer.flat_grads[...] = np.nan
        y, _ = layer.forward(x, lengths=lengths)
        layer.backward(np.ones_like(y), accumulate=False)
        assert not layer.flat_grads.any()
    layer.flat_grads[...] = np.nan
    y, _ = layer.forward(np.ones((5, 2, 3)), np.zeros((1, 2, 4)))
    layer.backward(np.ones_like(y), accumulate=False)
    assert np.isfinite(layer.flat_grads).all() and not layer.grads["initial_h_l0"].any()


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_gradients_of_linear_and_embedding_add_up(rows: int) -> None:
    rng = np.random.default_rng(0)
    head, table = rnncore.Linear(5, 7, seed=0), rnncore.Embedding(6, 3, seed=0)
    pairs = (
        (head, rng.standard_normal((rows, 5)), rng.standard_normal((rows, 7))),
        (table, rng.integers(0, 6, rows), rng.standard_normal((rows, 3))),
    )
    for module, x, dy in pairs:
        module.flat_grads[...] = np.nan
        module.forward(x)
        module.backward(dy, accumulate=False)
        once = module.flat_grads.copy()
        assert np.isfinite(once).all() and once.any() == (rows > 0)
        module.zero_grad()
        for times in (1, 2):
            module.forward(x)
            module.backward(dy)
            np.testing.assert_allclose(module.flat_grads, times * once, rtol=1e-6)
        with pytest.raises(TypeError, match="accumulate: expected True or False"):
            module.backward(dy, accumulate=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_table_of_given_vectors(dtype: type) -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 3)).astype(dtype)
    before = vectors.copy()
    table = rnncore.Embedding.from_pretrained(vectors.T.copy().T)  # in any order of memory
    vectors[...] = 0.0  # its own copy
    assert table.dtype == dtype and table.frozen and (table.num_embeddings, 3) == before.shape
    np.testing.assert_array_equal(table(np.arange(6)), before)
    assert not rnncore.Embedding.from_pretrained(before, freeze=False).frozen


def test_results_are_the_callers_own() -> None:
    case = Case("lstm", 5, 3, 4, 6, 2, True)
    layer, given = make_layer(case), make_given(case)
    results = run(layer, given)
    copies = {name: array.copy() for name, array in results.items()}
    other = make_given(replace(case, T=6))
    run(layer, other)
    infer(layer, other)
    assert all(np.array_equal(results[name], copies[name]) for name in results)
    inferred = infer(layer, given)
    for array in inferred.values():
        array[...] = np.nan  # and may be written to
    assert_same_bits(infer(layer, given), {name: copies[name] for name in inferred})


def test_what_is_given_may_change_before_backward() -> None:
    case = Case("lstm", 5, 3, 4, 6, 2, True, True)
    expected = run(make_layer(case), make_given(case))
    layer, given = make_layer(case), make_given(case)
    y, state = layer.forward(given.x, given.state, given.lengths)
    for array in (given.x, *given.state, given.lengths, y, *state):
        array[...] = 0
    dx, dstate = layer.backward(given.dy, given.dstate)
    assert np.array_equal(dx, expected["dx"])
    assert np.array_equal(dstate[0], expected["dh"])
    assert np.array_equal(layer.grads["weight_hh_l0"], expected["dweight_hh_l0"])


def test_inference_between_forward_and_backward_changes_nothing() -> None:
    for source in ("features", "one-hot", "embedding"):
        case = Case("lstm", 9, 3, 4, 6, 2, source=source)
        expected = run(make_layer(case), make_given(case))
        layer, given = make_layer(case), make_given(case)
        y, _ = layer.forward(given.x, given.state, **given.options)
        # other shapes, another kind of input, another table
        layer(np.ones((30, 7, 4)))
        layer(np.ones((3, 2), int), tokens=True)
        layer(np.ones((3, 2), int), embedding=rnncore.Embedding(3, 4, dtype=np.float64))
        layer.record(np.ones((2, 1, 4)))
        results = {}
        dx, dstate = layer.backward(given.dy, given.dstate)
        results.update(named_states("d", dstate))
        results.update({f"d{name}": gradient for name, gradient in layer.grads.items()})
        if dx is not None:
            results["dx"] = dx
        if given.embedding is not None:
            results["dembedding"] = given.embedding.grads["weight"]
        for name, array in results.items():
            assert np.array_equal(array, expected[name]), f"{name}, {source}"
        assert y.shape == (9, 3, 6)


def test_backward_wants_the_weights_of_forward() -> None:
    layer = rnncore.GRU(3, 4, seed=0)
    y, _ = layer.forward(np.ones((2, 1, 3)))
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="weights have changed"):
        layer.backward(np.ones_like(y))


def test_a_layer_lets_go_of_what_it_was_given() -> None:
    layer = rnncore.LSTM(4, 64, seed=0)
    x = np.ones((5, 2, 4), np.float32)
    dy = np.ones((5, 2, 64), np.float32)
    layer(x)
    layer.forward(x)
    dx, _ = layer.backward(dy)
    given = [weakref.ref(array) for array in (x, dy, dx)]
    del x, dy, dx
    gc.collect()
    assert [reference() for reference in given] == [None, None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_has_served_many_batches_is_as_new(kind: str) -> None:
    # A layer keeps its buffers, and what it set up over them, from one batch to the next.
    base = Case(kind, 9, 3, 4, 70, 2, dtype="float32")
    cases = [
        base, base, replace(base, T=300), base, replace(base, ragged=True), base,
        replace(base, B=13), replace(base, T=3, B=9), replace(base, source="one-hot"), base,
        replace(base, B=13, source="embedding"), replace(base, B=13),
    ]  # fmt: skip
    layer = make_layer(base)
    before = rnncore.get_num_threads()
    try:
        for number, case in enumerate(cases):
            rnncore.set_num_threads(1 + number % 3)
            given = make_given(case)
            assert_same_bits(infer(layer, given), infer(make_layer(base), given))
            assert_same_bits(run(layer, given), run(make_layer(base), given))
            assert_same_bits(infer(layer, given), infer(make_layer(base), given))
    finally:
        rnncore.set_num_threads(before)


# Lengths


# Outputs and gradients of the second size are larger than the caches, and written past them.
@pytest.mark.parametrize("size", [(9, 7, 3, 5, 2), (250, 17, 128, 128, 1)], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_sequence_is_as_if_alone(
    kind: str, bidirectional: bool, size: tuple[int, int, int, int, int]
) -> None:
    case = Case(kind, *size, bidirectional, True)
    layer, given = make_layer(case), make_given(case)
    results = run(layer, given)
    total = np.zeros_like(layer.flat_grads)
    for b, length in enumerate(given.lengths):

        def pick(a: Array, b: int = b) -> Array:
            return a[:, b : b + 1]

        alone = replace_arrays(given, lambda a, b=b, n=length: a[:n, b : b + 1], pick)
        alone.lengths = None
        expected = run(layer, alone)
        total += layer.flat_grads
        for name in ("y", "dx"):
            np.testing.assert_allclose(
                results[name][:length, b : b + 1], expected[name], rtol=1e-12, atol=1e-14
            )
            assert not results[name][length:, b].any()
        for name in named_states("", given.state):
            for prefix in ("", "d"):
                np.testing.assert_allclose(
                    results[prefix + name][:, b : b + 1], expected[prefix + name], rtol=1e-11,
                    atol=1e-14,
                )  # fmt: skip
    gradients = np.concatenate([results[f"d{name}"].ravel() for name in layer.grads])
    np.testing.assert_allclose(gradients, total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_more_padding_changes_no_bit(kind: str, dtype: str) -> None:
    case = Case(kind, 11, 9, 3, 17, 2, True, True, dtype=dtype)
    layer, given = make_layer(case), make_given(case)
    results = run(layer, given)
    for more in (1, 50):
        filler = np.full((more, 9, 3), np.nan, dtype)
        longer = replace(
            given, x=np.concatenate([given.x, filler]),
            dy=np.concatenate([given.dy, np.full((more, 9, 34), np.nan, dtype)]),
        )  # fmt: skip
        padded = run(layer, longer)
        for name in ("y", "dx"):
            assert not padded[name][11:].any()
            padded[name] = padded[name][:11]
        assert_same_bits(padded, results)
    # nor does what stands in the padding
    for b, length in enumerate(given.lengths):
        given.x[length:, b], given.dy[length:, b] = np.nan, np.inf
    assert_same_bits(run(layer, given), results)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_lengths_change_no_bit(kind: str) -> None:
    case = Case(kind, 11, 9, 3, 17, 2, True)
    layer, given = make_layer(case), make_given(case)
    expected = run(layer, given)
    for lengths in ([11] * 9, np.full(9, 11, np.uint8), tuple([11] * 9)):
        given.lengths = lengths  # type: ignore[assignment]
        assert_same_bits(run(layer, given), expected)


@pytest.mark.parametrize("source", ["features", "one-hot"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_list_of_sequences(kind: str, batch_first: bool, source: str) -> None:
    case = Case(kind, 8, 5, 3, 6, 2, True, True, source=source)
    layer, given = make_layer(case), make_given(case)
    expected = run(layer, given)
    layer.batch_first = batch_first  # a list has no such axis
    for sequence in (list, tuple):
        apart = replace(given, lengths=None)
        for name in ("x", "dy"):
            steps = enumerate(given.lengths)
            setattr(apart, name, sequence(getattr(given, name)[:n, b] for b, n in steps))
        results = run(layer, apart)
        for name in ("y", "dx") if source == "features" else ("y",):
            assert [len(piece) for piece in results[name]] == given.lengths.tolist()
            for b, piece in enumerate(results.pop(name)):
                assert np.array_equal(piece, expected[name][: len(piece), b])
        assert all(np.array_equal(results[name], expected[name]) for name in results)


def test_the_forget_gate_begins_where_it_is_told() -> None:
    plain = rnncore.LSTM(3, 4, 2, bidirectional=True, seed=0)
    for bias in (True, "pytorch"):
        layer = rnncore.LSTM(3, 4, 2, bias=bias, bidirectional=True, forget_bias=1.5, seed=0)
        for name, array in layer.params.items():
            if name.startswith("bias"):
                forget = 0 if name.startswith("bias_hh") else 1.5
                assert (array[4:8] == forget).all() and not (array[:4] == forget).any()
            elif bias is True:
                assert np.array_equal(array, plain.params[name])


# Views and packed weights


def test_parameters_are_views_of_one_buffer() -> None:
    layer = rnncore.LSTM(3, 5, 2, bidirectional=True, seed=0)
    for named, flat in ((layer.params, layer.flat_params), (layer.grads, layer.flat_grads)):
        assert flat.ndim == 1 and flat.size == sum(a.size for a in named.values())
        assert all(np.shares_memory(a, flat) for a in named.values())
        with layer.changing_weights() as params:
            params[...] = layer.flat_grads[...] = np.arange(flat.size)
        joined = np.concatenate([a.ravel() for a in named.values()])
        assert np.array_equal(np.sort(joined), np.arange(flat.size))
    layer.zero_grad()
    assert not layer.flat_grads.any()


def test_a_model_takes_its_parts_into_one_buffer() -> None:
    parts = {
        "embedding": rnncore.Embedding(7, 3, seed=0),
        "rnn": rnncore.GRU(3, 5, 2, seed=1),
        "head": rnncore.Linear(5, 7, seed=2),
    }
    before = {f"{k}.{n}": a.copy() for k, part in parts.items() for n, a in part.params.items()}
    model = rnncore.Module(children=parts)
    assert model.flat_params.size == sum(a.size for a in before.values())
    assert list(model.params) == list(before)
    for name, array in model.params.items():
        assert np.array_equal(array, before[name]) and np.shares_memory(array, model.flat_params)
    for part in parts.values():
        assert np.shares_memory(part.flat_params, model.flat_params)
        assert np.shares_memory(part.flat_grads, model.flat_grads)
    ids = np.array([[1, 2], [3, 4]])
    y, _ = parts["rnn"](ids, embedding=parts["embedding"])
    with model.changing_weights() as flat:
        flat *= 2
    assert not np.array_equal(parts["rnn"](ids, embedding=parts["embedding"])[0], y)
    state = model.state_dict()
    with model.changing_weights() as flat:
        flat[...] = 0
    model.load_state_dict(state)
    assert np.array_equal(parts["head"].params["weight"], state["head.weight"])


@pytest.mark.parametrize("source", ["features", "one-hot", "embedding"])
def test_changes_of_the_weights_are_seen(source: str) -> None:
    case = Case("gru", 5, 3, 4, 6, 2, True, source=source)
    given = make_given(case)

    def fresh(flat: Array) -> dict[str, Array]:
        layer = make_layer(case)
        with layer.changing_weights() as params:
            params[...] = flat
        return run(layer, given)

    def check(layer: Recurrent) -> None:
        expected = fresh(layer.flat_params)
        assert_same_bits(run(layer, given), expected)
        assert_same_bits(infer(layer, given), {n: expected[n] for n in infer(layer, given)})

    layer = make_layer(case)
    check(layer)
    with layer.changing_weights() as flat:
        flat *= 0.5
    check(layer)
    layer.load_state_dict({name: 1.5 * array for name, array in layer.state_dict().items()})
    check(layer)
    with layer.writable_params() as params:
        params["weight_hh_l1_reverse"][0, 0] += 1
        params["bias_hn_l0"][...] += 0.5
    check(layer)
    for array in (params["bias_hn_l0"], flat, layer.flat_params, layer.params["bias_hn_l0"]):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    if given.embedding is not None:
        with given.embedding.changing_weights() as flat:
            flat *= 2
        check(layer)
        with given.embedding.writable_params() as params:
            params["weight"][3] = 1
        check(layer)


def test_another_embedding_is_another_table() -> None:
    # Python may give an embedding the place in memory of one that is gone.
    layer, same = rnncore.LSTM(3, 4, seed=0), rnncore.LSTM(3, 4, seed=0)
    ids = np.array([[0, 1, 2]])

    def difference(seed: int) -> float:
        table = rnncore.Embedding(5, 3, seed=seed)
        return float(np.abs(layer(ids, embedding=table)[0] - same(table(ids))[0]).max())

    assert max(difference(seed) for seed in range(20)) < 1e-6


def test_linear_sees_changes_of_its_weights() -> None:
    linear = rnncore.Linear(3, 2, seed=0, dtype=np.float64)
    x = np.eye(3)
    for change in range(4):
        if change == 1:
            with linear.changing_weights() as flat:
                flat *= 2
        elif change == 2:
            with linear.writable_params() as params:
                params["bias"][0] = 7
        elif change == 3:
            linear.load_state_dict({k: v + 1 for k, v in linear.state_dict().items()})
        state = linear.state_dict()
        np.testing.assert_allclose(linear(x), x @ state["weight"].T + state["bias"], rtol=1e-15)


def test_state_dict_is_a_copy_and_loading_is_all_or_nothing() -> None:
    layer = rnncore.GRU(3, 5, seed=0)
    state = layer.state_dict()
    before = layer.flat_params.copy()
    for array in state.values():
        array[...] = 0
    assert np.array_equal(layer.flat_params, before)
    wrong = {**layer.state_dict(), "weight_ih_l0": np.zeros((15, 3)), "bias_hh_l0": np.zeros(14)}
    with pytest.raises(ValueError, match="size mismatch for bias_hh_l0"):
        layer.load_state_dict(wrong)
    assert np.array_equal(layer.flat_params, before)


@pytest.mark.parametrize("kind", ("rnn_relu", "lstm", "gru"))
def test_seeds(kind: str) -> None:
    case = Case(kind, 1, 1, 3, 50, 2, True)
    make = {"rnn_relu": rnncore.RNN, "lstm": rnncore.LSTM, "gru": rnncore.GRU}[kind]
    one, same, other = (make(3, 50, 2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.flat_params, same.flat_params)
    assert not np.array_equal(one.flat_params, other.flat_params)
    assert not np.array_equal(make(3, 50).flat_params, make(3, 50).flat_params)
    bound = 50**-0.5
    assert bound * 0.99 < np.abs(one.flat_params).max() <= bound
    assert abs(one.flat_params.mean()) < 0.05 * bound
    drawn = make(3, 50, 2, seed=np.random.default_rng(1))
    assert np.array_equal(drawn.flat_params, one.flat_params)
    assert make_layer(case).flat_params.dtype == np.float64


# Tokens


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_one_hot_vectors(kind: str, dtype: str) -> None:
    case = Case(kind, 9, 5, 7, 12, 2, True, True, source="one-hot", dtype=dtype)
    layer, given = make_layer(case), make_given(case)
    results = run(layer, given)
    dense = replace(given, x=np.eye(7, dtype=dtype)[given.x])
    expected = run(layer, dense)
    expected.pop("dx")
    tolerance = 1e-13 if dtype == "float64" else 2e-6
    for name, right in expected.items():
        error = np.abs(results[name] - right).max()
        assert error <= tolerance * np.abs(right).max(), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_with_an_embedding_are_its_vectors(kind: str, dtype: str) -> None:
    case = Case(kind, 9, 5, 4, 12, 2, True, True, source="embedding", dtype=dtype)
    layer, given = make_layer(case), make_given(case)
    results = run(layer, given)
    table = given.embedding
    assert table is not None
    table.zero_grad()
    expected = run(layer, replace(given, x=table.forward(given.x), embedding=None))
    table.backward(expected.pop("dx"))
    expected["dembedding"] = table.grads["weight"]
    tolerance = 1e-13 if dtype == "float64" else 2e-6
    for name, right in expected.items():
        error = np.abs(results[name] - right).max()
        assert error <= tolerance * np.abs(right).max(), name


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_with_an_array_of_vectors_are_its_rows(kind: str) -> None:
    case = Case(kind, 9, 5, 4, 12, 2, True, True, source="embedding")
    layer, given = make_layer(case), make_given(case)
    table = given.embedding
    assert table is not None
    expected = run(layer, given)
    vectors = table.params["weight"].copy()
    y, _ = layer.forward(given.x, given.state, given.lengths, embedding=vectors)
    assert np.array_equal(y, expected["y"])
    vectors[...] = np.nan  # what backward needs is its own
    dvectors, _ = layer.backward(given.dy, given.dstate)
    assert np.array_equal(dvectors, table.grads["weight"])
    layer.forward(given.x, given.state, given.lengths, embedding=np.ones_like(vectors))
    assert layer.backward(given.dy, given.dstate, input_gradient=False)[0] is None


def test_vectors_that_do_not_fit_are_refused() -> None:
    layer, ids = rnncore.GRU(4, 5, seed=0), np.zeros((3, 2), int)
    vectors = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    for wrong in (vectors[:, :3], vectors.astype(float), vectors[0], vectors[:0]):
        for call in (partial(layer, ids), layer.stream):
            with pytest.raises(ValueError, match=r"embedding: expected float32 vectors \(n, 4\), "):
                call(embedding=wrong)
    with pytest.raises(TypeError, match="an array of vectors, got list"):
        layer(ids, embedding=[[1.0] * 4])
    with pytest.raises(TypeError, match="embedding: expected an array, got a masked one"):
        layer(ids, embedding=np.ma.masked_array(vectors, vectors > 0))
    for other in (np.asfortranarray(vectors), np.repeat(vectors, 2, 0)[::2]):
        right = layer(ids, embedding=vectors)[0]
        assert np.array_equal(layer(ids, embedding=other)[0], right)
        assert np.array_equal(layer.stream(embedding=other).process(ids[:, 0]), right[:, 0])


@pytest.mark.parametrize("source", ["one-hot", "embedding"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_projected_whole_gives_the_same_bits(kind: str, source: str) -> None:
    case = Case(kind, 2, 2, 7, 12, bidirectional=True, source=source, dtype="float32")
    layer, given = make_layer(case), make_given(case)
    ids, options = given.x[:1, :1], given.options

    def kept() -> Any:
        return layer._packed_sets["vocabulary"][1].tables

    first = layer(ids, **options)[0]
    assert kept() is None  # one token of seven
    for _ in range(8):
        assert np.array_equal(layer(ids, **options)[0], first)
    assert kept() is not None
    assert np.array_equal(layer(given.x, **options)[0][:1, :1, :12], first[..., :12])
    for module in {layer, given.embedding or layer}:  # other weights, other answers
        with module.changing_weights() as flat:
            flat *= 1.5
        now = layer(ids, **options)[0]
        assert not np.array_equal(now, first)
        assert np.array_equal(now, make_copy(layer)(ids, **options)[0])
        first = now


def make_copy(layer: Recurrent) -> Recurrent:
    return copy.deepcopy(layer)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
@pytest.mark.parametrize("T", [1, 2, 70])
def test_beginning_at_zero_is_beginning_with_zeros(kind: str, T: int, dtype: str) -> None:
    # Products with zeros are left out where no state is given: no bit may change.
    case = Case(kind, T, 37, 5, 40, 2, True, True, dtype=dtype)
    layer, given = make_layer(case), make_given(case)
    zeros = np.zeros((4, 37, 40), dtype)
    expected = run(layer, replace(given, state=(zeros, zeros) if kind == "lstm" else zeros))
    results = run(layer, replace(given, state=None))
    assert_same_bits(results, expected)
    layer.forward(given.x, None, given.lengths)
    layer.flat_grads[...] = 0
    dx, dstate = layer.backward(given.dy, given.dstate, state_gradient=False)
    assert dstate is None
    assert np.array_equal(dx, expected["dx"])
    for name, array in layer.grads.items():
        assert np.array_equal(array, expected["d" + name]), name


@pytest.mark.parametrize("integer", [np.uint8, np.int16, np.int64, np.uint64])
def test_tokens_of_any_integer_type(integer: type) -> None:
    layer = rnncore.GRU(5, 4, batch_first=True, seed=0)
    ids = np.array([[0, 4, 2], [1, 1, 3]])
    y, h = layer(ids, tokens=True)
    again, same = layer(ids.astype(integer), tokens=True)
    assert np.array_equal(y, again) and np.array_equal(h, same)
    alone, _ = layer(ids[0].astype(integer), tokens=True)
    assert np.array_equal(alone, y[0])
    listed, _ = layer(ids.tolist(), tokens=True)
    assert np.array_equal(listed, y)


@pytest.mark.parametrize("memory", [None, 10**6])
@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_may_hold_any_token(batch_first: bool, memory: int | None) -> None:
    layer = rnncore.LSTM(5, 4, batch_first=batch_first, seed=0)
    ids, lengths = np.random.default_rng(0).integers(0, 5, (6, 3)), [2, 0, 6]
    padded = np.where(np.arange(6)[:, None] < lengths, ids, -1)
    results = []
    for tokens in (ids, padded, np.where(padded < 0, 99, padded)):
        tokens = tokens.T if batch_first else tokens
        y, (h, c) = layer.forward(tokens, lengths=lengths, tokens=True, memory=memory)
        layer.backward(np.ones_like(y), accumulate=False)
        results.append((y, h, c, layer.flat_grads.copy()))
        assert np.array_equal(layer(tokens, lengths=lengths, tokens=True)[0], y)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    with pytest.raises(ValueError, match=r"x: index out of range: .* got -1"):
        layer(padded.T if batch_first else padded, lengths=[3, 0, 6], tokens=True)


def test_token_gradients_add_up() -> None:
    case = Case("lstm", 9, 5, 4, 12, source="embedding")
    layer, given = make_layer(case), make_given(case)
    once = run(layer, given)
    layer.forward(given.x, given.state, **given.options)
    layer.backward(given.dy, given.dstate)
    np.testing.assert_allclose(given.embedding.grads["weight"], 2 * once["dembedding"], rtol=1e-13)


# Dropout


def test_dropout_statistics() -> None:
    x = np.ones((200, 50, 10), np.float32)
    for p in (0.1, 0.5, 0.9):
        dropout = rnncore.Dropout(p, seed=0)
        y = dropout.forward(x)
        kept = y != 0
        assert abs(kept.mean() - (1 - p)) < 4 * (p * (1 - p) / x.size) ** 0.5
        np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)
        assert np.array_equal(dropout.backward(x), y)  # the same mask
        assert not np.array_equal(dropout.forward(x), y)  # a new one
        assert dropout(x) is x
    none = rnncore.Dropout(0.0)
    assert np.array_equal(none.forward(x), x) and np.array_equal(none.backward(x), x)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_stands_between_layers(bidirectional: bool) -> None:
    # Identity cells with unit weights: the output counts which of the lower layer's numbers were
    # kept, each doubled.
    H, D = 40, 1 + bidirectional
    layer = rnncore.RNN(1, [H, 1], nonlinearity="identity", bias=False, dropout=0.5,
                        bidirectional=bidirectional, dtype=np.float64, seed=0)  # fmt: skip
    with layer.writable_params() as params:
        for name, array in params.items():
            array[...] = "weight_ih" in name
    x = np.ones((30, 50, 1))
    y, _ = layer(x)
    assert np.all(y == D * H)  # inference has no noise
    first, _ = layer.forward(x)
    kept = first[..., 0] / 2
    assert np.array_equal(kept, np.round(kept))
    assert abs(kept.mean() - D * H / 2) < 4 * (D * H / 4 / kept.size) ** 0.5
    assert abs(kept.var() / (D * H / 4) - 1) < 0.15  # each number by itself
    if bidirectional:
        assert np.array_equal(first[..., 0], first[..., 1])  # both read what one mask left
    dx, _ = layer.backward(np.ones_like(first))
    assert np.array_equal(dx[..., 0], D * first[..., 0])
    assert not np.array_equal(layer.forward(x)[0], first)


def test_dropout_with_one_layer_or_of_zero_does_nothing() -> None:
    x = np.ones((5, 3, 4), np.float32)
    with pytest.warns(UserWarning, match="dropout: 0.9 has no effect on one layer") as caught:
        one = rnncore.LSTM(4, 6, dropout=0.9, seed=0)
    assert caught[0].filename == __file__
    for layer in (one, rnncore.LSTM(4, 6, 3, dropout=0.0, seed=0)):
        assert np.array_equal(layer(x)[0], layer.forward(x)[0])


def test_dropout_is_repeatable() -> None:
    x = np.ones((5, 3, 4), np.float32)
    results = []
    for _ in range(2):
        layer = rnncore.GRU(4, 6, 3, dropout=0.5, seed=3)
        results.append([layer.forward(x)[0] for _ in range(3)])
    assert np.array_equal(results[0], results[1])


# Trainable initial states


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_learned_initial_state(
    kind: str, bidirectional: bool, threads: Callable[[int], None]
) -> None:
    threads(1)
    make = {"rnn_tanh": rnncore.RNN, "lstm": rnncore.LSTM, "gru": rnncore.GRU}[kind]
    layer = make(1, [2, 1], bidirectional=bidirectional, learn_initial_state=True,
                 dtype=np.float64, seed=0)  # fmt: skip
    rng = np.random.default_rng(0)
    learned = {name: a for name, a in layer.params.items() if name.startswith("initial")}
    assert len(learned) == 2 * (1 + bidirectional) * (2 if kind == "lstm" else 1)
    with layer.writable_params() as params:
        for name in learned:
            params[name][...] = rng.standard_normal(params[name].shape)
    x, lengths = rng.standard_normal((4, 3, 1)), [4, 0, 2]
    y, state = layer.forward(x, lengths=lengths)
    dy = rng.standard_normal(y.shape)
    upstream = {n: rng.standard_normal(a.shape) for n, a in named_states("", state).items()}
    parts = [[upstream[f"{k}0"], upstream[f"{k}1"]] for k in ("h", "c") if f"{k}0" in upstream]
    layer.backward(dy, tuple(parts) if kind == "lstm" else parts[0])

    def loss() -> float:
        y, state = layer(x, lengths=lengths)
        named = named_states("", state)
        return np.vdot(y, dy) + sum(np.vdot(named[name], upstream[name]) for name in named)

    analytic = {name: array.copy() for name, array in layer.grads.items()}
    assert_gradients_close(analytic, of_module(layer, loss))
    # a state that is given stands above the learned one
    zeros = [np.zeros((1 + bidirectional, 3, H)) for H in (2, 1)]
    layer.zero_grad()
    layer.forward(x, (zeros, zeros) if kind == "lstm" else zeros)
    layer.backward(dy)
    assert all(not layer.grads[name].any() for name in learned)
    assert set(learned) <= set(layer.state_dict())


# Every state of every step


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_record(kind: str, bidirectional: bool, ragged: bool) -> None:
    case = Case(kind, 6, 5, 3, 7, 2, bidirectional, ragged)
    layer, given = make_layer(case), make_given(case)
    expected = infer(layer, given)
    y, state, records = layer.record(given.x, given.state, given.lengths)
    assert_same_bits({"y": y, **named_states("", state)}, expected)
    names = {"lstm": "cfghio", "gru": "hnrz"}.get(kind, "h")
    assert len(records) == 2 * case.directions
    for record in records:
        assert sorted(record) == list(names)
        assert {a.shape for a in record.values()} == {(6, 5, 7)}
    top = np.concatenate([r["h"] for r in records[-case.directions :]], axis=-1)
    assert np.array_equal(top, y)

    lengths = np.full(5, 6) if given.lengths is None else given.lengths
    for k, record in enumerate(records):
        for name, final in named_states("", state).items():
            for b, n in enumerate(lengths):
                last = 0 if k % case.directions else n - 1
                first = named_states("", given.state)[name]
                right = first[k, b] if n == 0 else record[name][last, b]
                assert np.array_equal(final[k, b], right)
                assert not record[name][n:, b].any()
        # the equations hold between what is recorded
        b = int(np.argmax(lengths))
        before = {n: a[k, b] for n, a in named_states("", given.state).items()}
        order = range(5, -1, -1) if k % case.directions else range(6)
        for t in order:
            now = {n: a[t, b] for n, a in record.items()}
            if kind == "lstm":
                c = now["f"] * before["c"] + now["i"] * now["g"]
                np.testing.assert_allclose(now["c"], c, rtol=1e-14, atol=1e-15)
                np.testing.assert_allclose(now["h"], now["o"] * np.tanh(c), rtol=1e-13, atol=1e-15)
            elif kind == "gru":
                h = (1 - now["z"]) * now["n"] + now["z"] * before["h"]
                np.testing.assert_allclose(now["h"], h, rtol=1e-14, atol=1e-15)
                assert np.all((now["r"] > 0) & (now["r"] < 1))
            before = now


def test_record_keeps_what_backward_needs() -> None:
    case = Case("lstm", 5, 3, 4, 6, 2)
    expected = run(make_layer(case), make_given(case))
    layer, given = make_layer(case), make_given(case)
    layer.forward(given.x, given.state)
    layer.record(given.x + 1)
    dx, _ = layer.backward(given.dy, given.dstate)
    assert np.array_equal(dx, expected["dx"])


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_belong_to_the_caller(kind: str) -> None:
    # 64 hidden units are whole panels in every build: the states are the output, without a copy.
    layer, given = (
        make(Case(kind, 5, 3, 4, 64, dtype="float32")) for make in (make_layer, make_given)
    )
    y, state = layer(given.x)
    before, states = y.copy(), [array.copy() for array in named_states("", state).values()]
    layer(2 * given.x)
    assert np.array_equal(y, before) and y.flags.c_contiguous and y.flags.writeable
    y[...] = 0
    for array, unchanged in zip(named_states("", state).values(), states, strict=True):
        assert np.array_equal(array, unchanged)
    assert np.array_equal(layer(given.x)[0], before)


@pytest.mark.parametrize("memory", [None, 10**7])
def test_token_ids_may_change_after_forward(memory: int | None) -> None:
    gradients = []
    for spoil in (False, True):
        layer = rnncore.LSTM(7, 8, seed=0)
        ids = np.random.default_rng(0).integers(0, 7, (30, 2))
        y, _ = layer.forward(ids, tokens=True, memory=memory)
        if spoil:
            ids[...] = 10**6
        layer.backward(np.ones_like(y))
        gradients.append(layer.flat_grads)
    assert np.array_equal(*gradients)


def test_an_embedding_stays_as_it_is_until_backward() -> None:
    layer, table = rnncore.GRU(4, 8, seed=0), rnncore.Embedding(5, 4, seed=0)
    y, _ = layer.forward(np.array([[0], [3]]), embedding=table)
    table.load_state_dict(table.state_dict())
    with pytest.raises(RuntimeError, match="the embedding has changed since forward"):
        layer.backward(np.ones_like(y))


# Long sequences in little memory


def least_memory(layer: Recurrent, given: Given) -> int:
    """Return the smallest budget, as the error names it."""
    with pytest.raises(ValueError, match="memory: expected at least") as caught:
        layer.forward(given.x, given.state, given.lengths, **given.options, memory=1)
    return int(str(caught.value).split()[4])


def run_in(memory: int, layer: Recurrent, given: Given) -> dict[str, Array]:
    """Do what `cases.run` does, in a memory budget."""
    y, state = layer.forward(
        given.x, given.state, given.lengths, **given.options, memory=memory
    )
    layer.flat_grads[...] = np.nan
    dx, dstate = layer.backward(given.dy, given.dstate, accumulate=False)
    results = {"y": y, **named_states("", state), **named_states("d", dstate)}
    results.update({f"d{name}": gradient for name, gradient in layer.grads.items()})
    if given.embedding is not None:
        results["dembedding"] = given.embedding.grads["weight"]
    return results if dx is None else {**results, "dx": dx}


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_budget_changes_no_gradient(kind: str) -> None:
    for case in (
        Case(kind, 2000, 1, 3, 10, 2),
        Case(kind, 900, 3, 3, 10, 2, ragged=True),
        Case(kind, 900, 5, 3, 10, ragged=True, source="embedding"),
        Case(kind, 1500, 2, 5, 8, batch_first=True),
        Case(kind, 3000, 2, 5, 8, source="embedding"),
        Case(kind, 3000, 2, 5, 8, source="one-hot"),
    ):
        expected = run(make_layer(case), make_given(case))
        least = least_memory(make_layer(case), make_given(case))
        for memory in (least, 2 * least, 10**9):
            layer, given = make_layer(case), make_given(case)
            results = run_in(memory, layer, given)
            assert set(results) == set(expected)
            for name, right in expected.items():
                assert np.array_equal(results[name], right), f"{case}: {name}, {memory} bytes"


def test_dropout_in_little_memory_is_that_of_one_pass() -> None:
    # Backward has to draw the masks of forward again, and leave the generator where it was.
    case = Case("gru", 700, 3, 3, 10, 2, dropout=0.3)
    given = make_given(case)
    memory = least_memory(make_layer(case), given)
    direction = np.random.default_rng(0).standard_normal(given.x.shape)

    def noisy(step: float) -> float:
        y, _ = make_layer(case).forward(given.x + step * direction, memory=memory)
        return float(np.vdot(y, given.dy))

    layer = make_layer(case)
    layer.forward(given.x, memory=memory)
    after = layer._dropout.generator.bit_generator.state
    dx, _ = layer.backward(given.dy)
    slope = (noisy(1e-4) - noisy(-1e-4)) / 2e-4
    assert np.vdot(dx, direction) == pytest.approx(slope, rel=1e-6)
    assert layer._dropout.generator.bit_generator.state == after


@pytest.mark.parametrize("times", [1, 4])
def test_a_memory_budget_is_kept(times: int) -> None:
    case = Case("lstm", 10_000, 1, 2, 16, dtype="float32")
    given = make_given(case)
    memory = times * least_memory(make_layer(case), given)
    layer = make_layer(case)
    gc.collect()
    tracemalloc.start()
    try:
        y, _ = layer.forward(given.x, memory=memory)
        dx, _ = layer.backward(given.dy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # What the caller gets comes on top, and packed weights and Python's own objects.
    assert peak - y.nbytes - dx.nbytes <= memory + 100_000


def test_a_hundred_thousand_steps() -> None:
    T, H = 100_000, 8
    x = np.random.default_rng(0).standard_normal((T, 1, 1)).astype(np.float32)
    dy = np.random.default_rng(1).standard_normal((T, 1, H)).astype(np.float32)
    gradients = []
    for memory in (None, 1_000_000):
        layer = rnncore.LSTM(1, H, seed=0)
        layer.forward(x, memory=memory)
        dx, _ = layer.backward(dy)
        gradients.append((dx, layer.flat_grads))
    assert np.array_equal(gradients[0][0], gradients[1][0])
    assert np.array_equal(gradients[0][1], gradients[1][1])


def test_a_memory_budget_with_dropout_in_many_layers_draws_the_masks_of_one_pass() -> None:
    case = Case("lstm", 700, 3, 3, 10, 4, dropout=0.3)
    memory = least_memory(make_layer(case), make_given(case))
    whole, parts = make_layer(case), make_layer(case)
    expected = run_in(10**10, whole, make_given(case))
    assert_same_bits(run_in(memory, parts, make_given(case)), expected)
    states = [layer._dropout.generator.bit_generator.state for layer in (whole, parts)]
    assert states[0] == states[1]


def test_a_memory_budget_is_what_the_whole_pass_takes_at_most() -> None:
    for case in (Case("gru", 5, 3, 3, 10, 2), Case("lstm", 300, 3, 3, 10, bidirectional=True)):
        layer, given = make_layer(case), make_given(case)
        whole = least_memory(layer, given)
        expected = run(make_layer(case), given)
        assert_same_bits(run_in(whole, layer, given), expected)
        tracemalloc.start()
        try:
            fresh = make_layer(case)
            before = tracemalloc.get_traced_memory()[0]
            y, _ = fresh.forward(given.x, given.state, memory=whole)
            dx, _ = fresh.backward(given.dy, given.dstate)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert peak - y.nbytes - dx.nbytes <= whole + 100_000


def test_memory_can_be_given_back() -> None:
    layer = rnncore.LSTM(16, 32, seed=0)
    x = np.ones((400, 32, 16), np.float32)
    tracemalloc.start()
    try:
        y, _ = layer.forward(x)
        layer.backward(y)
        layer(x)
        del y
        held = tracemalloc.get_traced_memory()[0]
        layer.release_memory()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < held - 400 * 32 * 32 * 4 * 4
    finally:
        tracemalloc.stop()
    assert layer(x[:1])[0].shape == (1, 32, 32)


def test_wide_layers_are_limited_by_their_own_gates() -> None:
    assert rnncore.RNN(1, 17_000, seed=0).num_parameters == 17_000 * (1 + 17_000 + 1)


# What runs


def test_explain() -> None:
    layer = rnncore.LSTM(8, 16, 2, bidirectional=True)
    for steps, batch, training in ((100, 1, False), (64, 32, True), (1, 1, False)):
        text = layer.explain(steps, batch, training)
        for word in ("build", "packed", "workspace", "bytes", f"T = {steps}, B = {batch}",
                     "training" if training else "inference"):  # fmt: skip
            assert word in text
    assert "GEMM" in layer.explain(64, 32) and "matvec" in layer.explain(1, 1)
    assert "gather" in layer.explain(64, 32)


# Linear, Embedding, loss


def test_linear_on_any_leading_shape() -> None:
    linear = rnncore.Linear(3, 5, seed=0, dtype=np.float64)
    state = linear.state_dict()
    rng = np.random.default_rng(0)
    for shape in ((3,), (4, 3), (2, 0, 3), (2, 5, 7, 3)):
        x = rng.standard_normal(shape)
        y = linear.forward(x)
        assert y.shape == (*shape[:-1], 5)
        np.testing.assert_allclose(y, x @ state["weight"].T + state["bias"], rtol=1e-12, atol=1e-14)
        assert np.array_equal(linear(x), y)
        dx = linear.backward(np.ones_like(y))
        np.testing.assert_allclose(dx, np.ones_like(y) @ state["weight"], rtol=1e-12, atol=1e-14)
    assert "bias" not in rnncore.Linear(3, 5, bias=False).params


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_writes_where_it_is_told(dtype: type) -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((6, 2, 9)).astype(dtype), rng.integers(0, 9, (6, 2))
    before = logits.copy()
    loss, dlogits = rnncore.softmax_cross_entropy(logits, targets)
    out = np.full_like(logits, np.nan)
    again, same = rnncore.softmax_cross_entropy(logits, targets, out)
    assert same is out and again == loss and np.array_equal(out, dlogits)
    assert np.array_equal(logits, before)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    right = -np.log(np.take_along_axis(p, targets[..., None], -1)).mean()
    assert loss == pytest.approx(right, rel=1e-6 if dtype == np.float32 else 1e-13)
    assert rnncore.softmax_cross_entropy(logits[:0], targets[:0])[0] == 0


# hypothesis: shapes, lengths, strides, read-only and non-contiguous inputs


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Case, Given, Given]:
    """Draw a case, what it reads, and the same numbers laid out in memory in another way."""
    case = Case(
        draw(st.sampled_from(("rnn_tanh", "rnn_relu", "lstm", "gru"))),
        draw(st.integers(0, 9)), draw(st.integers(0, 9)), draw(st.integers(1, 20)),
        draw(st.integers(1, 40)), draw(st.integers(1, 3)), draw(st.booleans()),
        bias=draw(st.booleans()), batch_first=draw(st.booleans()),
        dtype=draw(st.sampled_from(("float32", "float64"))),
    )  # fmt: skip
    given = make_given(case)
    if draw(st.booleans()):
        lengths = st.lists(st.integers(0, case.T), min_size=case.B, max_size=case.B)
        given.lengths = np.array(draw(lengths), int)

    def lay_out(array: Array) -> Array:
        how = draw(st.sampled_from(("plain", "fortran", "strided", "reversed", "offset", "big")))
        if how == "fortran":
            array = np.asfortranarray(array)
        elif how == "strided":
            wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
            wide[..., ::2] = array
            array = wide[..., ::2]
        elif how == "reversed":
            array = np.ascontiguousarray(array[::-1, :, ::-1])[::-1, :, ::-1]
        elif how == "offset":  # aligned for nothing wider than a number
            flat = np.empty(array.size + 1, array.dtype)
            flat[1:] = array.ravel()
            array = flat[1:].reshape(array.shape)
        elif how == "big":
            array = array.astype(array.dtype.newbyteorder(">"))
        if draw(st.booleans()):
            array = array.view()
            array.flags.writeable = False
        return array

    return case, given, replace_arrays(given, lay_out, lay_out)


@given_that(layouts())
@settings(max_examples=100)
def test_layouts_in_memory_change_no_bit(drawn: tuple[Case, Given, Given]) -> None:
    case, plain, laid_out = drawn
    layer = make_layer(case)
    copies = {name: array.copy() for name, array in laid_out.arrays().items()}
    expected = run(layer, plain)
    results = run(layer, laid_out)
    assert_same_bits(results, expected)
    assert_same_bits(infer(layer, laid_out), {n: expected[n] for n in infer(layer, plain)})
    for name, array in laid_out.arrays().items():
        assert np.array_equal(array, copies[name]), f"{name} was changed"
    lengths = np.full(case.B, case.T) if plain.lengths is None else plain.lengths
    y = results["y"].swapaxes(0, 1) if case.batch_first else results["y"]
    for b, n in enumerate(lengths):
        assert not y[n:, b].any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_floating_numbers_of_any_precision_are_converted(dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float16)
    for own in (np.float32, np.float64):
        layer = rnncore.LSTM(3, 5, dtype=own, seed=0)
        y, (h, _) = layer.forward(x.astype(dtype))
        assert y.dtype == h.dtype == own
        assert np.array_equal(y, layer(x.astype(own))[0])
        dx, _ = layer.backward(y.astype(dtype))
        assert dx.dtype == own
    y, _ = layer(x.tolist())
    assert y.shape == (4, 2, 5)
