"""What the trainer asks of data."""

from __future__ import annotations

from typing import Any, Protocol


class Batches(Protocol):
    """Numbered batches: what batch `number` is depends on the number alone."""

    @property
    def per_epoch(self) -> int:
        """How many batches go once over the data."""

    def batch(self, number: int) -> tuple[Any, ...]:
        """Return what the model's `forward` takes before the state."""

    def continues(self, number: int) -> bool:
        """Whether the state after the batch before goes on into this one."""


class Source(Batches, Protocol):
    """Data to train on, and data held out."""

    @property
    def fingerprint(self) -> str:
        """Names the values of the data; a resume is refused on others."""

    @property
    def settings(self) -> dict[str, Any]:
        """How the data is cut, as `json` can write it; a resume is refused on others."""

    @property
    def held_out(self) -> Batches | None:
        """What validations measure, once over; None for nothing."""

    @property
    def item(self) -> str:
        """What is counted a second while training, such as ``"chars"``."""

    @property
    def items_per_batch(self) -> int:
        """How many of them a batch has."""

    def describe(self) -> str:
        """Say how much is trained on, held out and left over."""
