"""Tasks that ask for nothing but a long memory: sequences are drawn, so there is no end of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_seed, check_size


def adding_problem(
    count: int, steps: int, seed: int | np.random.Generator | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw sequences of numbers, two of which are marked, and the sums of the two.

    Each step has a number, uniform in [0, 1), and a mark, 1 at one step of the first half and at
    one of the second half, else 0. Who always says the mean, 1, has an error of 1/6.

    Parameters
    ----------
    count, steps
        Sequences, and the steps of each, two at least.
    seed
        An integer or a generator; None: anything.

    Returns
    -------
    X : (count, steps, 2) float32
    y : (count,)

    References
    ----------
    S. Hochreiter, J. Schmidhuber, Long short-term memory, 1997, section 5.4; with marks as in Q.
    Le, N. Jaitly, G. Hinton, A simple way to initialize recurrent networks of rectified linear
    units, 2015, section 4.1.

    Examples
    --------
    >>> X, y = adding_problem(3, 10, seed=0)
    >>> X.shape, bool(np.allclose((X[:, :, 0] * X[:, :, 1]).sum(1), y))
    ((3, 10, 2), True)
    """
    count, steps, rng = check_size("count", count), check_size("steps", steps, 2), check_seed(seed)
    X = np.zeros((count, steps, 2), np.float32)
    X[:, :, 0] = rng.random((count, steps))
    each, half = np.arange(count), steps // 2
    marked = rng.integers(0, half, count), rng.integers(half, steps, count)
    for places in marked:
        X[each, places, 1] = 1
    return X, sum(X[each, places, 0].astype(np.float64) for places in marked)


def copy_memory(
    count: int,
    delay: int,
    symbols: int = 8,
    length: int = 10,
    seed: int | np.random.Generator | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Draw symbols to be said again after a delay, and what shall be said at each step.

    A sequence has `length` symbols, `delay` steps of nothing, of which the last is a signal, and
    `length` steps of nothing, at which the symbols shall be said in their order; before that
    nothing shall be said, which is class 0. Who does not remember has 1 / symbols of them right.

    Parameters
    ----------
    count, delay, symbols, length
        Sequences; steps from the last symbol to the signal, one at least; kinds of symbols; how
        many shall be remembered.
    seed
        An integer or a generator; None: anything.

    Returns
    -------
    X : (count, 2 length + delay, symbols + 1) float32
        One-hot: a column a symbol, then the signal.
    y : (count, 2 length + delay)
        0, or 1 plus the number of the symbol.

    References
    ----------
    Hochreiter and Schmidhuber 1997, section 5.2, as M. Arjovsky, A. Shah, Y. Bengio pose it in
    Unitary evolution recurrent neural networks, 2016, section 5.1.

    Examples
    --------
    >>> X, y = copy_memory(1, 3, symbols=2, length=2, seed=0)
    >>> y[0].tolist(), X[0].argmax(1)[:2].tolist(), X[0, 4].tolist()
    ([0, 0, 0, 0, 0, 2, 2], [1, 1], [0.0, 0.0, 1.0])
    """
    count, delay, rng = check_size("count", count), check_size("delay", delay), check_seed(seed)
    symbols, length = check_size("symbols", symbols), check_size("length", length)
    said = rng.integers(0, symbols, (count, length))
    X = np.zeros((count, 2 * length + delay, symbols + 1), np.float32)
    X[np.arange(count)[:, None], np.arange(length), said] = 1
    X[:, length + delay - 1, symbols] = 1
    y = np.zeros(X.shape[:2], np.intp)
    y[:, length + delay :] = said + 1
    return X, y
