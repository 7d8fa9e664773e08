"""The picture of a diagnosis."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from rnncore.diagnostics.diagnosis import Diagnosis
from rnncore.training.plot import new_figure, save_png


def plot_diagnosis(path: str | os.PathLike[str], diagnosis: Diagnosis) -> None:
    """Draw states, gradients, gates and weights of all layers into a PNG.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure = new_figure(11, 7)
    grid = figure.subplots(2, 2)
    _curves(grid[0, 0], diagnosis, "norms", "norm of the states")
    _curves(grid[0, 1], diagnosis, "gradients", "norm of the gradients")
    _curves(grid[0, 1], diagnosis, "reach", "norm of the gradients", dashed=True)
    grid[0, 1].set_title("dL/dh; dashed: of the last step's loss alone", fontsize=10)
    grid[0, 0].legend(fontsize=8)
    _gates(grid[1, 0], diagnosis)
    _weights(grid[1, 1], diagnosis)
    save_png(figure, path)


def _curves(
    axes: Any, diagnosis: Diagnosis, kind: str, label: str, dashed: bool = False
) -> None:
    for number, layer in enumerate(diagnosis.layers):
        for state, curve in getattr(layer, kind).items():
            shown = np.where(curve > 0, curve, np.nan)  # a logarithmic axis has no zero
            axes.plot(
                np.arange(1, len(shown) + 1), shown, color=f"C{number % 10}",
                ls="--" if dashed else "-", lw=1.6 if state == "h" else 0.8,
                marker="." if len(shown) < 3 else None,
                label=None if dashed else f"{layer.name} {state}",
            )  # fmt: skip
    axes.set(xlabel="step t", ylabel=label, yscale="log")
    axes.grid(alpha=0.3)


def _gates(axes: Any, diagnosis: Diagnosis) -> None:
    found = [
        (f"{layer.name} {gate}", low, high)
        for layer in diagnosis.layers
        for gate, (low, high) in layer.saturation.items()
    ]
    names, lows, highs = zip(*found, strict=True) if found else ((), (), ())
    places = np.arange(len(names))
    axes.barh(places, lows, color="C0", label="at the low end")
    axes.barh(places, highs, left=lows, color="C1", label="at the high end")
    axes.set(xlim=(0, 1), xlabel="share of saturated values", yticks=places)
    axes.set_yticklabels(names, fontsize=8)
    axes.invert_yaxis()
    axes.legend(fontsize=8)


def _weights(axes: Any, diagnosis: Diagnosis) -> None:
    found = [
        (f"{layer.name} {gate}", radius, layer.singular_value[gate])
        for layer in diagnosis.layers
        for gate, radius in layer.spectral_radius.items()
    ]
    names, radii, largest = zip(*found, strict=True) if found else ((), (), ())
    places = np.arange(len(names))
    axes.barh(places, largest, color="0.8", label="largest singular value")
    axes.barh(places, radii, height=0.5, color="C2", label="spectral radius")
    axes.axvline(1, color="k", lw=0.8)
    axes.set(xlabel="of W_hh", yticks=places)
    axes.set_yticklabels(names, fontsize=8)
    axes.invert_yaxis()
    axes.legend(fontsize=8)
