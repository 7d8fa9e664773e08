"""RNN, LSTM and GRU with activations by choice, a bound on what goes into them, and peepholes.

Each function returns a cell for `rnncore.Recurrent`: the engine's own where the choice is the usual
one, else one that is made as cells of your own are, with derived gradients. Its name says all of
it, `lstm(hard_sigmoid, tanh, tanh)`, and models and files find it by that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rnncore.cells import names
from rnncore.cells.activations import Activation, check_clip, read_activation
from rnncore.cells.definition import Cell


def rnn(activation: str = "tanh", *, clip: float | None = None) -> Cell | str:
    """Return the lecture's RNN, `h_t = f(W_hx x_t + W_hh h_{t-1} + b_h)`.

    Parameters
    ----------
    activation
        f: "tanh", "sigmoid", "relu", "identity", "affine(alpha, beta)", "leaky_relu(alpha)",
        "thresholded_relu(alpha)", "elu(alpha)", "hard_sigmoid(alpha, beta)", "hard_tanh",
        "scaled_tanh(alpha, beta)", "softplus" or "softsign". Numbers may be left out: alpha is 0.01
        of a leaky relu, 1 / 6 and beta 1 / 2 of a hard sigmoid, as in Keras 3 and PyTorch; ONNX and
        Keras 2 have "hard_sigmoid(0.2, 0.5)".
    clip
        What goes into an activation is at most this, and at least minus this; None: anything.

    Raises
    ------
    ValueError
        If there is no such activation.

    Examples
    --------
    >>> rnn("tanh")
    'rnn_tanh'
    >>> rnn("leaky_relu(0.1)")
    <cell rnn(leaky_relu(0.1)): gates='h', states='h'>
    """
    f = read_activation("activation", activation, check_clip(clip))
    if f.clip is None and f.name in ("tanh", "sigmoid", "relu", "identity"):
        return f"rnn_{f.name}"

    def step(z: Any) -> Any:
        return f(z.h)

    return _made("rnn", step, (f,), "h", "h")


def lstm(
    gates: str = "sigmoid",
    candidate: str = "tanh",
    state: str = "tanh",
    *,
    clip: float | None = None,
    peepholes: bool = False,
) -> Cell | str:
    """Return the LSTM with these activations.

    `i, f, o = gates(z)`, `g = candidate(z)`, `c_t = f c_{t-1} + i g`, `h_t = o state(c_t)`. ONNX
    calls them f, g and h. Keras' `recurrent_activation` is `gates`, its `activation` both others.

    Parameters
    ----------
    gates, candidate, state
        As in `rnn`.
    clip
        As in `rnn`, of gates and candidate; c is not clipped.
    peepholes
        Whether gates see c: `p_i c_{t-1}`, `p_f c_{t-1}` and `p_o c_t` are added to them.

    Raises
    ------
    ValueError
        If there is no such activation.

    Examples
    --------
    >>> lstm("hard_sigmoid")
    <cell lstm(hard_sigmoid, tanh, tanh): gates='ifgo', states='hc'>
    """
    bound = check_clip(clip)
    gate, g = (read_activation(name, text, bound)
               for name, text in (("gates", gates), ("candidate", candidate)))  # fmt: skip
    out = read_activation("state", state)
    usual = (gate.name, g.name, out.name) == ("sigmoid", "tanh", "tanh")
    if usual and bound is None and not peepholes:
        return "lstm"

    def plain(z: Any, prev: Any) -> Any:
        i, f, g_t, o = gate(z.i), gate(z.f), g(z.g), gate(z.o)
        c = f * prev.c + i * g_t
        return o * out(c), c

    def with_peepholes(z: Any, prev: Any, own: Any) -> Any:
        i, f = gate(z.i + own.p_i * prev.c), gate(z.f + own.p_f * prev.c)
        c = f * prev.c + i * g(z.g)
        return gate(z.o + own.p_o * c) * out(c), c

    if peepholes:
        return _made("lstm", with_peepholes, (gate, g, out), "ifgo", "hc", ("p_i", "p_f", "p_o"))
    return _made("lstm", plain, (gate, g, out), "ifgo", "hc")


def gru(
    gates: str = "sigmoid",
    candidate: str = "tanh",
    *,
    clip: float | None = None,
    reset_after: bool = True,
) -> Cell | str:
    """Return the GRU with these activations.

    `r, z = gates(W_hx x_t + W_hh h_{t-1} + b_h)`,
    `n = candidate(W_hx x_t + b_h + r (W_hh h_{t-1} + b_hn))`, `h_t = (1 - z) n + z h_{t-1}`. ONNX
    calls them f and g, Keras `recurrent_activation` and `activation`.

    Parameters
    ----------
    gates, candidate, clip
        As in `rnn`.
    reset_after
        Whether the reset gate comes after the product, as above. False:
        `n = candidate(W_hx x_t + W_hh (r h_{t-1}) + b_h)`.

    Raises
    ------
    ValueError
        If there is no such activation.

    Examples
    --------
    >>> gru("hard_sigmoid(0.2, 0.5)", "softsign")
    <cell gru(hard_sigmoid(0.2, 0.5), softsign): gates='rzn', states='h', own='bias_hn'>
    """
    bound = check_clip(clip)
    gate, g = (read_activation(name, text, bound)
               for name, text in (("gates", gates), ("candidate", candidate)))  # fmt: skip
    kind = "gru" if reset_after else "gru_reset_before"
    if bound is None and (gate.name, g.name) == ("sigmoid", "tanh"):
        return kind

    def after(z: Any, x: Any, h: Any, prev: Any) -> Any:
        r, z = gate(z.r), gate(z.z)
        n = g(x.n + r * h.n)
        return (1 - z) * n + z * prev.h

    def before(z: Any, prev: Any) -> Any:  # W_hh of n multiplies what is returned last
        r, n = gate(z.r), g(z.n)
        z = gate(z.z)
        return (1 - z) * n + z * prev.h, r * prev.h

    if reset_after:
        return _made(kind, after, (gate, g), "rzn", "h", ("bias_hn",), {"bias_hn": "n"})
    return _made(kind, before, (gate, g), "rzn", "h", second="n")


KINDS: dict[str, Callable[..., Cell | str]] = {
    "rnn": rnn, "lstm": lstm, "gru": gru, "gru_reset_before": partial(gru, reset_after=False),
}  # fmt: skip
ARITIES = {"rnn": 1, "lstm": 3, "gru": 2, "gru_reset_before": 2}  # how many activations they have


def _made(
    kind: str,
    step: Callable[..., Any],
    activations: tuple[Activation, ...],
    gates: str,
    states: str,
    own: tuple[str, ...] = (),
    starts: dict[str, str] | None = None,
    second: str = "",
) -> Cell:
    choice = Choice(kind, tuple(map(str, activations)), activations[0].clip, "p_i" in own)
    step.__name__ = str(choice)
    if names.is_known(step.__name__):
        return names.find(step.__name__)
    made = Cell(step, gates, states, dict.fromkeys(own), None, starts, second)
    made.pickled = chosen_cell, (made.name,)
    names.remember(made)
    return made


@dataclass(frozen=True)
class Choice:
    """What the name of a chosen cell says.

    Attributes
    ----------
    kind
        "rnn", "lstm", "gru" or "gru_reset_before".
    activations
        In the order of the function's arguments.
    clip, peepholes
        As the function takes them.
    """

    kind: str
    activations: tuple[str, ...]
    clip: float | None = None
    peepholes: bool = False

    def __str__(self) -> str:
        """Return the name of the cell."""
        more = [] if self.clip is None else [f"clip={self.clip!r}"]
        more += ["peepholes"] * self.peepholes
        return f"{self.kind}({', '.join([*self.activations, *more])})"

    def functions(self) -> list[Activation]:
        """Return the activations; that of an LSTM's cell state is not clipped."""
        clips = [self.clip, self.clip, None]
        return [read_activation("activations", text, clip)
                for text, clip in zip(self.activations, clips, strict=False)]  # fmt: skip

    def cell(self) -> Cell | str:
        """Return the cell, or the name of the engine's own.

        Raises
        ------
        ValueError
            If there is none.
        """
        options: dict[str, Any] = {"peepholes": True} if self.peepholes else {}
        return KINDS[self.kind](*self.activations, clip=self.clip, **options)


def choice_of(name: str) -> Choice | None:
    """Return what a name such as "gru(hard_sigmoid, tanh)" says; None: it is no such name."""
    found = re.fullmatch(r"(rnn|lstm|gru|gru_reset_before)\((.*)\)", name)
    if found is None:
        return None
    parts = re.split(r",\s*(?![^()]*\))", found[2])
    peepholes = parts[-1] == "peepholes" and found[1] == "lstm"
    parts = parts[:-1] if peepholes else parts
    clip = None
    if parts and parts[-1].startswith("clip="):
        clip = parts.pop().removeprefix("clip=")
    if len(parts) != ARITIES[found[1]]:
        return None
    try:
        return Choice(found[1], tuple(parts), None if clip is None else float(clip), peepholes)
    except ValueError:
        return None


def chosen_cell(name: str) -> Cell | None:
    """Return the cell by choice that has this name; None: it is no such name.

    Raises
    ------
    ValueError
        If it has activations that there are not.
    """
    choice = choice_of(name)
    made = None if choice is None else choice.cell()
    return made if isinstance(made, Cell) else None
