"""Which symbol comes next: one drawn from what a language model predicts."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnncore.arguments import check_size, is_number
from rnncore.engine import kernels

if TYPE_CHECKING:
    from rnncore.engine.compiled import Drawer

WINDOW = 64  # the last symbols, among which repetition counts


@dataclasses.dataclass(frozen=True)
class Drawing:
    r"""How a symbol is drawn from the logits x of a language model.

    In this order, each where it is given:

    - repetition: an x_i of a symbol among the last `repetition_window` ones becomes ``x_i / r``
      where it is above 0 and ``x_i r`` where it is below, r the penalty;
    - temperature: ``p_i = exp(x_i / temperature) / sum_j exp(x_j / temperature)``; 0 takes the
      likeliest symbol;
    - `top_k`: the k likeliest symbols alone, those as likely as the last of them included;
    - `top_p`: of these, as few of the likeliest as have the share p of the probability.

    Parameters
    ----------
    temperature
        Below 1 safer, above 1 wilder.
    top_k
        Whole; more than there are symbols keeps all. None: all.
    top_p
        Above 0 and at most 1. None: all.
    repetition_penalty
        Above 1 repeats less, 1 changes nothing.
    repetition_window
        How many symbols back, those of a prime among them; None: 64. Meant for words: among the
        last 64 characters are nearly all that a text needs.

    Raises
    ------
    ValueError
        If a value is out of its range, or has no effect beside the others.

    References
    ----------
    `top_p`: A. Holtzman et al., The curious case of neural text degeneration, ICLR 2020, section
    3.1. Repetition: N. S. Keskar et al., CTRL: a conditional transformer language model for
    controllable generation, 2019, section 4.1; there too x_i below 0 is multiplied in the code.

    Examples
    --------
    >>> import numpy as np
    >>> from rnncore.models.language_drawing import Drawing
    >>> logits = np.log([0.5, 0.3, 0.15, 0.05])
    >>> [Drawing(top_p=0.7).choose(logits, u) for u in (0.0, 0.62, 0.63, 0.99)]
    [0, 0, 1, 1]
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    repetition_window: int | None = None

    def __post_init__(self) -> None:
        t, p, r = self.temperature, self.top_p, self.repetition_penalty
        if not is_number(t) or not 0.0 <= t < math.inf:
            raise ValueError(f"temperature: expected a finite number, 0 or more, got {t!r}")
        if self.top_k is not None:
            check_size("top_k", self.top_k)
        if p is not None and (not is_number(p) or not 0.0 < p <= 1.0):
            raise ValueError(f"top_p: expected a share above 0 and at most 1, got {p!r}")
        if not is_number(r) or not 0.0 < r < math.inf:
            raise ValueError(
                f"repetition_penalty: expected a finite number above 0, got {r!r}; 1 changes "
                "nothing, 1.2 is usual"
            )
        for name in ("top_k", "top_p"):
            if t == 0 and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: expected none with temperature 0, which takes the likeliest symbol "
                    f"alone, got {getattr(self, name)!r}; leave one of them out"
                )
        if self.repetition_window is not None:
            check_size("repetition_window", self.repetition_window)
            if r == 1:
                raise ValueError(
                    "repetition_window: expected none without a repetition_penalty, got "
                    f"{self.repetition_window!r}; leave it out, or give a penalty such as 1.2"
                )

    @property
    def window(self) -> int:
        """How many of the last symbols count as repeated; 0: none."""
        window = min(self.repetition_window or WINDOW, 1 << 40)  # all that there is
        return 0 if self.repetition_penalty == 1 else window

    def drawer(self, symbols: int, dtype: DTypeLike) -> Drawer:
        """Return what draws one of so many symbols from logits of this dtype."""
        top_k, top_p = self.top_k or symbols, self.top_p or 1.0
        return kernels(dtype).Drawer(
            symbols, float(self.temperature), min(top_k, symbols), float(top_p),
            float(self.repetition_penalty),
        )  # fmt: skip

    def choose(
        self,
        logits: NDArray[np.floating],
        uniform: float | NDArray[np.float64] = 0.0,
        recent: NDArray[np.intp] | None = None,
    ) -> Any:
        """Return the number of a symbol, or of several from logits one below the other.

        Parameters
        ----------
        logits : (V,) or (B, V)
            -inf for a symbol that must not come.
        uniform
            A number from U[0, 1), or (B,) of them; temperature 0 needs none.
        recent : (n,) or (B, n)
            The last symbols, where there is a penalty.

        Raises
        ------
        ValueError
            If the largest of the logits is not finite, or one of them is a NaN.
        """
        rows = np.ascontiguousarray(np.atleast_2d(logits))
        if rows.dtype != np.float32:
            rows = rows.astype(np.float64)
        uniforms = np.ascontiguousarray(np.broadcast_to(uniform, len(rows)), np.float64)
        last = np.zeros((len(rows), 0)) if recent is None else np.atleast_2d(recent)
        drawn = self.drawer(rows.shape[1], rows.dtype).choose(
            rows, uniforms, np.ascontiguousarray(last, np.intp), np.array([], np.intp)
        )
        check_predicted(bool((drawn >= 0).all()))
        return drawn if np.ndim(logits) == 2 else drawn.item()


def check_predicted(finite: bool) -> None:
    """Refuse predictions that are no numbers."""
    if not finite:
        raise ValueError(
            "model: expected finite weights, but what it predicts is not a number; load "
            "another checkpoint, or train with a smaller learning_rate"
        )
