"""Parameters and gradients as named views of two flat buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from types import MappingProxyType
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import as_real, check_dtype

# A string, because naming numpy.random imports it.
Seed: TypeAlias = "int | np.random.Generator | None"


class Module:
    """Something with parameters: a layer, or a model made of layers.

    Parameters
    ----------
    shapes
        Name and shape of each parameter of its own.
    children
        Name and module of each part; a part's parameters become `name.parameter` here, and move
        into the buffers of the whole. So a module is part of one other at most.
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
        if not isinstance(children or {}, Mapping):
            raise TypeError(
                f"children: expected a mapping of names to modules, got {type(children).__name__}"
            )
        self._children = dict(children or {})
        self._is_part = False
        for name, child in self._children.items():
            if not isinstance(child, Module):
                raise TypeError(f"{name}: expected a layer or model, got {type(child).__name__}")
            if child.dtype != self.dtype:
                raise ValueError(f"dtype: expected {self.dtype} in {name}, got {child.dtype}")
            if child._is_part or sum(other is child for other in self._children.values()) > 1:
                raise ValueError(
                    f"{name}: expected a module that is no part yet, got one whose parameters "
                    "belong to another part or module; make a new one and give it the state_dict"
                )
        for child in self._children.values():
            child._is_part = True
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
    def params(self) -> Mapping[str, np.ndarray]:
        """Name and array of every parameter; the arrays are views and may be written to.

        Since nobody says when that happens, every later call packs the weights anew.
        `state_dict` returns copies and costs nothing afterwards.
        """
        self._expose()
        return MappingProxyType(dict(self._named("_params")))

    @property
    def grads(self) -> Mapping[str, np.ndarray]:
        """Name and gradient of every parameter; `backward` adds to them, or replaces them."""
        return MappingProxyType(dict(self._named("_grads")))

    def zero_grad(self) -> None:
        """Set all gradients to zero; `backward(accumulate=False)` replaces them and is faster."""
        self.flat_grads[...] = 0

    def weights_changed(self) -> None:
        """Say that `flat_params` was written to, so that weights are packed anew."""
        self._version += 1
        for child in self._children.values():
            child.weights_changed()

    @contextmanager
    def changing_weights(self) -> Iterator[None]:
        """Write into `flat_params` inside; weights are packed anew afterwards."""
        yield
        self.weights_changed()

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
        if not isinstance(state, Mapping):
            raise TypeError(
                f"state: expected a mapping of names to arrays, got {type(state).__name__}"
            )
        expected = self.state_dict()
        missing = [name for name in expected if name not in state]
        unexpected = [name for name in state if name not in expected]
        if missing or unexpected:
            wrong = [f"Missing key(s): {missing}"] * bool(missing)
            wrong += [f"Unexpected key(s): {unexpected}"] * bool(unexpected)
            raise ValueError(
                f"state: {'; '.join(wrong)}; load the state_dict of another "
                f"{type(self).__name__} of the same settings"
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

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the parts share buffers."""
        raise TypeError(
            f"{type(self).__name__}: cannot be pickled or copied; keep its state_dict() and load "
            "it into a new one of the same settings"
        )

    def _stale(self, packed_version: int) -> bool:
        # Whether weights packed at that version have to be packed again.
        return self._exposed or packed_version != self._version
