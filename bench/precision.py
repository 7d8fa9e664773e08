"""Lower precision beside float32, and beside peers in theirs.

    python bench/precision.py [--threads 1 2] [--seconds 1] [--only LSTM] [--write]

Each library has a process of its own, and they are asked in turn: a round times every side once,
and a ratio is the median over the rounds. A side whose outputs are further from those of float32
than its precision allows stops the run. `--write` puts the table into docs/precision.md.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from remote import Remote, RemoteError

import rnncore
from rnncore import engine
from rnncore.convert import to_onnx

Array = np.ndarray
PAGE = Path(__file__).parents[1] / "docs" / "precision.md"
MARKS = "<!-- table -->", "<!-- end of table -->"
MOST = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.1}  # of the outputs' norm
KINDS = {"LSTM": rnncore.LSTM, "GRU": rnncore.GRU, "RNN": rnncore.RNN}


class Case(NamedTuple):
    kind: str
    what: str
    T: int
    B: int
    H: int

    def __str__(self) -> str:
        return f"{self.kind} ({self.T}, {self.B}, {self.H}, {self.H}), {self.what}"


CASES = [
    *(Case("LSTM", "inference", *sizes) for sizes in (
        (100, 1, 64), (100, 1, 128), (100, 1, 256), (100, 1, 512), (100, 1, 1024), (64, 16, 128),
        (64, 32, 256), (64, 64, 512), (32, 64, 1024))),
    *(Case("LSTM", "training", *sizes) for sizes in (
        (100, 1, 256), (64, 32, 256), (64, 64, 128), (64, 64, 512))),
    *(Case(kind, what, *sizes) for kind in ("GRU", "RNN") for what in ("inference", "training")
      for sizes in ((100, 1, 256), (64, 32, 256))),
    *(Case(kind, "stream", 1, 1, H) for kind in KINDS for H in (64, 128, 256)),
]  # fmt: skip


def numbers(case: Case) -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    shape = case.T, case.B, case.H
    return tuple(generator.standard_normal(shape, np.float32) for _ in range(2))  # type: ignore


class Side:
    """A side in its process: made for a case, then run as often as asked."""

    run: Callable[[], Array]

    def __init__(self, precision: str, threads: int) -> None:
        self.precision, self.threads = precision, threads

    def prepare(self, case: Case) -> Array | None:
        """Return its outputs; None where it cannot do the case."""
        made = self.make(case, *numbers(case))
        if made is None:
            return None
        self.run = made
        return np.asarray(self.run())

    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array] | None:
        raise NotImplementedError

    def time(self) -> float:
        """Return seconds a call, over as many as some milliseconds take."""
        self.run()
        calls, begin = 0, time.perf_counter()
        while (passed := time.perf_counter() - begin) < 5e-3:
            self.run()
            calls += 1
        return passed / calls


class Rnncore(Side):
    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array] | None:
        rnncore.set_num_threads(self.threads)
        if self.precision == "int8" and case.what == "training":
            return None
        layer: Any = KINDS[case.kind](case.H, case.H, seed=0, precision=self.precision)
        if case.what == "stream":
            stream = layer.stream()
            return lambda: stream.step(x[0, 0])
        if case.what == "inference":
            return lambda: layer(x)[0]

        def train() -> Array:
            layer.weights_changed()  # as after a step of an optimizer
            y, _ = layer.forward(x)
            layer.backward(dy, accumulate=False)
            return y

        return train


class PyTorch(Side):
    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array] | None:
        import torch

        torch.set_num_threads(self.threads)
        if case.what == "stream" or self.precision == "int8":
            return None
        module = getattr(torch.nn, case.kind)(case.H, case.H)
        state = KINDS[case.kind](case.H, case.H, seed=0).state_dict()
        module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        given, above = torch.from_numpy(x), torch.from_numpy(dy)
        if case.what == "inference":
            module, given = module.bfloat16(), given.bfloat16()

            def infer() -> Array:
                with torch.no_grad():
                    return module(given)[0].float().numpy()

            return infer
        given.requires_grad_()

        def train() -> Array:
            module.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                y, _ = module(given)
            y.backward(above.to(y.dtype))
            return y.detach().float().numpy()

        return train


class OnnxRuntime(Side):
    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array] | None:
        import onnxruntime
        from onnxruntime.quantization import quantize_dynamic

        if (case.kind, case.what) != ("LSTM", "inference"):  # it quantizes no other layer
            return None
        model, out = Path("whole.onnx"), Path("int8.onnx")
        layer = rnncore.LSTM(case.H, case.H, seed=0)
        with _in_own_folder():
            model.write_bytes(to_onnx(layer).SerializeToString())
            quantize_dynamic(model, out)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            session = onnxruntime.InferenceSession(out, options)
        state = np.zeros((1, case.B, case.H), np.float32)
        given = {"x": x, "lengths": np.full(case.B, case.T, np.int32), "h": state, "c": state}
        return lambda: session.run(None, given)[0].reshape(x.shape)


def _in_own_folder() -> Any:
    import contextlib
    import tempfile

    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
    return stack


SIDES = [(Rnncore, "float32"), (Rnncore, "bfloat16"), (Rnncore, "int8"), (PyTorch, "bfloat16"),
         (OnnxRuntime, "int8")]  # fmt: skip
HEAD = ["case", "float32, us", "bfloat16", "int8", "PyTorch bfloat16", "ONNX Runtime int8"]


def measure(sides: list[Any], case: Case, seconds: float, pause: float) -> list[str]:
    """Return the cells of a row."""
    found: list[Array | None] = []
    for (_, precision), side in zip(SIDES, sides, strict=True):
        try:
            y = None if side is None else side.call("prepare", case)
        except RemoteError as error:
            print(f"{precision}: {error}")
            y = None
        if y is not None and found:
            error = np.linalg.norm(y - found[0]) / np.linalg.norm(found[0])
            assert error < MOST[precision], (case, precision, error)
        found.append(y)
    times: list[list[float]] = [[] for _ in sides]
    end = time.monotonic() + seconds * sum(y is not None for y in found)
    while time.monotonic() < end or len(times[0]) < 5:
        for side, y, kept in zip(sides, found, times, strict=True):
            if y is not None:
                time.sleep(pause)
                kept.append(side.call("time"))
    cells = [str(case), f"{np.median(times[0]) * 1e6:,.0f}"]
    for kept in times[1:]:
        ratio = np.median(np.array(times[0][: len(kept)]) / kept) if kept else None
        cells.append("" if ratio is None else f"{ratio:.2f}")
    return cells


def main() -> None:
    """Measure all cases and print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options, out = parser.parse_args(), io.StringIO()
    for threads in options.threads:
        sides: list[Any] = []
        for kind, precision in SIDES:
            try:
                sides.append(Remote(threads, kind, precision, threads))
            except RemoteError as error:
                print(f"{kind.__name__} is left out: {error}")
                sides.append(None)
        build, _ = engine.chosen_build()
        ways = engine.kernels(np.float32).products().items()
        products = "; ".join(f"{name} by {product}" for name, product in ways)
        print(f"\n{threads} thread{'s' * (threads > 1)}, build {build}; {products}\n", file=out)
        print(f"| {' | '.join(HEAD)} |\n|---|{'---:|' * (len(HEAD) - 1)}", file=out)
        for case in CASES:
            if options.only in str(case):
                pause = 0.3 if threads > 1 else 0.0  # threads of peers spin for a while
                row = f"| {' | '.join(measure(sides, case, options.seconds, pause))} |"
                print(row, flush=True)
                print(row, file=out)
    if options.write:
        text = PAGE.read_text()
        before, rest = text.split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        PAGE.write_text(f"{before}{MARKS[0]}\n{out.getvalue()}\n{MARKS[1]}{after}")
    else:
        print(out.getvalue())


if __name__ == "__main__":
    main()
