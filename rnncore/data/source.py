"""A text as a source of batches: parallel streams, cut into chunks."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import as_array
from rnncore.data.fingerprint import fingerprint_of
from rnncore.settings import Share, Whole, check_settings, chosen, setting

Batch = tuple[NDArray[np.integer], NDArray[np.integer]]

SHORT = {"characters": "chars"}  # what is counted a second


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """How a text is cut.

    Parameters
    ----------
    batch_size, sequence_length
        Parallel streams of text, and the steps through which gradients flow.
    validation_fraction
        The last part of the text, held out; 0 for none.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    batch_size: int = setting(50, Whole(), "Parallel streams of text.", fixed=True)
    sequence_length: int = setting(50, Whole(), "Steps gradients flow.", fixed=True)
    validation_fraction: float = setting(0.05, Share(), "Held out at the end.", fixed=True)

    def __post_init__(self) -> None:
        check_settings(self)


class TextChunks:
    """Chunks of T steps from B contiguous streams of one text.

    The text is cut into B streams of equal length, stream b beginning at token ``b * L``,
    and each chunk goes T tokens further in all of them, so that the state after one chunk
    is the state before the next (truncated backpropagation through time). After the last whole
    chunk the streams wrap to their beginning. This is the arrangement of char-rnn (Karpathy,
    "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015). The text itself is read
    where it lies.

    Parameters
    ----------
    tokens : (N,) integers
    batch_size
        B, the number of streams.
    sequence_length
        T, the number of steps of a chunk.
    every_step
        Whether a last chunk that is shorter counts, so that no step is left out.
    unit
        What errors call a token.

    Attributes
    ----------
    per_epoch : int
        Chunks until the streams wrap.
    used : int
        Tokens that are predicted in an epoch.

    Raises
    ------
    ValueError
        If the text is shorter than one batch, ``B * T + 1`` tokens.

    Examples
    --------
    >>> chunks = TextChunks(np.arange(13, dtype=np.int32), batch_size=2, sequence_length=3)
    >>> inputs, targets = chunks.batch(0)
    >>> inputs[:, 1], targets[:, 1]
    (array([6, 7, 8], dtype=int32), array([7, 8, 9], dtype=int32))
    >>> [chunks.continues(number) for number in range(3)]
    [False, True, False]
    """

    def __init__(
        self,
        tokens: NDArray[np.integer],
        batch_size: int = 50,
        sequence_length: int = 50,
        every_step: bool = False,
        unit: str = "characters",
    ) -> None:
        for name, value in (("batch_size", batch_size), ("sequence_length", sequence_length)):
            Whole().check(name, value)
        length = (len(tokens) - 1) // batch_size
        if not every_step:
            length = length // sequence_length * sequence_length
        if length < 1:
            needed = batch_size * (1 if every_step else sequence_length) + 1
            raise ValueError(
                f"text: expected at least batch_size * sequence_length + 1 = {needed} {unit} to "
                f"train on, got {len(tokens)}; give more text, or a smaller batch_size or "
                "sequence_length"
            )
        self.tokens, self.batch_size, self.sequence_length = tokens, batch_size, sequence_length
        self.per_epoch = -(-length // sequence_length)
        self.used = length * batch_size
        self._length = length

    def batch(self, number: int) -> Batch:
        """Return inputs and targets, both (T, B); ``targets[t] = inputs[t + 1]``."""
        start = number % self.per_epoch * self.sequence_length
        steps = min(self.sequence_length, self._length - start)
        tokens, stride = self.tokens[start:], self.tokens.strides[0]
        # Column b of this view is tokens[b * L : b * L + T + 1].
        shape, strides = (steps + 1, self.batch_size), (stride, self._length * stride)
        streams = np.lib.stride_tricks.as_strided(tokens, shape, strides, writeable=False)
        chunk = np.array(streams, np.int32, order="C")
        return chunk[:-1], chunk[1:]

    def continues(self, number: int) -> bool:
        """Whether batch `number` goes on where the one before it ended."""
        return number % self.per_epoch > 0


class TextSource:
    """A text to train on, the last part of it held out; see `rnncore.training.Source`.

    Parameters
    ----------
    tokens : (N,) integers
        The whole text; `Vocabulary.encode` and `read_tokens` make them. They are not copied.
    settings
        Its values can be given by name instead.
    held_out : (N',) integers
        Another text to validate on, instead of the last part of this one.
    unit
        What a token is: ``"characters"``, ``"bytes"`` or ``"words"``.

    Attributes
    ----------
    held_out : TextChunks or None
        What is validated on, read in as many parallel streams as leave each at least 1000
        tokens (at most `batch_size`), since each begins without knowing what came before.

    Raises
    ------
    TypeError, ValueError
        If the text is no array of integers, too short, or a setting is out of its range.

    Examples
    --------
    >>> from rnncore.data import TextSource
    >>> source = TextSource(np.arange(1000) % 7, batch_size=4, sequence_length=20)
    >>> source.per_epoch, source.batch(3)[0].shape, source.held_out.used
    (11, (20, 4), 49)
    """

    def __init__(
        self,
        tokens: Any,
        settings: TextSettings | None = None,
        *,
        held_out: Any = None,
        unit: str = "characters",
        **values: Any,
    ) -> None:
        tokens = _checked("tokens", tokens)
        self.text_settings = chosen(TextSettings, settings, values)
        self.tokens = tokens
        self.unit, self.item = unit, SHORT.get(unit, unit)
        training, others = tokens, tokens[:0]
        if held_out is None:
            training, others = split_text(tokens, self.text_settings.validation_fraction)
        else:
            others = _checked("held_out", held_out)
            if len(others) < 2:
                raise ValueError(
                    f"held_out: expected 2 {unit} at least, the second of which is predicted, got "
                    f"{len(others)}; give more text"
                )
        streams, steps = self.text_settings.batch_size, self.text_settings.sequence_length
        self._chunks = TextChunks(training, streams, steps, unit=unit)
        self.per_epoch = self._chunks.per_epoch
        self.items_per_batch = streams * steps
        self.held_out: TextChunks | None = None
        if others.size:
            streams = max(1, min(streams, len(others) // 1000))
            self.held_out = TextChunks(others, streams, steps, every_step=True, unit=unit)
        self._split = len(training), len(others)
        self._all = (tokens,) if held_out is None else (tokens, others)

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dataclasses.asdict(self.text_settings)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the text's values, the same for every type of integers."""
        return fingerprint_of(*self._all)

    def batch(self, number: int) -> Batch:
        """Return inputs and targets of batch `number`, counted from the very first."""
        return self._chunks.batch(number)

    def continues(self, number: int) -> bool:
        """Whether batch `number` goes on where the one before it ended."""
        return self._chunks.continues(number)

    def describe(self) -> str:
        """Say how many tokens are trained on, held out, and left over."""
        training, held_out = self._split
        s = self.text_settings
        text = f"{training + held_out:,} {self.unit}; the last {held_out:,} held out"
        if len(self._all) > 1:
            text = f"{training:,} {self.unit}; {held_out:,} others held out"
        left = training - 1 - self._chunks.used
        if left:
            text += (
                f"; {self._chunks.used:,} trained on, {left:,} left over by {s.batch_size} "
                f"streams of {self.per_epoch} x {s.sequence_length}"
            )
        return text


def split_text(
    tokens: NDArray[np.integer], validation_fraction: float
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Split off the last part of a text for validation.

    Parameters
    ----------
    tokens : (N,) integers
    validation_fraction
        At least 0 and below 1; ``round(N * validation_fraction)`` tokens are split off, none
        instead of one, which says nothing about what comes next.

    Returns
    -------
    training, validation : views of `tokens`

    Raises
    ------
    ValueError
        If the fraction is out of range.

    Examples
    --------
    >>> split_text(np.arange(10, dtype=np.int32), 0.2)[1]
    array([8, 9], dtype=int32)
    """
    Share().check("validation_fraction", validation_fraction)
    held_out = round(len(tokens) * validation_fraction)
    cut = len(tokens) - (held_out if held_out > 1 else 0)
    return tokens[:cut], tokens[cut:]


def _checked(name: str, tokens: Any) -> NDArray[np.integer]:
    tokens = as_array(name, tokens)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: expected a text as integers (N,), got {tokens.dtype} of shape "
            f"{tokens.shape}; vocabulary.encode makes them"
        )
    return tokens
