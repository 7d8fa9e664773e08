"""RTNeural's JSON, in and out.

Weights as Keras has them: of a layer the kernel (I, gates H), the recurrent kernel (H, gates H) and
the bias, (4 H,) of an LSTM in the order i, f, g, o, (2, 3 H) of a GRU in the order z, r, n, whose
reset gate comes after the product; of a dense layer the kernel (in, out) and the bias. Source:
RTNeural, python/model_utils.py and RTNeural/model_loader.h.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from rnncore import files, layers
from rnncore.convert import plan
from rnncore.convert.equations import KINDS, Equations
from rnncore.convert.errors import ConversionError, reading
from rnncore.convert.json_file import numbers, read_json
from rnncore.convert.parts import ACTIVATIONS, Activation
from rnncore.convert.plan import Part
from rnncore.convert.proof import Converted, against_vectors
from rnncore.convert.weights import ORDERS, Direction, in_order, make_layer, reordered
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent


def from_rtneural(source: Any, *, test: Any = None) -> Converted:
    """Return the model of RTNeural's JSON: dense, GRU and LSTM layers and activations.

    x is (T, B, inputs). No engine of RTNeural runs in Python: without `test` it is unproven.

    Parameters
    ----------
    source
        The path of a file, or its JSON as a dict.
    test
        x and the y that was computed of it: arrays, or paths of .csv or .npy files.

    Raises
    ------
    ConversionError
        If the file is damaged, or has layers of another kind.
    """
    what = f"RTNeural file {source!r}" if isinstance(source, str) else "RTNeural"
    parts: list[Part] = []
    kinds = []
    with reading(what):
        held = read_json(what, source)
        width = held["in_shape"][-1]
        for number, layer in enumerate(held["layers"]):
            here, kind = f"{what}: layer {number}", layer["type"]
            kinds.append(str(kind)[:30])
            given = layer.get("weights", [])
            if kind in ("dense", "time-distributed-dense"):
                arrays = numbers(here, given[0], 2).T, numbers(here, given[1], 1)
                parts.append(dense := plan.linear(here, *arrays))
                takes, gives = dense.in_features, dense.out_features
            elif kind in ("lstm", "gru"):
                parts.append(rnn := _recurrent(here, kind, given))
                takes, gives = rnn.input_size, rnn._layer_sizes[0]
            elif kind == "activation":
                takes = gives = width
            else:
                raise ConversionError(f"{here}: expected dense, gru, lstm, got {kind!r:.50}")
            name = layer.get("activation", "")
            if name and kind not in ("lstm", "gru"):  # RTNeural's own are fixed
                if name not in (*ACTIVATIONS, "elu"):
                    raise ConversionError(f"{here}: expected a known activation, got {name!r:.50}")
                parts.append(plan.activation(name))
            elif name not in ("", "tanh"):
                raise ConversionError(f"{here}: expected the activation tanh, got {name!r:.50}")
            if takes != width:
                raise ConversionError(f"{here}: expected {width!r:.50} inputs, got {takes}")
            width = gives
            if layer["shape"][-1] != width:
                raise ConversionError(
                    f"{here}: expected {layer['shape'][-1]!r:.50} outputs as its shape says, got "
                    f"{width}"
                )
        model = plan.made(what, parts)
    why = "RTNeural is no Python package, and its files hold no test vectors"
    proof = against_vectors(model, test, why)
    return Converted(model, f"{what}: {' + '.join(kinds)}", proof)


def _recurrent(what: str, kind: str, given: list[Any]) -> Recurrent:
    W, R = (numbers(what, one, 2).T for one in given[:2])
    order = ORDERS["keras"][kind]
    bias = numbers(what, given[2], 2 if kind == "gru" else 1)
    pair = list(bias) if kind == "gru" else [bias]
    weight, recurrent, first, *second = (reordered(one, order, kind) for one in (W, R, *pair))
    both = Direction(weight, recurrent, first, second[0] if second else None)
    return make_layer(what, Equations(kind), [[both]])


def to_rtneural(model: Module) -> dict[str, Any]:
    """Return RTNeural's JSON of a layer or `Sequential`; each float32 comes back to the bit.

    Parameters
    ----------
    model
        LSTM and GRU in one direction, Linear, and activations.

    Raises
    ------
    ConversionError
        If RTNeural has no such layer.

    Examples
    --------
    >>> import rnncore
    >>> from rnncore import convert
    >>> about = convert.to_rtneural(rnncore.Sequential(rnncore.GRU(1, 8), rnncore.Linear(8, 1)))
    >>> about["in_shape"], [layer["type"] for layer in about["layers"]]
    ([None, None, 1], ['gru', 'dense'])
    """
    written: list[dict[str, Any]] = []
    parts = list(model._children.values()) if type(model) is layers.Sequential else [model]
    for part in parts:
        if isinstance(part, layers.Recurrent):
            written += _write_recurrent(part)
        elif type(part) is layers.Linear:
            weight, *bias = part.state_dict().values()
            bias = bias or [np.zeros(len(weight), weight.dtype)]
            written.append(_layer("dense", len(weight), [weight.T, *bias]))
        elif isinstance(part, Activation) and written and part.name in (*ACTIVATIONS, "elu"):
            size = written[-1]["shape"][-1]
            written.append({**_layer("activation", size, []), "activation": part.name})
        else:
            raise ConversionError(f"model: expected what RTNeural has, got {part!r}")
    first = parts[0]
    width = getattr(first, "input_size", getattr(first, "in_features", 0))
    return {"in_shape": [None, None, width], "layers": written}


def _layer(kind: str, size: int, arrays: list[np.ndarray]) -> dict[str, Any]:
    weights = [array.tolist() for array in arrays]
    return {"type": kind, "activation": "", "shape": [None, None, size], "weights": weights}


def _write_recurrent(layer: layers.Recurrent) -> list[dict[str, Any]]:
    kind = KINDS.get(type(layer))
    before, forward = not getattr(layer, "reset_after", True), not layer.reverse
    more = [layer.bidirectional, layer.learn_initial_state, layer.zoneout, before]
    if kind not in ("lstm", "gru") or not forward or any(more):
        raise ConversionError(
            f"model: expected an LSTM or GRU in one direction that begins at zero, got {layer!r}"
        )
    state, order, written = layer.state_dict(), ORDERS["keras"][kind], []
    for number, size in enumerate(layer._layer_sizes):
        end = f"_l{number}"
        arrays = [in_order(state[name + end], order, kind).T for name in ("weight_ih", "weight_hh")]
        zero = np.zeros(len(state[f"weight_ih{end}"]), layer.dtype)
        pair = [in_order(state.get(name + end, zero), order, kind)
                for name in ("bias_ih", "bias_hh")]  # fmt: skip
        arrays.append(np.stack(pair) if kind == "gru" else pair[0] + pair[1])
        written.append(_layer(kind, size, arrays))
    return written


def write_rtneural(path: str | os.PathLike[str], model: Module) -> None:
    """Write the JSON of `to_rtneural`, as a whole or not at all."""
    files.write_whole(path, json.dumps(to_rtneural(model)).encode())
