"""From classes by step to labels: what CTC's alignments say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnncore.arguments import as_array, check_size


def best_path(x: Any, blank: int = 0) -> list[int]:
    """Return the labels of the likeliest path: the likeliest class of each step.

    Repeated classes are merged, then blanks left out.

    Parameters
    ----------
    x
        (T, V) logits, probabilities or their logarithms.
    blank
        The class of no label.

    Examples
    --------
    >>> best_path(np.eye(3)[[0, 1, 1, 0, 1, 2]])
    [1, 1, 2]
    """
    path = np.asarray(x).argmax(-1)
    new = np.ones(len(path), bool)
    new[1:] = path[1:] != path[:-1]
    labels: list[int] = path[new & (path != blank)].tolist()
    return labels


def beam_search(x: Any, width: int = 8, blank: int = 0) -> list[tuple[list[int], float]]:
    """Return the likeliest labels that a search finds, with their log-probabilities, best first.

    Of each prefix l of labels the search keeps the probabilities of all alignments of the steps so
    far that give l, those that end in a blank and those that do not, and after each step the
    `width` likeliest prefixes:

    ``b_t(l) = p_t(blank) (b_(t-1)(l) + n_(t-1)(l))``
    ``n_t(l k) = p_t(k) (n_(t-1)(l k) + b_(t-1)(l) + [k != last of l] n_(t-1)(l))``

    Parameters
    ----------
    x
        (T, V) logits; their softmax is p.
    width
        How many prefixes are kept.
    blank
        The class of no label.

    Raises
    ------
    ValueError
        If x is no (T, V), or the width is no whole number above 0.

    References
    ----------
    A. Graves and N. Jaitly, Towards end-to-end speech recognition with recurrent neural networks,
    ICML 2014, algorithm 1, without a language model.

    Examples
    --------
    The likeliest path is all blanks, 0.36; but "1" is said by three paths.

    >>> p = np.array([[0.6, 0.4], [0.6, 0.4]])
    >>> best_path(p), [(labels, round(float(np.exp(s)), 2)) for labels, s in beam_search(np.log(p))]
    ([], [([1], 0.64), ([], 0.36)])
    """
    logits = as_array("x", x)
    if logits.ndim != 2 or not logits.shape[1]:
        raise ValueError(f"x: expected logits (T, V), got shape {logits.shape}")
    check_size("width", width)
    logits = logits.astype(np.float64)
    logits = logits - logits.max(1, keepdims=True, initial=-np.inf)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}
    for step in logs.tolist():
        grown: dict[tuple[int, ...], list[float]] = {}
        for labels, (in_blank, in_label) in beam.items():
            both = _total((in_blank, in_label))
            for k, log in enumerate(step):
                if k == blank:
                    _add(grown, labels, 0, both + log)
                elif labels and k == labels[-1]:
                    _add(grown, labels, 1, in_label + log)
                    _add(grown, (*labels, k), 1, in_blank + log)
                else:
                    _add(grown, (*labels, k), 1, both + log)
        order = sorted(grown, key=lambda one: (-_total(grown[one]), one))[:width]
        beam = {labels: (grown[labels][0], grown[labels][1]) for labels in order}
    found = [(list(labels), _total(both)) for labels, both in beam.items()]
    return [one for one in found if one[1] > -np.inf]


def _total(logs: Sequence[float]) -> float:
    # math on floats is ten times as fast as numpy.logaddexp of two.
    low, high = min(logs), max(logs)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


def _add(
    grown: dict[tuple[int, ...], list[float]], labels: tuple[int, ...], place: int, log: float
) -> None:
    found = grown.setdefault(labels, [-np.inf, -np.inf])
    found[place] = _total((found[place], log))
