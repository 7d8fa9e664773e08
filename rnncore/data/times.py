"""Dates at even steps: as they are written in a file, and what the calendar says of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

#: How dates may be written; the first one that fits a file's first date is that of all.
FORMS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d",
    "%Y/%m/%d", "%Y%m%d", "%Y-%m", "%Y", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%m/%d/%Y",
)  # fmt: skip
MONTHS = "months"
DAY, WEEK, YEAR = 86400.0, 7 * 86400.0, 365.2425 * 86400.0


class Times(NamedTuple):
    """Dates at even steps: date n is start + n step.

    Parameters
    ----------
    start
        Date 0.
    step
        In months or in seconds.
    unit
        "months" or "seconds".
    form
        How dates are written; see `datetime.strftime`.
    day
        Of the month, 31 for its end, where the step is in months; 0: that of the start.

    Examples
    --------
    >>> times = Times(datetime(2020, 1, 31), 1, "months", "%Y-%m-%d")
    >>> times.text(1), times.text(2)
    ('2020-02-29', '2020-03-31')
    """

    start: datetime
    step: int
    unit: str
    form: str
    day: int = 0

    @classmethod
    def of(cls, dates: Sequence[datetime], form: str) -> tuple[Self, NDArray[np.intp]]:
        """Return the steps that rising dates lie on, and the number of each date.

        The step is the one that stands most often between two of them.

        Raises
        ------
        ValueError
            Naming the first date that lies on no step, as ``(number, what is wrong)``.
        """
        months = np.array([12 * d.year + d.month for d in dates])
        days = [d.day for d in dates]
        moments = {(d.hour, d.minute, d.second) for d in dates}
        ends = _ends_of_months(dates)
        by_month = len(moments) == 1 and (len(set(days)) == 1 or ends)
        seconds = np.array([(d - dates[0]).total_seconds() for d in dates])
        by_month = by_month and bool((np.diff(months) > 0).all())
        counted, unit = (months - months[0], MONTHS) if by_month else (seconds, "seconds")
        steps, often = np.unique(np.diff(counted), return_counts=True)
        step = int(steps[often.argmax()]) if len(steps) else 1
        numbers = counted / step
        wrong = np.flatnonzero(numbers != np.round(numbers))
        times = cls(dates[0], step, unit, form, 31 if ends else days[0])
        if wrong.size:
            raise ValueError(
                int(wrong[0]),
                f"a date whole steps of {times.step_text} after the first, {times.text(0)}",
            )
        return times, numbers.astype(np.intp)

    @property
    def step_text(self) -> str:
        """The step as one says it."""
        if self.unit == MONTHS:
            return f"{self.step} month{'s' * (self.step != 1)}"
        return str(timedelta(seconds=self.step)).removesuffix(", 0:00:00")

    def at(self, number: int) -> datetime:
        """Return a date; the end of a month where that has no such day."""
        if self.unit != MONTHS:
            return self.start + timedelta(seconds=self.step * int(number))
        month = 12 * self.start.year + self.start.month - 1 + self.step * int(number)
        year, month = month // 12, month % 12 + 1
        last = (datetime(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
        return self.start.replace(year=year, month=month, day=min(self.day or self.start.day, last))

    def text(self, number: int) -> str:
        """Return a date as the file would write it."""
        return self.at(number).strftime(self.form).rjust(4, "0")

    def cycles(self) -> list[float]:
        """Return the seconds of the day, the week and the year, where several steps fill them."""
        step = YEAR / 12 * self.step if self.unit == MONTHS else float(self.step)
        return [cycle for cycle in (DAY, WEEK, YEAR) if cycle >= 2 * step]

    @property
    def calendar_size(self) -> int:
        """Features of a date."""
        return 2 * len(self.cycles())

    def calendar(self, count: int) -> NDArray[Any]:
        """Return sine and cosine of each cycle at the first dates, (count, features)."""
        origin = datetime(2000, 1, 3)  # a Monday
        if self.unit == MONTHS:
            moments = np.array([(self.at(n) - origin).total_seconds() for n in range(count)])
        else:
            first = (self.start - origin).total_seconds()
            moments = first + self.step * np.arange(count, dtype=float)
        angles = [2 * np.pi * (moments % cycle) / cycle for cycle in self.cycles()]
        waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
        return np.stack(waves, 1) if waves else np.zeros((count, 0))


def _ends_of_months(dates: Sequence[datetime]) -> bool:
    return all((d + timedelta(days=1)).day == 1 for d in dates)


def form_of(text: str) -> str | None:
    """Return how a date is written, None where it is none."""
    for form in FORMS:
        if parsed(text, form) is not None:
            return form
    return None


def parsed(text: str, form: str) -> datetime | None:
    """Return a date that is written in this form, None where it is not."""
    try:
        found = datetime.strptime(text, form)
    except ValueError:
        return None
    # strptime reads 2020-1-5 and 1 as %Y as well; what is written must be what was read.
    return found if found.strftime(form).rjust(4, "0") == text else None
