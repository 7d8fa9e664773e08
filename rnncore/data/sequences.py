"""Sequences as people have them: arrays, lists, tables of pandas, files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def sequences_of(name: str, given: Any) -> list[Any]:
    """Return sequences one by one, each as it was given.

    Parameters
    ----------
    name
        What errors call it.
    given
        A list of sequences; an array (N, T, ...) of N; or a Series or DataFrame of pandas whose
        index has two levels, of which the first says which sequence a row belongs to. Without a
        second level each entry of a Series is a sequence, and each row of a DataFrame.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If an array has no second axis, or the rows of a sequence are not together.

    Examples
    --------
    >>> [one.shape for one in sequences_of("X", np.zeros((2, 5, 3)))]
    [(5, 3), (5, 3)]
    """
    if hasattr(given, "to_numpy") and hasattr(given, "index"):
        if getattr(given.index, "nlevels", 1) > 1:
            return _groups(name, given)
        given = given.to_numpy()
        if given.ndim == 1:
            return list(given)
    elif hasattr(given, "__array__") and not isinstance(given, np.ndarray):
        given = np.asarray(given)
    if hasattr(given, "toarray"):  # sparse matrices of SciPy have no length
        raise TypeError(f"{name}: expected a list of sequences or an array, got a sparse one")
    if isinstance(given, str | bytes | os.PathLike | dict) or not hasattr(given, "__len__"):
        raise TypeError(
            f"{name}: expected sequences: a list of them, an array (N, T, features), or a table of "
            f"pandas whose index has two levels; got {type(given).__name__}"
        )
    if isinstance(given, np.ndarray) and given.ndim < 2 and given.dtype != object:
        raise ValueError(
            f"{name}: expected sequences, an array (N, T) or (N, T, features), got shape "
            f"{given.shape}. Reshape your data: for one sequence alone give [{name}]"
        )
    return list(given)


def _groups(name: str, table: Any) -> list[Any]:
    # The first level names the sequence; its rows stand together and in their order.
    if not len(table):
        return []
    first = table.index.get_level_values(0)
    changes = np.flatnonzero(np.asarray(first[1:] != first[:-1])) + 1
    parts = [table.iloc[a:b] for a, b in zip([0, *changes], [*changes, len(table)], strict=True)]
    if first.nunique(dropna=False) != len(parts):
        raise ValueError(
            f"{name}: expected the rows of each sequence together, but some stand apart; sort the "
            "table by its index"
        )
    return [part.to_numpy() for part in parts]


def numbers_of(
    name: str, sequences: Sequence[Any], dtype: DTypeLike, features: int | None = None
) -> list[NDArray[Any]]:
    """Return sequences as arrays (T, features), finite and each of one step at least.

    Parameters
    ----------
    name
        What errors call them.
    sequences
        Arrays (T, features), or (T,) for one feature; lists; or paths of ``.npy`` files, or of text
        files with a step a line and commas between the features.
    dtype
        float32 or float64.
    features
        How many there must be; None: as many as the first one has.

    Raises
    ------
    TypeError, ValueError
        Naming the sequence, counted from 1, and what is wrong with it.

    Examples
    --------
    >>> [one.tolist() for one in numbers_of("X", [[1.0, 2.0], np.zeros((1, 1))], np.float32)]
    [[[1.0], [2.0]], [[0.0]]]
    """
    found = []
    for number, sequence in enumerate(sequences, 1):
        where = f"{name}: expected numbers (T, features) as sequence {number}"
        if isinstance(sequence, os.PathLike):
            where = f"{name}: expected numbers (T, features) in {str(sequence)!r}"
            sequence = _read(Path(sequence), where)
        try:
            array = np.asarray(sequence)
            if array.dtype == object:
                array = array.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{where}, got {type(sequence).__name__} ({error})") from None
        if array.dtype.kind == "c":
            raise ValueError(f"{where}. Complex data not supported; give its parts as features")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{where}, got {array.dtype}")
        if array.ndim == 1:
            if array.dtype.kind != "f" and array.size:
                raise TypeError(
                    f"{where}, got whole numbers (T,), which may be values or symbols; give values "
                    "as floats, and symbols as str"
                )
            array = array[:, None]
        if array.ndim != 2 or not array.size:
            raise ValueError(f"{where}, one step at least, got shape {np.shape(sequence)}")
        if features is None:
            features = array.shape[1]
        if array.shape[1] != features:
            raise ValueError(
                f"{where} with {features} features, as the others have, got {array.shape[1]}"
            )
        array = array.astype(dtype, order="C")
        if not np.isfinite(array).all():
            step = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise ValueError(
                f"{where}, got NaN or infinity at step {step + 1}; fill gaps, or leave the "
                "sequence out"
            )
        found.append(array)
    return found


def _read(path: Path, where: str) -> NDArray[Any]:
    try:
        if path.suffix == ".npy":
            array: NDArray[Any] = np.load(path, allow_pickle=False)
            return array
        return np.loadtxt(path, delimiter=",", ndmin=2, encoding="utf-8")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{where}, but it cannot be read: {error}") from None
