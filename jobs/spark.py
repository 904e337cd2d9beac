"""The Spark session: every setting that the figures or the machine need, in one place."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any

import pyarrow as pa
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.files import COMPRESSES, COMPRESSION
from jobs.run import CallError, Settings

DELTA_JARS = ("delta-spark_4.1_2.13-4.4.0.jar", "delta-storage-4.4.0.jar")

CLASS_ARCHIVE = "classes.jsa"
GARBAGE_COLLECTOR = "-XX:+UseParallelGC"
FIRST_COMPILER = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
"""Java's first compiler alone, with the room for compiled code that both would have: a fifth of it is too little for Spark."""
LATE_SECOND_COMPILER = " ".join(
    f"-XX:Tier4{name}={ten_times}"
    for name, ten_times in (
        ("InvocationThreshold", 50_000),
        ("MinInvocationThreshold", 6_000),
        ("CompileThreshold", 150_000),
        ("BackEdgeThreshold", 400_000),
    )
)
"""Java's second compiler comes in ten times later: every plan is another program, and half of the processors' time went into
those that run a moment. Measured in docs/performance.md."""
FIRST_COMPILER_LANDING_OCTETS = 4 << 30
"""Up to here the first compiler alone is faster (docs/performance.md): most work is Arrow's, DuckDB's and Python's."""
SMALL_LANDING_OCTETS = 256 << 20
"""Up to here a table's rows fit into memory in a few partitions."""
TINY_LANDING_OCTETS = 4 << 20
"""Up to here a plan is interpreted sooner than the program of its own that Spark writes for it is compiled."""
INTERPRETED = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
}
"""The second name is internal to Spark, which compares both ways in its own tests; a Spark without it would compile as ever."""
FEW_ROWS = 1 << 19
"""Rows that the driver takes in, and sends to every worker."""
LONGEST_SOCKET_PATH = 103
"""Octets that every system takes for the path of a socket (``sun_path``; macOS has the shortest)."""
_LOOKED_UP = ("functions", "org.apache.spark.sql.functions", "PythonUtils", "org.apache.spark.sql.classic.SparkSession")
"""Java's names that PySpark asks for at each column of each query, some by looking through all packages that it imports."""
_COMPRESSED = (*COMPRESSION, ".parquet")


def session(
    settings: Settings,
    application: str = "footprint",
    java_options: str | None = None,
    begun: Callable[[SparkContext], None] = lambda _: None,
) -> SparkSession:
    """Start Spark with Delta on the master of the settings, or join the session that runs, on its machine's terms.

    Args:
        settings: name the master, and on one machine what Spark may use of it.
        application: the name that Spark shows.
        java_options: options of the driver's Java; by default those for what landed.
        begun: called as soon as there are tasks, before there are queries.

    Raises:
        CallError: none runs, and there are no JARs, or Java does not start.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    java = settings.var / "java"
    if java.is_dir():  # the Java that set-up found or installed
        os.environ["JAVA_HOME"] = str(java)
    of_machine = {} if SparkContext._active_spark_context else _machine(settings, java_options)
    conf = {"spark.app.name": application, "spark.master": settings.spark_master, **_figures(), **of_machine}
    _start_java(conf, settings.var / "log" / "spark.log")
    begun(SparkContext.getOrCreate(SparkConf().setAll([*conf.items()])))
    spark = SparkSession.builder.config(map=dict[str, Any](conf)).getOrCreate()
    # Spark's own messages quote values; what a person needs is raised and redacted in jobs.lake.
    spark.sparkContext.setLogLevel("OFF")
    for name in _LOOKED_UP:
        setattr(spark._jvm, name, getattr(spark._jvm, name))
    return spark


class Session:
    """The session of a process that may need none: it starts when it is first asked for, or meanwhile once that is begun."""

    def __init__(self, settings: Settings) -> None:
        """Nothing starts yet."""
        self._settings = settings
        self._begun: Future[SparkSession] | None = None

    def begin(self, ready: Callable[[], None], then: Callable[[], None]) -> None:
        """Begin to start it while something else goes on.

        Args:
            ready: makes a Python worker ready; workers are started only where much landed.
            then: called when the session is there.
        """
        self._begun = Future()
        Thread(target=self._start, args=(self._begun, ready, then), daemon=True).start()

    def __call__(self) -> SparkSession:
        """The session. Raises CallError as ``session`` does."""
        spark = session(self._settings) if self._begun is None else self._begun.result()
        jvm: Any = spark._jvm
        jvm.SparkSession.setActiveSession(spark._jsparkSession)  # Java knows it for the thread that started it
        if current_thread() is main_thread():
            _cancel_when_interrupted(spark.sparkContext)
        return spark

    def _start(self, begun: Future[SparkSession], ready: Callable[[], None], then: Callable[[], None]) -> None:
        def start(context: SparkContext) -> None:
            Thread(target=start_workers, args=(context, self._settings, ready), daemon=True).start()

        try:
            begun.set_result(session(self._settings, begun=start))
        except BaseException as error:  # noqa: BLE001 - raised to whoever asks for the session
            begun.set_exception(error)
        else:
            then()


def _cancel_when_interrupted(context: SparkContext) -> None:
    """Cancel what runs, so that nobody waits for it. Spark's own handler asks Java over a connection in use, and fails."""

    def cancel(_: int, __: FrameType | None) -> None:
        Thread(target=context.cancelAllJobs, daemon=True).start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, cancel)


def in_tasks(
    spark: SparkSession, count: int, work: Callable[[int], pa.RecordBatch | Iterable[pa.RecordBatch]], schema: pa.Schema
) -> DataFrame:
    """Do work on the workers, numbered from 0 and each number in a task of its own; rows of what it gives, at once or in turn.

    What a number means travels with the work: no row has to be pickled.
    """

    def do(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                found = work(number)
                yield from [found] if isinstance(found, pa.RecordBatch) else found

    return spark.range(0, count, 1, max(1, count)).mapInArrow(do, from_arrow_schema(schema))


def said_by_tasks(spark: SparkSession, count: int, work: Callable[[int], str]) -> list[str]:
    """As ``in_tasks``, what work says, a text for each number, on the driver: no query, which Spark would plan first."""
    said: list[str] = spark.sparkContext.parallelize(range(count), max(1, count)).map(work).collect()
    return said


def start_workers(context: SparkContext, settings: Settings, ready: Callable[[], None]) -> None:
    """Start Python's workers and make each ready: they will be needed where much landed."""
    if _octets(settings.landing) <= SMALL_LANDING_OCTETS:
        return
    processors = context.defaultParallelism
    with suppress(Exception):  # whoever has work for a worker that cannot start says so
        # Without a query, which Spark would plan for as long as a worker takes to start.
        context.parallelize(range(processors), processors).foreach(lambda _: ready())


def _figures() -> dict[str, str]:
    """Settings on which figures and readers depend, the same on every machine."""
    return {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.ansi.enabled": "true",
        # Where in Python a column was made: asked of Java for each, and said in messages that quote values.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # Only hexadecimal digits are written in lower case here; to set up ICU's tables of every letter takes Java three seconds.
        "spark.sql.icu.caseMappings.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.compression.codec": "zstd",
    }


def _machine(settings: Settings, java_options: str | None) -> dict[str, str]:
    """Settings for one machine; a cluster keeps its own through spark-defaults.conf."""
    jars = _jars(settings.jars)
    if not settings.spark_master.startswith("local"):
        return {"spark.jars": ",".join(jars), "spark.ui.showConsoleProgress": "false"}
    landed = _octets(settings.landing)
    is_small = 0 < landed <= SMALL_LANDING_OCTETS
    return {
        # On the class path rather than in spark.jars: classes of Spark's own loader cannot be archived.
        "spark.driver.extraClassPath": os.pathsep.join(jars),
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        # Many rows in few partitions would not fit into memory; many partitions of few rows cost seconds, although put together.
        "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1)) if is_small else "64",
        "spark.sql.adaptive.advisoryPartitionSizeInBytes": "32m",
        "spark.sql.warehouse.dir": str(settings.var / "tmp" / "warehouse"),
        "spark.local.dir": str(settings.var / "tmp"),
        # One small machine: the defaults (50 and 32 tasks) cost seconds on every small table.
        "spark.databricks.delta.snapshotPartitions": "1",
        # Its first level is full at once when nearly every key is another.
        "spark.sql.codegen.aggregate.map.twolevel.enabled": "false",
        # What a join of this size sorts on both sides fits into memory unsorted.
        "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": "32m",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        # Rows that are handed to a worker at a time: a batch costs it milliseconds, whatever it holds.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
        # No limit in octets, which Spark would add up anew for every row that it hands over.
        "spark.sql.execution.arrow.maxBytesPerBatch": str((1 << 31) - 1),
        "spark.python.daemon.module": "jobs.python_workers",
        # Said to workers of queries alone, which then are others than those that ``start_workers`` starts without one.
        "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
        **_sockets(),
        "spark.driver.extraJavaOptions": _java_options(settings, landed) if java_options is None else java_options,
        **(INTERPRETED if _is_tiny(settings, landed) else {}),
    }


def _sockets() -> dict[str, str]:
    """Speak to Python workers through sockets of the file system: over TCP each task waits for a delayed acknowledgement."""
    folder = _socket_folder().name
    if len(f"{folder}/.{uuid.UUID(int=0)}.sock") > LONGEST_SOCKET_PATH:
        return {}
    return {"spark.python.unix.domain.socket.enabled": "true", "spark.python.unix.domain.socket.dir": folder}


@lru_cache
def _socket_folder() -> TemporaryDirectory[str]:
    """For this user only, and gone when the process ends."""
    return TemporaryDirectory(prefix="fp-")


def _java_options(settings: Settings, landed: int) -> str:
    """Options of the driver's JVM. Classes that set-up archived load in half the time; without the archive they load as ever."""
    archive = settings.jars / CLASS_ARCHIVE
    compiler = FIRST_COMPILER if 0 < landed <= FIRST_COMPILER_LANDING_OCTETS else LATE_SECOND_COMPILER
    shared = f" -XX:SharedArchiveFile={archive} -Xlog:cds=off -Xlog:cds+dynamic=off" if archive.is_file() else ""
    return f"{GARBAGE_COLLECTOR} {compiler}{shared}"


def _is_tiny(settings: Settings, landed: int) -> bool:
    """The landing folder holds something, and hardly anything, and so does the lake: large months may have been cleared away."""
    lake_may_be_large = "://" in settings.lake or _octets(settings.lake, 1) > TINY_LANDING_OCTETS
    return 0 < landed <= TINY_LANDING_OCTETS and not lake_may_be_large


def _octets(root: str, compresses: int = COMPRESSES) -> int:
    """About how much a local folder holds, what is compressed as it will be read; once it is much, no more is counted."""
    octets = 0
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            with suppress(FileNotFoundError):  # what writes there goes on
                octets += Path(folder, name).stat().st_size * (compresses if name.endswith(_COMPRESSED) else 1)
            if octets > FIRST_COMPILER_LANDING_OCTETS:
                return octets
    return octets


def write_class_archive(settings: Settings) -> None:
    """Archive the classes that a small job over Delta tables loads, for the Java and the JARs that are there now."""
    archive = settings.jars / CLASS_ARCHIVE
    archive.unlink(missing_ok=True)
    options = f"{GARBAGE_COLLECTOR} -XX:ArchiveClassesAtExit={archive} -Xlog:cds=off -Xlog:cds+dynamic=off"
    with TemporaryDirectory() as folder:
        spark = session(settings, "class archive", options)
        spark.conf.set("spark.sql.shuffle.partitions", "1")  # classes are wanted, of ten rows
        frame = spark.range(10).withColumn("month", F.lit("2026-10-01").cast("date"))
        frame.write.format("delta").partitionBy("month").save(folder)
        rows = spark.read.parquet(folder)
        rows.join(F.broadcast(rows.select("id")), "id").groupBy("month").agg(F.sum("id")).collect()
        gateway: Any = spark.sparkContext._gateway
        spark.stop()
    # The archive is written when the JVM ends, which it does when its standard input does.
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _jars(folder: Path) -> list[str]:
    missing = [name for name in DELTA_JARS if not (folder / name).is_file()]
    if missing:
        raise CallError(f"{missing[0]} is not in {folder}: run make setup")
    return [str(folder / name) for name in DELTA_JARS]


def _start_java(conf: Mapping[str, str], log: Path) -> None:
    """Start the JVM unless this process has one, with its standard error, on which it gives notices, in a file."""
    if SparkContext._gateway is not None:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as opened:
        asked = SparkConf(loadDefaults=False).setAll([*conf.items()])
        try:
            gateway = launch_gateway(asked, {"stderr": opened})  # type: ignore[no-untyped-call]
        except PySparkRuntimeError:
            raise CallError(f"Java did not start: {log} says why; make setup installs it") from None
    SparkContext._ensure_initialized(gateway=gateway)


if __name__ == "__main__":
    write_class_archive(Settings.from_environment())
