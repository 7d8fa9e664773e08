"""What all optimizers share: moments, a step count, and which numbers a step updates how.

The arithmetic runs in the engine, one call for each range of the module's flat buffer that is
updated in the same way: one call in all where there are no groups and nothing is frozen.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from rnncore import engine
from rnncore.arguments import is_number
from rnncore.layers.module import Module
from rnncore.training.groups import Group, Groups, Layout, Range, check_groups


class Setting:
    """A number of an optimizer, checked whenever it is assigned."""

    def __init__(self, most: float = math.inf) -> None:
        self.most = most

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        return self if optimizer is None else optimizer.__dict__[self.name]

    def __set__(self, optimizer: Any, value: float) -> None:
        if not is_number(value) or not 0.0 <= value < math.inf:
            raise ValueError(f"{self.name}: expected a finite number, 0 or more, got {value!r}")
        if value > self.most:
            raise ValueError(f"{self.name}: expected a number from 0 to {self.most}, got {value!r}")
        optimizer.__dict__[self.name] = float(value)


class Optimizer:
    """What all optimizers share: a module, a learning rate, a step count, moment buffers.

    Parameters
    ----------
    module
        Its ``flat_params`` are updated from its ``flat_grads``.
    lr
        The learning rate; assign ``optimizer.lr`` to change it between steps.
    weight_decay
        Of all parameters that no group says otherwise about.
    groups
        Mappings with ``"params"``, a pattern of parameter names (as `fnmatch` has them) or a list
        of patterns, and with ``"lr_scale"``, a factor on `lr`, and ``"weight_decay"`` of its own.
        A parameter is in the first group that it fits; what fits none is as without groups.

    Attributes
    ----------
    steps_taken : int
    moments : dict of name -> flat array
    groups : tuple of Group
        With the names of the parameters in each.

    `copy.deepcopy` and `pickle` take the module along. What is frozen (`Module.freeze`) is left
    alone, its moments and decay included, and counts no steps, as in PyTorch.

    Examples
    --------
    >>> import rnncore
    >>> layer = rnncore.LSTM(3, 4, seed=0)
    >>> no_decay = {"params": "*bias*", "weight_decay": 0.0}
    >>> optimizer = rnncore.AdamW(layer, weight_decay=0.1, groups=[no_decay])
    >>> optimizer.groups[0].names
    ('bias_ih_l0',)
    """

    moment_names: ClassVar[tuple[str, ...]] = ()
    lr = Setting()
    weight_decay = Setting()

    def __init__(self, module: Module, lr: float, weight_decay: float, groups: Groups = ()) -> None:
        check_module(module)
        self._module = module
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps_taken = 0
        self.moments = {name: np.zeros_like(module.flat_params) for name in self.moment_names}
        self._layout = Layout(module, check_groups(module, groups))
        self._kernels = engine.kernels(module.dtype)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, with the names of the parameters in each."""
        return self._layout.groups

    @property
    def module(self) -> Module:
        """The module whose parameters are updated; another one needs another optimizer."""
        return self._module

    def step(self) -> None:
        """Update the parameters in place from the gradients.

        Raises
        ------
        ValueError
            If a moment was replaced by something of another size or dtype.
        """
        params = self.module.flat_params
        for name in self.moment_names:
            moment = self.moments.get(name)
            if (
                not isinstance(moment, np.ndarray)
                or (moment.shape, moment.dtype) != (params.shape, params.dtype)
                or not moment.flags.carray
            ):
                came = (
                    f"{moment.dtype} {moment.shape}"
                    if isinstance(moment, np.ndarray)
                    else type(moment).__name__
                )
                raise ValueError(
                    f"moments: expected {name!r} to be a contiguous {params.dtype} array "
                    f"{params.shape}, one number a parameter, got {came}; use load_state_dict"
                )
        self.steps_taken += 1
        ranges = self._ranges()
        self._layout.count_missed()
        with self.module.changing_weights():
            for each in ranges:
                self._update(each)

    def _ranges(self) -> list[Range]:
        found = []
        for at, group, missed in self._layout.plan():
            lr, weight_decay = self.lr, self.weight_decay
            if group >= 0:
                of = self._layout.groups[group]
                lr *= of.lr_scale
                weight_decay = weight_decay if of.weight_decay is None else of.weight_decay
            found.append(Range(at, lr, weight_decay, self.steps_taken - missed))
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kernels = engine.kernels(self.module.dtype)

    def _update(self, of: Range) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the moments, the step count and the learning rate.

        Where parameters were frozen, ``"steps_missed"`` too: how many steps each did not take.
        """
        moments = {name: moment.copy() for name, moment in self.moments.items()}
        missed = self._layout.missed
        some = {"steps_missed": list(missed)} if any(missed) else {}
        return {"steps_taken": self.steps_taken, "lr": self.lr, **some, **moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError
            If a moment is missing or has another size than this module's parameters, or a count
            is none; nothing is changed then.
        """
        if not isinstance(state, dict):
            raise TypeError(f"state: expected what state_dict returns, got {type(state).__name__}")
        for name, moment in self.moments.items():
            shape = np.shape(state[name]) if name in state else None
            if shape != moment.shape:
                raise ValueError(
                    f"state: expected {name!r} with shape {moment.shape} for "
                    f"{type(self).__name__}, got {shape}; the state is of another optimizer or "
                    "another model"
                )
        steps = state.get("steps_taken")
        if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
            raise ValueError(f"state: expected 'steps_taken', 0 or more, got {steps!r}")
        missed = state.get("steps_missed", [0] * len(self._layout.missed))
        if (
            not isinstance(missed, list | tuple)
            or len(missed) != len(self._layout.missed)
            or not all(type(count) is int and 0 <= count <= steps for count in missed)
        ):
            raise ValueError(
                f"state: expected 'steps_missed' with {len(self._layout.missed)} counts, one for "
                f"each parameter, from 0 to {steps}, got {missed!r}; give what state_dict returned"
            )
        if "lr" not in state:
            raise ValueError("state: expected 'lr', got none; give what state_dict returned")
        self.lr = state["lr"]
        self.steps_taken = int(steps)
        self._layout.set_missed(list(missed))
        for name, moment in self.moments.items():
            moment[...] = state[name]


def check_module(module: object) -> None:
    """Refuse what is no layer or model."""
    if not isinstance(module, Module):
        raise TypeError(
            f"module: expected a layer or model, got {type(module).__name__}; give the module "
            "itself: it knows its parameters and gradients"
        )
