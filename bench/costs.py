"""What a feature costs beside the plain form of the same work, both in one run.

    python bench/costs.py --output costs.json

Padding against the same steps packed tight, `record` against `forward`, a memory budget against
keeping everything, denormal numbers against ordinary ones, dropout in all its places against none,
a tape against passes handed on by hand.
The two sides take turns; a ratio is the median over the rounds. It is asserted first that both
compute the same numbers, where they should.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rnncore
from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import plumbed

Array = np.ndarray
SECONDS = 2.0
#: (T, B, I, H) of ragged batches, lengths uniform in 1..T.
RAGGED = [(200, 32, 256, 256), (1000, 32, 64, 128)]
#: (T, B, I, H) of dense ones.
DENSE = [(100, 1, 256, 256), (64, 32, 256, 256)]
LINEAR = ((1, 16, 3), (1, 128, 64), (64, 16, 3), (64, 128, 64))


class Cost(NamedTuple):
    """Two ways to do about the same work; at most `aim` times the time is allowed, if any."""

    name: str
    aim: float | None
    feature: Callable[[], object]
    plain: Callable[[], object]


def make(T: int, B: int, inputs: int, H: int) -> tuple[rnncore.LSTM, Array, Array]:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (inputs, H))
    return rnncore.LSTM(inputs, H, seed=0), x, dy


def train(
    layer: rnncore.LSTM, x: Array, dy: Array, lengths: Array | None = None, **options: Any
) -> Array:
    """Do a training step; return the gradients of the weights."""
    layer.weights_changed()
    layer.forward(x, lengths=lengths, **options)
    layer.backward(dy, accumulate=False)
    return layer.flat_grads


def ragged() -> Iterator[Cost]:
    """Yield padded batches, beside dense ones of as many steps, as long as the longest sequence.

    The dense batch has the same rows of input: tight packing leaves no step with few rows.
    """
    for T, B, inputs, H in RAGGED:
        layer, x, dy = make(T, B, inputs, H)
        lengths = np.random.default_rng(1).integers(1, T + 1, B)
        steps = round(lengths.sum() / B)
        tight_x, tight_dy = (np.ascontiguousarray(array[:steps]) for array in (x, dy))
        y, _ = layer(x, lengths=lengths)
        for b in range(B):
            alone, _ = layer(x[: lengths[b], b])
            assert np.array_equal(y[: lengths[b], b], alone) and not y[lengths[b] :, b].any()
        size = f"({T}, {B}, {inputs}, {H})"
        share = lengths.sum() / (steps * B)  # rows beside those of the dense batch
        assert abs(share - 1) < 0.02
        yield Cost(
            f"inference, lengths uniform in 1..T, {size} / the same steps without padding", 1.1,
            lambda layer=layer, x=x, lengths=lengths: layer(x, lengths=lengths),
            lambda layer=layer, x=tight_x: layer(x),
        )  # fmt: skip
        yield Cost(
            f"training, lengths uniform in 1..T, {size} / the same steps without padding", 1.1,
            lambda layer=layer, x=x, dy=dy, lengths=lengths: train(layer, x, dy, lengths),
            lambda layer=layer, x=tight_x, dy=tight_dy: train(layer, x, dy),
        )  # fmt: skip


def dense() -> Iterator[Cost]:
    """Yield states on request, a memory budget, and denormal numbers."""
    for T, B, inputs, H in DENSE:
        layer, x, dy = make(T, B, inputs, H)
        size = f"({T}, {B}, {inputs}, {H})"
        assert np.array_equal(layer.record(x)[0], layer.forward(x)[0])
        yield Cost(
            f"`record`: h, c and four gates of every step, {size} / `forward`", None,
            lambda layer=layer, x=x: layer.record(x), lambda layer=layer, x=x: layer.forward(x),
        )  # fmt: skip
        tiny = x * np.float32(1e-42)
        assert np.any(tiny) and np.abs(tiny).max() < np.finfo(np.float32).tiny
        yield Cost(
            f"inference, denormal x, {size} / ordinary x", 1.1,
            lambda layer=layer, x=tiny: layer(x), lambda layer=layer, x=x: layer(x),
        )  # fmt: skip
    layer, x, dy = make(4096, 1, 64, 128)
    budget = 3_000_000
    assert np.array_equal(train(layer, x, dy, memory=budget).copy(), train(layer, x, dy))
    yield Cost(
        "training, `memory=3_000_000`, (4096, 1, 64, 128) / keeping everything, forward run twice",
        None,
        lambda: train(layer, x, dy, memory=budget),
        lambda: (layer(x), train(layer, x, dy)),
    )


def noise() -> Iterator[Cost]:
    """Yield dropout in its places, beside the same training without it."""
    alone = {"recurrent_dropout": 0.3}, {"zoneout": 0.1}, {"weight_drop": 0.3}
    between = {"dropout": 0.3}, {"dropout": 0.3, "variational": True}
    T, B, inputs, H = DENSE[1]
    plain, x, dy = make(T, B, inputs, H)
    for options in alone:
        layer = rnncore.LSTM(inputs, H, seed=0, **options)
        yield Cost(
            f"training, `{_text(options)}`, ({T}, {B}, {inputs}, {H}) / without", 1.05,
            lambda layer=layer: train(layer, x, dy), lambda: train(plain, x, dy),
        )  # fmt: skip
    tokens = np.random.default_rng(0).integers(0, 65, (51, 50))
    vocabulary = Vocabulary("".join(map(chr, range(65))))
    for cell in ("lstm", "gru"):
        network = LanguageNetwork(vocabulary, cell=cell, seed=0)
        for options in (*between, *alone):
            other = LanguageNetwork(vocabulary, cell=cell, seed=0, **options)
            yield Cost(
                f"character model, {cell.upper()} 2 x 128, (50, 50), `{_text(options)}` / without",
                1.05, lambda other=other: learn(other, tokens),
                lambda network=network: learn(network, tokens),
            )  # fmt: skip


def _text(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def learn(network: LanguageNetwork, tokens: Array) -> None:
    """Do a training step of a language model, the optimizer's left out."""
    network.weights_changed()
    network.forward(tokens[:-1], tokens[1:])
    network.backward(accumulate=False)


def linear() -> Iterator[Cost]:
    """Yield linear layers of few rows, beside NumPy."""
    for rows, inputs, outputs in LINEAR:
        layer = rnncore.Linear(inputs, outputs, seed=0)
        x = np.random.default_rng(0).standard_normal((rows, inputs)).astype(np.float32)
        W, b = (layer.state_dict()[name] for name in ("weight", "bias"))
        W_T = W.T
        np.testing.assert_allclose(layer(x), x @ W_T + b, rtol=1e-5, atol=1e-6)
        yield Cost(
            f"`Linear({inputs}, {outputs})` of {rows} / NumPy's `x @ W.T + b`", 1.0,
            lambda layer=layer, x=x: layer(x), lambda x=x, W_T=W_T, b=b: x @ W_T + b,
        )  # fmt: skip


def tape() -> Iterator[Cost]:
    """Yield the tagger's training step, the optimizer's left out, as its model does it."""
    network, batch = plumbed.tagger()

    def by_tape() -> float:
        network.weights_changed()
        loss, _ = network.forward(*batch, None)
        network.backward(accumulate=False)
        return loss

    def by_hand() -> float:
        network.weights_changed()
        return plumbed.training_step(network, *batch)

    random = network.generator.bit_generator.state
    loss, gradients = by_tape(), network.flat_grads.copy()
    network.generator.bit_generator.state = random
    assert by_hand() == loss and np.array_equal(network.flat_grads, gradients)
    yield Cost("tagger's training step on the tape / hand-plumbed", 1.05, by_tape, by_hand)


def seconds_of(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def measure(threads: list[int], seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Time all features, in as many rounds as about `seconds` each allow; at least three."""
    before, rows = rnncore.get_num_threads(), []
    for count in threads:
        rnncore.set_num_threads(count)
        for cost in (*ragged(), *dense(), *noise(), *linear(), *tape()):
            cost.feature(), cost.plain()
            once = seconds_of(cost.plain, 1)
            calls = max(1, int(5e-3 / once))
            rounds = int(np.clip(seconds / (2 * calls * once), 3, 100))
            pairs = np.array(
                [
                    (seconds_of(cost.feature, calls), seconds_of(cost.plain, calls))
                    for _ in range(rounds)
                ]
            )
            low, ratio, high = np.percentile(pairs[:, 0] / pairs[:, 1], (25, 50, 75))
            rows.append(
                {"name": cost.name, "threads": count, "aim": cost.aim, "ratio": ratio, "low": low,
                 "high": high, "seconds": float(np.median(pairs[:, 0]))}
            )  # fmt: skip
    rnncore.set_num_threads(before)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of timing for each")
    parser.add_argument("--output", type=Path, help="also write JSON")
    options = parser.parse_args()
    rows = measure(options.threads, options.seconds)
    for row in rows:
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        print(f"{row['threads']} thread{'s' * (row['threads'] > 1)}  {row['ratio']:.2f} ({spread})"
              f"  {row['name']}")  # fmt: skip
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
