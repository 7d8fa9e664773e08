"""A network that reads sequences, and says something of each or of each of their steps."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rnncore import functions as F
from rnncore import layers
from rnncore.arguments import check_seed
from rnncore.data.inputs import Inputs, Symbols, inputs_from_json
from rnncore.models.model import (
    PRECISION,
    CellName,
    check_depth,
    check_sizes,
    layer_size,
    recurrent,
    with_weights,
)
from rnncore.models.sequence_stream import SequenceStream
from rnncore.models.taped import TapedModel
from rnncore.settings import Choice, Share, Whole, check_settings, chosen, setting

POOLINGS = ("last", "mean", "max", "none")


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Defaults, rules and help of what a network over sequences is made with."""

    hidden_size: int = setting(64, Whole(), "Units of a direction.", fixed=True)
    num_layers: int = setting(1, Whole(), "Recurrent layers.", fixed=True)
    cell: str = setting("lstm", CellName(), fixed=True)
    directions: str = setting(
        "both", Choice(("both", "forward")), "How the sequence is read.", fixed=True
    )
    pooling: str = setting("last", Choice(POOLINGS), "What of the states counts.", fixed=True)
    embedding_size: int = setting(32, Whole(), "Numbers of a symbol's vector.", fixed=True)
    dropout: float = setting(0.0, Share(), "Share of units zeroed in training.", fixed=True)
    dtype: str = setting("float32", Choice(("float32", "float64")), fixed=True)
    precision: str | None = PRECISION

    def __post_init__(self) -> None:
        check_settings(self)


class SequenceBatch(NamedTuple):
    """What a network over sequences reads.

    Parameters
    ----------
    x : (T, B, features), or (T, B) numbers of symbols
    lengths : (B,) integers
        Steps of each sequence, one at least.
    """

    x: NDArray[Any]
    lengths: NDArray[np.intp]


class SequenceNetwork(TapedModel):
    """Reads sequences, and gives numbers for each of them or for each of their steps.

    ``y_t = rnn(x_t);  out = W dropout(pool(y_1 .. y_T)) + b``

    where the pool is the last state of each direction, the mean or the largest over time; or, with
    ``pooling="none"``, ``out_t = W dropout(y_t) + b`` of each step.

    Parameters
    ----------
    inputs
        What a step is: numbers or symbols.
    outputs
        What is said: subclasses know the kind.
    settings
        Its values can be given by name instead.
    seed
        For the initial weights and for dropout.
    """

    outputs_class: ClassVar[type]

    def __init__(
        self,
        inputs: Inputs,
        outputs: Any,
        settings: NetworkSettings | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        **values: Any,
    ) -> None:
        s = chosen(NetworkSettings, settings, values)
        super().__init__(dtype=s.dtype)
        self.inputs, self.outputs, self.settings = inputs, outputs, dataclasses.asdict(s)
        #: Draws the initial weights and, in training, what dropout zeroes.
        self.generator = check_seed(seed)
        common: dict[str, Any] = {"dtype": s.dtype, "seed": self.generator}
        self.embedding: Any = None
        size = inputs.size
        if isinstance(inputs, Symbols):
            self.embedding = layers.Embedding(size, s.embedding_size, **common)
            size = s.embedding_size
        both = s.directions == "both"
        self.rnn = recurrent(
            s.cell, size, s.hidden_size, num_layers=s.num_layers, bidirectional=both,
            dropout=s.dropout, **common,
        )  # fmt: skip
        self.dropout = layers.Dropout(s.dropout, **common)
        self.head = layers.Linear((1 + both) * s.hidden_size, outputs.size, **common)
        if self.embedding is not None:  # training never sees the unknown: it shall say nothing
            with self.embedding.writable_params() as params:
                params["weight"][-1] = 0
        self._settle_precision()

    def out(self, batch: SequenceBatch) -> Any:
        """Return numbers (B, outputs), or rows of them where nothing is pooled; see the class."""
        x, lengths = batch
        y, state = self.rnn(x, lengths=lengths, embedding=self.embedding, rows=True)
        pooling = self.settings["pooling"]
        if pooling == "last":
            h = state[0] if isinstance(state, tuple) else state
            first = len(h) - (2 if self.settings["directions"] == "both" else 1)
            y = F.concatenate([h[k] for k in range(first, len(h))])
        elif pooling != "none":
            y = (F.mean_over_time if pooling == "mean" else F.max_over_time)(y)
        return self.head(self.dropout(y))

    def said(self, out: NDArray[Any]) -> NDArray[Any]:
        """Return what numbers (..., outputs) of `out` say."""
        raise NotImplementedError

    def stream(self) -> SequenceStream:
        """Return a stream, fed step by step; see `SequenceStream`."""
        return SequenceStream(self)

    def describe(self) -> dict[str, Any]:
        """Return the settings, inputs and outputs as `json` can write them."""
        known = {"inputs": self.inputs.to_json(), "outputs": self.outputs.to_json()}
        return {**self.settings, **known}

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return the model of a file; sizes that its tensors do not have are refused first."""
        settings = dict(description)
        inputs = inputs_from_json(settings.pop("inputs"))
        outputs: Any = cls.outputs_class
        outputs = outputs.from_json(settings.pop("outputs"))
        symbols = isinstance(inputs, Symbols)
        size = settings["embedding_size"] if symbols else inputs.size
        sizes = [
            layer_size(settings["cell"], "rnn", settings["hidden_size"]),
            ("rnn.weight_ih_l0", 1, size),
        ]
        if symbols:
            sizes.append(("embedding.weight", 1, size))
        check_sizes(tensors, sizes)
        both = settings["directions"] == "both"
        check_depth(tensors, "rnn", settings["num_layers"] * (1 + both))
        made = inputs, outputs, NetworkSettings(**settings)
        return with_weights(lambda blank: cls(*made, seed=blank), tensors)
