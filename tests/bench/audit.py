"""Explaining, packing and verifying a month of many subscriptions: processor seconds, time and peak memory of each command.

``python -m tests.bench.audit [--subscriptions 1000000] [--explained 1000]``. It writes the tables that such a month leaves into
``var/bench/audit_N`` unless they are there (mobile subscriptions, two metered rows and two records each; no Spark, no pipeline),
and then calls each command in a process of its own. ``explain`` works the figure out a second time and ``verify`` every row of
the pack, so figures that were not those of the pipeline would be refused.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import write_deltalake

from factors.registry import factors_id, in_force
from jobs import exact_sql, pseudonyms
from jobs.run import PROJECT, Settings
from schemas.table import Column, Table
from schemas.tables import (
    ACCEPTED,
    BATCHES,
    ESTIMATED,
    EVIDENCE,
    FILE_BALANCES,
    KEYS,
    LANDED,
    METERED,
    PUBLICATIONS,
    REVISIONS,
    SUBSCRIBED,
    SUBSCRIPTIONS,
    VERDICTS,
)
from tests.audit_lake import BALANCE, EVIDENCE_ROW, MONTH, NOW, settings_of, write

FILES = 100
A, B = "0.0000000123", "475"
"""Grams for each octet and subscription-month: products with octets are exact within the 12 places."""
_FILLED = {
    "BIGINT": "0", "INT": "0", "STRING": "'-'", "BOOLEAN": "false", "BINARY": "''::BLOB", "DATE": f"DATE '{MONTH}'",
    "TIMESTAMP": f"TIMESTAMPTZ '{NOW.isoformat()}'",
}  # fmt: skip
_OF_MONTH = {"batch_cutoff": "1", "revision": "1", "batch": "1"}
_OF_SUBSCRIPTION = {"subscription_key": "key", "network": "'mobile'", "brand": "'Alpha'", "segment": "'consumer'"}
_OF_FACTORS = {"factor_set": "'FR-RCP2-NAT-2022'", "method_id": "'fr-rcp-fai-v2'", "is_national_default": "true"}
_USED = {"access_technology": "technology", "roaming_zone": "'home'", "octets_up": "0", "octets_down": "octets"}


def main() -> None:
    """Write the month if it is not there, and measure each command on it."""
    parser = argparse.ArgumentParser(prog="tests.bench.audit", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=1_000_000)
    parser.add_argument("--explained", type=int, default=1_000)
    asked = parser.parse_args()
    place = Settings.from_environment().var / "bench" / f"audit_{asked.subscriptions}"
    environment = os.environ | {"FOOTPRINT_VAR": str(place), "PYTHONPATH": str(PROJECT)}
    settings = settings_of(place)
    if not (place / "written").is_file():
        write_month(settings, asked.subscriptions)
        (place / "written").touch()
    pack, named = str(place / "pack.zip"), ("--subscription", "explained", "--month", f"{MONTH:%Y-%m}")
    print(f"{asked.subscriptions:,} subscriptions, {2 * asked.subscriptions:,} records")
    print(called(environment, "explain", *named), flush=True)
    print(called(environment, "pack", "--month", f"{MONTH:%Y-%m}", "--out", pack), flush=True)
    print(called(environment, "verify", pack), flush=True)
    print(f"pack: {Path(pack).stat().st_size / 1e6:.1f} MB")
    print(explained_at_random(settings, asked.explained))


def called(environment: dict[str, str], *words: str) -> str:
    """Call ``footprint`` in a process of its own, and say what it took."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        started = subprocess.Popen([sys.executable, "-m", "jobs", *words], env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(started.pid, 0)
        seconds = time.monotonic() - began
        said.seek(0)
        if status:
            sys.exit(f"{words[0]} ended with {os.waitstatus_to_exitcode(status)}: {said.read().decode()[-2000:]}")
    return (
        f"{words[0]:<8} {used.ru_utime + used.ru_stime:7.1f} s of processor, {seconds:7.1f} s, {used.ru_maxrss / 2**20:.2f} GiB"
    )


def explained_at_random(settings: Settings, count: int) -> str:
    """Work that many rows out a second time, chosen by their keys' hashes, in one process."""
    from jobs import explain
    from jobs.lake_reader import publication, reading

    began = time.process_time()
    with reading(settings.lake, explain.TABLES) as connection:
        for table in (METERED, SUBSCRIBED, ESTIMATED, REVISIONS):
            connection.execute(f"CREATE TABLE kept AS FROM {table.name}")
            connection.unregister(table.name)
            connection.execute(f"ALTER TABLE kept RENAME TO {table.name}")
        published = publication(connection, MONTH, None)
        registry = explain.catalogue(settings, connection, published)
        chosen = f"SELECT subscription_key FROM {REVISIONS.name} ORDER BY md5(subscription_key) LIMIT {count}"
        keys = [key for (key,) in connection.execute(chosen).fetchall()]
        wrong = [key for key in keys if explain.again(connection, registry, published, key).differences]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(keys)} rows are not what the stored volumes give")
    return f"{len(keys):,} of them explained in one process: {time.process_time() - began:.1f} s of processor, each agrees"


def write_month(settings: Settings, subscriptions: int) -> None:
    """The tables of a published month, with a subscription called ``explained`` among the others."""
    terms = [pseudonyms.make_key(settings.keys, name, pseudonyms.FROM_THE_BEGINNING) for name in pseudonyms.NAMES]
    write(settings, KEYS, [{"key_name": t.name, "serves_from": t.serves_from, "fingerprint": t.fingerprint} for t in terms])
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            """CREATE TABLE subscribers AS SELECT n, CASE WHEN n = 0 THEN unhex(?) ELSE unhex(md5('s' || n)) END AS key
            FROM range(?) AS r(n)""",
            [_key_of(settings, "explained"), subscriptions],
        )
        connection.execute("""
            CREATE TABLE used AS SELECT n, key, technology, 4000000000 + (n * 7919 + part * 104729) % 6000000000 AS octets, part
            FROM subscribers, (VALUES ('4g', 0), ('5g', 1)) AS t(technology, part)""")
        _write_rows(connection, settings)
        _write_ledger(connection, settings)


def _write_rows(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    volume = f"CAST(octets AS DECIMAL(20,0)) * {A}"
    of_component = _OF_SUBSCRIPTION | _OF_FACTORS | {"factors_id": f"'{_factors_id()}'"}
    identity = {"identifier_type": "'imsi'", "identifier_key": "unhex(md5('i' || n))"}
    _fill(connection, settings, SUBSCRIBED, "subscribers", _OF_SUBSCRIPTION | {"active_days": "31"})
    _fill(connection, settings, METERED, "used", _OF_SUBSCRIPTION | _USED | {"attribution": "'holder'", "intervals": "1"})
    components = {
        "used": _USED | {"component": "'volume'", "quantity": "octets * 0.000000001", "quantity_unit": "'GB'", "gco2e": volume}
        | {"factor_id": "'FR-RCP2-NAT-2022/mobile/volume/2024-01'", "gco2e_per_unit": "12.3"},
        "subscribers": {"component": "'subscription'", "quantity": "1", "quantity_unit": "'subscription-month'", "gco2e": B}
        | {"factor_id": "'FR-RCP2-NAT-2022/mobile/subscription/2024-01'", "gco2e_per_unit": B},
    }  # fmt: skip
    for source, own in components.items():
        _fill(connection, settings, ESTIMATED, source, of_component | {"volume_basis": "'up_and_down'"} | own)
    connection.execute(f"CREATE TABLE sums AS SELECT key, sum(octets) AS octets, sum({volume}) AS grams FROM used GROUP BY key")
    figures = {
        "subscription_key": "lower(hex(key))", "data_volume_bytes": "octets", "volume_gco2e": "grams", "subscription_gco2e": B,
        "data_volume_gb_displayed": "(octets + 500000000) // 1000000000", "footprint_gco2e": f"grams + {B}",
        "footprint_gco2e_displayed": f"round(grams + {B}, 0)", "publication_id": "1",
    }  # fmt: skip
    _fill(connection, settings, REVISIONS, "sums", _OF_SUBSCRIPTION | _OF_FACTORS | figures)
    record = {"file_number": f"1 + n % {FILES}", "record_ordinal": f"n // {FILES} * 2 + part", "source": "'pgw_pipe'"}
    closed = {"closed_at": "TIMESTAMPTZ '2026-10-03T10:00:00Z' + INTERVAL (n % 20 + part * 240) HOUR"}
    _fill(connection, settings, ACCEPTED, "used", identity | _USED | record | closed)
    held = dict.fromkeys(("assigned_from", "active_from"), "TIMESTAMPTZ '2025-01-01T00:00:00Z'")
    since = {"keys_from": f"DATE '{pseudonyms.FROM_THE_BEGINNING}'", "record_key": "unhex(md5('r' || n))", "record_ordinal": "n"}
    _fill(connection, settings, SUBSCRIPTIONS, "subscribers", _OF_SUBSCRIPTION | identity | held | since)


def _write_ledger(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    totals = "SELECT count(*), sum(octets), sum(grams) FROM sums"
    subscriptions, octets, grams = connection.execute(totals).fetchall()[0]
    state = {"usage_month": MONTH, "revision": 1, "batch_cutoff": 1, "factors_id": _factors_id(), "code_version": "bench"}
    connection.register("published", _rows(connection, REVISIONS, "written_revisions", {}))
    own = {"publication_id": 1, "verdict_id": 1, "factor_sets": "FR-RCP2-NAT-2022", "reason": "first publication"}
    sums = {"subscriptions": subscriptions, "data_volume_bytes": octets, "footprint_gco2e": grams + int(B) * subscriptions}
    hashed = {"figures_hash": exact_sql.figures_hash(connection, "published"), "published_at": NOW}
    write(settings, PUBLICATIONS, [state | own | sums | hashed])
    write(settings, VERDICTS, [state | {"verdict_id": 1, "passed": True, "rules": 1, "summary": "every rule is met"}])
    write(settings, EVIDENCE, [EVIDENCE_ROW])
    write(settings, BATCHES, [{"batch": 1, "state": s, "file_numbers": [*range(1, FILES + 1)]} for s in ("planned", "committed")])
    files = [
        {"file_number": n, "source": "pgw_pipe", "file_name": f"S4PGWB{n:06d}", "status": "new"} for n in range(1, FILES + 1)
    ]
    write(settings, LANDED, [file | {"file_hash": f"{file['file_number']:064x}"} for file in files])
    write(settings, FILE_BALANCES, [BALANCE | {"file_number": file["file_number"]} for file in files])


def _fill(connection: duckdb.DuckDBPyConnection, settings: Settings, table: Table, source: str, columns: dict[str, str]) -> None:
    rows = _rows(connection, table, source, _OF_MONTH | columns)
    partitions = list(table.partitioned_by) or None
    write_deltalake(f"{settings.lake}/{table.name}", rows, mode="append", partition_by=partitions)
    if table is REVISIONS:
        connection.register("written_revisions", rows)


def _rows(connection: duckdb.DuckDBPyConnection, table: Table, source: str, columns: dict[str, str]) -> pa.Table:
    """Rows of a table from the columns that are told as SQL; others are filled. Without any told, all are taken as they are."""
    told = {c.name: columns.get(c.name, _default(c)) if columns else c.name for c in table.columns}
    select = ", ".join(f"CAST({text} AS {_duckdb(table.column(name))}) AS {name}" for name, text in told.items())
    return connection.execute(f"SELECT {select} FROM {source}").to_arrow_table().cast(table.arrow_schema)


def _default(column: Column) -> str:
    return _FILLED.get(column.sql_type, "0") if column.is_required else "NULL"


def _duckdb(column: Column) -> str:
    return {"STRING": "VARCHAR", "BINARY": "BLOB", "TIMESTAMP": "TIMESTAMPTZ"}.get(column.sql_type, column.sql_type)


def _key_of(settings: Settings, subscription: str) -> str:
    from jobs.cli import _subscription_key

    return _subscription_key(settings, subscription, MONTH)


def _factors_id() -> str:
    return factors_id(in_force(PROJECT / "factors", MONTH, ["Alpha"]))


if __name__ == "__main__":
    main()
