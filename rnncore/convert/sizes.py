"""What a model takes: features or token ids, steps first or sequences."""

from __future__ import annotations

from rnncore import layers
from rnncore.convert.errors import ConversionError
from rnncore.convert.parts import Swap
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent


def sizes_of(model: Module) -> tuple[int, int, bool]:
    """Return the features of x, the vocabulary if it takes token ids, and whether B comes first.

    Raises
    ------
    ConversionError
        If no part of the model says it.

    Examples
    --------
    >>> import rnncore
    >>> sizes_of(rnncore.Sequential(rnncore.GRU(3, 8, batch_first=True), rnncore.Linear(8, 2)))
    (3, 0, True)
    """
    first = [part for _, part in model.named_modules()]
    features = vocabulary = 0
    for part in first:
        if isinstance(part, layers.Embedding):
            vocabulary = part.num_embeddings
        elif isinstance(part, Recurrent):
            features = part.input_size
        elif isinstance(part, layers.Linear):
            features = part.in_features
        else:
            continue
        break
    if not features and not vocabulary:
        raise ConversionError(f"model: expected a layer with weights, got {model!r}")
    swapped = False
    for part in first:
        swapped ^= isinstance(part, Swap)
        if isinstance(part, Recurrent):
            return features, vocabulary, part.batch_first ^ swapped
    return features, vocabulary, False
