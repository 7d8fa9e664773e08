"""The running average of weights."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training import make

import rnncore
from rnncore import engine, files
from rnncore.models import LanguageNetwork
from rnncore.training import Adam, Average, Callback, Trainer


def walk(layer: rnncore.Module, average: Average, steps: int) -> list[np.ndarray]:
    """Take random steps; return the weights after each."""
    rng, seen = np.random.default_rng(0), []
    for _ in range(steps):
        with layer.changing_weights() as flat:
            flat += rng.standard_normal(flat.size)
        average.update()
        seen.append(layer.flat_params.astype(np.float64))
    return seen


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("size", [1, 7, 33, 1001])
def test_the_mean_is_weighted_by_age(decay: float, dtype: Any, tolerance: float, size: int) -> None:
    layer = rnncore.Linear(size, 1, bias=False, dtype=dtype, seed=0)
    average = Average(layer, decay)
    seen = walk(layer, average, 20)
    weights = decay ** np.arange(19.0, -1.0, -1.0)
    expected = (weights[:, None] * seen).sum(0) / weights.sum()
    np.testing.assert_allclose(average.mean, expected, rtol=tolerance, atol=tolerance)


def test_long_means_are_torchs_exponential_ones() -> None:
    """PyTorch's begins with the first weights alone; the trace of that fades."""
    torch = pytest.importorskip("torch")
    layer = rnncore.Linear(9, 4, dtype=np.float64, seed=0)
    average = Average(layer, 0.9)
    module = torch.nn.Linear(9, 4, dtype=torch.float64)
    decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    theirs = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=decay)
    for weights in walk(layer, average, 1000):
        with torch.no_grad():
            module.weight.copy_(torch.tensor(weights[:36].reshape(4, 9)))
            module.bias.copy_(torch.tensor(weights[36:]))
        theirs.update_parameters(module)
    with average.applied():
        expected = theirs.module.weight.detach().numpy()
        np.testing.assert_allclose(layer.params["weight"], expected, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_kernel_does_not_depend_on_threads(threads: int) -> None:
    for dtype in (np.float32, np.float64):
        rng = np.random.default_rng(0)
        mean, x = (rng.standard_normal(1_000_003).astype(dtype) for _ in range(2))
        whole, before = mean.copy(), x.copy()
        engine.kernels(np.dtype(dtype)).average(mean, x, 0.3, threads)
        for first, last in ((0, 5), (5, 77_777), (77_777, whole.size)):
            engine.kernels(np.dtype(dtype)).average(whole[first:last], x[first:last], 0.3, 1)
        assert mean.tobytes() == whole.tobytes() and np.array_equal(x, before)
    with pytest.raises(ValueError, match="expected gradients"):
        engine.kernels(np.dtype(np.float64)).average(mean, x[:-1], 0.3, threads)


def test_swapped_in_and_back_to_the_last_bit() -> None:
    layer = rnncore.LSTM(3, 4, seed=0)
    average = Average(layer, 0.5)
    x = np.ones((5, 1, 3), np.float32)
    first = layer(x)[0].copy()
    with average.applied() as same:  # no update yet: its own weights
        assert same is layer and np.array_equal(layer(x)[0], first) and average.raw is None
    walk(layer, average, 3)
    own, answer = layer.flat_params.tobytes(), layer(x)[0].copy()
    with average.applied():
        assert np.array_equal(layer.flat_params, average.mean)
        assert not np.allclose(layer(x)[0], answer)  # packed weights are the mean's
        with average.applied():
            assert np.array_equal(layer.flat_params, average.mean)
        assert np.array_equal(layer.flat_params, average.mean)  # not swapped out by the inner one
        with pytest.raises(RuntimeError, match="average: expected the module's own weights"):
            average.update()
    assert layer.flat_params.tobytes() == own and np.array_equal(layer(x)[0], answer)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert layer.flat_params.tobytes() == own and average.raw is None
    average.swap_in()
    average.swap_in()
    average.swap_out()
    average.swap_out()
    assert layer.flat_params.tobytes() == own and average.updates == 3


@pytest.mark.parametrize("how", ["state", "deepcopy", "pickle"])
def test_an_average_goes_on_elsewhere(how: str) -> None:
    layer, twin = (rnncore.Linear(9, 4, seed=0) for _ in range(2))
    average = Average(layer, 0.7)
    walk(layer, average, 3)
    if how == "state":
        other = Average(twin, 0.7)
        walk(twin, other, 1)
        other.swap_in()  # what was there is gone with the new state
        other.load_state_dict(average.state_dict())
        assert other.raw is None
    else:
        other = (
            copy.deepcopy(average) if how == "deepcopy" else pickle.loads(pickle.dumps(average))
        )  # fmt: skip
        twin = other.module  # type: ignore[assignment]
        assert twin is not layer
    twin.load_state_dict(layer.state_dict())
    for each, module in ((average, layer), (other, twin)):
        with module.changing_weights() as flat:
            flat += 1
        each.update()
    assert average.mean.tobytes() == other.mean.tobytes() and other.updates == 4


def test_the_first_update_takes_the_weights_as_they_are() -> None:
    layer = rnncore.Linear(99, 4, seed=0)
    average = Average(layer, 0.7)
    average.load_state_dict({"updates": 0, "mean": np.full(layer.num_parameters, 1e3)})
    average.update()
    assert average.mean.tobytes() == layer.flat_params.tobytes()


def test_bad_arguments_of_an_average() -> None:
    layer = rnncore.Linear(2, 2, seed=0)
    with pytest.raises(TypeError, match="module: expected a layer or model, got Adam"):
        Average(Adam(layer))  # type: ignore[arg-type]
    for wrong in (1.0, -0.1, np.nan, None, "a", True):
        with pytest.raises(ValueError, match="decay: expected a number from 0 to below 1, got"):
            Average(layer, wrong)  # type: ignore[arg-type]
    average = Average(layer)
    walk(layer, average, 1)
    state = average.state_dict()
    with pytest.raises(TypeError, match="state: expected"):
        average.load_state_dict(None)  # type: ignore[arg-type]
    for change in ({"mean": np.zeros(3)}, {"updates": -1}, {"updates": None}, {"updates": True}):
        with pytest.raises(ValueError, match=f"state: expected '{next(iter(change))}'"):
            average.load_state_dict(state | change)
    with pytest.raises(ValueError, match="state: expected 'mean'"):
        average.load_state_dict({"updates": 1})
    assert average.updates == 1 and average.mean.tobytes() == state["mean"].tobytes()


class Watch(Callback):
    """What stands in the model at each step, and what at each validation."""

    def __init__(self) -> None:
        self.steps: list[np.ndarray] = []
        self.validations: list[bytes] = []

    def on_step(self, trainer: Trainer) -> None:
        self.steps.append(trainer.model.flat_params.astype(np.float64))

    def on_validation(self, trainer: Trainer) -> None:
        self.validations.append(trainer.model.flat_params.tobytes())


def test_steps_go_their_way_and_validations_and_files_have_the_mean(tmp_path: Path) -> None:
    plain, watch = Watch(), Watch()
    first = make(None, plain, steps=20, validations=2)
    trainer = make(tmp_path, watch, steps=20, validations=2, average=0.8)
    first.run()
    trainer.run()
    assert np.array_equal(plain.steps, watch.steps)  # averaging does not change the training
    assert plain.validations[0] == watch.validations[0]  # before any step
    assert plain.validations[1] != watch.validations[1]
    weights = 0.8 ** np.arange(19.0, -1.0, -1.0)
    mean = (weights[:, None] * watch.steps).sum(0) / weights.sum()
    np.testing.assert_allclose(trainer.model.flat_params, mean, rtol=1e-4, atol=1e-6)
    assert watch.validations[-1] == trainer.model.flat_params.tobytes()
    held_out = trainer.source.held_out
    assert held_out is not None
    assert trainer.evaluate(held_out) == trainer.validation_curve[-1][3:]
    loaded = LanguageNetwork.load(tmp_path / "last.safetensors")
    assert loaded.flat_params.tobytes() == trainer.model.flat_params.tobytes()
    assert trainer.average is not None
    with_raw = files.load(tmp_path / "last.safetensors")[0]["average.raw"]
    assert with_raw.tobytes() == first.model.flat_params.tobytes()
    trainer.average.swap_out()
    assert trainer.model.flat_params.tobytes() == first.model.flat_params.tobytes()


def test_best_is_of_the_averaged_weights(tmp_path: Path) -> None:
    trainer = make(tmp_path, steps=40, validations=4, average=0.9, learning_rate=0.1)
    trainer.run()
    best = LanguageNetwork.load(tmp_path / "best.safetensors")
    held_out = trainer.source.held_out
    assert held_out is not None
    again = Trainer(best, trainer.source, trainer.settings)
    assert again.evaluate(held_out) == [trainer.best]


def test_a_mean_begins_or_ends_where_a_training_goes_on(tmp_path: Path) -> None:
    plain, averaged = make(steps=20), make(steps=20, average=0.8)
    plain.run()
    averaged.run()
    plain.save(tmp_path / "plain")
    averaged.save(tmp_path / "averaged")
    without, anew = make(steps=20), make(steps=25, average=0.8)
    without.restore(tmp_path / "averaged")
    assert without.model.flat_params.tobytes() == plain.model.flat_params.tobytes()
    anew.restore(tmp_path / "plain")
    assert anew.average is not None and anew.average.updates == 0
    assert anew.model.flat_params.tobytes() == plain.model.flat_params.tobytes()
    anew.run()
    assert anew.average.updates == 5
    tensors, metadata = files.load(tmp_path / "averaged")
    files.save(tmp_path / "broken", tensors | {"average.raw": np.zeros(3, np.float32)}, metadata)
    before = anew.model.flat_params.tobytes()
    with pytest.raises(files.FileError, match=r"no whole training .*average.raw"):
        anew.restore(tmp_path / "broken")
    assert anew.model.flat_params.tobytes() == before
