"""Gradients by finite differences, in float64, exact enough to judge at 1e-7 relative.

Central differences at three steps, extrapolated (Richardson; Ridders 1982)::

    D(s) = (f(q + s) - f(q - s)) / 2s          = f' + O(s^2)
    R(s) = (4 D(s/2) - D(s)) / 3               = f' + O(s^4)
    f'  ~= (16 R(s/2) - R(s)) / 15             = f' + O(s^6)

So the step can be large, 1/128, where the round-off of f hardly counts. |R(s/2) - R(s)| says how
far to trust an entry: where it is too large, for instance because a relu's kink lies within the
step, that entry is done again with a smaller step, and if that does not help, it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore import Module

Array = NDArray[Any]

STEPS = (2.0**-7, 2.0**-10, 2.0**-13)

#: Where R(s/2) and R(s) differ by more than this, relative to the largest gradient of the array, a
#: smaller step is tried. A kink within the step spoils the result about as much as the two differ,
#: so this is well below the 1e-7 to be judged.
TRUSTED = 2e-8

#: Gradients all smaller than this are measured against this instead of against themselves:
#: what would be judged otherwise is the round-off of f.
TINY = 1e-5


def numerical_gradient(f: Callable[[], float], array: Array) -> Array:
    """Return df/darray, one entry at a time; f reads `array`, which is changed and restored.

    >>> q = np.array([1.0, 2.0])
    >>> numerical_gradient(lambda: float(np.sum(q**3)), q).round(9)
    array([ 3., 12.])
    """
    if array.dtype != np.float64:
        raise TypeError(f"finite differences need a float64 array; got {array.dtype}")

    def difference(index: tuple[int, ...], step: float) -> float:
        q = array[index]
        try:
            array[index] = q + step
            above = float(f())
            array[index] = q - step
            below = float(f())
        finally:
            array[index] = q
        return (above - below) / (2 * step)

    gradient = np.zeros(array.shape)
    doubt = np.full(array.shape, np.inf)
    for step in STEPS:
        for index in np.ndindex(array.shape):
            if doubt[index] > TRUSTED * max(np.abs(gradient).max(), TINY):
                d1, d2, d4 = (difference(index, step / divisor) for divisor in (1, 2, 4))
                coarse, fine = (4 * d2 - d1) / 3, (4 * d4 - d2) / 3
                gradient[index] = (16 * fine - coarse) / 15
                doubt[index] = abs(fine - coarse)
    scale = max(np.abs(gradient).max(initial=0), TINY)
    if not np.all(doubt <= TRUSTED * scale):
        index = tuple(int(k) for k in np.argwhere(~(doubt <= TRUSTED * scale))[0])
        raise ValueError(f"f has no clear derivative at entry {index}: is it smooth, and float64?")
    return gradient


def numerical_gradients(f: Callable[[], float], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return df/darray for each named array."""
    return {name: numerical_gradient(f, array) for name, array in arrays.items()}


def gradient_error(analytic: Array, numeric: Array) -> float:
    """Return max|analytic - numeric| / max|numeric|: signed, one measure for a whole array.

    >>> gradient_error(np.array([1.0, -2.0]), np.array([1.0, 2.0]))
    2.0
    """
    if analytic.shape != numeric.shape:
        raise AssertionError(f"shape {analytic.shape}, expected {numeric.shape}")
    scale = max(np.abs(numeric).max(initial=0), TINY)
    return float(np.abs(analytic - numeric).max(initial=0) / scale)


def assert_gradients_close(
    analytic: Mapping[str, Array], numeric: Mapping[str, Array], rtol: float = 1e-7
) -> None:
    """Fail, naming the worst entry, unless every array is there and within `rtol`; NaN fails."""
    assert set(analytic) == set(numeric), (
        f"gradients of {sorted(analytic)}, expected those of {sorted(numeric)}"
    )
    for name, n in numeric.items():
        a = np.asarray(analytic[name])
        error = gradient_error(a, n)
        if not error <= rtol:
            worst = np.unravel_index(np.argmax(np.abs(a - n)), n.shape)
            at = tuple(int(k) for k in worst)
            raise AssertionError(
                f"d{name}: relative error {error:.2g} > {rtol:.2g}; "
                f"at {at} {float(a[at])!r}, by finite differences {float(n[at])!r}"
            )


def of_module(
    module: Module, loss: Callable[[], float], **others: Array
) -> dict[str, Array]:
    """Return the gradients of all parameters and of other arrays, by finite differences."""

    def changed() -> float:
        module.weights_changed()
        return loss()

    return numerical_gradients(changed, {**dict(module._named("_params")), **others})
