"""What a model computes each step, as the parts of a chain."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnncore.arguments import check_tokens
from rnncore.export import parts
from rnncore.export.cells import Layer, recurrent
from rnncore.export.chain import Chain, Flow
from rnncore.layers import Dropout, Embedding, Linear, Module, Recurrent, Sequential

Array = NDArray[Any]


class Reading(NamedTuple):
    """A model as an export sees it.

    Attributes
    ----------
    title
        What it is.
    reads, gives
        What goes in and comes out each step, in words.
    draw
        Returns inputs for some steps from a generator: (T, I) or tokens (T,).
    answer
        Returns what the model says of them step by step, (T, O).
    """

    title: str
    reads: str
    gives: str
    draw: Callable[[np.random.Generator, int], Array]
    answer: Callable[[Array], Array]


def read(model: Any, chain: Chain, tokens: bool) -> Reading:
    """Add the parts of a model to a chain; its weights take on their rounding.

    Raises
    ------
    TypeError, ValueError
        If it cannot be fed step by step, or what it computes is not known.
    """
    for _, part in model.named_modules():
        if getattr(part, "precision", "float32") not in ("float32", "float64"):
            raise ValueError(
                f"model: expected products of float32, as the C has, got {part.precision}; call "
                "model.set_precision('float32') first"
            )
    kind = getattr(model, "kind", None)
    if tokens and not isinstance(model, Recurrent):
        raise ValueError(
            f"tokens: expected False, as a {kind or type(model).__name__} knows what it reads, got "
            "True; it says that the inputs of a recurrent layer are tokens"
        )
    if kind == "language model":
        return _language(model, chain)
    if kind in ("sequence classifier", "sequence regressor"):
        return _sequences(model, chain)
    if kind is not None:
        raise ValueError(
            f"model: expected a language model, a sequence classifier, a sequence regressor or "
            f"layers, got a {kind}; that one does more each step than an export has C for. Export "
            "its recurrent layers and its head"
        )
    return _module(model, chain, tokens)


def _module(model: Any, chain: Chain, tokens: bool) -> Reading:
    _walk(model, chain, None, tokens)
    vocabulary, inputs = chain.vocabulary, chain.inputs
    title = " ".join(repr(model).split())

    def draw(rng: np.random.Generator, steps: int) -> Array:
        if vocabulary:
            return rng.integers(0, vocabulary, steps)
        return rng.standard_normal((steps, inputs)).astype(np.float32)

    def answer(x: Array) -> Array:
        if isinstance(model, Recurrent):
            found: Array = model.stream(tokens=tokens).process(x)
            return found
        return _said(model, x)

    reads = f"a token below {vocabulary}" if vocabulary else f"{inputs} numbers"
    return Reading(title, reads, f"{chain.outputs} numbers", draw, answer)


def _said(model: Module, x: Array) -> Array:
    # What it says after each step: of a last state, what it were if the sequence ended there.
    modules = [module for _, module in model.named_modules()]
    names = {type(module).__name__ for module in modules}
    first = any(module.batch_first for module in modules if isinstance(module, Recurrent))

    def said(steps: Array) -> Array:
        y: Any = model(steps[None] if first else steps[:, None])
        return np.asarray(y)[..., None] if "Squeeze" in names else np.asarray(y)

    if names & {"FinalState", "LastStep"}:
        return np.stack([said(x[: end + 1])[0] for end in range(len(x))])
    y = said(x)
    return y[0] if first else y[:, 0]


def _walk(module: Any, chain: Chain, x: Flow | None, tokens: bool = False) -> Flow:
    """Add a module and all of its parts; return what comes out."""
    # Modules of rnncore.convert go by their names: an export need not import it.
    names = {each.__name__ for each in type(module).__mro__}
    if isinstance(module, Recurrent):
        return _recurrent(module, chain, x, tokens)
    if isinstance(module, Linear):
        params = module._params
        return chain.add(
            "linear", parts.linear, params["weight"], params.get("bias"), chain.weights, x=x
        )
    if isinstance(module, Embedding):
        return chain.add(
            "embedding", parts.embedding, module.owner._params["weight"], chain.weights, x=x
        )
    if isinstance(module, Sequential):
        for part in module._children.values():
            if not isinstance(part, Dropout):  # which does nothing but in training
                x = _walk(part, chain, x)
    elif "FinalState" in names:
        return _recurrent(module.layer, chain, x)
    elif names & {"LastStep", "Squeeze"} and x is not None:
        return x
    elif "Activation" in names and x is not None:
        return chain.add("activation", parts.activation, module.name, x.size, x=x)
    elif "Skip" in names:
        y = _walk(module.inner, chain, x)
        before = Flow("in", chain.inputs) if x is None else x
        if y.size != module.count or before.size < y.size or (x is None and chain.vocabulary):
            raise ValueError(
                f"model: expected a skip of as many numbers as its part gives, {y.size}, got "
                f"{module.count} of {before.size}"
            )
        return chain.add("skip", parts.skip, y.size, x=y, and_also=before)
    else:
        raise TypeError(
            "model: expected an RNN, LSTM, GRU, Linear or Embedding, a Sequential of such, or a "
            f"fitted or loaded model, got {type(module).__name__}, which computes in Python what "
            "an export cannot see; put its layers into an rnncore.Sequential"
        )
    if x is None:
        raise ValueError("model: expected a layer with weights, got a Sequential without one")
    return x


def _recurrent(module: Any, chain: Chain, x: Flow | None, tokens: bool = False) -> Flow:
    if module.bidirectional or module.reverse:
        option = "bidirectional" if module.bidirectional else "reverse"
        raise ValueError(
            f"model: expected layers that read forward, got {option} ones, which begin at the end "
            f"of a sequence and cannot be fed step by step; train one with {option}=False"
        )
    stack = module._stack
    for number, direction in enumerate(stack.directions()):
        given = direction.params
        begin = {
            letter: module._params[f"initial_{letter}_l{number}"]
            for letter in direction.cell.states
            if module.learn_initial_state
        }
        layer = Layer(
            direction.cell.name, given.W_hx, given.W_hh, direction.bias(given), given.own,
            tokens and number == 0, stack.zoneout, begin,
        )  # fmt: skip
        kind = re.split(r"[^a-z]", layer.cell)[0]
        x = chain.add(kind, recurrent, chain.state, layer, chain.weights, x=x)
    assert x is not None
    return x


def _language(model: Any, chain: Chain) -> Reading:
    x = None if model.embedding is None else _walk(model.embedding, chain, None)
    x = _recurrent(model.rnn, chain, x, tokens=model.embedding is None)
    _walk(model.head, chain, x)
    vocabulary = model.vocabulary
    size = len(vocabulary)

    def answer(tokens: Array) -> Array:
        stream = model.stream()
        return np.stack([stream.step(int(token)) for token in tokens])

    return Reading(
        f"a language model of {size} {vocabulary.unit}, token by token",
        f"a token below {size} ({_symbols(vocabulary)})",
        f"the logits of the {size} tokens that may come next",
        lambda rng, steps: rng.integers(0, size, steps), answer,
    )  # fmt: skip


def _sequences(model: Any, chain: Chain) -> Reading:
    from rnncore.models.model import check_reads_forward

    check_reads_forward(model.settings)
    inputs, outputs, x = model.inputs, model.outputs, None
    if model.embedding is not None:
        x = _walk(model.embedding, chain, None)
        reads = f"a token below {inputs.size} ({_symbols(inputs.vocabulary)})"
    else:
        reads = f"{inputs.size} numbers as they are in the data"
        if inputs.mean.any() or (inputs.scale != 1).any():
            x = chain.add(
                "standardize", parts.standardize, inputs.mean, inputs.scale, chain.weights
            )
    x = _recurrent(model.rnn, chain, x)
    pooling = model.settings["pooling"]
    if pooling in ("mean", "max"):
        x = chain.add("pool", parts.pool, pooling, chain.state, x.size, x=x)
    x = _walk(model.head, chain, x)
    if model.kind == "sequence classifier":
        chain.add("activation", parts.activation, "softmax", x.size, x=x)
        gives = f"the probabilities of the classes {_listed(outputs.labels.tolist())}"
    else:
        gives = f"{outputs.size} numbers as they are in the data"
        if outputs.mean.any() or (outputs.scale != 1).any():
            chain.add("rescale", parts.rescale, outputs.mean, outputs.scale, chain.weights, x=x)

    def draw(rng: np.random.Generator, steps: int) -> Array:
        if model.embedding is not None:
            return rng.integers(0, inputs.size, steps)
        given = rng.standard_normal((steps, inputs.size)) * inputs.scale + inputs.mean
        return given.astype(np.float32)

    def answer(given: Array) -> Array:
        stream = model.stream()
        if model.embedding is None:
            said = stream.process(given)
        else:  # the tokens themselves, not what they stand for
            given = check_tokens("tokens", given, inputs.size)
            said = stream._said(stream._head(stream._pool(stream._rnn.process(given))))
        return np.asarray(said).reshape(len(given), -1)

    return Reading(
        f"a {model.kind}, which says each step what it makes of all so far", reads, gives, draw,
        answer,
    )  # fmt: skip


def _symbols(vocabulary: Any) -> str:
    size = len(vocabulary)
    if size > 256:
        return "numbered by the vocabulary of the model's file"
    return "in this order: " + _listed([vocabulary.decode([token]) for token in range(size)])


def _listed(values: list[Any]) -> str:
    one = [value[0] if isinstance(value, list) else value for value in values]
    return ", ".join(json.dumps(value, default=str) for value in one)


def takes(model: Any) -> Any:
    """Return the network of an estimator; anything else is what it is.

    Raises
    ------
    TypeError
        If it is no model at all.
    """
    found = model._network() if hasattr(model, "_network") else model
    if not isinstance(found, Module):
        raise TypeError(
            "model: expected a layer, an rnncore.Sequential, a network or a fitted estimator, got "
            f"{type(model).__name__}"
        )
    return found
