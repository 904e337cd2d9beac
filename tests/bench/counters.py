"""The counter stage alone: readings of sessions to deltas, at several sizes, and the exponent of time against readings.

``python -m tests.bench.counters [--readings N,N…]``: a month of five-minute interims, written once as Parquet and read by Spark.
Every size must come to the octets that are in it.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.data_files import rows_of
from jobs.legal_calendar import bounds
from jobs.run import Settings
from schemas.source import FASTEST_OCTETS_PER_S
from schemas.tables import READINGS
from tests.bench.fit import power

INTERVAL_S = 300
PER_SESSION = 288
_SECOND = 1_000_000


def main() -> None:
    """Measure each size."""
    from pyspark.sql import functions as F

    from jobs.counters import Limits, deltas
    from jobs.legal_calendar import Month
    from jobs.spark import session

    parser = argparse.ArgumentParser(prog="tests.bench.counters", description=__doc__)
    parser.add_argument("--readings", default="500000,1000000,2000000,4000000")
    sizes = sorted(int(number) for number in parser.parse_args().readings.split(","))
    first = date(2026, 10, 1)
    month = Month(first, *bounds(first, ZoneInfo("Europe/Paris")), "Europe/Paris")
    spark = session(Settings.from_environment())
    limits = {"bng": Limits(FASTEST_OCTETS_PER_S["fixed"], 1_500, 10_800)}
    took: list[float] = []
    with TemporaryDirectory() as folder:
        for size in [sizes[0], *sizes]:  # the first one only warms up
            place = Path(folder) / f"{size}.parquet"
            octets = write_readings(place, size // PER_SESSION, int(month.begin.timestamp()))
            readings = spark.read.schema(READINGS.spark_schema).parquet(str(place))
            begun = time.perf_counter()
            found = deltas(readings, readings.where("status = 'reset'"), None, limits, month, 1)
            counted = found.agg(F.sum("octets_down")).collect()[0][0]
            took.append(time.perf_counter() - begun)
            if counted != octets:
                sys.exit(f"{counted} octets were counted where there are {octets}")
            print(f"{size:>12,} readings {took[-1]:8.1f} s {size / took[-1]:12,.0f} readings/s", flush=True)
    print(f"exponent of time against readings: {power(sizes, took[1:])[1]:.2f}")
    spark.stop()


def write_readings(place: Path, sessions: int, begin: int) -> int:
    """Sessions of a day each, spread over the month, in no order. Returns the octets they come to."""
    random = np.random.default_rng(7)
    count = sessions * PER_SESSION
    session, step = np.repeat(np.arange(sessions), PER_SESSION), np.tile(np.arange(1, PER_SESSION + 1), sessions)
    started = begin + random.integers(0, 29 * 86_400, sessions)
    rate = random.integers(1_000, 10_000_000, sessions)
    order = random.permutation(count)
    closed = started[session] + step * INTERVAL_S
    columns = {
        "closed_at": pa.array((closed * _SECOND)[order]).cast(pa.timestamp("us", "UTC")),
        "started_at": pa.array((started[session] * _SECOND)[order]).cast(pa.timestamp("us", "UTC")),
        "elapsed_s": pa.array((step * INTERVAL_S)[order]),
        "counter_octets_down": pa.array((rate[session] * step)[order]),
        "counter_octets_up": pa.array(np.zeros(count, np.int64)),
        "status": pa.array(np.where(step == PER_SESSION, "stop", "interim")[order]),
        "record_ordinal": pa.array(np.arange(count)),
    }
    keys = np.zeros((count, 16), np.uint8)
    keys[:, :8] = session[order].astype(">u8").view(np.uint8).reshape(-1, 8)
    for name in ("session_key", "identifier_key"):
        columns[name] = pa.array(list(map(bytes, keys)), pa.binary())
    same = {"source": "bng", "node": "n", "identifier_type": "line_id", "roaming_zone": "home", "usage_month": date(2026, 10, 1)}
    same |= {"batch": 1, "file_number": 1, "counter_bits": 64, "byte_offset": 0, "record_key": bytes(16)}
    pq.write_table(pa.Table.from_batches([rows_of(READINGS, {**columns, **same})]), place, row_group_size=1 << 19)
    return int((rate * PER_SESSION).sum())


if __name__ == "__main__":
    main()
