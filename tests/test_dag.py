"""The DAG says when and in which order the stages run; the launcher runs them and leaves nothing behind."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
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
    return SimpleNamespace(data_interval_start=start, data_interval_end=end, run_after=datetime(2026, 11, 20, tzinfo=UTC))


OCTOBER = dag_run(start=datetime(2026, 10, 1, tzinfo=UTC), end=datetime(2026, 11, 1, tzinfo=UTC))


def stage_that(code):
    """A command builder: the stage runs this Python instead of the pipeline."""
    return lambda stage, month: [sys.executable, "-c", code, stage, str(month)]


REFUSES = stage_that("import sys; print('looking'); print('refused: file 3 is torn', file=sys.stderr); sys.exit(1)")
FAILS = stage_that("import sys; print('error: disk full', file=sys.stderr); sys.exit(3)")
MISCALLED = stage_that("import sys; print('error: FOOTPRINT_LAKE: no such place', file=sys.stderr); sys.exit(2)")
CRASHES = stage_that("raise RuntimeError('a bug')")


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

    module.skip_the_wait_by_hand(context)
    assert dag.get_task("late_records").render_template(module.WAITED_FOR, context) == "2026-11-06 00:00:00+00:00"


@needs_airflow
@pytest.mark.parametrize(("month", "run"), [("2026-10", OCTOBER), (None, dag_run())])
def test_a_run_by_hand_skips_the_wait_and_goes_on(dag, module, month, run):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException):
        module.skip_the_wait_by_hand({"params": {"usage_month": month}, "dag_run": run})
    assert dag.get_task("land").trigger_rule == "none_failed"


@needs_airflow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (REFUSES, "2026-10: accept refused the data: file 3 is torn"),
        (MISCALLED, "2026-10: accept failed: FOOTPRINT_LAKE: no such place (exit code 2)"),
    ],
)
def test_what_running_again_cannot_help_is_not_retried_and_says_month_stage_and_reason(
    dag, module, monkeypatch, command, message
):
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setattr(module, "launch", partial(launch, command=command))

    with pytest.raises(AirflowFailException) as raised:
        dag.get_task("accept").python_callable(params={"usage_month": "2026-10"}, dag_run=OCTOBER)
    assert str(raised.value) == message


@needs_airflow
def test_any_other_failure_is_retried_twice(dag, module, monkeypatch):
    monkeypatch.setattr(module, "launch", partial(launch, command=FAILS))

    with pytest.raises(StageFailed):
        dag.get_task("accept").python_callable(params={"usage_month": "2026-10"}, dag_run=OCTOBER)
    assert {task.retries for task in dag.tasks} == {2}


@needs_airflow
@pytest.mark.parametrize("command", [REFUSES, FAILS, MISCALLED, CRASHES])
def test_a_report_that_cannot_be_written_leaves_the_month_published_and_says_what_to_call(dag, module, monkeypatch, command):
    from airflow.sdk.exceptions import AirflowSkipException

    monkeypatch.setattr(module, "launch", partial(launch, command=command))

    with pytest.raises(AirflowSkipException, match=r"2026-10: report .*; footprint report --month 2026-10 writes it"):
        dag.get_task("report").python_callable(params={"usage_month": "2026-10"}, dag_run=OCTOBER)


@pytest.fixture(scope="module")
def restatement(airflow_home):
    return importlib.import_module("dags.monthly_restatement")


@needs_airflow
def test_a_restatement_is_never_scheduled_and_changes_the_published_asset(restatement):
    found = restatement.monthly_restatement()

    assert found.schedule is None
    assert (found.catchup, found.max_active_runs) == (False, 1)
    (task,) = found.tasks
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
    command = restatement.restate_command("restate", "2026-10", "--month 2026-11; it's late", "Jo")

    assert command[-4:] == ["--month", "2026-10", "--reason=--month 2026-11; it's late", "--approver=Jo"]
    assert restatement.restate_command("restate", "2026-10", "late", None)[-1] == "--reason=late"


@needs_airflow
def test_a_restatement_that_is_refused_is_not_retried_and_says_why(restatement, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    refuses = stage_that("import sys; print('refused: nothing changes', file=sys.stderr); sys.exit(1)")
    monkeypatch.setattr(restatement, "launch", lambda stage, month, _: launch(stage, month, refuses))
    (task,) = restatement.monthly_restatement().tasks

    with pytest.raises(AirflowFailException, match="2026-10: restate refused the data: nothing changes"):
        task.python_callable(params={"month": "2026-10", "reason": "late", "approver": None})


STAGES_OF_WHICH_ONE_REFUSES = """
import sys
print("begun")
if sys.argv[1] == "{refusing}":
    print("refused: file 3 is torn", file=sys.stderr)
    sys.exit(1)
"""


def made_run(folder, refusing):
    """`make run` with stages that do nothing, of which one refuses: how it ended, the tasks' states, and the runs."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__main__.py").write_text(STAGES_OF_WHICH_ONE_REFUSES.format(refusing=refusing))
    run = (
        f". .setup/environment && export PATH='{Path(sys.executable).parent}':$PATH && airflow db migrate"
        f" && cd '{folder}' && exec python '{PROJECT}/.setup/run.py' 2026-10"
    )
    settings = os.environ | {"FOOTPRINT_VAR": str(folder / "var"), "FOOTPRINT_LANDING": str(folder / "landing")}
    (folder / "var").mkdir()
    ended = subprocess.run(["sh", "-c", run], cwd=PROJECT, env=settings, capture_output=True, text=True)
    with sqlite3.connect(folder / "var" / "airflow" / "airflow.db") as metadata:
        states = dict(metadata.execute("SELECT task_id, state FROM task_instance"))
        runs = metadata.execute("SELECT state, conf FROM dag_run").fetchall()
    return ended, states, [(state, json.loads(conf)) for state, conf in runs]


@needs_airflow
@pytest.mark.slow
def test_make_run_stops_at_the_stage_that_refuses_and_says_why(tmp_path):
    ended, states, runs = made_run(tmp_path, "accept")

    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("The run stopped. 2026-10: accept refused the data: file 3 is torn.")
    after = dict.fromkeys((*STAGES[2:], "report"), "upstream_failed")
    assert states == {"late_records": "skipped", "land": "success", "accept": "failed"} | after
    assert runs == [("failed", {"usage_month": "2026-10"})]


@needs_airflow
@pytest.mark.slow
def test_a_run_whose_report_fails_is_a_success(tmp_path):
    ended, states, runs = made_run(tmp_path, "report")

    assert ended.returncode == 0, ended.stderr
    assert states == {"late_records": "skipped", "report": "skipped"} | dict.fromkeys(STAGES, "success")
    assert runs == [("success", {"usage_month": "2026-10"})]


# --- the launcher -----------------------------------------------------------------------------------------------------


def test_a_stage_gets_its_month_and_its_output_is_in_the_log(caplog):
    caplog.set_level("INFO", "jobs.launch")

    launch("meter", "2026-10", stage_that("import sys; print(*sys.argv[1:])"))

    assert [record.getMessage() for record in caplog.records] == ["meter begins", "meter | meter 2026-10"]


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
