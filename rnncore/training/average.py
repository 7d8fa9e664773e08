"""A running average of a module's weights, and the module with that average in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rnncore import engine
from rnncore.arguments import is_number
from rnncore.engine.threads import team_size
from rnncore.layers.module import Module
from rnncore.training.optimizer import check_module


class Average:
    """An exponential moving average of all weights of a module, for evaluation.

    After its n-th update, with the weights w_1 ... w_n of the updates::

        mean_n = sum_k decay^(n - k) w_k / sum_k decay^(n - k)
               = mean_(n-1) + (1 - decay) / (1 - decay^n) * (w_n - mean_(n-1))

    The weights before the first update have no part in it, so that short trainings are averaged
    as long ones are.

    Parameters
    ----------
    module
        Its ``flat_params`` are averaged.
    decay
        How much of the mean stays at an update, at least 0 and below 1: the mean is over about the
        last ``1 / (1 - decay)`` updates.

    Attributes
    ----------
    updates : int
    mean : flat array, as ``flat_params``
    raw : flat array or None
        The module's own weights while the mean is swapped in.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, or `decay` is out of its range.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992;
    the form is that of Kingma and Ba, "Adam", 2015, sections 3 and 7.2.

    Examples
    --------
    >>> import rnncore
    >>> from rnncore.training import Average
    >>> layer = rnncore.Linear(1, 1, bias=False, seed=0)
    >>> average = Average(layer, decay=0.5)
    >>> for weight in (1.0, 4.0):
    ...     with layer.changing_weights() as flat:
    ...         flat[0] = weight
    ...     average.update()
    >>> with average.applied():  # (0.5 * 1 + 4) / 1.5
    ...     print(layer.flat_params.tolist())
    [3.0]
    >>> layer.flat_params.tolist()
    [4.0]
    """

    def __init__(self, module: Module, decay: float = 0.999) -> None:
        check_module(module)
        if not is_number(decay) or not 0.0 <= decay < 1.0:
            raise ValueError(f"decay: expected a number from 0 to below 1, got {decay!r}")
        self.module = module
        self.decay = float(decay)
        self.updates = 0
        self.mean = np.zeros_like(module.flat_params)
        self.raw: np.ndarray | None = None

    def update(self) -> None:
        """Take the module's weights into the mean; call it after each step of an optimizer.

        Raises
        ------
        RuntimeError
            If the mean is swapped in.
        """
        if self.raw is not None:
            raise RuntimeError(
                "average: expected the module's own weights, but the mean is swapped in; update "
                "it outside of applied(), or swap_out() first"
            )
        self.updates += 1
        if self.updates == 1:  # whatever stood there, and without rounding
            self.mean[...] = self.module.flat_params
            return
        rate = (1.0 - self.decay) / (1.0 - self.decay**self.updates)
        kernels = engine.kernels(self.module.dtype)
        kernels.average(self.mean, self.module.flat_params, rate, team_size())

    def swap_in(self) -> None:
        """Put the mean into the module; nothing happens if it is there or there is none yet."""
        if self.raw is None and self.updates:
            with self.module.changing_weights() as flat:
                self.raw = flat.copy()
                flat[...] = self.mean

    def swap_out(self) -> None:
        """Put the module's own weights back, to the last bit, if the mean is swapped in.

        What was written to the weights meanwhile is lost.
        """
        if self.raw is not None:
            with self.module.changing_weights() as flat:
                flat[...] = self.raw
            self.raw = None

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Lend the module with the mean as its weights, which other threads see too.

        Afterwards it is as it was before; within another `applied` nothing changes.
        """
        before = self.raw
        self.swap_in()
        try:
            yield self.module
        finally:
            if before is None:
                self.swap_out()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the mean and the number of updates."""
        return {"updates": self.updates, "mean": self.mean.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; the module has its own weights afterwards.

        Raises
        ------
        ValueError
            If the mean is missing or has another size than this module's parameters, or the
            number of updates is none; nothing is changed then.
        """
        if not isinstance(state, dict):
            raise TypeError(f"state: expected what state_dict returns, got {type(state).__name__}")
        shape = np.shape(state["mean"]) if "mean" in state else None
        if shape != self.mean.shape:
            raise ValueError(
                f"state: expected 'mean' with shape {self.mean.shape}, got {shape}; the state is "
                "of another model"
            )
        updates = state.get("updates")
        if isinstance(updates, bool) or not isinstance(updates, int | np.integer) or updates < 0:
            raise ValueError(f"state: expected 'updates', 0 or more, got {updates!r}")
        self.swap_out()
        self.mean[...] = state["mean"]
        self.updates = int(updates)
