"""Models of others in, and out again; every conversion ends with a proof.

In
    `from_guitarml`, `from_keras`, `from_nam`, `from_numpy`, `from_onnx`, `from_rtneural`,
    `from_torch`, `load` (any file).
Out
    `to_keras`, `to_onnx`, `to_rtneural`, `to_torch`, `write` (any file).
Files of rnncore's own
    `save`, `load`; `in_dtype` is a copy of a model in another precision.
What comes back
    `Converted`: the model, and a `Proof`. `ConversionError` says what a source leaves open, what is
    damaged, and which equations rnncore has not.
"""

from rnncore.convert.amplifiers import from_guitarml, from_nam
from rnncore.convert.errors import ConversionError
from rnncore.convert.keras_in import from_keras
from rnncore.convert.keras_out import to_keras
from rnncore.convert.loading import load
from rnncore.convert.numpy_in import from_numpy
from rnncore.convert.onnx_in import from_onnx
from rnncore.convert.onnx_out import to_onnx
from rnncore.convert.parts import Activation, FinalState, LastStep, Masked, Skip, Squeeze, Swap
from rnncore.convert.proof import Converted, Proof
from rnncore.convert.rtneural import from_rtneural, to_rtneural
from rnncore.convert.saved import in_dtype, save
from rnncore.convert.torch_in import from_torch
from rnncore.convert.torch_out import to_torch
from rnncore.convert.writing import write

__all__ = [
    "Activation", "ConversionError", "Converted", "FinalState", "LastStep", "Masked", "Proof",
    "Skip", "Squeeze", "Swap", "from_guitarml", "from_keras", "from_nam", "from_numpy", "from_onnx",
    "from_rtneural", "from_torch",
    "in_dtype", "load", "save", "to_keras", "to_onnx", "to_rtneural", "to_torch", "write",
]  # fmt: skip
