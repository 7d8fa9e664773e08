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

    def _initial_state(self, state: State, batch: Batch, form: Form) -> States:
        size = batch.batch
        if isinstance(batch, CutBatch):
            return self._states_of_pieces(state, batch, form)
        if state is None and self.learn_initial_state:
            return [
                [np.tile(self._params[f"initial_{k}{names.end}"], (size, 1))
                 for names in self._names]
                for k in self._stack.cell.states
            ]  # fmt: skip
        return self._check_state("state", state, size, form)

    def _check_state(self, name: str, state: State, size: int, form: Form) -> States:
        return check_state(
            name, state, self.layer_name, self._stack.sizes, self._stack.cell.states,
            len(self._stack.layers[0]), size, form, self.dtype,
        )  # fmt: skip

    def _states_of_pieces(self, state: State, batch: CutBatch, form: Form) -> States:
        # A piece begins as a sequence does of which no state is given, but where one is.
        given = self._check_state("state", state, batch.whole.batch, form)
        new: Any = [[None] * len(self._names)] * len(given)
        if self.learn_initial_state:
            new = [
                [self._params[f"initial_{k}{names.end}"] for names in self._names]
                for k in self._stack.cell.states
            ]
        directions = self._stack.directions()
        return [
            [
                batch.spread(array, direction.reverse, False, begins)
                for array, begins, direction in zip(*of_state, directions, strict=True)
            ]
            for of_state in zip(given, new, strict=True)
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

    def _add_learned(self, dinitial: States, batch: Batch, default_state: bool) -> None:
        # The gradient of a learned initial state, which all share that no other was given for.
        for letter, arrays in zip(self._stack.cell.states, dinitial, strict=True):
            pairs = zip(self._names, self._stack.directions(), arrays, strict=True)
            for names, direction, array in pairs:
                assert array is not None
                if isinstance(batch, CutBatch) and not default_state:
                    given, _ = batch.pieces(direction.reverse, False)
                    array = np.delete(array, given, axis=0)
                self._grads[f"initial_{letter}{names.end}"] += array.sum(axis=0)
