"""What a recurrent layer is made of: sizes, and parameters under its own and PyTorch's names.

The lecture has one bias, b_h, and so has a layer, under the name `bias_ih`; vectors of a cell's
own, such as the GRU's `bias_hn`, stand beside it. PyTorch has two biases whose sum is b_h. A layer
with `bias="pytorch"` trains both: its `bias_hh` holds the own vectors that a recurrent sum starts
from.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import (
    check_dtype,
    check_flag,
    check_probability,
    check_seed,
    check_size,
    check_weights,
)
from rnncore.engine import kernels
from rnncore.engine.direction import Direction, Parameters
from rnncore.engine.packed import Packed, Packing
from rnncore.engine.precision import storage_of
from rnncore.engine.stack import Stack
from rnncore.engine.sums import summed_apart
from rnncore.engine.workspace import Pool
from rnncore.layers.dropout import Dropout, check_variational
from rnncore.layers.initialize import Beginning
from rnncore.layers.marks import RESET_AFTER
from rnncore.layers.module import Module, Seed

SMALL = 2**16  # bytes of packed weights, whose sets all stay in a core's caches

Shapes = dict[str, tuple[int, ...]]


class Names:
    """The parameters of one direction of one layer; their names end in `end`.

    Parameters
    ----------
    direction
        Its cell and sizes.
    end
        "_l0", "_l0_reverse", "_l1" and so on.
    bias
        True, False, or "pytorch" for two.
    learn_initial_state
        Whether the initial state is a parameter.
    """

    def __init__(
        self, direction: Direction, end: str, bias: bool | str, learn_initial_state: bool
    ) -> None:
        self.end, self.bias, self.two = end, bool(bias), bias == "pytorch"
        cell, self.hidden_size = direction.cell, direction.hidden_size
        self.rows = direction.gates * direction.hidden_size
        self.input_size = direction.input_size
        self.states = cell.states if learn_initial_state else ""
        self.cell_own = list(zip(cell.own, cell.starts, strict=True))
        self.has_W_hh = not cell.elementwise

    def _has(self, gate: int) -> bool:
        # An own vector that a sum starts from is a bias; with two biases it is part of the second.
        return gate < 0 or (self.bias and not self.two)

    def _gate(self, gate: int) -> slice:
        return slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)

    def shapes(self) -> Shapes:
        """Return the layer's own names, in the order in which initial values are drawn."""
        shapes: Shapes = {
            f"weight_ih{self.end}": (self.rows, self.input_size),
        }
        if self.has_W_hh:
            shapes[f"weight_hh{self.end}"] = (self.rows, self.hidden_size)
        if self.bias:
            shapes[f"bias_ih{self.end}"] = (self.rows,)
        if self.two:
            shapes[f"bias_hh{self.end}"] = (self.rows,)
        for name, gate in self.cell_own:
            if self._has(gate):
                shapes[name + self.end] = (self.hidden_size,)
        for name in self.initial_states():
            shapes[name] = (self.hidden_size,)
        return shapes

    def initial_states(self) -> list[str]:
        """Return the names of learned initial states."""
        return [f"initial_{letter}{self.end}" for letter in self.states]

    def written(self) -> list[str]:
        """Return the names of what the engine writes the gradients of itself."""
        kinds = ["weight_ih", "weight_hh"] if self.two else ["weight_ih", "weight_hh", "bias_ih"]
        return [kind + self.end for kind in kinds]

    def pick(self, arrays: Mapping[str, np.ndarray]) -> Parameters:
        """Return what the engine needs of the layer's parameters or gradients: views."""
        second = arrays.get(f"bias_hh{self.end}")
        own = tuple(
            second[self._gate(gate)] if second is not None and gate >= 0
            else arrays.get(name + self.end)
            for name, gate in self.cell_own
        )  # fmt: skip
        return Parameters(
            arrays[f"weight_ih{self.end}"], arrays.get(f"weight_hh{self.end}"),
            arrays.get(f"bias_ih{self.end}"), second, own,
        )  # fmt: skip

    def torch_shapes(self) -> Shapes:
        """Return PyTorch's names, which `state_dict` has."""
        shapes = self.shapes()
        if self.bias and not self.two:
            found: Shapes = {}
            for name, shape in shapes.items():
                found[name] = shape
                if name == f"bias_ih{self.end}":
                    found[f"bias_hh{self.end}"] = shape
            shapes = found
            for name, gate in self.cell_own:
                if gate >= 0:
                    del shapes[name + self.end]
        return shapes

    def to_torch(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return copies under PyTorch's names; of its two biases the second is zero, or own."""
        state = {}
        for name, shape in self.torch_shapes().items():
            array = arrays.get(name)
            dtype = arrays[f"weight_ih{self.end}"].dtype
            state[name] = np.zeros(shape, dtype) if array is None else array.copy()
        if self.bias and not self.two:
            for name, gate in self.cell_own:
                if gate >= 0:
                    state[f"bias_hh{self.end}"][self._gate(gate)] = arrays[name + self.end]
        return state

    def from_torch(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
        """Write a state dict of PyTorch's names into the layer's parameters."""
        if self.bias and not self.two:
            bias = arrays[f"bias_ih{self.end}"]
            second = np.array(state[f"bias_hh{self.end}"], bias.dtype)
            for name, gate in self.cell_own:
                if gate >= 0:
                    arrays[name + self.end][...] = second[self._gate(gate)]
                    second[self._gate(gate)] = 0
            bias[...] = state[f"bias_ih{self.end}"]
            bias += second
        for name in self.shapes():
            if name in state and (self.two or name != f"bias_ih{self.end}"):
                arrays[name][...] = state[name]


def check_zoneout(
    zoneout: float | tuple[float, float], states: str, layer_name: str
) -> tuple[float, float]:
    """Return the rates of h and of the other states, from one number for all or from two."""
    others = " and ".join(states[1:])
    if not isinstance(zoneout, tuple | list):
        rate = check_probability("zoneout", zoneout)
        return rate, rate if others else 0.0
    if len(zoneout) != 2 or not others:
        expected = f"a number, or two: of h and of {others}" if others else "a number"
        raise ValueError(
            f"zoneout: expected {expected}, got {zoneout!r}; the states of {layer_name} are "
            f"{' and '.join(states)}"
        )
    return check_probability("zoneout", zoneout[0]), check_probability("zoneout", zoneout[1])


class RecurrentModule(Module):
    """A recurrent layer without its passes: its stack in the engine, parameters and buffers."""

    layer_name = ""  # as errors call it
    reverse = False
    _transient = (*Module._transient, "_stack", "_names", "_pool", "_apart",
                  "_summed_apart")  # fmt: skip

    def __init__(
        self,
        cell: Any,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        variational: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        weight_drop: float = 0.0,
        learn_initial_state: bool = False,
        precision: str | None = None,
        reverse: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.input_size = check_size("input_size", input_size)
        self.num_layers = check_size("num_layers", num_layers)
        if isinstance(hidden_size, Sequence):
            if not hidden_size or num_layers not in (1, len(hidden_size)):
                raise ValueError(
                    f"hidden_size: expected one size a layer, {num_layers} in all, got "
                    f"{list(hidden_size)!r}"
                )
            self.num_layers = len(hidden_size)
            self._layer_sizes = [check_size("hidden_size", size) for size in hidden_size]
        else:
            self._layer_sizes = [check_size("hidden_size", hidden_size)] * self.num_layers
        self.hidden_size = hidden_size
        if isinstance(bias, str) and bias != "pytorch":
            raise ValueError(f'bias: expected True, False or "pytorch", got {bias!r}')
        self.bias = bias if isinstance(bias, str) else check_flag("bias", bias)
        self.batch_first = check_flag("batch_first", batch_first)
        self.bidirectional = check_flag("bidirectional", bidirectional)
        self.reverse = check_flag("reverse", reverse)
        if self.reverse and self.bidirectional:
            raise ValueError(
                "reverse: expected False with bidirectional=True, whose second direction reads "
                "backwards already, got True"
            )
        self.learn_initial_state = check_flag("learn_initial_state", learn_initial_state)
        self.dropout = check_probability("dropout", dropout)
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                f"dropout: {self.dropout} has no effect on one layer, as it stands between layers; "
                "give several, or put an rnncore.Dropout behind",
                stacklevel=3,
            )
        self.variational = check_variational(variational, self.dropout)
        self.recurrent_dropout = check_probability("recurrent_dropout", recurrent_dropout)
        self.weight_drop = check_probability("weight_drop", weight_drop)
        self.zoneout = zoneout
        self.dtype, seed = check_dtype(dtype), check_seed(seed)
        self.precision = storage_of(precision, self.dtype)
        self._cell = cell
        self._dropout = Dropout(self.dropout, dtype=dtype, seed=seed)
        self._build()
        super().__init__(self._parameter_shapes(), dtype=dtype)
        self._draw_parameters(self._dropout.generator)

    def _build(self) -> None:
        # What is no number: the stack that drives the engine, and its buffers.
        cell = self._cell
        if isinstance(cell, str):
            cell = kernels(self.dtype).cell(cell)
        elif hasattr(cell, "compiled"):
            cell = cell.compiled(self.dtype)
        else:
            raise TypeError(
                "cell: expected the name of a cell, or what rnncore.cell makes, got "
                f"{type(cell).__name__}"
            )
        self.layer_name = self.layer_name or cell.name
        count, width = 2 if self.bidirectional else 1, self.input_size
        for size in self._layer_sizes:
            rows = len(cell.gates) * size
            check_weights("input_size, hidden_size", rows, max(width, size))
            width = count * size
        zoneout = check_zoneout(self.zoneout, cell.states, self.layer_name)
        for name in ("recurrent_dropout", "weight_drop"):
            if cell.elementwise and getattr(self, name):
                raise ValueError(
                    f"{name}: expected 0, got {getattr(self, name)}: {self.layer_name} has no W_hh"
                )
        self._noisy = bool(self.dropout or self.recurrent_dropout or any(zoneout))
        self._stack = Stack(
            cell, self.input_size, self._layer_sizes, count, self.dtype, zoneout,
            self.recurrent_dropout > 0, self.precision, self.reverse,
        )  # fmt: skip
        self.output_size = self._stack.output_size
        self._names = [
            Names(
                direction, f"_l{layer}" + "_reverse" * direction.reverse, self.bias,
                self.learn_initial_state,
            )
            for layer, directions in enumerate(self._stack.layers)
            for direction in directions
        ]  # fmt: skip
        self._pool = Pool(self.dtype)
        self._take_turns = self._stack.packing().bytes > SMALL

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take settings and numbers, and make the rest anew."""
        self.__dict__.update(state)
        self.__dict__.setdefault("precision", self.dtype.name)  # absent from older pickles
        self._build()
        super().__setstate__(state)

    def _take_precision(self, precision: str) -> None:
        self.precision = precision
        self._build()
        self._show_parameters()

    def _sizes_shown(self) -> list[str]:
        options = ("num_layers", 1), ("bidirectional", False), ("reverse", False), (
            "batch_first", False)  # fmt: skip
        shown = [f"{name}={getattr(self, name)}" for name, usual in options
                 if getattr(self, name) != usual]  # fmt: skip
        return [str(self.input_size), str(self.hidden_size), *shown]

    def _parameter_shapes(self) -> Shapes:
        return {name: shape for names in self._names for name, shape in names.shapes().items()}

    def _draw_parameters(self, generator: np.random.Generator) -> None:
        # U(-1 / sqrt(H), 1 / sqrt(H)), but for initial states, and vectors of which cells say more.
        said = self._said()
        for names in self._names:
            bound, initial = names.hidden_size**-0.5, names.initial_states()
            for name, shape in names.shapes().items():
                if name not in initial:
                    low, high = said.get(name.removesuffix(names.end), (-bound, bound))
                    self._params[name][...] = generator.uniform(low, high, shape)

    def _beginning(self, name: str) -> Beginning:
        (names,) = (names for names in self._names if name in names.shapes())
        size = names.hidden_size
        otherwise = name.startswith("initial_") or name.removesuffix(names.end) in self._said()
        return Beginning(self._shapes[name][0] // size, None if otherwise else size**-0.5)

    def _said(self) -> dict[str, tuple[float, float]]:
        # Between which two numbers a cell has its own vectors begin, where it says so.
        own = getattr(self._cell, "own", {})
        return {name: ends for name, ends in own.items() if ends}

    def _bind(self, *buffers: Any) -> None:
        super()._bind(*buffers)
        self._show_parameters()

    def _show_parameters(self) -> None:
        # Tells the stack where they are.
        for names, direction in zip(self._names, self._stack.directions(), strict=True):
            direction.params, direction.grads = names.pick(self._params), names.pick(self._grads)
        self._apart = summed_apart(self._stack.layers)
        # Gradients that the engine does not write itself, but for W_hx of tokens.
        written = {name for names in self._names for name in names.written()}
        self._summed_apart = [array for name, array in self._grads.items() if name not in written]

    def _own_state(self) -> dict[str, np.ndarray]:
        state: dict[str, np.ndarray] = {}
        for names in self._names:
            state |= names.to_torch(self._params)
        return state | {name: np.zeros((), self.dtype) for name in self._marks()}

    def _marks(self) -> list[str]:
        # What a state says that names and shapes do not: which GRU it is of.
        return [RESET_AFTER] if self._stack.cell.name.startswith("gru_reset_before") else []

    def _own_state_shapes(self) -> Shapes:
        shapes: Shapes = {}
        for names in self._names:
            shapes |= names.torch_shapes()
        return shapes | {name: () for name in self._marks()}

    def _load_own(self, state: Mapping[str, np.ndarray]) -> None:
        for names in self._names:
            names.from_torch(self._params, state)

    def _packing(self, kind: Any) -> Packing:
        stack = self._stack
        return stack.packing() if kind == "forward" else stack.packing_back(*kind)

    def _pack(self, kind: Any) -> Packed:
        return self._packing(kind).pack()

    def release_memory(self) -> None:
        """Let go of all buffers that no pass is using; the next call makes those it needs."""
        super().release_memory()
        self._stack.release()
        self._pool.release()
