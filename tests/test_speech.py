"""Transcribers: utterances, network, estimator, decoding, streams, files, command line."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import rnncore
from rnncore.cli import main
from rnncore.data import Vocabulary, WordVocabulary, disguise
from rnncore.data.disguise import (
    blended,
    coloured,
    curve,
    disguised,
    echoing,
    masked,
    shortened,
)
from rnncore.data.inputs import Numbers
from rnncore.data.ragged import Ragged
from rnncore.data.recordings import Recordings
from rnncore.data.spectra import SoundSettings, trimmed
from rnncore.data.utterances import (
    Utterances,
    UtteranceSettings,
    UtteranceSource,
    as_loud,
    frames_of,
    known_batch,
    number_string,
    spoken,
)
from rnncore.estimators import NotFittedError, WordTranscriber
from rnncore.gradients import check_gradients
from rnncore.models import LanguageNetwork
from rnncore.models.alignments import beam_search, best_path
from rnncore.models.transcriber_network import TranscriberNetwork

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("scipy")
RNG = np.random.default_rng
PITCHES = {"low": 250.0, "middle": 700.0, "high": 1800.0}
SOUND = SoundSettings(bands=12)


def tone(word: str, seed: int = 0, rate: int = 8000) -> np.ndarray:
    """Return a tone of some tenth of a second whose pitch is the word, not quite the same twice."""
    rng = RNG([seed, *word.encode()])
    steps = np.arange(int(rng.uniform(0.1, 0.18) * rate))
    pitch = PITCHES[word] * rng.uniform(0.95, 1.05)
    return 0.1 * np.sin(2 * np.pi * pitch * steps / rate) * np.hanning(len(steps))


def made_up(count: int = 8, seed: int = 0) -> Recordings:
    """Return recordings of each word by two speakers."""
    rows = [(word, take) for take in range(count) for word in PITCHES]
    return Recordings(
        [tone(word, 100 * seed + take) for word, take in rows], [word for word, _ in rows],
        ["ann" if take % 2 else "bob" for _, take in rows],
    )  # fmt: skip


SMALL: dict[str, Any] = {
    "hidden_size": 12, "context_size": 8, "bands": 12, "epochs": 12, "learning_rate": 0.02,
    "batch_size": 8, "dropout": 0.0, "noise": 0.3, "longest": 3,
}  # fmt: skip
UNKNOWN = {"boundaries": "unknown", "epochs": 50, "hidden_size": 16, "noise": 0.1}


def fitted(**changed: Any) -> WordTranscriber:
    return WordTranscriber(**{**SMALL, **changed}).fit(made_up())


# Utterances

def test_number_strings() -> None:
    rng = RNG(0)
    strings = ["".join(number_string(rng)) for _ in range(2000)]
    assert all(text.isdigit() and 3 <= len(text) <= 5 for text in strings)
    years = sum(1900 <= int(text) < 2030 and len(text) == 4 for text in strings)
    assert 950 < years < 1250
    assert {text[-2:] for text in strings if len(text) == 5} == {"00", "49", "50", "90", "95", "99"}


def test_words_are_spoken_by_one_speaker() -> None:
    said = made_up()
    for seed in range(6):
        pieces = spoken(said, ["low", "high", "low"], RNG(seed))
        speakers = set()
        for piece, word in zip(pieces, ["low", "high", "low"], strict=True):
            [place] = [k for k, one in enumerate(said.samples) if one is piece]
            assert said.words[place] == word
            speakers.add(said.speakers[place])
        assert len(speakers) == 1
    with pytest.raises(ValueError, match="words that were recorded, got 'never'"):
        spoken(said, ["never"], RNG(0))


def test_noise_is_as_loud_as_asked() -> None:
    said = made_up()
    plain, noisy = (spoken(said, ["low", "high"], RNG(1), level) for level in (0.0, 0.5))
    difference = np.concatenate(noisy) - np.concatenate(plain)
    speech = np.sqrt(np.mean(np.concatenate(plain) ** 2))
    assert np.sqrt(np.mean(difference**2)) == pytest.approx(0.5 * speech, rel=0.05)
    [whole] = spoken(said, ["low", "high"], RNG(1), pause=300)
    apart = len(whole) - sum(map(len, plain))
    assert 0 <= apart <= 900 and np.abs(whole).sum() == pytest.approx(
        sum(np.abs(one).sum() for one in plain), rel=1e-5
    )


def source(known: bool = True, **changed: Any) -> UtteranceSource:
    settings = UtteranceSettings(**{"batch_size": 4, "longest": 3, **changed})
    vocabulary = WordVocabulary([PITCHES], unknown=False)
    held_out = made_up(2, seed=1)
    return UtteranceSource(made_up(), vocabulary, SOUND, settings, known, held_out=held_out)


@pytest.mark.parametrize("known", [True, False])
def test_a_batch_is_of_its_number_alone(known: bool) -> None:
    one, two = source(known), source(known)
    later = [two.batch(number) for number in (3, 0)][::-1]
    for number, batch in zip((0, 3), later, strict=True):
        for a, b in zip(one.batch(number), batch, strict=True):
            np.testing.assert_array_equal(a, b)
    assert one.fingerprint == two.fingerprint and one.per_epoch == 6
    assert not np.array_equal(one.batch(0)[1], source(known, order=1).batch(0)[1])
    assert one.settings["longest"] == 3 and not one.continues(1)
    assert one.describe() == "24 words, 4 s, by 2 speakers; 6 words, 1 s held out"


def test_what_a_batch_holds() -> None:
    frames, sizes, places, lengths, targets = source().batch(0)
    assert frames.shape == (sizes.max(), lengths.sum(), 12) and lengths.shape == (4,)
    assert places.shape == targets.shape == (lengths.max(), 4)
    for b, length in enumerate(lengths):
        first = lengths[:b].sum()
        assert places[:length, b].tolist() == list(range(first, first + length))
        assert (targets[:length, b] >= 0).all() and (targets[length:, b] == -1).all()
    frames, lengths, targets, counts = source(False).batch(0)
    assert frames.shape == (lengths.max(), 4, 12) and targets.shape == (4, counts.max())


def test_the_fingerprint_tells_recordings_apart() -> None:
    said, vocabulary = made_up(), WordVocabulary([PITCHES], unknown=False)

    def fingerprint(recordings: Recordings) -> str:
        return UtteranceSource(
            recordings, vocabulary, SOUND, UtteranceSettings(), True
        ).fingerprint

    lists = said.samples, said.words, said.speakers
    louder = Recordings([2 * one for one in said.samples], *lists[1:])
    others = Recordings(lists[0], [said.words[1], said.words[0], *said.words[2:]], lists[2])
    speakers = Recordings(*lists[:2], ["eve", *said.speakers[1:]])
    found = {fingerprint(one) for one in (said, louder, others, speakers)}
    assert len(found) == 4 and fingerprint(made_up()) in found


def test_loudness_does_not_count_where_all_is_there() -> None:
    pieces = [np.float32(one) for one in (tone("low"), tone("high"))]
    for factor in (0.1, 5.0):
        louder = [np.float32(factor) * one for one in pieces]
        both = (frames_of(some, SOUND, True) for some in (pieces, louder))
        for a, b in zip(*both, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    plain, louder = (frames_of([k * one for one in pieces], SOUND, False)[0] for k in (1, 4))
    assert np.abs(louder - plain).max() > 2
    assert np.isfinite(frames_of([np.zeros(300, np.float32)], SOUND, True)[0]).all()


def test_a_smooth_curve() -> None:
    curves = np.array([curve(RNG(seed), 40, 6) for seed in range(3000)])
    assert np.mean(curves**2) == pytest.approx(1, rel=0.05)
    steps, ends = np.diff(curves, axis=1), curves[:, 0] - curves[:, -1]
    assert np.mean(steps**2) < 0.07 * np.mean(ends**2)


def test_disguised_power() -> None:
    power = np.float32(RNG(0).uniform(1, 2, (20, 40)))
    np.testing.assert_array_equal(disguised(power, 0.0, RNG(1)), power)
    changes = []
    for seed in range(400):
        kept = power.copy()
        found = disguised(power, 1.0, RNG(seed))
        np.testing.assert_array_equal(power, kept)
        assert found.shape == power.shape and found.dtype == np.float32 and (found > 0).all()
        changes.append(np.log10(found) * 10)
    parts = disguise.MICROPHONE**2 + disguise.EMPHASIS**2 + disguise.DISTANCE**2 / 3
    changed = np.array(changes) - np.log10(power) * 10
    assert np.std(changed) == pytest.approx(np.sqrt(parts), rel=0.1)
    assert disguised(power[:1], 1.0, RNG(0)).shape == (1, 40)
    assert disguised(power[:, :1], 1.0, RNG(0)).shape == (20, 1)


def test_masked_bands() -> None:
    power, counts = np.float32(RNG(0).uniform(1, 2, (5, 12))), set()
    mean = np.exp(np.log(power + 1e-3).mean()) - 1e-3
    for seed in range(100):
        found = masked(power, 0.3, RNG(seed))
        hidden = np.flatnonzero((found != power).any(0))
        counts.add(len(hidden))
        if len(hidden):
            assert hidden.tolist() == list(range(hidden[0], hidden[-1] + 1))
            np.testing.assert_allclose(found[:, hidden], mean, rtol=1e-5)
    assert counts == {0, 1, 2, 3}
    np.testing.assert_array_equal(masked(power, 0.0, RNG(0)), power)


def test_words_lose_their_ends() -> None:
    power = np.arange(40, dtype=np.float32)[:, None]
    found = [shortened(power, 0.2, 1, RNG(seed)).ravel() for seed in range(400)]
    firsts, lasts = np.array([[one[0], 39 - one[-1]] for one in found]).T
    for lost in (firsts, lasts):
        assert set(lost) == set(range(9)) and 0.4 < np.mean(lost == 0) < 0.7
    assert np.mean((firsts == 0) & (lasts == 0)) == pytest.approx(0.3, abs=0.1)
    for one in found:
        np.testing.assert_array_equal(np.diff(one), 1)
    assert {len(shortened(power, 0.9, 39, RNG(seed))) for seed in range(100)} <= {39, 40}
    np.testing.assert_array_equal(shortened(power[:1], 0.2, 1, RNG(0)), power[:1])


def test_noise_of_another_room() -> None:
    noise = np.float32(RNG(0).standard_normal(3000))
    np.testing.assert_allclose(coloured(noise, 0.0, RNG(1)), noise, atol=1e-5)
    decibels = []
    for seed in range(200):
        found = coloured(noise, 6.0, RNG(seed))
        assert found.shape == noise.shape and found.dtype == np.float32
        bands = [np.square(np.abs(np.fft.rfft(one)))[1:].reshape(20, 75).sum(1)
                 for one in (found, noise)]  # fmt: skip
        decibels.append(10 * np.log10(bands[0] / bands[1]))
    assert np.std(decibels) == pytest.approx(6, rel=0.15)
    assert np.abs(np.diff(decibels, axis=1)).mean() < 2  # smooth


def test_words_said_in_rooms() -> None:
    power, dry = np.zeros((9, 2), np.float32), 0
    power[1:3] = [1.0, 4.0]
    for seed in range(200):
        found = echoing(power, 0.0125, 1.0, RNG(seed))
        if found is power:
            dry += 1
            continue
        assert found.dtype == np.float32 and len(found) >= 9
        np.testing.assert_array_equal(found[:2], power[:2])  # nothing sounds before the voice
        np.testing.assert_allclose(found[:, 1], 4 * found[:, 0], rtol=1e-5)
        tail = found[3:, 0]
        fall = tail[1] / tail[0]
        np.testing.assert_allclose(tail[1:], fall * tail[:-1], rtol=1e-4)
        seconds = -6 * 0.0125 / np.log10(fall)  # in which it falls by 60 decibels
        assert 0.1 <= seconds <= disguise.ECHO + 0.01
        # The echo of a moment, summed up for ever, beside that moment.
        level = 10 * np.log10((found[2, 0] - 1) / (1 - fall))
        assert disguise.ECHO_LEVELS[0] - 0.1 <= level <= disguise.ECHO_LEVELS[1] + 0.1
        softer = echoing(power, 0.0125, 0.5, RNG(seed))
        np.testing.assert_allclose(softer[3:], found[3:] / 2, rtol=1e-4)
    assert 70 < dry < 130


def test_what_a_disguise_moves() -> None:
    rising = np.float32(np.outer(np.ones(30), np.arange(1, 41)))  # bands that differ, even in time
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MICROPHONE", "EMPHASIS", "RHYTHM", "DISTANCE"):
            patch.setattr(disguise, name, 0.0)
        moved = [disguised(rising, 1.0, RNG(seed)) - rising for seed in range(200)]
    # bands of the edge have no neighbour to come from
    found = np.array(moved)[:, :, 5:-5]
    np.testing.assert_allclose(found, found[:, :1].repeat(30, 1), atol=1e-4)
    assert found.std() == pytest.approx(disguise.TONGUE * 39, rel=0.2)


def test_a_voice_between_two() -> None:
    one, other = (np.float32(RNG(k).uniform(1, 9, (size, 6))) for k, size in ((0, 10), (1, 14)))
    np.testing.assert_allclose(blended(one, other, 0.0), one, rtol=1e-5)
    whole = blended(one, other, 1.0)
    np.testing.assert_allclose(whole[[0, -1]], other[[0, -1]], rtol=1e-5)
    middle, low, high = blended(one, other, 0.4), np.minimum(one, whole), np.maximum(one, whole)
    assert (middle >= 0.999 * low).all() and (middle <= 1.001 * high).all()
    assert middle.shape == one.shape and middle.dtype == np.float32
    assert blended(one[:1], other, 0.5).shape == (1, 6)


def test_only_training_is_disguised() -> None:
    plain, other = source(), source(disguise=1.0)
    assert not np.array_equal(plain.batch(0)[0], other.batch(0)[0])
    held_out = [one.held_out.batch(0)[0] for one in (plain, other) if one.held_out is not None]
    np.testing.assert_array_equal(*held_out)


def test_silence_around_a_word_does_not_count() -> None:
    sound = SoundSettings(bands=12, trim=0.1)
    word = np.concatenate([np.zeros(100), tone("low"), np.zeros(100)]).astype(np.float32)
    [plain] = frames_of([word], sound, True)
    for before, behind in ((400, 0), (0, 900), (1200, 300)):
        longer = np.concatenate([np.zeros(before), word, np.zeros(behind)]).astype(np.float32)
        [found] = frames_of([longer], sound, True)
        np.testing.assert_allclose(found, plain, atol=1e-5)
        assert len(frames_of([longer], sound, False)[0]) > len(plain)
    noise = np.float32(RNG(0).standard_normal(2000))
    assert trimmed(noise, sound) is not None and len(trimmed(noise, sound)) == 2000


def test_frames_of_a_step() -> None:
    word, three = np.float32(tone("high")), SoundSettings(bands=12, frames_per_step=3)
    single, steps = SOUND.features_of(word), three.features_of(word)
    assert three.size == 36 and len(steps) == len(single) // 3
    np.testing.assert_array_equal(steps.reshape(-1, 12), single[: 3 * len(steps)])
    assert three.features_of(word[: three.span() - 1]).shape == (1, 36)
    assert three.features_of(word[: three.span() + 1]).shape == (1, 36)
    assert three.features_of(word[: three.span() + 3 * three.hop]).shape == (2, 36)
    cosines = SoundSettings(features="mfcc", frames_per_step=2)
    plain = SoundSettings(features="mfcc").features_of(word)
    found = cosines.features_of(word)
    np.testing.assert_array_equal(found.reshape(-1, 13), plain[: 2 * len(found)])


def test_tempo_is_twice_the_variation_unless_said() -> None:
    def lengths(**changed: Any) -> np.ndarray:
        data = source(variation=0.1, longest=1, batch_size=24, **changed)
        return np.concatenate([data.batch(number)[1] for number in range(4)])

    plain, same, none = (lengths(**one) for one in ({}, {"tempo": 0.2}, {"tempo": 0.0}))
    np.testing.assert_array_equal(plain, same)
    longest = max(len(SOUND.features_of(np.float32(one))) for one in made_up().samples)
    assert none.max() <= longest < plain.max()


def test_settings_of_utterances() -> None:
    with pytest.raises(ValueError, match=r"strings: expected 'random', .* have no 0, 1, 2"):
        source(strings="numbers")
    for wrong, match in (
        ({"noise": 0}, "noise: expected a finite number above 0"),
        ({"variation": 1}, "variation: expected a number from 0"),
        ({"disguise": -1}, "disguise: expected a finite number from 0"),
        ({"strings": "what"}, "strings: expected one of random, numbers"),
    ):
        with pytest.raises(ValueError, match=match):
            UtteranceSettings(**wrong)
    with pytest.raises(ValueError, match=r"variation: expected voices that 12 bands can .* 0\.97"):
        source(variation=0.97)
    digits = Recordings([tone("low", k) for k in range(10)], list("0123456789"))
    vocabulary = WordVocabulary([digits.words], unknown=False)
    settings = UtteranceSettings(strings="numbers", batch_size=5)
    *_, targets = Utterances(digits, vocabulary, SOUND, settings, True, training=False).batch(0)
    assert (targets >= 0).sum(0).min() >= 3 and targets.shape[1] == 5


# Alignments

def every_labelling(logits: np.ndarray) -> dict[tuple[int, ...], float]:
    p = np.exp(logits - np.logaddexp.reduce(logits, 1)[:, None])
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        merged = tuple(k for k, _ in itertools.groupby(path) if k)
        found[merged] = found.get(merged, 0.0) + float(np.prod(p[range(len(p)), path]))
    return found


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 3))
def test_a_wide_beam_finds_what_all_alignments_say(seed: int, steps: int, classes: int) -> None:
    logits = 2 * RNG(seed).standard_normal((steps, classes))
    truth = every_labelling(logits)
    found = beam_search(logits, width=1000)
    assert {tuple(labels) for labels, _ in found} == set(truth)
    for labels, score in found:
        assert np.exp(score) == pytest.approx(truth[tuple(labels)], rel=1e-9)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    labels, score = found[0]
    if labels:
        loss = rnncore.ctc_loss(logits[:, None], [labels], reduction="sum")
        assert loss.total == pytest.approx(-score, rel=1e-9)
    narrow = beam_search(logits, width=2)
    assert len(narrow) <= 2 and narrow[0][1] <= score + 1e-9


def test_best_path_and_another_blank() -> None:
    path = np.eye(3)[[2, 0, 0, 2, 0, 1]]
    assert best_path(path) == [2, 2, 1] and best_path(path, blank=2) == [0, 0, 1]
    assert best_path(np.zeros((0, 3))) == [] and beam_search(np.zeros((0, 3))) == [([], 0.0)]
    assert beam_search(50 * path, 3, blank=2)[0][0] == [0, 0, 1]
    with pytest.raises(ValueError, match=r"x: expected logits \(T, V\)"):
        beam_search(np.zeros(3))
    with pytest.raises(ValueError, match="width: expected a whole number"):
        beam_search(path, 0)


# The network

@pytest.mark.parametrize("boundaries", ["known", "unknown"])
@pytest.mark.parametrize(
    ("cell", "directions", "num_layers"), [("lstm", "both", 1), ("gru", "forward", 2)]
)
def test_the_gradients_of_the_whole(
    boundaries: str, cell: str, directions: str, num_layers: int
) -> None:
    data = source(boundaries == "known", batch_size=3)
    network = TranscriberNetwork(
        data.vocabulary, SOUND, data.inputs(), boundaries=boundaries, hidden_size=3, context_size=2,
        cell=cell, directions=directions, num_layers=num_layers, dropout=0.0, dtype="float64",
        seed=0,
    )  # fmt: skip
    batch = data.batch(0)
    errors = check_gradients(network, lambda: network.loss(*batch), most=20, tolerance=1e-5)
    assert set(errors) == set(network.params)
    with rnncore.Tape(network):
        loss = float(network.loss(*batch))
    [(total, count), (wrong, words)], _ = network.measure(*batch, None)
    assert total / count == pytest.approx(loss, rel=1e-9)
    expected = batch[3].sum()  # the words of each utterance, in both forms
    assert count == words == expected and wrong >= 0


def test_smoothed_targets() -> None:
    data = source(batch_size=3)
    *arrays, targets = data.batch(0)
    network = TranscriberNetwork(
        data.vocabulary, SOUND, data.inputs(), hidden_size=3, dropout=0.0, label_smoothing=0.2,
        dtype="float64", seed=0,
    )  # fmt: skip
    logs = np.log(network.probabilities(*arrays))
    inside = targets >= 0
    right = np.take_along_axis(logs, np.maximum(targets, 0)[..., None], 2)[..., 0]
    expected = -(0.8 * right + 0.2 * logs.mean(2))[inside].mean()
    assert network.forward(*arrays, targets, None)[0] == pytest.approx(expected, rel=1e-9)
    [(total, count), _], _ = network.measure(*arrays, targets, None)
    assert total / count == pytest.approx(-right[inside].mean(), rel=1e-9)  # as it is
    with pytest.raises(ValueError, match="label_smoothing: expected 0, as the boundaries of word"):
        fitted(**UNKNOWN, label_smoothing=0.1)


def test_each_utterance_stands_for_itself() -> None:
    data = source()
    network = TranscriberNetwork(data.vocabulary, SOUND, data.inputs(), hidden_size=4, seed=0)
    *arrays, _ = data.batch(1)
    frames, sizes, places, lengths = arrays
    together = network.probabilities(*arrays)
    for b, length in enumerate(lengths):
        mine = places[:length, b]
        alone = network.probabilities(
            frames[:, mine], sizes[mine], np.arange(length)[:, None], lengths[b : b + 1]
        )
        np.testing.assert_allclose(together[:length, b], alone[:, 0], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="expected words without an unknown, and 12 features"):
        TranscriberNetwork(data.vocabulary, SOUND, Numbers([0.0], [1.0]))


# The estimator

def test_it_hears_words_with_known_boundaries() -> None:
    transcriber = fitted()
    others = made_up(6, seed=1)
    assert transcriber.score(others.samples, others.words) > 0.95
    utterance = [tone("high", 900), tone("low", 901), tone("high", 902)]
    assert transcriber.predict([utterance, tone("middle", 903)]) == [
        ["high", "low", "high"], ["middle"]
    ]  # fmt: skip
    assert transcriber.score([utterance], ["high low high"]) == 1.0
    assert transcriber.score([utterance], [["high", "low", "low"]]) == pytest.approx(2 / 3)
    arrays = transcriber.predict_proba([utterance, [tone("low", 904)]])
    assert [array.shape for array in arrays] == [(3, 3), (1, 3)]
    np.testing.assert_allclose(arrays[0].sum(1), 1, rtol=1e-5)
    assert transcriber.words_ == ("high", "low", "middle")


def strings(count: int, seed: int) -> tuple[list[np.ndarray], list[list[str]]]:
    rng, said = RNG(seed), made_up(6, seed=seed)
    y = [[*rng.choice(list(PITCHES), rng.integers(1, 4))] for _ in range(count)]
    return [spoken(said, words, rng, pause=800)[0] for words in y], y


@pytest.mark.parametrize("more", [{}, UNKNOWN], ids=["known", "unknown"])
def test_several_voices_are_read_and_their_answers_averaged(more: dict[str, Any]) -> None:
    transcriber = fitted(**more, **({} if more else {"epochs": 4}))
    X = [tone("low", 7), tone("high", 8)]
    [alone, *_] = once = transcriber.predict_proba(X)
    transcriber.set_params(voices=2)
    network, logs = transcriber.network_, []
    for warp, decibels in itertools.product((0.85, 1.15), (-8, 0, 8)):
        loud = [np.float32(10 ** (decibels / 20)) * as_loud([np.float32(x)], network.sound,
                network.whole)[0] for x in X]  # fmt: skip
        frames = [network.sound.features_of(one, warp) for one in loud]
        arrays = known_batch([[one] for one in frames]) if network.known else None
        arrays = arrays or Ragged.of(frames).padded()
        logs.append(np.log(network.probabilities(*arrays)[: len(alone), 0]))
    mean = np.exp(np.mean(logs, 0))
    [found, *_] = transcriber.predict_proba(X)
    np.testing.assert_allclose(found, mean / mean.sum(-1, keepdims=True), rtol=1e-4)
    assert np.abs(found - alone).max() > 1e-3
    transcriber.set_params(voices=1)
    for one, other in zip(transcriber.predict_proba(X), once, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="voices: expected a whole number"):
        transcriber.set_params(voices=0).predict(X)


@pytest.fixture(scope="module")
def listening() -> WordTranscriber:
    """Return a transcriber that reads forward and finds the boundaries itself."""
    return fitted(**UNKNOWN, directions="forward")


def test_it_finds_the_boundaries_itself(listening: WordTranscriber) -> None:
    X, y = strings(20, 5)
    assert listening.score(X, y) > 0.9
    searching = WordTranscriber.of_network(listening.network_).set_params(beam=4)
    assert searching.score(X, y) > 0.9
    array = listening.predict_proba(X[:1])[0]
    assert array.shape == (len(SOUND.features_of(X[0])), 4)


@pytest.mark.parametrize("size", [1000, 160, 37])
def test_a_stream_says_what_the_whole_says(listening: WordTranscriber, size: int) -> None:
    X, _ = strings(4, 6)
    stream, said = listening.stream(), listening.predict(X)
    for sound, words in zip(X, said, strict=True):
        heard = [
            word for first in range(0, len(sound), size)
            for word in stream.process(sound[first : first + size])
        ]  # fmt: skip
        assert heard + stream.finish() == words == stream.words
        assert stream.frames == len(SOUND.features_of(sound))
        stream.reset()
        assert stream.words == [] and stream.frames == 0
    assert any(said)


def test_a_stream_of_steps_of_several_frames() -> None:
    three = fitted(**UNKNOWN, directions="forward", frames_per_step=3)
    X, y = strings(8, 6)
    said = three.predict(X)
    assert three.score(X, y) > 0.8
    for sound, words in zip(X, said, strict=True):
        stream = three.stream()
        for first in range(0, len(sound), 170):
            stream.process(sound[first : first + 170])
        assert stream.finish() == [] and stream.words == words
        assert stream.frames == len(three.network_.sound.features_of(sound))


def test_a_stream_of_next_to_nothing(listening: WordTranscriber) -> None:
    stream, short = listening.stream(), tone("low")[:50]
    assert stream.finish() == [] and stream.process([]) == [] == stream.process(short)
    assert stream.finish() == listening.predict([short])[0] and stream.frames == 1
    with pytest.raises(ValueError, match="block: expected finite samples, got not finite"):
        stream.process(np.array([np.nan]))
    with pytest.raises(ValueError, match="but this one has known boundaries"):
        fitted(epochs=1, directions="forward").stream()
    with pytest.raises(ValueError, match="but this one has both directions"):
        fitted(**{**UNKNOWN, "epochs": 1}).stream()


def test_forms_of_data(tmp_path: Path) -> None:
    said, few = made_up(4), {**SMALL, "epochs": 1}
    for number, (samples, word) in enumerate(zip(said.samples, said.words, strict=True)):
        path = tmp_path / f"{word}_{said.speakers[number]}_{number}.wav"
        soundfile.write(path, samples, 8000, subtype="FLOAT")
    paths = sorted(tmp_path.glob("*.wav"))
    words = [path.name.split("_")[0] for path in paths]
    speakers = [path.name.split("_")[1] for path in paths]
    found = [
        WordTranscriber(**few).fit(tmp_path),
        WordTranscriber(**few).fit(paths, words, speakers),
        WordTranscriber(**few).fit([soundfile.read(p)[0] for p in paths], words, speakers),
    ]
    flat = [one.network_.flat_params for one in found]
    assert np.array_equal(flat[0], flat[1]) and np.array_equal(flat[0], flat[2])
    assert found[0].predict([paths[:2]]) == found[0].predict([[soundfile.read(p)[0] for p in
                                                               paths[:2]]])  # fmt: skip
    validated = WordTranscriber(**few).fit(said, validation=(said.samples, said.words))
    assert len(validated.validation_curve_[0]) == 5
    assert WordTranscriber(**few, validation_fraction=0.25).fit(said).validation_curve_
    assert WordTranscriber(**{**few, "features": "mfcc", "cell": "gru"}).fit(said).words_


def test_a_file_holds_it(tmp_path: Path, listening: WordTranscriber) -> None:
    path, X = tmp_path / "transcriber.safetensors", strings(5, 8)[0]
    listening.save(path)
    for again in (WordTranscriber.load(path), pickle.loads(pickle.dumps(listening))):
        assert again.predict(X) == listening.predict(X)
        assert again.hidden_size == 16 and again.bands == 12 and again.boundaries == "unknown"
    assert isinstance(rnncore.load(path), WordTranscriber)
    LanguageNetwork(Vocabulary("ab"), hidden_size=4).save(path)
    with pytest.raises(rnncore.FileError, match="expected a transcriber"):
        WordTranscriber.load(path)


def test_a_file_from_before_steps_of_several_frames(
    tmp_path: Path, listening: WordTranscriber
) -> None:
    path, network = tmp_path / "model", listening.network_
    described = network.describe()
    for name in ("frames_per_step", "trim", "label_smoothing"):
        del described[name]
    rnncore.files.save(path, network.state_dict(), {"kind": "transcriber", "model": described})
    again = WordTranscriber.load(path)
    assert (again.frames_per_step, again.trim) == (1, 0.0)
    X = strings(5, 8)[0]
    assert again.predict(X) == listening.predict(X)


@pytest.mark.parametrize(
    "forged",
    [
        {"hidden_size": 10**6}, {"context_size": 10**6}, {"bands": 10**6}, {"num_layers": 10**6},
        {"directions": "forward"}, {"boundaries": "unknown"}, {"cell": "gru"}, {"rate": 1},
        {"frames_per_step": 3}, {"vocabulary": {}}, {"inputs": {"mean": [0], "scale": [1]}},
        {"features": "what"},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_of_other_sizes_is_refused(tmp_path: Path, forged: dict[str, Any]) -> None:
    data = source()
    model = TranscriberNetwork(data.vocabulary, SOUND, data.inputs(), hidden_size=4, seed=0)
    path = tmp_path / "model"
    described = {"kind": "transcriber", "model": {**model.describe(), **forged}}
    rnncore.files.save(path, model.state_dict(), described)
    with pytest.raises(rnncore.FileError, match=r"expected a transcriber, but .* something"):
        rnncore.load(path)


def test_bad_data() -> None:
    for X, y, match in (
        ([tone("low")], None, "y: requires y"),
        ([tone("low")], ["a", "b"], "words: expected one for each of 1 recordings, got 2"),
        ([tone("low")], ["two words"], "expected one word, said in X"),
        ([np.zeros(5, np.int16)], ["a"], "X: expected floating-point samples"),
        ([], [], "one recording at least"),
    ):
        with pytest.raises(ValueError, match=match):
            WordTranscriber(**SMALL).fit(X, y)
    with pytest.raises(TypeError, match="y: expected none beside recordings"):
        WordTranscriber(**SMALL).fit(made_up(), ["a"])
    with pytest.raises(ValueError, match="never seen"):
        WordTranscriber(**SMALL).fit(made_up(), validation=([tone("low")], ["never"]))
    with pytest.raises(NotFittedError):
        WordTranscriber().predict([tone("low")])
    once = fitted(epochs=1)
    with pytest.raises(ValueError, match="X: expected one word at least"):
        once.predict([[]])
    for one in (tone("low"), "low.wav"):
        with pytest.raises(TypeError, match=r"a list of utterances, got one; give \[X\]"):
            once.predict(one)
    with pytest.raises(ValueError, match="y: expected the words of each of 1 utterances, got 2"):
        once.score([tone("low")], ["low", "high"])
    with pytest.raises(ValueError, match="hidden_size"):
        fitted(hidden_size=0)


# The command line

def run(*words: Any) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "words"
    place.mkdir()
    for take in range(6):
        for word in PITCHES:
            soundfile.write(place / f"{word}_ann_{take}.wav", tone(word, take, 16000), 16000)
    return place


OPTIONS = ["--hidden-size", 12, "--context-size", 8, "--bands", 12, "--learning-rate", 0.02,
           "--batch-size", 8, "--dropout", 0, "--noise", 0.2]  # fmt: skip


def test_train_sounds_and_transcribe(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("train", "sounds", folder, "--held-out", "*_[01].wav", *OPTIONS, "--epochs", 20,
               "--output", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "12 words, 2 s, by 1 speaker; 6 words" in done.output
    assert "Let it transcribe:" in done.output
    model = out / "best.safetensors"
    low, high = folder / "low_ann_0.wav", folder / "high_ann_1.wav"
    assert run("transcribe", model, low).output == "low\n"
    assert run("transcribe", model, low, high).output == f"{low}\tlow\n{high}\thigh\n"
    assert run("transcribe", model, high, low, "--together").output == "high low\n"
    scored = run("transcribe", model, folder, "--score")
    assert scored.output.endswith("% of 18 words wrong\n") and float(scored.output.split()[0]) < 10
    both, labels = tmp_path / "both.wav", tmp_path / "labels.txt"
    soundfile.write(both, np.concatenate([soundfile.read(p)[0] for p in (high, low)]), 16000)
    ends = np.cumsum([soundfile.info(p).duration for p in (high, low)])
    labels.write_text(f"0\t{ends[0]:.4f}\n{ends[0]:.4f}\t{ends[1] - 0.001:.4f}\tand more\n")
    assert run("transcribe", model, both, "--labels", labels).output == "high low\n"


def test_transcribe_finds_boundaries_and_streams(
    listening: WordTranscriber, tmp_path: Path
) -> None:
    [sound, *_], _ = strings(1, 12)
    model, path = tmp_path / "model", tmp_path / "a.wav"
    listening.save(model)
    soundfile.write(path, sound, 8000, subtype="FLOAT")
    [words] = listening.predict([sound])
    assert words
    assert run("transcribe", model, path).output == " ".join(words) + "\n"
    assert run("transcribe", model, path, "--beam", 4).exit_code == 0
    assert run("transcribe", model, path, "--voices", 2).exit_code == 0
    heard = run("transcribe", model, path, "--stream").output.splitlines()
    assert [line.split("\t")[1] for line in heard] == words
    assert all(line.split()[1] == "s" for line in heard)


def test_train_sounds_in_two_parts(folder: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    begin = ["train", "sounds", folder, "--held-out", "*_0.wav"]
    fixed = [*OPTIONS, "--schedule", "constant", "--dropout", 0.3]
    assert run(*begin, *fixed, "--steps", 6, "--output", whole).exit_code == 0
    assert run(*begin, *fixed, "--steps", 3, "--output", parts).exit_code == 0
    last = parts / "last.safetensors"
    done = run(*begin, "--resume", last, "--steps", 6)
    assert done.exit_code == 0, done.output
    one, two = (rnncore.files.load(f / "last.safetensors").tensors for f in (whole, parts))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    # A checkpoint of before there were disguises goes on to the same weights.
    older = rnncore.files.load(parts / "last.safetensors")
    del older.metadata["training"]["source"]["disguise"]
    del older.metadata["model"]["trim"]
    rnncore.files.save(last, *older)
    done = run(*begin, "--resume", last, "--steps", 7, "--output", tmp_path / "older")
    assert done.exit_code == 0, done.output
    more = run(*begin, "--init-from", last, "--epochs", 1, "--output", tmp_path / "more")
    assert more.exit_code == 0, more.output
    for words, match in (
        ([*begin, "--noise", 0.7], "--noise: expected 0.2"),
        ([*begin, "--bands", 13], "--bands: expected 12"),
        ([*begin, "--boundaries", "unknown"], "--boundaries: expected known"),
        (begin[:3], "expected the very data"),
    ):
        done = run(*words, "--resume", last)
        assert done.exit_code == 2 and match in done.output, (words, done.output)


def test_errors_of_the_commands(folder: Path, tmp_path: Path, listening: WordTranscriber) -> None:
    text, known, unknown = (tmp_path / name for name in ("text", "known", "unknown"))
    LanguageNetwork(Vocabulary("ab"), hidden_size=4).save(text)
    fitted(epochs=1).save(known)
    listening.save(unknown)
    sound, empty = folder / "low_ann_0.wav", tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "bad.tsv").write_text("words/low_ann_0.wav\tlow\nwords/low_ann_0.wav\n")
    (tmp_path / "labels").write_text("0\t99\n")
    for words, match in (
        (["train", "sounds", tmp_path / "missing"], "expected a folder of WAV files"),
        (["train", "sounds", empty], "expected WAV files called word_speaker_take.wav"),
        (["train", "sounds", tmp_path / "bad.tsv"], "line 2: expected a path, a tab and a word"),
        (["train", "sounds", folder, "--held-out", "x*"], "--held-out: expected a pattern"),
        (["train", "sounds", folder, "--strings", "numbers"], "strings: expected 'random'"),
        (["train", "sounds", folder, "--init-from", text], "expected a transcriber"),
        (["transcribe", text, sound], "expected a transcriber, but"),
        (["transcribe", known, tmp_path / "bad.tsv"], "expected sound"),
        (["transcribe", known, tmp_path / "missing.wav"], "there is none"),
        (["transcribe", known, sound, "--stream"], "this one has known boundaries"),
        (["transcribe", known, sound, sound, "--labels", sound], "--labels: expected one FILE"),
        (["transcribe", known, sound, "--labels", tmp_path / "labels"], "line 1: expected begin"),
        (["transcribe", known, sound, "--beam", 4], "beam: expected 1, as the boundaries"),
        (["transcribe", unknown, sound, "--beam", 4, "--stream"], "--beam: expected none with --s"),
        (["transcribe", unknown, sound, "--voices", 3, "--stream"], "--voices: expected none with"),
        (["transcribe", unknown, sound, "--together"], "--together: expected none, as this model"),
        (["transcribe", known, sound, "--score", "--stream"], "--score: expected none with"),
    ):
        done = run(*words, "--output", tmp_path / "x") if words[0] == "train" else run(*words)
        assert done.exit_code == 2, (words, done.output)
        assert match in done.output and "Traceback" not in done.output, (words, done.output)
        assert not (tmp_path / "x").exists()


def test_real_digits(data_folder: Path) -> None:
    place = data_folder / "speech" / "fsdd"
    if not place.is_dir():
        pytest.skip(f"no {place}")
    words = ["0", "1", "2", "3"]
    paths = {take: [place / f"{word}_jackson_{take}.wav" for word in words] for take in range(20)}
    X, y = [path for take in range(5, 20) for path in paths[take]], words * 15
    transcriber = WordTranscriber(**{**SMALL, "hidden_size": 32, "bands": 30, "epochs": 15,
                                     "learning_rate": 0.01}).fit(X, y)  # fmt: skip
    assert transcriber.score([paths[take] for take in range(5)], [words] * 5) > 0.8


def test_known_batches() -> None:
    pieces = [[np.ones((3, 2)), np.zeros((1, 2))], [np.ones((2, 2))]]
    frames, sizes, places, lengths = known_batch(pieces)
    assert frames.shape == (3, 3, 2) and sizes.tolist() == [3, 1, 2]
    assert places.tolist() == [[0, 2], [1, 0]] and lengths.tolist() == [2, 1]
