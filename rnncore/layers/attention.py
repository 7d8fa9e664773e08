"""Attention (Luong et al. 2015): what a decoder's states find in an encoder's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import as_real, check_dtype, check_size
from rnncore.engine.batch import Batch
from rnncore.engine.rows import Rows
from rnncore.layers.form import check_lengths
from rnncore.layers.kept import Kept, find, remember
from rnncore.layers.linear import Linear, LinearPass
from rnncore.layers.module import Module, Seed
from rnncore.layers.recording import record_attention
from rnncore.layers.tape import recording


class Memory(NamedTuple):
    """What queries are asked of, made ready for many calls; all with the batch first.

    Parameters
    ----------
    steps : (B, S, memory_size)
    keys : (B, S, query_size)
    lengths : (B,) integers or None
    """

    steps: np.ndarray
    keys: np.ndarray
    lengths: np.ndarray | None

    def take(self, indices: np.ndarray) -> Memory:
        """Return that of some sequences."""
        lengths = None if self.lengths is None else self.lengths[indices]
        return Memory(self.steps[indices], self.keys[indices], lengths)


class Attention(Module):
    """The mean of a memory, weighed by how well its steps fit a query.

    ``score_ts = q_t^T W m_s;  a_t = softmax_s(score_t);  y_t = sum_s a_ts m_s``

    for each step t of the queries and s of the memory of the same sequence.

    Parameters
    ----------
    query_size, memory_size
        Features of a query and of a step of the memory. W is ``keys.weight`` (query_size,
        memory_size).
    dtype, seed
        float32 or float64; a seed or generator for the initial values.

    References
    ----------
    M.-T. Luong, H. Pham, C. D. Manning, Effective approaches to attention-based neural machine
    translation, EMNLP 2015: global attention, score "general".

    Examples
    --------
    >>> import numpy as np
    >>> attention = Attention(4, 3, seed=0)
    >>> query, memory = np.ones((2, 5, 4)), np.ones((7, 5, 3))      # T or S steps, B sequences
    >>> y = attention(query, memory, lengths=[7, 1, 2, 7, 3])
    >>> y.shape, attention.weights(query, memory).shape
    ((2, 5, 3), (2, 5, 7))
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype=check_dtype(dtype))
        self.query_size = check_size("query_size", query_size)
        self.memory_size = check_size("memory_size", memory_size)
        self.keys = Linear(memory_size, query_size, bias=False, dtype=dtype, seed=seed)

    def _sizes_shown(self) -> list[str]:
        return [str(self.query_size), str(self.memory_size)]

    def __call__(self, query: Any, memory: Any, lengths: Any = None) -> Any:
        """Return y (T, B, memory_size), or rows of it where the queries are rows.

        Parameters
        ----------
        query
            (T, B, query_size), or rows.
        memory
            (S, B, memory_size), or rows of other lengths of as many sequences; without a tape also
            what `read` returned.
        lengths
            Steps of the memory of each sequence, where it is an array; None: all have S. A
            sequence without a step gives 0.
        """
        tape = recording()
        if tape is not None:
            return record_attention(tape, self, query, memory, lengths)
        read = memory if isinstance(memory, Memory) else self.read(memory, lengths)
        given, batch = self._enter("query", query, self.query_size)
        return self._leave(_attend(given, read)[0], batch)

    def read(self, memory: Any, lengths: Any = None) -> Memory:
        """Return a memory made ready, for calls with one query after another."""
        return self._read(memory, lengths, self.keys)[0]

    def weights(self, query: Any, memory: Any, lengths: Any = None) -> np.ndarray:
        """Return a, (T, B, S): how much of each step of the memory each query takes."""
        read = memory if isinstance(memory, Memory) else self.read(memory, lengths)
        given, _ = self._enter("query", query, self.query_size)
        return np.ascontiguousarray(_attend(given, read)[1].swapaxes(0, 1))

    def forward(self, query: Any, memory: Any, lengths: Any = None, *, keep: bool = False) -> Any:
        """Do the same and keep what backward needs; with `keep` return it as a second value."""
        kept = AttentionPass(self)

        def keys(x: Any) -> Any:
            k, kept.of_keys = self.keys.forward(x, keep=True)
            return k

        kept.memory, kept.of_memory = self._read(memory, lengths, keys)
        kept.query, kept.of_query = self._enter("query", query, self.query_size)
        found, kept.weights = _attend(kept.query, kept.memory)
        y = self._leave(found, kept.of_query)
        if keep:
            return y, kept
        remember(self, kept)
        return y

    def backward(
        self, dy: Any, *, accumulate: bool = True, kept: AttentionPass | None = None
    ) -> tuple[Any, Any]:
        """Return dL/d(query) and dL/d(memory), in the forms that these came in.

        Parameters
        ----------
        dy
            dL/dy in the shape of y, or as rows of the queries' batch.
        accumulate
            Whether to add to `grads` or to replace what stands there.
        kept
            What that forward returned; None: the last one of this thread without `keep`.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each serves one backward), or the weights have
            changed since.
        TypeError, ValueError
            If dy is not floating-point, or does not have the shape of y.
        """
        with self._guard.gradients:
            kept = find(self, kept, AttentionPass)
            q, (m, k, _), a = kept.query, kept.memory, kept.weights  # all with the batch first
            dy = self._enter("dy", dy, self.memory_size)[0]
            if dy.shape[:2] != q.shape[:2]:
                raise ValueError(
                    f"dy: expected {q.shape[1]} steps of {q.shape[0]} sequences, as y has, got "
                    f"{dy.shape[1]} of {dy.shape[0]}"
                )
            # y_t = sum_s a_ts m_s
            da = np.matmul(dy, m.swapaxes(1, 2))
            dm = np.matmul(a.swapaxes(1, 2), dy)
            # a_t = softmax(score_t)
            dscore = a * (da - (da * a).sum(2, keepdims=True))
            # score_ts = q_t^T k_s
            dq = np.matmul(dscore, k)
            dk = np.matmul(dscore.swapaxes(1, 2), q)
            # k_s = W m_s
            dm = self._leave(dm, kept.of_memory)
            dk = self._leave(dk, kept.of_memory)
            through = self.keys.backward(dk, accumulate=accumulate, kept=kept.of_keys)
            dmemory = _add(dm, through)
            dquery = self._leave(dq, kept.of_query)
            kept.use_up()
        return dquery, dmemory

    def _read(self, memory: Any, lengths: Any, keys: Any) -> tuple[Memory, Batch | None]:
        steps, batch = self._enter("memory", memory, self.memory_size)
        if batch is not None:
            if lengths is not None:
                raise ValueError("lengths: rows have their own; leave lengths out")
            lengths = batch.lengths
        elif lengths is not None:
            lengths = check_lengths(lengths, steps.shape[1], steps.shape[0], "time first")
        k = keys(memory if batch is not None else steps.swapaxes(0, 1))
        return Memory(steps, self._enter("keys", k, self.query_size)[0], lengths), batch

    def _enter(self, name: str, x: Any, features: int) -> tuple[np.ndarray, Batch | None]:
        # (B, T, features), a view perhaps, and the batch of rows.
        if isinstance(x, Rows):
            if x.features != features or x.dtype != self.dtype or x.batch is None:
                raise ValueError(
                    f"{name}: expected rows of {features} numbers of {self.dtype}, got "
                    f"{x.features} of {x.dtype}"
                )
            return x.unpack().swapaxes(0, 1), x.batch
        array = as_real(name, x, self.dtype)
        if array.ndim != 3 or array.shape[2] != features:
            raise ValueError(
                f"{name}: expected (steps, sequences, {features}), got shape {array.shape}"
            )
        return array.swapaxes(0, 1), None

    def _leave(self, array: np.ndarray, batch: Batch | None) -> Any:
        first = np.ascontiguousarray(array.swapaxes(0, 1))
        if batch is None:
            return first
        rows = np.empty((batch.rows, first.shape[2]), first.dtype)
        if batch.rows:
            batch.gather(rows, first)
        return Rows.of(rows, batch=batch)


class AttentionPass(Kept):
    """What attention keeps, all of it with the batch first."""

    query: np.ndarray
    memory: Memory
    weights: np.ndarray
    of_query: Batch | None
    of_memory: Batch | None
    of_keys: LinearPass


def _attend(query: np.ndarray, memory: Memory) -> tuple[np.ndarray, np.ndarray]:
    # y and the weights, all with the batch first.
    if len(query) != len(memory.steps):
        raise ValueError(
            f"memory: expected {len(query)} sequences, as many as of queries, got "
            f"{len(memory.steps)}"
        )
    # score_ts = q_t^T k_s
    weights = _softmax(np.matmul(query, memory.keys.swapaxes(1, 2)), memory.lengths)
    # y_t = sum_s a_ts m_s
    return np.matmul(weights, memory.steps), weights


def _softmax(scores: np.ndarray, lengths: Any) -> np.ndarray:
    # Along the last axis of (B, T, S), of what the lengths leave; 0 where they leave nothing.
    if not scores.size:
        return scores
    if lengths is not None:
        outside = np.arange(scores.shape[2]) >= np.asarray(lengths)[:, None, None]
        np.copyto(scores, -np.inf, where=outside)
    lowest = np.finfo(scores.dtype).min
    scores -= np.maximum(scores.max(2, keepdims=True), lowest)
    np.exp(scores, out=scores)
    scores /= np.maximum(scores.sum(2, keepdims=True), np.finfo(scores.dtype).tiny)
    return scores


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, Rows):
        return Rows.of(np.ascontiguousarray(a.array() + b.array()), batch=a.batch)
    return a + b
