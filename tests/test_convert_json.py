"""RTNeural's, GuitarML's and Neural Amp Modeler's files, and plain arrays, against NumPy loops."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from mutations import mutated_json, refused_or_read

import rnncore
from rnncore import convert
from rnncore.cli.main import main
from rnncore.convert import ConversionError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((9, 2))


def draw(*shape: int) -> Any:
    return (RNG.standard_normal(shape) * 0.7).astype(np.float32).tolist()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(x: np.ndarray, kernel: Any, recurrent: Any, bias: Any, order: str = "ifgo",
         state: Any = None) -> np.ndarray:  # fmt: skip
    """Return h of every step; kernels (I, 4 H) and (H, 4 H), blocks of gates in this order."""
    W, R, b = (np.array(one, np.float64) for one in (kernel, recurrent, bias))
    h, c = np.zeros((2, len(R))) if state is None else state
    out = []
    for x_t in x:
        z = dict(zip(order, np.split(x_t @ W + h @ R + b, 4), strict=True))
        c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"])
        h = sigmoid(z["o"]) * np.tanh(c)
        out.append(h)
    return np.array(out)


def gru(
    x: np.ndarray, kernel: Any, recurrent: Any, bias: Any, reset_after: bool = True
) -> np.ndarray:
    """Return h of every step; kernels (I, 3 H) and (H, 3 H), bias (2, 3 H), gates z, r, n."""
    W, R, (b, d) = (np.array(one, np.float64) for one in (kernel, recurrent, bias))
    h, out = np.zeros(len(R)), []
    for x_t in x:
        (xz, xr, xn), (hz, hr, hn) = np.split(x_t @ W + b, 3), np.split(h @ R + d, 3)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        hn = r * hn if reset_after else (r * h) @ R[:, -len(h) :] + d[-len(h) :]
        h = z * h + (1 - z) * np.tanh(xn + hn)
        out.append(h)
    return np.array(out)


def rtneural() -> dict[str, Any]:
    def layer(kind: str, size: int, weights: Any, activation: str = "") -> dict[str, Any]:
        shape = [None, None, size]
        return {"type": kind, "activation": activation, "shape": shape, "weights": weights}

    layers = [
        layer("dense", 3, [draw(2, 3), draw(3)], "tanh"),
        layer("lstm", 4, [draw(3, 16), draw(4, 16), draw(16)], "tanh"),
        layer("gru", 5, [draw(4, 15), draw(5, 15), draw(2, 15)]),
        layer("time-distributed-dense", 1, [draw(5, 1), draw(1)]),
        layer("activation", 1, [], "relu"),
    ]
    return {"in_shape": [None, None, 2], "layers": layers}


def run(model: Any, x: np.ndarray = X) -> np.ndarray:
    y = model(x[:, None].astype(np.float32))
    return np.asarray(y[0] if isinstance(y, tuple) else y)[:, 0]


def test_rtneural_in_and_out(tmp_path: Path) -> None:
    held = rtneural()
    found = convert.from_rtneural(held)
    W = [[np.array(one) for one in layer["weights"]] for layer in held["layers"]]
    y = gru(lstm(np.tanh(X @ W[0][0] + W[0][1]), *W[1]), *W[2])
    np.testing.assert_allclose(run(found.model), np.maximum(y @ W[3][0] + W[3][1], 0), atol=1e-6)
    assert not found.proof.proven and "unproven" in str(found)
    x_file, y_file = tmp_path / "x.csv", tmp_path / "y.npy"
    y = np.maximum(y @ W[3][0] + W[3][1], 0)
    np.savetxt(x_file, X, delimiter=",")
    np.save(y_file, y)
    for test in ((x_file, y_file), (X, y), (X[:, None], y[:, None])):
        assert convert.from_rtneural(held, test=test).proof.difference < 1e-6
    with pytest.raises(ConversionError, match="test: expected what the source computed"):
        convert.from_rtneural(held, test=(X, y + 1))
    path = tmp_path / "model.json"
    convert.write(path, found.model)
    with pytest.raises(ConversionError, match="test: y: expected a whole file"):
        convert.from_rtneural(held, test=(x_file, path))
    said = CliRunner().invoke(main, ["convert", str(path), "--test", str(x_file), str(y_file)])
    assert said.exit_code == 0 and "proven: largest difference" in said.output
    again = convert.load(path).model
    for name, array in found.model.state_dict().items():
        assert again.state_dict()[name].tobytes() == array.tobytes(), name


def test_rtneural_refuses_what_it_has_not() -> None:
    for model in (
        rnncore.LSTM(2, 3, bidirectional=True), rnncore.RNN(2, 3), rnncore.Embedding(3, 2),
        rnncore.GRU(2, 3, reset_after=False),
    ):  # fmt: skip
        with pytest.raises(ConversionError, match="model: expected"):
            convert.to_rtneural(model)
    held = rtneural()
    held["layers"][1]["activation"] = "sigmoid"
    with pytest.raises(ConversionError, match="layer 1: expected the activation tanh"):
        convert.from_rtneural(held)
    held = rtneural()
    held["layers"][2]["weights"][0] = draw(3, 15)
    with pytest.raises(ConversionError, match="layer 2"):
        convert.from_rtneural(held)


def nam() -> dict[str, Any]:
    config = {"input_size": 1, "hidden_size": 3, "num_layers": 2}
    sizes = (12 * 4 + 12 + 6, 12 * 6 + 12 + 6, 3 + 1)
    weights = [number for size in sizes for number in draw(size)]
    return {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": weights}


def test_neural_amp_modeler(tmp_path: Path) -> None:
    held = nam()
    flat, x, y = np.array(held["weights"]), X[:, :1], X[:, :1]
    for width in (1, 3):
        matrix, bias, h, c, flat = np.split(
            flat, np.cumsum([12 * (width + 3), 12, 3, 3])
        )  # fmt: skip
        both = matrix.reshape(12, width + 3).T
        y = lstm(y, both[:width], both[width:], bias, state=(h, c))
    path = tmp_path / "amp.nam"
    path.write_text(json.dumps(held))
    found = convert.load(path)
    np.testing.assert_allclose(run(found.model, x), y @ flat[:3, None] + flat[3], atol=1e-6)
    test = (x, y @ flat[:3, None] + flat[3])
    assert convert.load(path, test=test).proof.against == "the test vectors"
    held["architecture"] = "WaveNet"
    with pytest.raises(ConversionError, match="expected the architecture 'LSTM', got 'WaveNet'"):
        convert.from_nam(held)
    with pytest.raises(ConversionError, match="expected 160 weights, got 159"):
        convert.from_nam({**nam(), "weights": nam()["weights"][:-1]})


def test_neural_amp_modelers_own_engine() -> None:
    pytest.importorskip("nam.models.recurrent", exc_type=ImportError,
                        reason="plays such files: pip install neural-amp-modeler")  # fmt: skip
    found = convert.from_nam(nam())
    assert found.proof.against.startswith("nam") and found.proof.difference < 1e-5


def guitarml(skip: int = 1) -> dict[str, Any]:
    state = {"rec.weight_ih_l0": draw(16, 2), "rec.weight_hh_l0": draw(16, 4),
             "rec.bias_ih_l0": draw(16), "rec.bias_hh_l0": draw(16),
             "lin.weight": draw(1, 4), "lin.bias": draw(1)}  # fmt: skip
    about = {"model": "SimpleRNN", "input_size": 2, "skip": skip, "output_size": 1,
             "unit_type": "LSTM", "num_layers": 1, "hidden_size": 4, "bias_fl": True}  # fmt: skip
    return {"model_data": about, "state_dict": state}


@pytest.mark.parametrize("skip", [0, 1])
def test_guitarml(skip: int, tmp_path: Path) -> None:
    held = guitarml(skip)
    state = {name: np.array(value) for name, value in held["state_dict"].items()}
    bias = state["rec.bias_ih_l0"] + state["rec.bias_hh_l0"]
    h = lstm(X, state["rec.weight_ih_l0"].T, state["rec.weight_hh_l0"].T, bias)
    y = h @ state["lin.weight"].T + state["lin.bias"] + skip * X[:, :1]
    path = tmp_path / "pedal.json"
    path.write_text(json.dumps(held))
    found = convert.load(path, prove=False)
    np.testing.assert_allclose(run(found.model), y, atol=1e-6)
    assert bool(found.notes) == bool(skip)
    saved = tmp_path / "pedal.safetensors"
    convert.write(saved, found.model)
    assert np.array_equal(run(convert.load(saved).model), run(found.model))
    for wrong in (2, True, None):
        with pytest.raises(ConversionError, match="expected skip 0 or 1"):
            convert.from_guitarml(guitarml(wrong), prove=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("gates", ["ifgo", "ifog", "igfo", "onnx", "keras", "dynet"])
@pytest.mark.parametrize("transposed", [False, True])
def test_arrays_in_any_order_of_gates(gates: str, transposed: bool) -> None:
    order = {"onnx": "iofg", "keras": "ifgo", "dynet": "ifog"}.get(gates, gates)
    kernel, recurrent, bias = (np.array(draw(*shape)) for shape in ((2, 16), (4, 16), (16,)))
    y = lstm(X, kernel, recurrent, bias, order)
    arrays = {"a": kernel if transposed else kernel.T, "b": bias,
              "r": recurrent if transposed else recurrent.T}  # fmt: skip
    test = (X[:, None], y[:, None])
    found = convert.from_numpy(
        arrays, "a", "r", "b", gates=gates, transposed=transposed, test=test
    )
    np.testing.assert_allclose(run(found.model), y, atol=1e-6)
    assert found.proof.proven and found.proof.against == "the test vectors"
    with pytest.raises(ConversionError, match="the order of gates, the layout or the equations"):
        convert.from_numpy(arrays, "a", "r", "b", gates="gifo", transposed=transposed, test=test)


def test_arrays_with_other_activations() -> None:
    pytest.importorskip("llvmlite")
    arrays = {"W": np.array(draw(2, 16)), "R": np.array(draw(4, 16))}
    h, c, y = np.zeros(4), np.zeros(4), []
    for x_t in X:
        i, f, g, o = np.split(np.clip(x_t @ arrays["W"] + h @ arrays["R"], -0.4, 0.4), 4)
        i, f, o = (np.clip(0.2 * gate + 0.5, 0, 1) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * c / (1 + np.abs(c))
        y.append([h])
    options: Any = {"gates": "ifgo", "transposed": True, "clip": 0.4}
    functions = ("hard_sigmoid(0.2, 0.5)", "tanh", "softsign")
    found = convert.from_numpy(
        arrays, "W", "R", activations=functions, test=(X[:, None], np.array(y)), **options
    )
    assert found.proof.difference < 1e-6
    with pytest.raises(ConversionError, match="arrays: expected 3 activations of a LSTM, got tanh"):
        convert.from_numpy(arrays, "W", "R", activations=("tanh",), **options)
    with pytest.raises(ConversionError, match="activation: expected one of tanh"):
        convert.from_numpy({"W": np.ones((2, 4)), "R": np.ones((4, 4))}, "W", "R", gates="h",
                           transposed=True, nonlinearity="wave")  # fmt: skip


def test_arrays_of_a_gru_say_which_it_is(tmp_path: Path) -> None:
    kernel, recurrent, bias = draw(2, 15), draw(5, 15), draw(2, 15)
    arrays = {"W": np.array(kernel), "R": np.array(recurrent),
              "b": np.array(bias[0]), "d": np.array(bias[1])}  # fmt: skip
    with pytest.raises(ConversionError, match="reset_after: expected True or False"):
        convert.from_numpy(arrays, "W", "R", "b", "d", gates="zrn", transposed=True)
    y = gru(X, kernel, recurrent, bias)
    path = tmp_path / "gru.npz"
    np.savez(path, **arrays)
    found = convert.from_numpy(
        path, "W", "R", "b", "d", gates="zrn", transposed=True, reset_after=True
    )
    np.testing.assert_allclose(run(found.model), y, atol=1e-6)
    other = {name: array.copy() for name, array in arrays.items()}
    for array in other.values():
        array[..., :5] *= -1  # z weighs the new h
    turned = convert.from_numpy(
        other, "W", "R", "b", "d", gates="zrn", transposed=True, reset_after=True,
        inverted_update=True,
    )  # fmt: skip
    np.testing.assert_allclose(run(turned.model), y, atol=1e-6)
    before = convert.from_numpy(
        path, "W", "R", "b", "d", gates="zrn", transposed=True, reset_after=False
    )
    y = gru(X, kernel, recurrent, bias, reset_after=False)
    np.testing.assert_allclose(run(before.model), y, atol=1e-6)
    with pytest.raises(ConversionError, match="Q"):
        convert.from_numpy(arrays, "W", "Q", gates="zrn", transposed=True, reset_after=True)


def test_arrays_of_several_layers_and_directions() -> None:
    sizes = {"a": 2, "b": 2, "c": 8, "d": 8}  # two directions of two layers, by what they read
    arrays = {f"{name}{what}": np.array(draw(*shape)) for name, width in sizes.items()
              for what, shape in (("W", (width, 16)), ("R", (4, 16)), ("b", (16,)))}  # fmt: skip

    def both(x: np.ndarray, *names: str) -> np.ndarray:
        first, second = ([arrays[name + what] for what in "WRb"] for name in names)
        return np.hstack([lstm(x, *first, "igfo"), lstm(x[::-1], *second, "igfo")[::-1]])

    y = both(both(X, "a", "b"), "c", "d")
    named = [[[f"a{what}", f"b{what}"], [f"c{what}", f"d{what}"]] for what in "WRb"]
    found = convert.from_numpy(
        arrays, *named, gates="igfo", transposed=True, test=(X[:, None], y[:, None])
    )
    assert found.proof.proven and found.model.num_layers == 2 and found.model.bidirectional
    for wrong in ("aR", ["aR", "bR"], [["aR"], ["cR"]]):
        with pytest.raises(ConversionError, match="R: expected names like those of W"):
            convert.from_numpy(arrays, named[0], wrong, gates="igfo", transposed=True)


def test_onednn_has_a_fourth_bias() -> None:
    kernel, recurrent, (first, second) = draw(2, 15), draw(5, 15), draw(2, 15)
    second = np.array([0.0] * 10 + second[10:])
    y = gru(X, kernel, recurrent, np.array([first, second]))
    arrays = {"W": kernel, "R": recurrent, "b": np.concatenate([first, second[10:]])}
    found = convert.from_numpy(
        {name: np.array(one) for name, one in arrays.items()}, "W", "R", "b", gates="onednn",
        transposed=True, reset_after=True, test=(X[:, None], y[:, None]),
    )  # fmt: skip
    assert found.proof.proven


def test_paddles_matrix_is_two_in_memory() -> None:
    kernel, recurrent, bias = (np.array(draw(*shape)) for shape in ((2, 15), (5, 15), (15,)))
    h, out = np.zeros(5), []
    both = recurrent.ravel()[:50].reshape(5, 10)  # as Paddle's gru_op reads them
    last = recurrent.ravel()[50:].reshape(5, 5)
    for x_t in X:
        u, r = np.split(sigmoid(x_t @ kernel[:, :10] + h @ both + bias[:10]), 2)
        c = np.tanh(x_t @ kernel[:, 10:] + (r * h) @ last + bias[10:])
        h = (1 - u) * h + u * c
        out.append([h])
    arrays = {"W": kernel, "R": recurrent, "b": bias}
    options = {"gates": "paddle", "transposed": True, "test": (X[:, None], np.array(out))}
    with pytest.raises(ConversionError, match=r"inverted_update.*not origin_mode"):
        convert.from_numpy(arrays, "W", "R", "b", **options)
    found = convert.from_numpy(arrays, "W", "R", "b", inverted_update=True, **options)
    assert found.proof.proven and found.model.reset_after is False


@pytest.mark.parametrize("make", [rtneural, nam, guitarml])
def test_damaged_files(make: Any, tmp_path: Path) -> None:
    name = "model.nam" if make is nam else "model.json"
    contents = mutated_json(json.dumps(make()), 400)
    refused, fine = refused_or_read(
        lambda path: convert.load(path, prove=False), tmp_path / name, contents
    )
    assert refused > 100 and refused + fine == 400


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    page = (Path(__file__).parents[1] / "docs" / "convert.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        exec(block, names)
    assert capsys.readouterr().out.count("proven: largest difference") >= 3
    words = re.findall(r"^rnncore (convert .*?)(?: +#.*)?$", page, re.M)
    assert words
    for line in words:
        said = CliRunner().invoke(main, line.split())
        assert said.exit_code == 0 and "proven" in said.output, said.output


def test_the_command(tmp_path: Path) -> None:
    source, ours, back = (tmp_path / name for name in ("a.json", "a.safetensors", "b.json"))
    source.write_text(json.dumps(rtneural()))
    said = CliRunner().invoke(main, ["convert", str(source), str(ours)])
    assert said.exit_code == 0 and "unproven" in said.output and "written: " in said.output
    assert CliRunner().invoke(main, ["convert", str(ours), str(back)]).exit_code == 0
    assert json.loads(back.read_text())["in_shape"] == [None, None, 2]
    for words in (
        [tmp_path / "none.json"], [source, tmp_path / "a.txt"], [source, "--prefix", "x."],
        [ours.parent],
    ):  # fmt: skip
        said = CliRunner().invoke(main, ["convert", *map(str, words)])
        assert said.exit_code and said.output.startswith("Error: ") and said.output.count("\n") == 1
