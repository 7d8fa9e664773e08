"""Learn parts of speech, then show one word in several contexts and what is taken for what.

    python examples/tagging.py FOLDER [SECONDS]

FOLDER has train.conllu, dev.conllu and test.conllu.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from rnncore import Tagger
from rnncore.data.tagged import read_tagged

folder, seconds = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 470.0
tagger = Tagger(epochs=None, seconds=seconds, verbose=True)
tagger.fit(folder / "train.conllu", validation=folder / "dev.conllu").save("tagger.safetensors")
X, y = read_tagged(folder / "test.conllu")
print(f"{100 * tagger.score(X, y):.2f} % of the words of test.conllu get the right tag")

sentences = "I like that", "that book is mine", "I know that it works", "it is not that bad"
rows = [(s.split().index("that"), tagger.predict_proba([s.split()])[0]) for s in sentences]
shares = np.array([array[place] for place, array in rows])
for sentence, row in zip(sentences, shares, strict=True):
    print(f"{sentence:24}that: {tagger.tags_[row.argmax()]} {100 * row.max():.0f} %")

tags, some = np.sort(tagger.tags_), shares.max(0) > 0.01
counts = np.zeros((len(tags), len(tags)))
right, found = (np.searchsorted(tags, np.concatenate(each)) for each in (y, tagger.predict(X)))
np.add.at(counts, (right, found), 1)
pictures = (shares[:, some], sentences, np.array(tagger.tags_)[some]), (counts, tags, tags)
for name, (image, down, across) in zip(("context", "confusion"), pictures, strict=True):
    plt.figure(figsize=(7, 7 * len(down) / 17 + 1.5), layout="constrained")
    plt.imshow(image / image.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    plt.xticks(range(len(across)), across, rotation=90), plt.yticks(range(len(down)), down)
    plt.colorbar(label="share of the row")
    plt.savefig(f"{name}.png", dpi=80)
