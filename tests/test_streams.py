"""Streams: step by step, in blocks, and whole give the same bits."""

from __future__ import annotations

import copy
import threading
from functools import partial

import numpy as np
import pytest

import rnncore

KINDS = {
    "RNN": rnncore.RNN, "LSTM": rnncore.LSTM, "GRU": rnncore.GRU,
    "reset before": partial(rnncore.GRU, reset_after=False),
}  # fmt: skip


def features(steps: int, size: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(steps).standard_normal((steps, size)).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(1, 16), (3, [5, 17]), (40, 64)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("learned", [False, True])
def test_steps_blocks_and_the_whole_are_the_same(kind, sizes, dtype, learned) -> None:
    layer = KINDS[kind](*sizes, dtype=dtype, seed=0, learn_initial_state=learned)
    if learned:
        with layer.writable_params() as params:
            for name, array in params.items():
                if name.startswith("initial"):
                    array[...] = 0.5
    x = features(200, sizes[0], dtype)  # more than the longest chunk
    whole, state = layer(x)
    stream = layer.stream()
    assert np.array_equal(np.stack([stream.step(row) for row in x]), whole)
    final = stream.get_state()
    both = (final, state) if kind == "LSTM" else ([final], [state])
    for part, expected in zip(*both, strict=True):
        for ours, theirs in zip(part, expected, strict=True):
            assert np.array_equal(ours, np.squeeze(theirs))
    stream.reset()
    blocks = [stream.process(part) for part in np.split(x, [0, 1, 64, 130])]
    assert np.array_equal(np.concatenate(blocks), whole)


def test_out_is_written_and_returned() -> None:
    layer = rnncore.LSTM(3, 5, seed=0)
    stream, x = layer.stream(), features(4, 3)
    out, block = np.empty(5, np.float32), np.empty((4, 5), np.float32)
    assert stream.step(x[0], out) is out and np.array_equal(out, layer(x)[0][0])
    stream.reset()
    assert stream.process(x, out=block) is block and np.array_equal(block, layer(x)[0])


@pytest.mark.parametrize("embedded", [False, True])
def test_tokens(embedded: bool) -> None:
    table = rnncore.Embedding(11, 6, seed=1) if embedded else None
    layer = rnncore.GRU(6 if embedded else 11, 7, num_layers=2, seed=0)
    tokens = np.random.default_rng(0).integers(0, 11, 90)
    stream = layer.stream(tokens=True, embedding=table)
    whole = layer(tokens, tokens=True, embedding=table)[0]
    assert np.array_equal(stream.process(tokens), whole)
    stream.reset()
    assert np.array_equal(np.stack([stream.step(int(t)) for t in tokens]), whole)
    with pytest.raises(ValueError, match=r"x: index out of range: .* 0 to 10, got 11"):
        stream.step(11)
    with pytest.raises(TypeError, match="block: expected integer token ids"):
        stream.process(np.ones(3))


def test_a_copy_goes_its_own_way() -> None:
    layer, x = rnncore.LSTM(3, 5, seed=0), features(6, 3)
    stream = layer.stream()
    stream.process(x)
    other = stream.copy()
    assert np.array_equal(other.step(x[0]), stream.step(x[0]))
    other.step(x[1])
    state = stream.get_state()
    other.set_state(state)
    assert np.array_equal(other.step(x[2]), stream.step(x[2]))


def test_weights_are_the_streams_own() -> None:
    layer, x = rnncore.GRU(3, 5, seed=0), features(6, 3)
    stream, before = layer.stream(), layer(x)[0]
    with layer.writable_params() as params:
        params["weight_hh_l0"][...] = 0
    assert np.array_equal(stream.process(x), before)
    assert not np.array_equal(layer(x)[0], before)


def test_many_streams_on_many_threads() -> None:
    layer, x = rnncore.LSTM(8, 32, num_layers=2, seed=0), features(400, 8)
    expected, results = layer(x)[0], [None] * 4

    def work(number: int) -> None:
        stream = layer.stream()
        results[number] = np.stack([stream.step(row) for row in x])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, expected) for result in results)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="stream: a bidirectional layer"):
        rnncore.LSTM(3, 5, bidirectional=True).stream()
    stream = rnncore.LSTM(3, 5, seed=0).stream()
    cases = [
        (ValueError, r"x: expected shape \(3,\), got \(4,\)", lambda: stream.step(np.ones(4))),
        (ValueError, r"block: expected shape \(T, 3\)", lambda: stream.process(np.ones(3))),
        (TypeError, "x: expected floating-point", lambda: stream.step(np.ones(3, int))),
        (ValueError, "out: expected", lambda: stream.step(np.ones(3), np.empty(4, np.float32))),
        (ValueError, "out: expected", lambda: stream.step(np.ones(3), np.empty(5))),
        (TypeError, "state: expected", lambda: stream.set_state([np.zeros(5)])),
        (ValueError, "state: expected", lambda: stream.set_state(([np.zeros(4)], [np.zeros(5)]))),
    ]
    for error, message, call in cases:
        with pytest.raises(error, match=message):
            call()
    assert stream.process(np.ones((0, 3))).shape == (0, 5)
    assert rnncore.RNN(1, 4, seed=0).stream().step(0.5).shape == (4,)


def test_too_many_layers_for_a_stream() -> None:
    layer = rnncore.RNN(1, 1, num_layers=65, seed=0)
    with pytest.raises(ValueError, match=r"at most 64 recurrent layers .* got 65"):
        layer.stream()
    assert rnncore.RNN(1, 1, num_layers=64, seed=0).stream().step(np.ones(1, np.float32)).shape == (
        1,
    )


def test_arrays_of_other_layouts_are_read_right() -> None:
    layer, x = rnncore.LSTM(3, 5, seed=0), features(9, 3)
    expected, stream = layer(x)[0], layer.stream()
    raw = np.empty(x.nbytes + 1, np.uint8)
    raw[1:] = x.view(np.uint8).ravel()
    misaligned = raw[1:].view(np.float32).reshape(x.shape)
    for other in (x.astype(">f4"), misaligned, np.asfortranarray(x), x.astype(np.float64)):
        stream.reset()
        assert np.array_equal(stream.process(other), expected)
        stream.reset()
        assert np.array_equal(np.stack([stream.step(row) for row in other]), expected)
    with pytest.raises(TypeError, match="masked"):
        stream.process(np.ma.masked_less(x, 0))


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
def test_out_may_overlap_the_input(shift: int) -> None:
    layer, x = rnncore.GRU(5, 5, seed=0), features(200, 5)
    expected = layer(x)[0]
    memory = np.zeros((204, 5), np.float32)
    given, out = memory[2:202], memory[2 + shift : 202 + shift]
    given[...] = x
    assert np.array_equal(layer.stream().process(given, out=out), expected)


def test_token_ids_that_change_while_they_are_read() -> None:
    layer = rnncore.GRU(7, 16, seed=0)
    stream, ids, stop = layer.stream(tokens=True), np.zeros(4000, np.intp), threading.Event()

    def change() -> None:
        while not stop.is_set():
            ids[...] = 10**12
            ids[...] = 3

    thread = threading.Thread(target=change)
    thread.start()
    refused = 0
    try:
        for _ in range(200):
            try:
                stream.process(ids)
            except ValueError as error:
                refused += 1
                assert "out of range" in str(error)
    finally:
        stop.set()
        thread.join()
    assert stream.process(np.full(3, 3)).shape == (3, 16)  # nothing was read beyond the table


def test_a_masked_block_of_tokens_is_refused() -> None:
    stream = rnncore.GRU(11, 7, seed=0).stream(tokens=True)
    with pytest.raises(TypeError, match="block: expected an array, got a masked one"):
        stream.process(np.ma.array([1, 2, 3], mask=[0, 1, 0]))


@pytest.mark.parametrize(
    "wrong",
    [
        np.array(["a"] * 5),
        np.full(5, 1j),
        np.ma.array(np.ones(5, np.float32), mask=[0, 1, 0, 0, 0]),
    ],
)
def test_a_state_that_is_refused_changes_nothing(wrong) -> None:
    stream = rnncore.GRU(3, 5, num_layers=2, seed=0).stream()
    stream.process(features(4, 3))
    before = stream.get_state()
    with pytest.raises(TypeError, match="state: layer 1: expected"):
        stream.set_state([np.ones(5, np.float32), wrong])
    for ours, theirs in zip(stream.get_state(), before, strict=True):
        assert np.array_equal(ours, theirs)


def chain(dtype: type = np.float32, embedded: bool = False) -> rnncore.Sequential:
    layers = [
        rnncore.GRU(6, 9, seed=0, dtype=dtype, learn_initial_state=True, reset_after=False),
        rnncore.Dropout(0.5, dtype=dtype),
        rnncore.LSTM(9, 33, num_layers=2, seed=2, dtype=dtype, zoneout=(0.1, 0.2)),
        rnncore.Linear(33, 5, seed=3, dtype=dtype),
        rnncore.Linear(5, 2, seed=4, dtype=dtype),
    ]
    if embedded:
        layers.insert(0, rnncore.Embedding(20, 6, seed=1, dtype=dtype))
    net = rnncore.Sequential(*layers)
    with net.writable_params() as params:
        for name, array in params.items():
            if "initial" in name:
                array[...] = 0.5
    return net


def inputs(count: int, embedded: bool, dtype: type = np.float32) -> np.ndarray:
    if embedded:
        return np.random.default_rng(count).integers(0, 20, count)
    return features(count, 6, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("embedded", [False, True])
def test_layers_and_heads_are_one_stream(dtype: type, embedded: bool) -> None:
    net, x = chain(dtype, embedded), inputs(150, embedded, dtype)
    whole, stream = net(x), net.stream()
    assert (stream.input_size, stream.output_size) == (6, 2)
    steps = [stream.step(int(one) if embedded else one) for one in x]
    assert np.array_equal(np.stack(steps), whole)
    stream.reset()
    assert np.array_equal(stream.process(x[:70]), whole[:70])
    twin, (h, c) = stream.copy(), stream.get_state()
    assert [one.size for one in h] == [9, 33, 33] and c[0] is None and c[1].size == 33
    assert np.array_equal(twin.process(x[70:]), whole[70:])
    stream.reset()
    stream.set_state((h, c))
    assert np.array_equal(stream.process(x[70:]), whole[70:])
    with pytest.raises(ValueError, match="no c of layer 0"):
        stream.set_state((h, [h[0], *c[1:]]))


@pytest.mark.parametrize("embedded", [False, True])
def test_streams_that_come_and_go_are_as_if_alone(embedded: bool) -> None:
    net, rng = chain(embedded=embedded), np.random.default_rng(1)
    streams, alone = net.streams(), {}
    for _ in range(300):
        if len(alone) < 80 and rng.random() < 0.5:
            number = streams.join()
            assert number not in alone
            alone[number] = net.stream()
        if alone and rng.random() < 0.1:
            number = int(rng.choice(list(alone)))
            streams.leave(number)
            del alone[number]
        if alone and rng.random() < 0.1:
            one, other = (int(k) for k in rng.choice(list(alone), 2))
            streams.set_state(one, streams.get_state(other))
            alone[one].set_state(alone[other].get_state())
            streams.reset(other)
            alone[other].reset()
        assert streams.numbers == sorted(alone) and len(streams) == len(alone)
        at = [int(k) for k in rng.permutation(list(alone))[: rng.integers(0, len(alone) + 1)]]
        at = at if rng.random() < 0.8 else None
        numbers = sorted(alone) if at is None else at
        x = inputs(1 + len(numbers), embedded)[1:]
        y = streams.step(x, at)
        assert y.shape == (len(numbers), 2)
        for number, given, said in zip(numbers, x, y, strict=True):
            assert np.array_equal(alone[number].step(int(given) if embedded else given), said)


def test_streams_refuse_what_they_do_not_know() -> None:
    streams = rnncore.LSTM(3, 5, seed=0).streams()
    a, b = streams.join(), streams.join()
    before, x = streams.get_state(b), features(2, 3)
    for wrong, kind, words in [
        ([a, a], ValueError, "once, got 0 twice"),
        ([a, 2], ValueError, "joined and not left, got 2"),
        ([a, -1], ValueError, "joined and not left, got -1"),
        ([a, 1.0], TypeError, "as join returns it, got 1.0"),
        ([a, True], TypeError, "as join returns it, got True"),
        ([a], ValueError, r"a row for each of 1 streams, got shape \(2, 3\)"),
    ]:
        with pytest.raises(kind, match=words):
            streams.step(x, wrong)
    with pytest.raises(ValueError, match=r"out: .*\(2, 5\)"):
        streams.step(x, [a, b], np.empty((3, 5), np.float32))
    assert all(map(np.array_equal, before, streams.get_state(b)))
    assert streams.step(x, [b, a]).shape == (2, 5)  # whoever was refused may come again
    streams.leave(a)
    for ask in (streams.leave, streams.reset, streams.get_state):
        with pytest.raises(ValueError, match="number: expected the number of a stream"):
            ask(a)
    assert streams.join() == a and not streams.get_state(a)[0][0].any()
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(streams)


def test_modules_that_are_no_stream_are_refused() -> None:
    both = rnncore.Sequential(rnncore.LSTM(3, 5, bidirectional=True), rnncore.Linear(10, 2))
    with pytest.raises(ValueError, match="bidirectional"):
        both.stream()
    for wrong in (
        rnncore.Sequential(rnncore.Linear(3, 5), rnncore.LSTM(5, 5)),
        rnncore.Sequential(rnncore.LSTM(5, 5), rnncore.Linear(5, 5), rnncore.GRU(5, 5)),
    ):
        with pytest.raises(ValueError, match="linear ones behind them, got"):
            wrong.streams()
    unlike = rnncore.Sequential(rnncore.LSTM(3, 5), rnncore.Linear(6, 2))
    with pytest.raises(ValueError, match="expected a layer of 5 inputs of float32"):
        unlike.stream()
    many = rnncore.Sequential(rnncore.RNN(1, 1), *(rnncore.Linear(1, 1) for _ in range(9)))
    with pytest.raises(ValueError, match="8 linear ones"):
        many.stream()


@pytest.mark.parametrize("kind", KINDS)
def test_streams_large_enough_for_several_threads(kind: str) -> None:
    rnn = KINDS[kind](64, 256, num_layers=2, seed=0)
    net, x = rnncore.Sequential(rnn, rnncore.Linear(256, 300, seed=1)), features(210, 64)
    whole = [net(row[None])[0] for row in x[:70]]
    before = rnncore.get_num_threads()
    rnncore.engine.threads.share_always(True)
    try:
        for threads in (1, 3):
            rnncore.set_num_threads(threads)
            streams = net.streams()
            numbers = [streams.join() for _ in range(70)]
            rnncore.set_num_threads(5)  # more than it has room for
            assert np.array_equal(streams.step(x[:70]), whole)
            streams.step(x[70:140])
            y = streams.step(x[140:], numbers)
            expected = net(np.stack([x[:70], x[70:140], x[140:]]))[-1]
            assert np.array_equal(y, expected)
    finally:
        rnncore.engine.threads.share_always(False)
        rnncore.set_num_threads(before)
