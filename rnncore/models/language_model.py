"""A language model over characters: what comes next, given everything before."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnncore import engine, layers
from rnncore.arguments import as_array, check_flag, check_seed, check_size
from rnncore.data.text import Vocabulary
from rnncore.layers.dropout import Dropout
from rnncore.layers.kept import Kept
from rnncore.layers.module import Module
from rnncore.losses import softmax_cross_entropy
from rnncore.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

#: The recurrent state: (h, c) for an LSTM, h for the others, each (num_layers, B, H); or None.
State = Any

CELLS = {name.lower(): getattr(layers, name) for name in ("LSTM", "GRU", "RNN")}


class LanguageStream:
    """A language model that is fed one character at a time and carries its state.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> from rnncore.data import Vocabulary
    >>> model = rnncore.LanguageModel(Vocabulary("abc"), hidden_size=8, num_layers=1, seed=0)
    >>> stream = model.stream()
    >>> logits = [stream.step(token) for token in (0, 1, 2)]
    >>> tokens = np.array([[0], [1], [2]])
    >>> np.array_equal(logits, model.head(model.rnn(tokens)[0])[:, 0])
    True
    """

    def __init__(self, rnn: Any, head: layers.Linear) -> None:
        self.rnn, self.head = rnn, head

    def step(self, token: int) -> NDArray[Any]:
        """Return the logits (V,) of what comes after the token, and all tokens before it."""
        return self.head(self.rnn.step(token))

    def reset(self) -> None:
        """Forget everything."""
        self.rnn.reset()

    def get_state(self) -> Any:
        """Return the state of the recurrent layers."""
        return self.rnn.get_state()

    def set_state(self, state: Any) -> None:
        """Take a state as `get_state` gives it."""
        self.rnn.set_state(state)

    def copy(self) -> LanguageStream:
        """Return a stream that goes its own way from here."""
        return LanguageStream(self.rnn.copy(), self.head)


class LanguageModel(Module):
    """Predicts each character of a text from all characters before it.

    ``h_t = rnn(x_t, h_{t-1});  p(x_{t+1}) = softmax(W_yh dropout(h_t) + b_y)``

    where ``x_t`` is one-hot, or the character's row of a trained embedding. The model of
    char-rnn (Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015).

    Parameters
    ----------
    vocabulary
        The characters it knows.
    hidden_size, num_layers
        Of the recurrent layers.
    cell
        ``"lstm"``, ``"gru"`` or ``"rnn"``.
    embedding_size
        Columns of the embedding, or None for one-hot characters.
    dropout
        The share of units zeroed in training, between the layers and before the output.
    dtype
        float32 or float64.
    seed
        For the initial weights and for dropout: an integer, or None for a new one each time.

    Raises
    ------
    ValueError
        If a size is below 1, dropout outside [0, 1), or the cell unknown.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> from rnncore.data import Vocabulary
    >>> text = "to be or not to be "
    >>> model = rnncore.LanguageModel(Vocabulary(text), hidden_size=8, num_layers=1, seed=0)
    >>> tokens = model.vocabulary.encode(text)[:, None]  # T = 19 steps of B = 1 stream
    >>> loss, state = model.forward(tokens[:-1], tokens[1:])
    >>> model.backward()
    >>> bool(abs(loss - np.log(len(model.vocabulary))) < 0.5)  # untrained: all are alike
    True
    >>> len(model.sample(10, prime="to", seed=1))
    12
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        hidden_size: int = 128,
        num_layers: int = 2,
        cell: str = "lstm",
        embedding_size: int | None = None,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        if not isinstance(vocabulary, Vocabulary):
            raise TypeError(
                "vocabulary: expected an rnncore.data.Vocabulary, made of the text, got "
                f"{type(vocabulary).__name__}"
            )
        check_size("hidden_size", hidden_size)
        if embedding_size is not None:
            check_size("embedding_size", embedding_size)
        if cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        self.vocabulary = vocabulary
        self.settings: dict[str, Any] = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "cell": cell,
            "embedding_size": embedding_size,
            "dropout": dropout,
            "dtype": np.dtype(dtype).name,
        }
        #: Draws the initial weights and, in training, what dropout zeroes.
        self.generator = check_seed(seed)
        common: dict[str, Any] = {"dtype": dtype, "seed": self.generator}
        children: dict[str, Module] = {}
        self.embedding: layers.Embedding | None = None
        input_size = len(vocabulary)
        if embedding_size is not None:
            self.embedding = layers.Embedding(len(vocabulary), embedding_size, **common)
            children["embedding"] = self.embedding
            input_size = embedding_size
        self.rnn = CELLS[cell](
            input_size, hidden_size, num_layers=num_layers,
            dropout=dropout if num_layers > 1 else 0.0, **common,
        )  # fmt: skip
        self.dropout = Dropout(dropout, **common)
        self.head = layers.Linear(hidden_size, len(vocabulary), **common)
        super().__init__(children={**children, "rnn": self.rnn, "head": self.head}, dtype=dtype)
        self._kept: Any = None
        self._initialize()

    def _initialize(self) -> None:
        # Two departures from the layers' own initial weights, after which a model learns in a
        # fraction of the steps.
        state, size = self.rnn.state_dict(), self.settings["hidden_size"]
        if self.embedding is None:
            # Of a one-hot vector a single entry is not zero: bound 1 / sqrt(1), not 1 / sqrt(H).
            state["weight_ih_l0"] *= size**0.5
        if self.settings["cell"] == "lstm":
            # At bias 0 a forget gate begins at 1/2 and memories fade within a few steps; char-rnn
            # begins at 1 as well (Jozefowicz et al., "An Empirical Exploration of Recurrent
            # Network Architectures", 2015). Gate order i, f, g, o.
            for layer in range(self.settings["num_layers"]):
                state[f"bias_ih_l{layer}"][size : 2 * size] = 1.0
        self.rnn.load_state_dict(state)

    def forward(
        self, tokens: NDArray[Any], targets: NDArray[Any], state: State = None
    ) -> tuple[float, State]:
        """Return the mean loss of one chunk and the state after it; keeps what backward needs.

        Parameters
        ----------
        tokens, targets : (T, B) integers
            Characters and the characters that come next.
        state
            From the chunk before, or None for zeros.

        Returns
        -------
        loss : float
            Mean of ``-log p(target)`` in nats per character.
        state
        """
        self._kept = None
        tokens = as_array("tokens", tokens)
        if tokens.dtype.kind not in "iu":
            raise TypeError(f"tokens: expected integers (T, B), got dtype {tokens.dtype}")
        if tokens.ndim != 2 or not tokens.size:
            raise ValueError(
                f"tokens: expected (T, B) characters, one at least, got shape {tokens.shape}"
            )
        # Everything between the layers stays in rows of the engine.
        kept = LanguageModelPass(self)
        y, state, kept.rnn = self.rnn.forward(
            tokens, state, tokens=True, embedding=self.embedding, rows=True, keep=True
        )
        y, kept.dropout = self.dropout.forward(y, keep=True)
        logits, kept.head = self.head.forward(y, keep=True)
        loss, kept.dlogits = softmax_cross_entropy(logits, targets, out=logits)
        self._kept = kept
        return loss, state

    def backward(self, *, accumulate: bool = True) -> None:
        """Compute the gradients of the last `forward`, into `grads`.

        Parameters
        ----------
        accumulate
            Whether to add to `grads` or to replace what stands there.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each forward serves one backward), or the weights have
            changed since; nothing is changed then.
        """
        accumulate = check_flag("accumulate", accumulate)
        if self._kept is None:
            raise RuntimeError("backward: nothing was kept; call forward first, once for each")
        kept, self._kept = self._kept, None
        kept._check()
        if self.embedding is not None and not accumulate:
            self.embedding.zero_grad()
        dy = self.head.backward(kept.dlogits, accumulate=accumulate, kept=kept.head)
        dy = self.dropout.backward(dy, kept=kept.dropout)
        self.rnn.backward(dy, input_gradient=False, accumulate=accumulate, kept=kept.rnn)

    def evaluate(
        self, tokens: NDArray[Any], targets: NDArray[Any], state: State = None
    ) -> tuple[float, State]:
        """Return the same as `forward`, without dropout, and keep nothing."""
        y, state = self.rnn(tokens, state, tokens=True, embedding=self.embedding)
        loss, _ = softmax_cross_entropy(self.head(y), targets)
        return loss, state

    def sample(
        self, length: int, temperature: float = 1.0, prime: str = "", seed: int | None = None
    ) -> str:
        """Write text, one character after the other, each drawn from the model's distribution.

        ``p_i = exp(logit_i / temperature) / sum_j exp(logit_j / temperature)``

        Parameters
        ----------
        length
            How many characters to write after `prime`.
        temperature
            Below 1 safer, above 1 wilder; 0 always takes the likeliest character.
        prime
            The text to go on from; the result begins with it. When empty, the model starts as
            after the end of a line.
        seed
            The same seed writes the same text; None another one each time.

        Raises
        ------
        ValueError
            If `length` or `temperature` is negative, or `prime` has unknown characters.
        """
        length = check_size("length", length, 0)
        if not 0.0 <= temperature < math.inf:
            raise ValueError(f"temperature: expected a finite number, 0 or more, got {temperature}")
        try:
            primed = self.vocabulary.encode(prime)
        except ValueError as error:
            raise ValueError(f"prime {error}") from None
        generator = check_seed(seed)
        new = np.empty(length, dtype=np.int32)
        context = primed if primed.size else self._line_end()
        stream = self.stream()
        for step in range(length):
            for token in context:
                logits = stream.step(int(token)).astype(np.float64)
            if temperature == 0.0:
                new[step] = logits.argmax()
            else:
                total = np.exp((logits - logits.max()) / temperature).cumsum()
                new[step] = np.searchsorted(total, generator.random() * total[-1], side="right")
            context = new[step : step + 1]
        return self.vocabulary.decode(np.concatenate([primed, new]))

    def stream(self) -> LanguageStream:
        """Return a stream that predicts character after character; see `LanguageStream`."""
        return LanguageStream(self.rnn.stream(tokens=True, embedding=self.embedding), self.head)

    def _line_end(self) -> NDArray[np.int32]:
        try:
            return self.vocabulary.encode("\n")
        except ValueError:
            return np.zeros(1, dtype=np.int32)

    def describe(self) -> dict[str, Any]:
        """Return the settings and the vocabulary as `json` can write them."""
        return {**self.settings, "vocabulary": self.vocabulary.to_json()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model file: safetensors with PyTorch's parameter names, replaced as a whole."""
        save_checkpoint(path, self.state_dict(), {"model": self.describe()})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LanguageModel:
        """Read a model file or the model of a checkpoint.

        Raises
        ------
        CheckpointError
            If the file is not a whole model file of this version; see `load_checkpoint`.
        """
        tensors, metadata = load_checkpoint(path)
        engine.chosen_build()  # a wrong setting of the environment is not the file's fault
        engine.get_num_threads()
        try:
            settings = dict(metadata["model"])
            model = cls(Vocabulary.from_json(settings.pop("vocabulary")), **settings)
            names = model.state_dict().keys()
            model.load_state_dict({name: tensors[name] for name in names})
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"model file: expected a language model, but {os.fspath(path)!r} holds something "
                f"else ({error})"
            ) from None
        return model


class LanguageModelPass(Kept):
    """What a language model keeps: the passes of its parts, and the gradient of the loss."""

    rnn: Any
    dropout: Any
    head: Any
    dlogits: Any
