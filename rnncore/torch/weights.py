"""Weights of modules as the engine wants them, packed anew whenever they are not what they were.

PyTorch counts the changes of a tensor, but not those by way of `.data`, of a NumPy view or of
another process. So a count that moved says that weights changed, and one that did not says nothing:
then they are compared with a copy.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from rnncore.engine.packed import Packed
from rnncore.engine.processor import address
from rnncore.torch.net import Kind, Net, net_of

_compare = ctypes.CDLL(None).memcmp
_compare.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class Weights:
    """The packed weights of one module, and what they were packed from.

    In training they change from one forward pass to the next, so they are packed where they are.
    Only when a second pass finds them unmoved they are copied; from then on they are compared.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self._shapes = net.weight_shapes()
        self._dtype = getattr(torch, net.kind.dtype)
        # Marks, copies and what was packed of these: replaced in one go, for other threads.
        self._known: tuple[Any, list[np.ndarray] | None, dict[bool, Packed]] = None, None, {}

    def packed(self, tensors: Sequence[Tensor], back: bool) -> Packed:
        """Return weights packed for the forward or for the backward pass, as they are now."""
        marks = [_mark(tensor) for tensor in tensors]
        before, copies, sets = self._known
        if marks != before or (copies is None and back):
            self._check(tensors)
            if not back:
                self._known = marks, None, {}
            return self.net.pack([as_array(tensor) for tensor in tensors], back)
        if copies is None or not all(map(_is_same, tensors, copies)):
            copies, sets = [as_array(tensor).copy() for tensor in tensors], {}
            self._known = marks, copies, sets
        found = sets.get(back)
        if found is None:
            found = sets[back] = self.net.pack(copies, back)
        return found

    def _check(self, tensors: Sequence[Tensor]) -> None:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if shapes != self._shapes:
            raise ValueError(
                f"weights: expected the shapes {self._shapes}, got {shapes}; a layer of other "
                "sizes is another module"
            )
        for tensor in tensors:
            if tensor.dtype != self._dtype or tensor.device.type != "cpu":
                raise TypeError(
                    f"weights: expected {self._dtype} on the CPU, as the input is, got "
                    f"{tensor.dtype} on {tensor.device}; convert one of them with .to"
                )


def _mark(tensor: Tensor) -> Any:
    # What differs, if PyTorch knows of a change. Tensors of inference mode have no count.
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.shape, tensor.stride(), tensor.dtype


def _is_same(tensor: Tensor, copy: np.ndarray) -> bool:
    return tensor.is_contiguous() and not _compare(tensor.data_ptr(), address(copy), copy.nbytes)


def as_array(tensor: Tensor) -> np.ndarray:
    """Return the numbers of a tensor, contiguous: a view where they are so."""
    array: np.ndarray = tensor.detach().contiguous().numpy()
    return array


_known = WeakIdKeyDictionary()


def weights_of(first: Tensor, kind: Kind) -> Weights:
    """Return the packed weights of the module whose first parameter this is."""
    found = _known.get(first)
    if found is None or found.net.kind != kind:
        found = _known[first] = Weights(net_of(kind))
    return found
