"""Gradients held against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnncore.arguments import check_size
from rnncore.layers.module import Module
from rnncore.layers.tape import Tape, Value


class GradientError(AssertionError):
    """A gradient differs from finite differences; the message has both."""


def check_gradients(
    module: Module,
    loss: Callable[..., Any],
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    tolerance: float = 1e-6,
    step: float = 1e-5,
    most: int = 50,
    seed: int = 0,
) -> dict[str, float]:
    """Compare all gradients of a composition with central differences, in float64.

    ``(L(w + s) - L(w - s)) / 2s`` for numbers w of each parameter and each input, against what
    `Tape.backward` gives. The error of an array is the largest difference divided by the largest
    number of both gradients of it; or, where all of them are small, by that of which the tolerance
    is as much as the rounding of L makes of a difference: ``16 epsilon max(|L|, 1) / s``.

    Parameters
    ----------
    module
        In float64. Its parameters are put back afterwards; its gradients are those of the tape.
    loss
        Called without arguments, or with the inputs by name; returns a number. It must return the
        same each time: dropout draws from the generator it is given, so leave it out or seed it
        in here.
    inputs
        Floating-point arrays whose gradients are checked as well.
    tolerance
        The largest error.
    step
        s.
    most
        Numbers of an array that are tried, drawn at random; smaller arrays whole.
    seed
        For that draw.

    Returns
    -------
    errors
        The error of each parameter and input.

    Raises
    ------
    GradientError
        If an error is above the tolerance; it names the array, the place and both numbers.
    TypeError, ValueError
        If the module is not float64, or the loss is not the same twice.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> net = rnncore.Linear(3, 2, dtype=np.float64, seed=0)
    >>> x = np.ones((4, 3))
    >>> errors = rnncore.check_gradients(net, lambda: rnncore.functions.sum(net(x)))
    >>> sorted(errors)
    ['bias', 'weight']
    """
    if module.dtype != np.float64:
        raise TypeError(
            f"module: expected one in float64, got {module.dtype}; make it with dtype=np.float64"
        )
    check_size("most", most)
    given = {name: np.array(array, np.float64) for name, array in dict(inputs or {}).items()}
    tape = Tape()
    with tape:
        values = {name: tape.watch(array) for name, array in given.items()}
        result = loss(**values)
    if not isinstance(result, Value):
        raise TypeError(f"loss: expected a value on the tape, got {type(result).__name__}")
    module.zero_grad()
    tape.backward(result, accumulate=True)
    analytic = {name: array.copy() for name, array in module.grads.items()}
    for name, value in values.items():
        zero = np.zeros_like(given[name])
        analytic[name] = zero if value.gradient is None else np.asarray(value.gradient)

    def at() -> float:
        with Tape() as again:
            return float(loss(**{name: again.watch(array) for name, array in given.items()}))

    if at() != float(result):
        raise ValueError(
            f"loss: expected the same number each time, got {float(result)!r} and {at()!r}; "
            "leave dropout out, or draw from a generator that loss makes anew"
        )
    rng, errors = np.random.default_rng(seed), {}
    rounding = 16 * np.finfo(np.float64).eps * max(abs(float(result)), 1.0) / step
    least = rounding / tolerance
    with module.writable_params() as params:
        for name, array in {**params, **given}.items():
            places = rng.permutation(array.size)[:most]
            numeric = np.array([_difference(array.reshape(-1), k, at, step) for k in places])
            found = analytic[name].reshape(-1)[places]
            scale = max(np.abs(numeric).max(initial=0), np.abs(found).max(initial=0), least)
            error = np.abs(numeric - found) / scale
            errors[name] = float(error.max(initial=0))
            if not errors[name] <= tolerance:
                worst = int(error.argmax())
                place = tuple(int(k) for k in np.unravel_index(places[worst], array.shape))
                raise GradientError(
                    f"{name}{list(place)}: the gradient is {found[worst]:.9g}, finite differences "
                    f"give {numeric[worst]:.9g}: {errors[name]:.2g} of the largest, more than "
                    f"{tolerance:g}"
                )
    return errors


def _difference(array: np.ndarray, k: int, loss: Callable[[], float], step: float) -> float:
    before = array[k]
    try:
        array[k] = before + step
        above = loss()
        array[k] = before - step
        below = loss()
    finally:
        array[k] = before
    return (above - below) / (2 * step)
