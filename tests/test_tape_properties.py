"""The tape by its properties: random programs, rows against padding, sums, every function."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st

import rnncore
from rnncore import functions as F
from rnncore import losses as L

RNG = np.random.default_rng
ROOT = Path(__file__).parents[1]
DOUBLE: dict[str, Any] = {"dtype": np.float64}
TOKENS = 5


@pytest.fixture(autouse=True)
def one_thread(threads: Callable[[int], None]) -> None:
    # Thousands of tiny passes: waking a team takes longer than they do.
    threads(1)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).standard_normal(shape)


def squares(y: Any, seed: int = 9) -> Any:
    """Return a number that depends on all of y in different ways."""
    y = F.unpack(y) if isinstance(getattr(y, "array", y), rnncore.Rows) else y
    weights = normal(*y.shape, seed=seed)
    return F.sum(y * y * weights) + 0.3 * F.sum(y * weights)


# Random programs

class Batch(NamedTuple):
    """Ragged sequences, and what a program may want with them; all of it drawn from a seed."""

    steps: int
    lengths: tuple[int, ...]
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.steps, len(self.lengths)

    @property
    def inside(self) -> np.ndarray:
        return np.arange(self.steps)[:, None] < np.array(self.lengths, int)

    def x(self, features: int) -> np.ndarray:
        return normal(*self.shape, features, seed=self.seed)

    def integers(self, below: int, salt: int) -> np.ndarray:
        return RNG([self.seed, salt]).integers(0, below, self.shape)

    def numbers(self, salt: int, *shape: int) -> np.ndarray:
        return RNG([self.seed, salt]).standard_normal((*self.shape, *shape))


class Op(NamedTuple):
    """A step of a program: what it does, and a number that settles the rest."""

    kind: str
    number: int

    def pick(self, *choices: Any, salt: int = 1) -> Any:
        return choices[RNG([self.number, salt]).integers(len(choices))]


class Program(rnncore.Module):
    """A net that is drawn: each step makes a new sequence of those before.

    Sequences are rows, or arrays whose padding holds what it likes.
    """

    def __init__(self, features: int, ops: list[Op], ends: list[Op]) -> None:
        super().__init__(dtype=np.float64)
        self.features, self.ops, self.ends = features, ops, ends
        self.layers: dict[str, Any] = {}
        self.building = True
        batch = Batch(2, (2, 1), 0)
        with rnncore.Tape() as tape:
            self(tape.watch(batch.x(features)), batch)
        self.building = False

    def layer(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.layers:
            self.layers[name] = make()
            setattr(self, name, self.layers[name])
        return self.layers[name]

    def linear(self, name: str, x: Any, size: int, seed: int) -> Any:
        make = lambda: rnncore.Linear(width(x), size, seed=seed, **DOUBLE)  # noqa: E731
        return self.layer(name, make)(x)

    def forward(self, x: Any, batch: Batch, rows: bool = True) -> Any:
        total = 0.0
        for loss in self.losses(x, batch, rows):
            total = loss + total
        return total

    def losses(self, x: Any, batch: Batch, rows: bool) -> list[Any]:
        self.rows, self.batch = rows, batch
        self.seen, self.last = [F.pack(x, batch.lengths) if rows else x], []
        for k, op in enumerate(self.ops):
            self.seen.append(getattr(self, f"do_{op.kind}")(f"p{k}", op, self.seen[-1]))
        losses = [
            getattr(self, f"end_{op.kind}")(f"e{k}", op, self.seen[-1]) * (1.0 - 0.3 * k)
            for k, op in enumerate(self.ends)
        ]
        return losses + [squares(h) * 0.1 for h in self.last]

    def run(self, layer: Any, x: Any, state: Any = None) -> tuple[Any, Any]:
        return layer(x, state, None if self.rows else self.batch.lengths, rows=self.rows)

    def padded(self, x: Any) -> Any:
        return F.unpack(x) if self.rows else x

    def packed(self, x: Any) -> Any:
        return F.pack(x, self.batch.lengths) if self.rows else x

    def earlier(self, op: Op) -> Any:
        return self.seen[RNG([op.number, 2]).integers(len(self.seen))]

    # Steps

    def do_recurrent(self, name: str, op: Op, x: Any) -> Any:
        kind = op.pick(*KINDS)
        options = {
            "num_layers": op.pick(1, 1, 2, salt=2), "bidirectional": op.pick(False, True, salt=3),
            "bias": op.pick(True, False, "pytorch", salt=4),
            "learn_initial_state": op.pick(False, True, salt=5),
        }  # fmt: skip
        layer = self.layer(name, lambda: rnncore.Recurrent(
            kind, width(x), op.pick(1, 2, 3, salt=6), seed=op.number, **options, **DOUBLE))
        y, state = self.run(layer, x)
        self.last += state if isinstance(state, tuple) else (state,)
        return y

    def do_carried(self, name: str, op: Op, x: Any) -> Any:
        size = width(x)
        kind = op.pick("rnn_tanh", "lstm", "gru")
        layer = self.layer(name, lambda: rnncore.Recurrent(
            kind, size, size, seed=op.number, **DOUBLE))
        y, state = self.run(layer, x)
        return self.run(layer, y, state)[0]  # the same weights once more, from where it was

    def do_again(self, name: str, op: Op, x: Any) -> Any:
        fitting = [k for k, layer in self.layers.items() if not k.startswith("e") and width(x) ==
                   getattr(layer, "in_features", getattr(layer, "input_size", None))]  # fmt: skip
        if self.building and fitting:
            self.layers[name] = self.layers[fitting[op.number % len(fitting)]]
        layer = self.layer(name, lambda: rnncore.Linear(width(x), 2, seed=op.number, **DOUBLE))
        return layer(x) if isinstance(layer, rnncore.Linear) else self.run(layer, x)[0]

    def do_linear(self, name: str, op: Op, x: Any) -> Any:
        return self.linear(name, x, op.pick(1, 2, 4), op.number)

    def do_elementwise(self, name: str, op: Op, x: Any) -> Any:
        return op.pick(F.tanh, F.sigmoid, F.relu)(x)

    def do_arithmetic(self, name: str, op: Op, x: Any) -> Any:
        other = self.linear(name, self.earlier(op), width(x), op.number)
        return op.pick(lambda a, b: a + b, lambda a, b: a - b * 0.5, lambda a, b: a * F.sigmoid(b),
                       lambda a, b: 1.0 - a / 2.0 + b, lambda a, b: -a * b)(x, other)  # fmt: skip

    def do_concatenate(self, name: str, op: Op, x: Any) -> Any:
        return F.concatenate([x, self.earlier(op)][:: op.pick(1, -1)])

    def do_columns(self, name: str, op: Op, x: Any) -> Any:
        first = op.number % width(x)
        return F.columns(x, first, width(x))

    def do_softmax(self, name: str, op: Op, x: Any) -> Any:
        return F.concatenate([x, F.softmax(x)])

    def do_embedding(self, name: str, op: Op, x: Any) -> Any:
        table = self.layer(name, lambda: rnncore.Embedding(TOKENS, 2, seed=op.number, **DOUBLE))
        tokens = self.batch.integers(TOKENS, 3)
        vectors = table(tokens, self.batch.lengths) if self.rows else table(tokens)
        return F.concatenate([x, vectors, vectors])

    def do_tokens(self, name: str, op: Op, x: Any) -> Any:
        table = self.layer(name, lambda: rnncore.Embedding(TOKENS, 2, seed=op.number, **DOUBLE))
        rnn = self.layer(f"{name}r", lambda: rnncore.GRU(2, 2, seed=op.number, **DOUBLE))
        y, _ = rnn(self.batch.integers(TOKENS, 4), lengths=self.batch.lengths, embedding=table,
                   rows=self.rows)  # fmt: skip
        return F.concatenate([x, y])

    def do_gather(self, name: str, op: Op, x: Any) -> Any:
        pool = op.pick(F.mean_over_time, F.max_over_time)
        table = pool(x) if self.rows else pool(x, self.batch.lengths)
        index = self.batch.integers(max(1, len(self.batch.lengths)), 5)
        found = F.gather(table, index, self.batch.lengths) if self.rows else F.gather(table, index)
        return F.concatenate([x, found])

    def do_attention(self, name: str, op: Op, x: Any) -> Any:
        keys = self.padded(self.linear(name, self.earlier(op), width(x), op.number))
        x, read = self.padded(x), self.batch.inside.T[None]
        weights = F.softmax(F.einsum("sbf,tbf->sbt", x, keys), read)
        context = op.pick(
            lambda: F.einsum("sbt,tbf->sbf", weights, keys),
            lambda: F.transpose(F.matmul(F.transpose(weights, (1, 0, 2)),
                                         F.transpose(keys, (1, 0, 2))), (1, 0, 2)),
        )()  # fmt: skip
        return self.packed(F.concatenate([x, context]))

    # Ends

    def weights(self, *axes: None) -> Any:
        return None if self.rows else self.batch.inside[(..., *axes)]

    def end_cross_entropy(self, name: str, op: Op, x: Any) -> Any:
        logits = self.linear(name, x, 3, op.number)
        return rnncore.cross_entropy(
            logits, self.batch.integers(3, 6), class_weights=[1.0, 2.0, 0.5],
            label_smoothing=op.pick(0.0, 0.2), weights=self.weights(),
            reduction=op.pick("mean", "sum", salt=2),
        )  # fmt: skip

    def end_numbers(self, name: str, op: Op, x: Any) -> Any:
        loss = op.pick(rnncore.mse_loss, rnncore.huber_loss, rnncore.l1_loss,
                       lambda y, t, **o: rnncore.gaussian_nll_loss(
                           F.columns(y, 0, 2), t, 0.5 + F.sigmoid(F.columns(y, 2, 4)), **o))
        y = self.linear(name, x, 4, op.number)
        y = y if op.pick(False, False, False, True) else F.columns(y, 0, 2)
        return loss(y, self.batch.numbers(7, 2), weights=self.weights(None))

    def end_binary(self, name: str, op: Op, x: Any) -> Any:
        targets = self.batch.integers(2, 8)[..., None].astype(float)
        return rnncore.binary_cross_entropy_with_logits(
            self.linear(name, x, 1, op.number), targets, weights=self.weights(None))

    def end_quantile(self, name: str, op: Op, x: Any) -> Any:
        return rnncore.quantile_loss(self.linear(name, x, 2, op.number), self.batch.numbers(9),
                                     (0.25, 0.75), weights=self.weights())  # fmt: skip

    def end_ctc(self, name: str, op: Op, x: Any) -> Any:
        size = len(self.batch.lengths)
        return rnncore.ctc_loss(
            self.linear(name, x, 3, op.number), np.ones((size, 1), int) + op.number % 2,
            None if self.rows else self.batch.lengths, zero_infinity=True)  # fmt: skip

    def end_pooled(self, name: str, op: Op, x: Any) -> Any:
        pool = op.pick(F.mean_over_time, F.max_over_time)
        pooled = pool(x) if self.rows else pool(x, self.batch.lengths)
        return F.mean(F.tanh(self.linear(name, pooled, 2, op.number)))

    def end_steps(self, name: str, op: Op, x: Any) -> Any:
        x = self.padded(x) * self.batch.inside[..., None]
        part = op.pick(lambda: x[-1], lambda: F.stack([x[0], x[-1]], axis=1), lambda: x[:, :, ::2],
                       lambda: x[[0, -1, 0]], lambda: F.reshape(x, (-1,)))()  # fmt: skip
        return squares(part)


def width(x: Any) -> int:
    """Return the features of rows or of an array, on a tape or not."""
    x = getattr(x, "array", x) if isinstance(x, rnncore.Value) else x
    return x.features if isinstance(x, rnncore.Rows) else x.shape[-1]


def kinds(prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in vars(Program) if name.startswith(prefix)]


def ops(kinds: list[str], least: int, most: int) -> st.SearchStrategy[list[Op]]:
    op = st.builds(Op, st.sampled_from(kinds), st.integers(0, 1000))
    return st.lists(op, min_size=least, max_size=most)


def batches() -> st.SearchStrategy[Batch]:
    def of(steps: int) -> st.SearchStrategy[Batch]:
        lengths = st.lists(st.integers(0, steps), min_size=1, max_size=3).map(tuple)
        return st.builds(Batch, st.just(steps), lengths, st.integers(0, 1000))

    return st.integers(1, 4).flatmap(of)


programs = st.builds(Program, st.integers(1, 3), ops(kinds("do_"), 1, 4), ops(kinds("end_"), 1, 2))


def gradients(net: Program, batch: Batch, loss: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Return the loss and copies of the gradients of the input and of all parameters."""
    with rnncore.Tape() as tape:
        x = tape.watch(batch.x(net.features))
        value = loss(x)
    net.zero_grad()
    tape.backward(value)
    dx = np.zeros(x.shape) if x.gradient is None else np.array(x.gradient)
    return float(value), dx, net.flat_grads.copy()


def test_programs_have_all_steps_and_ends() -> None:
    assert len(kinds("do_")) >= 12 and len(kinds("end_")) >= 7


@settings(max_examples=40)
@given(programs, batches(), st.booleans())
def test_programs_against_finite_differences(net: Program, batch: Batch, rows: bool) -> None:
    x = batch.x(net.features)
    errors = rnncore.check_gradients(net, lambda x: net(x, batch, rows), {"x": x}, most=2)
    assert set(errors) == {"x", *net.params}


@settings(max_examples=60)
@given(programs, batches())
def test_rows_are_padding_that_does_not_count(net: Program, batch: Batch) -> None:
    found = [gradients(net, batch, lambda x, rows=rows: net(x, batch, rows))
             for rows in (True, False)]  # fmt: skip
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    for _, dx, _ in found:
        assert not dx[~batch.inside].any()


@settings(max_examples=30)
@given(programs, batches(), st.booleans())
def test_the_gradient_of_a_sum_is_the_sum(net: Program, batch: Batch, rows: bool) -> None:
    with rnncore.Tape() as tape:
        count = len(net.losses(tape.watch(batch.x(net.features)), batch, rows))
    alone = [
        gradients(net, batch, lambda x, k=k: net.losses(x, batch, rows)[k]) for k in range(count)
    ]
    together = gradients(net, batch, lambda x: net(x, batch, rows))
    for one, parts in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(one, sum(parts), rtol=1e-10, atol=1e-12)


@settings(max_examples=30)
@given(programs, st.lists(batches(), min_size=2, max_size=3), st.booleans())
def test_batches_add_up(net: Program, several: list[Batch], rows: bool) -> None:
    alone = [gradients(net, batch, lambda x, b=batch: net(x, b, rows))[2] for batch in several]
    net.flat_grads[...] = np.nan  # the first replaces what is there
    for k, batch in enumerate(several):
        with rnncore.Tape(net) as tape:
            loss = net(batch.x(net.features), batch, rows)
        tape.backward(loss, accumulate=k > 0)
    np.testing.assert_allclose(net.flat_grads, sum(alone), rtol=1e-10, atol=1e-12)


LAYERS: dict[str, Callable[[int], Any]] = {
    **{kind: lambda size, kind=kind: rnncore.Recurrent(kind, size, size, seed=1, **DOUBLE)
       for kind in KINDS},
    "linear": lambda size: rnncore.Linear(size, size, seed=1, **DOUBLE),
}  # fmt: skip


@settings(max_examples=40)
@given(st.sampled_from(list(LAYERS)), batches(), st.integers(1, 5), st.integers(2, 4))
def test_weights_used_again_are_copies_that_add_up(
    kind: str, batch: Batch, size: int, times: int
) -> None:
    shared = LAYERS[kind](size)
    copies = [copy.deepcopy(shared) for _ in range(times)]

    def run(layers: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        with rnncore.Tape() as tape:
            start = tape.watch(batch.x(size))
            x, total = F.pack(start, batch.lengths), 0.0
            for layer in layers:
                y = layer(x) if kind == "linear" else layer(x, rows=True)[0]
                x, total = F.tanh(y) + x, squares(y) + total  # a branch each time
        tape.backward(total)
        own = {id(layer): layer.flat_grads for layer in layers}
        return start.gradient, sum(own.values())

    for one, other in zip(run([shared] * times), run(copies), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# Every function and every loss

#: What each is checked in: compositions of a and b (T, B, I), c (I,) and lengths (B,).
COMPOSITIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, c, n: F.add(F.add(a, c), b),
    "columns": lambda a, b, c, n: F.columns(F.tanh(a), a.shape[-1] // 2, a.shape[-1]),
    "concatenate": lambda a, b, c, n: F.concatenate([a, b * a, a], axis=n[0] % 3),
    "dropout": lambda a, b, c, n: F.dropout(a * b, 0.4, RNG(1)),
    "einsum": lambda a, b, c, n: F.einsum("sbi,tbi,i->bst", a, b, c),
    "gather": lambda a, b, c, n: F.gather(
        a[0] * b[-1], RNG(0).integers(0, a.shape[1], (3, 2)), [3, 1]),
    "matmul": lambda a, b, c, n: F.matmul(a, F.transpose(b, (0, 2, 1))),
    "max_over_time": lambda a, b, c, n: F.max_over_time(a * b, n),
    "mean": lambda a, b, c, n: F.mean(a * b, (0, 2)),
    "mean_over_time": lambda a, b, c, n: F.mean_over_time(a * b, n),
    "multiply": lambda a, b, c, n: F.multiply(F.multiply(a, c), b),
    "pack": lambda a, b, c, n: F.pack(a, n) * F.pack(b, n),
    "relu": lambda a, b, c, n: F.relu(a) * b,
    "reshape": lambda a, b, c, n: F.reshape(a * b, (-1, a.shape[-1])),
    "sigmoid": lambda a, b, c, n: F.sigmoid(a) * b,
    "softmax": lambda a, b, c, n: F.softmax(
        a * b, (np.arange(len(a))[:, None] < n)[..., None], axis=0),
    "stack": lambda a, b, c, n: F.stack([a, b, a], axis=n[0] % 4),
    "sum": lambda a, b, c, n: F.sum(a * b, 1),
    "take": lambda a, b, c, n: F.take(a * b, ([0, -1, 0], 0)),
    "tanh": lambda a, b, c, n: F.tanh(a) * b,
    "transpose": lambda a, b, c, n: F.transpose(a * b, (1, 2, 0)),
    "unpack": lambda a, b, c, n: F.unpack(F.pack(a * b, n)) * a,
    "binary_cross_entropy_with_logits": lambda a, b, c, n: L.binary_cross_entropy_with_logits(
        a * b, RNG(0).uniform(size=a.shape), pos_weight=np.arange(1.0, a.shape[-1] + 1)),
    "cross_entropy": lambda a, b, c, n: L.cross_entropy(
        F.pack(a * b, n), RNG(0).integers(0, a.shape[-1], a.shape[:2]), label_smoothing=0.1),
    "ctc_loss": lambda a, b, c, n: L.ctc_loss(
        F.concatenate([a * b, a]), np.ones((a.shape[1], 1), int), np.maximum(n, 1)),
    "gaussian_nll_loss": lambda a, b, c, n: L.gaussian_nll_loss(
        a, normal(*a.shape, seed=5), b * b + 0.5),
    "huber_loss": lambda a, b, c, n: L.huber_loss(a * b, normal(*a.shape, seed=5), delta=0.7),
    "l1_loss": lambda a, b, c, n: L.l1_loss(F.pack(a * b, n), normal(*a.shape, seed=5)),
    "mse_loss": lambda a, b, c, n: L.mse_loss(a * b, normal(*a.shape, seed=5), reduction="sum"),
    "quantile_loss": lambda a, b, c, n: L.quantile_loss(
        a * b, normal(*a.shape[:2], seed=5), np.linspace(0, 1, a.shape[-1] + 2)[1:-1]),
    "softmax_cross_entropy": lambda a, b, c, n: by_hand(
        L.softmax_cross_entropy, a * b, RNG(0).integers(-1, a.shape[-1], a.shape[:2])),
}  # fmt: skip

#: `Loss` is what they return; the others evaluate alone and give no gradient.
WITHOUT_GRADIENT = {"Loss", "cross_entropy_each", "cross_entropy_sum"}


def by_hand(loss: Callable[..., Any], x: Any, targets: Any) -> Any:
    """Put a loss that returns its gradient on the tape of x."""
    value, gradient = loss(x.array, targets)
    return x.tape.record(value, (x,), lambda d: (gradient * d,))


def test_every_function_and_loss_has_a_composition() -> None:
    names = [*F.__all__, *L.__all__]
    assert sorted(COMPOSITIONS) == sorted(set(names) - WITHOUT_GRADIENT)
    assert len(set(names)) == len(names)
    public = {name for name in rnncore.__all__ if "loss" in name or "entropy" in name}
    assert public <= set(COMPOSITIONS)


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_every_function_and_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = F if name in F.__all__ else L
    function, calls = getattr(where, name), []

    def spy(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        calls.append(isinstance(result, rnncore.Value))
        return result

    monkeypatch.setattr(where, name, spy)
    for steps, size, features in product((1, 4), (1, 3), (1, 3)):
        a, b = normal(steps, size, features), normal(steps, size, features, seed=1)
        lengths, c = RNG(steps).integers(0, steps + 1, size), normal(features, seed=2)

        def loss(a: Any, b: Any, c: Any, n: Any = lengths) -> Any:
            y = COMPOSITIONS[name](a, b, c, n)
            return (squares(y) if where is F else y) + 0.1 * F.sum(c)

        rnncore.check_gradients(rnncore.Module(dtype=np.float64), loss, {"a": a, "b": b, "c": c})
    assert calls and (all(calls) or name == "softmax_cross_entropy")


# Every composition of the pages

def nets_of_the_pages() -> dict[str, Any]:
    """Return the modules that README and docs define, with layers of float64."""
    found: dict[str, Any] = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for text in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S):
            for statement in ast.parse(text).body:
                if isinstance(statement, ast.ClassDef):
                    source = ast.unparse(statement).replace("seed=", "dtype=np.float64, seed=")
                    exec(source, {"rnncore": rnncore, "np": np, "F": F}, found)
    return {name: net for name, net in found.items() if issubclass(net, rnncore.Module)}


PAGES: dict[str, Callable[[Any], dict[str, float]]] = {
    "Forecaster": lambda net: rnncore.check_gradients(
        net, lambda x: rnncore.mse_loss(net(x), normal(6, 3, 1, seed=1)),
        {"x": normal(6, 3, 1)}, most=10),
    "Translator": lambda net: rnncore.check_gradients(
        net, lambda: rnncore.cross_entropy(
            net(RNG(0).integers(0, 50, (5, 3)), [5, 0, 3], RNG(1).integers(0, 60, (3, 3))),
            RNG(2).integers(0, 60, (3, 3))), most=10),
}  # fmt: skip


def test_every_net_of_the_pages_is_checked() -> None:
    nets = nets_of_the_pages()
    assert set(nets) == set(PAGES)
    for name, check in PAGES.items():
        net = nets[name]()
        assert set(net.params) <= set(check(net))
        assert inspect.getmro(nets[name])[1] is rnncore.Module
