"""The subscription export: one line per identifier assignment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.demo.identifiers import imsis, line_ids, macs, msisdns, subscription_ids
from jobs.demo.month import HOME_ZONE, Integers
from jobs.demo.plan import Plan
from jobs.demo.subscribers import OPEN, Subscribers

HEADER = (
    b"subscription_id,network,access_technology,identifier_type,identifier,assigned_from,assigned_to,"
    b"active_from,active_to,segment,brand\n"
)


@dataclass(frozen=True)
class Assignments:
    """Who (position among the subscribers) held which identifier, and the stretch of activity that this lies in."""

    row: Integers
    identifier_type: Any
    identifier: Any
    assigned_from: Integers
    assigned_to: Integers
    active_from: Integers
    active_to: Integers


def export_lines(plan: Plan, who: Subscribers) -> pa.Array:
    """The assignments of those subscribers, one after the other."""
    stretches = _stretches_of_activity(plan, who)
    parts = (stretches, _second_identifiers(plan, who), _phone_numbers(plan, who, stretches))
    row = np.concatenate([part.row for part in parts])
    order = np.argsort(row, kind="stable")
    row = row[order]
    columns = [
        subscription_ids(who.index).take(row),
        network(who).take(row),
        _technology(who).take(row),
        *(pa.concat_arrays([getattr(part, name) for part in parts]).take(order) for name in ("identifier_type", "identifier")),
        *(_moments(np.concatenate([getattr(part, name) for part in parts])[order]) for name in _MOMENTS),
        pa.array(np.where(who.is_business, "business", "consumer")).take(row),
        pc.binary_join_element_wise(brand(who), "\n", "").take(row),
    ]
    return pc.binary_join_element_wise(*columns, ",")


_MOMENTS = ("assigned_from", "assigned_to", "active_from", "active_to")


def network(who: Subscribers) -> pa.Array:
    """Network of each subscription."""
    return pa.array(np.where(who.is_fixed, "fixed", "mobile"))


def brand(who: Subscribers) -> pa.Array:
    """Brand of each subscription: the second one sells its own mobile network access and some fixed lines."""
    return pa.array(np.where(who.is_second_brand_mobile | (who.position >= 18), "Beta", "Alpha"))


def _technology(who: Subscribers) -> pa.Array:
    mobile = np.where(who.technology < 60, "4g", "5g")
    fixed = np.select([who.technology < 75, who.technology < 90], ["fibre", "vdsl"], "cable")
    return pa.array(np.where(who.is_fixed, fixed, mobile))


def _stretches_of_activity(plan: Plan, who: Subscribers) -> Assignments:
    """The main identifier of each subscription; one whose activity has a hole comes twice."""
    everyone = np.arange(len(who), dtype=np.int64)
    resumed = everyone[who.hole_to < OPEN]
    row = np.concatenate([everyone, resumed])
    since = np.concatenate([who.active_from, who.hole_to[resumed]])
    until = np.concatenate([np.minimum(who.active_to, who.hole_from), who.active_to[resumed]])
    types, names = _types(plan, who).take(row), _identifiers(plan, who, who.identifier).take(row)
    return Assignments(row, types, names, since, np.minimum(until, who.changes_at[row]), since, until)


def _second_identifiers(plan: Plan, who: Subscribers) -> Assignments:
    """The identifiers that some hold as well, or from some moment on instead."""
    row = np.flatnonzero(who.alternative != who.index)
    begun = np.where(who.is_double[row], who.active_from[row], who.changes_at[row])
    types, names = _types(plan, who).take(row), _identifiers(plan, who, who.alternative).take(row)
    return Assignments(row, types, names, begun, who.active_to[row], who.active_from[row], who.active_to[row])


def _phone_numbers(plan: Plan, who: Subscribers, stretches: Assignments) -> Assignments:
    """Who is known by an IMSI has a phone number too."""
    chosen = np.flatnonzero(who.is_first_brand_mobile[stretches.row])
    row, since, until = stretches.row[chosen], stretches.active_from[chosen], stretches.active_to[chosen]
    return Assignments(row, pa.repeat("msisdn", len(row)), msisdns(plan, who.index[row]), since, until, since, until)


def _types(plan: Plan, who: Subscribers) -> pa.Array:
    fixed = np.where(plan.is_cable(who.index), "mac", "line_id")
    return pa.array(np.where(who.is_fixed, fixed, np.where(who.is_first_brand_mobile, "imsi", "msisdn")))


def _identifiers(plan: Plan, who: Subscribers, numbers: Integers) -> pa.Array:
    mobile = pc.if_else(pa.array(who.is_first_brand_mobile), imsis(numbers), msisdns(plan, numbers))
    fixed = pc.if_else(pa.array(plan.is_cable(who.index)), macs(numbers), line_ids(numbers))
    return pc.if_else(pa.array(who.is_fixed), fixed, mobile)


def _moments(seconds: Integers) -> pa.Array:
    """ISO 8601 with the offset of the legal clock; empty if open."""
    distinct, position = np.unique(seconds, return_inverse=True)
    return pa.array([_moment(int(second)) for second in distinct], pa.string()).take(position)


def _moment(second: int) -> str:
    return "" if second == OPEN else datetime.fromtimestamp(second, UTC).astimezone(ZoneInfo(HOME_ZONE)).isoformat()
