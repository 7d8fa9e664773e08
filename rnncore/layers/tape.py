"""Passes in the order they happened, and the way back through them."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rnncore.engine.rows import Rows
from rnncore.layers.broadcast import common_rows, like, numbers, sum_to

if TYPE_CHECKING:
    from rnncore.layers.module import Module


class Value:
    """A number, an array or rows on a tape.

    Layers and functions of `rnncore` take values where they take arrays, and give values for
    values. Operators work as on arrays. What stands in `array` is for reading alone: the way back
    needs it.

    Attributes
    ----------
    array
        What was computed: a float, an array, or `Rows`.
    gradient
        After `Tape.backward` the derivative of the loss, of a value that was watched; else None.
    """

    __slots__ = ("__weakref__", "array", "gradient", "is_wanted", "is_watched", "tape")
    __array_ufunc__ = None  # NumPy leaves operators to the value

    def __init__(self, array: Any, tape: Tape, is_wanted: bool = True) -> None:
        self.array, self.tape = array, tape
        self.gradient: Any = None
        self.is_wanted, self.is_watched = is_wanted, False

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "this is a value on a tape, which NumPy's functions do not record; use those of "
            "rnncore.functions, or read its numbers in value.array"
        )

    def __float__(self) -> float:
        return float(self.array)

    def __repr__(self) -> str:
        """Return what it holds."""
        if isinstance(self.array, Rows):
            return f"Value of {self.array.length} rows of {self.array.features}"
        return f"Value({self.array!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array; (rows, features) of rows, () of a number."""
        return np.shape(numbers(self.array))

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return np.asarray(numbers(self.array)).dtype

    def __add__(self, other: Any) -> Any:
        return add(self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return multiply(self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return multiply(self, -1.0)

    def __sub__(self, other: Any) -> Any:
        return add(self, multiply(other, -1.0))

    def __rsub__(self, other: Any) -> Any:
        return add(multiply(self, -1.0), other)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, Value):
            raise TypeError("division by a value is not recorded; multiply by what you have")
        inverse = 1.0 / np.asarray(other)
        # A number of Python's has no dtype of its own, and leaves that of the value.
        return multiply(self, float(inverse) if type(other) in (int, float) else inverse)

    def __getitem__(self, key: Any) -> Any:
        return take(self, key)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __bool__(self) -> bool:
        raise TypeError("a value on a tape has no truth value; ask value.array")


class _Active(threading.local):
    tape: Tape | None = None


_active = _Active()


def recording() -> Tape | None:
    """Return the tape that is open on this thread, or None."""
    return _active.tape


class Tape:
    """Records layers and functions as they run, for one backward pass through all of them.

    While a tape is open, a call of a layer is a training pass: dropout is on, and what backward
    needs is kept. Hand-derived passes of the layers stay what does the work; the tape calls them in
    reverse order, with gradients added up where a value was used more than once. Each thread has
    its own.

    Parameters
    ----------
    module
        What is trained. A part of it that takes no part in the loss is named in a warning, and its
        gradient is zero. None: nobody looks.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> rnn, head = rnncore.GRU(3, 8, seed=0), rnncore.Linear(8, 2, seed=0)
    >>> x, wanted = np.ones((7, 4, 3), np.float32), np.zeros((7, 4, 2), np.float32)
    >>> with rnncore.Tape() as tape:
    ...     y, h = rnn(x)
    ...     error = head(y) - wanted
    ...     loss = rnncore.functions.mean(error * error)
    >>> tape.backward(loss)
    >>> bool(np.abs(rnn.grads["weight_hh_l0"]).max() > 0)
    True
    """

    def __init__(self, module: Module | None = None) -> None:
        self._module = module
        self._steps: list[tuple[tuple[Value, ...], tuple[Any, ...], Callable[..., Any]]] = []
        self._is_used = False
        self._accumulates = False
        self._versions = self._versions_now()
        self._touched: set[int] = set()

    def __enter__(self) -> Self:
        """Open it on this thread."""
        if _active.tape is not None:
            raise RuntimeError("a tape is open on this thread already; close it first")
        self._refuse_used()
        self._versions = self._versions_now()
        _active.tape = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; it can still go back."""
        _active.tape = None

    def _versions_now(self) -> list[int]:
        return [] if self._module is None else [m._version for _, m in self._module.named_modules()]

    def _refuse_used(self) -> None:
        if self._is_used:
            raise RuntimeError(
                "this tape has served a backward, and each serves one; record on a new Tape()"
            )

    def watch(self, array: Any) -> Value:
        """Return a value of an array or of rows whose gradient is wanted, such as an input.

        The array is copied.
        """
        self._refuse_used()
        if not isinstance(array, Rows):
            array = np.array(array)
            if array.dtype.kind != "f":
                raise TypeError(
                    f"array: expected floating-point numbers, got dtype {array.dtype}"
                )
            array.flags.writeable = False
        value = Value(array, self)
        value.is_watched = True
        return value

    def record(
        self, results: Any, inputs: tuple[Any, ...], back: Callable[..., tuple[Any, ...]],
        trains: bool = False,
    ) -> Any:  # fmt: skip
        """Take a step down: what came out of what, and how it goes back.

        Parameters
        ----------
        results
            An array, rows, a number, or a tuple of these, for each of which a value is returned.
        inputs
            What went in; those that are no values of a tape are skipped on the way back.
        back
            Takes the derivative of the loss by each result, None where there is none, and returns
            those by each input, None where it has none.
        trains
            Whether it has parameters, so that its results are wanted whatever its inputs are.

        Examples
        --------
        A function of one's own, y = x^2:

        >>> import numpy as np, rnncore
        >>> tape = rnncore.Tape()
        >>> x = tape.watch(np.array([1.0, 2.0, 3.0]))
        >>> y = tape.record(x.array**2, (x,), lambda dy: (2 * x.array * dy,))
        >>> tape.backward(y[2])
        >>> x.gradient
        array([0., 0., 6.])
        """
        if self._is_used:
            self._refuse_used()
        wanted = trains
        for one in inputs:
            if isinstance(one, Value):
                if one.tape is not self:
                    raise RuntimeError("a value of another tape cannot be recorded on this one")
                wanted = wanted or one.is_wanted
        if isinstance(results, tuple) and not isinstance(results, Rows):
            values = tuple([Value(_frozen(result), self, wanted) for result in results])
            if wanted:
                self._steps.append((values, inputs, back))
            return values
        value = Value(_frozen(results), self, wanted)
        if wanted:
            self._steps.append(((value,), inputs, back))
        return value

    def adds_to(self, module: Module) -> bool:
        """Say whether a backward pass adds to the gradients of a module, or replaces them."""
        first = id(module) not in self._touched
        self._touched.add(id(module))
        return self._accumulates or not first

    def backward(self, loss: Any, gradient: Any = None, *, accumulate: bool = False) -> None:
        """Go back from a loss: gradients of parameters go into `grads`, of values into `gradient`.

        Parameters
        ----------
        loss
            A number on this tape; or an array or rows, with the derivative of the loss by it.
        gradient
            dL/d(loss), in the shape of an array or rows; None for a number, where it is 1.
        accumulate
            Whether to add to the gradients of parameters, as several batches of a step want it.

        Raises
        ------
        RuntimeError
            If the tape has served a backward, or the weights have changed since. With a module
            nothing is changed then, and its weights stay as they are until backward is done.
        FloatingPointError
            If the loss is not a number or infinite; no gradient is changed then.
        TypeError, ValueError
            If the loss is no value of this tape, or depends on nothing that is trained or watched.
        """
        self._refuse_used()
        if not isinstance(loss, Value) or loss.tape is not self:
            came = "a value of another" if isinstance(loss, Value) else type(loss).__name__
            raise TypeError(f"loss: expected a value of this tape, got {came}")
        if not loss.is_wanted:
            raise ValueError("loss: expected one that depends on a layer or a watched value")
        if gradient is None:
            if np.size(numbers(loss.array)) != 1 or isinstance(loss.array, Rows):
                raise ValueError(
                    f"loss: expected one number, got shape {loss.shape}; give its gradient as well"
                )
            if not math.isfinite(float(loss)):
                raise FloatingPointError(
                    f"loss: expected a finite number, got {float(loss)}; no gradient was changed. "
                    "Look at the inputs, or take a smaller learning rate"
                )
            gradient = np.ones(np.shape(loss.array)) if np.ndim(loss.array) else 1.0
        elif np.shape(numbers(gradient)) != loss.shape:
            raise ValueError(
                f"gradient: expected the shape of the loss, {loss.shape}, got "
                f"{np.shape(numbers(gradient))}"
            )
        with nullcontext() if self._module is None else self._module._guard.gradients:
            if self._versions != self._versions_now():
                raise RuntimeError(
                    "backward: the weights have changed since they were recorded; call backward "
                    "first, then change them"
                )
            self._is_used, self._accumulates = True, accumulate
            loss.gradient = gradient
            self._go_back()
            self._look_for_the_untouched()

    def _go_back(self) -> None:
        steps, self._steps = self._steps, []
        while steps:
            values, inputs, back = steps.pop()
            given, reached = [], False
            for value in values:
                given.append(value.gradient)
                reached = reached or value.gradient is not None
                if not value.is_watched:
                    value.gradient = None
            if not reached:
                continue
            for one, derivative in zip(inputs, back(*given), strict=True):
                if derivative is not None and isinstance(one, Value) and one.is_wanted:
                    before = one.gradient
                    one.gradient = derivative if before is None else _sum(before, derivative)

    def _look_for_the_untouched(self) -> None:
        if self._module is None:
            return
        missing = [
            (name or type(part).__name__, part)
            for name, part in self._module.named_modules()
            if part.has_own_parameters and id(part) not in self._touched
        ]
        for _, part in missing:
            if not self._accumulates:
                part.zero_own_grad()
        names = [name for name, part in missing if not part.frozen]
        if names:
            warnings.warn(
                f"no part in the loss, and a gradient of zero: {', '.join(names)}; freeze() what "
                "shall not be trained",
                UserWarning,
                stacklevel=3,
            )


def _frozen(result: Any) -> Any:
    # Nobody changes in place what the way back may need.
    if isinstance(result, np.ndarray):
        result.flags.writeable = False
    return result


def raw(value: Any) -> Any:
    """Return what a value holds; anything else as it is."""
    return value.array if isinstance(value, Value) else value


def _sum(a: Any, b: Any) -> Any:
    return like(numbers(a) + numbers(b), a)


def tape_of(*values: Any) -> Tape | None:
    """Return the tape of the first value among these, or None."""
    for value in values:
        if isinstance(value, Value):
            return value.tape
    return None


def is_wanted(value: Any) -> bool:
    """Whether somebody asks for its gradient."""
    return isinstance(value, Value) and value.is_wanted


def _operand(value: Any) -> Any:
    # A constant array is copied: it may change before the way back.
    array = raw(value)
    if isinstance(value, Value) or isinstance(array, Rows) or np.isscalar(array):
        return array
    return np.array(array)


def add(a: Any, b: Any) -> Any:
    """Return a + b, broadcast as NumPy does; arrays, numbers or rows."""
    x, y = _operand(a), _operand(b)
    model = common_rows(x, y)
    result, tape = like(numbers(x) + numbers(y), model), tape_of(a, b)
    if tape is None:
        return result
    return tape.record(
        result, (a, b),
        lambda d: (sum_to(d, x) if is_wanted(a) else None, sum_to(d, y) if is_wanted(b) else None),
    )  # fmt: skip


def multiply(a: Any, b: Any) -> Any:
    """Return a * b, element by element, broadcast as NumPy does; arrays, numbers or rows."""
    x, y = _operand(a), _operand(b)
    model = common_rows(x, y)
    result, tape = like(numbers(x) * numbers(y), model), tape_of(a, b)
    if tape is None:
        return result

    def back(d: Any) -> tuple[Any, Any]:
        d = numbers(d)
        return (
            sum_to(like(d * numbers(y), model), x) if is_wanted(a) else None,
            sum_to(like(d * numbers(x), model), y) if is_wanted(b) else None,
        )

    return tape.record(result, (a, b), back)


def take(a: Any, key: Any) -> Any:
    """Return a[key] of an array: slices, integers, index arrays; what is taken twice adds up."""
    x, tape = raw(a), tape_of(a)
    if isinstance(x, Rows):
        raise TypeError(
            "rows cannot be indexed; unpack() gives an array (T, B, features), columns() a part of "
            "the features"
        )
    result = np.array(x[key])
    if tape is None:
        return result
    parts = key if isinstance(key, tuple) else (key,)
    plain = all(isinstance(part, int | slice | type(None) | type(...)) for part in parts)

    def back(d: Any) -> tuple[Any]:
        dx = np.zeros(x.shape, x.dtype)
        if plain:
            dx[key] = d
        else:
            np.add.at(dx, key, d)
        return (dx,)

    return tape.record(result, (a,), back)
