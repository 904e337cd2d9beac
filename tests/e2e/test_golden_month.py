"""A month computed by hand, and what may happen to it afterwards. The tests tell one story, in order, on one lake."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from jobs.run import CallError, Refused
from tests.e2e.landing import GB, HEADER, pipe, subscription, write, write_flattened

pytestmark = [pytest.mark.spark, pytest.mark.slow]

OCTOBER = "2026-10"
ANA, BEN, CAT = "001010000000001", "001010000000002", "001010000000003"
SUBSCRIPTIONS = [
    HEADER,
    subscription("ana", "mobile", ("imsi", ANA)),
    # An IMSI moves from old to cat on the 16th, where old ends.
    subscription("ben", "mobile", ("imsi", BEN)),
    subscription(
        "old",
        "mobile",
        ("imsi", CAT),
        ("2025-01-01T00:00:00+01:00", "2026-10-16T00:00:00+02:00"),
        ("2025-01-01T00:00:00+01:00", "2026-10-16T00:00:00+02:00"),
    ),
    subscription("cat", "mobile", ("imsi", CAT), ("2026-10-16T00:00:00+02:00", ""), ("2026-10-16T00:00:00+02:00", "")),
    subscription("dan", "mobile", ("msisdn", "0639980004"), brand="Beta"),
    subscription("eve", "fixed", ("line_id", "L000000001")),
    subscription("fay", "fixed", ("line_id", "L000000002")),
]
EXPECTED = {
    # name: (bytes, shown GB, shown grams, estimated)
    # 2 GB inside the month, and the second half of 2 GB that straddles its begin: 475 + 3 x 12.3 = 511.9
    "ana": (3 * GB, 3, 512, False),
    # 0.4 GB at home and 0.1 GB abroad; a record of unreadable volume: 475 + 0.5 x 12.3 = 481.15, 0.5 GB shows as 1
    "ben": (GB // 2, 1, 481, True),
    "old": (1 * GB, 1, 487, False),  # 475 + 12.3 = 487.3
    "cat": (2 * GB, 2, 500, False),  # 475 + 24.6 = 499.6
    "dan": (14_300_000_000, 14, 651, False),  # 475 + 14.3 x 12.3 = 650.89
    "eve": (0, 0, 4175, False),
    "fay": (250 * GB, 250, 4613, False),  # 4,175 + 250 x 1.75 = 4,612.5
}


def october(landing: Path) -> None:
    write(landing, "subscriptions/subscriptions_202610.csv", SUBSCRIPTIONS)
    write(
        landing,
        "pgw_pipe/S4PGWB000001",
        [
            pipe(ANA, "20260930233000", "straddles", 2 * GB),
            pipe(ANA, "20261005100000", "a1", GB, GB),
            pipe(BEN, "20261006100000", "b1", 300_000_000, 100_000_000),
            pipe(BEN, "20261007100000", "b2", "12x4"),
            pipe(CAT, "20261010100000", "c1", GB),
            pipe(CAT, "20261020100000", "c2", 2 * GB),
            pipe("001010000000009", "20261008100000", "unknown", 10_000),
            pipe("262010000000001", "20261008100000", "visitor", 7 * GB),
            pipe(ANA, "20261008100000", "volte", GB, apn="ims"),
            pipe(ANA, "20261009100000", "nothing", 0),
        ],
    )
    write(
        landing,
        "pgw_pipe/S4PGWM000001",
        [
            pipe(BEN, "20261012100000", "m1", 100_000_000, kind="RGP", offset="+0100"),
            pipe(BEN, "20261012100000", "m1", 100_000_000, kind="RGP", offset="+0100"),
        ],
    )
    write_flattened(
        landing, "pgw_20261001_0001.parquet", [("33639980004", "internet", "20261015120000", 300_000_000, 14_000_000_000)]
    )
    lines = ["line_id,interval_start,interval_end,octets_up,octets_down"]
    lines += ["L000000002,2026-10-02T00:00:00Z,2026-10-02T01:00:00Z,25000000000,225000000000"]
    write(landing, "fixed_deltas/fixed_20261002_0001.csv", lines)


def published(settings) -> dict[str, dict]:
    """The published rows by subscription id, read without Spark."""
    from deltalake import DeltaTable

    from jobs.pseudonyms import SERVING_KEY, read_key

    key = read_key(settings.keys, f"{SERVING_KEY}.key")
    names = {key.pseudonym("subscription", name).hex(): name for name in EXPECTED}
    table = DeltaTable(f"{settings.lake}/published").to_pyarrow_table().to_pylist()
    return {
        names.get(row["subscription_key"], row["subscription_key"]): row
        for row in table
        if row["usage_month"] == date(2026, 10, 1)
    }


def versions(settings) -> dict[str, int]:
    from deltalake import DeltaTable

    kept = ("accepted", "subscriptions", "metered", "estimated", "verdicts", "revisions", "publications", "published", "batches")
    return {name: DeltaTable(f"{settings.lake}/{name}").version() for name in kept}


def test_every_subscription_gets_the_row_computed_by_hand(settings, run):
    october(Path(settings.landing))

    run(settings, OCTOBER)

    rows = published(settings)
    shown = ("data_volume_bytes", "data_volume_gb_displayed", "footprint_gco2e_displayed", "is_estimated")
    assert {name: tuple(row[column] for column in shown) for name, row in rows.items()} == EXPECTED
    assert rows["fay"]["footprint_gco2e"] == Decimal("4612.5")
    assert rows["fay"]["volume_gco2e"] == Decimal("437.5")
    assert {row["factor_set"] for row in rows.values()} == {"FR-RCP2-NAT-2022"}
    assert all(row["is_national_default"] and row["footprint_gco2e_low"] is None for row in rows.values())


def test_every_record_is_accounted_for(settings):
    from deltalake import DeltaTable

    balances = DeltaTable(f"{settings.lake}/file_balances").to_pyarrow_table().to_pylist()
    pipe_rows = [row for row in balances if row["source"] == "pgw_pipe"]
    counts = ("received", "accepted", "duplicate", "rejected", "out_of_scope")
    assert [sum(row[f"records_{name}"] for row in pipe_rows) for name in counts] == [12, 8, 1, 1, 2]
    assert [json.loads(row["out_of_scope_reasons"]) for row in pipe_rows if row["records_out_of_scope"]] == [
        {"ims_apn": 1, "inbound_roamer": 1}
    ]


def test_usage_of_the_month_before_is_kept_for_it(settings):
    from deltalake import DeltaTable

    accepted = DeltaTable(f"{settings.lake}/accepted").to_pyarrow_table().to_pylist()
    september = [row for row in accepted if row["usage_month"] == date(2026, 9, 1)]
    assert [(row["octets_down"], row["is_prorated"], row["month_part"]) for row in september] == [(GB, True, 1)]


def test_usage_of_an_unknown_identifier_stays_visible(settings):
    from deltalake import DeltaTable

    metered = DeltaTable(f"{settings.lake}/metered").to_pyarrow_table().to_pylist()
    assert [row["octets_down"] for row in metered if row["attribution"] == "unknown_identifier"] == [10_000]


def test_four_engines_and_postgresql_read_equal_rows(settings, spark):
    import duckdb
    import polars
    from deltalake import DeltaTable

    from jobs.postgres import connect
    from schemas.tables import PUBLISHED

    place, names = f"{settings.lake}/published", list(PUBLISHED.names)

    def canonical(rows):
        return sorted(tuple(str(row[name]) for name in names) for row in rows)

    expected = canonical(DeltaTable(place).to_pyarrow_table().to_pylist())
    assert len(expected) == len(EXPECTED)
    assert canonical(row.asDict() for row in spark.read.format("delta").load(place).collect()) == expected
    assert canonical(polars.read_delta(place).to_dicts()) == expected
    with duckdb.connect() as db:
        load_delta_extension(db)
        found = db.execute(f"SELECT {', '.join(names)} FROM delta_scan('{place}')").fetchall()
    assert sorted(tuple(map(str, row)) for row in found) == expected
    with closing(connect(settings)) as connection:
        served = connection.execute(f"SELECT {', '.join(names)} FROM footprint.published").fetchall()
    assert sorted(tuple(map(str, row)) for row in served) == expected


def load_delta_extension(db) -> None:
    import duckdb_extension_delta

    folder = Path(duckdb_extension_delta.__file__).parent
    extension = next(folder.rglob("delta.duckdb_extension"))
    db.execute(f"LOAD '{extension}'")


def test_the_same_month_run_twice_changes_nothing(settings, run):
    before = versions(settings)

    run(settings, OCTOBER)

    assert versions(settings) == before


def test_a_file_delivered_again_changes_nothing(settings, run):
    before, rows = versions(settings), published(settings)
    folder = Path(settings.landing) / "pgw_pipe"
    shutil.copy(folder / "S4PGWB000001", folder / "S4PGWB000002")

    said = run(settings, OCTOBER)

    assert "land      1 duplicate" in said
    assert (versions(settings), published(settings)) == (before, rows)


def test_a_changed_file_under_a_known_name_is_refused_where_the_source_says_so(settings, run):
    changed = write(Path(settings.landing), "pgw_pipe/S4PGWM000001", [pipe(BEN, "20261012100000", "m1", 5 * GB)])

    said = run(settings, OCTOBER, ("land", "accept"))

    changed.unlink()
    assert any("pgw_pipe/S4PGWM000001 is refused: other bytes than delivery" in line for line in said)
    assert "accept    nothing new to read" in said


def test_a_late_file_for_a_published_month_is_held_counted_and_said(settings, run):
    rows = published(settings)
    write(Path(settings.landing), "pgw_pipe/S4PGWB000003", [pipe(ANA, "20261025100000", "late", 3 * GB)])

    with pytest.raises(Refused, match=r"2026-10 is published as revision 1; 1 records with 3.000 GB came later and are held"):
        run(settings, OCTOBER)

    assert published(settings) == rows


def test_a_late_file_for_an_unpublished_month_is_added(settings, run):
    landing = Path(settings.landing)
    write(landing, "subscriptions/subscriptions_202611.csv", [HEADER, subscription("ana", "mobile", ("imsi", ANA))])
    write(landing, "pgw_pipe/S4PGWB000004", [pipe(ANA, "20261105100000", "n1", GB, offset="+0100")])
    run(settings, "2026-11", ("land", "accept"))
    write(landing, "pgw_pipe/S4PGWB000005", [pipe(ANA, "20261106100000", "n2", GB, offset="+0100")])

    run(settings, "2026-11", ("land", "accept", "meter", "estimate", "verify"))

    assert november_octets(settings) == 2 * GB


def test_a_postgresql_that_serves_another_lake_is_told_before_anything_is_published(settings, run):
    from deltalake import DeltaTable

    from jobs.postgres import connect

    other = "SELECT (jsonb_populate_record(held, '{\"publication_id\": 99}')).* FROM footprint.publications AS held LIMIT 1"
    with closing(connect(settings)) as connection:
        connection.execute(f"INSERT INTO footprint.publications {other}")
        try:
            with pytest.raises(CallError, match="serves publication 99, which is not in the ledger of this lake"):
                run(settings, "2026-11", ("publish",))
        finally:
            connection.execute("DELETE FROM footprint.publications WHERE publication_id = 99")

    published = DeltaTable(f"{settings.lake}/publications").to_pyarrow_table()["usage_month"].to_pylist()
    assert date(2026, 11, 1) not in published


def test_a_kill_between_the_ledger_and_postgresql_heals_on_the_next_run(settings, run, monkeypatch):
    from jobs import serving
    from jobs.postgres import connect

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(serving, "load_publication", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings, "2026-11", ("publish",))
    with closing(connect(settings)) as connection:
        assert max(serving.publication_ids(connection)) == date(2026, 10, 1)

        run(settings, "2026-11", ("publish",))

        assert max(serving.publication_ids(connection)) == date(2026, 11, 1)


def november_octets(settings) -> int:
    from deltalake import DeltaTable

    rows = DeltaTable(f"{settings.lake}/metered").to_pyarrow_table().to_pylist()
    return sum(row["octets_up"] + row["octets_down"] for row in rows if row["usage_month"] == date(2026, 11, 1))


def test_a_batch_that_was_cut_short_is_finished_without_doubling(settings, run, monkeypatch):
    from jobs.lake import Lake
    from schemas.tables import REJECTED

    lines = [pipe(ANA, "20261205100000", "d1", GB, offset="+0100"), pipe(ANA, "20261205110000", "d2", "?", offset="+0100")]
    write(Path(settings.landing), "pgw_pipe/S4PGWB000006", lines)
    commit = Lake.commit

    def cut_short(self, table, *asked):
        if table is REJECTED:
            raise KeyboardInterrupt
        commit(self, table, *asked)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "commit", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run(settings, "2026-12", ("land", "accept"))
    assert visible_december(settings) == []

    run(settings, "2026-12", ("accept",))

    assert visible_december(settings) == [GB]


def visible_december(settings) -> list[int]:
    """Octets of December's accepted rows that count."""
    from jobs.batches import AsOf
    from jobs.workplace import workplace
    from schemas.tables import ACCEPTED

    with workplace(settings, "test", str) as opened:
        rows = AsOf.now(opened.lake).rows(ACCEPTED).where("usage_month = DATE'2026-12-01'").collect()
    return sorted(row.octets_down for row in rows)


def test_a_file_read_anew_replaces_its_rows(settings, run):
    from jobs import stages
    from jobs.workplace import workplace

    changed = [pipe(ANA, "20261205100000", "d1", GB, offset="+0100"), pipe(ANA, "20261205110000", "d2", 2 * GB, offset="+0100")]
    write(Path(settings.landing), "pgw_pipe/S4PGWB000006", changed)

    with workplace(settings, "test", str) as opened:
        stages.reaccept_file(opened, "pgw_pipe/S4PGWB000006", "mediation sent a corrected file")

    assert visible_december(settings) == [GB, 2 * GB]


def test_a_record_counts_again_when_the_file_that_held_its_copy_is_withdrawn(settings, run):
    from jobs import stages
    from jobs.workplace import workplace

    # S4PGWB000007 repeats d1 of S4PGWB000006, which is then corrected and no longer holds it.
    write(Path(settings.landing), "pgw_pipe/S4PGWB000007", [pipe(ANA, "20261205100000", "d1", GB, offset="+0100")])
    run(settings, "2026-12", ("land", "accept"))
    assert visible_december(settings) == [GB, 2 * GB]
    write(Path(settings.landing), "pgw_pipe/S4PGWB000006", [pipe(ANA, "20261205110000", "d2", 2 * GB, offset="+0100")])

    with workplace(settings, "test", str) as opened:
        stages.reaccept_file(opened, "pgw_pipe/S4PGWB000006", "mediation sent a corrected file")

    assert visible_december(settings) == [GB, 2 * GB]


def test_a_corrected_subscription_export_replaces_the_earlier_one(settings, run):
    landing = Path(settings.landing)
    late_start = ("2026-12-20T00:00:00+01:00", "")
    write(landing, "subscriptions/subscriptions_202612.csv", [HEADER, subscription("zoe", "mobile", ("imsi", ANA[:-1] + "7"))])
    run(settings, "2026-12", ("land", "accept"))
    write(
        landing,
        "subscriptions/subscriptions_202612.csv",
        [HEADER, subscription("ann", "mobile", ("imsi", ANA[:-1] + "8"), late_start, late_start)],
    )

    said = run(settings, "2026-12", ("land", "accept", "meter"))

    assert "land      1 superseding" in said
    from deltalake import DeltaTable

    rows = DeltaTable(f"{settings.lake}/subscribed").to_pyarrow_table().to_pylist()
    assert 12 in [row["active_days"] for row in rows if row["usage_month"] == date(2026, 12, 1)]
    assert len([row for row in rows if row["usage_month"] == date(2026, 12, 1)]) == 6 + 1


def test_a_kill_between_the_ledger_and_the_published_table_heals_on_the_next_run(settings, run, monkeypatch):
    from deltalake import DeltaTable

    from jobs import serving
    from jobs.lake import Lake
    from jobs.postgres import connect
    from schemas.tables import PUBLISHED

    replace_files = Lake.replace_files

    def killed(self, table, *asked, **within):
        if table is PUBLISHED:
            raise KeyboardInterrupt
        return replace_files(self, table, *asked, **within)

    def december() -> list[int]:
        rows = DeltaTable(f"{settings.lake}/published").to_pyarrow_table().to_pylist()
        return [row["publication_id"] for row in rows if row["usage_month"] == date(2026, 12, 1)]

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "replace_files", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings, "2026-12", ("estimate", "verify", "publish"))
    assert december() == []

    run(settings, "2026-12", ("publish",))

    with closing(connect(settings)) as connection:
        assert {*december()} == {serving.publication_ids(connection)[date(2026, 12, 1)]}


def test_a_month_without_usage_is_refused_and_leaves_no_row(settings, run):
    from deltalake import DeltaTable

    with pytest.raises(Refused, match="metered of 2027-03 would be empty"):
        run(settings, "2027-03", ("meter",))
    rows = DeltaTable(f"{settings.lake}/subscribed").to_pyarrow_table().to_pylist()
    assert not [row for row in rows if row["usage_month"] == date(2027, 3, 1)]
    with pytest.raises(Refused, match="run meter first"):
        run(settings, "2027-03", ("estimate",))
