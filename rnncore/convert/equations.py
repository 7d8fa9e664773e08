"""Which equations the engine has: the one place where a conversion refuses the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rnncore import layers
from rnncore.convert.errors import ConversionError
from rnncore.layers.recurrent import Recurrent

#: What each kind applies to its gates, its candidate and, in an LSTM, its cell state.
STANDARD = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh"), "rnn": ("tanh",)}
#: What the standard layers are called here.
KINDS: dict[type[Any], str] = {layers.LSTM: "lstm", layers.GRU: "gru", layers.RNN: "rnn"}


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
        What else differs from the standard equations, each in words: "input_forget = 1".
    clip
        The bound of what goes into activations.
    peepholes
        Whether the gates of an LSTM see its cell state.
    """

    kind: str
    activations: tuple[str, ...] = ()
    reset_after: bool = True
    reverse: bool = False
    other: tuple[str, ...] = ()
    clip: float | None = None
    peepholes: bool = False


def layer_of(equations: Equations, source: str, *sizes: Any, **options: Any) -> Recurrent:
    """Return a layer of these equations, or say which of them the engine has not.

    Raises
    ------
    ConversionError
        Naming the source and the equation.
    """
    from rnncore.cells.chosen import Choice

    kind, missing = equations.kind, list(equations.other)
    found = equations.activations or STANDARD[kind]
    if len(found) != len(STANDARD[kind]):
        raise ConversionError(
            f"{source}: expected {len(STANDARD[kind])} activations of a {kind.upper()}, got "
            f"{', '.join(found)}"
        )
    cell: Any = None
    try:
        which = kind if equations.reset_after or kind != "gru" else "gru_reset_before"
        cell = Choice(which, found, equations.clip, equations.peepholes).cell()
    except ValueError as error:
        missing.append(f"the activations {', '.join(found)} ({error})")
    if missing:
        raise ConversionError(
            f"{source}: expected equations that rnncore has, got {' and '.join(missing)}; "
            "help(rnncore.cells.chosen) has them"
        )
    options["reverse"] = equations.reverse
    if not isinstance(cell, str):
        try:
            return layers.Recurrent(cell, *sizes, **options)
        except ImportError as error:
            raise ConversionError(f"{source}: needs a cell by choice; {error}") from None
    if kind == "rnn":
        options["nonlinearity"] = cell.removeprefix("rnn_")
    if kind == "gru":
        options["reset_after"] = equations.reset_after
    [made] = (layer for layer, name in KINDS.items() if name == kind)
    return made(*sizes, **options)


def equations_of(layer: Recurrent) -> Equations | None:
    """Return the equations of a layer; None: they are of none of these kinds."""
    from rnncore.cells.chosen import choice_of

    name, reverse = layer._stack.cell.name, layer.reverse
    choice = choice_of(name)
    if choice is not None:
        kind, _, rest = choice.kind.partition("_")
        return Equations(
            kind, choice.activations, not rest, reverse, (), choice.clip, choice.peepholes
        )
    if name == "peephole_lstm":
        return Equations("lstm", STANDARD["lstm"], True, reverse, peepholes=True)
    kind, _, rest = name.partition("_")
    if kind == "rnn":
        return Equations("rnn", (rest,), True, reverse)
    if name in ("lstm", "gru", "gru_reset_before"):
        return Equations(kind, STANDARD[kind], not rest, reverse)
    return None


def ends_of(number: int, count: int, reverse: bool) -> list[str]:
    """Return what the parameters of each direction of a layer end in."""
    if reverse:
        return [f"_l{number}_reverse"]
    return [f"_l{number}", f"_l{number}_reverse"][:count]
