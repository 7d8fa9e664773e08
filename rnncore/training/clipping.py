"""Clipping of gradients by their norm."""

from __future__ import annotations

import math

import numpy as np

from rnncore import engine
from rnncore.arguments import check_flag, is_number
from rnncore.engine.threads import team_size
from rnncore.layers.module import Module
from rnncore.training.optimizer import check_module


def clip_grad_norm(module: Module, max_norm: float, error_if_nonfinite: bool = False) -> float:
    """Scale all gradients so that their norm together is at most `max_norm`.

    ``norm = sqrt(sum of g^2);  g = g * min(1, max_norm / (norm + 1e-6))``

    Source: torch.nn.utils.clip_grad_norm_; Pascanu, Mikolov and Bengio, "On the difficulty of
    training recurrent neural networks", 2013. A norm that is not finite leaves the gradients
    as they are.

    Parameters
    ----------
    module
        The norm is taken over all its gradients but those of frozen parts, which stay as they are.
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
    check_module(module)
    if not is_number(max_norm) or not max_norm > 0.0:
        raise ValueError(f"max_norm: expected a number above 0, got {max_norm!r}")
    kernels = engine.kernels(module.dtype)
    threads = team_size()
    trained = [module.flat_grads[part] for part in module.trainable()]
    norm = float(sum(kernels.sum_of_squares(grads, threads) for grads in trained)) ** 0.5
    if check_flag("error_if_nonfinite", error_if_nonfinite) and not math.isfinite(norm):
        raise RuntimeError(
            f"clip_grad_norm: expected a finite norm of the gradients, got {norm}; they were not "
            "changed; skip this step, or leave error_if_nonfinite out"
        )
    factor = max_norm / (norm + 1e-6)
    if factor < 1.0 and norm < np.inf:
        for grads in trained:
            kernels.scale(grads, factor, threads)
    return norm
