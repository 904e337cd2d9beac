"""What Airflow does around the stages in real runs: several months in order, alerts, asset events, lineage, deadlines.

The stages are stand-ins that say what a stage says; the DAGs, the launcher and Airflow are the real ones. Two runs serve all.
"""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import re
import signal
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.launch import STAGES
from schemas.flow import FLOWS
from schemas.tables import PUBLICATIONS, TABLES
from tests.conftest import table_of

PROJECT = Path(__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("airflow") is None, reason="Airflow is an extra, not installed here"),
]

STAND_IN = """
import json, os, pathlib, sys, time

stage, month = sys.argv[1], sys.argv[sys.argv.index("--month") + 1] if "--month" in sys.argv else None

def log(level, event, **fields):
    entry = {"time": "2026-11-22T12:00:00Z", "level": level, "event": event, "stage": stage, "month": month, "seconds": 0.1}
    print(json.dumps(entry | {"run_id": os.environ["FOOTPRINT_RUN_ID"]} | fields), file=sys.stderr, flush=True)

log("info", "3 files", files=3)
if (stage, month) == ("accept", os.environ["REFUSED_MONTH"]):
    log("error", "refused: file 3 is torn")
    sys.exit(1)
waits_for = pathlib.Path(os.environ.get("BILLED", "."))  # which months before April do not
for _ in range(300 if stage == "publish" and month > "2026-03" else 0):
    if not waits_for.exists():
        time.sleep(1)
for option in sys.argv:
    if option.startswith("--result="):
        result = {"month": month, "revision": 1, "publication_id": 7, "rows": 5, "factor_sets": ["SET"], "figures_hash": "ab"}
        pathlib.Path(option.removeprefix("--result=")).write_text(json.dumps(result))
        print("the summary")
"""

BILLING = '''
"""A DAG of somebody else, which Airflow starts when a month has been published."""

import json, os
from pathlib import Path

import pendulum
from airflow.sdk import Asset, dag, task


@dag(schedule=[Asset(name="published", uri="x-lake://published")], start_date=pendulum.datetime(2026, 1, 1, tz="UTC"))
def billing():
    @task
    def bill(triggering_asset_events=None):
        extras = [event.extra for events in triggering_asset_events.values() for event in events]
        with Path(os.environ["BILLED"]).open("a") as billed:
            billed.writelines(json.dumps(extra) + "\\\\n" for extra in extras)

    bill()


billing()
'''.replace("\\\\n", "\\n")


class Told:
    """What a webhook, a server of lineage and a mail server on this machine were sent."""

    def __init__(self) -> None:
        self.posts: list[dict[str, object]] = []
        self.lineage: list[dict[str, object]] = []
        self.mails: list[str] = []


@contextmanager
def listening(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def people() -> Iterator[tuple[Told, dict[str, str]]]:
    """Somebody who is told, and the settings that name them."""
    told = Told()

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            to = {"/alert": told.posts, "/api/v1/lineage": told.lineage}[self.path]
            to.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Mail(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                command = line.strip().upper()
                if command == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    told.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 OK\r\n")

    with (
        listening(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)) as web,
        listening(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)) as mail,
    ):
        yield (
            told,
            {
                "FOOTPRINT_ALERT_WEBHOOK": f"http://127.0.0.1:{web}/alert",
                "FOOTPRINT_ALERT_MAIL": "night@example.org, day@example.org",
                "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(
                    {
                        "conn_type": "smtp",
                        "host": "127.0.0.1",
                        "port": mail,
                        "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "footprint@example.org"},
                    }
                ),
            },
        )


def prepared(folder: Path) -> dict[str, str]:
    """A var folder with Airflow's metadata, stand-ins for the stages, and the settings of both."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__init__.py").touch()
    (folder / "jobs" / "__main__.py").write_text(STAND_IN)
    (folder / "var").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOOTPRINT_", "AIRFLOW", "PYTEST_"))}
    return kept | {"FOOTPRINT_VAR": str(folder / "var"), "FOOTPRINT_LANDING": str(folder / "landing"), "PYTHONPATH": str(PROJECT)}


def shell(folder: Path, commands: str) -> list[str]:
    """Commands under the project's environment, in a folder where the stand-ins are what `python -m jobs` runs."""
    here = f"export PATH='{Path(sys.executable).parent}':$PATH && cd '{folder}'"
    return ["sh", "-c", f". .setup/environment && {here} && {commands}"]


def metadata(folder: Path, query: str) -> list[tuple]:
    with sqlite3.connect(folder / "var" / "airflow" / "airflow.db", timeout=60) as connection:
        return connection.execute(query).fetchall()


# --- several months in the foreground, of which the third is refused ----------------------------------------------------


@pytest.fixture(scope="module")
def backfill(tmp_path_factory):
    """`make backfill FROM=2026-07 TO=2026-10`: July is published already, September is refused."""
    from deltalake import write_deltalake

    folder = tmp_path_factory.mktemp("backfill")
    july = table_of("| publication_id | usage_month | revision |\n|---|---|---|\n| 1 | 2026-07-01 | 1 |", PUBLICATIONS)
    settings = prepared(folder) | {"REFUSED_MONTH": "2026-09", "FOOTPRINT_LINEAGE": str(folder / "lineage.jsonl")}
    (folder / "var" / "lake").mkdir()
    write_deltalake(str(folder / "var" / "lake" / "publications"), july)
    with people() as (told, settings_of_people):
        ended = subprocess.run(
            shell(folder, f"airflow db migrate && exec python '{PROJECT}/.setup/run.py' 2026-07 2026-10"),
            cwd=PROJECT, env=settings | settings_of_people, capture_output=True, text=True, check=False,
        )  # fmt: skip
        yield SimpleNamespace(folder=folder, told=told, ended=ended)


def test_a_backfill_stops_at_the_first_month_that_is_refused_and_names_those_that_are_left(backfill):
    assert backfill.ended.returncode == 1, backfill.ended.stderr
    assert backfill.ended.stderr.splitlines()[-1].startswith(
        "The run stopped. 2026-09: accept refused the data: file 3 is torn. Not run: 2026-10. "
    )


def test_a_backfill_leaves_published_months_alone_and_runs_the_others_oldest_first(backfill):
    said = backfill.ended.stdout.splitlines()

    assert "Published already: 2026-07" in said
    assert [line.split()[1] for line in said if line.startswith("Running ")] == ["2026-08", "2026-09"]
    runs = metadata(backfill.folder, "SELECT conf, state FROM dag_run ORDER BY id")
    assert [(json.loads(conf)["usage_month"], state) for conf, state in runs] == [("2026-08", "success"), ("2026-09", "failed")]
    states = dict(
        metadata(backfill.folder, "SELECT task_id, state FROM task_instance WHERE run_id = (SELECT max(run_id) FROM dag_run)")
    )
    assert states == {"late_records": "skipped", "land": "success", "accept": "failed"} | dict.fromkeys(
        (*STAGES[2:], "report"), "upstream_failed"
    )


def test_the_terminal_shows_each_stages_words_once_with_the_time(backfill):
    said = backfill.ended.stdout

    assert [m[1] for m in re.finditer(r"^ *\d+ s  (\w+) +3 files$", said, re.MULTILINE)] == [*STAGES, "report", "land", "accept"]
    assert said.splitlines().count("the summary") == 1


def test_the_log_of_airflow_has_the_fields_of_the_stages_log(backfill):
    log = (backfill.folder / "var" / "log" / "run.log").read_text()

    (said,) = [line for line in log.splitlines() if " 3 files " in line and "stage=publish" in line]
    assert all(field in said for field in ("files=3", "month=2026-08", "run_id=manual__", "seconds=0.1"))


def test_publishing_tells_whoever_depends_on_the_asset_what_the_ledger_has(backfill):
    events = metadata(backfill.folder, "SELECT source_task_id, extra FROM asset_event")

    assert [(task, json.loads(extra)) for task, extra in events] == [("publish", PUBLICATION | {"month": "2026-08"})]


PUBLICATION = {"revision": 1, "publication_id": 7, "rows": 5, "factor_sets": ["SET"], "figures_hash": "ab"}


def test_a_failure_is_told_once_by_webhook_with_month_reason_and_log(backfill):
    (post,) = backfill.told.posts
    run_id, log = post.pop("run_id"), post.pop("log")

    assert post == {
        "event": "task failed", "dag": "monthly_footprint", "task": "accept", "month": "2026-09", "try": 1,
        "reason": "2026-09: accept refused the data: file 3 is torn",
    }  # fmt: skip
    assert run_id.startswith("manual__")
    assert "/tasks/accept" in log


def test_a_failure_is_told_once_by_mail_to_each_address(backfill):
    from email import message_from_string

    (sent,) = backfill.told.mails
    mail = message_from_string(sent)
    (body,) = [part.get_payload(decode=True).decode() for part in mail.walk() if part.get_content_type() == "text/html"]

    assert (mail["Subject"], mail["From"]) == ("monthly_footprint 2026-09: task failed", "footprint@example.org")
    assert mail["To"] == "night@example.org, day@example.org"
    assert "2026-09: accept refused the data: file 3 is torn" in body


@pytest.fixture(scope="module")
def lineage(backfill):
    return [json.loads(line) for line in (backfill.folder / "lineage.jsonl").read_text().splitlines()]


def test_lineage_has_the_beginning_and_the_end_of_every_task_and_run(lineage):
    told = [(event["job"]["name"].partition(".")[2], event["eventType"]) for event in lineage]

    done = [(task, kind) for task in ("late_records", *STAGES, "report") for kind in ("START", "COMPLETE")]
    refused = [*done[:5], ("accept", "FAIL"), ("", "FAIL")]
    assert [one for one in told if one != ("", "START")] == [*done, ("", "COMPLETE"), *refused]
    assert {event["job"]["namespace"] for event in lineage} == {"footprint"}


def test_lineage_is_what_openlineages_own_classes_would_write(lineage):
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.serde import Serde

    for event in lineage:
        inputs, outputs = (
            [of(one["namespace"], one["name"], facets=one["facets"]) for one in event[name]]
            for name, of in (("inputs", InputDataset), ("outputs", OutputDataset))
        )
        run, job = Run(**event["run"]), Job(**event["job"])
        # Its validators refuse a wrong state, time or run id.
        rebuilt = RunEvent(
            eventType=RunState[event["eventType"]], eventTime=event["eventTime"], run=run, job=job,
            producer=event["producer"], inputs=inputs, outputs=outputs,
        )  # fmt: skip
        assert json.loads(Serde.to_json(rebuilt)) == event


def test_lineage_leads_from_the_files_to_what_billing_reads(backfill, lineage):
    edges = {(i["name"], o["name"]) for event in lineage for i in event["inputs"] for o in event["outputs"]}
    reached = {str(backfill.folder / "landing")}
    while more := {after for before, after in edges if before in reached} - reached:
        reached |= more

    lake = backfill.folder / "var" / "lake"
    assert {str(lake / name) for name in ("landed", "accepted", "metered", "estimated", "verdicts", "published")} <= reached
    assert any(name.endswith("footprint.published") for name in reached)


def test_lineage_describes_the_columns_of_a_table_as_the_schemas_do(backfill, lineage):
    (published, *_) = [d for event in lineage for d in event["outputs"] if d["name"].endswith("lake/published")]
    fields = {field["name"]: field for field in published["facets"]["schema"]["fields"]}

    assert published["namespace"] == "file"
    assert fields["footprint_gco2e"]["type"] == "DECIMAL(24,12)"
    assert fields["footprint_gco2e"]["description"] == "Grams of CO2 equivalent, unrounded."


# --- under the scheduler ------------------------------------------------------------------------------------------------


AIRFLOW_COMMANDS = """
import sys
from airflow.cli.cli_parser import get_parser

for command in sys.argv[1:]:
    call = get_parser().parse_args(command.split())
    call.func(call)
"""
"""Several of Airflow's commands in one process: each would import Airflow anew."""


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory):
    """`airflow backfill create` of three months under the scheduler, beside a DAG that waits for them. February is refused.

    Every month is overdue from the beginning: FOOTPRINT_BILLING_DAYS is 0. The month that the schedule starts beside them is
    published only when January has been billed: of two events of an asset within a moment, Airflow keeps the second for the
    run that the third one starts.
    """
    folder = tmp_path_factory.mktemp("scheduled")
    (folder / "dags").mkdir()
    (folder / "dags" / "billing.py").write_text(BILLING)
    (folder / "dags" / "monthly_footprint.py").symlink_to(PROJECT / "dags" / "monthly_footprint.py")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = prepared(folder) | {
        "REFUSED_MONTH": "2026-02", "FOOTPRINT_BILLING_DAYS": "0", "BILLED": str(folder / "billed"), "AIRFLOW_PORT": str(port),
    }  # fmt: skip
    dags = f"export AIRFLOW__CORE__DAGS_FOLDER='{folder}/dags'"
    asked = [
        "db migrate",
        "dags reserialize",
        "dags unpause --yes billing",
        "backfill create --dag-id monthly_footprint --from-date 2026-01-01 --to-date 2026-03-01"
        " --max-active-runs 1 --reprocess-behavior failed",
    ]
    runs = "SELECT state FROM dag_run WHERE dag_id = 'monthly_footprint' AND run_type = 'backfill' ORDER BY logical_date"
    with people() as (told, settings_of_people), (folder / "airflow.log").open("w") as log:
        settings["FOOTPRINT_LINEAGE"] = settings_of_people["FOOTPRINT_ALERT_WEBHOOK"].removesuffix("/alert")
        options = {"cwd": PROJECT, "env": settings | settings_of_people, "stdout": log, "stderr": log}
        subprocess.run([*shell(folder, f'{dags} && python -P -c "$0" "$@"'), AIRFLOW_COMMANDS, *asked], check=True, **options)
        running = subprocess.Popen(shell(folder, f"{dags} && exec airflow standalone"), process_group=0, **options)
        try:
            wait_until(running, lambda: answers(port))  # a task that begins before fails, and is tried again a minute later
            metadata(folder, "UPDATE dag SET is_paused = 0 WHERE dag_id = 'monthly_footprint'")
            wait_until(
                running,
                lambda: (
                    metadata(folder, runs) == [("success",), ("failed",), ("failed",)]
                    and any(publication["month"] == "2026-01" for publication in billed(folder))
                    and overdue(told)
                ),
            )
            yield SimpleNamespace(folder=folder, told=told, states=[state for (state,) in metadata(folder, runs)])
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGTERM)
                time.sleep(2)
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def wait_until(running, is_so, seconds=420):
    """Return when it is so, when the process has ended, or when it was long enough: the tests say what is missing."""
    deadline = time.monotonic() + seconds
    while running.poll() is None and time.monotonic() < deadline and not is_so():
        time.sleep(1)


def answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/version", timeout=5):
        return True
    return False


def billed(folder: Path) -> list[dict[str, object]]:
    """What the DAG that waits for months was told; the month due by its schedule may come before those of the backfill."""
    told = folder / "billed"
    return [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()] if told.is_file() else []


def overdue(told: Told) -> list[dict[str, object]]:
    return [post for post in told.posts if post["event"] == "month not published in time"]


def test_a_month_of_a_scheduled_backfill_waits_for_the_one_before_it(scheduled):
    assert scheduled.states == ["success", "failed", "failed"], (scheduled.folder / "airflow.log").read_text()[-3000:]
    march = "SELECT task_id, state FROM task_instance WHERE run_id LIKE 'backfill__2026-04-01%' AND state = 'failed'"
    assert metadata(scheduled.folder, march) == [("late_records", "failed")]


def test_of_a_scheduled_backfill_only_what_failed_first_is_told(scheduled):
    failed = [(post["month"], post["task"], post["try"]) for post in scheduled.told.posts if post["event"] == "task failed"]

    assert failed == [("2026-02", "accept", 1)]


def test_a_dag_that_depends_on_the_asset_is_started_and_reads_what_was_published(scheduled):
    assert PUBLICATION | {"month": "2026-01"} in billed(scheduled.folder)


def test_a_month_that_is_not_published_when_it_is_due_is_told(scheduled):
    posts = [post for post in overdue(scheduled.told) if post["month"] == "2026-02"]

    assert posts
    assert (posts[0]["dag"], posts[0]["run_id"]) == ("monthly_footprint", "backfill__2026-03-01T00:00:00+00:00")
    assert "publication was due at" in posts[0]["reason"]


def test_lineage_goes_to_a_server_too(scheduled):
    told = {(event["job"]["name"], event["eventType"]) for event in scheduled.told.lineage}

    assert {("monthly_footprint.publish", "COMPLETE"), ("monthly_footprint.accept", "FAIL")} <= told


# --- without a run ------------------------------------------------------------------------------------------------------


def test_every_table_is_written_by_a_stage_that_says_so():
    written = {name for flow in FLOWS.values() for name in flow.writes}

    assert {table.name for table in TABLES} - written == {"keys", "stage_runs"}
    named = {name for flow in FLOWS.values() for name in (*flow.reads, *flow.writes)}
    assert named - {table.name for table in TABLES} == {"landing", "factors", "footprint.published", "reports"}
