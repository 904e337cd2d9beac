"""Python workers are ready when a task comes: no archive is read, no import done, no delayed acknowledgement waited for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

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
