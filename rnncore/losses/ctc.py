"""Connectionist temporal classification: labels in order, without knowing at which steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.arguments import as_array, check_flag
from rnncore.engine import kernels
from rnncore.engine.threads import team_size
from rnncore.losses.items import Double, Predictions, as_weights, check_reduction, reduced
from rnncore.losses.loss import Loss
from rnncore.losses.recorded import recorded


@recorded("x")
def ctc_loss(
    x: Any,
    targets: Any,
    input_lengths: Any = None,
    target_lengths: Any = None,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    weights: Any = None,
    reduction: str = "mean",
) -> Loss:
    """Negative log-likelihood of labels summed over all their alignments, and its gradient.

    With ``p_t = softmax(x_t)``, the loss of a sequence is ``-log sum_path prod_t p_t(path_t)`` over
    the paths that give its labels once repeated classes are merged and blanks left out. The
    gradient of row t is ``p_t`` less the probability, given the labels, that the path has each
    class there.

    The softmax is part of the loss: give what the last `Linear` gives. PyTorch's `ctc_loss` wants
    `log_softmax` taken before; log-probabilities may be given here as well, as their softmax
    changes nothing.

    Parameters
    ----------
    x
        (T, B, V) logits, float32 or float64; or rows of a batch.
    targets
        Integers from 0 to V - 1, none of them blank: (B, S), or one sequence after another in one
        axis. A sequence may have none.
    input_lengths
        (B,) steps of each sequence, 0 to T; None: T. Rows have their own.
    target_lengths
        (B,) labels of each sequence; None: S.
    blank
        The class of no label.
    zero_infinity
        Whether a sequence too short for its labels, whose loss is infinite and whose gradient is
        NaN, has loss and gradient 0 in place of these. It keeps its weight.
    weights
        A mask, or numbers of 0 or more, that broadcast to (B,). A sequence that weighs 0 counts for
        nothing, even a NaN.
    reduction
        "mean", as in PyTorch: the loss of a sequence is divided by the number of its labels (1 if
        it has none), and the gradient is that of total / weight. "sum": it is not divided, and the
        gradient is that of total. Losses of one kind add up.

    Returns
    -------
    Loss
        Total, weight, and the gradient in x's dtype and form, 0 beyond the end of a sequence.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, a length or a label is out of range, or a weight is
        negative.

    Notes
    -----
    All sums of probabilities are taken in float64, by their logarithms.

    References
    ----------
    A. Graves et al., Connectionist temporal classification, ICML 2006, section 4.

    Examples
    --------
    Two steps and three classes, all alike: "1" is said by the paths 11, 1-, -1, three of nine.

    >>> import numpy as np, rnncore
    >>> loss = rnncore.ctc_loss(np.zeros((2, 1, 3)), [[1]])
    >>> round(float(np.exp(-loss.mean)), 6), loss.gradient[0, 0].round(6).tolist()
    (0.333333, [0.0, -0.333333, 0.333333])
    """
    mean = check_reduction(reduction)
    predictions = Predictions("x", x)
    if len(predictions.shape) != 3 or predictions.shape[2] == 0:
        raise ValueError(
            f"x: expected (T, B, V) with V of 1 or more, got {predictions.shape}; give one "
            "sequence as x[:, None]"
        )
    zero_infinity = check_flag("zero_infinity", zero_infinity)
    steps, batch, classes = predictions.shape
    whole = isinstance(blank, int | np.integer) and not isinstance(blank, bool)
    if not whole or not 0 <= blank < classes:
        raise ValueError(
            f"blank: expected a class from 0 to {classes - 1}, got {blank!r}; give one"
        )
    labels, counts = _labels(targets, target_lengths, batch)
    factors = as_weights(weights, (batch,))
    labels, counts = _labels_that_count(labels, counts, factors, classes, int(blank))
    offset, lengths, order = _places(predictions, input_lengths)

    divisors = np.maximum(counts, 1).astype(np.float64) if mean else np.ones(batch)
    _, weight, scales = reduced(np.zeros(batch), factors, mean)
    scales = scales / divisors
    begins = np.cumsum(counts) - counts
    in_order = [labels[begins[b] : begins[b] + counts[b]] for b in order]
    dlogits = np.zeros((len(predictions.array), classes), predictions.dtype)
    if predictions.given is None:
        dlogits = np.zeros((steps * batch, classes), predictions.dtype)
    losses = np.zeros(batch)
    losses[order] = _run(
        dlogits, predictions, (offset, lengths, np.concatenate([labels[:0], *in_order]),
        np.cumsum(counts[order])), scales[order], int(blank), zero_infinity,
    )  # fmt: skip
    counted = np.divide(losses, divisors, out=np.zeros(batch), where=factors != 0)
    total, _, _ = reduced(counted, factors, mean)
    return Loss(total, weight, predictions.give(dlogits))


def _run(
    dlogits: np.ndarray, x: Predictions, paths: tuple[np.ndarray, ...], scales: Double, blank: int,
    zero_infinity: bool,
) -> Double:  # fmt: skip
    offset, lengths, labels, ends = paths
    compiled, threads, classes = kernels(x.dtype), max(1, min(team_size(), len(scales))), x.shape[2]
    if x.given is not None and x.given.parts == 1:
        logits, stride = x.given.padded(), x.given.stride
    else:
        logits, stride = np.require(x.array, x.dtype, ["C", "A"]), classes
    most = int(np.diff(ends, prepend=0).max(initial=0))
    losses = np.zeros(len(scales))
    scratch = np.empty(threads * compiled.ctc_scratch(len(offset), most, classes))
    compiled.ctc(
        dlogits.reshape(-1), losses, logits.reshape(-1), offset, lengths, labels, ends, scales,
        scratch, len(dlogits), classes, stride, classes, blank, zero_infinity, threads,
    )  # fmt: skip
    return losses


def _places(x: Predictions, input_lengths: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # The row at which each step begins, the steps of each sequence, and its place in the batch.
    steps, batch, _ = x.shape
    if x.given is None:
        lengths = np.full(batch, steps, np.intp)
        if input_lengths is not None:
            lengths = _lengths("input_lengths", input_lengths, batch, steps)
        return np.arange(steps, dtype=np.intp) * batch, lengths, np.arange(batch)
    if input_lengths is not None:
        raise ValueError(
            "input_lengths: expected none beside rows, which have their own, got some; leave them "
            "out"
        )
    rows = x.given.batch
    assert rows is not None
    running = np.diff(rows.offset)
    lengths = np.searchsorted(-running, -np.arange(batch), side="left").astype(np.intp)
    order = np.arange(batch) if rows.order is None else rows.order
    return np.ascontiguousarray(rows.offset[:-1]), lengths, order


def _lengths(name: str, lengths: Any, batch: int, most: int) -> np.ndarray:
    array = as_array(name, lengths)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name}: expected integers, got {array.dtype}; give whole numbers")
    if array.shape != (batch,):
        raise ValueError(
            f"{name}: expected ({batch},), one a sequence, got {array.shape}; give one for each"
        )
    wrong = (array < 0) | (array > most)
    if wrong.any():
        raise ValueError(
            f"{name}: expected lengths from 0 to {most}, got {array[wrong][0]}; correct it"
        )
    return array.astype(np.intp)


def _labels(targets: Any, target_lengths: Any, batch: int) -> tuple[np.ndarray, np.ndarray]:
    # Labels of all sequences, one after another, and how many each has.
    labels = as_array("targets", targets)
    if labels.dtype.kind not in "iu" and labels.size:
        raise TypeError(
            f"targets: expected integers, got {labels.dtype}; give the number of each class"
        )
    if labels.ndim == 2 and len(labels) == batch:
        width = labels.shape[1]
        counts = np.full(batch, width, np.intp)
        if target_lengths is not None:
            counts = _lengths("target_lengths", target_lengths, batch, width)
        return labels[np.arange(width) < counts[:, None]], counts
    if labels.ndim != 1:
        raise ValueError(
            f"targets: expected ({batch}, S), or one axis with all labels, got {labels.shape}; pad "
            "them and give target_lengths"
        )
    if target_lengths is None:
        raise ValueError(
            f"target_lengths: expected ({batch},) beside targets of one axis, got None; give the "
            "labels of each sequence"
        )
    counts = _lengths("target_lengths", target_lengths, batch, labels.size)
    if counts.sum() != labels.size:
        raise ValueError(
            f"target_lengths: expected a sum of {labels.size}, as many as there are targets, got "
            f"{counts.sum()}; correct one of them"
        )
    return labels, counts


def _labels_that_count(
    labels: np.ndarray, counts: np.ndarray, factors: Double, classes: int, blank: int
) -> tuple[np.ndarray, np.ndarray]:
    # Those of sequences that weigh nothing are left out unseen.
    labels = labels[np.repeat(factors != 0, counts)]
    wrong = (labels < 0) | (labels >= classes) | (labels == blank)
    if wrong.any():
        raise ValueError(
            f"targets: expected labels from 0 to {classes - 1} without blank={blank}, got "
            f"{labels[wrong][0]}; correct it, or choose another blank"
        )
    return labels.astype(np.intp), np.where(factors != 0, counts, 0)
