"""Parameters and gradients as named views of two flat buffers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import as_real, check_dtype
from rnncore.layers.guard import Guard
from rnncore.layers.initialize import Beginning, Initial, initial_values
from rnncore.layers.marks import check_mark, explain_names
from rnncore.layers.parts import Parts

# A string, because naming numpy.random imports it.
Seed: TypeAlias = "int | np.random.Generator | None"


class Module(Parts):
    """Something with parameters: a layer, or a model made of layers.

    Parameters
    ----------
    shapes
        Name and shape of each parameter of its own.
    children
        Name and module of each part; a part's parameters become `name.parameter` here, and move
        into the buffers of the whole. So a module is part of one other at most.
    dtype
        float32 or float64, the same for all parts. None: that of the first part, or float32.

    Attributes
    ----------
    flat_params, flat_grads
        All parameters and all gradients, one flat array each. `flat_params` is for reading;
        `changing_weights` is for writing.

    Notes
    -----
    One thread may train a module, or part of it, while others run it: each call of a layer sees the
    weights of one moment. A module of your own calls its layers one after another, each at its
    moment; a language model takes all at once. Arrays that were taken from a module before it
    became part of another hold NaN afterwards, since its numbers have moved.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> model = rnncore.Module(children={"head": rnncore.Linear(3, 2, seed=0)})
    >>> model.num_parameters, list(model.params)
    (8, ['head.weight', 'head.bias'])
    >>> with model.writable_params() as params:
    ...     params["head.bias"][...] = 1
    >>> model.params["head.bias"].tolist()
    [1.0, 1.0]
    """

    #: Attributes that belong to one process and are made anew in a copy.
    _transient: tuple[str, ...] = ("_guard", "_packed_sets", "_last", "flat_params", "flat_grads",
                                   "_flat", "_reading")  # fmt: skip

    _take_turns = False

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        children: Mapping[str, Module] | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self._takes_dtype = dtype is None  # that of the first part
        self.dtype = check_dtype(np.float32 if dtype is None else dtype)
        for name, shape in dict(shapes or {}).items():
            if not isinstance(shape, tuple):
                raise TypeError(
                    f"shapes: expected a tuple of sizes for {name!r}, got {type(shape).__name__}; "
                    "modules are given as children={...}"
                )
        self._shapes = dict(shapes or {})
        if not isinstance(children or {}, Mapping):
            raise TypeError(
                f"children: expected a mapping of names to modules, got {type(children).__name__}"
            )
        self._children = dict(children or {})
        self._is_part = False
        for name, child in self._children.items():
            self._take_dtype(child)
            self._check_part(name, child)
            if sum(other is child for other in self._children.values()) > 1:
                raise ValueError(f"{name}: expected each part once, got one twice")
        self._version = 0
        self._params: dict[str, np.ndarray] = {}
        self._grads: dict[str, np.ndarray] = {}
        self._set_up()
        for child in self._children.values():
            child._is_part = True

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run `forward`: where a module is made of others, it serves training and inference."""
        return self.forward(*arguments, **options)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Say in a module of your own what it does with its parts."""
        raise NotImplementedError(f"{type(self).__name__} has no forward; define one")

    def zero_own_grad(self) -> None:
        """Set the gradients of its own parameters to zero, not those of its parts."""
        for array in self._grads.values():
            array[...] = 0

    def _set_up(self) -> None:
        # What a module has beside its settings and numbers; also after it was copied.
        self._packed_sets: dict[Any, tuple[int, Any]] = {}
        self._last = threading.local()
        size = self._size()
        self._bind(np.zeros(size, self.dtype), np.zeros(size, self.dtype), Guard())

    def _size(self) -> int:
        own = sum(prod(shape) for shape in self._shapes.values())
        return own + sum(child._size() for child in self._children.values())

    def _bind(self, flat: np.ndarray, flat_grads: np.ndarray, guard: Guard) -> None:
        # Move into these buffers; what the parts hold already comes along.
        self._guard = guard
        before = self._params, self._grads
        self._params, self._grads = {}, {}
        first = 0
        for name, shape in self._shapes.items():
            last = first + prod(shape)
            self._params[name] = flat[first:last].reshape(shape)
            self._grads[name] = flat_grads[first:last].reshape(shape)
            for now, old in zip((self._params, self._grads), before, strict=True):
                if name in old:
                    now[name][...] = old[name]
                    if old[name].flags.writeable:  # not so where they were unpickled from
                        old[name][...] = np.nan  # who still looks there shall see it
            first = last
        self._own_size = first
        for child in self._children.values():
            last = first + child._size()
            child._bind(flat[first:last], flat_grads[first:last], guard)
            first = last
        self._flat, self.flat_grads = flat, flat_grads
        self.flat_params = _read_only(flat)
        self._reading = {name: _read_only(array) for name, array in self._params.items()}
        self.weights_changed()

    def _named(self, which: str) -> Iterator[tuple[str, np.ndarray]]:
        yield from getattr(self, which).items()
        for prefix, child in self._children.items():
            for name, array in child._named(which):
                yield f"{prefix}.{name}", array

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        """Name and array of every parameter, for reading; `writable_params` is for writing."""
        return NamedArrays(self, "_reading")

    @property
    def grads(self) -> Mapping[str, np.ndarray]:
        """Name and gradient of every parameter; `backward` adds to them, or replaces them."""
        return NamedArrays(self, "_grads")

    @property
    def num_parameters(self) -> int:
        """How many numbers its parameters have, those of its parts included."""
        return int(self._flat.size)

    @contextmanager
    def changing_weights(self) -> Iterator[np.ndarray]:
        """Lend all parameters as one flat array to write to; other threads wait with reading.

        Afterwards weights are packed anew, and a backward pass of an earlier forward is refused.
        Within, the module answers this thread with what stands there at that moment, and refuses
        backward passes. Two threads that each change one tree of modules and read the other's
        meanwhile wait for each other for ever: read before you change.
        """
        with self._guard.writing():
            lent = self._flat.view()
            try:
                yield lent
            finally:
                lent.flags.writeable = False
                self.weights_changed()

    @contextmanager
    def writable_params(self) -> Iterator[Mapping[str, np.ndarray]]:
        """Lend name and array of every parameter to write to, as `changing_weights` does."""
        with self._guard.writing():
            lent = {name: array.view() for name, array in self._named("_params")}
            try:
                yield lent
            finally:
                for array in lent.values():
                    array.flags.writeable = False
                self.weights_changed()

    def zero_grad(self) -> None:
        """Set all gradients to zero; `backward(accumulate=False)` replaces them and is faster."""
        self.flat_grads[...] = 0

    def initialize(self, values: Mapping[str, Initial], seed: Seed = None) -> None:
        """Have parameters begin anew, from values by patterns of their names.

        Parameters
        ----------
        values
            Patterns of parameter names, as `fnmatch` has them, and what the parameters that fit
            begin with; a name takes the first pattern that it fits, and what fits none stays as it
            is. What is frozen begins anew as well. Each is one of these names, or a pair of a name
            and its number, ``("normal", 0.02)``:

            - "zeros", "ones";
            - "uniform": U(-b, b), b what the layer itself begins with, or the number;
            - "normal": N(0, s^2), s = 1 or the number;
            - "orthogonal": W^T W or W W^T = g^2 I (Saxe et al., Exact solutions to the nonlinear
              dynamics of learning, 2014, section 3), g = 1 or the number, as in all that follow;
            - "identity": g I, for recurrent weights of an RNN of rectified units (Le et al., A
              simple way to initialize recurrent networks of rectified linear units, 2015);
            - "xavier_normal", "xavier_uniform": the standard deviation g sqrt(2 / (in + out))
              (Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
              networks, 2010, equation 16);
            - "kaiming_normal", "kaiming_uniform": g / sqrt(in), g = sqrt(2) (He et al., Delving
              deep into rectifiers, 2015, equation 10).

            The weights of recurrent layers, (4H, ...) of an LSTM for example, begin a gate at a
            time: in and out are the columns and rows of one gate, and each gate is orthogonal or
            the identity by itself. Or a function: ``f(shape, generator)`` returns the array of the
            whole parameter.
        seed
            A seed or generator; numbers are drawn in the order of `params`.

        Raises
        ------
        TypeError, ValueError
            If no name is left for a pattern, or a value is unknown, does not fit a parameter, or is
            not finite. Nothing is changed then.

        Examples
        --------
        >>> import numpy as np, rnncore
        >>> net = rnncore.Sequential(rnncore.LSTM(3, 4, seed=0), rnncore.Linear(4, 2, seed=1))
        >>> net.initialize({"*weight_hh*": "orthogonal", "*bias*": "zeros"}, seed=0)
        >>> forget = net.params["0.weight_hh_l0"][4:8]
        >>> bool(np.allclose(forget @ forget.T, np.eye(4), atol=1e-6))
        True

        An LSTM whose memories last, with the gates i, f, g, o:

        >>> net.initialize({"0.bias*": lambda shape, _: np.repeat([0.0, 1.0, 0.0, 0.0], 4)})
        """
        found = initial_values(self, values, seed)
        with self.writable_params() as params:
            for name, array in found.items():
                params[name][...] = array

    def _beginning(self, name: str) -> Beginning:
        return Beginning()

    def weights_changed(self) -> None:
        """Have weights packed anew; the ways to write to them above do so by themselves."""
        self._version += 1
        for child in self._children.values():
            child.weights_changed()

    def _packed(self, kind: Any) -> Any:
        # The weights packed for a kind of pass, one immutable set a version. Large sets of several
        # kinds take turns in the same memory: in training each is needed once a version.
        found = self._packed_sets.get(kind)
        guard = self._guard
        if found is not None and found[0] == self._version and not (
            guard.writer and guard.written_here()
        ):
            return found[1]
        with guard.weights:
            if guard.written_here():
                return self._pack(kind)  # what stands there at this moment, for nobody else
            found = self._packed_sets.get(kind)
            if found is None or found[0] != self._version:
                if self._take_turns or any(
                    version != self._version for version, _ in list(self._packed_sets.values())
                ):
                    self._packed_sets.clear()
                found = self._version, self._pack(kind)
                self._packed_sets[kind] = found
            return found[1]

    def _pack(self, kind: Any) -> Any:
        raise NotImplementedError

    def release_memory(self) -> None:
        """Let go of all buffers that no pass is using; the next call makes those it needs."""
        self._packed_sets.clear()
        for child in self._children.values():
            child.release_memory()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters under PyTorch's names, shapes and gate order."""
        with self._guard.weights:
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
        expected = self.state_shapes()
        missing = [name for name in expected if name not in state]
        unexpected = [name for name in state if name not in expected]
        if missing or unexpected:
            wrong = [f"Missing key(s): {missing}"] * bool(missing)
            wrong += [f"Unexpected key(s): {unexpected}"] * bool(unexpected)
            wrong += explain_names(missing, unexpected)
            raise ValueError(
                f"state: {'; '.join(wrong)}; load the state_dict of another "
                f"{type(self).__name__} of the same settings"
            )
        for name, shape in expected.items():
            if np.shape(state[name]) != shape:
                raise ValueError(
                    f"state: size mismatch for {name}: expected {shape}, got "
                    f"{np.shape(state[name])}; load a state_dict of the same sizes"
                )
            if not check_mark(name, state[name]):
                as_real(f"state: {name}", state[name], self.dtype)
        with self.changing_weights():
            self._load(state, "")

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes that `state_dict` has."""
        shapes = self._own_state_shapes()
        for prefix, child in self._children.items():
            shapes.update({f"{prefix}.{k}": v for k, v in child.state_shapes().items()})
        return shapes

    def _load(self, state: Mapping[str, np.ndarray], prefix: str) -> None:
        own = {name.removeprefix(prefix): a for name, a in state.items() if name.startswith(prefix)}
        self._load_own(own)
        for name, child in self._children.items():
            child._load(state, f"{prefix}{name}.")

    def _own_state(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._params.items()}

    def _own_state_shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self._shapes)

    def _load_own(self, state: Mapping[str, np.ndarray]) -> None:
        for name, array in self._params.items():
            array[...] = state[name]

    def __getstate__(self) -> dict[str, Any]:
        """Return settings and numbers, as `copy` and `pickle` ask for them."""
        with self._guard.weights:
            state = {k: v for k, v in self.__dict__.items() if k not in self._transient}
            for which in ("_params", "_grads"):
                state[which] = {name: array.copy() for name, array in state[which].items()}
            if self._children:  # which are asked for theirs later: all parts of one moment
                state["_whole"] = self._flat.copy(), self.flat_grads.copy()
        state["_is_part"] = False
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take settings and numbers, and make the rest anew."""
        whole = state.pop("_whole", None)
        self.__dict__.update(state)
        for child in self._children.values():
            child._is_part = True
        self._set_up()
        if whole is not None:
            self._flat[...], self.flat_grads[...] = whole

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return a copy with parameters of its own, all parts of one moment."""
        with self._guard.weights:
            other = type(self).__new__(type(self))
            memo[id(self)] = other
            state = self.__getstate__()
            state.pop("_whole", None)  # nothing changes meanwhile
            other.__setstate__(copy.deepcopy(state, memo))
        return other

    def __copy__(self) -> Any:
        """Return a copy with parameters of its own, as `copy.deepcopy` does."""
        return copy.deepcopy(self)

    def _sizes_shown(self) -> list[str]:
        return [f"{name}={child!r}" for name, child in self._children.items()]

    def __repr__(self) -> str:
        """Return its sizes and number of parameters, and whether it is frozen."""
        return (
            f"{type(self).__name__}({', '.join(self._sizes_shown())}; "
            f"{self.num_parameters:,} parameters{', frozen' * self.frozen})"
        )


class NamedArrays(Mapping[str, np.ndarray]):
    """The arrays of a module by name, as they are at the moment they are asked for."""

    def __init__(self, module: Module, which: str) -> None:
        self._module, self._which = module, which

    def __getitem__(self, name: str) -> np.ndarray:
        for known, array in self._module._named(self._which):
            if known == name:
                return array
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._module._named(self._which))

    def __len__(self) -> int:
        return sum(1 for _ in self._module._named(self._which))

    def __repr__(self) -> str:
        return repr(dict(self.items()))


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
