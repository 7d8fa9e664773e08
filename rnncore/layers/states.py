"""The states of a recurrent layer between its caller and the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.cut import CutBatch
from rnncore.engine.passes import States
from rnncore.layers.form import Form, check_state, leave_state
from rnncore.layers.noise import NoisyModule

State = Any
"""h, or (h, c), (h, c, ...) of cells with more states: arrays (num_layers * directions, B, H)."""


class StatefulModule(NoisyModule):
    """A recurrent layer with the states that it takes and gives."""

    def _check_state(self, name: str, state: State, size: int, form: Form) -> States:
        stack = self._stack
        return check_state(
            name, state, self.layer_name, stack.sizes, stack.cell.states, len(stack.layers[0]),
            size, form, self.dtype,
        )  # fmt: skip

    def _given_state(self, state: State, batch: Batch, form: Form) -> States | None:
        # None: it is learned.
        if state is None and self.learn_initial_state:
            return None
        return self._check_state("state", state, batch.whole.batch, form)

    def _initial_state(self, given: States | None, batch: Batch) -> States:
        cut = batch if isinstance(batch, CutBatch) else None
        if given is not None and cut is None:
            return given
        learned: Any = [[None] * len(self._names)] * len(self._stack.cell.states)
        if self.learn_initial_state:
            by_direction = [names.initial_states() for names in self._names]
            learned = [[self._params[name] for name in same]
                       for same in zip(*by_direction, strict=True)]  # fmt: skip
        if cut is None:
            return [[np.tile(array, (batch.batch, 1)) for array in arrays] for arrays in learned]
        # A piece begins as a sequence does of which no state is given, but where one is.
        if given is None:
            given = [[None] * len(self._names)] * len(learned)
        return [
            [
                cut.spread(array, direction.reverse, False, new)
                for array, new, direction in zip(*of_state, self._stack.directions(), strict=True)
            ]
            for of_state in zip(given, learned, strict=True)
        ]

    def _enter_gradient(self, dstate: State, batch: Batch, form: Form) -> States:
        # Of the final states.
        given = self._check_state("dstate", dstate, batch.whole.batch, form)
        if not isinstance(batch, CutBatch):
            return given
        directions = self._stack.directions()
        return [
            [batch.spread(a, d.reverse, True) for a, d in zip(arrays, directions, strict=True)]
            for arrays in given
        ]

    def _leave_state(
        self, states: States, form: Form, batch: Batch, at_end: bool = True
    ) -> State:
        if isinstance(batch, CutBatch):
            directions = self._stack.directions()
            states = [
                [batch.pick(a, d.reverse, at_end) for a, d in zip(arrays, directions, strict=True)]  # type: ignore[arg-type]
                for arrays in states
            ]
        cell, count = self._stack.cell, len(self._stack.layers[0])
        mixed = len(set(self._layer_sizes)) > 1
        return leave_state(states, cell.states, count, mixed, form)

    def _add_learned(self, dinitial: States, batch: Batch, given: bool) -> None:
        # The gradient of a learned initial state, which all share that no other was given for.
        for k, arrays in enumerate(dinitial):
            pairs = zip(self._names, self._stack.directions(), arrays, strict=True)
            for names, direction, array in pairs:
                if array is None:
                    continue
                if isinstance(batch, CutBatch) and given:
                    others, _ = batch.pieces(direction.reverse, False)
                    array = np.delete(array, others, axis=0)
                self._grads[names.initial_states()[k]] += array.sum(axis=0)
