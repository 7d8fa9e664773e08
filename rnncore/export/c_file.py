"""The text of an export: a comment, a header, functions, weights, parts, and a self-test."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnncore.export.chain import Chain
from rnncore.export.reading import Reading
from rnncore.export.templates import fill, pieces
from rnncore.export.weights import Constant, single

Array = NDArray[Any]

ALLOWED = 1e-6  # of the largest output, or of 1


def c_text(chain: Chain, reading: Reading, x: Array, y: Array, rounding: float) -> str:
    """Return the C of a chain; x and y are the inputs and outputs of its self-test.

    `rounding` is what its format of weights changes in the outputs.
    """
    weights, name, upper = chain.weights, chain.name, chain.name.upper()
    tokens = bool(chain.vocabulary)
    parts = "\n\n".join(part.code for part in chain.parts)
    fields = [field for part in chain.parts for field in part.fields]
    declared = (
        "\n".join(f.declared() for f in fields) or "    float none[1]; /* it keeps nothing */"
    )
    resets = "\n".join(field.reset() for field in fields) or "    state->none[0] = 0.0f;"
    chained = chain.lines()
    step_x = "tokens[t]" if tokens else f"x + t * {upper}_INPUTS"
    common = {
        "name": name, "upper": upper, "inputs": chain.inputs, "outputs": chain.outputs,
        "steps": len(x),
    }  # fmt: skip
    test = fill(
        "self_test.c", **common, test_arrays=_test_arrays(x, y),
        test_step="test_x[t]" if tokens else f"test_x + t * {upper}_INPUTS",
        test_block="test_x + t" if tokens else f"test_x + t * {upper}_INPUTS",
    )  # fmt: skip
    note = weights.kind
    if weights.kind != "float32":
        note += f", which changes the outputs of the self-test by at most {rounding:.2g}"
    return fill(
        "file.c", **common, title=_comment(reading.title, " * "), about=_about(chain),
        reads=_comment(reading.reads, " * "), gives=_comment(reading.gives, " * "),
        example_x="token" if tokens else "x", example_xs="tokens" if tokens else "xs",
        parameter="int token" if tokens else "const float *x",
        parameters="const int *tokens" if tokens else "const float *x",
        vocabulary=f"\n#define {upper}_VOCABULARY {chain.vocabulary}" if tokens else "",
        flash=weights.bytes, weights=note, ram=chain.ram, stack=chain.stack, work=weights.work,
        nonlinear=sum(part.functions for part in chain.parts), fields=declared, resets=resets,
        functions="\n\n".join(_used(parts + chained, weights.functions())),
        weight_arrays="\n\n".join(map(str, weights.constants)), parts=parts, chain=chained,
        step_x=step_x, self_test=test,
    ) + "\n"  # fmt: skip


def _used(text: str, products: dict[str, str]) -> list[str]:
    """Return the functions that a text calls, and those that these call, in the file's order."""
    known = pieces("functions.c") | products
    wanted: set[str] = set()
    new = {name for name in known if re.search(rf"\b{name}\b", text)}
    while new:
        wanted |= new
        body = "\n".join(known[name] for name in new)
        new = {name for name in known if re.search(rf"\b{name}\b", body)} - wanted
    return [piece for name, piece in known.items() if name in wanted]


def _about(chain: Chain) -> str:
    lines = []
    for part in chain.parts:
        reads = f"token of {part.vocabulary}" if part.vocabulary else str(part.inputs)
        lines += textwrap.wrap(
            f"{part.name}: {reads} -> {part.outputs}, {part.equation}", 96,
            initial_indent=" *     ", subsequent_indent=" *         ",
        )  # fmt: skip
    return "\n".join(lines)


def _comment(text: str, indent: str) -> str:
    """Return a text as part of a comment, which it cannot end."""
    safe = text.replace("*/", "* /").replace("/*", "/ *").replace("??/", "?? /")
    lines = textwrap.wrap(safe, 90, break_on_hyphens=False)
    return f"\n{indent}".join(line.rstrip("\\") for line in lines)


def _test_arrays(x: Array, y: Array) -> str:
    given = x.astype(np.int32) if x.dtype.kind in "iu" else single("the self-test", x)
    allowed = ALLOWED * max(1.0, float(np.abs(y).max()))
    arrays = [
        Constant("int" if given.dtype.kind == "i" else "float", "test_x", given),
        Constant("float", "test_y", single("the self-test", y)),
    ]
    text = "\n\n".join(map(str, arrays))
    return f"{text}\n\nstatic const float test_allowed = {np.float32(allowed)!s}f;"
