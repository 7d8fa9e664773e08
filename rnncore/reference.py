"""Recurrent networks and backpropagation through time in plain NumPy: the textbook, read first.

A recurrent network reads x_1 ... x_T and carries a state h from one step to the next::

    h_t = f(W_hx x_t + W_hh h_{t-1} + b_h)          the hidden state      (rnn, lstm, gru)
    y_t = g(W_yh h_t + b_y)                         what it says          (linear, softmax)

A whole training step of such a network on a made-up text of 5 symbols, forward and back:

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> V, E, H, T, B = 5, 3, 4, 6, 2
>>> W_e, W_hx, W_hh, W_yh = (rng.normal(size=s) for s in ((V, E), (H, E), (H, H), (V, H)))
>>> b_h, b_y, h0 = np.zeros(H), np.zeros(V), np.zeros((B, H))
>>> text = rng.integers(V, size=(T + 1, B))

>>> x, saved_e = embedding_forward(text[:-1], W_e)
>>> (h, h_T), saved_h = rnn_forward(x, h0, W_hx, W_hh, b_h)
>>> logits, saved_y = linear_forward(h, W_yh, b_y)
>>> loss, dlogits = softmax_cross_entropy(logits, text[1:])

>>> dh, dW_yh, db_y = linear_backward(dlogits, saved_y)
>>> dx, dh0, dW_hx, dW_hh, db_h = rnn_backward(dh, np.zeros_like(h_T), saved_h)
>>> dW_e = embedding_backward(dx, saved_e)

**One rule for every pair of functions.** ``forward`` takes the inputs and returns the outputs and
``saved``, what its backward will need. ``backward`` takes the gradient of each output and that
``saved``, and returns the gradient of each input, in the order in which forward takes them.

**Notation.** ``dq`` is the gradient dL/dq of the loss L with respect to q. T steps, B sequences,
I inputs, H hidden units; x is (T, B, I), a state is (B, H), W_hx is (gates*H, I), W_hh is
(gates*H, H). ``a`` is what goes into a nonlinearity. States have T+1 slots: h[0] is the initial
state, so that ``h[t]`` inside a loop is h_{t-1} and ``h[t + 1]`` is h_t.

**Backpropagation through time** (Werbos 1990) walks the loop backwards. ``dh`` holds what all later
steps want of h_t; the step's own output adds ``dy[t]``; the chain rule, line by line, makes of it
``da[t]`` and the ``dh`` of the step before. Above each line stands the forward line that it
differentiates. The weights are the same at every step, so their gradient is a sum over all steps
and sequences: one matrix product after the loop.

Arrays keep the dtype of the inputs: float32 stays float32.

References
----------
.. [1] J. Elman, Finding structure in time, Cognitive Science 14, 1990.
.. [2] P. Werbos, Backpropagation through time: what it does and how to do it, Proc. IEEE 78, 1990.
.. [3] S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9, 1997.
.. [4] F. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12, 2000.
.. [5] K. Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014.
.. [6] A. Graves et al., Connectionist temporal classification, ICML 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Saved = tuple[Any, ...]
#: One direction of one layer: W_hx, W_hh, b_h and, for the GRU, b_hn.
Parameters = dict[str, Array]
#: layers[l][d]: direction d (0 forward, 1 reverse) of layer l.
Layers = Sequence[Sequence[Parameters]]
#: (h, c) for the LSTM, h alone for the others.
State = Array | tuple[Array, ...]

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "backward",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "ctc_loss",
    "direction_backward",
    "direction_forward",
    "embedding_backward",
    "embedding_forward",
    "forward",
    "gaussian_nll_loss",
    "gradients_by_name",
    "gru_backward",
    "gru_forward",
    "gru_reset_before_backward",
    "gru_reset_before_forward",
    "huber_loss",
    "l1_loss",
    "layers_from_state_dict",
    "linear_backward",
    "linear_forward",
    "lstm_backward",
    "lstm_forward",
    "mse_loss",
    "quantile_loss",
    "rnn_backward",
    "rnn_forward",
    "sigmoid",
    "softmax_cross_entropy",
]


def sigmoid(a: Array) -> Array:
    """Return ``1 / (1 + exp(-a))``, to the last digits for every a.

    Where exp overflows, the quotient is 0, which is the right limit.

    >>> [float(s) for s in sigmoid(np.array([-np.inf, -1000.0, 0.0, 1000.0]))]
    [0.0, 0.0, 0.5, 1.0]
    """
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-a))


#: The lecture's f, and f' as a function of the *output* h = f(a), which is what is kept.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda h: 1 - h * h),
    "relu": (lambda a: np.maximum(a, 0), lambda h: h > 0),
    "sigmoid": (sigmoid, lambda h: h * (1 - h)),
    "identity": (lambda a: a, np.ones_like),
}


def _rows(q: Array) -> Array:
    """All steps of all sequences as the rows of one matrix: (T, B, K) to (T*B, K)."""
    return q.reshape(-1, q.shape[-1])


# -- Around the recurrence: linear map, embedding, loss -------------------------------------------


def linear_forward(x: Array, W: Array, b: Array) -> tuple[Array, Saved]:
    """Apply ``y = W x + b`` to the last axis.

    The output map of a recurrent network (W_yh, b_y), and the part of each cell that does not wait
    for the previous step (W_hx, b_h): all steps go through one matrix product.

    Parameters
    ----------
    x : (..., I) array
    W : (O, I) array
    b : (O,) array

    Returns
    -------
    y : (..., O) array
    saved : for `linear_backward`

    Examples
    --------
    >>> y, _ = linear_forward(np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), np.array([0.5]))
    >>> y
    array([11.5])
    """
    y = _rows(x) @ W.T + b
    return y.reshape(*x.shape[:-1], W.shape[0]), (x, W)


def linear_backward(dy: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """Backward of `linear_forward`: returns dx (..., I), dW (O, I), db (O,)."""
    x, W = saved
    # y = W x + b
    dx = (_rows(dy) @ W).reshape(x.shape)
    dW = _rows(dy).T @ _rows(x)
    db = _rows(dy).sum(axis=0)
    return dx, dW, db


def embedding_forward(ids: Array, W_e: Array) -> tuple[Array, Saved]:
    """Look up one row of a table for each token: ``x_t = W_e[ids_t]``.

    The same as a linear map of one-hot vectors, without making them.

    Parameters
    ----------
    ids : (...) array of int, each in 0 .. V-1
    W_e : (V, E) array

    Returns
    -------
    x : (..., E) array
    saved : for `embedding_backward`

    Examples
    --------
    >>> x, _ = embedding_forward(np.array([1, 0, 1]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> x
    array([[3., 4.],
           [1., 2.],
           [3., 4.]])
    """
    return W_e[ids], (ids, W_e)


def embedding_backward(dx: Array, saved: Saved) -> Array:
    """Backward of `embedding_forward`: returns dW_e (V, E); ids have no gradient."""
    ids, W_e = saved
    dW_e = np.zeros_like(W_e)
    # x_t = W_e[ids_t]; a token that occurs twice collects both gradients
    np.add.at(dW_e, ids, dx)
    return dW_e


def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Mean of ``-log p[target]`` with ``p = softmax(logits)``, and its gradient.

    ::

        p_k = exp(logits_k) / sum_j exp(logits_j)
        loss = mean(-log p_target)                   in nats; divide by log 2 for bits
        dlogits = (p - onehot(target)) / number of targets

    Parameters
    ----------
    logits : (..., V) array
    targets : (...) array of int, each in 0 .. V-1

    Returns
    -------
    loss : float
    dlogits : (..., V) array

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> bool(np.isclose(loss, np.log(4)))
    True
    >>> dlogits
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """
    target = np.expand_dims(targets, -1)
    # softmax does not change when all logits move together; with the largest at 0, exp is safe
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    log_p_target = np.take_along_axis(log_p, target, axis=-1)
    loss = -log_p_target.mean()

    dlogits = np.exp(log_p)
    np.put_along_axis(dlogits, target, np.exp(log_p_target) - 1, axis=-1)
    return float(loss), dlogits / targets.size


def cross_entropy(
    logits: Array,
    targets: Array,
    weights: Array,
    class_weights: Array,
    label_smoothing: float = 0.0,
) -> tuple[float, Array]:
    """Mean cross-entropy of rows that weigh `weights`, with classes that weigh `class_weights`.

    A part s of each target is spread over all classes::

        q = (1 - s) w_y onehot(y) + s / V w                what is wanted of the classes
        loss = sum_rows a (-sum_k q_k log p_k) / sum_rows a w_y
        dlogits = a (sum_k q_k p - q) / sum_rows a w_y

    Parameters
    ----------
    logits : (N, V) array
    targets : (N,) array of int, each in 0 .. V-1
    weights : (N,) array, a
    class_weights : (V,) array, w
    label_smoothing : float, s

    >>> loss, _ = cross_entropy(np.zeros((1, 4)), np.array([2]), np.ones(1), np.ones(4), 0.1)
    >>> bool(np.isclose(loss, np.log(4)))
    True
    """
    N, V = logits.shape
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    q = np.tile(label_smoothing / V * class_weights, (N, 1))
    q[np.arange(N), targets] += (1 - label_smoothing) * class_weights[targets]
    a = weights / (weights * class_weights[targets]).sum()
    loss = -(a[:, None] * q * log_p).sum()
    return float(loss), a[:, None] * (q.sum(axis=1, keepdims=True) * np.exp(log_p) - q)


def binary_cross_entropy_with_logits(
    x: Array, targets: Array, weights: Array, pos_weight: Array | float = 1.0
) -> tuple[float, Array]:
    """Weighted mean of ``-(w t log p + (1 - t) log(1 - p))`` with ``p = sigmoid(x)``.

    ``log p = -log(1 + exp(-x))`` and ``log(1 - p) = -log(1 + exp(x))``.

    >>> loss, dx = binary_cross_entropy_with_logits(np.zeros(1), np.ones(1), np.ones(1))
    >>> bool(np.isclose(loss, np.log(2))), dx.tolist()
    (True, [-0.5])
    """
    a, p = weights / weights.sum(), sigmoid(x)
    log_p, log_not_p = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    loss = -(a * (pos_weight * targets * log_p + (1 - targets) * log_not_p)).sum()
    return float(loss), a * ((1 - targets) * p - pos_weight * targets * (1 - p))


def mse_loss(x: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Weighted mean of ``(x - t)^2``.

    >>> mse_loss(np.array([3.0]), np.array([1.0]), np.ones(1))
    (4.0, array([4.]))
    """
    a = weights / weights.sum()
    return float((a * (x - targets) ** 2).sum()), a * 2 * (x - targets)


def l1_loss(x: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Weighted mean of ``|x - t|``.

    >>> l1_loss(np.array([3.0]), np.array([1.0]), np.ones(1))
    (2.0, array([1.]))
    """
    a = weights / weights.sum()
    return float((a * np.abs(x - targets)).sum()), a * np.sign(x - targets)


def huber_loss(
    x: Array, targets: Array, weights: Array, delta: float = 1.0
) -> tuple[float, Array]:
    """Weighted mean of ``d^2 / 2`` where ``|d| <= delta``, else of ``delta (|d| - delta / 2)``.

    >>> huber_loss(np.array([3.0]), np.array([1.0]), np.ones(1))
    (1.5, array([1.]))
    """
    a, d = weights / weights.sum(), x - targets
    near = np.abs(d) <= delta
    loss = (a * np.where(near, d**2 / 2, delta * (np.abs(d) - delta / 2))).sum()
    return float(loss), a * np.where(near, d, delta * np.sign(d))


def quantile_loss(
    x: Array, targets: Array, weights: Array, quantiles: Sequence[float]
) -> tuple[float, Array]:
    """Mean over targets, weighted, and quantiles q of ``max(q e, (q - 1) e)`` with e = t - x_q.

    >>> quantile_loss(np.array([[1.0]]), np.array([3.0]), np.ones(1), [0.25])
    (0.5, array([[-0.25]]))
    """
    a, dx, loss = weights / weights.sum(), np.zeros_like(x), 0.0
    for k, q in enumerate(quantiles):
        e = targets - x[..., k]
        loss += float((a * np.where(e >= 0, q * e, (q - 1) * e)).sum()) / len(quantiles)
        dx[..., k] = a * np.where(e > 0, -q, np.where(e < 0, 1 - q, 0)) / len(quantiles)
    return loss, dx


def gaussian_nll_loss(
    x: Array, targets: Array, var: Array, weights: Array, eps: float = 1e-6
) -> tuple[float, tuple[Array, Array]]:
    """Weighted mean of ``(log v + (x - t)^2 / v) / 2``, v = max(var, eps); dvar is taken at v.

    >>> gaussian_nll_loss(np.array([3.0]), np.array([1.0]), np.ones(1), np.ones(1))
    (2.0, (array([2.]), array([-1.5])))
    """
    a, d, v = weights / weights.sum(), x - targets, np.maximum(var, eps)
    loss = (a * (np.log(v) + d**2 / v) / 2).sum()
    return float(loss), (a * d / v, a * (1 / v - d**2 / v**2) / 2)


def ctc_loss(logits: Array, labels: Sequence[int], blank: int = 0) -> tuple[float, Array]:
    """Connectionist temporal classification of one sequence [6]_, and its gradient.

    A path has a class for each step: the labels in order, each once or more, with blanks between,
    which equal neighbours need. Its places are blank, label 1, blank, ..., label n, blank; from one
    step to the next it stays, goes on by one, or leaves out a blank between unequal labels::

        alpha_t(s) = log p_t(s) + log sum of exp alpha_{t-1}(s'), s' a place before s
        beta_t(s)  = log sum of exp (log p_{t+1}(s') + beta_{t+1}(s')), s' a place after s
        loss = -log sum of exp alpha_T(s) over the last two places
        dlogits_t(k) = p_t(k) - sum of exp(alpha_t(s) + beta_t(s) + loss) over the places s of k

    Parameters
    ----------
    logits : (T, V) array, T of 1 or more
    labels : n integers in 0 .. V-1, none of them blank

    >>> loss, _ = ctc_loss(np.zeros((2, 3)), [1])        # 1 1, 1 -, - 1: three paths of nine
    >>> bool(np.isclose(loss, np.log(3)))
    True
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    T, places = len(logits), [blank]
    for label in labels:
        places += [label, blank]
    n = len(places)

    def after(s: int) -> list[int]:
        skips = s + 2 < n and places[s + 2] not in (blank, places[s])
        return [s, *([s + 1] if s + 1 < n else []), *([s + 2] if skips else [])]

    alpha, beta = np.full((T, n), -np.inf), np.full((T, n), -np.inf)
    alpha[0, :2] = log_p[0, places[:2]]
    for t in range(1, T):
        for s in range(n):
            for later in after(s):
                alpha[t, later] = np.logaddexp(alpha[t, later], alpha[t - 1, s])
        alpha[t] += log_p[t, places]
    loss = -np.logaddexp.reduce(alpha[-1, -2:])

    beta[-1, -2:] = 0
    for t in range(T - 2, -1, -1):
        for s in range(n):
            # alpha[t, later] = logaddexp(alpha[t, later], alpha[t - 1, s])
            beta[t, s] = np.logaddexp.reduce(
                [log_p[t + 1, places[later]] + beta[t + 1, later] for later in after(s)]
            )
    dlogits = np.exp(log_p)
    for s in range(n):
        dlogits[:, places[s]] -= np.exp(alpha[:, s] + beta[:, s] + loss)
    return float(loss), dlogits


# -- The simple recurrent network -----------------------------------------------------------------


def rnn_forward(
    x: Array, h0: Array, W_hx: Array, W_hh: Array, b_h: Array, nonlinearity: str = "tanh"
) -> tuple[tuple[Array, Array], Saved]:
    """Run Elman's simple recurrent network [1]_.

    ::

        a_t = W_hx x_t + W_hh h_{t-1} + b_h
        h_t = f(a_t)                             f: tanh, relu, sigmoid or identity
        y_t = h_t

    Parameters
    ----------
    x : (T, B, I) array
    h0 : (B, H) array
    W_hx : (H, I) array
    W_hh : (H, H) array
    b_h : (H,) array
    nonlinearity : a key of `ACTIVATIONS`

    Returns
    -------
    (y, h_T) : (T, B, H) and (B, H) arrays
    saved : for `rnn_backward`

    Raises
    ------
    ValueError
        If `nonlinearity` is not one of the four.

    Examples
    --------
    A running sum is an identity network with all weights 1:

    >>> x, one = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1), np.ones((1, 1))
    >>> (y, h_T), _ = rnn_forward(x, 0 * one, one, one, np.zeros(1), nonlinearity="identity")
    >>> y.ravel()
    array([1., 3., 6.])
    """
    if nonlinearity not in ACTIVATIONS:
        raise ValueError(
            f"nonlinearity must be one of {', '.join(ACTIVATIONS)}; got {nonlinearity!r}"
        )
    f, _ = ACTIVATIONS[nonlinearity]
    T, B, _ = x.shape
    H = W_hh.shape[1]
    a, saved_a = linear_forward(x, W_hx, b_h)
    h = np.empty((T + 1, B, H), a.dtype)
    h[0] = h0
    for t in range(T):
        a[t] += h[t] @ W_hh.T
        h[t + 1] = f(a[t])
    return (h[1:], h[T]), (saved_a, h, W_hh, nonlinearity)


def rnn_backward(dy: Array, dh_T: Array, saved: Saved) -> tuple[Array, Array, Array, Array, Array]:
    """Backward of `rnn_forward`: returns dx, dh0, dW_hx, dW_hh, db_h.

    Parameters
    ----------
    dy : (T, B, H) array
    dh_T : (B, H) array
    saved : from `rnn_forward`
    """
    saved_a, h, W_hh, nonlinearity = saved
    _, slope = ACTIVATIONS[nonlinearity]
    da = np.empty_like(h[1:])
    dh = dh_T
    for t in reversed(range(len(da))):
        # y_t = h_t
        dh = dh + dy[t]
        # h_t = f(a_t)
        da[t] = dh * slope(h[t + 1])
        # a_t = W_hx x_t + W_hh h_{t-1} + b_h
        dh = da[t] @ W_hh

    # a_t = W_hx x_t + W_hh h_{t-1} + b_h, for all t at once
    dx, dW_hx, db_h = linear_backward(da, saved_a)
    dW_hh = _rows(da).T @ _rows(h[:-1])
    return dx, dh, dW_hx, dW_hh, db_h


# -- Long short-term memory -----------------------------------------------------------------------


def lstm_forward(
    x: Array, h0: Array, c0: Array, W_hx: Array, W_hh: Array, b_h: Array
) -> tuple[tuple[Array, Array, Array], Saved]:
    """Run the LSTM [3]_ with the forget gate [4]_.

    ::

        a_t = W_hx x_t + W_hh h_{t-1} + b_h      four blocks of rows: i, f, g, o
        i_t = sigmoid(a_i)                       input gate: how much to write
        f_t = sigmoid(a_f)                       forget gate: how much to keep
        g_t = tanh(a_g)                          candidate: what to write
        o_t = sigmoid(a_o)                       output gate: how much to show
        c_t = f_t c_{t-1} + i_t g_t
        h_t = o_t tanh(c_t)
        y_t = h_t

    Parameters
    ----------
    x : (T, B, I) array
    h0, c0 : (B, H) arrays
    W_hx : (4*H, I) array
    W_hh : (4*H, H) array
    b_h : (4*H,) array

    Returns
    -------
    (y, h_T, c_T) : (T, B, H), (B, H) and (B, H) arrays
    saved : for `lstm_backward`

    Examples
    --------
    With every gate wide open (bias 50) and a candidate of 1, the cell counts the steps:

    >>> zero = np.zeros((1, 1))
    >>> (y, h_T, c_T), _ = lstm_forward(
    ...     np.zeros((7, 1, 1)), zero, zero, np.zeros((4, 1)), np.zeros((4, 1)), np.full(4, 50.0)
    ... )
    >>> c_T
    array([[7.]])
    """
    T, B, _ = x.shape
    H = W_hh.shape[1]
    a, saved_a = linear_forward(x, W_hx, b_h)
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=-1)  # views of a, each (T, B, H)
    i, f, g, o = np.empty((4, T, B, H), a.dtype)
    h, c = np.empty((2, T + 1, B, H), a.dtype)
    h[0], c[0] = h0, c0
    for t in range(T):
        a[t] += h[t] @ W_hh.T
        i[t] = sigmoid(a_i[t])
        f[t] = sigmoid(a_f[t])
        g[t] = np.tanh(a_g[t])
        o[t] = sigmoid(a_o[t])
        c[t + 1] = f[t] * c[t] + i[t] * g[t]
        h[t + 1] = o[t] * np.tanh(c[t + 1])
    return (h[1:], h[T], c[T]), (saved_a, i, f, g, o, h, c, W_hh)


def lstm_backward(
    dy: Array, dh_T: Array, dc_T: Array, saved: Saved
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backward of `lstm_forward`: returns dx, dh0, dc0, dW_hx, dW_hh, db_h.

    Parameters
    ----------
    dy : (T, B, H) array
    dh_T, dc_T : (B, H) arrays
    saved : from `lstm_forward`
    """
    saved_a, i, f, g, o, h, c, W_hh = saved
    T, B, H = i.shape
    da = np.empty((T, B, 4 * H), i.dtype)
    da_i, da_f, da_g, da_o = np.split(da, 4, axis=-1)  # views of da, each (T, B, H)
    tanh_c = np.tanh(c)
    dh, dc = dh_T, dc_T
    for t in reversed(range(T)):
        # y_t = h_t
        dh = dh + dy[t]
        # h_t = o_t tanh(c_t)
        do = dh * tanh_c[t + 1]
        dc = dc + dh * o[t] * (1 - tanh_c[t + 1] ** 2)
        # c_t = f_t c_{t-1} + i_t g_t
        df = dc * c[t]
        di = dc * g[t]
        dg = dc * i[t]
        dc = dc * f[t]
        # o_t = sigmoid(a_o)
        da_o[t] = do * o[t] * (1 - o[t])
        # g_t = tanh(a_g)
        da_g[t] = dg * (1 - g[t] ** 2)
        # f_t = sigmoid(a_f)
        da_f[t] = df * f[t] * (1 - f[t])
        # i_t = sigmoid(a_i)
        da_i[t] = di * i[t] * (1 - i[t])
        # a_t = W_hx x_t + W_hh h_{t-1} + b_h
        dh = da[t] @ W_hh

    # a_t = W_hx x_t + W_hh h_{t-1} + b_h, for all t at once
    dx, dW_hx, db_h = linear_backward(da, saved_a)
    dW_hh = _rows(da).T @ _rows(h[:-1])
    return dx, dh, dc, dW_hx, dW_hh, db_h


# -- Gated recurrent unit -------------------------------------------------------------------------


def gru_forward(
    x: Array, h0: Array, W_hx: Array, W_hh: Array, b_h: Array, b_hn: Array
) -> tuple[tuple[Array, Array], Saved]:
    """Run the GRU [5]_, with the reset gate after the linear map.

    ::

        a_t = W_hx x_t + b_h                     three blocks of rows: r, z, n
        u_t = W_hh h_{t-1}                       the same blocks
        r_t = sigmoid(a_r + u_r)                 reset gate: how much of the past n may see
        z_t = sigmoid(a_z + u_z)                 update gate: how much of the past stays
        m_t = u_n + b_hn
        n_t = tanh(a_n + r_t m_t)                candidate
        h_t = (1 - z_t) n_t + z_t h_{t-1}
        y_t = h_t

    The paper applies the reset gate to h_{t-1} before the product with W_hh, as does
    `gru_reset_before_forward`. This is the variant of cuDNN and PyTorch (in ONNX
    ``linear_before_reset=1``), where one product serves all three blocks; the bias b_hn then stands
    inside the reset and cannot be merged into b_h.

    Parameters
    ----------
    x : (T, B, I) array
    h0 : (B, H) array
    W_hx : (3*H, I) array
    W_hh : (3*H, H) array
    b_h : (3*H,) array
    b_hn : (H,) array

    Returns
    -------
    (y, h_T) : (T, B, H) and (B, H) arrays
    saved : for `gru_backward`

    Examples
    --------
    A closed update gate (z = 1) keeps the state for ever:

    >>> b_h = np.array([0.0, 50.0, 0.0])
    >>> (y, h_T), _ = gru_forward(
    ...     np.ones((9, 1, 1)), np.array([[0.3]]), np.ones((3, 1)), np.ones((3, 1)), b_h, np.ones(1)
    ... )
    >>> h_T
    array([[0.3]])
    """
    T, B, _ = x.shape
    H = W_hh.shape[1]
    a, saved_a = linear_forward(x, W_hx, b_h)
    u = np.empty_like(a)
    a_r, a_z, a_n = np.split(a, 3, axis=-1)  # views of a, each (T, B, H)
    u_r, u_z, u_n = np.split(u, 3, axis=-1)
    r, z, m, n = np.empty((4, T, B, H), a.dtype)
    h = np.empty((T + 1, B, H), a.dtype)
    h[0] = h0
    for t in range(T):
        u[t] = h[t] @ W_hh.T
        r[t] = sigmoid(a_r[t] + u_r[t])
        z[t] = sigmoid(a_z[t] + u_z[t])
        m[t] = u_n[t] + b_hn
        n[t] = np.tanh(a_n[t] + r[t] * m[t])
        h[t + 1] = (1 - z[t]) * n[t] + z[t] * h[t]
    return (h[1:], h[T]), (saved_a, r, z, m, n, h, W_hh)


def gru_backward(
    dy: Array, dh_T: Array, saved: Saved
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backward of `gru_forward`: returns dx, dh0, dW_hx, dW_hh, db_h, db_hn.

    Parameters
    ----------
    dy : (T, B, H) array
    dh_T : (B, H) array
    saved : from `gru_forward`
    """
    saved_a, r, z, m, n, h, W_hh = saved
    T, B, H = r.shape
    da, du = np.empty((2, T, B, 3 * H), r.dtype)
    da_r, da_z, da_n = np.split(da, 3, axis=-1)  # views of da, each (T, B, H)
    du_r, du_z, du_n = np.split(du, 3, axis=-1)
    dh = dh_T
    for t in reversed(range(T)):
        # y_t = h_t
        dh = dh + dy[t]
        # h_t = (1 - z_t) n_t + z_t h_{t-1}
        dn = dh * (1 - z[t])
        dz = dh * (h[t] - n[t])
        dh = dh * z[t]
        # n_t = tanh(a_n + r_t m_t)
        da_n[t] = dn * (1 - n[t] ** 2)
        dr = da_n[t] * m[t]
        dm = da_n[t] * r[t]
        # m_t = u_n + b_hn
        du_n[t] = dm
        # z_t = sigmoid(a_z + u_z)
        da_z[t] = du_z[t] = dz * z[t] * (1 - z[t])
        # r_t = sigmoid(a_r + u_r)
        da_r[t] = du_r[t] = dr * r[t] * (1 - r[t])
        # u_t = W_hh h_{t-1}
        dh = dh + du[t] @ W_hh

    # a_t = W_hx x_t + b_h, u_t = W_hh h_{t-1} and m_t = u_n + b_hn, for all t at once
    dx, dW_hx, db_h = linear_backward(da, saved_a)
    dW_hh = _rows(du).T @ _rows(h[:-1])
    db_hn = _rows(du_n).sum(axis=0)
    return dx, dh, dW_hx, dW_hh, db_h, db_hn


def gru_reset_before_forward(
    x: Array, h0: Array, W_hx: Array, W_hh: Array, b_h: Array
) -> tuple[tuple[Array, Array], Saved]:
    """Run the GRU as in its paper [5]_, with the reset gate before the linear map.

    ::

        a_t = W_hx x_t + b_h                     three blocks of rows: r, z, n
        r_t = sigmoid(a_r + W_hr h_{t-1})        reset gate: how much of the past n may see
        z_t = sigmoid(a_z + W_hz h_{t-1})        update gate: how much of the past stays
        s_t = r_t h_{t-1}
        n_t = tanh(a_n + W_hn s_t)               candidate
        h_t = (1 - z_t) n_t + z_t h_{t-1}
        y_t = h_t

    W_hr, W_hz and W_hn are the blocks of W_hh. In Keras this is ``reset_after=False``, in ONNX
    ``linear_before_reset=0``. A second product has to wait for the reset gate.

    Parameters
    ----------
    x : (T, B, I) array
    h0 : (B, H) array
    W_hx : (3*H, I) array
    W_hh : (3*H, H) array
    b_h : (3*H,) array

    Returns
    -------
    (y, h_T) : (T, B, H) and (B, H) arrays
    saved : for `gru_reset_before_backward`

    Examples
    --------
    A closed update gate (z = 1) keeps the state for ever:

    >>> b_h = np.array([0.0, 50.0, 0.0])
    >>> (y, h_T), _ = gru_reset_before_forward(
    ...     np.ones((9, 1, 1)), np.array([[0.3]]), np.ones((3, 1)), np.ones((3, 1)), b_h
    ... )
    >>> h_T
    array([[0.3]])
    """
    T, B, _ = x.shape
    H = W_hh.shape[1]
    W_hr, W_hz, W_hn = np.split(W_hh, 3)
    a, saved_a = linear_forward(x, W_hx, b_h)
    a_r, a_z, a_n = np.split(a, 3, axis=-1)  # views of a, each (T, B, H)
    r, z, s, n = np.empty((4, T, B, H), a.dtype)
    h = np.empty((T + 1, B, H), a.dtype)
    h[0] = h0
    for t in range(T):
        r[t] = sigmoid(a_r[t] + h[t] @ W_hr.T)
        z[t] = sigmoid(a_z[t] + h[t] @ W_hz.T)
        s[t] = r[t] * h[t]
        n[t] = np.tanh(a_n[t] + s[t] @ W_hn.T)
        h[t + 1] = (1 - z[t]) * n[t] + z[t] * h[t]
    return (h[1:], h[T]), (saved_a, r, z, s, n, h, W_hh)


def gru_reset_before_backward(
    dy: Array, dh_T: Array, saved: Saved
) -> tuple[Array, Array, Array, Array, Array]:
    """Backward of `gru_reset_before_forward`: returns dx, dh0, dW_hx, dW_hh, db_h.

    Parameters
    ----------
    dy : (T, B, H) array
    dh_T : (B, H) array
    saved : from `gru_reset_before_forward`
    """
    saved_a, r, z, s, n, h, W_hh = saved
    T, B, H = r.shape
    W_hr, W_hz, W_hn = np.split(W_hh, 3)
    da = np.empty((T, B, 3 * H), r.dtype)
    da_r, da_z, da_n = np.split(da, 3, axis=-1)  # views of da, each (T, B, H)
    dh = dh_T
    for t in reversed(range(T)):
        # y_t = h_t
        dh = dh + dy[t]
        # h_t = (1 - z_t) n_t + z_t h_{t-1}
        dn = dh * (1 - z[t])
        dz = dh * (h[t] - n[t])
        dh = dh * z[t]
        # n_t = tanh(a_n + W_hn s_t)
        da_n[t] = dn * (1 - n[t] ** 2)
        ds = da_n[t] @ W_hn
        # s_t = r_t h_{t-1}
        dr = ds * h[t]
        dh = dh + ds * r[t]
        # z_t = sigmoid(a_z + W_hz h_{t-1})
        da_z[t] = dz * z[t] * (1 - z[t])
        dh = dh + da_z[t] @ W_hz
        # r_t = sigmoid(a_r + W_hr h_{t-1})
        da_r[t] = dr * r[t] * (1 - r[t])
        dh = dh + da_r[t] @ W_hr

    # a_t = W_hx x_t + b_h, and the products with W_hh, for all t at once
    dx, dW_hx, db_h = linear_backward(da, saved_a)
    dW_hr, dW_hz = _rows(da_r).T @ _rows(h[:-1]), _rows(da_z).T @ _rows(h[:-1])
    dW_hn = _rows(da_n).T @ _rows(s)
    return dx, dh, dW_hx, np.concatenate([dW_hr, dW_hz, dW_hn]), db_h


# -- Whole layers: sequences of unequal length, both directions, several layers -------------------


class Cell(NamedTuple):
    """A cell's two functions and how many arrays its state has (LSTM: h and c).

    ``own_bias`` names the bias of the recurrent part of the last gate, where that stands apart.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    state_arrays: int
    own_bias: str | None = None


#: What `forward` runs: rnn_tanh, rnn_relu, rnn_sigmoid, rnn_identity, lstm, gru, gru_reset_before.
CELLS = {
    **{
        f"rnn_{name}": Cell(partial(rnn_forward, nonlinearity=name), rnn_backward, 1)
        for name in ACTIVATIONS
    },
    "lstm": Cell(lstm_forward, lstm_backward, 2),
    "gru": Cell(gru_forward, gru_backward, 1, own_bias="b_hn"),
    "gru_reset_before": Cell(gru_reset_before_forward, gru_reset_before_backward, 1),
}

#: The order in which every cell takes its parameters and returns their gradients.
_PARAMETER_NAMES = ("W_hx", "W_hh", "b_h", "b_hn")


def direction_forward(
    cell: Cell,
    x: Array,
    state: Sequence[Array],
    parameters: Parameters,
    lengths: Array,
    reverse: bool,
) -> tuple[tuple[Array, ...], Saved]:
    """Run one direction of one layer over sequences of unequal length.

    Sequences of equal length are cut to that length and run together, first to last step or last
    to first. So no cell ever sees padding: padded outputs are zero, and each sequence's state stops
    at its own end (in reverse: starts there).

    Parameters
    ----------
    cell : a value of `CELLS`
    x : (T, B, I) array
    state : the initial (B, H) arrays: [h0], or [h0, c0] for the LSTM
    parameters : the cell's, by name
    lengths : (B,) array of int, each in 0 .. T
    reverse : whether to read from the last step to the first

    Returns
    -------
    (y, *state_T) : (T, B, H) array and (B, H) arrays
    saved : for `direction_backward`
    """
    T, B, _ = x.shape
    y = np.zeros((T, B, parameters["W_hh"].shape[1]), x.dtype)
    state_T = [s.copy() for s in state]
    runs = []
    for length in np.unique(lengths):
        batch = np.flatnonzero(lengths == length)
        time = np.arange(length)[::-1] if reverse else np.arange(length)
        steps = np.ix_(time, batch)
        (y[steps], *ends), saved = cell.forward(x[steps], *(s[batch] for s in state), **parameters)
        for s_T, end in zip(state_T, ends, strict=True):
            s_T[batch] = end
        runs.append((steps, batch, saved))
    return (y, *state_T), (cell, x, parameters, runs)


def direction_backward(
    dy: Array, dstate_T: Sequence[Array], saved: Saved
) -> tuple[Array, list[Array], Parameters]:
    """Backward of `direction_forward`: returns dx, dstate, dparameters.

    What comes in for padded steps is ignored; what goes out for them is zero.

    Parameters
    ----------
    dy : (T, B, H) array
    dstate_T : (B, H) arrays
    saved : from `direction_forward`
    """
    cell, x, parameters, runs = saved
    dx = np.zeros_like(x)
    dstate = [ds_T.copy() for ds_T in dstate_T]
    dparameters = {name: np.zeros_like(p) for name, p in parameters.items()}
    for steps, batch, saved_run in runs:
        dx[steps], *rest = cell.backward(dy[steps], *(ds_T[batch] for ds_T in dstate_T), saved_run)
        starts, dps = rest[: len(dstate)], rest[len(dstate) :]
        for ds, start in zip(dstate, starts, strict=True):
            ds[batch] = start
        for name, dp in zip(_PARAMETER_NAMES, dps, strict=False):
            dparameters[name] += dp
    return dx, dstate, dparameters


def forward(
    cell: str,
    x: Array,
    layers: Layers,
    state: State | None = None,
    lengths: Sequence[int] | Array | None = None,
) -> tuple[tuple[Array, State], Saved]:
    """Run a stack of layers, each in one direction or in both, as torch.nn.RNN, LSTM, GRU do.

    A layer's output is the output of its directions side by side; the next layer reads it.

    Parameters
    ----------
    cell : a key of `CELLS`
    x : (T, B, I) array
    layers : ``layers[l][d]`` is a dict of the parameters W_hx, W_hh, b_h (GRU: and b_hn) of layer l
        in direction d; a second direction reads from each sequence's last step to its first
    state : (L*D, B, H) array, or a pair (h0, c0) of them for the LSTM; zeros if None.
        Row l*D + d belongs to layer l, direction d
    lengths : (B,) int, each in 0 .. T, in any order; all T if None

    Returns
    -------
    (y, state_T) : (T, B, D*H) array, zero where padded, and the states after each sequence's own
        last step, in the form of `state`
    saved : for `backward`

    Raises
    ------
    ValueError
        If `cell` is unknown, or `lengths` is not one number in 0 .. T for each sequence.

    Examples
    --------
    Two sequences, of 3 steps and of 1, in one batch:

    >>> ones = {"W_hx": np.ones((1, 1)), "W_hh": np.ones((1, 1)), "b_h": np.zeros(1)}
    >>> x = np.ones((3, 2, 1))
    >>> (y, h_T), saved = forward("rnn_identity", x, [[ones, ones]], lengths=[3, 1])
    >>> y[:, 0]
    array([[1., 3.],
           [2., 2.],
           [3., 1.]])
    >>> y[:, 1]
    array([[1., 1.],
           [0., 0.],
           [0., 0.]])
    >>> dx, dh0, grads = backward(y, None, saved)
    >>> sorted(grads[0][1])
    ['W_hh', 'W_hx', 'b_h']
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}; got {cell!r}")
    T, B, _ = x.shape
    lengths = np.full(B, T) if lengths is None else np.asarray(lengths)
    if lengths.shape != (B,) or np.any((lengths < 0) | (lengths > T)):
        raise ValueError(
            f"lengths must hold one number in 0 .. {T} for each of the {B} sequences; got {lengths}"
        )
    D, H = len(layers[0]), layers[0][0]["W_hh"].shape[1]
    if state is None:
        zero = np.zeros((len(layers) * D, B, H), x.dtype)
        state = (zero,) * CELLS[cell].state_arrays
    states = state if isinstance(state, tuple) else (state,)

    states_T = tuple(np.empty_like(s) for s in states)
    saved_layers = []
    for level, layer in enumerate(layers):
        outputs, saved_directions = [], []
        for d, parameters in enumerate(layer):
            k = level * D + d
            (y, *ends), saved = direction_forward(
                CELLS[cell], x, [s[k] for s in states], parameters, lengths, reverse=d == 1
            )
            for s_T, end in zip(states_T, ends, strict=True):
                s_T[k] = end
            outputs.append(y)
            saved_directions.append(saved)
        x = np.concatenate(outputs, axis=-1)
        saved_layers.append(saved_directions)
    return (x, _as_given(states_T)), (states_T, saved_layers)


def backward(
    dy: Array, dstate_T: State | None, saved: Saved
) -> tuple[Array, State, list[list[Parameters]]]:
    """Backward of `forward`: returns dx, dstate and the gradients in the nesting of `layers`.

    Parameters
    ----------
    dy : (T, B, D*H) array
    dstate_T : in the form of forward's state; zeros if None
    saved : from `forward`
    """
    states_T, saved_layers = saved
    if dstate_T is None:
        dstate_T = tuple(np.zeros_like(s_T) for s_T in states_T)
    dstates_T = dstate_T if isinstance(dstate_T, tuple) else (dstate_T,)

    dstates = tuple(np.empty_like(s_T) for s_T in states_T)
    dlayers: list[list[Parameters]] = []
    for level, saved_directions in reversed(list(enumerate(saved_layers))):
        D = len(saved_directions)
        # x = concatenate(outputs)
        doutputs = np.split(dy, D, axis=-1)
        dx, dlayer = [], []
        for d in range(D):
            k = level * D + d
            dx_d, starts, dparameters = direction_backward(
                doutputs[d], [ds_T[k] for ds_T in dstates_T], saved_directions[d]
            )
            for ds, start in zip(dstates, starts, strict=True):
                ds[k] = start
            dx.append(dx_d)
            dlayer.append(dparameters)
        # every direction has read the same x
        dy = np.sum(dx, axis=0)
        dlayers.insert(0, dlayer)
    return dy, _as_given(dstates), dlayers


def _as_given(states: tuple[Array, ...]) -> State:
    """Return h for the cells that have h alone, (h, c) for the LSTM."""
    return states if len(states) > 1 else states[0]


# -- PyTorch's names ------------------------------------------------------------------------------


def layers_from_state_dict(cell: str, tensors: Mapping[str, Array]) -> list[list[Parameters]]:
    """Make the `layers` of `forward` from arrays with the names of torch.nn.RNN, LSTM, GRU.

    weight_ih_l0 is W_hx, weight_hh_l0 is W_hh, and so on for l1, l2, each also with ``_reverse``.
    Of the two biases only the sum matters: ``b_h = bias_ih + bias_hh``; a missing one counts as
    zero. The GRU's bias_hh for n stays apart as b_hn.

    >>> tensors = {"weight_ih_l0": np.ones((6, 5)), "weight_hh_l0": np.ones((6, 2)),
    ...            "bias_ih_l0": np.ones(6), "bias_hh_l0": np.ones(6)}
    >>> [[parameters]] = layers_from_state_dict("gru", tensors)
    >>> parameters["b_h"], parameters["b_hn"]
    (array([2., 2., 2., 2., 1., 1.]), array([1., 1.]))
    """

    def direction(suffix: str) -> Parameters:
        W_hx, W_hh = tensors[f"weight_ih_{suffix}"], tensors[f"weight_hh_{suffix}"]
        rows, H = W_hh.shape
        zero = np.zeros(rows, W_hh.dtype)
        b_h = tensors.get(f"bias_ih_{suffix}", zero).copy()
        b_hh = tensors.get(f"bias_hh_{suffix}", zero)
        own = CELLS[cell].own_bias
        if own is None:
            return {"W_hx": W_hx, "W_hh": W_hh, "b_h": b_h + b_hh}
        b_h[:-H] += b_hh[:-H]
        return {"W_hx": W_hx, "W_hh": W_hh, "b_h": b_h, own: b_hh[-H:].copy()}

    layers: list[list[Parameters]] = []
    while f"weight_ih_l{len(layers)}" in tensors:
        suffixes = (f"l{len(layers)}", f"l{len(layers)}_reverse")
        layers.append([direction(s) for s in suffixes if f"weight_ih_{s}" in tensors])
    return layers


def gradients_by_name(dlayers: Layers) -> dict[str, Array]:
    """Give the gradients of `backward` the names of torch.nn.RNN, LSTM, GRU.

    bias_ih and bias_hh have the gradient of b_h each; in the GRU's bias_hh, n has that of b_hn.

    >>> names = gradients_by_name([[{"W_hx": np.ones((2, 3)), "W_hh": np.ones((2, 2)),
    ...                              "b_h": np.ones(2)}]])
    >>> list(names)
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """
    tensors: dict[str, Array] = {}
    for level, dlayer in enumerate(dlayers):
        for direction, d in zip(("", "_reverse"), dlayer, strict=False):
            suffix = f"l{level}{direction}"
            tensors[f"weight_ih_{suffix}"] = d["W_hx"]
            tensors[f"weight_hh_{suffix}"] = d["W_hh"]
            tensors[f"bias_ih_{suffix}"] = d["b_h"]
            db_hn = d.get("b_hn", np.empty(0, d["b_h"].dtype))
            tensors[f"bias_hh_{suffix}"] = np.concatenate(
                [d["b_h"][: len(d["b_h"]) - len(db_hn)], db_hn]
            )
    return tensors
