"""Optimizers and gradient clipping on a module's flat parameter buffer.

The arithmetic runs in the engine; what is here owns the moments and the step count. Formulas
and default values are those of PyTorch's ``torch.optim``. PyTorch's recurrent layers train two
biases where the lecture has one: their sum moves twice as far, so that Adam, clipping and weight
decay take another path there.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from rnncore import engine
from rnncore.arguments import check_flag, is_number
from rnncore.engine.threads import team_size
from rnncore.layers.module import Module


class _Setting:
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

    Attributes
    ----------
    steps_taken : int
    moments : dict of name -> flat array

    `copy.deepcopy` and `pickle` take the module along.
    """

    moment_names: ClassVar[tuple[str, ...]] = ()
    lr = _Setting()
    weight_decay = _Setting()

    def __init__(self, module: Module, lr: float, weight_decay: float) -> None:
        _check_module(module)
        self._module = module
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps_taken = 0
        self.moments = {name: np.zeros_like(module.flat_params) for name in self.moment_names}
        self._kernels = engine.kernels(module.dtype)

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
        with self.module.changing_weights():
            self._update()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kernels = engine.kernels(self.module.dtype)

    def _update(self) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the moments, the step count and the learning rate."""
        moments = {name: moment.copy() for name, moment in self.moments.items()}
        return {"steps_taken": self.steps_taken, "lr": self.lr, **moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError
            If a moment is missing or has another size than this module's parameters.
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
        if "lr" not in state:
            raise ValueError("state: expected 'lr', got none; give what state_dict returned")
        self.lr = state["lr"]
        self.steps_taken = int(steps)
        for name, moment in self.moments.items():
            moment[...] = state[name]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    ``g = grad + weight_decay * p;  v = momentum * v + g;  p = p - lr * v``

    Parameters
    ----------
    module, lr
        See `Optimizer`.
    momentum, weight_decay
        0 or more.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, or a number is out of its range.

    Source: torch.optim.SGD (dampening 0, no Nesterov).

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> layer = rnncore.Linear(2, 1, seed=0)
    >>> optimizer = rnncore.SGD(layer, lr=0.5)
    >>> before = layer.params["weight"].copy()
    >>> layer.grads["weight"][...] = 1.0
    >>> optimizer.step()
    >>> bool(np.allclose(layer.params["weight"], before - 0.5))
    True
    """

    moment_names = ("velocity",)
    momentum = _Setting()

    def __init__(
        self, module: Module, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(module, lr, weight_decay)
        self.momentum = momentum

    def _update(self) -> None:
        self._kernels.sgd(
            self.module.flat_params,
            self.module.flat_grads,
            self.moments["velocity"],
            self.lr,
            self.momentum,
            self.weight_decay,
            team_size(),
        )


class RMSprop(Optimizer):
    """Gradients divided by a running root mean square of themselves.

    ``g = grad + weight_decay * p;  s = alpha * s + (1 - alpha) * g^2``
    ``v = momentum * v + g / (sqrt(s) + eps);  p = p - lr * v``

    Parameters
    ----------
    module, lr
        See `Optimizer`.
    alpha
        How much of the running mean stays, 0 to 1.
    eps, weight_decay, momentum
        0 or more.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, or a number is out of its range.

    Source: torch.optim.RMSprop (not centered); Tieleman and Hinton, Coursera lecture 6.5, 2012.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> layer = rnncore.Linear(2, 1, seed=0)
    >>> before = layer.params["weight"].copy()
    >>> layer.grads["weight"][...] = 3.0
    >>> rnncore.RMSprop(layer, lr=0.01, alpha=0.75).step()  # v = 3 / sqrt(0.25 * 9) = 2
    >>> bool(np.allclose(layer.params["weight"], before - 0.02))
    True
    """

    moment_names = ("square", "velocity")
    alpha = _Setting(most=1)
    eps = _Setting()
    momentum = _Setting()

    def __init__(
        self,
        module: Module,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        super().__init__(module, lr, weight_decay)
        self.alpha = alpha
        self.eps = eps
        self.momentum = momentum

    def _update(self) -> None:
        self._kernels.rmsprop(
            self.module.flat_params,
            self.module.flat_grads,
            self.moments["square"],
            self.moments["velocity"],
            self.lr,
            self.alpha,
            self.eps,
            self.momentum,
            self.weight_decay,
            team_size(),
        )


class Adam(Optimizer):
    """Steps along a running mean of the gradient over a running root mean square of it.

    ``g = grad + weight_decay * p``
    ``m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2``
    ``p = p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``

    Parameters
    ----------
    module, lr
        See `Optimizer`.
    betas
        beta1 and beta2, from 0 to below 1.
    eps, weight_decay
        0 or more.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, or a number is out of its range.

    Source: torch.optim.Adam; Kingma and Ba, "Adam", 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> layer = rnncore.Linear(2, 1, seed=0)
    >>> before = layer.params["weight"].copy()
    >>> layer.grads["weight"][...] = 7.0
    >>> rnncore.Adam(layer, lr=0.1).step()  # the first step has the size of the learning rate
    >>> bool(np.allclose(layer.params["weight"], before - 0.1))
    True
    """

    moment_names = ("m", "v")
    eps = _Setting()

    def __init__(
        self,
        module: Module,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(module, lr, weight_decay)
        self.betas = betas
        self.eps = eps

    @property
    def betas(self) -> tuple[float, float]:
        """How much of the running means stays: of the gradient, and of its square."""
        return self._betas

    @betas.setter
    def betas(self, betas: tuple[float, float]) -> None:
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        if not pair or not all(is_number(beta) and 0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas: expected two numbers from 0 to below 1, got {betas!r}")
        self._betas = (float(betas[0]), float(betas[1]))

    def _update(self) -> None:
        self._kernels.adam(
            self.module.flat_params,
            self.module.flat_grads,
            self.moments["m"],
            self.moments["v"],
            self.lr,
            *self.betas,
            self.eps,
            self.weight_decay,
            self.steps_taken,
            team_size(),
        )


def clip_grad_norm(module: Module, max_norm: float, error_if_nonfinite: bool = False) -> float:
    """Scale all gradients so that their norm together is at most `max_norm`.

    ``norm = sqrt(sum of g^2);  g = g * min(1, max_norm / (norm + 1e-6))``

    Source: torch.nn.utils.clip_grad_norm_; Pascanu, Mikolov and Bengio, "On the difficulty of
    training recurrent neural networks", 2013. A norm that is not finite leaves the gradients
    as they are.

    Parameters
    ----------
    module
        The norm is taken over all its gradients.
    max_norm
        Above 0; infinity measures and changes nothing.
    error_if_nonfinite
        Whether a norm that is not finite is an error.

    Returns
    -------
    norm : float
        The norm before scaling.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, or `max_norm` is not above 0.
    RuntimeError
        If the norm is not finite and `error_if_nonfinite`; the gradients stay as they are.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> layer = rnncore.Linear(2, 1, bias=False, seed=0)
    >>> layer.grads["weight"][...] = [[3.0, 4.0]]
    >>> rnncore.clip_grad_norm(layer, max_norm=1.0)
    5.0
    >>> bool(np.allclose(layer.grads["weight"], [[0.6, 0.8]]))
    True
    """
    _check_module(module)
    if not is_number(max_norm) or not max_norm > 0.0:
        raise ValueError(f"max_norm: expected a number above 0, got {max_norm!r}")
    kernels = engine.kernels(module.dtype)
    threads = team_size()
    norm = float(kernels.sum_of_squares(module.flat_grads, threads)) ** 0.5
    if check_flag("error_if_nonfinite", error_if_nonfinite) and not math.isfinite(norm):
        raise RuntimeError(
            f"clip_grad_norm: expected a finite norm of the gradients, got {norm}; they were not "
            "changed; skip this step, or leave error_if_nonfinite out"
        )
    factor = max_norm / (norm + 1e-6)
    if factor < 1.0 and norm < np.inf:
        kernels.scale(module.flat_grads, factor, threads)
    return norm


def _check_module(module: object) -> None:
    if not isinstance(module, Module):
        raise TypeError(
            f"module: expected a layer or model, got {type(module).__name__}; give the module "
            "itself: it knows its parameters and gradients"
        )
