"""Python workers are ready when a task comes: no archive is read, no import done, no delayed acknowledgement waited for."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer

import pyarrow as pa
import pytest

from jobs.run import Settings

pytestmark = pytest.mark.spark

SAID = pa.schema([("said", pa.string())])


def test_a_worker_is_forked_ready_and_without_archives_on_its_path(spark):
    from jobs.spark import in_tasks

    def said(number: int) -> pa.RecordBatch:
        import gc
        import sys

        found = {
            "archives": [p for p in (*sys.path, *sys.path_importer_cache) if "pyspark" in p and p[-4:] in (".zip", ".jar")],
            "is_loaded": "jobs.repeats" in sys.modules,
            "kept": gc.get_freeze_count(),
            "home": os.environ["SPARK_HOME"],
        }
        return pa.RecordBatch.from_pylist([{"said": json.dumps(found)}], SAID)

    for row in in_tasks(spark, 4, said, SAID).collect():
        found = json.loads(row.said)
        assert "pyspark" in found["home"], "otherwise what follows would say nothing"
        assert found["archives"] == []
        assert found["is_loaded"]
        assert found["kept"] > 10_000


def test_workers_are_spoken_to_through_sockets_that_only_this_user_opens(spark):
    folder = spark.conf.get("spark.python.unix.domain.socket.dir")

    assert spark.conf.get("spark.python.unix.domain.socket.enabled") == "true"
    assert Path(folder).stat().st_mode & 0o077 == 0


def test_where_the_path_of_a_socket_would_be_too_long_workers_are_spoken_to_over_tcp(monkeypatch):
    from jobs import spark

    monkeypatch.setattr(spark, "LONGEST_SOCKET_PATH", 50)
    assert spark._sockets() == {}


@pytest.mark.parametrize("landed_octets", [4, 3])
def test_workers_start_meanwhile_where_much_landed(landed_octets, spark, tmp_path, monkeypatch):
    from jobs.spark import in_tasks, start_workers

    monkeypatch.setattr("jobs.spark.SMALL_LANDING_OCTETS", 3)
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)})
    Path(settings.landing).mkdir()
    Path(settings.landing, "file").write_bytes(b"x" * landed_octets)
    started = tmp_path / "started"
    started.mkdir()

    start_workers(spark.sparkContext, settings, lambda: (started / str(os.getppid())).touch())

    assert bool([*started.iterdir()]) is (landed_octets > 3)
    if landed_octets > 3:
        work = in_tasks(spark, 1, lambda _: pa.RecordBatch.from_pylist([{"said": str(os.getppid())}], SAID), SAID)
        forked_from = {path.name for path in started.iterdir()}
        assert {row.said for row in work.collect()} == forked_from, "what has work is forked from the same process"


def test_a_session_that_was_begun_is_the_one_that_is_asked_for(spark, tmp_path):
    from jobs.spark import Session

    session = Session(Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)}))
    there = Event()
    session.begin(lambda: None, there.set)

    def asked() -> bool:
        return session().range(3).count() == 3 and type(spark).getActiveSession() is not None

    with ThreadPoolExecutor(1) as other_thread:  # where Java knows of no session
        assert other_thread.submit(asked).result()
    assert session().sparkContext is spark.sparkContext
    assert there.wait(60)


def test_what_runs_is_cancelled_when_the_process_is_interrupted(spark, tmp_path):
    from jobs.spark import Session, said_by_tasks

    session = Session(Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)}))
    session.begin(lambda: None, lambda: None)
    before = signal.getsignal(signal.SIGINT)
    try:
        started = session()
        Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            said_by_tasks(started, 1, lambda _: time.sleep(60) or "")
        deadline = time.monotonic() + 20
        while spark.sparkContext.statusTracker().getActiveJobsIds() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert time.monotonic() - began < 30
    finally:
        signal.signal(signal.SIGINT, before)


def test_java_that_does_not_start_is_a_wrong_call(tmp_path, monkeypatch):
    from pyspark.errors import PySparkRuntimeError

    from jobs import spark as of_spark
    from jobs.run import CallError

    def exited(*_: object) -> None:
        raise PySparkRuntimeError(errorClass="JAVA_GATEWAY_EXITED", messageParameters={})

    monkeypatch.setattr(of_spark.SparkContext, "_gateway", None)
    monkeypatch.setattr(of_spark, "launch_gateway", exited)
    with pytest.raises(CallError, match=r"Java did not start: .*log says why"):
        of_spark._start_java({}, tmp_path / "log")


def test_why_a_session_does_not_start_is_said_where_it_is_asked_for(tmp_path, monkeypatch):
    from jobs.run import CallError
    from jobs.spark import Session

    def refused(*_: object, **__: object) -> None:
        raise CallError("no JARs")

    monkeypatch.setattr("jobs.spark.session", refused)
    session = Session(Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)}))
    session.begin(lambda: None, lambda: None)

    with pytest.raises(CallError, match="no JARs"):
        session()


def test_java_is_started_with_the_master_and_every_setting(tmp_path, monkeypatch):
    """Spark prepares for a cluster as Java starts."""
    from jobs import spark as of_spark

    class Stop(Exception):
        """Far enough."""

    def stop(conf: dict[str, str], _: Path) -> None:
        told.update(conf)
        raise Stop

    told: dict[str, str] = {}
    monkeypatch.setattr(of_spark, "_start_java", stop)
    master = {"FOOTPRINT_VAR": str(tmp_path), "FOOTPRINT_SPARK_MASTER": "spark://somewhere:7077"}
    monkeypatch.setattr(of_spark, "_jars", lambda _: ["a.jar", "b.jar"])
    monkeypatch.setattr(of_spark.SparkContext, "_active_spark_context", None)
    with pytest.raises(Stop):
        of_spark.session(Settings.from_environment(master), "application")

    assert told["spark.master"] == "spark://somewhere:7077"
    assert told["spark.app.name"] == "application"
    assert told["spark.jars"] == "a.jar,b.jar"
    assert told["spark.sql.session.timeZone"] == "UTC"


def test_compiled_code_that_workers_will_need_is_loaded():
    from jobs.pseudonyms import load_compiled

    load_compiled()
    assert {"jobs.hmac_sha256", "jobs.blake2b", "jobs.known"} <= {*sys.modules}
