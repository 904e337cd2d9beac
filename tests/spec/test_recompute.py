"""The second calculation: quantity × factor, rounded half up once, in plain decimals; and its twin in whole numbers."""

from __future__ import annotations

import random
import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from factors.registry import Registry, load
from jobs import exact_sql, recompute
from jobs.run import PROJECT
from schemas.tables import METERED, SUBSCRIBED

OCTOBER = date(2026, 10, 1)
MOBILE = {"brand": "Alpha", "network": "mobile", "segment": "consumer", "active_days": 31, "is_estimated": False}
FIXED = MOBILE | {"network": "fixed"}


def usage(up: int, down: int, technology: str = "4g", zone: str = "home", *, is_estimated: bool = False) -> dict[str, Any]:
    place = {"access_technology": technology, "roaming_zone": zone, "is_estimated": is_estimated}
    return {"octets_up": up, "octets_down": down, **place}


def found(subscribed: dict[str, Any], *metered: dict[str, Any], registry: Registry, month: date = OCTOBER) -> dict[str, Any]:
    parts = recompute.components(subscribed, metered, registry, month)
    return recompute.published(subscribed, metered, parts)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(PROJECT / "factors")


def changed(folder: Path, name: str, *changes: tuple[str, str]) -> Registry:
    """The shipped factors with some text of a set replaced."""
    shutil.copytree(PROJECT / "factors", folder / "factors", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    path = folder / "factors" / "sets" / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return load(folder / "factors")


@pytest.mark.parametrize(
    ("subscribed", "metered", "month", "octets", "shown_gb", "grams", "shown_g"),
    [
        # The worked rows of the transitional values: 14.3 x 49.4 = 706.42, 0.4 x 49.4 = 19.76, a line without usage 4,100.
        (MOBILE, [usage(0, 14_300_000_000)], date(2023, 5, 1), 14_300_000_000, 14, "706.42", 706),
        (MOBILE, [usage(0, 400_000_000)], date(2023, 5, 1), 400_000_000, 0, "19.76", 20),
        (FIXED, [], date(2023, 5, 1), 0, 0, "4100", 4100),
        # Two parts: 475 + 3 x 12.3; B once for each subscription, whatever its rows.
        (MOBILE, [usage(0, 10**9), usage(10**9, 10**9, "5g")], OCTOBER, 3 * 10**9, 3, "511.9", 512),
        (FIXED, [usage(25 * 10**9, 225 * 10**9)], OCTOBER, 250 * 10**9, 250, "4612.5", 4613),
        # Half a gigabyte shows as one; one octet of 12.3 g/GB is 0.0000000123 g.
        (MOBILE, [usage(0, 500_000_000)], OCTOBER, 500_000_000, 1, "481.15", 481),
        (MOBILE, [usage(0, 1)], OCTOBER, 1, 0, "475.0000000123", 475),
    ],
)
def test_a_footprint_is_its_components_each_quantity_times_factor(
    registry, subscribed, metered, month, octets, shown_gb, grams, shown_g
):
    row = found(subscribed, *metered, registry=registry, month=month)

    assert (row["data_volume_bytes"], row["data_volume_gb_displayed"]) == (octets, shown_gb)
    assert (row["footprint_gco2e"], row["footprint_gco2e_displayed"]) == (Decimal(grams), shown_g)
    assert row["footprint_gco2e"] == row["volume_gco2e"] + row["subscription_gco2e"]


def test_each_component_is_rounded_half_up_to_12_places_and_then_added(tmp_path):
    # 0.0005 g/GB for an octet is 5e-13 g: half a unit of the last place goes up, in each of the two components.
    registry = changed(tmp_path, "FR-RCP2-NAT-2022", ('"12.3"', '"0.0005"'))

    row = found(MOBILE, usage(0, 1), usage(0, 1, "5g"), registry=registry)

    assert row["volume_gco2e"] == Decimal("0.000000000002")


def test_a_factor_for_a_binary_gigabyte_is_brought_to_decimal_ones_and_rounded_to_14_places(tmp_path):
    registry = changed(tmp_path, "FR-RCP2-NAT-2022", ("gb_basis = 1000000000", "gb_basis = 1073741824"))

    used = recompute.coefficient(registry, "Alpha", "mobile", "volume", OCTOBER)

    assert used.gco2e == (Decimal("12.3") * 10**9 / 2**30).quantize(Decimal("1e-14"))


def test_only_octets_down_count_where_the_factor_says_so(tmp_path):
    registry = changed(tmp_path, "FR-RCP2-NAT-2022", ('volume_basis = "up_and_down"', 'volume_basis = "down_only"'))

    assert found(MOBILE, usage(5 * 10**9, 2 * 10**9), registry=registry)["data_volume_bytes"] == 2 * 10**9


def test_an_interval_needs_both_ends_of_every_component(tmp_path):
    volume, fixed = (
        ('amount = "12.3"', 'amount = "12.3"\nlow = "10"\nhigh = "20"'),
        ('amount = "475"', 'amount = "475"\nlow = "400"'),
    )

    row = found(MOBILE, usage(0, 10**9), registry=changed(tmp_path, "FR-RCP2-NAT-2022", volume, fixed))

    assert (row["footprint_gco2e_low"], row["footprint_gco2e_high"]) == (Decimal(410), None)


@pytest.mark.parametrize(
    ("subscribed", "metered", "expected"),
    [
        (MOBILE, [usage(0, 1)], False),
        (MOBILE | {"is_estimated": True}, [], True),
        (MOBILE, [usage(0, 1), usage(0, 1, "5g", is_estimated=True)], True),
    ],
)
def test_a_row_is_estimated_if_a_record_was_lost_or_a_volume_was_not_measured(registry, subscribed, metered, expected):
    assert found(subscribed, *metered, registry=registry)["is_estimated"] is expected


def test_every_column_that_differs_is_named_with_both_values():
    stored = {"network": "mobile", "data_volume_bytes": 2, "footprint_gco2e": Decimal("475.000000000001")}

    assert recompute.differences(stored, {"network": "mobile", "data_volume_bytes": 1, "footprint_gco2e": Decimal(475)}) == [
        "data_volume_bytes is 2, recomputed 1",
        "footprint_gco2e is 475.000000000001, recomputed 475",
    ]


def test_the_second_calculation_shares_no_code_with_the_first():
    text = "".join((PROJECT / "jobs" / f"{name}.py").read_text(encoding="utf-8") for name in ("recompute", "exact_sql"))

    assert "pyspark" not in text
    for module in ("jobs.estimate", "jobs.publish", "jobs.month", "factors.arithmetic", "factors.factor"):
        assert module not in text
    assert "float" not in text.replace("floating-point", "")


def test_all_rows_at_once_in_whole_numbers_are_each_row_in_decimals(tmp_path):
    interval = ('amount = "12.3"', 'amount = "12.34567890123456"\nlow = "0.00000000000001"\nhigh = "999.99999999999999"')
    registry = changed(tmp_path, "FR-RCP2-NAT-2022", interval, ("gb_basis = 1000000000", "gb_basis = 1073741824"))
    chance = random.Random(20261001)
    subscribed, metered = [], []
    for row in range(1, 501):
        network, is_estimated = chance.choice(("fixed", "mobile")), chance.random() < 0.1
        subscribed.append(MOBILE | {"row": row, "network": network, "brand": chance.choice("AB"), "is_estimated": is_estimated})
        for technology in chance.sample(("2g", "4g", "5g"), chance.randrange(4)):
            octets = [chance.randrange(10 ** chance.randrange(1, 17)) for _ in range(2)]
            metered.append({"row": row, **usage(*octets, technology, is_estimated=chance.random() < 0.1)})
    with duckdb.connect() as connection:
        for name, table, rows in (("subscribed", SUBSCRIBED, subscribed), ("metered", METERED, metered)):
            schema = pa.schema([("row", pa.int64()), *[f for f in table.arrow_schema if f.name in rows[0]]])
            connection.register(f"{name}_rows", pa.Table.from_pylist(rows, schema=schema))
            connection.execute(f"CREATE TABLE {name} AS FROM {name}_rows")
        exact_sql.recompute_all(connection, registry, OCTOBER)
        names = exact_sql.FIGURES
        written = connection.execute(f"SELECT row, {', '.join(names)} FROM recomputed ORDER BY row").fetchall()

    for one, (row, *values) in zip(subscribed, written, strict=True):
        expected = found(one, *[each for each in metered if each["row"] == row], registry=registry) | {"usage_month": OCTOBER}
        in_units = {n: int(v.scaleb(12)) if isinstance(v, Decimal) else v for n, v in expected.items()}
        assert dict(zip(names, values, strict=True)) == in_units
