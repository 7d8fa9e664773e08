"""Cells of your own: a function of one hidden unit becomes a cell of the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnncore import engine
from rnncore.arguments import is_number
from rnncore.cells import names
from rnncore.cells.checks import check_gradients, check_values
from rnncore.cells.graph import Graph, Node, derive, in_order, spelled
from rnncore.cells.phases import assign_phases, write_phases
from rnncore.cells.places import Places, assign_places
from rnncore.cells.reading import CellError, Reading, check_names

TAKEN = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Cell:
    """What `rnncore.cell` makes of a function; `Recurrent` runs it, models know it by its name.

    Attributes
    ----------
    name, gates, states, own
        As declared.
    elementwise
        Whether no gate reads other units' h: then there is no `weight_hh`, and no product with it.
    signature
        Of gates, states, vectors and equations: what a file of weights is held against.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        gates: str,
        states: str,
        own: Mapping[str, tuple[float, float] | None],
        backward: Callable[..., Any] | None,
        starts: Mapping[str, str] | None = None,
        second: str = "",
    ) -> None:
        self.function, self.gates, self.states, self.own = function, gates, states, dict(own)
        self._starts = dict(starts or {})
        self._second = second
        self.pickled: Any = None  # what makes it again, where that is not a module's name for it
        self._handed = [name for name in own if name not in self._starts]
        self.name = getattr(function, "__name__", "a cell")
        self.__doc__ = getattr(function, "__doc__", None)
        self.__module__ = getattr(function, "__module__", None) or __name__
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        self._graph = graph = Graph()
        reading = self._read()
        recorded = {gate: reading.names[gate] for gate in gates
                    if gate in reading.names and gate not in states}  # fmt: skip
        self._inputs = [f"{part}.{gate}" for part in "xh" for gate in gates]
        self._inputs += [f"own.{name}" for name in self._handed]
        self._inputs += [f"prev.{state}" for state in states]
        used = {node.data for node in in_order([*self._made.values(), *recorded.values()])
                if node.op == "input"}  # fmt: skip
        self.elementwise = not any(name.startswith("h.") for name in used)
        # W_hx x + b stays where it is; so a record has it where it is the whole gate.
        recorded |= {gate: graph.input(f"x.{gate}") for gate in gates
                     if gate not in (*recorded, *states) and f"h.{gate}" not in used}  # fmt: skip
        for gate in gates:
            if not {f"x.{gate}", f"h.{gate}"} & used:
                raise CellError(
                    f"{self.name}: gate {gate} is declared, but nothing that is returned reads it; "
                    f"remove it from gates={gates!r}"
                )
        self.signature = hashlib.sha256(
            f"{gates} {states} {' '.join(own)}\n{spelled(self._made)}{self._begun()}".encode()
        ).hexdigest()[:16]
        check_values(self.name, reading, self._made, self._sampled())
        gradients = self._derive() if backward is None else self._take(backward, reading)
        check_gradients(
            self.name, self._made, gradients, self._inputs, self._sampled(), backward is not None
        )
        self._compiled: dict[Any, Any] = {}
        if second:
            parts = [self._derive(name) for name in "sh"]
            self._phases = assign_phases(
                graph, gates, second, self._states, self._made["s"], recorded, (parts[0], parts[1])
            )
            return
        self._before = {s: gradients.get(f"prev.{s}", graph.number(0)) for s in states}
        self._places = self._assign(recorded, gradients)

    def _read(self) -> Reading:
        graph, gates = self._graph, self.gates
        x, h = ({gate: graph.input(f"{part}.{gate}") for gate in gates} for part in "xh")
        self._members: dict[str, dict[str, Node]] = {
            "z": {gate: graph.add(x[gate], h[gate]) for gate in gates}, "x": x, "h": h,
            "prev": {state: graph.input(f"prev.{state}") for state in self.states},
            "own": {name: graph.input(f"own.{name}") for name in self._handed},
        }  # fmt: skip
        reading = Reading(self.function, graph, self._members)
        letters = self.states + "s" * bool(self._second)
        if not isinstance(reading.found, list) or len(reading.found) != len(letters):
            expected = ", ".join(letters)
            reading.fail_return(
                f"expected it to return {expected}, the states after the step, got "
                f"{len(reading.found)} numbers"
            )
        # Of a step of two phases (phases.py) also s, which W_hh of the second gates multiplies.
        self._made = dict(zip(letters, reading.found, strict=True))
        self._states = {state: self._made[state] for state in self.states}
        return reading

    def _derive(self, made: str = "") -> dict[str, Node]:
        arriving = [(self._made[name], self._graph.input(f"d.{name}"))
                    for name in made or self._made]  # fmt: skip
        return derive(self._graph, arriving)

    def _take(self, backward: Callable[..., Any], forward: Reading) -> dict[str, Node]:
        # A hand-written backward, in the same words as forward.
        graph = self._graph
        members = {
            "d": {state: graph.input(f"d.{state}") for state in self.states},
            "kept": {name: node for name, node in forward.names.items() if not node.is_condition},
            **self._members,
        }
        reading = Reading(backward, graph, members)
        known = {name for name in self._inputs} | {f"z.{gate}" for gate in self.gates}
        if not isinstance(reading.found, dict) or not set(reading.found) <= known:
            unknown = set(reading.found) - known if isinstance(reading.found, dict) else "no names"
            reading.fail_return(
                "expected it to return gradients by name, as in "
                f'{{"z.{self.gates[0]}": ..., "prev.h": ...}}, got {unknown}'
            )
        gradients: dict[str, Node] = {}
        for name, node in reading.found.items():
            part, _, rest = name.partition(".")
            for whole in (f"x.{rest}", f"h.{rest}") if part == "z" else (name,):
                before = gradients.get(whole)
                gradients[whole] = node if before is None else graph.add(before, node)
        return gradients

    def _begun(self) -> str:
        # Which sums start from a vector.
        return "".join(f"\n{name} starts {gate}" for name, gate in self._starts.items())

    def _sampled(self) -> dict[str, np.ndarray]:
        # Ordinary inputs; own vectors as they begin.
        rng, count = np.random.default_rng(0), 64
        inputs = {name: rng.standard_normal(count) for name in self._inputs}
        for name, ends in self.own.items():
            low, high = ends or (-1.0, 1.0)
            inputs[f"own.{name}"] = rng.uniform(low, high, count)
        return inputs | {f"d.{name}": rng.standard_normal(count) for name in self._made}

    def _assign(self, recorded: dict[str, Node], gradients: dict[str, Node]) -> Places:
        at_hand = [
            *self._states.values(),
            *(node for name in ("prev", "own") for node in self._members[name].values()),
        ]
        places = assign_places(
            self._graph, self.gates, self.states, list(self.own), recorded, gradients, at_hand,
            not self.elementwise, self._starts,
        )  # fmt: skip
        most = engine.kernels(np.float32).most_places
        if len(places.names) + places.further > most:
            raise CellError(
                f"{self.name}: backward needs {len(places.saved)} numbers of forward, {most} are "
                "the most; use fewer gates or shorter equations"
            )
        return places

    # Compiling

    def compiled(self, dtype: np.dtype) -> Any:
        """Return the cell as the engine takes it.

        Raises
        ------
        ImportError
            If llvmlite is not installed.
        """
        kernels = engine.kernels(dtype)
        if kernels not in self._compiled:
            self._compiled[kernels] = self._compile(kernels, dtype)
        return self._compiled[kernels]

    def _compile(self, kernels: Any, dtype: np.dtype) -> Any:
        if self._second:
            return self._compile_phases(kernels, dtype)
        from rnncore.cells.compiled import Vectors, backward_step, build_module, forward_step

        vectors, own, places = Vectors(kernels, 8 * dtype.itemsize), self._handed, self._places

        def write(module: Any) -> None:
            forward_step(vectors, module, self._states, places, own)
            backward_step(vectors, module, self._states, self._before, places, own)

        code, assembly = build_module(write)
        return kernels.CustomCell(
            self.name, self.gates, places.names, self.states, tuple(self.own),
            tuple(self.gates.find(self._starts.get(name, " ")) for name in self.own),
            [self.gates.index(gate) for gate in places.x_gates],
            [self.gates.index(gate) for gate in places.h_gates], places.own,
            code.get_function_address("forward"), code.get_function_address("backward"),
            (code, assembly), places.further, self.elementwise,
        )  # fmt: skip

    def _compile_phases(self, kernels: Any, dtype: np.dtype) -> Any:
        from rnncore.cells.compiled import Vectors, build_module

        vectors, phases = Vectors(kernels, 8 * dtype.itemsize), self._phases
        code, assembly = build_module(lambda module: write_phases(vectors, module, phases))
        gates = [self.gates.index(gate) for gate in phases.gates]
        names = ("forward", "backward", "first_forward", "first_backward")
        forward, backward, *first = (code.get_function_address(name) for name in names)
        return kernels.CustomCell(
            self.name, self.gates, phases.names, self.states, (), (), gates, gates, [], forward,
            backward, (code, assembly), phases.further, False, phases.second, *first,
        )  # fmt: skip

    def assembly(self, dtype: Any = np.float32) -> str:
        """Return what it is compiled to, for this processor."""
        text: str = self.compiled(np.dtype(dtype)).keep[1]
        return text

    def __repr__(self) -> str:
        own = f", own={' '.join(self.own)!r}" if self.own else ""
        return f"<cell {self.name}: gates={self.gates!r}, states={self.states!r}{own}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Be pickled as functions are, by name: the module is imported where it arrives."""
        return self.pickled or self.__qualname__


def cell(
    gates: str,
    states: str = "h",
    own: str | Mapping[str, float | tuple[float, float] | None] = "",
    backward: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Cell]:
    """Make a recurrent cell of a function that says what one hidden unit does in one step.

    The function takes what it needs of

    - `z`: the gates, `z.i = W_hx x_t + W_hh h_{t-1} + b_h` for gate i;
    - `x`, `h`: their parts `W_hx x_t + b_h` and `W_hh h_{t-1}`, where a gate needs them apart;
    - `prev`: the states before the step, `prev.h`, `prev.c`; zeros at first, unless given;
    - `own`: trained vectors of the cell's own, a number for each unit.

    It returns the states after the step, h first. In between stand assignments, arithmetic,
    comparisons, `a if condition else b`, and the functions of `rnncore.cells`: sigmoid, tanh, exp,
    log, log1p, sqrt, abs, softplus, softsign, relu, hard_sigmoid, hard_tanh, min, max, where.
    Numbers from outside are constants.

    The backward step is derived from the function, both are checked against finite differences,
    and compiled when a layer is first made of the cell. If no gate reads `z` or `h`, there is no
    W_hh, and no product with it. Models know the cell by the function's name.

    Parameters
    ----------
    gates
        A letter a gate, 8 at most: W_hx is (G * H, I), W_hh is (G * H, H), in this order.
    states
        "h"; "hc" for a second state beside h; or more letters, h first, 8 at most.
    own
        Names of vectors (H,), 8 at most, such as "p_i p_f"; or a dictionary of what they begin
        with: a number, two numbers to draw between, or None for what weights are drawn from.
    backward
        A function to take in place of the derived one. It takes `d`, the gradients of the new
        states, `kept`, what the names in the function stand for, and z, x, h, prev, own; it returns
        a dictionary of gradients, such as `{"z.i": ..., "prev.c": ..., "own.p_i": ...}`.

    Raises
    ------
    CellError
        A ValueError, with the line and the reason, if the function is no cell.

    Examples
    --------
    The minimal gated unit (Zhou et al., Minimal gated unit for recurrent neural networks, 2016):

    >>> import numpy as np, rnncore
    >>> from rnncore.cells import sigmoid, tanh
    >>> @rnncore.cell(gates="fn")
    ... def minimal(z, x, h, prev):
    ...     f = sigmoid(z.f)
    ...     n = tanh(x.n + f * h.n)
    ...     return (1 - f) * prev.h + f * n
    >>> minimal
    <cell minimal: gates='fn', states='h'>
    >>> layer = rnncore.Recurrent(minimal, 3, 5, seed=0)  # doctest: +SKIP
    >>> y, h = layer(np.ones((7, 2, 3)))                  # doctest: +SKIP
    """
    module = engine.kernels(np.float32)
    if not isinstance(gates, str) or not 1 <= len(gates) <= module.most_gates:
        raise CellError(
            f"gates: expected 1 to {module.most_gates} letters, one a gate, got {gates!r}"
        )
    check_names("gates", gates)
    if not isinstance(states, str) or not 1 <= len(states) <= module.most_states:
        raise CellError(
            f"states: expected 1 to {module.most_states} letters, one a state, got {states!r}"
        )
    check_names("states", states)
    if states[0] != "h":
        raise CellError(
            "states: expected h first, which is the output and what W_hh multiplies, got "
            f"{states!r}"
        )
    if not isinstance(own, str | Mapping) or not all(isinstance(name, str) for name in own):
        raise CellError(f"own: expected names in a text, or a dictionary of them, got {own!r}")
    vectors = dict.fromkeys(own.split()) if isinstance(own, str) else dict(own)
    check_names("own", list(vectors))
    taken = [*TAKEN, *(f"initial_{state}" for state in states)]
    if len(vectors) > module.most_own_vectors or set(vectors) & set(taken):
        raise CellError(
            f"own: expected at most {module.most_own_vectors} names, and none of "
            f"{', '.join(taken)}, got {', '.join(vectors)}"
        )
    begins = {name: _ends(name, value) for name, value in vectors.items()}

    def make(function: Callable[..., Any]) -> Cell:
        made = Cell(function, gates, states, begins, backward)
        names.remember(made)
        return made

    return make


def _ends(name: str, value: Any) -> tuple[float, float] | None:
    # Between which numbers a vector is drawn.
    if value is None:
        return None
    ends = (value, value) if is_number(value) else value
    if not isinstance(ends, tuple) or len(ends) != 2 or not all(
        is_number(end) and np.isfinite(end) for end in ends
    ) or ends[0] > ends[1]:  # fmt: skip
        raise CellError(f"own: {name}: expected a number, or two, the smaller first, got {value!r}")
    return float(ends[0]), float(ends[1])
