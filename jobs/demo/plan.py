"""What is asked for, and how it is cut into chunks, slots of a day and numbered files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum
from pathlib import Path

import numpy as np

from jobs.demo.month import DAY_SECONDS, HOUR_SECONDS, Flags, Integers, Month

BLOCK = 20
"""Subscriptions repeat their kinds every so many: 10 of the first mobile brand, 3 of the second, 7 fixed lines."""

CHUNK_RECORDS = 120_000
"""Records of a day made at a time, about: memory depends on this, not on the number of subscriptions."""

FILE_RECORDS = 500_000
"""Records that a file holds at most, about."""

MOBILE_FORMATS = ("delimited", "ts32297", "chf")
"""Formats in which the first mobile brand's records can be written."""

FIXED_FORMATS = ("deltas", "radius", "samis")
"""Formats in which the fixed lines' records can be written."""

FORMATS = (*MOBILE_FORMATS, *FIXED_FORMATS)

FIRST_NUMBERED_MONTH = date(2020, 1, 1)


class Purpose(IntEnum):
    """What random numbers are for: each purpose has its own stream, so that a change of one leaves the others."""

    SUBSCRIBERS = 1
    PGW_PIPE = 2
    PGW_FLATTENED = 3
    FIXED_DELTAS = 4


@dataclass(frozen=True)
class Plan:
    """The demo that is asked for. A *day* counts from 0 on the 1st; the last one holds what straddles the month end."""

    landing: Path
    month: Month
    subscriptions: int
    seed: int
    records_per_day: int
    formats: tuple[str, ...] = ("delimited",)

    def __post_init__(self) -> None:
        """Refuse what cannot be made. Raises ValueError."""
        if not BLOCK <= self.subscriptions < 10**8:
            raise ValueError(f"subscriptions is {self.subscriptions}, must be from {BLOCK} to {10**8 - 1}")
        if not 1 <= self.records_per_day <= 288:
            raise ValueError(f"records_per_day is {self.records_per_day}, must be from 1 to 288")
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats or len(set(self.formats)) != len(self.formats):
            raise ValueError(f"formats is {', '.join(self.formats) or 'empty'}, must be some of {', '.join(FORMATS)}, each once")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, must not be negative")
        if self.month.first < FIRST_NUMBERED_MONTH or self.number_of_redelivered > 999_999:
            raise ValueError(f"the files of {self.month.first:%Y-%m} cannot be numbered with six digits")

    @property
    def mobile_formats(self) -> tuple[str, ...]:
        """Formats that share out the first mobile brand's records."""
        return tuple(name for name in self.formats if name in MOBILE_FORMATS) or MOBILE_FORMATS[:1]

    @property
    def fixed_formats(self) -> tuple[str, ...]:
        """Formats that share out the fixed lines' records."""
        return tuple(name for name in self.formats if name in FIXED_FORMATS) or FIXED_FORMATS[:1]

    def is_cable(self, index: Integers) -> Flags:
        """Fixed lines whose records are SAMIS: they are known by the address of their modem."""
        is_cable: Flags = np.array(self.fixed_formats)[index % len(self.fixed_formats)] == "samis"
        return is_cable

    @property
    def chunk_subscriptions(self) -> int:
        """Subscriptions made at a time: whole blocks."""
        return BLOCK * max(1, CHUNK_RECORDS // (BLOCK * self.records_per_day))

    @property
    def chunks(self) -> int:
        """How many chunks the subscriptions make."""
        return -(-self.subscriptions // self.chunk_subscriptions)

    @property
    def chunks_per_file(self) -> int:
        """Chunks whose records of a day share a file."""
        return max(1, 2 * FILE_RECORDS // (self.chunk_subscriptions * self.records_per_day))

    @property
    def files_per_day(self) -> int:
        """Files that each series has a day."""
        return -(-self.chunks // self.chunks_per_file)

    @property
    def file_days(self) -> int:
        """Days that have files: those of the month and the one after it."""
        return self.month.days + 1

    def number(self, day: int, part: int) -> int:
        """Sequence number of a file: without a gap within a month, and from one month to the next."""
        months = (self.month.first.year - FIRST_NUMBERED_MONTH.year) * 12 + self.month.first.month - 1
        days_before = (self.month.first - FIRST_NUMBERED_MONTH).days + months
        return self.files_per_day * (days_before + day) + 2 * months + part + 1

    @property
    def number_of_late(self) -> int:
        """Sequence number of the file of late records: the one after the last day's."""
        return self.number(self.file_days, 0)

    @property
    def number_of_redelivered(self) -> int:
        """Sequence number under which a file comes again: the last one."""
        return self.number_of_late + 1

    def date_of(self, day: int) -> date:
        """Calendar date of a day of the demo."""
        return self.month.first + timedelta(days=day)

    @property
    def late_date(self) -> date:
        """Date of the late files: the third day after the month."""
        return self.date_of(self.month.days + 2)

    @property
    def slot_seconds(self) -> int:
        """Each subscription has one record per slot of the day."""
        return DAY_SECONDS // self.records_per_day

    def slots(self, day: int) -> int:
        """Slots of a day; after the month only those that can straddle its end."""
        return self.records_per_day if day < self.month.days else min(self.records_per_day, HOUR_SECONDS // self.slot_seconds + 2)

    def day_begins(self, day: int) -> int:
        """UTC seconds at which the first slot of a day begins: 22:00 UTC of the eve, never after legal midnight."""
        return (self.date_of(day) - date(1970, 1, 1)).days * DAY_SECONDS - 2 * HOUR_SECONDS

    def random(self, purpose: Purpose, day: int, chunk: int) -> np.random.Generator:
        """The random numbers of one purpose, day and chunk."""
        entropy = (self.seed, self.month.first.year, self.month.first.month, purpose, day, chunk)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
