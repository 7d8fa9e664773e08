"""How a caller lays out sequences and states: checked on the way in, laid out alike after."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnncore.arguments import as_array, as_real, check_mask, check_tokens
from rnncore.engine.batch import Batch
from rnncore.engine.passes import States
from rnncore.engine.rows import Rows


class Form(NamedTuple):
    """How the caller lays out sequences; inside, everything is (T, B, features).

    `lengths` are the steps of each sequence, or None where all have T.
    """

    kind: str  # "time first", "batch first", "one sequence", "list" or "rows"
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


FORMS = {kind: Form(kind) for kind in ("time first", "batch first", "one sequence", "rows")}


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
    tokens: bool,
    layer: str,
    features: int,
    vocabulary: int,
    batch_first: bool,
    dtype: np.dtype,
) -> tuple[np.ndarray, Form]:
    """Return x as (T, B, features), or tokens (T, B), and its form.

    x is an array, or a list or tuple of arrays, one a sequence. `layer` is what the error calls
    the layer.
    """
    if isinstance(x, list | tuple) and not x:
        raise ValueError(
            f"x: {layer}: expected an array, or a list of at least one sequence, got an empty list"
        )
    if isinstance(x, list | tuple) and all(isinstance(s, np.ndarray) for s in x):
        if lengths is not None:
            raise ValueError("lengths: a list of sequences has its own; leave lengths out")
        x = [_check_kind(s, tokens, layer, dtype) for s in x]
        ranks = {s.ndim for s in x}
        if ranks != {1 if tokens else 2}:
            expected = "token ids (T,)" if tokens else "arrays (T, I)"
            raise ValueError(
                f"x: {layer}: expected a list of {expected}, got arrays of {sorted(ranks)} axes"
            )
        x = [_check_features(s, tokens, features, vocabulary, dtype) for s in x]
        form = Form("list", np.array([len(s) for s in x], np.intp))
        return np.ascontiguousarray(form.enter(x)), form
    x = _check_kind(x, tokens, layer, dtype)
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
    form = FORMS[kind]
    x = np.ascontiguousarray(form.enter(x))
    if lengths is not None:
        lengths = check_lengths(lengths, x.shape[0], x.shape[1], kind)
        form = Form(kind, lengths)
        if tokens:  # padding may hold any id
            x = np.where(np.arange(len(x))[:, None] < lengths, x, 0)
    return check_tokens("x", x, vocabulary) if tokens else x, form


def _check_kind(x: Any, tokens: bool, layer: str, dtype: np.dtype) -> np.ndarray:
    # Numbers of the kind that was asked for: integers are tokens only where somebody says so.
    if type(x) is np.ndarray and x.dtype is dtype and not tokens:
        return x
    array = as_array("x", x)
    kind = array.dtype.kind
    if kind == "O":
        came = "dtype object" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x: {layer}: expected an array of numbers, got {came}")
    if tokens and kind not in "iu":
        raise TypeError(
            f"x: {layer}: expected integer token ids, as tokens=True or embedding=... say, got "
            f"dtype {array.dtype}; give integers, or leave these out for features"
        )
    if not tokens and kind in "iu":
        raise TypeError(
            f"x: {layer}: expected floating-point numbers, got dtype {array.dtype}; convert "
            f"features with .astype(np.{dtype}), or say that these are token ids with tokens=True "
            "or embedding=..."
        )
    return array


def check_rows(
    x: Rows, lengths: Any, tokens: bool, layer: str, features: int, dtype: np.dtype
) -> Form:
    """Return the form of rows that are the input of a layer, or say why they cannot be."""
    if tokens:
        raise TypeError(f"x: {layer}: expected integer token ids, got rows of features")
    if lengths is not None:
        raise ValueError("lengths: rows have their own; leave lengths out")
    if x.batch is None or x.length != x.batch.rows:
        raise ValueError(
            f"x: {layer}: expected rows of a batch, as a layer returns them, got rows of none; "
            "give an array"
        )
    if x.dtype != dtype or x.features != features:
        raise ValueError(
            f"x: {layer}: expected rows of {features} numbers of {dtype}, got {x.features} of "
            f"{x.dtype}"
        )
    x.check("x")
    return Form("rows")


def check_gradient(
    dy: Any, form: Form, batch: Batch, features: int, directions: int, dtype: np.dtype
) -> np.ndarray | Rows:
    """Return dL/dy as (T, B, features) or as rows, or say why it does not fit y."""
    if isinstance(dy, Rows):
        if not dy.is_of(batch):
            raise ValueError("dy: expected rows of the batch of the forward pass, got another's")
        if dy.features != features or dy.dtype != dtype:
            raise ValueError(
                f"dy: expected rows of {features} numbers of {dtype}, got {dy.features} of "
                f"{dy.dtype}"
            )
        dy.check("dy")
        if dy.parts != directions:  # the engine reads a part for each direction
            return Rows.of(np.ascontiguousarray(dy.array()), directions, batch=batch)
        return dy
    wanted: Any
    if form.kind == "rows":
        form = Form("time first")
    if form.kind == "list":
        dy = [as_real("dy", piece, dtype) for piece in dy]
        shapes = [piece.shape for piece in dy]
    else:
        dy = as_real("dy", dy, dtype)
        shapes = dy.shape
    wanted = form.shape(batch.steps, batch.batch, features)
    if shapes != wanted:
        raise ValueError(f"dy: expected the shape of y, {wanted}, got {shapes}")
    return np.ascontiguousarray(form.enter(dy))


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


def batch_of(steps: int, size: int, lengths: Any) -> Batch:
    """Return the batch of `size` sequences of these lengths, `steps` at most."""
    return Batch.of(steps, size, check_lengths(lengths, steps, size, "time first"))


def check_lengths(lengths: Any, steps: int, batch: int, kind: str) -> np.ndarray:
    """Return the steps of each sequence as intp (batch,)."""
    array = as_array("lengths", lengths)
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


def check_reset(reset: Any, form: Form, batch: Batch) -> np.ndarray:
    """Return where sequences begin anew, (T, B), in the layout of x without its features."""
    shape = form.shape(batch.steps, batch.batch, 1)
    if form.kind != "list":
        return form.enter(check_mask("reset", reset, shape[:-1]))
    if not isinstance(reset, list | tuple) or len(reset) != batch.batch:
        raise ValueError(
            f"reset: expected a list of {batch.batch} arrays as x is, got {_shown(reset)}"
        )
    pairs = zip(reset, shape, strict=True)
    return form.enter([check_mask("reset", one, of[:1]) for one, of in pairs])


def check_state(
    name: str, state: Any, layer: str, sizes: list[int], letters: str, directions: int, batch: int,
    form: Form, dtype: np.dtype,
) -> States:  # fmt: skip
    """Return [state][layer * directions + direction] -> (batch, H), or None where none is given.

    `sizes` are the hidden sizes, one for each direction of each layer, `letters` the states of the
    cell, "h", "hc" or more. Where sizes differ, each state is a list with an array
    (directions, B, H) for each layer.
    """
    count = len(sizes)
    checked: States = [[None] * count for _ in letters]
    if state is None:
        return checked
    parts: tuple[Any, ...] = (state,)
    if len(letters) > 1:
        if not isinstance(state, tuple | list) or len(state) != len(letters):
            came = type(state).__name__
            if isinstance(state, tuple | list):
                came = f"{came} of {len(state)}"
            raise TypeError(
                f"{name}: {layer}: expected a tuple ({', '.join(letters)}), got {came}; give "
                f"{'both' if len(letters) == 2 else 'all'} states"
            )
        parts = tuple(state)
    elif isinstance(state, tuple):
        raise TypeError(
            f"{name}: {layer}: expected h alone, got a tuple; this cell has no second state"
        )
    for k, part in enumerate(parts):
        if part is None:
            raise TypeError(
                f"{name}: {layer}: expected arrays for all of {', '.join(letters)}, got None for "
                f"{letters[k]}; give zeros, or no state at all"
            )
        mixed = len(set(sizes)) > 1
        pieces = part if mixed else [part]
        if not isinstance(pieces, list | tuple) or (mixed and len(pieces) != count // directions):
            raise TypeError(
                f"{name}: expected a list of {count // directions} arrays {letters[k]}, one a "
                f"layer, as the hidden sizes differ, got {_shown(part)}"
            )
        rows = count // len(pieces)
        arrays: list[np.ndarray | None] = []
        for number, piece in enumerate(pieces):
            size = sizes[number * rows]
            array = as_real(f"{name}: {letters[k]}", piece, dtype)
            expected = (rows, size) if form.kind == "one sequence" else (rows, batch, size)
            if array.shape != expected:
                raise ValueError(
                    f"{name}: Expected hidden[{k}] size {expected}, got {array.shape}; "
                    f"{letters[k]} is (num_layers * directions, B, hidden_size)"
                )
            arrays.extend(array.reshape(rows, batch, size))
        checked[k] = arrays
    return checked


def leave_state(states: States, letters: str, directions: int, mixed: bool, form: Form) -> Any:
    """Bring states into the caller's layout: h, or a tuple of them; lists where sizes are mixed."""
    parts: list[Any] = []
    for arrays in states[: len(letters)]:
        if mixed:
            pieces = range(0, len(arrays), directions)
            layers = [np.stack(arrays[n : n + directions]) for n in pieces]  # type: ignore[arg-type]
            parts.append([form.leave_state(array) for array in layers])
            continue
        first = arrays[0]
        assert first is not None
        together = first[None] if len(arrays) == 1 else np.stack(arrays)  # type: ignore[arg-type]
        parts.append(form.leave_state(together))
    return tuple(parts) if len(letters) > 1 else parts[0]
