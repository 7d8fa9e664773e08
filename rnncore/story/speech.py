"""Words out of sound: what the network says at each moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.data.recordings import read_recordings
from rnncore.data.utterances import spoken
from rnncore.training.plot import new_figure, save_png

SECONDS, RATE = 40.0, 8000
WORDS = ("4", "7", "1", "9")


def draw(path: Path, data: Path | None) -> str:
    """Train on recorded digits for a short while; draw a string of others, and what is heard."""
    assert data is not None
    said = read_recordings(data, RATE)
    names = [Path(name).stem for name in said.names]
    held_out = np.array([name.rsplit("_", 1)[-1] in "01234" for name in names])
    transcriber = rnncore.WordTranscriber(
        boundaries="unknown", hidden_size=64, noise=0.1, epochs=None, seconds=SECONDS,
        learning_rate=8e-3,
    ).fit(said.take(np.flatnonzero(~held_out)))  # fmt: skip
    test = said.take(np.flatnonzero(held_out))
    pieces = spoken(test, WORDS, np.random.default_rng(1), pause=RATE // 5)
    sound = np.concatenate(pieces)
    [heard], [shares] = transcriber.predict([sound]), transcriber.predict_proba([sound])

    figure = new_figure(10, 5)
    above, below = figure.subplots(2, 1)
    above.plot(np.arange(len(sound)) / RATE, sound, lw=0.4)
    above.set(xlim=(0, len(sound) / RATE), xlabel="seconds", yticks=[])
    image = below.imshow(shares.T, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    below.set_yticks(range(shares.shape[1]), ["nothing", *transcriber.words_])
    below.set(xlabel="frame", ylabel="heard")
    figure.colorbar(image, ax=below)
    save_png(figure, path)
    both = " ".join(WORDS), " ".join(heard)
    return "After {:.0f} s of training: {} was said, {} heard.".format(SECONDS, *both)
