"""The language model beside the same one in PyTorch: characters a second, of training and writing.

    python -m pip install -r bench/requirements-peers.txt
    python bench/language.py --write

The text is Shakespeare's, in the folder that the tests take: that of the variable RNNCORE_DATA, or
shared/data beside the repository. Both sides start from the same weights, read the same batches,
carry the state, clip and step alike. First a training step has to give the same loss, gradients
and weights, and a stream the same logits; in bfloat16 the same loss and logits but for its
rounding. Then the sides take turns, each in a process of its own for each number of threads. A
training step is all of it, from the numbers of the characters to the new weights; writing is one
text, character after character, with its drawing. A ratio is the median over the rounds, beside its
quartiles; that of bfloat16 is to the faster of PyTorch's two. `--write` puts the table into
docs/language.md. Nine minutes on two processors that have nothing else to do.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from beside_torch import AFTER, assert_same_step, rate, ratio, run
from busy import table
from remote import Remote
from workloads import Array

from rnncore.data import TextSource, Vocabulary, read_text
from rnncore.models import LanguageNetwork
from rnncore.training import Trainer, TrainingSettings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "language.md"
DATA = Path(os.environ.get("RNNCORE_DATA", ROOT.parent / "shared" / "data"))
TEXT = DATA / "text" / "tinyshakespeare.txt"
TEMPERATURE = 0.8
SETTINGS: dict[str, Any] = {"schedule": "constant", "validations": 1}


class Case(NamedTuple):
    """A model, its batches, and how much of it a round does."""

    num_layers: int
    hidden_size: int
    embedding_size: int | None
    batch_size: int
    sequence_length: int
    steps: int
    length: int

    @property
    def name(self) -> str:
        read = f"embedding {self.embedding_size}" if self.embedding_size else "one-hot"
        return f"{self.num_layers} x {self.hidden_size}, {read}"


CASES = [
    Case(2, 256, None, 32, 64, 8, 1500),
    Case(2, 256, 64, 64, 128, 3, 1500),
    Case(3, 512, None, 64, 128, 1, 200),
    Case(3, 512, 64, 32, 64, 3, 200),
]
AIMS = {"training": 1.5, "writing": 5.0}
ROUNDING = 0.02  # of bfloat16, of the logits' norm and of the loss


class Rnncore:
    """The model as its users call it."""

    name = "rnncore"

    def __init__(self, case: Case, precision: str) -> None:
        self.case, self.precision, text = case, precision, read_text(TEXT)
        self.vocabulary = Vocabulary(text)
        self.source = TextSource(
            self.vocabulary.encode(text), batch_size=case.batch_size,
            sequence_length=case.sequence_length, validation_fraction=0,
        )  # fmt: skip
        self.begin()

    def network(self) -> LanguageNetwork:
        case = self.case
        return LanguageNetwork(
            self.vocabulary, hidden_size=case.hidden_size, num_layers=case.num_layers,
            embedding_size=case.embedding_size, precision=self.precision, seed=0,
        )  # fmt: skip

    def begin(self) -> None:
        """Make what is trained."""
        self.trainer = self.trainer_of()

    def trainer_of(self) -> Trainer:
        return Trainer(self.network(), self.source, TrainingSettings(steps=1, **SETTINGS))

    def step(self) -> dict[str, Array]:
        """Return what one training step computes, and the logits of a stream before it."""
        trainer = self.trainer_of()
        network: Any = trainer.model
        logits = self.logits(network, self.source.batch(0)[0][:, 0].tolist())
        trainer.run()
        return {"logits": logits, "loss": np.array(trainer.loss), **network.grads,
                **{AFTER + name: array for name, array in network.params.items()}}  # fmt: skip

    def logits(self, model: Any, tokens: list[int]) -> Array:
        stream = model.stream()
        return np.array([stream.step(token) for token in tokens])

    def train(self, steps: int) -> float:
        """Train on the next batches; return seconds."""
        trainer = self.trainer
        trainer.settings = dataclasses.replace(trainer.settings, steps=trainer.step + steps)
        start = time.perf_counter()
        trainer.run()
        return time.perf_counter() - start

    def write(self, length: int) -> float:
        """Write a text; return seconds."""
        network: Any = self.trainer.model
        start = time.perf_counter()
        assert len(network.sample(length, TEMPERATURE, seed=0)) == length
        return time.perf_counter() - start


class PyTorch(Rnncore):
    """The same in PyTorch, whose first weights and batches are rnncore's.

    A text is written with the gates spelled out: of a call of nn.LSTM, of LSTMCell, of TorchScript
    frozen for inference, and of matrix-vector products over joined weights, the last is fastest by
    far, and the input's product is looked up.
    """

    name = "PyTorch"

    def begin(self) -> None:
        import torch

        self.torch = torch
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.model, self.position, self.state = self.model_of(), 0, None
        self.optimizer = self.optimizer_of(self.model)

    def model_of(self) -> Any:
        torch, nn, case, ours = self.torch, self.torch.nn, self.case, self.network()
        size = len(self.vocabulary)

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                if case.embedding_size:
                    self.embedding = nn.Embedding(size, case.embedding_size)
                width = case.embedding_size or size
                self.rnn = nn.LSTM(width, case.hidden_size, case.num_layers)
                self.head = nn.Linear(case.hidden_size, size)

            def forward(self, tokens: Any, state: Any) -> tuple[Any, Any]:
                if case.embedding_size:
                    x = self.embedding(tokens)
                else:
                    x = nn.functional.one_hot(tokens, size).float()
                y, state = self.rnn(x, state)
                return self.head(y), state

        model = Model()
        model.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("bias_hh" not in name)  # the engine has one bias, not two
        return model

    def optimizer_of(self, model: Any) -> Any:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        lr = TrainingSettings(steps=1, **SETTINGS).learning_rate
        return self.torch.optim.Adam(trained, lr=lr, fused=True)

    def update(self, model: Any, optimizer: Any, position: int, state: Any) -> tuple[Any, Any]:
        torch = self.torch
        inputs, targets = (
            torch.from_numpy(array.astype(np.int64)) for array in self.source.batch(position)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits, state = model(inputs, state if self.source.continues(position) else None)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        clip = TrainingSettings(steps=1, **SETTINGS).clip_norm
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss.item(), tuple(part.detach() for part in state)

    def step(self) -> dict[str, Array]:
        model = self.model_of()
        logits = self.logits(model, self.source.batch(0)[0][:, 0].tolist())
        loss, _ = self.update(model, self.optimizer_of(model), 0, None)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        return {"logits": logits, "loss": np.array(loss),
                **{name: p.grad.numpy() for name, p in trained.items()},
                **{AFTER + name: p.detach().numpy() for name, p in trained.items()}}  # fmt: skip

    def train(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            _, self.state = self.update(self.model, self.optimizer, self.position, self.state)
            self.position += 1
        return time.perf_counter() - start

    def stepper(self, model: Any) -> Any:
        """Return a function from a character to the logits of the next, which has a state."""
        torch, size, layers = self.torch, self.case.hidden_size, range(self.case.num_layers)
        kind = getattr(torch, self.precision)
        named = {n: p.detach().to(kind) for n, p in model.named_parameters()}
        ih, hh = ([named[f"rnn.weight_{kind}_l{k}"] for k in layers] for kind in ("ih", "hh"))
        bias = [named[f"rnn.bias_ih_l{k}"] + named[f"rnn.bias_hh_l{k}"] for k in layers]
        vectors = named.get("embedding.weight", torch.eye(len(self.vocabulary), dtype=kind))
        projected = list(vectors @ ih[0].T + bias[0])
        joined = [torch.cat([ih[k], hh[k]], 1) for k in layers if k]
        h, c = ([torch.zeros(size, dtype=kind) for _ in layers] for _ in range(2))

        def step(token: int) -> Any:
            for k in layers:
                if k:
                    z = torch.addmv(bias[k], joined[k - 1], torch.cat([h[k - 1], h[k]]))
                else:
                    z = torch.addmv(projected[token], hh[0], h[0])
                i, f, _, o = torch.sigmoid(z).split(size)
                c[k] = torch.addcmul(f * c[k], i, torch.tanh(z[2 * size : 3 * size]))
                h[k] = o * torch.tanh(c[k])
            return torch.addmv(named["head.bias"], named["head.weight"], h[-1])

        return step

    def logits(self, model: Any, tokens: list[int]) -> Array:
        with self.torch.inference_mode():
            step = self.stepper(model)
            return np.array([step(token).float().numpy() for token in tokens])

    def write(self, length: int) -> float:
        torch = self.torch
        start = time.perf_counter()
        with torch.inference_mode():
            step, written = self.stepper(self.model), []
            token = int(self.vocabulary.encode("\n")[0])
            for _ in range(length):
                p = torch.softmax(step(token) / TEMPERATURE, -1)
                token = int(torch.multinomial(p, 1))
                written.append(token)
            assert len(self.vocabulary.decode(written)) == length
        return time.perf_counter() - start


SIDES = {side.name: side for side in (Rnncore, PyTorch)}
PRECISIONS = ("float32", "bfloat16")


class Rounds:
    """What one side did in each round, characters a second."""

    def __init__(self, name: str, threads: int, case: Case, precision: str) -> None:
        self.remote, self.case = Remote(threads, SIDES[name], case, precision), case
        self.rates: dict[str, list[float]] = {job: [] for job in AIMS}

    def take(self) -> None:
        """Train on the next batches, and write."""
        case = self.case
        read = case.steps * case.batch_size * case.sequence_length
        self.rates["training"].append(read / self.remote.call("train", case.steps))
        self.rates["writing"].append(case.length / self.remote.call("write", case.length))


def assert_equal(sides: dict[tuple[str, str], Rounds]) -> None:
    """Fail unless all compute the same step and the same logits."""
    steps = {side: rounds.remote.call("step") for side, rounds in sides.items()}
    expected = steps["rnncore", "float32"]
    assert_same_step(expected, steps["PyTorch", "float32"])
    for name in SIDES:
        for what in ("loss", "logits"):
            a, b = expected[what], steps[name, "bfloat16"][what]
            assert np.linalg.norm(a - b) <= ROUNDING * np.linalg.norm(a), (name, what)


def measure(threads: list[int], rounds: int) -> Iterator[list[str]]:
    """Yield the lines of the table."""
    for case in CASES:
        for count in threads:
            sides = {(name, precision): Rounds(name, count, case, precision)
                     for precision in PRECISIONS for name in SIDES}  # fmt: skip
            assert_equal(sides)
            for _ in range(1 + rounds):  # the first one warms up
                for side in sides.values():
                    side.take()
            for job in AIMS:
                yield from lines_of(case, count, job, sides)
            for side in sides.values():
                side.remote.close()


def lines_of(
    case: Case, threads: int, job: str, sides: dict[tuple[str, str], Rounds]
) -> Iterator[list[str]]:
    """Yield a line for each precision."""
    size = f", B {case.batch_size}, T {case.sequence_length}" * (job == "training")
    rates = {side: rounds.rates[job][1:] for side, rounds in sides.items()}
    for precision in PRECISIONS:
        ours, theirs = (rates[name, precision] for name in SIDES)
        best = max(theirs, rates["PyTorch", "float32"], key=np.median)
        yield [f"{job}: {case.name}{size}", precision, str(threads), rate(ours), rate(theirs),
               ratio(ours, best, AIMS[job])]  # fmt: skip


def section(lines: list[list[str]], rounds: int) -> str:
    """Return what the page says."""
    head = ["characters a second", "precision", "threads", "rnncore", "PyTorch", "ratio"]
    return f"""The same LSTMs over the 65 characters of Shakespeare, from the same weights, on the same batches; equal
logits, losses, gradients and steps are asserted first. A training step is all of it, from the numbers of
the characters to the new weights, in PyTorch with its fused Adam. Writing is one text, character after
character, each drawn at temperature {TEMPERATURE}; PyTorch writes under inference_mode, with gates spelled out over
matrix-vector products, the fastest of five forms. In bfloat16 its training is autocast's, and it writes with
weights and states of 16 bits; the ratio is to the faster of its two. Medians of {rounds} rounds, in which the sides
take turns, and quartiles.

{table(head, lines)}"""  # noqa: E501


if __name__ == "__main__":
    run(__doc__, TEXT, PAGE, measure, section)
