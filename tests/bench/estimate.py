"""The estimate stage alone: components of subscription-months a second, with their lineage, written and committed.

``python -m tests.bench.estimate [--subscriptions 10000000] [--runs 3]``. It writes ``subscribed`` and ``metered`` of a month into
a lake of its own (mobile subscriptions, one metered row each), runs the stage, and lets DuckDB multiply the same octets by the
same factors from the same files, in turn. The grams of both must be equal to the last decimal.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from jobs.run import Settings
from jobs.workplace import Workplace
from schemas.tables import ESTIMATED, METERED, SUBSCRIBED

MONTH = date(2026, 10, 1)
_KEY = "unhex(md5(cast(id AS STRING)))"
_OF_MONTH = {"usage_month": f"DATE'{MONTH}'", "revision": "1", "batch_cutoff": "1L", "subscription_key": _KEY}
_OF_SUBSCRIPTION = {"network": "'mobile'", "is_estimated": "false"}
_SUBSCRIPTIONS = {"segment": "'consumer'", "brand": "'Alpha'", "active_days": "31"}
_USED = {
    "attribution": "'holder'",
    "access_technology": "'4g'",
    "roaming_zone": "'home'",
    "octets_up": "id * 7919 % 900000000",
    "octets_down": "4000000000 + id * 104729 % 6000000000",
    "intervals": "14L",
}


def main() -> None:
    """Write the month, and estimate it several times."""
    from jobs.month import estimate_month
    from jobs.postgres import stop_embedded
    from jobs.workplace import workplace

    parser = argparse.ArgumentParser(prog="tests.bench.estimate", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    took: dict[str, list[float]] = {"footprint": [], "duckdb": []}
    with TemporaryDirectory(dir=Settings.from_environment().var) as folder:
        settings = _settings(Path(folder))
        with workplace(settings, "bench", lambda _: None) as opened:
            _write(opened, asked.subscriptions)
            for number in range(asked.runs):
                began = time.perf_counter()
                rows = estimate_month(opened, MONTH)
                took["footprint"].append(time.perf_counter() - began)
                began = time.perf_counter()
                grams = _beside(settings, Path(folder))
                took["duckdb"].append(time.perf_counter() - began)
                found = _grams(settings)
                if found != grams:
                    sys.exit(f"{found} g were estimated where DuckDB finds {grams}")
                print(f"run {number + 1}: {', '.join(f'{name} {times[-1]:.1f} s' for name, times in took.items())}", flush=True)
        stop_embedded(settings)
        ours, theirs = (median(times) for times in took.values())
        print(f"{asked.subscriptions:,} subscription-months, {rows:,} components")
        print(f"{ours:.1f} s ({min(took['footprint']):.1f}-{max(took['footprint']):.1f}), {ours / theirs:.1f} times DuckDB")
        print(f"{rows / ours:,.0f} components/s, {asked.subscriptions / ours:,.0f} subscription-months/s")


def _settings(folder: Path) -> Settings:
    (folder / "jars").symlink_to(Settings.from_environment().jars.resolve())
    return Settings.from_environment({"FOOTPRINT_VAR": str(folder)})


def _write(opened: Workplace, subscriptions: int) -> None:
    numbers = opened.lake.spark.range(subscriptions)
    for table, own in ((SUBSCRIBED, _SUBSCRIPTIONS), (METERED, _USED)):
        told = _OF_MONTH | _OF_SUBSCRIPTION | own
        frame = numbers.selectExpr(*[f"{told[column.name]} AS {column.name}" for column in table.columns])
        opened.lake.replace_month(table, frame, MONTH, revision=1)


def _beside(settings: Settings, folder: Path) -> Decimal:
    """The same components by DuckDB, written as Parquet; the grams of all of them."""
    lake, out = settings.lake, folder / "beside.parquet"
    metered, subscribed = (f"'{lake}/{table.name}/**/*.parquet'" for table in (METERED, SUBSCRIBED))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        factors = dict(
            connection.execute(
                f"SELECT component, any_value(gco2e_per_unit) FROM '{lake}/{ESTIMATED.name}/**/*.parquet' GROUP BY component"
            ).fetchall()
        )
        connection.execute(f"""
            COPY (
                SELECT *, round(quantity * factor, 12) AS gco2e FROM (
                    SELECT s.subscription_key, s.brand, m.access_technology, m.roaming_zone, 'volume' AS component,
                        CAST((octets_up + octets_down) AS DECIMAL(17,0)) * 0.000000001 AS quantity,
                        CAST({factors["volume"]} AS DECIMAL(18,14)) AS factor
                    FROM {metered} m JOIN {subscribed} s USING (subscription_key)
                    UNION ALL
                    SELECT subscription_key, brand, NULL, NULL, 'subscription', 1,
                        CAST({factors["subscription"]} AS DECIMAL(18,14)) FROM {subscribed}
                )
            ) TO '{out}' (FORMAT parquet, COMPRESSION zstd)""")
        return _sum(connection, str(out))


def _grams(settings: Settings) -> Decimal:
    import deltalake

    files = deltalake.DeltaTable(f"{settings.lake}/{ESTIMATED.name}").file_uris()
    with duckdb.connect() as connection:
        return _sum(connection, *files)


def _sum(connection: duckdb.DuckDBPyConnection, *files: str) -> Decimal:
    found: Any = connection.execute("SELECT sum(gco2e) FROM read_parquet(?)", [list(files)]).fetchall()
    return Decimal(found[0][0])


if __name__ == "__main__":
    main()
