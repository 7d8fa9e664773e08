"""What `rnncore demo` trains, beside the same model in PyTorch: held-out bits after the same time.

    python -m pip install -r bench/requirements-peers.txt
    python bench/demo.py --output demo.json

Both start from the same weights, read the same text in the same order, carry the same state and
follow the same schedule. First one step of each has to give the same loss and the same weights.
Then each trains alone, in a process of its own, and the engine evaluates the weights of both.
Nothing else may run meanwhile: threads that wait for each other lose most of their time to it.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sysconfig
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from remote import Remote
from workloads import Array

from rnncore.data import TextSource, Vocabulary, read_text
from rnncore.models import LanguageNetwork
from rnncore.training import Trainer, TrainingSettings
from rnncore.training.settings import SCHEDULES

HIDDEN_SIZE, NUM_LAYERS = 128, 2
#: As in `rnncore demo`; but it validates at the end alone, which costs no time of training.
SETTINGS: dict[str, Any] = {"learning_rate": 8e-3, "validations": 1}


class Outcome(NamedTuple):
    bits: float  # per character, held out
    steps: int
    seconds: float  # of training
    loss: float  # of the last step, nats per character
    weights: dict[str, Array]


class Rnncore:
    """The training of the demo; the budget is in steps or seconds."""

    name = "rnncore"

    def __init__(self, budget: dict[str, Any]) -> None:
        pattern = os.path.join(glob.escape(sysconfig.get_path("stdlib")), "[!_]*.py")
        text = read_text(pattern)
        self.model = LanguageNetwork(Vocabulary(text), HIDDEN_SIZE, NUM_LAYERS, seed=0)
        self.tokens = self.model.vocabulary.encode(text)
        self.settings = TrainingSettings(**SETTINGS, **budget)
        self.source = TextSource(self.tokens, batch_size=32)
        self.trainer = Trainer(self.model, self.source, self.settings)

    def train(self) -> Outcome:
        self.trainer.run()
        return self.outcome(self.trainer.step, self.trainer.seconds, self.trainer.loss)

    def outcome(self, steps: int, seconds: float, loss: float) -> Outcome:
        assert self.source.held_out is not None
        [bits] = self.trainer.evaluate(self.source.held_out)
        return Outcome(bits, steps, seconds, loss, self.model.state_dict())


class PyTorch(Rnncore):
    """The same in PyTorch; rnncore gives the first weights and evaluates the last."""

    name = "PyTorch"

    def train(self) -> Outcome:
        import torch

        nn, settings, vocabulary = torch.nn, self.settings, len(self.model.vocabulary)
        # nn.LSTM reads no tokens; of one_hot, rows of the unit matrix and scatter none is faster.
        model = nn.ModuleDict(
            {
                "rnn": nn.LSTM(vocabulary, HIDDEN_SIZE, NUM_LAYERS),
                "head": nn.Linear(HIDDEN_SIZE, vocabulary),
            }
        )
        weights = {name: torch.from_numpy(a) for name, a in self.model.state_dict().items()}
        model.load_state_dict(weights)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("bias_hh" not in name)  # the engine has one bias, not two
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, fused=True)
        schedule = SCHEDULES[settings.schedule](settings)
        source, position = self.source, 0

        steps, seconds = 0, 0.0
        state: Any = None
        loss: Any = None
        while True:
            epochs = position / source.per_epoch
            fraction = settings.fraction_used(epochs, steps, seconds)
            if fraction >= 1.0:
                break
            start = time.perf_counter()
            optimizer.param_groups[0]["lr"] = settings.learning_rate * schedule(epochs, fraction)
            inputs, targets = (torch.from_numpy(a.astype(np.int64)) for a in source.batch(position))
            x = nn.functional.one_hot(inputs, vocabulary).float()
            y, state = model["rnn"](x, state if source.continues(position) else None)
            position += 1
            state = tuple(part.detach() for part in state)
            logits = model["head"](y).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, settings.clip_norm)
            optimizer.step()
            steps += 1
            seconds += time.perf_counter() - start
        self.model.load_state_dict({n: a.numpy() for n, a in model.state_dict().items()})
        return self.outcome(steps, seconds, loss.item())


SIDES = (Rnncore, PyTorch)


def train(side: type[Rnncore], threads: int, **budget: float) -> Outcome:
    """Train in a process of its own."""
    remote = Remote(threads, side, budget)
    try:
        return remote.call("train")
    finally:
        remote.close()


def compare_steps(threads: int) -> None:
    """Fail unless one step of each gives the same loss and the same weights."""
    ours, theirs = (train(side, threads, steps=1) for side in SIDES)
    assert abs(theirs.loss - ours.loss) <= 1e-6 * ours.loss, (ours.loss, theirs.loss)
    for name, weights in ours.weights.items():
        difference = np.abs(theirs.weights[name] - weights)
        # Adam's first step is lr g / (|g| + 1e-8): the few gradients that are hardly more than
        # rounding differ by shares of lr, all others by the rounding of the weights.
        assert np.quantile(difference, 0.999) <= 1e-6, name
        assert difference.max() <= 0.01 * SETTINGS["learning_rate"], name


def run(threads: int, seconds: float) -> dict[str, Any]:
    """Train both, one after the other."""
    compare_steps(threads)
    results: dict[str, Any] = {"threads": threads, "budget": seconds}
    for side in SIDES:
        outcome = train(side, threads, seconds=seconds)
        results[side.name] = {"bits": outcome.bits, "steps": outcome.steps}
        print(
            f"{side.name}: {outcome.bits:.3f} bits per character on held-out text after "
            f"{outcome.seconds:.0f} s of training, {outcome.steps} steps",
            flush=True,
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of training, each")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--output", type=Path, default=Path("demo.json"))
    options = parser.parse_args()
    options.output.write_text(json.dumps(run(options.threads, options.seconds), indent=1))


if __name__ == "__main__":
    main()
