"""Functions of arrays that a tape records: what stands between layers.

Each takes arrays, `rnncore.Rows` or values of a tape. It returns an array or rows, and a value
where one of its arguments is a value. dL/dx is the derivative of the loss by x, y the result.
"""

from rnncore.functions.elementwise import dropout, relu, sigmoid, tanh
from rnncore.functions.products import einsum, matmul, mean, softmax, sum
from rnncore.functions.shapes import columns, concatenate, gather, reshape, stack, transpose
from rnncore.functions.time import max_over_time, mean_over_time, pack, unpack
from rnncore.layers.tape import add, multiply, take

__all__ = [
    "add", "columns", "concatenate", "dropout", "einsum", "gather", "matmul", "max_over_time",
    "mean", "mean_over_time", "multiply", "pack", "relu", "reshape", "sigmoid", "softmax", "stack",
    "sum", "take", "tanh", "transpose", "unpack",
]  # fmt: skip
