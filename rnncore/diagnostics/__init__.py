"""What goes on inside recurrent layers: activations, gradients, gates and weights, step by step."""

from __future__ import annotations

from rnncore.diagnostics.diagnosis import Diagnosis, LayerDiagnosis
from rnncore.diagnostics.impulse import Impulse, follow_impulse
from rnncore.diagnostics.look import diagnose, diagnose_loss
from rnncore.diagnostics.measures import growth_per_step, mean_norms, norms_of, saturation
from rnncore.diagnostics.picture import plot_diagnosis
from rnncore.diagnostics.weights import recurrent_weights, singular_values, spectral_radii

__all__ = [
    "Diagnosis", "Impulse", "LayerDiagnosis", "diagnose", "diagnose_loss", "follow_impulse",
    "growth_per_step", "mean_norms", "norms_of", "plot_diagnosis", "recurrent_weights",
    "saturation", "singular_values", "spectral_radii",
]  # fmt: skip
