"""How parameters begin: values by name, a gate at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from rnncore.arguments import as_real, check_seed, is_number

if TYPE_CHECKING:
    from rnncore.layers.module import Module

# A string, because naming numpy.random imports it.
#: A name, a name with its number, or a function of shape and generator.
Initial: TypeAlias = (
    "str | tuple[str, float] | Callable[[tuple[int, ...], np.random.Generator], Any]"
)
Shape: TypeAlias = tuple[int, ...]
Draw: TypeAlias = "Callable[[Shape, float, np.random.Generator], Any]"


class Beginning(NamedTuple):
    """What a layer says of one of its parameters.

    Parameters
    ----------
    gates
        How many gates of equal size its first axis holds.
    bound
        b, where the layer begins with U(-b, b); None where it begins otherwise.
    """

    gates: int = 1
    bound: float | None = None


# Each returns numbers of a shape (rows, columns) of one gate: columns are the fan in, rows the
# fan out.


def _xavier_std(shape: Shape, gain: float) -> float:
    return gain * math.sqrt(2 / (shape[0] + shape[1]))


def _kaiming_std(shape: Shape, gain: float) -> float:
    return gain / math.sqrt(shape[1])


def _normal(shape: Shape, std: float, generator: np.random.Generator) -> Any:
    return std * generator.standard_normal(shape)


def _uniform(shape: Shape, bound: float, generator: np.random.Generator) -> Any:
    return generator.uniform(-bound, bound, shape)


def _of_std(draw: Draw, std: Callable[[Shape, float], float], factor: float = 1.0) -> Draw:
    return lambda shape, gain, generator: draw(shape, factor * std(shape, gain), generator)


def _orthogonal(shape: Shape, gain: float, generator: np.random.Generator) -> Any:
    # Q of a matrix of normal numbers, with the signs that make the diagonal of R positive, is drawn
    # evenly from all orthogonal matrices (Mezzadri, How to generate random matrices, 2007).
    rows, columns = shape
    q, r = np.linalg.qr(generator.standard_normal((max(shape), min(shape))))
    q *= gain * np.sign(np.diagonal(r))
    return q if rows >= columns else q.T


class Named(NamedTuple):
    """A beginning by its name."""

    draw: Draw
    number: float | None  # what its number is by default
    takes: str = ""  # what its number is called; empty: it takes none
    of_matrices: bool = True


ROOT_3 = math.sqrt(3)  # U(-sqrt(3) s, sqrt(3) s) has the standard deviation s

NAMES = {
    "zeros": Named(lambda shape, *_: np.zeros(shape), 0.0, of_matrices=False),
    "ones": Named(lambda shape, *_: np.ones(shape), 1.0, of_matrices=False),
    "identity": Named(lambda shape, gain, _: gain * np.eye(shape[0], shape[1]), 1.0, "gain"),
    "orthogonal": Named(_orthogonal, 1.0, "gain"),
    "uniform": Named(_uniform, None, "bound", of_matrices=False),
    "normal": Named(_normal, 1.0, "standard deviation", of_matrices=False),
    "xavier_uniform": Named(_of_std(_uniform, _xavier_std, ROOT_3), 1.0, "gain"),
    "xavier_normal": Named(_of_std(_normal, _xavier_std), 1.0, "gain"),
    "kaiming_uniform": Named(_of_std(_uniform, _kaiming_std, ROOT_3), math.sqrt(2), "gain"),
    "kaiming_normal": Named(_of_std(_normal, _kaiming_std), math.sqrt(2), "gain"),
}


def initial_values(
    module: Module, values: Mapping[str, Initial], seed: Any
) -> dict[str, np.ndarray]:
    """Return new numbers for the parameters that patterns fit; see `Module.initialize`."""
    if not isinstance(values, Mapping):
        raise TypeError(
            "values: expected a mapping of patterns to how parameters begin, got "
            f'{type(values).__name__}; give {{"*bias*": "zeros"}}'
        )
    generator = check_seed(seed)
    found: dict[str, np.ndarray] = {}
    chosen = _choose(list(module.params), values)
    for name, shape, beginning in _parameters(module):
        if name in chosen:
            pattern = chosen[name]
            where = f"values[{pattern!r}]"
            array = _draw(where, values[pattern], name, shape, beginning, generator)
            found[name] = _check_drawn(where, array, name, shape, module.dtype)
    return found


def _choose(names: list[str], values: Mapping[str, Initial]) -> dict[str, str]:
    # The first pattern that fits each name.
    chosen: dict[str, str] = {}
    for pattern in values:
        if not isinstance(pattern, str):
            raise TypeError(
                f"values: expected patterns of parameter names, got {pattern!r}; give text"
            )
        fits = [name for name in names if fnmatchcase(name, pattern)]
        free = [name for name in fits if name not in chosen]
        if not free:
            why = f"{fits} are taken by patterns before it" if fits else f"the names are {names}"
            raise ValueError(
                f"values: expected patterns of parameter names, got {pattern!r}, for which none "
                f"is left; {why}"
            )
        chosen |= dict.fromkeys(free, pattern)
    return chosen


def _parameters(module: Module) -> Iterator[tuple[str, Shape, Beginning]]:
    for prefix, part in module.named_modules():
        for name, shape in part._shapes.items():
            yield f"{prefix}.{name}" if prefix else name, shape, part._beginning(name)


def _draw(
    where: str, value: Any, name: str, shape: Shape, beginning: Beginning,
    generator: np.random.Generator,
) -> Any:  # fmt: skip
    if callable(value):
        return value(shape, generator)
    kind, number = _check(where, value)
    known = NAMES[kind]
    if known.of_matrices and len(shape) != 2:
        raise ValueError(
            f"{where}: {kind!r} is for matrices, and {name} is {shape}; give another, or a pattern "
            "that leaves it out"
        )
    if 0 in shape:
        return np.zeros(shape)
    if number is None:
        number = known.number if known.number is not None else beginning.bound
    if number is None:
        raise ValueError(
            f"{where}: {kind!r} has no bound for {name}, which does not begin so by itself; give "
            f"one, ({kind!r}, 0.1)"
        )
    if not known.of_matrices:
        return known.draw(shape, number, generator)
    gate = shape[0] // beginning.gates, shape[1]
    return np.concatenate([known.draw(gate, number, generator) for _ in range(beginning.gates)])


def _check(where: str, value: Any) -> tuple[str, float | None]:
    # The name, and the number that was given with it.
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    kind: Any
    number: Any
    kind, number = value if is_pair else (value, None)
    if not isinstance(kind, str):
        raise TypeError(
            f"{where}: expected a name, a pair of a name and a number, or a function of shape and "
            f"generator, got {value!r}"
        )
    if kind not in NAMES:
        raise ValueError(f"{where}: expected one of {', '.join(NAMES)}, got {kind!r}")
    if not is_pair:
        return kind, None
    takes = NAMES[kind].takes
    if not takes:
        raise ValueError(f"{where}: {kind!r} takes no number, got {number!r}; leave it out")
    if not is_number(number) or not 0 <= number < math.inf:
        raise ValueError(
            f"{where}: expected the {takes} to be a finite number, 0 or more, got {number!r}"
        )
    return kind, float(number)


def _check_drawn(
    where: str, array: Any, name: str, shape: Shape, dtype: np.dtype
) -> np.ndarray:
    array = as_real(where, array, dtype)
    if array.shape != shape:
        raise ValueError(f"{where}: expected an array {shape} for {name}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: expected finite numbers for {name}, got others in {dtype}")
    return array
