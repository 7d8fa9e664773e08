"""The one list of cases: parity tests, gradient tests and benchmarks walk it.

Sizes stand around every tail of the engine, in every build: one less, equal and one more than a
vector, a panel and a tile of rows (`tests/test_parity.py` checks that they do).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

import rnncore
from rnncore import Embedding, engine
from rnncore.layers.recurrent import Recurrent

Array = np.ndarray

KINDS = engine.kernels(np.float64).cells()
MAIN_KINDS = ("rnn_tanh", "lstm", "gru", "gru_reset_before")
VOCABULARY = 7  # of cases with an embedding


def cell_of(kind: str) -> Any:
    """Return what the engine knows of a cell."""
    return engine.kernels(np.float64).cell(kind)


@dataclass(frozen=True)
class Case:
    """A layer and a batch: T steps of B sequences, I inputs, H hidden units."""

    kind: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int | tuple[int, ...]  # one size, or one a layer
    layers: int = 1
    bidirectional: bool = False
    ragged: bool = False
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    source: str = "features"  # or "one-hot", "embedding": integer tokens
    dtype: str = "float64"

    def __str__(self) -> str:
        """Return a name that is a test id."""
        flags = ("bidirectional", "ragged", "batch_first")
        words = [flag.replace("_", "-") for flag in flags if getattr(self, flag)]
        words += ["no-bias"] * (not self.bias)
        words += [f"dropout-{self.dropout}"] * (self.dropout > 0)
        words += [self.source] * (self.source != "features")
        words += [self.dtype] * (self.dtype != "float64")
        sizes = "+".join(map(str, self.sizes)) if isinstance(self.H, tuple) else self.H
        layers = f"{self.layers}x" if self.layers > 1 else ""
        return "-".join([f"{self.kind}-T{self.T}-B{self.B}-I{self.I}-H{layers}{sizes}", *words])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Hidden units of each layer."""
        return self.H if isinstance(self.H, tuple) else (self.H,) * self.layers

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def gates(self) -> int:
        return len(cell_of(self.kind).gates)

    @property
    def states(self) -> int:
        return len(cell_of(self.kind).states)

    @property
    def numbers(self) -> int:
        """Parameters, inputs and initial states: the entries a gradient check walks."""
        width, total = self.I, self.T * self.B * self.I
        for H in self.sizes:
            states = self.states * self.B * H
            total += self.directions * (self.gates * H * (width + H + 1) + states)
            width = self.directions * H
        return total

    def seed(self) -> int:
        """Return a seed of its own, the same for both dtypes."""
        return zlib.crc32(str(replace(self, dtype="float64")).encode())


@dataclass
class Given:
    """What a layer reads: inputs, initial states, and the gradients that come from above."""

    x: Array  # (T, B, I), or (B, T, I); tokens: (T, B)
    state: Any
    lengths: Array | None
    embedding: Embedding | None
    dy: Array
    dstate: Any

    @property
    def options(self) -> dict[str, Any]:
        """What a layer is told beside arrays: whether x is token ids, and of which table."""
        pieces = self.x if isinstance(self.x, list | tuple) else [self.x]
        tokens = all(piece.dtype.kind in "iu" for piece in pieces)
        return {"tokens": tokens, "embedding": self.embedding}

    def arrays(self) -> dict[str, Array]:
        """Return all arrays by name: a layer may change none of them."""
        named = {"x": self.x, "dy": self.dy, **named_states("state_", self.state)}
        named.update(named_states("dstate_", self.dstate))
        return named | ({} if self.lengths is None else {"lengths": self.lengths})


def make_layer(case: Case) -> Recurrent:
    """Build the layer of a case; its weights are float32 numbers in both dtypes."""
    options: dict[str, Any] = {
        "num_layers": case.layers, "bias": case.bias, "batch_first": case.batch_first,
        "dropout": case.dropout, "bidirectional": case.bidirectional, "dtype": case.dtype,
        "seed": case.seed(),
    }  # fmt: skip
    hidden = list(case.H) if isinstance(case.H, tuple) else case.H
    if case.kind.startswith("rnn"):
        options["nonlinearity"] = case.kind.removeprefix("rnn_")
        layer: Recurrent = rnncore.RNN(case.I, hidden, **options)
    else:
        if case.kind == "gru_reset_before":
            options["reset_after"] = False
        layer = getattr(rnncore, case.kind[:4].strip("_").upper())(case.I, hidden, **options)
    with layer.changing_weights() as params:
        params[...] = params.astype(np.float32)
    return layer


def make_given(case: Case) -> Given:
    """Draw what the layer of a case reads; float32 numbers in both dtypes, none of them zero."""
    rng = np.random.default_rng(case.seed() + 1)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32).astype(case.dtype)

    def state() -> Any:
        parts = []
        for _ in range(case.states):
            if isinstance(case.H, tuple):
                parts.append([normal(case.directions, case.B, H) for H in case.H])
            else:
                parts.append(normal(case.layers * case.directions, case.B, case.H))
        return tuple(parts) if case.states > 1 else parts[0]

    embedding = None
    if case.source == "features":
        x = normal(case.T, case.B, case.I)
    else:
        vocabulary = case.I
        if case.source == "embedding":
            vocabulary = VOCABULARY
            embedding = Embedding(vocabulary, case.I, dtype=case.dtype)
            with embedding.changing_weights() as params:
                params[...] = normal(vocabulary * case.I)
        x = rng.integers(0, vocabulary, (case.T, case.B))
    dy = normal(case.T, case.B, case.directions * case.sizes[-1])
    if case.batch_first:
        x, dy = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (x, dy))
    return Given(x, state(), draw_lengths(case, rng), embedding, dy, state())


def draw_lengths(case: Case, rng: np.random.Generator) -> Array | None:
    """Draw lengths in no order: always a whole sequence, and where there is room an empty one."""
    if not case.ragged:
        return None
    lengths = rng.integers(1, case.T + 1, case.B)
    if case.B > 1:
        lengths[0] = case.T
    if case.B > 2:
        lengths[1] = 0
    return rng.permutation(lengths)


def named_states(prefix: str, state: Any) -> dict[str, Array]:
    """Return the arrays of a state by name; layers of unlike sizes have one each."""
    parts = state if isinstance(state, tuple) else (state,)
    named = {}
    for letter, part in zip("hc", parts, strict=False):
        if isinstance(part, list):
            named.update({f"{prefix}{letter}{layer}": a for layer, a in enumerate(part)})
        else:
            named[f"{prefix}{letter}"] = part
    return named


def run(layer: Recurrent, given: Given) -> dict[str, Array]:
    """Run forward and backward; return outputs, final states and all gradients by name."""
    layer.flat_grads[...] = np.nan  # to be replaced
    y, state = layer.forward(given.x, given.state, given.lengths, **given.options)
    results = {"y": y, **named_states("", state)}
    if given.embedding is not None:
        given.embedding.zero_grad()
    dx, dstate = layer.backward(given.dy, given.dstate, accumulate=False)
    if dx is not None:
        results["dx"] = dx
    if given.embedding is not None:
        results["dembedding"] = given.embedding.grads["weight"].copy()
    results.update(named_states("d", dstate))
    results.update({f"d{name}": gradient.copy() for name, gradient in layer.grads.items()})
    return results


def assert_tokens_agree(layer: Recurrent, ids: Array, memory: int, threads: Any) -> None:
    """Assert the same bits for any threads, in segments, and from a stream; `threads` sets them."""
    results = []
    for count, most in ((1, None), (3, None), (2, memory)):
        threads(count)
        y, _ = layer.forward(ids, tokens=True, memory=most)
        layer.backward(y, accumulate=False)
        results.append((y, layer.flat_grads.copy()))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert np.isfinite(results[0][1]).all()
    stream = layer.stream(tokens=True)
    assert np.array_equal(stream.process(ids[:, 0]), results[0][0][:, 0])


def infer(layer: Recurrent, given: Given) -> dict[str, Array]:
    """Run inference; return outputs and final states by the names of `run`."""
    y, state = layer(given.x, given.state, given.lengths, **given.options)
    return {"y": y, **named_states("", state)}


# One less, equal and one more than the vectors (2 to 16 numbers) and panels (4 to 64) of all
# builds, and than a tile of 6 rows.
AROUND_COLUMNS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
AROUND_ROWS = (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 18, 19)


def _columns() -> Iterator[Case]:
    for kind, H in product(KINDS, AROUND_COLUMNS):
        yield Case(kind, 3, 3, 6, H)
    for kind, width in product(MAIN_KINDS, AROUND_COLUMNS):
        yield Case(kind, 3, 3, width, 6)
    # the second layer's input stands in two parts
    for kind, H in product(("rnn_relu", "lstm", "gru"), (3, 4, 5, 15, 16, 17, 63, 64, 65)):
        yield Case(kind, 3, 2, 3, H, layers=2, bidirectional=True)


def _rows() -> Iterator[Case]:
    for kind, B, ragged in product(MAIN_KINDS, AROUND_ROWS, (False, True)):
        yield Case(kind, 3, B, 4, 10, ragged=ragged)
    # rows of all steps: one less, equal, one more than the chunks of 256 that are projected, and
    # whose weight gradients are summed, at once
    sizes = ((255, 1), (256, 1), (257, 1), (2, 128), (1, 257), (3, 300), (86, 3), (128, 6))
    for kind, (T, B) in product(KINDS[:1] + KINDS[4:], sizes):
        yield Case(kind, T, B, 5, 9)
        yield Case(kind, T, B, 5, 9, bidirectional=True, ragged=True)


def _structures() -> Iterator[Case]:
    for kind, layers, bidirectional, ragged, (T, B) in product(
        KINDS, (1, 2), (False, True), (False, True), ((1, 1), (1, 3), (2, 3), (5, 1), (5, 3))
    ):
        if kind in MAIN_KINDS or B * T in (1, 15):
            yield Case(kind, T, B, 1 if layers == 2 else 3, 2, layers, bidirectional, ragged)
    for kind, layers, bidirectional, ragged in product(
        KINDS, (1, 2, 3), (False, True), (False, True)
    ):
        yield Case(kind, 7, 7, 5, 17, layers, bidirectional, ragged)
    for kind, bidirectional, ragged in product(KINDS, (False, True), (False, True)):
        yield Case(kind, 4, 3, 3, 4, 1, bidirectional, ragged, bias=False)
        yield Case(kind, 4, 3, 3, 4, 1, bidirectional, ragged, batch_first=True)
        yield Case(kind, 3, 2, 2, (3, 2), 2, bidirectional, ragged)
        yield Case(kind, 5, 3, 3, (17, 5, 33), 3, bidirectional, ragged)
    for kind, source, bidirectional, ragged in product(
        KINDS, ("one-hot", "embedding"), (False, True), (False, True)
    ):
        yield Case(kind, 5, 3, 4, 3, 1, bidirectional, ragged, source=source)
    for kind, source in product(MAIN_KINDS, ("one-hot", "embedding")):
        yield Case(kind, 9, 40, 10, 33, 2, True, True, source=source)
        yield Case(kind, 3, 2, 3, 4, bias=False, source=source)
    for kind, bidirectional in product(MAIN_KINDS, (False, True)):
        yield Case(kind, 3, 3, 2, 3, 2, bidirectional, True, dropout=0.4)


def _large() -> Iterator[Case]:
    for kind in KINDS:
        yield Case(kind, 1000, 2, 3, 20)  # long
        yield Case(kind, 70, 1, 5, 300, layers=2)  # one sequence: hidden units in groups
        yield Case(kind, 5, 40, 70, 130, ragged=True)
    for kind in MAIN_KINDS:
        yield Case(kind, 1000, 4, 2, 9, layers=2, bidirectional=True, ragged=True)
        yield Case(kind, 6, 1, 3, 600)
        yield Case(kind, 40, 3, 9, 70, bidirectional=True, ragged=True)


CASES = list(dict.fromkeys([*_columns(), *_rows(), *_structures(), *_large()]))


@dataclass(frozen=True)
class Benchmark:
    """A case that is timed: inference, or a training step (forward, backward, dx included)."""

    group: str
    case: Case
    training: bool = False

    def __str__(self) -> str:
        return f"{self.group}-{self.case}" + "-training" * self.training


def _benchmarks() -> Iterator[Benchmark]:
    def float32(kind: str, T: int, B: int, *sizes: int, **options: Any) -> Case:
        return Case(kind, T, B, *sizes, dtype="float32", **options)

    recurrent = ("lstm", "gru", "rnn_tanh")
    for sizes in ((1, 16), (1, 40), (40, 64), (128, 128)):
        yield Benchmark("step", float32("lstm", 1, 1, *sizes))
    for kind in recurrent[1:]:
        yield Benchmark("step", float32(kind, 1, 1, 40, 64))
    for H in (16, 32, 40, 64):
        yield Benchmark("sequence", float32("lstm", 1000, 1, 1, H))
    for kind, H in product(recurrent, (128, 256, 512, 1024)):
        yield Benchmark("sequence", float32(kind, 100, 1, H, H))
    for kind, (T, B, H) in product(
        recurrent, ((64, 16, 128), (64, 32, 256), (64, 64, 512), (32, 64, 1024))
    ):
        yield Benchmark("batch", float32(kind, T, B, H, H))
    for T, B in ((64, 32), (100, 1)):
        yield Benchmark("stack", float32("lstm", T, B, 256, 256, layers=2))
        yield Benchmark("stack", float32("lstm", T, B, 256, 256, bidirectional=True))
    for T, B, H in ((64, 16, 128), (64, 64, 128), (64, 32, 256), (64, 64, 512), (100, 1, 128),
                    (100, 1, 256), (100, 1, 512)):  # fmt: skip
        yield Benchmark("training", float32("lstm", T, B, H, H), training=True)
    for kind, (T, B) in product(recurrent[1:], ((64, 32), (100, 1))):
        yield Benchmark("training", float32(kind, T, B, 256, 256), training=True)
    for kind, width, H in (("lstm", 1, 64), ("lstm", 100, 100), ("gru", 200, 200),
                           ("rnn_tanh", 72, 72)):  # fmt: skip
        yield Benchmark("uneven", float32(kind, 64, 32, width, H), training=True)
    ragged = float32("lstm", 200, 32, 256, 256, ragged=True)
    yield Benchmark("ragged", ragged, training=True)


BENCHMARKS = list(_benchmarks())

#: Whole training steps of the character model: layers, H, B, T.
CHARACTER_MODELS = [(1, 128, 50, 50), (2, 128, 50, 50), (2, 256, 50, 100), (3, 512, 100, 100)]
