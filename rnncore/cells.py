"""Cells of your own: the gate mathematics in Python, compiled by Numba into the engine.

The engine does the matrix work, packing, threads, ragged batches and the weight gradients; a cell
says, for one hidden unit, how pre-activations become a state, and how its gradients come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore import engine
from rnncore.arguments import check_size
from rnncore.layers.module import Seed
from rnncore.layers.recurrent import Recurrent

# Fused multiply-adds, and no special cases for NaN, infinity or the sign of zero: with these the
# loop over hidden units becomes vector instructions.
FASTMATH = {"contract", "nnan", "ninf", "nsz"}

# What Numba calls the record of an exception in compiled code. After optimization there is one left
# where an exception may be raised, which a callback would ignore and leave undefined numbers.
RAISES = "picklebuf"

# The engine hands both a `Block` (src_cython/cells/cell.h) of fields as long as a pointer each;
# `fields` takes them from there.
FORWARD = """
def loop(block):
    {fields}
    for row in range(rows):
        for u in range(units):
            s = row * saved_stride + u
            r = row * recurrent_stride + u
            i = row * state_stride + u
            state, kept = forward(({x}), ({r}), {previous})
            {set_state}
            {set_saved}
"""

BACKWARD = """
def loop(block):
    {fields}
    given = block[{dy}] != 0
    for row in range(rows):
        for u in range(units):
            s = row * saved_stride + u
            i = row * state_stride + u
            d = dh[i]
            if given:
                d += dy[row * dy_stride + u]
            dx, dr, dprevious = backward(({kept}), {dstate}, {previous})
            {set_saved}
            {set_dstate}
"""


class Cell:
    """A recurrent cell, described for one hidden unit.

    With x the G numbers of `W_hx x_t + b_h` and r the G numbers of `W_hh h_{t-1}`:

    - without a cell state, `forward(x, r, h_prev)` returns `h, kept`, and
      `backward(kept, dh, h_prev)` returns `dx, dr, dh_prev`;
    - with one, `forward(x, r, (h_prev, c_prev))` returns `(h, c), kept`, and
      `backward(kept, (dh, dc), (h_prev, c_prev))` returns `dx, dr, (dh_prev, dc_prev)`.

    x, r, dx and dr are tuples of G numbers, `kept` is a tuple of at most 2 G numbers that backward
    needs, and dh_prev is the part of the gradient that does not pass through W_hh. Both functions
    are scalar Python that Numba compiles (`math` is at hand), write conditions as conditional
    expressions. NaN and infinity are not looked after.

    Parameters
    ----------
    name
        For messages.
    gates
        G, 1 to 8: W_hx is (G * H, I), W_hh is (G * H, H).
    kept
        How many numbers forward keeps, at most 2 G.
    forward, backward
        The two functions.
    has_c
        Whether there is a cell state beside h.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or a function does not take or return what it should; when
        first used, if Numba cannot compile it or it might raise an exception.
    ImportError
        When first used, if Numba is not installed.
    """

    def __init__(
        self,
        name: str,
        gates: int,
        kept: int,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        has_c: bool = False,
    ) -> None:
        self.name, self.has_c = name, bool(has_c)
        self.gates, self.kept = check_size("gates", gates), check_size("kept", kept, 0)
        most = engine.kernels(np.float32).most_gates
        if self.gates > most or self.kept > 2 * self.gates:
            raise ValueError(
                f"gates, kept: expected at most {most} gates and two kept numbers a gate, got "
                f"{gates} and {kept}"
            )
        self.forward, self.backward = forward, backward
        self._try_out()
        self._compiled: dict[np.dtype, Any] = {}

    def _try_out(self) -> None:
        # Both functions once on numbers: what they return has to fit.
        some = (0.5,) * self.gates
        previous: Any = (0.5, 0.5) if self.has_c else 0.5
        state, kept = self._call("forward", "h, kept", some, some, previous)
        self._check_parts("forward", "the state", state, 2 if self.has_c else 0)
        self._check_parts("forward", "kept", kept, self.kept or None)
        found = self._call("backward", "dx, dr, dh_prev", kept, previous, previous)
        for name, part in zip(("dx", "dr"), found[:2], strict=True):
            self._check_parts("backward", name, part, self.gates)
        self._check_parts("backward", "dh_prev", found[2], 2 if self.has_c else 0)

    def _call(self, name: str, parts: str, *arguments: Any) -> tuple[Any, ...]:
        function = getattr(self, name)
        if not callable(function):
            raise TypeError(
                f"cell {self.name!r}: {name}: expected a function, got {type(function).__name__}"
            )
        try:
            found = function(*arguments)
        except Exception as error:
            raise TypeError(
                f"cell {self.name!r}: {name} failed on the numbers 0.5 ({error}); see rnncore.Cell "
                "for what it is given"
            ) from error
        if not isinstance(found, tuple) or len(found) != len(parts.split(", ")):
            raise TypeError(
                f"cell {self.name!r}: {name}: expected it to return {parts}, got {found!r}"
            )
        return found

    def _check_parts(self, name: str, what: str, found: Any, count: int | None) -> None:
        # A tuple of `count` numbers; 0: one number; None: anything.
        if count is None or (count == 0 and not isinstance(found, tuple)):
            return
        if not isinstance(found, tuple) or len(found) != count:
            expected = f"a tuple of {count} numbers" if count else "one number"
            raise TypeError(
                f"cell {self.name!r}: {name}: expected {what} to be {expected}, got {found!r}"
            )

    def compiled(self, dtype: np.dtype) -> Any:
        """Return the cell as the engine takes it."""
        if dtype not in self._compiled:
            self._compiled[dtype] = self._compile(dtype)
        return self._compiled[dtype]

    def _compile(self, dtype: np.dtype) -> Any:
        try:
            import numba
            from numba import types
            from numba.core import errors
        except ImportError:
            raise ImportError(
                "cells of your own need Numba; install it with: pip install numba"
            ) from None

        compile_ = numba.njit(error_model="numpy", fastmath=FASTMATH, inline="always")
        names: dict[str, Any] = {
            "forward": compile_(self.forward),
            "backward": compile_(self.backward),
            "pointer": _pointer(types.float32 if dtype == np.float32 else types.float64),
        }
        module, G = engine.kernels(dtype), self.gates
        fields = module.block_fields
        previous = "(h_prev[i], c_prev[i])" if self.has_c else "h_prev[i]"
        # The places of a row: gradients of x in the first G, of W_hh h in the last G.
        take = "; ".join(
            f"{name} = block[{k}]" if name in ("rows", "units") or name.endswith("_stride")
            else f"{name} = pointer(block[{k}])"
            for k, name in enumerate(fields)
        )  # fmt: skip
        forward = FORWARD.format(
            fields=take,
            x=_listed("saved[s + {} * units]", G),
            r=_listed("recurrent[r + {} * units]", G),
            previous=previous,
            set_state="h[i], c[i] = state" if self.has_c else "h[i] = state",
            set_saved="; ".join(f"saved[s + {k} * units] = kept[{k}]" for k in range(self.kept))
            or "pass",
        )
        backward = BACKWARD.format(
            fields=take,
            dy=fields.index("dy"),
            kept=_listed("saved[s + {} * units]", self.kept),
            dstate="(d, dc[i])" if self.has_c else "d",
            previous=previous,
            set_saved="; ".join(
                f"saved[s + {k} * units] = dx[{k}]; saved[s + {k + G} * units] = dr[{k}]"
                for k in range(G)
            ),
            set_dstate="dh[i], dc[i] = dprevious" if self.has_c else "dh[i] = dprevious",
        )
        pointers = []
        signature = types.void(types.CPointer(types.intp))
        for source in (forward, backward):
            scope = dict(names)
            exec(source, scope)
            compile_loop = numba.cfunc(signature, error_model="numpy", fastmath=FASTMATH)
            which = "forward" if source is forward else "backward"
            try:
                pointers.append(compile_loop(scope["loop"]))
            except (errors.NumbaError, errors.UnsupportedBytecodeError) as error:
                raise TypeError(
                    f"cell {self.name!r}: Numba cannot compile {which}: it takes scalar "
                    f"arithmetic, math, tuples and conditional expressions ({type(error).__name__})"
                ) from error
            if RAISES in pointers[-1].inspect_llvm():
                raise TypeError(
                    f"cell {self.name!r}: {which}: expected a function that raises nothing, got "
                    "one that may: look for raise, assert, lists, an index or a step of range that "
                    "is computed, and calls of functions compiled without error_model='numpy'; the "
                    "engine cannot stop in the middle of a step, so return NaN instead"
                )
        order = list(range(G))
        forward_at, backward_at = (pointer.address or 0 for pointer in pointers)
        letters = "".join(chr(ord("a") + k) for k in range(G))  # gates have no names yet
        return module.CustomCell(
            self.name, letters, " " * (2 * G), "hc" if self.has_c else "h", (), (), order, order,
            [], forward_at, backward_at, (self, pointers),
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Return what it was made of; it is compiled again where it arrives."""
        return {**self.__dict__, "_compiled": {}}


def _listed(pattern: str, count: int) -> str:
    return "".join(pattern.format(k) + ", " for k in range(count))


def _pointer(real: Any) -> Any:
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def pointer(typing: Any, address: Any) -> Any:
        to = types.CPointer(real)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(to))

        return to(types.intp), generate

    return pointer


class Custom(Recurrent):
    """A layer with a cell of your own; parameters and shapes are those of `RNN`.

    Parameters
    ----------
    cell
        A `Cell`.
    input_size, hidden_size, ...
        As in `RNN`. W and b have G * H rows, the gates in the cell's order.

    Examples
    --------
    The minimal gated unit (Zhou et al., Minimal gated unit for recurrent neural networks, 2016):
    `f = sigmoid(x_f + r_f)`, `n = tanh(x_n + f r_n)`, `h = (1 - f) h_prev + f n`.

    >>> import math, numpy as np, rnncore
    >>> def forward(x, r, h_prev):
    ...     f = 1 / (1 + math.exp(-(x[0] + r[0])))
    ...     n = math.tanh(x[1] + f * r[1])
    ...     return (1 - f) * h_prev + f * n, (f, n, r[1])
    >>> def backward(kept, dh, h_prev):
    ...     f, n, r_n = kept
    ...     dz_n = dh * f * (1 - n * n)
    ...     dz_f = (dh * (n - h_prev) + dz_n * r_n) * f * (1 - f)
    ...     return (dz_f, dz_n), (dz_f, dz_n * f), dh * (1 - f)
    >>> cell = rnncore.Cell("minimal gated unit", 2, 3, forward, backward)
    >>> layer = rnncore.Custom(cell, 3, 5, seed=0)        # doctest: +SKIP
    >>> y, h = layer(np.ones((7, 2, 3)))                  # doctest: +SKIP
    """

    layer_name = "Custom"

    def __init__(
        self,
        cell: Cell,
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
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        if not isinstance(cell, Cell):
            raise TypeError(f"cell: expected an rnncore.Cell, got {type(cell).__name__}")
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            variational=variational, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
            weight_drop=weight_drop, learn_initial_state=learn_initial_state, dtype=dtype,
            seed=seed,
        )  # fmt: skip
