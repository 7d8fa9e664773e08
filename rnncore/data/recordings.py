"""Recorded words: what is said in each, by whom; from a folder of files or from a list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.data.audio import as_samples, read_wav


class Recordings:
    """Words that were recorded one by one.

    Parameters
    ----------
    samples
        Arrays (N,), all of one rate; from -1 to 1.
    words
        What is said in each.
    speakers
        By whom; None: all by the same one.
    names
        What errors call them.

    Raises
    ------
    ValueError
        If there are none, a recording is none, or there are not as many of each.

    Examples
    --------
    >>> said = Recordings([np.zeros(8), np.ones(9), np.ones(7)], ["yes", "no", "no"])
    >>> said.find("no", "").tolist(), said.take([0]).words
    ([1, 2], ['yes'])
    """

    def __init__(
        self,
        samples: Sequence[Any],
        words: Sequence[str],
        speakers: Sequence[Any] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        count = len(samples)
        speakers = [""] * count if speakers is None else speakers
        for name, given in (("words", words), ("speakers", speakers)):
            if len(given) != count:
                raise ValueError(
                    f"{name}: expected one for each of {count} recordings, got {len(given)}"
                )
        if not count:
            raise ValueError("samples: expected one recording at least, got none; give some data")
        names = [f"recording {n}" for n in range(1, count + 1)] if names is None else names
        for name, word in zip(names, words, strict=True):
            if not isinstance(word, str) or len(word.split()) != 1:
                raise ValueError(f"words: expected one word, said in {name}, got {word!r}")
        self.samples = [as_samples(name, one) for name, one in zip(names, samples, strict=True)]
        self.words, self.speakers = list(words), [str(one) for one in speakers]
        self.names = list(names)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.samples)

    def take(self, indices: Any) -> Recordings:
        """Return those with these numbers."""
        lists = (self.samples, self.words, self.speakers, self.names)
        samples, words, speakers, names = ([one[k] for k in indices] for one in lists)
        return Recordings(samples, words, speakers, names)

    def find(self, word: str, speaker: str) -> NDArray[np.intp]:
        """Return the numbers of the recordings of a word by a speaker, or by anybody, if any."""
        found = self._places.get((word, speaker))
        return self._places.get((word, None), np.zeros(0, np.intp)) if found is None else found

    @cached_property
    def _places(self) -> dict[tuple[str, str | None], NDArray[np.intp]]:
        places: dict[tuple[str, str | None], list[int]] = {}
        for number, (word, speaker) in enumerate(zip(self.words, self.speakers, strict=True)):
            for key in ((word, speaker), (word, None)):
                places.setdefault(key, []).append(number)
        return {key: np.array(numbers, np.intp) for key, numbers in places.items()}


def read_recordings(path: str | os.PathLike[str], rate: int) -> Recordings:
    """Return the recorded words of a folder, or of a list of files.

    Parameters
    ----------
    path
        A folder, whose WAV files are called ``word_speaker_take.wav`` or ``word.wav``; or a text
        file with a recording a line: its path, seen from the list's folder, the word and, if it is
        known, the speaker, with tabs between.
    rate
        Samples a second that all are brought to.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such folder or file, no recording in it, a line is none, or a file is none.
    """
    place, name = Path(path), os.fspath(path)
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix.lower() == ".wav")
        rows = [(file, *_named(file)) for file in files]
        if not rows:
            raise ValueError(
                f"{name!r}: expected WAV files called word_speaker_take.wav, found none; name a "
                "folder of them, or a list of files"
            )
    elif place.is_file():
        rows = _listed(place, name)
    else:
        raise FileNotFoundError(
            f"{name!r}: expected a folder of WAV files or a list of them, but there is none"
        )
    samples = [read_wav(file, rate)[0] for file, _, _ in rows]
    return Recordings(
        samples, [row[1] for row in rows], [row[2] for row in rows], [str(row[0]) for row in rows]
    )


def _named(file: Path) -> tuple[str, str]:
    word, _, more = file.stem.partition("_")
    if len(word.split()) != 1:
        raise ValueError(f"{str(file)!r}: expected its word before the first '_' of its name")
    return word, more.partition("_")[0]


def _listed(path: Path, name: str) -> list[tuple[Path, str, str]]:
    rows = []
    for number, line in enumerate(_lines(path, "a folder, or a list of files"), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if not 2 <= len(fields) <= 3 or len(fields[1].split()) != 1 or not fields[0]:
            raise ValueError(
                f"{name!r}, line {number}: expected a path, a tab and a word, and perhaps a tab "
                f"and a speaker, got {line!r:.80}"
            )
        file = path.parent / fields[0]
        if not file.is_file():
            raise ValueError(f"{name!r}, line {number}: there is no file {str(file)!r}")
        rows.append((file, fields[1].strip(), fields[2].strip() if len(fields) > 2 else ""))
    if not rows:
        raise ValueError(f"{name!r}: expected a recording a line, but it has none")
    return rows


def read_labels(
    path: str | os.PathLike[str], samples: NDArray[Any], rate: int
) -> list[NDArray[Any]]:
    """Return the words of a recording, cut apart at the labels of a file.

    Parameters
    ----------
    path
        A word a line: begin and end in seconds with a tab between, and perhaps more after another,
        as Audacity exports labels.
    samples : (N,)
    rate
        Samples a second.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, a line is malformed or not within the recording, or there is none.
    """
    name, seconds = os.fspath(path), len(samples) / rate
    if not Path(path).is_file():
        raise FileNotFoundError(f"{name!r}: expected a file of labels, but there is none")
    pieces = []
    for number, line in enumerate(_lines(Path(path), "labels"), 1):
        if not line.strip():
            continue
        try:
            begin, end = map(float, line.split("\t")[:2])
            first, last = round(begin * rate), round(end * rate)
        except (ValueError, OverflowError):
            first, last = 0, 0
        if not 0 <= first < last <= len(samples):
            raise ValueError(
                f"{name!r}, line {number}: expected begin and end of a word within {seconds:.3f} "
                f"seconds, with a tab between, got {line!r:.80}"
            )
        pieces.append(samples[first:last])
    if not pieces:
        raise ValueError(f"{name!r}: expected a word a line, but it has none")
    return pieces


def _lines(path: Path, what: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f"{os.fspath(path)!r}: expected {what} as text in UTF-8, but it is none"
        ) from None
