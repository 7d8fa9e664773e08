"""Models of `torch.nn` with their recurrent layers put on the engine."""

from __future__ import annotations

from typing import Any

import torch

from rnncore.torch.modules import GRU, LSTM, RNN

KINDS: dict[type, Any] = {torch.nn.RNN: RNN, torch.nn.LSTM: LSTM, torch.nn.GRU: GRU}


def from_torch(module: Any) -> Any:
    """Put all recurrent layers of a model on the engine; their parameters stay the same objects.

    Parameters
    ----------
    module
        A `torch.nn.RNN`, `LSTM` or `GRU`, which is left as it is; or a model, whose layers are
        replaced. An optimizer of the model goes on.

    Returns
    -------
    module
        The new layer, or the model.

    Raises
    ------
    ValueError
        If a layer has a projection, other numbers than float32 and float64, or is not on the CPU;
        a model may then be half converted.

    Examples
    --------
    >>> import torch, rnncore.torch
    >>> model = torch.nn.ModuleDict({"rnn": torch.nn.GRU(3, 5), "head": torch.nn.Linear(5, 2)})
    >>> type(rnncore.torch.from_torch(model)["rnn"]).__module__
    'rnncore.torch.modules'
    """
    kind = KINDS.get(type(module))
    if kind is None:
        for name, child in list(module.named_children()):
            found = from_torch(child)
            if found is not child:
                setattr(module, name, found)
        return module
    first = module.weight_ih_l0
    further = {"nonlinearity": module.nonlinearity} if kind is RNN else {}
    with torch.random.fork_rng(devices=()):  # what is drawn here is not used
        layer: Any = kind(
            module.input_size, module.hidden_size, module.num_layers, bias=module.bias,
            batch_first=module.batch_first, dropout=module.dropout,
            bidirectional=module.bidirectional, proj_size=module.proj_size, device=first.device,
            dtype=first.dtype, **further,
        )  # fmt: skip
    for name, parameter in module.named_parameters():
        setattr(layer, name, parameter)
    return layer.train(module.training)
