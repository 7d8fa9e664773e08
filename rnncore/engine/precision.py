"""In which precision matrix products take their numbers: the names, and the default."""

from __future__ import annotations

import os

import numpy as np

NAMES = ("float32", "bfloat16", "bfloat16x3", "int8")

_default: str | None = None


def get_matmul_precision() -> str:
    """Return the precision of layers that are made without one.

    `RNNCORE_MATMUL_PRECISION`, or else "float32", until `set_matmul_precision` says otherwise.
    """
    if _default is not None:
        return _default
    text = os.environ.get("RNNCORE_MATMUL_PRECISION")
    return _check("RNNCORE_MATMUL_PRECISION", text) if text else "float32"


def set_matmul_precision(precision: str) -> None:
    """Set the precision of the matrix products of float32 layers that are made from now on.

    Weights, states and gradients stay float32 arrays, gates and sums are float32; what a product
    multiplies is rounded before:

    - "float32": not at all;
    - "bfloat16": to 8 significant bits, the range being that of float32 (Kalamkar et al., A study
      of BFLOAT16 for deep learning training, 2019, section 3), in inference and in training;
    - "bfloat16x3": to two numbers of bfloat16, about 16 bits, which makes three products (Henry,
      Tang and Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
      higher-precision computations, 2019, section II), where the processor has AMX; elsewhere,
      where that takes longer, and in small layers as "float32";
    - "int8": to whole numbers of -127 to 127 times the largest of a row over 127, for each row of
      weights once and for each row of what they multiply at its time (Jacob et al., Quantization
      and training of neural networks for efficient integer-arithmetic-only inference, 2018,
      section 2.1, with symmetric ranges); in inference alone.

    `Module.set_precision` changes that of layers that there are.

    Raises
    ------
    ValueError
        If the name is none of these.

    Examples
    --------
    >>> import rnncore
    >>> rnncore.set_matmul_precision("bfloat16")
    >>> rnncore.LSTM(3, 5).precision
    'bfloat16'
    >>> rnncore.set_matmul_precision("float32")
    """
    global _default
    _default = _check("precision", precision)


def storage_of(precision: str | None, dtype: np.dtype) -> str:
    """Return how the engine stores the weights of a layer of this dtype; None is the default."""
    if precision is None:
        return "float64" if dtype == np.float64 else get_matmul_precision()
    return check_precision(precision, dtype)


def check_precision(precision: object, dtype: np.dtype) -> str:
    """Return the precision, if it is the name of one that a layer of this dtype can have."""
    if dtype == np.float64:
        if not isinstance(precision, str) or precision != "float64":
            raise ValueError(
                f"precision: expected 'float64' for a layer of float64, got {precision!r}; make it "
                "of float32 to round what its products take"
            )
        return "float64"
    return _check("precision", precision)


def check_trains(precision: str) -> None:
    """Refuse a training pass in a precision that has no gradients."""
    if precision == "int8":
        raise ValueError(
            "precision: expected float32, bfloat16 or bfloat16x3 for training, got 'int8', which "
            "is for inference alone; see set_precision"
        )


def _check(name: str, precision: object) -> str:
    if not isinstance(precision, str) or precision not in NAMES:
        raise ValueError(f"{name}: expected one of {', '.join(NAMES)}, got {precision!r}")
    return precision
