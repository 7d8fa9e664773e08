"""Token ids as input: rows of a table that holds what each token contributes to a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore.engine.batch import Batch
from rnncore.engine.direction import Direction
from rnncore.engine.threads import team_size

if TYPE_CHECKING:
    from rnncore.engine.compiled import Weights

MOST_KEPT = 2**25  # bytes of tables of a whole vocabulary that may outlive a call


@dataclass(frozen=True)
class Tokens:
    """The tokens of a batch, each a place in a table of the tokens that occur.

    Attributes
    ----------
    places
        (T, B) intp; what padding holds does not count.
    used
        (n,) The token of each row of the table.
    embedding
        (n, features) Copies of their vectors; None: tokens are one-hot.
    """

    places: np.ndarray
    used: np.ndarray
    embedding: np.ndarray | None

    @classmethod
    def of(cls, ids: np.ndarray, batch: Batch, size: int, embedding: np.ndarray | None) -> Tokens:
        """Take ids (T, B), one-hot of `size` or rows of an embedding.

        A vocabulary larger than the batch is not projected whole: the table holds what occurs.
        """
        vocabulary = size if embedding is None else len(embedding)
        if vocabulary <= batch.rows:
            vectors = None if embedding is None else embedding.copy()
            return cls(ids, np.arange(vocabulary), vectors)
        used, rows = np.unique(batch.tokens(ids), return_inverse=True)
        places = rows.astype(np.intp).reshape(ids.shape) if batch.dense else np.zeros_like(ids)
        if batch.place_of_row is not None:
            places.reshape(-1)[batch.place_of_row] = rows
        return cls(places, used, None if embedding is None else embedding[used])


class Vocabulary:
    """All tokens projected, for the calls that read with the same weights; made once that pays.

    That is when as many tokens have been read as there are.

    Attributes
    ----------
    of
        The embedding and its version; (None, 0): tokens are one-hot.
    used
        All tokens.
    tables
        A table for each direction of the first layer, once they are made.
    """

    def __init__(self, of: tuple[Any, int], count: int) -> None:
        self.of, self.used = of, np.arange(count)
        self.tables: list[np.ndarray] | None = None
        self._read = 0

    def pays(self, tokens: int, row_bytes: int) -> bool:
        """Whether to make tables, of so many bytes a token, in a call that reads so many tokens."""
        self._read += tokens
        return self._read >= len(self.used) and len(self.used) * row_bytes <= MOST_KEPT


def fill_table(direction: Direction, table: np.ndarray, tokens: Tokens, weights: Weights) -> None:
    """Write W_hx e_v + b_h for the tokens v, e_v its embedding or one-hot row."""
    kernels, layer, threads = direction.kernels, direction.layer, team_size()
    if tokens.embedding is None:
        W_hx = direction.params.W_hx
        kernels.one_hot_table(layer, table, W_hx, weights, tokens.used, threads)
    else:
        count = len(tokens.used)
        kernels.table_forward(layer, table, tokens.embedding, count, weights, threads)
