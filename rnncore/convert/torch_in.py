"""From PyTorch: modules, state dicts, and files that hold them."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnncore import layers
from rnncore.convert import heads, plan, proof
from rnncore.convert.equations import Equations
from rnncore.convert.errors import ConversionError, needed, reading
from rnncore.convert.plan import Part
from rnncore.convert.proof import Converted, Proof
from rnncore.convert.saved import in_dtype
from rnncore.convert.weights import Direction, kind_of_shapes, make_layer
from rnncore.layers.module import Module

State = Mapping[str, Any]

NAME = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d{1,4}))?(_reverse)?$")
RECURRENT = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn",
             "LSTMCell": "lstm", "GRUCell": "gru", "RNNCell": "rnn"}  # fmt: skip
NOTHING = ("Dropout", "Identity")  # in inference
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def from_torch(
    source: Any,
    prefix: str | Sequence[str] | None = None,
    *,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    prove: bool = True,
) -> Converted:
    """Return the rnncore model of a PyTorch module, state dict or file.

    Sizes, layers and directions are inferred from the weights.

    Parameters
    ----------
    source
        A `torch.nn` LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell, Linear, Embedding, or Sequential of
        such and of activations; any module or state dict with such a part, which `prefix` names; or
        the path of a file: safetensors, or what `torch.save(module.state_dict(), path)` wrote, read
        with `weights_only=True`. float16 and bfloat16 become float32.
    prefix
        Where the part is: "rec." of `rec.weight_ih_l0`. Several make a `Sequential` in the order
        given. None: the whole.
    nonlinearity
        Of an RNN in a state dict, which does not say it: "tanh" or "relu".
    batch_first
        Whether x is (B, T, features); None: as the module has it, else False.
    prove
        Whether to hold the result against PyTorch, in float64. Without PyTorch it is unproven.

    Raises
    ------
    ConversionError
        If the source is damaged, leaves something open, or has equations that rnncore has not.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> from rnncore import convert
    >>> state = {f"rec.{k}": v for k, v in rnncore.GRU(3, 5, seed=0).state_dict().items()}
    >>> convert.from_torch(state, prefix="rec.", prove=False).model
    GRU(3, 5; 150 parameters)
    """
    read = _Reader(nonlinearity, batch_first)
    what = "PyTorch"
    if isinstance(source, str | os.PathLike):
        what = f"PyTorch file {os.fspath(source)!r}"
        source = read_file(Path(source))
    prefixes: list[str] = [prefix] if isinstance(prefix, str) else list(prefix or [""])
    if isinstance(source, Mapping):
        dotted = [_dotted(one, source) for one in prefixes]
        after = [_width(source, one) for one in dotted[1:]] + [0]
        found = [
            read.from_state(source, one, bool(place), width)
            for place, (one, width) in enumerate(zip(dotted, after, strict=True))
        ]
    elif hasattr(source, "named_modules"):
        found = [read.from_module(_submodule(source, one)) for one in prefixes]
    else:
        raise ConversionError(
            "source: expected a PyTorch module, a state dict, or the path of a file, got "
            f"{type(source).__name__}"
        )
    model = plan.made(what, [part for parts in found for part in parts])
    names = " + ".join(name for name, _, _ in read.theirs)
    return Converted(model, f"{what}: {names}", _proof(model, read, prove), tuple(read.notes))


class _Reader:
    """Reads parts one after another, and keeps of each how PyTorch would run it."""

    def __init__(self, nonlinearity: str | None, batch_first: bool | None) -> None:
        self.nonlinearity, self.batch_first = nonlinearity, batch_first
        self.notes: list[str] = []
        self.theirs: list[tuple[str, dict[str, Any], dict[str, np.ndarray]]] = []

    def from_module(self, module: Any) -> list[Part]:
        """Convert a module of `torch.nn`, or a Sequential of them."""
        name = type(module).__name__
        if not type(module).__module__.startswith("torch.nn.modules."):
            name = f"{name} of {type(module).__module__}"  # whose code may do anything
        if name == "Sequential":
            inner = [self.from_module(one) for one in module if type(one).__name__ not in NOTHING]
            return [part for parts in inner for part in parts]
        if name == "Softmax":
            if module.dim not in (-1, 2):
                raise ConversionError(f"Softmax: expected dim=-1, got {module.dim}")
            self.theirs.append((name, {"dim": -1}, {}))
            return [plan.activation("softmax")]
        if name in heads.MODULES:
            text, options = heads.of_module(module)
            self.theirs.append((name, options, {}))
            return [plan.activation(text)]
        state = {key: to_numpy(key, value) for key, value in module.state_dict().items()}
        if name in RECURRENT:
            before = self.nonlinearity, self.batch_first
            self.nonlinearity = getattr(module, "nonlinearity", None)
            if before[1] is None:
                self.batch_first = getattr(module, "batch_first", False)
            if getattr(module, "dropout", 0):
                self.notes.append(f"dropout={module.dropout} between layers is left out")
            layer = self.from_state(state, "")
            self.nonlinearity, self.batch_first = before
            return layer
        if name == "Linear":
            return [self._linear(state)]
        if name == "Embedding":
            if module.max_norm is not None:
                raise ConversionError(
                    f"Embedding: expected max_norm=None, got {module.max_norm}, by which PyTorch "
                    "scales vectors when it runs; set it to None, and scale the weight"
                )
            return [self._embedding(state)]
        known = [path for path, one in module.named_modules()
                 if path and type(one).__name__ in RECURRENT]  # fmt: skip
        raise ConversionError(
            f"source: expected a recurrent module of torch.nn, or a Sequential, got {name}; "
            + (f"say which part by prefix: {', '.join(map(repr, known))}" if known else
               "it has no recurrent part")
        )  # fmt: skip

    def from_state(
        self, state: State, prefix: str, follows: bool = False, width: int = 0
    ) -> list[Part]:
        """Convert the part of a state dict whose names begin like that.

        `follows` is whether there is a part before it, `width` what the one after it takes. They
        tell a table of vectors from a linear layer without a bias.
        """
        own = {str(key)[len(prefix) :]: value for key, value in state.items()
               if str(key).startswith(prefix)}  # fmt: skip
        if not any(NAME.match(key) for key in own):
            flat = {key: value for key, value in own.items() if "." not in key}
            if set(flat) == {"weight", "bias"}:
                return [self._linear({k: to_numpy(k, value) for k, value in flat.items()})]
            if set(flat) == {"weight"} and np.ndim(flat["weight"]) == 2:
                return [self._table_or_linear(to_numpy("weight", flat["weight"]), follows, width)]
            _ask_for_prefix(state, prefix)
        arrays = {key: to_numpy(key, value) for key, value in own.items()}
        return [self._recurrent(arrays, prefix)]

    def _recurrent(self, arrays: dict[str, np.ndarray], prefix: str) -> Module:
        what = f"state dict {prefix!r}" if prefix else "state dict"
        found: dict[tuple[int, bool], dict[str, np.ndarray]] = {}
        unknown = []
        for key, array in arrays.items():
            match = NAME.match(key)
            if match is None:
                unknown.append(key)
                continue
            name, layer, reverse = match.groups()
            if name == "weight_hr":
                raise ConversionError(
                    f"{what}: expected an LSTM without projection, got weight_hr (proj_size); "
                    "rnncore's LSTM has no projection of h"
                )
            found.setdefault((int(layer or 0), bool(reverse)), {})[name] = array
        if unknown:
            raise ConversionError(
                f"{what}: expected the weights of one recurrent layer, got {unknown[:5]} as well; "
                "name the part by prefix, and take parametrizations off before"
            )
        count = 1 + max(layer for layer, _ in found)
        both = any(reverse for _, reverse in found)
        ways = (False, True)[: 1 + both]
        wanted = [(layer, reverse) for layer in range(count) for reverse in ways]
        biases = any("bias_ih" in one for one in found.values())
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if biases else [])]
        for place in wanted:
            if sorted(found.get(place, {})) != sorted(names):
                raise ConversionError(
                    f"{what}: expected {', '.join(names)} of layer {place[0]}"
                    f"{', reverse' * place[1]}, got {sorted(found.get(place, {})) or 'nothing'}"
                )
        kind = kind_of_shapes(what, found[0, False]["weight_ih"], found[0, False]["weight_hh"])
        directions = [
            [_direction(found[layer, reverse]) for reverse in ways] for layer in range(count)
        ]
        layer = make_layer(
            what, Equations(kind, self._activations(kind, what)), directions,
            bool(self.batch_first), two_biases=biases,
        )  # fmt: skip
        options: dict[str, Any] = {
            "input_size": layer.input_size, "hidden_size": layer.hidden_size, "num_layers": count,
            "bias": biases, "batch_first": bool(self.batch_first), "bidirectional": both,
        }  # fmt: skip
        if kind == "rnn":
            options["nonlinearity"] = self.nonlinearity
        as_given = {
            f"{name}_l{number}{'_reverse' * reverse}": array
            for (number, reverse), given in found.items()
            for name, array in given.items()
        }
        self.theirs.append((kind.upper(), options, as_given))
        return layer

    def _activations(self, kind: str, what: str) -> tuple[str, ...]:
        if kind != "rnn":
            return ()
        if self.nonlinearity not in ("tanh", "relu"):
            raise ConversionError(
                f'nonlinearity: expected "tanh" or "relu", which the RNN of a {what} does not say, '
                f"got {self.nonlinearity!r}"
            )
        return (self.nonlinearity,)

    def _linear(self, state: dict[str, np.ndarray]) -> Part:
        layer = plan.linear("Linear", state.get("weight"), state.get("bias"))
        out, size = state["weight"].shape
        options = {"in_features": size, "out_features": out, "bias": "bias" in state}
        self.theirs.append(("Linear", options, state))
        return layer

    def _table_or_linear(self, weight: np.ndarray, follows: bool, width: int) -> Part:
        table, linear = not follows and weight.shape[1] == width, follows or len(weight) == width
        if table == linear:
            raise ConversionError(
                f"weight {weight.shape}: expected a layer that says what it is, got a weight "
                "alone, which may be an Embedding or a Linear without bias; give the module, or "
                "name the part that follows by a further prefix"
            )
        return self._embedding({"weight": weight}) if table else self._linear({"weight": weight})

    def _embedding(self, state: dict[str, np.ndarray]) -> Part:
        table = plan.embedding("Embedding", state["weight"])
        count, size = state["weight"].shape
        options = {"num_embeddings": count, "embedding_dim": size}
        self.theirs.append(("Embedding", options, state))
        return table


def _direction(arrays: dict[str, np.ndarray]) -> Direction:
    return Direction(arrays["weight_ih"], arrays["weight_hh"], arrays.get("bias_ih"),
                     arrays.get("bias_hh"))  # fmt: skip


def _submodule(module: Any, prefix: str) -> Any:
    path = prefix.rstrip(".")
    try:
        return module.get_submodule(path) if path else module
    except (AttributeError, RuntimeError):
        names = [name for name, _ in module.named_modules() if name]
        raise ConversionError(
            f"prefix: expected a part of {type(module).__name__}, one of {names[:20]}, got "
            f"{prefix!r}"
        ) from None


def _dotted(prefix: str, state: State) -> str:
    whole = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
    if whole and not any(str(key).startswith(whole) for key in state):
        _ask_for_prefix(state, prefix)
    return whole


def _width(state: State, prefix: str) -> int:
    # The features that the part of this name takes; 0 where it does not say.
    for name in ("weight_ih_l0", "weight_ih", "weight"):
        if f"{prefix}{name}" in state:
            return int(np.shape(state[f"{prefix}{name}"])[-1])
    return 0


def _ask_for_prefix(state: State, prefix: str) -> None:
    known = sorted({str(key)[: -len("weight_ih") - (len(match[0]) - len("weight_ih"))]
                    for key in state if (match := NAME.search(str(key)))})  # fmt: skip
    raise ConversionError(
        f"prefix: expected the name before weight_ih_l0, one of {known or list(state)[:10]}, got "
        f"{prefix!r}"
    )


def to_numpy(name: str, value: Any) -> np.ndarray:
    """Return a tensor of PyTorch, or what NumPy reads, as an array; half precision as float32."""
    if hasattr(value, "detach"):
        if value.device.type == "meta":
            raise ConversionError(f"{name}: expected numbers, got a tensor of device 'meta'")
        value = value.detach().cpu()
        if str(value.dtype) in ("torch.float16", "torch.bfloat16"):
            value = value.float()
        if value.is_quantized or value.is_sparse:
            raise ConversionError(f"{name}: expected a dense tensor of numbers, got {value.dtype}")
        return np.asarray(value.numpy())
    return np.asarray(value)


def read_file(path: Path) -> State:
    """Return the state dict in a file: safetensors, or of `torch.save`. No code in it is run."""
    with open(path, "rb") as file:
        start = file.read(9)
    if path.suffix == ".safetensors" or (len(start) == 9 and start[8:] == b"{"):
        return read_safetensors(path)
    torch = needed("torch", "rnncore[convert]", f"to read {path.name!r}")
    import pickle

    what = f"PyTorch file {str(path)!r}"
    with reading(what):
        if zipfile.is_zipfile(path) and any("/code/" in one for one in _names_in(path)):
            raise ConversionError(
                f"{what}: expected a state dict, got TorchScript, whose code is not run; give "
                "torch.jit.load(path).state_dict(), or save that"
            )
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # its words are about switching the check off
            raise ConversionError(
                f"{what}: expected a state dict, but it holds objects, whose code is not run, or "
                "is damaged or of another format; save module.state_dict()"
            ) from None
    if not isinstance(found, Mapping):
        raise ConversionError(
            f"PyTorch file {str(path)!r}: expected a state dict, got {type(found).__name__}; save "
            "module.state_dict()"
        )
    inner = [key for key, value in found.items() if isinstance(value, Mapping) and any(
        hasattr(one, "detach") for one in value.values())]  # fmt: skip
    if len(inner) == 1 and not any(hasattr(value, "detach") for value in found.values()):
        found = found[inner[0]]  # a checkpoint: {"state_dict": ..., "epoch": ...}
    return {str(key): value for key, value in found.items() if hasattr(value, "detach")}


def _names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return the floating-point tensors of a safetensors file; bfloat16 as float32."""
    from safetensors import SafetensorError, deserialize

    state = {}
    with reading(f"safetensors file {str(path)!r}", (SafetensorError,)):
        for name, about in deserialize(path.read_bytes()):
            kind, data = about["dtype"], about["data"]
            if kind == "BF16":
                array = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
            elif kind in FLOATS:
                array = np.frombuffer(data, FLOATS[kind])
            else:
                continue
            state[name] = array.reshape(about["shape"])
    return state


def _proof(model: Module, read: _Reader, wanted: bool) -> Proof:
    if not wanted:
        return Proof(why="prove=False")
    try:
        import torch
    except ImportError:
        return Proof(why="torch is not installed")
    modules = []
    for name, options, state in read.theirs:
        module = getattr(torch.nn, name)(**options).double().eval()
        module.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        modules.append(module)

    def theirs(x: np.ndarray) -> list[np.ndarray]:
        result: Any = torch.tensor(x)
        with torch.no_grad():
            for module in modules:
                result = module(result[0] if isinstance(result, tuple) else result)
        return list(_flat(result if isinstance(model, layers.Recurrent) or not isinstance(
            result, tuple) else result[0]))  # fmt: skip

    _, options, _ = read.theirs[0]
    features = options.get("input_size", options.get("in_features", 1))
    vocabulary = options.get("num_embeddings", 0)
    inputs = proof.trial_inputs(features, vocabulary, bool(read.batch_first), np.dtype(np.float64))
    against = f"torch {torch.__version__} in float64"
    ours = proof.outputs_of(in_dtype(model, np.float64))
    return proof.prove(ours, theirs, against, inputs, model)


def _flat(result: Any) -> Iterator[np.ndarray]:
    if isinstance(result, tuple):
        for one in result:
            yield from _flat(one)
    else:
        yield result.numpy()
