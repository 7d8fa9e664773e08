"""Dropout (Srivastava et al. 2014): noise in training, nothing in inference."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import as_real, check_probability, check_seed
from rnncore.layers.module import Module, Seed


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
        self._mask: np.ndarray | None = None
        self._shape: tuple[int, ...] | None = None  # of the last forward pass

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the factors of a training pass: 0 or 1 / (1 - p)."""
        kept = self.generator.random(shape, np.float32) >= self.p
        return kept * self.dtype.type(1 / (1 - self.p))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return x itself: inference has no noise."""
        return x

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return x times a new mask, which is kept for backward."""
        x = as_real("x", x, self.dtype)
        self._shape = x.shape
        self._mask = self.mask(x.shape) if self.p else None
        return x if self._mask is None else x * self._mask

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dL/dx = dL/dy * mask.

        Raises
        ------
        RuntimeError
            If `forward` did not come before.
        ValueError, TypeError
            If dy does not have the shape of y, or is not floating-point.
        """
        if self._shape is None:
            raise RuntimeError("backward: nothing was kept; call forward first")
        dy = as_real("dy", dy, self.dtype)
        if dy.shape != self._shape:
            raise ValueError(f"dy: expected the shape of y, {self._shape}, got {dy.shape}")
        return dy if self._mask is None else dy * self._mask
