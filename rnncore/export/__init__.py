"""A model as one file of C99, to run inside other programs."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnncore import files
from rnncore.arguments import check_flag
from rnncore.export.c_file import c_text
from rnncore.export.chain import Chain
from rnncore.export.checking import check as check_file
from rnncore.export.reading import read, takes
from rnncore.export.weights import FORMATS, Weights

__all__ = ["FORMATS", "Export", "export_c"]

STEPS = 32  # that the self-test carries


class Export(NamedTuple):
    """What `export_c` wrote.

    Attributes
    ----------
    path
        Of the file.
    name
        How its functions begin.
    flash, ram, stack
        Bytes of constants, of a state, and of numbers on the stack at most.
    work
        Multiply-adds a step.
    rounding
        By how much the format of the weights changes an output of the self-test at most.
    difference
        The largest between the compiled program and the model with these weights; None: not
        checked.
    """

    path: Path
    name: str
    flash: int
    ram: int
    stack: int
    work: int
    rounding: float
    difference: float | None

    def __str__(self) -> str:
        """Return it in words."""
        text = (
            f"{self.path}: {self.name}_step, {self.flash} bytes of constants, {self.ram} of state, "
            f"{self.stack} of stack, {self.work} multiply-adds a step"
        )
        if self.rounding:
            text += f"\nrounding the weights changes outputs by at most {self.rounding:.3g}"
        if self.difference is not None:
            text += f"\nlargest difference {self.difference:.3g} over {STEPS} steps"
        return text


def export_c(
    model: Any,
    path: str | os.PathLike[str],
    *,
    weights: str = "float32",
    name: str | None = None,
    tokens: bool = False,
    check: bool = False,
) -> Export:
    """Write a model as one C99 file, which needs no library and allocates nothing.

    The file has the types and functions `NAME_state`, `NAME_reset`, `NAME_step` and `NAME_process`,
    the weights as constants, and a self-test with steps of the model, compiled by
    ``-DNAME_SELF_TEST``. A step gives what the model's stream gives, within 1e-6 of the largest
    output. docs/embed.md shows the way from training to a program.

    Parameters
    ----------
    model
        An `RNN`, `LSTM` or `GRU` that reads forward, also of several layers; a `Linear`, an
        `Embedding`, or a `Sequential` of such and of what `rnncore.convert` puts between them; a
        language model, a sequence classifier or a sequence regressor that reads forward, network or
        estimator. float64 is rounded to float32. Of a model that says one thing of a sequence, a
        step gives what it would say if the sequence ended there.
    path
        Of the file, which is replaced as a whole.
    weights
        "float32"; "float16": half precision, a half of the flash; "int8": a quarter, with a scale
        for each row of a matrix. Sums are float32 with all of them.
    name
        How its functions begin; None: as the file is called.
    tokens
        Whether a recurrent layer reads token ids, one-hot, in place of numbers.
    check
        Whether to compile the self-test, by `CC` of the environment, cc, gcc or clang, and run it.

    Raises
    ------
    TypeError, ValueError
        If the model cannot be fed step by step, there is no C for a part of it, or, with `check`,
        there is no compiler.
    ArithmeticError
        If the checked program differs from the model.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import rnncore
    >>> model = rnncore.Sequential(rnncore.LSTM(1, 16, seed=0), rnncore.Linear(16, 1, seed=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = rnncore.export_c(model, pathlib.Path(folder, "amp.c"))
    >>> made.name, made.ram, made.work
    ('amp', 132, 1104)
    """
    target = Path(path)
    found = _identifier(target.stem if name is None else name, given=name is not None)
    check_flag("check", check)
    tokens = check_flag("tokens", tokens)
    own = copy.deepcopy(takes(model))  # rounding is done to a copy
    chain = Chain(found, Weights(weights))
    with own.changing_weights():
        reading = read(own, chain, tokens)
    x = reading.draw(np.random.default_rng(0), STEPS)
    y = reading.answer(x)
    rounding = 0.0
    if weights != "float32":
        exact = Chain(found, Weights("float32"))
        rounding = float(
            np.abs(y - read(copy.deepcopy(takes(model)), exact, tokens).answer(x)).max()
        )
    files.write_whole(target, c_text(chain, reading, x, y, rounding).encode())
    size = chain.weights
    return Export(
        target, found, size.bytes, chain.ram, chain.stack, size.work, rounding,
        check_file(target, found) if check else None,
    )  # fmt: skip


def _identifier(text: str, given: bool) -> str:
    """Return a name that C takes; of a file's name other characters become underscores."""
    name = text if given else re.sub(r"\W", "_", text, flags=re.ASCII)
    if not given and name[:1].isdigit():
        name = f"model_{name}"
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(
            f"name: expected letters, digits and underscores, beginning with a letter, got "
            f"{text!r}; give another name=, or call the file otherwise"
        )
    return name
