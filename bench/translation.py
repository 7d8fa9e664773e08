"""A translator beside the same one in PyTorch: `python bench/translation.py PAIRS MODEL...`.

PAIRS is a file with two texts in a line, MODEL a file of a translator that was trained on such
pairs: an LSTM of one layer, the first text read from both ends. Both sides have its weights and the
same batches, and their losses and translations are compared first; then they take turns. What is
printed are medians over the rounds: of the times of both, and of their ratio in one round. With
`--processor-time` these are times of the process, for a machine that others use as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnncore
import rnncore.models
from rnncore.data.pairs import PairSource, read_pairs
from rnncore.models.translation import MOST
from rnncore.models.translator_network import TranslatorNetwork

CLIP_NORM = 1.0


class TorchTranslator(nn.Module):
    """The network of `rnncore.models.translator_network`, LSTM, one layer, two directions."""

    def __init__(self, network: TranslatorNetwork) -> None:
        super().__init__()
        s, pieces = network.settings, network.pieces
        size, vector, self.end = s["hidden_size"], s["embedding_size"], pieces.end
        self.source = nn.Embedding(len(pieces.source), vector)
        self.target = nn.Embedding(self.end + 1, vector)
        self.encoder = nn.LSTM(vector, size // 2, bidirectional=True)
        self.decoder = nn.LSTM(vector, size)
        self.attends = s["attention"] == "luong"
        if self.attends:
            self.keys, self.combine = nn.Linear(size, size, bias=False), nn.Linear(2 * size, size)
        self.head, self.dropout = nn.Linear(size, self.end + 1), nn.Dropout(s["dropout"])
        self.unknown = pieces.target.vocabulary.unknown
        state = {name.replace("attention.keys", "keys"): torch.from_numpy(array)
                 for name, array in network.state_dict().items()}  # fmt: skip
        self.load_state_dict(state)

    def read(self, source: Any, lengths: Any) -> tuple[Any, Any, Any]:
        x = pack_padded_sequence(self.dropout(self.source(source)), lengths, enforce_sorted=False)
        memory, state = self.encoder(x)
        memory = pad_packed_sequence(memory)[0].transpose(0, 1)  # (B, S, H)
        outside = torch.arange(memory.shape[1]) >= lengths[:, None]
        state = tuple(part.transpose(0, 1).reshape(1, len(lengths), -1) for part in state)
        keys = self.keys(memory).transpose(1, 2) if self.attends else None
        return state, (memory, keys), outside

    def write(self, y: Any, memory: Any, outside: Any) -> Any:
        if self.attends:  # y (B, T, H)
            scores = torch.bmm(y, memory[1]).masked_fill(outside[:, None], -torch.inf)
            found = torch.bmm(scores.softmax(2), memory[0])
            y = torch.tanh(self.combine(torch.cat([found, y], 2)))
        return self.head(self.dropout(y))

    def loss(self, source: Any, lengths: Any, target: Any, target_lengths: Any) -> Any:
        state, memory, outside = self.read(source, lengths)
        before = torch.full_like(target, self.end)
        before[1:] = target[:-1]
        y, _ = self.decoder(self.dropout(self.target(before)), state)
        logits = self.write(y.transpose(0, 1), memory, outside)
        beyond = torch.arange(len(target))[:, None] >= target_lengths
        wanted = target.masked_fill(beyond, -100).T
        return nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())

    @torch.inference_mode()
    def translate(self, source: Any, lengths: Any, size: int) -> list[list[int]]:
        """Beam search as in `rnncore.models.translation`, length penalty 1; greedy where size 1."""
        state, memory, outside = self.read(source, lengths)
        count, end = len(lengths), self.end
        most = (MOST[0] * lengths + MOST[1]).long()
        running, found = torch.arange(count), [[]] * count
        tokens = torch.full((count, 1), end)
        scores, sizes = torch.zeros(count, 1), torch.zeros(count, 1)
        ended, written = torch.zeros(count, 1, dtype=torch.bool), torch.zeros(count, 1, 0).long()
        for step in range(int(most.max())):
            texts, beams = tokens.shape
            y, state = self.decoder(self.target(tokens.reshape(1, -1)), state)
            logits = self.write(y.reshape(texts, beams, -1), memory, outside)
            if size > 1:
                logits = logits.log_softmax(2)
            logits[:, :, self.unknown] = -torch.inf
            logs, pieces = logits.topk(size, 2) if size > 1 else logits.max(2, keepdim=True)
            last = most <= step + 1
            if size > 1 and last.any():
                pieces[last, :, 0] = end
                logs[last, :, 1:] = -torch.inf
            pieces[ended] = end
            logs[ended] = torch.where(torch.arange(size) == 0, 0.0, -torch.inf)
            totals = scores[:, :, None] + (logs if size > 1 else 0)
            after = sizes + ~ended
            values = (totals / after[:, :, None]).reshape(texts, -1)
            chosen = values.topk(size, 1)[1] if size > 1 else torch.zeros(texts, 1).long()
            beam = chosen // size
            tokens = pieces.reshape(texts, -1).gather(1, chosen)
            scores, sizes = totals.reshape(texts, -1).gather(1, chosen), after.gather(1, beam)
            chosen_before = written.gather(1, beam[:, :, None].expand(-1, -1, step))
            written = torch.cat([chosen_before, tokens[:, :, None]], 2)
            ended = tokens == end
            over = ended.all(1) | (last if size == 1 else False)
            for place in torch.nonzero(over)[:, 0].tolist():
                length = int(sizes[place, 0]) - int(ended[place, 0])
                found[running[place]] = written[place, 0, :length].tolist()
            kept = torch.nonzero(~over)[:, 0]
            if not len(kept):
                break
            rows = (kept[:, None] * beams + beam[kept]).reshape(-1)
            state = tuple(part[:, rows] for part in state)
            running, tokens, scores = running[kept], tokens[kept], scores[kept]
            sizes, ended, written = sizes[kept], ended[kept], written[kept]
            memory = tuple(part if part is None else part[kept] for part in memory)
            outside, most = outside[kept], most[kept]
        return found


def turns(
    sides: list[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Return medians of the times of two sides that take turns, and of their ratio."""
    times: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for side, kept in zip(sides, times, strict=True):
            begin = clock()
            side()
            if number:
                kept.append(clock() - begin)
    ratios = [other / own for own, other in zip(*times, strict=True)]
    return median(times[0]), median(times[1]), median(ratios)


def main(
    path: Path, models: list[Path], threads: int, rounds: int, clock: Callable[[], float]
) -> None:
    """Compare, time, print a table."""
    rnncore.set_num_threads(threads)
    torch.set_num_threads(threads)
    pairs = read_pairs(path)
    print("| | rnncore, ms | PyTorch, ms | PyTorch / rnncore |\n|---|---:|---:|---:|")
    for file in models:
        network = rnncore.models.load(file)
        name = f"{network.settings['target']}, attention {network.settings['attention']}"
        other = TorchTranslator(network)
        source = PairSource(pairs, network.pieces, batch_size=64)
        batches = [source.batch(number) for number in range(20)]
        tensors = [[torch.from_numpy(a).long() for a in batch] for batch in batches]
        other.eval()
        for batch, given in zip(batches[:3], tensors, strict=False):
            [(total, count), _], _ = network.measure(*batch, None)
            assert abs(total / count - other.loss(*given).item()) < 1e-4
        for size in (1, 5):
            same = 0
            for batch, given in zip(batches[:5], tensors, strict=False):
                ours = network.translate(batch[0], batch[1], size)
                theirs = other.translate(given[0], given[1], size)
                same += sum(a.tolist() == b for a, b in zip(ours, theirs, strict=True))
            assert same >= 0.98 * sum(len(b[1]) for b in batches[:5]), same  # ties by round-off

        def translate_ours(size: int, network: Any = network, batches: Any = batches) -> None:
            for batch in batches[:5]:
                network.translate(batch[0], batch[1], size)

        def translate_theirs(size: int, other: Any = other, tensors: Any = tensors) -> None:
            for given in tensors[:5]:
                other.translate(given[0], given[1], size)

        for search, size in (("greedy", 1), ("beam of 5", 5)):
            sides = [lambda s=size: translate_ours(s), lambda s=size: translate_theirs(s)]
            found = turns(sides, rounds, clock)
            print(f"| {name}: {search}, 320 texts | {1e3 * found[0]:.0f} "
                  f"| {1e3 * found[1]:.0f} | {found[2]:.2f} |", flush=True)  # fmt: skip
        other.train()
        own_optimizer = rnncore.AdamW(network, lr=1e-4)
        optimizer = torch.optim.AdamW(other.parameters(), lr=1e-4, fused=True)

        def train_ours(network: Any = network, optimizer: Any = own_optimizer,
                       batches: Any = batches) -> None:  # fmt: skip
            for batch in batches:
                network.forward(*batch, None)
                network.backward(accumulate=False)
                rnncore.clip_grad_norm(network, CLIP_NORM)
                optimizer.step()

        def train_theirs(other: Any = other, optimizer: Any = optimizer,
                         tensors: Any = tensors) -> None:  # fmt: skip
            for given in tensors:
                optimizer.zero_grad()
                other.loss(*given).backward()
                nn.utils.clip_grad_norm_(other.parameters(), CLIP_NORM)
                optimizer.step()

        found = turns([train_ours, train_theirs], rounds, clock)
        print(f"| {name}: 20 training steps of 64 pairs | {1e3 * found[0]:.0f} "
              f"| {1e3 * found[1]:.0f} | {found[2]:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processor-time", action="store_true")
    given = parser.parse_args()
    watch = time.process_time if given.processor_time else time.perf_counter
    np.seterr(all="raise", under="ignore")
    main(given.pairs, given.models, given.threads, given.rounds, watch)
