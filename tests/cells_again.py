"""The engine's own cells, written again as users write them."""

from __future__ import annotations

import rnncore
from rnncore.cells import sigmoid, tanh


@rnncore.cell(gates="h")
def rnn_again(z):
    return tanh(z.h)


@rnncore.cell(gates="ifgo", states="hc")
def lstm_again(z, prev):
    i = sigmoid(z.i)
    f = sigmoid(z.f)
    g = tanh(z.g)
    o = sigmoid(z.o)
    c = f * prev.c + i * g
    return o * tanh(c), c


@rnncore.cell(gates="rzn")
def gru_again(z, x, h, prev):
    r = sigmoid(z.r)
    n = tanh(x.n + r * h.n)
    z = sigmoid(z.z)
    return (1 - z) * n + z * prev.h


AGAIN = {"RNN": rnn_again, "LSTM": lstm_again, "GRU": gru_again}
