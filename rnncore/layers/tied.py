"""A table of vectors that is the weight of an output layer."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from rnncore.layers.embedding import Embedding
from rnncore.layers.linear import Linear
from rnncore.layers.module import Module


class TiedEmbedding(Embedding):
    """A table that is the weight of a linear layer: ``x_t = W[token]``, ``logits = W y + b``.

    There is one W. It has the sum of both gradients, is in files and optimizers once, and stays a
    parameter of the linear layer; this module has none of its own.

    Parameters
    ----------
    head
        The linear layer, of V outputs: its W (V, H) holds the vectors of V tokens, of size H. Both
        are parts of one model.

    References
    ----------
    O. Press and L. Wolf, Using the output embedding to improve language models, EACL 2017; H. Inan
    et al., Tying word vectors and word classifiers, ICLR 2017.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> from rnncore.layers import TiedEmbedding
    >>> head = rnncore.Linear(4, 10, seed=0)
    >>> table = TiedEmbedding(head)
    >>> bool((table([3]) == head.params["weight"][3]).all()), table.num_parameters
    (True, 0)
    >>> parts = {"table": table, "rnn": rnncore.LSTM(4, 4, seed=1), "head": head}
    >>> model = rnncore.Module(children=parts)
    >>> [name for name in model.params if "weight" in name]
    ['rnn.weight_ih_l0', 'rnn.weight_hh_l0', 'head.weight']
    """

    def __init__(self, head: Linear) -> None:
        if not isinstance(head, Linear):
            raise TypeError(f"head: expected an rnncore.Linear, got {type(head).__name__}")
        Module.__init__(self, dtype=head.dtype)
        self._head = head
        self.num_embeddings, self.embedding_dim = head.out_features, head.in_features

    @property
    def owner(self) -> Module:
        """The linear layer."""
        return self._head

    @classmethod
    def from_pretrained(cls, vectors: Any, *, freeze: bool = True) -> Self:
        """Refuse: the vectors are those of the linear layer, which loads them."""
        raise TypeError("from_pretrained: a tied table has no vectors of its own; load the head's")

    def freeze(self) -> NoReturn:
        """Refuse: the table is a parameter of the linear layer, which can be frozen."""
        raise RuntimeError("freeze: a tied table is a parameter of the head; freeze the head")

    def unfreeze(self) -> NoReturn:
        """Refuse, as `freeze` does."""
        raise RuntimeError("unfreeze: a tied table is a parameter of the head; unfreeze the head")
