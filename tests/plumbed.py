"""A tagger's training step with every pass handed on by hand: what the tape does, without one."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.data.tagged import TaggedSource, TaggerVocabularies
from rnncore.engine.rows import Rows
from rnncore.functions.shapes import add_rows
from rnncore.losses import cross_entropy
from rnncore.models.tagger_network import TaggerNetwork


def tagger(seed: int = 0, **settings: Any) -> tuple[TaggerNetwork, tuple[Any, ...]]:
    """Return a network, and a batch of 32 made-up sentences, about as long as English ones."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(1, 12))) for _ in range(2000)])
    sentences = [list(words[rng.zipf(1.3, n) % len(words)]) for n in rng.integers(12, 23, 32)]
    tags = [[word[0] for word in words] for words in sentences]
    vocabularies = TaggerVocabularies.of(sentences, tags)
    network = TaggerNetwork(vocabularies, seed=seed, **settings)
    return network, TaggedSource(sentences, tags, vocabularies).batch(0)


def training_step(network: TaggerNetwork, *batch: Any) -> float:
    """Put the gradients of a `TaggerNetwork` with LSTMs into its `grads`; return the loss."""
    words, lengths, letters, sizes, spelled, tags = batch
    drawn = network.generator.random(words.shape) < network.settings["word_dropout"]
    words = np.where(drawn, network.vocabularies.words.unknown, words)
    E, C, spelling, context = network.words, network.characters, network.spelling, network.context
    dropout, head = network.dropout, network.head

    vectors, looked_up = E.forward(words, lengths, keep=True)
    _, (h, c), read = spelling.forward(letters, lengths=sizes, embedding=C, rows=True, keep=True)
    table, places = np.concatenate([h[0], h[1]], -1), vectors.batch.tokens(spelled)
    x = np.concatenate([vectors.array(), table[places]], -1)
    x, first = dropout.forward(Rows.of(x, batch=vectors.batch), keep=True)
    y, _, heard = context.forward(x, rows=True, keep=True)
    y, second = dropout.forward(y, keep=True)
    logits, judged = head.forward(y, keep=True)
    loss = cross_entropy(logits, tags, ignore_index=-1)

    dy = head.backward(loss.gradient, accumulate=False, kept=judged)
    dy = dropout.backward(dy, kept=second)
    dx, _ = context.backward(dy, accumulate=False, kept=heard)
    dx = dropout.backward(dx, kept=first).array()
    dvectors, dspelled = np.split(dx, [E.embedding_dim], 1)
    dtable = np.zeros_like(table)
    add_rows(dtable, places, dspelled)
    dh = np.stack(np.split(dtable, 2, 1))
    C.zero_grad()  # what reads an embedding always adds to its gradient
    spelling.backward(None, (dh, np.zeros_like(c)), accumulate=False, kept=read)
    E.backward(dvectors, accumulate=False, kept=looked_up)
    return loss.mean
