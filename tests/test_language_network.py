"""The language model: its gradients, its state, what it writes, its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnncore.data import Vocabulary
from rnncore.models import LanguageNetwork

TEXT = "a rose is a rose is a rose,\n"
SETTINGS = [
    {},
    {"embedding_size": 3},
    {"cell": "gru", "num_layers": 1},
    {"cell": "rnn", "embedding_size": 3},
    {"tied": True},
    {"cell": "gru", "num_layers": 1, "tied": True, "embedding_size": 6},
]


def make(**settings: Any) -> LanguageNetwork:
    return LanguageNetwork(Vocabulary(TEXT), **{"hidden_size": 6, "seed": 5, **settings})


def chunk(model: LanguageNetwork, T: int = 5, B: int = 3) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(1).integers(0, len(model.vocabulary), (T + 1, B), np.int32)
    return tokens[:-1], tokens[1:]


def carried(model: LanguageNetwork) -> Any:
    """Return a state that is not zero."""
    return model.evaluate(*chunk(model))[1]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradients_against_finite_differences(settings: dict[str, Any]) -> None:
    model = make(dtype=np.float64, **settings)
    inputs, targets = chunk(model)
    state = carried(model)
    model.flat_grads[...] = np.nan
    model.forward(inputs, targets, state)
    model.backward(accumulate=False)
    generator = np.random.default_rng(2)
    for name, gradient in model.grads.items():
        direction = generator.standard_normal(gradient.shape)
        before, losses = model.params[name].copy(), []
        # Five-point central difference: error of order step^4.
        step = 1e-3
        for shift in (-2, -1, 1, 2, 0):
            with model.writable_params() as params:
                params[name][...] = before + shift * step * direction
            losses.append(model.forward(inputs, targets, state)[0])
        numeric = (losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * step)
        analytic = np.vdot(gradient, direction)
        assert analytic == pytest.approx(numeric, rel=1e-7, abs=1e-11), name


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradients_add_up_until_zeroed_or_replaced(settings: dict[str, Any]) -> None:
    model = make(**settings)
    inputs, targets = chunk(model)
    model.forward(inputs, targets)
    model.backward()
    once = model.flat_grads.copy()
    model.forward(inputs, targets)
    model.backward()
    np.testing.assert_allclose(model.flat_grads, 2 * once, rtol=1e-5, atol=1e-8)
    model.zero_grad()
    assert not model.flat_grads.any()
    assert once.any()
    model.flat_grads[...] = np.nan
    model.forward(inputs, targets)
    model.backward(accumulate=False)
    assert np.array_equal(model.flat_grads, once)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_refused_backward_changes_nothing(settings: dict[str, Any]) -> None:
    model = make(**settings)
    model.flat_grads[...] = 7
    model.forward(*chunk(model))
    model.weights_changed()
    for accumulate in (True, False):
        with pytest.raises(RuntimeError, match="weights have changed since forward"):
            model.backward(accumulate=accumulate)
    assert (model.flat_grads == 7).all()


def test_evaluation_between_forward_and_backward_changes_nothing() -> None:
    model = make(hidden_size=70, dropout=0.3)
    inputs, targets = chunk(model)
    gradients = []
    for evaluates in (False, True):
        model.dropout.generator.bit_generator.state = np.random.default_rng(3).bit_generator.state
        model.zero_grad()
        model.forward(inputs, targets)
        if evaluates:
            model.evaluate(*chunk(model, T=40))
        model.backward()
        gradients.append(model.flat_grads.copy())
    assert np.array_equal(*gradients)


def test_each_forward_serves_one_backward() -> None:
    model = make()
    with pytest.raises(RuntimeError, match="call forward first"):
        model.backward()
    model.forward(*chunk(model))
    model.backward()
    with pytest.raises(RuntimeError, match="call forward first"):
        model.backward()


@pytest.mark.parametrize(
    ("tokens", "targets", "words"),
    [
        (np.zeros((0, 2), int), np.zeros((0, 2), int), "tokens: expected"),
        (np.zeros((3, 2), int), np.zeros((2, 3), int), "targets: expected the shape"),
        (np.zeros((3, 2), int), np.full((3, 2), 999), "targets: expected integers below"),
        (np.full((3, 2), 999), np.zeros((3, 2), int), "index out of range"),
    ],
)
def test_bad_chunks_name_the_argument(tokens: np.ndarray, targets: np.ndarray, words: str) -> None:
    model = make()
    with pytest.raises(ValueError, match=words):
        model.forward(tokens, targets)
    with pytest.raises(RuntimeError, match="call forward first"):
        model.backward()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_two_chunks_with_carried_state_are_one_long_chunk(settings: dict[str, Any]) -> None:
    model = make(dtype=np.float64, **settings)
    inputs, targets = chunk(model, T=12)
    for run in (model.evaluate, model.forward):
        whole, last = run(inputs, targets)
        first, state = run(inputs[:4], targets[:4])
        second, state = run(inputs[4:], targets[4:], state)
        assert (4 * first + 8 * second) / 12 == pytest.approx(whole, rel=1e-12)
        np.testing.assert_allclose(np.asarray(state), np.asarray(last), rtol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_share_of_the_rows_begins_anew_in_training(cell: str) -> None:
    model, plain = make(cell=cell, state_reset=0.25), make(cell=cell)
    inputs, targets = chunk(model, T=1, B=400)
    state = plain.evaluate(inputs, targets)[1]
    _, after, kept = model.forward(inputs, targets, state, keep=True)
    parts = zip(as_parts(after), as_parts(plain.forward(inputs, targets, state)[1]),
                as_parts(plain.forward(inputs, targets)[1]), strict=True)  # fmt: skip
    anew = []
    for ours, carried_on, from_zero in parts:
        began = (ours == from_zero).all((0, 2))
        assert ((ours == carried_on).all((0, 2)) != began).all()
        anew.append(began)
    assert all((one == anew[0]).all() for one in anew) and 60 < anew[0].sum() < 140
    model.backward(kept=kept)
    assert model.evaluate(inputs, targets, state)[0] == plain.evaluate(inputs, targets, state)[0]
    with pytest.raises(ValueError, match="state_reset"):
        make(state_reset=1.0)


def as_parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def test_a_returned_state_is_not_overwritten() -> None:
    model = make()
    for run in (model.forward, model.evaluate):
        _, state = run(*chunk(model))
        kept = np.array(state)
        run(*chunk(model, T=7))
        assert np.array_equal(np.asarray(state), kept)


def test_one_hot_is_an_embedding_with_the_identity() -> None:
    model, size = make(dtype=np.float64), len(Vocabulary(TEXT))
    embedded = make(dtype=np.float64, embedding_size=size)
    embedded.load_state_dict({**model.state_dict(), "embedding.weight": np.eye(size)})
    loss, _ = model.forward(*chunk(model))
    model.backward()
    other_loss, _ = embedded.forward(*chunk(model))
    embedded.backward()
    assert loss == pytest.approx(other_loss, rel=1e-12)
    for name, gradient in model.grads.items():
        np.testing.assert_allclose(gradient, embedded.grads[name], rtol=1e-9, atol=1e-12)


def test_dropout_is_for_training_alone_and_follows_the_seed() -> None:
    model, same, without = make(dropout=0.5), make(dropout=0.5), make()
    without.load_state_dict(model.state_dict())
    inputs, targets = chunk(model)
    assert model.evaluate(inputs, targets)[0] == without.evaluate(inputs, targets)[0]
    losses = [model.forward(inputs, targets)[0] for _ in range(3)]
    assert len(set(losses)) == 3
    assert losses == [same.forward(inputs, targets)[0] for _ in range(3)]


def test_dropout_gradients() -> None:
    model = make(dtype=np.float64, dropout=0.4)
    inputs, targets = chunk(model)
    masks = model.generator.bit_generator.state
    model.forward(inputs, targets)
    model.backward()
    direction = np.random.default_rng(2).standard_normal(model.flat_params.size)
    losses = []
    for shift in (-1e-5, 2e-5):
        with model.changing_weights() as flat:
            flat += shift * direction
        model.generator.bit_generator.state = masks  # the same units dropped again
        losses.append(model.forward(inputs, targets)[0])
    assert np.vdot(model.flat_grads, direction) == pytest.approx(
        (losses[1] - losses[0]) / 2e-5, rel=1e-6
    )


class TestSample:
    def test_length_prime_and_seed(self) -> None:
        model = make()
        written = model.sample(40, prime="a rose", seed=1)
        assert len(written) == 46
        assert written.startswith("a rose")
        assert written == model.sample(40, prime="a rose", seed=1)
        assert written != model.sample(40, prime="a rose", seed=2)
        assert model.sample(0, prime="rose") == "rose"
        assert model.sample(0) == ""

    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_temperature_0_is_the_likeliest_after_the_whole_prefix(
        self, settings: dict[str, Any]
    ) -> None:
        model = make(**settings)
        with model.changing_weights() as flat:
            flat *= 4.0  # far from uniform
        written = model.sample(20, temperature=0, prime="is")
        tokens = model.vocabulary.encode(written)
        for end in range(2, len(tokens)):
            y, _ = model.rnn(tokens[:end, None], tokens=True, embedding=model.embedding)
            assert model.head(y[-1, 0]).argmax() == tokens[end]

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
    def test_drawn_from_the_softmax(self, temperature: float) -> None:
        model = make()
        size = len(model.vocabulary)
        p = np.arange(1.0, size + 1) ** 2 / np.sum(np.arange(1.0, size + 1) ** 2)
        head = {"weight": np.zeros((size, 6)), "bias": np.log(p)}  # whatever came before: p
        model.head.load_state_dict(head)
        expected = p ** (1 / temperature) / np.sum(p ** (1 / temperature))
        n = 2000
        drawn = model.vocabulary.encode(model.sample(n, temperature, seed=0))
        shares = np.bincount(drawn, minlength=size) / n
        assert (np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / n)).all()

    def test_each_character_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = make()
        stream, other = model.stream(), model.stream()
        monkeypatch.setattr(model, "stream", lambda: stream)
        text = model.sample(40, prime="a rose")
        other.process(model.vocabulary.encode(text[:-1]))  # nobody asks what comes after the last
        for h, expected in zip(stream.get_state(), other.get_state(), strict=True):
            np.testing.assert_array_equal(h, expected)

    def test_without_prime_it_starts_as_after_a_line_end(self) -> None:
        model = make()
        assert model.sample(30, seed=1) == model.sample(30, prime="\n", seed=1)[1:]
        assert len(LanguageNetwork(Vocabulary("xyz"), hidden_size=4).sample(5)) == 5

    def test_a_learnt_text_is_written(self) -> None:
        from rnncore.training import Adam

        model = make(hidden_size=32, num_layers=1)
        tokens = model.vocabulary.encode("\n" + TEXT)[:, None]
        optimizer = Adam(model, lr=0.02)
        for _ in range(150):
            model.zero_grad()
            model.forward(tokens[:-1], tokens[1:])
            model.backward()
            optimizer.step()
        assert model.sample(len(TEXT), temperature=0, prime="\n") == "\n" + TEXT

    def test_bytes(self) -> None:
        model = LanguageNetwork(Vocabulary("fünf".encode()), hidden_size=4, seed=0)
        assert model.sample(3, prime="ü").startswith("ü")

    def test_bad_input(self) -> None:
        model = make()
        with pytest.raises(ValueError, match=r"prime text: .*'Z', which the model has never seen"):
            model.sample(1, prime="roZe")
        with pytest.raises(ValueError, match="length"):
            model.sample(-1)
        for temperature in (-1.0, float("nan"), float("inf"), None, "1", True, [1.0]):
            with pytest.raises(ValueError, match="temperature: expected a finite number"):
                model.sample(1, temperature=temperature)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_save_and_load(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = make(dropout=0.1, dtype=np.float64, **settings)
    model.save(tmp_path / "model.safetensors")
    loaded = LanguageNetwork.load(tmp_path / "model.safetensors")
    assert loaded.settings == model.settings
    assert loaded.vocabulary == model.vocabulary
    assert loaded.flat_params.tobytes() == model.flat_params.tobytes()
    assert loaded.sample(30, seed=1) == model.sample(30, seed=1)


def test_the_file_has_pytorchs_names_and_shapes(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    model = make(embedding_size=3)
    model.save(tmp_path / "m")
    shapes = {name: tensor.shape for name, tensor in load_file(tmp_path / "m").items()}
    V = len(model.vocabulary)
    assert shapes == {
        "embedding.weight": (V, 3),
        "rnn.weight_ih_l0": (24, 3),
        "rnn.weight_hh_l0": (24, 6),
        "rnn.bias_ih_l0": (24,),
        "rnn.bias_hh_l0": (24,),
        "rnn.weight_ih_l1": (24, 6),
        "rnn.weight_hh_l1": (24, 6),
        "rnn.bias_ih_l1": (24,),
        "rnn.bias_hh_l1": (24,),
        "head.weight": (V, 6),
        "head.bias": (V,),
    }


def test_initial_weights_depart_from_the_layers_where_that_is_said() -> None:
    one_hot, embedded = make().state_dict(), make(embedding_size=3).state_dict()
    bound = 6**-0.5
    assert bound < np.abs(one_hot["rnn.weight_ih_l0"]).max() <= 1.0
    assert np.abs(embedded["rnn.weight_ih_l0"]).max() <= bound
    for state in (one_hot, embedded):
        assert np.abs(state["rnn.weight_ih_l1"]).max() <= bound
        for layer in ("l0", "l1"):  # gates i, f, g, o
            bias = state[f"rnn.bias_ih_{layer}"].reshape(4, 6)
            assert (bias[1] == 1.0).all()
            assert np.abs(bias[[0, 2, 3]]).max() <= bound


def test_seed() -> None:
    assert np.array_equal(make().flat_params, make().flat_params)
    assert not np.array_equal(make().flat_params, make(seed=6).flat_params)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "transformer"},
        {"hidden_size": 0},
        {"num_layers": 0},
        {"embedding_size": 0},
        {"dropout": 1.5},
        {"dtype": "int32"},
    ],
    ids=str,
)
def test_bad_settings_name_the_argument(settings: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match="|".join(settings) + "|embedding_dim"):
        make(**settings)


def test_arguments_that_do_not_fit(tmp_path) -> None:
    with pytest.raises(TypeError, match=r"vocabulary: .* got str"):
        LanguageNetwork("abc")
    with pytest.raises(ValueError, match=r"embedding_size: .* got 0"):
        LanguageNetwork(Vocabulary("abc"), embedding_size=0)
    with pytest.raises(ValueError, match=r"hidden_size: .* got \[3, 4\]"):
        LanguageNetwork(Vocabulary("abc"), hidden_size=[3, 4])
    model = LanguageNetwork(Vocabulary("abc"), hidden_size=4, seed=0)
    with pytest.raises(ValueError, match=r"length: .* got 1.5"):
        model.sample(1.5)
    with pytest.raises(TypeError, match=r"tokens: .* float64"):
        model.forward(np.zeros((3, 2)), np.zeros((3, 2), int))
    with pytest.raises(OSError, match=r"nowhere/model'$"):
        model.save(tmp_path / "nowhere" / "model")


def test_a_stream_owns_its_head() -> None:
    model = make()
    stream, untouched = model.stream(), model.stream()
    expected = [untouched.step(token) for token in (1, 2, 3)]
    with model.changing_weights() as flat:
        flat[...] = np.nan
    assert np.array_equal([stream.copy().step(1)], expected[:1])
    assert np.array_equal([stream.step(token) for token in (1, 2, 3)], expected)


@pytest.mark.parametrize("weight", ["head.bias", "rnn.weight_hh_l0"])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_sampling_from_weights_that_are_not_finite(weight: str, temperature: float) -> None:
    model = make()
    model.load_state_dict({n: a * np.nan if n == weight else a for n, a in
                           model.state_dict().items()})  # fmt: skip
    with pytest.raises(ValueError, match="model: expected finite weights"):
        model.sample(5, temperature, prime="a r")


@pytest.mark.parametrize("alphabet", [TEXT, TEXT.encode() + "f\u00fc\r".encode()])
def test_characters_come_one_by_one(alphabet: str | bytes) -> None:
    model = LanguageNetwork(Vocabulary(alphabet), hidden_size=6, seed=5)
    pieces = model.sample_pieces(40, prime="a rose", seed=1)
    assert next(pieces) == "a rose"
    assert len(next(pieces)) <= 1
    whole = "".join(model.sample_pieces(40, prime="a rose", seed=1))
    assert whole == model.sample(40, prime="a rose", seed=1)
    with pytest.raises(ValueError, match="length"):
        model.sample_pieces(-1)  # at once, not at the first character


def test_line_ends_of_a_prime_are_those_of_a_text_that_is_read() -> None:
    model = make()
    assert model.sample(5, prime="rose\r\nis\r", seed=1) == model.sample(
        5, prime="rose\nis\n", seed=1
    )
