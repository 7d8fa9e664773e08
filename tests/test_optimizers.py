"""Optimizers and clipping."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore.training import SGD, Adam, AdamW, RMSprop, clip_grad_norm


def sgd(g, p, memory, t, *, lr=1e-3, momentum=0.0, weight_decay=0.0):
    g = g + weight_decay * p
    memory["v"] = momentum * memory["v"] + g if "v" in memory else g
    return p - lr * memory["v"]


def rmsprop(g, p, memory, t, *, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
    g = g + weight_decay * p
    memory["s"] = alpha * memory.get("s", 0.0) + (1 - alpha) * g * g
    memory["v"] = momentum * memory.get("v", 0.0) + g / (np.sqrt(memory["s"]) + eps)
    return p - lr * memory["v"]


def adam(g, p, memory, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    memory["m"] = betas[0] * memory.get("m", 0.0) + (1 - betas[0]) * g
    memory["v"] = betas[1] * memory.get("v", 0.0) + (1 - betas[1]) * g**2
    m_hat = memory["m"] / (1 - betas[0] ** t)
    v_hat = memory["v"] / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps)


def adamw(g, p, memory, t, *, lr=1e-3, weight_decay=1e-2, **options):
    return adam(g, p, memory, t, lr=lr, **options) - lr * weight_decay * p


@pytest.mark.parametrize(
    ("optimizer", "formula", "options"),
    [
        (SGD, sgd, {}),
        (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        (RMSprop, rmsprop, {}),
        (RMSprop, rmsprop, {"lr": 0.03, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1}),
        (RMSprop, rmsprop, {"eps": 0.3}),
        (Adam, adam, {}),
        (Adam, adam, {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.1}),
        (Adam, adam, {"eps": 0.3}),
        (AdamW, adamw, {}),
        (AdamW, adamw, {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.5}),
        (AdamW, adamw, {"weight_decay": 0.0}),
    ],
)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("size", [1, 7, 33, 1001])
def test_optimizers_follow_pytorchs_formulas(
    optimizer: Any, formula: Any, options: dict[str, Any], dtype: Any, rtol: float, size: int
) -> None:
    generator = np.random.default_rng(size)
    layer = rnncore.Linear(size, 1, bias=False, dtype=dtype, seed=0)
    p = layer.flat_params.astype(np.float64)
    steps, memory = optimizer(layer, **options), {}
    for t in range(1, 6):
        layer.flat_grads[...] = generator.standard_normal(size)
        before = layer.flat_grads.copy()
        p = formula(before.astype(np.float64), p, memory, t, **options)
        steps.step()
        np.testing.assert_allclose(layer.flat_params, p, rtol=rtol, atol=rtol)
        assert np.array_equal(layer.flat_grads, before)


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.5])
def test_adamw_is_torchs(decay: float) -> None:
    torch = pytest.importorskip("torch")
    layer = rnncore.LSTM(5, 7, num_layers=2, dtype=np.float64, seed=0)
    theirs = torch.tensor(layer.flat_params.copy(), requires_grad=True)
    options = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": decay}
    ours, reference = AdamW(layer, **options), torch.optim.AdamW([theirs], **options)
    generator = np.random.default_rng(0)
    for _ in range(50):
        layer.flat_grads[...] = generator.standard_normal(layer.num_parameters)
        theirs.grad = torch.tensor(layer.flat_grads.copy())
        ours.step()
        reference.step()
    np.testing.assert_allclose(layer.flat_params, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_adam_without_decay_and_adamw_without_decay_have_the_same_bits() -> None:
    layers = [rnncore.Linear(33, 31, seed=0) for _ in range(2)]
    steps = [Adam(layers[0], lr=0.01), AdamW(layers[1], lr=0.01, weight_decay=0.0)]
    for _ in range(3):
        for layer, each in zip(layers, steps, strict=True):
            layer.flat_grads[...] = np.random.default_rng(0).standard_normal(layer.num_parameters)
            each.step()
    assert layers[0].flat_params.tobytes() == layers[1].flat_params.tobytes()


@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam, AdamW])
def test_optimizer_state_round_trip(optimizer: Any) -> None:
    layers = [rnncore.Linear(9, 2, seed=0) for _ in range(2)]
    first, second = (optimizer(layer, lr=0.1) for layer in layers)
    layers[0].flat_grads[...] = 1.0
    first.step()
    first.lr = 0.05
    state = first.state_dict()
    second.load_state_dict(state)
    with layers[1].changing_weights() as flat:
        flat[...] = layers[0].flat_params
    for layer, steps in zip(layers, (first, second), strict=True):
        layer.flat_grads[...] = 0.5
        steps.step()
    assert layers[0].flat_params.tobytes() == layers[1].flat_params.tobytes()
    assert second.lr == 0.05
    with pytest.raises(ValueError, match="state: expected"):
        optimizer(rnncore.Linear(3, 3)).load_state_dict(state)


def test_an_optimizer_step_reaches_the_layer() -> None:
    """A layer may keep packed copies of its weights; a step must refresh them."""
    layer = rnncore.LSTM(3, 4, seed=0)
    x = np.ones((2, 1, 3), np.float32)
    before = layer(x)[0].copy()
    layer.flat_grads[...] = 1.0
    SGD(layer, lr=0.5).step()
    after = layer(x)[0]
    fresh = rnncore.LSTM(3, 4, seed=1)
    fresh.load_state_dict(layer.state_dict())
    assert np.array_equal(after, fresh(x)[0])
    assert not np.allclose(before, after)


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: SGD(layer, lr=-1),
        lambda layer: SGD(layer, momentum=float("nan")),
        lambda layer: RMSprop(layer, alpha=-0.1),
        lambda layer: Adam(layer, betas=(0.9, 1.0)),
        lambda layer: Adam(layer, eps=-1e-8),
        lambda layer: clip_grad_norm(layer, 0.0),
    ],
)
def test_optimizers_refuse_bad_values(make: Any) -> None:
    with pytest.raises(ValueError, match=r"(lr|momentum|alpha|betas|eps|max_norm): expected"):
        make(rnncore.Linear(2, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_grad_norm(dtype: Any) -> None:
    layer = rnncore.Linear(50, 40, dtype=dtype, seed=0)
    gradient = np.random.default_rng(0).standard_normal(layer.flat_grads.size).astype(dtype)
    exact = math.sqrt(math.fsum(float(g) ** 2 for g in gradient))
    layer.flat_grads[...] = gradient
    assert clip_grad_norm(layer, 1e9) == pytest.approx(exact, rel=1e-12)
    assert np.array_equal(layer.flat_grads, gradient)  # below the limit nothing changes
    assert clip_grad_norm(layer, np.inf) == pytest.approx(exact, rel=1e-12)
    assert np.array_equal(layer.flat_grads, gradient)
    assert clip_grad_norm(layer, 2.0) == pytest.approx(exact, rel=1e-12)
    np.testing.assert_allclose(layer.flat_grads, gradient * (2.0 / (exact + 1e-6)), rtol=1e-6)


def test_clip_grad_norm_of_huge_and_of_broken_gradients() -> None:
    layer = rnncore.Linear(8, 8, seed=0)
    layer.flat_grads[...] = 1e30  # the square overflows float32
    assert clip_grad_norm(layer, 1.0) == pytest.approx(1e30 * math.sqrt(72), rel=1e-6)
    assert np.linalg.norm(layer.flat_grads) == pytest.approx(1.0, rel=1e-5)
    for broken in (np.nan, np.inf):
        layer.flat_grads[...] = 1.0
        layer.flat_grads[-1] = broken
        assert not math.isfinite(clip_grad_norm(layer, 1.0))
        assert (layer.flat_grads[:-1] == 1.0).all()


class TestOptimizers:
    def test_the_module_stays(self) -> None:
        optimizer = Adam(rnncore.Linear(3, 2, seed=0))
        with pytest.raises(AttributeError):
            optimizer.module = rnncore.Linear(30, 20)  # type: ignore[misc]

    @pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam, AdamW])
    def test_moments_of_another_size(self, optimizer: Any) -> None:
        layer = rnncore.Linear(3, 2, seed=0)
        steps = optimizer(layer)
        name, good = next(iter(steps.moments.items()))
        wrong = (good[:2], good.astype(np.float64), np.zeros(16, np.float32)[::2], None, 3.0)
        before = layer.flat_params.copy()
        for moment in wrong:
            steps.moments[name] = moment
            with pytest.raises(ValueError, match=f"moments: expected '{name}'"):
                steps.step()
        assert steps.steps_taken == 0
        assert np.array_equal(layer.flat_params, before)
        steps.moments[name] = good
        steps.step()

    @pytest.mark.parametrize(
        ("optimizer", "name"),
        [(SGD, "momentum"), (RMSprop, "alpha"), (Adam, "eps"), (Adam, "weight_decay"), (SGD, "lr")],
    )
    def test_numbers_are_checked_when_assigned(self, optimizer: Any, name: str) -> None:
        steps = optimizer(rnncore.Linear(3, 2, seed=0))
        before = getattr(steps, name)
        for wrong in (math.nan, math.inf, -1.0, None, "1", True):
            with pytest.raises(ValueError, match=f"{name}: expected a finite number"):
                setattr(steps, name, wrong)
            state = steps.state_dict()
            if name == "lr":
                with pytest.raises(ValueError, match="lr: expected"):
                    steps.load_state_dict(state | {"lr": wrong})
        assert getattr(steps, name) == before
        setattr(steps, name, 0.5)
        assert getattr(steps, name) == 0.5

    def test_betas_are_checked_when_assigned(self) -> None:
        steps = Adam(rnncore.Linear(3, 2, seed=0))
        for wrong in ((0.9, 1.0), (math.nan, 0.9), 0.9, (0.9,)):
            with pytest.raises(ValueError, match="betas: expected"):
                steps.betas = wrong  # type: ignore[assignment]
        assert steps.betas == (0.9, 0.999)

    @pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam, AdamW])
    def test_a_copy_goes_its_own_way(self, optimizer: Any) -> None:
        layer, twin = (rnncore.Linear(3, 2, seed=0) for _ in range(2))
        steps = optimizer(layer, lr=0.1)
        layer.flat_grads[...] = 1.0
        steps.step()
        twin.load_state_dict(layer.state_dict())
        copied = copy.deepcopy(steps, {id(layer): twin})
        assert copied.module is twin and copied.steps_taken == 1 and copied.lr == 0.1
        for module, each in ((layer, steps), (twin, copied)):
            module.flat_grads[...] = 0.5
            each.step()
        assert layer.flat_params.tobytes() == twin.flat_params.tobytes()
        copied.step()
        assert steps.steps_taken == 2

    @pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam, AdamW])
    def test_pickle(self, optimizer: Any) -> None:
        layer = rnncore.Linear(3, 2, seed=0)
        steps = optimizer(layer, lr=0.1)
        layer.flat_grads[...] = 1.0
        steps.step()

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing: Any) -> Any:
                return "layer" if thing is layer else None

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, name: Any) -> Any:
                return layer

        file = io.BytesIO()
        Pickler(file).dump(steps)
        file.seek(0)
        loaded = Unpickler(file).load()
        assert loaded.module is layer and loaded.steps_taken == 1 and loaded.lr == 0.1
        for name, moment in steps.moments.items():
            assert moment.tobytes() == loaded.moments[name].tobytes()
        loaded.step()

    def test_clip_may_refuse_what_is_not_finite(self) -> None:
        layer = rnncore.Linear(3, 2, seed=0)
        layer.flat_grads[...] = [1, 2, 3, 4, 5, 6, 7, np.inf]
        before = layer.flat_grads.copy()
        assert clip_grad_norm(layer, 1.0) == math.inf
        with pytest.raises(RuntimeError, match="expected a finite norm"):
            clip_grad_norm(layer, 1.0, error_if_nonfinite=True)
        assert np.array_equal(layer.flat_grads, before)
        layer.flat_grads[...] = 1.0
        assert clip_grad_norm(layer, 1.0, error_if_nonfinite=True) == pytest.approx(8**0.5)
