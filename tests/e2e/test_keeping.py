"""Keys that are succeeded, records and figures that may no longer be kept. The tests tell one story, in order, on one lake."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.run import Refused, Settings
from tests.e2e.landing import GB, HEADER, pipe, subscription, write

pytestmark = [pytest.mark.spark, pytest.mark.slow]

ANA, BEN = "001010000000001", "001010000000002"
OCTOBER, JANUARY = date(2026, 10, 1), date(2027, 1, 1)
SHORTLY_BEFORE, AFTER, LONG_AFTER = (datetime(*day, 12, tzinfo=UTC) for day in ((2026, 12, 20), (2027, 2, 10), (2029, 1, 10)))


def at(settings: Settings, now: datetime, do: Callable[[Any], Any]) -> list[str]:
    """Do something in the lake as if it were another day; return what was said."""
    from jobs.workplace import workplace

    said: list[str] = []
    with workplace(settings, "test", said.append) as opened:
        do(dataclasses.replace(opened, now=lambda: now))
    return said


def month_at(settings: Settings, now: datetime, month: date) -> list[str]:
    from jobs import stages
    from jobs.launch import STAGES

    return at(settings, now, lambda opened: [stages.run(opened, stage, month) for stage in STAGES])


def upkeep_at(settings: Settings, now: datetime) -> list[str]:
    from jobs.upkeep import upkeep

    return at(settings, now, upkeep)


def key_of(settings: Settings, name: str, month: date) -> str:
    from jobs.cli import _subscription_key

    return _subscription_key(settings, name, month)


def read(settings: Settings, table: Any) -> list[Any]:
    from jobs.lake import Lake
    from jobs.spark import session

    return Lake(lambda: session(settings), settings.lake, lambda: None).read(table).collect()


def served(settings: Settings, statement: str) -> list[Any]:
    from jobs.postgres import connect

    with closing(connect(settings)) as connection:
        return connection.execute(statement.encode()).fetchall()


def volumes(settings: Settings, month: date) -> dict[str, int]:
    from schemas.tables import PUBLISHED

    return {r.subscription_key: r.data_volume_bytes for r in read(settings, PUBLISHED) if r.usage_month == month}


def test_two_months_are_published_each_under_the_keys_that_serve_it(settings):
    from jobs.workplace import rotate_key
    from schemas.tables import ACCEPTED

    left = "2026-10-10T00:00:00+02:00"
    both = [
        subscription("ana", "mobile", ("imsi", ANA)),
        subscription("ben", "mobile", ("imsi", BEN), ("2025-01-01T00:00:00+01:00", left), ("2025-01-01T00:00:00+01:00", left)),
    ]
    landing = Path(settings.landing)
    write(landing, "subscriptions/subscriptions_202610.csv", [HEADER, *both])
    october = [pipe(ANA, "20261005100000", "a1", GB), pipe(BEN, "20261006100000", "b1", 2 * GB)]
    write(landing, "pgw_pipe/S4PGWB000001", [*october, pipe(BEN, "20261007100000", "b2", "12x4")])
    month_at(settings, datetime(2026, 11, 10, tzinfo=UTC), OCTOBER)

    for name in ("identifier", "serving"):
        at(settings, SHORTLY_BEFORE, lambda opened, name=name: rotate_key(opened, name, JANUARY))
    write(landing, "subscriptions/subscriptions_202701.csv", [HEADER, both[0]])
    straddles = pipe(ANA, "20261231233000", "new year", 2 * GB, offset="+0100")
    write(landing, "pgw_pipe/S4PGWB000002", [pipe(ANA, "20270105100000", "a2", 3 * GB, offset="+0100"), straddles])
    month_at(settings, datetime(2027, 2, 5, tzinfo=UTC), JANUARY)

    old, new = key_of(settings, "ana", OCTOBER), key_of(settings, "ana", JANUARY)
    assert old != new
    assert volumes(settings, OCTOBER) == {old: GB, key_of(settings, "ben", OCTOBER): 2 * GB}
    assert volumes(settings, JANUARY) == {new: 4 * GB}
    assert len({row.identifier_key for row in read(settings, ACCEPTED)}) == 3
    assert {path.name for path in settings.keys.iterdir()} == {
        f"{name}{since}.key" for name in ("identifier", "serving") for since in ("", ".2027-01")
    }


def test_a_key_is_rotated_only_from_a_month_that_lies_ahead(settings):
    from jobs.workplace import rotate_key

    with pytest.raises(Refused, match="2027-02 has begun"):
        at(settings, AFTER, lambda opened: rotate_key(opened, "serving", date(2027, 2, 1)))
    with pytest.raises(Refused, match="was rotated from 2027-01 on: choose a later month"):
        at(settings, SHORTLY_BEFORE, lambda opened: rotate_key(opened, "serving", JANUARY))


def test_while_a_month_is_young_nothing_is_erased(settings):
    from schemas.tables import ACCEPTED, SUBSCRIPTIONS

    before = (read(settings, ACCEPTED), read(settings, SUBSCRIPTIONS))

    said = upkeep_at(settings, datetime(2026, 12, 5, 22, 59, tzinfo=UTC))

    assert said == ["upkeep    records erased: none, with 0 files", "upkeep    figures erased: none"]
    assert (read(settings, ACCEPTED), read(settings, SUBSCRIPTIONS)) == before


def test_the_records_of_an_old_month_go_with_their_files_and_what_tells_whose_they_were(settings):
    from schemas.tables import ACCEPTED, FILE_BALANCES, REJECTED, SUBSCRIPTIONS

    figures = volumes(settings, OCTOBER)

    said = upkeep_at(settings, AFTER)

    # December has the first half of the record that straddles new year; it was never published.
    assert said == [
        "upkeep    records erased: 2026-10, with 2 files",
        "upkeep    figures erased: none",
        "upkeep    2026-12 is not published: its records are kept, until 2027-11-30 at the longest",
    ]
    assert {row.usage_month for row in read(settings, ACCEPTED)} == {date(2026, 12, 1), JANUARY}
    (lost,) = [row for row in read(settings, REJECTED) if row.reason != "duplicate"]  # of assignments that come every month
    assert (lost.reason, lost.detail, lost.usage_month) == ("volume_malformed", "DownloadVol", OCTOBER)
    assert (lost.identifier_key, lost.record_key, lost.closed_at) == (None, None, None)
    assert len({row.subscription_key for row in read(settings, SUBSCRIPTIONS)}) == 2  # ana's, under either key
    assert [str(p.relative_to(settings.landing)) for p in sorted(Path(settings.landing).rglob("*")) if p.is_file()] == [
        "pgw_pipe/S4PGWB000002",
        "subscriptions/subscriptions_202701.csv",
    ]
    assert len(read(settings, FILE_BALANCES)) == 4
    assert volumes(settings, OCTOBER) == figures


def test_what_was_erased_is_gone_from_the_disk_once_old_versions_are(settings, spark):
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    place = f"{settings.lake}/accepted"
    spark.sql(f"ALTER TABLE delta.`{place}` SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    assert list(Path(place).glob("usage_month=2026-10-01/*.parquet"))

    upkeep_at(settings, AFTER)

    assert not list(Path(place).glob("usage_month=2026-10-01/*.parquet"))
    assert list(Path(place).glob("usage_month=2027-01-01/*.parquet"))


def test_an_erased_month_is_told_of_and_stays_as_it_was_published(settings):
    from jobs import summary
    from jobs.stages import reaccept_file

    said = month_at(settings, AFTER, OCTOBER)
    assert any(line.startswith("publish   2026-10 revision 1, publication 1: 2 subscriptions") for line in said)
    lines: list[str] = []
    at(settings, AFTER, lambda opened: summary.write(opened, OCTOBER, lines.append))
    assert any("volume malformed 1" in line for line in lines)
    with pytest.raises(Refused, match=r"pgw_pipe/S4PGWB000001 is no longer in the landing folder"):
        at(settings, AFTER, lambda opened: reaccept_file(opened, "pgw_pipe/S4PGWB000001", "look again"))


def test_a_subscription_is_erased_where_the_law_no_longer_asks_for_it(settings):
    from jobs.upkeep import erase_subscription
    from schemas.tables import ERASURES, ESTIMATED, METERED, REVISIONS, SUBSCRIBED

    old, new = key_of(settings, "ana", OCTOBER), key_of(settings, "ana", JANUARY)

    said = at(settings, AFTER, lambda opened: erase_subscription(opened, "ana", "asked by letter"))

    assert said[0] == "erase     2027-01 is kept for the legal duty until 2027-03-07: call again then"
    assert set(volumes(settings, OCTOBER)) == {key_of(settings, "ben", OCTOBER)}
    assert set(volumes(settings, JANUARY)) == {new}
    for table in (METERED, SUBSCRIBED, ESTIMATED):
        assert bytes.fromhex(old) not in [row.subscription_key for row in read(settings, table)]
    assert old not in [row.subscription_key for row in read(settings, REVISIONS)]
    statement = "SELECT subscription_key FROM footprint.{} WHERE usage_month = '2026-10-01'"
    assert [served(settings, statement.format(name)) for name in ("published", "revisions")] == [
        [(key_of(settings, "ben", OCTOBER),)]
    ] * 2
    (logged,) = [row for row in read(settings, ERASURES) if row.kind == "subscription"]
    assert (logged.usage_month, logged.reason) == (OCTOBER, "asked by letter")
    with pytest.raises(Refused, match="no figure of this subscription may be erased now, or none is kept"):
        at(settings, AFTER, lambda opened: erase_subscription(opened, "ana", "again"))


def test_postgresql_is_loaded_anew_with_what_is_left(settings):
    served_before = served(settings, "SELECT * FROM footprint.published ORDER BY usage_month, subscription_key")
    drop(settings)

    month_at(settings, AFTER, JANUARY)

    assert served(settings, "SELECT * FROM footprint.published ORDER BY usage_month, subscription_key") == served_before
    assert served(settings, "SELECT subscriptions FROM footprint.publications ORDER BY usage_month") == [(2,), (1,)]


def test_figures_go_when_they_are_no_longer_shown_and_the_ledger_stays(settings):
    from schemas.tables import METERED, PUBLICATIONS, PUBLISHED, REVISIONS, SUBSCRIPTIONS

    said = upkeep_at(settings, LONG_AFTER)

    assert "upkeep    figures erased: 2026-10" in said
    assert {row.usage_month for table in (METERED, PUBLISHED, REVISIONS) for row in read(settings, table)} == {JANUARY}
    assert served(settings, "SELECT DISTINCT usage_month FROM footprint.published") == [(JANUARY,)]
    assert sorted(row.usage_month for row in read(settings, PUBLICATIONS)) == [OCTOBER, JANUARY]
    assert {row.keys_from for row in read(settings, SUBSCRIPTIONS)} == {JANUARY}
    idle = f"{settings.keys}/{{}}.key serves no month that is kept: destroy it and every copy of it"
    assert [line.removeprefix("upkeep    ") for line in said[-2:]] == [idle.format(name) for name in ("identifier", "serving")]


def test_keys_that_serve_no_month_may_be_destroyed_and_postgresql_still_be_loaded_anew(settings):
    for name in ("identifier", "serving"):
        (settings.keys / f"{name}.key").unlink()
    drop(settings)

    month_at(settings, LONG_AFTER, JANUARY)

    assert served(settings, "SELECT publication_id, subscriptions FROM footprint.publications ORDER BY 1") == [(1, 2), (2, 1)]
    assert served(settings, "SELECT DISTINCT publication_id FROM footprint.published") == [(2,)]


def drop(settings: Settings) -> None:
    from jobs.postgres import connect

    with closing(connect(settings)) as connection:
        connection.execute("DROP SCHEMA footprint CASCADE")
