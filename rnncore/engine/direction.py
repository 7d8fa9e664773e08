"""One direction of one layer: its sizes, its parameters, and how they are packed for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnncore.engine.threads import team_size

if TYPE_CHECKING:
    from rnncore.engine.compiled import Cell, Kernels, Weights, WeightsBack


class Parameters(NamedTuple):
    """The parameters of a direction, or their gradients; None where there is none.

    Attributes
    ----------
    W_hx, W_hh
        (G * H, I) and (G * H, H), gates in the cell's public order; elementwise cells have no W_hh.
    bias
        (G * H,) The lecture's b_h.
    second_bias
        (G * H,) Added to it, where a layer trains two as PyTorch does. The parts of gates whose
        recurrent sum starts from an own vector are that vector.
    own
        (H,) each: the cell's own vectors.
    """

    W_hx: np.ndarray
    W_hh: Any
    bias: np.ndarray | None
    second_bias: np.ndarray | None
    own: tuple[np.ndarray | None, ...]


class Direction:
    """What the engine knows of one direction of one layer, and where its parameters are."""

    params: Parameters
    grads: Parameters

    def __init__(
        self, kernels: Kernels, cell: Cell, input_size: int, hidden_size: int, reverse: bool,
        storage: str,
    ) -> None:  # fmt: skip
        self.kernels, self.cell, self.reverse = kernels, cell, reverse
        self.input_size, self.hidden_size = input_size, hidden_size
        self.layer = kernels.Layer(cell, input_size, hidden_size, reverse, storage)
        self.gates = len(cell.gates)
        #: States beside h.
        self.carried = len(cell.states) - 1
        #: Numbers of a row of h in memory, padded to whole blocks.
        self.state_size: int = self.layer.state_size

    def gates_of_own(self) -> list[slice]:
        """Return the rows of a bias that the own vectors are, of those that start a sum."""
        H = self.hidden_size
        return [slice(gate * H, (gate + 1) * H) for gate in self.cell.starts if gate >= 0]

    def bias(self, params: Parameters | None = None) -> np.ndarray | None:
        """Return what is added to W_hx x: one bias, or the sum of two; of these, or its own."""
        params = self.params if params is None else params
        bias, second = params.bias, params.second_bias
        if bias is None or second is None:
            return bias
        shared = second.copy()
        for rows in self.gates_of_own():
            shared[rows] = 0
        return bias + shared

    def pack(self, buffer: np.ndarray, params: Parameters | None = None) -> Weights:
        """Pack the weights for the forward pass: these, or its own."""
        W_hx, W_hh, _, _, own = self.params if params is None else params
        return self.kernels.Weights(
            self.layer, buffer, W_hx, W_hh, self.bias(params), own, team_size()
        )

    def pack_back(
        self, buffer: np.ndarray, params: Parameters | None = None, *, parts: int, part_stride: int
    ) -> WeightsBack:
        """Pack the weights for the backward pass; the input stands in parts."""
        W_hx, W_hh, _, _, own = self.params if params is None else params
        return self.kernels.WeightsBack(
            self.layer, buffer, W_hx, W_hh, own, parts, part_stride, team_size()
        )
