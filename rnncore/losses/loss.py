"""What a loss returns: a sum, a weight and a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple


class Loss(NamedTuple):
    """The loss of a batch, and its gradient.

    ``a + b`` has the totals and the weights of both and no gradient, so the mean of a sum over
    batches is the mean over all that is in them, however unlike they are in size. ``sum`` adds
    many.

    Attributes
    ----------
    total
        Sum of weight times loss over all items.
    weight
        Sum of the weights.
    gradient
        Of the mean, or with ``reduction="sum"`` of the total, with respect to the predictions, in
        their dtype and shape; a tuple where there are two; None in a sum of losses.

    Examples
    --------
    >>> both = Loss(6.0, 2.0, None) + Loss(1.0, 5.0, None)
    >>> both.total, both.mean
    (7.0, 1.0)
    >>> sum([both, both]).weight
    14.0
    """

    total: float
    weight: float
    gradient: Any

    @property
    def mean(self) -> float:
        """Total over weight; 0 where there is no weight."""
        return self.total / self.weight if self.weight else 0.0

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Loss):
            raise TypeError(
                f"Loss: expected another Loss to add, got {type(other).__name__}; take .mean or "
                ".total"
            )
        return Loss(self.total + other.total, self.weight + other.weight, None)

    def __radd__(self, other: Any) -> Any:
        # sum() begins with 0
        return self if isinstance(other, int) and other == 0 else self + other
