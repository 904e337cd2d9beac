"""Usage of a day: one record per subscription and slot, and those of strangers, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from jobs.demo.month import HOUR_SECONDS, Flags, Integers, Month
from jobs.demo.plan import Plan
from jobs.demo.subscribers import Subscribers

STRANGERS_PER_CHUNK = 64
"""Unknown identifiers of a chunk; more than it has records of them in a day."""


FASTEST_OCTETS_PER_S = 1_000_000_000
"""What a subscription uses at most in a second: 8 Gbit/s."""


class Kind(IntEnum):
    """Whose data a record is."""

    SUBSCRIBER = 0
    UNKNOWN = 1
    INBOUND_ROAMER = 2
    IMS = 3


@dataclass(frozen=True)
class Usage:
    """Records, one element of each array per record.

    ``holder`` is a position among the subscribers, or below 0 for a stranger; ``is_second`` says that it is the holder's
    alternative identifier; ``zone`` is the position of the visited network, 0 at home; ``serial`` is unique.
    """

    holder: Integers
    is_second: Flags
    opened: Integers
    closed: Integers
    up: Integers
    down: Integers
    zone: Integers
    kind: Integers
    serial: Integers

    def __len__(self) -> int:
        """How many there are."""
        return len(self.holder)

    @property
    def is_empty(self) -> Flags:
        """The record has no octets, as gateways write many."""
        is_empty: Flags = self.up + self.down == 0
        return is_empty

    @property
    def is_attributed(self) -> Flags:
        """The record is the data of a subscription."""
        is_attributed: Flags = self.kind == Kind.SUBSCRIBER
        return is_attributed

    @property
    def is_strange(self) -> Flags:
        """No subscription holds the identifier."""
        return self.holder < 0

    @property
    def stranger(self) -> Integers:
        """Number of the stranger, from 0."""
        return -1 - self.holder

    def lies_in(self, month: Month) -> Flags:
        """The whole interval lies in the month."""
        return (self.opened >= month.start) & (self.closed <= month.end)

    def where(self, chosen: Flags | Integers) -> Usage:
        """Only the chosen ones, by flags or positions."""
        return Usage(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def name(self, subscribers: int) -> Integers:
        """Position among the identifiers: those of so many subscribers, their alternatives, then the strangers' in order."""
        theirs = self.holder + subscribers * self.is_second
        return np.where(self.is_strange, 2 * subscribers - 1 + np.cumsum(self.is_strange), theirs)

    def followed_by(self, other: Usage) -> Usage:
        """These records, then the others."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return Usage(**{name: np.concatenate(pair) for name, pair in pairs.items()})


def partial_records(plan: Plan, day: int, who: Subscribers, random: np.random.Generator) -> Usage:
    """Mobile records: at most an hour long, anywhere in their slot; some lie beyond the month ends."""
    holder, slot, begins = _slots(plan, day, who)
    longest = min(HOUR_SECONDS, plan.slot_seconds)
    is_whole = random.integers(0, 10, len(holder), dtype=np.uint8) < 7
    lasts = np.where(is_whole, longest, random.integers(60, longest + 1, len(holder)))
    opened = begins + random.integers(0, 2**16, len(holder)) * (plan.slot_seconds - lasts) // 2**16
    usage = _records(plan, day, who, (holder, slot, opened, opened + lasts), random)
    is_near = (usage.closed > plan.month.start - HOUR_SECONDS) & (usage.opened < plan.month.end + HOUR_SECONDS)
    return usage.where(is_near & who.holds(holder, usage.closed))


def intervals(plan: Plan, day: int, who: Subscribers, random: np.random.Generator) -> Usage:
    """Fixed records: intervals that follow one another without a gap; the first and last ones straddle the month ends."""
    holder, slot, begins = _slots(plan, day, who)
    usage = _records(plan, day, who, (holder, slot, begins, begins + plan.slot_seconds), random)
    is_near = (usage.closed > plan.month.start) & (usage.opened < plan.month.end)
    return usage.where(is_near & who.holds(holder, usage.closed))


def strangers(plan: Plan, day: int, chunk: int, counts: dict[Kind, int], random: np.random.Generator) -> Usage:
    """Records of identifiers that no subscription holds, none after the month."""
    kind = np.repeat(np.array(list(counts), dtype=np.int64), list(counts.values()))
    kind = kind[: len(kind) if day < plan.month.days else 0]
    ordinal = np.arange(len(kind), dtype=np.int64)
    slot = random.integers(0, plan.slots(day), len(kind))
    opened = plan.day_begins(day) + slot * plan.slot_seconds
    down = random.integers(1_000, 20_000_000, len(kind))
    holder = -1 - (chunk * STRANGERS_PER_CHUNK + ordinal)
    serial = 10**18 + (plan.date_of(day).toordinal() * plan.chunks + chunk) * 10**6 + ordinal
    never, at_home = np.full(len(kind), False), np.zeros(len(kind), dtype=np.int64)
    return Usage(holder, never, opened, opened + plan.slot_seconds, down // 9, down, at_home, kind, serial)


def _slots(plan: Plan, day: int, who: Subscribers) -> tuple[Integers, Integers, Integers]:
    """Holder, slot and start of the slot, for every subscriber and slot of the day."""
    slots = plan.slots(day)
    holder = np.repeat(np.arange(len(who), dtype=np.int64), slots)
    slot = np.tile(np.arange(slots, dtype=np.int64), len(who))
    early = np.repeat(who.phase * plan.slot_seconds // 16, slots)
    return holder, slot, plan.day_begins(day) + slot * plan.slot_seconds - early


def _records(
    plan: Plan, day: int, who: Subscribers, when: tuple[Integers, Integers, Integers, Integers], random: np.random.Generator
) -> Usage:
    holder, slot, opened, closed = when
    up, down = _octets(who, holder, closed - opened, random)
    is_second = np.where(who.is_double[holder], slot % 2 == 1, closed >= who.changes_at[holder])
    travels = (who.trip_from[holder] <= day) & (day < who.trip_to[holder])
    serial = (plan.date_of(day).toordinal() * 288 + slot) * 10**8 + who.index[holder]
    zone = np.where(travels, who.trip_zone[holder], 0)
    return Usage(holder, is_second, opened, closed, up, down, zone, np.zeros(len(holder), dtype=np.int64), serial)


def _octets(who: Subscribers, holder: Integers, seconds: Integers, random: np.random.Generator) -> tuple[Integers, Integers]:
    """A tenth of the records is empty; the others share the month's octets by exponential weights, in whole 1024ths.

    No more than an access carries in the time: where few records share a heavy user's month, one of a minute could be absurd.
    """
    weight = np.minimum(random.standard_exponential(len(holder)) * 1024, 2**15).astype(np.int64)
    weight[random.integers(0, 10, len(holder), dtype=np.uint8) == 0] = 0
    octets = np.minimum(who.octets_per_record[holder] * weight // 1024, seconds * FASTEST_OCTETS_PER_S)
    up = octets * who.up_per_mille[holder] // 1000
    return up, octets - up
