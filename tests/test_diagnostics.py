"""What goes on inside recurrent layers: measures, any model on any batch, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_cli import refuse, run

import rnncore
from rnncore import functions as F
from rnncore.cells import library
from rnncore.data import Vocabulary
from rnncore.data.memory_tasks import adding_problem, copy_memory
from rnncore.diagnostics import (
    diagnose,
    diagnose_loss,
    follow_impulse,
    growth_per_step,
    mean_norms,
    norms_of,
    plot_diagnosis,
    recurrent_weights,
    saturation,
    singular_values,
    spectral_radii,
)
from rnncore.layers.watching import watch_backward
from rnncore.models import LanguageNetwork


def test_growth_of_sequences_of_unlike_length() -> None:
    # As gradients do: each is 1 at the end of its sequence. Their mean a step would not fall.
    lengths = np.array([5, 9, 30, 1, 0])
    t = np.arange(30)[:, None]
    norms = np.where(t < lengths, 0.8 ** (lengths - 1.0 - t), 7.0)
    assert growth_per_step(norms, lengths) == pytest.approx(1 / 0.8, rel=1e-12)
    means = mean_norms(norms, lengths)
    assert means[0] == pytest.approx(np.mean([0.8**4, 0.8**8, 0.8**29, 1])) and means[29] == 1
    assert np.isnan(mean_norms(norms[:, :2], lengths[:2])[9:]).all()


def test_growth_leaves_zeros_out() -> None:
    assert growth_per_step(np.array([0, 1, 0.5, 0.25, 0, 0])) == pytest.approx(0.5)
    assert np.isnan(growth_per_step(np.array([0, 1.0, 0])))
    assert np.isnan(growth_per_step(np.zeros((0, 3))))


def test_norms_below_the_square_root_of_the_smallest_number() -> None:
    assert norms_of(np.full((1, 1, 4), 1e-30, np.float32))[0, 0] == pytest.approx(2e-30)


def test_saturation_counts_steps_alone() -> None:
    gate = np.array([[[0.05, 0.5, 0.95, 0.5]], [[0.95, 0.95, 0.95, 0.5]], [[0.0] * 4]])
    states = {"i": gate, "f": gate, "o": gate, "g": gate * 2 - 1}
    found = saturation("lstm", states, np.array([2]))
    assert found["i"] == (1 / 8, 4 / 8) and found["g"] == (0.0, 0.0)
    assert saturation("rnn_relu", {"h": gate}, np.array([3])) == {"h": (4 / 12, 0.0)}
    assert saturation("a cell of one's own", {"h": gate}, np.array([3])) == {}


def test_weights() -> None:
    layer = rnncore.GRU(3, 4, num_layers=2, bidirectional=True, dtype=np.float64)
    turn = np.kron(np.eye(2), [[0.0, -1.5], [1.5, 0.0]])  # eigenvalues +-1.5i
    with layer.writable_params() as params:
        params["weight_hh_l1_reverse"][4:8] = turn  # the second gate, z
    found = dict(recurrent_weights(layer))
    assert list(found) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert spectral_radii(found["l1_reverse"])["z"] == pytest.approx(1.5)
    assert singular_values(found["l1_reverse"])["z"] == pytest.approx(1.5)
    shear = {"h": np.array([[1.0, 3.0], [0.0, 1.0]])}
    assert spectral_radii(shear)["h"] == pytest.approx(1) and singular_values(shear)["h"] > 3


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.5])
def test_a_linear_network_grows_as_it_must(gain: float) -> None:
    layer = rnncore.RNN(1, 3, nonlinearity="identity", bias=False, dtype=np.float64, seed=0)
    layer.initialize({"weight_hh*": ("orthogonal", gain)}, seed=0)
    x = np.zeros((25, 2, 1))
    x[0] = 1
    found = diagnose_loss(layer, lambda: F.sum(layer(x)[0][-1]))["l0"]
    assert found.growth == pytest.approx(gain) and found.gradient_growth == pytest.approx(gain)
    assert found.spectral_radius["h"] == pytest.approx(gain)
    assert found.arriving() == pytest.approx(gain**24)
    words = " ".join(found.warnings())
    assert ("vanishing" in words) == (gain < 1)
    assert ("exploding" in words) == (gain**24 > 1000)
    curve = found.gradients["h"]
    np.testing.assert_allclose(curve, gain ** np.arange(24.0, -1, -1) * curve[-1])
    np.testing.assert_allclose(found.reach["h"], curve)


@pytest.mark.parametrize("variance", [3.0, 2.0, 1.5])
def test_the_critical_variance_of_relu_is_two(variance: float) -> None:
    # Half of the units pass, so |h|^2 grows by n * variance / n / 2 a step. One seed's log |h| is
    # off by about sqrt(5 / n) / 2 = 0.05 a step, as the same W acts at all of them, so that of six
    # by 0.02. The three factors are 0.13 apart at least.
    n, seeds, grown = 512, 6, []
    for seed in range(seeds):
        layer = rnncore.RNN(n, n, nonlinearity="relu", bias=False)
        scales = {"weight_hh*": ("normal", (variance / n) ** 0.5), "*": ("normal", n**-0.5)}
        layer.initialize(scales, seed=seed)
        found = follow_impulse(layer, 40, seed)
        grown.append([growth_per_step(found.norms), 1 / growth_per_step(found.gradients)])
        assert found.gradients[-1] == pytest.approx(1, rel=1e-5)
    assert np.mean(grown, 0) == pytest.approx([(variance / 2) ** 0.5] * 2, abs=0.06)


@pytest.mark.parametrize(("kind", "variance", "reached"), [("tanh", 30, 1.2), ("sigmoid", 3, 0.5)])
def test_bounded_states_cure_no_gradient(kind: str, variance: float, reached: float) -> None:
    layer = rnncore.RNN(256, 256, nonlinearity=kind, bias=False)
    layer.initialize({"weight_hh*": ("normal", (variance / 256) ** 0.5), "*": "xavier_normal"},
                     seed=0)  # fmt: skip
    found = follow_impulse(layer, 30, 0)
    assert found.norms.max() <= 16  # sqrt(n)
    grown = 1 / growth_per_step(found.gradients)
    assert grown > reached if kind == "tanh" else grown < reached


def test_a_forget_gate_says_what_an_lstm_keeps() -> None:
    layer, kept = rnncore.LSTM(64, 64, seed=0), []
    layer.initialize({"weight_hh*": "zeros", "bias*": "zeros"}, seed=0)
    for bias in (0.0, 1.0, 4.0):
        with layer.writable_params() as params:
            params["bias_ih_l0"][64:128] = bias
        found = follow_impulse(layer, 30, 0)
        kept.append([growth_per_step(found.norms), 1 / growth_per_step(found.gradients)])
    gate = 1 / (1 + np.exp([0, -1, -4.0]))
    np.testing.assert_allclose(kept, np.stack([gate, gate], 1), rtol=2e-2)


def test_layouts_of_an_impulse() -> None:
    layer = rnncore.GRU(3, 4, num_layers=2, batch_first=True, seed=0)
    layer.flat_grads[...] = 1
    found = follow_impulse(layer, 7, seed=0)
    assert found.norms.shape == found.gradients.shape == (7,) and (layer.flat_grads == 1).all()
    assert sorted(found.states) == ["h", "n", "r", "z"]
    with pytest.raises(ValueError, match="expected one direction"):
        follow_impulse(rnncore.GRU(3, 4, bidirectional=True))


def test_explosion_and_saturation_in_words() -> None:
    layer = rnncore.RNN(1, 4, nonlinearity="relu", bias=False, seed=0)
    layer.initialize({"weight_hh*": ("identity", 1.5), "weight_ih*": "ones"}, seed=0)
    x = np.zeros((40, 1, 1), np.float32)
    x[0] = 1
    words = diagnose_loss(layer, lambda: F.sum(layer(x)[0][-1])).warnings()
    assert [one.split(":")[1].strip() for one in words] == [
        "exploding gradient", "exploding activations"
    ]  # fmt: skip
    lstm = rnncore.LSTM(1, 4, seed=0)
    lstm.initialize({"bias*": ("uniform", 50.0)}, seed=1)
    words = diagnose_loss(lstm, lambda: F.sum(lstm(x)[0][-1])).warnings()
    assert any("saturated g: 100 % of its values" in one for one in words)
    assert not any("saturated f" in one for one in words)  # that is what it is for
    dead = rnncore.RNN(1, 4, nonlinearity="relu", seed=0)
    dead.initialize({"*": "zeros"}, seed=0)
    words = diagnose_loss(dead, lambda: F.sum(dead(x)[0])).warnings()
    assert "dead units: 100 %" in " ".join(words)


def test_nothing_of_the_model_changes_and_dropout_is_the_same() -> None:
    network = LanguageNetwork(Vocabulary("abcd"), hidden_size=8, dropout=0.5, seed=0)
    tokens = np.random.default_rng(0).integers(0, 4, (31, 3)).astype(np.int32)
    network.forward(tokens[:-1], tokens[1:])
    network.backward()
    before = network.flat_grads.copy(), network.flat_params.copy()
    state = network.generator.bit_generator.state
    first = diagnose(network, tokens[:-1], tokens[1:])
    again = diagnose(network, tokens[:-1], tokens[1:])
    assert np.array_equal(network.flat_grads, before[0])
    assert np.array_equal(network.flat_params, before[1])
    assert network.generator.bit_generator.state == state
    assert first.to_json() == again.to_json() and first.loss == again.loss
    assert [layer.name for layer in first.layers] == ["rnn.l0", "rnn.l1"]
    top = first["rnn.l1"]
    assert set(top.norms) == set(top.gradients) == {"h", "c"} and top.norms["h"].shape == (30,)
    # the last step's own loss is all that there is at the last step, and less of it before
    assert top.reach["h"][-1] == pytest.approx(top.gradients["h"][-1], rel=1e-6)
    assert top.reach["h"][0] < 1e-3 * top.gradients["h"][0]


def test_the_last_step_alone_of_two_directions_and_ragged() -> None:
    layer = rnncore.LSTM(2, 3, bidirectional=True, dtype=np.float64, seed=0)
    x, lengths = np.random.default_rng(0).standard_normal((6, 4, 2)), [6, 0, 3, 1]
    alone = np.zeros((6, 4, 6))
    for b, n in enumerate(lengths):
        if n:
            alone[n - 1, b, :3] = alone[0, b, 3:] = 1
    layer.forward(x, lengths=lengths)
    _, _, expected = layer.backward(alone, record=True)
    for rows in (False, True):
        y, _ = layer.forward(x, lengths=lengths, rows=rows)
        dy = y.like(np.ones_like(y.padded())) if rows else np.ones_like(y)
        with watch_backward(last_alone=True) as seen:
            layer.backward(dy)
        assert len(seen) == 1 and seen[0].lengths.tolist() == lengths
        for right, found in zip(expected, seen[0].gradients, strict=True):
            for name in "hc":
                np.testing.assert_allclose(found[name], right[name], rtol=1e-12)
    _, _, records = layer.record(x, lengths=lengths)
    for right, found in zip(records, seen[0].states, strict=True):
        assert all(np.array_equal(right[name], found[name]) for name in right)


def test_a_layer_that_runs_twice_and_none_at_all() -> None:
    rnn = rnncore.GRU(3, 3, seed=0)
    x = np.ones((5, 2, 3), np.float32)

    def loss() -> rnncore.Value:
        y, h = rnn(x)
        return F.sum(rnn(y, h)[0])

    assert [one.name for one in diagnose_loss(rnn, loss).layers] == ["l0", "#2.l0"]
    head = rnncore.Linear(3, 2, seed=0)
    with pytest.raises(ValueError, match="expected recurrent layers that take part"):
        diagnose_loss(head, lambda: F.sum(head(x)))
    with pytest.raises(KeyError, match="expected one of"):
        diagnose_loss(rnn, loss)["rnn"]


def test_one_step_has_no_growth() -> None:
    rnn, x = rnncore.GRU(3, 3, seed=0), np.ones((1, 2, 3), np.float32)
    found = diagnose_loss(rnn, lambda: F.sum(rnn(x)[0]))
    assert np.isnan(found["l0"].growth) and not found.warnings()
    assert str(found).splitlines()[1].split()[:6] == ["l0", "gru", "1", "-", "-", "-"]
    assert found.to_json()["layers"][0]["gradient_growth"] is None


def test_cells_without_recurrent_weights(tmp_path: Path) -> None:
    layer = rnncore.Recurrent(library.min_gru, 3, 8, num_layers=2, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(np.float32)
    found = diagnose_loss(layer, lambda: rnncore.mse_loss(layer(x)[0], np.ones((9, 2, 16))))
    assert [one.name for one in found.layers] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert found["l0"].spectral_radius == found["l0"].singular_value == {}
    assert 0 < found["l1_reverse"].gradient_growth < 1 and "min_gru" in str(found)
    plot_diagnosis(tmp_path / "picture.png", found)
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_picture_table_and_json(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    X, y = copy_memory(20, 5, 3, 2, seed=0)
    model = rnncore.SequenceClassifier(
        pooling="none", standardize=False, hidden_size=8, num_layers=2, epochs=1
    ).fit(X, list(y))
    found = diagnose(model.network_, *model.batch(X, list(y)))
    plot_diagnosis(tmp_path / "found.png", found)
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    table = str(found).splitlines()
    assert [line.split()[0] for line in table[1:5]] == [
        "rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse"
    ]  # fmt: skip
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["layers"][3]["name"] == "rnn.l1_reverse"
    assert set(found.arrays()) >= {"rnn.l0.norms.c", "rnn.l1_reverse.reach.h"}


def test_the_command(tmp_path: Path) -> None:
    X, y = adding_problem(24, 30, seed=0)
    np.savez(tmp_path / "data.npz", X=X, y=y)
    for kind, targets in ((rnncore.SequenceRegressor, y), (rnncore.SequenceClassifier, y > 1)):
        model = kind(hidden_size=8, epochs=1).fit(X, targets)
        model.save(tmp_path / "model.safetensors")
        np.savez(tmp_path / "data.npz", X=X, y=targets)
        said = run("diagnose", tmp_path / "model.safetensors", tmp_path / "data.npz").stdout
        assert "rnn.l0_reverse  lstm  30" in said
    arrays = tmp_path / "arrays.npz"
    options = ("--json", "--arrays", arrays, "--batch-size", 5)
    said = run("diagnose", tmp_path / "model.safetensors", tmp_path / "data.npz", *options).stdout
    assert json.loads(said)["layers"][0]["cell"] == "lstm"
    assert np.load(arrays)["rnn.l0.gradients.h"].shape == (30,)
    (tmp_path / "text.txt").write_text("no arrays")
    refuse("diagnose", tmp_path / "model.safetensors", tmp_path / "text.txt",
           match="DATA: expected an .npz file with the arrays X and y for a sequence classifier")
    refuse("diagnose", tmp_path / "text.txt", tmp_path / "data.npz", match="model file|whole")
    refuse("diagnose", tmp_path / "model.safetensors", tmp_path / "none.npz", match="none.npz")


def test_the_command_reads_what_other_commands_read(tmp_path: Path) -> None:
    words = tmp_path / "words.tsv"
    words.write_text("Ann\tPROPN\nsees\tVERB\n\nBob\tPROPN\nhas\tAUX\nto\tPART\nduck\tVERB\n")
    tagger = rnncore.Tagger(hidden_size=4, epochs=1).fit(words)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("Go.\tVa !\nI see.\tJe vois.\n")
    translator = rnncore.Translator(hidden_size=4, epochs=1).fit(pairs)
    days = tmp_path / "days.csv"
    days.write_text("day,x\n" + "".join(f"2026-01-{k + 1:02},{k % 3}\n" for k in range(30)))
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 9)
    language = rnncore.LanguageModel(hidden_size=4, batch_size=2, epochs=1, sequence_length=20)
    found = {
        "context.l0_reverse": (tagger, words), "decoder.l0": (translator, pairs),
        "rnn.l1": (language.fit(text), text),
    }  # fmt: skip
    for name, (model, source) in found.items():
        model.save(tmp_path / "model.safetensors")
        options = ("--batch-size", 2, "--sequence-length", 30)
        said = run("diagnose", tmp_path / "model.safetensors", source, *options).stdout
        assert name in said
    run("train", "series", days, "--look-back", 6, "--horizon", 2, "--held-out", 0, "--epochs", 1,
        "--output", tmp_path / "s")  # fmt: skip
    assert "rnn.l0" in run("diagnose", tmp_path / "s" / "model.safetensors", days).stdout


def test_tasks_of_memory() -> None:
    X, y = adding_problem(2000, 11, seed=1)
    assert (X[:, :5, 1].sum(1) == 1).all() and (X[:, 5:, 1].sum(1) == 1).all()
    assert ((y - 1) ** 2).mean() == pytest.approx(1 / 6, rel=0.1)
    X, y = copy_memory(7, 4, symbols=3, length=2, seed=1)
    assert X.shape == (7, 8, 4) and y.shape == (7, 8)
    assert (X[:, :2].argmax(2) + 1 == y[:, 6:]).all() and not y[:, :6].any()
    assert (X[:, 5, 3] == 1).all() and X.sum() == 7 * 3
    with pytest.raises(ValueError, match="steps"):
        adding_problem(3, 1)


def test_how_a_network_begins_is_a_parameter() -> None:
    X, y = adding_problem(8, 5, seed=0)
    begin = {"rnn.weight_hh*": "identity", "rnn.bias*": "zeros"}
    model = rnncore.SequenceRegressor(
        cell="rnn_relu", directions="forward", hidden_size=4, initialize=begin, epochs=1,
        learning_rate=1e-30, weight_decay=0.0,
    ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(model.network_.rnn.params["weight_hh_l0"], np.eye(4), atol=1e-7)
    assert model.network_.rnn.explain(3, 1).startswith("RNN")
    with pytest.raises(ValueError, match="patterns of parameter names"):
        model.set_params(initialize={"no such": "zeros"}).fit(X, y)
