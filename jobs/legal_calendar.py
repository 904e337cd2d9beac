"""The legal calendar: which month an instant belongs to, and what of an interval lies in which month.

Months begin at local midnight of the legal time zone (Europe/Paris for the AGEC law), so October has 745 hours and March 743.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Microseconds = npt.NDArray[np.int64]

FIRST_YEAR, LAST_YEAR = 2000, 2099
_SECOND = 1_000_000


@dataclass(frozen=True)
class Month:
    """A legal month: its first day, its bounds in UTC, and its time zone."""

    usage_month: date
    begin: datetime
    end: datetime
    timezone: str

    @property
    def days(self) -> int:
        """Legal days of the month."""
        return len(days_of(self.usage_month))


@lru_cache(maxsize=8)
def month_starts(legal: ZoneInfo) -> Microseconds:
    """Local midnight of the first of every month from FIRST_YEAR to the end of LAST_YEAR, in microseconds UTC."""
    months = [(year, month) for year in range(FIRST_YEAR, LAST_YEAR + 1) for month in range(1, 13)] + [(LAST_YEAR + 1, 1)]
    return np.array([microseconds(datetime(y, m, 1, tzinfo=legal)) for y, m in months], dtype=np.int64)


def bounds(usage_month: date, legal: ZoneInfo) -> tuple[datetime, datetime]:
    """First instant of a legal month and of the next, in UTC."""
    begin = datetime(usage_month.year, usage_month.month, 1, tzinfo=legal)
    following = datetime(usage_month.year + usage_month.month // 12, usage_month.month % 12 + 1, 1, tzinfo=legal)
    return begin.astimezone(UTC), following.astimezone(UTC)


def month_index(instants: Microseconds, legal: ZoneInfo) -> Microseconds:
    """Number of the month an instant lies in, from 0; -1 or the last index + 1 outside the calendar."""
    starts = month_starts(legal)
    # Instants that come together lie in few months, mostly in one.
    ends = [instants.min(), instants.max()] if len(instants) else [0, 0]
    first, last = np.searchsorted(starts, ends, side="right")
    found: Microseconds = first - 1 + np.searchsorted(starts[first:last], instants, side="right")
    return found


def month_number(usage_month: date) -> int:
    """Number of a month, as ``month_index`` counts."""
    return (usage_month.year - FIRST_YEAR) * 12 + usage_month.month - 1


def months_before(usage_month: date, count: int) -> date:
    """The month that lies some months before another."""
    year, month = divmod(usage_month.year * 12 + usage_month.month - 1 - count, 12)
    return date(year, month + 1, 1)


def days_of(usage_month: date) -> list[date]:
    """Every day of a month."""
    return [usage_month + timedelta(days=n) for n in range((months_before(usage_month, -1) - usage_month).days)]


def day_starts(usage_month: date, legal: ZoneInfo) -> Microseconds:
    """Local midnight of every day of a month, in microseconds UTC."""
    return np.array([microseconds(datetime.combine(day, time(), legal)) for day in days_of(usage_month)], dtype=np.int64)


def months(indices: Microseconds) -> npt.NDArray[np.datetime64]:
    """First days of the months of those numbers."""
    return (np.datetime64(f"{FIRST_YEAR}-01", "M") + indices).astype("datetime64[D]")


def split(opened: int, closed: int, octets: tuple[int, int], legal: ZoneInfo) -> Iterator[tuple[int, tuple[int, int]]]:
    """Split an interval that straddles month ends by elapsed time.

    The first part gets floor(octets · s₁ / s), the rest goes on to the next month, up and down apart; so the parts always add up
    to the interval (DESIGN §2).

    Args:
        opened: start in microseconds UTC.
        closed: end in microseconds UTC, after the start.
        octets: up and down.
        legal: legal time zone.

    Yields:
        Number of the month, and its octets up and down.
    """
    starts = month_starts(legal)
    index = int(np.searchsorted(starts, opened, side="right")) - 1
    rest = octets
    while closed > (end := int(starts[index + 1])):
        part = tuple(value * (end - opened) // (closed - opened) for value in rest)
        yield index, (part[0], part[1])
        rest = (rest[0] - part[0], rest[1] - part[1])
        opened, index = end, index + 1
    yield index, rest


def microseconds(instant: datetime) -> int:
    """An instant, with its zone, in microseconds UTC since 1970."""
    return int(instant.timestamp()) * _SECOND
