"""One writer per lake: the lock dies with its holder, and a holder that comes back late is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from jobs import postgres
from jobs.lock import LakeBusy, LockLost, lake_key, writing
from jobs.run import PROJECT, Settings

HOLDER = """
import os, sys, time
from jobs.lock import writing
from jobs.run import Settings
with writing(Settings.from_environment(), "publish") as writer:
    print(writer.fence, flush=True)
    time.sleep(float(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path_factory.mktemp("lock"))})
    postgres.start_embedded(settings)
    yield settings
    assert postgres.stop_embedded(settings)


@pytest.fixture
def administrator(settings: Settings) -> Iterator[psycopg.Connection]:
    with postgres.connect(settings) as connection:
        yield connection


def holder_of(settings: Settings, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path]), "FOOTPRINT_VAR": str(settings.var)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


def test_a_second_writer_is_refused_and_told_who_holds_the_lake(settings):
    with (
        writing(settings, "accept"),
        pytest.raises(LakeBusy, match=rf"by accept process {os.getpid()} on .* \(connected since 20"),
        writing(settings),
    ):
        pass


def test_another_lake_is_free(settings):
    with writing(settings) as one, writing(replace(settings, lake="s3://other/lake")) as other:
        one.check()
        other.check()


def test_a_link_names_the_lake_it_points_to(tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    assert lake_key(str(tmp_path / "link")) == lake_key(str(tmp_path / "lake"))


def test_each_writer_has_a_greater_fence(settings):
    fences = []
    for _ in range(3):
        with writing(settings) as writer:
            writer.check()
            fences.append(writer.fence)
    assert fences == [fences[0], fences[0] + 1, fences[0] + 2]


def test_the_lock_is_free_after_an_error(settings):
    with pytest.raises(ZeroDivisionError), writing(settings):
        raise ZeroDivisionError
    with writing(settings):
        pass


def test_a_killed_holder_holds_no_longer(settings):
    process = holder_of(settings, 60)
    with pytest.raises(LakeBusy, match=f"by publish process {process.pid} on"), writing(settings):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with writing(settings, wait_s=5) as writer:
        writer.check()


def test_a_writer_can_wait_for_the_one_before(settings):
    process = holder_of(settings, 1)
    before = time.monotonic()
    with writing(settings, wait_s=30) as writer:
        writer.check()
    assert time.monotonic() - before > 0.5
    process.communicate()


def test_a_holder_whose_session_ended_must_not_commit(settings, administrator):
    with writing(settings) as late:
        late.check()
        administrator.execute("SELECT pg_terminate_backend(%s, 5000)", (late.connection.info.backend_pid,))
        with writing(settings) as next_writer:
            assert next_writer.fence == late.fence + 1
            with pytest.raises(LockLost, match=f"writer {late.fence}"):
                late.check()
            next_writer.check()


def test_a_holder_with_an_earlier_fence_must_not_commit(settings, administrator):
    with writing(settings) as late:
        administrator.execute("UPDATE footprint.writers SET fence = fence + 1 WHERE lake_key = %s", (late.key,))
        with pytest.raises(LockLost):
            late.check()


def test_a_session_that_a_pooler_swapped_must_not_commit(settings):
    with writing(settings) as writer:
        writer.connection.execute("SELECT pg_advisory_unlock_all()")
        with pytest.raises(LockLost):
            writer.check()


def test_the_lock_dies_with_the_server(settings):
    with writing(settings) as late:
        postgres.stop_embedded(settings)
        with pytest.raises(LockLost):
            late.check()
    with writing(settings) as writer:
        assert writer.fence == late.fence + 1


def test_where_nothing_is_to_read_no_java_starts(settings, monkeypatch):
    from jobs.cli import main

    def java(*_: object, **__: object) -> None:
        raise AssertionError("Java was started")

    monkeypatch.setattr("jobs.spark.session", java)
    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))
    (settings.var / "landing" / "pgw_pipe").mkdir(parents=True)
    for stage in ("land", "accept"):
        assert main([stage]) == 0
