"""Look at a model while it learns from one batch; nothing of it changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rnncore.diagnostics.diagnosis import Diagnosis, LayerDiagnosis
from rnncore.diagnostics.measures import growth_per_step, mean_norms, norms_of, saturation
from rnncore.diagnostics.weights import recurrent_weights, singular_values, spectral_radii
from rnncore.layers.module import Module
from rnncore.layers.recurrent import Recurrent
from rnncore.layers.tape import Tape, Value
from rnncore.layers.watching import Seen, watch_backward
from rnncore.models.model import Model


def diagnose(model: Model, *batch: Any) -> Diagnosis:
    """Look at the recurrent layers of a model while it takes the gradients of a batch.

    Two training passes run, with the same dropout: one of the loss, one of what it asks of each
    layer's last step alone. Gradients and random generators are afterwards what they were.

    Parameters
    ----------
    model
        A network of `rnncore.models`, as an estimator has it in `network_`.
    batch
        What its `forward` takes before the state, as a source's `batch` returns it.

    Raises
    ------
    ValueError
        If no recurrent layer took part.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> X, y = np.random.default_rng(0).standard_normal((64, 30, 2)), np.arange(64.0)
    >>> model = rnncore.SequenceRegressor(cell="rnn", directions="forward", epochs=1).fit(X, y)
    >>> network = model.network_
    >>> x = np.ascontiguousarray(X.swapaxes(0, 1), np.float32)
    >>> found = diagnose(network, x, np.full(64, 30), np.zeros((64, 1), np.float32))
    >>> found["rnn.l0"].gradients["h"].shape, found["rnn.l0"].gradient_growth < 1
    ((30,), True)
    """

    def step() -> float:
        loss, _ = model.forward(*batch, None)
        model.backward()
        return float(loss)

    return _look(model, step)


def diagnose_loss(module: Module, loss: Callable[[], Value]) -> Diagnosis:
    """Look at the recurrent layers of a module of your own; see `diagnose`.

    Parameters
    ----------
    module
    loss
        Called twice, with a tape open: returns the loss, a value.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> rnn, x = rnncore.LSTM(3, 8, seed=0), np.ones((40, 2, 3), np.float32)
    >>> found = diagnose_loss(rnn, lambda: rnncore.mse_loss(rnn(x)[0], np.ones((40, 2, 8))))
    >>> sorted(found["l0"].reach), found.warnings()[0][:28]
    (['c', 'h'], 'l0: vanishing gradient: it h')
    """

    def step() -> float:
        with Tape(module) as tape:
            value = loss()
        tape.backward(value)
        return float(value)

    return _look(module, step)


def _look(module: Module, step: Callable[[], float]) -> Diagnosis:
    before = module.flat_grads.copy()
    generators = _generators(module)
    states = [one.bit_generator.state for one in generators]
    passes: list[list[Seen]] = []
    loss = math.nan
    try:
        for last_alone in (False, True):
            for one, state in zip(generators, states, strict=True):
                one.bit_generator.state = state
            with watch_backward(last_alone) as seen:
                loss = step()
            passes.append(seen[::-1])
    finally:
        module.flat_grads[...] = before
        for one, state in zip(generators, states, strict=True):
            one.bit_generator.state = state
    if not passes[0]:
        raise ValueError(
            "model: expected recurrent layers that take part in the loss, got none; look at a "
            "model that has an RNN, LSTM or GRU"
        )
    names = _names(module, [seen.layer for seen in passes[0]])
    found: list[LayerDiagnosis] = []
    for name, whole, last in zip(names, *passes, strict=True):
        found += _of_layer(name, whole, last)
    return Diagnosis(tuple(found), loss)


def _generators(module: Module) -> list[np.random.Generator]:
    found: dict[int, np.random.Generator] = {}
    for _, part in [("", module), *module.named_modules()]:
        for owner in (part, getattr(part, "_dropout", None)):
            one = getattr(owner, "generator", None)
            if isinstance(one, np.random.Generator):
                found[id(one)] = one
    return list(found.values())


def _names(module: Module, layers: list[Recurrent]) -> list[str]:
    # A layer that ran several times is counted: "rnn", "rnn#2".
    known = {id(part): name for name, part in module.named_modules()}
    names: list[str] = []
    for layer in layers:
        name = known.get(id(layer), type(layer).__name__.lower())
        count = 1 + sum(one.partition("#")[0] == name for one in names)
        names.append(name if count == 1 else f"{name}#{count}")
    return names


def _of_layer(name: str, whole: Seen, last: Seen) -> list[LayerDiagnosis]:
    layer, lengths, found = whole.layer, whole.lengths, []
    cell = layer._stack.cell.name
    running = lengths[lengths > 0]
    parts = zip(
        recurrent_weights(layer), whole.states, whole.gradients, last.gradients, strict=True
    )
    for (end, weights), states, gradients, reach in parts:
        norms = {key: norms_of(states[key]) for key in layer._stack.cell.states}
        reaching = {key: norms_of(array) for key, array in reach.items()}
        together = np.sqrt(sum(np.square(one) for one in reaching.values()))
        forward = growth_per_step(norms["h"], lengths)
        onward = growth_per_step(together, lengths)
        is_reverse = end.endswith("_reverse")
        found.append(
            LayerDiagnosis(
                name=f"{name}.{end}" if name else end,
                cell=cell,
                steps=float(running.mean()) if running.size else 0.0,
                norms={key: mean_norms(one, lengths) for key, one in norms.items()},
                gradients={
                    key: mean_norms(norms_of(array), lengths) for key, array in gradients.items()
                },
                reach={key: mean_norms(one, lengths) for key, one in reaching.items()},
                growth=1 / forward if is_reverse else forward,
                gradient_growth=onward if is_reverse else 1 / onward,
                saturation=saturation(cell, states, lengths),
                spectral_radius=spectral_radii(weights),
                singular_value=singular_values(weights),
            )
        )
    return found
