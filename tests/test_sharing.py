"""Modules shared by threads, processes, signal handlers and copies; fork is in test_fork.py."""

from __future__ import annotations

import copy
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

T, B, I, H = 6, 2, 5, 24  # noqa: E741


def features(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((T, B, I)).astype(np.float32)


def language_model() -> Any:
    return LanguageNetwork(Vocabulary("abcdefgh"), hidden_size=24, num_layers=1, seed=0)


TOKENS = np.random.default_rng(0).integers(0, 8, (T, B))

#: A module, and how it answers.
ANSWERS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "LSTM": (lambda: rnncore.LSTM(I, H, 2, seed=0), lambda m: m(features())[0]),
    "LSTM that learns how it begins": (
        lambda: rnncore.LSTM(I, H, learn_initial_state=True, seed=0), lambda m: m(features())[0]),
    "GRU of tokens": (
        lambda: rnncore.GRU(8, H, bidirectional=True, seed=0), lambda m: m(TOKENS, tokens=True)[0]),
    "Linear": (lambda: rnncore.Linear(I, H, seed=0), lambda m: m(features())),
    "Embedding": (lambda: rnncore.Embedding(8, H, seed=0), lambda m: m(TOKENS)),
    "language model": (
        language_model, lambda m: np.array(m.measure(TOKENS[:-1], TOKENS[1:])[0][0])),
    "its loss in training": (
        language_model, lambda m: np.array(m.forward(TOKENS[:-1], TOKENS[1:])[0])),
    "its copy": (language_model, lambda m: copy.deepcopy(m).flat_params),
    "its pickle": (language_model, lambda m: pickle.loads(pickle.dumps(m)).flat_params),
    "its stream": (
        language_model, lambda m: (lambda s: np.stack([s.step(k) for k in (1, 2)]))(m.stream())),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ANSWERS))
def test_answers_while_another_thread_trains_are_those_of_one_version(name: str) -> None:
    make, answer = ANSWERS[name]
    module, steps = make(), 150
    optimizer = rnncore.SGD(module, lr=1.0)
    rng = np.random.default_rng(1)
    versions, answers, stop = [module.flat_params.copy()], [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(answer(module).copy())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(steps):
        module.flat_grads[...] = 0.05 * rng.standard_normal(module.flat_grads.size)
        optimizer.step()
        versions.append(module.flat_params.copy())
    stop.set()
    for thread in threads:
        thread.join()
    right, alone = set(), make()
    for flat in versions:
        with alone.changing_weights() as params:
            params[...] = flat
        right.add(answer(alone).tobytes())
    assert len(answers) > 2 and len(right) > steps // 2
    assert all(found.tobytes() in right for found in answers)


def test_gradients_are_right_while_others_ask() -> None:
    def train(ask: bool) -> np.ndarray:
        layer = rnncore.LSTM(I, H, 2, seed=0)
        optimizer, stop = rnncore.Adam(layer, lr=1e-2), threading.Event()

        def others() -> None:
            while not stop.is_set():
                layer(features(3))

        threads = [threading.Thread(target=others) for _ in range(2 * ask)]
        for thread in threads:
            thread.start()
        for seed in range(60):
            y, _ = layer.forward(features(seed))
            layer.backward(y, accumulate=False)
            optimizer.step()
        stop.set()
        for thread in threads:
            thread.join()
        return layer.flat_params.copy()

    assert np.array_equal(train(True), train(False))


def test_two_threads_add_to_the_same_gradients() -> None:
    layer = rnncore.LSTM(I, H, dtype=np.float64, seed=0)
    x = features().astype(np.float64)

    def work(times: int) -> None:
        for _ in range(times):
            y, _, kept = layer.forward(x, keep=True)
            layer.backward(np.ones_like(y), kept=kept)

    work(1)
    once = layer.flat_grads.copy()
    layer.zero_grad()
    threads = [threading.Thread(target=work, args=(50,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(layer.flat_grads, 150 * once, rtol=1e-9, atol=1e-12)


def test_a_backward_beside_steps_is_whole_or_refused() -> None:
    model, stop, refused = language_model(), threading.Event(), 0
    optimizer = rnncore.SGD(model, lr=0.0)

    def steps() -> None:
        while not stop.is_set():
            optimizer.step()

    model.forward(TOKENS[:-1], TOKENS[1:])
    model.backward(accumulate=False)
    whole = model.flat_grads.copy()
    thread = threading.Thread(target=steps)
    thread.start()
    try:
        for _ in range(300):
            model.flat_grads[...] = 0
            model.forward(TOKENS[:-1], TOKENS[1:])
            try:
                model.backward()
                assert np.array_equal(model.flat_grads, whole)
            except RuntimeError:
                refused += 1
                assert not model.flat_grads.any()
    finally:
        stop.set()
        thread.join()
    assert refused


def in_threads(*work: Callable[[], None], seconds: float = 0.5) -> None:
    # Each again and again at the same time; a deadlock fails.
    stop, failed = threading.Event(), []

    def run(one: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "deadlock"
    assert not failed, failed


def test_locks_of_two_trees_are_taken_in_any_order() -> None:
    tables = [rnncore.Embedding(8, I, seed=k) for k in range(2)]
    layers = [rnncore.GRU(I, H, seed=k) for k in range(2)]
    for k in range(2):  # each layer reads the table of the other's tree
        rnncore.Module(children={"table": tables[k], "rnn": layers[1 - k]})

    def train(k: int) -> Callable[[], None]:
        def run() -> None:
            y, _, kept = layers[k].forward(TOKENS, embedding=tables[k], keep=True)
            layers[k].backward(y, kept=kept)

        return run

    def change(k: int) -> Callable[[], None]:
        def run() -> None:
            with tables[k].writable_params():
                layers[k](TOKENS, embedding=tables[k])

        return run

    in_threads(train(0), train(1))
    in_threads(change(0), lambda: layers[0](TOKENS, embedding=tables[0]))
    in_threads(change(0), change(0), lambda: layers[1](TOKENS, embedding=tables[1]))


def test_a_thread_that_changes_weights_may_call_beside_a_backward() -> None:
    layer = rnncore.LSTM(I, H, seed=0)

    def change() -> None:
        with layer.changing_weights():
            _, _, kept = layer.forward(features(), keep=True)
            with pytest.raises(RuntimeError, match="just being changed"):
                layer.backward(None, kept=kept)

    def train() -> None:
        y, _, kept = layer.forward(features(), keep=True)
        try:
            layer.backward(y, kept=kept)
        except RuntimeError as error:
            assert "have changed" in str(error)

    in_threads(change, train)


def test_while_weights_change_their_thread_sees_them_as_they_are() -> None:
    layer, head = rnncore.GRU(I, H, seed=0), rnncore.Linear(I, H, seed=0)
    before, found = (layer(features())[0], head(features())), []
    with layer.writable_params() as params, head.changing_weights() as flat:
        for _ in range(2):
            params["weight_ih_l0"][...] *= 1.5
            flat[...] *= 1.5
            twin, twin_head = copy.deepcopy(layer), copy.deepcopy(head)
            now = layer(features())[0], head(features())
            assert np.array_equal(now[0], twin(features())[0])
            assert np.array_equal(now[1], twin_head(features()))
        other = threading.Thread(
            target=lambda: found.extend([layer(features())[0], head(features())])
        )
        other.start()
        other.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, before, strict=True))
    assert np.array_equal(layer(features())[0], now[0]) and np.array_equal(head(features()), now[1])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_signal_handler_may_call_the_layer() -> None:
    layer, calls, going = rnncore.LSTM(I, H, 2, seed=0), [], [True]
    optimizer = rnncore.SGD(layer, lr=0.0)
    expected = layer(features())[0]

    def handler(*_: Any) -> None:
        calls.append(np.array_equal(layer(features())[0], expected))
        if going:  # or it would ring when nobody listens any more
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        for _ in range(300):
            y, _ = layer.forward(features())
            layer.backward(y)
            optimizer.step()
    finally:
        going.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(calls) > 3 and all(calls)


def model() -> rnncore.Module:
    parts = {
        "table": rnncore.Embedding(8, I, seed=0),
        "rnn": rnncore.GRU(I, H, 2, bidirectional=True, dropout=0.5, seed=1),
        "head": rnncore.Linear(2 * H, 3, seed=2),
    }
    return rnncore.Module(children=parts)


def outputs(module: rnncore.Module) -> np.ndarray:
    table, rnn, head = (module._children[name] for name in ("table", "rnn", "head"))
    y, _ = rnn.forward(TOKENS, embedding=table)  # with dropout
    logits = head.forward(y)
    rnn.backward(head.backward(np.ones_like(logits)))
    return logits


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_their_own_way(how: Callable[[Any], Any]) -> None:
    first = model()
    first.flat_grads[...] = 1.5
    second = how(first)
    assert np.array_equal(second.flat_params, first.flat_params)
    assert np.array_equal(second.flat_grads, first.flat_grads)
    assert repr(second) == repr(first) and list(second.params) == list(first.params)
    assert np.array_equal(outputs(second), outputs(first))  # the same masks too
    assert np.array_equal(second.flat_grads, first.flat_grads)
    before = first.flat_params.copy()
    with second.changing_weights() as flat:
        flat[...] = 0
    assert np.array_equal(first.flat_params, before) and not second.flat_params.any()
    assert np.shares_memory(second._children["rnn"].flat_params, second.flat_params)
    part = how(first._children["head"])  # of a whole, a part by itself
    assert np.array_equal(part.flat_params, first._children["head"].flat_params)
    rnncore.Module(children={"head": part})


def test_optimizers_are_copied_with_their_modules() -> None:
    layer = rnncore.LSTM(I, H, seed=0)
    optimizer = rnncore.Adam(layer, lr=0.1)
    layer.flat_grads[...] = 1
    optimizer.step()
    same, again = pickle.loads(pickle.dumps((layer, optimizer)))
    assert again.module is same
    for net, steps in ((layer, optimizer), (same, again)):
        net.flat_grads[...] = 0.25
        steps.step()
    assert np.array_equal(same.flat_params, layer.flat_params)


def answer_of(layer: Any) -> np.ndarray:
    return layer(features())[0]


def test_a_process_pool_takes_layers() -> None:
    layers = [rnncore.LSTM(I, H, seed=seed) for seed in range(3)]
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for layer, found in zip(layers, pool.map(answer_of, layers), strict=True):
            assert np.array_equal(found, answer_of(layer))


def test_arrays_from_before_a_layer_became_a_part_are_not_silently_stale() -> None:
    head = rnncore.Linear(3, 2, seed=0)
    named, weight, gradient, weights = head.params, head.params["weight"], head.grads["weight"], (
        head.state_dict()["weight"])  # fmt: skip
    whole = rnncore.Module(children={"head": head})
    assert np.isnan(weight).all() and np.isnan(gradient).all()
    assert np.array_equal(named["weight"], weights)
    assert np.array_equal(whole.params["head.weight"], weights)


def test_repr_says_sizes_and_parameters() -> None:
    shown = repr(model())
    assert shown.startswith("Module(table=Embedding(8, 5; 40 parameters), rnn=GRU(5, 24, ")
    assert shown.endswith(f"{model().num_parameters:,} parameters)")
    assert repr(rnncore.Dropout(0.5)) == "Dropout(0.5; 0 parameters)"


def test_pickles_whose_buffers_are_read_only_load() -> None:
    layer, buffers = rnncore.LSTM(I, H, seed=0), []
    data = pickle.dumps(layer, protocol=5, buffer_callback=buffers.append)
    same = pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert np.array_equal(same(features())[0], layer(features())[0])
    with same.changing_weights() as flat:
        flat[...] = 0


@pytest.mark.parametrize("kind", ["LSTM", "Linear"])
def test_a_layer_that_nobody_holds_is_freed_at_once(kind: str) -> None:
    import gc
    import weakref

    gc.disable()
    try:
        layer = getattr(rnncore, kind)(I, H, seed=0)
        found = layer.forward(features())
        layer.backward((found[0] if kind == "LSTM" else found).copy())
        layer.forward(features())
        gone = weakref.ref(layer)
        del layer, found
        assert gone() is None
    finally:
        gc.enable()
