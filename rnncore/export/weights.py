"""Weights as the C of an export has them: rounded, laid out for its loops, written as constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnncore.export.templates import pieces

Array = NDArray[Any]

#: Rows that a loop takes at most: their sums stay in registers, of 32 bytes and of 16.
MOST_ROWS = 64
#: Rows are filled up to whole vectors.
ROW_STEP = 8


class Format(NamedTuple):
    """How a weight is stored: its type, C that reads w[j], whether each row has a scale."""

    type: str
    decoded: str
    bytes: int
    scaled: bool = False


FORMATS = {
    "float32": Format("float", "w[j]", 4),
    "float16": Format("uint16_t", "half_of(w[j])", 2),
    "int8": Format("int8_t", "(float)w[j]", 1, scaled=True),
}


class Constant(NamedTuple):
    """An array of constants in C."""

    type: str
    name: str
    values: Array

    def __str__(self) -> str:
        """Return its definition."""
        return (
            f"static const {self.type} {self.name}[{self.values.size}] ALIGNED = {{\n"
            f"{listed(self.values)}\n}};"
        )


def listed(values: Array) -> str:
    """Return numbers as C has them in braces; floats as the shortest text that is read as them."""
    flat = values.reshape(-1)
    if flat.dtype.kind == "f":
        texts = [f"{text}f" for text in flat.astype(np.float32).astype(str)]
    else:
        texts = [str(number) for number in flat.tolist()]
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(text) > 98:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return "\n".join([*lines, line])


def padded(rows: int) -> int:
    """Return rows filled up to whole vectors; few rows, which are summed one by one, are not."""
    return rows if rows < ROW_STEP else -(-rows // ROW_STEP) * ROW_STEP


def row_blocks(rows: int) -> tuple[int, int, int]:
    """Return the rows of a block, how many such blocks there are, and the rows of a last one."""
    filled = padded(rows)
    blocks = -(-filled // MOST_ROWS)
    size = padded(-(-filled // blocks))
    return size, filled // size, filled % size


@dataclass
class Weights:
    """Makes the constants of one export, in one format.

    Parameters
    ----------
    kind
        One of `FORMATS`.

    Attributes
    ----------
    constants
        What was made so far.
    sizes
        Of the blocks of rows that products need.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in FORMATS:
            raise ValueError(f"weights: expected one of {', '.join(FORMATS)}, got {self.kind!r}")
        self.format = FORMATS[self.kind]
        self.constants: list[Constant] = []
        self.sizes: set[int] = set()
        self.work = 0

    @property
    def bytes(self) -> int:
        """Of all constants."""
        sizes = {"float": 4, "uint16_t": 2, "int8_t": 1}
        return sum(sizes[type_] * values.size for type_, _, values in self.constants)

    def functions(self) -> dict[str, str]:
        """Return the C functions that multiply with such weights, by their names."""
        file = "scaled.c" if self.format.scaled else "plain.c"
        values = {"type": self.format.type, "decoded": self.format.decoded}
        found = pieces(file, rows=ROW_STEP, **values)
        for rows in sorted(self.sizes):
            found |= pieces(file, rows=rows, **values)
        return dict(sorted(found.items()))

    def vector(self, name: str, values: Array, size: int = 0) -> str:
        """Add float numbers, with zeros up to a size; return the name."""
        values = single(name, values)
        filled = np.zeros(max(size, len(values)), np.float32)
        filled[: len(values)] = values
        self.constants.append(Constant("float", name, filled))
        return name

    def matrix(self, name: str, parts: Sequence[Array], bias: Array | None) -> Matrix:
        """Add W (rows, columns), whose columns are those of the parts, and a bias (rows,).

        The parts, which are the caller's own, take on what rounding makes of them.
        """
        W = np.concatenate([single(name, part) for part in parts], axis=1)
        codes, scale = self._encode(name, W)
        exact = self._decode(codes, scale)
        for part, columns in zip(
            parts, np.split(exact, np.cumsum([part.shape[1] for part in parts])[:-1], axis=1),
            strict=True,
        ):  # fmt: skip
            part[...] = columns
        rows, columns_ = W.shape
        made = Matrix(name, rows, columns_, self.format.scaled)
        filled = np.zeros((padded(rows), columns_), codes.dtype)
        filled[:rows] = codes
        size = row_blocks(rows)[0]
        if rows >= ROW_STEP:
            blocks = [filled[first : first + size].T for first in range(0, len(filled), size)]
            laid_out = np.concatenate([block.reshape(-1) for block in blocks])
            self.sizes |= {len(block.T) for block in blocks}
        else:
            laid_out = filled.reshape(-1)
        self.constants.append(Constant(self.format.type, f"{name}_W", laid_out))
        if scale is not None:
            self.vector(f"{name}_s", scale, len(filled))
        self.vector(f"{name}_b", np.zeros(rows) if bias is None else bias, len(filled))
        self.work += rows * columns_
        return made

    def table(self, name: str, rows: Array) -> Table:
        """Add a table, one of whose rows (size,) is read a step; they take on their rounding."""
        codes, scale = self._encode(name, single(name, rows))
        rows[...] = self._decode(codes, scale)
        filled = np.zeros((len(codes), padded(codes.shape[1])), codes.dtype)
        filled[:, : codes.shape[1]] = codes
        self.constants.append(Constant(self.format.type, f"{name}_table", filled))
        if scale is not None:
            self.vector(f"{name}_table_s", scale)
        return Table(name, filled.shape[1], self.format)

    def _encode(self, name: str, W: Array) -> tuple[Array, Array | None]:
        if self.kind == "float32":
            return np.where(np.abs(W) < np.finfo(np.float32).tiny, np.float32(0), W), None
        if self.kind == "float16":
            with np.errstate(over="ignore"):
                half = W.astype(np.float16)
            if not np.isfinite(half).all():
                raise ValueError(
                    f"weights: expected float32 or int8 for {name}, whose largest weight is "
                    f"{np.abs(W).max():.3g}, got float16, which ends at 65504"
                )
            return half.view(np.uint16), None
        scale = (np.abs(W).max(1) / np.float32(127)).astype(np.float32)
        scale[scale == 0] = 1
        return np.rint(W / scale[:, None]).astype(np.int8), scale

    def _decode(self, codes: Array, scale: Array | None) -> Array:
        if codes.dtype == np.uint16:
            return codes.view(np.float16).astype(np.float32)
        return codes if scale is None else codes * scale[:, None]


class Matrix(NamedTuple):
    """W (rows, columns) and b (rows,), constants `name_W` and `name_b`, and C that multiplies."""

    name: str
    rows: int
    columns: int
    scaled: bool

    def product(self, y: str, x: str, start: str = "") -> str:
        """Return lines that compute y = b + W x; or y = start + W x."""
        start = start or f"{self.name}_b"
        if self.rows < ROW_STEP:
            return "\n".join(
                self._call("dot", y, str(k), str(k * self.columns), start, x)
                for k in range(self.rows)
            )
        size, count, rest = row_blocks(self.rows)
        lines = []
        if count > 1:
            lines.append(f"    for (int k = 0; k < {count}; k++)")
            place, weight = f"{size} * k", f"{size * self.columns} * k"
            lines.append("    " + self._call(f"rows_{size}", y, place, weight, start, x))
        else:
            lines.append(self._call(f"rows_{size}", y, "0", "0", start, x))
        if rest:
            first = size * count
            lines.append(
                self._call(f"rows_{rest}", y, str(first), str(first * self.columns), start, x)
            )
        return "\n".join(lines)

    def _call(self, function: str, y: str, place: str, weight: str, start: str, x: str) -> str:
        def at(array: str, where: str) -> str:
            return array if where == "0" else f"{array} + {where}"

        scale = [at(f"{self.name}_s", place)] if self.scaled else []
        arguments = [
            at(y, place), at(f"{self.name}_W", weight), *scale, at(start, place), x,
            str(self.columns),
        ]  # fmt: skip
        return f"    {function}({', '.join(arguments)});"


class Table(NamedTuple):
    """Rows by token as the constant `name_table`, filled up to a size, with C that reads one."""

    name: str
    size: int
    format: Format

    def row(self, y: str, count: int, added: str = "") -> str:
        """Return lines that read the first numbers of the row of `token`; `added` goes before."""
        scale = f"{self.name}_table_s[token] * " if self.format.scaled else ""
        return (
            f"    const {self.format.type} *w = {self.name}_table + token * {self.size};\n"
            f"    for (int j = 0; j < {count}; j++)\n"
            f"        {y}[j] = {added}{scale}{self.format.decoded};"
        )


def single(name: str, values: Array) -> NDArray[np.float32]:
    """Return numbers as float32, all finite."""
    with np.errstate(over="ignore"):
        found = np.asarray(values, np.float32)
    if not np.isfinite(found).all():
        raise ValueError(
            f"model: expected finite weights in float32, got NaN, infinity or larger ones in {name}"
        )
    return found
