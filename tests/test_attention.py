"""Attention: against loops, against finite differences, as rows, its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore import functions as F
from rnncore.layers import Attention


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def naive(w: np.ndarray, query: np.ndarray, memory: np.ndarray, lengths: Any) -> Any:
    """Return y and a, one number after another."""
    y = np.zeros((*query.shape[:2], memory.shape[2]))
    a = np.zeros((*query.shape[:2], memory.shape[0]))
    for t in range(query.shape[0]):
        for b in range(query.shape[1]):
            scores = [query[t, b] @ w @ memory[s, b] for s in range(lengths[b])]
            exps = np.exp(np.array(scores) - max(scores, default=0))
            for s, e in enumerate(exps):
                a[t, b, s] = e / exps.sum()
                y[t, b] += a[t, b, s] * memory[s, b]
    return y, a


@pytest.mark.parametrize("lengths", [None, [6, 1, 4], [2, 6, 0]], ids=str)
def test_it_is_the_mean_of_the_memory(lengths: Any) -> None:
    layer = Attention(4, 3, dtype=np.float64, seed=0)
    query, memory = drawn(5, 3, 4), drawn(6, 3, 3, seed=1)
    y, a = naive(layer.params["keys.weight"], query, memory, lengths or [6, 6, 6])
    np.testing.assert_allclose(layer(query, memory, lengths), y, atol=1e-12)
    np.testing.assert_allclose(layer.weights(query, memory, lengths), a, atol=1e-12)
    trained = layer.forward(query, memory, lengths)
    np.testing.assert_array_equal(trained, layer(query, memory, lengths))
    read = layer.read(memory, lengths)
    np.testing.assert_array_equal(layer(query, read), layer(query, memory, lengths))
    kept = np.array([2, 0])
    np.testing.assert_allclose(layer(query[:, kept], read.take(kept)), y[:, kept], atol=1e-12)


def test_large_scores_are_no_infinities() -> None:
    layer = Attention(2, 2, seed=0)
    y = layer(1e18 * np.ones((1, 1, 2), np.float32), 1e18 * drawn(3, 1, 2).astype(np.float32))
    assert np.isfinite(y).all()


@pytest.mark.parametrize("form", ["arrays", "rows", "rows and array"])
@pytest.mark.parametrize(("steps", "batch", "of_memory"), [(1, 1, 1), (2, 3, 5), (5, 3, 2)])
def test_gradients(form: str, steps: int, batch: int, of_memory: int) -> None:
    layer = Attention(4, 3, dtype=np.float64, seed=0)
    rng = np.random.default_rng(2)
    of_query, lengths = rng.integers(1, steps + 1, batch), rng.integers(1, of_memory + 1, batch)
    of_query[0], lengths[-1] = steps, of_memory
    upstream = drawn(steps, batch, 3, seed=3)

    def loss(query: Any, memory: Any) -> Any:
        if form == "arrays":
            return F.sum(layer(query, memory, lengths) * upstream)
        rows = F.pack(query, of_query)
        if form == "rows":
            return F.sum(F.unpack(layer(rows, F.pack(memory, lengths))) * upstream)
        return F.sum(F.unpack(layer(rows, memory, lengths)) * upstream)

    inputs = {"query": drawn(steps, batch, 4), "memory": drawn(of_memory, batch, 3, seed=1)}
    errors = rnncore.check_gradients(layer, loss, inputs, tolerance=1e-8)
    assert sorted(errors) == ["keys.weight", "memory", "query"]


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, right = Attention(4, 3, dtype=np.float64, seed=0), Attention.backward

    def flipped(self: Any, *arguments: Any, **options: Any) -> Any:
        dquery, dmemory = right(self, *arguments, **options)
        return -dquery, dmemory

    monkeypatch.setattr(Attention, "backward", flipped)
    memory = drawn(5, 2, 3)
    with pytest.raises(rnncore.GradientError, match="query"):
        rnncore.check_gradients(
            layer, lambda query: F.sum(layer(query, memory)), {"query": drawn(2, 2, 4)}
        )


def test_a_pass_serves_once() -> None:
    layer = Attention(4, 3, dtype=np.float64, seed=0)
    query, memory, dy = drawn(2, 2, 4), drawn(5, 2, 3), np.ones((2, 2, 3))
    layer.zero_grad()
    layer.forward(query, memory)
    first = layer.backward(dy)
    grad = layer.grads["keys.weight"].copy()
    with pytest.raises(RuntimeError, match="call forward first"):
        layer.backward(dy)
    y, kept = layer.forward(query, memory, keep=True)
    again = layer.backward(dy, kept=kept)
    np.testing.assert_array_equal(layer.grads["keys.weight"], 2 * grad)
    layer.forward(query, memory)
    layer.backward(dy, accumulate=False)
    np.testing.assert_array_equal(layer.grads["keys.weight"], grad)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert y.shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("query", "memory", "lengths", "match"),
    [
        ((2, 3, 5), (4, 3, 3), None, r"query: expected \(steps, sequences, 4\), got shape"),
        ((2, 3, 4), (4, 3, 4), None, r"memory: expected \(steps, sequences, 3\)"),
        ((2, 3, 4), (4, 2, 3), None, "memory: expected 3 sequences, as many as of queries, got 2"),
        ((2, 3, 4), (4, 3, 3), [4, 5, 1], "lengths: expected numbers from 0 to the 4 steps"),
        ((2, 3), (4, 3, 3), None, "query: expected"),
    ],
)
def test_bad_input(query: Any, memory: Any, lengths: Any, match: str) -> None:
    layer = Attention(4, 3, seed=0)
    for call in (layer, layer.forward):
        with pytest.raises(ValueError, match=match):
            call(np.zeros(query, np.float32), np.zeros(memory, np.float32), lengths)


def test_bad_rows_and_gradients() -> None:
    layer = Attention(4, 3, seed=0)
    query, memory = drawn(2, 2, 4).astype(np.float32), drawn(5, 2, 3).astype(np.float32)
    with pytest.raises(ValueError, match="rows have their own; leave lengths out"):
        layer(query, F.pack(memory, [5, 1]), [5, 1])
    with pytest.raises(ValueError, match="memory: expected rows of 3 numbers"):
        layer(query, F.pack(query, [2, 2]))
    layer.forward(query, memory)
    with pytest.raises(ValueError, match="dy: expected 2 steps of 2 sequences, as y has, got 3 of"):
        layer.backward(np.ones((3, 2, 3), np.float32))
    layer.backward(np.ones((2, 2, 3), np.float32))  # the pass is still there
