"""A tied embedding: one table that is read from and predicted with."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnncore
from rnncore.data import TextSource, TextWords, Vocabulary
from rnncore.layers import TiedEmbedding
from rnncore.models import LanguageNetwork
from rnncore.training import Trainer, TrainingSettings

TEXT = "a rose is a rose is a rose,\n" * 30


def make(tied: bool = True, **settings: Any) -> LanguageNetwork:
    if not tied:
        settings["embedding_size"] = 6
    return LanguageNetwork(
        Vocabulary(TEXT), **{"hidden_size": 6, "dtype": "float64", "seed": 5, **settings}, tied=tied
    )


def chunk(model: LanguageNetwork, T: int = 5, B: int = 3) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(1).integers(0, len(model.vocabulary), (T + 1, B), np.int32)
    return tokens[:-1], tokens[1:]


@pytest.mark.parametrize("accumulate", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("steps", [1, 5, 40])  # fewer and more rows than there are symbols
def test_its_gradient_is_the_sum_of_both(accumulate: bool, cell: str, steps: int) -> None:
    tied, apart = make(cell=cell), make(False, cell=cell)
    state = tied.state_dict()
    apart.load_state_dict({**state, "embedding.weight": state["head.weight"]})
    inputs, targets = chunk(tied, steps)
    for model in (tied, apart):
        model.flat_grads[...] = 0 if accumulate else np.nan
    assert tied.forward(inputs, targets)[0] == apart.forward(inputs, targets)[0]
    for model in (tied, apart):
        model.backward(accumulate=accumulate)
    both = apart.grads["embedding.weight"] + apart.grads["head.weight"]
    np.testing.assert_allclose(tied.grads["head.weight"], both, rtol=1e-12, atol=1e-15)
    assert np.abs(apart.grads["embedding.weight"]).max() > 1e-4
    for name in tied.grads:
        if name != "head.weight":
            assert np.array_equal(tied.grads[name], apart.grads[name])
    assert tied.num_parameters == apart.num_parameters - 6 * len(tied.vocabulary)


def test_it_is_in_files_and_optimizers_once(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    model = make(dtype="float32")
    model.save(tmp_path / "m")
    assert "embedding.weight" not in load_file(tmp_path / "m")
    again = LanguageNetwork.load(tmp_path / "m")
    assert again.settings == model.settings and again.settings["tied"] is True
    assert again.flat_params.tobytes() == model.flat_params.tobytes()
    assert isinstance(again.embedding, TiedEmbedding) and again.embedding.owner is again.head
    assert again.sample(30, seed=1) == model.sample(30, seed=1)
    assert again.sample(30, seed=1, samples=2)[0] == model.sample(30, seed=1)
    source = TextSource(model.vocabulary.encode(TEXT), batch_size=4, sequence_length=10)
    five, nine = (TrainingSettings(steps=n, schedule="constant") for n in (5, 9))
    trainer = Trainer(again, source, five, tmp_path / "run")
    trainer.run()
    moments = trainer.optimizer.state_dict()
    for name in trainer.optimizer.moment_names:
        assert moments[name].size == again.flat_params.size == again.num_parameters
    last = tmp_path / "run/last.safetensors"
    resumed = Trainer(LanguageNetwork.load(last), source, nine)
    resumed.restore(last)
    whole = Trainer(model, source, nine)
    for one in (resumed, whole):
        one.run()
    assert np.array_equal(resumed.model.flat_params, whole.model.flat_params)


@pytest.mark.parametrize("made", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_a_table_of_its_own(made: Any) -> None:
    model = make()
    other = made(model)
    assert other.embedding.owner is other.head is not model.head
    inputs, targets = chunk(model)
    assert other.evaluate(inputs, targets)[0] == model.evaluate(inputs, targets)[0]
    before = model.evaluate(inputs, targets)[0]
    with other.changing_weights() as flat:
        flat += 0.1
    assert model.evaluate(inputs, targets)[0] == before != other.evaluate(inputs, targets)[0]
    table = other.head.params["weight"]
    assert np.array_equal(other.embedding(np.arange(len(table))), table)


def test_it_learns_and_reads_what_it_learned() -> None:
    model = make(dtype="float32", hidden_size=16, num_layers=1)
    source = TextSource(model.vocabulary.encode(TEXT), batch_size=4, sequence_length=10)
    settings = TrainingSettings(epochs=15, learning_rate=0.02)
    trainer = Trainer(model, source, settings)
    trainer.run()
    assert trainer.validation_curve[-1][3] < 0.3 < 1.5 < trainer.validation_curve[0][3]
    stream = model.stream()
    tokens = model.vocabulary.encode("a rose")
    logits = [stream.step(int(token)) for token in tokens]
    y, _ = model.rnn(tokens[:, None], embedding=model.embedding)
    assert np.array_equal(logits, model.head(y)[:, 0])


class Tied(rnncore.Module):
    """A net of one's own, on a tape: the table is looked up by itself or by the layer."""

    def __init__(self, by_layer: bool) -> None:
        super().__init__()
        self.head = rnncore.Linear(4, 7, seed=0, dtype="float64")
        self.table = TiedEmbedding(self.head)
        self.rnn = rnncore.GRU(4, 4, seed=1, dtype="float64")
        self.by_layer = by_layer

    def forward(self, tokens: np.ndarray) -> Any:
        if self.by_layer:
            y, _ = self.rnn(tokens, embedding=self.table)
        else:
            y, _ = self.rnn(self.table(tokens))
        return self.head(y)


@pytest.mark.parametrize("by_layer", [True, False])
def test_on_a_tape(by_layer: bool) -> None:
    model, rng = Tied(by_layer), np.random.default_rng(0)
    tokens, targets = rng.integers(0, 7, (2, 6, 3))
    rnncore.check_gradients(model, lambda: rnncore.cross_entropy(model(tokens), targets))
    found = []
    for accumulate in (False, True):
        model.flat_grads[...] = 0 if accumulate else np.nan
        with rnncore.Tape(model) as tape:
            loss = rnncore.cross_entropy(model(tokens), targets)
        tape.backward(loss, accumulate=accumulate)
        found.append(model.flat_grads.copy())
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-15)


def test_a_table_alone_on_a_tape_leaves_nothing_old() -> None:
    model, tokens = Tied(False), np.array([[1, 2], [2, 5]])
    model.rnn.freeze()
    model.flat_grads[...] = np.nan
    with rnncore.Tape(model) as tape:
        loss = rnncore.mse_loss(model.table(tokens), np.zeros((2, 2, 4)))
    tape.backward(loss)
    assert np.isfinite(model.grads["head.weight"]).all()
    assert model.grads["head.weight"][[1, 2, 5]].all()
    assert not model.grads["head.weight"][[0, 3, 4, 6]].any()


def test_weights_that_changed_are_told() -> None:
    model, tokens = Tied(True), np.zeros((2, 1), int)
    _, _, kept = model.rnn.forward(tokens, embedding=model.table, keep=True)
    with model.head.writable_params() as params:
        params["weight"][...] += 1
    with pytest.raises(RuntimeError, match="the embedding has changed since forward"):
        model.rnn.backward(np.ones((2, 1, 4)), kept=kept)


def test_words_have_a_table_of_the_hidden_size() -> None:
    network = LanguageNetwork(TextWords(TEXT), hidden_size=5, tied=True, seed=0)
    assert network.settings["embedding_size"] == 5
    assert [name for name in network.params if "weight" in name and "rnn" not in name] == [
        "head.weight"
    ]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"embedding_size: expected hidden_size, 6, .* got 3"):
        make(embedding_size=3)
    with pytest.raises((TypeError, ValueError), match="tied"):
        LanguageNetwork(Vocabulary("ab"), tied="yes")  # type: ignore[arg-type]
    model = make()
    assert model.embedding is not None
    for call in (model.embedding.freeze, model.embedding.unfreeze):
        with pytest.raises(RuntimeError, match="freeze the head"):
            call()
    with pytest.raises(TypeError, match=r"head: expected an rnncore.Linear, got LSTM"):
        TiedEmbedding(rnncore.LSTM(2, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="from_pretrained"):
        TiedEmbedding.from_pretrained(np.ones((2, 2)))
    model.freeze()  # the whole can be
    assert model.frozen
