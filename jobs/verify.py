"""verify: measure a month, let Great Expectations judge the measurements, and keep the verdict.

The evidence is a row per network and rule: counts, sums and shares, no value of a subscriber.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

from data_quality.judge import Measurement, judge, load
from data_quality.ratios import ratios
from data_quality.rules import EVERY_NETWORK, read_rules, rule_for
from factors.expression import DECIMAL_GIGABYTE
from jobs import evidence, ledger
from jobs.assumed import expired_hypotheses, unfrozen_factors
from jobs.batches import AsOf
from jobs.completeness import Gap, gaps
from jobs.evidence import Applied, Daily, Seen
from jobs.grouped import added_up, distinct
from jobs.lake import Lake, in_month, rows_that_break_rules
from jobs.land import read_deliveries, sequence_gaps
from jobs.legal_calendar import months_before
from jobs.month import factors_of, used_records
from jobs.run import Refused, code_version, revision_name
from jobs.table_rows import OfFiles, files_of, files_where
from jobs.workplace import Workplace
from schemas.table import Table
from schemas.tables import (
    COUNTER_BALANCES,
    ESTIMATED,
    EVIDENCE,
    FILE_BALANCES,
    METERED,
    PUBLISHED,
    REJECTED,
    SUBSCRIBED,
    VERDICTS,
)

Found = Iterator[tuple[str, str, Decimal | int | None]]


def verify_month(workplace: Workplace, usage_month: date) -> None:
    """Judge a month's next revision and store evidence and verdict.

    Raises:
        Refused: a blocking rule failed; the message names each with what was measured.
    """
    lake = workplace.lake
    load()
    state = estimated_state(workplace, usage_month)
    counted = AsOf.now(lake).at(state["batch_cutoff"])
    month, revision = workplace.month(usage_month), state["revision"]
    seen = evidence.see(counted, month, _daily(workplace, counted, usage_month, revision))
    use = _applied(lake, usage_month, revision)
    measurements = _measurements(workplace, counted, usage_month, revision, seen, use)
    title = revision_name(usage_month, revision)
    passed = judge(measurements, title, workplace.settings.data_docs / title)
    number = max((row.verdict_id for row in lake.small(VERDICTS)), default=0) + 1
    judged = [_evidence(m, ok, usage_month, number) for m, ok in zip(measurements, passed, strict=True)]
    lake.append_rows(EVIDENCE, judged)
    evidence.keep(lake, seen, use, month, number)
    failed = [m for m, ok in zip(measurements, passed, strict=True) if not ok]
    blocking = [m for m in failed if m.is_blocking]
    verdict = {
        "verdict_id": number,
        "usage_month": usage_month,
        **state,
        "code_version": code_version(),
        "passed": not blocking,
        "rules": len(measurements),
        "failures": len(blocking),
        "warnings": len(failed) - len(blocking),
        "summary": "; ".join(_in_words(m) for m in failed) or "every rule is met",
        "judged_at": workplace.now(),
    }
    lake.append_rows(VERDICTS, [verdict])
    if blocking:
        raise Refused(f"{usage_month:%Y-%m} is not fit to publish: {'; '.join(_in_words(m) for m in blocking)}")


def estimated_state(workplace: Workplace, usage_month: date) -> dict[str, Any]:
    """Revision, batch cutoff and factors of the estimate of a month's next revision. Raises Refused if it was not estimated."""
    revision = ledger.next_revision(workplace.lake, usage_month)
    of = ("batch_cutoff", "factors_id")
    found = distinct(_rows(workplace.lake, ESTIMATED, of, usage_month, revision=revision), of)
    if len(found) != 1:
        raise Refused(f"{usage_month:%Y-%m} is not estimated: run estimate first")
    return {"revision": revision, **found[0]}


def _rows(lake: Lake, table: Table, columns: Sequence[str], usage_month: date, **within: int) -> OfFiles:
    return OfFiles(lake, [files_where(lake, table, in_month(usage_month, **within))], columns)


def _applied(lake: Lake, usage_month: date, revision: int) -> Applied:
    estimated = _rows(lake, ESTIMATED, evidence.OF_COMPONENT, usage_month, revision=revision)
    metered = _rows(lake, METERED, evidence.OF_USAGE, usage_month, revision=revision)
    subscribed = _rows(lake, SUBSCRIBED, evidence.OF_SUBSCRIPTION, usage_month, revision=revision)
    return evidence.applied(lake.spark, estimated, metered, subscribed)


def _daily(workplace: Workplace, counted: AsOf, usage_month: date, revision: int) -> Daily:
    """What came of each source on each day: of the records, or once they are erased as it was when the month was published."""
    published = ledger.current(workplace.lake, usage_month)
    if published is not None and ledger.records_erased(workplace.lake, usage_month):
        return evidence.daily_as_judged(workplace.lake, published.verdict_id)
    records = used_records(workplace, counted, usage_month, revision)
    return evidence.daily_usage(records, workplace.settings.legal_timezone.key)


def _measurements(
    workplace: Workplace, counted: AsOf, usage_month: date, revision: int, seen: Seen, use: Applied
) -> list[Measurement]:
    lake, rules = workplace.lake, read_rules()
    subscribed = _rows(lake, SUBSCRIBED, ("network", "brand"), usage_month, revision=revision)
    active = added_up(subscribed, ("network", "brand"), {"count": ("sum", "1")})
    brands = {row["brand"] for row in active}
    subscriptions = Counter({EVERY_NETWORK: sum(row["count"] for row in active)})
    for row in active:
        subscriptions[row["network"]] += row["count"]
    named = {
        "expired_hypotheses": expired_hypotheses(workplace, usage_month),
        "unfrozen_factors": unfrozen_factors(workplace, usage_month),
    }
    found = [
        *_received(workplace, counted, seen),
        *_sequences(workplace),
        *_counted_by_totals(workplace, usage_month, counted.cutoff),
        *_days(workplace, seen.daily, usage_month),
        *_reconciled(workplace, seen.octets, use, (usage_month, revision), subscriptions, brands),
        *_assumed(named),
    ]
    measurements = []
    for name, network, measured in sorted(found, key=lambda item: (item[1], item[0])):
        rule = rule_for(rules, name, network)
        is_blocking = rule.is_blocking and subscriptions.get(network, 0) >= rule.plausible_from
        exact = None if measured is None else Decimal(measured).quantize(Decimal("1e-12"))
        measurements.append(Measurement(network, rule, exact, is_blocking, named.get(name, ())))
    return measurements


def _assumed(named: Mapping[str, tuple[str, ...]]) -> Found:
    """What is taken for granted beyond its expiry day, and factors that could still be edited."""
    yield "expired_hypotheses", EVERY_NETWORK, len(named["expired_hypotheses"])
    yield "unfrozen_factors", EVERY_NETWORK, len(named["unfrozen_factors"])


def _received(workplace: Workplace, counted: AsOf, seen: Seen) -> Found:
    """What the files of the month say: balances, rejections, quarantined octets, unreadable files."""
    rows, found = seen.files, gaps(seen.numbered)
    for network in sorted(set(workplace.networks.values())):
        of_network = [row for row in rows if workplace.networks.get(row.source) == network]
        lost = sum((row.records_lost or 0) + max(0, (row.records_declared or 0) - row.records_received) for row in of_network)
        yield "rejected_records_share", network, _share(of_network, "records_rejected", "records_received")
        yield "lost_records", network, lost
        yield "missing_records_share", network, _missing_share(found, of_network, workplace.networks, network)
        yield "quarantined_octets_share", network, _share(of_network, "octets_quarantined", "octets_received")
    exports = [row for row in rows if row.source not in workplace.networks]
    yield "rejected_assignments_share", EVERY_NETWORK, _share(exports, "records_rejected", "records_received")
    yield "files_out_of_balance", EVERY_NETWORK, rows_that_break_rules(FILE_BALANCES, [row.asDict() for row in rows])
    rejected = OfFiles(workplace.lake, [files_of(counted, REJECTED, {"reason": "unreadable_file"})], ["file_number"])
    unreadable = {row["file_number"] for row in distinct(rejected, ["file_number"])}
    yield "unreadable_files", EVERY_NETWORK, len(unreadable & {row.file_number for row in rows})


def _missing_share(found: list[Gap], rows: list[Any], networks: Mapping[str, str], network: str) -> Decimal | None:
    """Share of the records that network elements numbered and that never came."""
    missing = sum(gap.missing for gap in found if networks.get(gap.source) == network)
    received = sum(row.records_received for row in rows)
    return Decimal(missing) / Decimal(missing + received) if missing + received else None


def _share(rows: list[Any], part: str, whole: str) -> Decimal | None:
    total = sum(row[whole] for row in rows)
    return Decimal(sum(row[part] for row in rows)) / Decimal(total) if total else None


def _sequences(workplace: Workplace) -> Found:
    gaps = sequence_gaps(read_deliveries(workplace.lake))
    yield "missing_files", EVERY_NETWORK, sum(len(numbers) for numbers in gaps.values())


def _counted_by_totals(workplace: Workplace, usage_month: date, cutoff: int) -> Found:
    """Of counters that only grow: intervals that are not exact, and sessions that ended without a stop."""
    of_month = [r for r in workplace.lake.small(COUNTER_BALANCES) if (r.usage_month, r.batch_cutoff) == (usage_month, cutoff)]
    for network in sorted({workplace.networks[row.source] for row in of_month if row.source in workplace.networks}):
        rows = [row for row in of_month if workplace.networks.get(row.source) == network]
        yield "estimated_intervals_share", network, _share(rows, "intervals_estimated", "intervals")
        yield "lost_sessions_share", network, _share(rows, "sessions_lost", "sessions")


def _days(workplace: Workplace, daily: Daily, usage_month: date) -> Found:
    """Days of a source on which its volume fell below a tenth of its median: a silent outage."""
    silent: dict[str, int] = {}
    for source in {source for source, _ in daily}:
        network, octets = workplace.networks[source], evidence.octets_by_day(daily, source, usage_month)
        middle = median(octets)
        silent[network] = silent.get(network, 0) + sum(value * 10 < middle for value in octets)
    for network, number in sorted(silent.items()):
        yield "silent_days", network, number


def _reconciled(
    workplace: Workplace,
    received_octets: int,
    use: Applied,
    state: tuple[date, int],
    subscriptions: Mapping[str, int],
    brands: Collection[str],
) -> Found:
    """Octets from accepted to metered to estimated, components per subscription, and the products themselves."""
    usage_month, revision = state
    columns = ("attribution", "octets_up", "octets_down")
    metered = _rows(workplace.lake, METERED, columns, usage_month, revision=revision)
    by_attribution = added_up(metered, ["attribution"], {"octets": ("sum", "CAST(octets_up AS HUGEINT) + octets_down")})
    total = sum(row["octets"] for row in by_attribution)
    held = sum(row["octets"] for row in by_attribution if row["attribution"] == "holder")
    yield "octets_lost_in_metering", EVERY_NETWORK, received_octets - total
    yield "unattributed_octets_share", EVERY_NETWORK, Decimal(total - held) / Decimal(total) if total else None
    counted, before = _counted_octets(workplace, usage_month, use, brands), _published_before(workplace, usage_month)
    for network, row in _by_network(use).items():
        active = subscriptions.get(network, 0)
        yield "octets_lost_in_estimation", network, counted.get(network, 0) - int(row.gigabytes * DECIMAL_GIGABYTE)
        yield "subscriptions_without_component", network, active - row.subscriptions
        yield "repeated_components", network, use.repeated[network]
        yield "inexact_products", network, row.inexact
        for name, ratio in ratios(active, row.gigabytes, row.volume_gco2e, row.gco2e).items():
            yield name, network, ratio
        yield from _against_before(before.get(network), network, row, active)


def _against_before(before: Any, network: str, row: _Estimated, active: int) -> Found:
    """Means of a month over those of the month before; None where there is nothing to compare with."""
    gigabytes = before and active and Decimal(before.octets) / before.subscriptions / DECIMAL_GIGABYTE
    yield "gigabytes_against_month_before", network, row.gigabytes / active / gigabytes if gigabytes else None
    grams = before and active and Decimal(before.gco2e) / before.subscriptions
    yield "gco2e_against_month_before", network, row.gco2e / active / grams if grams else None


def _published_before(workplace: Workplace, usage_month: date) -> dict[str, Any]:
    """Sums of the month before by network, as published; nothing if it was not."""
    if ledger.current(workplace.lake, months_before(usage_month, 1)) is None:
        return {}
    rows = _rows(workplace.lake, PUBLISHED, ("network", "data_volume_bytes", "footprint_gco2e"), months_before(usage_month, 1))
    sums = {"subscriptions": ("sum", "1"), "octets": ("sum", "data_volume_bytes"), "gco2e": ("sum", "footprint_gco2e")}
    return {row["network"]: SimpleNamespace(**row) for row in added_up(rows, ["network"], sums)}


def _counted_octets(workplace: Workplace, usage_month: date, use: Applied, brands: Collection[str]) -> dict[str, int]:
    """Octets metered for holders that the factors count, by network of the subscription."""
    both_ways = {(f.brand, f.network): f.volume_basis == "up_and_down" for f in factors_of(workplace, usage_month, brands)}
    counted: dict[str, int] = {}
    for (brand, network), (up, down) in use.octets.items():
        counted[network] = counted.get(network, 0) + down + (up if both_ways[brand, network] else 0)
    return counted


class _Estimated(NamedTuple):
    """What was estimated of a network."""

    subscriptions: int
    inexact: int
    gigabytes: Decimal
    volume_gco2e: Decimal
    gco2e: Decimal


def _by_network(use: Applied) -> dict[str, _Estimated]:
    found = {}
    with localcontext() as exact:
        exact.prec = 60
        for network in sorted({row["network"] for row in use.factors}):
            rows = [row for row in use.factors if row["network"] == network]
            volumes = [row for row in rows if row["component"] == "volume"]
            found[network] = _Estimated(
                subscriptions=sum(row["components"] for row in rows if row["component"] != "volume"),
                inexact=sum(row["inexact"] for row in rows),
                gigabytes=sum((row["quantity"] for row in volumes), Decimal(0)),
                volume_gco2e=sum((row["gco2e"] for row in volumes), Decimal(0)),
                gco2e=sum((row["gco2e"] for row in rows), Decimal(0)),
            )
    return found


def _evidence(measurement: Measurement, passed: bool, usage_month: date, verdict_id: int) -> dict[str, Any]:
    rule = measurement.rule
    return {
        "usage_month": usage_month,
        "verdict_id": verdict_id,
        "network": measurement.network,
        "rule": rule.name,
        "measured": measurement.measured,
        "lowest": rule.lowest,
        "highest": rule.highest,
        "unit": rule.unit,
        "is_blocking": measurement.is_blocking,
        "passed": passed,
    }


def _in_words(measurement: Measurement) -> str:
    rule = measurement.rule
    bounds = " to ".join(str(limit) for limit in (rule.lowest, rule.highest) if limit is not None)
    measured = format((measurement.measured or Decimal(0)).normalize(), "f")
    allowed = f"{'up to ' if rule.lowest is None else ''}{bounds}"
    slip = None if measurement.measured is None else rule.slip(measurement.measured)
    named = f" ({', '.join(measurement.named)})" if measurement.named else ""
    why = f" ({slip})" if slip else ""
    return f"{rule.name} of {measurement.network} is {measured} {rule.unit}{named}, allowed {allowed}{why}"


def latest_verdict(workplace: Workplace, usage_month: date) -> Any:
    """The last verdict of a month; None if it was never judged."""
    rows = [row for row in workplace.lake.small(VERDICTS) if row.usage_month == usage_month]
    return max(rows, key=lambda row: int(row.verdict_id), default=None)


def verdict_of(workplace: Workplace, publication: Any) -> Any:
    """The verdict that let a publication pass."""
    (verdict,) = [row for row in workplace.lake.small(VERDICTS) if row.verdict_id == publication.verdict_id]
    return verdict


def is_published(workplace: Workplace, usage_month: date) -> bool:
    """The month has a publication, so its figures are pinned."""
    return ledger.current(workplace.lake, usage_month) is not None
