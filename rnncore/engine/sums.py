"""Gradients of the parameters while a backward pass adds to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore.engine.direction import Direction, Parameters
from rnncore.engine.threads import team_size
from rnncore.engine.tokens import Tokens
from rnncore.engine.workspace import Workspace

if TYPE_CHECKING:
    from rnncore.engine.compiled import WeightsBack


#: What multiplies W_hh of the k-th direction in a pass, on x, into out; returns that.
Drops = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


class Sums:
    """What a backward pass, whole or in segments, adds to.

    The engine adds to the gradients of W_hx, W_hh and a single bias itself, or, unless `adds`,
    replaces them, which makes it true. What it sums apart, the gradients of own vectors, of a bias
    that stands for two, and of the table of tokens, `finish` adds to the others: once, so that
    segments give the sums of one pass. So with `drops`: W_hh had some numbers zeroed, and its
    gradient has them where the engine's is multiplied likewise. `grads` are those of all
    directions, where they are others than the directions' own.
    """

    def __init__(
        self,
        layers: list[list[Direction]],
        apart: list[tuple[int, int]],
        tokens: Tokens | None,
        workspace: Workspace,
        adds: bool,
        drops: Drops | None = None,
        grads: Sequence[Parameters] | None = None,
    ) -> None:
        self.layers, self.tokens, self.workspace, self.adds = layers, tokens, workspace, adds
        self.drops = drops
        if grads is None:
            grads = [direction.grads for directions in layers for direction in directions]
        places = [(number, d) for number, side in enumerate(layers) for d in range(len(side))]
        #: Of each direction of each layer: where the gradients of its parameters are.
        self.grads = dict(zip(places, grads, strict=True))
        #: For each direction of each layer: of its bias and of its own vectors, where apart.
        self.apart: dict[tuple[int, int], tuple[np.ndarray | None, np.ndarray | None]] = {}
        self.dtables: list[np.ndarray] = []
        for number, d in apart:
            direction, one = layers[number][d], self.grads[number, d]
            size = direction.hidden_size
            db = down = None
            if one.second_bias is not None:
                db = self._zeros(("db", number, d), direction.gates * size)
            if any(array is not None for array in one.own):
                down = self._zeros(("down", number, d), len(one.own) * size)
            self.apart[number, d] = db, down
        #: For each direction of each layer: of the W_hh that it ran with, where some were dropped.
        self.dW_hh: dict[tuple[int, int], np.ndarray] = {}
        if drops is not None:
            self._replaces = not adds
            for place, one in self.grads.items():
                self.dW_hh[place] = workspace.array(("dW_hh", *place), one.W_hh.shape)
                if adds:
                    self.dW_hh[place][...] = 0
        if tokens is not None:
            for d, direction in enumerate(layers[0]):
                size = len(tokens.used) * direction.layer.table_size
                self.dtables.append(self._zeros(("dtable", d), size))

    def _zeros(self, name: Any, size: int) -> np.ndarray:
        array = self.workspace.array(name, (size,))
        array[...] = 0
        return array

    def of(
        self, number: int, d: int
    ) -> tuple[np.ndarray, Any, np.ndarray | None, np.ndarray | None]:
        """Return where the engine sums the gradients of W_hx, W_hh, the bias and own vectors."""
        grads = self.grads[number, d]
        W_hh = self.dW_hh.get((number, d), grads.W_hh)
        db, down = self.apart.get((number, d), (None, None))
        return grads.W_hx, W_hh, grads.bias if db is None else db, down

    def finish(self) -> None:
        """Add what is not in the gradients yet, but for what comes of tables."""
        if self.drops is not None:
            for k, (place, dW_hh) in enumerate(self.dW_hh.items()):
                into = self.grads[place].W_hh
                if self._replaces:
                    self.drops(k, dW_hh, into)
                else:
                    into += self.drops(k, dW_hh, dW_hh)
        for (number, d), (db, down) in self.apart.items():
            direction, grads = self.layers[number][d], self.grads[number, d]
            if db is not None and grads.bias is not None and grads.second_bias is not None:
                np.add(grads.bias, db, out=grads.bias)
                for rows in direction.gates_of_own():
                    db[rows] = 0  # the own vectors are these rows of the second bias
                np.add(grads.second_bias, db, out=grads.second_bias)
            if down is not None:
                for array, sums in zip(grads.own, down.reshape(len(grads.own), -1), strict=True):
                    if array is not None:
                        array += sums

    def finish_tokens(
        self, dembedding: np.ndarray | None, packed_back: Sequence[WeightsBack]
    ) -> None:
        """Add what tables of tokens come to: to W_hx, and to `dembedding`, if that is wanted."""
        if self.tokens is not None:
            for d, dtable in enumerate(self.dtables):
                self._finish_table(self.tokens, d, dtable, dembedding, packed_back[d])

    def _finish_table(
        self, tokens: Tokens, d: int, dtable: np.ndarray, dembedding: np.ndarray | None,
        back: WeightsBack,
    ) -> None:  # fmt: skip
        direction, used, embedding = self.layers[0][d], tokens.used, tokens.embedding
        kernels, layer, dW_hx = direction.kernels, direction.layer, self.grads[0, d].W_hx
        if embedding is None:
            kernels.one_hot_gradient(layer, dtable, dW_hx, used, team_size())
            return
        array, (count, width) = self.workspace.array, embedding.shape
        sizes = layer.backward_sizes(count)
        dE = array(("dembedding", 0), (count, width))
        kernels.table_backward(
            layer, dtable, embedding, count, back, dE, dW_hx,
            array(("dz_columns", 0, d), (sizes["dz_columns"],)),
            array(("x_panels", 0, d), (sizes["x_panels"],)), team_size(),
        )  # fmt: skip
        if dembedding is not None:
            dembedding[used] += dE


def summed_apart(layers: list[list[Direction]]) -> list[tuple[int, int]]:
    """Return layer and direction of those whose gradients the engine does not write all itself."""
    return [
        (number, d)
        for number, directions in enumerate(layers)
        for d, direction in enumerate(directions)
        if direction.grads.second_bias is not None
        or any(array is not None for array in direction.grads.own)
    ]
