"""The tape: compositions against finite differences, against hand-plumbed passes, and misuse."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnncore
from rnncore import functions as F
from rnncore.layers.tape import numbers, recording

T, B, I, H = 5, 3, 4, 6  # noqa: E741
RNG = np.random.default_rng
LENGTHS = [5, 2, 4]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).standard_normal(shape)


def squares(y: Any, seed: int = 9) -> Any:
    """Return a number that depends on all of y in different ways."""
    weights = normal(*(y.shape if isinstance(y, rnncore.Value) else np.shape(y)), seed=seed)
    rows = isinstance(getattr(y, "array", None), rnncore.Rows)
    if rows:
        y = F.unpack(y)
        weights = normal(*y.shape, seed=seed)
    return F.sum(y * y * weights) + 0.3 * F.sum(y * weights)


# Functions

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tanh": lambda a: F.tanh(a),
    "sigmoid": lambda a: F.sigmoid(a),
    "relu": lambda a: F.relu(a),
    "add": lambda a, b: a + b,
    "add a number": lambda a: 2.0 + a - 1.5,
    "add, broadcast": lambda a, c: a + c,
    "add, broadcast the other way": lambda a, c: c + a,
    "subtract": lambda a, b: a - b,
    "subtract from a number": lambda a: 1.0 - a,
    "multiply": lambda a, b: a * b,
    "multiply, broadcast": lambda a, c: a * c,
    "multiply by an array": lambda a: a * normal(T, B, I, seed=3),
    "a square": lambda a: a * a,
    "divide": lambda a: a / 3.0,
    "negate": lambda a: -a,
    "a slice": lambda a: a[1:3, :, ::2],
    "an integer": lambda a: a[-1],
    "a number twice": lambda a: a[[0, 0, 3]],
    "iterate": lambda a: F.stack([step * float(k) for k, step in enumerate(a)]),
    "concatenate": lambda a, b: F.concatenate([a, b, a]),
    "concatenate steps": lambda a, b: F.concatenate([a, b], axis=0),
    "columns": lambda a: F.columns(a, 1, 3),
    "stack": lambda a, b: F.stack([a, b], axis=1),
    "reshape": lambda a: F.reshape(a, (T * B, I)),
    "transpose": lambda a: F.transpose(a, (2, 0, 1)),
    "sum": lambda a: F.sum(a, (0, 2)),
    "mean": lambda a: F.mean(a, 1),
    "mean of all": lambda a: F.mean(a) * np.ones(3),
    "matmul": lambda a, b: F.matmul(a, F.transpose(b, (0, 2, 1))),
    "matmul, broadcast": lambda a, c: F.matmul(a, F.reshape(c, (I, 1))),
    "einsum": lambda a, b: F.einsum("tbi,sbi->bts", a, b),
    "einsum that sums": lambda a, c: F.einsum("tbi,i->b", a, c),
    "einsum of one": lambda a: F.einsum("tbi->bt", a),
    "einsum of three": lambda a, b, c: F.einsum("tbi,tbi,i->tb", a, b, c),
    "softmax": lambda a: F.softmax(a),
    "softmax over time, masked": lambda a: F.softmax(
        a, (np.arange(T)[:, None] < np.array([5, 0, 2]))[:, :, None], axis=0),
    "softmax of rows": lambda a: F.softmax(F.pack(a, LENGTHS)),
    "pack": lambda a: F.pack(a, LENGTHS),
    "unpack": lambda a: F.unpack(F.pack(a, LENGTHS)),
    "rows added": lambda a, b: F.pack(a, LENGTHS) + F.pack(a, LENGTHS),
    "rows times an array": lambda a, c: F.pack(a, LENGTHS) * c,
    "rows side by side": lambda a: (lambda r: F.concatenate([r, F.tanh(r)]))(F.pack(a, LENGTHS)),
    "columns of rows": lambda a: F.columns(F.pack(a, LENGTHS), 1, 3),
    "mean over time": lambda a: F.mean_over_time(a, [5, 0, 2]),
    "mean over time of rows": lambda a: F.mean_over_time(F.pack(a, [5, 0, 2])),
    "max over time": lambda a: F.max_over_time(a, [5, 0, 2]),
    "max over time of rows": lambda a: F.max_over_time(F.pack(a, LENGTHS)),
    "gather": lambda a: F.gather(a[0], [[0, 2], [2, 2]]),
    "gather rows": lambda a: F.gather(a[0], np.array([[0, 2], [2, 1]]), [2, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_functions_against_finite_differences(name: str) -> None:
    function = FUNCTIONS[name]
    arrays = {"a": normal(T, B, I), "b": normal(T, B, I, seed=1), "c": normal(I, seed=2)}
    wanted = {k: arrays[k] for k in function.__code__.co_varnames[: function.__code__.co_argcount]}
    empty = rnncore.Module(dtype=np.float64)
    errors = rnncore.check_gradients(empty, lambda **v: squares(function(**v)), wanted)
    assert set(errors) == set(wanted)


#: Those that are made of functions alone: operators and [] of arrays are NumPy's own.
OF_ARRAYS = [
    "tanh", "sigmoid", "relu", "concatenate", "concatenate steps", "columns", "stack", "reshape",
    "transpose", "sum", "mean", "matmul", "matmul, broadcast", "einsum", "einsum that sums",
    "einsum of one", "einsum of three", "softmax", "softmax over time, masked", "softmax of rows",
    "pack", "unpack", "rows side by side", "columns of rows", "mean over time",
    "mean over time of rows", "max over time", "max over time of rows", "gather", "gather rows",
]  # fmt: skip


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_functions_of_arrays_give_arrays(name: str) -> None:
    function = FUNCTIONS[name]
    arrays = {"a": normal(T, B, I), "b": normal(T, B, I, seed=1), "c": normal(I, seed=2)}
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    found = function(**{k: arrays[k] for k in names})
    assert not isinstance(found, rnncore.Value)
    tape = rnncore.Tape()
    value = function(**{k: tape.watch(arrays[k]) for k in names})
    assert np.array_equal(numbers(found), numbers(value.array))


@pytest.mark.parametrize(
    "call",
    [
        lambda r: F.stack([r, r]), lambda r: F.reshape(r, (-1,)), lambda r: F.transpose(r, (1, 0)),
        lambda r: F.matmul(r, r), lambda r: F.einsum("ab->a", r), lambda r: F.gather(r, [0]),
        lambda r: F.pack(r, [1]), lambda r: F.softmax(r, axis=0),
        lambda r: F.softmax(r, np.ones(I, bool)),
    ],
)  # fmt: skip
def test_functions_that_need_arrays_refuse_rows(call: Callable[[Any], Any]) -> None:
    rows = F.pack(normal(T, B, I), LENGTHS)
    for one in (rows, rnncore.Tape().watch(rows)):
        with pytest.raises(TypeError, match="expected an array, got rows; unpack"):
            call(one)


@pytest.mark.parametrize("subscripts", ["ij,ij->ij", "ij,ij->i", "ij,ij->", "ij,ij->ji"])
@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (1, 1), (2, 3)])
def test_einsum_of_axes_of_size_1(subscripts: str, shape: tuple[int, int]) -> None:
    """NumPy repeats an axis of size 1 beside a longer one of the same letter."""
    small, large = normal(*shape), normal(2, 3, seed=1)
    empty = rnncore.Module(dtype=np.float64)
    for arrays in ({"a": small, "b": large}, {"a": large, "b": small}):
        rnncore.check_gradients(empty, lambda a, b: squares(F.einsum(subscripts, a, b)), arrays)


def test_a_number_of_pythons_leaves_the_dtype() -> None:
    value = rnncore.Tape().watch(np.ones((2, 3), np.float32))
    for other in (3, 3.0, np.float32(3), np.full(3, 3, np.float32)):
        for result in (value / other, value * other, value + other, value - other, other - value):
            assert result.dtype == np.float32
        np.testing.assert_allclose((value / other).array, np.full((2, 3), 1 / 3, np.float32))
    wide = np.full(3, 3.0)
    assert (value / wide).dtype == (value * wide).dtype == np.float64  # as NumPy has it
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert np.isinf((value / 0).array).all()


@pytest.mark.parametrize(("steps", "size"), [(0, 2), (3, 0), (0, 0)])
def test_functions_of_nothing(steps: int, size: int) -> None:
    lengths = [0] * size
    for call in (
        F.tanh, F.softmax, F.mean, F.max_over_time, F.mean_over_time,
        lambda x: F.softmax(x, axis=0), lambda x: F.max_over_time(x, lengths),
        lambda x: F.softmax(F.pack(x, lengths)), lambda x: F.unpack(F.pack(x, lengths)),
        lambda x: F.max_over_time(F.pack(x, lengths)), lambda x: F.einsum("tbf,tbf->bf", x, x),
    ):  # fmt: skip
        tape = rnncore.Tape()
        x = tape.watch(np.zeros((steps, size, I)))
        y = call(x)
        assert isinstance(y, rnncore.Value)
        tape.backward(squares(y))
        assert x.gradient.shape == x.shape
    pooled = F.max_over_time(np.zeros((0, 2, I), np.float32))
    assert pooled.shape == (2, I) and pooled.dtype == np.float32 and not pooled.any()


@given(
    st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.data(), st.sampled_from(["p", "c"])
)
def test_ragged_sizes(steps: int, size: int, features: int, data: Any, what: str) -> None:
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=size, max_size=size))
    x = normal(steps, size, features, seed=steps)
    functions = {
        "p": lambda x: F.unpack(F.tanh(F.pack(x, lengths))),
        "c": lambda x: F.concatenate([F.mean_over_time(x, lengths), F.max_over_time(x, lengths)]),
    }
    empty = rnncore.Module(dtype=np.float64)
    rnncore.check_gradients(empty, lambda x: squares(functions[what](x)), {"x": x}, most=8)


# Nets

class Tagger(rnncore.Module):
    """Words and characters, two directions, ragged rows."""

    def __init__(self, dtype: Any = np.float64, dropout: float = 0.0) -> None:
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "seed": 0}
        self.words = rnncore.Embedding(7, I, **options)
        self.letters = rnncore.Embedding(5, 3, **options)
        self.spelling = rnncore.GRU(3, 4, bidirectional=True, **options)
        self.context = rnncore.LSTM(I + 8, H, num_layers=2, bidirectional=True, **options)
        self.dropout = rnncore.Dropout(dropout, **options)
        self.head = rnncore.Linear(2 * H, 6, **options)

    def forward(self, words: Any, lengths: Any, letters: Any, sizes: Any, spelled: Any) -> Any:
        _, h = self.spelling(self.letters(letters, sizes), rows=True)
        table = F.concatenate([h[0], h[1]])
        x = F.concatenate([self.words(words, lengths), F.gather(table, spelled, lengths)])
        y, _ = self.context(self.dropout(x), rows=True)
        return self.head(self.dropout(y))


def sentence(seed: int = 0) -> tuple[Any, ...]:
    rng = RNG(seed)
    sizes = [4, 1, 3, 2]
    return (
        rng.integers(0, 7, (T, B)), LENGTHS, rng.integers(0, 5, (4, 4)), sizes,
        rng.integers(0, 4, (T, B)),
    )  # fmt: skip


def attention(dtype: Any = np.float64) -> tuple[Any, Callable[..., Any]]:
    class Translator(rnncore.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = rnncore.GRU(I, H, dtype=dtype, seed=0)
            self.decoder = rnncore.GRU(2 * H, H, dtype=dtype, seed=1)
            self.head = rnncore.Linear(H, 2, dtype=dtype, seed=2)

        def forward(self, x: Any, lengths: Any, y: Any) -> Any:
            memory, h = self.encoder(x, lengths=lengths)
            inside = (np.arange(T)[:, None] < np.asarray(lengths)).T
            steps = []
            for step in y:  # one after another, the state carried
                scores = F.einsum("bh,tbh->bt", h[0], memory)
                context = F.einsum("bt,tbh->bh", F.softmax(scores, inside), memory)
                out, h = self.decoder(F.reshape(F.concatenate([context, step]), (1, B, 2 * H)), h)
                steps.append(self.head(out)[0])
            return F.stack(steps)

    return Translator(), lambda net, x, y: net(x, LENGTHS, y)


def test_a_tagger_of_words_and_characters() -> None:
    net = Tagger()
    given = sentence()
    errors = rnncore.check_gradients(net, lambda: squares(net(*given)), most=20)
    assert set(errors) == set(net.params) and len(errors) > 15


def test_an_encoder_and_a_decoder_with_attention() -> None:
    net, run = attention()
    x, y = normal(T, B, I), normal(3, B, H, seed=1)
    errors = rnncore.check_gradients(net, lambda x, y: squares(run(net, x, y)), {"x": x, "y": y},
                                     most=20)  # fmt: skip
    assert {"x", "y", "encoder.weight_hh_l0", "decoder.weight_ih_l0", "head.bias"} <= set(errors)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_states_in_and_out(kind: str) -> None:
    layer = getattr(rnncore, kind)(I, H, num_layers=2, dtype=np.float64, seed=0)
    zeros = normal(2, B, H, seed=3)

    def loss(x: Any, h: Any) -> Any:
        state = (h, h) if kind == "LSTM" else h
        y, last = layer(x, state)
        y2, last = layer(F.tanh(x), last)  # the same weights once more
        parts = last if kind == "LSTM" else (last,)
        total = squares(y) + squares(y2)
        for part in parts:
            total = total + squares(part)
        return total

    rnncore.check_gradients(layer, loss, {"x": normal(T, B, I), "h": zeros}, most=20)


def test_a_learned_initial_state_and_tokens() -> None:
    table = rnncore.Embedding(7, I, dtype=np.float64, seed=0)
    layer = rnncore.LSTM(I, H, learn_initial_state=True, dtype=np.float64, seed=1)
    net = rnncore.Module(children={"table": table, "layer": layer}, dtype=np.float64)
    tokens = RNG(0).integers(0, 7, (T, B))
    rnncore.check_gradients(net, lambda: squares(layer(tokens, embedding=table)[0]), most=20)
    rnncore.check_gradients(net, lambda: squares(layer(table(tokens))[0]), most=20)
    rows = np.arange(7)
    rnncore.check_gradients(
        net, lambda: squares(layer(tokens, embedding=table(rows) * 0.5)[0]), most=20
    )


def test_weights_used_twice_and_several_losses() -> None:
    net = rnncore.Sequential(
        rnncore.Linear(I, I, dtype=np.float64, seed=0), rnncore.GRU(I, I, dtype=np.float64, seed=1)
    )
    x = normal(T, B, I)

    def loss(x: Any) -> Any:
        y = net(net(x))
        return squares(y) * 0.5 + squares(net(x), seed=4) + squares(x)

    rnncore.check_gradients(net, loss, {"x": x}, most=20)


def test_the_checker_finds_a_wrong_sign() -> None:
    net = rnncore.Linear(3, 2, dtype=np.float64, seed=0)
    x = normal(4, 3)

    def loss() -> Any:
        tape = recording()
        assert tape is not None
        y = net(x)
        return F.sum(tape.record(y.array.copy(), (y,), lambda d: (-d,)))

    with pytest.raises(rnncore.GradientError, match=r"weight\["):
        rnncore.check_gradients(net, loss)


def test_the_checker_knows_the_rounding_of_the_loss() -> None:
    """A softmax over the keys does not depend on their bias: differences are but rounding."""
    parts = {name: rnncore.Linear(I, H, dtype=np.float64, seed=k) for k, name in enumerate("qk")}
    net, x = rnncore.Module(children=parts), normal(T, B, I)

    def loss(sign: float = 1.0) -> Any:
        scores = F.softmax(F.einsum("sbh,tbh->sbt", parts["q"](x), parts["k"](x)))
        y = squares(F.einsum("sbt,tbi->sbi", scores, x))
        tape = recording()
        assert tape is not None
        return tape.record(y.array, (y,), lambda d: (d * sign,)) * 1e-3  # small ones are seen

    errors = rnncore.check_gradients(net, loss)
    assert np.abs(net.grads["k.bias"]).max() < 1e-15 < np.abs(net.grads["k.weight"]).max() < 1
    assert errors["k.bias"] <= 1e-6
    for factor in (-1.0, 1.001):
        with pytest.raises(rnncore.GradientError, match=r"q.weight\["):
            rnncore.check_gradients(net, lambda factor=factor: loss(factor))


# Against passes plumbed by hand: the same bits

def test_gradients_are_those_of_hand_made_passes() -> None:
    x, targets = normal(T, B, I).astype(np.float32), RNG(1).integers(0, 2, (T, B))

    def net() -> Any:
        parts = {"rnn": rnncore.LSTM(I, H, 2, bidirectional=True, dropout=0.3, seed=0),
                 "drop": rnncore.Dropout(0.2, seed=1), "head": rnncore.Linear(2 * H, 2, seed=2)}
        return rnncore.Module(children=parts), parts

    (first, a), (second, b) = net(), net()
    for _ in range(3):
        y, _, kept = a["rnn"].forward(x, lengths=LENGTHS, rows=True, keep=True)
        y, dropped = a["drop"].forward(y, keep=True)
        logits, affine = a["head"].forward(y, keep=True)
        loss, dlogits = rnncore.softmax_cross_entropy(logits, targets)
        dy = a["head"].backward(dlogits, accumulate=False, kept=affine)
        a["rnn"].backward(a["drop"].backward(dy, kept=dropped), accumulate=False,
                          input_gradient=False, kept=kept)  # fmt: skip
        with rnncore.Tape(second) as tape:
            logits = b["head"](b["drop"](b["rnn"](x, lengths=LENGTHS, rows=True)[0]))
            loss_b, gradient = rnncore.softmax_cross_entropy(logits.array, targets)
        tape.backward(logits, gradient)
        assert loss == loss_b and np.array_equal(first.flat_grads, second.flat_grads)
        for module in (first, second):
            rnncore.SGD(module, lr=0.1).step()


def test_batches_add_up() -> None:
    net, x = rnncore.GRU(I, H, dtype=np.float64, seed=0), normal(T, B, I)
    alone = []
    for seed in range(3):
        with rnncore.Tape(net) as tape:
            loss = squares(net(x)[0], seed)
        tape.backward(loss)
        alone.append(net.flat_grads.copy())
    for seed in range(3):
        with rnncore.Tape(net) as tape:
            loss = squares(net(x)[0], seed)
        tape.backward(loss, accumulate=seed > 0)
    np.testing.assert_allclose(net.flat_grads, sum(alone), rtol=1e-12)


def test_forward_written_once_serves_inference() -> None:
    net, given = Tagger(dropout=0.4), sentence()
    plain = net(*given)
    assert isinstance(plain, rnncore.Rows)
    with rnncore.Tape() as tape:
        noisy = net(*given)
    assert isinstance(noisy, rnncore.Value)
    assert not np.array_equal(noisy.array.array(), plain.array())
    assert np.array_equal(net(*given).array(), plain.array())
    tape.backward(noisy, noisy.array)


def test_rows_are_what_arrays_are() -> None:
    head = rnncore.Linear(I, 3, dtype=np.float64, seed=0)
    layer = rnncore.GRU(3, H, dtype=np.float64, seed=1)
    net = rnncore.Module(children={"head": head, "layer": layer}, dtype=np.float64)
    x, found = normal(T, B, I), []
    for ragged in (True, False):
        with rnncore.Tape(net) as tape:
            start = tape.watch(x)
            if ragged:
                y, _ = layer(head(F.pack(start, LENGTHS)), rows=True)
                y = F.unpack(y)
            else:
                y, _ = layer(head(start), lengths=LENGTHS)
            loss = squares(y)
        tape.backward(loss)
        found.append((y.array, start.gradient, net.flat_grads.copy()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


# Misuse

def taped() -> tuple[Any, Any, Any]:
    net = rnncore.Linear(I, 2, dtype=np.float64, seed=0)
    with rnncore.Tape(net) as tape:
        loss = squares(net(normal(B, I)))
    return net, tape, loss


def test_a_tape_serves_once() -> None:
    _, tape, loss = taped()
    tape.backward(loss)
    for call in (lambda: tape.backward(loss), tape.__enter__, lambda: tape.watch(np.ones(2)),
                 lambda: loss * 2.0):  # fmt: skip
        with pytest.raises(RuntimeError, match="each serves one"):
            call()


def test_one_tape_a_thread() -> None:
    found = []
    with rnncore.Tape():
        with pytest.raises(RuntimeError, match="open on this thread already"), rnncore.Tape():
            pass
        other = threading.Thread(target=lambda: found.append(recording()))
        other.start()
        other.join()
    assert found == [None] and recording() is None
    with pytest.raises(ZeroDivisionError), rnncore.Tape():
        raise ZeroDivisionError
    assert recording() is None


def test_values_of_two_tapes_do_not_mix() -> None:
    one, other = rnncore.Tape(), rnncore.Tape()
    a, b = one.watch(np.ones(2)), other.watch(np.ones(2))
    with pytest.raises(RuntimeError, match="another tape"):
        a + b
    with pytest.raises(TypeError, match="a value of another"):
        one.backward(b[0])


@pytest.mark.parametrize(
    ("loss", "error", "match"),
    [
        (lambda tape, v: 1.0, TypeError, "expected a value of this tape, got float"),
        (lambda tape, v: v, ValueError, "expected one number, got shape"),
        (lambda tape, v: v[0] * np.nan, FloatingPointError, "finite number, got nan"),
        (lambda tape, v: v[0] * np.inf, FloatingPointError, "finite number, got inf"),
        (lambda tape, v: tape.record(1.0, (), lambda d: ()), ValueError, "depends on a layer"),
    ],
)
def test_a_loss_that_is_none(loss: Any, error: type[Exception], match: str) -> None:
    net = rnncore.Linear(I, 2, seed=0)
    net.flat_grads[...] = 7
    tape = rnncore.Tape(net)
    with pytest.raises(error, match=match):
        tape.backward(loss(tape, tape.watch(np.ones(3))))
    assert (net.flat_grads == 7).all()


def test_arrays_of_a_tape_are_not_changed_in_place() -> None:
    net = rnncore.Linear(I, 2, dtype=np.float64, seed=0)
    x = normal(B, I)
    with rnncore.Tape() as tape:
        y = net(x)
        scale = np.full(2, 3.0)
        loss = F.sum(y * scale)
        for array in (y.array, F.tanh(y).array, tape.watch(x).array):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        x[...] = np.nan  # what was given is the caller's again
        scale[...] = np.nan
    tape.backward(loss)
    assert np.isfinite(net.flat_grads).all()
    assert np.array_equal(net.grads["bias"], [9.0, 9.0])


def test_weights_that_change_before_backward() -> None:
    net, tape, loss = taped()
    with net.changing_weights() as flat:
        flat[...] *= 2
    with pytest.raises(RuntimeError, match="weights have changed"):
        tape.backward(loss)


def test_a_backward_beside_steps_is_whole_or_refused() -> None:
    first, second = (rnncore.Linear(I, I, dtype=np.float64, seed=k) for k in range(2))
    net = rnncore.Sequential(first, second)
    x = normal(B, I)
    with rnncore.Tape(net) as tape:
        loss = squares(net(x))
    with first.changing_weights() as flat:  # the last to be gone back through
        flat[...] *= 2
    net.flat_grads[...] = 7
    with pytest.raises(RuntimeError, match="since they were recorded"):
        tape.backward(loss)
    assert (net.flat_grads == 7).all()
    optimizer, stop, refused = rnncore.SGD(net, lr=0.0), threading.Event(), 0
    with rnncore.Tape(net) as tape:
        loss = squares(net(x))
    tape.backward(loss)
    whole = net.flat_grads.copy()

    def steps() -> None:
        while not stop.is_set():
            optimizer.step()

    thread = threading.Thread(target=steps)
    thread.start()
    try:
        for _ in range(300):
            net.flat_grads[...] = 0
            with rnncore.Tape(net) as tape:
                loss = squares(net(x))
            try:
                tape.backward(loss)
                assert np.array_equal(net.flat_grads, whole)
            except RuntimeError:
                refused += 1
                assert not net.flat_grads.any()
    finally:
        stop.set()
        thread.join()
    assert refused


def test_a_part_that_takes_no_part_is_named() -> None:
    parts = {name: rnncore.Linear(I, I, dtype=np.float64, seed=0) for name in ("used", "spare")}
    net = rnncore.Module(children=parts, dtype=np.float64)
    net.flat_grads[...] = 7

    def step() -> None:
        with rnncore.Tape(net) as tape:
            loss = squares(parts["used"](normal(B, I)))
        tape.backward(loss)

    with pytest.warns(UserWarning, match="no part in the loss, and a gradient of zero: spare;"):
        step()
    assert not parts["spare"].flat_grads.any() and parts["used"].flat_grads.any()
    parts["spare"].freeze()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()


def test_numpy_is_told_that_it_records_nothing() -> None:
    tape = rnncore.Tape()
    value = tape.watch(np.ones(2))
    for call in (lambda: np.tanh(value), lambda: np.asarray(value), lambda: np.dot(value, value)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match="no truth value"):
        bool(value)
    with pytest.raises(TypeError, match="division by a value"):
        value / value
    assert (np.ones(2) * value).array.tolist() == [1.0, 1.0]  # an array on the left
    with pytest.raises(TypeError, match="a value on a tape"):
        rnncore.Linear(2, 2, seed=0)(value)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: F.concatenate([]), "at least one"),
        (lambda: F.concatenate([F.pack(normal(2, 2, 3), [1, 2]), normal(3, 3)]), "rows of one"),
        (lambda: F.add(F.pack(normal(2, 2, 3), [1, 2]), F.pack(normal(2, 2, 3), [2, 2])), "of one"),
        (lambda: F.add(F.pack(normal(2, 2, 3), [1, 2]), normal(3, 3)), "pack"),
        (lambda: F.columns(normal(2, 3), 2, 5), "expected 0 <= first"),
        (lambda: F.einsum("ii->i", normal(2, 2)), "none twice"),
        (lambda: F.einsum("ij", normal(2, 2)), "after '->'"),
        (lambda: F.pack(normal(2, 2), [1, 2]), r"\(T, B, features\)"),
        (lambda: F.gather(normal(3, 2), [3]), "from 0 to 2"),
        (lambda: F.gather(normal(3, 2), [-1]), "from 0 to 2"),
        (lambda: F.mean_over_time(normal(3, 2)), r"\(T, B, features\) or rows"),
        (lambda: F.mean_over_time(F.pack(normal(2, 2, 3), [1, 2]), [1, 2]), "have their own"),
        (lambda: F.matmul(normal(3), normal(3, 2)), "two axes"),
        (lambda: F.dropout(normal(3), 1.0, RNG(0)), "below 1"),
    ],
)
def test_functions_refuse(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


def test_functions_refuse_other_kinds() -> None:
    for call, match in (
        (lambda: F.softmax(normal(3), np.ones(3)), "mask: expected booleans"),
        (lambda: F.unpack(normal(3)), "expected rows"),
        (lambda: F.gather(normal(3, 2), [0.5]), "integers"),
        (lambda: rnncore.Tape().watch([1, 2]), "floating-point"),
        (lambda: F.take(F.pack(normal(2, 2, 3), [1, 2]), 0), "unpack"),
    ):
        with pytest.raises(TypeError, match=match):
            call()


def test_check_gradients_refuses() -> None:
    net = rnncore.Linear(I, 2, seed=0)
    with pytest.raises(TypeError, match="float64"):
        rnncore.check_gradients(net, lambda: 0.0)
    net = rnncore.Linear(I, 2, dtype=np.float64, seed=0)
    with pytest.raises(TypeError, match="a value on the tape"):
        rnncore.check_gradients(net, lambda: 0.0)
    noise = rnncore.Dropout(0.5, dtype=np.float64, seed=0)
    with pytest.raises(ValueError, match="the same number each time"):
        rnncore.check_gradients(net, lambda: squares(noise(net(normal(20, I)))))


# Modules of one's own

def test_attributes_are_parts() -> None:
    class Net(rnncore.Module):
        def __init__(self) -> None:
            super().__init__()
            self.size = 3
            self.layers = [rnncore.Linear(I, I, seed=0), rnncore.Linear(I, 2, seed=1)]
            self._memory = rnncore.Linear(2, 2, seed=2)  # none, as its name begins with _

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    net = Net()
    names = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    assert list(net.params) == names and net.num_parameters == I * I + I + 2 * I + 2
    assert net(np.ones((1, I), np.float32)).shape == (1, 2)
    same = Net()
    same.load_state_dict(net.state_dict())
    assert [name for name, _ in net.named_modules()] == ["", "layers.0", "layers.1"]
    for wrong, error, match in (
        (lambda: setattr(net, "other", net.layers[0]), ValueError, "no part yet"),
        (lambda: setattr(net, "layers.0", rnncore.Linear(1, 1)), ValueError, "keeps its parts"),
        (lambda: setattr(net, "more", rnncore.Linear(1, 1, dtype=np.float64)), ValueError,
         "dtype: expected float32"),
        (lambda: setattr(net, "more", [rnncore.Linear(1, 1), 3]), TypeError, "layer or model"),
        (lambda: setattr(net, "me", net), ValueError, "no part yet"),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            wrong()
    outer = rnncore.Module()
    outer.net = net  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="itself a part"):
        net.more = rnncore.Linear(1, 1)  # type: ignore[attr-defined]


def test_the_dtype_of_a_module() -> None:
    double = {"dtype": np.float64, "seed": 0}
    assert rnncore.Sequential(rnncore.Linear(2, 2, **double)).dtype == np.float64
    assert rnncore.Module(children={"a": rnncore.Linear(2, 2, **double)}).dtype == np.float64
    net = rnncore.Module(dtype=np.float32)
    with pytest.raises(ValueError, match="dtype: expected float32 in a, got float64"):
        net.a = rnncore.Linear(2, 2, **double)  # type: ignore[attr-defined]
    net = rnncore.Module(dtype=np.float64)
    with pytest.raises(ValueError, match="dtype: expected float64 in a, got float32"):
        net.a = rnncore.Linear(2, 2)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="dtype: expected float64 in 1, got float32"):
        rnncore.Sequential(rnncore.Linear(2, 2, **double), rnncore.Linear(2, 2))


def test_a_module_that_forgets_super() -> None:
    class Net(rnncore.Module):
        def __init__(self) -> None:
            self.layer = rnncore.Linear(1, 1)

    with pytest.raises(RuntimeError, match=r"super\(\).__init__\(\) first"):
        Net()
    with pytest.raises(NotImplementedError, match="define one"):
        rnncore.Module()(3)


def test_a_sequence_of_modules_learns() -> None:
    net = rnncore.Sequential(rnncore.LSTM(2, 16, seed=0), rnncore.Linear(16, 1, seed=1))
    optimizer, rng, losses = rnncore.Adam(net, lr=0.02), RNG(0), []
    for _ in range(400):  # the sum of the first two inputs, remembered to the end
        x = rng.standard_normal((6, 20, 2)).astype(np.float32)
        with rnncore.Tape(net) as tape:
            error = net(x)[-1] - x[:2].sum((0, 2))[:, None]
            loss = F.mean(error * error)
        tape.backward(loss)
        optimizer.step()
        losses.append(float(loss))
    assert losses[0] > 2 and np.mean(losses[-10:]) < 0.3
    with pytest.raises(ValueError, match="at least one"):
        rnncore.Sequential()


# Losses

LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": lambda a: rnncore.cross_entropy(a, RNG(0).integers(0, I, (T, B))),
    "cross_entropy of rows": lambda a: rnncore.cross_entropy(
        F.pack(a, LENGTHS), RNG(0).integers(0, I, (T, B)), label_smoothing=0.1),
    "its sum": lambda a: rnncore.cross_entropy(
        a, RNG(0).integers(0, I, (T, B)), reduction="sum") * 0.5,
    "binary": lambda a: rnncore.binary_cross_entropy_with_logits(
        a, RNG(0).integers(0, 2, (T, B, I)).astype(float)),
    "mse": lambda a: rnncore.mse_loss(a, normal(T, B, I, seed=5)) * 2.0,
    "huber": lambda a: rnncore.huber_loss(a, normal(T, B, I, seed=5), delta=0.7),
    "quantile": lambda a: rnncore.quantile_loss(
        a, normal(T, B, seed=5), np.linspace(0.1, 0.9, I)),
    "gaussian": lambda a, b: rnncore.gaussian_nll_loss(a, normal(T, B, I, seed=5), b * b + 0.5),
    "gaussian, mean alone": lambda a: rnncore.gaussian_nll_loss(
        a, normal(T, B, I, seed=5), np.full((T, B, I), 0.5)),
    "ctc": lambda a: rnncore.ctc_loss(a, np.array([[1, 2], [3, 3], [2, 1]]),
                                      [5, 4, 3], [2, 2, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_on_a_tape_against_finite_differences(name: str) -> None:
    function = LOSSES[name]
    arrays = {"a": normal(T, B, I), "b": normal(T, B, I, seed=1)}
    wanted = {k: arrays[k] for k in function.__code__.co_varnames[: function.__code__.co_argcount]}
    rnncore.check_gradients(rnncore.Module(dtype=np.float64), function, wanted)
    plain = function(**arrays) if len(wanted) == 2 else None
    if name == "mse":
        plain = rnncore.mse_loss(arrays["a"], normal(T, B, I, seed=5))
        with rnncore.Tape() as tape:
            value = rnncore.mse_loss(tape.watch(arrays["a"]), normal(T, B, I, seed=5))
        assert isinstance(plain, rnncore.Loss) and float(value) == plain.mean
    if name == "gaussian":
        assert isinstance(plain, rnncore.Loss)


def test_targets_have_no_gradient() -> None:
    tape = rnncore.Tape()
    a, b = tape.watch(normal(3)), tape.watch(normal(3, seed=1))
    with pytest.raises(TypeError, match="targets: expected an array, got a value of a tape"):
        rnncore.mse_loss(a, b)
