"""Layers: thin Python over the compiled engine."""

from rnncore.layers.attention import Attention
from rnncore.layers.dropout import Dropout
from rnncore.layers.embedding import Embedding
from rnncore.layers.linear import Linear
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent
from rnncore.layers.sequential import Sequential
from rnncore.layers.standard import GRU, LSTM, RNN
from rnncore.layers.tape import Tape, Value
from rnncore.layers.tied import TiedEmbedding

__all__ = ["GRU", "LSTM", "RNN", "Attention", "Dropout", "Embedding", "Linear", "Module",
           "Recurrent", "Sequential", "Tape", "TiedEmbedding", "Value"]  # fmt: skip
