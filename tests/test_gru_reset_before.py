"""The GRU with its reset gate before the product: other engines, and which GRU weights are of."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Array, Case, make_given, make_layer, run

import rnncore
from rnncore.diagnostics import diagnose_loss

MODEL = {"hidden_size": 6, "num_layers": 1}


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape) * 0.5


def one_step(x: Array, h: Array, p: Any, reset_after: bool) -> Array:
    """Return the next state of one sequence, gate by gate."""

    def gate(k: int, hidden: Array) -> Array:
        rows = slice(k * len(h), (k + 1) * len(h))
        return p["weight_ih_l0"][rows] @ x + p["bias_ih_l0"][rows], p["weight_hh_l0"][rows] @ hidden

    r, z = (1 / (1 + np.exp(-sum(gate(k, h)))) for k in (0, 1))
    x_n, h_n = gate(2, h if reset_after else r * h)
    n = np.tanh(x_n + (r * (h_n + p["bias_hn_l0"]) if reset_after else h_n))
    return (1 - z) * n + z * h


@pytest.mark.parametrize("reset_after", [True, False])
def test_against_the_equations_step_by_step(reset_after: bool) -> None:
    layer = rnncore.GRU(3, 5, reset_after=reset_after, dtype="float64", seed=0)
    x, h = weights(20, 3, seed=1), weights(5, seed=2)
    y, last = layer(x, h[None])
    for t in range(20):
        h = one_step(x[t], h, layer.params, reset_after)
        np.testing.assert_allclose(y[t], h, rtol=1e-12)
    np.testing.assert_allclose(last[0], h, rtol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_against_pytorch_differentiating_the_equations(bidirectional: bool) -> None:
    torch = pytest.importorskip("torch")
    case = Case("gru_reset_before", 9, 4, 3, 5, bidirectional=bidirectional)
    layer, given = make_layer(case), make_given(case)
    results = run(layer, given)
    p = {name: torch.tensor(array, requires_grad=True) for name, array in layer.params.items()}
    x, h_0 = (torch.tensor(a, requires_grad=True) for a in (given.x, given.state))
    outputs, finals = [], []
    for d in range(case.directions):
        end, h = "_l0" + "_reverse" * d, h_0[d]
        W_r, W_z, W_n = p[f"weight_hh{end}"].chunk(3)
        states = []
        for x_t in x.flip(0) if d else x:
            a_r, a_z, a_n = (x_t @ p[f"weight_ih{end}"].T + p[f"bias_ih{end}"]).chunk(3, 1)
            r, z = torch.sigmoid(a_r + h @ W_r.T), torch.sigmoid(a_z + h @ W_z.T)
            h = (1 - z) * torch.tanh(a_n + (r * h) @ W_n.T) + z * h
            states.append(h)
        outputs.append(torch.stack(states[::-1] if d else states))
        finals.append(h)
    y, final = torch.cat(outputs, -1), torch.stack(finals)
    (y * torch.tensor(given.dy)).sum().add((final * torch.tensor(given.dstate)).sum()).backward()
    expected = {"y": y, "h": final, "dx": x.grad, "dh": h_0.grad}
    expected |= {f"d{name}": tensor.grad for name, tensor in p.items()}
    assert set(results) == set(expected)
    for name, right in expected.items():
        np.testing.assert_allclose(results[name], right.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("reset_after", [True, False])
def test_against_onnx_runtime(reset_after: bool, direction: str) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    T, B, I, H = 11, 5, 4, 7  # noqa: E741
    count = 2 if direction == "bidirectional" else 1
    lengths = np.array([11, 3, 8, 1, 6], np.int32)
    given = {
        "X": weights(T, B, I, seed=1), "W": weights(count, 3 * H, I, seed=2),
        "R": weights(count, 3 * H, H, seed=3), "B": weights(count, 6 * H, seed=4),
        "h": weights(count, B, H, seed=5),
    }  # fmt: skip
    given = {name: array.astype(np.float32) for name, array in given.items()}
    value, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node(
        "GRU", ["X", "W", "R", "B", "lengths", "h"], ["Y", "Y_h"], hidden_size=H,
        linear_before_reset=int(reset_after), direction=direction,
    )  # fmt: skip
    inputs = [value(name, number, array.shape) for name, array in given.items()]
    inputs += [value("lengths", onnx.TensorProto.INT32, (B,))]
    outputs = [value(name, number, None) for name in ("Y", "Y_h")]
    graph = onnx.helper.make_graph([node], "gru", inputs, outputs)
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    right, right_last = session.run(None, {**given, "lengths": lengths})

    layer = rnncore.GRU(I, H, bidirectional=count == 2, reset_after=reset_after)
    state = {} if reset_after else {"reset_after": 0}
    for d in range(count):
        def ours(array: Array) -> Array:  # z r h to r z n
            z, r, n = np.split(array, 3)
            return np.concatenate([r, z, n])

        W_b, R_b = np.split(given["B"][d], 2)
        for name, array in (("weight_ih", given["W"][d]), ("weight_hh", given["R"][d]),
                            ("bias_ih", W_b), ("bias_hh", R_b)):  # fmt: skip
            state[f"{name}_l0" + "_reverse" * d] = ours(array)
    layer.load_state_dict(state)
    y, last = layer(given["X"], given["h"], lengths)
    y = y.reshape(T, B, count, H).swapaxes(1, 2)
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, right_last, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("H", "B"), [(5, 3), (64, 1), (300, 1), (130, 40)])
def test_the_same_bits_however_it_is_shared(H: int, B: int, threads: Any) -> None:
    case = Case("gru_reset_before", 30, B, 6, H, layers=2, ragged=B > 1, dtype="float32")
    layer, given = make_layer(case), make_given(case)
    threads(1)
    expected = run(layer, given)
    for count in (2, 3, 5):
        threads(count)
        for name, array in run(layer, given).items():
            assert np.array_equal(array, expected[name]), name
    y, _, kept = layer.forward(given.x, given.state, given.lengths, memory=None, keep=True)
    dx, _ = layer.backward(given.dy, given.dstate, kept=kept, accumulate=False)
    assert np.array_equal(y, expected["y"]) and np.array_equal(dx, expected["dx"])
    if B > 1:  # a sequence alone
        b = int(np.argmax(given.lengths))
        alone, _ = layer(given.x[:, b : b + 1], given.state[:, b : b + 1])
        assert np.array_equal(alone[:, 0], expected["y"][:, b])


def test_segments_and_two_biases() -> None:
    options: dict[str, Any] = {"reset_after": False, "dtype": "float64", "seed": 0}
    layer, x = rnncore.GRU(4, 6, 2, **options), weights(400, 3, 4)
    y, _ = layer.forward(x)
    layer.backward(y, accumulate=False)
    whole = layer.flat_grads.copy()
    y_again, _ = layer.forward(x, memory=800_000)
    layer.backward(y, accumulate=False)
    assert np.array_equal(y, y_again) and np.array_equal(layer.flat_grads, whole)

    two = rnncore.GRU(4, 6, 2, bias="pytorch", **options)
    two.load_state_dict(layer.state_dict())
    assert np.array_equal(two(x)[0], y)
    two.forward(x)
    two.backward(y, accumulate=False)
    for end in ("_l0", "_l1"):
        assert np.array_equal(two.grads[f"bias_ih{end}"], two.grads[f"bias_hh{end}"])
        assert np.array_equal(two.grads[f"bias_ih{end}"], layer.grads[f"bias_ih{end}"])


def test_a_record_has_the_gates_and_a_learned_state_its_gradient() -> None:
    layer = rnncore.GRU(3, 5, reset_after=False, learn_initial_state=True, dtype="float64", seed=0)
    x = weights(6, 2, 3)
    y, _, [record] = layer.record(x)
    z, n = record["z"], record["n"]
    before = np.concatenate([np.zeros((1, 2, 5)), record["h"][:-1]])
    np.testing.assert_allclose((1 - z) * n + z * before, y, rtol=1e-12)
    assert ((record["r"] > 0) & (record["r"] < 1)).all()
    layer.forward(x)
    layer.backward(np.ones_like(y))
    assert layer.grads["initial_h_l0"].all()


def test_explain_counts_products_and_barriers(threads: Any) -> None:
    threads(2)
    for reset_after, words in ((True, "with a barrier a step"), (False, "two barriers a step")):
        said = rnncore.GRU(8, 600, reset_after=reset_after).explain(20, 1)
        assert words in said and ("two products" in said) is not reset_after


# Which GRU weights are of


def test_states_of_the_two_are_told_apart() -> None:
    after, before = (rnncore.GRU(3, 5, reset_after=flag, seed=0) for flag in (True, False))
    named = rnncore.Recurrent("gru_reset_before", 3, 5)
    assert before.state_dict()["reset_after"] == 0 and "reset_after" not in after.state_dict()
    for layer in (before, named):
        with pytest.raises(ValueError, match=r'it after.*say so by "reset_after": 0 beside them'):
            layer.load_state_dict(after.state_dict())
        with pytest.raises(ValueError, match="reset_after: expected 0, as this layer was made"):
            layer.load_state_dict({**before.state_dict(), "reset_after": 1})
        layer.load_state_dict({**after.state_dict(), "reset_after": 0})
        layer.load_state_dict(before.state_dict())
        assert np.array_equal(layer.flat_params, before.flat_params)
    with pytest.raises(ValueError, match="make the layer with reset_after=False"):
        after.load_state_dict(before.state_dict())
    with pytest.raises(ValueError, match=r"Unexpected key\(s\): \['0.reset_after'\]"):
        rnncore.Sequential(rnncore.GRU(3, 5)).load_state_dict(
            rnncore.Sequential(before).state_dict()
        )


def test_pytorch_refuses_such_a_state() -> None:
    torch = pytest.importorskip("torch")
    state = rnncore.GRU(3, 5, reset_after=False, seed=0).state_dict()
    with pytest.raises(RuntimeError, match="reset_after"):
        torch.nn.GRU(3, 5).load_state_dict({k: torch.tensor(v) for k, v in state.items()})


def test_copies_stay_what_they_are() -> None:
    layer, x = rnncore.GRU(3, 5, reset_after=False, seed=0), weights(4, 2, 3)
    assert "reset_after=False" in repr(layer) and "reset_after" not in repr(rnncore.GRU(3, 5))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert np.array_equal(other(x)[0], layer(x)[0]) and not other.reset_after
    with pytest.raises(TypeError, match="reset_after: expected True or False"):
        rnncore.GRU(3, 5, reset_after="no")  # type: ignore[arg-type]


def test_models_and_their_files(tmp_path: Path) -> None:
    text = "to be or not to be, that is the question " * 90
    files = {}
    for cell in ("gru", "gru_reset_before"):
        model = rnncore.LanguageModel(cell=cell, hidden_size=6, epochs=1, seed=0)
        files[cell] = tmp_path / f"{cell}.safetensors"
        model.fit(text).save(files[cell])
        again = rnncore.load(files[cell])
        assert again.sample(20, seed=0) == model.sample(20, seed=0)
    contents = rnncore.files.load(files["gru_reset_before"])
    tensors, metadata = dict(contents[0]), dict(contents[1])
    assert metadata["model"]["cell"] == "gru_reset_before"
    metadata["model"] = {**metadata["model"], "cell": "gru"}
    rnncore.files.save(files["gru"], tensors, metadata)
    with pytest.raises(rnncore.files.FileError, match="reset gate before the product"):
        rnncore.load(files["gru"])


def test_a_diagnosis_knows_its_gates() -> None:
    layer, x = rnncore.GRU(3, 5, reset_after=False, seed=0), weights(9, 2, 3).astype(np.float32)
    found = diagnose_loss(layer, lambda: rnncore.mse_loss(layer(x)[0], np.ones((9, 2, 5))))
    assert set(found["l0"].saturation) == {"r", "z", "n"}
