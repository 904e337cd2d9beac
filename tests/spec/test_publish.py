"""What is shown: one row a subscription, half up to the unit from the unrounded value; and a hash that only figures change."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import pytest

from schemas.tables import ESTIMATED, PUBLISHED, SUBSCRIBED, TOTALS_BY
from tests.composed import composed
from tests.conftest import rows, table_of

pytestmark = pytest.mark.spark

OCTOBER = date(2026, 10, 1)
FIGURES = [name for name in PUBLISHED.names if name not in ("subscription_key", "revision", "publication_id")]


def shown_of(spark, estimated: str):
    """Rows of ``published`` by the name of the subscription."""
    found = composed(spark, rows(spark, ESTIMATED, estimated))
    assert found.select(PUBLISHED.names).cast(PUBLISHED.arrow_schema).schema == PUBLISHED.arrow_schema
    of_rows = found.to_pylist()
    assert {(row["revision"], row["publication_id"]) for row in of_rows} == {(3, 12)}
    return {bytes.fromhex(row["subscription_key"]).rstrip(b"\0").decode(): SimpleNamespace(**row) for row in of_rows}


# Display


def test_volume_and_grams_are_shown_half_up_to_the_unit(spark):
    found = shown_of(
        spark,
        """
        | subscription_key | component | quantity       | gco2e          |
        | halves           | volume    | 0.5            | 0.5            |
        | even halves      | volume    | 2.5            | 2.5            |
        | just below       | volume    | 2.499999999    | 2.499999999999 |
        | just above       | volume    | 2.500000001    | 2.500000000001 |
        | nothing          | volume    | 0              | 0              |
        | much             | volume    | 99999999.499999999 | 999999999.499999999999 |
        """,
    )

    shown = {who: (row.data_volume_gb_displayed, row.footprint_gco2e_displayed) for who, row in found.items()}
    assert shown == {
        "halves": (1, 1),
        "even halves": (3, 3),
        "just below": (2, 2),
        "just above": (3, 3),
        "nothing": (0, 0),
        "much": (99_999_999, 999_999_999),
    }
    assert found["much"].data_volume_bytes == 99_999_999_499_999_999
    assert found["just below"].data_volume_bytes == 2_499_999_999
    assert found["just below"].footprint_gco2e == Decimal("2.499999999999")


def test_a_row_adds_up_its_components_before_it_is_rounded(spark):
    found = shown_of(
        spark,
        """
        | subscription_key | component    | network | brand | factor_set | method_id | quantity | gco2e | gco2e_low | gco2e_high | is_estimated | is_national_default |
        | ana              | volume       | fixed   | one   | set        | method    | 0.2      | 0.2   | 0.1       | 0.3        | false        | true                |
        | ana              | volume       | fixed   | one   | set        | method    | 0.2      | 0.2   | 0.1       | 0.3        | true         | true                |
        | ana              | subscription | fixed   | one   | set        | method    | 1        | 0.1   | 0.1       |            | false        | true                |
        | ben              | volume       | mobile  | two   | set        | method    | 14.3     | 706.42 | 700      | 710        | false        | false               |
        | ben              | subscription | mobile  | two   | set        | method    | 1        | 0     | 0         | 0          | false        | false               |
        """,
    )

    ana, ben = found["ana"], found["ben"]
    assert (ana.data_volume_bytes, ana.data_volume_gb_displayed) == (400_000_000, 0)
    assert (ana.volume_gco2e, ana.subscription_gco2e) == (Decimal("0.4"), Decimal("0.1"))
    assert (ana.footprint_gco2e, ana.footprint_gco2e_displayed) == (Decimal("0.5"), 1)
    # One component without an upper end: the row has none.
    assert (ana.footprint_gco2e_low, ana.footprint_gco2e_high) == (Decimal("0.3"), None)
    assert (ana.is_estimated, ana.is_national_default) == (True, True)
    assert (ana.network, ana.brand, ana.factor_set, ana.method_id) == ("fixed", "one", "set", "method")
    # 14.3 GB x 49.4 g/GB is 706 g, not 14 x 49.4 = 692 g.
    assert (ben.data_volume_gb_displayed, ben.footprint_gco2e_displayed) == (14, 706)
    assert (ben.footprint_gco2e_low, ben.footprint_gco2e_high) == (700, 710)
    assert (ben.is_estimated, ben.is_national_default) == (False, False)


# Hashes

PUBLISHED_ROWS = """
    | subscription_key | network | brand | data_volume_bytes | footprint_gco2e | footprint_gco2e_low | factor_set | revision | publication_id |
    | ana              | mobile  | one   | 1                 | 100             | 90                  | set        | 1        | 1              |
    | ben              | fixed   | one   | 2                 | 200             |                     | set        | 1        | 1              |
    | cy               | fixed   | two   | 2                 | 200             |                     | set        | 1        | 1              |
    | dee              | fixed   | two   | 2                 | 200             |                     | set        | 1        | 1              |
"""
OTHER = {
    "STRING": "'other'",
    "BIGINT": "77",
    "INT": "77",
    "BOOLEAN": "true",
    "DATE": "DATE'2026-11-01'",
    "DECIMAL(24,12)": "CAST(0.000000000001 AS DECIMAL(24,12))",
}


def changed_once(frame, column: str, who: str = "ana"):
    """The rows with another value in one cell."""
    value = OTHER[PUBLISHED.column(column).sql_type]
    return frame.selectExpr(
        *[f"CASE WHEN subscription_key = '{who}' THEN {value} ELSE {n} END AS {n}" if n == column else n for n in PUBLISHED.names]
    )


def both(frame) -> tuple[str, str]:
    """Hash of rows and hash of figures."""
    from jobs.row_hashes import hashes
    from jobs.table_rows import OfFrame

    found = hashes(OfFrame(frame, PUBLISHED.names))
    return found["rows_hash"], found["figures_hash"]


def test_the_hash_of_a_month_is_that_of_its_rows_in_any_order_partitioning_and_time_zone(spark):
    frame = rows(spark, PUBLISHED, PUBLISHED_ROWS)
    expected = both(frame)

    for partitions in (1, 2, 7):
        shuffled = frame.orderBy("brand", "subscription_key", ascending=False).repartition(partitions)
        assert both(shuffled) == expected, partitions
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Pacific/Auckland")
    try:
        assert both(frame) == expected
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)


def test_any_changed_figure_changes_both_hashes(spark):
    frame = rows(spark, PUBLISHED, PUBLISHED_ROWS)
    expected = both(frame)

    for column in FIGURES:
        changed = changed_once(frame, column)
        assert both(changed)[1] != expected[1], column
    assert both(changed_once(frame, "footprint_gco2e"))[0] != expected[0]
    assert both(changed_once(frame, "footprint_gco2e_low", "ben"))[1] != expected[1], "an end where there was none"
    assert both(frame.where("subscription_key <> 'dee'"))[1] != expected[1], "one of two rows with equal figures is gone"


def test_the_hash_of_figures_does_not_see_keys_and_revisions_but_the_hash_of_rows_does(spark):
    frame = rows(spark, PUBLISHED, PUBLISHED_ROWS)
    expected = both(frame)

    for column in ("subscription_key", "revision", "publication_id"):
        changed = changed_once(frame, column)
        assert both(changed)[1] == expected[1], column
        assert both(changed)[0] != expected[0], column


def test_figures_stand_together_in_a_row_as_their_hash_takes_them():
    from jobs import exact_sql, row_hashes

    assert (*row_hashes._BEFORE_FIGURES, *exact_sql.FIGURES, *row_hashes._AFTER_FIGURES) == tuple(PUBLISHED.names)


def test_hashes_are_those_of_the_rows_as_plain_python_writes_them(spark):
    tiny = "CAST(0.000000000001 AS DECIMAL(24,12))"
    written = {"volume_gco2e": tiny, "subscription_gco2e": "CAST(0 AS DECIMAL(24,12))", "footprint_gco2e": tiny}
    frame = rows(spark, PUBLISHED, PUBLISHED_ROWS)
    frame = frame.unionByName(frame.selectExpr(*[f"{written.get(name, name)} AS {name}" for name in PUBLISHED.names]))

    found = [{name: as_text(row[name]) for name in PUBLISHED.names} for row in frame.collect()]

    figures = [
        {n: text for n, text in row.items() if n not in ("subscription_key", "revision", "publication_id")} for row in found
    ]
    assert both(frame) == (hash_of(found), hash_of(figures))


def as_text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def hash_of(rows: list[dict[str, str]]) -> str:
    buckets = defaultdict(list)
    for digest in sorted(hashlib.sha256("\x1f".join(row.values()).encode()).hexdigest() for row in rows):
        buckets[digest[:3]].append(digest)
    together = "".join(hashlib.sha256("".join(digests).encode()).hexdigest() for digests in buckets.values())
    return hashlib.sha256(together.encode()).hexdigest()


def test_a_row_comes_with_the_segment_of_its_subscription_by_which_totals_are_told(spark):
    estimated = rows(
        spark,
        ESTIMATED,
        """
        | subscription_key | component    | quantity | gco2e |
        | ana              | volume       | 1        | 10    |
        | ana              | subscription | 1        | 5     |
        | ben              | subscription | 1        | 7     |
        """,
    )
    held = rows(spark, SUBSCRIBED, "| subscription_key | segment |\n| ana | home |\n| cy | work |")

    found = composed(spark, estimated, held).to_pylist()

    told = {(bytes.fromhex(row["subscription_key"]).rstrip(b"\0"), row["segment"], row["footprint_gco2e"]) for row in found}
    assert told == {(b"ana", "home", 15), (b"ben", None, 7)}


# Totals


ROWS = """
    | subscription_key                 | network | brand | data_volume_bytes | data_volume_gb_displayed | footprint_gco2e      | footprint_gco2e_displayed |
    | 616e6100000000000000000000000000 | mobile  | Alpha | 2500000000        | 3                        | 505.750000000001     | 506                       |
    | 62656e00000000000000000000000000 | mobile  | Beta  | 400000000         | 0                        | 479.92               | 480                       |
    | 66617900000000000000000000000000 | fixed   | Alpha | 99999999499999999 | 99999999                 | 175004174.124999999998 | 175004174               |
    """
SUBSCRIBED_ROWS = """
    | subscription_key | segment  |
    | ana              | consumer |
    | ben              | business |
    | fay              | consumer |
    """


def totals() -> list[dict[str, object]]:
    from jobs.publish import totals_of

    segments = {row["subscription_key"].hex(): row["segment"] for row in table_of(SUBSCRIBED_ROWS, SUBSCRIBED).to_pylist()}
    of_rows = table_of(ROWS, PUBLISHED).to_pylist()
    return totals_of([row | {"subscriptions": 1, "segment": segments[row["subscription_key"]]} for row in of_rows])


@pytest.mark.parametrize("on_driver", [0, 1 << 22], ids=["in tasks", "on the driver"])
def test_amounts_are_added_up_by_few_values_exactly(spark, tmp_path, monkeypatch, on_driver):
    from jobs.grouped import added_up, distinct
    from jobs.lake import Lake, in_month
    from jobs.table_rows import OfFiles, files_where

    monkeypatch.setattr("jobs.steps.DRIVER_ROWS", on_driver)
    lake = Lake(lambda: spark, str(tmp_path), lambda: None)
    for number in (1, 2):
        of_publication = {"publication_id": number, "usage_month": OCTOBER}
        of_rows = [
            row | {"volume_gco2e": row["footprint_gco2e"], **of_publication} for row in table_of(ROWS, PUBLISHED).to_pylist()
        ]
        lake.append_rows(PUBLISHED, of_rows)
    of = OfFiles(lake, [files_where(lake, PUBLISHED, in_month(OCTOBER, publication_id=2))], PUBLISHED.names)
    both = OfFiles(lake, [files_where(lake, PUBLISHED, in_month(OCTOBER))], PUBLISHED.names)
    amounts = {
        "rows": ("sum", "1"),
        "octets": ("sum", "data_volume_bytes"),
        "gco2e": ("sum", "footprint_gco2e"),
        "most": ("max", "brand"),
    }

    found = {row.pop("network"): row for row in added_up(of, ["network"], amounts)}

    assert found == {
        "mobile": {"rows": 2, "octets": 2900000000, "gco2e": Decimal("985.670000000001"), "most": "Beta"},
        "fixed": {"rows": 1, "octets": 99999999499999999, "gco2e": Decimal("175004174.124999999998"), "most": "Alpha"},
    }
    assert sorted(row["publication_id"] for row in distinct(both, ["publication_id"])) == [1, 2]
    assert added_up(OfFiles(lake, [], PUBLISHED.names), ["network"], amounts) == []


def test_each_grouping_adds_up_to_the_national_total_and_says_what_display_rounding_adds():
    found = {(row["grouped_by"], row["name"]): row for row in totals()}

    national = found["all", "all"]
    assert national["footprint_gco2e"] == Decimal("175005159.794999999999")
    assert national["data_volume_bytes"] == 100000002399999999
    # 506 + 480 + 175,004,174 g and 3 + 0 + 99,999,999 GB are shown.
    assert national["residual_gco2e"] == Decimal("0.205000000001")
    assert national["residual_bytes"] == 100000002 * 10**9 - 100000002399999999
    assert {name for grouped_by, name in found if grouped_by == "segment"} == {"consumer", "business"}
    for grouped_by in TOTALS_BY:
        group = [row for (by, _), row in found.items() if by == grouped_by]
        for column in set(national) - {"grouped_by", "name"}:
            assert sum(row[column] for row in group) == national[column], (grouped_by, column)


def test_sums_that_are_not_those_of_the_ledger_are_not_published():
    from jobs.publish import require_sums

    found = totals()
    publication = {name: found[0][name] for name in ("subscriptions", "data_volume_bytes", "footprint_gco2e")}
    publication |= {"usage_month": date(2026, 10, 1)}
    assert found[0]["grouped_by"] == "all"
    require_sums(found, publication)

    (beta,) = [row for row in found if row["name"] == "Beta"]
    beta["footprint_gco2e"] += Decimal("1e-12")
    with pytest.raises(ArithmeticError, match="2026-10: sums by brand are not the sums of its rows"):
        require_sums(found, publication)
