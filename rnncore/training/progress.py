"""A bar that shows how far a training is, how fast it goes and how long it will take."""

from __future__ import annotations

import sys
import time
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rnncore.training.callbacks import Callback

if TYPE_CHECKING:
    from rnncore.training.loop import Trainer


class Progress(Callback):
    """A bar over the budget with throughput, loss and time left; validations and warnings above it.

    Validations stand on the standard output, the bar beside it on the standard error.
    """

    bar: Any = None

    def on_begin(self, trainer: Trainer) -> None:
        """Show the bar."""
        from tqdm import tqdm

        self.bar = tqdm(
            total=1.0,
            initial=trainer.fraction,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
            mininterval=0.2 if sys.stderr.isatty() else 5.0,
            dynamic_ncols=True,
        )
        self._start = time.monotonic(), trainer.fraction, trainer.step, trainer.seconds
        self._mean_loss: float | None = None
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always", RuntimeWarning)
            warnings.showwarning = self._show_warning
            self._warnings = stack.pop_all()

    def on_step(self, trainer: Trainer) -> None:
        """Move the bar."""
        began, fraction, step, seconds = self._start
        # A running mean over about the last 50 steps.
        self._mean_loss = (
            trainer.loss
            if self._mean_loss is None
            else self._mean_loss + (trainer.loss - self._mean_loss) / min(trainer.step - step, 50)
        )
        before, now = self.bar.n, trainer.fraction
        rate = (trainer.step - step) * trainer.items_per_step / (trainer.seconds - seconds)
        left = (time.monotonic() - began) * (1.0 - now) / (now - fraction)
        self.bar.set_description_str(
            f"{self.bar.format_sizeof(rate)} {trainer.source.item}/s, "
            f"{trainer.model.show(self._mean_loss)}, {self.bar.format_interval(left)} left",
            refresh=False,
        )
        self.bar.update(now - before)

    def on_validation(self, trainer: Trainer) -> None:
        """Show the measures."""
        step, epochs, seconds, *values = trainer.validation_curve[-1]
        shown = ", ".join(
            f"{value:.3f} {measure.unit}"
            for measure, value in zip(trainer.model.measures, values, strict=True)
        )
        self.write(f"step {step}, epoch {epochs:.2f}, {seconds:.0f} s: held-out {shown}")

    def on_end(self, trainer: Trainer) -> None:
        """Leave the bar as it is on the screen."""
        if self.bar is not None:
            self._warnings.close()
            self.bar.refresh()
            self.bar.close()
            self.bar = None

    def write(self, text: str) -> None:
        """Show a text above the bar, at once where a pipe or a file would keep it back."""
        self.bar.write(text)
        sys.stdout.flush()

    def _show_warning(self, message: Warning | str, *where: Any, **more: Any) -> None:
        self.write(f"Warning: {message}")
