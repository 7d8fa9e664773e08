"""Models whose loss is recorded on a tape: no backward pass to write."""

from __future__ import annotations

from typing import Any

from rnncore.layers.tape import Tape, Value
from rnncore.models.model import Model


class TapedModel(Model):
    """A model that says what its loss is, and trains as all others do.

    A subclass defines `loss(*batch)` with its parts and `rnncore.functions`; `forward` opens a tape
    around it, and `backward` goes back through that.
    """

    def loss(self, *batch: Any) -> Value:
        """Return the mean loss of a batch, while a tape is open."""
        raise NotImplementedError

    def forward(self, *batch: Any, **options: Any) -> Any:
        """Return the mean loss of a batch, and None: no state is carried to the next.

        The last argument is the state, which must be None.
        """
        *arguments, state = batch
        if state is not None or options:
            raise TypeError(f"forward: expected a batch and None, got {state!r} and {options}")
        tape = Tape(self)
        with tape:
            loss = self.loss(*arguments)
        self._last.kept = tape, loss
        return float(loss), None

    def backward(self, *, accumulate: bool = True) -> None:
        """Compute the gradients of the last `forward` of this thread, into `grads`.

        Raises
        ------
        RuntimeError
            If `forward` did not come before (each serves one backward), or the weights have
            changed since.
        """
        kept, self._last.kept = getattr(self._last, "kept", None), None
        if kept is None:
            raise RuntimeError("backward: nothing was kept; call forward first, once for each")
        tape, loss = kept
        tape.backward(loss, accumulate=accumulate)
