"""RNN, LSTM and GRU with activations by choice: the equations, other engines, names and files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients_close, of_module

import rnncore
from rnncore import convert
from rnncore.cells import chosen
from rnncore.cells.activations import KINDS, read_activation
from rnncore.cells.library import find

pytest.importorskip("llvmlite", reason="compiles cells: pip install llvmlite")

Array = np.ndarray
#: Each activation with its alpha and beta, written as its definition.
WRITTEN: dict[str, Callable[..., Array]] = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: a * (a > 0),
    "identity": lambda a: a,
    "affine": lambda a, alpha=1.0, beta=0.0: alpha * a + beta,
    "leaky_relu": lambda a, alpha=0.01: np.where(a < 0, alpha * a, a),
    "thresholded_relu": lambda a, alpha=1.0: np.where(a > alpha, a, 0),
    "elu": lambda a, alpha=1.0: np.where(a < 0, alpha * np.expm1(np.minimum(a, 0)), a),
    "hard_sigmoid": lambda a, alpha=1 / 6, beta=0.5: np.clip(alpha * a + beta, 0, 1),
    "hard_tanh": lambda a: np.clip(a, -1, 1),
    "scaled_tanh": lambda a, alpha=1.0, beta=1.0: alpha * np.tanh(beta * a),
    "softplus": lambda a: np.logaddexp(0, a),
    "softsign": lambda a: a / (1 + np.abs(a)),
}
#: With numbers that are not the usual ones.
CHOSEN = [
    "affine(0.7, 0.2)", "leaky_relu(0.1)", "thresholded_relu(0.3)", "elu(0.5)",
    "hard_sigmoid(0.2, 0.5)", "scaled_tanh(1.5, 0.6)",
]  # fmt: skip
EVERY = [*KINDS, *CHOSEN]


def written(text: str, clip: float | None = None) -> Callable[[Array], Array]:
    name, _, rest = text.partition("(")
    numbers = [float(part) for part in rest.rstrip(")").split(",") if part]
    bound = np.inf if clip is None else clip
    return lambda a: WRITTEN[name](np.clip(a, -bound, bound), *numbers)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("text", EVERY)
def test_an_activation_is_its_definition(text: str) -> None:
    assert set(WRITTEN) == set(KINDS)
    a = np.linspace(-5, 5, 401)
    np.testing.assert_allclose(read_activation("f", text)(a), written(text)(a), atol=1e-14)
    clipped = read_activation("f", text, 0.8)
    np.testing.assert_allclose(clipped(a), written(text, 0.8)(a), atol=1e-14)
    assert str(read_activation("f", text)) == text


def by_hand(choice: chosen.Choice, layer: Any, x: Array) -> Array:
    """Return h of every step of the equations, in NumPy."""
    p = layer.params
    W, R, b = (p[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih"))
    f, *more = (written(text, choice.clip) for text in choice.activations)
    h, c, said = np.zeros((x.shape[1], R.shape[1])), 0.0, []
    for x_t in x:
        x_k = np.split(x_t @ W.T + b, len(W) // R.shape[1], -1)
        h_k = np.split(h @ R.T, len(x_k), -1)
        if choice.kind == "rnn":
            h = f(x_k[0] + h_k[0])
        elif choice.kind.startswith("gru"):
            r, z = f(x_k[0] + h_k[0]), f(x_k[1] + h_k[1])
            if choice.kind == "gru":
                n = more[0](x_k[2] + r * (h_k[2] + p["bias_hn_l0"]))
            else:
                n = more[0](x_k[2] + (r * h) @ np.split(R, 3)[2].T)
            h = (1 - z) * n + z * h
        else:
            i, forget, g, o = (one + other for one, other in zip(x_k, h_k, strict=True))
            see = [p[f"p_{gate}_l0"] if choice.peepholes else 0.0 for gate in "ifo"]
            c = f(forget + see[1] * c) * c + f(i + see[0] * c) * more[0](g)
            h = f(o + see[2] * c) * written(choice.activations[2])(c)
        said.append(h)
    return np.array(said)


CHOICES = [
    *(chosen.Choice("rnn", (text,)) for text in EVERY),
    *(chosen.Choice("gru", (gate, "softsign")) for gate in EVERY[:4] + CHOSEN),
    *(chosen.Choice("gru_reset_before", (gate, "softsign")) for gate in EVERY),
    *(chosen.Choice("gru_reset_before", ("hard_sigmoid", text)) for text in EVERY),
    *(chosen.Choice("lstm", ("hard_sigmoid", text, "elu(0.5)")) for text in EVERY),
    *(chosen.Choice(kind, functions, 0.5) for kind, functions in (
        ("rnn", ("tanh",)), ("gru", ("sigmoid", "tanh")), ("lstm", ("sigmoid", "tanh", "tanh")),
        ("gru_reset_before", ("sigmoid", "tanh")))),
    chosen.Choice("lstm", ("hard_sigmoid(0.2, 0.5)", "tanh", "softsign"), 0.9, peepholes=True),
]  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_against_the_equations(choice: chosen.Choice) -> None:
    layer = rnncore.Recurrent(choice.cell(), 3, 5, dtype=np.float64, seed=0)
    x = 2 * numbers(9, 2, 3)
    np.testing.assert_allclose(layer(x)[0], by_hand(choice, layer, x), rtol=1e-12, atol=1e-13)
    small = rnncore.Recurrent(choice.cell(), 3, 5, seed=0)
    small.load_state_dict(layer.state_dict())
    np.testing.assert_allclose(small(x.astype(np.float32))[0], layer(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_gradients(choice: chosen.Choice) -> None:
    layer = rnncore.Recurrent(choice.cell(), 3, 4, bidirectional=True, dtype=np.float64, seed=0)
    dy = numbers(3, 2, 8, seed=1)
    for seed in range(9):
        x = numbers(3, 2, 3, seed=seed)
        layer.forward(x)
        layer.backward(dy, accumulate=False)
        analytic = {name: array.copy() for name, array in layer.grads.items()}
        try:
            numeric = of_module(layer, lambda x=x: float((layer(x)[0] * dy).sum()))  # type: ignore[misc]
        except ValueError:  # at a corner of an activation, where there is no derivative
            layer.weights_changed()
            continue
        assert_gradients_close(analytic, numeric)
        return
    pytest.fail("no input without corners")


def test_the_usual_choice_is_the_engines_own_cell() -> None:
    assert chosen.rnn() == "rnn_tanh" and chosen.rnn("identity") == "rnn_identity"
    assert chosen.lstm() == "lstm" and chosen.gru() == "gru"
    assert chosen.gru(reset_after=False) == "gru_reset_before"
    assert chosen.lstm("hard_sigmoid") is chosen.lstm(" hard_sigmoid", "tanh", "tanh")


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("options", [
    {}, {"bias": False}, {"bias": "pytorch"}, {"zoneout": 0.2}, {"recurrent_dropout": 0.3},
    {"learn_initial_state": True, "bidirectional": True}, {"reverse": True},
], ids=str)  # fmt: skip
def test_a_gru_is_the_engines_own(reset_after: bool, options: dict[str, Any]) -> None:
    # A clip that clips nothing: the same equations in another cell.
    cell = chosen.gru(clip=1e6, reset_after=reset_after)
    for size, batch, lengths in ((5, 2, None), (70, 1, None), (33, 6, [9, 3, 0, 7, 9, 1])):
        more = {**options, "dtype": np.float64, "seed": 0}
        own = rnncore.GRU(3, size, 2, reset_after=reset_after, **more)
        other = rnncore.Recurrent(cell, 3, size, 2, **more)
        assert list(own.params) == list(other.params)
        other.load_state_dict(own.state_dict())
        x, dy = numbers(9, batch, 3), numbers(9, batch, own.output_size, seed=1)
        found = []
        for layer in (own, other):
            y, _ = layer.forward(x, lengths=lengths)
            dx, dstate = layer.backward(dy, accumulate=False)
            found.append([y, dx, dstate, layer(x)[0], *layer.grads.values()])
        for mine, right in zip(*found, strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("size", [5, 300])
def test_threads_change_no_bit(size: int, threads: Any) -> None:
    layer = rnncore.Recurrent(chosen.gru("hard_sigmoid", reset_after=False), 3, size, seed=0)
    x, results = numbers(9, 5, 3).astype(np.float32), []
    for count in (1, 2, 3):
        threads(count)
        for batch in (1, 5):
            y, _ = layer.forward(x[:, :batch])
            dx, _ = layer.backward(y, accumulate=False)
            results.append([y, dx, layer.flat_grads.copy()])
    for k in (0, 1):
        for one in results[2 + k :: 2]:
            assert all(map(np.array_equal, one, results[k]))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_cell_is_found_by_its_name(choice: chosen.Choice) -> None:
    cell = choice.cell()
    if isinstance(cell, str):
        return
    assert chosen.choice_of(cell.name) == choice and find(cell.name) is cell
    assert pickle.loads(pickle.dumps(cell)) is cell


def test_another_process_finds_it_too(tmp_path: Path) -> None:
    from processes import python

    name = "lstm(hard_sigmoid(0.2, 0.5), tanh, softsign, clip=3.0, peepholes)"
    path = tmp_path / "model.safetensors"
    text = "to be or not to be, that is the question " * 90
    model = rnncore.LanguageModel(cell=name, hidden_size=6, num_layers=1, epochs=1, seed=0)
    model.fit(text).save(path)
    said = python(f"import rnncore; print(rnncore.load({str(path)!r}).sample(20, seed=0))")
    assert said.rstrip("\n") == model.sample(20, seed=0)
    layer = rnncore.Recurrent(find(name), 3, 5, seed=0)
    (tmp_path / "layer").write_bytes(pickle.dumps(layer))
    convert.write(tmp_path / "layer.safetensors", layer)
    again = convert.load(tmp_path / "layer.safetensors").model
    assert again.layer_name == name and np.array_equal(again.flat_params, layer.flat_params)
    said = python(
        f"import pickle; layer = pickle.load(open({str(tmp_path / 'layer')!r}, 'rb')); "
        "print(layer.layer_name)"
    )
    assert said.strip() == name


def test_streams_and_records() -> None:
    for reset_after in (True, False):
        cell = chosen.gru("hard_sigmoid", "softsign", reset_after=reset_after)
        layer = rnncore.Recurrent(cell, 3, 5, 2, seed=0)
        x = numbers(20, 3).astype(np.float32)
        y, _, records = layer.record(x)
        assert np.array_equal(layer.stream().process(x), y)
        h = np.concatenate([np.zeros((1, 5)), records[0]["h"][:-1]])
        z, n = records[0]["z"], records[0]["n"]
        np.testing.assert_allclose((1 - z) * n + z * h, records[0]["h"], atol=1e-6)
        assert ((records[0]["r"] >= 0) & (records[0]["r"] <= 1)).all()


@pytest.mark.parametrize(("make", "match"), [
    (lambda: chosen.rnn("swish"), "activation: expected one of tanh, .*got 'swish'"),
    (lambda: chosen.lstm(state="elu(a)"), r"state: expected finite numbers .*elu\(a\)"),
    (lambda: chosen.gru("elu(1, 2)"), "gates: expected 1 numbers behind elu"),
    (lambda: chosen.gru(candidate=3), "candidate: expected one of"),  # type: ignore[arg-type]
    (lambda: chosen.rnn(clip=0), "clip: expected a number above 0, or None, got 0"),
    (lambda: chosen.rnn(clip=float("nan")), "clip: expected a number above 0"),
    (lambda: find("lstm(swish, tanh, tanh)"), "gates: expected one of"),
    (lambda: find("lstm(tanh, tanh)"), "no cell is called 'lstm.tanh, tanh.'"),
    (lambda: find("gru(sigmoid, tanh, peepholes)"), "no cell is called"),
    (lambda: find("gru(sigmoid, tanh, clip=a)"), "no cell is called"),
])  # fmt: skip
def test_what_is_refused(make: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


# Other engines

KINDS_OF_CELLS = ("rnn", "gru", "gru_reset_before", "lstm")
ONNX_NAMES = {
    "affine": "Affine", "elu": "Elu", "hard_sigmoid": "HardSigmoid", "leaky_relu": "LeakyRelu",
    "relu": "Relu", "scaled_tanh": "ScaledTanh", "sigmoid": "Sigmoid", "softplus": "Softplus",
    "softsign": "Softsign", "tanh": "Tanh", "thresholded_relu": "ThresholdedRelu",
}  # fmt: skip


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize(("kind", "name"), list(product(KINDS_OF_CELLS, ONNX_NAMES)))
def test_against_onnx_runtime(kind: str, name: str, clip: float | None) -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    text = next((one for one in CHOSEN if one.startswith(name)), name)
    functions = {1: (text,), 2: ("hard_sigmoid(0.2, 0.5)", text),
                 3: ("sigmoid", text, "softsign")}[chosen.ARITIES[kind]]  # fmt: skip
    cell = chosen.Choice(kind, functions, clip, kind == "lstm").cell()
    if isinstance(cell, str):
        return
    layer = rnncore.Recurrent(cell, 3, 5, bidirectional=True, bias="pytorch", seed=0)
    model = convert.to_onnx(layer)  # held against ONNX Runtime
    found = convert.from_onnx(model)
    assert found.proof.proven and found.proof.difference < 1e-5
    assert found.model.layer_name == layer.layer_name
