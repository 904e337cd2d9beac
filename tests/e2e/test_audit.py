"""A month of the pipeline as an auditor meets it: explained, worked out again, packed, verified and asked, without Spark."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs import cli, demo, explain
from jobs.audit_sql import opened
from jobs.explain_words import as_json, in_words
from jobs.lake_reader import publication, reading
from jobs.launch import STAGES
from jobs.pack import pack
from jobs.pack_check import check
from jobs.report import received as receipts
from jobs.report import subscriptions
from jobs.report.numbers import gigabytes, tonnes
from jobs.report.page import report
from jobs.report.standing import stage_times
from jobs.run import Refused, Settings
from schemas.tables import TABLES
from tests.e2e import both_engines
from tests.e2e.conftest import at_a_place, run_stages

pytestmark = [pytest.mark.spark, pytest.mark.slow]

MONTH = date(2026, 10, 1)
SUBSCRIPTIONS, EXPLAINED, TRACED = 1_100, 1_000, 60


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> Iterator[Settings]:
    """A published month of the demonstration."""
    with at_a_place(tmp_path_factory.mktemp("place")) as found:
        demo.generate(Path(found.landing), MONTH, SUBSCRIPTIONS, 1, 1, ["delimited"])
        run_stages(found, "2026-10")
        yield found


@pytest.fixture
def kept(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables in memory, so that a thousand questions take seconds, and a row can be changed."""
    with reading(settings.lake, explain.TABLES) as connection:
        for table in explain.TABLES:
            connection.execute(f"CREATE TABLE kept AS FROM {table.name}")
            connection.unregister(table.name)
            connection.execute(f"ALTER TABLE kept RENAME TO {table.name}")
        yield connection


def some_keys(connection: duckdb.DuckDBPyConnection, count: int) -> list[str]:
    keys = [key for (key,) in connection.execute("SELECT subscription_key FROM revisions ORDER BY ALL").fetchall()]
    return random.Random(20261001).sample(keys, count)


def subscription_of(settings: Settings, network: str) -> str:
    """The id of a subscription with usage, by the list that the demonstration wrote."""
    (truth,) = Path(settings.landing).glob("truth_*.csv")
    lines = [line.split(",") for line in truth.read_text(encoding="utf-8").splitlines()[1:]]
    return next(line[0] for line in lines if line[1] == network and int(line[4]) > 10**9)


def called(monkeypatch: pytest.MonkeyPatch, capsys: Any, settings: Settings, *arguments: str) -> tuple[int, str, str]:
    for name, value in (("VAR", settings.var), ("LANDING", settings.landing), ("LAKE", settings.lake), ("KEYS", settings.keys)):
        monkeypatch.setenv(f"FOOTPRINT_{name}", str(value))
    code = cli.main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_month_report_tells_what_the_pipeline_published_and_how_long_each_stage_took(settings, kept):
    published = publication(kept, MONTH, None)
    ran = dict(audited(settings, "SELECT stage, count(*) FROM stage_runs WHERE usage_month = DATE '2026-10-01' GROUP BY stage"))
    times = {time.stage: time.seconds for time in stage_times_of(settings, published)}
    page = report(settings, MONTH, None, None).read_text(encoding="utf-8")

    assert ran == dict.fromkeys(STAGES, 1)
    assert list(times) == list(STAGES)
    assert all(0 <= seconds < 3_600 for seconds in times.values())
    assert f"<strong>{published['subscriptions']:,}</strong>" in page
    assert f"<strong>{gigabytes(published['data_volume_bytes']).removesuffix(' GB')}</strong>" in page
    assert f"<strong>{tonnes(published['footprint_gco2e'])}</strong>" in page


def test_the_flows_of_the_month_report_lose_nothing(settings, kept):
    published = publication(kept, MONTH, None)
    with reading(settings.lake, TABLES) as connection:
        found = receipts.received(connection, published, "Europe/Paris", ["subscriptions"])
        sums = subscriptions.totals(connection, published)
        flow = receipts.volume_flow(connection, published, found, {each.networks: each.octets for each in sums})
    balance = audited(
        settings,
        "SELECT source, records_received, records_accepted FROM received_balance "
        "WHERE usage_month = DATE '2026-10-01' AND source <> 'subscriptions' ORDER BY source",
    )

    assert flow.unbalanced == []
    assert flow.into("fixed") + flow.into("mobile") == published["data_volume_bytes"]
    assert [(row["source"], row["records_received"], row["records_accepted"]) for row in found.sources] == balance


def audited(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with opened(settings) as connection:
        return connection.execute(query).fetchall()


def stage_times_of(settings: Settings, published: dict[str, Any]) -> list[Any]:
    with reading(settings.lake, TABLES) as connection:
        return stage_times(connection, published)


def test_a_thousand_rows_are_worked_out_again_to_the_last_decimal(settings, kept):
    published = publication(kept, MONTH, None)
    registry = explain.catalogue(settings, kept, published)

    found = [explain.again(kept, registry, published, key) for key in some_keys(kept, EXPLAINED)]

    assert len(found) == EXPLAINED
    assert [again.differences for again in found if again.differences] == []
    assert {again.row["network"] for again in found} == {"fixed", "mobile"}


def test_the_files_of_a_row_add_up_to_its_metered_volume_and_have_the_hash_of_what_was_delivered(settings, kept):
    from hashlib import sha256

    published = publication(kept, MONTH, None)
    registry = explain.catalogue(settings, kept, published)
    files = {}
    for key in some_keys(kept, TRACED):
        found = explain.of_row(kept, settings, registry, published, key).provenance
        assert found["octets_of_records"] == found["octets_metered"]
        assert sum(f["octets_up"] + f["octets_down"] for f in found["files"]) == found["octets_metered"]
        files.update({f"{file['source']}/{file['file_name']}": file["file_hash"] for file in found["files"]})

    assert len(files) > 50
    for name, digest in files.items():
        assert sha256((Path(settings.landing) / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE revisions SET footprint_gco2e = footprint_gco2e + 0.000000000001", "footprint_gco2e is"),
        ("UPDATE revisions SET is_estimated = NOT is_estimated", "is_estimated is"),
        ("UPDATE metered SET octets_down = octets_down + 1 WHERE attribution = 'holder'", "data_volume_bytes is"),
        ("UPDATE estimated SET gco2e = gco2e + 0.000000000001", "component volume"),
        ("UPDATE estimated SET factor_id = 'other'", "factor_id is other"),
        ("DELETE FROM estimated WHERE component = 'subscription'", "component subscription is recomputed and not stored"),
    ],
)
def test_a_tampered_row_is_found(settings, kept, change, said):
    published = publication(kept, MONTH, None)
    registry = explain.catalogue(settings, kept, published)
    used = "SELECT lower(hex(subscription_key)) FROM metered WHERE octets_down > 0 AND attribution = 'holder' ORDER BY 1 LIMIT 1"
    ((key,),) = kept.execute(used).fetchall()

    kept.execute(change)

    assert any(said in difference for difference in explain.again(kept, registry, published, key).differences)


def test_an_explanation_says_everything_and_names_nobody(settings, monkeypatch, capsys):
    subscription = subscription_of(settings, "mobile")

    code, out, _ = called(monkeypatch, capsys, settings, "explain", "--subscription", subscription, "--month", "2026-10")

    assert code == 0
    said = (
        *("published", "components", "FR-RCP2-NAT-2022/mobile/volume/2024-01", "licence", "sha256", "code version", "verdict"),
        *("first publication", "figures hash", "which is what was metered", "it agrees to the last decimal"),
    )
    for word in said:
        assert word in out, word
    assert subscription not in out
    exports = [path for path in (Path(settings.landing) / "subscriptions").iterdir() if path.suffix == ".csv"]
    lines = [line for path in exports for line in path.read_text(encoding="utf-8").splitlines()]
    held = {line.split(",")[4] for line in lines if line.startswith(f"{subscription},")}
    assert held
    assert not [identifier for identifier in held if identifier in out]


def test_an_explanation_as_json_keeps_every_digit(settings, monkeypatch, capsys):
    subscription = subscription_of(settings, "fixed")

    code, out, _ = called(
        monkeypatch, capsys, settings, "explain", "--subscription", subscription, "--month", "2026-10", "--json"
    )

    found = json.loads(out)
    assert code == 0
    assert found["recomputed"] == {"agrees": True, "differences": []}
    assert found["published"]["subscription_gco2e"] == "4175.000000000000"
    assert {each["citation"]["licence"] for each in found["components"]} == {"Fact cited. Licence of the report not read."}
    assert "rows_hash" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--month", "2026-10"), "nothing is published for this subscription in 2026-10, revision 1"),
        (("--month", "2026-09"), "nothing is published for 2026-09"),
        (("--month", "2026-10", "--revision", "2"), "2026-10 has no revision 2: published are 1"),
    ],
)
def test_where_nothing_is_published_there_is_nothing_to_explain(settings, monkeypatch, capsys, arguments, said):
    ended = called(monkeypatch, capsys, settings, "explain", "--subscription", "nobody", *arguments)

    assert ended == (1, "", f"refused: {said}\n")


def test_factors_that_are_no_longer_those_of_the_publication_are_refused(settings, tmp_path):
    from dataclasses import replace

    shutil.copytree(settings.factors, tmp_path / "factors", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tmp_path / "factors" / "frozen.toml").unlink()
    path = tmp_path / "factors" / "sets" / "FR-RCP2-NAT-2022.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('"12.3"', '"12.4"'), encoding="utf-8")

    with pytest.raises(Refused, match="gives other factors for 2026-10 than revision 1 was worked out with"):
        explain.explain(replace(settings, factors=tmp_path / "factors"), MONTH, "00" * 16)


def test_a_pack_of_the_pipelines_month_is_verified_and_its_figures_hash_is_that_of_the_ledger(settings, tmp_path):
    pack(settings, MONTH, None, tmp_path / "one.zip")
    pack(settings, MONTH, 1, tmp_path / "two.zip")

    checked = check(tmp_path / "one.zip")

    assert checked.differences == []
    with reading(settings.lake, explain.TABLES) as connection:
        assert f"figures     {publication(connection, MONTH, None)['figures_hash']}" in checked.facts
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_sql_and_benchmark_answer_from_the_same_lake(settings, monkeypatch, capsys):
    query = "SELECT sum(records_unaccounted) AS unaccounted, sum(records_received) > 0 AS some FROM received_balance"
    assert called(monkeypatch, capsys, settings, "sql", query, "--csv") == (0, "unaccounted,some\n0,true\n", "")

    code, out, _ = called(monkeypatch, capsys, settings, "benchmark", "--month", "2026-10")

    assert code == 0
    assert "12.30          10 to 55  gCO2e/GB: within" in out
    assert "France, transitional national value, 2022" in out


def test_an_auditor_reads_the_history_of_publications_in_postgresql(settings):
    from jobs.postgres import connect
    from jobs.serving_schema import prepare

    with closing(connect(settings)) as connection:
        prepare(connection)
        connection.execute("SET ROLE footprint_auditor")
        rows = connection.execute("SELECT revision, is_current, verdict FROM footprint.publication_history").fetchall()
        connection.execute("RESET ROLE")
    assert [row[:2] for row in rows] == [(1, True)]


@pytest.mark.parametrize("name", [*both_engines.BY_NAME, *both_engines.BESIDE, "verdicts", "evidence"])
def test_an_auditor_reads_the_same_rows_in_the_lake_and_in_postgresql(settings, name):
    ours, theirs = both_engines.in_both(settings, name)

    assert ours == theirs
    assert bool(ours[1]) == (name not in ("restatements", "corrections")), "the month was never restated"


def test_what_an_auditor_reads_of_a_month_adds_up_to_its_ledger(settings):
    from jobs.audit_sql import opened

    with opened(settings) as connection:

        def one(query: str) -> Any:
            return connection.execute(query).fetchone()

        assert one("SELECT sum(gco2e) FROM factor_use") == one("SELECT sum(footprint_gco2e) FROM publications")
        assert one("SELECT sum(octets) FROM completeness") == one("SELECT sum(octets_up + octets_down) FROM metered")
        counted = "SELECT sum(records_received), sum(files) FROM received_balance"
        # By the clocks of Paris; exports have no time, and files of the days around it close in other months.
        of_month = "last_closed_at IS NULL OR date_trunc('month', timezone('Europe/Paris', last_closed_at)) = DATE '2026-10-01'"
        assert one(counted) == one(f"SELECT sum(records_received), count(*) FROM file_balances WHERE {of_month}")
        assert one("SELECT sum(records_unaccounted) FROM received_balance") == (0,)
        (days,) = one("SELECT min(n) FROM (SELECT count(*) AS n FROM completeness WHERE intervals > 0 GROUP BY source)")
        assert days >= 31


def test_after_the_records_are_erased_the_sources_remain_and_the_figure_still_agrees(settings, kept):
    kept.execute("DELETE FROM accepted")
    kept.execute("DELETE FROM deltas")
    published = publication(kept, MONTH, None)
    registry = explain.catalogue(settings, kept, published)

    found = explain.of_row(kept, settings, registry, published, some_keys(kept, 1)[0])

    assert found.agrees
    assert not found.provenance["records_kept"]
    assert {source["source"] for source in found.provenance["sources"]} >= {"pgw_pipe", "fixed_deltas"}
    assert "the records of the month are erased" in "\n".join(in_words(found))
    assert json.loads(as_json(found))["recomputed"]["agrees"]


def test_a_counters_delta_leads_to_the_file_of_its_reading(settings, kept):
    published = publication(kept, MONTH, None)
    registry = explain.catalogue(settings, kept, published)
    at = datetime(2026, 10, 20, tzinfo=UTC)
    at_that_time = "? >= assigned_from AND ? < assigned_until"
    for key in some_keys(kept, 20):  # some have had their identifier for part of the month only
        before = explain.of_row(kept, settings, registry, published, key).provenance
        query = f"SELECT identifier_type, identifier_key FROM held WHERE {at_that_time} ORDER BY ALL LIMIT 1"
        if held := kept.execute(query, [at, at]).fetchone():
            break
    (number,) = kept.execute("SELECT file_number FROM landed ORDER BY 1 LIMIT 1").fetchone()
    names = [name for name, *_ in kept.execute("DESCRIBE deltas").fetchall()]
    row = dict.fromkeys(names) | {
        "usage_month": MONTH,
        "revision": published["revision"],
        "batch_cutoff": published["batch_cutoff"],
        "source": "radius",
        "closed_at": at,
    }
    row |= {"identifier_type": held[0], "identifier_key": held[1], "file_number": number, "record_ordinal": 1, "month_part": 0}
    row |= {"octets_up": 1, "octets_down": 2, "roaming_zone": "home", "is_prorated": False, "is_estimated": False}

    for one in (row, row | {"revision": published["revision"] + 1}):  # a later revision with the same batches counts apart
        kept.execute(f"INSERT INTO deltas VALUES ({', '.join('?' * len(names))})", list(one.values()))

    after = explain.of_row(kept, settings, registry, published, key).provenance
    assert after["octets_of_records"] == before["octets_of_records"] + 3
    assert {used["source"] for used in after["usage"]} - {used["source"] for used in before["usage"]} == {"radius"}
