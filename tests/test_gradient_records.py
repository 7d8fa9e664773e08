"""The gradients of every state of every step, out of one backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import KINDS, Array, Case, Given, make_given, make_layer, named_states
from finite_differences import assert_gradients_close, numerical_gradients

import rnncore
from rnncore.layers.marks import RESET_AFTER
from rnncore.layers.recurrent import Recurrent
from rnncore.layers.watching import watch_backward


def recorded(layer: Recurrent, given: Given, **options: Any) -> list[dict[str, Any]]:
    """Return what a backward pass records."""
    layer.forward(given.x, given.state, given.lengths, **given.options, **options)
    return layer.backward(given.dy, given.dstate, record=True)[2]


def one_direction(layer: Recurrent, case: Case, number: int, d: int) -> Recurrent:
    """Return one direction of one layer as a layer of its own, which reads forward."""
    width = case.I if number == 0 else case.directions * case.sizes[number - 1]
    single = Recurrent(case.kind, width, case.sizes[number], bias=case.bias, dtype=np.float64)
    end = f"_l{number}" + "_reverse" * d
    single.load_state_dict(
        {name.replace(end, "_l0"): array for name, array in layer.state_dict().items()
         if name.endswith((end, RESET_AFTER))}
    )  # fmt: skip
    return single


def step(single: Recurrent, x: Array, state: list[Array], nudges: list[Array]) -> list[Array]:
    """Return the states after a step, with numbers added to each of them."""
    if len(state) == 1:
        return [single(x, state[0])[1] + nudges[0]]
    _, (_, c), [record] = single.record(x, tuple(state))
    c = c + nudges[1]
    return [record["o"] * np.tanh(c) + nudges[0], c]  # c counts through h as well


def nudged_loss(singles: list[Recurrent], case: Case, given: Given, b: int,
                nudges: dict[str, Array]) -> float:  # fmt: skip
    """Return the loss of one sequence, step by step, with numbers added to each state."""
    n = case.T if given.lengths is None else int(given.lengths[b])
    x, loss = given.x[:n, b : b + 1], 0.0
    first = [a[:, b : b + 1] for a in named_states("", given.state).values()]
    last = [a[:, b : b + 1] for a in named_states("", given.dstate).values()]
    for number in range(case.layers):
        outputs = []
        for d in range(case.directions):
            k = number * case.directions + d
            state = [part[k : k + 1] for part in first]
            out = np.empty((n, 1, case.sizes[number]))
            for t in reversed(range(n)) if d else range(n):
                added = [nudges[f"{name}{k}"][t] for name in "hc"[: case.states]]
                state = step(singles[k], x[t : t + 1], state, added)
                out[t] = state[0][0]
            loss += sum(float((a * da[k]).sum()) for a, da in zip(state, last, strict=True))
            outputs.append(out)
        x = np.concatenate(outputs, axis=-1)
    return loss + float((x * given.dy[:n, b : b + 1]).sum())


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_against_finite_differences(kind: str, bidirectional: bool, ragged: bool) -> None:
    case = Case(kind, 3, 3, 2, 2, 2, bidirectional, ragged)
    layer, given = make_layer(case), make_given(case)
    records = recorded(layer, given)
    assert len(records) == 2 * case.directions
    names = "hc" if kind == "lstm" else "h"
    assert all("".join(record) == names for record in records)
    singles = [one_direction(layer, case, number, d) for number in range(2)
               for d in range(case.directions)]  # fmt: skip
    for b, n in enumerate([3] * 3 if given.lengths is None else given.lengths):
        nudges = {f"{name}{k}": np.zeros((n, 2)) for name in "hc"[: case.states]
                  for k in range(len(records))}  # fmt: skip
        numeric = numerical_gradients(lambda b=b, z=nudges: nudged_loss(singles, case, given, b, z),
                                      nudges)  # fmt: skip
        analytic = {f"{name}{k}": record[name][:n, b] for name in names
                    for k, record in enumerate(records)}  # fmt: skip
        assert_gradients_close(analytic, numeric)
        assert not any(a[n:, b].any() for record in records for a in record.values())


def slices(layer: Recurrent, given: Given, t: int) -> tuple[Any, Array]:
    """Return dL/d(state after step t) by a pass that begins there."""
    parts = given.x[: t + 1], given.x[t + 1 :]
    _, middle = layer(parts[0], given.state, **given.options)
    layer.forward(parts[1], middle, **given.options)
    _, dmiddle = layer.backward(given.dy[t + 1 :], given.dstate)
    return dmiddle, given.dy[t]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "case", [
        Case("rnn_tanh", 40, 1, 5, 300), Case("lstm", 90, 7, 5, 33), Case("gru", 30, 13, 4, 17),
        Case("lstm", 300, 1, 3, 64), Case("rnn_relu", 5, 40, 70, 130),
    ], ids=str,
)  # fmt: skip
def test_the_top_layer_is_that_of_a_pass_that_begins_there(
    case: Case, threads: int, dtype: str
) -> None:
    before = rnncore.get_num_threads()
    try:
        rnncore.set_num_threads(threads)
        layer = make_layer(Case(case.kind, case.T, case.B, case.I, case.H, dtype=dtype))
        given = make_given(Case(case.kind, case.T, case.B, case.I, case.H, dtype=dtype))
        [record] = recorded(layer, given)
        # c through h as well: the pass from there knows its own c alone
        _, _, [states] = layer.record(given.x, given.state)
        for t in (0, case.T // 2, case.T - 2):
            dmiddle, dy = slices(layer, given, t)
            dh = named_states("", dmiddle)["h"][0] + dy
            rtol, atol = (1e-4, 1e-5) if dtype == "float32" else (1e-11, 1e-13)
            np.testing.assert_allclose(record["h"][t], dh, rtol, atol * np.abs(dh).max())
            if case.kind == "lstm":
                slope = states["o"][t] * (1 - np.tanh(states["c"][t]) ** 2)
                dc = named_states("", dmiddle)["c"][0] + dh * slope
                np.testing.assert_allclose(record["c"][t], dc, rtol, atol * np.abs(dc).max())
    finally:
        rnncore.set_num_threads(before)


def in_segments(layer: Recurrent, given: Given) -> Any:
    """Return a pass in about as little memory as it takes, which builds and cells decide."""
    for memory in (400_000 * 2**k for k in range(5)):
        try:
            return layer.forward(
                given.x, given.state, given.lengths, **given.options, memory=memory, keep=True
            )[2]
        except ValueError as error:
            assert "memory: expected at least" in str(error)
    raise AssertionError("memory: never enough")


@pytest.mark.parametrize("source", ["features", "embedding"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_recording_changes_no_bit_and_memory_none_of_it(kind: str, source: str) -> None:
    case = Case(kind, 2000, 3, 4, 9, 2, ragged=True, source=source, dropout=0.3, dtype="float32")
    layer, given, again = make_layer(case), make_given(case), make_layer(case)
    records = recorded(layer, given)
    again.forward(given.x, given.state, given.lengths, **given.options)
    again.backward(given.dy, given.dstate)
    assert np.array_equal(layer.flat_grads, again.flat_grads)
    small = make_layer(case)
    kept = in_segments(small, given)
    assert kept.segments is not None and len(kept.segments) > 1
    parts = small.backward(given.dy, given.dstate, kept=kept, record=True)[2]
    for whole, part in zip(records, parts, strict=True):
        assert all(np.array_equal(whole[name], part[name]) for name in whole)
    # nothing is left behind: the next pass of the same buffers records nothing
    layer.forward(given.x, given.state, given.lengths, **given.options)
    assert len(layer.backward(given.dy, given.dstate)) == 2
    assert all(np.array_equal(a["h"], b["h"]) for a, b in zip(records, parts, strict=True))


def test_layouts_and_nothing() -> None:
    layer = rnncore.LSTM(3, 4, batch_first=True, bidirectional=True, seed=0)
    y, _ = layer.forward(np.ones((5, 7, 3)))
    records = layer.backward(y, record=True)[2]
    assert [r["h"].shape for r in records] == [(5, 7, 4)] * 2
    y, _ = layer.forward(np.ones((7, 3)))
    assert layer.backward(y, record=True)[2][1]["c"].shape == (7, 4)
    y, _ = layer.forward([np.ones((2, 3)), np.ones((6, 3))])
    assert [a.shape for a in layer.backward(y, record=True)[2][0]["h"]] == [(2, 4), (6, 4)]
    y, _ = layer.forward(np.ones((5, 7, 3)), lengths=[0] * 5)
    assert not any(a.any() for r in layer.backward(y, record=True)[2] for a in r.values())
    y, _ = layer.forward(np.ones((5, 0, 3)))
    with watch_backward(last_alone=True) as seen:
        layer.backward(y)
    assert seen[0].states[1]["h"].shape == (0, 5, 4)
    layer.forward(np.ones((5, 7, 3)))
    with pytest.raises(TypeError, match="record: expected True or False, got 1"):
        layer.backward(y, record=1)  # type: ignore[call-overload]


@pytest.mark.parametrize("batch", [1, 5])
def test_states_that_zoneout_keeps_pass_their_gradient_on(batch: int) -> None:
    layer = rnncore.RNN(3, 17, zoneout=0.4, dtype=np.float64, seed=0)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((9, batch, 3)), rng.standard_normal((9, batch, 17))
    layer.forward(x)
    with watch_backward() as seen:
        _, _, [record] = layer.backward(dy, record=True)
    h, W = seen[0].states[0]["h"], layer.params["weight_hh_l0"]
    dh = dy[-1]
    for t in range(8, 0, -1):
        np.testing.assert_allclose(record["h"][t], dh, rtol=1e-12, atol=1e-14)
        kept = h[t] == h[t - 1]
        assert 0 < kept.mean() < 1
        dz = np.where(kept, 0, dh * (1 - h[t] ** 2))
        dh = dy[t - 1] + np.where(kept, dh, 0) + dz @ W
    lstm = rnncore.LSTM(3, 4, zoneout=(0.0, 0.3), seed=0)
    y, _ = lstm.forward(np.ones((5, 2, 3)))
    assert list(lstm.backward(y, record=True)[2][0]) == ["h"]
