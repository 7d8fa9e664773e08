"""To PyTorch: a module with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore import layers
from rnncore.convert import heads, proof
from rnncore.convert.errors import ConversionError, needed
from rnncore.convert.parts import Activation, FinalState, LastStep, Skip, Squeeze, Swap
from rnncore.convert.sizes import sizes_of
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent


def to_torch(model: Module) -> Any:
    """Return the PyTorch module of a layer or of a `Sequential`, held against ours.

    Of a layer that is what `torch.nn` calls it, LSTM for LSTM; `from_torch` gives back the same
    bits. Of a `Sequential` it is one whose recurrent parts pass on their output.

    Parameters
    ----------
    model
        RNN (tanh or relu), LSTM, GRU, Linear, Embedding, or a `Sequential` of them and of the parts
        in `rnncore.convert`.

    Raises
    ------
    ConversionError
        If PyTorch has no such module, or is not installed.

    Examples
    --------
    >>> import pytest, rnncore
    >>> torch = pytest.importorskip("torch")
    >>> from rnncore import convert
    >>> convert.to_torch(rnncore.LSTM(3, 5, seed=0))
    LSTM(3, 5)
    """
    torch = needed("torch", "torch", "to make a module of it")
    module = _module(model, torch).eval()
    features, vocabulary, batch_first = sizes_of(model)

    def theirs(x: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            result = module(torch.tensor(x))
        if not isinstance(result, tuple):
            return [result.numpy()]
        y, state = result
        return [y.numpy(), *(one.numpy() for one in (
            state if isinstance(state, tuple) else (state,)))]  # fmt: skip

    inputs = proof.trial_inputs(features, vocabulary, batch_first, model.dtype)
    proof.prove(proof.outputs_of(model), theirs, f"torch {torch.__version__}", inputs, model)
    return module


def _module(model: Module, torch: Any) -> Any:
    dtype = getattr(torch, model.dtype.name)
    nn = torch.nn

    def filled(module: Any) -> Any:
        module.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
        return module

    if isinstance(model, Recurrent):
        return filled(_recurrent(model, nn, dtype))
    if type(model) is layers.Linear:
        bias = "bias" in model.params
        return filled(nn.Linear(model.in_features, model.out_features, bias, dtype=dtype))
    if type(model) is layers.Embedding:
        return filled(nn.Embedding(model.num_embeddings, model.embedding_dim, dtype=dtype))
    if isinstance(model, Activation):
        return nn.Softmax(-1) if model.name == "softmax" else heads.to_module(model.name, nn)

    from rnncore.convert import torch_modules

    if type(model) is layers.Sequential:
        return torch_modules.Outputs(*(_module(part, torch) for part in model._children.values()))
    if isinstance(model, FinalState):
        return torch_modules.Final(_module(model.layer, torch))
    if isinstance(model, Skip):
        return torch_modules.Added(_module(model.inner, torch), model.count)
    if isinstance(model, LastStep):
        return torch_modules.Last(model.batch_first)
    if isinstance(model, Squeeze):
        return torch_modules.Squeezed()
    if isinstance(model, Swap):
        return torch_modules.Swapped()
    raise ConversionError(f"model: expected what PyTorch has, got {type(model).__name__}")


def _recurrent(model: Recurrent, nn: Any, dtype: Any) -> Any:
    kind = getattr(nn, type(model).__name__, None)
    options: dict[str, Any] = {}
    if type(model) is layers.RNN:
        options["nonlinearity"] = model.nonlinearity
    elif type(model) not in (layers.LSTM, layers.GRU):
        kind = None
    standard = {"learn_initial_state": False, "reset_after": True, "reverse": False, "zoneout": 0.0}
    differs = [name for name, usual in standard.items() if getattr(model, name, usual) != usual]
    if (
        kind is None
        or differs
        or options.get("nonlinearity") in ("sigmoid", "identity")
        or (not isinstance(model.hidden_size, int))
    ):
        raise ConversionError(
            f"model: expected a recurrent layer that torch.nn has, got {model!r}"
            + f" with {', '.join(differs)}" * bool(differs)
        )
    return kind(
        model.input_size, model.hidden_size, model.num_layers, bias=bool(model.bias),
        batch_first=model.batch_first, bidirectional=model.bidirectional, dtype=dtype, **options,
    )  # fmt: skip
