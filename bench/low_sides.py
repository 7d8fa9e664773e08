"""Who is timed in lower precision by bench/precision.py, each in the best form that it has.

oneDNN is its library for OpenMP, which PyPI has with its headers: `pip install onednn-cpu-gomp
onednn-devel-cpu-gomp`; bench/onednn.cpp calls it, and needs a C++ compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from sides import OnnxModels
from workloads import Case as Layer

import rnncore
from rnncore.convert import to_onnx

Array = np.ndarray
KINDS = {"LSTM": rnncore.LSTM, "GRU": rnncore.GRU, "RNN": rnncore.RNN}


class Case(NamedTuple):
    kind: str
    what: str
    T: int
    B: int
    H: int

    def __str__(self) -> str:
        return f"{self.kind} ({self.T}, {self.B}, {self.H}, {self.H}), {self.what}"


def numbers(case: Case) -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    shape = case.T, case.B, case.H
    return tuple(generator.standard_normal(shape, np.float32) for _ in range(2))  # type: ignore


class Side:
    """A side in its process: made for a case, then run as often as asked."""

    name: str
    jobs: tuple[str, ...] = ("inference",)
    kinds: tuple[str, ...] = tuple(KINDS)
    run: Callable[[], Array]

    def __init__(self, precision: str, threads: int) -> None:
        self.precision, self.threads = precision, threads

    def prepare(self, case: Case) -> Array | None:
        """Return its outputs; None where it has no such layer."""
        if case.what not in self.jobs or case.kind not in self.kinds:
            return None
        self.run = self.make(case, *numbers(case))
        return np.asarray(self.run())

    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array]:
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
    name = "rnncore"

    def __init__(self, precision: str, threads: int) -> None:
        super().__init__(precision, threads)
        self.jobs = ("inference", "stream") + ("training",) * (precision != "int8")

    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array]:
        rnncore.set_num_threads(self.threads)
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
    name = "PyTorch"
    jobs = "inference", "training"

    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array]:
        import torch

        torch.set_num_threads(self.threads)
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
    name = "ONNX Runtime"
    kinds = ("LSTM",)  # it quantizes no other layer

    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array]:
        import onnxruntime
        from onnxruntime.quantization import quantize_dynamic

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
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
    return stack


class OpenVINO(Side):
    name = "OpenVINO"

    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array]:
        import openvino

        kind = {"RNN": "rnn_tanh"}.get(case.kind, case.kind.lower())
        layer = SimpleNamespace(
            case=Layer(kind, case.T, case.B, case.H, case.H),
            state_dict=KINDS[case.kind](case.H, case.H, seed=0).state_dict(),
            workload=SimpleNamespace(job=case.what),
        )
        core, precision = openvino.Core(), {"bfloat16": "bf16"}[self.precision]
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads,
                   "INFERENCE_PRECISION_HINT": precision}  # fmt: skip
        model = core.compile_model(core.read_model(OnnxModels().model(layer)), "CPU", options)
        request = model.create_infer_request()
        request.set_input_tensor(0, openvino.Tensor(x, shared_memory=True))

        def infer() -> Array:
            request.infer()
            return request.get_output_tensor(0).data.reshape(x.shape)

        return infer


class OneDNN(Side):
    """The layer alone: numbers are rounded before, and y stays so until it is asked for."""

    name = "oneDNN"

    def make(self, case: Case, x: Array, dy: Array) -> Callable[[], Array]:
        library = self.library
        weights = KINDS[case.kind](case.H, case.H, seed=0).state_dict()
        W, U, b, own = (weights[f"{name}_l0"] for name in (
            "weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
        if case.kind == "GRU":  # there z comes first, and W_hn h has a bias of its own

            def turned(array: Array) -> Array:
                return np.concatenate([np.split(array, 3)[k] for k in (1, 0, 2)])

            W, U, b, own = map(turned, (W, U, b, own))
            last = np.arange(3 * case.H) >= 2 * case.H
            b = np.concatenate([b + np.where(last, 0, own), own[last]])
        else:
            b = b + own
        arrays = [np.ascontiguousarray(array, np.float32) for array in (x, W, U, b)]
        sizes = [ctypes.c_long(size) for size in (case.T, case.B, case.H, case.H)]
        rounded = int(self.precision == "bfloat16")
        made = library.make_layer(
            list(KINDS).index(case.kind), *sizes, rounded, *map(_at, arrays)
        )
        if made is None:
            raise RuntimeError("oneDNN has no such layer")
        layer, y = ctypes.c_void_p(made), np.empty((case.T, case.B, case.H), np.float32)
        library.run_layer(layer)
        library.read_layer(layer, *sizes[:3], _at(y))

        def infer() -> Array:
            library.run_layer(layer)
            return y

        return infer

    @cached_property
    def library(self) -> ctypes.CDLL:
        at = Path(sys.prefix)
        with tempfile.TemporaryDirectory() as folder:
            built = f"{folder}/layer.so"
            subprocess.run(
                ["g++", "-O2", "-shared", "-fPIC", f"-I{at}/include", "-o", built,
                 Path(__file__).with_name("onednn.cpp"), f"-L{at}/lib", "-ldnnl",
                 f"-Wl,-rpath,{at}/lib"],
                check=True, capture_output=True,
            )  # fmt: skip
            library = ctypes.CDLL(built)
        library.make_layer.restype = ctypes.c_void_p
        return library


def _at(array: Array) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
