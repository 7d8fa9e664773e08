"""Utterances built of recorded words: number strings, noise, unlike voices and tempos."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.disguise import (
    ENDS,
    ROOM,
    blended,
    coloured,
    disguised,
    echoing,
    masked,
    shortened,
)
from rnncore.data.fingerprint import fingerprint_of
from rnncore.data.inputs import Numbers, mean_and_scale
from rnncore.data.ragged import Ragged
from rnncore.data.recordings import Recordings
from rnncore.data.spectra import SoundSettings, trimmed
from rnncore.data.words import WordVocabulary
from rnncore.settings import AtLeastZero, Choice, Positive, Share, Whole, check_settings, setting

PAUSE = 0.2  # the longest before, between and after words whose boundaries nobody knows, in seconds
LEVEL = 0.05  # the root mean square that whole utterances are brought to
CLEAN = 0.2  # the share of utterances of training without noise
ALONE = 0.2  # the share of utterances of training that are one word
BLENDED = 0.5  # the share of disguised utterances that are of two speakers together
HIDDEN = 0.2  # the largest share of bands, and of moments, that a disguise of strength 1 hides
LOUDER = 10.0  # decibels: how much louder or softer training makes an utterance
WARPED, SOFTER = 0.15, 8.0  # of readings in several voices: warps, and decibels
DIGITS = frozenset("0123456789")


@dataclasses.dataclass(frozen=True)
class UtteranceSettings:
    """How utterances are built of recorded words.

    Parameters
    ----------
    batch_size
        Utterances of a batch.
    order
        The same one builds the same utterances.
    strings
        "numbers": years, times and prices, for recordings of the digits; "random": any words.
    longest
        Words of a random string at most.
    noise
        The largest level of white noise in training, as a share of the speech's root mean square:
        level ``noise u^2`` with u uniform in [0, 1), which is ``-20 log10(level)`` decibels. A
        fifth of the utterances have none. Disguised, its colour is drawn as well.
    variation
        How much larger or smaller training makes speakers.
    tempo
        How much faster or slower; None: twice the variation.
    disguise
        How much training makes speakers sound like others, 1 for speakers that were never heard;
        see `disguised`, `echoing` and `masked`. Boundaries known, and with any of it, words lose
        some of their ends, see `shortened`, and half of the utterances are blended with another
        recording of the same words, see `blended`.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    batch_size: int = setting(32, Whole(), "Utterances of a batch.", fixed=True)
    order: int = setting(0, Whole(0), "Which utterances are built.", fixed=True)
    strings: str = setting(
        "random", Choice(("random", "numbers")), "How words follow each other.", fixed=True
    )
    longest: int = setting(5, Whole(), "Words of a random string at most.", fixed=True)
    noise: float = setting(
        1.0, Positive(), "Largest level of noise in training, of the speech's.", fixed=True
    )
    variation: float = setting(
        0.1, Share(), "How much training changes voices.", fixed=True
    )
    tempo: float | None = setting(
        None, Share(), "How much it changes tempo.  [default: twice the variation]", fixed=True,
        then=None,
    )
    disguise: float = setting(
        0.0, AtLeastZero(), "How much training makes speakers sound like others.", fixed=True,
        then=0.0,
    )

    def __post_init__(self) -> None:
        check_settings(self)


def number_string(rng: np.random.Generator) -> list[str]:
    """Return the digits of a year, a time or a price.

    Years are 1900 to 2029, and so are half of all; times are those of a timetable, each five
    minutes; prices end in 00, 49, 50, 90, 95 or 99, and cheap ones are frequent.

    Examples
    --------
    >>> "".join(number_string(np.random.default_rng(1)))
    '1855'
    """
    kind = rng.random()
    if kind < 0.5:
        text = str(rng.integers(1900, 2030))
    elif kind < 0.75:
        text = f"{rng.integers(24):02d}{5 * rng.integers(12):02d}"
    else:
        whole = int(10 ** rng.uniform(0, 3))
        text = f"{whole}{rng.choice([0, 49, 50, 90, 95, 99]):02d}"
    return list(text)


def spoken(
    recordings: Recordings,
    words: Sequence[str],
    rng: np.random.Generator,
    noise: float = 0.0,
    pause: int = 0,
    colour: float = 0.0,
) -> list[NDArray[np.float32]]:
    """Return recordings of these words, one after another, by one speaker, in noise.

    Parameters
    ----------
    recordings
    words
    rng
        Draws the speaker, the recordings and the noise.
    noise
        Its level, as a share of the root mean square of the words.
    pause
        Samples at most before, between and after words, which are pieces of their own.
    colour
        Decibels by which the noise is louder and softer over frequencies; 0: it is white.

    Returns
    -------
    pieces
        The words, (N,) each; with pauses: all of it as one piece.

    Raises
    ------
    ValueError
        If a word was never recorded.
    """
    speaker = recordings.speakers[rng.integers(len(recordings))]
    pieces = []
    for word in words:
        places = recordings.find(word, speaker)
        if not len(places):
            raise ValueError(
                f"words: expected words that were recorded, got {word!r}; record it, or choose "
                "strings='random'"
            )
        pieces.append(recordings.samples[places[rng.integers(len(places))]])
    level = noise * np.sqrt(np.mean(np.square(np.concatenate(pieces))))
    if pause:
        silences = [np.zeros(k, np.float32) for k in rng.integers(0, pause + 1, len(words) + 1)]
        joined = [silences[0]]
        for piece, silence in zip(pieces, silences[1:], strict=True):
            joined += [piece, silence]
        pieces = [np.concatenate(joined)]
    if not noise:
        return pieces
    drawn = np.float32(level) * rng.standard_normal(sum(map(len, pieces)), np.float32)
    if colour:
        drawn = coloured(drawn, colour, rng)
    starts = np.cumsum([len(piece) for piece in pieces])[:-1]
    return [one + two for one, two in zip(pieces, np.split(drawn, starts), strict=True)]


class Utterances:
    """Numbered batches of utterances built of recorded words; see `rnncore.training.Batches`.

    Utterance and noise are drawn by a generator that begins at the order and the batch's number. An
    epoch is as many utterances as there are recordings.

    Parameters
    ----------
    recordings
    vocabulary
        The words, without an unknown.
    sound
    settings
    known
        Whether the boundaries of words are.
    whole
        Whether all of an utterance is there when it is read: see `frames_of`.
    training
        Whether voices, tempo and loudness vary, and some words come alone.
    """

    def __init__(
        self,
        recordings: Recordings,
        vocabulary: WordVocabulary,
        sound: SoundSettings,
        settings: UtteranceSettings,
        known: bool,
        whole: bool = True,
        training: bool = True,
    ) -> None:
        vocabulary.encode(recordings.words)
        if settings.strings == "numbers" and DIGITS.difference(recordings.words):
            missing = sorted(DIGITS.difference(recordings.words))
            raise ValueError(
                "strings: expected 'random', as 'numbers' are made of recordings of the digits 0 "
                f"to 9, and these have no {', '.join(missing)}"
            )
        sound.filters()
        try:
            for end in (-1, 1):
                sound.filters(round(1 + training * end * settings.variation, 2))
        except ValueError:
            raise ValueError(
                f"variation: expected voices that {sound.bands} bands can hear, got "
                f"{settings.variation}, which leaves a band without a frequency; choose less"
            ) from None
        self.recordings, self.vocabulary = recordings, vocabulary
        self.sound, self.utterance_settings = sound, settings
        self._known, self._whole, self._training = known, whole, training
        self.per_epoch = -(-len(recordings) // settings.batch_size)

    def batch(self, number: int) -> tuple[Any, ...]:
        """Return what `forward` of a transcriber takes: see `TranscriberNetwork`."""
        s = self.utterance_settings
        rng = np.random.default_rng([s.order, int(self._training), number])
        pieces, words = [], []
        count = min(s.batch_size, len(self.recordings))
        for _ in range(count):
            said = self._string(rng)
            words.append(said)
            pieces.append(self._features(said, rng))
        targets = self.vocabulary.encode_all(words)
        if self._known:
            return (*known_batch(pieces), targets.padded(-1)[0])
        frames, lengths = Ragged.of([one for [one] in pieces]).padded()
        labels, counts = targets.padded()
        return frames, lengths, labels.T, counts

    def _string(self, rng: np.random.Generator) -> list[str]:
        s = self.utterance_settings
        alone = self._training and rng.random() < ALONE
        if s.strings == "numbers":
            said = number_string(rng)
            return [said[rng.integers(len(said))]] if alone else said
        words = self.vocabulary.words
        length = 1 if alone else rng.integers(1, s.longest + 1)
        return [words[k] for k in rng.integers(0, len(words), length)]

    def _features(self, words: list[str], rng: np.random.Generator) -> list[NDArray[np.float32]]:
        s = self.utterance_settings
        level = s.noise * max(0.0, rng.uniform(-CLEAN / (1 - CLEAN), 1)) ** 2
        if not self._training:
            return frames_of(self._spoken(words, rng, level), self.sound, self._whole)
        powers = self._powers(words, rng, level)
        if s.disguise:
            if self._known and rng.random() < BLENDED:
                share, others = rng.uniform(0, 0.5), self._powers(words, rng, 0.0)
                pairs = zip(powers, others, strict=True)
                powers = [blended(one, other, share) for one, other in pairs]
            powers = [self._disguised(one, rng) for one in powers]
        return [self.sound.features_in(one) for one in powers]

    def _disguised(
        self, power: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        strength, sound = self.utterance_settings.disguise, self.sound
        hidden = min(1.0, strength * HIDDEN)
        power = echoing(power, sound.hop / sound.rate, strength, rng)
        if self._known:  # of more than a word, whole words would be lost
            power = shortened(power, min(0.5, strength * ENDS), sound.frames_per_step, rng)
        power = masked(disguised(power, strength, rng), hidden, rng)
        return masked(power.T, hidden, rng).T if self._known else power

    def _powers(
        self, words: list[str], rng: np.random.Generator, level: float
    ) -> list[NDArray[np.float32]]:
        pieces = self._spoken(words, rng, level)
        # Steps of 1 %: their filters are kept.
        s = self.utterance_settings
        warp = round(1 + s.variation * rng.uniform(-1, 1), 2)
        tempo = min(0.9, 2 * s.variation) if s.tempo is None else s.tempo
        hop = max(1, round(self.sound.hop * (1 + tempo * rng.uniform(-1, 1))))
        louder = np.float32(10 ** (LOUDER / 20 * rng.uniform(-1, 1)))
        pieces = as_loud([louder * one for one in pieces], self.sound, self._whole)
        return [self.sound.power(one, warp, hop) for one in pieces]

    def _spoken(
        self, words: list[str], rng: np.random.Generator, level: float
    ) -> list[NDArray[np.float32]]:
        pause = 0 if self._known else round(PAUSE * self.sound.rate)
        colour = ROOM * self.utterance_settings.disguise * self._training
        return spoken(self.recordings, words, rng, level, pause, colour)

    def inputs(self) -> Numbers:
        """Return how the features of the first utterances are standardised."""
        frames = []
        for number in range(min(4, self.per_epoch)):
            array, lengths, *_ = self.batch(number)
            frames.append(array[np.arange(len(array))[:, None] < lengths])
        return Numbers(*mean_and_scale(np.concatenate(frames).astype(np.float64)))

    def continues(self, number: int) -> bool:
        """Return False: each utterance stands for itself."""
        return False


def frames_of(
    pieces: Sequence[NDArray[np.float32]],
    sound: SoundSettings,
    whole: bool,
    warp: float = 1.0,
    gain: float = 1.0,
) -> list[NDArray[np.float32]]:
    """Return the features (T, F) of each piece of an utterance, samples (N,); see `as_loud`.

    Read in another voice by a `warp` of its frequencies, and so many times as loud.
    """
    pieces = as_loud(pieces, sound, whole)
    return [sound.features_of(np.float32(gain) * one, warp) for one in pieces]


def voices_of(count: int) -> list[tuple[float, float]]:
    """Return warp and gain of readings in so many voices; one is as it is.

    Warps are even from 0.85 to 1.15, and each voice is soft, as it is, and loud.

    Examples
    --------
    >>> voices_of(1), [warp for warp, _ in voices_of(3)[::3]]
    ([(1.0, 1.0)], [0.85, 1.0, 1.15])
    """
    if count == 1:
        return [(1.0, 1.0)]
    gains = [10 ** (decibels / 20) for decibels in (-SOFTER, 0.0, SOFTER)]
    warps = np.linspace(1 - WARPED, 1 + WARPED, count).round(3).tolist()
    return [(warp, gain) for warp in warps for gain in gains]


def as_loud(
    pieces: Sequence[NDArray[np.float32]], sound: SoundSettings, whole: bool
) -> list[NDArray[np.float32]]:
    """Return the pieces of an utterance trimmed and at one loudness, if the whole of it is there.

    If it may still be going on, as in a stream, it stays as it is.
    """
    if not whole:
        return list(pieces)
    pieces = [trimmed(one, sound) for one in pieces]
    power = np.mean(np.square(np.concatenate(pieces)))
    factor = np.float32(LEVEL / np.sqrt(power)) if power > 0 else np.float32(1)
    return [factor * one for one in pieces]


def known_batch(pieces: Sequence[Sequence[NDArray[Any]]]) -> tuple[NDArray[Any], ...]:
    """Return frames, sizes, places and lengths of utterances, given the features of their words."""
    frames, sizes = Ragged.of([one for words in pieces for one in words]).padded()
    lengths = np.array([len(words) for words in pieces], np.intp)
    places, _ = Ragged(np.arange(lengths.sum()), lengths).padded()
    return frames, sizes, places, lengths


class UtteranceSource(Utterances):
    """Utterances to train on, and some held out; see `rnncore.training.Source`.

    Parameters
    ----------
    recordings, vocabulary, sound, settings, known, whole
        See `Utterances`.
    held_out
        Recordings that the utterances of validations are built of, voices as they are.
    """

    def __init__(
        self,
        recordings: Recordings,
        vocabulary: WordVocabulary,
        sound: SoundSettings,
        settings: UtteranceSettings,
        known: bool,
        whole: bool = True,
        held_out: Recordings | None = None,
    ) -> None:
        super().__init__(recordings, vocabulary, sound, settings, known, whole)
        self.held_out: Utterances | None = None
        if held_out is not None:
            self.held_out = Utterances(
                held_out, vocabulary, sound, settings, known, whole, training=False
            )
        self.item, self.items_per_batch = "utterances", min(settings.batch_size, len(recordings))

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dataclasses.asdict(self.utterance_settings)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all recordings, those held out among them."""
        arrays: list[NDArray[Any]] = []
        for part in (self, self.held_out):
            if part is not None:
                said = part.recordings
                arrays += [part.vocabulary.encode(said.words), *said.samples]
                arrays.append(np.unique(said.speakers, return_inverse=True)[1])
        return fingerprint_of(*arrays)

    def describe(self) -> str:
        """Say how much there is."""

        def seconds(part: Utterances) -> str:
            said = part.recordings
            return f"{len(said):,} words, {sum(map(len, said.samples)) / part.sound.rate:,.0f} s"

        speakers = len(set(self.recordings.speakers))
        text = f"{seconds(self)}, by {speakers} speaker{'s' * (speakers > 1)}"
        return text if self.held_out is None else f"{text}; {seconds(self.held_out)} held out"
