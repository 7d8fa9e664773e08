"""The affine map of the output: y = W x + b."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import (
    as_real,
    check_dtype,
    check_flag,
    check_seed,
    check_size,
    check_weights,
)
from rnncore.engine import kernels
from rnncore.engine.packed import Job, Packed, Packing, Spare
from rnncore.engine.precision import check_trains, storage_of
from rnncore.engine.rows import Rows
from rnncore.engine.threads import team_size
from rnncore.engine.workspace import Pool, empty, new_array
from rnncore.layers.initialize import Beginning
from rnncore.layers.kept import Kept, find, remember
from rnncore.layers.module import Module, Seed
from rnncore.layers.recording import record_linear
from rnncore.layers.tape import recording


class Linear(Module):
    """An affine map of the last axis: `y = x W^T + b`.

    Parameters
    ----------
    in_features, out_features
        Sizes of the last axis of x and y. `weight` is (out_features, in_features) and `bias`
        (out_features,), both drawn from U(-1 / sqrt(in_features), 1 / sqrt(in_features)).
    bias
        Whether there is a b.
    precision
        Of the product's factors, see `set_matmul_precision`; None: what that has set.
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

    _transient = (*Module._transient, "_linear", "_kernels", "_pool", "_spare", "_packings")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        precision: str | None = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        check_weights("in_features, out_features", self.out_features, self.in_features)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if check_flag("bias", bias):
            shapes["bias"] = (self.out_features,)
        self.dtype = check_dtype(dtype)
        self.precision = storage_of(precision, self.dtype)
        self._build()
        super().__init__(shapes, dtype=dtype)
        bound = self.in_features**-0.5
        generator = check_seed(seed)
        for array in self._params.values():
            array[...] = generator.uniform(-bound, bound, array.shape)

    def _beginning(self, name: str) -> Beginning:
        return Beginning(bound=self.in_features**-0.5)

    def _build(self) -> None:
        self._kernels = kernels(self.dtype)
        self._linear = self._kernels.Linear(self.in_features, self.out_features, self.precision)
        self._pool = Pool(self.dtype)
        self._spare = Spare()
        self._packings: dict[Any, Packing] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take settings and numbers, and make the rest anew."""
        self.__dict__.update(state)
        self.__dict__.setdefault("precision", self.dtype.name)  # absent from older pickles
        self._build()
        super().__setstate__(state)

    def _take_precision(self, precision: str) -> None:
        self.precision = precision
        self._build()

    def _sizes_shown(self) -> list[str]:
        return [str(self.in_features), str(self.out_features)]

    @property
    def row_size(self) -> int:
        """Length of a row of y in the engine: out_features and the padding of the last panel."""
        size: int = self._linear.row_size
        return size

    def _pack(self, kind: Any) -> Packed:
        if kind not in self._packings:
            self._packings[kind] = Packing(self._spare, self.dtype, [self._job(kind)])
        return self._packings[kind].pack()

    def _job(self, kind: Any) -> Job:
        # Of the parameters alone: a job that held the layer would keep it alive.
        kernels, linear, params = self._kernels, self._linear, self._params
        if kind == "forward":
            return linear.packed_bytes, lambda buffer: kernels.LinearWeights(
                linear, buffer, params["weight"], params.get("bias"), team_size()
            )
        parts, part_stride = kind
        size = linear.packed_back_bytes(parts, part_stride)
        return size, lambda buffer: kernels.LinearWeightsBack(
            linear, buffer, params["weight"], parts, part_stride, team_size()
        )

    def _bind(self, *buffers: Any) -> None:
        super()._bind(*buffers)
        self._packings.clear()  # their jobs read the parameters from before

    def release_memory(self) -> None:
        """Let go of all buffers that no pass is using; the next call makes those it needs."""
        super().release_memory()
        self._spare.buffers.clear()
        self._pool.release()

    def __call__(self, x: Any) -> Any:
        """Return x W^T + b for x (..., in_features), as (..., out_features); rows for rows."""
        tape = recording()
        if tape is not None:
            return record_linear(tape, self, x)
        return self._apply(self._packed("forward"), x)

    def _apply(self, packed: Packed, x: Any) -> Any:
        y = packed.weights[0].apply(x, team_size())
        return self._map(packed, x) if y is NotImplemented else y

    def ready(self, keep: bool = False) -> Callable[[Any], Any]:
        """Return the layer as it is at this moment, whatever happens to its weights.

        With `keep` it is the `forward` that returns its pass.
        """
        if keep:
            return partial(self._forward, LinearPass(self), self._packed("forward"))
        return partial(self._map, self._packed("forward"))

    def _map(self, packed: Packed, x: Any) -> Any:
        if isinstance(x, Rows):
            lease = self._pool.lease()
            y = lease.workspace.array(("y",), (x.length, self.row_size))
            self._run(packed, self._check_rows("x", x, self.in_features), y)
            return self._rows_of(y, x, lease)
        rows, leading = self._check("x", x, self.in_features)
        y = new_array((len(rows), self.row_size), self.dtype)
        self._run(packed, Rows.of(rows), y)
        return y.reshape(*leading, self.row_size)[..., : self.out_features]

    def _rows_of(self, y: np.ndarray, x: Rows, lease: Any) -> Rows:
        width = self.row_size
        return Rows(
            y.reshape(-1), x.length, 0, width, self.out_features, 1, width, False, x.batch, lease,
            True,
        )  # fmt: skip

    def _run(self, packed: Packed, x: Rows, y: np.ndarray) -> None:
        self._kernels.linear_forward(
            packed.weights[0], y, x.flat, x.first, x.stride, x.parts, x.part_stride, x.length,
            team_size(),
        )  # fmt: skip

    def forward(self, x: Any, *, keep: bool = False) -> Any:
        """Do the same and keep what backward needs: a copy of x, or the rows themselves.

        With `keep` the pass is returned as a second value, for `backward(..., kept=...)`.
        """
        if not keep:
            remember(self, None)  # its buffers serve this pass
        y, kept = self._forward(LinearPass(self), self._packed("forward"), x)
        if keep:
            return y, kept
        remember(self, kept)
        return y

    def _forward(self, kept: LinearPass, packed: Packed, x: Any) -> tuple[Any, LinearPass]:
        check_trains(self.precision)
        if isinstance(x, Rows):
            kept.x = self._check_rows("x", x, self.in_features)
        else:
            rows, leading = self._check("x", x, self.in_features)
        kept.lease = self._pool.lease()
        workspace = kept.lease.workspace
        if isinstance(x, Rows):
            out = workspace.array("y", (x.length, self.row_size))
            self._run(packed, x, out)
            y: Any = self._rows_of(out, x, kept.lease)
        else:
            copied = workspace.array("x", rows.shape)
            copied[...] = rows
            kept.x, kept.leading = Rows.of(copied), leading
            y = self._apply(packed, copied.reshape(*leading, self.in_features))
        return y, kept

    def backward(
        self,
        dy: Any,
        *,
        input_gradient: bool = True,
        accumulate: bool = True,
        kept: LinearPass | None = None,
    ) -> Any:
        """Return dL/dx, given dL/dy (..., out_features) or rows of it.

        Parameters
        ----------
        dy
            dL/dy in the shape of y.
        input_gradient
            False skips the gradient of x, which then is None.
        accumulate
            Whether to add to `grads` or to replace what stands there.
        kept
            What that forward returned; None: the last one of this thread without `keep`.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each serves one backward), or the weights have
            changed since.
        TypeError, ValueError
            If dy is not floating-point, or does not have the shape of y.
        """
        accumulate = check_flag("accumulate", accumulate)
        with self._guard.gradients:
            kept = find(self, kept, LinearPass)
            x, leading, lease = kept.x, kept.leading, kept.lease
            workspace = lease.workspace
            count = x.length
            if (leading is None) != isinstance(dy, Rows):
                expected = "rows" if leading is None else "an array"
                raise TypeError(f"dy: expected {expected}, as x was, got {type(dy).__name__}")
            if isinstance(dy, Rows):
                given = self._check_rows("dy", dy, self.out_features)
                if given.length != count or not (given.batch is x.batch or given.is_of(x.batch)):
                    raise ValueError("dy: expected rows of the batch of x, got another's")
            else:
                rows, came = self._check("dy", dy, self.out_features)
                if came != leading:
                    raise ValueError(
                        f"dy: expected the shape of y, {(*(leading or ()), self.out_features)}, "
                        f"got {np.shape(dy)}"
                    )
            if isinstance(dy, Rows) and given.parts == 1 and given.stride == self.row_size:
                padded = given.padded()
            else:
                padded = workspace.array("dy", (count, self.row_size))
                padded[:, self.out_features :] = 0
                padded[:, : self.out_features] = given.array() if isinstance(dy, Rows) else rows
            parts = (1, 0) if x.parts == 1 else (x.parts, x.part_stride)
            back = self._packed(parts) if input_gradient else None
            dx = None
            if input_gradient:
                if leading is None:
                    dx = workspace.array("dx", (count, x.stride))
                else:
                    dx = empty((count, self.in_features), self.dtype)
            kept.use_up()
            self._backward_rows(x, padded, back, dx, accumulate, workspace)
        if dx is None:
            return None
        return x.like(dx, lease) if leading is None else dx.reshape(*leading, self.in_features)

    def _backward_rows(
        self, x: Rows, dy: np.ndarray, back: Any, dx: np.ndarray | None, adds: bool, workspace: Any
    ) -> None:
        if not (x.length or adds):
            self.zero_grad()
        array, sizes = workspace.array, self._linear.backward_sizes(x.length)
        self._kernels.linear_backward(
            self._linear, None if back is None else back.weights[0], dy, x.flat, x.first, x.stride,
            x.parts, x.part_stride, x.length, dx, 0 if dx is None else dx.shape[1],
            self._grads["weight"], self._grads.get("bias"), adds,
            array("dy_columns", (sizes["dy_columns"],)),
            array("x_panels", (sizes["x_panels"],)), team_size(),
        )  # fmt: skip

    def _check(self, name: str, x: Any, features: int) -> tuple[np.ndarray, tuple[int, ...]]:
        array = as_real(name, x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != features:
            raise ValueError(
                f"{name}: expected a last axis of {features}, got shape {array.shape}; give "
                f"arrays (..., {features})"
            )
        return array.reshape(-1, features), array.shape[:-1]

    def _check_rows(self, name: str, x: Rows, features: int) -> Rows:
        if x.features != features or x.dtype != self.dtype:
            raise ValueError(
                f"{name}: expected rows of {features} numbers of {self.dtype}, got {x.features} "
                f"of {x.dtype}"
            )
        x.check(name)
        return x


class LinearPass(Kept):
    """What a linear layer keeps: its input, and the memory that it is in."""

    x: Rows
    lease: Any
    leading: tuple[int, ...] | None = None  # axes of x before the last; None: x was rows

