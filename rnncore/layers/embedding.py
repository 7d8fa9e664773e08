"""A table of vectors, one for each token."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import (
    as_real,
    check_flag,
    check_seed,
    check_size,
    check_tokens,
    check_weights,
)
from rnncore.layers.module import Module, Seed


class Embedding(Module):
    """A vector for each token: `y = weight[token]`.

    Fed to a recurrent layer (`layer(tokens, embedding=table)`), the lookup and the input
    projection become one gather from the projected table.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Size of the vocabulary, and of a vector. `weight` is (num_embeddings, embedding_dim),
        drawn from N(0, 1).
    dtype, seed
        float32 or float64; a seed or generator for the initial values.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> table = rnncore.Embedding(10, 4, seed=0)
    >>> table(np.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.num_embeddings = check_size("num_embeddings", num_embeddings)
        self.embedding_dim = check_size("embedding_dim", embedding_dim)
        check_weights("num_embeddings, embedding_dim", self.num_embeddings, self.embedding_dim)
        shape = (self.num_embeddings, self.embedding_dim)
        super().__init__({"weight": shape}, dtype=dtype)
        self._params["weight"][...] = check_seed(seed).standard_normal(shape)
        self._tokens: np.ndarray | None = None

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Return the vectors of integer tokens (...), as (..., embedding_dim)."""
        return self._params["weight"][check_tokens("tokens", tokens, self.num_embeddings)]

    def forward(self, tokens: np.ndarray) -> np.ndarray:
        """Do the same and keep what backward needs."""
        self._tokens = check_tokens("tokens", tokens, self.num_embeddings)
        return self._params["weight"][self._tokens]

    def backward(self, dy: np.ndarray, *, accumulate: bool = True) -> None:
        """Sum the gradients of the vectors into that of the table.

        Parameters
        ----------
        dy
            dL/d(vectors), (..., embedding_dim).
        accumulate
            Whether to add to `grads` or to replace what stands there.

        Raises
        ------
        RuntimeError
            If `forward` did not come before.
        ValueError, TypeError
            If dy does not have the shape of the vectors, or is not floating-point.
        """
        accumulate = check_flag("accumulate", accumulate)
        if self._tokens is None:
            raise RuntimeError("backward: nothing was kept; call forward first")
        dy = as_real("dy", dy, self.dtype)
        expected = (*self._tokens.shape, self.embedding_dim)
        if dy.shape != expected:
            raise ValueError(f"dy: expected the shape of the vectors, {expected}, got {dy.shape}")
        if not accumulate:
            self.zero_grad()
        np.add.at(self._grads["weight"], self._tokens, dy)
