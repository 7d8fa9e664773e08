"""Parameters and gradients as named views of two flat buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from rnncore.layers.arguments import as_real, check_dtype

# A string, because naming numpy.random imports it.
Seed: TypeAlias = "int | np.random.Generator | None"


class Module:
    """Something with parameters: a layer, or a model made of layers.

    Parameters
    ----------
    shapes
        Name and shape of each parameter of its own.
    children
        Name and module of each part; a part's parameters become `name.parameter` here.
    dtype
        float32 or float64, the same for all parts.

    Attributes
    ----------
    flat_params, flat_grads
        All parameters and all gradients, one flat array each. Call `weights_changed` after
        writing into `flat_params`.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        children: Mapping[str, Module] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.dtype = check_dtype(dtype)
        self._shapes = dict(shapes or {})
        self._children = dict(children or {})
        for name, child in self._children.items():
            if child.dtype != self.dtype:
                raise ValueError(f"dtype: expected {self.dtype} in {name}, got {child.dtype}")
        self._version = 0
        self._exposed = False
        size = self._size()
        self._bind(np.zeros(size, self.dtype), np.zeros(size, self.dtype))

    def _size(self) -> int:
        own = sum(prod(shape) for shape in self._shapes.values())
        return own + sum(child._size() for child in self._children.values())

    def _bind(self, flat_params: np.ndarray, flat_grads: np.ndarray) -> None:
        # Move into these buffers; what the parts hold already comes along.
        self.flat_params, self.flat_grads = flat_params, flat_grads
        before = getattr(self, "_params", {})
        self._params: dict[str, np.ndarray] = {}
        self._grads: dict[str, np.ndarray] = {}
        first = 0
        for name, shape in self._shapes.items():
            last = first + prod(shape)
            self._params[name] = flat_params[first:last].reshape(shape)
            self._grads[name] = flat_grads[first:last].reshape(shape)
            if name in before:
                self._params[name][...] = before[name]
            first = last
        for child in self._children.values():
            last = first + child._size()
            child._bind(flat_params[first:last], flat_grads[first:last])
            first = last
        self.weights_changed()

    def _named(self, which: str) -> Iterator[tuple[str, np.ndarray]]:
        yield from getattr(self, which).items()
        for prefix, child in self._children.items():
            for name, array in child._named(which):
                yield f"{prefix}.{name}", array

    def _expose(self) -> None:
        # Somebody outside may write into the parameters at any time from now on, so that packed
        # weights are packed anew at every call.
        self._exposed = True
        for child in self._children.values():
            child._expose()

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Name and array of every parameter; the arrays are views and may be written to."""
        self._expose()
        return dict(self._named("_params"))

    @property
    def grads(self) -> dict[str, np.ndarray]:
        """Name and gradient of every parameter; `backward` adds to them."""
        return dict(self._named("_grads"))

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self.flat_grads[...] = 0

    def weights_changed(self) -> None:
        """Say that `flat_params` was written to, so that weights are packed anew."""
        self._version += 1
        for child in self._children.values():
            child.weights_changed()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters under PyTorch's names, shapes and gate order."""
        state = self._own_state()
        for prefix, child in self._children.items():
            state.update({f"{prefix}.{k}": v for k, v in child.state_dict().items()})
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take all parameters from a mapping of PyTorch's names to arrays.

        Raises
        ------
        ValueError
            If a name is missing or unexpected, or a shape differs; nothing is changed then.
        """
        expected = self.state_dict()
        missing = [name for name in expected if name not in state]
        unexpected = [name for name in state if name not in expected]
        if missing or unexpected:
            raise ValueError(
                f"state: Missing key(s): {missing or 'none'}; Unexpected key(s): "
                f"{unexpected or 'none'}; load a state_dict of a {type(self).__name__} of the "
                "same settings"
            )
        for name, array in expected.items():
            if np.shape(state[name]) != array.shape:
                raise ValueError(
                    f"state: size mismatch for {name}: expected {array.shape}, got "
                    f"{np.shape(state[name])}; load a state_dict of the same sizes"
                )
            as_real(f"state: {name}", state[name], self.dtype)
        self._load(state, "")
        self.weights_changed()

    def _load(self, state: Mapping[str, np.ndarray], prefix: str) -> None:
        own = {name.removeprefix(prefix): a for name, a in state.items() if name.startswith(prefix)}
        self._load_own(own)
        for name, child in self._children.items():
            child._load(state, f"{prefix}{name}.")

    def _own_state(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._params.items()}

    def _load_own(self, state: Mapping[str, np.ndarray]) -> None:
        for name, array in self._params.items():
            array[...] = state[name]

    def _stale(self, packed_version: int) -> bool:
        # Whether weights packed at that version have to be packed again.
        return self._exposed or packed_version != self._version
