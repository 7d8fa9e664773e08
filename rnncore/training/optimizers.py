"""The optimizers: formulas and default values are those of PyTorch's ``torch.optim``.

PyTorch's recurrent layers train two biases where the lecture has one: their sum moves twice as
far, so that Adam, clipping and weight decay take another path there.
"""

from __future__ import annotations

from rnncore.arguments import is_number
from rnncore.engine.threads import team_size
from rnncore.layers.module import Module
from rnncore.training.groups import Groups, Range
from rnncore.training.optimizer import Optimizer, Setting


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    ``g = grad + weight_decay * p;  v = momentum * v + g;  p = p - lr * v``

    Parameters
    ----------
    module, lr, groups
        See `Optimizer`.
    momentum, weight_decay
        0 or more.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, a number is out of its range, or a group fits nothing.

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
    momentum = Setting()

    def __init__(
        self,
        module: Module,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(module, lr, weight_decay, groups)
        self.momentum = momentum

    def _update(self, of: Range) -> None:
        self._kernels.sgd(
            self.module.flat_params[of.at],
            self.module.flat_grads[of.at],
            self.moments["velocity"][of.at],
            of.lr,
            self.momentum,
            of.weight_decay,
            team_size(),
        )


class RMSprop(Optimizer):
    """Gradients divided by a running root mean square of themselves.

    ``g = grad + weight_decay * p;  s = alpha * s + (1 - alpha) * g^2``
    ``v = momentum * v + g / (sqrt(s) + eps);  p = p - lr * v``

    Parameters
    ----------
    module, lr, groups
        See `Optimizer`.
    alpha
        How much of the running mean stays, 0 to 1.
    eps, weight_decay, momentum
        0 or more.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, a number is out of its range, or a group fits nothing.

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
    alpha = Setting(most=1)
    eps = Setting()
    momentum = Setting()

    def __init__(
        self,
        module: Module,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(module, lr, weight_decay, groups)
        self.alpha = alpha
        self.eps = eps
        self.momentum = momentum

    def _update(self, of: Range) -> None:
        self._kernels.rmsprop(
            self.module.flat_params[of.at],
            self.module.flat_grads[of.at],
            self.moments["square"][of.at],
            self.moments["velocity"][of.at],
            of.lr,
            self.alpha,
            self.eps,
            self.momentum,
            of.weight_decay,
            team_size(),
        )


class Adam(Optimizer):
    """Steps along a running mean of the gradient over a running root mean square of it.

    ``g = grad + weight_decay * p``
    ``m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2``
    ``p = p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``

    Parameters
    ----------
    module, lr, groups
        See `Optimizer`.
    betas
        beta1 and beta2, from 0 to below 1.
    eps, weight_decay
        0 or more.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, a number is out of its range, or a group fits nothing.

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
    eps = Setting()

    def __init__(
        self,
        module: Module,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(module, lr, weight_decay, groups)
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

    def _update(self, of: Range) -> None:
        self._adam(of, of.weight_decay, 0.0)

    def _adam(self, of: Range, weight_decay: float, decoupled: float) -> None:
        self._kernels.adam(
            self.module.flat_params[of.at],
            self.module.flat_grads[of.at],
            self.moments["m"][of.at],
            self.moments["v"][of.at],
            of.lr,
            *self.betas,
            self.eps,
            weight_decay,
            decoupled,
            of.steps,
            team_size(),
        )


class AdamW(Adam):
    """Adam with a weight decay that does not go through the moments.

    ``m = beta1 * m + (1 - beta1) * grad;  v = beta2 * v + (1 - beta2) * grad^2``
    ``p = p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) - lr * weight_decay * p``

    Parameters
    ----------
    module, lr, groups
        See `Optimizer`.
    betas
        beta1 and beta2, from 0 to below 1.
    eps, weight_decay
        0 or more.

    Raises
    ------
    TypeError, ValueError
        If `module` is no layer or model, a number is out of its range, or a group fits nothing.

    Source: torch.optim.AdamW; Loshchilov and Hutter, "Decoupled weight decay regularization",
    2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> layer = rnncore.Linear(2, 1, bias=False, seed=0)
    >>> before = layer.params["weight"].copy()
    >>> rnncore.AdamW(layer, lr=0.1, weight_decay=0.5).step()  # no gradient: decay alone
    >>> bool(np.allclose(layer.params["weight"], before * 0.95))
    True
    """

    def __init__(
        self,
        module: Module,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(module, lr, betas, eps, weight_decay, groups=groups)

    def _update(self, of: Range) -> None:
        self._adam(of, 0.0, of.lr * of.weight_decay)
