"""Groups of parameters, and parts that are frozen."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore.training import SGD, Adam, AdamW, RMSprop, clip_grad_norm

ALL = [SGD, RMSprop, Adam, AdamW]


def tree(dtype: Any = np.float64) -> rnncore.Module:
    parts: dict[str, rnncore.Module] = {
        "table": rnncore.Embedding(5, 4, dtype=dtype, seed=0),
        "rnn": rnncore.GRU(4, 6, num_layers=2, dtype=dtype, seed=1),
        "head": rnncore.Linear(6, 3, dtype=dtype, seed=2),
    }
    return rnncore.Module(children=parts, dtype=dtype)


def part(model: rnncore.Module, name: str) -> rnncore.Module:
    return model._children[name]


def random_gradients(model: rnncore.Module, seed: int) -> None:
    model.flat_grads[...] = np.random.default_rng(seed).standard_normal(model.num_parameters)


@pytest.mark.parametrize("optimizer", ALL)
def test_groups_that_change_nothing_give_the_same_bits(optimizer: Any) -> None:
    plain, grouped = tree(np.float32), tree(np.float32)
    options = {"lr": 0.01, "weight_decay": 0.1}
    groups = [{"params": "*bias*", "weight_decay": 0.1}, {"params": ["rnn.*", "no such"]}]
    first, second = optimizer(plain, **options), optimizer(grouped, **options, groups=groups)
    assert len(first._ranges()) == 1 < len(second._ranges())
    for step in range(4):
        for model, each in ((plain, first), (grouped, second)):
            random_gradients(model, step)
            each.step()
    assert plain.flat_params.tobytes() == grouped.flat_params.tobytes()
    for name in first.moments:
        assert first.moments[name].tobytes() == second.moments[name].tobytes()


@pytest.mark.parametrize("optimizer", ALL)
def test_groups_follow_torch(optimizer: Any) -> None:
    torch = pytest.importorskip("torch")
    model = tree()
    theirs = {n: torch.tensor(a.copy(), requires_grad=True) for n, a in model.params.items()}
    groups = [
        {"params": "*bias*", "weight_decay": 0.0},
        {"params": ("table.*", "*.bias"), "lr_scale": 0.25},  # no bias: those are taken
        {"params": "head.*", "lr_scale": 3, "weight_decay": 0.2},
    ]
    ours = optimizer(model, lr=0.01, weight_decay=0.05, groups=groups)
    biases = [name for name in theirs if "bias" in name]
    assert [group.names for group in ours.groups] == [
        tuple(biases), ("table.weight",), ("head.weight",),
    ]  # fmt: skip
    rest = [name for name in theirs if name not in {*biases, "table.weight", "head.weight"}]
    torch_groups = [
        {"params": [theirs[name] for name in biases], "weight_decay": 0.0},
        {"params": [theirs["table.weight"]], "lr": 0.01 * 0.25},
        {"params": [theirs["head.weight"]], "lr": 0.01 * 3, "weight_decay": 0.2},
        {"params": [theirs[name] for name in rest]},
    ]
    reference = getattr(torch.optim, optimizer.__name__)(torch_groups, lr=0.01, weight_decay=0.05)
    for step in range(50):
        random_gradients(model, step)
        for name, gradient in model.grads.items():
            theirs[name].grad = torch.tensor(gradient.copy())
        ours.step()
        reference.step()
    for name, array in model.params.items():
        expected = theirs[name].detach().numpy()
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("*bias*", TypeError, "groups: expected a list of mappings, got str"),
        ([{"weight_decay": 0.0}], TypeError, r'groups\[0\]: expected a mapping with "params"'),
        (["*bias*"], TypeError, r"groups\[0\]: expected a mapping .* got str"),
        ([{"params": 3}], TypeError, r"groups\[0\]: expected a pattern .* got 3"),
        ([{"params": "*bais*"}], ValueError, r"groups\[0\]: .*'\*bais\*'.* the names are .*table"),
        ([{"params": "*"}, {"params": "rnn.*"}], ValueError, r"groups\[1\]: .*rnn.weight.*before"),
        ([{"params": "*", "lr": 0.1}], ValueError, r"groups\[0\]: .*'lr'; give lr_scale"),
        ([{"params": "*", "betas": (0, 0)}], ValueError, r"groups\[0\]: .*'betas'"),
        ([{"params": "*", "lr_scale": -1.0}], ValueError, r"groups\[0\]: .*lr_scale .*-1.0"),
        ([{"params": "*", "weight_decay": "a"}], ValueError, r"groups\[0\]: .*weight_decay .*'a'"),
        ([{"params": "*", "weight_decay": np.nan}], ValueError, r"groups\[0\]: .*weight_decay"),
    ],
    ids=str,
)
def test_bad_groups(groups: Any, error: Any, message: str) -> None:
    for optimizer in ALL:
        with pytest.raises(error, match=message):
            optimizer(tree(), groups=groups)


def test_a_state_of_before_groups_loads() -> None:
    """Groups are settings, not state: what an optimizer without them wrote goes on with them."""
    model = tree()
    plain = Adam(model)
    random_gradients(model, 0)
    plain.step()
    state = plain.state_dict()
    assert list(state) == ["steps_taken", "lr", "m", "v"]  # as the first files have it
    grouped = Adam(model, groups=[{"params": "head.*", "lr_scale": 0.5}])
    grouped.load_state_dict(state)
    assert grouped.steps_taken == 1 and np.array_equal(grouped.moments["m"], plain.moments["m"])
    assert {each.steps for each in grouped._ranges()} == {1}


def test_marks_of_parts() -> None:
    model = tree()
    size = model.num_parameters
    table, rnn, head = (part(model, name) for name in ("table", "rnn", "head"))
    after_table = table.num_parameters
    after_rnn = after_table + rnn.num_parameters
    assert model.trainable() == [slice(0, size)] and not model.frozen
    rnn.freeze()
    assert model.trainable() == [slice(0, after_table), slice(after_rnn, size)]
    assert rnn.frozen and not model.frozen and rnn.trainable() == []
    assert repr(rnn).endswith("parameters, frozen)") and "frozen" not in repr(table)
    assert repr(model).count("frozen") == 1
    table.freeze()
    head.freeze()
    assert model.frozen and repr(model).count("frozen") == 4
    head.unfreeze()
    assert model.trainable() == [slice(after_rnn, size)]
    model.unfreeze()
    assert model.trainable() == [slice(0, size)] and "frozen" not in repr(model)
    model.freeze()
    assert table.frozen and model.trainable() == []
    assert not rnncore.Dropout(0.5).frozen  # nothing to freeze
    own = rnncore.Module({"w": (3,)}, {"head": rnncore.Linear(2, 1, seed=0)})
    own.freeze()
    part(own, "head").unfreeze()
    assert own.trainable() == [slice(3, 6)]


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_copies_keep_what_is_frozen(how: str) -> None:
    model = tree()
    part(model, "rnn").freeze()
    other = (
        pickle.loads(pickle.dumps(model)) if how == "pickle" else getattr(copy, how)(model)
    )  # fmt: skip
    assert other.trainable() == model.trainable() and part(other, "rnn").frozen
    part(other, "rnn").unfreeze()
    assert part(model, "rnn").frozen and not part(other, "rnn").frozen


@pytest.mark.parametrize("optimizer", ALL)
def test_what_is_frozen_is_left_alone_and_counts_no_steps(optimizer: Any) -> None:
    """PyTorch counts the steps of each tensor: late ones begin with the correction of step 1."""
    torch = pytest.importorskip("torch")
    model = tree()
    theirs = {n: torch.tensor(a.copy(), requires_grad=True) for n, a in model.params.items()}
    options = {"lr": 0.01, "weight_decay": 0.05}
    ours = optimizer(model, **options)
    reference = getattr(torch.optim, optimizer.__name__)(theirs.values(), **options)
    part(model, "rnn").freeze()
    frozen = slice(part(model, "table").num_parameters, model.trainable()[1].start)
    before = model.flat_params.copy()
    for step in range(40):
        if step == 7:
            part(model, "rnn").unfreeze()
            part(model, "table").freeze()
        if step == 11:
            part(model, "table").unfreeze()
        random_gradients(model, step)
        if part(model, "rnn").frozen:
            model.flat_grads[frozen] = np.nan  # nobody may look at them
        for name, gradient in model.grads.items():
            skipped = part(model, name.split(".")[0]).frozen
            theirs[name].grad = None if skipped else torch.tensor(gradient.copy())
        ours.step()
        reference.step()
        if step < 7:
            assert np.array_equal(model.flat_params[frozen], before[frozen])
            assert not any(moment[frozen].any() for moment in ours.moments.values())
        if step == 20:  # the counts are part of the state, of copies too
            state = ours.state_dict()
            ours = optimizer(model, **options)
            ours.load_state_dict(state)
            ours = copy.deepcopy(ours, {id(model): model})
    for name, array in model.params.items():
        expected = theirs[name].detach().numpy()
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-12)


def test_counts_of_missed_steps_are_checked() -> None:
    model = tree()
    ours = Adam(model)
    part(model, "rnn").freeze()
    ours.step()
    state = ours.state_dict()
    count = len(model.params)
    assert len(state["steps_missed"]) == count and sum(state["steps_missed"]) > 0
    fresh = Adam(model)
    for wrong in ([0], [2] * count, [-1] * count, [0.5] * count, "a", None):
        with pytest.raises(ValueError, match="state: expected 'steps_missed'"):
            fresh.load_state_dict(state | {"steps_missed": wrong})
    assert fresh.steps_taken == 0


def test_the_norm_leaves_out_what_is_frozen() -> None:
    model = tree()
    part(model, "rnn").freeze()
    model.flat_grads[...] = np.nan
    for name in ("table", "head"):
        part(model, name).flat_grads[...] = 2.0
    count = part(model, "table").num_parameters + part(model, "head").num_parameters
    assert clip_grad_norm(model, 1.0, error_if_nonfinite=True) == pytest.approx(2 * count**0.5)
    scaled = np.concatenate([part(model, name).flat_grads for name in ("table", "head")])
    assert np.linalg.norm(scaled) == pytest.approx(1.0, rel=1e-6)
    model.flat_grads[...] = 5.0
    clip_grad_norm(model, 1.0)
    assert (part(model, "rnn").flat_grads == 5.0).all()
    model.freeze()
    assert clip_grad_norm(model, 1.0) == 0.0


def test_a_pickled_optimizer_keeps_its_groups() -> None:
    model = tree()
    ours = AdamW(model, groups=[{"params": "*bias*", "weight_decay": 0.0}])
    random_gradients(model, 0)
    ours.step()
    file = io.BytesIO()
    pickle.dump((model, ours), file)
    file.seek(0)
    other, theirs = pickle.load(file)
    assert theirs.module is other and theirs.groups == ours.groups
    for each, steps in ((model, ours), (other, theirs)):
        random_gradients(each, 1)
        steps.step()
    assert model.flat_params.tobytes() == other.flat_params.tobytes()
