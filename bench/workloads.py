"""What is timed: the benchmark list of `tests/cases.py`, with names, targets and data.

A workload is one of five jobs: a step of a stream, inference over a batch, a training step of a
layer (forward, full backward, gradient of x included), a training step of a character model, and
the product of a linear layer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rnncore
from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cases import BENCHMARKS, CHARACTER_MODELS, Case, make_given, make_layer

Array = np.ndarray
CHARACTERS = 96
LEARNING_RATE, CLIP_NORM = 2e-3, 5.0
TITLES = {
    "step": "One step of a stream: (I, H)",
    "sequence": "One sequence: (T, B, I, H)",
    "batch": "Batches: (T, B, I, H)",
    "stack": "Two layers, two directions: (T, B, I, H)",
    "training": "Training step, gradient of x included: (T, B, I, H)",
    "uneven": "Training step, sizes that fill no panel: (T, B, I, H)",
    "ragged": "Training step, lengths uniform in 1..T: (T, B, I, H)",
    "text": "Character model, whole training step: layers x H, T, B",
    "product": "Product x W^T + b of a linear layer: (rows, in, out)",
}
#: Rows, inputs and outputs of products.
PRODUCTS = [(64, 128, 512), (256, 256, 1024), (2048, 256, 1024), (1024, 512, 2048),
            (2048, 1024, 4096)]  # fmt: skip
#: The least ratio to the best peer; B = 1 and B > 1 apart.
BATCH_TARGETS = {"lstm": 1.03, "gru": 1.12, "rnn_tanh": 1.3}
TRAINING_TARGETS = {"gru": (4.0, 1.25), "rnn_tanh": (4.0, 1.25)}
TEXT_TARGETS = dict(zip(CHARACTER_MODELS, (1.9, 1.5, 1.4, 1.25), strict=True))


class Side(NamedTuple):
    """One way to do a job: what it computes from a fresh start, and what is timed."""

    results: Callable[[], dict[str, Array]]
    run: Callable[[], object]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass(frozen=True)
class Workload:
    group: str
    case: Case

    @property
    def job(self) -> str:
        names = {"sequence": "inference", "batch": "inference", "stack": "inference",
                 "uneven": "training", "ragged": "training"}  # fmt: skip
        return names.get(self.group, self.group)

    @property
    def name(self) -> str:
        c = self.case
        kind = c.kind.removesuffix("_tanh").upper()
        if self.job == "text":
            return f"{c.layers} x {c.H}, T {c.T}, B {c.B}"
        if self.job == "step":
            return f"{kind} ({c.I}, {c.H})"
        if self.job == "product":
            return f"({c.B}, {c.I}, {c.H})"
        before = "2-layer " * (c.layers == 2) + "bidirectional " * c.bidirectional
        return f"{before}{kind} ({c.T}, {c.B}, {c.I}, {c.H})"

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"

    def target(self, threads: int) -> float | None:
        """Return the least ratio to the best peer; None where nothing was asked for."""
        c = self.case
        if self.group == "step":
            return 2.5 if c.H == 128 else 5.0
        if self.group == "sequence":
            if c.T == 1000:
                return 2.0
            return 1.25 if c.kind == "rnn_tanh" else {512: 1.1, 1024: 1.25}.get(c.H, 1.05)
        if self.group == "batch":
            return BATCH_TARGETS[c.kind]
        if self.group == "stack":
            return 1.03 if c.B > 1 else 1.5 if threads == 2 else None
        if self.group == "product":
            return 1.0
        if self.group == "text":
            return TEXT_TARGETS[c.layers, c.H, c.B, c.T]
        if self.group == "ragged":
            return 2.0
        if self.group == "uneven":
            return None
        if c.kind == "lstm":
            return 1.5 if c.B == 1 else 1.12 if c.H == 128 else 1.08
        return TRAINING_TARGETS[c.kind][c.B > 1]


def _workloads() -> list[Workload]:
    layers = [Workload(b.group, b.case) for b in BENCHMARKS]
    models = [
        Workload("text", Case("lstm", T, B, H, H, layers, source="embedding", dtype="float32"))
        for layers, H, B, T in CHARACTER_MODELS
    ]
    products = [
        Workload("product", Case("linear", 1, *sizes, dtype="float32")) for sizes in PRODUCTS
    ]
    return layers + models + products


WORKLOADS = _workloads()


class Data:
    """What all sides of a workload share: weights, inputs, the gradient that comes from above."""

    def __init__(self, workload: Workload) -> None:
        self.workload, self.case = workload, workload.case
        self.rng = np.random.default_rng(self.case.seed())
        if workload.job == "text":
            self.state_dict = self.make_model().state_dict()
            self.tokens = self.rng.integers(0, CHARACTERS, (self.case.T + 1, self.case.B))
            return
        if workload.job == "product":
            self.state_dict = self.make_linear().state_dict()
            self.x = self.rng.standard_normal((self.case.B, self.case.I)).astype(np.float32)
            return
        self.state_dict = make_layer(self.case).state_dict()
        given = make_given(self.case)
        self.x, self.dy = given.x, given.dy
        self.lengths: Array | None = None
        if self.case.ragged:
            self.lengths = self.rng.integers(1, self.case.T + 1, self.case.B)

    @property
    def rows(self) -> int:
        """Steps of all sequences, padding left out."""
        if self.workload.job != "text" and self.lengths is not None:
            return int(self.lengths.sum())
        return self.case.T * self.case.B

    @cached_property
    def step_inputs(self) -> Array:
        """Inputs of a few steps, (steps, I)."""
        return self.rng.standard_normal((5, self.case.I)).astype(np.float32)

    def make_layer(self) -> Any:
        layer = make_layer(self.case)
        layer.load_state_dict(self.state_dict)
        return layer

    def make_linear(self) -> rnncore.Linear:
        return rnncore.Linear(self.case.I, self.case.H, seed=0)

    def make_model(self) -> LanguageNetwork:
        vocabulary = Vocabulary("\n" + "".join(map(chr, range(32, 127))))
        assert len(vocabulary) == CHARACTERS
        return LanguageNetwork(
            vocabulary, self.case.H, self.case.layers, embedding_size=self.case.I, seed=0
        )


def assert_same(results: dict[str, Array], expected: dict[str, Array], who: str) -> None:
    """Fail unless what both sides name is equal up to the rounding of float32 sums."""
    common = results.keys() & expected.keys()
    assert len(common) >= len(expected) / 2, f"{who}: {sorted(results)} against {sorted(expected)}"
    for name in sorted(common):
        right = np.asarray(expected[name])
        left = np.asarray(results[name]).reshape(right.shape)
        error, scale = np.abs(left - right).max(), np.abs(right).max()
        assert error <= 2e-4 * scale, f"{who}: {name} differs by {error / scale:.1g} of its largest"
