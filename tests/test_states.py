"""Cells of more states than h and c, wherever a state comes by."""

from __future__ import annotations

import numpy as np
import pytest
from finite_differences import assert_gradients_close, of_module

import rnncore
from rnncore.cells import sigmoid, tanh
from rnncore.layers.watching import watch_backward

pytest.importorskip("llvmlite")


@rnncore.cell(gates="ab", states="hcm")
def traces(z, prev):
    a = tanh(z.a)
    c = 0.5 * prev.c + a * sigmoid(z.b + prev.m)
    m = 0.9 * prev.m + 0.1 * c
    return tanh(c - m), c, m


@rnncore.cell(gates="ifgo", states="hsc")
def lstm_that_counts(z, prev):
    i, f, g, o = sigmoid(z.i), sigmoid(z.f), tanh(z.g), sigmoid(z.o)
    c = f * prev.c + i * g
    return o * tanh(c), prev.s + 1, c


def in_numpy(p, end, x, states):
    """Return the states of every step of one direction, [state][t]."""
    every = []
    h, c, m = states
    for x_t in x:
        z = x_t @ p["weight_ih" + end].T + h @ p["weight_hh" + end].T + p["bias_ih" + end]
        a, b = np.split(z, 2, axis=-1)
        c = 0.5 * c + np.tanh(a) / (1 + np.exp(-b - m))
        m = 0.9 * m + 0.1 * c
        h = np.tanh(c - m)
        every.append((h, c, m))
    return [np.stack(arrays) for arrays in zip(*every, strict=True)]


def make(*sizes, **options):
    return rnncore.Recurrent(traces, *sizes, dtype=np.float64, seed=0, **options)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("H", "B"), [(5, 1), (9, 4), (64, 2), (70, 9)])
def test_records_and_final_states_against_numpy(H, B, nan_buffers) -> None:
    layer, x = make(3, H, bidirectional=True), numbers(6, B, 3)
    states = tuple(numbers(3, 2, B, H, seed=1))
    y, final, records = layer.record(x, states)
    assert np.array_equal(layer(x, states)[0], y) and len(final) == 3
    for d, end in enumerate(("_l0", "_l0_reverse")):
        order = slice(None, None, -1 if d else 1)
        right = in_numpy(layer.params, end, x[order], [s[d] for s in states])
        assert sorted(records[d]) == ["a", "c", "h", "m"]
        for k, (name, every) in enumerate(zip("hcm", right, strict=True)):
            np.testing.assert_allclose(records[d][name], every[order], rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(final[k][d], every[-1], rtol=1e-12, atol=1e-13)
    layer.forward(x, states)
    with watch_backward() as seen:
        layer.backward(y)
    assert all(np.array_equal(seen[0].states[1][name], records[1][name]) for name in "hcm")


def test_they_are_carried_and_change_nothing_else(threads) -> None:
    one = rnncore.Recurrent(lstm_that_counts, 3, 70, 2, seed=0)
    two = rnncore.LSTM(3, 70, 2, seed=1)
    two.load_state_dict(one.state_dict())
    x = numbers(30, 5, 3).astype(np.float32)
    for count in (1, 3):
        threads(count)
        results = []
        for layer in (one, two):
            y, state = layer.forward(x, lengths=[30, 7, 0, 2, 30])
            dx, dstate = layer.backward(y, state)
            results.append((y, state[0], state[-1], dx, dstate[0], dstate[-1]))
        s = one(x, lengths=[30, 7, 0, 2, 30])[1][1]
        assert all(np.array_equal(s[0, b], np.full(70, n)) for b, n in enumerate([30, 7, 0, 2, 30]))
        for found, right in zip(*results, strict=True):
            np.testing.assert_allclose(found, right, rtol=0, atol=1e-6 * np.abs(right).max())


@pytest.mark.parametrize("options", [
    {}, {"num_layers": 2, "bidirectional": True}, {"zoneout": (0.3, 0.4)},
    {"zoneout": 0.3, "recurrent_dropout": 0.4, "num_layers": 2, "dropout": 0.3},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_every_gradient(options, lengths, nan_buffers) -> None:
    layer = make(2, 5, **options)
    count = layer.num_layers * (1 + layer.bidirectional)
    x, dy = numbers(4, 3, 2), numbers(4, 3, layer.output_size, seed=1)
    state, dstate = (tuple(numbers(3, count, 3, 5, seed=k)) for k in (2, 3))
    generator = layer._dropout.generator.bit_generator
    before = generator.state

    def forward():
        generator.state = before
        return layer.forward(x, state, lengths)

    def loss() -> float:
        y, last = forward()
        return float(np.vdot(y, dy) + sum(np.vdot(s, d) for s, d in zip(last, dstate, strict=True)))

    layer.flat_grads[...] = np.nan
    forward()
    dx, dinitial = layer.backward(dy, dstate, accumulate=False)
    analytic = {name: array.copy() for name, array in layer.grads.items()} | {"x": dx}
    others = {"x": x} | dict(zip("hcm", state, strict=True))
    assert_gradients_close(
        analytic | dict(zip("hcm", dinitial, strict=True)), of_module(layer, loss, **others)
    )


def test_learned_initial_states() -> None:
    layer = make(2, 5, learn_initial_state=True)
    with layer.writable_params() as params:
        for name in "hcm":
            params[f"initial_{name}_l0"][...] = numbers(5, seed=ord(name))
    x, dy = numbers(3, 2, 2), numbers(3, 2, 5, seed=1)
    layer.forward(x)
    layer.backward(dy)
    analytic = {name: array.copy() for name, array in layer.grads.items()}
    assert_gradients_close(analytic, of_module(layer, lambda: float(np.vdot(layer(x)[0], dy))))
    again = make(2, 5, learn_initial_state=True)
    again.load_state_dict(layer.state_dict())
    assert np.array_equal(again(x)[0], layer(x)[0])
    assert np.array_equal(layer.stream().process(x[:, 0]), layer(x)[0][:, 0])


def test_zoneout_keeps_the_states_beside_h_together() -> None:
    layer, x = make(2, 200, zoneout=(0.0, 0.5)), numbers(1, 3, 2)
    before = tuple(numbers(3, 1, 3, 200, seed=1))
    _, (_, c, m) = layer.forward(x, before)
    kept = c == before[1]
    assert 0.4 < kept.mean() < 0.6 and np.array_equal(kept, m == before[2])
    new = make(2, 200)(x, before)[1]
    for k, found in enumerate(layer(x, before)[1]):
        rate = 0.5 if k else 0
        right = rate * before[k] + (1 - rate) * new[k]
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match="a number, or two: of h and of c and m, got"):
        make(2, 5, zoneout=(0.1, 0.2, 0.3))


def test_streams() -> None:
    layer, x = make(3, 9, 2, zoneout=0.1), numbers(8, 3)
    y, final = layer(x)
    stream = layer.stream()
    assert np.array_equal(stream.process(x[:5]), y[:5])
    state = stream.get_state()
    assert len(state) == 3 and len(state[2]) == 2 and state[2][1].shape == (9,)
    other = stream.copy()
    stream.reset()
    stream.set_state(state)
    for one in (stream, other):
        assert np.array_equal(one.process(x[5:]), y[5:])
        for k, arrays in enumerate(one.get_state()):
            assert np.array_equal(np.stack(arrays), final[k])
    with pytest.raises(TypeError, match="a tuple of 3"):
        stream.set_state(state[:2])


def test_segments_carry_all_of_them(threads) -> None:
    layer, x = make(3, 20, 2), numbers(600, 2, 3)
    state, dstate = (tuple(numbers(3, 2, 2, 20, seed=k)) for k in (1, 2))
    results = []
    for memory in (None, 1_200_000):
        y, last, kept = layer.forward(x, state, [600, 333], memory=memory, keep=True)
        assert (kept.segments is None) == (memory is None)
        dx, dinitial = layer.backward(y, dstate, kept=kept, accumulate=False)
        results.append([y, *last, dx, *dinitial, layer.flat_grads.copy()])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_shapes_of_states() -> None:
    x = numbers(4, 2, 3)
    _, state = make(3, 5, 2)(x[:, 0])
    assert [s.shape for s in state] == [(2, 5)] * 3
    layer = make(3, (5, 7), 2)
    _, state = layer(x)
    assert [[s.shape for s in of_layers] for of_layers in state] == [[(1, 2, 5), (1, 2, 7)]] * 3
    layer(x, state)
    layer = make(3, 5)
    with pytest.raises(TypeError, match=r"expected a tuple \(h, c, m\), got tuple of 2; give all"):
        layer(x, tuple(numbers(2, 1, 2, 5)))
    with pytest.raises(ValueError, match=r"state: Expected hidden\[2\] size \(1, 2, 5\), got"):
        layer(x, (*numbers(2, 1, 2, 5), numbers(1, 2, 4)))


def test_on_a_tape() -> None:
    layer, x = make(2, 3), numbers(3, 2, 2)
    with rnncore.Tape(layer) as tape:
        _, first = layer(tape.watch(x))
        y, (_, _, m) = layer(x, first)
        loss = rnncore.functions.sum(y) + rnncore.functions.sum(m * m)
    assert len(first) == 3
    tape.backward(loss)
    analytic = {name: array.copy() for name, array in layer.grads.items()}

    def value() -> float:
        y, (_, _, m) = layer(x, layer(x)[1])
        return float(y.sum() + (m * m).sum())

    assert_gradients_close(analytic, of_module(layer, value))
