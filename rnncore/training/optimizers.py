"""Optimizers and gradient clipping on a module's flat parameter buffer.

The arithmetic runs in the engine; what is here owns the moments and the step count. Formulas
and default values are those of PyTorch's ``torch.optim``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rnncore import engine
from rnncore.arguments import is_number
from rnncore.layers.module import Module


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
    """

    moment_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, module: Module, lr: float, weight_decay: float) -> None:
        _check_module(module)
        _check_at_least_zero(lr=lr, weight_decay=weight_decay)
        self.module = module
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps_taken = 0
        self.moments = {name: np.zeros_like(module.flat_params) for name in self.moment_names}
        self._kernels = engine.kernels(module.dtype)

    def step(self) -> None:
        """Update the parameters in place from the gradients."""
        self.steps_taken += 1
        self._update()
        self.module.weights_changed()

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
        for name, moment in self.moments.items():
            moment[...] = state[name]
        self.steps_taken = int(state["steps_taken"])
        self.lr = float(state["lr"])


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

    def __init__(
        self, module: Module, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(module, lr, weight_decay)
        _check_at_least_zero(momentum=momentum)
        self.momentum = momentum

    def _update(self) -> None:
        self._kernels.sgd(
            self.module.flat_params,
            self.module.flat_grads,
            self.moments["velocity"],
            self.lr,
            self.momentum,
            self.weight_decay,
            engine.get_num_threads(),
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
        _check_at_least_zero(alpha=alpha, eps=eps, momentum=momentum)
        if alpha > 1.0:
            raise ValueError(f"alpha: expected a number from 0 to 1, got {alpha}")
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
            engine.get_num_threads(),
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

    def __init__(
        self,
        module: Module,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(module, lr, weight_decay)
        _check_at_least_zero(eps=eps)
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        if not pair or not all(is_number(beta) and 0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas: expected two numbers from 0 to below 1, got {betas!r}")
        self.betas = betas
        self.eps = eps

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
            engine.get_num_threads(),
        )


def clip_grad_norm(module: Module, max_norm: float) -> float:
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

    Returns
    -------
    norm : float
        The norm before scaling.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, or `max_norm` is not above 0.

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
    threads = engine.get_num_threads()
    norm = float(kernels.sum_of_squares(module.flat_grads, threads)) ** 0.5
    factor = max_norm / (norm + 1e-6)
    if factor < 1.0 and norm < np.inf:
        kernels.scale(module.flat_grads, factor, threads)
    return norm


def _check_at_least_zero(**values: float) -> None:
    for name, value in values.items():
        if not is_number(value) or not 0.0 <= value < np.inf:
            raise ValueError(f"{name}: expected a finite number, 0 or more, got {value!r}")


def _check_module(module: object) -> None:
    if not isinstance(module, Module):
        raise TypeError(
            f"module: expected a layer or model, got {type(module).__name__}; give the module "
            "itself: it knows its parameters and gradients"
        )
