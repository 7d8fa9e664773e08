"""Batches of sequences of like length, and sequences without padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rnncore import files
from rnncore.data import Ragged, SequenceBatches, TextSource, fingerprint_of
from rnncore.models.model import Measure, Model
from rnncore.training import Trainer, TrainingSettings

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=80)
CUTS: list[dict[str, Any]] = [
    {"batch_size": 1},
    {"batch_size": 7},
    {"batch_size": 1000},
    {"tokens_per_batch": 1},
    {"tokens_per_batch": 64},
    {"tokens_per_batch": 64, "noise": 0.5},
    {"tokens_per_batch": 64, "shuffle": False},
    {"batch_size": 7, "shuffle": False},
]


@given(LENGTHS, st.sampled_from(CUTS), st.integers(0, 2**70), st.integers(0, 3))
def test_every_sequence_once_an_epoch(
    lengths: list[int], cut: dict[str, Any], seed: int, epoch: int
) -> None:
    batches = SequenceBatches(lengths, seed=seed, **cut)
    first = epoch * batches.per_epoch
    found = [batches.indices(first + place) for place in range(batches.per_epoch)]
    assert all(batch.size for batch in found)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))


@given(LENGTHS, st.sampled_from(CUTS), st.data())
def test_a_batch_depends_on_its_number_alone(
    lengths: list[int], cut: dict[str, Any], data: st.DataObject
) -> None:
    batches = SequenceBatches(lengths, seed=3, **cut)
    numbers = st.lists(st.integers(0, 4 * batches.per_epoch), min_size=1, max_size=12)
    for number in data.draw(numbers):  # in any order, from one object and from fresh ones
        [batch] = batches.batch(number)
        assert batch.tolist() == SequenceBatches(lengths, seed=3, **cut).indices(number).tolist()
        batch[:] = -1  # what a caller does to a batch changes no later one
        assert batches.indices(number).min() >= 0
        assert not batches.continues(number)


@given(LENGTHS, st.integers(1, 200), st.floats(0, 0.99), st.booleans(), st.integers(0, 5))
def test_no_batch_is_larger_than_asked(
    lengths: list[int], size: int, noise: float, shuffle: bool, epoch: int
) -> None:
    by_tokens = SequenceBatches(lengths, tokens_per_batch=size, noise=noise, shuffle=shuffle)
    for place in range(by_tokens.per_epoch):
        batch = by_tokens.indices(epoch * by_tokens.per_epoch + place)
        area = len(batch) * by_tokens.lengths[batch].max()
        assert area <= size or len(batch) == 1
    by_count = SequenceBatches(lengths, batch_size=size, noise=noise, shuffle=shuffle)
    sizes = [len(by_count.indices(place)) for place in range(by_count.per_epoch)]
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert by_count.per_epoch == -(-len(lengths) // size)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.9])
def test_noise_makes_no_batch_too_large(noise: float) -> None:
    # So many sequences that some batch would be, if the cuts did not count on the noise.
    lengths = np.random.default_rng(0).integers(1, 61, 3000)
    batches = SequenceBatches(lengths, tokens_per_batch=600, noise=noise)
    for number in range(4 * batches.per_epoch):
        batch = batches.indices(number)
        assert len(batch) * lengths[batch].max() <= 600


def test_tokens_are_used_up_where_lengths_allow() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 5000)
    batches = SequenceBatches(lengths, tokens_per_batch=2000, noise=0.05)
    assert batches.per_epoch < 1.12 * lengths.sum() / 2000


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_like_lengths_go_together(noise: float) -> None:
    lengths = np.random.default_rng(0).integers(1, 101, 6400)
    batches = SequenceBatches(lengths, batch_size=32, noise=noise)
    found = [lengths[batches.indices(number)] for number in range(batches.per_epoch)]
    # The keys of a batch of 32 among 6400 lie close together; 2 stands for the gap between them.
    assert all(batch.max() <= batch.min() * (1 + noise) + 2 for batch in found)
    means = [batch.mean() for batch in found]
    assert np.abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25  # in no order of length


def test_epochs_and_seeds_differ_and_mix_companions() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 400)
    batches = SequenceBatches(lengths, batch_size=10)

    def epoch(number: int, of: SequenceBatches = batches) -> list[list[int]]:
        first = number * of.per_epoch
        return [of.indices(first + place).tolist() for place in range(of.per_epoch)]

    sets = [{frozenset(batch) for batch in epoch(number)} for number in range(3)]
    assert not sets[0] & sets[1] and not sets[1] & sets[2]  # other companions, not another order
    assert epoch(0) != epoch(0, SequenceBatches(lengths, batch_size=10, seed=1))


def test_the_same_on_every_machine() -> None:
    # Kept from the day this was written: a training resumed elsewhere meets the same batches.
    batches = SequenceBatches([3, 1, 4, 1, 5, 9, 2, 6], batch_size=2, seed=7, noise=0.9)
    assert [batches.indices(number).tolist() for number in range(8)] == KEPT


KEPT = [[2, 4], [6, 0], [7, 5], [3, 1], [0, 7], [1, 3], [6, 2], [4, 5]]


def test_held_out_is_by_length_and_always_the_same() -> None:
    lengths = [5, 1, 9, 2, 5, 1]
    batches = SequenceBatches(lengths, batch_size=4, seed=9, shuffle=False)
    again = [batches.indices(number).tolist() for number in range(4)]
    assert again == [[1, 5, 3], [0, 4, 2]] * 2


def test_fingerprint_and_settings() -> None:
    one = SequenceBatches([1, 2, 3], batch_size=np.int64(2), noise=np.float32(0.5))
    assert one.fingerprint == SequenceBatches(np.uint8([1, 2, 3]), batch_size=1).fingerprint
    assert one.fingerprint != SequenceBatches([1, 3, 2], batch_size=2).fingerprint
    written = json.loads(json.dumps(one.settings))
    assert written == one.settings
    again = SequenceBatches([1, 2, 3], **written)
    assert [again.indices(n).tolist() for n in range(4)] == [
        one.indices(n).tolist() for n in range(4)
    ]
    assert fingerprint_of(np.arange(3), np.arange(1)) != fingerprint_of(np.arange(4))
    assert fingerprint_of(np.array([1, 2]), np.array([3])) != fingerprint_of(
        np.array([1]), np.array([2, 3])
    )
    # Checkpoints hold this hash of a text; it must stay what it was.
    source = TextSource(np.arange(1000) % 7, batch_size=4, sequence_length=20)
    assert source.fingerprint == TEXT_HASH


TEXT_HASH = "2d916f2668874213abfbaa97a256f235"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"lengths": [], "batch_size": 1}, ValueError, "lengths: expected one sequence at least"),
        ({"lengths": [1, -1], "batch_size": 1}, ValueError, "lengths: .* 0 or more, got -1"),
        ({"lengths": [1.5], "batch_size": 1}, TypeError, "lengths: expected whole .* float64"),
        ({"lengths": [[1]], "batch_size": 1}, TypeError, r"lengths: expected .* shape \(1, 1\)"),
        ({"lengths": [1]}, ValueError, "expected one of them, got neither"),
        ({"lengths": [1], "batch_size": 1, "tokens_per_batch": 1}, ValueError, "got both"),
        ({"lengths": [1], "batch_size": 0}, ValueError, "batch_size: .* got 0"),
        ({"lengths": [1], "tokens_per_batch": 2.5}, ValueError, "tokens_per_batch: .* got 2.5"),
        ({"lengths": [1], "batch_size": 1, "seed": -1}, ValueError, "seed: .* got -1"),
        ({"lengths": [1], "batch_size": 1, "seed": None}, ValueError, "seed: .* got None"),
        ({"lengths": [1], "batch_size": 1, "noise": 1.0}, ValueError, "noise: .* got 1.0"),
        ({"lengths": [1], "batch_size": 1, "shuffle": 1}, TypeError, "shuffle: .* got 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        SequenceBatches(**arguments)


def test_bad_number() -> None:
    with pytest.raises(ValueError, match=r"number: .* got -1"):
        SequenceBatches([1], batch_size=1).indices(-1)


class TestRagged:
    @given(LENGTHS, st.sampled_from([(), (3,)]), st.data())
    def test_take_and_padding_agree_with_loops(
        self, lengths: list[int], features: tuple[int, ...], data: st.DataObject
    ) -> None:
        values = np.random.default_rng(0).integers(1, 99, (sum(lengths), *features))
        ragged = Ragged(values, lengths)
        sequences = np.split(values, np.cumsum(lengths)[:-1])
        assert len(ragged) == len(lengths)
        for one, other in zip(ragged, sequences, strict=True):
            np.testing.assert_array_equal(one, other)
        again = Ragged.of(sequences)
        np.testing.assert_array_equal(again.values, values)
        assert again.lengths.tolist() == lengths
        chosen = data.draw(st.lists(st.integers(-len(lengths), len(lengths) - 1), max_size=9))
        part = ragged.take(chosen)
        assert len(part) == len(chosen)
        for index, sequence in zip(chosen, part, strict=True):
            np.testing.assert_array_equal(sequence, sequences[index])
        array, steps = part.padded(-1)
        assert array.shape == (max(steps.tolist(), default=0), len(chosen), *features)
        for b, index in enumerate(chosen):
            np.testing.assert_array_equal(array[: steps[b], b], sequences[index])
            assert (array[steps[b] :, b] == -1).all()

    @given(arrays.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(2))))
    def test_the_dtype_stays(self, sequence: np.ndarray) -> None:
        ragged = Ragged.of([sequence, sequence])
        assert ragged.padded()[0].dtype == ragged.take([1]).values.dtype == np.float32

    def test_a_sequence_of_nothing_makes_no_floats(self) -> None:
        assert Ragged.of([[], [1, 2]]).values.dtype.kind == "i"

    def test_padding_is_what_layers_take(self) -> None:
        import rnncore

        table, rnn = rnncore.Embedding(9, 3, seed=0), rnncore.GRU(3, 4, seed=1)
        ragged = Ragged(np.array([1, 2, 3, 4, 5, 6]), [1, 3, 2])
        tokens, lengths = ragged.padded()
        y, h = rnn(tokens, lengths=lengths, embedding=table)
        outputs, last = rnn(list(ragged), embedding=table)
        np.testing.assert_array_equal(h, last)
        for b, output in enumerate(outputs):
            np.testing.assert_array_equal(y[: lengths[b], b], output)

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match=r"values: expected an array of 3 entries.*\(2,\)"):
            Ragged(np.zeros(2), [1, 2])
        with pytest.raises(ValueError, match=r"lengths: .* got -1"):
            Ragged(np.zeros(0), [-1, 1])
        with pytest.raises(ValueError, match=r"sequences: .* got none"):
            Ragged.of([])
        with pytest.raises(ValueError, match=r"sequences: .* got 2 shapes"):
            Ragged.of([np.zeros((2, 3)), np.zeros((2, 4))])
        with pytest.raises(TypeError, match="indices: expected whole numbers"):
            Ragged(np.zeros(3), [1, 2]).take([0.5])
        with pytest.raises(IndexError):
            Ragged(np.zeros(3), [1, 2]).take([2])
        with pytest.raises(ValueError, match="fill: expected a number that uint8 holds, got -1"):
            Ragged(np.zeros(3, np.uint8), [1, 2]).padded(-1)


class Mean(Model):
    """Finds the number that is nearest to all numbers of a batch."""

    kind = "mean"
    measures = (Measure("distance", "squared"),)

    def __init__(self) -> None:
        super().__init__({"w": (1,)})
        self.settings: dict[str, Any] = {}
        self.generator = np.random.default_rng(0)

    def forward(self, x: Any, state: Any) -> tuple[float, Any]:
        self.error = self.flat_params[0] - x
        return float(np.mean(self.error**2)), None

    def backward(self, *, accumulate: bool = True) -> None:
        self.flat_grads[0] = np.mean(2 * self.error)

    def measure(self, x: Any, state: Any) -> Any:
        return [(float(((self.flat_params[0] - x) ** 2).sum()), x.size)], None


class Numbers:
    """Sequences in batches as a trainer asks for them; what a source of one's own looks like."""

    item, items_per_batch = "numbers", 100

    def __init__(self, ragged: Ragged, shuffle: bool = True) -> None:
        self.ragged = ragged
        self._batches = SequenceBatches(ragged.lengths, batch_size=7, seed=5, shuffle=shuffle)
        self.per_epoch, self.continues = self._batches.per_epoch, self._batches.continues
        self.fingerprint, self.settings = self._batches.fingerprint, self._batches.settings

    def batch(self, number: int) -> tuple[Any]:
        return (self.ragged.take(self._batches.indices(number)).values,)

    def describe(self) -> str:
        return f"{len(self.ragged)} sequences"

    @property
    def held_out(self) -> Numbers:
        return Numbers(self.ragged, shuffle=False)


def test_a_training_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, 60)
    ragged = Ragged(rng.standard_normal(lengths.sum()), lengths)

    def make(steps: int, data: Ragged = ragged) -> Trainer:
        return Trainer(Mean(), Numbers(data), TrainingSettings(steps=steps, validations=3))

    whole, begun, resumed = make(31), make(31), make(31)
    whole.run()
    assert whole.epochs > 3
    for _ in range(13):  # in the middle of the second epoch
        begun._train_step()
    begun.save(tmp_path / "begun")
    resumed.restore(tmp_path / "begun")
    resumed.run()
    assert resumed.position == whole.position == 31
    np.testing.assert_array_equal(resumed.model.flat_params, whole.model.flat_params)
    assert resumed.loss == whole.loss
    held_out = whole.source.held_out
    assert held_out is not None
    expected = np.mean((whole.model.flat_params[0] - ragged.values) ** 2)
    assert whole.evaluate(held_out) == [pytest.approx(expected)]
    with pytest.raises(files.FileError, match="source: expected the very data"):
        make(31, Ragged(ragged.values, lengths[::-1])).restore(tmp_path / "begun")
