"""Passes and rows over their whole life: held, dropped, interrupted, shared, run in segments."""

from __future__ import annotations

import copy
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

RNG = np.random.default_rng
KINDS = (rnncore.RNN, rnncore.LSTM, rnncore.GRU)
FEATURES, CLASSES = 4, 6
TOKENS = RNG(0).integers(0, 8, (7, 3))


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return RNG(seed).standard_normal(shape).astype(dtype)


def all_of(state: Any) -> np.ndarray:
    parts = state if isinstance(state, tuple) else (state,)
    return np.concatenate([np.ravel(part) for part in parts])


def language_model(**options: Any) -> LanguageNetwork:
    return LanguageNetwork(Vocabulary("abcdefgh"), hidden_size=8, seed=0, **options)


# Rows


def chain(nets: Any, x: np.ndarray, lengths: Any, rows: bool) -> tuple[Any, ...]:
    """Run a layer, a layer on it and a linear layer on that; return what they return."""
    below, above, head = nets
    y, state, first = below.forward(x, None, lengths, rows=rows, keep=True)
    z, last, second = above.forward(y, None, None if rows else lengths, rows=rows, keep=True)
    return y, state, first, z, last, second, *head.forward(z, keep=True)


def gradients(nets: Any, passed: tuple[Any, ...], targets: np.ndarray) -> list[Any]:
    """Run the three backward, with gradients of both final states; also return rows to hold."""
    below, above, head = nets
    _, state, first, _, last, second, logits, third = passed
    for net in nets:
        net.zero_grad()
    if isinstance(logits, np.ndarray):
        logits = np.ascontiguousarray(logits)
    loss, dlogits = rnncore.softmax_cross_entropy(logits, targets)
    dz = head.backward(dlogits, kept=third)
    dy, dlast = above.backward(dz, last, kept=second)
    dx, dstate = below.backward(dy, state, kept=first)
    grads = [net.flat_grads.copy() for net in nets]
    return [loss, dx, all_of(dlast), all_of(dstate), *grads, dz, dy]


@pytest.mark.parametrize("seed", range(40))
def test_chains_on_rows_in_any_order_while_rows_are_held(seed: int) -> None:
    """Rows give what arrays give, and no later pass writes into rows that somebody holds."""
    rng = RNG(seed)
    dtype: Any = (np.float32, np.float64)[seed % 2]
    sizes = rng.integers(1, 20, 2)
    below = KINDS[seed % 3](
        FEATURES, int(sizes[0]), int(rng.integers(1, 3)), bidirectional=bool(rng.integers(0, 2)),
        dtype=dtype, seed=seed,
    )  # fmt: skip
    above = KINDS[rng.integers(0, 3)](
        below.output_size, int(sizes[1]), bidirectional=bool(rng.integers(0, 2)),
        learn_initial_state=True, dtype=dtype, seed=seed,
    )  # fmt: skip
    nets = below, above, rnncore.Linear(above.output_size, CLASSES, dtype=dtype, seed=seed)
    alone = [copy.deepcopy(net) for net in nets]
    waiting: list[Any] = []
    held: list[tuple[rnncore.Rows, np.ndarray]] = []
    tolerance = 2e-4 if dtype == np.float32 else 1e-11
    for _ in range(12):
        if rng.integers(0, 5) < 3:
            steps, batch = int(rng.integers(0, 12)), int(rng.integers(0, 5))
            lengths = rng.integers(0, steps + 1, batch) if rng.integers(0, 2) else None
            x = rng.standard_normal((steps, batch, FEATURES)).astype(dtype)
            targets = rng.integers(0, CLASSES, (steps, batch))
            if lengths is not None:
                targets = np.where(np.arange(steps)[:, None] < lengths, targets, -1)
            passed = chain(nets, x, lengths, True)
            waiting.append((x, lengths, targets, passed))
            held += [(rows, rows.unpack()) for rows in (passed[0], passed[3], passed[6])]
        elif waiting:
            x, lengths, targets, passed = waiting.pop(int(rng.integers(0, len(waiting))))
            *found, dz, dy = gradients(nets, passed, targets)
            held += [(rows, rows.unpack()) for rows in (dz, dy)]
            right = gradients(alone, chain(alone, x, lengths, False), targets)
            for got, expected in zip(found, right, strict=False):
                np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        if held and rng.integers(0, 3) == 0:
            held.pop(int(rng.integers(0, len(held))))
        if rng.integers(0, 6) == 0:
            below.release_memory()
        assert all(np.array_equal(rows.unpack(), as_then) for rows, as_then in held)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("shape", [(0, 2), (5, 0), (0, 0)])
def test_batches_of_nothing_replace_gradients_by_zero(shape: tuple[int, int], rows: bool) -> None:
    layer, head = rnncore.LSTM(FEATURES, 5, 2, bias="pytorch", learn_initial_state=True, seed=0), (
        rnncore.Linear(5, CLASSES, seed=0))  # fmt: skip
    x, targets = np.zeros((*shape, FEATURES), np.float32), np.zeros(shape, int)
    y, _, kept = layer.forward(x, rows=rows, keep=True)
    logits, kept_head = head.forward(y, keep=True)
    loss, dlogits = rnncore.softmax_cross_entropy(logits, targets)
    layer.flat_grads[...] = head.flat_grads[...] = 7
    dy = head.backward(dlogits, accumulate=False, kept=kept_head)
    dx, _ = layer.backward(dy, accumulate=False, kept=kept)
    assert loss == 0 and dx.shape == x.shape
    assert not layer.flat_grads.any() and not head.flat_grads.any()


# Interruptions


class Interrupted(KeyboardInterrupt):
    """What no code of the package catches."""


def interrupt(line: int, call: Callable[[], Any]) -> bool:
    """Raise at the n-th line of the package that a call runs; return whether it got there."""
    package, count = str(Path(rnncore.__file__).parent), 0

    def lines(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        if count == line:
            sys.settrace(None)
            raise Interrupted
        return lines

    def trace(frame: Any, event: str, argument: Any) -> Any:
        # Constructors whose __del__ gives memory back are left whole.
        code = frame.f_code
        inside = code.co_filename.startswith(package)
        return lines if inside and code.co_name not in ("__del__", "__init__", "use_up") else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


FORMS: dict[str, tuple[Callable[[], Any], Callable[[int], Any], dict[str, Any]]] = {
    "dense": (
        lambda: rnncore.LSTM(5, 9, 2, seed=0), lambda s: normal(7, 3, 5, seed=s), {}),
    "ragged rows": (
        lambda: rnncore.GRU(5, 9, bidirectional=True, learn_initial_state=True, seed=0),
        lambda s: normal(7, 3, 5, seed=s), {"lengths": [7, 2, 4], "rows": True}),
    "tokens": (
        lambda: rnncore.GRU(8, 9, bias="pytorch", seed=0), lambda s: np.roll(TOKENS, s),
        {"tokens": True}),
    "segments": (
        lambda: rnncore.GRU(5, 4, seed=0), lambda s: normal(600, 2, 5, seed=s),
        {"memory": 250_000}),
    "linear": (
        lambda: rnncore.Linear(5, 9, seed=0), lambda s: normal(7, 3, 5, seed=s), {}),
}  # fmt: skip


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", list(FORMS))
def test_an_interruption_anywhere_harms_no_other_pass(name: str, backward: bool) -> None:
    """Older passes and later ones give the gradients that they give without it, bit for bit."""
    make, draw, options = FORMS[name]

    def forward(module: Any, seed: int) -> Any:
        found = module.forward(draw(seed), keep=True, **options)
        return found[0].unpack() if isinstance(found[0], rnncore.Rows) else found[0], found[-1]

    def gradient(module: Any, y: np.ndarray, kept: Any) -> np.ndarray:
        module.zero_grad()
        module.backward(y, kept=kept)
        return module.flat_grads.copy()

    alone = make()
    kept_of_one = forward(alone, 0)[1]
    assert (getattr(kept_of_one, "segments", None) is not None) == (name == "segments")
    right = [gradient(alone, *forward(alone, seed)) for seed in (0, 3)]
    line, step = 1, 61 if name == "segments" else 23
    while True:
        module = make()
        (older, kept_older), (y, kept) = (forward(module, seed) for seed in (0, 1))
        if backward:
            stopped = interrupt(line, lambda: module.backward(y, kept=kept))  # noqa: B023
        else:
            stopped = interrupt(line, lambda: module.forward(draw(2), keep=True, **options))  # noqa: B023
        assert np.array_equal(gradient(module, older, kept_older), right[0])
        assert np.array_equal(gradient(module, *forward(module, 3)), right[1])
        if not stopped:
            break
        line += step
    assert line > 2 * step or name == "linear"


# Segments


@pytest.mark.parametrize("seed", range(16))
def test_segments_are_the_whole_pass_to_the_last_bit(seed: int) -> None:
    """With dropout between several layers, two passes outstanding, the generator after both."""
    rng = RNG(seed)
    steps, batch = 300 + 20 * seed, int(rng.integers(1, 5))
    dtype: Any = (np.float32, np.float64)[seed % 2]
    tokens, lengths = bool(seed & 2), rng.integers(0, steps + 1, batch) if seed & 4 else None
    x: Any = normal(steps, batch, 9, seed=seed, dtype=dtype)
    if tokens:
        x = rng.integers(0, 9, (steps, batch))
    options: dict[str, Any] = {"tokens": tokens, "lengths": lengths}

    def make() -> Any:
        return KINDS[seed % 3](
            9, 6 + seed, 3, bias=("pytorch", True)[seed % 2], dropout=0.3, dtype=dtype, seed=seed,
            learn_initial_state=bool(seed & 1),
        )  # fmt: skip

    with pytest.raises(ValueError, match="expected at least") as error:
        make().forward(x, memory=1, **options)
    found = re.search(r"at least (\d+)", str(error.value))
    assert found is not None
    results = []
    for memory in (None, int(found[1])):
        layer, results_of_one = make(), []
        passes = [layer.forward(x, memory=memory, keep=True, **options) for _ in range(2)]
        for y, state, kept in reversed(passes):
            layer.zero_grad()
            dx, dstate = layer.backward(np.cos(y), state, kept=kept)
            results_of_one += [y, all_of(state), all_of(dstate), layer.flat_grads.copy()]
            results_of_one += [] if dx is None else [dx]
        results_of_one.append(layer.forward(x, **options)[0])  # the masks that come next
        results.append(results_of_one)
    for whole, segments in zip(*results, strict=True):
        assert np.array_equal(whole, segments)


# Threads and copies


@pytest.mark.parametrize(
    "case", [(1, 3, 40), (2, 1, 150), (3, 2, 90), (4, 5, 33), (2, 8, 20), (3, 1, 7)]
)
def test_threads_may_change_between_forward_and_backward(
    case: tuple[int, int, int], threads: Callable[[int], None]
) -> None:
    layers, batch, steps = case
    layer = rnncore.LSTM(5, 10 + batch, layers, bidirectional=batch == 8, seed=0)
    x, results = normal(steps, batch, 5), []
    for forward, backward in ((1, 1), (1, 5), (5, 1), (2, 4), (16, 1)):
        threads(forward)
        y, _, kept = layer.forward(x, keep=True)
        threads(backward)
        dx, _ = layer.backward(np.cos(y), accumulate=False, kept=kept)
        results.append((y, dx, layer.flat_grads.copy()))
    for found in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found, results[0], strict=True))


ROWS = rnncore.GRU(5, 24, seed=9)(normal(6, 2, 5), rows=True)[0]

#: A module, and how it answers.
ANSWERS: dict[str, tuple[Callable[[], Any], Callable[[Any], np.ndarray]]] = {
    "tokens of forward": (
        lambda: rnncore.GRU(8, 24, 2, seed=0),
        lambda m: m.forward(TOKENS, tokens=True, keep=True)[0]),
    "segments of tokens": (
        lambda: rnncore.GRU(8, 4, seed=0),
        lambda m: m.forward(np.tile(TOKENS, (90, 1)), tokens=True, memory=300_000)[0]),
    "rows of linear": (lambda: rnncore.Linear(24, 40, seed=0), lambda m: m(ROWS).unpack()),
    "embedding in a whole": (
        lambda: language_model(embedding_size=7),
        lambda m: np.array(m.measure(TOKENS[:-1], TOKENS[1:])[0][0])),
    "sample": (
        lambda: language_model(embedding_size=7),
        lambda m: np.frombuffer(m.sample(9, seed=3).encode(), np.uint8)),
    "stream": (
        lambda: language_model(embedding_size=7),
        lambda m: (lambda stream: np.stack([stream.step(k) for k in (1, 2)]))(m.stream())),
    "state_dict": (
        lambda: language_model(embedding_size=7),
        lambda m: np.concatenate([array.ravel() for array in m.state_dict().values()])),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ANSWERS))
def test_an_answer_while_others_train_and_release_is_of_one_version(name: str) -> None:
    make, answer = ANSWERS[name]
    module, alone, rng = make(), make(), RNG(1)
    stop = threading.Event()
    versions, answers = [module.flat_params.copy()], []

    def ask() -> None:
        while not stop.is_set():
            answers.append(answer(module).copy())

    def release() -> None:
        while not stop.wait(0.001):
            module.release_memory()

    others = [threading.Thread(target=work) for work in (ask, ask, release)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for other in others:
            other.start()
        while len(versions) < 200 or (len(answers) < 20 and len(versions) < 2000):
            change = 0.05 * rng.standard_normal(module.num_parameters)
            with module.changing_weights() as flat:  # in pieces: others get a chance to look
                for piece in range(20):
                    flat[piece::20] += change[piece::20].astype(flat.dtype)
                    time.sleep(0.0001 * (piece == 9))
            versions.append(module.flat_params.copy())
    finally:
        stop.set()
        for other in others:
            other.join()
        sys.setswitchinterval(interval)
    right = set()
    for flat in versions:
        with alone.changing_weights() as params:
            params[...] = flat
        right.add(answer(alone).tobytes())
    assert len(answers) > 2 and len(right) > 10
    assert all(found.tobytes() in right for found in answers)


def test_a_pass_from_before_its_layer_became_a_part_is_refused() -> None:
    layer = rnncore.GRU(3, 2, seed=0)
    y, _, kept = layer.forward(normal(4, 2, 3), keep=True)
    optimizer = rnncore.Adam(layer)
    whole = rnncore.Module(children={"rnn": layer})
    with pytest.raises(RuntimeError, match="weights have changed"):
        layer.backward(y, kept=kept)
    layer.flat_grads[...] = 1
    before = whole.flat_params.copy()
    optimizer.step()  # follows its layer into the whole
    assert np.isfinite(whole.flat_params).all() and (whole.flat_params < before).all()
    _, _, kept = layer.forward(normal(4, 2, 3), keep=True)
    with pytest.raises(ValueError, match="got one of another"):
        copy.deepcopy(layer).backward(y, kept=kept)


def test_a_copied_model_draws_all_its_noise_from_one_generator() -> None:
    model = language_model(num_layers=2, dropout=0.2)
    for how in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))):
        made: Any = how(model)
        assert made.generator is made.dropout.generator is made.rnn._dropout.generator
        losses = [m.forward(TOKENS[:-1], TOKENS[1:])[0] for m in (model, made)]
        assert losses[0] == losses[1]
        with pytest.raises(RuntimeError, match="nothing was kept"):
            copy.deepcopy(made).backward()  # the last pass stays with its model


# What a caller may hand over


def laid_out(a: np.ndarray) -> dict[str, np.ndarray]:
    misaligned = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    misaligned[...] = a
    read_only = a.copy()
    read_only.setflags(write=False)
    return {
        "big-endian": a.astype(">f4"), "misaligned": misaligned, "columns": np.asfortranarray(a),
        "backwards": a[::-1].copy()[::-1], "strided": np.repeat(a, 2, 1)[:, ::2],
        "read-only": read_only, "half": a.astype(np.float16), "long": a.astype(np.longdouble),
        "broadcast": np.broadcast_to(a[:1], a.shape),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(laid_out(np.zeros((1, 1), np.float32))))
def test_every_door_takes_arrays_of_any_layout(name: str) -> None:
    odd = laid_out(normal(7, 5))[name]
    plain = np.array(odd, np.float32)
    linear, layer, square = rnncore.Linear(5, 6, seed=0), rnncore.GRU(5, 6, seed=0), (
        rnncore.GRU(5, 5, seed=0))  # fmt: skip
    doors: list[Callable[[np.ndarray], np.ndarray]] = [
        linear, linear.forward, lambda a: layer(a)[0], lambda a: layer.forward(a)[0],
        lambda a: layer([a, plain])[0][0], lambda a: layer.stream().process(a),
        lambda a: square(plain, a[:1])[0], lambda a: rnncore.Dropout(0.5, seed=0).forward(a),
        lambda a: square.backward(a, kept=square.forward(plain, keep=True)[-1])[0],
        lambda a: linear.backward(np.ones((7, 6)), kept=linear.forward(a, keep=True)[1]),
    ]  # fmt: skip
    for door in doors:
        assert np.array_equal(door(odd), door(plain))


@pytest.mark.parametrize("tokens", [False, True])
def test_replaced_gradients_leave_nothing_of_those_before(tokens: bool) -> None:
    layer = rnncore.LSTM(
        8, 5, 2, bias="pytorch", bidirectional=True, learn_initial_state=True, seed=0
    )
    x: Any = TOKENS if tokens else normal(7, 3, 8)
    results = []
    for before, accumulate in ((0.0, True), (9.0, False), (np.nan, False)):
        y, _, kept = layer.forward(x, tokens=tokens, keep=True)
        layer.flat_grads[...] = before
        layer.backward(y, accumulate=accumulate, kept=kept)
        results.append(layer.flat_grads.copy())
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


@pytest.mark.parametrize(
    "forged",
    [
        {"stride": 10**7}, {"first": -(10**9)}, {"placed": True}, {"length": 10**6},
        {"parts": 5, "depth": 1, "part_stride": 10**8}, {"depth": 0, "parts": 0},
        {"flat": np.zeros(10, np.float32)}, {"flat": np.zeros(2000, np.float32)[::2]},
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_do_not_fit_into_their_array_are_refused(forged: dict[str, Any]) -> None:
    layer, above = rnncore.GRU(3, 5, seed=0), rnncore.GRU(5, 5, seed=0)
    y, _, kept = layer.forward(np.ones((4, 3, 3), np.float32), lengths=[4, 2, 3], rows=True,
                               keep=True)  # fmt: skip
    with pytest.raises(ValueError, match="expected rows"):
        above(y._replace(**forged))
    with pytest.raises(ValueError, match="expected rows"):
        rnncore.Linear(5, 2, seed=0)(y._replace(**forged))
    with pytest.raises(ValueError, match="expected rows"):
        layer.backward(y._replace(**forged), kept=kept)
    layer.backward(y, kept=kept)


def test_rows_are_copied_and_passes_are_not() -> None:
    layer = rnncore.GRU(3, 5, bidirectional=True, seed=0)
    y, _, kept = layer.forward(np.ones((4, 2, 3), np.float32), rows=True, keep=True)
    for same in (copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        assert np.array_equal(same.unpack(), y.unpack()) and same.flat is not y.flat
    for call in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            call(kept)
    for wrong in (lambda: y + y, lambda: 2 * y, lambda: y * 2):
        with pytest.raises(TypeError, match="unpack"):
            wrong()
