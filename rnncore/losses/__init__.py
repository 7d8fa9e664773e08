"""Losses, with their gradients: plain functions on arrays or on rows of a batch."""

from rnncore.losses.binary import binary_cross_entropy_with_logits
from rnncore.losses.cross_entropy import cross_entropy
from rnncore.losses.ctc import ctc_loss
from rnncore.losses.gaussian import gaussian_nll_loss
from rnncore.losses.loss import Loss
from rnncore.losses.quantile import quantile_loss
from rnncore.losses.regression import huber_loss, l1_loss, mse_loss
from rnncore.losses.softmax import (
    cross_entropy_each,
    cross_entropy_sum,
    softmax_cross_entropy,
)

__all__ = [
    "Loss", "binary_cross_entropy_with_logits", "cross_entropy", "cross_entropy_each",
    "cross_entropy_sum", "ctc_loss", "gaussian_nll_loss", "huber_loss", "l1_loss", "mse_loss",
    "quantile_loss", "softmax_cross_entropy",
]  # fmt: skip
