"""The layers of `rnncore.torch` against those of `torch.nn`."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import pickle
import re
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import python

import rnncore

torch = pytest.importorskip("torch", reason="layers of PyTorch: pip install torch")

import rnncore.torch as ours  # noqa: E402
from rnncore.torch import operators  # noqa: E402

ROOT = Path(__file__).parents[1]
rnn = torch.nn.utils.rnn
KINDS = ("LSTM", "GRU", "RNN", "RNN relu")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads(), rnncore.get_num_threads()
    torch.set_num_threads(1)
    rnncore.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    rnncore.set_num_threads(before[1])


def pair(kind: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    """Return PyTorch's layer and ours, both made from one seed."""
    if kind == "RNN relu":
        kind, options = "RNN", {"nonlinearity": "relu", **options}
    options = {"dtype": torch.float64, **options}
    made = []
    for package in (torch.nn, ours):
        torch.manual_seed(0)
        made.append(getattr(package, kind)(*sizes, **options))
    theirs, mine = made
    assert [*theirs.state_dict()] == [*mine.state_dict()]
    assert all(map(torch.equal, theirs.parameters(), mine.parameters()))
    return theirs, mine


def results(module: Any, given: Any, hx: Any, lengths: Any = None) -> list[Any]:
    """Return output, final states and the gradients of everything."""
    module.zero_grad()
    variables = [one.clone().requires_grad_() for one in (given, *(hx or ()))]
    x, *states = variables
    if lengths is not None:
        x = rnn.pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=False)
    torch.manual_seed(1)  # masks of dropout
    state = None if not states else tuple(states) if len(states) == 2 else states[0]
    y, final = module(x, state)
    out = [y.data if lengths is not None else y, *(final if len(states) == 2 else [])]
    if not isinstance(final, tuple):
        out.append(final)
    torch.manual_seed(2)
    sum((one * torch.randn_like(one)).sum() for one in out).backward()
    gradients = [one.grad for one in (*variables, *module.parameters())]
    return [one.detach() for one in out] + gradients


def assert_close(one: list[Any], other: list[Any], tolerance: float) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.shape == right.shape and left.dtype == right.dtype
        assert (left - right).abs().max() <= tolerance * right.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients(
    kind: str, layers: int, bidirectional: bool, bias: bool, dtype: Any
) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for batch_first, T, B, H in ((False, 5, 3, 7), (True, 5, 3, 16), (True, 1, 1, 4)):
        theirs, mine = pair(
            kind, 3, H, num_layers=layers, bias=bias, batch_first=batch_first,
            bidirectional=bidirectional, dropout=0.4 if layers > 1 else 0.0, dtype=dtype,
        )  # fmt: skip
        x = torch.randn((B, T, 3) if batch_first else (T, B, 3), dtype=dtype)
        count = 2 if kind == "LSTM" else 1
        states = [torch.randn(layers * (1 + bidirectional), B, H, dtype=dtype)] * count
        lengths = torch.tensor([2, 5, 1])[:B].clamp(max=T)
        alone = x[0] if batch_first else x[:, 0]
        for given, hx, steps in (
            (x, states, None), (x, None, None), (x, states, lengths), (x, states, lengths * 0 + T),
            (alone, [state[:, 0] for state in states], None),
        ):  # fmt: skip
            expected = results(theirs, given, hx, steps)
            assert_close(results(mine, given, hx, steps), expected, tolerance)
        theirs.eval()
        mine.eval()
        with torch.no_grad():
            for _ in range(3):
                assert_close([mine(x)[0]], [theirs(x)[0]], tolerance)
            packed = rnn.pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
            assert_close([mine(packed)[0].data], [theirs(packed)[0].data], tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_and_opcheck(kind: str) -> None:
    _, mine = pair(kind, 2, 3, num_layers=2, bidirectional=True)
    weights = [one.detach().clone().requires_grad_() for one in mine.parameters()]
    names = [name for name, _ in mine.named_parameters()]
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    h = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    c = h.detach().clone().requires_grad_() if kind == "LSTM" else None

    def run(x: Any, h: Any, *rest: Any) -> Any:
        if kind != "LSTM":
            return torch.func.functional_call(mine, dict(zip(names, rest, strict=True)), (x, h))
        c, *rest = rest
        state = dict(zip(names, rest, strict=True))
        y, (h_n, c_n) = torch.func.functional_call(mine, state, (x, (h, c)))
        return y, h_n, c_n

    assert torch.autograd.gradcheck(run, (x, h, *([c] if c is not None else []), *weights))
    form = mine.mode, 2, True, True
    rows = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    for given, sizes in ((x, None), (rows, torch.tensor([2, 2, 1]))):
        done = torch.library.opcheck(
            torch.ops.rnncore.recurrent.default, (given, h, c, sizes, weights, [], *form)
        )
        assert set(done.values()) == {"SUCCESS"}


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_curves_of_training_are_the_same(kind: str, optimizer: str) -> None:
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    target = 0.5 * torch.randn(6, 3, 5, dtype=torch.float64)
    curves = []
    for layer in pair(kind, 4, 5):
        step = getattr(torch.optim, optimizer)(layer.parameters(), lr=0.02)
        curve = []
        for _ in range(200):
            step.zero_grad()
            loss = ((layer(x)[0] - target) ** 2).mean()
            loss.backward()
            step.step()
            curve.append(loss.item())
        curves.append(torch.tensor(curve))
    assert curves[0][-1] < 0.98 * curves[0][0]
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-8, atol=0)


def test_no_change_of_weights_goes_unseen() -> None:
    theirs, mine = pair("RNN", 4, 4)
    x = torch.randn(3, 2, 4, dtype=torch.float64)

    def change_data(layer: Any) -> None:
        layer.weight_hh_l0.data[3, 1] = 0.5

    def change_numpy(layer: Any) -> None:
        layer.weight_hh_l0.detach().numpy()[2, 3] = 0.7

    def change_in_place(layer: Any) -> None:
        with torch.no_grad():
            layer.bias_hh_l0.add_(1)

    def replace(layer: Any) -> None:
        layer.weight_ih_l0.data = layer.weight_ih_l0.data * 2

    def transpose(layer: Any) -> None:  # the same memory and count, other numbers
        layer.weight_hh_l0.data = layer.weight_hh_l0.data.t()

    def load(layer: Any) -> None:
        layer.load_state_dict({k: v * 0.9 for k, v in layer.state_dict().items()})

    changes = (change_data, change_numpy, change_in_place, replace, transpose, change_data, load)
    for change in changes:
        for rounds in (1, 2, 4):  # packed, copied, compared
            change(theirs)
            change(mine)
            for _ in range(rounds):
                with torch.no_grad():
                    assert_close([mine(x)[0]], [theirs(x)[0]], 1e-12)
            assert_close(results(mine, x, None), results(theirs, x, None), 1e-12)


def test_passes_serve_again_and_let_go() -> None:
    _, layer = pair("LSTM", 3, 4, num_layers=2)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)

    def gradients(run: Any) -> list[Any]:
        layer.zero_grad()
        x.grad = None
        run()
        return [x.grad, *(one.grad for one in layer.parameters())]

    expected = gradients(lambda: layer(x)[0].square().sum().backward())
    gc.collect()
    assert not operators._tickets
    loss = layer(x)[0].square().sum()
    assert len(operators._tickets) == 1
    for _ in range(3):  # the second and third run the pass again
        again = gradients(lambda loss=loss: loss.backward(retain_graph=True))
        assert all(map(torch.equal, again, expected))
    del loss
    assert not operators._tickets

    first, second = layer(x)[0], layer(2 * x)[0]  # several passes before their backward
    gradients(lambda: second.sum().backward())
    assert all(map(torch.equal, gradients(lambda: first.square().sum().backward()), expected))

    checkpoint = torch.utils.checkpoint.checkpoint
    for reentrant in (False, True):
        y = checkpoint(lambda x: layer(x)[0], x, use_reentrant=reentrant)
        assert reentrant or not operators._tickets
        assert all(map(torch.equal, gradients(lambda y=y: y.square().sum().backward()), expected))
    with torch.autograd.graph.save_on_cpu():  # copies what is kept, tickets too
        y = layer(x)[0]
    assert all(map(torch.equal, gradients(lambda: y.square().sum().backward()), expected))


def test_frozen_parameters() -> None:
    theirs, mine = pair("GRU", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for layer in (theirs, mine):
        layer.weight_ih_l0.requires_grad_(False)
        layer(x)[0].sum().backward()
        assert layer.weight_ih_l0.grad is None
    assert_close([mine.weight_hh_l0.grad], [theirs.weight_hh_l0.grad], 1e-12)
    mine.requires_grad_(False)
    assert not mine(x)[0].requires_grad


def test_copies_and_files() -> None:
    theirs, mine = pair("LSTM", 3, 4, bidirectional=True)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    expected = theirs(x)[0]
    file = io.BytesIO()
    torch.save(mine.state_dict(), file)
    file.seek(0)
    loaded = torch.nn.LSTM(3, 4, bidirectional=True, dtype=torch.float64)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    found = ours.from_torch(loaded)
    assert found.weight_hh_l0 is loaded.weight_hh_l0
    for layer in (found, copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert_close([layer(x)[0]], [expected], 1e-12)
    assert_close([mine.float()(x.float())[0]], [expected.float()], 1e-5)


def test_a_model_is_converted_in_place() -> None:
    model = torch.nn.Sequential(torch.nn.GRU(3, 4, batch_first=True)).eval()
    x = torch.randn(2, 5, 3)
    before, optimizer = model(x)[0], torch.optim.SGD(model.parameters(), lr=0.1)
    assert ours.from_torch(model) is model and type(model[0]) is ours.GRU
    assert not model[0].training
    assert_close([model(x)[0]], [before], 1e-5)
    model(x)[0].sum().backward()
    optimizer.step()
    assert (model(x)[0] - before).abs().max() > 1e-3


def test_two_threads() -> None:
    _, layer = pair("LSTM", 3, 8)
    xs = [torch.randn(20, 2, 3, dtype=torch.float64) for _ in range(2)]
    expected = [torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)[0] for x in xs]
    wrong = []

    def work(k: int) -> None:
        for _ in range(100):
            found = torch.autograd.grad(layer(xs[k])[0].sum(), layer.weight_hh_l0)[0]
            if not torch.equal(found, expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


LENT = """
import os
import numpy as np, torch
import rnncore, rnncore.torch
from rnncore.torch.lending import addresses
print(addresses() is not None)
rnncore.engine.threads.share_always(True)
rnncore.set_num_threads(2)
torch.set_num_threads(2)
count = lambda: len(os.listdir("/proc/self/task"))

def train():
    layer.zero_grad()
    y, _ = layer(x)
    y.square().mean().backward()
    return [y.detach().numpy().copy(), *(w.grad.numpy().copy() for w in layer.parameters())]

torch.manual_seed(0)
layer, x = rnncore.torch.LSTM(64, 64), torch.randn(40, 16, 64)
(x.repeat(100, 1, 1) @ torch.randn(64, 64)).sum()      # PyTorch begins its threads
before = count()
two = train()
print(count() - before)                                # none of the engine's own
torch.set_num_threads(1)
print(all((a == b).all() for a, b in zip(two, train())))
torch.set_num_threads(2)
if os.fork() == 0:                                     # where PyTorch's threads are gone
    with torch.no_grad():
        os._exit(0 if (layer(x)[0].numpy() == two[0]).all() else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
before = count()
rnncore.LSTM(64, 64)(x.numpy())
print(count() - before)                                # outside of PyTorch the engine has its own
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_passes_run_on_threads_of_pytorch() -> None:
    lent, grown, same, child, own = python(LENT, RNNCORE_NUM_THREADS="2").split()
    if lent == "False":
        pytest.skip("this PyTorch does not run on OpenMP")
    assert (grown, same, child, own) == ("0", "True", "0", "1")


def test_compile_takes_it_as_one_node() -> None:
    _, layer = pair("LSTM", 3, 4, num_layers=2, bidirectional=True)
    x, graphs = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True), []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    compiled = torch.compile(lambda x: 2 * layer(x)[0], fullgraph=True, backend=backend)
    for _ in range(2):
        y = compiled(x)
        given = (x, *layer.parameters())
        found = torch.autograd.grad(y.square().sum(), given)
        expected = torch.autograd.grad((2 * layer(x)[0]).square().sum(), given)
        assert all(map(torch.equal, found, expected))
        with torch.no_grad():
            layer.weight_hh_l0.mul_(0.5)
    [graph] = graphs
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert sum("rnncore" in name for name in names) == 1


OPTIONS: dict[str, Any] = {
    "num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.3, "bidirectional": True,
    "device": "meta", "dtype": torch.float64,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_every_option_of_torch_nn_is_there(kind: str) -> None:
    theirs, mine = getattr(torch.nn, kind), getattr(ours, kind)
    named = {name for one in typing.get_overloads(theirs.__init__)
             for name in inspect.signature(one).parameters}  # fmt: skip
    assert "dropout" in named
    assert named - {"args", "kwargs"} <= set(inspect.signature(mine.__init__).parameters)
    options = OPTIONS | ({"nonlinearity": "relu"} if kind == "RNN" else {})
    right, found = theirs(3, 4, **options), mine(3, 4, **options)
    assert repr(right) == repr(found)
    for name, parameter in right.named_parameters():
        other = found.get_parameter(name)
        assert (other.shape, other.dtype, other.device) == (
            parameter.shape, parameter.dtype, parameter.device)  # fmt: skip
    nonlinearity = ["relu"] if kind == "RNN" else []
    values = [options[name] for name in ("bias", "batch_first", "dropout", "bidirectional")]
    places = [2, *nonlinearity, *values, 0, "cpu", torch.float64]  # all of them by their places
    assert repr(theirs(3, 4, *places)) == repr(mine(3, 4, *places))


REFUSED = [
    (lambda: ours.LSTM(3, 4, proj_size=2), ValueError, "proj_size: .* expected 0, got 2"),
    (lambda: ours.GRU(3, 4, device="cuda"), ValueError, "device: .* expected the CPU, got 'cuda'"),
    (lambda: ours.GRU(3, 4, dtype=torch.float16), ValueError, "dtype: .* got torch.float16"),
    (lambda: ours.RNN(3, 4, nonlinearity="elu"), ValueError, "nonlinearity: .*'elu'"),
    (lambda: ours.RNN(3, 4)(torch.ones(3)), ValueError, "input: .* got 1D"),
    (lambda: ours.RNN(3, 4)(torch.ones(2, 1, 5)), RuntimeError, "Expected 3, got 5"),
    (lambda: ours.RNN(3, 4)(torch.ones(0, 1, 3)), RuntimeError, "larger than 0"),
    (lambda: ours.RNN(3, 4)(torch.ones(2, 1, 3).double()), ValueError, "expected torch.float32"),
    (lambda: ours.RNN(3, 4).half()(torch.ones(2, 1, 3).half()), TypeError, "got torch.float16"),
    (lambda: ours.RNN(3, 4)(torch.ones(2, 1, 3), torch.ones(1, 2, 4)), RuntimeError, "hx: .*size"),
    (lambda: ours.LSTM(3, 4)(torch.ones(2, 1, 3), torch.ones(1)), TypeError, "hx: .* tuple"),
    (lambda: ours.RNN(3, 4)(rnn.PackedSequence(torch.ones(4, 3), torch.tensor([1, 2]))),
     ValueError, "pack_padded_sequence"),
    (lambda: ours.from_torch(torch.nn.LSTM(3, 4, proj_size=2)), ValueError, "proj_size"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED)
def test_refusals(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_what_has_no_gradient_is_refused_in_words() -> None:
    _, layer = pair("LSTM", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="a gradient of a gradient"):
        dx.sum().backward()
    with pytest.raises(RuntimeError, match=r"torch\.func"):
        torch.func.vmap(lambda x: layer(x)[0])(x[None].detach())
    y = layer(x)[0]
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_the_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs/torch.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) > 3
    (tmp_path / "page.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("library", "example"), [("skorch", "torch_skorch.py"),
                                                  ("lightning", "torch_lightning.py")])  # fmt: skip
def test_examples(library: str, example: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    command = [sys.executable, str(ROOT / "examples" / example), "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
