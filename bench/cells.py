"""Cells of one's own against the engine's, against PyTorch's loop, and against each other.

    python bench/cells.py [--seconds 0.5] [--output cells.json] [--page]

`--page` writes the table in docs/cells.md.


- The engine's RNN, LSTM and GRU written again, as tests/cells_again.py has them: the time of the
  engine's own divided by theirs, aim 0.8.
- Each cell of `rnncore.cells.library` against the same equations in PyTorch, step by step, with the
  projection of all inputs done at once: aim 10 at B = 1 and 3 at B = 32.
- minGRU against the GRU over 1000 steps of 256 units: aim 3.

One thread on both sides, which take turns. Of each the quickest round counts, in time of the
processor, so that other work on the machine counts little. Before anything is timed, both sides
have to compute the same numbers.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rnncore
from rnncore.cells import library
from rnncore.cells.names import LIBRARY

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cells_again import AGAIN

Array = np.ndarray
PAGE = Path(__file__).parents[1] / "docs" / "cells.md"


class Case(NamedTuple):
    """Two sides of the same work; the ratio is that of their times, other / ours."""

    name: str
    aim: float
    ours: Callable[[], Any]
    other: Callable[[], Any]


def sides(layer: Any, x: Array, training: bool) -> Callable[[], Any]:
    """Return what runs a layer, in training with its gradients."""
    if not training:
        return lambda: layer(x)[0]
    dy = np.ones((*x.shape[:2], layer.output_size), np.float32)

    def step() -> Array:
        layer.weights_changed()
        y, _ = layer.forward(x)
        layer.backward(dy, accumulate=False)
        return y

    return step


def inputs(T: int, B: int, features: int) -> Array:
    return np.random.default_rng(0).standard_normal((T, B, features)).astype(np.float32)


def copy_weights(to: Any, source: Any) -> None:
    with to.writable_params() as params:
        for name, array in params.items():
            array[...] = source.params.get(name, 0)


def again() -> Iterator[Case]:
    for kind, cell in AGAIN.items():
        for H in (64, 128, 256):
            for B in (1, 32):
                ours = rnncore.Recurrent(cell, H, H, seed=0)
                own = getattr(rnncore, kind)(H, H, seed=0)
                copy_weights(own, ours)
                x = inputs(100, B, H)
                for training in (False, True):
                    what = "training" if training else "inference"
                    yield Case(f"{kind} written again, H = {H}, B = {B}, {what}", 0.8,
                               sides(ours, x, training), sides(own, x, training))  # fmt: skip


def torch_cells() -> dict[str, Callable[..., Any]]:
    """Return the library's cells in PyTorch: x and h are the parts of the gates, s the states."""
    import torch
    from torch.nn import functional as F

    sigmoid, tanh = torch.sigmoid, torch.tanh

    def peephole_lstm(x: Any, h: Any, s: Any, p: Any) -> Any:
        i, f, g, o = (x + h).chunk(4, -1)
        i, f = sigmoid(i + p["p_i"] * s[1]), sigmoid(f + p["p_f"] * s[1])
        c = f * s[1] + i * tanh(g)
        return sigmoid(o + p["p_o"] * c) * tanh(c), c

    def coupled_lstm(x: Any, h: Any, s: Any, p: Any) -> Any:
        f, g, o = (x + h).chunk(3, -1)
        f = sigmoid(f)
        c = f * s[1] + (1 - f) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def hard_lstm(x: Any, h: Any, s: Any, p: Any) -> Any:
        i, f, g, o = (x + h).chunk(4, -1)
        c = F.hardsigmoid(f) * s[1] + F.hardsigmoid(i) * F.hardtanh(g)
        return F.hardsigmoid(o) * F.hardtanh(c), c

    def s_lstm(x: Any, h: Any, s: Any, p: Any) -> Any:
        i, f, z, o = (x + h).chunk(4, -1)
        kept = s[3] + F.logsigmoid(f)
        m = torch.where(s[2] == 0, i, torch.maximum(kept, i))
        i, f = torch.exp(i - m), torch.exp(kept - m)
        c, n = f * s[1] + i * tanh(z), f * s[2] + i
        return sigmoid(o) * c / n, c, n, m

    def minimal_gated(x: Any, h: Any, s: Any, p: Any) -> Any:
        (x_f, x_n), (h_f, h_n) = x.chunk(2, -1), h.chunk(2, -1)
        f = sigmoid(x_f + h_f)
        return ((1 - f) * s[0] + f * tanh(x_n + f * h_n),)

    def ind_rnn(x: Any, h: Any, s: Any, p: Any) -> Any:
        return (F.relu(x + p["u"] * s[0]),)

    def leaky_rnn(x: Any, h: Any, s: Any, p: Any) -> Any:
        return (s[0] + (tanh(x + h) - s[0]) / (1 + torch.exp(p["log_tau"])),)

    def min_gru(x: Any, h: Any, s: Any, p: Any) -> Any:
        z, n = x.chunk(2, -1)
        z = sigmoid(z)
        return ((1 - z) * s[0] + z * n,)

    def min_lstm(x: Any, h: Any, s: Any, p: Any) -> Any:
        f, i, n = x.chunk(3, -1)
        f, i = sigmoid(f), sigmoid(i)
        return ((f * s[0] + i * n) / (f + i),)

    def rg_lru(x: Any, h: Any, s: Any, p: Any) -> Any:
        r, i, n = x.chunk(3, -1)
        decay = torch.exp(-8 * sigmoid(r) * F.softplus(-p["a"]))
        return (decay * s[0] + torch.sqrt(1 - decay * decay) * (sigmoid(i) * n),)

    made = locals()
    return {name: made[name] for name in LIBRARY}


def in_torch(layer: Any, cell: Any, step: Callable[..., Any], x: Array, training: bool) -> Any:
    """Return what runs the same layer as a loop in PyTorch."""
    import torch

    given = {name.removesuffix("_l0"): torch.tensor(a) for name, a in layer.params.items()}
    weights = {name: a.requires_grad_(training) for name, a in given.items()}
    data = torch.tensor(x).requires_grad_(training)

    def forward() -> Any:
        projected = torch.nn.functional.linear(data, weights["weight_ih"], weights["bias_ih"])
        zero = torch.zeros(x.shape[1], layer.hidden_size)
        s: Any = (zero,) * len(cell.states)
        outputs = []
        for x_t in projected:
            h = 0 if cell.elementwise else s[0] @ weights["weight_hh"].T
            s = step(x_t, h, s, weights)
            outputs.append(s[0])
        return torch.stack(outputs)

    def run() -> Array:
        if not training:
            with torch.inference_mode():
                return forward().numpy()
        for array in (*weights.values(), data):
            array.grad = None
        y = forward()
        y.sum().backward()
        return y.detach().numpy()

    return run


def against_torch() -> Iterator[Case]:
    H = 128
    for name, step in torch_cells().items():
        cell = getattr(library, name)
        layer = rnncore.Recurrent(cell, H, H, seed=0)
        for B, aim in ((1, 10.0), (32, 3.0)):
            x = inputs(100, B, H)
            for training in (False, True):
                what = "training" if training else "inference"
                yield Case(f"{name} against PyTorch's loop, B = {B}, {what}", aim,
                           sides(layer, x, training),
                           in_torch(layer, cell, step, x, training))  # fmt: skip


def without_product() -> Iterator[Case]:
    T, H = 1000, 256
    for B in (1, 32):
        x = inputs(T, B, H)
        layers = rnncore.Recurrent(library.min_gru, H, H, seed=0), rnncore.GRU(H, H, seed=0)
        for training in (False, True):
            what = "training" if training else "inference"
            ours, other = (sides(layer, x, training) for layer in layers)
            yield Case(f"min_gru against GRU, T = {T}, H = {H}, B = {B}, {what}", 3.0, ours, other)


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Run both sides in turn for so long, five rounds at least."""
    y, right = case.ours(), case.other()
    if "against GRU" not in case.name:
        np.testing.assert_allclose(y, right, rtol=0, atol=2e-5 * max(1, np.abs(right).max()))
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < 5 or time.perf_counter() < end:
        times = []
        for run in (case.ours, case.other):
            begin = time.process_time()
            run()
            times.append(time.process_time() - begin)
        rounds.append(times)
    ours, other = np.min(rounds, axis=0)
    return {"name": case.name, "aim": case.aim, "ours": ours, "other": other,
            "ratio": other / ours, "rounds": len(rounds)}  # fmt: skip


def table_of(results: list[dict[str, Any]]) -> str:
    """Return a table in Markdown; what is below its aim is bold."""
    lines = ["| case | this cell | the other side | ratio | aim |",
             "| --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in results:
        ratio = f"{row['ratio']:.2f}"
        lines.append(
            f"| {row['name']} | {1e3 * row['ours']:.3f} ms | {1e3 * row['other']:.3f} ms | "
            f"{ratio if row['ratio'] >= row['aim'] else f'**{ratio}**'} | {row['aim']:g} |"
        )
    return "\n" + "\n".join(lines) + "\n\n"


def main() -> None:
    """Measure all cases; a ratio below its aim is marked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each case")
    parser.add_argument("--output", type=Path, help="JSON of all figures")
    parser.add_argument("--page", action="store_true", help="write docs/cells.md's table")
    parser.add_argument("--only", default="", help="cases with this in their names")
    options = parser.parse_args()
    rnncore.set_num_threads(1)
    try:
        import torch

        torch.set_num_threads(1)
        peers: tuple[Callable[[], Iterator[Case]], ...] = (against_torch,)
    except ImportError:
        peers = ()
    results = []
    for group in (again, *peers, without_product):
        for case in group():
            if options.only not in case.name:
                continue
            row = measure(case, options.seconds)
            missed = "" if row["ratio"] >= row["aim"] else f"   below {row['aim']:g}"
            print(f"{row['name']:<60} {1e3 * row['ours']:9.3f} ms {1e3 * row['other']:10.3f} ms "
                  f"{row['ratio']:7.2f}{missed}", flush=True)  # fmt: skip
            results.append(row)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))
    if options.page:
        marks = r"(<!-- figures -->\n).*?(<!-- /figures -->)"
        text, table = PAGE.read_text(), table_of(results)
        PAGE.write_text(re.sub(marks, lambda m: m[1] + table + m[2], text, flags=re.S))


if __name__ == "__main__":
    main()
