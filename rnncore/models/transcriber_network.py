"""What is said, from sound: words whose boundaries are known, or whole recordings."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore import functions as F
from rnncore import layers
from rnncore.arguments import check_seed
from rnncore.data.edits import edit_distance
from rnncore.data.inputs import Numbers
from rnncore.data.spectra import SoundSettings
from rnncore.data.words import WordVocabulary
from rnncore.layers.tape import Value
from rnncore.losses import cross_entropy, ctc_loss
from rnncore.models.alignments import best_path
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
from rnncore.models.sound_stream import SoundStream
from rnncore.models.taped import TapedModel
from rnncore.settings import (
    Choice,
    Share,
    Whole,
    check_settings,
    chosen,
    kept_values,
    setting,
)


@dataclasses.dataclass(frozen=True)
class TranscriberSettings:
    """Defaults, rules and help of what a transcriber is made with."""

    boundaries: str = setting(
        "known", Choice(("known", "unknown")), "Whether words are cut apart.", fixed=True
    )
    hidden_size: int = setting(96, Whole(), "Units of a direction over frames.", fixed=True)
    num_layers: int = setting(1, Whole(), "Recurrent layers over frames.", fixed=True)
    context_size: int = setting(64, Whole(), "Units of a direction over words.", fixed=True)
    cell: str = setting("lstm", CellName(), fixed=True)
    directions: str = setting("both", Choice(("both", "forward")), "How sound is read.", fixed=True)
    dropout: float = setting(0.3, Share(), "Share of units zeroed in training.", fixed=True)
    label_smoothing: float = setting(
        0.0, Share(), "How much of a known word's target is spread over all words.", fixed=True
    )
    dtype: str = setting("float32", Choice(("float32", "float64")), fixed=True)
    precision: str | None = PRECISION

    def __post_init__(self) -> None:
        check_settings(self)
        if self.label_smoothing and not self.known:
            raise ValueError(
                "label_smoothing: expected 0, as the boundaries of words are unknown, got "
                f"{self.label_smoothing}; leave it out, or choose boundaries='known'"
            )

    @property
    def known(self) -> bool:
        """Whether the boundaries of words are."""
        return self.boundaries == "known"

    @property
    def whole(self) -> bool:
        """Whether all of an utterance must be there before a word is found."""
        return self.known or self.directions == "both"


class TranscriberNetwork(TapedModel):
    """Says which words sound is.

    Boundaries known, word n of an utterance has frames ``x_n1 .. x_nT`` and becomes one vector,

    ``v_n = [last states of rnn(x_n), mean over time of rnn(x_n)]``
    ``p(word_n) = softmax(W dropout(h_n) + b),  h = rnn(dropout(v))``

    so that each word is judged by the whole utterance. Boundaries unknown, each frame is given a
    word or a blank, and all alignments count (CTC; see `rnncore.ctc_loss`):

    ``p(class_t) = softmax(W dropout(h_t) + b),  h = rnn(x)``, class 0 the blank

    A batch holds, boundaries known, ``frames (T, N, F), sizes (N,)`` of all N words, ``places (S,
    B)``, which word stands where in which utterance, ``lengths (B,)`` and targets ``(S, B)``, -1
    beyond the end; unknown, ``frames (T, B, F), lengths (B,)``, targets ``(B, S)`` and ``counts
    (B,)`` of them.

    Parameters
    ----------
    vocabulary
        The words, without an unknown.
    sound
        How sound becomes frames.
    inputs
        How these are standardised.
    settings
        Its values can be given by name instead.
    seed
        For the initial weights and for dropout.

    Examples
    --------
    >>> words, sound = WordVocabulary([["no", "yes"]], unknown=False), SoundSettings(bands=5)
    >>> network = TranscriberNetwork(words, sound, Numbers(np.zeros(5), np.ones(5)), seed=0)
    >>> frames = np.zeros((7, 3, 5), np.float32)  # two utterances of three words together
    >>> logits = network.logits(frames, [7, 4, 5], np.array([[0, 1], [0, 2]]), [1, 2])
    >>> logits.length, logits.features
    (3, 2)
    """

    kind = "transcriber"
    measures = (
        Measure("loss", "nats per word"),
        Measure("word error rate", "% of words wrong", factor=100.0),
    )
    decisive = 1

    def __init__(
        self,
        vocabulary: WordVocabulary,
        sound: SoundSettings,
        inputs: Numbers,
        settings: TranscriberSettings | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        **values: Any,
    ) -> None:
        s = chosen(TranscriberSettings, settings, values)
        super().__init__(dtype=s.dtype)
        if vocabulary.unknown is not None or inputs.size != sound.size:
            raise ValueError(
                f"vocabulary, inputs: expected words without an unknown, and {sound.size} features"
            )
        self.vocabulary, self.sound, self.inputs = vocabulary, sound, inputs
        self.settings = {**dataclasses.asdict(s), **dataclasses.asdict(sound)}
        #: Draws the initial weights and, in training, dropout.
        self.generator = check_seed(seed)
        common: dict[str, Any] = {"dtype": s.dtype, "seed": self.generator}
        both, self.known, self.whole = s.directions == "both", s.known, s.whole
        self.smoothing = s.label_smoothing
        self.frames = recurrent(
            s.cell, sound.size, s.hidden_size, num_layers=s.num_layers, bidirectional=both,
            dropout=s.dropout, **common,
        )  # fmt: skip
        size, classes = (1 + both) * s.hidden_size, len(vocabulary)
        if self.known:
            self.context = recurrent(
                s.cell, 2 * size, s.context_size, bidirectional=both, **common
            )
            size = (1 + both) * s.context_size
        else:
            classes += 1
        self.dropout = layers.Dropout(s.dropout, **common)
        self.head = layers.Linear(size, classes, **common)
        self._settle_precision()

    def logits(self, frames: Any, lengths: Any, places: Any = None, words: Any = None) -> Any:
        """Return rows of one number a class, of each word or of each frame.

        Parameters
        ----------
        frames, lengths, places, words
            What stands before the targets in a batch.
        """
        y, state = self.frames(self.standardized(frames), lengths=lengths, rows=True)
        if not self.known:
            return self.head(self.dropout(y))
        h = state[0] if isinstance(state, tuple) else state
        last = [h[k] for k in range(len(h) - (1 + self.frames.bidirectional), len(h))]
        vectors = F.concatenate([*last, F.mean_over_time(y)])
        h, _ = self.context(self.dropout(F.gather(vectors, places, words)), rows=True)
        return self.head(self.dropout(h))

    def standardized(self, frames: Any) -> NDArray[Any]:
        """Return frames (..., F) as the network reads them."""
        mean, scale = (one.astype(self.dtype) for one in (self.inputs.mean, self.inputs.scale))
        found: NDArray[Any] = (np.asarray(frames, self.dtype) - mean) / scale
        return found

    def loss(self, *batch: Any) -> Value:
        """Return the mean over words of ``-log p(word)``, or of CTC's loss of the utterance.

        With label smoothing s, which boundaries must be known for, a share s of each target is
        spread over all words; see `rnncore.cross_entropy`.
        """
        if self.known:
            *arrays, targets = batch
            loss: Value = cross_entropy(
                self.logits(*arrays), targets, ignore_index=-1, label_smoothing=self.smoothing
            )
            return loss
        frames, lengths, targets, counts = batch
        # Divided by all words together, as they count alike.
        found: Value = ctc_loss(
            self.logits(frames, lengths), targets + 1, target_lengths=counts, zero_infinity=True,
            reduction="sum",
        )  # fmt: skip
        return F.multiply(found, 1.0 / max(1, int(np.sum(counts))))

    def measure(self, *batch: Any) -> tuple[list[tuple[float, float]], None]:
        """Return sum and count of the losses and of the wrong words."""
        if self.known:
            *arrays, targets, _ = batch
            logits = self.logits(*arrays)
            found = cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
            right = logits.array().argmax(1) == logits.batch.tokens(np.asarray(targets))
            count = float(len(right))
            return [(found.total, count), (count - float(right.sum()), count)], None
        frames, lengths, targets, counts, _ = batch
        logits = self.logits(frames, lengths)
        found = ctc_loss(
            logits, targets + 1, target_lengths=counts, zero_infinity=True, reduction="sum"
        )
        steps = F.unpack(logits)
        wrong = [
            edit_distance(best_path(steps[:length, b]), (targets[b, :count] + 1).tolist())
            for b, (length, count) in enumerate(zip(lengths, counts, strict=True))
        ]
        count = float(np.sum(counts))
        return [(found.total, count), (float(sum(wrong)), count)], None

    def probabilities(self, *arrays: Any) -> NDArray[Any]:
        """Return those of the classes, (S, B, K) by word or (T, B, K) by frame."""
        found: NDArray[Any] = F.softmax(F.unpack(self.logits(*arrays)))
        return found

    def stream(self) -> SoundStream:
        """Return a stream, fed block by block; see `SoundStream`."""
        return SoundStream(self)

    def describe(self) -> dict[str, Any]:
        """Return the settings, the words and the inputs as `json` can write them."""
        known = {"vocabulary": self.vocabulary.to_json(), "inputs": self.inputs.to_json()}
        return {**self.settings, **known}

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return the model of a file; sizes that its tensors do not have are refused first."""
        settings = dict(description)
        vocabulary = WordVocabulary.from_json(settings.pop("vocabulary"))
        inputs = settings.pop("inputs")
        heard = kept_values(SoundSettings, settings)
        settings = {name: value for name, value in settings.items() if name not in heard}
        sound = SoundSettings(**heard)
        sizes = [
            layer_size(settings["cell"], "frames", settings["hidden_size"]),
            ("frames.weight_ih_l0", 1, sound.size),
        ]
        if settings["boundaries"] == "known":
            sizes.append(layer_size(settings["cell"], "context", settings["context_size"]))
        check_sizes(tensors, sizes)
        both = settings["directions"] == "both"
        check_depth(tensors, "frames", settings["num_layers"] * (1 + both))
        made = vocabulary, sound, Numbers(inputs["mean"], inputs["scale"])
        return with_weights(
            lambda blank: cls(*made, TranscriberSettings(**settings), seed=blank), tensors
        )
