"""Losses: against their twins, PyTorch and finite differences; weights, masks, rows, sums."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import BUILDS
from finite_differences import gradient_error, numerical_gradient

import rnncore
from rnncore import Loss, reference

T, B, F = 6, 4, 3
QUANTILES = (0.25, 0.5, 0.875)
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.25])
POS_WEIGHT = np.array([0.5, 3.0, 1.0])
TORCH_TOLERANCE = 1e-10

Array = np.ndarray


def classes(rng: np.random.Generator) -> Array:
    return rng.integers(0, F, (T, B))


def numbers(rng: np.random.Generator) -> Array:
    return rng.standard_normal((T, B, F))


class Case(NamedTuple):
    """A loss, how its targets are made, its twin, and PyTorch's losses of the items."""

    call: Callable[..., Loss]
    targets: Callable[[np.random.Generator], Array]
    twin: Callable[..., tuple[float, Any]]
    torch: Callable[..., Any]
    per_row: bool = False
    class_weights: Array | None = None
    inputs: int = 1

    def make(self, seed: int = 0, dtype: type = np.float64) -> tuple[list[Array], Array]:
        rng = np.random.default_rng(seed)
        x = [2 * rng.standard_normal((T, B, F))]
        if self.inputs == 2:
            x.append(np.exp(rng.standard_normal((T, B, F))))
        return [a.astype(dtype) for a in x], self.targets(rng)

    def weights(self, seed: int = 1) -> Array:
        rng = np.random.default_rng(seed)
        shape = (T, B) if self.per_row else (T, B, F)
        return rng.uniform(0.5, 2, shape) * (rng.uniform(size=shape) > 0.3)

    def loss(self, x: list[Any], targets: Any, **options: Any) -> Loss:
        return self.call(x[0], targets, *x[1:], **options)


def quantile_items(torch: Any, x: Any, t: Any) -> Any:
    q = torch.tensor(QUANTILES, dtype=x.dtype)
    e = t[..., None] - x
    return torch.maximum(q * e, (q - 1) * e).mean(-1)


def cross_entropy_items(torch: Any, x: Any, t: Any, **options: Any) -> Any:
    items = torch.nn.functional.cross_entropy(
        x.reshape(-1, F), t.reshape(-1), reduction="none", **options
    )
    return items.reshape(t.shape)


def twin_of_classes(class_weights: Array, smoothing: float) -> Callable[..., Any]:
    def twin(x: Array, t: Array, w: Array) -> Any:
        loss, dx = reference.cross_entropy(
            x.reshape(-1, F), t.reshape(-1), w.reshape(-1), class_weights, smoothing
        )
        return loss, dx.reshape(x.shape)

    return twin


CASES = {
    "cross_entropy": Case(
        rnncore.cross_entropy, classes, twin_of_classes(np.ones(F), 0), cross_entropy_items, True
    ),
    "cross_entropy of weighted classes": Case(
        lambda x, t, **o: rnncore.cross_entropy(x, t, class_weights=CLASS_WEIGHTS, **o),
        classes, twin_of_classes(CLASS_WEIGHTS, 0),
        lambda torch, x, t: cross_entropy_items(torch, x, t, weight=torch.tensor(CLASS_WEIGHTS)),
        True, CLASS_WEIGHTS,
    ),
    "cross_entropy, smoothed": Case(
        lambda x, t, **o: rnncore.cross_entropy(
            x, t, class_weights=CLASS_WEIGHTS, label_smoothing=0.2, **o),
        classes, twin_of_classes(CLASS_WEIGHTS, 0.2),
        lambda torch, x, t: cross_entropy_items(
            torch, x, t, weight=torch.tensor(CLASS_WEIGHTS), label_smoothing=0.2),
        True, CLASS_WEIGHTS,
    ),
    "binary_cross_entropy_with_logits": Case(
        lambda x, t, **o: rnncore.binary_cross_entropy_with_logits(
            x, t, pos_weight=POS_WEIGHT, **o),
        lambda rng: rng.uniform(size=(T, B, F)).round(1),
        lambda x, t, w: reference.binary_cross_entropy_with_logits(x, t, w, POS_WEIGHT),
        lambda torch, x, t: torch.nn.functional.binary_cross_entropy_with_logits(
            x, t, reduction="none", pos_weight=torch.tensor(POS_WEIGHT)),
    ),
    "mse_loss": Case(
        rnncore.mse_loss, numbers, reference.mse_loss,
        lambda torch, x, t: torch.nn.functional.mse_loss(x, t, reduction="none"),
    ),
    "l1_loss": Case(
        rnncore.l1_loss, numbers, reference.l1_loss,
        lambda torch, x, t: torch.nn.functional.l1_loss(x, t, reduction="none"),
    ),
    "huber_loss": Case(
        lambda x, t, **o: rnncore.huber_loss(x, t, delta=1.5, **o), numbers,
        lambda x, t, w: reference.huber_loss(x, t, w, 1.5),
        lambda torch, x, t: torch.nn.functional.huber_loss(x, t, reduction="none", delta=1.5),
    ),
    "quantile_loss": Case(
        lambda x, t, **o: rnncore.quantile_loss(x, t, QUANTILES, **o),
        lambda rng: rng.standard_normal((T, B)),
        lambda x, t, w: reference.quantile_loss(x, t, w, QUANTILES), quantile_items, True,
    ),
    "gaussian_nll_loss": Case(
        lambda x, t, v, **o: rnncore.gaussian_nll_loss(x, t, v, eps=0.3, **o), numbers,
        lambda x, v, t, w: reference.gaussian_nll_loss(x, t, v, w, 0.3),
        lambda torch, x, v, t: torch.nn.functional.gaussian_nll_loss(
            x, t, v, eps=0.3, reduction="none"),
        inputs=2,
    ),
}  # fmt: skip

every_loss = pytest.mark.parametrize("name", CASES)


def gradients(loss: Loss) -> tuple[Any, ...]:
    """Return the gradients of all inputs; rows are a tuple as well."""
    alone = isinstance(loss.gradient, np.ndarray | rnncore.Rows)
    return (loss.gradient,) if alone else loss.gradient


def same(a: Loss, b: Loss) -> bool:
    alike = zip(gradients(a), gradients(b), strict=True)
    return a[:2] == b[:2] and all(np.array_equal(p, q) for p, q in alike)


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_the_twin_agrees(name: str, weighted: bool) -> None:
    case = CASES[name]
    x, targets = case.make()
    copies = [a.copy() for a in x]
    w = case.weights() if weighted else None
    ones = np.ones((T, B) if case.per_row else (T, B, F))
    loss = case.loss(x, targets, weights=w)
    mean, dx = case.twin(*x, targets, ones if w is None else w)
    assert loss.mean == pytest.approx(mean, rel=1e-13)
    dx = dx if isinstance(dx, tuple) else (dx,)
    for mine, theirs in zip(gradients(loss), dx, strict=True):
        assert mine.dtype == np.float64 and np.abs(mine - theirs).max() <= 1e-15
    of_all = case.loss(x, targets, weights=w, reduction="sum")
    assert of_all[:2] == loss[:2]
    for mine, theirs in zip(gradients(of_all), dx, strict=True):
        assert np.abs(mine - loss.weight * theirs).max() <= 1e-13
    assert all(np.array_equal(a, b) for a, b in zip(x, copies, strict=True))


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_by_finite_differences(name: str, reduction: str) -> None:
    case = CASES[name]
    x, targets = case.make(seed=2)
    if case.inputs == 2:
        x[1] = np.maximum(x[1], 0.4)  # below eps the gradient is PyTorch's, not the derivative
    w = case.weights()

    def value() -> float:
        loss = case.loss(x, targets, weights=w, reduction=reduction)
        return loss.mean if reduction == "mean" else loss.total

    loss = case.loss(x, targets, weights=w, reduction=reduction)
    for array, gradient in zip(x, gradients(loss), strict=True):
        assert gradient_error(gradient, numerical_gradient(value, array)) <= 1e-7


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_pytorch_agrees(name: str, weighted: bool) -> None:
    torch = pytest.importorskip("torch")
    case = CASES[name]
    x, targets = case.make(seed=3)
    if case.inputs == 2:
        assert (x[1] < 0.3).any(), "some variances are below eps"
    variables = [torch.tensor(a, requires_grad=True) for a in x]
    items = case.torch(torch, *variables, torch.tensor(targets))
    w = case.weights() if weighted else np.ones(tuple(items.shape))
    of_target = 1 if case.class_weights is None else case.class_weights[targets]
    expected = (items * torch.tensor(w)).sum() / (w * of_target).sum()
    expected.backward()
    loss = case.loss(x, targets, weights=w if weighted else None)
    assert loss.mean == pytest.approx(expected.item(), rel=TORCH_TOLERANCE)
    for mine, variable in zip(gradients(loss), variables, strict=True):
        assert np.abs(mine - variable.grad.numpy()).max() <= TORCH_TOLERANCE


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_of_classes_divides_as_pytorchs(smoothing: float, weighted: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, targets = 3 * rng.standard_normal((40, 19)), rng.integers(0, 19, 40)
    targets[::5] = -100
    w = rng.uniform(0, 2, 19) if weighted else None
    variable = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        variable, torch.tensor(targets), None if w is None else torch.tensor(w),
        label_smoothing=smoothing,
    )  # fmt: skip
    expected.backward()
    loss = rnncore.cross_entropy(x, targets, class_weights=w, label_smoothing=smoothing)
    assert loss.mean == pytest.approx(expected.item(), rel=1e-12)
    assert np.abs(loss.gradient - variable.grad.numpy()).max() <= 1e-13
    assert not loss.gradient[::5].any()


@every_loss
def test_float32_is_float64_rounded(name: str) -> None:
    case = CASES[name]
    x, targets = case.make(dtype=np.float32)
    wide = case.loss([a.astype(np.float64) for a in x], targets)
    loss = case.loss(x, targets)
    assert loss.mean == pytest.approx(wide.mean, rel=1e-6)
    for mine, exact in zip(gradients(loss), gradients(wide), strict=True):
        assert mine.dtype == np.float32 and mine.shape == exact.shape
        assert np.abs(mine - exact).max() <= 1e-6 * np.abs(exact).max()
    assert isinstance(loss.total, float) and isinstance(loss.weight, float)
    swapped = [np.asfortranarray(a.astype(a.dtype.newbyteorder())) for a in x]
    assert same(case.loss(swapped, targets), loss)


@every_loss
def test_sums_combine_over_halves_of_a_batch(name: str) -> None:
    case = CASES[name]
    x, targets = case.make()
    # numbers of few bits: the sums of the losses without logarithms have no rounding at all
    x = [(a * 8).round() / 8 + (i > 0) for i, a in enumerate(x)]
    targets = targets if targets.dtype.kind == "i" else (targets * 8).round() / 8
    targets = np.abs(targets).clip(0, 1) if "binary" in name else targets
    w = (case.weights() * 8).round() / 8
    whole = case.loss(x, targets, weights=w, reduction="sum")
    halves = [
        case.loss([a[:, part] for a in x], targets[:, part], weights=w[:, part], reduction="sum")
        for part in (slice(0, 1), slice(1, 4))
    ]
    both = sum(halves)
    assert isinstance(both, Loss) and both.gradient is None
    assert both.weight == whole.weight
    if name in ("mse_loss", "l1_loss", "huber_loss"):
        assert both.total == whole.total and both.mean == whole.mean
    assert both.total == pytest.approx(whole.total, rel=1e-14)
    for parts, all_of_it in zip(zip(*map(gradients, halves), strict=True), gradients(whole),
                                strict=True):  # fmt: skip
        assert np.array_equal(np.concatenate(parts, axis=1), all_of_it)


@every_loss
def test_what_weighs_nothing_counts_for_nothing(name: str) -> None:
    case = CASES[name]
    x, targets = case.make()
    w = case.weights()
    clean = case.loss(x, targets, weights=w)
    for a in x:
        a[w == 0] = np.nan
    if targets.dtype.kind == "f":
        targets[w == 0] = np.nan
    else:
        targets[w == 0] = 10**6
    with np.errstate(all="raise"):
        assert same(case.loss(x, targets, weights=w), clean)
    for gradient in gradients(clean):
        assert not gradient[w == 0].any() and gradient[w > 0].any()
    mask = case.loss(x, targets, weights=w > 0)
    assert mask.total == case.loss(x, targets, weights=(w > 0).astype(int)).total
    nothing = case.loss(x, targets, weights=np.zeros_like(w))
    assert nothing[:2] == (0, 0) and nothing.mean == 0.0
    assert not any(gradient.any() for gradient in gradients(nothing))


@every_loss
def test_a_nan_is_seen(name: str) -> None:
    case = CASES[name]
    x, targets = case.make()
    for a in x:
        a[1, 2, 0] = np.nan
        loss = case.loss(x, targets)
        assert np.isnan(loss.mean) and np.isnan(gradients(loss)[0][1, 2]).any()
        a[1, 2, 0] = 1


@every_loss
def test_of_nothing(name: str) -> None:
    case = CASES[name]
    x, targets = case.make()
    loss = case.loss([a[:0] for a in x], targets[:0])
    assert loss[:2] == (0, 0) and loss.mean == 0.0 and gradients(loss)[0].shape == (0, B, F)


def rows_of(dtype: type, lengths: list[int] | None, features: int = F) -> rnncore.Rows:
    rng = np.random.default_rng(5)
    layer = rnncore.LSTM(2, 5, dtype=dtype, seed=0)
    head = rnncore.Linear(5, features, dtype=dtype, seed=1)
    y, _ = layer.forward(rng.standard_normal((T, B, 2)), lengths=lengths, rows=True)
    return head.forward(y)


@every_loss
@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 5]])
def test_rows_are_arrays_without_padding(name: str, lengths: list[int] | None) -> None:
    case = CASES[name]
    z = rows_of(np.float64, lengths)
    x = [z] if case.inputs == 1 else [z, z.like(np.exp(z.padded()))]
    _, targets = case.make()
    w = case.weights()
    steps = np.arange(T)[:, None] < np.array(lengths or [T] * B)
    inside = steps if case.per_row else np.broadcast_to(steps[..., None], w.shape)
    arrays = [part.unpack() for part in x]
    expected = case.loss(arrays, targets, weights=w * inside)
    junk = np.where(inside, targets, -7 if targets.dtype.kind == "i" else np.nan)
    loss = case.loss(x, junk, weights=np.where(inside, w, np.nan))
    assert loss.mean == pytest.approx(expected.mean, rel=1e-13) and loss.weight == pytest.approx(
        expected.weight, rel=1e-15)  # fmt: skip
    for mine, theirs in zip(gradients(loss), gradients(expected), strict=True):
        assert isinstance(mine, rnncore.Rows) and mine.batch is z.batch
        assert np.abs(mine.unpack() - theirs).max() <= 1e-16
        assert not mine.padded()[:, mine.depth :].any()


def test_rows_of_two_directions() -> None:
    rng = np.random.default_rng(0)
    layer = rnncore.GRU(2, 5, bidirectional=True, dtype=np.float64, seed=0)
    x, targets = rng.standard_normal((T, B, 2)), rng.standard_normal((T, B, 10))
    y, _ = layer.forward(x, lengths=[2, 6, 4, 1], rows=True)
    assert y.parts == 2
    loss = rnncore.mse_loss(y, targets)
    steps = (np.arange(T)[:, None] < [2, 6, 4, 1])[..., None]
    expected = rnncore.mse_loss(y.unpack(), targets, weights=steps)
    assert loss.mean == pytest.approx(expected.mean, rel=1e-14)
    assert np.abs(loss.gradient.unpack() - expected.gradient).max() <= 1e-16
    dx, _ = layer.backward(loss.gradient)
    labels = rng.integers(0, 10, (T, B))
    a = rnncore.cross_entropy(y, labels)
    b = rnncore.cross_entropy(y.unpack(), labels, weights=steps[..., 0])
    assert a.mean == pytest.approx(b.mean, rel=1e-14)
    assert np.abs(a.gradient.unpack() - b.gradient).max() <= 1e-16
    assert dx.shape == x.shape and dx.any()


def test_softmax_cross_entropy_is_a_case_of_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x, targets = rng.standard_normal((50, 33)).astype(dtype), rng.integers(-1, 33, 50)
        mean, dx = rnncore.softmax_cross_entropy(x, targets)
        loss = rnncore.cross_entropy(x, targets, ignore_index=-1)
        assert loss.mean == mean and np.array_equal(loss.gradient, dx)


def test_one_item_may_stand_alone() -> None:
    loss = rnncore.mse_loss(np.float32(3), 1)
    assert loss[:2] == (4, 1) and loss.gradient.shape == () and loss.gradient == 4
    assert rnncore.mse_loss(np.float32(3), 1, weights=False)[:2] == (0, 0)
    loss = rnncore.cross_entropy(np.zeros(4), 2, weights=2)
    assert loss.weight == 2 and loss.gradient.tolist() == [0.25, 0.25, -0.75, 0.25]
    loss = rnncore.quantile_loss(np.zeros(2), 1.0, (0.25, 0.75))
    assert loss.mean == 0.5 and loss.gradient.tolist() == [-0.125, -0.375]


def test_classes_that_weigh_nothing() -> None:
    x, targets = np.random.default_rng(0).standard_normal((4, 3)), [0, 1, 1, 2]
    loss = rnncore.cross_entropy(x, targets, class_weights=[1, 0, 2])
    assert loss.weight == 3 and not loss.gradient[1:3].any()
    loss = rnncore.cross_entropy(x[1:3], targets[1:3], class_weights=[1, 0, 2])
    assert loss[:2] == (0, 0) and not loss.gradient.any()


def test_far_logits_stay_finite() -> None:
    x = np.array([-1e4, 1e4])
    loss = rnncore.binary_cross_entropy_with_logits(x, [1, 0], reduction="sum")
    assert loss.total == 2e4 and loss.gradient.tolist() == [-1, 1]
    loss = rnncore.cross_entropy(x[None], [0], label_smoothing=0.5)
    assert loss.mean == 1.5e4 and loss.gradient.tolist() == [[-0.75, 0.75]]


def test_a_loss_at_its_kink() -> None:
    at = np.ones((2, 1))
    assert not rnncore.l1_loss(at, at).gradient.any()
    assert not rnncore.quantile_loss(at, [1, 1], [0.9]).gradient.any()


def test_the_gaussian_constant() -> None:
    x, v = np.zeros(3), np.ones(3)
    loss = rnncore.gaussian_nll_loss(x, x, v, full=True)
    assert loss.mean == pytest.approx(np.log(2 * np.pi) / 2)


# CTC


def paths(x: Array, labels: list[int], blank: int) -> float:
    """Return the loss by its definition: every path there is."""
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    total = 0.0
    for path in product(range(x.shape[1]), repeat=len(x)):
        if [k for k, _ in groupby(path) if k != blank] == labels:
            total += float(np.prod([p[t, k] for t, k in enumerate(path)]))
    return -np.log(total)


@pytest.mark.parametrize(
    ("labels", "blank"),
    [([], 0), ([1], 0), ([1, 1], 0), ([2, 1], 0), ([0, 1, 0], 2), ([1, 1, 0], 2), ([2, 0], 1)],
)
def test_ctc_is_the_sum_over_paths(labels: list[int], blank: int) -> None:
    x = np.random.default_rng(0).standard_normal((5, 1, 3))
    loss = rnncore.ctc_loss(x, np.array([labels], int), blank=blank, reduction="sum")
    assert loss.total == pytest.approx(paths(x[:, 0], labels, blank), rel=1e-13)
    twin, dx = reference.ctc_loss(x[:, 0], labels, blank)
    assert loss.total == pytest.approx(twin, rel=1e-13)
    assert np.abs(loss.gradient[:, 0] - dx).max() <= 1e-14

    def value() -> float:
        return rnncore.ctc_loss(x, np.array([labels], int), blank=blank, reduction="sum").total

    assert gradient_error(loss.gradient, numerical_gradient(value, x)) <= 1e-7


class Sequences(NamedTuple):
    x: Array
    targets: Array
    lengths: Array
    counts: Array


def sequences(
    steps: int, batch: int, size: int, labels: int, seed: int = 0, scale: float = 3
) -> Sequences:
    rng = np.random.default_rng(seed)
    x = scale * rng.standard_normal((steps, batch, size))
    counts = rng.integers(0, labels + 1, batch)
    lengths = np.maximum(rng.integers(0, steps + 1, batch), np.minimum(2 * counts, steps))
    return Sequences(x, rng.integers(1, max(2, size), (batch, labels)), lengths, counts)


#: Steps, sequences, classes, labels: around the tails of vectors, few classes (many repeats), long.
SIZES = [
    (1, 1, 2, 1), (7, 5, 2, 3), (9, 3, 8, 4), (20, 6, 17, 7), (16, 4, 33, 8), (100, 8, 30, 20),
    (300, 2, 5, 60),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_ctc_against_its_twin(size: tuple[int, int, int, int]) -> None:
    x, targets, lengths, counts = sequences(*size)
    w = np.linspace(0.5, 2, len(counts))
    loss = rnncore.ctc_loss(x, targets, lengths, counts, weights=w, zero_infinity=True)
    total = 0.0
    for b, (steps, count) in enumerate(zip(lengths, counts, strict=True)):
        expected, dx = 0.0, np.zeros_like(x[:, b])
        if steps:
            with np.errstate(invalid="ignore"):
                nll, slope = reference.ctc_loss(x[:steps, b], targets[b, :count])
            if np.isfinite(nll):
                scale = w[b] / max(count, 1)
                expected, dx[:steps] = scale * nll, scale / w.sum() * slope
        total += expected
        assert np.abs(loss.gradient[:, b] - dx).max() <= 1e-12
    assert loss.mean == pytest.approx(total / w.sum(), rel=1e-13)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_ctc_against_pytorch(
    size: tuple[int, int, int, int], reduction: str, zero_infinity: bool
) -> None:
    torch = pytest.importorskip("torch")
    x, targets, _, counts = sequences(*size, seed=1)
    lengths = np.random.default_rng(2).integers(0, size[0] + 1, size[1])
    variable = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        variable.log_softmax(-1), *map(torch.tensor, (targets, lengths, counts)),
        reduction=reduction, zero_infinity=zero_infinity,
    )  # fmt: skip
    expected.backward()
    theirs = variable.grad.numpy()
    loss = rnncore.ctc_loss(
        x, targets, lengths, counts, reduction=reduction, zero_infinity=zero_infinity
    )
    value = loss.mean if reduction == "mean" else loss.total
    assert value == pytest.approx(expected.item(), rel=TORCH_TOLERANCE)
    np.testing.assert_allclose(loss.gradient, theirs, rtol=0, atol=TORCH_TOLERANCE)
    in_one_axis = np.concatenate([row[:n] for row, n in zip(targets, counts, strict=True)])
    again = rnncore.ctc_loss(
        x, in_one_axis, lengths, counts, reduction=reduction, zero_infinity=zero_infinity
    )
    assert again.total == loss.total
    assert np.array_equal(again.gradient, loss.gradient, equal_nan=True)


def test_ctc_takes_log_probabilities_as_well() -> None:
    x, targets, lengths, counts = sequences(20, 5, 9, 4)
    log_p = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    a = rnncore.ctc_loss(x, targets, lengths, counts)
    b = rnncore.ctc_loss(log_p, targets, lengths, counts)
    assert a.mean == pytest.approx(b.mean, rel=1e-13)
    assert np.abs(a.gradient - b.gradient).max() <= 1e-14


def test_ctc_of_what_cannot_be() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    targets = np.array([[1, 1, 2], [1, 2, 3], [4, 0, 0], [2, 0, 0]])
    lengths, counts = [3, 3, 0, 3], [3, 3, 1, 1]  # the first and the third are too short
    loss = rnncore.ctc_loss(x, targets, lengths, counts)
    assert loss.mean == np.inf
    assert np.isnan(loss.gradient[:, 0]).all() and np.isfinite(loss.gradient[:, 1:]).all()
    kept = rnncore.ctc_loss(x, targets, lengths, counts, zero_infinity=True)
    assert np.isfinite(kept.mean) and kept.weight == 4
    assert not kept.gradient[:, [0, 2]].any() and kept.gradient[:, [1, 3]].any()
    assert rnncore.ctc_loss(x[:0], targets[:, :0]).mean == 0, "no steps say no labels"
    x[1, 3, 0] = np.nan
    seen = rnncore.ctc_loss(x, targets, lengths, counts, zero_infinity=True)
    assert np.isnan(seen.mean) and np.isnan(seen.gradient[:, 3]).all()
    targets[[0, 2, 3]] = -5
    hidden = rnncore.ctc_loss(x, targets, lengths, counts, weights=[0, 1, 0, 0])
    assert np.isfinite(hidden.mean) and hidden.weight == 1 and not hidden.gradient[:, 3].any()
    nothing = rnncore.ctc_loss(x, targets, lengths, counts, weights=np.zeros(4))
    assert nothing[:2] == (0, 0) and not nothing.gradient.any()


def test_ctc_is_exact_where_no_probability_is_a_number() -> None:
    # 1000 steps that all speak against the labels: a probability of e^-100000
    x = np.zeros((1000, 1, 3))
    x[..., 2] = 100
    loss = rnncore.ctc_loss(x, [[1, 1]], reduction="sum")
    twin, dx = reference.ctc_loss(x[:, 0], [1, 1])
    assert loss.total > 9e4 and loss.total == pytest.approx(twin, rel=1e-13)
    assert np.abs(loss.gradient[:, 0] - dx).max() <= 1e-9
    assert np.abs(loss.gradient.sum(axis=-1)).max() <= 1e-9


def test_ctc_of_a_class_that_is_ruled_out() -> None:
    x, targets, lengths, counts = sequences(12, 5, 4, 3)
    expected = rnncore.ctc_loss(x, targets, lengths, counts, zero_infinity=True)
    wide = np.concatenate([x, np.full((12, 5, 1), -np.inf)], axis=-1)
    loss = rnncore.ctc_loss(wide, targets, lengths, counts, zero_infinity=True)
    assert loss.mean == pytest.approx(expected.mean, rel=1e-14)
    assert np.abs(loss.gradient[..., :4] - expected.gradient).max() <= 1e-15
    assert not loss.gradient[..., 4].any()


def test_ctc_sums_combine() -> None:
    x, targets, lengths, counts = sequences(40, 6, 9, 8)
    for reduction in ("mean", "sum"):
        whole = rnncore.ctc_loss(x, targets, lengths, counts, reduction=reduction)
        both = sum(
            rnncore.ctc_loss(x[:, b], targets[b], lengths[b], counts[b], reduction=reduction)
            for b in (slice(0, 2), slice(2, 6))
        )
        assert both.weight == whole.weight
        assert both.total == pytest.approx(whole.total, rel=1e-15)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ctc_gives_the_same_bits_for_any_threads(
    build: str, dtype: type, threads: Callable[[int], None], use_build: Callable[[str], None]
) -> None:
    use_build(build)
    x, targets, lengths, counts = sequences(120, 13, 21, 25)
    x = x.astype(dtype)
    threads(1)
    expected = rnncore.ctc_loss(x, targets, lengths, counts, zero_infinity=True)
    wide = rnncore.ctc_loss(x.astype(np.float64), targets, lengths, counts, zero_infinity=True)
    assert expected.mean == pytest.approx(wide.mean, rel=1e-6)
    assert expected.gradient.dtype == dtype
    assert np.abs(expected.gradient - wide.gradient).max() <= 1e-6
    for count in (2, 3, 8):
        threads(count)
        assert same(rnncore.ctc_loss(x, targets, lengths, counts, zero_infinity=True), expected)


@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 5]])
def test_ctc_of_rows(lengths: list[int] | None) -> None:
    z = rows_of(np.float64, lengths, 5)
    targets, counts = np.array([[1, 2], [0, 0], [3, 3], [4, 1]]), [2, 0, 2, 1]
    w = [1.0, 0.5, 2.0, 1.0]
    loss = rnncore.ctc_loss(z, targets, target_lengths=counts, weights=w)
    expected = rnncore.ctc_loss(z.unpack(), targets, lengths, counts, weights=w)
    assert loss[:2] == expected[:2]
    assert np.array_equal(loss.gradient.unpack(), expected.gradient)
    assert isinstance(loss.gradient, rnncore.Rows)


# Wrong arguments

X, IDS = np.zeros((T, B, F)), np.zeros((T, B), int)
ROWS = rows_of(np.float64, None)
LABELS = np.ones((B, 2), int)

WRONG: dict[str, tuple[type, Callable[[], object], tuple[str, ...]]] = {
    "x integers": (TypeError, lambda: rnncore.mse_loss(IDS, IDS), ("x:", "int64")),
    "x of no batch": (
        ValueError, lambda: rnncore.mse_loss(ROWS._replace(batch=None), X), ("x:", "rows")),
    "reduction": (
        ValueError, lambda: rnncore.mse_loss(X, X, reduction="none"), ("reduction:", "'none'")),
    "targets shape": (
        ValueError, lambda: rnncore.l1_loss(X, X[..., :1]), ("targets:", "(6, 4, 3)", "(6, 4, 1)")),
    "targets complex": (
        TypeError, lambda: rnncore.mse_loss(X, X.astype(complex)), ("targets:", "complex128")),
    "targets of rows": (
        ValueError, lambda: rnncore.mse_loss(ROWS, X[1:]),
        ("targets:", "(5, 4, 3)")),
    "weights shape": (
        ValueError, lambda: rnncore.mse_loss(X, X, weights=np.ones((T, B))),
        ("weights:", "(6, 4, 3)", "(6, 4)", "[..., None]")),
    "weights too wide": (
        ValueError, lambda: rnncore.mse_loss(X[0], X[0], weights=np.ones((T, B, F))),
        ("weights:", "(4, 3)", "(6, 4, 3)")),
    "weights negative": (
        ValueError, lambda: rnncore.mse_loss(X, X, weights=-1.5), ("weights:", "-1.5")),
    "weights NaN": (
        ValueError, lambda: rnncore.mse_loss(X, X, weights=np.nan),
        ("weights:", "nan")),
    "weights text": (TypeError, lambda: rnncore.mse_loss(X, X, weights="all"), ("weights:", "<U3")),
    "delta": (ValueError, lambda: rnncore.huber_loss(X, X, delta=0), ("delta:", "0")),
    "quantiles": (
        ValueError, lambda: rnncore.quantile_loss(X, IDS, (0.1, 1.0, 0.5)), ("quantiles:", "1.0")),
    "quantiles of no axis": (
        ValueError, lambda: rnncore.quantile_loss(X, IDS, 0.5), ("quantiles:", "0.5")),
    "quantiles and x": (
        ValueError, lambda: rnncore.quantile_loss(X, IDS, (0.1, 0.9)), ("x:", "2", "(6, 4, 3)")),
    "var negative": (
        ValueError, lambda: rnncore.gaussian_nll_loss(X, X, X - 2), ("var:", "-2.0")),
    "var shape": (
        ValueError, lambda: rnncore.gaussian_nll_loss(X, X, X[:2]), ("var:", "(2, 4, 3)")),
    "var dtype": (
        ValueError, lambda: rnncore.gaussian_nll_loss(X, X, X.astype(np.float32)),
        ("var:", "float32")),
    "var form": (
        TypeError, lambda: rnncore.gaussian_nll_loss(ROWS, X, X), ("var:", "rows", "an array")),
    "eps": (ValueError, lambda: rnncore.gaussian_nll_loss(X, X, X, eps=-1), ("eps:", "-1")),
    "full": (TypeError, lambda: rnncore.gaussian_nll_loss(X, X, X, full=1), ("full:", "1")),
    "binary targets": (
        ValueError, lambda: rnncore.binary_cross_entropy_with_logits(X, X + 2),
        ("targets:", "2.0")),
    "pos_weight shape": (
        ValueError, lambda: rnncore.binary_cross_entropy_with_logits(X, X, pos_weight=[1, 1]),
        ("pos_weight:", "(6, 4, 3)", "(2,)")),
    "pos_weight negative": (
        ValueError, lambda: rnncore.binary_cross_entropy_with_logits(X, X, pos_weight=-1),
        ("pos_weight:", "-1")),
    "pos_weight text": (
        TypeError, lambda: rnncore.binary_cross_entropy_with_logits(X, X, pos_weight="a"),
        ("pos_weight:", "<U1")),
    "x without classes": (
        ValueError, lambda: rnncore.cross_entropy(X[..., :0], IDS), ("x:", "(6, 4, 0)")),
    "class too large": (
        ValueError, lambda: rnncore.cross_entropy(X, IDS + 3), ("targets:", "0 to 2", "got 3")),
    "class negative": (
        ValueError, lambda: rnncore.cross_entropy(X, IDS - 1), ("targets:", "-100", "got -1")),
    "class larger than any": (
        ValueError, lambda: rnncore.cross_entropy(X, IDS.astype(np.uint64) - np.uint64(1)),
        ("targets:", "0 to 2")),
    "classes as floats": (
        TypeError, lambda: rnncore.cross_entropy(X, X[..., 0]), ("targets:", "float64")),
    "classes shape": (ValueError, lambda: rnncore.cross_entropy(X, IDS[0]), ("targets:", "(4,)")),
    "ignore_index": (
        TypeError, lambda: rnncore.cross_entropy(X, IDS, ignore_index=0.5),
        ("ignore_index:", "0.5")),
    "class_weights shape": (
        ValueError, lambda: rnncore.cross_entropy(X, IDS, class_weights=[1, 2]),
        ("class_weights:", "(3,)", "(2,)")),
    "class_weights negative": (
        ValueError, lambda: rnncore.cross_entropy(X, IDS, class_weights=[1, -2, 1]),
        ("class_weights:", "-2")),
    "label_smoothing": (
        ValueError, lambda: rnncore.cross_entropy(X, IDS, label_smoothing=1.5),
        ("label_smoothing:", "1.5")),
    "ctc x": (ValueError, lambda: rnncore.ctc_loss(X[0], LABELS), ("x:", "(4, 3)")),
    "ctc blank": (ValueError, lambda: rnncore.ctc_loss(X, LABELS, blank=3), ("blank:", "3")),
    "ctc label that is blank": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS, blank=1), ("targets:", "blank=1", "got 1")),
    "ctc label too large": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS + 2), ("targets:", "0 to 2", "got 3")),
    "ctc targets as floats": (
        TypeError, lambda: rnncore.ctc_loss(X, LABELS * 1.0), ("targets:", "float64")),
    "ctc targets shape": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS[:3]), ("targets:", "(4, S)", "(3, 2)")),
    "ctc targets without lengths": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS.ravel()), ("target_lengths:", "None")),
    "ctc lengths that do not add up": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS.ravel(), None, [1, 2, 2, 2]),
        ("target_lengths:", "8", "7")),
    "ctc target_lengths": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS, None, [1, 2, 3, 2]),
        ("target_lengths:", "0 to 2", "got 3")),
    "ctc input_lengths": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS, [1, 7, 3, 2]),
        ("input_lengths:", "0 to 6", "got 7")),
    "ctc input_lengths shape": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS, [1, 2]), ("input_lengths:", "(2,)")),
    "ctc input_lengths as floats": (
        TypeError, lambda: rnncore.ctc_loss(X, LABELS, [1.0] * 4), ("input_lengths:", "float64")),
    "ctc input_lengths of rows": (
        ValueError, lambda: rnncore.ctc_loss(ROWS, LABELS, [1] * 4), ("input_lengths:", "rows")),
    "ctc zero_infinity": (
        TypeError, lambda: rnncore.ctc_loss(X, LABELS, zero_infinity=2), ("zero_infinity:", "2")),
    "ctc weights": (
        ValueError, lambda: rnncore.ctc_loss(X, LABELS, weights=[1, 2]),
        ("weights:", "(4,)", "(2,)")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str) -> None:
    error, call, words = WRONG[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and message.startswith(words[0])


def test_losses_add_to_losses_alone() -> None:
    loss = rnncore.mse_loss(np.ones(2), [0, 0])
    assert sum([loss]) is loss and Loss(1.0, 1.0, None) + loss == Loss(3.0, 3.0, None)
    for other in (1, (1.0, 2.0)):
        with pytest.raises(TypeError, match="another Loss"):
            loss + other
        with pytest.raises(TypeError, match="another Loss"):
            other + loss


def test_the_page_of_losses_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "losses.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) > 5 and {kind for kind, _ in blocks} == {"python"}
    exec("\n".join(text for _, text in blocks), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3.33") and lines[1] == "41.0"
    parts, whole, count = map(float, lines[2].split())
    assert parts == pytest.approx(whole, rel=1e-15) and count == 27
    assert lines[3].endswith(" 5.0") and lines[5].endswith("(50, 2, 6) False")
    for name in rnncore.losses.__all__:
        assert name in page or name in ("cross_entropy_each", "cross_entropy_sum")
