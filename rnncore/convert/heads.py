"""Activations between layers, by the names that ONNX and PyTorch have for them.

Ours are the names of `rnncore.cells.chosen`, with their numbers behind them: "leaky_relu(0.1)".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rnncore.convert.errors import ConversionError


class Theirs(NamedTuple):
    """A node of ONNX, its alpha and beta where none are given; a module, its arguments."""

    node: str
    numbers: tuple[float, ...]
    module: str
    arguments: tuple[str, ...] = ()


TABLE = {
    "tanh": Theirs("Tanh", (), "Tanh"),
    "sigmoid": Theirs("Sigmoid", (), "Sigmoid"),
    "relu": Theirs("Relu", (), "ReLU"),
    "leaky_relu": Theirs("LeakyRelu", (0.01,), "LeakyReLU", ("negative_slope",)),
    "elu": Theirs("Elu", (1.0,), "ELU", ("alpha",)),
    "hard_sigmoid": Theirs("HardSigmoid", (0.2, 0.5), "Hardsigmoid"),
    "hard_tanh": Theirs("", (), "Hardtanh"),
    "softplus": Theirs("Softplus", (), "Softplus"),
    "softsign": Theirs("Softsign", (), "Softsign"),
    "thresholded_relu": Theirs("ThresholdedRelu", (1.0,), ""),
}
NODES = {theirs.node: name for name, theirs in TABLE.items() if theirs.node}
MODULES = {theirs.module: name for name, theirs in TABLE.items() if theirs.module}
#: What a module must have as it is by default.
USUAL: dict[str, dict[str, float]] = {
    "Hardtanh": {"min_val": -1.0, "max_val": 1.0}, "Softplus": {"beta": 1.0},
}  # fmt: skip
ATTRIBUTES = ("alpha", "beta")


def spelled(name: str, numbers: tuple[float, ...]) -> str:
    """Return a name with its numbers behind it.

    Examples
    --------
    >>> spelled("elu", (0.5,)), spelled("tanh", ())
    ('elu(0.5)', 'tanh')
    """
    return f"{name}({', '.join(map(repr, numbers))})" if numbers else name


def of_node(kind: str, settings: dict[str, Any]) -> str:
    """Return the activation of a node of ONNX that is in `NODES`."""
    from rnncore.convert.onnx_node import shortest

    usual = zip(ATTRIBUTES, TABLE[NODES[kind]].numbers, strict=False)
    numbers = [settings.get(name, number) for name, number in usual]
    return spelled(NODES[kind], tuple(map(shortest, numbers)))


def to_node(text: str) -> tuple[str, dict[str, float]]:
    """Return the node of ONNX of an activation, and its attributes.

    Raises
    ------
    ConversionError
        If ONNX has none.
    """
    name, numbers = _read(text)
    if name not in TABLE or not TABLE[name].node:
        raise ConversionError(f"model: expected an activation that ONNX has, got {text!r}")
    return TABLE[name].node, dict(zip(ATTRIBUTES, numbers, strict=False))


def of_module(module: Any) -> tuple[str, dict[str, Any]]:
    """Return the activation of a module of PyTorch that is in `MODULES`, and its arguments.

    Raises
    ------
    ConversionError
        If its settings are others than the usual ones.
    """
    kind = type(module).__name__
    differs = {key for key, value in USUAL.get(kind, {}).items() if getattr(module, key) != value}
    if differs:
        raise ConversionError(f"{kind}: expected the usual {', '.join(sorted(differs))}")
    options = {key: float(getattr(module, key)) for key in TABLE[MODULES[kind]].arguments}
    return spelled(MODULES[kind], tuple(options.values())), options


def to_module(text: str, nn: Any) -> Any:
    """Return the module of PyTorch of an activation.

    Raises
    ------
    ConversionError
        If PyTorch has none.
    """
    name, numbers = _read(text)
    theirs = TABLE.get(name)
    usual = name != "hard_sigmoid" or text == name
    if theirs is None or not theirs.module or not usual:
        raise ConversionError(f"model: expected an activation that PyTorch has, got {text!r}")
    return getattr(nn, theirs.module)(**dict(zip(theirs.arguments, numbers, strict=False)))


def _read(text: str) -> tuple[str, tuple[float, ...]]:
    from rnncore.cells.activations import read_activation

    found = read_activation("activation", text)
    return found.name, found.numbers
