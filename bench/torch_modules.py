"""Layers of `rnncore.torch` beside those of `torch.nn`, as a training loop calls them.

    python bench/torch_modules.py [--threads 1 2] [--seconds 2] [--only LSTM]

A step is forward, backward to the weights and a step of SGD; inference is a call under `no_grad`.
Both sides take turns in one process; outputs and gradients are asserted equal first. Each number of
threads has a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Size(NamedTuple):
    kind: str
    T: int
    B: int
    inputs: int
    hidden: int
    ragged: bool = False
    aim: float = 1.1

    def __str__(self) -> str:
        packed = ", packed, lengths uniform in 1..T" * self.ragged
        return f"{self.kind} ({self.T}, {self.B}, {self.inputs}, {self.hidden}){packed}"


KINDS = ("LSTM", "GRU", "RNN")
SIZES = [
    *(Size(kind, T, 1, n, n, aim=3) for kind in KINDS for T, n in ((1, 64), (100, 64), (100, 256))),
    *(Size(kind, 100, 32, 64, 128, ragged=True, aim=3) for kind in KINDS),
    *(Size(kind, *sizes) for kind in KINDS for sizes in ((50, 16, 64, 128), (64, 32, 256, 256))),
]  # fmt: skip


def quartiles(sides: list[Callable[[], object]], seconds: float) -> list[np.ndarray]:
    """Return quartiles of the time of both sides, and of their ratio, in turns."""
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 9:
        for side, found in zip(sides, times, strict=True):
            begin = time.perf_counter()
            side()
            found.append(time.perf_counter() - begin)
    theirs, mine = map(np.array, times)
    return [np.percentile(each, (25, 50, 75)) for each in (theirs, mine, theirs / mine)]


def measure(size: Size, seconds: float) -> list[str]:
    import torch

    import rnncore.torch

    torch.manual_seed(0)
    modules = [
        getattr(package, size.kind)(size.inputs, size.hidden)
        for package in (torch.nn, rnncore.torch)
    ]
    modules[1].load_state_dict(modules[0].state_dict())
    given: Any = torch.randn(size.T, size.B, size.inputs)
    if size.ragged:
        lengths = torch.randint(1, size.T + 1, (size.B,))
        given = torch.nn.utils.rnn.pack_padded_sequence(given, lengths, enforce_sorted=False)

    def output(module: Any) -> Any:
        y = module(given)[0]
        return y.data if size.ragged else y

    for module in modules:
        output(module).square().mean().backward()
    torch.testing.assert_close(output(modules[1]), output(modules[0]), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(modules[1].parameters(), modules[0].parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        assert float((mine.grad - theirs.grad).abs().max()) <= 1e-4 * scale

    def train(module: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        output(module).square().mean().backward()
        optimizer.step()

    def infer(module: Any) -> None:
        with torch.no_grad():
            module(given)

    lines = []
    steps = [(m, torch.optim.SGD(m.parameters(), lr=1e-6)) for m in modules]
    for name, sides in (
        ("training", [lambda s=s: train(*s) for s in steps]),
        ("inference", [lambda m=m: infer(m) for m in modules]),
    ):
        theirs, mine, ratio = quartiles(sides, seconds)
        missed = f", aim {size.aim:g}, missed" * bool(name == "training" and ratio[1] < size.aim)
        lines.append(
            f"{name:9}  {size!s:58} {1e6 * theirs[1]:9.0f} us  {1e6 * mine[1]:9.0f} us  "
            f"{ratio[1]:6.2f}x ({ratio[0]:.2f} to {ratio[2]:.2f}){missed}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each line")
    parser.add_argument("--only", default="", help="part of the name of what is measured")
    options = parser.parse_args()
    if len(options.threads) > 1:  # both sides keep threads that they started
        for count in options.threads:
            subprocess.run(
                [sys.executable, __file__, "--threads", str(count), "--seconds",
                 str(options.seconds), "--only", options.only], check=True,
            )  # fmt: skip
        return
    import torch

    import rnncore

    [threads] = options.threads
    torch.set_num_threads(threads)
    rnncore.set_num_threads(threads)
    print(f"{threads} threads; PyTorch {torch.__version__}, rnncore {rnncore.__version__}")
    for size in SIZES:
        if options.only in str(size):
            for line in measure(size, options.seconds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
