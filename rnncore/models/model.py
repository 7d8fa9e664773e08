"""What every model has: a kind, settings, files, and what a trainer asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np

from rnncore import engine, files, layers
from rnncore.cells.names import LIBRARY
from rnncore.engine.precision import NAMES, get_matmul_precision
from rnncore.engine.threads import team_size
from rnncore.layers.module import Module
from rnncore.settings import Choice, setting

#: The setting of the products' precision.
PRECISION = setting(
    None, Choice(NAMES), "Of the products' factors.  [default: float32]", fixed=True, then=None
)

#: The layers that settings name.
CELLS: dict[str, Callable[..., Any]] = {
    **{name.lower(): getattr(layers, name) for name in ("LSTM", "GRU", "RNN")},
    "rnn_relu": partial(layers.RNN, nonlinearity="relu"),
    "gru_reset_before": partial(layers.GRU, reset_after=False),
}
GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3}  # the others have one


@dataclass(frozen=True)
class CellName(Choice):
    """The name of a recurrent cell, also of one that `rnncore.cell` has made."""

    names: tuple[str, ...] = (*CELLS, *LIBRARY)

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        if value not in self.names:
            own_cell(value)


M = TypeVar("M", bound=Module)


class Measure(NamedTuple):
    """Something that tells how good a model is.

    ``value = factor * sum / count``, where sum and count are added over all batches.
    """

    name: str
    unit: str
    factor: float = 1.0
    lower_is_better: bool = True

    def value(self, total: float, count: float) -> float:
        """Return the mean in this unit."""
        return total / count * self.factor

    def better(self, value: float, than: float) -> bool:
        """Whether `value` is better than the other."""
        return value < than if self.lower_is_better else value > than


class Model(Module):
    """A module that the trainer trains and files hold.

    A model sets `kind` and `measures`, its constructor sets `settings` (what the constructor took,
    as `json` can write it) and `generator`, and it implements what raises NotImplementedError
    here. A file's kind is looked up in `rnncore.models.KINDS`.
    """

    kind: ClassVar[str]
    #: The factor of the first one turns a loss of `forward` into its unit.
    measures: tuple[Measure, ...]
    #: Which of them decides what is best.
    decisive: ClassVar[int] = 0
    settings: dict[str, Any]
    generator: np.random.Generator

    def forward(self, *batch: Any, **options: Any) -> Any:
        """Return the mean loss of a batch and the state after it; the last argument is a state.

        The state is None, an array, or a tuple of arrays.
        """
        raise NotImplementedError

    def backward(self, *, accumulate: bool = True) -> None:
        """Compute the gradients of the last `forward`, into `grads`."""
        raise NotImplementedError

    def measure(self, *batch: Any) -> tuple[list[tuple[float, float]], Any]:
        """Return sum and count of each of `measures` over a batch, and the state after it."""
        raise NotImplementedError

    def _settle_precision(self) -> None:
        # Once there are all layers; the default is that of the moment, and stands in the file.
        chosen = self.settings["precision"]
        if chosen is None and self.dtype == np.float32:
            chosen = self.settings["precision"] = get_matmul_precision()
        if chosen is not None:
            self.set_precision(chosen)

    def show(self, loss: float) -> str:
        """Return how progress shows a loss of `forward`."""
        measure = self.measures[0]
        return f"{loss * measure.factor:.3f} {measure.unit}"

    def describe(self) -> dict[str, Any]:
        """Return everything that `from_description` needs, as `json` can write it."""
        return dict(self.settings)

    @classmethod
    def from_description(cls, description: dict[str, Any], tensors: dict[str, Any]) -> Self:
        """Return a model of this description with these weights; ValueError where they differ."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model file: safetensors with PyTorch's parameter names, replaced as a whole."""
        files.save(path, self.state_dict(), self.metadata())

    def metadata(self) -> dict[str, Any]:
        """Return what a file holds beside the weights: no code, but which cell they are of."""
        about = {"kind": self.kind, "model": self.describe()}
        name = self.settings.get("cell", "lstm")
        return about if name in CELLS else {**about, "cell_signature": own_cell(name).signature}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model file or the model of a checkpoint.

        Raises
        ------
        FileError
            If the file is not a whole model file of this kind and version.
        """
        return cls.from_contents(files.load(path), path)

    @classmethod
    def from_contents(cls, contents: files.Contents, path: str | os.PathLike[str]) -> Self:
        """Return the model of a file that is read already; `path` is what errors name."""
        tensors, metadata = contents
        engine.chosen_build()  # a wrong setting of the environment is not the file's fault
        team_size()
        expected = f"model file: expected a {cls.kind}, but {os.fspath(path)!r} holds"
        kind = kind_of(metadata)
        if kind != cls.kind:
            raise files.FileError(f"{expected} a {kind!r}; read it with rnncore.load")
        _check_cell(metadata, os.fspath(path))
        try:
            parameters = {
                name: array
                for name, array in tensors.items()
                if not name.startswith(files.OF_TRAINING)
            }
            description = dict(metadata["model"])
            if description.get("dtype") != "float64":  # of files from before there was another
                description.setdefault("precision", "float32")
            return cls.from_description(description, parameters)
        except (
            KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, MemoryError,
            RecursionError,
        ) as error:  # fmt: skip
            raise files.FileError(f"{expected} something else ({error})") from None


def check_reads_forward(settings: dict[str, Any]) -> None:
    """Refuse a stream of a network that reads both ways."""
    if settings["directions"] == "both":
        raise ValueError(
            "stream: expected a network that reads forward, but this one reads both ways and needs "
            "the end of a sequence; fit one with directions='forward'"
        )


def kind_of(metadata: dict[str, Any]) -> str:
    """Return the kind of model that a file holds; the first files named none."""
    return str(metadata.get("kind", "language model"))


def own_cell(name: Any) -> Any:
    """Return the cell that `rnncore.cell` has made under this name; ValueError: there is none."""
    from rnncore.cells.library import find

    return find(name)


def _check_cell(metadata: dict[str, Any], path: str) -> None:
    # Weights of a user's cell are for this cell alone.
    signature = metadata.get("cell_signature")
    if signature is None:
        return
    name = dict(metadata["model"]).get("cell")
    try:
        cell = own_cell(name)
    except ValueError as error:
        raise files.FileError(f"{path!r} was trained with a cell of your own; {error}") from None
    if cell.signature != signature:
        raise files.FileError(
            f"cell: expected {name!r} as it was when {path!r} was trained, signature {signature}, "
            f"got one of other gates, states, vectors or equations, {cell.signature}"
        )


def recurrent(
    cell: str,
    input_size: int,
    hidden_size: int,
    *,
    dropout: float = 0.0,
    variational: bool = False,
    **options: Any,
) -> Any:
    """Return the recurrent layers that settings name; dropout is between them.

    At bias 0 a forget gate begins at 1/2 and memories fade within a few steps, so it begins at 1
    (Jozefowicz et al., "An empirical exploration of recurrent network architectures", 2015).
    """
    more: dict[str, Any] = {"forget_bias": 1.0} if cell == "lstm" else {}
    if options.get("num_layers", 1) > 1:
        more |= {"dropout": dropout, "variational": variational}
    if cell not in CELLS:
        return layers.Recurrent(own_cell(cell), input_size, hidden_size, **options, **more)
    return CELLS[cell](input_size, hidden_size, **options, **more)


def layer_size(cell: str, part: str, hidden_size: int) -> tuple[str, int, int]:
    """Return what `check_sizes` holds a part's recurrent layers against."""
    gates = GATES.get(cell, 1) if cell in CELLS else len(own_cell(cell).gates)
    return f"{part}.weight_ih_l0", 0, gates * hidden_size


def check_sizes(tensors: dict[str, Any], sizes: Iterable[tuple[str, int, int]]) -> None:
    """Refuse tensors of other sizes than a description says: name, axis and size of each.

    Descriptions are not believed: arrays without bytes may claim any size.
    """
    for name, axis, size in sizes:
        if tensors[name].shape[axis] != size:
            raise ValueError(f"{name} is {tensors[name].shape}, not {size} on axis {axis}")


def check_depth(tensors: dict[str, Any], part: str, count: int) -> None:
    """Refuse recurrent layers whose layers times directions are not as many."""
    there = sum(name.startswith(f"{part}.weight_ih_l") for name in tensors)
    if there != count:
        raise ValueError(f"{part} has {there} weight_ih, not num_layers times directions, {count}")


def with_weights(make: Callable[[Any], M], tensors: dict[str, Any]) -> M:
    """Return the model that `make` makes with a generator, with these weights."""
    generator = blank_generator()
    model = make(generator)
    model.load_state_dict(tensors)
    generator.blank = False
    return model


def blank_generator() -> Any:
    """Return a generator that gives zeros until its `blank` is False, for weights from a file."""
    # Initial weights that are replaced at once need not be drawn: a generator that gives zeros
    # until `blank` is False. numpy.random is imported at its first use.
    class Blank(np.random.Generator):
        blank = True

        def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
            return np.zeros(()) if self.blank else super().uniform(low, high, size)

        def standard_normal(self, size: Any = None, *rest: Any, **more: Any) -> Any:
            return np.zeros(()) if self.blank else super().standard_normal(size, *rest, **more)

    return Blank(np.random.PCG64())
