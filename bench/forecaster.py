"""A training step of the forecaster's network over segments, beside the same in PyTorch.

    RNNCORE_NUM_THREADS=1 python bench/forecaster.py [HORIZON ...]

The network of examples/ett.py: forward, backward, clipping and AdamW on 512 windows of 96 values.
Both start from the same weights; losses and gradients are held equal, then they are timed in turn.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

import rnncore
from rnncore.data.series import Series
from rnncore.estimators.forecaster_source import known_of, source_of, windows_in
from rnncore.models.forecaster_network import ForecasterNetwork, ForecasterSettings
from rnncore.training import clip_grad_norm

ROUNDS = 12


class Peer(torch.nn.Module):
    """The same network."""

    def __init__(self, network: ForecasterNetwork) -> None:
        super().__init__()
        s, self.form = network.forecaster_settings, network.form
        self.reader = torch.nn.Linear(s.segment, s.hidden_size)
        self.rnn = torch.nn.GRU(s.hidden_size, s.hidden_size)
        self.places = torch.nn.Embedding(self.form.written, s.hidden_size)
        self.vectors = torch.nn.Embedding(len(network.known.names), s.hidden_size)
        self.head = torch.nn.Linear(s.hidden_size, s.segment)
        tensors = network.state_dict()
        self.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})

    def loss(self, segments: Any, series: Any, targets: Any) -> Any:
        n, count = self.form.written, segments.shape[1]
        _, h = self.rnn(torch.relu(self.reader(segments)))
        places = torch.arange(n).repeat_interleave(count)
        x = self.places(places) + self.vectors(series.repeat(n))
        y, _ = self.rnn(x[None], h.repeat(1, n, 1))
        out = self.head(y).reshape(n, count, -1).transpose(0, 1).reshape(count, -1)
        return (out[:, : self.form.horizon] - targets).abs().mean() / 2


def step(network: ForecasterNetwork, batch: Any, optimizer: Any) -> None:
    """Train on a batch."""
    network.forward(*batch, None)
    network.backward(accumulate=False)
    clip_grad_norm(network, 1.0)
    optimizer.step()


def peer_step(peer: Peer, batch: Any, optimizer: Any) -> None:
    """Train the other one."""
    optimizer.zero_grad()
    peer.loss(*batch).backward()
    torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
    optimizer.step()


def main(horizons: list[int]) -> None:
    torch.set_num_threads(rnncore.get_num_threads())
    rng = np.random.default_rng(0)
    series = [Series(name, rng.standard_normal(2000).cumsum()) for name in "abcdefg"]
    print(f"{rnncore.get_num_threads()} threads, median of {ROUNDS}, in turn")
    for horizon in horizons:
        s = ForecasterSettings(look_back=96, horizon=horizon, segment=48, hidden_size=256,
                               highway="none", series_vectors="each", interval=0)  # fmt: skip
        network = ForecasterNetwork(known_of(series, s), s, seed=0)
        with network.changing_weights() as flat:
            flat += 0.01 * rng.standard_normal(flat.shape)  # the head as well
        windows = windows_in(source_of(network, series, 0.0))
        whole = np.flatnonzero(windows.places[:, 1] <= 2000 - horizon)
        batch = windows.batch(rng.choice(whole, 512, replace=False))
        peer, (segments, _, _, _, numbers, targets) = Peer(network), batch
        given = torch.tensor(segments), torch.tensor(numbers), torch.tensor(targets)
        steps = {
            "rnncore": partial(step, network, batch, rnncore.AdamW(network, 1e-3)),
            "PyTorch": partial(peer_step, peer, given, torch.optim.AdamW(peer.parameters(), 1e-3)),
        }
        loss, _ = network.forward(*batch, None)
        network.backward(accumulate=False)
        same = peer.loss(*given)
        same.backward()
        np.testing.assert_allclose(loss, same.item(), rtol=1e-5)
        for name, parameter in peer.named_parameters():
            if "bias_hh" not in name:  # two vectors there, which the engine has as one
                there = parameter.grad.numpy()
                here = network.grads.get(name, network.grads.get(name.replace("bias_ih", "bias")))
                if here is not None:
                    np.testing.assert_allclose(here, there, atol=1e-4 * np.abs(there).max())
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, one in steps.items():
                begin = time.perf_counter()
                one()
                times[name].append(time.perf_counter() - begin)
        a, b = (median(some) for some in times.values())
        print(f"horizon {horizon}: {1e3 * a:.1f} ms, PyTorch {1e3 * b:.1f} ms: {b / a:.2f} times")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [96, 720])
