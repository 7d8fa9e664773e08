"""The parts of an export one after another, and the C that calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rnncore.export.parts import Part
from rnncore.export.weights import Weights


class Flow(NamedTuple):
    """What stands between two parts: its name in C and how many numbers it is; 0: a token."""

    name: str
    size: int


class Chain:
    """Parts that are added one by one, each named by its kind and place.

    Parameters
    ----------
    name
        Of the export: its functions and its state begin with it.
    weights
        Makes the constants.

    Attributes
    ----------
    parts
        In the order in which they run.
    vocabulary
        How many tokens the first part knows; 0: it reads numbers.
    """

    def __init__(self, name: str, weights: Weights) -> None:
        self.name, self.weights = name, weights
        self.parts: list[Part] = []
        self._calls: list[tuple[Part, list[Flow]]] = []

    @property
    def state(self) -> str:
        """The type of the state."""
        return f"{self.name}_state"

    @property
    def vocabulary(self) -> int:
        """How many tokens the first part knows, or 0."""
        return self.parts[0].vocabulary

    @property
    def inputs(self) -> int:
        """Numbers in."""
        return self.parts[0].inputs

    @property
    def outputs(self) -> int:
        """Numbers out."""
        return self.parts[-1].outputs

    def add(self, kind: str, make: Callable[..., Part], *values: Any, x: Flow | None = None,
            and_also: Flow | None = None) -> Flow:  # fmt: skip
        """Add what `make` makes of a name and values, which reads x; None: what comes in."""
        part = make(f"{kind}_{len(self.parts) + 1}", *values)
        if x is not None and (part.vocabulary or part.inputs != x.size):
            wants = "tokens" if part.vocabulary else f"{part.inputs} numbers"
            raise ValueError(
                f"model: expected parts that fit one another, but {kind} reads {wants} after a "
                f"part that gives {x.size} numbers"
            )
        self.parts.append(part)
        flows = [Flow("in", part.inputs) if x is None else x]
        self._calls.append((part, flows + [flow for flow in (and_also,) if flow is not None]))
        return Flow(f"{part.name}_y", part.outputs)

    def lines(self) -> str:
        """Return the body of the function that takes a step."""
        *inner, last = self._calls
        buffers = [f"{part.name}_y[{part.outputs}]" for part, _ in inner]
        lines = []
        if not self.vocabulary:
            buffers.insert(0, f"in[{self.inputs}]")
            lines += [
                f"    for (int k = 0; k < {self.inputs}; k++)",
                "        in[k] = flushed(x[k]);",
            ]
        for part, flows in self._calls:
            names = ["token" if part.vocabulary else flows[0].name, *[f.name for f in flows[1:]]]
            lines.append(part.call(", ".join(names), "y" if part is last[0] else f"{part.name}_y"))
        if not any(part.fields for part in self.parts):
            lines.append("    (void)state;")
        declared = [f"    float {', '.join(buffers)};"] if buffers else []
        return "\n".join([*declared, *lines])

    @property
    def stack(self) -> int:
        """Bytes of all numbers that stand on the stack at once, at most."""
        buffers = sum(part.outputs for part in self.parts[:-1])
        most = max(part.locals for part in self.parts)
        return 4 * (buffers + most + (0 if self.vocabulary else self.inputs))

    @property
    def ram(self) -> int:
        """Bytes of a state."""
        return 4 * (sum(field.size for part in self.parts for field in part.fields) or 1)
