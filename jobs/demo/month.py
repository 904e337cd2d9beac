"""The legal month of the demo, and the clocks that its records were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

HOME_ZONE = "Europe/Paris"
HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


def legal_midnight(day: date) -> int:
    """UTC seconds at which a legal day starts."""
    return int(datetime.combine(day, time(), ZoneInfo(HOME_ZONE)).timestamp())


@dataclass(frozen=True)
class Month:
    """A legal month: UTC seconds at which each of its days starts, then the second that ends it."""

    first: date
    day_starts: Integers

    @classmethod
    def of(cls, first: date) -> Month:
        """The legal month that starts on that day. Raises ValueError if it is not the first of a month."""
        if first.day != 1:
            raise ValueError(f"{first} is not the first day of a month")
        after = (first + timedelta(days=31)).replace(day=1)
        days = [first + timedelta(days=day) for day in range((after - first).days + 1)]
        return cls(first, np.array([legal_midnight(day) for day in days], dtype=np.int64))

    @property
    def days(self) -> int:
        """How many legal days the month has."""
        return len(self.day_starts) - 1

    @property
    def start(self) -> int:
        """First second of the month, UTC."""
        return int(self.day_starts[0])

    @property
    def end(self) -> int:
        """First second after the month, UTC."""
        return int(self.day_starts[-1])

    def octets_inside(self, octets: Integers, opened: Integers, closed: Integers) -> Integers:
        """The octets of each interval that belong to the month, split by elapsed seconds with the first part floored."""
        lasted = closed - opened
        until_end = octets * np.clip(self.end - opened, 0, lasted) // lasted
        until_start = octets * np.clip(self.start - opened, 0, lasted) // lasted
        return until_end - until_start

    def days_touched(self, begun: Integers, ended: Integers) -> tuple[Integers, Integers]:
        """First legal day of the month that each half-open interval touches, and the day after the last one; equal if none."""
        first = np.searchsorted(self.day_starts, np.clip(begun, self.start, self.end), side="right") - 1
        after = np.searchsorted(self.day_starts, np.clip(ended, self.start, self.end), side="left")
        return first.astype(np.int64), np.maximum(after, first).astype(np.int64)


@dataclass(frozen=True)
class Clocks:
    """Offsets from UTC of some time zones, hour by hour around the month. All of them change on a whole hour of UTC."""

    begins: int
    offsets: Integers

    @classmethod
    def around(cls, month: Month, zones: Sequence[str]) -> Clocks:
        """The clocks of those zones from ten days before the month until ten days after."""
        begins = month.start - 10 * DAY_SECONDS
        moments = [datetime.fromtimestamp(s, UTC) for s in range(begins, month.end + 10 * DAY_SECONDS, HOUR_SECONDS)]
        rows = [[_offset(moment.astimezone(ZoneInfo(zone))) for moment in moments] for zone in zones]
        return cls(begins, np.array(rows, dtype=np.int64))

    def offset(self, zone: Integers | int, moments: Integers) -> Integers:
        """Seconds that the zone's local time is ahead of UTC. ``zone`` is the position among the zones."""
        ahead: Integers = self.offsets[zone, (moments - self.begins) // HOUR_SECONDS]
        return ahead

    def comes_twice(self, zone: int, moments: Integers) -> Flags:
        """The local time of these moments is written twice that day, because the clock is put back."""
        now = self.offset(zone, moments)
        first_time = self.offset(zone, moments + HOUR_SECONDS) < now
        return first_time | (self.offset(zone, moments - HOUR_SECONDS) > now)


def _offset(moment: datetime) -> int:
    ahead = moment.utcoffset()
    assert ahead is not None  # the moment was converted to a zone
    return int(ahead.total_seconds())


def digits(local_seconds: Integers) -> Integers:
    """Local seconds written ``YYYYMMDDHHMMSS``, as a number."""
    day, second = np.divmod(local_seconds, DAY_SECONDS)
    earliest, latest = (int(day.min()), int(day.max())) if len(day) else (0, 0)
    names = [int(f"{date(1970, 1, 1) + timedelta(days=d):%Y%m%d}") for d in range(earliest, latest + 1)]
    minute, second = np.divmod(second, 60)
    hour, minute = np.divmod(minute, 60)
    written: Integers = np.array(names, dtype=np.int64)[day - earliest] * 1_000_000 + hour * 10_000 + minute * 100 + second
    return written
