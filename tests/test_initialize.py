"""How parameters begin: what each name draws, gates, patterns, PyTorch's definitions, misuse."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore.cells import library
from rnncore.layers.initialize import NAMES

MATRICES = [name for name, known in NAMES.items() if known.of_matrices]
DRAWN = [name for name in NAMES if name not in ("zeros", "ones", "identity")]


def make_net(seed: int = 0, **options: Any) -> Any:
    parts = {
        "table": rnncore.Embedding(9, 5, dtype=np.float64, seed=seed),
        "lstm": rnncore.LSTM(5, 6, num_layers=2, bidirectional=True, dtype=np.float64, seed=seed,
                             **options),
        "gru": rnncore.GRU(12, [3, 4], learn_initial_state=True, dtype=np.float64, seed=seed,
                           **options),
        "head": rnncore.Linear(4, 2, dtype=np.float64, seed=seed),
    }  # fmt: skip
    return rnncore.Module(children=parts)


def gates(array: np.ndarray, columns: int) -> list[np.ndarray]:
    """Return the square blocks, one a gate, of recurrent weights."""
    return list(array.reshape(-1, columns, array.shape[1]))


def block(rows: int, columns: int, value: Any, seed: int = 0) -> np.ndarray:
    """Return a matrix of a module of its own, which has one gate."""
    module = rnncore.Module({"w": (rows, columns)}, dtype=np.float64)
    module.initialize({"w": value}, seed=seed)
    return module.params["w"]


# What each name draws

def test_constants_and_the_identity() -> None:
    net = make_net()
    net.initialize({"*weight_hh*": "identity", "head.*": "ones", "*bias*": "zeros",
                    "*weight_ih*": ("identity", 0.25)})  # fmt: skip
    for name, array in net.params.items():
        part = name.split(".")[0]
        if part == "head":
            assert (array == 1).all()
        elif "bias" in name:
            assert (array == 0).all()
        elif "weight_hh" in name:
            assert len(gates(array, array.shape[1])) == {"lstm": 4, "gru": 3}[part]
            for gate in gates(array, array.shape[1]):
                assert np.array_equal(gate, np.eye(array.shape[1]))
        elif "weight_ih" in name:
            count = {"lstm": 4, "gru": 3}[part]
            for gate in np.split(array, count):
                assert np.array_equal(gate, 0.25 * np.eye(*gate.shape))


@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_each_gate_is_orthogonal(gain: float) -> None:
    net = make_net()
    net.initialize({"*weight*": ("orthogonal", gain)}, seed=3)
    seen = []
    for name, array in net.params.items():
        if "weight" not in name:
            continue
        count = {"lstm": 4, "gru": 3}.get(name.split(".")[0], 1)
        for gate in np.split(array, count):
            rows, columns = gate.shape
            product = gate @ gate.T if rows <= columns else gate.T @ gate
            np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), atol=1e-14)
            seen.append(gate)
    assert len(seen) == 1 + 4 * 4 * 2 + 2 * 3 * 2 + 1
    for one, other in pairwise(seen):
        assert one.shape != other.shape or not np.allclose(one, other)


def test_orthogonal_matrices_are_drawn_evenly() -> None:
    # Without the signs of R's diagonal the determinants of a few sizes are all alike.
    signs = [np.sign(np.linalg.det(block(2, 2, "orthogonal", seed))) for seed in range(400)]
    assert abs(np.mean(signs)) < 0.15
    first = np.array([block(3, 3, "orthogonal", seed)[0, 0] for seed in range(400)])
    assert abs(first.mean()) < 0.1 and abs((first**2).mean() - 1 / 3) < 0.05


@pytest.mark.parametrize(
    ("value", "std", "bound"),
    [
        ("normal", 1.0, math.inf),
        (("normal", 0.02), 0.02, math.inf),
        (("uniform", 0.3), 0.3 / math.sqrt(3), 0.3),
        ("xavier_normal", math.sqrt(2 / 500), math.inf),
        (["xavier_normal", 3], 3 * math.sqrt(2 / 500), math.inf),
        ("xavier_uniform", math.sqrt(2 / 500), math.sqrt(6 / 500)),
        (("xavier_uniform", 5 / 3), 5 / 3 * math.sqrt(2 / 500), 5 / 3 * math.sqrt(6 / 500)),
        ("kaiming_normal", math.sqrt(2 / 200), math.inf),
        (("kaiming_normal", 1.0), math.sqrt(1 / 200), math.inf),
        ("kaiming_uniform", math.sqrt(2 / 200), math.sqrt(6 / 200)),
        (("kaiming_uniform", np.float32(1)), math.sqrt(1 / 200), math.sqrt(3 / 200)),
    ],
)
def test_spreads(value: Any, std: float, bound: float) -> None:
    # 4 gates of 300 x 200 have the spread of one; W (1200, 200) as a whole would have another.
    layer = rnncore.LSTM(200, 300, dtype=np.float64, seed=0)
    layer.initialize({"weight_ih_l0": value}, seed=1)
    for array in (*np.split(layer.params["weight_ih_l0"], 4), block(300, 200, value)):
        assert array.std() == pytest.approx(std, rel=0.02)
        assert abs(array.mean()) < 5 * std / math.sqrt(array.size)
        assert np.abs(array).max() <= bound
        if bound < math.inf:
            assert np.abs(array).max() > 0.999 * bound
        else:
            fourth = ((array / array.std()) ** 4).mean()
            assert 2.9 < fourth < 3.1  # of a uniform one 1.8


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "Linear"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_is_how_a_layer_begins(kind: str, dtype: Any) -> None:
    sizes: tuple[Any, ...] = (5, 3) if kind == "Linear" else (5, [3, 4])
    options = {} if kind == "Linear" else {"bidirectional": True, "bias": "pytorch"}
    layer = getattr(rnncore, kind)(*sizes, dtype=dtype, seed=7, **options)
    before = layer.flat_params.copy()
    layer.initialize({"*": "zeros"})
    layer.initialize({"*": "uniform"}, seed=7)
    assert layer.flat_params.dtype == dtype and np.array_equal(layer.flat_params, before)


def test_uniform_has_no_bound_for_what_begins_otherwise() -> None:
    layer = rnncore.LSTM(3, 4, learn_initial_state=True, seed=0)
    with pytest.raises(ValueError, match="'uniform' has no bound for initial_h_l0"):
        layer.initialize({"initial*": "uniform"})
    layer.initialize({"initial*": ("uniform", 0.1)}, seed=0)
    assert 0 < np.abs(layer.params["initial_c_l0"]).max() <= 0.1
    own = rnncore.Recurrent(library.leaky_rnn, 3, 4, seed=0)
    with pytest.raises(ValueError, match="'uniform' has no bound for log_tau_l0"):
        own.initialize({"log_tau*": "uniform"})


# Held against PyTorch's definitions

@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (1, 4)])
@pytest.mark.parametrize("gain", [None, 1.7])
@pytest.mark.parametrize("family", ["xavier", "kaiming"])
def test_bounds_and_deviations_are_those_of_torch(
    family: str, gain: float | None, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    theirs: dict[str, float] = {}
    # What PyTorch gives to its generator: U(-b, b) and N(0, s^2).
    monkeypatch.setattr(
        torch.Tensor, "uniform_", lambda t, a, b, **_: theirs.update(bound=b, low=a) or t)
    monkeypatch.setattr(
        torch.Tensor, "normal_", lambda t, mean, std, **_: theirs.update(std=std, mean=mean) or t)
    tensor = torch.empty(shape, dtype=torch.float64)
    for form in ("uniform", "normal"):
        function = getattr(torch.nn.init, f"{family}_{form}_")
        if family == "xavier":
            function(tensor, gain=1.0 if gain is None else gain)
        else:  # PyTorch's gain of leaky_relu of slope a is sqrt(2 / (1 + a^2))
            a = 0.0 if gain is None else math.sqrt(2 / 1.2**2 - 1)
            function(tensor, a=a)
    if family == "kaiming" and gain is not None:
        gain = 1.2

    class Recorder:
        def uniform(self, low: float, high: float, shape: Any) -> np.ndarray:
            ours.update(low=low, bound=high)
            return np.zeros(shape)

        def standard_normal(self, shape: Any) -> np.ndarray:
            return np.ones(shape)

    ours: dict[str, float] = {"mean": 0.0}
    for form in ("uniform", "normal"):
        known = NAMES[f"{family}_{form}"]
        assert known.number is not None
        drawn = known.draw(shape, known.number if gain is None else gain, Recorder())  # type: ignore
        if form == "normal":
            ours["std"] = float(drawn[0, 0])
    assert set(ours) == set(theirs) == {"low", "bound", "mean", "std"}
    for name, number in theirs.items():
        assert ours[name] == pytest.approx(number, rel=1e-14), name


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_orthogonal_and_identity_are_those_of_torch(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    drawn = np.random.default_rng(0).standard_normal(shape)
    monkeypatch.setattr(
        torch.Tensor, "normal_", lambda t, *_, **__: t.copy_(torch.tensor(drawn)))
    empty = torch.empty(shape, dtype=torch.float64)
    theirs = torch.nn.init.orthogonal_(empty, gain=1.3).numpy()

    class Given:
        def standard_normal(self, wanted: tuple[int, int]) -> np.ndarray:
            tall = drawn if shape[0] >= shape[1] else drawn.T  # as PyTorch turns it
            assert tall.shape == wanted
            return tall

    ours = NAMES["orthogonal"].draw(shape, 1.3, Given())  # type: ignore[arg-type]
    np.testing.assert_allclose(ours, theirs, atol=1e-14)
    eye = torch.nn.init.eye_(torch.empty(shape, dtype=torch.float64)).numpy()
    assert np.array_equal(block(*shape, "identity"), eye)


# Patterns, seeds, versions

def test_a_name_takes_the_first_pattern_and_the_rest_stays() -> None:
    net = make_net()
    before = {name: array.copy() for name, array in net.params.items()}
    net.initialize({"gru.bias*": "ones", "*bias*": "zeros", "*initial*": ("normal", 0.1)}, seed=0)
    for name, array in net.params.items():
        if name.startswith("gru.bias"):
            assert (array == 1).all()
        elif "bias" in name:
            assert (array == 0).all()
        else:
            assert np.array_equal(array, before[name]) is ("initial" not in name)
    assert {"gru.bias_hn_l1", "gru.initial_h_l0"} <= set(net.params)


def test_seeds() -> None:
    values = {name: kind for name, kind in zip(make_net().params, DRAWN * 9, strict=False)
              if "weight" in name}  # fmt: skip
    values["table.weight"] = "normal"
    one, other, third = make_net(0), make_net(1), make_net(2)
    for net, seed in ((one, 5), (other, np.random.default_rng(5)), (third, 6)):
        net.initialize({"*bias*": "zeros", "*initial*": "zeros", **values}, seed=seed)
    assert np.array_equal(one.flat_params, other.flat_params)
    assert not np.array_equal(one.flat_params, third.flat_params)
    turned = make_net(3)  # the order of patterns is none of the order of numbers
    reverse = dict(reversed({"*bias*": "zeros", "*initial*": "zeros", **values}.items()))
    turned.initialize(reverse, seed=5)
    assert np.array_equal(turned.flat_params, one.flat_params)
    for net in (one, other):  # None begins anywhere
        net.initialize({"*weight*": "normal"})
    assert not np.array_equal(one.flat_params, other.flat_params)


def test_two_gates_and_two_layers_are_unlike() -> None:
    net = make_net()
    net.initialize({"*weight*": "xavier_uniform"}, seed=0)
    numbers = np.concatenate([a.reshape(-1) for n, a in net.params.items() if "weight" in n])
    assert len(set(numbers.tolist())) == numbers.size


@pytest.mark.parametrize("bias", [True, False, "pytorch"])
def test_a_function_fills_a_whole_parameter(bias: Any) -> None:
    net, seen = make_net(bias=bias), []

    def forget(shape: tuple[int, ...], generator: np.random.Generator) -> Any:
        seen.append(shape)
        assert isinstance(generator, np.random.Generator)
        return np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4)

    if not bias:
        with pytest.raises(ValueError, match=r"none is left; the names are .*weight_ih"):
            net.initialize({"lstm.*bias*": forget})
        return
    net.initialize({"lstm.bias_ih*": forget, "lstm.*": "zeros"})
    assert seen == [(24,)] * 4
    for end in ("l0", "l0_reverse", "l1", "l1_reverse"):
        gates_of_bias = net.params[f"lstm.bias_ih_{end}"].reshape(4, 6)
        assert gates_of_bias.sum(1).tolist() == [0, 6, 0, 0]


def test_a_cell_of_any_name() -> None:
    layer = rnncore.Recurrent("rnn_relu", 3, 5, seed=0)
    values = {"weight_hh*": "identity", "weight_ih*": ("normal", 0.001), "bias*": "zeros"}
    layer.initialize(values, seed=0)  # one of 32 seeds lets no unit begin above 0
    y, _ = layer(np.ones((400, 1, 3), np.float32) * (np.arange(400) == 0)[:, None, None])
    assert np.array_equal(y[0], y[-1]) and y.any()  # it remembers (Le et al., 2015)


def test_weights_are_new_ones_for_all_who_look() -> None:
    net = make_net()
    rnn, x = net._children["lstm"], np.ones((4, 2, 5))
    before = rnn(x)[0]
    with rnncore.Tape(net) as tape:
        loss = rnncore.functions.sum(rnn(x)[0])
    rnn.freeze()
    rnn.initialize({"*": "uniform"}, seed=9)  # a part by itself, though it is frozen
    with pytest.raises(RuntimeError, match="weights have changed"):
        tape.backward(loss)
    fresh = rnncore.LSTM(5, 6, num_layers=2, bidirectional=True, dtype=np.float64, seed=9)
    assert not np.array_equal(rnn(x)[0], before) and np.array_equal(rnn(x)[0], fresh(x)[0])
    assert rnn.frozen
    net.initialize({"lstm.*": "zeros"})
    assert not rnn(x)[0].any()


def test_what_is_empty_stays_so() -> None:
    module = rnncore.Module({"w": (0, 3), "v": (3, 0)})
    for kind in NAMES:
        module.initialize({"*": kind if kind != "uniform" else (kind, 1.0)})
    assert module.num_parameters == 0


# Misuse

@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ("zeros", TypeError, "values: expected a mapping of patterns .* got str; give"),
        ([("*", "zeros")], TypeError, "values: expected a mapping .* got list"),
        ({3: "zeros"}, TypeError, "values: expected patterns of parameter names, got 3"),
        ({"*bais*": "zeros"}, ValueError, r"'\*bais\*', .* the names are \['table.weight', 'lstm"),
        ({"*": "zeros", "head.*": "ones"}, ValueError,
         r"'head\.\*', .*\['head.weight', 'head.bias'\] are taken by patterns before it"),
        ({"*": "xavier"}, ValueError, r"values\['\*'\]: expected one of zeros, ones, .*'xavier'"),
        ({"*": None}, TypeError, r"values\['\*'\]: expected a name, a pair .* got None"),
        ({"*": ("normal", 1.0, 2.0)}, TypeError, "expected a name, a pair"),
        ({"*": (3, "normal")}, TypeError, "expected a name, a pair"),
        ({"*": ("zeros", 1.0)}, ValueError, "'zeros' takes no number, got 1.0; leave it out"),
        ({"*": ("normal", -1.0)}, ValueError, "the standard deviation to be a finite .* got -1.0"),
        ({"*": ("normal", math.nan)}, ValueError, "finite number, 0 or more, got nan"),
        ({"*weight*": ("orthogonal", "big")}, ValueError, "the gain to be .* got 'big'"),
        ({"*weight*": ("orthogonal", True)}, ValueError, "the gain to be .* got True"),
        ({"table.*": "uniform"}, ValueError, r"'uniform' has no bound for table.weight, .*0\.1"),
        ({"*": lambda shape, _: np.zeros(2)}, ValueError, r"array \(9, 5\) for table.weight"),
        ({"*": lambda shape, _: np.zeros(shape, int)}, TypeError, "floating-point numbers"),
        ({"*": lambda shape, _: np.full(shape, np.inf)}, ValueError, "finite numbers for table"),
        *(({"*bias*": kind}, ValueError, rf"{kind}.* is for matrices, and lstm.bias_ih_l0 is \(24,")
          for kind in MATRICES),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)  # fmt: skip
def test_bad_input_changes_nothing(values: Any, error: type[Exception], match: str) -> None:
    net = make_net()
    before, version = net.flat_params.copy(), net._version
    with pytest.raises(error, match=match):
        net.initialize(values, seed=0)
    assert np.array_equal(net.flat_params, before) and net._version == version


def test_a_bad_seed_and_too_large_a_number() -> None:
    net = rnncore.Linear(2, 2, seed=0)
    with pytest.raises(ValueError, match="seed: expected a whole number"):
        net.initialize({"*": "zeros"}, seed=-1)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="got others in float32"):
        net.initialize({"*": ("normal", 1e300)})
