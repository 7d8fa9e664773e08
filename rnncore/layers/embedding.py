"""A table of vectors, one for each token."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import (
    as_real,
    check_dtype,
    check_flag,
    check_seed,
    check_size,
    check_tokens,
    check_weights,
)
from rnncore.layers.kept import Kept, find, remember
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
        super().__init__({"weight": shape}, dtype=check_dtype(dtype))
        self._params["weight"][...] = check_seed(seed).standard_normal(shape)

    def _sizes_shown(self) -> list[str]:
        return [str(self.num_embeddings), str(self.embedding_dim)]

    def __call__(self, tokens: Any) -> np.ndarray:
        """Return the vectors of integer tokens (...), as (..., embedding_dim)."""
        return self._look_up(check_tokens("tokens", tokens, self.num_embeddings))

    def _look_up(self, tokens: np.ndarray) -> np.ndarray:
        with self._guard.weights:
            vectors: np.ndarray = self._params["weight"][tokens]
        return vectors

    def forward(self, tokens: Any, *, keep: bool = False) -> Any:
        """Do the same and keep what backward needs; with `keep` return it as a second value."""
        kept = EmbeddingPass(self, check_tokens("tokens", tokens, self.num_embeddings))
        vectors = self._look_up(kept.tokens)
        if keep:
            return vectors, kept
        remember(self, kept)
        return vectors

    def backward(
        self, dy: Any, *, accumulate: bool = True, kept: EmbeddingPass | None = None
    ) -> None:
        """Sum the gradients of the vectors into that of the table.

        Parameters
        ----------
        dy
            dL/d(vectors), (..., embedding_dim).
        accumulate
            Whether to add to `grads` or to replace what stands there.
        kept
            What that forward returned; None: the last one of this thread without `keep`.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each serves one backward), or the weights have
            changed since.
        ValueError, TypeError
            If dy does not have the shape of the vectors, or is not floating-point.
        """
        accumulate = check_flag("accumulate", accumulate)
        with self._guard.gradients:
            kept = find(self, kept, EmbeddingPass)
            dy, tokens = as_real("dy", dy, self.dtype), kept.tokens
            expected = (*tokens.shape, self.embedding_dim)
            if dy.shape != expected:
                raise ValueError(
                    f"dy: expected the shape of the vectors, {expected}, got {dy.shape}"
                )
            kept.use_up()
            if not accumulate:
                self.zero_grad()
            np.add.at(self._grads["weight"], tokens, dy)


class EmbeddingPass(Kept):
    """What an embedding keeps: a copy of the tokens."""

    def __init__(self, module: Embedding, tokens: np.ndarray) -> None:
        super().__init__(module)
        self.tokens = tokens


def check_embedding(embedding: object, size: int, dtype: np.dtype) -> None:
    """Refuse what cannot be the embedding of a layer with inputs of this size."""
    if not isinstance(embedding, Embedding):
        raise TypeError(
            f"embedding: expected an rnncore.Embedding, got {type(embedding).__name__}"
        )
    if embedding.embedding_dim != size or embedding.dtype != dtype:
        raise ValueError(
            f"embedding: expected {dtype} vectors of size {size}, got {embedding.dtype} of size "
            f"{embedding.embedding_dim}"
        )
