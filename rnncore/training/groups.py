"""Groups of parameters that an optimizer treats in another way, and the ranges they make."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rnncore.arguments import is_number
from rnncore.layers.module import Module

#: What the optimizers' `groups` takes.
Groups: TypeAlias = Sequence[Mapping[str, Any]]

OPTIONS = ("params", "lr_scale", "weight_decay")


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that an optimizer treats in another way.

    Parameters
    ----------
    params
        Patterns of parameter names, as `fnmatch` has them: ``"*bias*"``, ``"rnn.*"``.
    lr_scale
        A factor on the optimizer's learning rate, so that a schedule reaches all groups alike.
    weight_decay
        Instead of the optimizer's own; None keeps that.
    names
        The parameters that are in the group.
    """

    params: tuple[str, ...]
    lr_scale: float = 1.0
    weight_decay: float | None = None
    names: tuple[str, ...] = ()


class Range(NamedTuple):
    """Neighbours in the flat buffer that a step updates in the same way."""

    at: slice
    lr: float
    weight_decay: float
    steps: int  # that these numbers have taken, this one included


def check_groups(module: Module, groups: object) -> tuple[Group, ...]:
    """Return the groups with the names in each; a name is in the first group that it fits.

    Raises
    ------
    TypeError, ValueError
        If a group is no mapping with ``"params"``, has an unknown option or a number out of its
        range, or no parameter is left for it.
    """
    if not isinstance(groups, Sequence) or isinstance(groups, str):
        raise TypeError(
            f"groups: expected a list of mappings, got {type(groups).__name__}; give "
            '[{"params": "*bias*", "weight_decay": 0.0}]'
        )
    free, made = list(module.params), []
    for k, group in enumerate(groups):
        where = f"groups[{k}]"
        found = _check_group(where, group)
        names = tuple(name for name in free if _fits(name, found.params))
        if not names:
            taken = [name for name in module.params if _fits(name, found.params)]
            why = f"{taken} are in groups before it" if taken else f"the names are {free}"
            raise ValueError(
                f"{where}: expected patterns of parameter names that are in no group yet, got "
                f"{found.params}; {why}"
            )
        free = [name for name in free if name not in names]
        made.append(dataclasses.replace(found, names=names))
    return tuple(made)


def _check_group(where: str, group: object) -> Group:
    if not isinstance(group, Mapping) or "params" not in group:
        came = list(group) if isinstance(group, Mapping) else type(group).__name__
        raise TypeError(f'{where}: expected a mapping with "params", got {came}')
    for option in group:
        if option not in OPTIONS:
            instead = "give lr_scale, a factor on it" if option == "lr" else "leave it out"
            raise ValueError(
                f"{where}: expected options among {', '.join(OPTIONS)}, got {option!r}; {instead}"
            )
    given = group["params"]
    patterns = (given,) if isinstance(given, str) else given
    if not isinstance(patterns, tuple | list) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(f"{where}: expected a pattern or a list of patterns as params, got {given}")
    for option in OPTIONS[1:]:
        value = group.get(option, 0.0)
        if not is_number(value) or not 0.0 <= value < math.inf:
            raise ValueError(
                f"{where}: expected {option} to be a finite number, 0 or more, got {value!r}"
            )
    decay = group.get("weight_decay")
    return Group(
        tuple(patterns),
        float(group.get("lr_scale", 1.0)),
        None if decay is None else float(decay),
    )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Layout:
    """Where the parameters of a module lie, which group each is in, how many steps it missed.

    A frozen parameter takes no steps, which what is corrected by the number of steps has to know.
    """

    def __init__(self, module: Module, groups: tuple[Group, ...]) -> None:
        self.module = module
        self.groups = groups
        params = module.params
        ends = np.cumsum([0, *(array.size for array in params.values())]).tolist()
        self.places = list(pairwise(ends))
        group_of = {name: k for k, group in enumerate(groups) for name in group.names}
        self.group_of = [group_of.get(name, -1) for name in params]
        self.missed = [0] * len(self.places)
        self._trainable: list[slice] | None = None
        self._plan: list[tuple[slice, int, int]] = []
        self._frozen: list[int] = []

    def plan(self) -> list[tuple[slice, int, int]]:
        """Return range, group (-1: none) and steps missed of all that trains, in order."""
        trainable = self.module.trainable()
        if trainable != self._trainable:
            self._plan, self._frozen = [], []
            for k, (first, last) in enumerate(self.places):
                if not any(part.start <= first and last <= part.stop for part in trainable):
                    self._frozen.append(k)
                    continue
                kind = self.group_of[k], self.missed[k]
                if self._plan and self._plan[-1][0].stop == first and self._plan[-1][1:] == kind:
                    first = self._plan.pop()[0].start
                self._plan.append((slice(first, last), *kind))
            self._trainable = trainable
        return self._plan

    def count_missed(self) -> None:
        """Count a step that what is frozen does not take."""
        for k in self._frozen:
            self.missed[k] += 1

    def set_missed(self, missed: list[int]) -> None:
        """Take the steps that each parameter missed."""
        self.missed = list(missed)
        self._trainable = None
