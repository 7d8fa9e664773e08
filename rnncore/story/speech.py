"""Words out of sound: what the network says at each moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rnncore
from rnncore.data.recordings import read_recordings
from rnncore.data.utterances import spoken
from rnncore.training.plot import new_figure, save_png

SECONDS, RATE, SPEAKER = 25.0, 8000, "jackson"
WORDS = ("4", "7", "1", "9")


def draw(path: Path, data: Path | None) -> str:
    """Train on recorded digits for a short while; draw a string of others, and what is heard."""
    assert data is not None
    said = read_recordings(data, RATE)
    parts = [Path(name).stem.split("_") for name in said.names]  # word, speaker, take
    own = np.array([speaker == SPEAKER for _, speaker, _ in parts])
    held_out = np.array([take in "01234" for _, _, take in parts])
    # Single words: quick to learn, and strings of them are heard all the same.
    transcriber = rnncore.WordTranscriber(
        boundaries="unknown", longest=1, hidden_size=64, noise=0.1, variation=0.0, dropout=0.0,
        batch_size=8, epochs=None, seconds=SECONDS, learning_rate=1e-2,
    ).fit(said.take(np.flatnonzero(own & ~held_out)))  # fmt: skip
    test = said.take(np.flatnonzero(own & held_out))
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
    after = f"After {SECONDS:.0f} s of training on single words"
    return f"{after}: {' '.join(WORDS)} was said, {' '.join(heard)} heard."
