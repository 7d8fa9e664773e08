"""Losses on a tape."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from rnncore.engine.rows import Rows
from rnncore.layers.tape import is_wanted, raw, tape_of
from rnncore.losses.loss import Loss


def recorded(*names: str) -> Callable[[Callable[..., Loss]], Callable[..., Any]]:
    """Have a loss of values of a tape return its reduced value on that tape, in place of a `Loss`.

    `names` are the arguments that it has gradients for, in their order.
    """

    def decorate(function: Callable[..., Loss]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @wraps(function)
        def loss(*arguments: Any, **options: Any) -> Any:
            tape = tape_of(*arguments, *options.values())
            if tape is None:
                return function(*arguments, **options)
            given = signature.bind(*arguments, **options).arguments
            for name, value in given.items():
                if name not in names and is_wanted(value):
                    raise TypeError(
                        f"{name}: expected an array, got a value of a tape, for which this loss "
                        "has no gradient; give value.array"
                    )
            found = function(**{name: raw(value) for name, value in given.items()})
            gradients = found.gradient if len(names) > 1 else (found.gradient,)
            value = found.total if given.get("reduction") == "sum" else found.mean
            return tape.record(
                value,
                tuple(given[name] for name in names),
                lambda d: tuple(_times(gradient, d) for gradient in gradients),
            )

        return loss

    return decorate


def _times(gradient: Any, factor: Any) -> Any:
    if factor == 1:
        return gradient
    if isinstance(gradient, Rows):
        return gradient.like(gradient.padded() * gradient.dtype.type(factor))
    return gradient * gradient.dtype.type(factor)
