"""The DAG says when and in which order the stages run; the launcher runs them and leaves nothing behind."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.launch import STAGES, StageFailed, StageRefused, launch

PROJECT = Path(__file__).resolve().parent.parent

without_airflow = pytest.mark.skipif(
    importlib.util.find_spec("airflow") is None, reason="Airflow is an extra, not installed here"
)


def needs_airflow(test):
    return pytest.mark.airflow(without_airflow(test))


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(home))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        patch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(PROJECT / "dags"))
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home}/airflow.db")
        yield home


@pytest.fixture(scope="module")
def module(airflow_home):
    return importlib.import_module("dags.monthly_footprint")


@pytest.fixture
def dag(module):
    return module.monthly_footprint()


def dag_run(start=None, end=None):
    return SimpleNamespace(
        data_interval_start=start,
        data_interval_end=end,
        run_type="scheduled",
        run_id="run-1",
        run_after=datetime(2026, 11, 20, tzinfo=UTC),
    )


LONG_AGO, FAR_AHEAD = datetime(2020, 1, 1, tzinfo=UTC), 2090
OCTOBER = dag_run(start=datetime(2026, 10, 1, tzinfo=UTC), end=datetime(2026, 11, 1, tzinfo=UTC))


def stage_that(code):
    """A command builder: the stage runs this Python instead of the pipeline."""
    return lambda stage, month: [sys.executable, "-c", code, stage, str(month)]


REFUSES = stage_that("import sys; print('looking'); print('refused: file 3 is torn', file=sys.stderr); sys.exit(1)")
FAILS = stage_that("import sys; print('error: disk full', file=sys.stderr); sys.exit(3)")
MISCALLED = stage_that("import sys; print('error: FOOTPRINT_LAKE: no such place', file=sys.stderr); sys.exit(2)")
CRASHES = stage_that("raise RuntimeError('a bug')")


def starting(monkeypatch, command):
    """Whatever a task would start, it starts this."""
    monkeypatch.setattr("dags.stage.launch.launch", lambda stage, month, _, run_id: launch(stage, month, command, run_id))


# --- the DAG ----------------------------------------------------------------------------------------------------------


@needs_airflow
def test_the_dags_folder_loads_without_errors(airflow_home):
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(PROJECT / "dags")

    assert bag.import_errors == {}
    assert set(bag.dags) == {"monthly_footprint", "monthly_restatement", "lake_upkeep"}
    assert [task.task_id for task in bag.dags["lake_upkeep"].tasks] == ["upkeep"]
    assert not bag.dags["lake_upkeep"].catchup


@needs_airflow
def test_the_wait_for_late_records_comes_first_then_the_stages_in_their_order(dag):
    order, task = [], dag.get_task("late_records")
    while task is not None:
        order.append(task.task_id)
        task = next(iter(task.get_direct_relatives()), None)

    assert order == ["late_records", *STAGES, "report"]
    assert len(dag.tasks) == len(order)


@needs_airflow
def test_only_publish_changes_the_published_asset(dag):
    outlets = {task.task_id: [asset.uri for asset in task.outlets] for task in dag.tasks if task.outlets}

    assert outlets == {"publish": ["x-lake://published"]}


@needs_airflow
def test_nothing_is_caught_up_and_one_month_runs_at_a_time(dag):
    assert (dag.catchup, dag.max_active_runs) == (False, 1)


@needs_airflow
def test_a_scheduled_run_covers_one_calendar_month(dag):
    from airflow.serialization.encoders import coerce_to_core_timetable

    interval = coerce_to_core_timetable(dag.timetable).infer_manual_data_interval(run_after=datetime(2026, 11, 1, tzinfo=UTC))

    assert (interval.start, interval.end) == (OCTOBER.data_interval_start, OCTOBER.data_interval_end)


@needs_airflow
def test_parsing_imports_nothing_heavy(airflow_home):
    heavy = ["pyspark", "delta", "great_expectations", "pandas", "numpy", "pyarrow"]
    dags = "dags.monthly_footprint, dags.monthly_restatement, dags.lake_upkeep"
    code = f"import sys, {dags}; print([name for name in {heavy} if name in sys.modules])"

    parsed = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)

    assert parsed.stdout.splitlines()[-1] == "[]"


@needs_airflow
def test_the_month_is_the_one_asked_for_else_the_one_of_the_interval(module):
    assert module.month_of({"usage_month": "2026-03"}, OCTOBER) == "2026-03"
    assert module.month_of({"usage_month": None}, OCTOBER) == "2026-10"


@needs_airflow
def test_a_run_without_a_month_fails_and_says_how_to_give_one(module):
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="trigger with usage_month"):
        module.month_of({"usage_month": None}, dag_run())


@needs_airflow
@pytest.mark.parametrize("month", ["2026-13", "2026-1", "October", "2026-10; ls"])
def test_a_month_that_is_none_is_refused_when_the_run_is_asked_for(dag, month):
    from airflow.sdk.exceptions import ParamValidationError

    dag.params["usage_month"] = "2026-10"
    with pytest.raises(ParamValidationError):
        dag.params["usage_month"] = month


@needs_airflow
def test_a_scheduled_run_waits_for_late_records_until_days_after_its_month(dag, module):
    from airflow.sdk.execution_time.context import MacrosAccessor

    context = {"dag_run": OCTOBER, "params": {"usage_month": None, "late_days": 5}, "macros": MacrosAccessor()}

    module.before_the_wait(context | {"dag_run": month_run(3, run_type="scheduled")})
    assert dag.get_task("late_records").render_template(module.WAITED_FOR, context) == "2026-11-06 00:00:00+00:00"


@needs_airflow
def test_a_month_whose_days_of_waiting_have_passed_does_not_wait(module):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="have passed"):
        module.before_the_wait({"params": {"usage_month": None, "late_days": 5}, "dag_run": dag_run(end=LONG_AGO)})


@needs_airflow
@pytest.mark.parametrize(("month", "run"), [("2026-10", OCTOBER), (None, dag_run())])
def test_a_run_by_hand_skips_the_wait_and_goes_on(dag, module, month, run):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException):
        module.before_the_wait({"params": {"usage_month": month}, "dag_run": run})
    assert dag.get_task("land").trigger_rule == "none_failed"


@needs_airflow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (REFUSES, "2026-10: accept refused the data: file 3 is torn"),
        (MISCALLED, "2026-10: accept failed: FOOTPRINT_LAKE: no such place (exit code 2)"),
    ],
)
def test_what_running_again_cannot_help_is_not_retried_and_says_month_stage_and_reason(dag, monkeypatch, command, message):
    from airflow.sdk.exceptions import AirflowFailException

    starting(monkeypatch, command)

    with pytest.raises(AirflowFailException) as raised:
        dag.get_task("accept").execute({"params": {"usage_month": "2026-10"}, "dag_run": OCTOBER})
    assert str(raised.value) == message


@needs_airflow
def test_any_other_failure_is_retried_twice(dag, monkeypatch):
    starting(monkeypatch, FAILS)

    with pytest.raises(StageFailed):
        dag.get_task("accept").execute({"params": {"usage_month": "2026-10"}, "dag_run": OCTOBER})
    assert {task.retries for task in dag.tasks} == {2}


@needs_airflow
@pytest.mark.parametrize("command", [REFUSES, FAILS, MISCALLED, CRASHES])
def test_a_report_that_cannot_be_written_leaves_the_month_published_and_says_what_to_call(dag, monkeypatch, command):
    from airflow.sdk.exceptions import AirflowSkipException

    starting(monkeypatch, command)

    with pytest.raises(AirflowSkipException, match=r"2026-10: report .*; footprint report --month 2026-10 writes it"):
        dag.get_task("report").execute({"params": {"usage_month": "2026-10"}, "dag_run": OCTOBER})


@pytest.fixture(scope="module")
def restatement(airflow_home):
    return importlib.import_module("dags.monthly_restatement")


@needs_airflow
def test_a_restatement_is_never_scheduled_and_changes_the_published_asset(restatement):
    found = restatement.monthly_restatement()

    assert found.schedule is None
    assert (found.catchup, found.max_active_runs) == (False, 1)
    task = found.get_task("restate")
    assert (set(found.task_ids), task.downstream_task_ids) == ({"restate", "report"}, {"report"})
    assert (task.task_id, [asset.uri for asset in task.outlets], task.retries) == ("restate", ["x-lake://published"], 2)


@needs_airflow
@pytest.mark.parametrize(
    ("name", "sound", "wrong"),
    [("month", "2026-10", "2026-13"), ("month", "2026-10", None), ("reason", "late files", " "), ("reason", "late files", None)],
)
def test_a_restatement_needs_a_month_and_a_reason_when_it_is_asked_for(restatement, name, sound, wrong):
    from airflow.sdk.exceptions import ParamValidationError

    params = restatement.monthly_restatement().params
    params[name] = sound
    with pytest.raises(ParamValidationError):
        params[name] = wrong


@needs_airflow
def test_month_reason_and_approver_reach_the_command_each_as_one_argument(restatement):
    command = restatement.restate_command("restate", "2026-10", {"reason": "--month 2026-11; it's late", "approver": "Jo"})

    assert command[-4:] == ["--month", "2026-10", "--reason=--month 2026-11; it's late", "--approver=Jo"]
    assert restatement.restate_command("restate", "2026-10", {"reason": "late", "approver": None})[-1] == "--reason=late"


@needs_airflow
def test_a_restatement_that_is_refused_is_not_retried_and_says_why(restatement, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    starting(monkeypatch, stage_that("import sys; print('refused: nothing changes', file=sys.stderr); sys.exit(1)"))
    task = restatement.monthly_restatement().get_task("restate")

    with pytest.raises(AirflowFailException, match="2026-10: restate refused the data: nothing changes"):
        task.execute({"params": {"month": "2026-10", "reason": "late", "approver": None}, "dag_run": dag_run()})


RESULT = {"month": "2026-10", "revision": 2, "publication_id": 3, "rows": 4, "factor_sets": ["SET"], "figures_hash": "ab"}
PUBLISHES = stage_that(
    f"import pathlib, sys;pathlib.Path(sys.argv[3].removeprefix('--result=')).write_text({json.dumps(RESULT)!r})"
)


@needs_airflow
def test_a_restatement_tells_of_the_same_asset_with_what_the_ledger_has(restatement, monkeypatch):
    starting(monkeypatch, PUBLISHES)
    task = restatement.monthly_restatement().get_task("restate")
    events = {task.outlets[0]: SimpleNamespace(extra={})}

    params = {"month": "2026-10", "reason": "late", "approver": None}
    task.execute({"params": params, "dag_run": dag_run(), "outlet_events": events})

    assert [event.extra for event in events.values()] == [RESULT]
    assert task.outlets == importlib.import_module("dags.monthly_footprint").monthly_footprint().get_task("publish").outlets


@needs_airflow
def test_every_task_is_documented_by_its_stage(airflow_home):
    from airflow.dag_processing.dagbag import DagBag

    tasks = [task for found in DagBag(PROJECT / "dags").dags.values() for task in found.tasks]

    assert all(task.doc_md for task in tasks)
    for task in tasks:
        if task.task_id != "late_records":
            stage = importlib.import_module(f"jobs.{task.task_id}")
            assert task.doc_md.startswith(inspect.getdoc(stage))
            assert "**Reads** `" in task.doc_md
            assert "**Writes** `" in task.doc_md


# --- a backfill -------------------------------------------------------------------------------------------------------


def month_run(month, state="queued", run_type="backfill"):
    return SimpleNamespace(
        data_interval_start=datetime(FAR_AHEAD, month, 1, tzinfo=UTC),
        data_interval_end=datetime(FAR_AHEAD, month + 1, 1, tzinfo=UTC),
        state=state,
        run_type=run_type,
    )


def before_the_wait(module, run, previous):
    ti = SimpleNamespace(get_previous_dagrun=lambda: previous)
    module.before_the_wait({"params": {"usage_month": None, "late_days": 5}, "dag_run": run, "ti": ti})


@needs_airflow
@pytest.mark.parametrize("state", ["failed", "running", "queued"])
def test_a_month_of_a_backfill_fails_while_the_month_before_it_is_not_done(module, state):
    with pytest.raises(module.MonthBefore, match=f"2090-03 waits for 2090-02, which is {state}: put that right"):
        before_the_wait(module, month_run(3), month_run(2, state))


@needs_airflow
@pytest.mark.parametrize(
    ("run", "previous"),
    [
        (month_run(3), None),
        (month_run(3), month_run(2, "success")),
        (month_run(3), month_run(1, "failed")),  # of another backfill: the month between was never asked of Airflow
        (month_run(3, run_type="scheduled"), month_run(2, "failed")),
    ],
)
def test_the_first_month_a_month_after_one_that_is_done_and_a_scheduled_month_go_on(module, run, previous):
    before_the_wait(module, run, previous)


# --- alerts -----------------------------------------------------------------------------------------------------------


def failure(error):
    run = SimpleNamespace(conf={"usage_month": "2026-10"}, data_interval_start=None, run_id="manual__1")
    ti = SimpleNamespace(dag_id="monthly_footprint", task_id="accept", try_number=3, log_url="http://airflow/log")
    return {"ti": ti, "dag_run": run, "exception": error}


@pytest.fixture
def alerts(airflow_home):
    return importlib.import_module("dags.alerts")


@pytest.fixture
def sent(alerts, monkeypatch):
    """What the webhook would be sent."""
    sent = []
    monkeypatch.setenv("FOOTPRINT_ALERT_WEBHOOK", "https://alerts.example.org/token")
    monkeypatch.setattr(alerts, "_post", lambda url, alert: sent.append(alert))
    return sent


@needs_airflow
def test_every_task_has_somebody_told_when_it_failed_for_good(airflow_home, alerts):
    from airflow.dag_processing.dagbag import DagBag

    tasks = [task for found in DagBag(PROJECT / "dags").dags.values() for task in found.tasks]

    assert {callback.__qualname__ for task in tasks for callback in task.on_failure_callback} == {"tell_of_failure"}
    assert all(task.on_failure_callback for task in tasks)


@needs_airflow
def test_an_error_that_is_not_ours_is_told_without_its_words_which_may_quote_a_subscriber(alerts, sent):
    alerts.tell_of_failure(failure(ValueError("0612345678 is no number")))
    alerts.tell_of_failure(failure(StageFailed("2026-10", "accept", "disk full", 3)))

    assert [alert["reason"] for alert in sent] == ["ValueError", "2026-10: accept failed: disk full"]


@needs_airflow
def test_a_month_that_only_waits_for_the_one_before_it_is_not_told(alerts, sent):
    alerts.tell_of_failure(failure(alerts.MonthBefore("2026-03 waits for 2026-02")))

    assert sent == []


@needs_airflow
def test_an_alert_that_cannot_be_sent_is_logged_without_its_address_and_hides_nothing(alerts, monkeypatch):
    import structlog

    monkeypatch.setenv("FOOTPRINT_ALERT_WEBHOOK", "http://127.0.0.1:9/secret-token")
    monkeypatch.setenv("FOOTPRINT_ALERT_MAIL", "night@example.org")
    monkeypatch.setattr(alerts, "_log", structlog.get_logger())

    with structlog.testing.capture_logs() as logged:
        alerts.tell_of_failure(failure(StageRefused("2026-10", "accept", "file 3 is torn", 1)))

    assert [(entry["event"], entry["by"]) for entry in logged] == [
        ("could not be told", "FOOTPRINT_ALERT_WEBHOOK"),
        ("could not be told", "FOOTPRINT_ALERT_MAIL"),
    ]
    assert "secret-token" not in str(logged)


@needs_airflow
def test_a_run_is_overdue_when_billing_is(alerts, monkeypatch):
    assert alerts.publication_is_due().interval == timedelta(days=7)
    monkeypatch.setenv("FOOTPRINT_BILLING_DAYS", "9")
    assert alerts.publication_is_due().interval == timedelta(days=9)


# --- lineage ----------------------------------------------------------------------------------------------------------


@needs_airflow
def test_datasets_are_named_as_openlineage_names_stores_and_without_a_password(airflow_home, tmp_path):
    from jobs.run import Settings

    lineage = importlib.import_module("dags.lineage")
    given = {
        "FOOTPRINT_LANDING": "s3a://in/usage",
        "FOOTPRINT_LAKE": "s3://lake/footprint",
        "FOOTPRINT_SERVING_URL": "postgresql://me:secret@db.example.org/billing",
    }
    settings = Settings.from_environment(given)
    found = [lineage.dataset(settings, name) for name in ("landing", "accepted", "footprint.published")]

    assert [(one["namespace"], one["name"]) for one in found] == [
        ("s3://in", "usage"),
        ("s3://lake", "footprint/accepted"),
        ("postgres://db.example.org:5432", "billing.footprint.published"),
    ]


@pytest.mark.parametrize(
    ("setting", "disabled", "transport"),
    [
        (None, "True", None),
        ("/x/y.jsonl", "False", {"type": "file", "log_file_path": "/x/y.jsonl", "append": True}),
        ("var/y.jsonl", "False", {"type": "file", "log_file_path": f"{PROJECT}/var/y.jsonl", "append": True}),
        ("https://lineage.example.org", "False", {"type": "http", "url": "https://lineage.example.org"}),
    ],
)
def test_lineage_goes_where_the_setting_says_and_nowhere_by_default(setting, disabled, transport):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOOTPRINT_", "AIRFLOW"))}
    show = '. .setup/environment && printf "%s\\n%s" "$AIRFLOW__OPENLINEAGE__DISABLED" "$AIRFLOW__OPENLINEAGE__TRANSPORT"'

    shown = subprocess.run(
        ["sh", "-c", show],
        cwd=PROJECT,
        env=kept | ({"FOOTPRINT_LINEAGE": setting} if setting else {}),
        capture_output=True,
        check=True,
    ).stdout.decode()

    assert shown.split("\n")[0] == disabled
    assert (json.loads(shown.split("\n")[1]) if transport else shown.split("\n")[1]) == (transport or "")


# --- the launcher -----------------------------------------------------------------------------------------------------


def test_a_stage_gets_its_month_and_its_output_is_in_the_log(caplog):
    caplog.set_level("INFO", "jobs.launch")

    launch("meter", "2026-10", stage_that("import sys; print(*sys.argv[1:])"))

    assert [record.getMessage() for record in caplog.records] == ["meter begins", "meter 2026-10"]


def test_a_line_of_a_stages_log_keeps_its_level_and_fields_and_any_other_line_is_kept_as_it_is(caplog):
    caplog.set_level("INFO", "jobs.launch")
    entry = {"time": "2026-11-22T12:00:00Z", "level": "warning", "event": "slow", "stage": "meter", "files": 3}
    odd = ['{"level": "info"', '{"level": "loud", "event": "x", "time": ""}', '{"event": "x"}', "[1]", "refused"]

    launch("meter", "2026-10", stage_that(f"print({json.dumps(entry)!r}, *{odd!r}, sep=chr(10))"), "run-1")

    of_run = {"stage": "meter", "month": "2026-10", "run_id": "run-1"}
    assert [(record.levelname, record.getMessage(), record.fields) for record in caplog.records[1:]] == [
        ("WARNING", "slow", of_run | {"files": 3}),
        *[("INFO", line, of_run) for line in odd],
    ]


def test_a_stage_logs_json_under_the_id_of_its_run(caplog):
    caplog.set_level("INFO", "jobs.launch")

    launch("meter", None, stage_that("import os; print(os.environ['FOOTPRINT_LOG'], os.environ['FOOTPRINT_RUN_ID'])"), "run-1")

    assert caplog.records[-1].getMessage() == "json run-1"


def test_what_a_stage_writes_as_its_result_is_returned():
    writes = stage_that("import sys; open(sys.argv[3].removeprefix('--result='), 'w').write('{\"revision\": 2}')")

    assert launch("publish", "2026-10", writes) == {"revision": 2}
    assert launch("publish", "2026-10", stage_that("")) == {}
    assert launch("meter", "2026-10", stage_that("import sys; assert len(sys.argv) == 3")) == {}


def test_refused_data_is_told_from_a_failure():
    with pytest.raises(StageRefused, match=r"^2026-10: accept refused the data: file 3 is torn$"):
        launch("accept", "2026-10", REFUSES)
    with pytest.raises(StageFailed, match=r"^2026-10: accept failed: disk full \(exit code 3\)$"):
        launch("accept", "2026-10", FAILS)


def test_a_crash_is_not_mistaken_for_refused_data():
    # Python ends with exit code 1 on a traceback, too.
    with pytest.raises(StageFailed, match="it gave no reason; its output is in the log") as raised:
        launch("accept", "2026-10", CRASHES)
    assert not isinstance(raised.value, StageRefused)
    assert not raised.value.is_final


def test_a_stage_that_was_killed_says_so():
    with pytest.raises(StageFailed, match="killed by SIGKILL"):
        launch("accept", "2026-10", stage_that("import os; os.kill(os.getpid(), 9)"))


def test_a_server_that_a_stage_leaves_running_does_not_hold_up_the_launcher(tmp_path):
    # The embedded PostgreSQL outlives the run, and may hold the stage's output open.
    server = "import subprocess, pathlib; server = subprocess.Popen(['sleep', '60'], start_new_session=True)"
    begun = time.monotonic()

    launch("publish", "2026-10", stage_that(f"{server}; pathlib.Path(r'{tmp_path}/pid').write_text(str(server.pid))"))

    server_pid = int((tmp_path / "pid").read_text())
    os.kill(server_pid, signal.SIGKILL)
    assert time.monotonic() - begun < 30


SPARK_LIKE_STAGE = """
import os, pathlib, subprocess, sys, time
jvm = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # like Spark's JVM, which ends when its standard input does
pathlib.Path(sys.argv[2] + ".new").write_text(f"{os.getpid()} {jvm.pid}")
os.rename(sys.argv[2] + ".new", sys.argv[2])
time.sleep(120)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; only Linux ends the stage of a launcher that gets SIGKILL")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_launcher_ends_the_stage_and_its_processes(tmp_path, ending):
    (tmp_path / "stage.py").write_text(SPARK_LIKE_STAGE)
    pids = tmp_path / "pids"
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from jobs.launch import launch;"
            "launch('accept', sys.argv[2], lambda stage, month: [sys.executable, sys.argv[1], stage, month])",
            str(tmp_path / "stage.py"),
            str(pids),
        ],
        cwd=PROJECT,
        stderr=subprocess.DEVNULL,
    )
    wait_until(pids.exists)

    launcher.send_signal(ending)
    launcher.wait(timeout=30)

    wait_until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))


def wait_until(is_so, seconds=30):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_alive(pid):
    """It runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
