"""Gradients in float64 against finite differences, and planted mistakes that have to be caught."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import (
    CASES,
    KINDS,
    Array,
    Case,
    Given,
    infer,
    make_given,
    make_layer,
    named_states,
    run,
)
from finite_differences import assert_gradients_close, numerical_gradients, of_module

import rnncore
from rnncore.layers.recurrent import Recurrent

GRADIENT_CASES = [case for case in CASES if max(case.sizes) <= 3 and case.numbers <= 200]


@pytest.fixture(autouse=True)
def one_thread(threads: Callable[[int], None]) -> None:
    # Thousands of tiny passes: waking a team takes longer than they do.
    threads(1)


def test_there_are_enough_cases() -> None:
    assert len(GRADIENT_CASES) >= 200
    for kind in KINDS:
        own = [case for case in GRADIENT_CASES if case.kind == kind]
        assert {(c.T, c.B) for c in own} >= {(1, 1), (5, 3)}
        assert {(c.layers, c.bidirectional, c.ragged) for c in own} >= {
            (layers, b, r) for layers in (1, 2) for b in (False, True) for r in (False, True)
        }


def loss_of(case: Case, layer: Recurrent, given: Given) -> Callable[[], float]:
    """Return L = <y, dy> + <final states, dstate>, whose gradients `cases.run` returns."""
    weights = {"y": given.dy, **named_states("", given.dstate)}
    noise = layer._dropout.generator.bit_generator.state if case.dropout else None

    def loss() -> float:
        layer.weights_changed()  # numerical_gradients writes into them
        if given.embedding is not None:
            given.embedding.weights_changed()
        if noise is None:
            results = infer(layer, given)
        else:  # the masks of the pass that is checked
            layer._dropout.generator.bit_generator.state = noise
            y, state = layer.forward(given.x, given.state, given.lengths)
            results = {"y": y, **named_states("", state)}
        return float(sum(np.vdot(results[name], weights[name]) for name in weights))

    return loss


def gradients(case: Case) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return all gradients of a case, by the engine and by finite differences."""
    layer, given = make_layer(case), make_given(case)
    loss = loss_of(case, layer, given)
    analytic = {
        name[1:]: array
        for name, array in run(layer, given).items()
        if name not in ("y", *named_states("", given.state))
    }
    arrays = {**dict(layer._named("_params")), **named_states("", given.state)}
    if case.source == "features":
        arrays["x"] = given.x
    if given.embedding is not None:
        arrays["embedding"] = given.embedding._params["weight"]
    return analytic, numerical_gradients(loss, arrays)


@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_every_parameter_input_and_state(case: Case) -> None:
    assert_gradients_close(*gradients(case), rtol=1e-7)


@pytest.mark.parametrize(
    "case", [Case("lstm", 4, 3, 3, 9, 2, True, True), Case("gru", 9, 1, 3, 5)], ids=str
)
def test_gradients_add_up(case: Case) -> None:
    layer, given = make_layer(case), make_given(case)
    once = run(layer, given)
    layer.forward(given.x, given.state, given.lengths)
    layer.backward(given.dy, given.dstate)
    for name, gradient in layer.grads.items():
        np.testing.assert_allclose(gradient, 2 * once[f"d{name}"], rtol=1e-14)


def test_gradients_left_out() -> None:
    case = Case("lstm", 4, 3, 3, 4, 2, True, True)
    layer, given = make_layer(case), make_given(case)
    full = run(layer, given)
    layer.zero_grad()
    layer.forward(given.x, given.state, given.lengths)
    dx, (dh, dc) = layer.backward(given.dy, given.dstate, input_gradient=False)
    assert dx is None
    assert np.array_equal(dh, full["dh"]) and np.array_equal(dc, full["dc"])
    assert all(np.array_equal(g, full[f"d{name}"]) for name, g in layer.grads.items())
    # None is a gradient of zero
    layer.forward(given.x, given.state, given.lengths)
    with_zeros = layer.backward(np.zeros_like(given.dy), given.dstate)[0]
    layer.forward(given.x, given.state, given.lengths)
    assert np.array_equal(layer.backward(None, given.dstate)[0], with_zeros)
    layer.forward(given.x, given.state, given.lengths)
    zeros = tuple(np.zeros_like(part) for part in given.dstate)
    with_zeros = layer.backward(given.dy, zeros)[0]
    layer.forward(given.x, given.state, given.lengths)
    assert np.array_equal(layer.backward(given.dy)[0], with_zeros)


# Around the recurrence


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (5, 2), (2, 1, 3)])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    rng = np.random.default_rng(0)
    for n_in, n_out in ((1, 1), (3, 5), (9, 2)):
        linear = rnncore.Linear(n_in, n_out, bias, dtype=np.float64, seed=1)
        x, dy = rng.standard_normal((*shape, n_in)), rng.standard_normal((*shape, n_out))
        linear.forward(x)
        dx = linear.backward(dy)
        numeric = of_module(
            linear, lambda linear=linear, x=x, dy=dy: np.vdot(linear(x), dy), x=x
        )
        assert_gradients_close({**linear.grads, "x": dx}, numeric)


def test_embedding() -> None:
    rng = np.random.default_rng(0)
    table = rnncore.Embedding(6, 3, dtype=np.float64, seed=1)
    tokens, dy = rng.integers(0, 5, (4, 5)), rng.standard_normal((4, 5, 3))
    table.forward(tokens)
    table.backward(dy)
    numeric = of_module(table, lambda: np.vdot(table(tokens), dy))
    assert_gradients_close(table.grads, numeric)
    assert not table.grads["weight"][5].any()  # a token that does not occur


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 4)])
def test_softmax_cross_entropy(shape: tuple[int, ...], classes: int) -> None:
    rng = np.random.default_rng(classes)
    logits = 3 * rng.standard_normal((*shape, classes))
    targets = rng.integers(0, classes, shape)
    for ignored in (False, True):
        if ignored:
            targets.flat[0] = -1
        _, dlogits = rnncore.softmax_cross_entropy(logits, targets)
        numeric = numerical_gradients(
            lambda targets=targets: rnncore.softmax_cross_entropy(logits, targets)[0],
            {"logits": logits},
        )
        assert_gradients_close({"logits": dlogits}, numeric)


def test_a_whole_model() -> None:
    rng = np.random.default_rng(3)
    table = rnncore.Embedding(5, 2, dtype=np.float64, seed=1)
    recurrent = rnncore.GRU(2, 3, bidirectional=True, dtype=np.float64, seed=2)
    head = rnncore.Linear(6, 5, dtype=np.float64, seed=3)
    model = rnncore.Module(children={"table": table, "rnn": recurrent, "head": head},
                           dtype=np.float64)  # fmt: skip
    tokens, targets = rng.integers(0, 5, (2, 4, 3))

    def loss() -> float:
        y, _ = recurrent(tokens, embedding=table)
        return rnncore.softmax_cross_entropy(head(y), targets)[0]

    y, _ = recurrent.forward(tokens, embedding=table)
    _, dlogits = rnncore.softmax_cross_entropy(head.forward(y), targets)
    assert recurrent.backward(head.backward(dlogits))[0] is None
    assert_gradients_close(model.grads, of_module(model, loss))


# The checker is checked: each of these mistakes, planted in right gradients, has to be found.

Named = dict[str, Array]
LSTM_CASE = Case("lstm", 5, 3, 3, 4, bidirectional=True, ragged=True)
GRU_CASE = Case("gru", 5, 3, 2, 3)


@cache
def right_gradients(case: Case) -> tuple[Named, Named]:
    return gradients(case)


def other_backward(case: Case, change: Callable[[Recurrent, Given], None]) -> Named:
    """Return the gradients of a backward pass that is given something wrong."""
    layer, given = make_layer(case), make_given(case)
    change(layer, given)
    results = run(layer, given)
    return {name: results[f"d{name}"] for name in right_gradients(case)[0]}


def gates(array: Array, case: Case) -> Array:
    """Return a view (gates, H, ...) of a parameter or its gradient."""
    return array.reshape(case.gates, case.H, *array.shape[1:])


def flipped_sign(g: Named) -> None:
    g["weight_hh_l0"] *= -1


def flipped_sign_of_one_entry(g: Named) -> None:
    g["weight_ih_l0"][1, 1] *= -1


def swapped_gates(g: Named) -> None:
    view = gates(g["weight_ih_l0"], LSTM_CASE)
    view[[0, 1]] = view[[1, 0]]


def swapped_gates_of_the_bias(g: Named) -> None:
    view = gates(g["bias_ih_l0_reverse"], LSTM_CASE)
    view[[2, 3]] = view[[3, 2]]


def swapped_directions(g: Named) -> None:
    for name in ("weight_hh_l0", "weight_ih_l0"):
        g[name], g[f"{name}_reverse"] = g[f"{name}_reverse"], g[name]


def swapped_states(g: Named) -> None:
    g["h"], g["c"] = g["c"], g["h"]


def transposed_recurrence(g: Named) -> None:
    view = gates(g["weight_hh_l0"], LSTM_CASE)
    view[...] = view.swapaxes(1, 2).copy()


def input_shifted_in_time(g: Named) -> None:
    g["x"][...] = np.roll(g["x"], 1, axis=0)


def no_bias_gradient(g: Named) -> None:
    g["bias_ih_l0"][...] = 0


def no_cell_state_gradient(g: Named) -> None:
    g["c"][...] = 0


def a_millionth_too_large(g: Named) -> None:
    g["weight_hh_l0_reverse"] *= 1 + 1e-6


def a_parameter_forgotten(g: Named) -> None:
    del g["bias_ih_l0_reverse"]


def not_a_number(g: Named) -> None:
    g["x"][0, 0, 0] = np.nan


EDITS = [
    flipped_sign, flipped_sign_of_one_entry, swapped_gates, swapped_gates_of_the_bias,
    swapped_directions, swapped_states, transposed_recurrence, input_shifted_in_time,
    no_bias_gradient, no_cell_state_gradient, a_millionth_too_large, a_parameter_forgotten,
    not_a_number,
]  # fmt: skip


@pytest.mark.parametrize("mistake", EDITS, ids=lambda edit: edit.__name__)
def test_a_wrong_gradient_is_caught(mistake: Callable[[Named], None]) -> None:
    analytic, numeric = right_gradients(LSTM_CASE)
    assert_gradients_close(analytic, numeric)
    wrong = {name: array.copy() for name, array in analytic.items()}
    mistake(wrong)
    with pytest.raises(AssertionError):
        assert_gradients_close(wrong, numeric)


def step_gradient(case: Case, t: int) -> Array:
    """Return dL/dz_t (B, gates * H) of a one-directional layer: what one step adds to db."""
    layer, given = make_layer(case), make_given(case)
    dz = np.empty((case.B, case.gates * case.H))
    for b in range(case.B):
        # One sequence alone; what steps t to T add to db, less what steps t + 1 to T add.
        dy, dstate = np.zeros_like(given.dy), [np.zeros_like(s) for s in given.dstate]
        dy[:, b] = given.dy[:, b]
        for zero, full in zip(dstate, given.dstate, strict=True):
            zero[:, b] = full[:, b]
        state = given.state
        if t:
            _, state = layer(given.x[:t], state)
        layer.forward(given.x[t:], state)
        layer.zero_grad()
        layer.backward(dy[t:], tuple(dstate))
        later = layer.grads["bias_ih_l0"].copy()
        if t + 1 < case.T:
            _, state = layer(given.x[: t + 1], given.state)
            layer.forward(given.x[t + 1 :], state)
            layer.zero_grad()
            layer.backward(dy[t + 1 :], tuple(dstate))
            later -= layer.grads["bias_ih_l0"]
        dz[b] = later
    return dz


SHIFTED_CASE = Case("lstm", 4, 2, 3, 2)


def drop_last_step(layer: Recurrent, given: Given) -> None:
    given.dy[-1] = 0


def drop_final_state(layer: Recurrent, given: Given) -> None:
    given.dstate = tuple(np.zeros_like(part) for part in given.dstate)


def count_the_padding(layer: Recurrent, given: Given) -> None:
    given.lengths = None


def forget_the_initial_state(layer: Recurrent, given: Given) -> None:
    given.state = None


def gradients_one_step_late(layer: Recurrent, given: Given) -> None:
    given.dy = np.concatenate([given.dy[1:], np.zeros_like(given.dy[:1])])


def other_weights(layer: Recurrent, given: Given) -> None:
    # the reset or output gate's recurrent weights are not those of the forward pass
    with layer.changing_weights() as params:
        params[-1] += 1e-5


CHANGES = [
    drop_last_step, drop_final_state, count_the_padding, forget_the_initial_state,
    gradients_one_step_late, other_weights,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_wrong_pass_is_caught(change: Callable[[Recurrent, Given], Any]) -> None:
    _, numeric = right_gradients(LSTM_CASE)
    with pytest.raises(AssertionError):
        assert_gradients_close(other_backward(LSTM_CASE, change), numeric)


def test_a_shifted_previous_state_is_caught() -> None:
    analytic, numeric = right_gradients(SHIFTED_CASE)
    assert_gradients_close(analytic, numeric)
    # the pieces are right: with h_{t-1} they give the gradient
    layer, given = make_layer(SHIFTED_CASE), make_given(SHIFTED_CASE)
    y, _ = layer(given.x, given.state)
    h = np.concatenate([given.state[0], y])
    dz = [step_gradient(SHIFTED_CASE, t) for t in range(SHIFTED_CASE.T)]
    right = sum(dz[t].T @ h[t] for t in range(SHIFTED_CASE.T))
    np.testing.assert_allclose(right, analytic["weight_hh_l0"], rtol=1e-9, atol=1e-12)
    # with h_t they do not
    shifted = sum(dz[t].T @ h[t + 1] for t in range(SHIFTED_CASE.T))
    with pytest.raises(AssertionError, match="weight_hh_l0"):
        assert_gradients_close({**analytic, "weight_hh_l0": shifted}, numeric)


def test_mistakes_of_the_gru_are_caught() -> None:
    analytic, numeric = right_gradients(GRU_CASE)
    assert_gradients_close(analytic, numeric)
    # b_hn stands inside the reset gate's reach
    wrong = {**analytic, "bias_hn_l0": gates(analytic["bias_ih_l0"], GRU_CASE)[2]}
    with pytest.raises(AssertionError, match="bias_hn"):
        assert_gradients_close(wrong, numeric)
    # r and z in the other order
    swapped = gates(analytic["weight_hh_l0"], GRU_CASE)[[1, 0, 2]]
    wrong = {**analytic, "weight_hh_l0": swapped.reshape(analytic["weight_hh_l0"].shape)}
    with pytest.raises(AssertionError, match="weight_hh"):
        assert_gradients_close(wrong, numeric)
