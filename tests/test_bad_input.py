"""Wrong arguments: one error that names the argument, says what came and what to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore import softmax_cross_entropy as cross_entropy

T, B, I, H = 5, 3, 4, 6  # noqa: E741


def lstm(**options: Any) -> rnncore.LSTM:
    return rnncore.LSTM(I, H, **{"num_layers": 2, "seed": 0, **options})


def gru(**options: Any) -> rnncore.GRU:
    return rnncore.GRU(I, H, **{"num_layers": 2, "seed": 0, **options})


X = np.ones((T, B, I), np.float32)
IDS = np.zeros((T, B), int)
STATE = np.zeros((2, B, H), np.float32)


class Wrong:
    """A call, the kind of error, and words that its message has to have."""

    def __init__(self, error: type, call: Callable[[], Any], *words: str) -> None:
        self.error, self.call, self.words = error, call, words


MAKING = {
    "input_size zero": Wrong(ValueError, lambda: rnncore.LSTM(0, H), "input_size", "0"),
    "input_size negative": Wrong(ValueError, lambda: rnncore.GRU(-2, H), "input_size", "-2"),
    "hidden_size zero": Wrong(ValueError, lambda: rnncore.LSTM(I, 0), "hidden_size", "0"),
    "hidden_size negative": Wrong(ValueError, lambda: rnncore.RNN(I, -3), "hidden_size", "-3"),
    "hidden_size fraction": Wrong(
        (ValueError, TypeError), lambda: rnncore.RNN(I, 3.5), "hidden_size", "3.5"),
    "hidden_size text": Wrong(
        (ValueError, TypeError), lambda: rnncore.RNN(I, "6"), "hidden_size", "6"),
    "hidden_size None": Wrong(
        (ValueError, TypeError), lambda: rnncore.RNN(I, None), "hidden_size", "None"),
    "hidden_size true": Wrong(
        (ValueError, TypeError), lambda: rnncore.RNN(I, True), "hidden_size", "True"),
    "hidden_size list with zero": Wrong(ValueError, lambda: rnncore.RNN(I, [4, 0]), "hidden_size"),
    "hidden_size empty list": Wrong(ValueError, lambda: rnncore.RNN(I, []), "hidden_size"),
    "hidden_size list of another length": Wrong(
        ValueError, lambda: rnncore.RNN(I, [4, 5, 6], 2), "hidden_size", "[4, 5, 6]"),
    "num_layers zero": Wrong(ValueError, lambda: rnncore.LSTM(I, H, 0), "num_layers", "0"),
    "dropout above one": Wrong(
        ValueError, lambda: lstm(dropout=1.5), "dropout", "between 0 and 1", "1.5"),
    "dropout negative": Wrong(ValueError, lambda: lstm(dropout=-0.1), "dropout", "-0.1"),
    "dropout text": Wrong((ValueError, TypeError), lambda: lstm(dropout="a"), "dropout", "'a'"),
    "dropout NaN": Wrong(ValueError, lambda: lstm(dropout=float("nan")), "dropout", "nan"),
    "cell unknown": Wrong(
        ValueError, lambda: rnncore.Recurrent("gruu", I, H), "cell", "'gruu'", "lstm"),
    "cell of another kind": Wrong(
        TypeError, lambda: rnncore.Recurrent(3, I, H), "cell", "int", "rnncore.cell"),
    "bias unknown": Wrong(ValueError, lambda: lstm(bias="torch"), "bias", "'torch'", "pytorch"),
    "forget_bias infinite": Wrong(
        ValueError, lambda: lstm(forget_bias=float("inf")), "forget_bias", "inf"),
    "forget_bias without bias": Wrong(
        ValueError, lambda: lstm(forget_bias=1, bias=False), "forget_bias", "bias=False"),
    "nonlinearity": Wrong(
        ValueError, lambda: rnncore.RNN(I, H, nonlinearity="swish"), "Unknown nonlinearity",
        "'swish'", "tanh"),
    "dtype float16": Wrong(
        (ValueError, TypeError), lambda: lstm(dtype=np.float16), "dtype", "float32", "float16"),
    "dtype integer": Wrong((ValueError, TypeError), lambda: lstm(dtype=int), "dtype", "int"),
    "dtype unknown": Wrong((ValueError, TypeError), lambda: lstm(dtype="nothing"), "dtype"),
    "product overflows": Wrong(
        ValueError, lambda: rnncore.LSTM(2**20, 2**20), "hidden_size", "overflow"),
    "recurrent product overflows": Wrong(
        ValueError, lambda: rnncore.LSTM(1, 2**31 - 1), "hidden_size", "overflow"),
    "enormous": Wrong(ValueError, lambda: rnncore.LSTM(2**70, 2**70), "_size"),
    "linear zero": Wrong(ValueError, lambda: rnncore.Linear(0, 3), "in_features", "0"),
    "linear negative": Wrong(ValueError, lambda: rnncore.Linear(3, -1), "out_features", "-1"),
    "linear overflows": Wrong(ValueError, lambda: rnncore.Linear(2**33, 2**33), "features"),
    "embedding zero": Wrong(ValueError, lambda: rnncore.Embedding(0, 3), "num_embeddings", "0"),
    "vectors of integers": Wrong(
        TypeError, lambda: rnncore.Embedding.from_pretrained(np.ones((3, 2), int)), "vectors",
        "int64"),
    "vectors of one axis": Wrong(
        TypeError, lambda: rnncore.Embedding.from_pretrained(np.ones(3)), "vectors", "(3,)"),
    "embedding overflows": Wrong(ValueError, lambda: rnncore.Embedding(2**33, 2**33), "embedding"),
    "dropout layer": Wrong(ValueError, lambda: rnncore.Dropout(1.0), "p: dropout", "1.0"),
}  # fmt: skip

INPUT = {
    "a layer by the name of its cell": Wrong(
        ValueError, lambda: rnncore.Recurrent("gru", I, H)(np.ones(4)), "x", "gru"),
    "one axis": Wrong(
        ValueError, lambda: lstm()(np.ones(4)), "x", "LSTM",
        "Expected input to be 2D or 3D, got 1D"),
    "four axes": Wrong(
        ValueError, lambda: gru()(np.ones((2, 2, 2, 4))), "x", "GRU",
        "Expected input to be 2D or 3D, got 4D"),
    "no axis": Wrong(ValueError, lambda: gru()(np.float32(3)), "x", "0D"),
    "features": Wrong(
        ValueError, lambda: lstm()(np.ones((T, B, 9))), "x",
        "input.size(-1) must be equal to input_size. Expected 4, got 9", "(5, 3, 9)"),
    "integers of three axes": Wrong(
        (ValueError, TypeError), lambda: lstm()(np.ones((T, B, I), int)), "x", "int64"),
    "booleans": Wrong(TypeError, lambda: lstm()(np.ones((T, B, I), bool)), "x", "bool"),
    "complex": Wrong(TypeError, lambda: lstm()(np.ones((T, B, I), complex)), "x", "complex128"),
    "objects": Wrong(TypeError, lambda: lstm()(np.full((T, B, I), None)), "x", "object"),
    "text": Wrong(TypeError, lambda: lstm()(np.full((T, B, I), "1")), "x", "<U1"),
    "None": Wrong((ValueError, TypeError), lambda: lstm()(None), "x"),
    "uneven lists": Wrong((ValueError, TypeError), lambda: lstm()([[[1.0] * I], [[1.0]]]), "x"),
    "no sequence": Wrong(ValueError, lambda: lstm()([]), "x", "LSTM", "empty list"),
    "integers that are features or tokens": Wrong(
        TypeError, lambda: lstm()(IDS), "x", "int64", ".astype(np.float32)", "tokens=True"),
    "integers of one sequence": Wrong(TypeError, lambda: lstm()(IDS[0]), "x", "tokens=True"),
    "integers in lists": Wrong(TypeError, lambda: lstm()([IDS[0], IDS[1]]), "x", "tokens=True"),
    "features as tokens": Wrong(TypeError, lambda: lstm()(X, tokens=True), "x", "float32"),
    "masked": Wrong(
        TypeError, lambda: lstm()(np.ma.masked_less(X, 2)), "x", "masked", "lengths"),
    "token too large": Wrong(
        ValueError, lambda: lstm()(IDS + 4, tokens=True), "x", "index out of range", "4", "3"),
    "token negative": Wrong(
        ValueError, lambda: lstm()(IDS - 1, tokens=True), "x", "index out of range", "-1"),
    "token too large for the embedding": Wrong(
        ValueError, lambda: lstm()(IDS + 7, embedding=rnncore.Embedding(7, I)), "x",
        "index out of range", "7"),
    "features for an embedding": Wrong(
        TypeError, lambda: lstm()(np.ones((T, B)), embedding=rnncore.Embedding(7, I)), "x",
        "integer", "float64"),
    "embedding of another size": Wrong(
        ValueError, lambda: lstm()(IDS, embedding=rnncore.Embedding(7, 9)), "embedding", "4", "9"),
    "embedding of another dtype": Wrong(
        (ValueError, TypeError),
        lambda: lstm()(IDS, embedding=rnncore.Embedding(7, I, dtype=np.float64)),
        "embedding", "float32", "float64"),
    "embedding of another kind": Wrong(
        TypeError, lambda: lstm()(IDS, embedding=[[1.0] * I] * 7), "embedding", "Embedding"),
    "list of unlike features": Wrong(
        ValueError, lambda: lstm()([np.ones((5, I)), np.ones((3, I + 1))]), "x",
        "Expected 4, got 5"),
    "list of unlike ranks": Wrong(
        ValueError, lambda: lstm()([np.ones((5, I)), np.ones(I)]), "x"),
    "list of unlike kinds": Wrong(
        (ValueError, TypeError), lambda: lstm()([np.ones((5, I)), np.ones((5, I), int)]), "x"),
    "list and lengths": Wrong(
        ValueError, lambda: lstm()([np.ones((5, I))], lengths=[5]), "lengths"),
}  # fmt: skip

LENGTHS = {
    "floats": Wrong(TypeError, lambda: lstm()(X, lengths=[1.0, 2.0, 3.0]), "lengths", "float64"),
    "booleans": Wrong(TypeError, lambda: lstm()(X, lengths=[True] * 3), "lengths", "bool"),
    "text": Wrong(TypeError, lambda: lstm()(X, lengths="abc"), "lengths"),
    "objects": Wrong(TypeError, lambda: lstm()(X, lengths=[1, None, 2]), "lengths", "object"),
    "negative": Wrong(ValueError, lambda: lstm()(X, lengths=[1, -2, 3]), "lengths", "-2"),
    "longer than T": Wrong(ValueError, lambda: lstm()(X, lengths=[1, 6, 3]), "lengths", "6", "5"),
    "huge": Wrong(
        ValueError, lambda: lstm()(X, lengths=np.array([1, 2**63, 3], np.uint64)), "lengths"),
    "too few": Wrong(
        ValueError, lambda: lstm()(X, lengths=[1, 2]), "lengths",
        "Expected `len(lengths)` to be equal to batch_size", "3", "(2,)"),
    "a number": Wrong(ValueError, lambda: lstm()(X, lengths=4), "lengths", "batch_size"),
    "two axes": Wrong(ValueError, lambda: lstm()(X, lengths=[[1], [2], [3]]), "lengths", "(3, 1)"),
    "two for one sequence": Wrong(
        ValueError, lambda: lstm()(X[:, 0], lengths=[1, 2]), "lengths", "(2,)"),
    "batch first": Wrong(
        ValueError, lambda: lstm(batch_first=True)(X, lengths=[3, 3, 3]), "lengths", "5", "(3,)"),
}  # fmt: skip

STATES = {
    "h alone for an LSTM": Wrong(TypeError, lambda: lstm()(X, STATE), "state", "tuple", "ndarray"),
    "three for an LSTM": Wrong(TypeError, lambda: lstm()(X, (STATE,) * 3), "state", "(h, c)"),
    "a tuple for a GRU": Wrong(TypeError, lambda: gru()(X, (STATE, STATE)), "state", "tuple"),
    "layers": Wrong(
        ValueError, lambda: gru()(X, STATE[:1]), "state", "Expected hidden[0] size (2, 3, 6), got",
        "(1, 3, 6)"),
    "batch": Wrong(
        ValueError, lambda: gru()(X, STATE[:, :2]), "Expected hidden[0] size (2, 3, 6)",
        "(2, 2, 6)"),
    "hidden size": Wrong(
        ValueError, lambda: gru()(X, STATE[..., :5]), "Expected hidden[0] size", "(2, 3, 5)"),
    "rank": Wrong(ValueError, lambda: gru()(X, STATE[0]), "Expected hidden[0] size", "(3, 6)"),
    "rank without a batch axis": Wrong(
        ValueError, lambda: gru()(X[:, 0], STATE), "Expected hidden[0] size (2, 6)", "(2, 3, 6)"),
    "c": Wrong(
        ValueError, lambda: lstm()(X, (STATE, STATE[:1])), "state", "Expected hidden[1] size",
        "(1, 3, 6)"),
    "integers": Wrong(TypeError, lambda: gru()(X, STATE.astype(int)), "state", "int64"),
    "objects": Wrong(TypeError, lambda: gru()(X, STATE.astype(object)), "state", "object"),
    "complex": Wrong(TypeError, lambda: gru()(X, STATE.astype(complex)), "state", "complex128"),
    "c missing": Wrong(TypeError, lambda: lstm()(X, (STATE, None)), "state", "None for c"),
    "h missing": Wrong(TypeError, lambda: lstm()(X, (None, STATE)), "state", "None for h"),
    "an array for unlike sizes": Wrong(
        TypeError, lambda: rnncore.GRU(I, [5, 6])(X, STATE), "state", "list"),
    "an empty list for unlike sizes": Wrong(
        (ValueError, TypeError), lambda: rnncore.GRU(I, [5, 6])(X, []), "state", "list"),
    "one array for two unlike sizes": Wrong(
        (ValueError, TypeError), lambda: rnncore.GRU(I, [5, 6])(X, [STATE[..., :5]]), "state"),
    "unlike sizes in the wrong order": Wrong(
        ValueError, lambda: rnncore.GRU(I, [5, 6])(X, [STATE[:1], STATE[:1, :, :5]]), "state",
        "(1, 3, 5)"),
}  # fmt: skip


def after_forward(call: Callable[[Any], Any]) -> Callable[[], Any]:
    def run() -> Any:
        layer = lstm()
        layer.forward(X)
        return call(layer)

    return run


BACKWARD = {
    "without forward": Wrong(
        RuntimeError, lambda: lstm().backward(np.ones((T, B, H))), "backward", "forward"),
    "twice": Wrong(
        RuntimeError, after_forward(lambda f: (f.backward(None), f.backward(None))), "backward",
        "forward"),
    "after inference": Wrong(
        RuntimeError, lambda: (f := lstm(), f(X), f.backward(np.ones((T, B, H)))), "forward"),
    "dy shape": Wrong(
        ValueError, after_forward(lambda f: f.backward(np.ones((T, B, 9)))), "dy", "(5, 3, 6)",
        "(5, 3, 9)"),
    "dy rank": Wrong(
        ValueError, after_forward(lambda f: f.backward(np.ones((T, H)))), "dy", "(5, 6)"),
    "dy dtype": Wrong(
        TypeError, after_forward(lambda f: f.backward(np.ones((T, B, H), int))), "dy", "int64"),
    "dy objects": Wrong(
        TypeError, after_forward(lambda f: f.backward(np.full((T, B, H), None))), "dy", "object"),
    "dstate shape": Wrong(
        ValueError, after_forward(lambda f: f.backward(None, (STATE, STATE[:1]))), "dstate",
        "(1, 3, 6)"),
    "dstate kind": Wrong(
        TypeError, after_forward(lambda f: f.backward(None, STATE)), "dstate", "tuple"),
    "dy for a list": Wrong(
        ValueError,
        lambda: (f := lstm(), f.forward([X[:, 0], X[:2, 1]]),
                 f.backward([np.ones((5, H)), np.ones((3, H))])), "dy", "(2, 6)", "(3, 6)"),
    "memory for both directions": Wrong(
        ValueError, lambda: lstm(bidirectional=True).forward(X, memory=10**3), "memory",
        "bidirectional", "at least"),
    "memory text": Wrong(ValueError, lambda: lstm().forward(X, memory="1 GB"), "memory", "'1 GB'"),
    "memory too little": Wrong(ValueError, lambda: lstm().forward(X, memory=10), "memory", "10"),
    "linear without forward": Wrong(
        RuntimeError, lambda: rnncore.Linear(3, 2).backward(np.ones((5, 2))), "forward"),
    "embedding without forward": Wrong(
        RuntimeError, lambda: rnncore.Embedding(3, 2).backward(np.ones((5, 2))), "forward"),
}  # fmt: skip


def linear_backward(dy: Any) -> Any:
    linear = rnncore.Linear(3, 2)
    linear.forward(np.ones((4, 5, 3)))
    return linear.backward(dy)


def embedding_backward(dy: Any) -> Any:
    table = rnncore.Embedding(3, 2)
    table.forward(np.zeros((4, 5), int))
    return table.backward(dy)


LOGITS = np.zeros((4, 7))
READ_ONLY = np.zeros((4, 7))
READ_ONLY.flags.writeable = False

OTHERS = {
    "linear features": Wrong(
        ValueError, lambda: rnncore.Linear(3, 2)(np.ones((5, 4))), "x", "3", "(5, 4)"),
    "linear integers": Wrong(
        TypeError, lambda: rnncore.Linear(3, 2)(np.ones((5, 3), int)), "x", "int64"),
    "linear scalar": Wrong(ValueError, lambda: rnncore.Linear(3, 2)(np.float64(1)), "x", "3"),
    "linear dy features": Wrong(
        ValueError, lambda: linear_backward(np.ones((4, 5, 3))), "dy", "(4, 5, 3)"),
    "linear dy rows": Wrong(ValueError, lambda: linear_backward(np.ones((4, 2))), "dy", "(4, 2)"),
    "embedding floats": Wrong(
        TypeError, lambda: rnncore.Embedding(3, 2)(np.ones(4)), "tokens", "float64"),
    "embedding too large": Wrong(
        ValueError, lambda: rnncore.Embedding(3, 2)([0, 3]), "tokens", "index out of range", "3"),
    "embedding dy shape": Wrong(
        ValueError, lambda: embedding_backward(np.ones((4, 5, 3))), "dy", "(4, 5, 3)"),
    "embedding dy that would broadcast": Wrong(
        ValueError, lambda: embedding_backward(np.ones(2)), "dy", "(2,)"),
    "embedding dy integers": Wrong(
        TypeError, lambda: embedding_backward(np.ones((4, 5, 2), int)), "dy", "int64"),
    "logits integers": Wrong(
        TypeError, lambda: cross_entropy(LOGITS.astype(int), [0] * 4), "logits",
        "int64"),
    "logits without classes": Wrong(
        ValueError, lambda: cross_entropy(LOGITS[:, :0], [0] * 4), "logits",
        "(4, 0)"),
    "targets too large": Wrong(
        ValueError, lambda: cross_entropy(LOGITS, [0, 1, 2, 7]), "targets", "7"),
    "targets shape": Wrong(
        ValueError, lambda: cross_entropy(LOGITS, [0, 1]), "targets", "(4,)", "(2,)"),
    "targets floats": Wrong(
        TypeError, lambda: cross_entropy(LOGITS, [0.0] * 4), "targets", "float64"),
    "out shape": Wrong(
        ValueError, lambda: cross_entropy(LOGITS, [0] * 4, LOGITS[:2].copy()), "out",
        "(2, 7)"),
    "out dtype": Wrong(
        ValueError,
        lambda: cross_entropy(LOGITS, [0] * 4, LOGITS.astype(np.float32)), "out",
        "float32"),
    "out not contiguous": Wrong(
        ValueError, lambda: cross_entropy(LOGITS, [0] * 4, np.zeros((7, 4)).T), "out",
        "contiguous"),
    "out read-only": Wrong(
        ValueError, lambda: cross_entropy(LOGITS + 1, [0] * 4, READ_ONLY), "out", "read-only"),
    "state_dict missing": Wrong(
        ValueError, lambda: lstm().load_state_dict({}), "Missing key(s)", "weight_ih_l0"),
    "state_dict unexpected": Wrong(
        ValueError, lambda: lstm().load_state_dict({**lstm().state_dict(), "bias": 0}),
        "Unexpected key(s)", "bias"),
    "state_dict shape": Wrong(
        ValueError, lambda: lstm().load_state_dict({**lstm().state_dict(), "weight_ih_l0": X}),
        "size mismatch for weight_ih_l0", "(24, 4)", "(5, 3, 4)"),
    "state_dict text": Wrong(
        (ValueError, TypeError),
        lambda: lstm().load_state_dict(
            {**lstm().state_dict(), "bias_hh_l0": np.full(24, "a")}), "bias_hh_l0"),
    "model of unlike dtypes": Wrong(
        ValueError,
        lambda: rnncore.Module(children={"rnn": lstm(dtype=np.float64)}, dtype=np.float32),
        "dtype", "rnn", "float64"),
}  # fmt: skip


def twice(module: rnncore.Module) -> rnncore.Module:
    return rnncore.Module(children={"a": module, "b": module})


def dropout_backward(dy: Any) -> Any:
    dropout = rnncore.Dropout(0.5)
    dropout.forward(X)
    return dropout.backward(dy)


PARTS = {
    "part is none": Wrong(TypeError, lambda: rnncore.Module(children={"a": 1}), "a:", "int"),
    "parts are a list": Wrong(
        TypeError, lambda: rnncore.Module(children=[lstm()]), "children", "list"),
    "one part twice": Wrong(ValueError, lambda: twice(lstm()), "a:", "part"),
    "part of another": Wrong(
        ValueError,
        lambda: [rnncore.Module(children={"rnn": layer}) for layer in [lstm()] * 2], "rnn", "part"),
    "state_dict None": Wrong(TypeError, lambda: lstm().load_state_dict(None), "state", "NoneType"),
    "modules as shapes": Wrong(
        TypeError, lambda: rnncore.Module({"rnn": lstm()}), "shapes", "children", "LSTM"),
    "a projection": Wrong(
        ValueError, lambda: lstm().load_state_dict({**lstm().state_dict(), "weight_hr_l0": X}),
        "Unexpected key(s)", "weight_hr_l0", "projection"),
    "stream copied": Wrong(TypeError, lambda: copy.copy(lstm().stream()), "stream.copy()"),
    "seed negative": Wrong(ValueError, lambda: lstm(seed=-1), "seed", "-1"),
    "seed text": Wrong(ValueError, lambda: rnncore.Linear(2, 3, seed="a"), "seed", "'a'"),
    "flag text": Wrong(TypeError, lambda: lstm(bidirectional="no"), "bidirectional", "'no'"),
    "flag of a linear layer": Wrong(
        TypeError, lambda: rnncore.Linear(2, 3, bias="no"), "bias", "'no'"),
    "dropout without forward": Wrong(
        RuntimeError, lambda: rnncore.Dropout(0.5).backward(X), "forward"),
    "dropout dy": Wrong(
        ValueError, lambda: dropout_backward(X[:2]), "dy", "(5, 3, 4)", "(2, 3, 4)"),
    "dropout integers": Wrong(TypeError, lambda: rnncore.Dropout(0.5).forward(IDS), "x", "int64"),
    "explain steps": Wrong(ValueError, lambda: lstm().explain(-1, 2), "steps", "-1"),
    "explain batch": Wrong(ValueError, lambda: lstm().explain(1, 2.5), "batch", "2.5"),
    "stream of an array": Wrong(
        TypeError, lambda: lstm().stream(embedding=[[1.0] * I]), "embedding", "list"),
    "stream of a table that does not fit": Wrong(
        ValueError, lambda: lstm().stream(embedding=rnncore.Embedding(9, I + 1)), "embedding", "5"),
    "stream of a table of another dtype": Wrong(
        ValueError, lambda: lstm().stream(embedding=rnncore.Embedding(9, I, dtype=np.float64)),
        "embedding", "float64"),
    "token fraction": Wrong(
        TypeError, lambda: lstm().stream(tokens=True).step(1.0), "x", "token id", "1.0"),
    "token true": Wrong(
        TypeError, lambda: lstm().stream(tokens=True).step(True), "x", "token id", "True"),
    "token array": Wrong(
        TypeError, lambda: lstm().stream(tokens=True).step(IDS[0]), "x", "(3,)"),
    "token enormous": Wrong(
        ValueError, lambda: lstm().stream(tokens=True).step(2**70), "x", "out of range"),
    "tokens of a block": Wrong(
        ValueError, lambda: lstm().stream(tokens=True).process([0, 9]), "block", "9"),
    "features of a block": Wrong(
        ValueError, lambda: lstm().stream().process(np.ones((2, 9))), "block", "(2, 9)"),
    "state of a batch": Wrong(
        ValueError, lambda: lstm().stream().set_state((STATE[:, :1],) * 2), "state", "h[:, 0]"),
}  # fmt: skip

LAYER = rnncore.Linear(2, 3, seed=0)

TRAINING = {
    "params in place of the module": Wrong(
        TypeError, lambda: rnncore.Adam(LAYER.grads), "module", "NamedArrays"),
    "lr text": Wrong(ValueError, lambda: rnncore.SGD(LAYER, lr="a"), "lr", "'a'"),
    "lr infinite": Wrong(ValueError, lambda: rnncore.SGD(LAYER, lr=np.inf), "lr", "inf"),
    "one beta": Wrong(ValueError, lambda: rnncore.Adam(LAYER, betas=(0.9,)), "betas", "(0.9,)"),
    "beta alone": Wrong(ValueError, lambda: rnncore.Adam(LAYER, betas=0.9), "betas", "0.9"),
    "alpha": Wrong(ValueError, lambda: rnncore.RMSprop(LAYER, alpha=2.0), "alpha", "2.0"),
    "norm of an optimizer": Wrong(
        TypeError, lambda: rnncore.clip_grad_norm(rnncore.SGD(LAYER), 1.0), "module", "SGD"),
    "norm None": Wrong(
        ValueError, lambda: rnncore.clip_grad_norm(LAYER, None), "max_norm", "None"),
    "group that fits nothing": Wrong(
        ValueError, lambda: rnncore.AdamW(LAYER, groups=[{"params": "*bais*"}]), "groups[0]",
        "*bais*"),
    "lr of a group": Wrong(
        ValueError, lambda: rnncore.Adam(LAYER, groups=[{"params": "*", "lr": 1.0}]), "groups[0]",
        "lr_scale"),
    "optimizer state": Wrong(
        TypeError, lambda: rnncore.SGD(LAYER).load_state_dict(None), "state", "NoneType"),
}  # fmt: skip


CASES = {
    f"{group}: {name}": wrong
    for group, wrongs in (
        ("making", MAKING), ("input", INPUT), ("lengths", LENGTHS), ("state", STATES),
        ("backward", BACKWARD), ("other", OTHERS),
        ("parts", PARTS), ("training", TRAINING),
    )
    for name, wrong in wrongs.items()
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_error_says_what_is_wrong(name: str) -> None:
    wrong = CASES[name]
    with pytest.raises(wrong.error) as caught:
        wrong.call()
    message = str(caught.value)
    missing = [word for word in wrong.words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    assert "\n" not in message and len(message) < 400


def test_the_callers_arrays_stay_as_they_are() -> None:
    x, state, lengths = X.copy(), STATE.copy(), np.array([1, 9, 3])
    for layer in (lstm(), gru()):
        for given in ((x[..., :2], None, None), (x, state[:1], None), (x, None, lengths)):
            for call in (layer, layer.forward):
                with pytest.raises((ValueError, TypeError)):
                    call(*given)
    assert np.array_equal(x, X) and np.array_equal(state, STATE)
    assert not READ_ONLY.any()
    assert lengths.tolist() == [1, 9, 3]


def test_parameters_are_written_to_not_replaced() -> None:
    layer = lstm()
    with pytest.raises(TypeError):
        layer.params["weight_hh_l0"] = X  # type: ignore[index]


@pytest.mark.parametrize("shape", [(0, 2, I), (4, 0, I), (4, 2, I)])
def test_record_of_nothing(shape: tuple[int, int, int]) -> None:
    _, _, records = lstm().record(np.ones(shape), lengths=[0] * shape[1])
    assert len(records) == 2
    for record in records:
        assert sorted(record) == ["c", "f", "g", "h", "i", "o"]
        assert all(a.shape == (*shape[:2], H) and not a.any() for a in record.values())


def test_an_error_loses_nothing() -> None:
    # A wrong call leaves the layer, and a pass that waits for backward, as they were.
    layer, same = lstm(weight_drop=0.5), lstm(weight_drop=0.5)
    dy = np.ones((T, B, H))
    same.forward(X)
    expected, _ = same.backward(dy)
    layer.forward(X)
    for wrong in (
        lambda: layer.backward(dy[:2]),
        lambda: layer.backward(dy, STATE),
        lambda: layer(X[..., :2]),
        lambda: layer.forward(X, lengths=[9, 9, 9]),
        lambda: layer.forward(X, STATE),
        lambda: layer.forward(X, (STATE, STATE[:1]), memory=10**9),
        lambda: layer.backward(dy, input_gradient="no"),
    ):
        with pytest.raises((ValueError, TypeError)):
            wrong()
    assert not layer.flat_grads.any()
    assert np.array_equal(layer.backward(dy)[0], expected)
    assert np.array_equal(layer.flat_grads, same.flat_grads)
    assert np.array_equal(layer.forward(X)[0], same.forward(X)[0])  # nor has noise been drawn


def test_what_is_empty_is_valid() -> None:
    layer = lstm()
    for shape in ((0, B, I), (T, 0, I), (0, 0, I)):
        y, (h, c) = layer.forward(np.ones(shape))
        assert y.shape == (*shape[:2], H) and h.shape == c.shape == (2, shape[1], H)
        assert layer.backward(y)[0].shape == shape
    y, _ = layer(np.ones((0, I)))
    assert y.shape == (0, H)
    y, _ = layer(np.zeros((0, B), int), tokens=True)
    assert y.shape == (0, B, H)


def test_an_array_subclass_and_a_masked_array_are_arrays() -> None:
    expected, _ = lstm()(X)
    assert np.array_equal(lstm()(np.ma.masked_array(X))[0], expected)
    assert np.array_equal(lstm()(X.view(type("Mine", (np.ndarray,), {})))[0], expected)
