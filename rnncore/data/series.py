"""Series of numbers: from CSV files, with dates and gaps, from arrays and tables."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rnncore.data.reading import read_whole
from rnncore.data.times import Times, form_of, parsed

Array = NDArray[Any]
EMPTY = ("", "NA", "NaN", "nan", "null", "?")  # how a file may write that a value is missing


@dataclasses.dataclass(frozen=True)
class Series:
    """A series of numbers at even steps.

    Parameters
    ----------
    name
        A model of several series knows them by their names.
    values : (N,)
        NaN where one is missing.
    times
        Its dates; None where it has none.
    covariates : (N + ahead, C)
        Other numbers of each step, which may be known ahead of the values.
    covariate_names
        C names.

    Raises
    ------
    ValueError
        If no value is known, or shapes do not fit.

    Examples
    --------
    >>> series = Series("a", [1.0, float("nan"), 3.0])
    >>> series.gaps, series.filled().tolist()
    (1, [1.0, 2.0, 3.0])
    """

    name: str
    values: Array
    times: Times | None = None
    covariates: Array | None = None
    covariate_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        object.__setattr__(self, "values", values)
        if values.ndim != 1 or not np.isfinite(values).any() or np.isinf(values).any():
            raise ValueError(
                f"{self.name}: expected a series of numbers (N,), NaN where one is missing, got "
                f"shape {values.shape} with {int(np.isfinite(values).sum())} finite ones"
            )
        if self.covariates is not None:
            covariates = np.array(self.covariates, np.float64)
            object.__setattr__(self, "covariates", covariates)
            expected = (len(self.covariate_names),)
            if covariates.shape[1:] != expected or len(covariates) < len(values):
                raise ValueError(
                    f"{self.name}: expected covariates of {len(values)} steps or more, "
                    f"{expected[0]} of each, got shape {covariates.shape}"
                )

    @property
    def gaps(self) -> int:
        """How many values are missing."""
        return int(np.isnan(self.values).sum())

    def filled(self) -> Array:
        """Return the values, with gaps on a straight line between what stands around them."""
        known = np.isfinite(self.values)
        if known.all():
            return self.values
        steps = np.arange(len(self.values))
        return np.interp(steps, steps[known], self.values[known])

    def until(self, count: int) -> Series:
        """Return the first values; dates and covariates stay."""
        return dataclasses.replace(self, values=self.values[:count])

    def date(self, number: int) -> str:
        """Return a date as the file writes it; without dates the number, from 1 on."""
        return str(number + 1) if self.times is None else self.times.text(number)


def read_series(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    covariates: Sequence[str] = (),
    date: str | None = None,
) -> list[Series]:
    r"""Read a CSV file whose first line names its columns: a date, and a series in each other one.

    A date that is left out, and a cell that is empty, are gaps. Rows after the last value may have
    covariates alone: what is known ahead.

    Parameters
    ----------
    path
    columns
        Those to read as series; None: all that are neither date nor covariates.
    covariates
        Columns of other numbers, which every row must have.
    date
        The column of dates; None: the first column, if its first cell is one.

    Raises
    ------
    ValueError
        Naming file and line: text in a column of numbers, a date twice or out of order, a row of
        other length; or a column that is not there.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "sales.csv")
    ...     _ = path.write_text("month,sales\n2020-01,5\n2020-02,7\n2020-04,4\n")
    ...     [series] = read_series(path)
    >>> series.name, series.values.tolist(), series.date(4)
    ('sales', [5.0, 7.0, nan, 4.0], '2020-05')
    """
    name = os.fspath(path)
    lines, rows = _rows(name, read_whole(path))
    header = [cell.strip() for cell in rows[0]]
    if len(set(header)) != len(header):
        twice = next(cell for cell in header if header.count(cell) > 1)
        raise ValueError(f"{name}, line 1: expected distinct names of columns, got {twice!r} twice")
    rows, lines = rows[1:], lines[1:]
    named = header[0] in (*(columns or ()), *covariates)
    if date is None and not named and form_of(rows[0][0].strip()) is not None:
        date = header[0]
    wanted = [*(columns or ()), *covariates, *([] if date is None else [date])]
    for column in wanted:
        if column not in header:
            raise ValueError(
                f"{name}: expected a column {column!r}, got {', '.join(map(repr, header))}"
            )
    if len(set(wanted)) != len(wanted):
        twice = next(column for column in wanted if wanted.count(column) > 1)
        raise ValueError(
            f"columns, covariates, date: expected each column once, got {twice!r} twice"
        )
    chosen = columns or [one for one in header if one != date and one not in covariates]
    if not chosen:
        raise ValueError(
            f"{name}: expected a column of values beside the dates in {date!r}, got none; if these "
            "are values, name the column as one to predict"
        )
    times, places = None, np.arange(len(rows))
    if date is not None:
        times, places = _times(name, lines, [row[header.index(date)].strip() for row in rows])
    count = int(places[-1]) + 1

    def numbers(column: str, whole: bool) -> Array:
        found, k = np.full(count, np.nan), header.index(column)
        for line, place, row in zip(lines, places, rows, strict=True):
            cell = row[k].strip()
            if cell in EMPTY and not whole:
                continue
            try:
                found[place] = float(cell)
            except ValueError:
                _fail(name, line, f"a number in column {column!r}", repr(cell))
            if not np.isfinite(found[place]):
                _fail(name, line, f"a finite number in column {column!r}", repr(cell))
        return found

    others = None
    if covariates:
        others = np.stack([numbers(column, True) for column in covariates], 1)
        missing = np.flatnonzero(np.isnan(others).any(1))
        if missing.size:
            assert times is not None
            raise ValueError(
                f"{name}: expected covariates at every step, but there is no row for "
                f"{times.text(int(missing[0]))}; add it"
            )
    series = []
    for column in chosen:
        values = numbers(column, False)
        known = np.flatnonzero(np.isfinite(values))
        if not known.size:
            raise ValueError(f"{name}: expected numbers in column {column!r}, got none")
        if others is not None:  # rows behind the last value are ahead of it
            values = values[: known[-1] + 1]
        series.append(Series(column, values, times, others, tuple(covariates)))
    return series


def _rows(name: str, text: str) -> tuple[list[int], list[list[str]]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row:
                continue
            if rows and len(row) != len(rows[0]):
                _fail(name, reader.line_num, f"{len(rows[0])} cells as in line 1", str(len(row)))
            lines.append(reader.line_num)
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: expected CSV, but {error}") from None
    if len(rows) < 2:
        raise ValueError(
            f"{name}: expected a line of names and lines of numbers, got {len(rows)} lines"
        )
    return lines, rows


def _times(name: str, lines: list[int], texts: list[str]) -> tuple[Times, NDArray[np.intp]]:
    form = form_of(texts[0])
    if form is None:
        _fail(name, lines[0], "a date such as 2020-01-31", repr(texts[0]))
    dates: list[datetime] = []
    for line, text in zip(lines, texts, strict=True):
        found = parsed(text, form)
        if found is None:
            _fail(name, line, f"a date written as in line {lines[0]}, {texts[0]!r}", repr(text))
        if dates and found <= dates[-1]:
            what = "a second time" if found == dates[-1] else f"after {texts[len(dates) - 1]!r}"
            _fail(name, line, "dates that rise from row to row", f"{text!r} {what}")
        dates.append(found)
    try:
        return Times.of(dates, form)
    except ValueError as error:
        number, expected = error.args
        _fail(name, lines[number], expected, repr(texts[number]))


def _fail(name: str, line: int, expected: str, got: str) -> NoReturn:
    raise ValueError(f"{name}, line {line}: expected {expected}, got {got}")


def series_of(name: str, X: Any) -> list[Series]:
    """Return series of whatever holds them: a file, arrays, a table of pandas, series.

    Parameters
    ----------
    name
        What errors call it.
    X
        A path; a `Series`, or several; an array (N,); several of them by name; a DataFrame, a
        column a series, or a Series of pandas, whose index, where it has dates, must be even.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or a name stands twice.
    """
    if isinstance(X, str | os.PathLike):
        return read_series(X)
    if isinstance(X, Series):
        return [X]
    if type(X).__module__.partition(".")[0] == "pandas":
        table = X.to_frame() if hasattr(X, "to_frame") else X
        times = None
        if type(table.index).__name__ == "DatetimeIndex":
            index = table.index.tz_localize(None)
            dates = [moment.to_pydatetime() for moment in index]
            plain = all(d.hour == d.minute == d.second == 0 for d in dates)
            even = bool(index.is_monotonic_increasing and index.is_unique)
            try:
                if even:
                    times, places = Times.of(dates, "%Y-%m-%d" if plain else "%Y-%m-%d %H:%M:%S")
                    even = len(np.unique(np.diff(places))) <= 1
            except ValueError:  # dates that lie on no step
                even = False
            if not even:
                raise ValueError(
                    f"{name}: expected dates at even steps, rising; use DataFrame.sort_index "
                    "and asfreq"
                )
        found = [Series(str(c), table[c].to_numpy(np.float64), times) for c in table.columns]
    elif isinstance(X, dict):
        found = [Series(str(key), values) for key, values in X.items()]
    elif isinstance(X, list | tuple) and X and all(isinstance(one, Series) for one in X):
        found = list(X)
    elif isinstance(X, np.ndarray | list | tuple) and len(X) and np.ndim(X[0]) == 0:
        found = [Series("series", np.asarray(X, np.float64))]
    else:
        raise TypeError(
            f"{name}: expected a file, a Series, several of them, an array (N,), a dict of arrays "
            f"or a DataFrame, got {type(X).__name__}"
        )
    names = [one.name for one in found]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{name}: expected series of distinct names, one at least, got {names!r}")
    return found
