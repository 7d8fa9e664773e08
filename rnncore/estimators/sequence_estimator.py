"""What classifier and regressor of sequences share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnncore.data.inputs import Numbers, inputs_of
from rnncore.data.labelled import LabelledExamples
from rnncore.data.outputs import by_step, plain_labels
from rnncore.data.ragged import Ragged
from rnncore.data.sequence_source import SequenceSource
from rnncore.data.sequences import numbers_of, sequences_of
from rnncore.estimators.by_length import by_length
from rnncore.estimators.estimator import Estimator
from rnncore.models.sequence_network import NetworkSettings, SequenceBatch, SequenceNetwork
from rnncore.training import Callback


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class SequenceEstimator(Estimator):
    """Reads sequences of numbers or symbols, and learns what belongs to them.

    Parameters
    ----------
    hidden_size, num_layers, cell, directions, embedding_size, dropout, dtype, precision
        See `SequenceNetwork`.
    pooling
        What a sequence is judged by: its "last" states, the "mean" or the "max" of all; "none":
        every step is judged by itself, and has a target of its own.
    standardize
        Whether numbers are brought to mean 0 and deviation 1, as the training's are.
    initialize
        How parameters begin, by patterns of their names, as `Module.initialize` takes it; None: as
        PyTorch's. Recurrent layers of ``cell="rnn_relu"`` with ``{"rnn.weight_hh*": "identity",
        "rnn.bias*": "zeros"}`` are those of Le, Jaitly and Hinton, A simple way to initialize
        recurrent networks of rectified linear units, 2015.
    """

    hidden_size: int = 64
    num_layers: int = 1
    cell: str = "lstm"
    directions: str = "both"
    pooling: str = "last"
    embedding_size: int = 32
    dropout: float = 0.0
    standardize: bool = True
    dtype: str = "float32"
    precision: str | None = None
    initialize: Mapping[str, Any] | None = None
    learning_rate: float = 5e-3

    def fit(
        self,
        X: Any,
        y: Any,
        validation: tuple[Any, Any] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn from sequences and what belongs to them.

        Parameters
        ----------
        X
            Sequences of numbers: a list of arrays (T, features), (T,) for one feature, or paths of
            ``.npy`` files or of text files with commas; an array (N, T, features) or (N, T); a
            DataFrame of pandas with two levels of index, sequence and step. Or sequences of
            symbols: a list of texts, or of lists of words.
        y
            What belongs to each sequence, in the same order; with ``pooling="none"`` a list of
            arrays, a target a step.
        validation
            Other sequences and targets, ``(X, y)``, that are measured on the way.
        callbacks
            Told of steps and validations; see `rnncore.training.Callback`.

        Raises
        ------
        TypeError, ValueError
            If X and y are not alike, something is no finite number, or a parameter is out of its
            range.
        KeyboardInterrupt
            After Ctrl-C, when the step is done; what was learned so far is kept.
        """
        settings = self._settings(NetworkSettings)
        sequences = self._sequences("X", X)
        if y is None:
            raise ValueError("y: requires y to be passed, but the target y is None")
        targets = every = self._targets(y, sequences)
        held_out = None
        if validation is not None:
            others = self._sequences("validation", validation[0])
            held_out = others, self._targets(validation[1], others)
        elif self.validation_fraction:
            kept, out = self._hold_out(len(sequences))
            held_out = [sequences[k] for k in out], _some(targets, out)
            sequences, targets = [sequences[k] for k in kept], _some(targets, kept)
        inputs = inputs_of("X", sequences, self.standardize)
        outputs = self._outputs_of(self._stacked(targets), self._stacked(every))
        network_class: type[SequenceNetwork] = self.network_class  # type: ignore[assignment]
        network = network_class(inputs, outputs, settings, seed=self._seed)
        if self.initialize is not None:
            network.initialize(self.initialize, seed=self._seed)
        self._prepare(network, self._stacked(targets))
        examples = self._examples(network, "X", sequences, targets)
        source = SequenceSource(
            examples, batch_size=self.batch_size, order=self._seed,
            held_out=None if held_out is None else self._examples(network, "validation", *held_out),
        )  # fmt: skip
        self._train(network, source, callbacks)
        return self

    @classmethod
    def of_network(cls, network: Any) -> Self:
        """Return a fitted estimator with this network."""
        estimator = super().of_network(network)
        if isinstance(network.inputs, Numbers):
            estimator.standardize = network.inputs.standardize
        return estimator

    def batch(self, X: Any, y: Any) -> tuple[NDArray[Any], ...]:
        """Return all of X and y as one batch, as the fitted network's `forward` takes it.

        So `rnncore.diagnostics.diagnose(model.network_, *model.batch(X, y))` looks inside.
        """
        network, sequences = self._network(), self._sequences("X", X)
        examples = self._examples(network, "X", sequences, self._targets(y, sequences))
        return examples.batch(np.arange(len(sequences)))

    def _sequences(self, name: str, X: Any) -> list[Any]:
        sequences = sequences_of(name, X)
        # Whether there is a target for each step is seen when files have been read.
        if self.pooling == "none" and any(isinstance(one, os.PathLike) for one in sequences):
            return list(numbers_of(name, sequences, np.float64))
        return sequences

    def _targets(self, y: Any, sequences: list[Any]) -> Any:
        # An array (N, ...), or with no pooling a list of arrays.
        if self.pooling == "none":
            return by_step(sequences_of("y", y), sequences)
        array = plain_labels(y)
        if not array.ndim or len(array) != len(sequences):
            raise ValueError(
                f"y: expected one target for each of {len(sequences)} sequences, got shape "
                f"{array.shape}; X and y have inconsistent numbers of samples"
            )
        return array

    def _stacked(self, targets: Any) -> NDArray[Any]:
        return np.concatenate(targets) if self.pooling == "none" else np.asarray(targets)

    def _examples(
        self, network: SequenceNetwork, name: str, sequences: list[Any], targets: Any
    ) -> LabelledExamples:
        encoded = network.outputs.encode(self._stacked(targets))
        if encoded.dtype.kind == "f":
            encoded = encoded.astype(network.dtype)
        if self.pooling == "none":
            encoded = Ragged(encoded, [len(one) for one in targets])
        return LabelledExamples(network.inputs.encode(name, sequences, network.dtype), encoded)

    def _outputs_of(self, y: NDArray[Any], every: NDArray[Any]) -> Any:
        """Return what targets to train on are to a network; `every` has those held out as well."""
        raise NotImplementedError

    def _prepare(self, network: Any, y: NDArray[Any]) -> None:
        """Give the network what it needs to know of the targets."""

    def _predicted(self, X: Any, what: str) -> list[NDArray[Any]]:
        """Return what a method of the network says of each sequence."""
        network = self._network()
        x = network.inputs.encode("X", sequences_of("X", X), network.dtype)

        def predict(indices: NDArray[np.intp]) -> NDArray[Any]:
            found: NDArray[Any] = getattr(network, what)(SequenceBatch(*x.take(indices).padded()))
            return found

        return by_length(x.lengths, predict, network.settings["pooling"] == "none")


def _some(targets: Any, chosen: NDArray[np.intp]) -> Any:
    return targets[chosen] if isinstance(targets, np.ndarray) else [targets[k] for k in chosen]
