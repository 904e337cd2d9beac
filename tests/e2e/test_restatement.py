"""A published month is restated: four causes at once, each recovered to the last decimal. The tests tell one story, in order."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.run import Refused, Settings
from tests.e2e import both_engines
from tests.e2e.conftest import at_a_place, run_stages
from tests.e2e.landing import GB, HEADER, pipe, subscription, write

pytestmark = [pytest.mark.spark, pytest.mark.slow]

MONTH, OCTOBER = "2026-10", date(2026, 10, 1)
ANA, BEN = "001010000000001", "001010000000002"
MIDDLE = "2026-10-16T00:00:00+02:00"
LINE = subscription("fay", "fixed", ("line_id", "L000000002"))

# What October counts at first: ana 2 + 1 + 0.5 GB, ben 1 + 2 GB, fay 100 GB.
# Then 4 GB of ana come late, her record of 1 GB is withdrawn, ben's SIM turns out to be cy's from the 16th (2 GB), and other
# factors are assigned: 14.3 for 12.3 g/GB and 485 for 475 g mobile, 2.25 for 1.75 g/GB and 4,195 for 4,175 g fixed.
VOLUMES = {"ana": (3.5, 6.5), "ben": (3, 1), "cy": (None, 2), "fay": (100, 100)}
CAUSES = {
    # network, cause: (grams, octets, subscriptions); a cause of volume at the mean factor, 13.3 g/GB mobile
    ("mobile", "late_usage"): (Decimal("53.2"), 4 * GB, 1),  # 4 x 13.3
    ("mobile", "withdrawn"): (Decimal("-13.3"), -GB, 1),
    ("mobile", "subscriptions"): (Decimal(480), 0, 2),  # 2 GB from ben to cy, and cy's own 480 g
    # 2 g/GB more on the mean of 6.5 and 9.5 GB, and 10 g on the mean of 2 and 3 subscriptions
    ("mobile", "factors"): (Decimal(16 + 25), 0, 3),
    ("fixed", "factors"): (Decimal(50 + 20), 0, 1),  # 0.5 g/GB on 100 GB, and 20 g
}
# Before: 6.5 x 12.3 + 2 x 475 = 1,029.95 mobile. After: 9.5 x 14.3 + 3 x 485 = 1,590.85. Fixed: 4,350 and 4,420.
DIFFERENCE = Decimal("1590.85") - Decimal("1029.95") + 4420 - 4350


def export(*assignments: str) -> list[str]:
    return [HEADER, subscription("ana", "mobile", ("imsi", ANA)), LINE, *assignments]


def october(landing: Path) -> None:
    write(landing, "subscriptions/subscriptions_202610.csv", export(subscription("ben", "mobile", ("imsi", BEN))))
    first = [pipe(ANA, "20261005100000", "a1", 2 * GB), pipe(BEN, "20261006100000", "b1", GB)]
    write(landing, "pgw_pipe/S4PGWB000001", [*first, pipe(BEN, "20261020100000", "b2", 2 * GB)])
    wrong = [pipe(ANA, "20261008100000", "wrong", GB), pipe(ANA, "20261009100000", "right", GB // 2)]
    write(landing, "pgw_pipe/S4PGWB000002", wrong)
    lines = ["line_id,interval_start,interval_end,octets_up,octets_down"]
    lines += ["L000000002,2026-10-02T00:00:00Z,2026-10-02T01:00:00Z,40000000000,60000000000"]
    write(landing, "fixed_deltas/fixed_20261002_0001.csv", lines)


def late_file(settings: Settings) -> None:
    write(Path(settings.landing), "pgw_pipe/S4PGWB000003", [pipe(ANA, "20261025100000", "late", 4 * GB)])
    run_stages(settings, MONTH, ("land", "accept"))


def withdrawn_record(settings: Settings) -> None:
    write(Path(settings.landing), "pgw_pipe/S4PGWB000002", [pipe(ANA, "20261009100000", "right", GB // 2)])
    done(settings, lambda opened: stages().reaccept_file(opened, "pgw_pipe/S4PGWB000002", "mediation sent a corrected file"))


def corrected_export(settings: Settings) -> None:
    ended, begun = ("2025-01-01T00:00:00+01:00", MIDDLE), (MIDDLE, "")
    corrected = [subscription("ben", "mobile", ("imsi", BEN), ended), subscription("cy", "mobile", ("imsi", BEN), begun, begun)]
    write(Path(settings.landing), "subscriptions/subscriptions_202610.csv", export(*corrected))
    run_stages(settings, MONTH, ("land", "accept"))


def other_factors(settings: Settings) -> Settings:
    folder = settings.var / "factors"
    shutil.copytree(settings.factors, folder)
    text = (folder / "sets" / "FR-RCP2-NAT-2022.toml").read_text()
    for old, new in (
        ("FR-RCP2-NAT-2022", "OTHER"),
        ('"1.75"', '"2.25"'),
        ('"4175"', '"4195"'),
        ('"12.3"', '"14.3"'),
        ('"475"', '"485"'),
    ):
        text = text.replace(old, new)
    (folder / "sets" / "OTHER.toml").write_text(text)
    # Known later than the set that serves the month now, so it takes over without an edit of what was released.
    other = 'factor_set = "OTHER"\nbrand = "*"\nfrom_month = 2026-10-01\nknown_from = 2027-01-01\n'
    with (folder / "assignments.toml").open("a") as assignments:
        assignments.write(f"\n[[assignment]]\n{other}")
    return dataclasses.replace(settings, factors=folder)


@pytest.fixture(scope="module")
def corrected(settings: Settings) -> Settings:
    """The settings with the other factors."""
    return other_factors(settings)


def stages() -> Any:
    from jobs import stages

    return stages


def done(settings: Settings, do: Callable[[Any], Any], now: datetime | None = None) -> list[str]:
    """Do something in the lake; return what was said."""
    from jobs.workplace import workplace

    said: list[str] = []
    with workplace(settings, "test", said.append) as opened:
        do(dataclasses.replace(opened, now=lambda: now) if now else opened)
    return said


def restate(settings: Settings, reason: str = "late and corrected files", approver: str | None = "the controller") -> list[str]:
    return done(settings, lambda opened: stages().restate(opened, OCTOBER, reason, approver))


def calendar(settings: Settings, now: datetime = datetime(2026, 11, 5, tzinfo=UTC)) -> dict[date, Any]:
    from jobs import close_calendar

    found: list[Any] = []
    done(settings, lambda opened: found.extend(close_calendar.standings(opened)), now)
    return {standing.usage_month: standing for standing in found}


def read(settings: Settings, name: str) -> list[dict[str, Any]]:
    from deltalake import DeltaTable

    return DeltaTable(f"{settings.lake}/{name}").to_pyarrow_table().to_pylist()


def served(settings: Settings, statement: str, role: str | None = None) -> list[Any]:
    import psycopg

    from jobs.postgres import connect, url

    with closing(psycopg.connect(url(settings, role)) if role else connect(settings)) as connection:
        return connection.execute(statement.encode()).fetchall()


def key_of(settings: Settings, name: str) -> str:
    from jobs.cli import _subscription_key

    return _subscription_key(settings, name, OCTOBER)


def causes(settings: Settings) -> dict[tuple[str, str], tuple[Decimal, int, int]]:
    rows = read(settings, "restatements")
    return {(r["network"], r["cause"]): (r["gco2e"], r["octets"], r["subscriptions"]) for r in rows if r["subscriptions"]}


def figures_of(settings: Settings, publication_id: int) -> str:
    """The hash of a publication's figures, worked out from its rows as they are now."""
    from jobs.row_hashes import hashes
    from jobs.table_rows import OfFrame
    from schemas.tables import REVISIONS

    found: list[str] = []
    done(
        settings,
        lambda opened: found.append(
            hashes(OfFrame(opened.lake.read(REVISIONS).where(f"publication_id = {publication_id}"), REVISIONS.names))[
                "figures_hash"
            ]
        ),
    )
    return found[0]


def test_a_published_month_is_closed_and_due_days_are_told(settings, run):
    october(Path(settings.landing))
    run(settings, MONTH, ("land", "accept"))
    assert calendar(settings)[OCTOBER].state == "open"
    run(settings, MONTH, ("meter", "estimate"))
    assert calendar(settings)[OCTOBER].state == "provisional"
    assert not calendar(settings, datetime(2026, 11, 7, 12, tzinfo=UTC))[OCTOBER].is_overdue
    assert calendar(settings, datetime(2026, 11, 8, 12, tzinfo=UTC))[OCTOBER].is_overdue
    run(settings, MONTH)

    found = calendar(settings)[OCTOBER]

    assert (found.state, found.revision, found.batch_cutoff, found.subscriptions) == ("closed", 1, 1, 3)
    assert [found.provisional_due, found.billing_due] == [date(2026, 11, 2), date(2026, 11, 7)]
    assert (found.restatement_until, found.is_overdue) == (date(2026, 12, 2), False)
    assert (found.late_records, found.withdrawn_records, found.pending_gco2e) == (0, 0, 0)


def test_a_month_that_is_not_published_or_would_not_change_is_refused_and_nothing_is_published(settings):
    with pytest.raises(Refused, match="2026-09 is not published, so there is nothing to restate: run it"):
        done(settings, lambda opened: stages().restate(opened, date(2026, 9, 1), "why not", None))
    with pytest.raises(Refused, match="2026-10 would be as revision 1 is: nothing changes, nothing is published"):
        restate(settings)

    assert [row["revision"] for row in read(settings, "publications")] == [1]
    assert {row["publication_id"] for row in read(settings, "revisions")} == {1}


def test_what_comes_for_a_closed_month_is_held_and_counted(settings):
    from jobs import close_calendar

    rows = read(settings, "published")
    late_file(settings)
    withdrawn_record(settings)
    corrected_export(settings)

    found = calendar(settings)[OCTOBER]

    # The corrected file is read anew: of its two records one comes again.
    assert (found.late_records, found.late_octets) == (2, 4 * GB + GB // 2)
    assert (found.withdrawn_records, found.withdrawn_octets) == (2, GB + GB // 2)
    assert found.pending_gco2e == Decimal("36.9")  # 3 GB more at 12.3 g/GB
    assert calendar(settings, datetime(2026, 12, 3, 12, tzinfo=UTC))[OCTOBER].is_overdue
    assert any(
        "held: 2 late records with 4.500 GB, 2 withdrawn with 1.500 GB, about 36.900 gCO2e" in line
        for line in close_calendar.words([found])
    )
    told = json.loads("\n".join(close_calendar.as_json([found])))
    assert (told[0]["usage_month"], told[0]["late_gigabytes"], told[0]["pending_gco2e"]) == (
        "2026-10-01",
        "4.500000000",
        "36.900",
    )
    assert read(settings, "published") == rows


def test_killed_between_its_rows_and_the_ledger_a_restatement_does_not_exist(settings, corrected, monkeypatch):
    from jobs.lake import Lake
    from schemas.tables import PUBLICATIONS

    rows, append_rows = read(settings, "published"), Lake.append_rows

    def killed(self, table, *asked):
        if table is PUBLICATIONS:
            raise KeyboardInterrupt
        append_rows(self, table, *asked)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "append_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            restate(corrected)

    assert {row["publication_id"] for row in read(settings, "revisions")} == {1, 2}, "its rows were written"
    assert len(read(settings, "publications")) == 1
    assert read(settings, "published") == rows
    assert served(settings, "SELECT DISTINCT revision FROM footprint.published") == [(1,)]
    assert calendar(corrected)[OCTOBER].state == "closed"


def test_run_again_it_publishes_the_next_revision_with_reason_and_approver(corrected):
    said = restate(corrected)

    first, second = sorted(read(corrected, "publications"), key=lambda row: row["publication_id"])
    assert (second["publication_id"], second["revision"], second["supersedes_publication_id"]) == (3, 2, 1)
    assert (second["usage_month"], second["reason"], second["approver"]) == (
        OCTOBER,
        "late and corrected files",
        "the controller",
    )
    assert (first["reason"], first["approver"]) == ("first publication", None)
    assert second["footprint_gco2e"] - first["footprint_gco2e"] == DIFFERENCE
    assert said[0].startswith("restate   2026-10 revision 2, publication 3: 4 subscriptions, figures ")
    assert "restate   mobile, late usage: +53.200 gCO2e, +4.000 GB, 1 subscriptions" in said
    assert "restate   4 corrections for billing" in said
    shown = served(corrected, "SELECT subscription_key, data_volume_bytes, revision FROM footprint.published")
    assert sorted(shown) == sorted((key_of(corrected, who), int(after * GB), 2) for who, (_, after) in VOLUMES.items())


def test_each_cause_is_recovered_to_the_last_decimal_and_they_add_up(corrected):
    rows = [row for row in read(corrected, "restatements") if row["publication_id"] == 3]

    assert {
        (r["network"], r["cause"]): (r["gco2e"], r["octets"], r["subscriptions"]) for r in rows if r["subscriptions"]
    } == CAUSES
    assert len(rows) == 2 * 7, "causes that did nothing are told too"
    assert sum(row["gco2e"] for row in rows) == DIFFERENCE
    statement = "SELECT network, cause, octets, gco2e, subscriptions FROM footprint.restatements"
    assert {tuple(row) for row in served(corrected, statement, "footprint_auditor")} == {
        (r["network"], r["cause"], r["octets"], r["gco2e"], r["subscriptions"]) for r in rows
    }


@pytest.mark.parametrize("name", [*both_engines.BY_NAME, *both_engines.BESIDE])
def test_an_auditor_reads_the_same_rows_of_the_restated_month_in_the_lake_and_in_postgresql(corrected, name):
    ours, theirs = both_engines.in_both(corrected, name)

    assert ours[1], "there is something to compare"
    assert ours == theirs


def test_sums_by_network_brand_and_segment_are_the_national_total_and_say_what_display_rounding_adds(corrected):
    statement = "SELECT * FROM footprint.published_totals"
    names = [row[0] for row in served(corrected, "SELECT attname FROM pg_attribute WHERE attnum > 0 AND attrelid = "
                                                 "'footprint.published_totals'::regclass ORDER BY attnum")]  # fmt: skip
    rows = [dict(zip(names, row, strict=True)) for row in served(corrected, statement, "footprint_auditor")]
    of_rows = served(
        corrected,
        """SELECT publication_id, count(*), sum(data_volume_bytes), sum(footprint_gco2e), sum(data_volume_gb_displayed),
            sum(footprint_gco2e_displayed) FROM footprint.revisions GROUP BY 1""",
        "footprint_auditor",
    )

    for number, *sums in of_rows:
        for grouped_by in ("all", "network", "brand", "segment"):
            group = [r for r in rows if (r["publication_id"], r["grouped_by"]) == (number, grouped_by)]
            columns = (
                "subscriptions",
                "data_volume_bytes",
                "footprint_gco2e",
                "data_volume_gb_displayed",
                "footprint_gco2e_displayed",
            )
            assert [sum(r[column] for r in group) for column in columns] == sums
            assert sum(r["residual_gco2e"] for r in group) == sums[4] - sums[2]
            assert sum(r["residual_bytes"] for r in group) == sums[3] * GB - sums[1]
    (now,) = [r for r in rows if (r["publication_id"], r["grouped_by"]) == (3, "all")]
    # ana 577.95, ben 499.3, cy 513.6, fay 4,420 are shown as 578, 499, 514 and 4,420 g; of 6.5 GB 7 are shown.
    assert (now["residual_gco2e"], now["residual_bytes"]) == (Decimal("0.15"), GB // 2)


def test_the_revision_before_stays_as_it_was_published_with_what_it_was_computed_from(corrected):
    first, second = sorted(read(corrected, "publications"), key=lambda row: row["publication_id"])

    assert figures_of(corrected, 1) == first["figures_hash"] != second["figures_hash"]
    assert figures_of(corrected, 3) == second["figures_hash"]
    for table in ("metered", "subscribed", "estimated"):
        assert {row["revision"] for row in read(corrected, table)} == {1, 2}
    for number, publication in ((1, first), (2, second)):
        rows = [row for row in read(corrected, "estimated") if row["revision"] == number]
        assert sum(row["gco2e"] for row in rows) == publication["footprint_gco2e"]
    history = served(
        corrected, "SELECT revision, count(*) FROM footprint.published_history GROUP BY 1 ORDER BY 1", "footprint_auditor"
    )
    assert history == [(1, 3), (2, 4)]


def test_billing_is_told_what_to_correct(corrected):
    rows = {row["subscription_key"]: row for row in read(corrected, "corrections") if row["publication_id"] == 3}

    octets = {who: tuple(None if gb is None else int(gb * GB) for gb in both) for who, both in VOLUMES.items()}
    assert {key: (r["data_volume_bytes_before"], r["data_volume_bytes_after"]) for key, r in rows.items()} == {
        key_of(corrected, who): both for who, both in octets.items()
    }
    ana = rows[key_of(corrected, "ana")]
    assert (ana["from_revision"], ana["to_revision"], ana["reason"]) == (1, 2, "late and corrected files")
    assert (ana["footprint_gco2e_before"], ana["footprint_gco2e_after"]) == (Decimal("518.05"), Decimal("577.95"))
    assert (ana["footprint_gco2e_displayed_before"], ana["footprint_gco2e_displayed_after"]) == (518, 578)
    assert (ana["data_volume_gb_displayed_before"], ana["data_volume_gb_displayed_after"]) == (4, 7)
    told = served(corrected, "SELECT subscription_key, footprint_gco2e_after FROM footprint.corrections", "footprint_billing")
    assert sorted(told) == sorted((key, row["footprint_gco2e_after"]) for key, row in rows.items())


def test_show_says_the_revision_and_what_it_changed(corrected, capsys):
    import argparse

    from jobs import cli

    for who in ("ana", "cy"):
        cli._show(argparse.Namespace(subscription=who, month=MONTH, lang="en"), corrected)

    said = capsys.readouterr().out
    assert "Revision 2 (late and corrected files): before it 4 GB and 518 gCO2e" in said
    assert "Revision 2 (late and corrected files): not published before it" in said


def test_a_restated_month_holds_nothing_and_is_not_restated_again_without_a_change(corrected):
    found = calendar(corrected)[OCTOBER]

    assert (found.state, found.revision, found.late_records, found.withdrawn_records) == ("restated", 2, 0, 0)
    with pytest.raises(Refused, match="2026-10 would be as revision 2 is: nothing changes, nothing is published"):
        restate(corrected)


def test_killed_between_the_ledger_and_postgresql_the_same_restatement_is_finished(corrected, monkeypatch):
    from jobs import serving

    def killed(*_, **__):
        raise KeyboardInterrupt

    write(Path(corrected.landing), "pgw_pipe/S4PGWB000004", [pipe(BEN, "20261007100000", "b3", GB)])
    run_stages(corrected, MONTH, ("land", "accept"))
    with monkeypatch.context() as patched:
        patched.setattr(serving, "load_publication", killed)
        with pytest.raises(KeyboardInterrupt):
            restate(corrected, "one file more", None)

    said = restate(corrected, "one file more", None)

    assert said[0].startswith("restate   2026-10 revision 3, publication 4: 4 subscriptions")
    assert [row["revision"] for row in sorted(read(corrected, "publications"), key=lambda r: r["publication_id"])] == [1, 2, 3]
    assert served(corrected, "SELECT DISTINCT revision FROM footprint.published") == [(3,)]
    rows = {r["cause"]: r["gco2e"] for r in read(corrected, "restatements") if r["publication_id"] == 4 and r["subscriptions"]}
    assert rows == {"late_usage": Decimal("14.3")}


def test_the_same_changes_in_another_order_and_other_batches_are_split_alike(tmp_path, spark):
    with at_a_place(tmp_path / "place") as settings:
        october(Path(settings.landing))
        run_stages(settings, MONTH)
        factors = other_factors(settings)
        corrected_export(settings)
        write(Path(settings.landing), "pgw_pipe/S4PGWB000003", [pipe(ANA, "20261025100000", "late", 4 * GB)])
        withdrawn_record(settings)
        run_stages(settings, MONTH, ("land", "accept"))

        restate(factors)

        assert causes(settings) == CAUSES
        write(Path(settings.landing), "pgw_pipe/S4PGWB000004", [pipe(BEN, "20261007100000", "b3", 1000)])
        run_stages(settings, MONTH, ("land", "accept"))
        assert restate(factors)[-1] == "restate   0 corrections for billing", "no displayed figure changes by 1,000 octets"
