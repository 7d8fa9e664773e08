"""Passes as values: modules used several times before their backward passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case, make_layer
from finite_differences import assert_gradients_close, numerical_gradients, of_module

import rnncore
from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

RNG = np.random.default_rng
T, B, I, H = 5, 3, 4, 6  # noqa: E741


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).standard_normal(shape)


def modules() -> dict[str, tuple[Any, Callable[[int], Any]]]:
    """Return a module of each kind, and what draws an input."""
    options: dict[str, Any] = {"dtype": np.float64, "seed": 0}
    found: dict[str, tuple[Any, Callable[[int], Any]]] = {
        name: (getattr(rnncore, name)(I, H, num_layers=2, bidirectional=True, **options),
               lambda seed: normal(T, B, I, seed=seed))
        for name in ("RNN", "LSTM", "GRU")
    }  # fmt: skip
    found["Linear"] = rnncore.Linear(I, H, **options), lambda seed: normal(T, B, I, seed=seed)
    found["Embedding"] = rnncore.Embedding(9, I, **options), lambda s: RNG(s).integers(0, 9, (T, B))
    found["Dropout"] = rnncore.Dropout(0.4, **options), lambda seed: normal(T, B, I, seed=seed)
    return found


def forward(module: Any, x: Any) -> tuple[np.ndarray, Any]:
    y, *_, kept = module.forward(x, keep=True)
    return y, kept


def backward(module: Any, dy: Any, kept: Any) -> Any:
    found = module.backward(dy, kept=kept)
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("name", list(modules()))
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_module_used_three_times_before_its_backward(name: str, order: tuple[int, ...]) -> None:
    module, draw = modules()[name]
    alone, _ = modules()[name]  # the same weights and masks, one pass after another
    xs, grads, dxs = [draw(seed) for seed in range(3)], [], []
    for k, x in enumerate(xs):
        y, kept = forward(alone, x)
        alone.zero_grad()
        dxs.append(backward(alone, np.full_like(y, k + 1), kept))
        grads.append(alone.flat_grads.copy())
    passes = [forward(module, x) for x in xs]
    for k in order:
        y, kept = passes[k]
        dx = backward(module, np.full_like(y, k + 1), kept)
        assert (dx is None and dxs[k] is None) or np.array_equal(dx, dxs[k])
    np.testing.assert_allclose(module.flat_grads, sum(grads), rtol=1e-12, atol=1e-13)


def test_a_net_that_uses_a_layer_twice() -> None:
    # y = rnn(rnn(x)): what backward gets of the second pass goes into the first
    rnn = rnncore.GRU(H, H, dtype=np.float64, seed=0)
    x, dy = normal(T, B, H), normal(T, B, H, seed=1)

    def loss() -> float:
        return float(np.vdot(rnn(rnn(x)[0])[0], dy))

    y, _, first = rnn.forward(x, keep=True)
    _, _, second = rnn.forward(y, keep=True)
    dx, _ = rnn.backward(rnn.backward(dy, kept=second)[0], kept=first)
    analytic = {name: array.copy() for name, array in rnn.grads.items()}
    assert_gradients_close({**analytic, "x": dx}, of_module(rnn, loss, x=x))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_step_by_step_is_the_whole(kind: str) -> None:
    layer = getattr(rnncore, kind)(I, H, num_layers=2, dtype=np.float64, seed=0)
    x, dy = normal(7, B, I), normal(7, B, H, seed=1)
    y, _, kept = layer.forward(x, keep=True)
    dx, dstate = layer.backward(dy, kept=kept)
    whole = layer.flat_grads.copy()
    layer.zero_grad()
    state, passes = None, []
    for t in range(7):
        y_t, state, kept = layer.forward(x[t : t + 1], state, keep=True)
        assert np.array_equal(y_t[0], y[t])
        passes.append(kept)
    dstate_t: Any = None
    for t in reversed(range(7)):
        dx_t, dstate_t = layer.backward(dy[t : t + 1], dstate_t, kept=passes[t])
        np.testing.assert_allclose(dx_t[0], dx[t], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(layer.flat_grads, whole, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(np.asarray(dstate_t), np.asarray(dstate), rtol=1e-11, atol=1e-13)


def all_modules() -> dict[str, tuple[Any, Callable[[int], Any]]]:
    text = "abcdefgh" * 20
    model = LanguageNetwork(Vocabulary(text), hidden_size=8, num_layers=1, seed=0)
    return {**modules(), "LanguageNetwork": (model, lambda seed: RNG(seed).integers(0, 8, (T, B)))}


def call(module: Any, x: Any, **options: Any) -> Any:
    return module.forward(x, x, **options) if hasattr(module, "vocabulary") else module.forward(
        x, **options
    )  # fmt: skip


def back(module: Any, y: Any, **options: Any) -> Any:
    return module.backward(**options) if hasattr(module, "vocabulary") else module.backward(
        np.ones_like(y), **options
    )  # fmt: skip


@pytest.mark.parametrize("name", list(all_modules()))
def test_what_cannot_be_right_is_refused_by_every_module(name: str) -> None:
    module, draw = all_modules()[name]
    other, _ = all_modules()[name]
    found = call(module, draw(0), keep=True)
    y, kept = found[0], found[-1]
    before = module.flat_grads.copy()
    for wrong, error, match in (
        ("nothing", TypeError, "kept: expected what forward"),
        (call(other, draw(0), keep=True)[-1], ValueError, "kept: expected a pass of this module"),
    ):
        with pytest.raises(error, match=match):
            back(module, y, kept=wrong)
    back(module, y, kept=kept)
    once = module.flat_grads.copy()
    with pytest.raises(RuntimeError, match="this pass has served a backward"):
        back(module, y, kept=kept)
    with pytest.raises(RuntimeError, match="nothing was kept"):
        back(module, y)  # no forward without keep
    call(module, draw(0))
    back(module, y)
    with pytest.raises(RuntimeError, match="nothing was kept"):
        back(module, y)
    call(module, draw(0))
    kept = call(module, draw(1), keep=True)[-1]
    with module.changing_weights():
        pass
    after = module.flat_grads.copy()
    for options in ({}, {"kept": kept}):
        with pytest.raises(RuntimeError, match="weights have changed since forward"):
            back(module, y, **options)
    assert np.array_equal(module.flat_grads, after)
    assert before.size == once.size


def test_each_thread_has_its_own_last_pass() -> None:
    layer, results = rnncore.GRU(I, H, seed=0), {}
    barrier = threading.Barrier(2)

    def work(seed: int) -> None:
        x = normal(T, B, I, seed=seed).astype(np.float32)
        y, _ = layer.forward(x)
        barrier.wait()  # both are outstanding
        results[seed] = layer.backward(np.ones_like(y))[0]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(RuntimeError, match="same thread"):
        layer.backward(np.ones((T, B, H), np.float32))
    for seed in (1, 2):
        x = normal(T, B, I, seed=seed).astype(np.float32)
        y, _ = layer.forward(x)
        assert np.array_equal(layer.backward(np.ones_like(y))[0], results[seed])


@pytest.mark.parametrize("fails", ["aligned_empty", "KeyboardInterrupt"])
def test_a_forward_that_fails_keeps_nothing(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnncore.engine import stack, workspace

    layer, x = rnncore.LSTM(I, H, 2, seed=0), normal(T, B, I).astype(np.float32)
    y, _ = layer.forward(x)

    def fail(*_: Any, **options: Any) -> Any:
        raise MemoryError if fails == "aligned_empty" else KeyboardInterrupt

    with monkeypatch.context() as patch:
        if fails == "aligned_empty":
            patch.setattr(workspace, "aligned_empty", fail)
        else:
            patch.setattr(stack, "forget", fail)
        with pytest.raises((MemoryError, KeyboardInterrupt)):
            layer.forward(np.ones((50, 9, I), np.float32))
    with pytest.raises(RuntimeError, match="nothing was kept"):
        layer.backward(np.ones_like(y))
    again, _ = layer.forward(x)
    assert np.array_equal(again, y)


def test_rows_that_somebody_holds_are_not_overwritten() -> None:
    layer = rnncore.LSTM(I, H, bidirectional=True, seed=0)
    head = rnncore.Linear(2 * H, 3, seed=1)
    held = []
    for seed in range(4):
        x = normal(T, B, I, seed=seed).astype(np.float32)
        y, _, kept = layer.forward(x, lengths=[5, 2, 4], rows=True, keep=True)
        logits, kept_head = head.forward(y, keep=True)
        dy = head.backward(logits, kept=kept_head)
        layer.backward(dy, kept=kept)
        held.append([(rows, rows.unpack()) for rows in (y, logits, dy)])
        layer(x)
    for copies in held:
        for rows, copy in copies:
            assert np.array_equal(rows.unpack(), copy)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 2, 4], [0, 5, 1]])
def test_rows_are_the_arrays_to_the_last_bit(
    bidirectional: bool, lengths: list[int] | None
) -> None:
    def make() -> tuple[Any, ...]:
        first = rnncore.LSTM(I, H, bidirectional=bidirectional, seed=0)
        second = rnncore.GRU(first.output_size, 17, 2, bidirectional=bidirectional, seed=1)
        return first, second, rnncore.Linear(second.output_size, 7, seed=2)

    x = normal(T, B, I).astype(np.float32)
    targets = RNG(1).integers(0, 7, (T, B))
    if lengths is not None:
        targets = np.where(np.arange(T)[:, None] < lengths, targets, -1)
    results = []
    for rows in (False, True):
        first, second, head = make()
        if rows:
            y, state = first.forward(x, lengths=lengths, rows=True)
            z, last = second.forward(y)
        else:
            y, state = first.forward(x, lengths=lengths)
            z, last = second.forward(y, lengths=lengths)
        loss, dlogits = rnncore.softmax_cross_entropy(head.forward(z), targets)
        dz = head.backward(dlogits)
        dy, dlast = second.backward(dz)
        dx, dstate = first.backward(dy)
        grads = [module.flat_grads.copy() for module in (second, first)]
        results.append([np.asarray(state), last, dx, np.asarray(dstate), dlast, *grads])
        results[-1].append(z.unpack() if rows else z)
        assert np.isfinite(loss)
    for a, b in zip(*results, strict=True):
        assert np.array_equal(a, b)


def test_an_encoder_and_a_decoder_on_rows() -> None:
    options: dict[str, Any] = {"dtype": np.float64}
    E = rnncore.Embedding(5, 3, seed=0, **options)
    encoder, decoder = (rnncore.LSTM(3, 4, seed=seed, **options) for seed in (1, 2))
    head = rnncore.Linear(4, 5, seed=3, **options)
    model = rnncore.Module(
        children={"E": E, "encoder": encoder, "decoder": decoder, "head": head}, **options
    )
    source, target = RNG(0).integers(0, 5, (6, B)), RNG(1).integers(0, 5, (5, B))
    lengths, target_lengths = [6, 2, 4], [3, 4, 1]

    def loss() -> float:
        _, state = encoder(source, lengths=lengths, embedding=E)
        y, _ = decoder(target[:-1], state, target_lengths, embedding=E)
        targets = np.where(np.arange(4)[:, None] < target_lengths, target[1:], -1)
        return rnncore.softmax_cross_entropy(np.ascontiguousarray(head(y)), targets)[0]

    _, state, read = encoder.forward(source, lengths=lengths, embedding=E, rows=True, keep=True)
    y, _, written = decoder.forward(
        target[:-1], state, target_lengths, embedding=E, rows=True, keep=True
    )
    logits, last = head.forward(y, keep=True)
    value, dlogits = rnncore.softmax_cross_entropy(logits, target[1:])
    assert value == pytest.approx(loss(), rel=1e-12)
    _, dstate = decoder.backward(head.backward(dlogits, kept=last), kept=written)
    encoder.backward(None, dstate, kept=read)
    analytic = {name: array.copy() for name, array in model.grads.items()}
    assert_gradients_close(analytic, of_module(model, loss))


def test_rows_of_another_batch_are_refused() -> None:
    layer, head = rnncore.GRU(I, H, seed=0), rnncore.Linear(H, 3, seed=0)
    x = normal(T, B, I).astype(np.float32)
    y, _, kept = layer.forward(x, lengths=[5, 2, 4], rows=True, keep=True)
    other, _ = layer(x, lengths=[5, 3, 4], rows=True)
    with pytest.raises(ValueError, match="dy: expected rows of the batch"):
        layer.backward(other, kept=kept)
    with pytest.raises(ValueError, match="x: expected rows of 6 numbers"):
        head(layer(x, rows=True)[0]._replace(depth=4))
    with pytest.raises(ValueError, match="lengths: rows have their own"):
        rnncore.GRU(H, H)(y, lengths=[1, 2, 3])


def test_the_gradient_of_rows_by_finite_differences() -> None:
    layer = make_layer(Case("lstm", 5, 3, 8, 5, bidirectional=True))
    below = make_layer(Case("gru", 5, 3, 4, 4, bidirectional=True))
    x, dy = normal(5, 3, 4), normal(5, 3, 10, seed=1)

    def loss() -> float:
        y, _ = layer(below(x, lengths=[5, 1, 3], rows=True)[0])
        return float(np.vdot(y.unpack(), dy))

    y, _ = below.forward(x, lengths=[5, 1, 3], rows=True)
    layer.forward(y)
    padding = np.arange(5)[:, None, None] < np.array([5, 1, 3])[:, None]
    dx, _ = below.backward(layer.backward(dy * padding)[0])
    assert_gradients_close({"x": dx}, numerical_gradients(loss, {"x": x}))


def test_what_a_backward_still_reads_is_not_overwritten() -> None:
    layer = rnncore.GRU(I, H, seed=0)
    x, targets = normal(T, B, I).astype(np.float32), RNG(0).integers(0, H, (T, B))
    y, _ = layer.forward(x, rows=True)
    with pytest.raises(ValueError, match="out: expected rows that no backward reads"):
        rnncore.softmax_cross_entropy(y, targets, out=y)
    loss, dy = rnncore.softmax_cross_entropy(y, targets)
    dx, _ = layer.backward(dy)
    again, _ = layer.forward(x)
    same, dagain = rnncore.softmax_cross_entropy(again, targets)
    assert loss == same and np.array_equal(layer.backward(dagain)[0], dx)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_in_other_parts_are_put_right(bidirectional: bool) -> None:
    layer = rnncore.GRU(I, H, bidirectional=bidirectional, seed=0)
    other = rnncore.GRU(I, H, seed=1)
    wide = rnncore.Linear(H, layer.output_size, seed=2)
    x = normal(T, B, I).astype(np.float32)
    y, _ = layer.forward(x, lengths=[5, 2, 4], rows=True)
    z, _ = other(x, lengths=[5, 2, 4], rows=True)
    dy = wide(z)._replace(batch=y.batch)  # one part, whatever y has
    dx, _ = layer.backward(dy)
    layer.forward(x, lengths=[5, 2, 4])
    assert np.array_equal(layer.backward(dy.unpack())[0], dx)


def test_rows_of_another_order_are_refused_by_all() -> None:
    layer, head, drop = rnncore.GRU(I, H, seed=0), rnncore.Linear(H, H), rnncore.Dropout(0.5)
    x = normal(T, B, I).astype(np.float32)
    y, _ = layer(x, lengths=[5, 2, 4], rows=True)
    other, _ = layer(x, lengths=[2, 5, 4], rows=True)
    for module in (head, drop):
        _, kept = module.forward(y, keep=True)
        with pytest.raises(ValueError, match="dy: expected rows of the batch"):
            module.backward(other, kept=kept)
    logits = head(y)
    with pytest.raises(ValueError, match="out: expected rows like those"):
        rnncore.softmax_cross_entropy(logits, np.zeros((T, B), int), out=head(other))
    _, kept = head.forward(np.ones((5, 2, H), np.float32), keep=True)
    with pytest.raises(ValueError, match="dy: expected the shape of y"):
        head.backward(np.ones((2, 5, H), np.float32), kept=kept)


def test_rows_of_nothing() -> None:
    layer, head = rnncore.GRU(I, H, bidirectional=True, seed=0), rnncore.Linear(2 * H, 3, seed=0)
    y, _ = layer.forward(np.ones((T, 2, I)), lengths=[0, 0], rows=True)
    assert y.array().shape == (0, 2 * H) and y.unpack().shape == (T, 2, 2 * H)
    drop = rnncore.Dropout(0.5)
    logits = head.forward(drop.forward(y))
    dx, _ = layer.backward(drop.backward(head.backward(logits)))
    assert dx.shape == (T, 2, I) and not dx.any()


def test_a_call_made_ready_runs_once() -> None:
    run = rnncore.GRU(I, H, 2, seed=0).ready(normal(T, B, I))
    run()
    with pytest.raises(RuntimeError, match="runs once"):
        run()
