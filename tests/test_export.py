"""Models as C: compiled, run, and held against their streams."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore import convert
from rnncore.cells import chosen, library
from rnncore.convert import Activation, FinalState, LastStep, Skip, Squeeze
from rnncore.data import Vocabulary
from rnncore.data.inputs import Numbers, Symbols
from rnncore.data.outputs import Classes, Values
from rnncore.export import export_c
from rnncore.export.weights import Weights, row_blocks
from rnncore.models import LanguageNetwork
from rnncore.models.sequence_classifier import SequenceClassifierNetwork
from rnncore.models.sequence_regressor import SequenceRegressorNetwork

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"
)
RUN_WASM = Path(__file__).parent / "fixtures/run_wasm.mjs"
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-Wconversion"]


def language(**options: Any) -> LanguageNetwork:
    return LanguageNetwork(Vocabulary("to be, */ or not?\\\n"), hidden_size=20, seed=0, **options)


def sequences(kind: type, inputs: Any, outputs: Any, pooling: str, cell: str = "lstm") -> Any:
    return kind(
        inputs, outputs, directions="forward", pooling=pooling, cell=cell, hidden_size=12, seed=0
    )


NUMBERS = Numbers([1000.3, -2.0], [3.0, 0.01])
SYMBOLS = Symbols(Vocabulary("hello there", unknown=True))
MODELS = {
    "lstm": lambda: rnncore.LSTM(1, 40, seed=0),
    "lstm-odd": lambda: rnncore.LSTM(3, 13, num_layers=3, bias="pytorch", seed=0),
    "lstm-one-unit": lambda: rnncore.LSTM(2, 1, seed=0),
    "lstm-no-bias": lambda: rnncore.LSTM(9, 16, bias=False, zoneout=(0.1, 0.3), seed=0),
    "gru": lambda: rnncore.GRU(1, 32, num_layers=2, seed=0),
    "gru-odd": lambda: rnncore.GRU(5, 7, bias="pytorch", zoneout=0.2, seed=0),
    "gru-no-bias": lambda: rnncore.GRU(5, 7, bias=False, seed=0),
    "gru-before": lambda: rnncore.GRU(
        5, [9, 40], bias="pytorch", zoneout=0.2, reset_after=False, seed=0
    ),
    "gru-before-one-unit": lambda: rnncore.GRU(2, 1, reset_after=False, seed=0),
    "tanh": lambda: rnncore.RNN(4, [8, 33, 2], seed=0),
    "relu": lambda: rnncore.RNN(4, 24, nonlinearity="relu", seed=0),
    "sigmoid": lambda: rnncore.RNN(4, 24, nonlinearity="sigmoid", seed=0),
    "identity": lambda: rnncore.RNN(4, 5, nonlinearity="identity", seed=0),
    "float64": lambda: rnncore.LSTM(3, 16, dtype=np.float64, seed=0),
    "large": lambda: rnncore.LSTM(64, 256, seed=0),
    "amplifier": lambda: rnncore.Sequential(
        Skip(rnncore.Sequential(rnncore.LSTM(1, 16, seed=0), rnncore.Linear(16, 1, seed=1)), 1)
    ),
    "net": lambda: rnncore.Sequential(
        rnncore.Linear(3, 10, seed=0), Activation("relu"), rnncore.GRU(10, 9, seed=1),
        rnncore.Dropout(0.5), rnncore.Linear(9, 11, bias=False, seed=2), Activation("softmax"),
    ),
    "words": lambda: rnncore.Sequential(
        rnncore.Embedding(50, 6, seed=0), rnncore.GRU(6, 8, seed=1), rnncore.Linear(8, 3, seed=2),
        Activation("tanh"), Activation("sigmoid"),
    ),
    "sequences-first": lambda: rnncore.Sequential(
        rnncore.GRU(3, 10, batch_first=True, seed=0), rnncore.Linear(10, 1, seed=1), Squeeze()
    ),
    "last-state": lambda: rnncore.Sequential(
        rnncore.LSTM(3, 10, batch_first=True, seed=0),
        FinalState(rnncore.GRU(10, 6, 2, batch_first=True, seed=1)), rnncore.Linear(6, 4, seed=2),
    ),
    "last-step": lambda: rnncore.Sequential(
        rnncore.Embedding(9, 4, seed=0), rnncore.LSTM(4, 5, seed=0), LastStep(),
        rnncore.Linear(5, 1, seed=2), Squeeze(),
    ),
    "dense": lambda: rnncore.Linear(100, 70, seed=0),
    "language-one-hot": lambda: language(),
    "language-one-hot-gru": lambda: language(cell="gru", num_layers=1),
    "language-one-hot-gru-before": lambda: language(cell="gru_reset_before", num_layers=1),
    "language-embedding": lambda: language(embedding_size=7, zoneout=0.1),
    "language-tied": lambda: language(tied=True, cell="rnn"),
    "classifier-last": lambda: sequences(
        SequenceClassifierNetwork, NUMBERS, Classes(["no */ \\", "ä", "yes"]), "last"
    ),
    "classifier-mean": lambda: sequences(
        SequenceClassifierNetwork, SYMBOLS, Classes([0, 1]), "mean", "gru"
    ),
    "regressor-max": lambda: sequences(
        SequenceRegressorNetwork, NUMBERS, Values([5.0, 100.0], [1.0, 30.0], False), "max"
    ),
    "regressor-steps": lambda: sequences(
        SequenceRegressorNetwork, Numbers([0.0], [1.0]), Values([0.0], [1.0], True), "none"
    ),
}  # fmt: skip


if importlib.util.find_spec("llvmlite"):  # cells that are compiled in this process
    MODELS |= {
        "chosen-lstm": lambda: rnncore.Recurrent(chosen.lstm(
            "hard_sigmoid(0.2, 0.5)", "softsign", "elu(0.5)", clip=0.9, peepholes=True
        ), 3, 13, 2, seed=0),
        "chosen-gru": lambda: rnncore.Recurrent(chosen.gru("hard_sigmoid", "scaled_tanh(1.5, 0.6)"),
                                                3, 9, bias="pytorch", seed=0),
        "chosen-gru-before": lambda: rnncore.Recurrent(
            chosen.gru("hard_tanh", "leaky_relu(0.1)", reset_after=False), 3, 9, seed=0),
        "chosen-rnn": lambda: rnncore.Sequential(
            rnncore.Recurrent(chosen.rnn("thresholded_relu(0.1)", clip=0.5), 3, 9, seed=0),
            rnncore.Recurrent(chosen.rnn("affine(0.7, 0.1)"), 9, 8, seed=1),
            rnncore.Linear(8, 3, seed=2),
        ),
        "peepholes": lambda: rnncore.Recurrent(library.peephole_lstm, 3, 9, zoneout=0.1, seed=0),
    }


def learnt_state() -> rnncore.LSTM:
    layer = rnncore.LSTM(2, 9, num_layers=2, learn_initial_state=True, seed=0)
    rng = np.random.default_rng(1)
    with layer.writable_params() as params:
        for name, array in params.items():
            if name.startswith("initial"):
                array[...] = rng.standard_normal(array.shape)
    return layer


MODELS["learnt-state"] = learnt_state


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def self_test(path: Path, *compiler: str, emulator: str = "") -> str:
    """Compile as strictly as can be, run, and return what it says."""
    program = path.with_suffix(".out")
    run(*compiler, *STRICT, f"-D{path.stem.upper()}_SELF_TEST", "-o", str(program), str(path))
    return run(*emulator.split(), str(program))


@needs_compiler
@pytest.mark.parametrize("name", MODELS)
def test_the_program_gives_what_the_stream_gives(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.c"
    made = export_c(MODELS[name](), path, check=True)
    assert made.difference is not None and made.difference < 1e-4 and made.rounding == 0
    said = self_test(path, "cc", "-std=c99", "-O2")
    assert f"largest difference {made.difference:.3g} over 32 steps" in said
    assert re.search(rf"Flash +{made.flash} .*\n.*RAM +{made.ram} .*\n.*Work +{made.work} ",
                     path.read_text())  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("weights", ["float16", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_small_weights(name: str, weights: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    before = model.state_dict()
    full = export_c(model, tmp_path / "full.c")
    made = export_c(model, tmp_path / "model.c", weights=weights, check=True)
    assert all(np.array_equal(before[key], array) for key, array in model.state_dict().items())
    assert made.flash < full.flash and made.ram == full.ram
    assert 0 < made.rounding < (30 if name == "regressor-max" else 0.3)
    self_test(tmp_path / "model.c", "cc", "-std=c99", "-O3")


COMPILERS = {
    "g++": ("g++ -x c++ -std=c++11", ""),
    "clang": ("clang -std=c99", ""),
    "clang++": ("clang++ -x c++ -std=c++11", ""),
    "64-bit ARM": ("aarch64-linux-gnu-gcc -std=c99 -static", "qemu-aarch64"),
    "32-bit ARM": ("arm-linux-gnueabihf-gcc -std=c99 -static", "qemu-arm"),
    "sanitizers": ("gcc -std=c99 -g -fsanitize=address,undefined -fno-sanitize-recover=all", ""),
    "native": ("gcc -O3 -march=native", ""),
    "WebAssembly": ("clang --target=wasm32-wasi --sysroot=/usr -msimd128", f"node {RUN_WASM}"),
}


@pytest.mark.parametrize("which", COMPILERS)
@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_compilers(which: str, weights: str, tmp_path: Path) -> None:
    compiler, emulator = COMPILERS[which]
    for needed in (compiler, emulator or compiler):
        if shutil.which(needed.split()[0]) is None:
            pytest.skip(f"needs {needed.split()[0]}")
    if which == "WebAssembly" and not Path("/usr/include/wasm32-wasi").exists():
        pytest.skip("needs wasi-libc")
    path = tmp_path / "model.c"
    for name in ("lstm-odd", "gru-odd", "gru-before", "chosen-lstm", "chosen-gru", "chosen-rnn",
                 "chosen-gru-before", "net", "language-one-hot", "classifier-mean",
                 "regressor-max", "amplifier"):  # fmt: skip
        if name not in MODELS:  # without llvmlite
            continue
        export_c(MODELS[name](), path, weights=weights)
        self_test(path, *compiler.split(), "-O2", emulator=emulator)


def test_activations_without_c_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    for cell, match in ((chosen.rnn("softplus"), "got softplus, which has no C yet"),
                        (library.min_gru, "got 'min_gru', which has no C yet")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            export_c(rnncore.Recurrent(cell, 3, 4), tmp_path / "a.c")


@needs_compiler
def test_a_program_of_two_files_and_two_models(tmp_path: Path) -> None:
    first, second = rnncore.LSTM(1, 8, seed=0), rnncore.GRU(2, 3, seed=1)
    export_c(first, tmp_path / "first.c")
    export_c(second, tmp_path / "2nd.c")
    (tmp_path / "main.c").write_text("""
#define FIRST_DECLARATIONS
#include "first.c"
#define MODEL_2ND_DECLARATIONS
#include "2nd.c"
#include <stdio.h>
int main(void)
{
    first_state a[2];
    model_2nd_state b;
    float x[4] = {0.5f, -0.25f, 1.0f, 2.0f}, y[4 * FIRST_OUTPUTS], z[2 * MODEL_2ND_OUTPUTS];
    first_reset(&a[0]), first_reset(&a[1]), model_2nd_reset(&b);
    first_step(&a[1], x + 3, y);
    first_process(&a[0], x, y, 4);
    model_2nd_process(&b, x, z, 2);
    for (int k = 0; k < 4 * FIRST_OUTPUTS; k++) printf("%.9g\\n", (double)y[k]);
    for (int k = 0; k < 2 * MODEL_2ND_OUTPUTS; k++) printf("%.9g\\n", (double)z[k]);
}
""")
    sources = [str(tmp_path / name) for name in ("main.c", "first.c", "2nd.c")]
    run("cc", "-std=c99", *STRICT, *sources, "-o", str(tmp_path / "program"))
    said = np.array(run(str(tmp_path / "program")).split(), np.float32)
    x = np.array([0.5, -0.25, 1, 2], np.float32)
    expected = [first.stream().process(x[:, None]), second.stream().process(x.reshape(2, 2))]
    np.testing.assert_allclose(said, np.concatenate([y.ravel() for y in expected]), atol=1e-6)


@needs_compiler
def test_the_self_test_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "model.c"
    export_c(rnncore.LSTM(1, 8, seed=0), path)
    text = path.read_text()
    for wrong in (
        text.replace("const float o = sigmoid_of", "const float o = tanh_of"),
        text.replace("return t / (1.0f + t);", "return t / (t - t);"),  # NaN
        re.sub(r"(lstm_1_W\[\d+\] ALIGNED = \{\n\s+)\S+", r"\g<1>0.5f,", text),
        text.replace("state->lstm_1_c[j] = 0.0f;", "state->lstm_1_c[j] += 0.0f;"),  # no reset
    ):
        assert wrong != text
        path.write_text(wrong)
        run("cc", "-std=c99", "-DMODEL_SELF_TEST", "-o", str(tmp_path / "wrong"), str(path))
        done = subprocess.run([tmp_path / "wrong"], capture_output=True, check=False)
        assert done.returncode == 1


@needs_compiler
def test_no_state_becomes_denormal(tmp_path: Path) -> None:
    layer = rnncore.LSTM(1, 8, seed=0)
    with layer.writable_params() as params:
        for array in params.values():
            array[...] = 0
        params["bias_ih_l0"][:8] = -60  # i, so that nothing comes in after the first step
        params["weight_ih_l0"][:8] = 60
        params["weight_ih_l0"][16:24] = 1
    export_c(layer, tmp_path / "model.c")
    (tmp_path / "main.c").write_text("""
#include "model.c"
#include <float.h>
int main(void)
{
    model_state state;
    float x = 1.0f, y[8];
    model_reset(&state);
    for (int t = 0; t < 1000; t++, x = 1e-40f) {
        model_step(&state, &x, y);
        for (int k = 0; k < 8; k++) {
            const float c = state.lstm_1_c[k], h = state.lstm_1_in[k + 1];
            if ((c != 0.0f && c < FLT_MIN) || (h != 0.0f && h < FLT_MIN)) return 1;
        }
        if (t == 0 && y[0] < 0.1f) return 2;
    }
    return state.lstm_1_c[0] < 1e-20f && state.lstm_1_in[0] == 0.0f ? 0 : 3;
}
""")
    run("cc", "-std=c99", "-O2", str(tmp_path / "main.c"), "-o", str(tmp_path / "program"))
    run(str(tmp_path / "program"))


@needs_compiler
def test_fast_math_is_refused(tmp_path: Path) -> None:
    export_c(rnncore.LSTM(1, 8, seed=0), tmp_path / "model.c")
    done = subprocess.run(
        ["cc", "-ffast-math", "-c", str(tmp_path / "model.c"), "-o", os.devnull],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode and "compile without -ffast-math" in done.stderr


def test_rows_are_cut_into_blocks_that_fit() -> None:
    for rows in range(8, 2000):
        size, count, rest = row_blocks(rows)
        assert size <= 64 and size % 8 == rest % 8 == 0 and rest < size
        assert rows <= size * count + rest < rows + 8


def test_rounding_is_what_the_format_holds() -> None:
    for kind in ("float32", "float16", "int8"):
        W = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
        before, weights = W.copy(), Weights(kind)
        weights.matrix("m", [W[:, :11], W[:, 11:]], None)
        bound = {"float32": 0, "float16": 2**-11, "int8": 0.5 / 127}[kind]
        assert (np.abs(W - before) <= bound * np.abs(before).max(1)[:, None] * 1.001).all()
        again = W.copy()
        Weights(kind).matrix("m", [again], None)
        np.testing.assert_allclose(again, W, rtol=3e-7)


class Own(rnncore.Module):
    def forward(self, x: Any) -> Any:
        return x


REFUSED: dict[str, tuple[Any, type, str]] = {
    "bidirectional": (lambda: rnncore.LSTM(1, 2, bidirectional=True), ValueError, "forward"),
    "a module of one's own": (Own, TypeError, "Own, which computes in Python"),
    "no model": (lambda: 3, TypeError, "model: expected a layer.*int"),
    "both directions": (
        lambda: SequenceRegressorNetwork(Numbers([0.0], [1.0]), Values([0.0], [1.0], True)),
        ValueError, "directions='forward'",
    ),
    "not fitted": (rnncore.LanguageModel, ValueError, "not fitted"),
    "sizes": (
        lambda: rnncore.Sequential(rnncore.GRU(1, 2), rnncore.Linear(3, 1)), ValueError,
        "linear reads 3 numbers after a part that gives 2",
    ),
    "an embedding within": (
        lambda: rnncore.Sequential(rnncore.GRU(1, 2), rnncore.Embedding(3, 1)), ValueError,
        "embedding reads tokens after",
    ),
    "nothing": (lambda: rnncore.Sequential(rnncore.Dropout(0.1)), ValueError, "without one"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    make, error, match = REFUSED[name]
    with pytest.raises(error, match=match):
        export_c(make(), tmp_path / "model.c")
    assert not list(tmp_path.iterdir())


def test_other_bad_arguments(tmp_path: Path) -> None:
    layer, path = rnncore.LSTM(1, 2, seed=0), tmp_path / "model.c"
    with pytest.raises(ValueError, match="weights: expected one of float32, float16, int8"):
        export_c(layer, path, weights="bfloat16")
    with pytest.raises(ValueError, match=r"name: expected letters.*'a b'"):
        export_c(layer, path, name="a b")
    with pytest.raises(ValueError, match="tokens: expected False"):
        export_c(rnncore.Linear(1, 2), path, tokens=True)
    with pytest.raises(TypeError, match="check: expected True or False"):
        export_c(layer, path, check=1)  # type: ignore[arg-type]
    with layer.writable_params() as params:
        params["weight_hh_l0"][0, 0] = 1e5
    with pytest.raises(ValueError, match="float16, which ends at 65504"):
        export_c(layer, path, weights="float16")
    with layer.writable_params() as params:
        params["weight_hh_l0"][0, 0] = np.nan
    with pytest.raises(ValueError, match="finite weights"):
        export_c(layer, path)
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ValueError, match="check: expected a C compiler"):
        export_c(rnncore.LSTM(1, 2, seed=0), tmp_path / "model.c", check=True)


@needs_compiler
def test_the_command(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from rnncore.cli import main

    model = tmp_path / "model.safetensors"
    language().save(model)
    done = CliRunner().invoke(
        main, ["export", str(model), str(tmp_path / "chars.c"), "--weights", "int8", "--check"]
    )
    assert done.exit_code == 0, done.output
    assert "chars_step" in done.output and "largest difference" in done.output
    done = CliRunner().invoke(main, ["export", str(tmp_path / "none"), str(tmp_path / "a.c")])
    assert done.exit_code == 2 and "does not exist" in done.output


@needs_compiler
@pytest.mark.parametrize("end", [".safetensors", ".keras", ".json"])
def test_the_command_takes_what_can_be_converted(end: str, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from rnncore.cli import main

    model, out = tmp_path / f"model{end}", tmp_path / "model.c"
    net = rnncore.Sequential(
        rnncore.LSTM(1, 8, batch_first=True, seed=0), rnncore.Linear(8, 1, seed=1)
    )
    convert.write(model, net)
    done = CliRunner().invoke(main, ["export", str(model), str(out), "--check"])
    assert done.exit_code == 0 and "largest difference" in done.output, done.output
    assert ("LSTM" in done.output) == (end != ".safetensors")
    model.write_bytes(model.read_bytes()[:50])
    done = CliRunner().invoke(main, ["export", str(model), str(out)])
    assert done.exit_code and done.output.startswith("Error: ") and done.output.count("\n") == 1


@needs_compiler
def test_a_new_clang_proves_that_nothing_blocks(tmp_path: Path) -> None:
    if shutil.which("zig") is None:
        pytest.skip("needs zig, whose clang is new")
    for name in ("net", "lstm-odd", "gru-odd", "gru-before", "classifier-last", "regressor-max"):
        export_c(MODELS[name](), tmp_path / "model.c")
        (tmp_path / "main.c").write_text("""
#define MODEL_DECLARATIONS
#include "model.c"
void model_reset(model_state *state) [[clang::nonblocking]];
void model_step(model_state *state, const float *x, float *y) [[clang::nonblocking]];
void model_process(model_state *state, const float *x, float *y, int n) [[clang::nonblocking]];
#undef MODEL_DECLARATIONS
#include "model.c"
""")
        run("zig", "cc", "-std=c2x", "-Wfunction-effects", "-Werror", "-DMODEL_SELF_TEST",
            str(tmp_path / "main.c"), "-o", str(tmp_path / "program"))  # fmt: skip
        run(str(tmp_path / "program"))


def test_the_page_runs(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    page = (Path(__file__).parents[1] / "docs/embed.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S)
    assert {kind for kind, _ in blocks} == {"python", "sh", "c", "js"}
    here = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    outputs, missing = [], set()
    for kind, text in blocks:
        if kind != "sh":
            named = re.match(r"\W+(\w+\.\w+)", text)
            path = tmp_path / ("page.py" if kind == "python" else named[1] if named else "")
            path.write_text(text)
        lines = [f"{sys.executable} -P page.py"] if kind == "python" else text.splitlines()
        for line in lines if kind in ("python", "sh") else ():
            tool = line.split()[0]
            wasm = "wasm" in line and not Path("/usr/include/wasm32-wasi").exists()
            if wasm or shutil.which(tool, path=environment["PATH"]) is None or any(
                name in line for name in missing
            ):  # fmt: skip
                missing.add(line.split()[-1].removeprefix("./"))
                continue
            done = subprocess.run(
                ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            outputs.append(done.stdout)
    assert float(outputs[0].split()[1]) < 0.05, "the outputs are about 0.5"
    assert "largest difference" in outputs[1]
    said = np.array(outputs[3].split(), float)
    low, expected = 0.0, []
    for x in (0.5, 1, 1, 1, -1, -1, -1):
        low += 0.3 * (x - low)
        expected.append(np.tanh(2 * low))
    assert np.abs(said - expected).max() < 0.25
