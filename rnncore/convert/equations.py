"""Which equations the engine has: the one place where a conversion refuses the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rnncore import layers
from rnncore.convert.errors import ConversionError
from rnncore.layers.recurrent import Recurrent

#: What each kind applies to its gates, its candidate and, in an LSTM, its cell state.
STANDARD = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh")}
#: What the standard layers are called here.
KINDS: dict[type[Any], str] = {layers.LSTM: "lstm", layers.GRU: "gru", layers.RNN: "rnn"}
NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity")


@dataclass(frozen=True)
class Equations:
    """What a source computes, beside its sizes and weights.

    Parameters
    ----------
    kind
        "lstm", "gru" or "rnn".
    activations
        Of gates, candidate and cell state; of an RNN its one. Empty: the standard ones.
    reset_after
        Of a GRU: whether the reset gate comes after the product with h, as in PyTorch.
    reverse
        Whether the only direction reads backwards.
    other
        What else differs from the standard equations, each in words: "clip = 3.0".
    """

    kind: str
    activations: tuple[str, ...] = ()
    reset_after: bool = True
    reverse: bool = False
    other: tuple[str, ...] = ()


def layer_of(equations: Equations, source: str, *sizes: Any, **options: Any) -> Recurrent:
    """Return a layer of these equations, or say which of them the engine has not.

    Raises
    ------
    ConversionError
        Naming the source and the equation.
    """
    kind, found = equations.kind, equations.activations
    standard = STANDARD.get(kind, found)
    missing = list(equations.other)
    if equations.reverse:
        missing.append("one direction that reads backwards")
    if (found and found != standard) or (kind == "rnn" and found[0] not in NONLINEARITIES):
        missing.append(f"the activations {', '.join(found)}")
    if missing:
        raise ConversionError(
            f"{source}: expected equations that rnncore.{kind.upper()} has, got "
            f"{' and '.join(missing)}; help(rnncore.{kind.upper()}) has them"
        )
    if kind == "rnn":
        options["nonlinearity"] = found[0]
    if kind == "gru":
        options["reset_after"] = equations.reset_after
    [made] = (layer for layer, name in KINDS.items() if name == kind)
    return made(*sizes, **options)
