"""Learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rnncore.training import (
    ReduceOnPlateau,
    TrainingSettings,
    constant,
    cosine,
    exponential,
    one_cycle,
    warm_up,
)
from rnncore.training.settings import SCHEDULES


def test_warm_up_of_any_schedule() -> None:
    for schedule in (constant(), exponential(0.5, 1), cosine(floor=0.2), one_cycle()):
        warm = warm_up(schedule, 0.25)
        for fraction in np.linspace(0, 1, 41):
            expected = min(1.0, fraction / 0.25) * schedule(3 * fraction, fraction)
            assert warm(3 * fraction, fraction) == expected
        assert warm_up(schedule, 0.0) is schedule
    assert cosine(warmup=0.1)(0.0, 0.05) == warm_up(cosine(), 0.1)(0.0, 0.05)


@pytest.mark.parametrize("steps", [21, 101, 1000])
@pytest.mark.parametrize("options", [(0.3, 25.0, 1e4), (0.1, 4.0, 100.0)])
def test_one_cycle_is_torchs(steps: int, options: tuple[float, float, float]) -> None:
    torch = pytest.importorskip("torch")
    share, down, further_down = options
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2.0, total_steps=steps, pct_start=share, div_factor=down,
        final_div_factor=further_down, cycle_momentum=False,
    )  # fmt: skip
    # PyTorch's first step stands at 0, its last at 1, and its peak one step before its share.
    ours = one_cycle((share * steps - 1) / (steps - 1), 1 / down, 1 / down / further_down)
    for step in range(steps):
        expected = optimizer.param_groups[0]["lr"]
        assert 2.0 * ours(0.0, step / (steps - 1)) == pytest.approx(expected, rel=1e-12)
        optimizer.step()
        if step + 1 < steps:
            theirs.step()
    if options == (0.3, 25.0, 1e4):
        default = one_cycle()
        assert [default(0.0, x) for x in (0.0, 0.3, 1.0, 1.5)] == pytest.approx(
            [1 / 25, 1, 1 / 25 / 1e4, 1 / 25 / 1e4], rel=1e-12
        )


@pytest.mark.parametrize(
    ("decay", "patience", "threshold", "floor"),
    [(0.1, 10, 1e-4, 0.0), (0.5, 0, 0.0, 0.0), (0.7, 2, 0.1, 0.05), (0.5, 3, 1e-4, 1.0)],
)
def test_reduce_on_plateau_is_torchs(
    decay: float, patience: int, threshold: float, floor: float
) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=decay, patience=patience, threshold=threshold, min_lr=floor, eps=0.0
    )
    ours = ReduceOnPlateau(decay, patience, threshold, floor)
    rng = np.random.default_rng(0)
    factors = set()
    for step in range(100):
        loss = 1 + math.exp(-step / 10) + 0.1 * rng.standard_normal()
        loss = math.nan if step % 17 == 5 else loss
        ours.observe(loss)
        theirs.step(loss)
        factors.add(optimizer.param_groups[0]["lr"])
        assert ours(0.0, 0.0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert len(factors) > 2 or floor == 1.0


def test_reduce_on_plateau_of_scores_and_of_another_schedule() -> None:
    """The higher the better: negatives are given, of which a share is a step up as well."""
    schedule = ReduceOnPlateau(0.5, 0, 0.1, schedule=warm_up(constant(), 0.5))
    factors = []
    for score in (10.0, 10.9, 11.1, 12.0):  # a tenth more is 11, then 12.21
        schedule.observe(-score)
        factors.append(schedule(0.0, 1.0))
    assert factors == [1.0, 0.5, 0.5, 0.25]
    assert schedule(0.0, 0.25) == 0.125


def test_the_state_of_a_plateau() -> None:
    first = ReduceOnPlateau(0.5, 1)
    assert first.state_dict() == {"reductions": 0, "best": None, "waited": 0}
    fresh = ReduceOnPlateau(0.5, 1)
    fresh.load_state_dict(first.state_dict())
    assert fresh.best == math.inf
    losses = [3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5]
    for stop in range(len(losses)):
        first, second = ReduceOnPlateau(0.5, 1), ReduceOnPlateau(0.5, 1)
        for loss in losses[:stop]:
            first.observe(loss)
        second.load_state_dict(first.state_dict())
        for loss in losses[stop:]:
            first.observe(loss)
            second.observe(loss)
        assert first.state_dict() == second.state_dict()
        assert first.reductions == 2
    good = first.state_dict()
    with pytest.raises(TypeError, match="state: expected"):
        first.load_state_dict(None)  # type: ignore[arg-type]
    for wrong in ({"reductions": -1}, {"waited": 0.5}, {"waited": None}, {"best": "a"},
                  {"best": math.nan}, {"reductions": True}):  # fmt: skip
        with pytest.raises(ValueError, match="state: expected counts"):
            first.load_state_dict(good | wrong)
    assert first.state_dict() == good


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: warm_up(constant(), 1.0), "warmup"),
        (lambda: warm_up(constant(), "a"), "warmup"),
        (lambda: warm_up(constant(), -0.1), "warmup"),
        (lambda: one_cycle(warmup=math.nan), "warmup"),
        (lambda: one_cycle(start=1.5), "start"),
        (lambda: one_cycle(floor=-1.0), "floor"),
        (lambda: ReduceOnPlateau(decay=1.0), "decay"),
        (lambda: ReduceOnPlateau(decay=0.0), "decay"),
        (lambda: ReduceOnPlateau(patience=-1), "patience"),
        (lambda: ReduceOnPlateau(patience=1.5), "patience"),  # type: ignore[arg-type]
        (lambda: ReduceOnPlateau(threshold=math.inf), "threshold"),
        (lambda: ReduceOnPlateau(floor=2.0), "floor"),
    ],
)
def test_bad_numbers_of_schedules(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        make()


def test_schedules_of_settings() -> None:
    def factors(**settings: Any) -> list[float]:
        made = TrainingSettings(steps=1, **settings)
        schedule = SCHEDULES[made.schedule](made)
        return [schedule(20 * x, x) for x in (0.0, 0.05, 0.5, 1.0)]

    def expected(schedule: Any) -> list[float]:
        return [schedule(20 * x, x) for x in (0.0, 0.05, 0.5, 1.0)]

    assert factors() == expected(cosine())
    assert factors(warmup=0.1) == expected(cosine(warmup=0.1))
    assert factors(schedule="one-cycle") == expected(one_cycle())
    assert factors(schedule="one-cycle", warmup=0.2) == expected(one_cycle(0.2))
    assert factors(schedule="constant", warmup=0.1) == expected(warm_up(constant(), 0.1))
    assert factors(schedule="exponential") == expected(exponential())
    assert factors(schedule="plateau", warmup=0.1) == expected(warm_up(constant(), 0.1))
    made = TrainingSettings(steps=1, schedule="plateau", decay=0.25, patience=4)
    schedule = SCHEDULES["plateau"](made)
    assert isinstance(schedule, ReduceOnPlateau)
    assert (schedule.decay, schedule.patience) == (0.25, 4)
    schedule = SCHEDULES["plateau"](TrainingSettings(steps=1, schedule="plateau"))
    assert isinstance(schedule, ReduceOnPlateau)
    assert (schedule.decay, schedule.patience) == (0.5, 2)
