"""The Spark session: every setting that the figures or the machine need, in one place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.run import CallError, Settings

DELTA_JARS = ("delta-spark_4.1_2.13-4.4.0.jar", "delta-storage-4.4.0.jar")


def session(settings: Settings, application: str = "footprint") -> SparkSession:
    """Start Spark with Delta on the master of the settings, or join the session that runs. Raises CallError without JARs."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(application).master(settings.spark_master)
    for name, value in {**_figures(), **_machine(settings)}.items():
        builder = builder.config(name, value)
    with _standard_error_to(settings.var / "log" / "spark.log"):
        spark = builder.getOrCreate()
    # Spark's own messages quote values; what a person needs is raised and redacted in jobs.lake.
    spark.sparkContext.setLogLevel("OFF")
    return spark


def _figures() -> dict[str, str]:
    """Settings on which figures and readers depend, the same on every machine."""
    return {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    }


def _machine(settings: Settings) -> dict[str, str]:
    """Settings for one machine; a cluster keeps its own through spark-defaults.conf."""
    common = {"spark.jars": ",".join(_jars(settings.jars)), "spark.ui.showConsoleProgress": "false"}
    if not settings.spark_master.startswith("local"):
        return common
    return common | {
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)),
        "spark.sql.warehouse.dir": str(settings.var / "tmp" / "warehouse"),
        "spark.local.dir": str(settings.var / "tmp"),
        # One small machine: the defaults (50 and 32 tasks) cost seconds on every small table.
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:TieredStopAtLevel=1",
    }


def _jars(folder: Path) -> list[str]:
    missing = [name for name in DELTA_JARS if not (folder / name).is_file()]
    if missing:
        raise CallError(f"{missing[0]} is not in {folder}: run make setup")
    return [str(folder / name) for name in DELTA_JARS]


@contextmanager
def _standard_error_to(path: Path) -> Iterator[None]:
    """Let a JVM that starts inside the block write its notices to a file: it inherits the stream it was started with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with path.open("ab") as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
