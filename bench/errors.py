"""How far each precision is from float64: `python bench/errors.py [--write]`.

Layers of random weights over 1,000 steps, forward and backward, beside the same in float64: of the
outputs the largest error over the largest output, of the gradients the error in norm, of the worst
parameter. Where there is no AMX, bfloat16x3 is multiplied by squares in C, which have its bits.
`--write` puts the table into docs/precision.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from busy import put_between
from low_sides import KINDS

from rnncore import engine

PAGE = Path(__file__).parents[1] / "docs" / "precision.md"
MARKS = "<!-- errors -->", "<!-- end of errors -->"
STEPS, ROWS, FEATURES, UNITS, SEED = 1000, 4, 64, 128, 0
PRECISIONS = ("float32", "bfloat16x3", "bfloat16", "int8")


def errors(kind: str) -> Iterator[tuple[str, float, float | None]]:
    """Yield the precisions, the error of y, and that of the gradients, if there are any."""
    generator = np.random.default_rng(SEED)
    x = generator.standard_normal((STEPS, ROWS, FEATURES), np.float32)
    dy = generator.standard_normal((STEPS, ROWS, UNITS), np.float32)
    exact = KINDS[kind](FEATURES, UNITS, seed=SEED, dtype=np.float64)
    right, _ = exact.forward(x.astype(np.float64))
    exact.backward(dy.astype(np.float64))
    for precision in PRECISIONS:
        layer = KINDS[kind](FEATURES, UNITS, precision=precision)
        layer.load_state_dict(exact.state_dict())
        y, worst = layer(x)[0], None
        if precision != "int8":
            layer.forward(x)
            layer.backward(dy)
            norm = np.linalg.norm
            worst = max(
                float(norm(layer.grads[name] - grad) / norm(grad))
                for name, grad in exact.grads.items()
            )
        yield precision, float(np.abs(y - right).max() / np.abs(right).max()), worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    write, kernels = parser.parse_args().write, engine.kernels(np.float32)
    if "tdpbf16ps" not in kernels.products()["bfloat16"]:
        kernels.use_products("squares")
    lines = ["| layer | precision | outputs | gradients |", "|---|---|---:|---:|"]
    for kind in KINDS:
        for precision, error, worst in errors(kind):
            gradients = "" if worst is None else f"{worst:.1e}"
            lines.append(f"| {kind} | {precision} | {error:.1e} | {gradients} |")
    table = "\n".join(lines)
    print(table)
    if write:
        PAGE.write_text(put_between(PAGE.read_text(), MARKS, table))


if __name__ == "__main__":
    main()
