"""A language model over characters, bytes or words: what comes next, given all before."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnncore import functions as F
from rnncore import layers
from rnncore.arguments import as_array, check_flag, check_seed, check_size
from rnncore.data.units import TextVocabulary, text_vocabulary_from_json
from rnncore.engine.rows import Rows
from rnncore.layers.dropout import Dropout, check_variational
from rnncore.layers.kept import Kept, find, remember
from rnncore.layers.streaming import stream_of, streams_of
from rnncore.losses import cross_entropy_each, cross_entropy_sum, softmax_cross_entropy
from rnncore.models.language_sampling import Writer
from rnncore.models.model import (
    PRECISION,
    CellName,
    Measure,
    Model,
    check_sizes,
    recurrent,
    with_weights,
)
from rnncore.settings import Choice, Flag, Share, Shares, Whole, setting

#: The recurrent state: (h, c) for an LSTM, h for the others, each (num_layers, B, H); or None.
State = Any

#: What a loss is told in, by what a symbol is.
MEASURES = {
    "characters": Measure("loss", "bits per character", factor=1.0 / math.log(2.0)),
    "bytes": Measure("loss", "bits per byte", factor=1.0 / math.log(2.0)),
    "words": Measure("loss", "nats per word"),
}


@dataclasses.dataclass(frozen=True)
class LanguageSettings:
    """Defaults, rules and help of what a `LanguageNetwork` is made with."""

    hidden_size: int = setting(128, Whole(), "Units of a layer.", fixed=True)
    num_layers: int = setting(2, Whole(), "Recurrent layers.", fixed=True)
    cell: str = setting("lstm", CellName(), fixed=True)
    embedding_size: int | None = setting(
        None,
        Whole(),
        "Columns of a trained embedding.  [default: none, one-hot; of words --hidden-size]",
        fixed=True,
    )
    tied: bool = setting(
        False, Flag(), "One table for what is read and predicted, of --hidden-size.", fixed=True
    )
    dropout: float = setting(0.0, Share(), "Share of units zeroed in training.", fixed=True)
    variational: bool = setting(
        False, Flag(), "Dropout of the same units at every step.", fixed=True
    )
    recurrent_dropout: float = setting(
        0.0, Share(), "Share of the state that no next step sees.", fixed=True
    )
    zoneout: float | tuple[float, float] = setting(
        0.0, Shares(), "Share of the state that a step leaves as it was; 0.05,0.5: of h, of c.",
        fixed=True,
    )  # fmt: skip
    weight_drop: float = setting(0.0, Share(), "Share of recurrent weights zeroed.", fixed=True)
    state_reset: float = setting(
        0.0, Share(), "Share of the rows of a batch that begin anew.", fixed=True
    )
    dtype: str = setting("float32", Choice(("float32", "float64")), fixed=True)
    precision: str | None = PRECISION


_DEFAULT = LanguageSettings()


class LanguageNetwork(Writer, Model):
    """Predicts each symbol of a text, a character, byte or word, from all symbols before it.

    ``h_t = rnn(x_t, h_{t-1});  p(x_{t+1}) = softmax(W_yh dropout(h_t) + b_y)``

    where ``x_t`` is one-hot, or the symbol's row of a trained embedding. The model of
    char-rnn (Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015).

    Parameters
    ----------
    vocabulary
        The symbols it knows: a `Vocabulary` of characters or bytes, or `TextWords`.
    hidden_size, num_layers
        Of the recurrent layers.
    cell
        ``"lstm"``, ``"gru"`` or ``"rnn"``.
    embedding_size
        Columns of the embedding. None: characters and bytes are one-hot, words have one of
        `hidden_size` columns.
    tied
        Whether the rows of W_yh are the embedding: one parameter in place of two, see
        `rnncore.layers.TiedEmbedding`. Then the embedding has `hidden_size` columns.
    dropout
        The share of units zeroed in training, between the layers and before the output.
    variational, recurrent_dropout, zoneout, weight_drop
        Whether that has one mask for all steps of a chunk, and further noise of the recurrent
        layers; see `rnncore.RNN`.
    state_reset
        The share of the rows of a batch that begin with a state of zeros in training, rather than
        with that of the batch before. Without it a model hardly ever learns how to begin, and may
        take a wrong turn there that it does not come back from.
    dtype
        float32 or float64.
    precision
        Of the products' factors, see `rnncore.set_matmul_precision`; None: what that has set.
    seed
        For the initial weights and for dropout: an integer, or None for a new one each time.

    Raises
    ------
    ValueError
        If a size is below 1, a share outside [0, 1), the cell unknown, dropout 0 that shall be
        variational, or a tied embedding is to have another size than the last layer.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> from rnncore.data import Vocabulary
    >>> from rnncore.models import LanguageNetwork
    >>> text = "to be or not to be "
    >>> model = LanguageNetwork(Vocabulary(text), hidden_size=8, num_layers=1, seed=0)
    >>> tokens = model.vocabulary.encode(text)[:, None]  # T = 19 steps of B = 1 stream
    >>> loss, state = model.forward(tokens[:-1], tokens[1:])
    >>> model.backward()
    >>> bool(abs(loss - np.log(len(model.vocabulary))) < 0.5)  # untrained: all are alike
    True
    >>> len(model.sample(10, prime="to", seed=1))
    12
    """

    kind = "language model"

    def __init__(
        self,
        vocabulary: TextVocabulary,
        hidden_size: int = _DEFAULT.hidden_size,
        num_layers: int = _DEFAULT.num_layers,
        cell: str = _DEFAULT.cell,
        embedding_size: int | None = _DEFAULT.embedding_size,
        dropout: float = _DEFAULT.dropout,
        dtype: DTypeLike = _DEFAULT.dtype,
        precision: str | None = _DEFAULT.precision,
        variational: bool = _DEFAULT.variational,
        recurrent_dropout: float = _DEFAULT.recurrent_dropout,
        zoneout: float | tuple[float, float] = _DEFAULT.zoneout,
        weight_drop: float = _DEFAULT.weight_drop,
        state_reset: float = _DEFAULT.state_reset,
        tied: bool = _DEFAULT.tied,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(vocabulary, TextVocabulary):
            raise TypeError(
                "vocabulary: expected an rnncore.data.Vocabulary or TextWords, made of the text, "
                f"got {type(vocabulary).__name__}"
            )
        check_size("hidden_size", hidden_size)
        if embedding_size is not None:
            check_size("embedding_size", embedding_size)
        CellName().check("cell", cell)
        Share().check("state_reset", state_reset)
        if check_flag("tied", tied) and embedding_size not in (None, hidden_size):
            raise ValueError(
                f"embedding_size: expected hidden_size, {hidden_size}, with a tied embedding, to "
                f"whose vectors the last layer's output is compared, got {embedding_size}; leave "
                "it out, or give tied=False"
            )
        if embedding_size is None and (tied or vocabulary.unit == "words"):
            embedding_size = hidden_size  # one-hot is as a table four times as wide, of an LSTM
        if isinstance(zoneout, list):  # as in a file
            zoneout = tuple(zoneout)
        super().__init__(dtype=dtype)
        self.vocabulary = vocabulary
        self.measures = (MEASURES[vocabulary.unit],)
        self.settings: dict[str, Any] = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "cell": cell,
            "embedding_size": embedding_size,
            "tied": tied,
            "dropout": dropout,
            "variational": variational,
            "recurrent_dropout": recurrent_dropout,
            "zoneout": zoneout,
            "weight_drop": weight_drop,
            "state_reset": state_reset,
            "dtype": np.dtype(dtype).name,
            "precision": precision,
        }
        #: Draws the initial weights and, in training, what dropout zeroes and who begins anew.
        self.generator = check_seed(seed)
        common: dict[str, Any] = {"dtype": dtype, "seed": self.generator}
        self.embedding: layers.Embedding | None = None
        input_size = len(vocabulary)
        head = None
        if tied:
            head = layers.Linear(hidden_size, input_size, **common)
            self.embedding, input_size = layers.TiedEmbedding(head), hidden_size
        elif embedding_size is not None:
            self.embedding = layers.Embedding(input_size, embedding_size, **common)
            input_size = embedding_size
        check_variational(variational, dropout)
        self.rnn = recurrent(
            cell, input_size, hidden_size, num_layers=num_layers, dropout=dropout,
            variational=variational, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
            weight_drop=weight_drop, **common,
        )  # fmt: skip
        self.dropout = Dropout(dropout, variational=variational, **common)
        self.head = head or layers.Linear(hidden_size, len(vocabulary), **common)
        self._settle_precision()
        if self.embedding is None and not getattr(self.generator, "blank", False):
            # Of a one-hot vector a single entry is not zero: bound 1 / sqrt(1), not 1 / sqrt(H).
            with self.rnn.writable_params() as params:
                params["weight_ih_l0"] *= np.dtype(dtype).type(hidden_size**0.5)

    def forward(
        self,
        tokens: NDArray[Any],
        targets: NDArray[Any],
        state: State = None,
        *,
        keep: bool = False,
    ) -> Any:
        """Return the mean loss of one chunk and the state after it; keeps what backward needs.

        Parameters
        ----------
        tokens, targets : (T, B) integers
            Symbols and the symbols that come next.
        state
            From the chunk before, or None for zeros.
        keep
            Whether to return the pass as a third value, for `backward(kept=...)`.

        Returns
        -------
        loss : float
            Mean of ``-log p(target)`` in nats per symbol.
        state
        """
        tokens = self._check(tokens)
        if state is not None and self.settings["state_reset"]:
            state = self._begin_anew(state)
        if not keep:
            remember(self, None)  # its buffers serve this pass
        with self._guard.weights:  # both of one moment
            kept = LanguagePass(self)
            # Everything between the layers stays in rows of the engine.
            rnn = self.rnn.ready(
                tokens, state, tokens=True, embedding=self.embedding, rows=True, keep=True
            )
            head = self.head.ready(keep=True)
        y, state, kept.rnn = rnn()
        y, kept.dropout = self.dropout.forward(y, keep=True)
        logits, kept.head = head(y)
        loss, kept.dlogits = softmax_cross_entropy(logits, targets, out=logits)
        if keep:
            return loss, state, kept
        remember(self, kept)
        return loss, state

    def backward(self, *, accumulate: bool = True, kept: LanguagePass | None = None) -> None:
        """Compute the gradients of a `forward`, into `grads`.

        Parameters
        ----------
        accumulate
            Whether to add to `grads` or to replace what stands there.
        kept
            What that forward returned; None: the last one of this thread without `keep`.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each forward serves one backward), or the weights have
            changed since; nothing is changed then.
        """
        accumulate = check_flag("accumulate", accumulate)
        with self._guard.gradients:
            kept = find(self, kept, LanguagePass)
            for part in (kept.rnn, kept.dropout, kept.head):
                part.check()
            rnn, dropout, head, dlogits = kept.rnn, kept.dropout, kept.head, kept.dlogits
            kept.use_up()
            if self.embedding is not None and not accumulate:
                self.embedding.zero_grad()
            dy = self.head.backward(dlogits, accumulate=accumulate, kept=head)
            dy = self.dropout.backward(dy, kept=dropout)
            self.rnn.backward(dy, input_gradient=False, accumulate=accumulate, kept=rnn)

    def _begin_anew(self, state: State) -> State:
        # Some rows of (layers, B, H), or of a tuple of such, become zeros.
        parts = state if isinstance(state, tuple) else (state,)
        draws = self.generator.random(parts[0].shape[1])
        stays = (draws >= self.settings["state_reset"])[:, None]
        left = tuple(np.where(stays, part, np.zeros((), self.dtype)) for part in parts)
        return left if isinstance(state, tuple) else left[0]

    def _check(self, tokens: Any) -> NDArray[Any]:
        tokens = as_array("tokens", tokens)
        if tokens.dtype.kind not in "iu":
            raise TypeError(f"tokens: expected integers (T, B), got dtype {tokens.dtype}")
        if tokens.ndim != 2 or not tokens.size:
            raise ValueError(
                f"tokens: expected (T, B) symbols, one at least, got shape {tokens.shape}"
            )
        return tokens

    def evaluate(
        self, tokens: NDArray[Any], targets: NDArray[Any], state: State = None
    ) -> tuple[float, State]:
        """Return the same as `forward`, without dropout, and keep nothing."""
        [(total, count)], state = self.measure(tokens, targets, state)
        return total / max(1, count), state

    def measure(
        self, tokens: NDArray[Any], targets: NDArray[Any], state: State = None
    ) -> tuple[list[tuple[float, float]], State]:
        """Return sum and count of the losses (nats, symbols), and the state after them."""
        logits, state = self.logits(tokens, state)
        return [cross_entropy_sum(logits, targets)], state

    def log_probabilities(
        self, tokens: NDArray[Any], targets: NDArray[Any], state: State = None
    ) -> tuple[NDArray[np.float64], State]:
        """Return ``log p(target)`` of each symbol, (T, B) in nats, and the state after them."""
        logits, state = self.logits(tokens, state)
        return -cross_entropy_each(logits, targets), state

    def probabilities(
        self, tokens: NDArray[Any], state: State = None
    ) -> tuple[NDArray[Any], State]:
        """Return the probability of each symbol to come next, (T, B, V), and the state after it."""
        logits, state = self.logits(tokens, state)
        return F.softmax(F.unpack(logits)), state

    def logits(self, tokens: NDArray[Any], state: State = None) -> tuple[Rows, State]:
        """Return the logits of what comes after each symbol (T, B), as rows, and the state."""
        tokens = self._check(tokens)
        with self._guard.weights:  # both of one moment
            rnn = self.rnn.ready(tokens, state, tokens=True, embedding=self.embedding, rows=True)
            head = self.head.ready()
        y, state = rnn()
        return head(y), state

    def show(self, loss: float) -> str:
        """Return how progress shows a loss of `forward`, such as ``1.234 bits/char``."""
        measure = self.measures[0]
        unit = measure.unit.replace(" per ", "/").replace("character", "char")
        return f"{loss * measure.factor:.3f} {unit}"

    def stream(self) -> Any:
        """Return a stream that predicts symbol after symbol, one call of the engine a step.

        `step(token)` returns the logits (V,) of what comes after the token and all before it,
        `process(tokens)` those of several (T, V); the rest is as in `rnncore.Recurrent.stream`.

        Examples
        --------
        >>> import numpy as np
        >>> from rnncore.data import Vocabulary
        >>> from rnncore.models import LanguageNetwork
        >>> model = LanguageNetwork(Vocabulary("abc"), hidden_size=8, num_layers=1, seed=0)
        >>> stream, tokens = model.stream(), np.array([[0], [1], [2]])
        >>> logits = [stream.step(token) for token in (0, 1, 2)]
        >>> np.array_equal(logits, model.head(model.rnn(tokens, tokens=True)[0])[:, 0])
        True
        """
        return stream_of([self.rnn], [self.head], True, self.embedding)

    def streams(self) -> Any:
        """Return streams that take their steps together; see `rnncore.Recurrent.streams`."""
        return streams_of([self.rnn], [self.head], True, self.embedding)

    def _network(self) -> LanguageNetwork:
        return self

    def describe(self) -> dict[str, Any]:
        """Return the settings and the vocabulary as `json` can write them."""
        return {**self.settings, "vocabulary": self.vocabulary.to_json()}

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return the model of a file; sizes that its tensors do not have are refused first."""
        settings = dict(description)
        vocabulary = text_vocabulary_from_json(settings.pop("vocabulary"))
        table = "head.weight" if settings.get("tied") else "embedding.weight"
        embedding = tensors.get(table)
        sizes = {
            "hidden_size": tensors["head.weight"].shape[1],
            "num_layers": sum(name.startswith("rnn.weight_ih_l") for name in tensors),
            "embedding_size": None if embedding is None else embedding.shape[1],
        }
        named = [name for name in ("head.weight", "embedding.weight") if name in tensors]
        check_sizes(tensors, [(name, 0, len(vocabulary)) for name in named])
        for name, size in sizes.items():
            if settings[name] != size:
                raise ValueError(f"{name} is {settings[name]!r}, its weights have {size}")
        return with_weights(lambda blank: cls(vocabulary, **settings, seed=blank), tensors)


class LanguagePass(Kept):
    """What a language model keeps: the passes of its parts, and the gradient of the loss."""

    rnn: Any
    dropout: Any
    head: Any
    dlogits: Any
