"""RNN, LSTM and GRU as modules of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from rnncore.torch.operators import DTYPES, Eager, Form, forward, recurrent


class Recurrent(torch.nn.RNNBase):
    """The base of `RNN`, `LSTM` and `GRU`: PyTorch's parameters, computed by the engine."""

    def __init__(self, mode: str, *sizes: Any, proj_size: int, device: Any, dtype: Any) -> None:
        name = type(self).__name__
        if proj_size:
            raise ValueError(
                f"proj_size: rnncore.torch.{name}: expected 0, got {proj_size!r}; projections are "
                f"not in the engine, torch.nn.{name} has them"
            )
        kind = torch.device("cpu" if device is None else device).type
        if kind not in ("cpu", "meta"):
            raise ValueError(
                f"device: rnncore.torch.{name}: expected the CPU, got {device!r}; on other devices "
                f"use torch.nn.{name}, which takes the same state dict"
            )
        if (torch.get_default_dtype() if dtype is None else dtype) not in DTYPES:
            raise ValueError(
                f"dtype: rnncore.torch.{name}: expected torch.float32 or torch.float64, got {dtype}"
            )
        super().__init__(mode, *sizes, device=device, dtype=dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layers; see the class for shapes.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            If input or states have another shape, dtype or device than the module's.
        """
        packed = isinstance(input, PackedSequence)
        x, batch_sizes, order, restore = input if packed else (input, None, None, None)
        if x.dim() not in ((2,) if packed else (2, 3)):
            raise ValueError(
                f"input: {self.mode}: Expected input to be 2D or 3D, got {x.dim()}D; give "
                "(T, B, I), with batch_first (B, T, I), or (T, I)"
            )
        alone = not packed and x.dim() == 2
        if alone:
            x = x.unsqueeze(1)
        elif self.batch_first and not packed:
            x = x.transpose(0, 1)
        h, c = self._states(hx, alone, x.shape[1] if batch_sizes is None else None, order)
        y, h_n, c_n = self._run(x, h, c, batch_sizes)
        if alone:
            y, h_n, c_n = (None if s is None else s.squeeze(1) for s in (y, h_n, c_n))
        elif packed:
            y = PackedSequence(y, batch_sizes, order, restore)
            if restore is not None:
                h_n, c_n = (None if s is None else s.index_select(1, restore) for s in (h_n, c_n))
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, h_n if c_n is None else (h_n, c_n)

    def _states(
        self, hx: Any, alone: bool, sequences: int | None, order: Tensor | None
    ) -> list[Tensor | None]:
        # h_0 and c_0 as (L * directions, B, H), sequences in the order of their rows.
        if hx is None:
            return [None, None]
        count = 2 if self.mode == "LSTM" else 1
        if isinstance(hx, tuple | list) is (count == 1) or (count == 2 and len(hx) != 2):
            expected = "a tuple (h_0, c_0)" if count == 2 else "h_0 alone"
            raise TypeError(f"hx: {self.mode}: expected {expected}, got {type(hx).__name__}")
        states = list(hx) if count == 2 else [hx]
        rows = self.num_layers * (2 if self.bidirectional else 1)
        if order is not None:
            sequences = order.shape[0]
        for k, state in enumerate(states):
            shape = tuple(state.shape)
            between = () if alone else shape[1:2] if sequences is None else (sequences,)
            if shape != (rows, *between, self.hidden_size):
                raise RuntimeError(
                    f"hx: Expected hidden[{k}] size {(rows, *between, self.hidden_size)}, got "
                    f"{shape}; a state is (num_layers * directions, B, hidden_size), without B "
                    "where the input is one sequence (T, I)"
                )
        if alone:
            states = [state.unsqueeze(1) for state in states]
        elif order is not None:
            states = [state.index_select(1, order) for state in states]
        return states if count == 2 else [*states, None]

    def _run(
        self, x: Tensor, h: Tensor | None, c: Tensor | None, batch_sizes: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        # x is (T, B, I), or (rows, I) of packed sequences.
        own = self._parameters
        # Others stand in their place in torch.func.functional_call and parametrizations.
        weights = [
            getattr(self, name) if own.get(name) is None else own[name]
            for name in self._flat_weights_names
        ]
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                "input: input.size(-1) must be equal to input_size. Expected "
                f"{self.input_size}, got {x.shape[-1]} (shape {tuple(x.shape)})"
            )
        if not x.shape[0]:
            raise RuntimeError("input: Expected sequence length to be larger than 0, got 0 steps")
        dtype = weights[0].dtype
        if x.dtype != dtype:
            if not torch.is_autocast_enabled("cpu"):
                raise ValueError(
                    f"input: expected {dtype}, as the module is, got {x.dtype}; convert the input "
                    "or the module with .to"
                )
            x = x.to(dtype)
            h, c = (None if s is None else s.to(dtype) for s in (h, c))
        given = [tensor for tensor in (x, h, c, *weights) if tensor is not None]
        keep = torch.is_grad_enabled() and any([tensor.requires_grad for tensor in given])
        masks = self._masks(x)
        form = Form(self.mode, self.num_layers, self.bidirectional)
        _refuse_transforms()
        if not _is_plain(given):
            y, h_n, last, _ = recurrent(x, h, c, batch_sizes, weights, masks, *form, keep)
            return y, h_n, last if self.mode == "LSTM" else None
        if not keep:
            return forward(x, h, c, batch_sizes, weights, masks, form, False)[:3]
        found = Eager.apply(x, h, c, batch_sizes, masks, form, *weights)
        return found if len(found) == 3 else (*found, None)

    def _masks(self, x: Tensor) -> list[Tensor]:
        # Of dropout, drawn as torch.nn's layers draw them.
        if not (self.training and self.dropout):
            return []
        width = (2 if self.bidirectional else 1) * self.hidden_size
        ones = x.new_ones(*x.shape[:-1], width)
        return [
            torch.nn.functional.dropout(ones, self.dropout) for _ in range(self.num_layers - 1)
        ]


def _is_plain(tensors: list[Tensor]) -> bool:
    # Whether nobody looks on who should see an operator: compilers, tracers, modes, subclasses.
    return (
        not torch.compiler.is_compiling()
        and all([type(t) is Tensor or type(t) is torch.nn.Parameter for t in tensors])
        and not is_in_torch_dispatch_mode()
        and not torch._C._get_tracing_state()
    )


def _refuse_transforms() -> None:
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        raise RuntimeError(
            "rnncore.torch: torch.func's transforms (grad, vmap, jvp, ...) do not go through these "
            "layers; use .backward() or torch.autograd.grad, or the layers of torch.nn"
        )


class RNN(Recurrent):
    """The simple recurrent network in the place of `torch.nn.RNN`, on the CPU.

    `h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As `torch.nn.RNN` has them, and in its order.
    nonlinearity
        f: "tanh" or "relu".
    proj_size, device, dtype
        0, the CPU, and float32 or float64; all else is refused by name.

    Notes
    -----
    A call takes input (T, B, I), with `batch_first` (B, T, I), one sequence (T, I), or a
    `PackedSequence`, and h_0 (num_layers * directions, B, H); it returns y and h_n laid out alike.
    Parameters begin with PyTorch's numbers for the same seed, and masks of dropout are PyTorch's.

    Parameters may change in any way between calls, also by `.data`: they are compared with what was
    packed. Gradients of second order and the transforms of `torch.func` are refused.

    Examples
    --------
    >>> import torch, rnncore.torch
    >>> y, h_n = rnncore.torch.RNN(3, 5, nonlinearity="relu")(torch.ones(7, 2, 3))
    >>> y.shape, h_n.shape
    (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))
    """

    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"nonlinearity: Unknown nonlinearity {nonlinearity!r}; expected 'tanh' or 'relu'"
            )
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first,
            dropout, bidirectional, proj_size=proj_size, device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(Recurrent):
    """Long short-term memory in the place of `torch.nn.LSTM`, on the CPU.

    `i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`, `g = tanh(the same)`,
    `c_t = f c_{t-1} + i g`, `h_t = o tanh(c_t)`

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, \
device, dtype
        As in `RNN`; its notes hold here as well. The state is a tuple (h, c).

    Examples
    --------
    >>> import torch, rnncore.torch
    >>> layer = rnncore.torch.LSTM(3, 5, bidirectional=True, batch_first=True)
    >>> y, (h_n, c_n) = layer(torch.ones(2, 7, 3))
    >>> y.shape, h_n.shape
    (torch.Size([2, 7, 10]), torch.Size([2, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size=proj_size, device=device, dtype=dtype,
        )  # fmt: skip


class GRU(Recurrent):
    """The gated recurrent unit in the place of `torch.nn.GRU`, on the CPU.

    `r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`,
    `n = tanh(W_ih x_t + b_in + r (W_hh h_{t-1} + b_hn))`, `h_t = (1 - z) n + z h_{t-1}`

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, \
device, dtype
        As in `RNN`; its notes hold here as well.

    Examples
    --------
    >>> import torch, rnncore.torch
    >>> y, h_n = rnncore.torch.GRU(3, 5)(torch.ones(7, 3))
    >>> y.shape, h_n.shape
    (torch.Size([7, 5]), torch.Size([1, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size=proj_size, device=device, dtype=dtype,
        )  # fmt: skip
