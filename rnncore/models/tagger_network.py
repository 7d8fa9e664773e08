"""A tagger of words: what they are by themselves, how they are spelled, what stands around them."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore import functions as F
from rnncore import layers
from rnncore.arguments import check_seed
from rnncore.data.tagged import TaggedBatch, TaggerVocabularies
from rnncore.data.vocabulary import Vocabulary
from rnncore.data.words import WordVocabulary
from rnncore.layers.tape import Value, recording
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
from rnncore.models.tagger_stream import TaggerStream
from rnncore.models.taped import TapedModel
from rnncore.settings import Choice, Share, Whole, check_settings, chosen, setting


@dataclasses.dataclass(frozen=True)
class TaggerSettings:
    """Defaults, rules and help of what a tagger is made with."""

    hidden_size: int = setting(200, Whole(), "Units of a direction of the sentence.", fixed=True)
    num_layers: int = setting(1, Whole(), "Recurrent layers over the sentence.", fixed=True)
    cell: str = setting("lstm", CellName(), fixed=True)
    directions: str = setting(
        "both", Choice(("both", "forward")), "How the sentence is read.", fixed=True
    )
    spelling: str = setting(
        "characters", Choice(("characters", "none")), "What is known of unknown words.", fixed=True
    )
    word_size: int = setting(100, Whole(), "Numbers of a word's vector.", fixed=True)
    character_size: int = setting(32, Whole(), "Numbers of a character's vector.", fixed=True)
    spelling_size: int = setting(64, Whole(), "Units of a direction of a word.", fixed=True)
    dropout: float = setting(0.5, Share(), "Share of units zeroed in training.", fixed=True)
    word_dropout: float = setting(
        0.25, Share(), "Share of words that training takes for unknown.", fixed=True
    )
    precision: str | None = PRECISION

    def __post_init__(self) -> None:
        check_settings(self)


class TaggerNetwork(TapedModel):
    """Gives each word of a sentence a tag.

    ``x_t = [E_w(word_t), last states of bi-rnn(E_c(characters of word_t))]``
    ``p(tag_t) = softmax(W [h_t forward, h_t backward] + b),  h = bi-rnn(dropout(x))``

    Words that are not known have one vector, and their characters (Ling et al., "Finding function
    in form: compositional character models for open vocabulary word representation", 2015;
    Plank et al., "Multilingual part-of-speech tagging with bidirectional long short-term memory
    models and auxiliary loss", 2016). In training some words are taken for unknown, so that the
    model learns to rely on how they are spelled.

    Parameters
    ----------
    vocabularies
    settings
        Its values can be given by name instead.
    seed
        For the initial weights and for dropout.

    Examples
    --------
    >>> from rnncore.data.tagged import Sentences, TaggerVocabularies
    >>> sentences, tags = [["A", "dog"], ["Dogs"]], [["DET", "NOUN"], ["NOUN"]]
    >>> model = TaggerNetwork(TaggerVocabularies.of(sentences, tags), hidden_size=8, seed=0)
    >>> batch = Sentences(sentences, model.vocabularies).batch(np.array([0, 1]))
    >>> model.logits(batch).features
    2
    """

    kind = "tagger"
    measures = (
        Measure("loss", "nats per word"),
        Measure("accuracy", "% right", factor=100.0, lower_is_better=False),
    )
    decisive = 1  # the loss of rare tags grows long before accuracy falls

    def __init__(
        self,
        vocabularies: TaggerVocabularies,
        settings: TaggerSettings | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        **values: Any,
    ) -> None:
        super().__init__()
        s = chosen(TaggerSettings, settings, values)
        self.vocabularies, self.settings = vocabularies, dataclasses.asdict(s)
        #: Draws the initial weights and, in training, dropout and unknown words.
        self.generator = check_seed(seed)
        g, size = self.generator, s.word_size
        self.words = layers.Embedding(len(vocabularies.words), s.word_size, seed=g)
        self.spelling: Any = None
        if s.spelling == "characters":
            self.characters = layers.Embedding(len(vocabularies.letters), s.character_size, seed=g)
            self.spelling = recurrent(
                s.cell, s.character_size, s.spelling_size, bidirectional=True, seed=g
            )
            size += 2 * s.spelling_size
        both = s.directions == "both"
        self.context = recurrent(
            s.cell, size, s.hidden_size, num_layers=s.num_layers, bidirectional=both,
            dropout=s.dropout, seed=g,
        )  # fmt: skip
        self.dropout = layers.Dropout(s.dropout, seed=g)
        self.head = layers.Linear((1 + both) * s.hidden_size, len(vocabularies.tags), seed=g)
        # Vectors of unit variance would drown what the spelling says.
        with self.writable_params() as params:
            params["words.weight"] *= np.float32(0.1)
            if self.spelling is not None:
                params["characters.weight"] *= np.float32(0.3)
        self._settle_precision()

    def vectors(self, batch: TaggedBatch) -> NDArray[Any]:
        """Return what is known of each of the distinct words by itself, (U, features)."""
        inside = np.arange(len(batch.words))[:, None] < batch.lengths
        numbers = np.zeros(len(batch.sizes), np.intp)
        numbers[batch.spelled[inside]] = batch.words[inside]
        x: NDArray[Any] = self.words(numbers)
        return x if self.spelling is None else F.concatenate([x, self._spelled(batch)])

    def _spelled(self, batch: TaggedBatch) -> Any:
        _, last = self.spelling(
            batch.letters, lengths=batch.sizes, embedding=self.characters, rows=True
        )
        h = last[0] if isinstance(last, tuple) else last
        return F.concatenate([h[0], h[1]])

    def logits(self, batch: TaggedBatch) -> Any:
        """Return rows of one number a tag for each word; a value while a tape is open."""
        words, lengths = batch.words, batch.lengths
        if recording() is None:  # without dropout equal words are projected once
            table = layers.Embedding.from_pretrained(self.vectors(batch))
            y, _ = self.context(batch.spelled, lengths=lengths, embedding=table, rows=True)
            return self.head(y)
        unknown = self.vocabularies.words.unknown
        drawn = self.generator.random(words.shape) < self.settings["word_dropout"]
        x = self.words(np.where(drawn, unknown or 0, words), lengths)
        if self.spelling is not None:
            x = F.concatenate([x, F.gather(self._spelled(batch), batch.spelled, lengths)])
        y, _ = self.context(self.dropout(x), rows=True)
        return self.head(self.dropout(y))

    def loss(self, *batch: Any) -> Value:
        """Return the mean over words of ``-log p(tag)``; the last of the batch are the tags."""
        *arrays, tags = batch
        loss: Value = cross_entropy(self.logits(TaggedBatch(*arrays)), tags, ignore_index=-1)
        return loss

    def measure(self, *batch: Any) -> tuple[list[tuple[float, float]], None]:
        """Return sum and count of the losses and of the right tags."""
        *arrays, tags, _ = batch
        logits = self.logits(TaggedBatch(*arrays))
        right = logits.array().argmax(1) == logits.batch.tokens(np.asarray(tags))
        total, count = cross_entropy_sum(logits, tags)
        return [(total, count), (float(right.sum()), count)], None

    def probabilities(self, batch: TaggedBatch) -> NDArray[Any]:
        """Return the probability of each tag, (T, B, tags), zero beyond each sentence."""
        array = F.unpack(self.logits(batch))
        inside = np.arange(len(array))[:, None] < batch.lengths
        found: NDArray[Any] = F.softmax(array) * inside[:, :, None]
        return found

    def stream(self) -> TaggerStream:
        """Return a stream, fed word by word; see `TaggerStream`."""
        return TaggerStream(self)

    def describe(self) -> dict[str, Any]:
        """Return the settings and the vocabularies as `json` can write them."""
        known = {name: one.to_json() for name, one in self.vocabularies._asdict().items()}
        return {**self.settings, "vocabularies": known}

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return the model of a file; sizes that its tensors do not have are refused first."""
        settings = dict(description)
        known = settings.pop("vocabularies")
        vocabularies = TaggerVocabularies(
            WordVocabulary.from_json(known["words"]), Vocabulary.from_json(known["letters"]),
            WordVocabulary.from_json(known["tags"]),
        )  # fmt: skip
        sizes = [
            ("words.weight", 0, len(vocabularies.words)), ("head.bias", 0, len(vocabularies.tags)),
            ("words.weight", 1, settings["word_size"]),
            layer_size(settings["cell"], "context", settings["hidden_size"]),
        ]  # fmt: skip
        if settings["spelling"] != "none":
            sizes.append(("characters.weight", 1, settings["character_size"]))
            sizes.append(layer_size(settings["cell"], "spelling", settings["spelling_size"]))
        check_sizes(tensors, sizes)
        both = settings["directions"] == "both"
        check_depth(tensors, "context", settings["num_layers"] * (1 + both))
        made = vocabularies, TaggerSettings(**settings)
        return with_weights(lambda blank: cls(*made, seed=blank), tensors)
