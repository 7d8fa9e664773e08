"""The picture of a training, and how pictures are made and written."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

from rnncore import files


def new_figure(width: float, height: float) -> Any:
    """Return matplotlib's figure of this size in inches, which no window shows.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "matplotlib: expected to be installed for pictures; `pip install matplotlib`"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def save_png(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG, as a whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format="png")
    files.write_whole(path, drawn.getvalue())


def plot_curves(
    path: str | os.PathLike[str],
    training: Sequence[Sequence[float]],
    validation: Sequence[Sequence[float]],
    unit: str,
) -> None:
    """Draw a training over its seconds into a PNG.

    Parameters
    ----------
    path
    training, validation
        Rows of (step, epochs, seconds, value, ...), as a `Trainer` has them.
    unit
        Of the values.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for curve, label in ((training, "training"), (validation, "held out")):
        if curve:
            axes.plot([p[2] for p in curve], [p[3] for p in curve], ".-", ms=3, label=label)
    axes.set(xlabel="seconds of training", ylabel=unit)
    axes.grid(alpha=0.3)
    axes.legend()
    save_png(figure, path)
