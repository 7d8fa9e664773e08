"""What the compiled module refuses: arrays too small, of another dtype, or that share memory.

Kernels validate nothing, so a wrong size that passes a door is read or written beyond its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore import engine
from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

kernels = engine.kernels(np.float32)
CELL = kernels.cell("gru")
LAYER = kernels.Layer(CELL, 5, 7, False, "float32")
LINEAR = kernels.Linear(5, 3, "float32")
ROWS = 10


def ones(size: int) -> np.ndarray:
    return np.ones(size, np.float32)


def buffer(size: int) -> np.ndarray:
    return engine.workspace.aligned_empty(size // 4, np.dtype(np.float32))


def weights(**changes: object) -> object:
    given = {
        "buffer": buffer(LAYER.packed_bytes), "W_hx": ones(21 * 5), "W_hh": ones(21 * 7),
        "bias": ones(21), "own": (ones(7),),
    }  # fmt: skip
    return kernels.Weights(LAYER, *(given | changes).values(), 1)


def sgd(**changes: object) -> None:
    given = {"params": ones(9), "grads": ones(9), "velocity": ones(9)}
    kernels.sgd(*(given | changes).values(), 0.1, 0.0, 0.0, 1)


def adam(**changes: object) -> None:
    given = {"params": ones(9), "grads": ones(9), "m": ones(9), "v": ones(9)}
    kernels.adam(*(given | changes).values(), 0.1, 0.9, 0.99, 1e-8, 0.0, 0.0, 1, 1)


def rmsprop(**changes: object) -> None:
    given = {"params": ones(9), "grads": ones(9), "square": ones(9), "velocity": ones(9)}
    kernels.rmsprop(*(given | changes).values(), 0.1, 0.9, 1e-8, 0.0, 0.0, 1)


def softmax(**changes: object) -> None:
    given = {
        "dlogits": ones(20), "losses": np.zeros(4), "logits": ones(20),
        "targets": np.zeros(4, np.intp),
    }  # fmt: skip
    kernels.softmax_cross_entropy(*(given | changes).values(), 5, 5, 5, 1.0, 1)


def largest(**changes: object) -> None:
    given = {"values": ones(8), "places": np.zeros(8, np.intp), "log_sums": np.zeros(4),
             "x": ones(20)}  # fmt: skip
    kernels.largest(*(given | changes).values(), 5, 5, 2, 1)


def ctc(**changes: object) -> None:
    # two sequences of 2 and 1 steps, 5 classes, 2 and 1 labels
    given = {
        "dlogits": ones(15), "losses": np.zeros(2), "logits": ones(15), "offset": np.array([0, 2]),
        "lengths": np.array([2, 1]), "targets": np.array([1, 2, 3]), "ends": np.array([2, 3]),
        "scales": np.ones(2), "scratch": np.zeros(kernels.ctc_scratch(2, 2, 5)),
    }  # fmt: skip
    sizes = {"rows": 3, "classes": 5, "logits_stride": 5, "dlogits_stride": 5, "blank": 0}
    given |= {name: change for name, change in changes.items() if name in given}
    sizes |= {name: change for name, change in changes.items() if name in sizes}
    kernels.ctc(*given.values(), *sizes.values(), False, 1)


def linear_forward(**changes: object) -> None:
    packed = kernels.LinearWeights(LINEAR, buffer(LINEAR.packed_bytes), ones(15), ones(3), 1)
    given = {"y": ones(ROWS * LINEAR.row_size), "x": ones(ROWS * 5)}
    kernels.linear_forward(packed, *(given | changes).values(), 0, 5, 1, 5, ROWS, 1)


def linear_backward(**changes: object) -> None:
    sizes = LINEAR.backward_sizes(ROWS)
    back = kernels.LinearWeightsBack(
        LINEAR, buffer(LINEAR.packed_back_bytes(1, 5)), ones(15), 1, 5, 1
    )
    given = {
        "weights": back, "dy": ones(ROWS * LINEAR.row_size), "x": ones(ROWS * 5),
        "dx": ones(ROWS * 5), "dW": ones(15), "db": ones(3),
        "dy_columns": ones(sizes["dy_columns"]), "x_panels": ones(sizes["x_panels"]),
    } | changes  # fmt: skip
    kernels.linear_backward(
        LINEAR, given["weights"], given["dy"], given["x"], 0, 5, 1, 5, ROWS, given["dx"], 5,
        given["dW"], given["db"], True, given["dy_columns"], given["x_panels"], 1,
    )  # fmt: skip


def one_hot_table(**changes: object) -> None:
    given = {"table": ones(4 * LAYER.table_size), "W_hx": ones(21 * 5)} | changes
    kernels.one_hot_table(LAYER, given["table"], given["W_hx"], weights(), np.arange(4), 1)


def one_hot_gradient(**changes: object) -> None:
    given = {"dtable": ones(4 * LAYER.table_size), "dW_hx": ones(21 * 5)} | changes
    kernels.one_hot_gradient(LAYER, given["dtable"], given["dW_hx"], np.arange(4), 1)


def table_forward(**changes: object) -> None:
    given = {"table": ones(4 * LAYER.table_size), "embedding": ones(20)} | changes
    kernels.table_forward(LAYER, given["table"], given["embedding"], 4, weights(), 1)


def move_rows(**changes: object) -> None:
    given = {"to": ones(20), "source": ones(20), "places": np.arange(4)} | changes
    kernels.move_rows(
        (given["to"], 0, 5, 0, None), (given["source"], 0, 5, 0, None), 4, 1, 5, 1
    )
    kernels.move_rows((ones(20), 0, 5, 0, given["places"]), (ones(20), 0, 5, 0, None), 4, 1, 5, 1)


def map_function(**changes: object) -> None:
    given = {"out": ones(64), "x": ones(64)} | changes
    kernels.map_function("exp", given["out"], given["x"])


def choose(**changes: object) -> None:
    given = {"logits": ones(20), "uniforms": np.zeros(4), "recent": np.zeros((4, 2), np.intp),
             "left_out": np.zeros(1, np.intp)}  # fmt: skip
    kernels.Drawer(5, 1.0, 5, 1.0, 1.5).choose(*(given | changes).values())


DOORS: dict[Callable[..., object], tuple[str, ...]] = {
    weights: ("buffer", "W_hx", "W_hh", "bias"),
    sgd: ("grads", "velocity"),
    adam: ("grads", "m", "v"),
    rmsprop: ("grads", "square", "velocity"),
    largest: ("values", "places", "log_sums", "x"),
    softmax: ("dlogits", "logits", "targets"),
    ctc: ("dlogits", "logits"),
    linear_forward: ("y", "x"),
    linear_backward: ("dy", "x", "dx", "dW", "db", "dy_columns", "x_panels"),
    one_hot_table: ("table", "W_hx"),
    one_hot_gradient: ("dtable", "dW_hx"),
    table_forward: ("table", "embedding"),
    move_rows: ("to", "source", "places"),
    map_function: ("out",),
}


@pytest.mark.parametrize(
    ("door", "name"), [(door, name) for door, names in DOORS.items() for name in names]
)
def test_an_array_too_small_is_refused(door: Callable[..., object], name: str) -> None:
    door()
    kind = np.intp if name in ("targets", "places") else np.float32
    kind = np.float64 if name == "log_sums" else kind
    with pytest.raises(ValueError, match="expected"):
        door(**{name: np.ones(2, kind)})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("scratch", np.zeros(kernels.ctc_scratch(2, 2, 5) - 1)),
        ("lengths", np.array([2])), ("lengths", np.array([3, 1])), ("lengths", np.array([-1, 1])),
        ("offset", np.array([0])), ("offset", np.array([0, 3])), ("offset", np.array([-1, 2])),
        ("targets", np.array([1, 2])), ("targets", np.array([1, 2, 5])),
        ("targets", np.array([-1, 2, 3])), ("ends", np.array([2])), ("ends", np.array([2, 4])),
        ("ends", np.array([2, 1])), ("scales", np.ones(1)), ("blank", 5), ("blank", -1),
        ("classes", 0), ("rows", 2),
    ],
    ids=str,
)  # fmt: skip
def test_ctc_reads_and_writes_inside_its_arrays(name: str, wrong: object) -> None:
    ctc()
    with pytest.raises(ValueError, match="expected"):
        ctc(**{name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones(9, np.int32),
        np.ones(9),
        np.ones(9, ">f4"),
        np.ones(18, np.float32)[::2],
        np.frombuffer(bytearray(37), np.uint8)[1:].view(np.float32),
    ],
    ids=["integers", "float64", "big-endian", "strided", "misaligned"],
)
@pytest.mark.parametrize("name", ["params", "grads", "velocity"])
def test_an_array_of_another_kind_is_refused(name: str, wrong: np.ndarray) -> None:
    with pytest.raises(TypeError, match="contiguous, aligned arrays of its own dtype"):
        sgd(**{name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"logits": ones(19)}, {"uniforms": np.zeros(5)}, {"recent": np.zeros((3, 2), np.intp)},
        {"recent": np.full((4, 2), 5)}, {"left_out": np.array([-1])},
    ],
    ids=str,
)  # fmt: skip
def test_drawing_reads_inside_its_arrays(wrong: dict[str, Any]) -> None:
    choose()
    with pytest.raises(ValueError, match="expected"):
        choose(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": np.array([0, 5, 0, 0])}, {"known": 0}, {"known": 3}, {"begin": 3},
        {"window": -1}, {"left_out": np.array([5])}, {"symbols": 6},
    ],
    ids=str,
)  # fmt: skip
def test_writing_reads_and_writes_inside_its_arrays(wrong: dict[str, Any]) -> None:
    model = LanguageNetwork(Vocabulary("abcde"), 3, 1, seed=0)
    given = {"history": np.zeros(4, np.intp), "known": 2, "begin": 0, "window": 2,
             "uniforms": np.zeros(2), "left_out": np.array([0])}  # fmt: skip
    kernels.Drawer(5, 1.0, 5, 1.0, 1.0).write(model.stream(), *given.values())
    drawer = kernels.Drawer(wrong.get("symbols", 5), 1.0, 5, 1.0, 1.0)
    changed = given | {name: value for name, value in wrong.items() if name in given}
    with pytest.raises(ValueError, match="expected"):
        drawer.write(model.stream(), *changed.values())


@pytest.mark.parametrize("name", ["buffer", "W_hx", "W_hh"])
def test_weights_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="got None"):
        weights(**{name: None})


CUSTOM: dict[str, Any] = {
    "name": "a", "gates": "ab", "places": "ab", "states": "h", "own": ("v",), "starts": (-1,),
    "x_gates": [0, 1], "h_gates": [1, 0], "gradients": [2], "forward": 1, "backward": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"x_gates": [7, 9]}, {"h_gates": [-1, 0]}, {"gradients": [10**8]}, {"gradients": [-5]},
        {"gates": "éb"}, {"states": "c"}, {"forward": 0}, {"backward": 0},
        {"further": -1}, {"further": 30}, {"places": "abc", "elementwise": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_cell_of_wrong_places_is_refused(wrong: dict[str, Any]) -> None:
    kernels.CustomCell(**CUSTOM)
    with pytest.raises(ValueError, match="expected"):
        kernels.CustomCell(**{**CUSTOM, **wrong})


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: kernels.Layer(kernels.Cell(), 3, 4, False, "float32"),
        lambda layer: kernels.Layer(None, 3, 4, False, "float32"),
        lambda layer: kernels.Layer(kernels.cell("gru"), 3, 0, False, "float32"),
        lambda layer: kernels.Task(None),
        lambda layer: kernels.Task(layer).set_weights(None),
        lambda layer: kernels.Task(layer).set_input(ones(10), 0, 5, 0, 0, False),
        lambda layer: kernels.forward([], 1),
        lambda layer: kernels.forward([kernels.Task(layer)], 1),
        lambda layer: kernels.forward([kernels.Task(layer)] * 3, 1),
        lambda layer: kernels.forward_wavefront([kernels.Task(layer)] * 65, 1),
        lambda layer: kernels.backward_chunks(kernels.Task(layer)),
        lambda layer: layer.packed_back_bytes(0, 0),
        lambda layer: kernels.Linear(3, 4, "float32").packed_back_bytes(0, 0),
    ],
)
def test_a_task_of_nothing_is_refused(call: Callable[[Any], object]) -> None:
    layer = kernels.Layer(kernels.cell("gru"), 5, 7, False, "float32")
    with pytest.raises((ValueError, TypeError)):
        call(layer)


@pytest.mark.parametrize("own", [(), (ones(7), ones(7))])
def test_own_vectors_are_counted(own: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(ValueError, match="own: expected 1 vectors"):
        weights(own=own)


def test_a_gradient_of_the_input_takes_weights() -> None:
    linear_backward(weights=None, dx=None)
    with pytest.raises(ValueError, match="weights: expected"):
        linear_backward(weights=None)


@pytest.mark.parametrize("shift", [-7, -5, -1, 0, 1, 5, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_and_their_gradient_may_overlap(shift: int, dtype: type) -> None:
    logits = np.random.default_rng(0).standard_normal((40, 5)).astype(dtype)
    targets = np.arange(40) % 5
    expected = rnncore.softmax_cross_entropy(logits, targets)
    memory = np.zeros(220, dtype)
    given, out = (memory[at : at + 200].reshape(40, 5) for at in (10, 10 + shift))
    given[...] = logits
    loss, dlogits = rnncore.softmax_cross_entropy(given, targets, out=out)
    assert dlogits is out and loss == expected[0] and np.array_equal(out, expected[1])


def test_ctc_may_write_over_its_logits() -> None:
    logits = np.random.default_rng(0).standard_normal(15).astype(np.float32)
    expected, memory = np.empty_like(logits), logits.copy()
    ctc(dlogits=expected, logits=logits)
    ctc(dlogits=memory, logits=memory)
    assert np.array_equal(memory, expected)


def test_weights_are_those_of_the_layers_precision() -> None:
    task = kernels.Task(kernels.Layer(CELL, 5, 7, False, "bfloat16"))
    with pytest.raises(RuntimeError, match="precision: expected that with which the weights"):
        task.set_weights(weights())
    layer, table = kernels.Layer(CELL, 5, 7, False, "bfloat16"), np.zeros(99_000, np.float32)
    with pytest.raises(RuntimeError, match="precision: expected that with which the weights"):
        kernels.table_forward(layer, table, table, 3, weights(), 1)
    with pytest.raises(ValueError, match=r"expected one of float32, .*int8, got 'half'"):
        kernels.Linear(5, 3, "half")
