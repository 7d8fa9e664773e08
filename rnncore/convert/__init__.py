"""Models of others in, and out again; every conversion ends with a proof.

In
    `from_torch`, `load` (any file).
Out
    `to_torch`, `write` (any file).
Files of rnncore's own
    `save`, `load`.
What comes back
    `Converted`: the model, and a `Proof`. `ConversionError` says what a source leaves open, what is
    damaged, and which equations rnncore has not.
"""

from rnncore.convert.errors import ConversionError
from rnncore.convert.loading import load
from rnncore.convert.parts import Activation, FinalState, Skip, Swap
from rnncore.convert.proof import Converted, Proof
from rnncore.convert.saved import save
from rnncore.convert.torch_in import from_torch
from rnncore.convert.torch_out import to_torch
from rnncore.convert.writing import write

__all__ = [
    "Activation", "ConversionError", "Converted", "FinalState", "Proof", "Skip", "Swap",
    "from_torch", "load", "save", "to_torch", "write",
]  # fmt: skip
