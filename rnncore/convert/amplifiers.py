"""From files of guitar amplifiers: Neural Amp Modeler's LSTM, and GuitarML's JSON.

A `.nam` file holds for each layer the matrix [W_hx W_hh] row by row (gates i, f, g, o), one bias,
and the states that it begins with, then the head's weight and bias. Source: Neural Amp Modeler,
nam/models/recurrent.py. GuitarML's JSON has PyTorch's state dict, with `rec.` and `lin.`, and adds
the input to the output. Source: Wright et al., Automated-GuitarAmpModelling.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from rnncore.convert import plan, proof
from rnncore.convert.equations import Equations
from rnncore.convert.errors import ConversionError, reading
from rnncore.convert.json_file import numbers, read_json, whole
from rnncore.convert.plan import Part
from rnncore.convert.proof import Converted, Proof, against_vectors
from rnncore.convert.torch_in import from_torch
from rnncore.convert.weights import Direction, make_layer
from rnncore.layers.module import Module


def from_nam(source: Any, *, test: Any = None, prove: bool = True) -> Converted:
    """Return the `Sequential` of an LSTM of Neural Amp Modeler, with the states it begins with.

    x is (T, B, inputs), samples at the rate that the file was trained at.

    Parameters
    ----------
    source
        The path of a .nam file, or its JSON as a dict.
    test
        x and the y that was computed of it, for the proof: arrays, or paths of .csv or .npy files.
    prove
        Whether to hold the result against the package `nam` where it is installed, if there is no
        `test`.

    Raises
    ------
    ConversionError
        If the file is damaged, or of another architecture, such as WaveNet.
    """
    what = (
        f"Neural Amp Modeler file {source!r}" if isinstance(source, str) else "Neural Amp Modeler"
    )
    with reading(what):
        held = read_json(what, source)
        if held["architecture"] != "LSTM":
            raise ConversionError(
                f"{what}: expected the architecture 'LSTM', got {held['architecture']!r:.50}"
            )
        config = held["config"]
        size, count = whole("hidden_size", config["hidden_size"]), whole("num_layers",
            config["num_layers"], 1000)  # fmt: skip
        width = whole("input_size", config.get("input_size", 1))
        flat = numbers(f"{what}: weights", held["weights"], 1)
        sizes = [
            4 * size * (size + (size if layer else width)) + 6 * size for layer in range(count)
        ]
        if sum(sizes) + size + 1 != len(flat):
            raise ConversionError(
                f"{what}: expected {sum(sizes) + size + 1} weights, got {len(flat)}; a model with "
                "more outputs, or damaged"
            )
        layers = []
        for layer, part in enumerate(np.split(flat, np.cumsum(sizes))[:count]):
            columns = size + (size if layer else width)
            matrix, rest = np.split(part, [4 * size * columns])
            both = matrix.reshape(4 * size, columns)
            bias, h, c = np.split(rest, [4 * size, 5 * size])
            layers.append([Direction(both[:, :-size], both[:, -size:], bias, initial=(h, c))])
        rnn = make_layer(what, Equations("lstm"), layers)
        model = plan.made(what, [rnn, plan.linear(what, flat[None, -size - 1 : -1], flat[-1:])])
    name = f"{what}: LSTM + Linear"
    if test is not None or not prove:
        return Converted(model, name, against_vectors(model, test, "prove=False"))
    return Converted(model, name, _nam_proof(model, width, size, count, flat))


def _nam_proof(model: Module, width: int, size: int, count: int, flat: np.ndarray) -> Proof:
    try:
        torch = import_module("torch")
        kind = import_module("nam.models.recurrent").LSTM
    except ImportError:
        return Proof(why="neural-amp-modeler is not installed, and there are no test vectors")
    theirs = kind(size, input_size=width, num_layers=count)
    theirs.import_weights(flat)
    theirs.eval()

    def run(x: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            y = theirs(torch.tensor(x.swapaxes(0, 1)), pad_start=False)
        return [y.numpy().T[..., None]]

    inputs = proof.trial_inputs(width, 0, False, model.dtype)
    return proof.prove(proof.outputs_of(model), run, f"nam {_version('nam')}", inputs, model)


def _version(package: str) -> str:
    return str(getattr(import_module(package), "__version__", ""))


def from_guitarml(source: Any, *, prove: bool = True) -> Converted:
    """Return the model of GuitarML's JSON: LSTM or GRU, a linear head, and the input added.

    x is (T, B, inputs); the first features are the samples, further ones are knobs.

    Parameters
    ----------
    source
        The path of a file, or its JSON as a dict.
    prove
        Whether to hold the layers against PyTorch.

    Raises
    ------
    ConversionError
        If the file is damaged, or of another model than SimpleRNN.
    """
    what = f"GuitarML file {source!r}" if isinstance(source, str) else "GuitarML"
    with reading(what):
        held = read_json(what, source)
        about, state = held["model_data"], held["state_dict"]
        kind = about["unit_type"]
        if about.get("model", "SimpleRNN") != "SimpleRNN" or kind not in ("LSTM", "GRU"):
            raise ConversionError(
                f"{what}: expected the model SimpleRNN of an LSTM or GRU, got "
                f"{about.get('model')!r:.50} of {kind!r:.50}"
            )
        skip = about["skip"]
        if type(skip) is not int or not 0 <= skip <= 1:
            raise ConversionError(f"{what}: expected skip 0 or 1, got {skip!r:.50}")
        arrays = {name: numbers(f"{what}: {name}", value, 2 if "weight" in name else 1)
                  for name, value in state.items()}  # fmt: skip
        inner = from_torch(arrays, ["rec", "lin"], prove=prove)
        rnn, head = inner.model._children.values()
        if type(rnn).__name__ != kind:
            raise ConversionError(f"{what}: expected the weights of a {kind}, got {rnn!r}")
        parts: list[Part] = [_fresh(rnn, what), plan.linear(what, *head.state_dict().values())]
        if skip:
            parts = [plan.Added(tuple(parts), skip)]
        model = plan.made(what, parts)
    notes = ("the input is added to the output",) if skip else ()
    return Converted(model, f"{what}: {kind} + Linear", inner.proof, notes)


def _fresh(rnn: Any, what: str) -> Part:
    # The layer once more, since a module is a part of one other at most.
    from rnncore.convert.saved import in_dtype

    return in_dtype(rnn, rnn.dtype)
