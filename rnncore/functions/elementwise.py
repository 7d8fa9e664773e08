"""Functions of each number by itself, and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.layers.broadcast import like, numbers
from rnncore.layers.tape import raw, recording, tape_of


def _elementwise(x: Any, y: Any, derivative: Callable[[Any], Any]) -> Any:
    # y and dy/dx are arrays of the numbers of x.
    array, tape = raw(x), tape_of(x)
    result = like(y, array)
    if tape is None:
        return result
    return tape.record(result, (x,), lambda d: (like(numbers(d) * derivative(y), array),))


def tanh(x: Any) -> Any:
    """Return tanh(x), element by element; dL/dx = dL/dy (1 - y^2).

    Examples
    --------
    >>> tanh(np.array([0.0, 100.0])).tolist()
    [0.0, 1.0]
    """
    return _elementwise(x, np.tanh(numbers(raw(x))), lambda y: 1 - y * y)


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), element by element; dL/dx = dL/dy y (1 - y).

    Examples
    --------
    >>> sigmoid(np.array([0.0, 1000.0, -1000.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    array = np.asarray(numbers(raw(x)))
    return _elementwise(x, np.tanh(array * 0.5) * 0.5 + 0.5, lambda y: y * (1 - y))


def relu(x: Any) -> Any:
    """Return max(x, 0), element by element; dL/dx = dL/dy where x > 0, else 0.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _elementwise(x, np.maximum(numbers(raw(x)), 0), lambda y: y > 0)


def dropout(x: Any, p: float, generator: np.random.Generator) -> Any:
    """Return x with numbers zeroed with probability p and the others divided by 1 - p.

    While no tape is open on this thread, x itself (Srivastava et al., 2014). `rnncore.Dropout` is
    the same as a module with a generator of its own.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p: expected a number from 0 to below 1, got {p!r}")
    if recording() is None or p == 0:
        return x
    array = numbers(raw(x))
    kept = generator.random(array.shape, np.float32) >= p
    mask = kept * array.dtype.type(1 / (1 - p))
    return _elementwise(x, array * mask, lambda y: mask)
