"""Sums, products of matrices, softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.arguments import as_array
from rnncore.layers.broadcast import like, numbers, plain, sum_to
from rnncore.layers.tape import is_wanted, multiply, raw, tape_of


def sum(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the sum over some axes of an array, or over all of it.

    Examples
    --------
    >>> float(sum(np.ones((2, 3))))
    6.0
    """
    array, tape = numbers(raw(x)), tape_of(x)
    result = np.sum(array, axis)
    if tape is None:
        return result

    def back(d: Any) -> tuple[Any]:
        if axis is not None:
            d = np.expand_dims(d, axis)
        dx = np.broadcast_to(np.asarray(d, array.dtype), array.shape)
        return (like(dx, raw(x)),)

    return tape.record(result, (x,), back)


def mean(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """Return the mean over some axes of an array, or over all of it.

    Examples
    --------
    >>> float(mean(np.arange(4.0)))
    1.5
    """
    array = numbers(raw(x))
    total = sum(x, axis)
    count = array.size // max(1, np.size(raw(total)))
    return multiply(total, 1.0 / max(1, count))


def matmul(a: Any, b: Any) -> Any:
    """Return the matrix product a b over the last two axes, the others broadcast.

    dL/da = dL/dy b^T and dL/db = a^T dL/dy.

    Examples
    --------
    >>> matmul(np.ones((5, 2, 3)), np.ones((3, 4))).shape
    (5, 2, 4)
    """
    x, y = plain("a", raw(a)), plain("b", raw(b))
    if np.ndim(x) < 2 or np.ndim(y) < 2:
        raise ValueError(
            f"a, b: expected arrays of two axes at least, got shapes {np.shape(x)}, {np.shape(y)}"
        )
    result, tape = np.matmul(x, y), tape_of(a, b)
    if tape is None:
        return result

    def back(d: Any) -> tuple[Any, Any]:
        da = sum_to(np.matmul(d, np.swapaxes(y, -1, -2)), x) if is_wanted(a) else None
        db = sum_to(np.matmul(np.swapaxes(x, -1, -2), d), y) if is_wanted(b) else None
        return da, db

    return tape.record(result, (a, b), back)


def einsum(subscripts: str, *operands: Any) -> Any:
    """Return a sum of products in Einstein's notation, such as ``"bh,tbh->bt"`` for attention.

    The derivative by an operand is the sum of products of dL/dy and the other operands, over
    the indices that the operand has not.

    Parameters
    ----------
    subscripts
        As in `numpy.einsum`, with the result named after ``->``; letters alone, and no letter
        twice in an operand.

    Examples
    --------
    >>> einsum("bh,tbh->bt", np.ones((2, 3)), np.ones((5, 2, 3))).tolist()[0]
    [3.0, 3.0, 3.0, 3.0, 3.0]
    """
    given, arrow, out = subscripts.replace(" ", "").partition("->")
    names = given.split(",")
    letters = all(name.isalpha() or not name for name in (*names, out))
    if not arrow or not letters or any(len(set(name)) < len(name) for name in (*names, out)):
        raise ValueError(
            "subscripts: expected letters for every operand and, after '->', for the result, none "
            f"twice in one, got {subscripts!r}"
        )
    arrays = [np.asarray(plain("operands", raw(operand))) for operand in operands]
    result, tape = np.einsum(subscripts, *arrays, optimize=len(arrays) > 1), tape_of(*operands)
    if tape is None:
        return result
    sizes = {
        letter: size
        for name, array in zip(names, arrays, strict=True)
        for letter, size in zip(name, array.shape, strict=True)
    }

    def derivative(k: int, d: Any) -> Any:
        others = [j for j in range(len(arrays)) if j != k]
        there = set(out).union(*(names[j] for j in others))
        alone = "".join(letter for letter in names[k] if letter not in there)
        # Over what stands in this operand alone the derivative is constant.
        ones = np.ones([sizes[letter] for letter in alone], arrays[k].dtype)
        terms = ",".join([out, *(names[j] for j in others), alone]) + "->" + names[k]
        dx = np.einsum(terms, d, *(arrays[j] for j in others), ones, optimize=True)
        # An axis of size 1 may stand beside a longer one of the same letter, in this operand or in
        # the others.
        return np.broadcast_to(sum_to(dx, arrays[k]), arrays[k].shape)

    def back(d: Any) -> tuple[Any, ...]:
        return tuple(
            derivative(k, d) if is_wanted(operand) else None for k, operand in enumerate(operands)
        )

    return tape.record(result, operands, back)


def softmax(x: Any, mask: Any = None, axis: int = -1) -> Any:
    """Return exp(x) / sum(exp(x)) along an axis, of what a mask leaves; 0 elsewhere.

    dL/dx = y (dL/dy - sum(dL/dy y)). Where the mask leaves nothing, everything is 0.

    Parameters
    ----------
    mask
        Booleans that broadcast over x; True counts.

    Examples
    --------
    >>> softmax(np.zeros(4), np.array([True, True, False, False])).tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    given, tape = raw(x), tape_of(x)
    if axis not in (-1, 1) or mask is not None:
        plain("x", given)  # of rows the features alone make a softmax, all of them
    array = np.asarray(numbers(given))
    kept: Any = True
    if mask is not None:
        kept = as_array("mask", mask)
        if kept.dtype != bool:
            raise TypeError(f"mask: expected booleans, True for what counts, got {kept.dtype}")
    lowest = np.finfo(array.dtype).min
    largest = np.max(np.where(kept, array, lowest), axis, keepdims=True, initial=-np.inf)
    exps = np.where(kept, np.exp(np.where(kept, array - largest, 0)), 0)
    y = exps / np.maximum(exps.sum(axis, keepdims=True), np.finfo(array.dtype).tiny)
    if tape is None:
        return like(y, given)

    def back(d: Any) -> tuple[Any]:
        d = numbers(d)
        return (like(y * (d - (d * y).sum(axis, keepdims=True)), given),)

    return tape.record(like(y, given), (x,), back)
