"""Sequences with what belongs to them, as a source of batches of like length."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any, Protocol

from numpy.typing import NDArray

from rnncore.data.batches import SequenceBatches
from rnncore.data.fingerprint import fingerprint_of
from rnncore.settings import Whole, check_settings, chosen, setting


class Examples(Protocol):
    """Sequences to learn from: what a model reads and what it shall find."""

    @property
    def lengths(self) -> NDArray[Any]:
        """The steps of each."""

    def batch(self, indices: NDArray[Any]) -> tuple[Any, ...]:
        """Return those with these numbers, as the model's `forward` takes them."""

    def arrays(self) -> list[NDArray[Any]]:
        """Return all that tells these examples from others."""


@dataclasses.dataclass(frozen=True)
class SequenceSettings:
    """How sequences are dealt to batches.

    Parameters
    ----------
    batch_size
        Sequences of a batch.
    order
        The same one deals the same batches.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    batch_size: int = setting(32, Whole(), "Sequences of a batch.", fixed=True)
    order: int = setting(0, Whole(0), "Which of the orders that batches may have.", fixed=True)

    def __post_init__(self) -> None:
        check_settings(self)


class ExampleBatches:
    """Numbered batches of examples; see `SequenceBatches` for which."""

    def __init__(self, examples: Examples, batches: SequenceBatches) -> None:
        self.examples, self._batches = examples, batches
        self.per_epoch = batches.per_epoch

    def batch(self, number: int) -> tuple[Any, ...]:
        """Return the arrays of batch `number`."""
        return self.examples.batch(self._batches.indices(number))

    def continues(self, number: int) -> bool:
        """Return False: each sequence stands for itself."""
        return False


class SequenceSource(ExampleBatches):
    """Examples to train on, and some held out; see `rnncore.training.Source`.

    Parameters
    ----------
    examples
    settings
        Its values can be given by name instead.
    held_out
        Examples that validations measure.
    item
        What a sequence is made of, in the plural: what is counted a second.
    name
        What a sequence is called, in the plural.
    """

    def __init__(
        self,
        examples: Examples,
        settings: SequenceSettings | None = None,
        *,
        held_out: Examples | None = None,
        item: str = "steps",
        name: str = "sequences",
        **values: Any,
    ) -> None:
        self.sequence_settings = chosen(SequenceSettings, settings, values)
        size, order = self.sequence_settings.batch_size, self.sequence_settings.order
        super().__init__(examples, SequenceBatches(examples.lengths, size, seed=order))
        self.item, self.name = item, name
        self.held_out: ExampleBatches | None = None
        if held_out is not None:
            self.held_out = ExampleBatches(
                held_out, SequenceBatches(held_out.lengths, size, shuffle=False)
            )
        self.items_per_batch = max(1, round(int(examples.lengths.sum()) / self.per_epoch))

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return dataclasses.asdict(self.sequence_settings)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything in the examples, those held out among them."""
        held_out = [] if self.held_out is None else self.held_out.examples.arrays()
        return fingerprint_of(*self.examples.arrays(), *held_out)

    def describe(self) -> str:
        """Say how much there is."""
        lengths = self.examples.lengths
        text = f"{len(lengths):,} {self.name} of {int(lengths.sum()):,} {self.item}"
        if self.held_out is not None:
            text += f"; {int(self.held_out.examples.lengths.sum()):,} {self.item} held out"
        return text
