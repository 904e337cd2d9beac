"""The subscriptions of the demo: who holds which identifier when, and how much each one uses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np

from jobs.demo.month import Flags, Integers, legal_midnight
from jobs.demo.plan import BLOCK, Plan, Purpose

OPEN = 2**62
"""The end of an interval that has none."""

EVENTFUL_BLOCKS = 10
"""One block of so many holds the subscriptions whose month is eventful, by their position in the block:"""

GIVES_IDENTIFIER = (0, 10, 13)  # its identifier moves to the next position in mid-month
TAKES_IDENTIFIER = (1, 11, 14)
HAS_TWO_IDENTIFIERS = (2, 18)
HAS_A_HOLE = (3, 15)
IS_ACTIVATED = (4, 12, 16)
IS_TERMINATED = (5, 17)  # at a legal midnight
CHANGES_IDENTIFIER = (6,)
TRAVELS_ALL_MONTH = (7,)
USES_NOTHING = (8, 19)

FIRST_BRAND, SECOND_BRAND, FIXED = 10, 13, 20
"""Positions of a block below which a subscription is mobile of the first brand, mobile of the second brand, fixed."""

MINUTES_A_DAY = 1_440


@dataclass(frozen=True)
class Subscribers:
    """Subscriptions, one element of each array per subscription.

    ``identifier`` and ``alternative`` are numbers of the identifier's own range; the alternative serves odd slots (``is_double``)
    or everything that closes from ``changes_at`` on. ``phase`` is where in a slot, in sixteenths, its records begin.
    """

    index: Integers
    identifier: Integers
    alternative: Integers
    is_double: Flags
    changes_at: Integers
    active_from: Integers
    active_to: Integers
    hole_from: Integers
    hole_to: Integers
    has_usage: Flags
    octets_per_record: Integers
    up_per_mille: Integers
    phase: Integers
    trip_zone: Integers
    trip_from: Integers
    trip_to: Integers
    technology: Integers
    is_business: Flags

    def __len__(self) -> int:
        """How many there are."""
        return len(self.index)

    @property
    def position(self) -> Integers:
        """Position in the block, which says the kind."""
        position: Integers = self.index % BLOCK
        return position

    @property
    def is_fixed(self) -> Flags:
        """It is a fixed line."""
        return self.position >= SECOND_BRAND

    @property
    def is_first_brand_mobile(self) -> Flags:
        """Its records come from pgw_pipe, by IMSI."""
        return self.position < FIRST_BRAND

    @property
    def is_second_brand_mobile(self) -> Flags:
        """Its records come from pgw_flattened, by MSISDN."""
        return ~self.is_fixed & ~self.is_first_brand_mobile

    def where(self, chosen: Flags) -> Subscribers:
        """Only the chosen ones."""
        return Subscribers(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def holds(self, holder: Integers, closed: Integers) -> Flags:
        """The subscription held its identifier when the interval closed."""
        is_active = (self.active_from[holder] <= closed) & (closed < self.active_to[holder])
        return is_active & ~((self.hole_from[holder] <= closed) & (closed < self.hole_to[holder]))

    def active_days(self, plan: Plan) -> Integers:
        """Legal days of the month on which each one was active at any moment."""
        first, after = plan.month.days_touched(self.active_from, np.minimum(self.active_to, self.hole_from))
        first_again, after_again = plan.month.days_touched(np.maximum(self.hole_to, self.active_from), self.active_to)
        shared = np.maximum(0, np.minimum(after, after_again) - np.maximum(first, first_again))
        days: Integers = (after - first) + (after_again - first_again) - shared
        return days


def subscribers(plan: Plan, chunk: int) -> Subscribers:
    """The subscriptions of a chunk: always the same ones, so they need not be kept."""
    first = chunk * plan.chunk_subscriptions
    index = np.arange(first, min(first + plan.chunk_subscriptions, plan.subscriptions), dtype=np.int64)
    random = plan.random(Purpose.SUBSCRIBERS, 0, chunk)
    roles = _Roles(index, plan.subscriptions)
    habits = _habits(plan, index, roles, random)
    lives = _lives(plan, index, roles, random)
    habits["phase"] = np.where(roles.are(TAKES_IDENTIFIER), np.roll(habits["phase"], 1), habits["phase"])
    return Subscribers(index=index, **lives, **habits)


class _Roles:
    """Which subscriptions have an eventful month: those of every tenth block that is whole."""

    def __init__(self, index: Integers, subscriptions: int) -> None:
        block = index // BLOCK
        self._position = index % BLOCK
        self.eventful = (block % EVENTFUL_BLOCKS == 0) & ((block + 1) * BLOCK <= subscriptions)

    def are(self, positions: tuple[int, ...]) -> Flags:
        """The subscription has the role of these positions."""
        have: Flags = self.eventful & np.isin(self._position, positions)
        return have


def _habits(plan: Plan, index: Integers, roles: _Roles, random: np.random.Generator) -> dict[str, Any]:
    """How each one uses the network: heavy-tailed mobile volumes, Gamma fixed volumes (formats.md §10)."""
    count, is_fixed = len(index), index % BLOCK >= SECOND_BRAND
    mobile_kilobytes = np.exp(np.log(15e6) - 1.4**2 / 2 + 1.4 * random.standard_normal(count))
    fixed_kilobytes = random.standard_gamma(0.7, count) * (250e6 / 0.7)
    # Whole kilobytes, and integers from here on: the last bit of a logarithm may differ between processors.
    kilobytes = np.clip(np.where(is_fixed, fixed_kilobytes, mobile_kilobytes), 1, 1e9).astype(np.int64)
    used_per_mille = np.where(is_fixed, 900, 864)  # the other records are empty, or voice
    is_idle = random.integers(0, 100, count) < np.where(is_fixed, 1, 10)
    travels = (random.integers(0, 100, count) < 8) & (index % BLOCK < FIRST_BRAND)
    trip_from = np.where(travels, random.integers(0, plan.month.days - 8, count), 0)
    trip_to = np.where(travels, trip_from + random.integers(4, 13, count), 0)
    return {
        "has_usage": np.where(roles.eventful, ~roles.are(USES_NOTHING), ~is_idle),
        "octets_per_record": kilobytes * 1_000_000 // (used_per_mille * plan.month.days * plan.records_per_day),
        "up_per_mille": np.where(is_fixed, random.integers(60, 121, count), random.integers(80, 161, count)),
        "phase": random.integers(0, 16, count),
        "trip_zone": random.integers(1, 7, count),
        "trip_from": np.where(roles.are(TRAVELS_ALL_MONTH), 0, trip_from),
        "trip_to": np.where(roles.are(TRAVELS_ALL_MONTH), plan.file_days, trip_to),
        "technology": random.integers(0, 100, count),
        "is_business": random.integers(0, 10, count) == 0,
    }


def _lives(plan: Plan, index: Integers, roles: _Roles, random: np.random.Generator) -> dict[str, Any]:
    """When each one is active and which identifiers it holds."""
    begun = _legal_midnights(plan.month.first)[random.integers(0, 2_500, len(index))]
    minutes = random.integers(3 * MINUTES_A_DAY, (plan.month.days - 8) * MINUTES_A_DAY, len(index))
    event = plan.month.start + 60 * minutes
    pause = 60 * random.integers(MINUTES_A_DAY // 2, 5 * MINUTES_A_DAY, len(index))
    takes, changes, has_hole = roles.are(TAKES_IDENTIFIER), roles.are(CHANGES_IDENTIFIER), roles.are(HAS_A_HOLE)
    event = np.where(takes, np.roll(event, 1), event)
    ends = np.where(roles.are(GIVES_IDENTIFIER), event, OPEN)
    second = 5 * 10 ** np.where(index % BLOCK >= SECOND_BRAND, 8, 9) + index
    return {
        "identifier": np.where(takes, index - 1, index),
        "alternative": np.where(roles.are(HAS_TWO_IDENTIFIERS) | changes, second, index),
        "is_double": roles.are(HAS_TWO_IDENTIFIERS),
        "changes_at": np.where(changes, event, OPEN),
        "active_from": np.where(takes | roles.are(IS_ACTIVATED), event, begun),
        "active_to": np.where(roles.are(IS_TERMINATED), plan.month.day_starts[14], ends),
        "hole_from": np.where(has_hole, event, OPEN),
        "hole_to": np.where(has_hole, event + pause, OPEN),
    }


@cache
def _legal_midnights(first: date) -> Integers:
    """Legal midnights of the years before the month, on which subscriptions were activated."""
    return np.array([legal_midnight(first - timedelta(days=ago)) for ago in range(30, 2_530)], dtype=np.int64)
