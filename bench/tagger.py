"""The tagger beside the same tagger in PyTorch: words a second, of training and of tagging.

    python -m pip install -r bench/requirements-peers.txt
    python bench/tagger.py --write

The sentences are those of the English Web Treebank, in the folder that the tests take: that of the
variable RNNCORE_DATA, or shared/data beside the repository. Both sides start from the same weights,
read the same batches, clip and step alike. First a training step without dropout has to give the
same logits, loss, gradients and weights, and the sentences the same tags. Then the sides take
turns, each in a process of its own for each number of threads. A training step is all of it:
preparing the batch, forward, backward, clipping, AdamW, and in rnncore the average of the weights,
which `rnncore train tags` takes as well. Tagging goes from lists of words to lists of tags. A ratio
is the median over the rounds, beside its quartiles. `--write` puts the table into docs/tagging.md.
Three minutes on two processors that have nothing else to do.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from beside_torch import AFTER, assert_same_step, rate, ratio, run
from busy import table
from remote import Remote, environment
from workloads import Array

from rnncore.data.batches import SequenceBatches
from rnncore.data.tagged import (
    Sentences,
    TaggedBatch,
    TaggedSource,
    TaggerVocabularies,
    Words,
    read_tagged,
)
from rnncore.estimators import Tagger
from rnncore.estimators.by_length import STEPS_PER_BATCH
from rnncore.models.tagger_network import TaggerNetwork
from rnncore.training import Trainer, TrainingSettings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tagging.md"
DATA = Path(os.environ.get("RNNCORE_DATA", ROOT.parent / "shared" / "data"))
TREEBANK = DATA / "tagging" / "ud-english-ewt"
AIM = 3.0
BATCH_SIZE, STEPS = 32, 30  # sentences of a batch, and batches of a round
#: What `rnncore train tags` trains with.
SETTINGS: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 1e-2, "average": 0.998,
                            "clip_norm": 1.0, "schedule": "constant"}  # fmt: skip
NO_DROPOUT = {"dropout": 0.0, "word_dropout": 0.0}


class Rnncore:
    """The tagger as its users call it."""

    name = "rnncore"

    def __init__(self, treebank: Path) -> None:
        self.words, self.tags = read_tagged(treebank / "train.conllu")
        self.others, _ = read_tagged(treebank / "dev.conllu")
        self.vocabularies = TaggerVocabularies.of(self.words, self.tags)
        self.source = TaggedSource(self.words, self.tags, self.vocabularies, batch_size=BATCH_SIZE)
        self.begin()

    def network(self, **settings: float) -> TaggerNetwork:
        return TaggerNetwork(self.vocabularies, seed=0, **settings)

    def words_of(self, first: int, steps: int) -> int:
        """Return the words of some batches."""
        return sum(int(self.source.batch(n)[1].sum()) for n in range(first, first + steps))

    def count(self) -> int:
        """Return the words that `tag` tags."""
        return sum(map(len, self.others))

    def begin(self) -> None:
        """Make what is trained."""
        self.trainer = Trainer(
            self.network(), self.source, TrainingSettings(steps=1, validations=1, **SETTINGS)
        )
        self.tagger = Tagger()
        self.tagger.network_ = self.trainer.model

    def save(self, path: Path) -> None:
        self.trainer.model.save(path)

    def step(self) -> dict[str, Array]:
        """Return what a training step without dropout computes, the longest batch of a few."""
        network = self.network(**NO_DROPOUT)
        trainer = Trainer(network, self.source, TrainingSettings(steps=1, **SETTINGS))
        logits = network.logits(TaggedBatch(*self.source.batch(0)[:5])).array().copy()
        trainer.run()  # an average over one step has the weights of that step
        return {"logits": logits, "loss": np.array(trainer.loss), **network.grads,
                **{AFTER + name: array for name, array in network.params.items()}}  # fmt: skip

    def train(self, steps: int) -> float:
        """Train on the next batches; return seconds."""
        trainer = self.trainer
        trainer.settings = dataclasses.replace(trainer.settings, steps=trainer.step + steps)
        start = time.perf_counter()
        trainer.run()
        return time.perf_counter() - start

    def tag(self) -> tuple[float, Words]:
        """Tag sentences; return seconds, and the tags."""
        start = time.perf_counter()
        found = self.tagger.predict(self.others)
        return time.perf_counter() - start, found


class PyTorch(Rnncore):
    """The same in PyTorch, whose first weights and batches are rnncore's.

    Ids are packed before they are looked up, so that there is no padding to compute; the longest
    sequences stand first; the distinct words of a batch are spelled once. Two padded layers, one of
    them over reversed sentences, take longer than one of packed ones, and other forms of AdamW
    longer than the fused one.
    """

    name = "PyTorch"

    def begin(self) -> None:
        import torch

        self.torch = torch
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.model, self.position = self.tagger_of(), 0
        self.optimizer = self.optimizer_of(self.model)

    def tagger_of(self, dropout: float = 0.5, word_dropout: float = 0.25) -> Any:
        """Return the network as a module, with the first weights of rnncore's."""
        torch, nn = self.torch, self.torch.nn
        pack, Packed = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.PackedSequence
        ours, vocabularies = self.network(), self.vocabularies
        s, unknown = ours.settings, vocabularies.words.unknown

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.words = nn.Embedding(len(vocabularies.words), s["word_size"])
                self.characters = nn.Embedding(len(vocabularies.letters), s["character_size"])
                self.spelling = nn.LSTM(s["character_size"], s["spelling_size"], bidirectional=True)
                size = s["word_size"] + 2 * s["spelling_size"]
                self.context = nn.LSTM(size, s["hidden_size"], bidirectional=True)
                self.dropout = nn.Dropout(dropout)
                self.head = nn.Linear(2 * s["hidden_size"], len(vocabularies.tags))

            def spell(self, letters: Any, sizes: Any) -> Any:
                packed = pack(letters, sizes)
                x = Packed(self.characters(packed.data), packed.batch_sizes)
                _, (h, _) = self.spelling(x)
                return torch.cat([h[0], h[1]], 1)

            def forward(self, words: Any, lengths: Any, spelled: Any, places: Any) -> Any:
                if self.training:
                    drawn = torch.rand(words.shape) < word_dropout
                    words = words.masked_fill(drawn, unknown)
                packed = pack(words, lengths)
                places = pack(places, lengths).data
                known = self.words(packed.data), nn.functional.embedding(places, spelled)
                x = torch.cat(known, 1)
                y, _ = self.context(Packed(self.dropout(x), packed.batch_sizes))
                return self.head(self.dropout(y.data))

        model = Model()
        model.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("bias_hh" not in name)  # the engine has one bias, not two
        return model

    def optimizer_of(self, model: Any) -> Any:
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        settings = self.settings()
        groups = [
            {"params": [p for n, p in trained if ("bias" in n) == biases],
             "weight_decay": 0.0 if biases else settings.weight_decay}
            for biases in (False, True)
        ]  # fmt: skip
        return self.torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)

    def settings(self) -> TrainingSettings:
        return TrainingSettings(steps=1, **SETTINGS)

    def letters(self, letters: Array, sizes: Array) -> tuple[Any, Any, Array]:
        """Return characters and sizes, the longest words first, and where each word is then."""
        order = np.argsort(-sizes, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        tensor = self.torch.from_numpy
        return tensor(letters[:, order].astype(np.int64)), tensor(sizes[order]), rank

    def sentences(self, lengths: Array, *arrays: Array) -> tuple[Array, Any, list[Any]]:
        """Return the order of the longest first, lengths, and (T, B) arrays in it."""
        order, tensor = np.argsort(-lengths, kind="stable"), self.torch.from_numpy
        return order, tensor(lengths[order]), [tensor(a[:, order].astype(np.int64)) for a in arrays]

    def loss(self, model: Any, batch: tuple[Any, ...]) -> tuple[Any, Any]:
        words, lengths, letters, sizes, places, tags = batch
        letters, sizes, rank = self.letters(letters, sizes)
        _, lengths, arrays = self.sentences(lengths, words, rank[places], tags)
        words, places, tags = arrays
        logits = model(words, lengths, model.spell(letters, sizes), places)
        targets = self.torch.nn.utils.rnn.pack_padded_sequence(tags, lengths).data
        return logits, self.torch.nn.functional.cross_entropy(logits, targets)

    def update(self, model: Any, optimizer: Any, loss: Any) -> None:
        optimizer.zero_grad()
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(model.parameters(), self.settings().clip_norm)
        optimizer.step()

    def step(self) -> dict[str, Array]:
        model = self.tagger_of(**NO_DROPOUT)
        logits, loss = self.loss(model, self.source.batch(0))
        self.update(model, self.optimizer_of(model), loss)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        return {"logits": logits.detach().numpy(), "loss": loss.detach().numpy(),
                **{name: p.grad.numpy() for name, p in trained.items()},
                **{AFTER + name: p.detach().numpy() for name, p in trained.items()}}  # fmt: skip

    def train(self, steps: int) -> float:
        self.model.train()
        start = time.perf_counter()
        for _ in range(steps):
            _, loss = self.loss(self.model, self.source.batch(self.position))
            self.update(self.model, self.optimizer, loss)
            loss.item()
            self.position += 1
        return time.perf_counter() - start

    def tag(self) -> tuple[float, Words]:
        torch, model, names = self.torch, self.model.eval(), self.vocabularies.tags.words
        start = time.perf_counter()
        found: list[Any] = [None] * len(self.others)
        numbered = Sentences(self.others, self.vocabularies)
        batches = SequenceBatches(numbered.lengths, tokens_per_batch=STEPS_PER_BATCH, shuffle=False)
        with torch.inference_mode():
            for number in range(batches.per_epoch):
                indices = batches.indices(number)
                words, lengths, letters, sizes, places = numbered.batch(indices)
                letters, sizes, rank = self.letters(letters, sizes)
                order, lengths, [words, places] = self.sentences(lengths, words, rank[places])
                logits = model(words, lengths, model.spell(letters, sizes), places)
                packed = torch.nn.utils.rnn.pack_padded_sequence(words, lengths)
                best, _ = torch.nn.utils.rnn.pad_packed_sequence(
                    packed._replace(data=logits.argmax(1)), batch_first=True
                )
                for index, row, length in zip(
                    indices[order], best.tolist(), lengths.tolist(), strict=True
                ):
                    found[index] = [names[k] for k in row[:length]]
        return time.perf_counter() - start, found


SIDES = {side.name: side for side in (Rnncore, PyTorch)}


class Rounds:
    """What one side did in each round, words a second."""

    def __init__(self, name: str, threads: int) -> None:
        self.remote = Remote(threads, SIDES[name], TREEBANK)
        self.trained: list[float] = []
        self.tagged: list[float] = []

    def take(self, first: int, steps: int) -> None:
        """Train on some batches, the next ones, and tag."""
        words = self.remote.call("words_of", first, steps)
        self.trained.append(words / self.remote.call("train", steps))
        self.tagged.append(self.remote.call("count") / self.remote.call("tag")[0])


def assert_equal(ours: Remote, theirs: Remote) -> None:
    """Fail unless both compute the same step and the same tags."""
    expected, results = (side.call("step") for side in (ours, theirs))
    assert_same_step(expected, results)
    (_, expected), (_, results) = (side.call("tag") for side in (ours, theirs))
    pairs = [(a, b) for one, other in zip(expected, results, strict=True)
             for a, b in zip(one, other, strict=True)]  # fmt: skip
    assert np.mean([a == b for a, b in pairs]) > 0.999


def command_rates(threads: int, rounds: int) -> list[float]:
    """Return words a second of `rnncore tag`, from its start to the file that it has written."""
    with tempfile.TemporaryDirectory() as folder:
        side, model = Rnncore(TREEBANK), Path(folder, "model.safetensors")
        side.save(model)
        files = [str(TREEBANK / "dev.conllu"), "--output", str(Path(folder, "tagged.conllu"))]
        command = [sys.executable, "-m", "rnncore.cli", "tag", str(model), *files]
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run(command, check=True, env={**os.environ, **environment(threads)})
            seconds.append(time.perf_counter() - start)
        return [side.count() / one for one in seconds]


def measure(threads: list[int], rounds: int) -> Iterator[list[str]]:
    """Yield the lines of the table."""
    for count in threads:
        ours, theirs = sides = [Rounds(name, count) for name in SIDES]
        assert_equal(ours.remote, theirs.remote)
        for number in range(1 + rounds):  # the first one warms up
            for side in sides:
                side.take(number * STEPS, STEPS)
        for what, job in (("trained", "training"), ("tagged", "tagging")):
            a, b = (getattr(side, what)[1:] for side in sides)
            yield [job, str(count), rate(a), rate(b), ratio(a, b, AIM)]
        for side in sides:
            side.remote.close()
        whole = rate(command_rates(count, rounds))
        yield ["`rnncore tag`, from its start to the file", str(count), whole, "", ""]


def section(lines: list[list[str]], rounds: int) -> str:
    """Return what the page says."""
    head = ["words a second", "threads", "rnncore", "PyTorch", "rnncore / PyTorch"]
    return f"""The same tagger with the default settings on both sides, from the same weights, on the same batches of
{BATCH_SIZE} sentences; equal logits, losses, gradients, steps and tags are asserted first. PyTorch has packed
sequences, spells each distinct word of a batch once, and steps with its fused AdamW. A training step is
all of it, from the numbers of the words to the new weights and, in rnncore, their average. Tagging goes
from lists of words to lists of tags. Medians of {rounds} rounds, in which the sides take turns, and quartiles.

{table(head, lines)}"""  # noqa: E501


if __name__ == "__main__":
    run(__doc__, TREEBANK, PAGE, measure, section)
