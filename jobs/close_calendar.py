"""The close calendar: where each month stands, until when what is due, and what is held for its restatement.

A month is open while records come in, provisional once it is estimated, closed when it is published to billing, and restated when
a later revision is published. What comes for a closed month is held and counted: never lost, never added unasked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

from pyspark.sql import functions as F

from jobs import ledger
from jobs.lake import in_month
from jobs.legal_calendar import months_before
from jobs.month import is_left_behind
from jobs.retention import months_of
from jobs.workplace import Workplace
from schemas.tables import ACCEPTED, ESTIMATED, PUBLICATIONS, READINGS, SUBSCRIBED

_GIGABYTES_PER_OCTET = Decimal("1e-9")


@dataclass(frozen=True)
class Standing:
    """Where a month stands; days are the last ones on which what they are due for is in time."""

    usage_month: date
    state: str
    """open, provisional, closed or restated."""
    revision: int
    """Revision published; 0 if none is."""
    batch_cutoff: int | None
    """Last batch that is counted; None while nothing is estimated."""
    subscriptions: int | None
    provisional_due: date
    billing_due: date
    restatement_until: date
    is_overdue: bool
    """What comes next is past its day: the estimate, the publication, or the restatement of what is held."""
    late_records: int
    late_octets: int
    withdrawn_records: int
    withdrawn_octets: int
    pending_gco2e: Decimal | None
    """Grams that the held volume comes to at the mean factor of its network, about; None where no volume tells the factor."""
    is_left_behind: bool
    """It counts from counters of the month before, which changed since."""

    @property
    def late_gigabytes(self) -> Decimal:
        """Decimal gigabytes that came late."""
        return self.late_octets * _GIGABYTES_PER_OCTET


def standings(workplace: Workplace) -> list[Standing]:
    """Every month that the lake has records or figures of, in order."""
    known = {month for table in (ACCEPTED, READINGS, ESTIMATED, PUBLICATIONS) for month in months_of(workplace, table)}
    held = ledger.held(workplace.lake)
    return [_standing(workplace, month, held.get(month)) for month in sorted(known)]


def words(found: Sequence[Standing]) -> Iterator[str]:
    """A line or more for each month."""
    for month in found:
        counted = (
            "" if month.batch_cutoff is None else f", batch cutoff {month.batch_cutoff}, {month.subscriptions:,} subscriptions"
        )
        yield f"{month.usage_month:%Y-%m}  {month.state:<12}revision {month.revision}{counted}"
        yield (
            f"         provisional {month.provisional_due}, billing {month.billing_due}, "
            f"restatement until {month.restatement_until}{'  OVERDUE' if month.is_overdue else ''}"
        )
        if month.late_records or month.withdrawn_records:
            pending = "grams not known" if month.pending_gco2e is None else f"about {month.pending_gco2e:,} gCO2e pending"
            gone = f", {month.withdrawn_records:,} withdrawn with {month.withdrawn_octets * _GIGABYTES_PER_OCTET:,.3f} GB"
            late = f"{month.late_records:,} late records with {month.late_gigabytes:,.3f} GB"
            yield f"         held: {late}{gone if month.withdrawn_records else ''}, {pending}"
        if month.is_left_behind:
            yield f"         left behind: counters of {months_before(month.usage_month, 1):%Y-%m} changed; restate it"
    if not found:
        yield "no month is known to this lake"


def as_json(found: Sequence[Standing]) -> Iterator[str]:
    """One JSON list; days and decimals as text."""
    rows = [asdict(month) | {"late_gigabytes": format(month.late_gigabytes, "f")} for month in found]
    yield json.dumps([{name: _plain(value) for name, value in row.items()} for row in rows], indent=2)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat() if isinstance(value, date) else value


def _standing(workplace: Workplace, usage_month: date, held: ledger.Held | None) -> Standing:
    lake, settings = workplace.lake, workplace.settings
    published = ledger.current(lake, usage_month)
    revision = published.revision if published else 1
    last_day = months_before(usage_month, -1) - timedelta(days=1)
    provisional, billing, restatement = (
        last_day + timedelta(days=days) for days in (settings.provisional_days, settings.billing_days, settings.restatement_days)
    )
    cutoff, subscriptions = (published.batch_cutoff, published.subscriptions) if published else _estimated(workplace, usage_month)
    if published:
        state, due = ("restated" if revision > 1 else "closed"), restatement if held else None
    else:
        state, due = ("open", provisional) if cutoff is None else ("provisional", billing)
    today = workplace.now().astimezone(settings.legal_timezone).date()
    return Standing(
        usage_month,
        state,
        revision if published else 0,
        cutoff,
        subscriptions,
        provisional,
        billing,
        restatement,
        due is not None and today > due,
        *((held.records, held.octets, held.withdrawn_records, held.withdrawn_octets) if held else (0, 0, 0, 0)),
        _pending(workplace, usage_month, revision, held) if held else Decimal(0),
        is_left_behind(lake, usage_month),
    )


def _estimated(workplace: Workplace, usage_month: date) -> tuple[int | None, int | None]:
    """Batch cutoff and subscriptions of an estimate that is not published."""
    lake = workplace.lake
    cutoff = lake.read(ESTIMATED, in_month(usage_month, revision=1)).agg(F.max("batch_cutoff")).collect()[0][0]
    return (None, None) if cutoff is None else (cutoff, lake.read(SUBSCRIBED, in_month(usage_month, revision=1)).count())


def _pending(workplace: Workplace, usage_month: date, revision: int, held: ledger.Held) -> Decimal | None:
    """Held gigabytes times the mean factor of the month's volume in their network."""
    volumes = (
        workplace.lake.read(ESTIMATED, in_month(usage_month, revision=revision)).where("component = 'volume'").groupBy("network")
    )
    sums = volumes.agg(F.sum("quantity").alias("gigabytes"), F.sum("gco2e").alias("gco2e")).collect()
    mean = {row.network: row.gco2e / row.gigabytes for row in sums if row.gigabytes}
    pending = Decimal(0)
    for source, octets in held.octets_by_source.items():
        network = workplace.networks.get(source)
        if octets and network not in mean:
            return None
        pending += octets * _GIGABYTES_PER_OCTET * mean.get(network, Decimal(0))
    return pending.quantize(Decimal("0.001"), ROUND_HALF_UP)
