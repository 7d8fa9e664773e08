"""Dropout (Srivastava et al. 2014): noise in training, nothing in inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import as_real, check_probability, check_seed
from rnncore.engine.rows import Rows
from rnncore.layers.kept import Kept, find, remember
from rnncore.layers.module import Module, Seed
from rnncore.layers.recording import record_dropout
from rnncore.layers.tape import recording


class Dropout(Module):
    """Each number is zero with probability p, and 1 / (1 - p) times itself otherwise.

    Parameters
    ----------
    p
        At least 0, below 1.
    dtype, seed
        float32 or float64; a seed or generator for the masks.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> dropout = rnncore.Dropout(0.5, seed=0)
    >>> sorted(set(dropout.forward(np.ones((4, 8), np.float32)).ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float, *, dtype: DTypeLike = np.float32, seed: Seed = None) -> None:
        super().__init__(dtype=dtype)
        self.p = check_probability("p", p)
        self.generator = check_seed(seed)

    def _sizes_shown(self) -> list[str]:
        return [str(self.p)]

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the factors of a training pass: 0 or 1 / (1 - p)."""
        kept = self.generator.random(shape, np.float32) >= self.p
        return kept * self.dtype.type(1 / (1 - self.p))

    def __call__(self, x: Any) -> Any:
        """Return x itself, as inference has no noise; `forward` of it while a tape is open."""
        tape = recording()
        return x if tape is None else record_dropout(tape, self, x)

    def forward(self, x: Any, *, keep: bool = False) -> Any:
        """Return x, an array or rows, times a new mask, which is kept for backward.

        With `keep` the pass is returned as a second value.
        """
        if isinstance(x, Rows):
            x.check("x")
        else:
            x = as_real("x", x, self.dtype)
        kept = DropoutPass(self, x)
        if self.p:
            kept.mask = self.mask(x.array().shape if isinstance(x, Rows) else x.shape)
        y = kept.times_mask(x)
        if keep:
            return y, kept
        remember(self, kept)
        return y

    def backward(self, dy: Any, *, kept: DropoutPass | None = None) -> Any:
        """Return dL/dx = dL/dy * mask.

        Parameters
        ----------
        dy
            dL/dy, an array of the shape of y or rows like it.
        kept
            What that forward returned; None: the last one of this thread without `keep`.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each serves one backward).
        ValueError, TypeError
            If dy does not have the shape of y, or is not floating-point.
        """
        kept = find(self, kept, DropoutPass)
        if not isinstance(dy, Rows):
            dy = as_real("dy", dy, self.dtype)
        came = _shape(dy)
        if isinstance(dy, Rows) and not (dy.batch is kept.batch or dy.is_of(kept.batch)):
            raise ValueError("dy: expected rows of the batch of x, got another's")
        if came != kept.shape:
            raise ValueError(f"dy: expected the shape of y, {kept.shape}, got {came}")
        dx = kept.times_mask(dy)
        kept.use_up()
        return dx


class DropoutPass(Kept):
    """What dropout keeps: the mask."""

    def __init__(self, module: Dropout, x: np.ndarray | Rows) -> None:
        super().__init__(module)
        self.shape = _shape(x)
        self.batch = x.batch if isinstance(x, Rows) else None
        self.mask: np.ndarray | None = None

    def times_mask(self, x: np.ndarray | Rows) -> np.ndarray | Rows:
        """Return x times the mask."""
        if self.mask is None:
            return x
        if not isinstance(x, Rows):
            return x * self.mask
        padded = np.zeros((x.length, x.stride), x.dtype)
        y = x.like(padded)
        for part in range(x.parts):
            columns = slice(part * x.part_stride, part * x.part_stride + x.depth)
            numbers = slice(part * x.depth, (part + 1) * x.depth)
            np.multiply(x.padded()[:, columns], self.mask[:, numbers], out=padded[:, columns])
        return y


def _shape(x: np.ndarray | Rows) -> tuple[int, ...]:
    return (x.length, x.features) if isinstance(x, Rows) else x.shape
