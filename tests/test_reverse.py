"""Layers that read backwards alone: the other direction of a layer of two, to the last bit."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients_close, of_module

import rnncore
from rnncore.diagnostics import diagnose_loss

KINDS: dict[str, Any] = {
    "rnn": rnncore.RNN, "lstm": rnncore.LSTM, "gru": rnncore.GRU,
    "reset before": partial(rnncore.GRU, reset_after=False),
}  # fmt: skip
LENGTHS = [9, 4, 0, 7, 9]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def each(state: Any) -> list[np.ndarray]:
    return list(state) if isinstance(state, tuple) else [state]


def pair(kind: str, size: int, dtype: str = "float32", **options: Any) -> tuple[Any, Any]:
    """Return a layer of two directions, and the second of them as a layer of its own."""
    both = KINDS[kind](3, size, bidirectional=True, dtype=dtype, seed=0, **options)
    alone = KINDS[kind](3, size, reverse=True, dtype=dtype, seed=1, **options)
    state = both.state_dict()
    alone.load_state_dict({name: state[name] for name in alone.state_dict()})
    return both, alone


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [5, 64, 130])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("kind", KINDS)
def test_the_second_of_two_directions(
    kind: str, lengths: Any, size: int, dtype: str, count: int, threads: Any, nan_buffers: None
) -> None:
    threads(count)
    both, alone = pair(kind, size, dtype)
    x, dy = numbers(9, 5, 3).astype(dtype), numbers(9, 5, size, seed=1).astype(dtype)
    states = tuple(numbers(len(both._stack.cell.states), 2, 5, size, seed=2).astype(dtype))
    two = states if len(states) > 1 else states[0]
    one = tuple(a[1:] for a in states) if len(states) > 1 else states[0][1:]
    y, last, kept = both.forward(x, two, lengths, keep=True)
    y_alone, last_alone, kept_alone = alone.forward(x, one, lengths, keep=True)
    assert np.array_equal(y[..., size:], y_alone)
    assert np.array_equal(alone(x, one, lengths)[0], y_alone)
    for a, b in zip(each(last), each(last_alone), strict=True):
        assert np.array_equal(a[1:], b)
    wide = np.concatenate([np.zeros_like(dy), dy], 2)
    _, dstate = both.backward(wide, kept=kept, accumulate=False)
    _, dstate_alone = alone.backward(dy, kept=kept_alone, accumulate=False)
    for a, b in zip(each(dstate), each(dstate_alone), strict=True):
        assert np.array_equal(a[1:], b)
    for name, gradient in alone.grads.items():
        assert np.array_equal(both.grads[name], gradient), name


def turned(x: np.ndarray, lengths: list[int]) -> np.ndarray:
    out = np.zeros_like(x)
    for b, n in enumerate(lengths):
        out[:n, b] = x[:n, b][::-1]
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_layer_over_the_sequence_turned_round(kind: str) -> None:
    alone = KINDS[kind](3, 6, 3, reverse=True, dtype="float64", seed=0)
    forward = KINDS[kind](3, 6, 3, dtype="float64")
    state = alone.state_dict()
    forward.load_state_dict({name.replace("_reverse", ""): a for name, a in state.items()})
    x, dy = numbers(9, 5, 3), numbers(9, 5, 6, seed=1)
    y, last = alone.forward(x, lengths=LENGTHS)
    right, right_last = forward.forward(turned(x, LENGTHS), lengths=LENGTHS)
    assert np.array_equal(y, turned(right, LENGTHS))
    assert all(map(np.array_equal, each(last), each(right_last)))
    dx, _ = alone.backward(dy, accumulate=False)
    right, _ = forward.backward(turned(dy, LENGTHS), accumulate=False)
    assert np.array_equal(dx, turned(right, LENGTHS))
    grads = {name.replace("_reverse", ""): gradient for name, gradient in alone.grads.items()}
    for name, gradient in forward.grads.items():
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [
    {}, {"learn_initial_state": True}, {"zoneout": 0.3, "recurrent_dropout": 0.2, "num_layers": 2},
    {"num_layers": 2, "dropout": 0.4},
], ids=str)  # fmt: skip
def test_a_memory_budget_changes_no_bit(kind: str, options: dict[str, Any]) -> None:
    results, x, dy = [], numbers(2000, 3, 3), numbers(2000, 3, 8, seed=1)
    for memory in (None, *range(1_500_000, 300_000, -100_000)):
        layer = KINDS[kind](3, 8, reverse=True, dtype="float64", seed=0, **options)
        y, last, kept = layer.forward(x, lengths=[2000, 100, 1900], memory=memory, keep=True)
        if memory is not None and kept.segments is None:  # everything fits: a smaller one
            continue
        count = len(kept.segments or [])
        dx, _ = layer.backward(dy, kept=kept)
        results.append([y, dx, layer.flat_grads, *each(last)])
        if memory is not None:
            break
    assert len(results) == 2 and count > 1
    assert all(map(np.array_equal, *results))


def test_gradients_with_a_reset_and_a_learned_beginning() -> None:
    layer = rnncore.LSTM(3, 4, 2, reverse=True, learn_initial_state=True, dtype="float64", seed=0)
    x, dy, reset = numbers(6, 3, 3), numbers(6, 3, 4, seed=1), np.zeros((6, 3), bool)
    reset[[2, 4], [0, 1]] = True
    y, last = layer.forward(x, lengths=[6, 6, 3], reset=reset)
    pieces, _ = layer([x[:2, 0], x[2:, 0], x[:4, 1], x[4:, 1], x[:3, 2]])
    assert np.array_equal(y[:, 0], np.concatenate(pieces[:2]))
    assert np.array_equal(y[:, 1], np.concatenate(pieces[2:4])) and not y[3:, 2].any()
    layer.backward(dy)
    analytic = {name: array.copy() for name, array in layer.grads.items()}

    def loss() -> float:
        return float((layer(x, lengths=[6, 6, 3], reset=reset)[0] * dy).sum())

    assert_gradients_close(analytic, of_module(layer, loss))
    assert last[0].shape == (2, 3, 4)


def test_tapes_tokens_rows_and_records() -> None:
    table, head = rnncore.Embedding(7, 3, seed=0), rnncore.Linear(5, 2, seed=2)
    layer = rnncore.GRU(3, 5, 2, reverse=True, seed=1)
    ids = np.random.default_rng(0).integers(0, 7, (9, 5))
    lengths = [9, 4, 1, 7, 9]
    y, _ = layer(ids, lengths=lengths, embedding=table)
    assert np.array_equal(y, layer(table(ids), lengths=lengths)[0])
    rows, _ = layer(ids, lengths=lengths, embedding=table, rows=True)
    assert np.array_equal(rows.unpack(), y) and np.array_equal(head(rows).unpack()[0], head(y)[0])
    net = rnncore.Module(children={"table": table, "layer": layer, "head": head})
    gradients = []
    for as_rows in (True, False):
        with rnncore.Tape(net) as tape:
            y, _ = layer(ids, embedding=table, rows=as_rows)
            loss = rnncore.mse_loss(head(y), np.ones((9, 5, 2), np.float32))
        tape.backward(loss)
        gradients.append(net.flat_grads.copy())
    y, last, records = layer.record(ids, lengths=lengths, embedding=table)
    assert np.array_equal(records[1]["h"], y) and np.array_equal(last[1], y[0])
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-7)
    assert all(array.any() for array in layer.grads.values())


def test_names_copies_and_words() -> None:
    layer = rnncore.LSTM(3, 5, reverse=True, forget_bias=1.0, seed=0)
    assert sorted(layer.params) == [
        "bias_ih_l0_reverse", "weight_hh_l0_reverse", "weight_ih_l0_reverse"
    ]  # fmt: skip
    assert (layer.params["bias_ih_l0_reverse"][5:10] == 1).all()
    assert repr(layer) == "LSTM(3, 5, reverse=True; 180 parameters)"
    assert "reverse, float32" in layer.explain(10, 2)
    x = numbers(7, 2, 3).astype(np.float32)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert np.array_equal(other(x)[0], layer(x)[0])
    with pytest.raises(ValueError, match=r"Unexpected key\(s\): \['weight_ih_l0'"):
        layer.load_state_dict(rnncore.LSTM(3, 5).state_dict())
    with pytest.raises(ValueError, match=r"stream: .*reads backwards"):
        layer.stream()
    with pytest.raises(ValueError, match="got reverse ones"):
        rnncore.export_c(layer, "a.c")
    with pytest.raises(ValueError, match="reverse: expected False with bidirectional=True"):
        rnncore.GRU(3, 5, bidirectional=True, reverse=True)
    with pytest.raises(TypeError, match="reverse: expected True or False"):
        rnncore.GRU(3, 5, reverse=1)  # type: ignore[arg-type]


def test_what_reaches_the_last_step_is_measured_in_its_own_order() -> None:
    found, right = [], np.ones((20, 2, 5))
    for reverse in (False, True):
        layer = rnncore.RNN(3, 5, reverse=reverse, dtype="float64", seed=0)
        x = numbers(20, 2, 3)[:: -1 if reverse else 1]
        said = diagnose_loss(
            layer, lambda layer=layer, x=x: rnncore.mse_loss(layer(x)[0], right)
        )["l0_reverse" if reverse else "l0"]  # fmt: skip
        found.append((said.growth, said.gradient_growth))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_there_and_back(kind: str, layers: int) -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from rnncore import convert

    layer = KINDS[kind](3, 5, layers, reverse=True, seed=0)
    found = convert.from_onnx(convert.to_onnx(layer))  # held against ONNX Runtime
    assert found.proof.proven
    assert found.model.reverse
    ours, theirs = layer.state_dict(), found.model.state_dict()
    assert list(ours) == list(theirs)
    assert all(array.tobytes() == theirs[name].tobytes() for name, array in ours.items())


def test_onnx_layers_of_unlike_directions() -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from rnncore import convert

    net = rnncore.Sequential(
        rnncore.LSTM(3, 5, reverse=True, seed=0), rnncore.LSTM(5, 5, seed=1),
        rnncore.LSTM(5, 5, reverse=True, seed=2),
    )  # fmt: skip
    found = convert.from_onnx(convert.to_onnx(net))
    assert found.proof.proven
    x = numbers(9, 2, 3).astype(np.float32)
    np.testing.assert_allclose(found.model(x), net(x), atol=1e-6)


def test_keras_there_and_back(tmp_path: Any) -> None:
    from rnncore import convert

    layer = rnncore.GRU(3, 5, reverse=True, batch_first=True, seed=0)
    path = tmp_path / "a.keras"
    convert.write(path, convert.FinalState(layer))
    again = convert.load(path, prove=False).model.layer
    assert again.reverse
    assert all(map(np.array_equal, again.state_dict().values(), layer.state_dict().values()))
    with pytest.raises(convert.ConversionError, match="reads backwards, whose output Keras turns"):
        convert.write(path, layer)
    for write in (convert.to_rtneural, convert.to_torch):
        with pytest.raises(convert.ConversionError, match="model: expected"):
            write(layer)


def test_steps_that_a_mask_hides_are_as_if_they_were_not_there() -> None:
    from rnncore import convert

    layer = rnncore.GRU(2, 4, reverse=True, batch_first=True, dtype="float64", seed=0)
    x = numbers(3, 7, 2)
    x[0, :3] = x[1, [2, 5]] = 0.0  # in front of a sequence, and between its steps
    last = convert.Masked(convert.FinalState(copy.deepcopy(layer)))(x)
    y = convert.Masked(layer)(x)
    for b, kept in enumerate((x != 0).any(-1)):
        right, state = layer(x[b : b + 1, kept])
        assert np.array_equal(y[b, kept], right[0]) and not y[b, ~kept].any()
        assert np.array_equal(last[b], state[0, 0])
