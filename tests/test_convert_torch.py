"""PyTorch in and out: to the bit of the weights, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import mutated, refused_or_read

import rnncore
from rnncore import convert
from rnncore.convert import ConversionError, torch_in

torch = pytest.importorskip("torch", reason="converts models of PyTorch: pip install torch")
nn = torch.nn


def same_bits(state: dict[str, np.ndarray], other: Any) -> None:
    theirs = {name: tensor.detach().numpy() for name, tensor in other.items()}
    assert list(state) == list(theirs)
    for name, array in state.items():
        assert array.tobytes() == theirs[name].tobytes(), name


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "RNN relu"])
def test_modules_there_and_back(
    kind: str, layers: int, bias: bool, bidirectional: bool, batch_first: bool
) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"nonlinearity": "relu"} if kind == "RNN relu" else {}
    module = getattr(nn, kind.split()[0])(
        3, 5, layers, bias=bias, bidirectional=bidirectional, batch_first=batch_first, **options
    )
    found = convert.from_torch(module)
    assert found.proof.proven and found.proof.difference < 1e-12 and found.proof.inputs == 5
    assert "proven: largest difference" in str(found) and "torch" in str(found)
    same_bits(found.model.state_dict(), module.state_dict())
    back = convert.to_torch(found.model)
    same_bits(found.model.state_dict(), back.state_dict())
    assert type(back) is type(module) and repr(back) == repr(module)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(kind: str) -> None:
    cell = getattr(nn, kind)(3, 5).double()
    found = convert.from_torch(cell)
    assert found.model.dtype == np.float64
    rng = np.random.default_rng(0)
    x, h = rng.standard_normal((1, 2, 3)), rng.standard_normal((1, 2, 5))
    state = (h, 0.5 * h) if kind == "LSTMCell" else h
    given = tuple(torch.tensor(one[0]) for one in (state if kind == "LSTMCell" else (h,)))
    expected = cell(torch.tensor(x[0]), given if kind == "LSTMCell" else given[0])
    expected = expected[0] if kind == "LSTMCell" else expected
    np.testing.assert_allclose(found.model(x, state)[0][0], expected.detach(), atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    module = nn.GRU(3, 5).to(getattr(torch, dtype))
    wide = "float64" if dtype == "float64" else "float32"
    exact = {name: one.to(getattr(torch, wide)) for name, one in module.state_dict().items()}
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    torch.save(module.state_dict(), tmp_path / "a.pt")
    for source in (module, module.state_dict(), tmp_path / "a.safetensors", tmp_path / "a.pt"):
        found = convert.from_torch(source)
        assert found.model.dtype == wide
        same_bits(found.model.state_dict(), exact)


def test_a_sequential_and_a_model_by_prefixes(tmp_path: Path) -> None:
    class Amp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rec, self.lin = nn.LSTM(1, 6, batch_first=True), nn.Linear(6, 1)

    amp = Amp()
    with pytest.raises(ConversionError, match=r"got Amp of .*; say which part by prefix: 'rec'"):
        convert.from_torch(amp)
    with pytest.raises(ConversionError, match=r"one of \['rec.'\], got ''"):
        convert.from_torch(amp.state_dict())
    with pytest.raises(ConversionError, match=r"one of \['rec.'\], got 'body'"):
        convert.from_torch(amp.state_dict(), "body")
    with pytest.raises(ConversionError, match=r"one of \['rec', 'lin'\], got 'body'"):
        convert.from_torch(amp, "body")
    x = np.random.default_rng(0).standard_normal((2, 9, 1)).astype(np.float32)
    expected = amp.lin(amp.rec(torch.tensor(x))[0]).detach().numpy()
    torch.save({"epoch": 3, "state_dict": amp.state_dict()}, tmp_path / "amp.ckpt")
    for source in (amp, amp.state_dict(), tmp_path / "amp.ckpt"):
        found = convert.from_torch(source, ["rec", "lin."], batch_first=True)
        np.testing.assert_allclose(found.model(x), expected, atol=1e-6)
    back = convert.to_torch(found.model)
    np.testing.assert_allclose(back(torch.tensor(x)).detach(), expected, atol=1e-6)
    assert convert.from_torch(amp.state_dict(), "rec").model.batch_first is False

    net = nn.Sequential(
        nn.Embedding(11, 4), nn.Dropout(0.5), nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3),
        nn.Tanh(), nn.Linear(3, 2, bias=False), nn.Softmax(-1),
    )  # fmt: skip
    found = convert.from_torch(net)
    assert found.proof.difference < 1e-12
    assert convert.to_torch(found.model)(torch.tensor([[1, 2]])).shape == (1, 2, 2)


def test_a_weight_alone_is_told_by_what_is_around_it() -> None:
    table, linear, gru = nn.Embedding(9, 4), nn.Linear(9, 4, bias=False), nn.GRU(4, 6)
    state = {f"{name}.{key}": value for name, part in (("t", table), ("l", linear), ("r", gru),
             ("o", nn.Linear(6, 2, bias=False)), ("s", nn.Embedding(4, 4)))
             for key, value in part.state_dict().items()}  # fmt: skip
    kinds = [type(part).__name__ for part in (
        *convert.from_torch(state, ["t", "r", "o"]).model._children.values(),
        *convert.from_torch(state, ["l", "r"]).model._children.values(),
    )]  # fmt: skip
    assert kinds == ["Embedding", "GRU", "Linear", "Linear", "GRU"]
    for prefix in ("t", ["s", "r"], ["o", "r"]):
        with pytest.raises(ConversionError, match="may be an Embedding or a Linear without bias"):
            convert.from_torch(state, prefix)


def test_what_stands_between_layers_goes_out_and_learns() -> None:
    gru = rnncore.GRU(2, 4, bidirectional=True, batch_first=True, seed=0)
    net = rnncore.Sequential(
        convert.Skip(rnncore.Sequential(rnncore.Linear(2, 2, seed=1)), 2), convert.FinalState(gru),
        rnncore.Linear(8, 3, seed=2), convert.Activation("tanh"),
    )  # fmt: skip
    module = convert.to_torch(net)
    x = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(module(torch.tensor(x)).detach(), net(x), atol=1e-6)
    with rnncore.Tape(net) as tape:
        loss = rnncore.mse_loss(net(x), np.zeros((3, 3), np.float32))
    tape.backward(loss)
    torch.nn.functional.mse_loss(module(torch.tensor(x)), torch.zeros(3, 3)).backward()
    theirs = dict(module.named_parameters())["1.layer.weight_hh_l0"].grad.numpy()
    np.testing.assert_allclose(net.grads["1.layer.weight_hh_l0"], theirs, atol=1e-6)
    swapped = rnncore.Sequential(convert.Swap(), rnncore.GRU(2, 1, seed=0), convert.Swap())
    assert convert.to_torch(swapped)(torch.zeros(4, 5, 2)).shape == (4, 5, 1)
    one = rnncore.Sequential(rnncore.GRU(2, 1, seed=0), convert.Squeeze())
    assert convert.to_torch(one)(torch.zeros(4, 5, 2)).shape == (4, 5)


def test_activations_between_layers() -> None:
    ends = [
        nn.LeakyReLU(0.3), nn.ELU(0.5), nn.Hardsigmoid(), nn.Hardtanh(), nn.Softplus(),
        nn.Softsign(), nn.ReLU(),
    ]  # fmt: skip
    net = nn.Sequential(nn.Linear(3, 4), *ends)
    found = convert.from_torch(net)
    assert found.proof.difference < 1e-8  # softplus is a line above 20 in PyTorch
    assert repr(convert.to_torch(found.model)[1:]) == repr(net[1:]).replace("Sequential", "Outputs")
    for refused in (nn.Hardtanh(-2.0, 2.0), nn.Softplus(beta=2.0)):
        with pytest.raises(ConversionError, match="expected the usual"):
            convert.from_torch(nn.Sequential(nn.Linear(3, 4), refused))
    for name in ("thresholded_relu", "hard_sigmoid(0.2, 0.5)"):
        model = rnncore.Sequential(rnncore.Linear(3, 4), convert.Activation(name))
        with pytest.raises(ConversionError, match="expected an activation that PyTorch has"):
            convert.to_torch(model)


@pytest.mark.parametrize("name", ["leaky_relu(0.3)", "elu", "softplus", "hard_sigmoid(0.2, 0.5)"])
def test_activations_learn(name: str) -> None:
    net = rnncore.Sequential(
        rnncore.Linear(3, 4, dtype="float64", seed=0), convert.Activation(name, dtype="float64")
    )
    x = np.random.default_rng(0).standard_normal((5, 3))
    with rnncore.Tape(net) as tape:
        loss = rnncore.mse_loss(net(x), np.zeros((5, 4)))
    tape.backward(loss)
    place, eps, losses = (1, 2), 1e-6, []
    for step in (eps, -2 * eps):
        with net.writable_params() as params:
            params["0.weight"][place] += step
        losses.append((net(x) ** 2).mean())
    slope = (losses[0] - losses[1]) / (2 * eps)
    np.testing.assert_allclose(net.grads["0.weight"][place], slope, rtol=1e-6)


def test_what_is_refused() -> None:
    def refuse(match: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(ConversionError, match=match):
            convert.from_torch(*arguments, **options)

    refuse("weight_hr .proj_size.; rnncore's LSTM has no", nn.LSTM(3, 5, proj_size=2))
    refuse("tanh.*relu.*does not say, got None", nn.RNN(3, 5).state_dict())
    assert convert.from_torch(nn.RNN(3, 5).state_dict(), nonlinearity="tanh").proof.proven
    state = nn.LSTM(3, 5, 2).state_dict()
    refuse("of layer 0, got nothing", {k: v for k, v in state.items() if "l0" not in k})
    refuse("bias_hh of layer 1, got", {k: v for k, v in state.items() if k != "bias_hh_l1"})
    refuse("name the part by prefix", {**state, "head.weight": torch.zeros(3)})
    refuse("expected W of shape", {**state, "weight_ih_l1": torch.zeros(20, 4)})
    refuse("4 gates .LSTM., 3 .GRU. or 1 .RNN., got 2", {
        "weight_ih_l0": torch.zeros(10, 3), "weight_hh_l0": torch.zeros(10, 5),
    })  # fmt: skip
    refuse("finite numbers", {k: v * np.nan for k, v in state.items()})
    refuse("expected floating-point", {k: v.int() for k, v in state.items()})
    refuse("a PyTorch module, a state dict, or the path", 7)
    refuse("of device 'meta'", nn.GRU(3, 4, device="meta"))
    refuse("of torch.jit", torch.jit.script(nn.GRU(3, 4)))
    refuse("max_norm=None", nn.Embedding(3, 4, max_norm=1.0))
    refuse("recurrent part", nn.Conv1d(1, 2, 3))
    with pytest.raises(FileNotFoundError):
        convert.from_torch("gone.pt")
    for layer in (
        rnncore.RNN(3, 4, nonlinearity="sigmoid"), rnncore.GRU(3, 4, learn_initial_state=True),
        rnncore.GRU(3, [4, 5]), rnncore.Recurrent("gru", 3, 4), rnncore.LSTM(3, 4, zoneout=0.1),
    ):  # fmt: skip
        with pytest.raises(ConversionError, match=r"that torch\.nn has, got"):
            convert.to_torch(layer)


def test_a_proof_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(arrays: dict[str, np.ndarray]) -> Any:
        direction = right(arrays)
        direction.W = np.roll(direction.W, 5, 0)
        return direction

    right = torch_in._direction
    monkeypatch.setattr(torch_in, "_direction", swapped)
    with pytest.raises(ConversionError, match=r"the numbers of torch .*, got a diff"):
        convert.from_torch(nn.LSTM(3, 5))
    assert convert.from_torch(nn.LSTM(3, 5), prove=False).proof.why == "prove=False"


def test_a_model_that_doubles_its_rounding_is_proven_by_short_inputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(arrays: dict[str, np.ndarray]) -> Any:
        direction = right(arrays)
        direction.R = direction.R.T
        return direction

    torch.manual_seed(0)
    chaotic = nn.RNN(3, 64)
    nn.init.normal_(chaotic.weight_hh_l0, std=2.5 / 8)
    found = convert.from_torch(chaotic)
    assert found.proof.proven and found.proof.inputs == 4 and found.proof.difference < 1e-9
    assert convert.to_torch(found.model) is not None
    right = torch_in._direction
    monkeypatch.setattr(torch_in, "_direction", wrong)
    with pytest.raises(ConversionError, match="the numbers of torch"):
        convert.from_torch(chaotic)


def test_without_torch_a_state_dict_is_unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    state = rnncore.LSTM(3, 5, seed=0).state_dict()
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    found = convert.from_torch(state)
    assert not found.proof.proven and "unproven: torch is not installed" in str(found)
    with pytest.raises(ConversionError, match=r"torch: expected it to be installed .*pip install"):
        convert.to_torch(found.model)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weight_ih_l0": Bad()}, tmp_path / "bad.pt")
    torch.save(nn.LSTM(3, 4), tmp_path / "module.pt")
    torch.jit.script(nn.GRU(3, 4)).save(tmp_path / "script.pt")
    with pytest.raises(ConversionError, match=r"TorchScript.* torch\.jit\.load"):
        convert.load(tmp_path / "script.pt")
    for name in ("bad.pt", "module.pt"):
        with pytest.raises(ConversionError, match="damaged or of another"):
            convert.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files(suffix: str, tmp_path: Path) -> None:
    from safetensors.torch import save

    state = nn.LSTM(2, 3).state_dict()
    held = io.BytesIO()
    torch.save(state, held)
    content = held.getvalue() if suffix == ".pt" else save(state)
    path = tmp_path / f"a{suffix}"
    refused, fine = refused_or_read(
        lambda path: convert.load(path, prove=False), path, mutated(content, 500)
    )
    assert refused > 200 and refused + fine == 500
