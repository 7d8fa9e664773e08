"""Sound: files of all kinds, resampling, features against those of others, recorded words."""

from __future__ import annotations

import struct
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncore.data.audio import read_wav, resample
from rnncore.data.edits import edit_distance
from rnncore.data.recordings import Recordings, read_labels, read_recordings
from rnncore.data.spectra import SoundSettings, mel, mel_filters

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("scipy")
RNG = np.random.default_rng


def write(path: Path, samples: Any = None, rate: int = 8000, **more: Any) -> Path:
    soundfile.write(path, RNG(0).uniform(-0.5, 0.5, 900) if samples is None else samples, rate,
                    **more)  # fmt: skip
    return path


# Files

@pytest.mark.parametrize(
    ("kind", "exact"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 1e-7), ("FLOAT", 1e-7),
     ("DOUBLE", 1e-7)],
)  # fmt: skip
def test_every_depth(tmp_path: Path, kind: str, exact: float) -> None:
    wanted = RNG(0).uniform(-0.9, 0.9, 500)
    samples, rate = read_wav(write(tmp_path / "a.wav", wanted, 11025, subtype=kind))
    assert rate == 11025 and samples.dtype == np.float32 and samples.shape == (500,)
    assert np.abs(samples - wanted).max() <= exact


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = RNG(0).uniform(-0.5, 0.5, (300, 3))
    samples, _ = read_wav(write(tmp_path / "a.wav", both, subtype="DOUBLE"))
    np.testing.assert_allclose(samples, both.mean(1), atol=1e-6)


@pytest.mark.parametrize(("rate", "to"), [(44100, 8000), (8000, 16000), (48000, 8000)])
def test_a_tone_stays_a_tone_at_another_rate(tmp_path: Path, rate: int, to: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    samples, found = read_wav(write(tmp_path / "a.wav", 0.5 * tone, rate, subtype="FLOAT"), to)
    assert found == to and abs(len(samples) - to) <= 1
    there = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / to)
    inner = slice(to // 20, -to // 20)  # the filter sees zeros beyond the ends
    np.testing.assert_allclose(samples[inner], there[inner], atol=5e-3)


def test_what_a_lower_rate_cannot_hold_is_gone() -> None:
    tone = np.sin(2 * np.pi * 6000 * np.arange(16000) / 16000)
    assert np.abs(resample(tone, 16000, 8000)[400:-400]).max() < 1e-2
    same = resample(tone, 8000, 8000)
    np.testing.assert_array_equal(same, tone.astype(np.float32))


def test_the_standard_library_writes_what_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "a.wav")
    with wave.open(path, "wb") as file:
        file.setparams((2, 2, 22050, 0, "NONE", None))
        file.writeframes(np.array([[100, 300], [-400, 0]], "<i2").tobytes())
    samples, rate = read_wav(path)
    assert rate == 22050 and (samples * 2**15).tolist() == [200.0, -200.0]


def damaged(tmp_path: Path, kind: str) -> Path:
    path = write(tmp_path / f"{kind}.wav", subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    if kind == "cut":
        del content[-600:]
    elif kind == "lying":
        content[place : place + 4] = struct.pack("<I", 10**6)
    elif kind == "empty":
        del content[place + 4 :]
        content[place : place + 4] = bytes(4)
    elif kind == "headless":
        del content[place - 4 :]
    elif kind == "text":
        content = bytearray(b"no sound at all")
    elif kind == "nothing":
        content = bytearray()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("cut", "its header says 1800 bytes of 'data', but 1200 are there"),
        ("lying", "its header says 1000000 bytes of 'data', but 1800 are there"),
        ("empty", "it has no samples"), ("headless", "it has no samples"),
        ("text", "expected sound, such as a WAV file"), ("nothing", "expected sound"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, kind: str, match: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(ValueError, match=match) as error:
        read_wav(path)
    assert str(path) in str(error.value)


def test_a_file_that_was_written_while_sound_came_in(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", subtype="PCM_16")
    whole, _ = read_wav(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    np.testing.assert_array_equal(read_wav(path)[0], whole)


def test_other_errors_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="expected a WAV file, but there is none"):
        read_wav(tmp_path / "missing.wav")
    path = write(tmp_path / "a.wav", np.array([0.0, np.nan]), subtype="FLOAT")
    with pytest.raises(ValueError, match="expected finite samples"):
        read_wav(path)
    with pytest.raises(ValueError, match="rate: expected a whole number"):
        resample(np.zeros(5), 0, 8000)
    for wrong in (np.zeros((5, 2)), np.zeros(5, np.int16), np.zeros(0), np.array([np.inf])):
        with pytest.raises(ValueError, match="samples: expected"):
            resample(wrong, 8000, 8000)
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        resample(np.zeros(5), 8000, 4000)
    with pytest.raises(ImportError, match="pip install scipy"):
        monkeypatch.setitem(sys.modules, "scipy.fft", None)
        SoundSettings(features="mfcc").features_of(np.zeros(900, np.float32))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ImportError, match="pip install soundfile"):
        read_wav(path)


# Features

# librosa 0.11.0: filters.mel(sr=8000, n_fft=128, n_mels=6, htk=True, norm=None).T[::6]
FILTERS = [
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.456386, 0.543614, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.353165, 0.646835, 0.0, 0.0, 0.0], [0.0, 0.0, 0.511395, 0.488605, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.812392, 0.187608, 0.0], [0.0, 0.0, 0.0, 0.235188, 0.764812, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.739443, 0.260557], [0.0, 0.0, 0.0, 0.0, 0.299713, 0.700287],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.893331], [0.0, 0.0, 0.0, 0.0, 0.0, 0.558332],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.223333],
]  # fmt: skip
# mel_frequencies(8, fmin=0, fmax=4000, htk=True)
CORNERS = [0.0, 218.8421, 506.1011, 883.1663, 1378.114, 2027.7979, 2880.5936, 4000.0]
# log(S[:, 2] + 1e-3) of feature.melspectrogram(y=TONES, sr=8000, n_fft=512, hop_length=100,
# win_length=200, center=False, n_mels=6, htk=True, norm=None), and feature.mfcc of that log
STEPS = np.arange(1000)
TONES = np.sin(STEPS * 0.3) + 0.5 * np.cos(STEPS**2 / 3000)
LOGS = [7.29301308, 7.55771696, -1.54515811, -6.81794828, -6.90476813, -6.90753934]
COSINES = [-2.99028951, 14.61152282, 4.37429007, -2.25954101, -2.67992455, -0.84179022]


def test_mel_filters_are_those_of_librosa() -> None:
    np.testing.assert_allclose(mel_filters(8000, 128, 6)[::6], FILTERS, atol=1e-6)
    np.testing.assert_allclose(mel(np.array(CORNERS)), np.linspace(0, mel(4000), 8), atol=1e-3)


def test_features_are_those_of_librosa() -> None:
    # librosa puts a window that is shorter than the transform into its middle, 156 samples later.
    tones = TONES[156:].astype(np.float32)
    logs = SoundSettings(bands=6).features_of(tones)
    assert logs.shape == (7, 6) and logs.dtype == np.float32
    np.testing.assert_allclose(logs[2], LOGS, atol=2e-3)
    cosines = SoundSettings(bands=6, features="mfcc").features_of(tones)
    np.testing.assert_allclose(cosines[2], COSINES, atol=2e-3)
    assert SoundSettings(features="mfcc").size == 13 and SoundSettings(bands=6).size == 6


def test_frames_begin_with_the_first_sample() -> None:
    sound, x = SoundSettings(bands=20), RNG(0).standard_normal(1000).astype(np.float32)
    whole = sound.features_of(x)
    assert len(whole) == (1000 - 200) // 100 + 1
    for k, frame in enumerate(whole):
        one = sound.features_of(x[100 * k : 100 * k + 200])
        np.testing.assert_allclose(one, frame[None], rtol=1e-5, atol=1e-5)
    assert len(sound.features_of(x[:299])) == 1 and len(sound.features_of(x[:300])) == 2
    short = sound.features_of(x[:30])
    np.testing.assert_array_equal(short, sound.features_of(np.pad(x[:30], (0, 170))))
    assert len(sound.features_of(x, hop=50)) == 17
    silence = sound.features_of(np.zeros(200, np.float32))
    np.testing.assert_allclose(silence, np.log(1e-3), rtol=1e-6)


def test_a_warp_moves_a_tone_to_where_a_smaller_speaker_has_it() -> None:
    sound, seconds = SoundSettings(bands=30), np.arange(2000) / 8000

    def tone(frequency: float, warp: float) -> np.ndarray:
        x = np.sin(2 * np.pi * frequency * seconds).astype(np.float32)
        return sound.features_of(x, warp)[3]

    for warp in (0.9, 1.1):
        moved, plain = tone(1000 * warp, warp), tone(1000, 1.0)
        assert moved.argmax() == plain.argmax() != tone(1000 * warp, 1.0).argmax()
        filters = mel_filters(8000, 512, 30, warp)
        assert filters.any(0).all() and filters.max() <= 1


def test_settings_of_sound() -> None:
    for wrong, match in (
        ({"rate": 10}, "rate: expected a whole number, 1000 or more"),
        ({"features": "what"}, "features: expected one of log-mel, mfcc"),
        ({"bands": 0}, "bands: expected a whole number"),
    ):
        with pytest.raises(ValueError, match=match):
            SoundSettings(**wrong)
    with pytest.raises(ValueError, match="bands: expected fewer than 400 at 8000"):
        SoundSettings(bands=400).features_of(np.zeros(900, np.float32))


# Recorded words

def test_a_folder_and_a_list(tmp_path: Path) -> None:
    for name in ("yes_ann_0", "no_bob_0", "no_ann_1", "maybe"):
        write(tmp_path / f"{name}.wav", rate=16000)
    said = read_recordings(tmp_path, 8000)
    assert said.words == ["maybe", "no", "no", "yes"]
    assert said.speakers == ["", "ann", "bob", "ann"]
    assert [len(one) for one in said.samples] == [450] * 4
    listed = tmp_path / "list.tsv"
    listed.write_text("yes_ann_0.wav\tyes\tann\n\nno_bob_0.wav\tno\n")
    some = read_recordings(listed, 8000)
    assert some.words == ["yes", "no"] and some.speakers == ["ann", ""]
    np.testing.assert_array_equal(some.samples[0], said.samples[3])
    assert said.find("no", "ann").tolist() == [1] and said.find("no", "eve").tolist() == [1, 2]
    assert said.find("never", "ann").tolist() == []


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("yes.wav", "line 2: expected a path, a tab and a word"),
        ("yes.wav\t", "line 2: expected a path, a tab and a word"),
        ("yes.wav\ttwo words", "line 2: expected a path, a tab and a word"),
        ("\tyes", "line 2: expected a path, a tab and a word"),
        ("yes.wav\tyes\tann\tmore", "line 2: expected a path, a tab and a word"),
        ("missing.wav\tyes", "line 2: there is no file"),
        ("text.wav\tyes", "text.wav.*expected sound"),
    ],
)
def test_a_line_that_is_none(tmp_path: Path, line: str, match: str) -> None:
    write(tmp_path / "yes.wav")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "list.tsv").write_text(f"yes.wav\tyes\n{line}\n")
    with pytest.raises(ValueError, match=match) as error:
        read_recordings(tmp_path / "list.tsv", 8000)
    assert "list.tsv" in str(error.value) or "text.wav" in str(error.value)


def test_other_errors_of_recordings(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder of WAV files"):
        read_recordings(tmp_path / "missing", 8000)
    with pytest.raises(ValueError, match=r"expected WAV files called word_speaker_take\.wav"):
        read_recordings(tmp_path, 8000)
    (tmp_path / "empty.tsv").write_text("\n\n")
    with pytest.raises(ValueError, match="expected a recording a line"):
        read_recordings(tmp_path / "empty.tsv", 8000)
    path = write(tmp_path / "_ann.wav")
    with pytest.raises(ValueError, match="expected its word before the first '_'"):
        read_recordings(tmp_path, 8000)
    with pytest.raises(ValueError, match=r"expected .* as text in UTF-8"):
        read_recordings(path, 8000)
    for samples, words, match in (
        ([], [], "one recording at least"), ([np.zeros(3)], [], "one for each of 1"),
        ([np.zeros(3)], ["a b"], "expected one word, said in recording 1"),
        ([np.zeros(0)], ["a"], "recording 1: expected finite samples, got none"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            Recordings(samples, words)


def test_labels(tmp_path: Path) -> None:
    path, samples = tmp_path / "labels.txt", np.arange(100.0)
    path.write_text("0.0\t0.5\tone\n\n0.5\t1.0\n")
    one, two = read_labels(path, samples, 100)
    assert one.tolist() == list(range(50)) and two.tolist() == list(range(50, 100))
    for line, match in (
        ("0.5\t1.01", "line 2: expected begin and end of a word within 1.000 seconds"),
        ("0.5\t0.5", "line 2"), ("0.5", "line 2"), ("a\tb", "line 2"), ("-1\t0.5", "line 2"),
        ("nan\t1", "line 2"), ("0\tinf", "line 2"),
    ):  # fmt: skip
        path.write_text(f"0\t0.5\n{line}\n")
        with pytest.raises(ValueError, match=match):
            read_labels(path, samples, 100)
    path.write_text("")
    with pytest.raises(ValueError, match="expected a word a line"):
        read_labels(path, samples, 100)
    with pytest.raises(FileNotFoundError, match="expected a file of labels"):
        read_labels(tmp_path / "missing", samples, 100)


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_edit_distance(one: list[int], two: list[int]) -> None:
    def plain(a: list[int], b: list[int]) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(plain(a[1:], b) + 1, plain(a, b[1:]) + 1, plain(a[1:], b[1:]) + (a[0] != b[0]))

    assert edit_distance(one, two) == plain(one, two) == edit_distance(two, one)
