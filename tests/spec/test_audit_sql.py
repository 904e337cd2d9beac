"""The auditors' way in: views that are declared once, a dictionary that is fresh, and a shell that can write nothing."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.audit_sql import answer, converse, opened
from jobs.run import CallError, Settings
from jobs.serving_schema import TABLES as SERVED_TABLES
from jobs.serving_schema import VIEWS as SERVED
from schemas.__main__ import main
from schemas.dictionary import dictionary
from schemas.readers import READERS
from schemas.tables import EVIDENCE_RECEIVED, PUBLICATIONS, RESTATEMENTS, TABLES, VERDICTS
from schemas.views import VIEWS
from tests.audit_lake import MONTH, write, write_month


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


THE_ISSUES = ("received_balance", "published_history", "factor_use", "restatements", "completeness")
"""What an auditor asks of a month, by name, of either engine."""


def test_received_balance_says_what_is_unaccounted_for(settings):
    (row,) = asked(settings, "SELECT * FROM received_balance")

    assert (row["usage_month"], row["revision"], row["is_current"]) == (MONTH, 1, True)
    assert (row["source"], row["files"], row["records_received"], row["records_unaccounted"]) == ("pgw_pipe", 1, 10, 0)


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


def test_a_revision_that_is_judged_and_not_published_is_shown_by_its_latest_verdict_and_is_not_current(settings):
    november = date(2026, 11, 1)
    for number, month, revision in ((2, november, 1), (3, november, 1), (4, MONTH, 2), (5, MONTH, 2)):
        write(settings, VERDICTS, [{"verdict_id": number, "usage_month": month, "revision": revision, "summary": "-"}])
        write(settings, EVIDENCE_RECEIVED, [{"verdict_id": number, "usage_month": month, "source": "pgw_pipe", "files": number}])

    rows = asked(settings, "SELECT usage_month, revision, is_current, files FROM received_balance ORDER BY ALL")

    assert [tuple(row.values()) for row in rows] == [(MONTH, 1, True, 1), (MONTH, 2, False, 5), (november, 1, False, 3)]


def test_rows_of_a_publication_that_never_came_into_the_ledger_are_not_shown(settings):
    write(settings, RESTATEMENTS, [{"publication_id": n, "usage_month": MONTH, "revision": 2, "cause": "code"} for n in (1, 2)])

    assert asked(settings, "SELECT publication_id FROM restatements") == [{"publication_id": 1}]
    assert asked(settings, "SELECT count(*) AS n FROM written_restatements") == [{"n": 2}]


def test_each_view_that_an_auditor_asks_for_is_there_in_both_engines_with_the_same_columns(settings):
    of_postgresql = {of.name: [c.name for c in of.columns] for of in (*SERVED, *SERVED_TABLES)}
    for name in THE_ISSUES:
        with opened(settings) as connection:
            columns = [column for column, *_ in connection.execute(f"DESCRIBE {name}").fetchall()]
        assert columns == of_postgresql[name], name
        assert name in READERS["footprint_auditor"]
        assert f"\n### {name}\n" in dictionary()


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


def test_postgresql_serves_the_views_whose_tables_it_has_to_the_auditor_alone():
    assert {view.name for view in VIEWS} - {view.name for view in SERVED} == {"files_received"}
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
