"""Data files that Arrow writes: part of the table as if Spark had written them, and held to the same rules."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from schemas.tables import ACCEPTED, LANDED, TABLES
from tests.conftest import key, table_of

pytestmark = pytest.mark.spark

NOON = datetime(2026, 10, 15, 12, 0, 0, 123_456, UTC)


@pytest.fixture
def lake(spark, tmp_path: Path):
    from jobs.lake import Lake

    return Lake(lambda: spark, str(tmp_path), lambda: None)


def write(lake, months: str) -> list:
    """Two rows of accepted, each of a month."""
    from jobs.data_files import TableWriter

    rows = table_of(f"| usage_month | record_key | octets_down |\n{months}", ACCEPTED)
    writer = TableWriter(ACCEPTED, lake.path(ACCEPTED))
    columns = {name: rows[name].combine_chunks() for name in ACCEPTED.names if name not in ("batch", "closed_at", "opened_at")}
    writer.write({**columns, "batch": 7, "closed_at": NOON})
    return writer.close()


def test_every_engine_reads_what_workers_wrote(lake):
    files = write(lake, "| 2026-10-01 | a | 5 |\n| 2026-11-01 | b | 6 |\n| 2026-10-01 |  | 7 |")
    lake.commit(ACCEPTED, files, 1)
    place = lake.path(ACCEPTED)

    expected = [
        (date(2026, 10, 1), 7, key("a"), NOON, 5),
        (date(2026, 10, 1), 7, None, NOON, 7),
        (date(2026, 11, 1), 7, key("b"), NOON, 6),
    ]
    columns = ["usage_month", "batch", "record_key", "closed_at", "octets_down"]
    by_spark = lake.read(ACCEPTED).select(*columns).toArrow()
    by_delta_rs = DeltaTable(place).to_pyarrow_table(columns=columns)
    paths = [f"{place}/{file.path}" for file in files]
    by_duckdb = duckdb.sql(f"SELECT batch, record_key, octets_down FROM read_parquet({paths}) ORDER BY octets_down").fetchall()
    for rows in (by_spark, by_delta_rs):
        found = [tuple(row[name] for name in columns) for row in rows.to_pylist()]
        assert sorted(found, key=lambda row: row[-1]) == sorted(expected, key=lambda row: row[-1])
    assert by_duckdb == [(7, key("a"), 5), (7, key("b"), 6), (7, None, 7)]


def test_a_commit_says_what_the_file_holds_and_never_a_pseudonym(lake):
    (file,) = write(lake, "| 2026-10-01 | a | 5 |")
    lake.commit(ACCEPTED, [file], 1)

    log = Path(lake.path(ACCEPTED), "_delta_log", f"{1:020}.json").read_text(encoding="utf-8")
    (added,) = [json.loads(line)["add"] for line in log.splitlines() if '"add"' in line]
    stated = json.loads(added["stats"])
    assert stated["numRecords"] == 1
    assert stated["minValues"]["closed_at"] == "2026-10-15T12:00:00.123Z"
    assert stated["maxValues"]["closed_at"] == "2026-10-15T12:00:00.124Z", "never below the value"
    assert set(stated["minValues"]) == {"batch", "closed_at"}


def test_rows_that_lie_apart_have_a_file_of_their_own_in_each_partition(lake):
    from jobs.data_files import TableWriter

    def is_odd(batches):
        return np.concatenate([batch["octets_down"].to_numpy() % 2 == 1 for batch in batches])

    rows = table_of("| usage_month | octets_down |\n| 2026-10-01 | 1 |\n| 2026-10-01 | 2 |\n| 2026-11-01 | 4 |", ACCEPTED)
    writer = TableWriter(ACCEPTED, lake.path(ACCEPTED), is_odd)
    for _ in range(2):
        writer.write({name: rows[name].combine_chunks() for name in ACCEPTED.names})
    files = writer.close()
    lake.commit(ACCEPTED, files, 1)

    found = sorted((file.partition["usage_month"], octets_of(lake, file)) for file in files)
    assert found == [("2026-10-01", [1, 1]), ("2026-10-01", [2, 2]), ("2026-11-01", [4, 4])]
    assert sorted(row.octets_down for row in lake.read(ACCEPTED).collect()) == [1, 1, 2, 2, 4, 4]


def octets_of(lake, file) -> list[int]:
    from jobs.data_files import data_file_batches

    batches = data_file_batches(lake.path(ACCEPTED), file.path, ACCEPTED, ["octets_down", "source"], ["source"])
    return [octets for batch in batches for octets in batch["octets_down"].to_pylist()]


def test_an_append_whose_number_was_committed_before_adds_nothing(lake):
    for _ in range(2):
        lake.commit(ACCEPTED, write(lake, "| 2026-10-01 | a | 5 |"), 1)

    assert lake.read(ACCEPTED).count() == 1


def test_a_row_without_a_required_value_is_not_written(lake):
    from jobs.data_files import TableWriter

    writer = TableWriter(LANDED, lake.path(LANDED))
    with pytest.raises(ValueError, match="landed: null in source"):
        writer.write({"file_number": pa.array([1]), "source": pa.nulls(1, pa.string())})


@pytest.mark.parametrize("table", [t for t in TABLES if t.checks], ids=lambda t: t.name)
def test_rules_are_judged_on_the_driver_as_spark_judges_them(spark, table):
    from jobs.lake import broken_rules

    text = next(c.name for c in table.columns if c.sql_type == "STRING")
    usual = table_of(f"| {text} |\n| x |", table)
    others = {
        "STRING": ["x", "holder", "fixed", None],
        "BIGINT": [-1, 0, 1, None],
        "INT": [0, 31, 32],
        "BINARY": [key("k"), None],
    }
    others |= {"DATE": [date(2026, 1, 1), date(2026, 1, 2)], "TIMESTAMP": [NOON, datetime(2027, 1, 1, tzinfo=UTC), None]}
    named = [c for c in table.columns if any(c.name in rule for rule in table.checks.values())][:4]
    decimals = [Decimal(-1), Decimal(0), Decimal(1), None]
    values = [decimals if c.decimal else others[c.sql_type] for c in named]
    nullable = pa.schema([field.with_nullable(True) for field in table.arrow_schema])
    combinations = itertools.islice(itertools.product(*values), 200)
    rows = [usual.to_pylist()[0] | dict(zip([c.name for c in named], chosen, strict=True)) for chosen in combinations]
    judged = spark.createDataFrame(pa.Table.from_pylist(rows, schema=nullable))
    flags = judged.selectExpr(*[f"coalesce(NOT ({rule}), false) AS {name}" for name, rule in sorted(table.checks.items())])
    expected = [[name for name, is_broken in flag.asDict().items() if is_broken] for flag in flags.collect()]

    assert [broken_rules(table, pa.Table.from_pylist([row], schema=nullable).to_pylist()) for row in rows] == expected
    assert any(expected), "some row breaks a rule"
