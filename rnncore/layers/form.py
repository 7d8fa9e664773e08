"""How the caller lays out sequences, lengths and states."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnncore.arguments import as_array, as_real, check_tokens


class Form(NamedTuple):
    """How the caller lays out sequences; inside, everything is (T, B, features).

    `lengths` are the steps of each sequence, or None where all have T.
    """

    kind: str  # "time first", "batch first", "one sequence" or "list"
    lengths: np.ndarray | None = None

    def enter(self, x: Any) -> np.ndarray:
        """Bring the caller's sequences into (T, B, ...)."""
        if self.kind == "list":
            return pad(x)
        if self.kind == "one sequence":
            return x[:, None]
        return np.ascontiguousarray(x.swapaxes(0, 1)) if self.kind == "batch first" else x

    def leave(self, x: np.ndarray) -> Any:
        """Bring (T, B, ...) into the caller's layout."""
        if self.kind == "list":
            assert self.lengths is not None
            return [np.ascontiguousarray(x[:n, b]) for b, n in enumerate(self.lengths)]
        if self.kind == "one sequence":
            return x[:, 0]
        return np.ascontiguousarray(x.swapaxes(0, 1)) if self.kind == "batch first" else x

    def shape(self, steps: int, batch: int, features: int) -> Any:
        """Return the shape of such an array in the caller's layout."""
        if self.kind == "list":
            assert self.lengths is not None
            return [(int(n), features) for n in self.lengths]
        if self.kind == "one sequence":
            return (steps, features)
        return (batch, steps, features) if self.kind == "batch first" else (steps, batch, features)

    def leave_state(self, state: np.ndarray) -> np.ndarray:
        """Bring a state (..., B, H) into the caller's layout."""
        return state[..., 0, :] if self.kind == "one sequence" else state


def pad(sequences: list[np.ndarray]) -> np.ndarray:
    """Return sequences (T_i, ...) as one array (T, B, ...), zero beyond each end."""
    steps = max((len(s) for s in sequences), default=0)
    shape = (steps, len(sequences), *(sequences[0].shape[1:] if sequences else ()))
    out = np.zeros(shape, sequences[0].dtype if sequences else np.float32)
    for b, sequence in enumerate(sequences):
        out[: len(sequence), b] = sequence
    return out


def check_input(
    x: Any,
    lengths: Any,
    layer: str,
    features: int,
    vocabulary: int,
    batch_first: bool,
    dtype: np.dtype,
) -> tuple[np.ndarray, bool, Form]:
    """Return x as (T, B, features), or tokens (T, B); whether it is tokens; and its form.

    x is an array, or a list or tuple of arrays, one a sequence. `layer` is what the error calls
    the layer.
    """
    if isinstance(x, list | tuple) and x and all(isinstance(s, np.ndarray) for s in x):
        if lengths is not None:
            raise ValueError("lengths: a list of sequences has its own; leave lengths out")
        ranks = {s.ndim for s in x}
        tokens = all(s.dtype.kind in "iu" for s in x)
        if ranks != {1 if tokens else 2}:
            raise ValueError(
                f"x: {layer}: expected a list of arrays (T, I), or of token ids (T,), got arrays "
                f"of {sorted(ranks)} axes"
            )
        x = [_check_features(s, tokens, features, vocabulary, dtype) for s in x]
        form = Form("list", np.array([len(s) for s in x], np.intp))
        return np.ascontiguousarray(form.enter(x)), tokens, form
    given = x
    x = as_array("x", x)
    if x.dtype.kind == "O":
        came = "dtype object" if isinstance(given, np.ndarray) else type(given).__name__
        raise TypeError(f"x: {layer}: expected an array of numbers, got {came}")
    tokens = x.dtype.kind in "iu"
    rank = 2 if tokens else 3
    if x.ndim not in (rank - 1, rank):
        expected = "token ids (T, B) or (T,)" if tokens else "(T, B, I) or (T, I)"
        raise ValueError(
            f"x: {layer}: Expected input to be {rank - 1}D or {rank}D, got {x.ndim}D instead "
            f"(dtype {x.dtype}); give {expected}, the batch axis first with batch_first"
        )
    if not tokens:
        x = _check_features(x, False, features, vocabulary, dtype)
    several = "batch first" if batch_first else "time first"
    kind = "one sequence" if x.ndim < rank else several
    form = Form(kind)
    x = np.ascontiguousarray(form.enter(x))
    if lengths is not None:
        lengths = check_lengths(lengths, x.shape[0], x.shape[1], kind)
        form = Form(kind, lengths)
        if tokens:  # padding may hold any id
            x = np.where(np.arange(len(x))[:, None] < lengths, x, 0)
    return check_tokens("x", x, vocabulary) if tokens else x, tokens, form


def _check_features(
    x: np.ndarray, tokens: bool, features: int, vocabulary: int, dtype: np.dtype
) -> np.ndarray:
    if tokens:
        return check_tokens("x", x, vocabulary)
    x = as_real("x", x, dtype)
    if x.shape[-1] != features:
        raise ValueError(
            f"x: input.size(-1) must be equal to input_size. Expected {features}, got "
            f"{x.shape[-1]} (shape {x.shape}); the last axis holds the features"
        )
    return x


def check_lengths(lengths: Any, steps: int, batch: int, kind: str) -> np.ndarray:
    """Return the steps of each sequence as intp (batch,)."""
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(
            f"lengths: expected integers, got dtype {array.dtype}; give one whole number for each "
            "sequence"
        )
    if kind == "one sequence":
        array = np.atleast_1d(array)
    if array.shape != (batch,):
        raise ValueError(
            f"lengths: Expected `len(lengths)` to be equal to batch_size, {batch}, got shape "
            f"{array.shape}; give one length for each sequence"
        )
    if batch and (array.min() < 0 or array.max() > steps):
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"lengths: expected numbers from 0 to the {steps} steps of x, got {wrong}")
    return array.astype(np.intp)


def _shown(part: Any) -> str:
    return f"{len(part)} of them" if isinstance(part, list | tuple) else type(part).__name__


def check_state(
    name: str, state: Any, layer: str, sizes: list[int], directions: int, has_c: bool, batch: int,
    form: Form, dtype: np.dtype,
) -> list[list[np.ndarray | None]]:  # fmt: skip
    """Return [h or c][layer * directions + direction] -> (batch, H), or None where none is given.

    `sizes` are the hidden sizes, one for each direction of each layer. Where they differ, h (and
    c) are lists with an array (directions, B, H) for each layer.
    """
    count = len(sizes)
    checked: list[list[np.ndarray | None]] = [[None] * count, [None] * count]
    if state is None:
        return checked
    parts: tuple[Any, ...] = (state,)
    if has_c:
        if not isinstance(state, tuple | list) or len(state) != 2:
            came = type(state).__name__
            if isinstance(state, tuple | list):
                came = f"{came} of {len(state)}"
            raise TypeError(
                f"{name}: {layer}: expected a tuple (h, c), got {came}; give both states"
            )
        parts = tuple(state)
    elif isinstance(state, tuple):
        raise TypeError(
            f"{name}: {layer}: expected h alone, got a tuple; a cell state belongs to an LSTM"
        )
    for k, part in enumerate(parts):
        mixed = len(set(sizes)) > 1
        pieces = part if mixed else [part]
        if not isinstance(pieces, list | tuple) or (mixed and len(pieces) != count // directions):
            raise TypeError(
                f"{name}: expected a list of {count // directions} arrays {'hc'[k]}, one a layer, "
                f"as the hidden sizes differ, got {_shown(part)}"
            )
        rows = count // len(pieces)
        arrays: list[np.ndarray | None] = []
        for number, piece in enumerate(pieces):
            size = sizes[number * rows]
            array = as_real(f"{name}: {'hc'[k]}", piece, dtype)
            expected = (rows, size) if form.kind == "one sequence" else (rows, batch, size)
            if array.shape != expected:
                raise ValueError(
                    f"{name}: Expected hidden[{k}] size {expected}, got {array.shape}; {'hc'[k]} "
                    "is (num_layers * directions, B, hidden_size)"
                )
            arrays.extend(array.reshape(rows, batch, size))
        checked[k] = arrays
    return checked
