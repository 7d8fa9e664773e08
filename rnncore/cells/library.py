"""Recurrent cells from papers, each as its equations: examples, and known to models by name.

`x_k` is `W_hx x_t + b_h` of gate k, `h_k` is `W_hh h_{t-1}`, and `z_k` is their sum. Cells that
take `x` alone have no W_hh: their gates do not read h, so they train at any length at the cost of
one matrix product and a scan.
"""

from __future__ import annotations

from typing import Any

from rnncore.cells import names
from rnncore.cells.chosen import chosen_cell
from rnncore.cells.definition import Cell, cell
from rnncore.cells.functions import (
    exp,
    hard_sigmoid,
    hard_tanh,
    relu,
    sigmoid,
    softplus,
    sqrt,
    tanh,
)


@cell(gates="ifgo", states="hc", own="p_i p_f p_o")
def peephole_lstm(z: Any, prev: Any, own: Any) -> Any:
    """LSTM whose gates see c (Gers and Schmidhuber, Recurrent nets that time and count, 2000)."""
    i = sigmoid(z.i + own.p_i * prev.c)
    f = sigmoid(z.f + own.p_f * prev.c)
    g = tanh(z.g)
    c = f * prev.c + i * g
    o = sigmoid(z.o + own.p_o * c)
    return o * tanh(c), c


@cell(gates="fgo", states="hc")
def coupled_lstm(z: Any, prev: Any) -> Any:
    """LSTM that writes what it forgets (Greff et al., LSTM: a search space odyssey, 2015)."""
    f = sigmoid(z.f)
    g = tanh(z.g)
    o = sigmoid(z.o)
    c = f * prev.c + (1 - f) * g
    return o * tanh(c), c


@cell(gates="ifgo", states="hc")
def hard_lstm(z: Any, prev: Any) -> Any:
    """LSTM with straight lines for gates (Courbariaux et al., BinaryConnect, 2015)."""
    i = hard_sigmoid(z.i)
    f = hard_sigmoid(z.f)
    g = hard_tanh(z.g)
    o = hard_sigmoid(z.o)
    c = f * prev.c + i * g
    return o * hard_tanh(c), c


@cell(gates="ifzo", states="hcnm")
def s_lstm(z: Any, prev: Any) -> Any:
    """LSTM whose gates are exponential (Beck et al., xLSTM, 2024, section 2.2), f a sigmoid.

    c is what was seen, n its weight, and both stand scaled by e^-m, so that nothing overflows. The
    first step has nothing to keep: there m is the input gate, as in the authors' code.
    """
    kept = prev.m - softplus(-z.f)                  # log(sigmoid(f)) + m
    m = z.i if prev.n == 0 else max(kept, z.i)
    i, f, o = exp(z.i - m), exp(min(kept - m, 80)), sigmoid(z.o)    # infinity times 0 is none
    z = tanh(z.z)
    c, n = f * prev.c + i * z, f * prev.n + i
    return o * c / n, c, n, m


@cell(gates="fn")
def minimal_gated(z: Any, x: Any, h: Any, prev: Any) -> Any:
    """One gate for both of the GRU's (Zhou et al., Minimal gated unit, 2016), reset after W_hh."""
    f = sigmoid(z.f)
    n = tanh(x.n + f * h.n)
    return (1 - f) * prev.h + f * n


@cell(gates="n", own={"u": (0.0, 1.0)})
def ind_rnn(x: Any, prev: Any, own: Any) -> Any:
    """Units that read their own h alone (Li et al., IndRNN, 2018)."""
    return relu(x.n + own.u * prev.h)


@cell(gates="n", own={"log_tau": (0.0, 2.0)})
def leaky_rnn(z: Any, prev: Any, own: Any) -> Any:
    """Each unit with its own time constant, tau = 1 + e^log_tau steps.

    One step of Euler's method of tau dh/dt = -h + tanh(z) (Funahashi and Nakamura, Approximation
    of dynamical systems by continuous time recurrent neural networks, 1993), kept stable.
    """
    n = tanh(z.n)
    return prev.h + (n - prev.h) / (1 + exp(own.log_tau))


@cell(gates="zn")
def min_gru(x: Any, prev: Any) -> Any:
    """GRU without h in its gates (Feng et al., Were RNNs all we needed?, 2024, section 3.1)."""
    z = sigmoid(x.z)
    return (1 - z) * prev.h + z * x.n


@cell(gates="fin")
def min_lstm(x: Any, prev: Any) -> Any:
    """LSTM without h in its gates, f + i = 1 (Feng et al., 2024, section 3.2).

    f and i are both divided by what they have in common, as both may be too small for numbers.
    """
    low = min(min(x.f, x.i), 0)                     # so that the largest of these is 1
    one, no_f, no_i = exp(low), exp(low - x.f), exp(low - x.i)      # f = one / (one + no_f)
    return ((one + no_i) * prev.h + (one + no_f) * x.n) / (2 * one + no_f + no_i)


@cell(gates="rin", own={"a": (2.2, 6.9)})
def rg_lru(x: Any, prev: Any, own: Any) -> Any:
    """Real-gated linear recurrent unit (De et al., Griffin, 2024, section 2.4).

    Its decay d is sigmoid(a)^(8 r), at first between 0.9 and 0.999 where r is 1 / 8, and the input
    counts sqrt(1 - d^2). Both come from t = tanh(-log(d) / 2), as 1 - d^2 has no digits left where
    d is near 1.
    """
    r, i = sigmoid(x.r), sigmoid(x.i)
    t = tanh(4.0 * r * softplus(-own.a))
    decay, share = (1 - t) / (1 + t), 2 * sqrt(t + 1e-30) / (1 + t)  # no slope is infinite
    return decay * prev.h + share * (i * x.n)


def find(name: str) -> Cell:
    """Return the cell of this name: one of these, by choice, or defined since.

    Raises
    ------
    ValueError
        If there is none.
    """
    return chosen_cell(name) or names.find(name)
