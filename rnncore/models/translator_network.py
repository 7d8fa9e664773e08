"""A translator of texts: two joined recurrent networks, with attention if wanted."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore import functions as F
from rnncore import layers
from rnncore.arguments import check_seed
from rnncore.data.pairs import PairBatch, PairPieces
from rnncore.data.pieces import KINDS, Pieces
from rnncore.layers.tape import Value
from rnncore.losses import cross_entropy, cross_entropy_sum
from rnncore.models.model import (
    PRECISION,
    CellName,
    Measure,
    check_depth,
    check_sizes,
    layer_size,
    recurrent,
    with_weights,
)
from rnncore.models.taped import TapedModel
from rnncore.models.translation import Translation
from rnncore.settings import Choice, Share, Whole, check_settings, chosen, setting


@dataclasses.dataclass(frozen=True)
class TranslatorSettings:
    """Defaults, rules and help of what a translator is made with."""

    hidden_size: int = setting(
        256, Whole(), "Units of the decoder; the encoder's directions share as many.", fixed=True
    )
    num_layers: int = setting(1, Whole(), "Recurrent layers on each side.", fixed=True)
    cell: str = setting("lstm", CellName(), fixed=True)
    directions: str = setting(
        "both", Choice(("both", "forward")), "How the first text is read.", fixed=True
    )
    attention: str = setting(
        "luong", Choice(("luong", "none")), "How the decoder looks back at it.", fixed=True
    )
    embedding_size: int = setting(128, Whole(), "Numbers of a piece's vector.", fixed=True)
    dropout: float = setting(0.3, Share(), "Share of units zeroed in training.", fixed=True)
    source: str = setting("subwords", Choice(KINDS), "Pieces of the first text.", fixed=True)
    target: str = setting("subwords", Choice(KINDS), "Pieces of the second text.", fixed=True)
    merges: int = setting(1500, Whole(0), "Merges that make subwords, of each side.", fixed=True)
    least_count: int = setting(
        1, Whole(), "How often a piece has to be there to be known.", fixed=True
    )
    dtype: str = setting("float32", Choice(("float32", "float64")), fixed=True)
    precision: str | None = PRECISION

    def __post_init__(self) -> None:
        check_settings(self)
        if self.directions == "both" and self.hidden_size % 2:
            raise ValueError(
                f"hidden_size: expected an even number, which two directions share, got "
                f"{self.hidden_size}; give one, or directions 'forward'"
            )

    def pieces_of(self, pairs: Any) -> PairPieces:
        """Return what these pairs are cut into."""
        rest = {"merges": self.merges, "least_count": self.least_count}
        return PairPieces(
            Pieces([source for source, _ in pairs], self.source, **rest),
            Pieces([target for _, target in pairs], self.target, **rest),
        )


class TranslatorNetwork(TapedModel):
    """Reads one text, then writes another that belongs to it.

    ``m_s = encoder(E_x(x_s));  q_t = decoder(E_y(y_{t-1})), q_0 the last state of the encoder``
    ``c_t = attention(q_t, m);  r_t = tanh(W_c [c_t, q_t]);  p(y_t) = softmax(W r_t + b)``

    and without attention ``r_t = q_t``. An encoder of two directions has half the units in each,
    and hands over both last states one beside the other. In training the decoder is fed what it
    should have written (teacher forcing); y_0 is the end, as it stands behind every text.

    I. Sutskever, O. Vinyals, Q. Le, Sequence to sequence learning with neural networks, 2014;
    attention: Luong et al. 2015, see `rnncore.layers.Attention`.

    Parameters
    ----------
    pieces
        What the texts are cut into.
    settings
        Its values can be given by name instead.
    seed
        For the initial weights and for dropout.

    Examples
    --------
    >>> settings = TranslatorSettings(hidden_size=8, source="characters", target="words")
    >>> pieces = settings.pieces_of([("12", "one two"), ("21", "two one")])
    >>> network = TranslatorNetwork(pieces, settings, seed=0)
    >>> source, lengths = pieces.source.encode_all(["12", "2"]).padded()
    >>> len(network.translate(source, lengths))
    2
    """

    kind = "translator"
    measures = (
        Measure("loss", "nats per piece"),
        Measure("accuracy", "% of pieces right", factor=100.0, lower_is_better=False),
    )
    decisive = 1  # translations get better long after the loss of rare pieces has begun to grow

    def __init__(
        self,
        pieces: PairPieces,
        settings: TranslatorSettings | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        **values: Any,
    ) -> None:
        s = chosen(TranslatorSettings, settings, values)
        super().__init__(dtype=s.dtype)
        self.pieces, self.settings = pieces, dataclasses.asdict(s)
        #: Draws the initial weights and, in training, what dropout zeroes.
        self.generator = check_seed(seed)
        common: dict[str, Any] = {"dtype": s.dtype, "seed": self.generator}
        of_layers = {"num_layers": s.num_layers, "dropout": s.dropout, **common}
        both, size = s.directions == "both", s.hidden_size
        self.source = layers.Embedding(len(pieces.source), s.embedding_size, **common)
        self.target = layers.Embedding(len(pieces.target) + 1, s.embedding_size, **common)
        self.encoder = recurrent(
            s.cell, s.embedding_size, size // (1 + both), bidirectional=both, **of_layers
        )
        self.decoder = recurrent(s.cell, s.embedding_size, size, **of_layers)
        self.attention: Any = None
        if s.attention == "luong":
            self.attention = layers.Attention(size, size, **common)
            self.combine = layers.Linear(2 * size, size, **common)
        self.dropout = layers.Dropout(s.dropout, **common)
        self.head = layers.Linear(size, len(pieces.target) + 1, **common)
        with self.writable_params() as params:
            for name in ("source.weight", "target.weight"):
                params[name] *= params[name].dtype.type(0.1)
            if pieces.source.vocabulary.unknown is not None:  # it shall say nothing
                params["source.weight"][pieces.source.vocabulary.unknown] = 0
        self._settle_precision()

    def read(self, source: Any, lengths: Any) -> tuple[Any, Any]:
        """Return rows of the encoder's states, and the state that the decoder begins with."""
        x = self.dropout(self.source(source, lengths))
        memory, state = self.encoder(x, rows=True)
        if self.settings["directions"] == "both":
            is_pair = isinstance(state, tuple)
            state = tuple(map(self._joined, state)) if is_pair else self._joined(state)
        return memory, state

    def _joined(self, state: Any) -> Any:
        # (layers x directions, B, H / 2) -> (layers, B, H)
        layers_, batch, size = len(state) // 2, state.shape[1], state.shape[2]
        parts = F.transpose(F.reshape(state, (layers_, 2, batch, size)), (0, 2, 1, 3))
        return F.reshape(parts, (layers_, batch, 2 * size))

    def write(self, y: Any, found: Any) -> Any:
        """Return r of the class, which the head takes, for states y and what attention found."""
        if self.attention is not None:
            y = F.tanh(self.combine(F.concatenate([found, y])))
        return self.dropout(y)

    def logits(self, batch: PairBatch) -> Any:
        """Return rows of one number a piece for each place of the targets, teacher forced."""
        memory, state = self.read(batch.source, batch.source_lengths)
        y, _ = self.decoder(self._fed(batch), state, rows=True)
        found = None if self.attention is None else self.attention(y, memory)
        return self.head(self.write(y, found))

    def _fed(self, batch: PairBatch) -> Any:
        before = np.full_like(batch.target, self.pieces.end)
        before[1:] = batch.target[:-1]
        return self.dropout(self.target(before, batch.target_lengths))

    def loss(self, *batch: Any) -> Value:
        """Return the mean over pieces of ``-log p(piece)``."""
        loss: Value = cross_entropy(self.logits(PairBatch(*batch)), batch[2])
        return loss

    def measure(self, *batch: Any) -> tuple[list[tuple[float, float]], None]:
        """Return sum and count of the losses and of the right pieces."""
        pairs = PairBatch(*batch[:-1])
        logits = self.logits(pairs)
        right = logits.array().argmax(1) == logits.batch.tokens(np.asarray(pairs.target))
        total, count = cross_entropy_sum(logits, pairs.target)
        return [(total, count), (float(right.sum()), count)], None

    def translate(
        self, source: Any, lengths: Any, beam_size: int = 1, length_penalty: float = 1.0
    ) -> list[NDArray[np.intp]]:
        """Return the pieces of a translation of each text, without the end.

        Parameters
        ----------
        source, lengths
            Pieces (S, B), and how many of each text, one at least.
        beam_size, length_penalty
            See `rnncore.models.translation.Translation`.
        """
        return Translation(self, source, lengths).search(beam_size, length_penalty)

    def alignments(self, batch: PairBatch) -> list[NDArray[Any]]:
        """Return the weights of attention of each pair, (T, S), the end of the target among T."""
        if self.attention is None:
            raise ValueError("alignments: expected a network with attention; this one has none")
        memory, state = self.read(batch.source, batch.source_lengths)
        y, _ = self.decoder(self._fed(batch), state, rows=True)
        weights = self.attention.weights(y, memory)
        sizes = zip(batch.target_lengths, batch.source_lengths, strict=True)
        return [weights[:t, b, :s] for b, (t, s) in enumerate(sizes)]

    def describe(self) -> dict[str, Any]:
        """Return the settings and the pieces as `json` can write them."""
        return {**self.settings, "pieces": self.pieces.to_json()}

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return the model of a file; sizes that its tensors do not have are refused first."""
        values = dict(description)
        pieces = PairPieces.from_json(values.pop("pieces"))
        settings = TranslatorSettings(**values)
        both = settings.directions == "both"
        sizes = [
            ("source.weight", 0, len(pieces.source)), ("head.bias", 0, len(pieces.target) + 1),
            ("source.weight", 1, settings.embedding_size),
            layer_size(settings.cell, "decoder", settings.hidden_size),
        ]  # fmt: skip
        check_sizes(tensors, sizes)
        for part, directions in (("encoder", 1 + both), ("decoder", 1)):
            check_depth(tensors, part, settings.num_layers * directions)
        return with_weights(lambda blank: cls(pieces, settings, seed=blank), tensors)
