"""Dropout: noise in training, nothing in inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import as_real, check_flag, check_probability, check_seed
from rnncore.engine import kernels
from rnncore.engine.noise import draw_keys, drop, mask_of, multiply_rows
from rnncore.engine.rows import Rows
from rnncore.engine.workspace import Lease, Pool, Workspace
from rnncore.layers.kept import Kept, find, remember
from rnncore.layers.module import Module, Seed
from rnncore.layers.recording import record_dropout
from rnncore.layers.tape import recording


def check_variational(variational: bool, dropout: float) -> bool:
    """Return whether dropout is to have one mask a sequence; refuse that of no dropout."""
    if check_flag("variational", variational) and not dropout:
        raise ValueError(
            "variational: it has dropout take the same units at all steps, but dropout is 0; give "
            "that as well, or leave variational out"
        )
    return variational


class Dropout(Module):
    """Each number is zero with probability p, and 1 / (1 - p) times itself otherwise.

    ``y = x * m / (1 - p)``, each ``m`` being 0 with probability p, else 1

    Parameters
    ----------
    p
        At least 0, below 1.
    variational
        Whether a sequence has one mask for all its steps: what is dropped in the first step stays
        dropped to the last. x is then (T, B, features), (T, features) or rows.
    batch_first
        Whether such an x is (B, T, features).
    dtype, seed
        float32 or float64; a seed or generator for the masks.

    References
    ----------
    Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (2014).
    Gal and Ghahramani, A theoretically grounded application of dropout in recurrent neural networks
    (2016), section 4: the variational form.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> dropout = rnncore.Dropout(0.5, seed=0)
    >>> sorted(set(dropout.forward(np.ones((4, 8), np.float32)).ravel().tolist()))
    [0.0, 2.0]
    >>> y = rnncore.Dropout(0.5, variational=True, seed=0).forward(np.ones((9, 2, 8), np.float32))
    >>> bool((y == y[0]).all())
    True
    """

    _transient = (*Module._transient, "_pool")

    def __init__(
        self,
        p: float,
        *,
        variational: bool = False,
        batch_first: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype=dtype)
        self.p = check_probability("p", p)
        self.variational = check_flag("variational", variational)
        self.batch_first = check_flag("batch_first", batch_first)
        self.generator = check_seed(seed)
        self._build()

    def _build(self) -> None:
        self._pool = Pool(self.dtype)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take settings, and make the rest anew."""
        self.__dict__.update(state)
        self._build()
        super().__setstate__(state)

    def release_memory(self) -> None:
        """Let go of all buffers that no pass is using; the next call makes those it needs."""
        super().release_memory()
        self._pool.release()

    def _sizes_shown(self) -> list[str]:
        return [str(self.p), *["variational=True"] * self.variational]

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the factors of a training pass: 0 or 1 / (1 - p)."""
        return self._fill(np.empty(shape, self.dtype))

    def _fill(self, out: np.ndarray) -> np.ndarray:
        return mask_of(kernels(self.dtype), self.generator, self.p, out)

    def _mask_for(self, x: np.ndarray | Rows, workspace: Workspace) -> np.ndarray:
        # Over time it has one step; of rows it is as `multiply_rows` takes it.
        if not self.variational:
            return self._fill(workspace.array(("mask",), _shape(x)))
        if isinstance(x, Rows):
            if x.batch is None:
                raise ValueError(
                    "x: expected rows of sequences, as a recurrent layer gives them, for a mask a "
                    "sequence; give an array (T, B, features)"
                )
            shape = 1, x.batch.running, x.features
        elif x.ndim < 2:
            raise ValueError(
                f"x: expected (T, B, features) or (T, features), for a mask a sequence, got shape "
                f"{x.shape}"
            )
        else:
            time = 1 if self.batch_first and x.ndim > 2 else 0
            shape = *x.shape[:time], 1, *x.shape[time + 1 :]
        [key] = draw_keys(self.generator, 1)
        return drop(kernels(self.dtype), self.p, key, np.ones(shape, self.dtype))

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
            if x.dtype != self.dtype:
                raise TypeError(f"x: expected rows of {self.dtype}, got {x.dtype}")
        else:
            x = as_real("x", x, self.dtype)
        kept = DropoutPass(self, x)
        if self.p:
            kept.lease = self._pool.lease()
            kept.mask = self._mask_for(x, kept.lease.workspace)
        y = kept.times_mask(x, "y")
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
        if not isinstance(dy, Rows) and kept.batch is not None and self.variational:
            raise TypeError(
                "dy: expected rows like y, of whose sequences each has a mask, got an array"
            )
        if isinstance(dy, Rows) and not (dy.batch is kept.batch or dy.is_of(kept.batch)):
            raise ValueError("dy: expected rows of the batch of x, got another's")
        if came != kept.shape:
            raise ValueError(f"dy: expected the shape of y, {kept.shape}, got {came}")
        dx = kept.times_mask(dy, "dx")
        kept.use_up()
        return dx


class DropoutPass(Kept):
    """What dropout keeps: the mask."""

    def __init__(self, module: Dropout, x: np.ndarray | Rows) -> None:
        super().__init__(module)
        self.shape = _shape(x)
        self.batch = x.batch if isinstance(x, Rows) else None
        self.mask: np.ndarray | None = None
        self.lease: Lease | None = None

    def times_mask(self, x: np.ndarray | Rows, name: str) -> np.ndarray | Rows:
        """Return x times the mask; rows in the buffer of this name."""
        if self.mask is None or self.lease is None:
            return x
        if not isinstance(x, Rows):
            return x * self.mask
        padded = self.lease.workspace.array((name,), (x.length, x.stride))
        if x.stride > x.features:
            padded[...] = 0
        y = x.like(padded, self.lease)
        for part in range(x.parts):
            columns = slice(part * x.part_stride, part * x.part_stride + x.depth)
            numbers = slice(part * x.depth, (part + 1) * x.depth)
            given, mask = x.padded()[:, columns], self.mask[..., numbers]
            multiply_rows(given, mask, x.batch, padded[:, columns])
        return y


def _shape(x: np.ndarray | Rows) -> tuple[int, ...]:
    return (x.length, x.features) if isinstance(x, Rows) else x.shape
