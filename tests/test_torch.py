"""The engine against PyTorch's RNN, LSTM and GRU, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import CASES, Array, Case, make_given, make_layer, named_states, run

import rnncore

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")

TOLERANCE = 1e-12  # of the largest entry of each array

# PyTorch has no sigmoid and identity, one size for all layers, and no inputs of tokens.
TORCH_CASES = [
    case
    for case in CASES
    if case.kind not in ("rnn_sigmoid", "rnn_identity", "gru_reset_before")
    and case.source == "features"
    and not isinstance(case.H, tuple)
    and not case.dropout
    and case.T <= 90
    and case.numbers < 2000
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    # Two teams that spin side by side only wait for each other.
    before = torch.get_num_threads(), rnncore.get_num_threads()
    torch.set_num_threads(1)
    rnncore.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    rnncore.set_num_threads(before[1])


def test_there_are_enough_cases() -> None:
    assert len(TORCH_CASES) >= 150


def torch_module(case: Case, seed: int = 0) -> Any:
    """Build PyTorch's layer for a case, with its own initial values."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "num_layers": case.layers, "bias": case.bias, "batch_first": case.batch_first,
        "bidirectional": case.bidirectional, "dtype": torch.float64,
    }  # fmt: skip
    if case.kind.startswith("rnn"):
        nonlinearity = case.kind.removeprefix("rnn_")
        return torch.nn.RNN(case.I, case.H, nonlinearity=nonlinearity, **options)
    return {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.kind](case.I, case.H, **options)


def torch_state_dict(module: Any) -> dict[str, Array]:
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def torch_results(module: Any, case: Case, given: Any) -> dict[str, Array]:
    """Run PyTorch forward and backward; return what `cases.run` returns."""

    def variable(array: Any) -> Any:
        if isinstance(array, tuple):
            return tuple(variable(a) for a in array)
        return torch.tensor(array, requires_grad=True)

    module.zero_grad()
    x, state = variable(given.x), variable(given.state)
    if given.lengths is None:
        y, final = module(x, state)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(given.lengths), batch_first=case.batch_first, enforce_sorted=False
        )
        y, final = module(packed, state)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(
            y, batch_first=case.batch_first, total_length=case.T
        )
    loss = (y * torch.tensor(given.dy)).sum()
    upstream = named_states("", given.dstate)
    for name, part in named_states("", final).items():
        loss = loss + (part * torch.tensor(upstream[name])).sum()
    loss.backward()

    results = {"y": y, "dx": x.grad, **named_states("", final)}
    results.update({f"d{name}": part.grad for name, part in named_states("", state).items()})
    results = {name: tensor.detach().numpy() for name, tensor in results.items()}
    for name, parameter in module.named_parameters():
        gradient = parameter.grad.numpy()
        if not name.startswith("bias_hh"):
            results[f"d{name}"] = gradient
        elif case.kind == "gru":
            results[f"d{name.replace('hh', 'hn')}"] = gradient[-case.H :]
        else:  # PyTorch's two biases have one gradient
            twin = results[f"d{name.replace('hh', 'ih')}"]
            np.testing.assert_allclose(gradient, twin, rtol=1e-9, atol=1e-12)
    return results


def assert_equal(results: dict[str, Array], expected: dict[str, Array]) -> None:
    assert set(results) == set(expected)
    for name, right in expected.items():
        assert results[name].shape == right.shape, name
        error = np.abs(results[name] - right).max(initial=0)
        scale = np.abs(right).max(initial=0) or 1.0
        assert error <= TOLERANCE * scale, f"{name}: {error / scale:.2g} of the largest entry"


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_outputs_states_and_gradients(case: Case) -> None:
    module, layer, given = torch_module(case, case.seed()), make_layer(case), make_given(case)
    layer.load_state_dict(torch_state_dict(module))
    if given.lengths is not None:  # PyTorch takes no empty sequences
        given.lengths = np.maximum(given.lengths, 1)
    assert_equal(run(layer, given), torch_results(module, case, given))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
def test_unbatched(kind: str, bidirectional: bool) -> None:
    for batch_first in (False, True):
        case = Case(kind, 7, 1, 3, 5, 2, bidirectional, batch_first=batch_first)
        module, layer, given = torch_module(case), make_layer(case), make_given(case)
        layer.load_state_dict(torch_state_dict(module))
        axis = 0 if batch_first else 1
        given.x, given.dy = given.x.squeeze(axis), given.dy.squeeze(axis)
        given.state, given.dstate = (
            tuple(part[:, 0] for part in state) if isinstance(state, tuple) else state[:, 0]
            for state in (given.state, given.dstate)
        )
        assert_equal(run(layer, given), torch_results(module, case, given))


STATE_DICT_CASES = [
    Case("rnn_relu", 5, 3, 3, 4),
    Case("rnn_tanh", 5, 3, 3, 4, 2, True, bias=False),
    Case("lstm", 5, 3, 3, 4, 2, True),
    Case("gru", 5, 3, 3, 4, 3, True),
    Case("gru", 5, 3, 3, 4, bias=False),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", STATE_DICT_CASES, ids=str)
def test_state_dict_there_and_back(case: Case, dtype: str) -> None:
    given = make_given(case)
    layer = make_layer(Case(**{**vars(case), "dtype": dtype}))
    state = layer.state_dict()
    assert {name: array.dtype for name, array in state.items()} == dict.fromkeys(state, dtype)

    # ours to PyTorch's
    module = torch_module(case, seed=1)
    assert list(state) == list(module.state_dict())
    module.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    with torch.no_grad():
        expected = module(torch.tensor(given.x))[0].numpy()
    x = given.x.astype(dtype)
    tolerance = 1e-12 if dtype == "float64" else 5e-6
    assert np.abs(layer(x)[0] - expected).max() <= tolerance * np.abs(expected).max()

    # and back again, into a layer with other weights, to the last bit
    other = make_layer(Case(**{**vars(case), "dtype": dtype}))
    with other.changing_weights() as flat:
        flat[...] = 7
    other.load_state_dict(torch_state_dict(module))
    assert np.array_equal(other.flat_params, layer.flat_params)
    assert np.array_equal(other(x)[0], layer(x)[0])


def test_state_dict_adds_the_two_biases() -> None:
    module = torch.nn.LSTM(3, 4, dtype=torch.float64)
    layer = rnncore.LSTM(3, 4, dtype=np.float64)
    theirs = torch_state_dict(module)
    layer.load_state_dict(theirs)
    ours = layer.state_dict()
    assert np.array_equal(ours["bias_ih_l0"], theirs["bias_ih_l0"] + theirs["bias_hh_l0"])
    assert not ours["bias_hh_l0"].any()


def test_linear_and_embedding_have_the_names_and_shapes_of_pytorch() -> None:
    rng = np.random.default_rng(0)
    linear, theirs = rnncore.Linear(3, 5, dtype=np.float64), torch.nn.Linear(3, 5).double()
    linear.load_state_dict(torch_state_dict(theirs))
    x = rng.standard_normal((2, 4, 3))
    expected = theirs(torch.tensor(x)).detach().numpy()
    assert np.abs(linear(x) - expected).max() <= TOLERANCE
    theirs.load_state_dict({k: torch.tensor(v) for k, v in linear.state_dict().items()})

    table, their_table = rnncore.Embedding(7, 3), torch.nn.Embedding(7, 3)
    table.load_state_dict(torch_state_dict(their_table))
    ids = rng.integers(0, 7, (4, 2))
    assert np.array_equal(table(ids), their_table(torch.tensor(ids)).detach().numpy())


@pytest.mark.parametrize("classes", [1, 2, 16, 65])
def test_softmax_cross_entropy(classes: int) -> None:
    rng = np.random.default_rng(classes)
    logits, targets = 5 * rng.standard_normal((30, classes)), rng.integers(0, classes, 30)
    targets[::7] = -100  # PyTorch's mark of what does not count
    variable = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(variable, torch.tensor(targets))
    expected.backward()
    loss, dlogits = rnncore.softmax_cross_entropy(logits, targets)
    assert loss == pytest.approx(expected.item(), rel=1e-13)
    assert np.abs(dlogits - variable.grad.numpy()).max() <= 1e-14


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_two_biases_take_pytorchs_path(kind: str, bidirectional: bool) -> None:
    # 200 steps of Adam with decay and clipping: with one bias the paths part, with two they do not.
    case = Case(kind, 7, 3, 4, 9, 2, bidirectional)
    module = torch_module(case)
    options: dict[str, Any] = {
        "num_layers": 2, "bidirectional": bidirectional, "dtype": np.float64, "bias": "pytorch",
    }  # fmt: skip
    kinds = {"rnn_tanh": rnncore.RNN, "lstm": rnncore.LSTM, "gru": rnncore.GRU}
    layer = kinds[kind](case.I, case.H, **options)
    layer.load_state_dict(torch_state_dict(module))
    assert all(
        np.array_equal(array, torch_state_dict(module)[name])
        for name, array in layer.state_dict().items()
    )
    assert [*layer.params] == [*torch_state_dict(module)]
    ours = rnncore.Adam(layer, lr=0.01, weight_decay=0.01)
    theirs = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=0.01)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 3, 4))
    target = 0.5 * rng.standard_normal((7, 3, 9 * (1 + bidirectional)))
    losses = []
    for _ in range(200):
        y, _ = layer.forward(x)
        error = y - target
        layer.backward(2 * error / error.size, accumulate=False)
        rnncore.clip_grad_norm(layer, 0.05)
        ours.step()
        theirs.zero_grad()
        loss = ((module(torch.tensor(x))[0] - torch.tensor(target)) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.05)
        theirs.step()
        losses.append((float((error**2).mean()), float(loss.detach())))
    curve = np.array(losses)
    assert curve[-1, 0] < 0.95 * curve[0, 0]
    np.testing.assert_allclose(curve[:, 0], curve[:, 1], rtol=1e-8)
    for name, array in layer.state_dict().items():
        np.testing.assert_allclose(array, torch_state_dict(module)[name], rtol=1e-6, atol=1e-8)


def test_two_biases_in_segments_tokens_and_replaced_gradients() -> None:
    options: dict[str, Any] = {"dtype": np.float64, "seed": 0}
    one, two = (rnncore.GRU(6, 5, bias=bias, **options) for bias in (True, "pytorch"))
    two.load_state_dict(one.state_dict())
    ids = np.random.default_rng(0).integers(0, 6, (600, 2))
    for memory in (None, 300_000):
        for layer in (one, two):
            layer.flat_grads[...] = np.nan
            y, _ = layer.forward(ids, tokens=True, memory=memory)
            layer.backward(y, accumulate=False)
        np.testing.assert_allclose(two.grads["bias_ih_l0"], one.grads["bias_ih_l0"], rtol=1e-12)
        second = two.grads["bias_hh_l0"]
        np.testing.assert_allclose(second[10:], one.grads["bias_hn_l0"], rtol=1e-12)
        np.testing.assert_allclose(second[:10], one.grads["bias_ih_l0"][:10], rtol=1e-12)


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
def test_the_gradient_of_every_state(kind: str) -> None:
    case = Case(kind, 6, 3, 4, 5)
    module, layer, given = torch_module(case, 1), make_layer(case), make_given(case)
    layer.load_state_dict(torch_state_dict(module))
    layer.forward(given.x, given.state)
    _, _, [record] = layer.backward(given.dy, given.dstate, record=True)
    cells = {"rnn_tanh": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
    cell = cells[kind](4, 5, dtype=torch.float64)
    cell.load_state_dict({
        name.removesuffix("_l0"): one for name, one in module.state_dict().items()
    })  # fmt: skip
    state = tuple(torch.tensor(a[0]) for a in named_states("", given.state).values())
    steps, loss = [], 0.0
    for x, dy in zip(torch.tensor(given.x), torch.tensor(given.dy), strict=True):
        state = cell(x, state if kind == "lstm" else state[0])
        state = state if kind == "lstm" else (state,)
        for one in state:
            one.retain_grad()
        steps.append(state)
        loss = loss + (state[0] * dy).sum()
    for one, upstream in zip(state, named_states("", given.dstate).values(), strict=True):
        loss = loss + (one * torch.tensor(upstream[0])).sum()
    loss.backward()
    for k, name in enumerate("hc"[: case.states]):
        expected = {name: np.stack([one[k].grad.numpy() for one in steps])}
        assert_equal({name: record[name]}, expected)
