"""The affine map of the output: y = W x + b."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from rnncore import engine
from rnncore.arguments import (
    as_real,
    check_flag,
    check_seed,
    check_size,
    check_weights,
)
from rnncore.engine.workspace import Workspace, aligned_empty
from rnncore.layers.module import Module, Seed
from rnncore.layers.rows import Rows


class Linear(Module):
    """An affine map of the last axis: `y = x W^T + b`.

    Parameters
    ----------
    in_features, out_features
        Sizes of the last axis of x and y. `weight` is (out_features, in_features) and `bias`
        (out_features,), both drawn from U(-1 / sqrt(in_features), 1 / sqrt(in_features)).
    bias
        Whether there is a b.
    dtype, seed
        float32 or float64; a seed or generator for the initial values.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> head = rnncore.Linear(16, 3, seed=0)
    >>> y = head.forward(np.ones((5, 2, 16), np.float32))
    >>> y.shape, head.backward(np.ones_like(y)).shape
    ((5, 2, 3), (5, 2, 16))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        check_weights("in_features, out_features", self.out_features, self.in_features)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if check_flag("bias", bias):
            shapes["bias"] = (self.out_features,)
        super().__init__(shapes, dtype=dtype)
        bound = self.in_features**-0.5
        generator = check_seed(seed)
        for array in self._params.values():
            array[...] = generator.uniform(-bound, bound, array.shape)
        self._kernels = engine.kernels(self.dtype)
        self._sizes = self._kernels.linear_sizes(self.in_features, self.out_features)
        self._packed = {
            "W": aligned_empty(self._sizes["W"], self.dtype),
            "b": aligned_empty(self._sizes["y"], self.dtype),
            "W_back": aligned_empty(self._sizes["W_back"], self.dtype),
        }
        self._packed_version = -1
        self._workspace = Workspace(self.dtype)
        self._x: Rows | None = None

    def _pack(self) -> None:
        if self._stale(self._packed_version):
            self._kernels.linear_pack(
                self._params["weight"], self._params.get("bias"), self._packed["W"],
                self._packed["b"], self._packed["W_back"],
            )  # fmt: skip
            self._packed_version = self._version

    def forward_rows(self, x: Rows, out: np.ndarray) -> np.ndarray:
        """Write x W^T + b into out, (x.length, row_size); return it without its padding."""
        self._pack()
        self._kernels.linear_forward(
            out, x.flat, x.first, x.stride, x.length, self.in_features, self.out_features,
            self._packed["W"], self._packed["b"], engine.get_num_threads(),
        )  # fmt: skip
        return out[:, : self.out_features]

    def backward_rows(
        self, dy: np.ndarray, x: Rows, dx: np.ndarray | None, accumulate: bool
    ) -> None:
        """Write dy W into dx, and the gradients; dy is (x.length, row_size), dx any row length."""
        if not (x.length or accumulate):
            self.zero_grad()
        array = self._workspace.array
        sizes = self._kernels.linear_sizes(self.in_features, self.out_features, x.length)
        self._kernels.linear_backward(
            dy, x.flat, x.first, x.stride, x.length, self.in_features, self.out_features,
            self._packed["W_back"], dx, 0 if dx is None else dx.shape[1],
            self._grads["weight"], self._grads.get("bias"), accumulate,
            array("dy_columns", (sizes["dy_columns"],)),
            array("x_panels", (sizes["x_panels"],)), engine.get_num_threads(),
        )  # fmt: skip

    @property
    def row_size(self) -> int:
        """Length of a row of y in the engine: out_features and the padding of the last panel."""
        return self._sizes["y"]

    def _rows(self, name: str, x: object, features: int) -> tuple[np.ndarray, tuple[int, ...]]:
        array = as_real(name, x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != features:
            raise ValueError(
                f"{name}: expected a last axis of {features}, got shape {array.shape}; give "
                f"arrays (..., {features})"
            )
        return array.reshape(-1, features), array.shape[:-1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return x W^T + b for x (..., in_features), as (..., out_features)."""
        rows, leading = self._rows("x", x, self.in_features)
        out = aligned_empty(len(rows) * self.row_size, self.dtype).reshape(-1, self.row_size)
        self.forward_rows(Rows.of(rows), out)
        return out.reshape(*leading, self.row_size)[..., : self.out_features]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Do the same and keep a copy of x for backward."""
        rows, leading = self._rows("x", x, self.in_features)
        kept = self._workspace.array("x", rows.shape)
        kept[...] = rows
        self._x = Rows.of(kept)
        return self(kept.reshape(*leading, self.in_features))

    def backward(self, dy: np.ndarray, *, accumulate: bool = True) -> np.ndarray:
        """Return dL/dx, given dL/dy (..., out_features).

        Parameters
        ----------
        dy
            dL/dy in the shape of y.
        accumulate
            Whether to add to `grads` or to replace what stands there.

        Raises
        ------
        RuntimeError
            If `forward` did not come before.
        ValueError
            If dy does not have the shape of y.
        """
        accumulate = check_flag("accumulate", accumulate)
        if self._x is None:
            raise RuntimeError("backward: nothing was kept; call forward first")
        rows, leading = self._rows("dy", dy, self.out_features)
        if len(rows) != self._x.length:
            raise ValueError(
                f"dy: expected the shape of y with {self._x.length} rows, got {np.shape(dy)}"
            )
        padded = self._workspace.array("dy", (len(rows), self.row_size))
        padded[:, self.out_features :] = 0
        padded[:, : self.out_features] = rows
        dx = np.empty((len(rows), self.in_features), self.dtype)
        self.backward_rows(padded, self._x, dx, accumulate)
        return dx.reshape(*leading, self.in_features)
