"""The lake refuses a wrong row without quoting it, never erases a month, and is read alike by everyone."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json
import traceback
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas import tables
from schemas.tables import ACCEPTED, BATCHES, ERASURES, ESTIMATED, FACTORS, METERED, PUBLISHED, REVISIONS, SUBSCRIBED, TABLES
from tests.conftest import key, rows, table_of

pytestmark = pytest.mark.spark

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
SECRET = "0612345678"


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory: pytest.TempPathFactory):
    """One lake for the tests of this module; each has tables of its own."""
    from jobs.lake import Lake

    return Lake(lambda: spark, str(tmp_path_factory.mktemp("lake")), lambda: None)


def log_of(lake, table) -> list[dict[str, Any]]:
    """The actions of a table's Delta log."""
    commits = sorted(Path(lake.path(table), "_delta_log").glob("*.json"))
    return [json.loads(line) for commit in commits for line in commit.read_text(encoding="utf-8").splitlines()]


def subscriptions(lake, table) -> set[tuple[str, str]]:
    """Month and name of the rows of a table."""
    return {
        (f"{row.usage_month:%Y-%m}", bytes(row.subscription_key).rstrip(b"\0").decode()) for row in lake.read(table).collect()
    }


# Refusals


@pytest.fixture(scope="module")
def refusals(spark, lake) -> dict[str, Any]:
    """Writes that must fail, each with a value that nobody may read in what is said about it."""
    from pyspark.sql import functions as F

    from jobs.estimate import estimate

    sound = rows(spark, SUBSCRIBED, "| subscription_key | network | active_days |\n| ana | mobile | 31 |")
    of_secret = sound.withColumn("subscription_key", F.lit(SECRET).cast("binary"))
    without_factor = estimate(
        rows(spark, METERED, "| subscription_key |\n| ana |").limit(0),
        of_secret.withColumn("brand", F.lit(SECRET)),
        rows(spark, FACTORS, "| brand | network | component |\n| other | mobile | volume |"),
        "factors-1",
    ).withColumn("revision", F.lit(0))
    return {
        "a rule": (SUBSCRIBED, of_secret.withColumn("network", F.lit(SECRET))),
        "a required column": (SUBSCRIBED, of_secret.withColumn("brand", F.when(F.col("network") == "-", F.lit(SECRET)))),
        "a missing factor": (ESTIMATED, without_factor),
        "a cast": (SUBSCRIBED, sound.withColumn("active_days", F.concat(F.lit(f"[A{SECRET}]"), "network").cast("int"))),
        "an expression": (SUBSCRIBED, sound.withColumn("active_days", F.expr(f"CAST(concat('{SECRET}', network) AS INT)"))),
    }


SAID = {
    "a rule": "subscribed: refused by the rule network_is_known",
    "a required column": "subscribed: refused by the rule brand NOT NULL",
    # Which of the broken rules Delta meets first is its own affair: null grams are not "not negative" either.
    "a missing factor": "estimated: refused by the rule ",
    "a cast": "subscribed: CAST_INVALID_INPUT",
    "an expression": "subscribed: CAST_INVALID_INPUT",
}


@pytest.mark.parametrize("case", SAID)
@pytest.mark.parametrize("write", ["append", "replace_month"])
def test_a_wrong_row_is_refused_by_table_and_rule_and_its_values_are_said_nowhere(lake, refusals, var, capfd, case, write):
    from jobs.lake import LakeError

    table, frame = refusals[case]

    with pytest.raises(LakeError) as refused:
        lake.append(table, frame) if write == "append" else lake.replace_month(table, frame, OCTOBER, revision=0)

    assert str(refused.value).startswith(SAID[case])
    printed = capfd.readouterr()
    told = [*traceback.format_exception(refused.value), printed.out, printed.err]
    told.append((var / "log" / "spark.log").read_text(encoding="utf-8", errors="replace"))
    assert not [text for text in told if SECRET in text or SECRET.encode().hex() in text.lower()]
    assert lake.read(table).isEmpty()


def test_a_frame_of_other_columns_or_types_is_refused_before_it_is_written(spark, lake):
    from pyspark.sql import functions as F

    from jobs.lake import LakeError

    sound = rows(spark, METERED, "| subscription_key |\n| ana |")

    with pytest.raises(LakeError, match=r"metered: columns differ from the declaration: \['extra', 'network'\]"):
        lake.append(METERED, sound.drop("network").withColumn("extra", F.lit(1)))
    with pytest.raises(LakeError, match="metered: types differ from the declaration: octets_up is int"):
        lake.append(METERED, sound.withColumn("octets_up", F.lit(1)))


# Months


def test_a_month_is_replaced_whole_and_an_empty_or_foreign_frame_leaves_it_as_it_was(spark, lake):
    from jobs.lake import EmptyMonthError, LakeError

    def month(text: str):
        return rows(spark, METERED, f"| usage_month | revision | subscription_key | attribution |{text}")

    ana, ben = "\n| 2026-10-01 | 1 | ana | holder |", "\n| 2026-10-01 | 1 | ben | holder |"
    cy = "\n| 2026-11-01 | 1 | cy | holder |"
    lake.replace_month(METERED, month(ana), OCTOBER, revision=1)
    lake.replace_month(METERED, month(cy), NOVEMBER, revision=1)
    lake.replace_month(METERED, month(ben), OCTOBER, revision=1)
    version = lake.version(METERED)

    with pytest.raises(EmptyMonthError, match="metered of 2026-10 would be empty: the month is left as it was"):
        lake.replace_month(METERED, month(ben).limit(0), OCTOBER, revision=1)
    with pytest.raises(LakeError, match="metered: refused by the rule no row of another month"):
        lake.replace_month(METERED, month(ben + cy), OCTOBER, revision=1)

    assert subscriptions(lake, METERED) == {("2026-10", "ben"), ("2026-11", "cy")}
    assert lake.version(METERED) == version
    assert len(lake.paths(METERED, {"usage_month": OCTOBER})) == 1


def test_a_revision_is_replaced_within_its_month_and_the_others_stay(spark, lake):
    from jobs.lake import LakeError

    def revision(number: int, who: str):
        text = f"| usage_month | revision | subscription_key | network | active_days |\n| 2026-10-01 | {number} | {who} | mobile | 31 |"
        return rows(spark, SUBSCRIBED, text)

    for number, who in ((1, "ana"), (2, "ben"), (2, "cy")):
        lake.replace_month(SUBSCRIBED, revision(number, who), OCTOBER, revision=number)

    with pytest.raises(LakeError, match="subscribed: refused by the rule no row of another month"):
        lake.replace_month(SUBSCRIBED, revision(1, "dee"), OCTOBER, revision=2)
    with pytest.raises(LakeError, match="subscribed: a month is replaced within usage_month, revision"):
        lake.replace_month(SUBSCRIBED, revision(1, "dee"), OCTOBER)
    found = {(row.revision, bytes(row.subscription_key).rstrip(b"\0")) for row in lake.read(SUBSCRIBED).collect()}
    assert found == {(1, b"ana"), (2, b"cy")}


# Numbers and fences


def test_an_append_whose_number_was_written_before_is_skipped(spark, lake):
    from jobs.lake import NEW

    def publication(number: int):
        return rows(spark, REVISIONS, f"| subscription_key | publication_id |\n| row {number} | {number} |")

    for number in (1, 1, 3, 2, 3):
        lake.append(REVISIONS, publication(number), number)

    assert {(row.subscription_key, row.publication_id) for row in lake.read(REVISIONS).collect()} == {("row 1", 1), ("row 3", 3)}
    assert [lake.read(REVISIONS, version=version).count() for version in (NEW, NEW + 1, NEW + 2)] == [0, 1, 2]
    assert lake.read(REVISIONS, version=-1).isEmpty()


def test_a_writer_that_lost_its_turn_writes_nothing(spark, lake):
    from jobs.lake import Lake

    class LostTurn(Exception):
        pass

    def lost() -> None:
        raise LostTurn

    late = Lake(lambda: spark, lake.root, lost)
    version, row = lake.version(REVISIONS), rows(spark, REVISIONS, "| subscription_key |\n| late |")

    with pytest.raises(LostTurn):
        late.append(REVISIONS, row)
    with pytest.raises(LostTurn):
        late.replace_month(REVISIONS, row, OCTOBER)
    with pytest.raises(LostTurn):
        late.append(PUBLISHED, row)
    assert lake.version(REVISIONS) == version
    assert not lake.exists(PUBLISHED)
    assert lake.read(PUBLISHED).columns == list(PUBLISHED.names)


# Readers


def test_no_statistics_are_declared_for_a_pseudonym_a_hash_or_a_time_of_a_person():
    for table in TABLES:
        kept = {name: table.column(name).sql_type for name in table.statistics}
        assert not [name for name, sql_type in kept.items() if sql_type == "BINARY" or name.endswith(("_key", "_hash"))]


@pytest.fixture(scope="module")
def shared(spark, lake) -> dict[str, list[dict[str, Any]]]:
    """Rows of every type of column, with and without partitions, as Spark reads them."""
    lake.append(
        ACCEPTED,
        rows(
            spark,
            ACCEPTED,
            """
            | usage_month | file_number | record_key | identifier_key | opened_at               | closed_at        | octets_down      | is_prorated |
            | 2026-10-01  | 1           |            | ana            |                         | 2026-10-10 12:00 | 9007199254740993 | false       |
            | 2026-10-01  | 2           | key        | ben            | 2026-10-10 11:59:59.999999 | 2026-10-10 12:00 | 0             | true        |
            | 2026-11-01  | 3           | key        | été            | 2026-10-31 23:00        | 2026-10-31 23:01 | 1                | false       |
            """,
        ),
    )
    lake.append(
        ESTIMATED,
        rows(
            spark,
            ESTIMATED,
            """
            | subscription_key | component    | access_technology | quantity           | gco2e_per_unit        | gco2e                     | gco2e_low |
            | ana              | volume       | 4G                | 99999999.999999999 | 9999.99999999999999   | 999999999999.999999999999 |           |
            | ana              | subscription |                   | 0.000000001        | 0.00000000000001      | 0.000000000001            | 0         |
            """,
        ),
    )
    batch = {"state": "planned", "base_versions": "{}", "code_version": "0", "written_at": datetime(2026, 11, 1, tzinfo=UTC)}
    numbers = [{"batch": 1, "file_numbers": [1, 2], "withdrawn_file_numbers": [], "reason": None}]
    lake.append(BATCHES, lake.rows(BATCHES, [batch | row for row in numbers]))
    return {table.name: canonical(table, lake.read(table).toArrow()) for table in (ACCEPTED, ESTIMATED, BATCHES)}


def canonical(table, arrow) -> list[dict[str, Any]]:
    """The rows of an Arrow table in the order of the table's key, times in UTC."""
    records = arrow.select(list(table.names)).to_pylist()
    for record in records:
        for column, value in record.items():
            if isinstance(value, datetime):
                record[column] = value.astimezone(UTC)
    return sorted(records, key=lambda record: [str(record[name]) for name in table.key])


def test_a_lake_written_by_spark_is_read_alike_by_deltalake_polars_and_duckdb(lake, shared):
    import duckdb
    import polars
    from deltalake import DeltaTable

    # The extension comes in a wheel and is loaded from its file: nothing is fetched.
    wheel = find_spec("duckdb_extension_delta")
    assert wheel is not None
    assert wheel.origin is not None
    (extension,) = Path(wheel.origin).parent.rglob("delta.duckdb_extension")
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{extension}'")
        for table in (ACCEPTED, ESTIMATED, BATCHES):
            path, expected = lake.path(table), shared[table.name]
            assert expected
            assert canonical(table, DeltaTable(path).to_pyarrow_table()) == expected, table.name
            assert canonical(table, polars.read_delta(path).to_arrow()) == expected, table.name
            found = connection.execute(f"SELECT * FROM delta_scan('{path}')").to_arrow_table()
            assert canonical(table, found) == expected, table.name


def test_a_value_comes_back_from_the_lake_as_it_was_written(shared):
    first, second, third = shared["accepted"]
    assert (first["octets_down"], first["record_key"], first["opened_at"]) == (9007199254740993, None, None)
    assert second["opened_at"] == datetime(2026, 10, 10, 11, 59, 59, 999999, tzinfo=UTC)
    assert third["identifier_key"] == key("été")
    assert str(shared["estimated"][1]["gco2e"]) == "999999999999.999999999999"


def test_the_delta_log_holds_no_value_of_a_person_and_needs_no_feature_that_a_reader_lacks(lake, shared):
    # The tables that earlier tests of this module wrote count too, with every row they refused.
    for table in [table for table in TABLES if lake.exists(table)]:
        text = "\n".join(map(json.dumps, log_of(lake, table)))
        assert SECRET not in text, table.name
        for action in log_of(lake, table):
            statistics = json.loads(action.get("add", {}).get("stats") or "{}")
            for ends in ("minValues", "maxValues"):
                assert set(statistics.get(ends, {})) <= set(table.statistics), table.name
            if protocol := action.get("protocol"):
                assert protocol["minReaderVersion"] == 1, table.name
                assert "readerFeatures" not in protocol, table.name
                features = set(protocol.get("writerFeatures", [])) <= {"appendOnly", "invariants", "checkConstraints"}
                assert protocol["minWriterVersion"] <= 3 or features, table.name
    with_ends = [a for a in log_of(lake, ACCEPTED) if "minValues" in a.get("add", {}).get("stats", "")]
    assert with_ends, "accepted keeps the ends of its batches and times, so that a month is found"


def test_a_table_carries_its_meaning_its_rules_and_its_retention(lake, shared):
    for table in (ACCEPTED, ESTIMATED, BATCHES):
        (metadata,) = [action["metaData"] for action in log_of(lake, table) if "metaData" in action]
        assert metadata["description"] == table.comment
        fields = json.loads(metadata["schemaString"])["fields"]
        assert {f["name"]: f["metadata"]["comment"] for f in fields} == {c.name: c.comment for c in table.columns}
        assert {f["name"]: f["nullable"] for f in fields} == {c.name: not c.is_required for c in table.columns}
        settings = metadata["configuration"]
        rules = {name.removeprefix("delta.constraints."): rule for name, rule in settings.items() if ".constraints." in name}
        assert rules == table.checks
        assert settings["delta.logRetentionDuration"] == f"interval {table.history_days} days"
        assert metadata["partitionColumns"] == list(table.partitioned_by)
    assert tables.HISTORY_DAYS == 3650


def test_the_history_says_what_was_appended_and_which_month_was_replaced(spark, tmp_path):
    from delta.tables import DeltaTable

    from jobs.lake import Lake

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    for network in ("mobile", "fixed"):
        row = rows(spark, SUBSCRIBED, f"| subscription_key | network | active_days |\n| ana | {network} | 31 |")
        lake.replace_month(SUBSCRIBED, row, OCTOBER, revision=0)
    lake.append(SUBSCRIBED, rows(spark, SUBSCRIBED, "| subscription_key | network | active_days |\n| ben | mobile | 31 |"))

    history = DeltaTable.forPath(spark, lake.path(SUBSCRIBED)).history().orderBy("version")
    made, *said = [row.operationParameters for row in history.select("operationParameters").collect()]
    assert SUBSCRIBED.comment in made["metadata"]
    assert [(found["mode"], "2026-10-01" in found.get("predicate", "")) for found in said] == [
        ("Overwrite", True),
        ("Overwrite", True),
        ("Append", False),
    ]


def test_what_the_driver_appended_it_need_not_read_again(spark, tmp_path, monkeypatch):
    from jobs.lake import Lake

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    monkeypatch.setattr(Lake, "read", lambda *_: pytest.fail("the rows are known"))
    row = {"kind": "records", "usage_month": OCTOBER, "reason": "old", "erased_at": datetime(2026, 12, 1, 2, 3, 4, 5, UTC)}
    for number in (1, 2):
        lake.append_rows(ERASURES, [row], number)
    lake.append_rows(ERASURES, [row], 2)

    assert [found.asDict() for found in lake.small(ERASURES)] == [row, row]


def test_rows_that_were_there_before_count_though_the_table_was_made_with_them(spark, tmp_path):
    from jobs.lake import Lake

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    first, second = (
        {"kind": "records", "usage_month": month, "reason": "old", "erased_at": datetime(2026, 12, 1, tzinfo=UTC)}
        for month in (OCTOBER, NOVEMBER)
    )
    lake.rows(ERASURES, [first]).write.format("delta").save(lake.path(ERASURES))

    lake.append_rows(ERASURES, [second], 1)

    assert sorted((row.asDict() for row in lake.small(ERASURES)), key=lambda row: row["usage_month"]) == [first, second]


def test_only_files_that_may_hold_such_rows_are_read_and_looked_for_by_no_spark_job(spark, tmp_path):
    from jobs.lake import Lake, in_month, meets

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    executions = spark._jsparkSession.sharedState().statusStore()

    def replace(month: date, *who: str) -> None:
        text = "| usage_month | revision | subscription_key | attribution |"
        held = "".join(f"\n| {month} | 1 | {name} | holder |" for name in who)
        lake.replace_month(METERED, rows(spark, METERED, text + held), month, revision=1)

    def october(version: int | None = None):
        return lake.read(METERED, in_month(OCTOBER, revision=1), version)

    replace(OCTOBER, "ana")
    replace(NOVEMBER, "dee")
    before = int(executions.executionsCount())
    assert [place.count("usage_month=2026-10-01") for place in october().inputFiles()] == [1]
    assert int(executions.executionsCount()) == before
    assert [bytes(row.subscription_key)[:3] for row in october().collect()] == [b"ana"]
    known = lake.version(METERED)
    replace(OCTOBER, "ben", "cy")
    assert {bytes(row.subscription_key)[:2] for row in october().collect()} == {b"be", b"cy"}
    lake.erase(METERED, meets(in_month(OCTOBER)))
    assert october().collect() == []
    assert [bytes(row.subscription_key)[:3] for row in october(known).collect()] == [b"ana"], "as it was"
    assert lake.read(METERED, in_month(date(2026, 12, 1))).collect() == []


def test_a_file_is_left_out_by_its_minima_and_maxima_and_never_without_them(spark, tmp_path):
    from jobs.lake import Lake

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    noon, ends = datetime(2026, 10, 10, 12, 0, 0, 123456, UTC), ("12:00:00.123456", "12:00:00.123999", "14:00")
    for number, end in enumerate(ends):
        lake.append(ACCEPTED, rows(spark, ACCEPTED, f"| record_key | closed_at |\n| key {number} | 2026-10-10 {end} |"))

    def found(least: datetime, greatest: datetime) -> tuple[int, int]:
        held = lake.read(ACCEPTED, {"closed_at": (least, greatest)})
        return len(held.inputFiles()), held.count()

    assert found(noon, noon) == (2, 1), "statistics are in whole milliseconds"
    assert found(noon, noon.replace(hour=13)) == (2, 2)
    assert found(noon.replace(hour=13), noon.replace(hour=15)) == (1, 1)
    assert found(noon.replace(day=11), noon.replace(day=12)) == (0, 0)
    without = lake.read(ACCEPTED, {"record_ordinal": 1})
    assert len(without.inputFiles()) == len(ends)


def test_a_log_of_many_commits_is_read_alike_from_its_checkpoint_by_spark_and_goes_on(spark, tmp_path):
    from jobs.lake import NEW, Lake

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    for number in range(1, 13):
        lake.append(
            REVISIONS, rows(spark, REVISIONS, f"| subscription_key | publication_id |\n| row {number} | {number} |"), number
        )
    log = Path(lake.path(REVISIONS), "_delta_log")
    (checkpoint,) = log.glob("*.checkpoint.parquet")
    for commit in range(NEW, int(checkpoint.name.partition(".")[0])):
        (log / f"{commit:020}.json").unlink()
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()

    def found() -> set[int]:
        by_spark = spark.read.format("delta").load(lake.path(REVISIONS)).collect()
        by_us = Lake(lambda: spark, lake.root, lambda: None).read(REVISIONS).collect()
        assert {row.publication_id for row in by_spark} == {row.publication_id for row in by_us}
        return {row.publication_id for row in by_us}

    assert found() == set(range(1, 13))
    assert lake.last_number(REVISIONS) == 12
    lake.erase(REVISIONS, "publication_id < 5")
    lake.append(REVISIONS, rows(spark, REVISIONS, "| subscription_key | publication_id |\n| row 13 | 13 |"), 13)
    assert found() == set(range(5, 14))


def test_a_version_that_came_meanwhile_is_not_written_over(spark, tmp_path):
    from jobs.lake import Lake, LakeError

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    row = {"kind": "records", "usage_month": OCTOBER, "reason": "old", "erased_at": datetime(2026, 12, 1, tzinfo=UTC)}
    lake.append_rows(ERASURES, [row], 1)
    overtaken = Lake(lambda: spark, str(tmp_path), lambda: lake.append_rows(ERASURES, [row], 2))

    with pytest.raises(LakeError, match="erasures: CommitFailedError"):
        overtaken.append_rows(ERASURES, [row], 3)

    assert lake.last_number(ERASURES) == 2


@pytest.mark.parametrize("write", ["append", "replace_month"])
def test_a_version_that_came_while_a_frame_was_written_is_not_written_over(spark, tmp_path, monkeypatch, write):
    from jobs.lake import Lake, LakeError

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)

    def month(who: str):
        return rows(spark, METERED, f"| revision | subscription_key | attribution |\n| 1 | {who} | holder |")

    lake.replace_month(METERED, month("ana"), OCTOBER, revision=1)
    written = Lake._written

    def overtaken(self, *asked):
        files = written(self, *asked)
        monkeypatch.setattr(Lake, "_written", written)
        lake.append(METERED, month("ben"))
        return files

    monkeypatch.setattr(Lake, "_written", overtaken)
    with pytest.raises(LakeError, match="metered: CommitFailedError"):
        lake.append(METERED, month("cy")) if write == "append" else lake.replace_month(METERED, month("cy"), OCTOBER, revision=1)

    assert subscriptions(lake, METERED) == {("2026-10", "ana"), ("2026-10", "ben")}


def test_a_lake_of_an_earlier_version_is_refused_with_what_to_do(spark, tmp_path):
    import dataclasses

    from jobs.lake import Lake
    from jobs.run import Refused

    lines = [line for line in SUBSCRIBED.text.splitlines() if not line.strip().startswith("revision")]
    of_month = ("usage_month",)
    before = dataclasses.replace(SUBSCRIBED, text="\n".join(lines), partitioned_by=of_month, statistics=of_month)
    old = Lake(lambda: spark, str(tmp_path), lambda: None)
    old.replace_month(before, rows(spark, before, "| subscription_key | network | active_days |\n| ana | mobile | 31 |"), OCTOBER)

    with pytest.raises(Refused, match="lacks revision: the lake was made by an earlier version"):
        old.read(SUBSCRIBED)


def test_columns_that_are_told_by_a_number_are_written_as_they_would_be_handed_over(spark, tmp_path):
    from deltalake import DeltaTable
    from pyspark.sql import functions as F

    from jobs.lake import Lake, LakeError, Part, Told

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    text = "| revision | subscription_key | network | brand | active_days |\n| 1 | ana | mobile | one | 3 |\n| 1 | ben | fixed | two | 4 |"
    frame = rows(spark, SUBSCRIBED, text)
    told = pa.table({"brand": ["one", "two"], "active_days": pa.array([3, 4], pa.int32())})
    numbered = frame.withColumn("n", F.when(F.col("brand") == "one", 0).otherwise(1))

    assert lake.replace_month(SUBSCRIBED, [Part(numbered, Told("n", told))], OCTOBER, revision=1) == 2

    expected = sorted(tuple(row) for row in frame.collect())
    assert sorted(tuple(row) for row in lake.read(SUBSCRIBED).collect()) == expected
    by_delta_rs = DeltaTable(lake.path(SUBSCRIBED)).to_pyarrow_table(columns=list(SUBSCRIBED.names)).to_pylist()
    assert sorted(tuple(row.values()) for row in by_delta_rs) == expected
    wrong = numbered.withColumn("network", F.lit("satellite"))
    for parts in ([Part(wrong, Told("n", told))], [Part(frame), Part(wrong, Told("n", told))]):
        with pytest.raises(LakeError, match="subscribed: refused by the rule network_is_known"):
            lake.replace_month(SUBSCRIBED, parts, OCTOBER, revision=1)
    assert sorted(tuple(row) for row in lake.read(SUBSCRIBED).collect()) == expected

    assert lake.replace_month(SUBSCRIBED, [Part(frame.limit(1)), Part(numbered, Told("n", told))], OCTOBER, revision=1) == 3


@pytest.mark.spark
def test_the_same_rows_meet_a_condition_whether_arrow_or_spark_says_so(spark):
    from jobs.lake import meeting, meets

    text = "| record_ordinal | usage_month | closed_at |\n" + "\n".join(
        f"| {number} | {month} | {closed} |"
        for number, (month, closed) in enumerate(
            (month, closed)
            for month in ("2026-10-01", "2026-11-01")
            for closed in ("2026-10-01 00:00:00", "2026-10-02 00:00:00", "2026-10-03 00:00:00", "2026-10-03 00:00:01")
        )
    )
    within = (datetime(2026, 10, 2, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC))
    found = table_of(text, ACCEPTED).combine_chunks().to_batches()[0]

    for where, expected in (
        ({}, range(8)),
        ({"closed_at": within}, (1, 2, 5, 6)),
        ({"usage_month": OCTOBER, "closed_at": within}, (1, 2)),
    ):
        by_spark = {row.record_ordinal for row in rows(spark, ACCEPTED, text).where(meets(where)).collect()}
        assert set(found["record_ordinal"].filter(pa.array(meeting(found, where))).to_pylist()) == by_spark == {*expected}


@pytest.mark.spark
def test_a_data_file_whose_rows_no_writer_has_counted_is_not_taken_for_small(spark, tmp_path):
    from jobs.delta_log import UNKNOWN_ROWS
    from jobs.lake import Lake

    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    lake.append(ACCEPTED, rows(spark, ACCEPTED, "| record_ordinal |\n| 1 |"))
    assert [*lake.paths(ACCEPTED, {}).values()] == [1]
    (log,) = (tmp_path / ACCEPTED.name / "_delta_log").glob("*1.json")
    told = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({"add": {**row["add"], "stats": "{}"}} if "add" in row else row) + "\n" for row in told))

    assert [*lake.paths(ACCEPTED, {}).values()] == [UNKNOWN_ROWS]
