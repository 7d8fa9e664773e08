"""A table of vectors, one for each token."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from rnncore import engine
from rnncore.arguments import (
    as_array,
    as_real,
    check_dtype,
    check_flag,
    check_seed,
    check_size,
    check_tokens,
    check_weights,
)
from rnncore.engine.batch import Batch
from rnncore.engine.rows import Rows
from rnncore.layers.form import batch_of
from rnncore.layers.kept import Kept, find, remember
from rnncore.layers.module import Module, Seed
from rnncore.layers.recording import record_embedding
from rnncore.layers.tape import recording


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
        self._begin(
            check_size("num_embeddings", num_embeddings),
            check_size("embedding_dim", embedding_dim), check_dtype(dtype),
        )  # fmt: skip
        weight = self._params["weight"]
        weight[...] = check_seed(seed).standard_normal(weight.shape)

    def _begin(self, count: int, size: int, dtype: np.dtype) -> None:
        check_weights("num_embeddings, embedding_dim", count, size)
        self.num_embeddings, self.embedding_dim = count, size
        super().__init__({"weight": (count, size)}, dtype=dtype)

    @classmethod
    def from_pretrained(cls, vectors: Any, *, freeze: bool = True) -> Self:
        """Return a table of vectors that there are already.

        Parameters
        ----------
        vectors
            (num_embeddings, embedding_dim) numbers, float32 or float64; copied.
        freeze
            Whether it stays as it is; `unfreeze` lets it learn.

        Raises
        ------
        TypeError, ValueError
            If the vectors are no such array.

        Examples
        --------
        >>> import numpy as np, rnncore
        >>> table = rnncore.Embedding.from_pretrained(np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> table([1, 1, 0]).tolist(), table.frozen
        ([[3.0, 4.0], [3.0, 4.0], [1.0, 2.0]], True)
        """
        array, freeze = as_array("vectors", vectors), check_flag("freeze", freeze)
        if array.dtype.kind != "f" or array.ndim != 2 or not array.size:
            raise TypeError(
                "vectors: expected floating-point numbers (num_embeddings, embedding_dim), got "
                f"{array.dtype} of shape {array.shape}; give a row for each token"
            )
        table = cls.__new__(cls)
        count, size = array.shape
        table._begin(count, size, check_dtype(array.dtype))
        table._params["weight"][...] = array
        if freeze:
            table.freeze()
        return table

    def _sizes_shown(self) -> list[str]:
        return [str(self.num_embeddings), str(self.embedding_dim)]

    @property
    def owner(self) -> Module:
        """The module whose parameter `weight` the table is: itself, unless it is tied."""
        return self

    def __call__(self, tokens: Any, lengths: Any = None) -> Any:
        """Return the vectors of integer tokens (...), as (..., embedding_dim).

        Or of tokens (T, B) with the length of each sequence, whose padding may be anything: then
        the vectors are `Rows`, as the other layers take them.
        """
        tape = recording()
        if tape is not None:
            return record_embedding(tape, self, tokens, lengths)
        return self._look_up(*self._enter(tokens, lengths))

    def _enter(self, tokens: Any, lengths: Any) -> tuple[np.ndarray, Batch | None]:
        if lengths is None:
            return check_tokens("tokens", tokens, self.num_embeddings), None
        array = as_array("tokens", tokens)
        if array.ndim != 2:
            raise ValueError(f"tokens: expected (T, B) beside lengths, got shape {array.shape}")
        steps, size = array.shape
        batch = batch_of(steps, size, lengths)
        return check_tokens("tokens", batch.tokens(array), self.num_embeddings), batch

    def _look_up(self, tokens: np.ndarray, batch: Batch | None) -> Any:
        owner = self.owner
        with owner._guard.weights:
            vectors = owner._params["weight"][tokens]
        return vectors if batch is None else Rows.of(vectors, batch=batch)

    def forward(self, tokens: Any, lengths: Any = None, *, keep: bool = False) -> Any:
        """Do the same and keep what backward needs; with `keep` return it as a second value."""
        kept = EmbeddingPass(self, *self._enter(tokens, lengths))
        vectors = self._look_up(kept.tokens, kept.batch)
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
            dL/d(vectors), (..., embedding_dim), or rows.
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
            tokens = kept.tokens
            if isinstance(dy, Rows):
                dy.check("dy")
                if not dy.is_of(kept.batch):
                    raise ValueError("dy: expected rows of the batch of the tokens, got others")
                dy = dy.array()
            dy = as_real("dy", dy, self.dtype)
            expected = (*tokens.shape, self.embedding_dim)
            if dy.shape != expected:
                raise ValueError(
                    f"dy: expected the shape of the vectors, {expected}, got {dy.shape}"
                )
            kept.use_up()
            into = self.owner._grads["weight"]
            if not accumulate:
                into[...] = 0
            engine.kernels(self.dtype).add_rows(
                into.reshape(-1), tokens.reshape(-1),
                np.ascontiguousarray(dy).reshape(-1), self.embedding_dim,
            )  # fmt: skip


class EmbeddingPass(Kept):
    """What an embedding keeps: a copy of the tokens, of rows in their order."""

    def __init__(self, module: Embedding, tokens: np.ndarray, batch: Batch | None) -> None:
        super().__init__(module)
        self.tokens, self.batch = tokens, batch


def owner_of(embedding: Embedding | np.ndarray | None) -> Module | None:
    """Return the module whose `weight` an embedding is; None: there is no module, or no table."""
    return embedding.owner if isinstance(embedding, Embedding) else None


def vectors_of(embedding: Embedding | np.ndarray | None) -> np.ndarray | None:
    """Return its vectors (n, I) as they are now."""
    if isinstance(embedding, Embedding):
        vectors: np.ndarray = embedding.owner._params["weight"]
        return vectors
    return embedding


def check_embedding(embedding: object, size: int, dtype: np.dtype) -> int:
    """Refuse what cannot be the embedding of a layer with inputs of this size; return its rows."""
    if isinstance(embedding, np.ndarray):
        as_array("embedding", embedding)  # hidden numbers are refused
        if embedding.dtype != dtype or embedding.shape[1:] != (size,) or not embedding.size:
            raise ValueError(
                f"embedding: expected {dtype} vectors (n, {size}), got {embedding.dtype} of shape "
                f"{embedding.shape}"
            )
        return len(embedding)
    if not isinstance(embedding, Embedding):
        raise TypeError(
            "embedding: expected an rnncore.Embedding or an array of vectors, got "
            f"{type(embedding).__name__}"
        )
    if embedding.embedding_dim != size or embedding.dtype != dtype:
        raise ValueError(
            f"embedding: expected {dtype} vectors of size {size}, got {embedding.dtype} of size "
            f"{embedding.embedding_dim}"
        )
    return embedding.num_embeddings
