"""The auditors' way in: views that are declared once, a dictionary that is fresh, and a shell that can write nothing."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.audit_sql import answer, converse, opened
from jobs.completeness import gaps
from jobs.run import CallError, Settings
from jobs.serving_schema import VIEWS as SERVED
from schemas.__main__ import main
from schemas.dictionary import dictionary
from schemas.readers import READERS
from schemas.tables import ACCEPTED, BATCHES, COMPLETENESS, FILE_BALANCES, PUBLICATIONS, TABLES
from schemas.views import VIEWS
from tests.audit_lake import BALANCE, MONTH, write, write_month


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return write_month(tmp_path)


def asked(settings: Settings, query: str) -> list[dict[str, Any]]:
    with opened(settings) as connection:
        found = connection.execute(query)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


# Views


def test_every_view_has_the_columns_and_types_it_declares(settings):
    with opened(settings) as connection:
        for view in VIEWS:
            found = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {view.name}").fetchall()}
            declared = {c.name: c.sql_type.replace("STRING", "VARCHAR").replace("INT", "INTEGER").replace("BIGINTEGER", "BIGINT")
                        for c in view.columns}  # fmt: skip
            assert found == {n: k.replace("TIMESTAMP", "TIMESTAMP WITH TIME ZONE") for n, k in declared.items()}, view.name


def test_no_view_has_the_name_of_a_table():
    assert not {view.name for view in VIEWS} & {table.name for table in TABLES}


def test_a_file_counts_in_the_legal_month_it_closed_in_unless_it_was_withdrawn_or_its_batch_never_came(settings):
    def file(number: int, batch: int, closed: str) -> dict[str, Any]:
        at = datetime.fromisoformat(closed).replace(tzinfo=UTC)
        return BALANCE | {"file_number": number, "batch": batch, "first_closed_at": at, "last_closed_at": at}

    # 23:30 UTC on 31 October is 0:30 on 1 November in Paris; file 3 is withdrawn by batch 3; batch 4 was never committed.
    write(
        settings, FILE_BALANCES, [file(2, 2, "2026-10-31T23:30"), file(3, 2, "2026-10-05T00:00"), file(4, 4, "2026-10-05T00:00")]
    )
    later = [(2, []), (3, [3])]
    write(settings, BATCHES, [{"batch": n, "state": "committed", "withdrawn_file_numbers": w} for n, w in later])

    rows = asked(settings, "SELECT * FROM received_balance ORDER BY usage_month")

    shown = [(row["usage_month"], row["files"], row["records_received"], row["records_unaccounted"]) for row in rows]
    assert shown == [(date(2026, 10, 1), 1, 10, 0), (date(2026, 11, 1), 1, 10, 0)]


def test_factor_use_adds_up_to_what_is_published(settings):
    rows = asked(settings, "SELECT * FROM factor_use ORDER BY network, component")

    assert [(row["network"], row["component"], row["quantity"], row["gco2e"]) for row in rows] == [
        ("fixed", "subscription", 2, 8350),
        ("fixed", "volume", 250, Decimal("437.5")),
        ("mobile", "subscription", 4, 1900),
        ("mobile", "volume", Decimal("17.800000001"), Decimal("218.9400000123")),
    ]
    published = asked(settings, "SELECT footprint_gco2e FROM publication_history")
    assert sum(row["gco2e"] for row in rows) == published[0]["footprint_gco2e"]


def test_every_revision_stands_with_its_totals_its_change_and_its_hash(settings):
    (first,) = asked(settings, "SELECT * FROM publications")
    second = {"publication_id": 2, "revision": 2, "supersedes_publication_id": 1, "reason": "late files", "figures_hash": "cd"}
    write(settings, PUBLICATIONS, [first | second | {"subscriptions": 7, "footprint_gco2e": first["footprint_gco2e"] + 5}])

    rows = asked(settings, "SELECT * FROM publication_history ORDER BY revision")

    names = ("revision", "reason", "subscriptions_change", "footprint_gco2e_change", "is_current", "verdict")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (1, "first publication", None, None, False, "every rule is met"),
        (2, "late files", 1, 5, True, "every rule is met"),
    ]
    standing = asked(settings, "SELECT DISTINCT is_current FROM published_history")
    assert standing == [{"is_current": False}]


def test_source_days_show_a_silent_day_and_the_numbers_that_never_came(settings):
    days = [datetime(2026, 10, day, 12, tzinfo=UTC) for day in (1, 2, 3)]
    write(settings, ACCEPTED, [
        {"usage_month": MONTH, "batch": 1, "source": "pgw_pipe", "closed_at": day, "octets_down": octets}
        for day, octets in zip(days, (100, 9, 120), strict=True)
    ])  # fmt: skip
    # 1-10 and 8-12 of two files overlap; 13-14 never came; 15-20 lacks two; then the counter began anew.
    ranges = [(1, 10, 10, 1), (8, 12, 2, 1), (15, 20, 4, 2), (90_000_000, 90_000_001, 2, 3)]
    numbered = [
        {"batch": 1, "source": "pgw_pipe", "file_number": n, "node": "a", "day": date(2026, 10, day), "records": records}
        | {"first_sequence": first, "last_sequence": last}
        for n, (first, last, records, day) in enumerate(ranges)
    ]
    write(settings, COMPLETENESS, numbered)

    rows = asked(settings, "SELECT * FROM source_days ORDER BY day")

    shown = [(row["day"].day, row["octets"], row["octets_share_of_median"], row["records_missing"]) for row in rows]
    assert shown == [(1, 100, 1, 0), (2, 9, Decimal("0.09"), 4), (3, 120, Decimal("1.2"), 0)]
    by_completeness = {gap.day.day: gap.missing for gap in gaps([SimpleNamespace(**row) for row in numbered])}
    assert {day: missing for day, _, _, missing in shown if missing} == by_completeness


def test_postgresql_serves_the_views_whose_tables_it_has_to_the_auditor():
    assert {view.name for view in SERVED} == {"published_history", "publication_history"}
    assert {view.name for view in SERVED} <= set(READERS["footprint_auditor"])
    assert not {view.name for view in SERVED} & {*READERS["footprint_billing"], *READERS["footprint_portal"]}


# The shell


def said(settings: Settings, query: str, *, as_csv: bool = False) -> str:
    out = io.StringIO()
    with opened(settings) as connection:
        answer(connection, query, out, as_csv)
    return out.getvalue()


def test_an_answer_is_a_table_or_csv(settings):
    query = "SELECT network, count(*) AS subscriptions, max(footprint_gco2e_low) AS low FROM revisions GROUP BY 1 ORDER BY 1"

    assert said(settings, query) == (
        "network  subscriptions  low\n"
        "-------  -------------  ----\n"
        "fixed                2  null\n"
        "mobile               4  null\n"
    )  # fmt: skip
    assert said(settings, query, as_csv=True) == "network,subscriptions,low\nfixed,2,\nmobile,4,\n"


def test_a_pseudonym_is_hexadecimal_and_an_amount_keeps_its_digits(settings):
    query = """
        SELECT s.subscription_key, r.footprint_gco2e, r.is_estimated
        FROM subscribed AS s JOIN revisions AS r ON unhex(r.subscription_key) = s.subscription_key WHERE r.brand = 'Beta'"""

    assert said(settings, query, as_csv=True).splitlines()[1] == f"{b'dan'.ljust(16, bytes(1)).hex()},650.890000000000,false"


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO revisions SELECT * FROM revisions",
        "DELETE FROM publications",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "ATTACH '{folder}/a.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ],
)
def test_nothing_can_be_written_and_no_other_file_read(settings, tmp_path, query):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    with pytest.raises(CallError):
        said(settings, query.format(folder=tmp_path))

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_shell_answers_statement_after_statement(settings):
    lines = io.StringIO("SELECT 1 AS a;\nSELECT\n2 AS b;\n.quit\nSELECT 3 AS c;\n")
    out = io.StringIO()
    with opened(settings) as connection:
        converse(connection, lines, out, as_csv=True)

    assert out.getvalue() == "a\n1\nb\n2\n"


def test_a_lake_that_is_empty_has_every_table_and_view_without_rows(tmp_path):
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)})

    for of in (*TABLES, *VIEWS):
        assert asked(settings, f"SELECT count(*) AS n FROM {of.name}") == [{"n": 0}], of.name
    assert not (tmp_path / "lake").exists()


# The dictionary


def test_the_data_dictionary_is_fresh():
    assert main(["dictionary", "--check"]) == 0


def test_a_stale_data_dictionary_is_told_and_written_anew(tmp_path, capsys):
    page = tmp_path / "data-dictionary.md"
    page.write_text("old", encoding="utf-8")

    assert main(["dictionary", "--check"], page) == 1
    assert capsys.readouterr().err == "data-dictionary.md is not what schemas/ declares now: run `python -m schemas dictionary`\n"
    assert main(["dictionary"], page) == 0
    assert main(["dictionary", "--check"], page) == 0


def test_the_dictionary_describes_every_column_of_every_table_and_view_with_its_unit(settings):
    text = dictionary()

    for of in (*TABLES, *VIEWS):
        assert f"\n### {of.name}\n" in text
        for column in of.columns:
            assert f"\n| `{column.name}` | {column.sql_type}" in text
    assert "| `data_volume_gb_displayed` | BIGINT | GB (10⁹ bytes) |" in text
    assert "| `octets_down` | BIGINT | octets |" in text
    assert {row["name"] for row in asked(settings, "SELECT DISTINCT name FROM dictionary")} == {
        of.name for of in (*TABLES, *VIEWS)
    }
