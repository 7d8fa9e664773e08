"""What was found out about the recurrent layers of a model, and what of it is worth a warning."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

#: Over the steps of a batch a gradient that shrinks or grows by more than this has vanished or
#: exploded: what Adam makes of it is another question.
MUCH = 1e3
#: Shares of saturated values that are worth a warning: of a tanh, of a sigmoid.
SATURATED = {"tanh": 0.5, "sigmoid": 0.9}
#: Gates that hold a memory by being open, which is what they are for.
MEMORIES = {("lstm", "f"), ("gru", "z"), ("gru_reset_before", "z")}


@dataclasses.dataclass(frozen=True, eq=False)
class LayerDiagnosis:
    """One direction of one layer on one batch; T steps, means over the sequences that have them.

    Attributes
    ----------
    name, cell
        Such as "rnn.l0_reverse", "lstm".
    steps
        The mean length of the sequences.
    norms : dict of (T,)
        Of the states, ``|h_t|`` under "h" and for an LSTM ``|c_t|`` under "c".
    gradients : dict of (T,)
        ``|dL/dh_t|`` and ``|dL/dc_t|``, of the loss of the batch.
    reach : dict of (T,)
        The same of what the loss asks of the last step of the layer alone: how far back it reaches.
    growth
        The factor by which ``|h_t|`` grows a step, in the order in which the layer reads.
    gradient_growth
        The factor by which `reach`, of h and c together, grows a step back: below 1 it vanishes,
        above 1 it explodes. NaN where there is none.
    saturation : dict of (low, high)
        Shares of each gate; see `rnncore.diagnostics.saturation`.
    spectral_radius, singular_value : dict of float
        Of W_hh of each gate: the largest absolute eigenvalue, the largest singular value.
    """

    name: str
    cell: str
    steps: float
    norms: dict[str, Array]
    gradients: dict[str, Array]
    reach: dict[str, Array]
    growth: float
    gradient_growth: float
    saturation: dict[str, tuple[float, float]]
    spectral_radius: dict[str, float]
    singular_value: dict[str, float]

    def arriving(self) -> float:
        """Return the share of the last step's gradient that is left at the first step, estimated.

        ``gradient_growth ** (steps - 1)``; NaN where nothing reaches back.
        """
        exponent = (self.steps - 1) * math.log(self.gradient_growth or math.nan)
        return math.exp(min(exponent, 700.0))

    def warnings(self) -> list[str]:
        """Say in words what will make it hard to train; empty where nothing does."""
        found, share = [], self.arriving()
        if share < 1 / MUCH:
            half = math.log(0.5) / math.log(self.gradient_growth)
            found.append(
                f"vanishing gradient: it halves every {half:.1f} steps back, {share:.1g} of it "
                f"arrives at the first of {self.steps:.0f} steps"
            )
        if share > MUCH:
            found.append(
                f"exploding gradient: it grows by {self.gradient_growth:.2f} a step back, by "
                f"{share:.1g} over {self.steps:.0f} steps"
            )
        if (self.steps - 1) * math.log(self.growth or 1) > math.log(MUCH):
            found.append(f"exploding activations: they grow by {self.growth:.2f} a step")
        return found + self._saturated()

    def _saturated(self) -> list[str]:
        from rnncore.diagnostics.measures import SQUASHED

        found = []
        for gate, (low, high) in self.saturation.items():
            kind = SQUASHED[self.cell][gate]
            if kind in SATURATED and (self.cell, gate) not in MEMORIES:
                if low + high > SATURATED[kind]:
                    where = "-0.9 or above 0.9" if kind == "tanh" else "0.1 or above 0.9"
                    found.append(
                        f"saturated {gate}: {100 * (low + high):.0f} % of its values are below "
                        f"{where}, where {kind} is nearly flat"
                    )
            elif kind == "relu" and low > 0.9:
                found.append(f"dead units: {100 * low:.0f} % of all activations are zero")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return everything as `json` can write it; what is no number is None."""
        whole: dict[str, Any] = _plain(
            {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        )
        return {**whole, "warnings": self.warnings()}


def _told(value: float, how: str) -> str:
    return how.format(value) if math.isfinite(value) else "-"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | np.ndarray):
        return [_plain(float(one)) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis:
    """All recurrent layers of a model on a batch, in the order in which they ran.

    Attributes
    ----------
    layers : tuple of LayerDiagnosis
    loss
        Of the batch; NaN where it was not told.
    """

    layers: tuple[LayerDiagnosis, ...]
    loss: float = math.nan

    def __getitem__(self, name: str) -> LayerDiagnosis:
        """Return a layer by its name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{name}: expected one of {[layer.name for layer in self.layers]}")

    def warnings(self) -> list[str]:
        """Say in words what will make the model hard to train, with the layer it is about."""
        return [f"{layer.name}: {one}" for layer in self.layers for one in layer.warnings()]

    def __str__(self) -> str:
        """Return a table, and the warnings."""
        rows = [
            ("layer", "cell", "steps", "|h|, a step", "gradient, a step back", "arrives at step 1",
             "radius of W_hh", "saturated")
        ]  # fmt: skip
        for one in self.layers:
            radii = " ".join(f"{gate} {value:.2f}" for gate, value in one.spectral_radius.items())
            ends = " ".join(
                f"{gate} {100 * low:.0f}/{100 * high:.0f} %"
                for gate, (low, high) in one.saturation.items()
            )
            rows.append((
                one.name, one.cell, f"{one.steps:.0f}", _told(one.growth, "x {:.3f}"),
                _told(one.gradient_growth, "x {:.3f}"), _told(one.arriving(), "{:.1g}"), radii,
                ends,
            ))  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(lines + [f"warning: {one}" for one in self.warnings()])

    def to_json(self) -> dict[str, Any]:
        """Return everything as `json` can write it."""
        loss = None if math.isnan(self.loss) else self.loss
        return {"loss": loss, "layers": [layer.to_json() for layer in self.layers]}

    def arrays(self) -> dict[str, Array]:
        """Return the curves by names such as "rnn.l0.gradients.h", as `np.savez` takes them."""
        return {
            f"{layer.name}.{kind}.{state}": array
            for layer in self.layers
            for kind in ("norms", "gradients", "reach")
            for state, array in getattr(layer, kind).items()
        }
