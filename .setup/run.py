"""The main job on one machine: a month through Airflow, in the foreground, with the stages' own words on the terminal.

    .venv/bin/python .setup/run.py 2026-10

Without landing files of one's own the month is made up first. Airflow's chatter goes to var/log/run.log.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
VAR = PROJECT / os.environ.get("FOOTPRINT_VAR", "var")
LOG = VAR / "log" / "run.log"
FOOTPRINT = Path(sys.executable).parent / "footprint"
DEMO = ("--subscriptions", "2000", "--seed", "1", "--formats", "delimited,ts32297,chf")


def main(month: str) -> None:
    """Make the demonstration where it is wanted, run the month, show what was published."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        sys.exit(f"{month!r} is not a month: write it as YYYY-MM, for example make run MONTH=2026-10")
    make_demo(month)
    print(f"Running {month} through Airflow (its whole log: {near(LOG)})", flush=True)
    terminal = Terminal()
    succeeded = False
    with aside():
        succeeded = run_dag(month, terminal)
    terminal.rest()
    if not succeeded:
        failure = terminal.failure or f"{month}: Airflow could not run the stages"
        sys.exit(f"The run stopped. {failure}. More is in {near(LOG)}; put it right and run this again.")
    print(f"{month} took {terminal.seconds():.0f} s", flush=True)


def near(path: Path) -> str:
    """A path as short as it can be said from the project's folder."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


def make_demo(month: str) -> None:
    """Make up a month, unless it is there, or somebody's own files are."""
    if os.environ.get("FOOTPRINT_LANDING"):
        return
    made, landing = VAR / "demo" / month, VAR / "landing"
    if landing.is_dir() and any(landing.iterdir()):
        is_made = made.is_file() and made.read_text(encoding="utf-8") == "made"
        if is_made or not made.parent.is_dir():
            return
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text("begun", encoding="utf-8")  # where it is interrupted, it is made again
    footprint("demo", "--month", month, *DEMO)
    made.write_text("made", encoding="utf-8")


def footprint(*arguments: str) -> None:
    """Run a command of the project, which explains its failures itself."""
    ended = subprocess.run([FOOTPRINT, *arguments], check=False)
    if ended.returncode != 0:
        sys.exit(ended.returncode)


@contextmanager
def aside() -> Iterator[None]:
    """Send what this process and Airflow write into the log, a traceback too."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    with LOG.open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception:  # noqa: BLE001 (whatever it was: the terminal gets one sentence)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, descriptor in zip(kept, (1, 2), strict=True):
                os.dup2(stream, descriptor)
                os.close(stream)


def run_dag(month: str, terminal: Terminal) -> bool:
    """One real DagRun of the month, task after task, as `airflow dags test` makes it: did it succeed?"""
    from airflow.dag_processing.dagbag import DagBag

    dag: Any = DagBag(PROJECT / "dags").get_dag("monthly_footprint")
    conf = {"usage_month": month}
    for task in dag.tasks:
        task.retries = 0  # whoever watches sees the failure and decides
    stages = logging.getLogger("jobs.launch")
    stages.addHandler(terminal)
    stages.setLevel(logging.INFO)
    try:
        return str(dag.test(run_conf=conf).state) == "success"
    finally:
        fail_unfinished_runs(dag.dag_id, conf)


def fail_unfinished_runs(dag_id: str, conf: dict[str, str]) -> None:
    """An interrupted run must not be found running by the scheduler of `make airflow`, which would go on with it."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType

    with create_session() as session:
        begun = session.query(DagRun).filter_by(dag_id=dag_id, state="running", triggered_by=DagRunTriggeredByType.TEST)
        for run in begun:
            if run.conf == conf:  # another month may be running in another terminal
                run.state = "failed"


class Terminal(logging.Handler):
    """Shows what the stages say, with the time since the start, and keeps why one failed for the end."""

    def __init__(self) -> None:
        """Write to what is standard output now; where that is a terminal, the last line keeps counting."""
        super().__init__()
        self.stream, self.begun, self.failure, self.now = os.fdopen(os.dup(1), "w"), time.monotonic(), "", "starting Airflow"
        if self.stream.isatty():
            threading.Thread(target=self.count, daemon=True).start()

    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.begun

    def count(self) -> None:
        """Show every second that the stage is still at it."""
        while self.now:
            print(f"\r\033[K{self.seconds():4.0f} s  {self.now} …", end="", file=self.stream, flush=True)
            time.sleep(1)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line at once."""
        message = record.getMessage()
        if record.levelno >= logging.ERROR:
            self.failure = message
        elif message.endswith(" begins"):
            self.now = message.removesuffix(" begins")
        else:
            start = "\r\033[K" if self.stream.isatty() else ""
            stage, _, said = message.partition(" | ")
            # The summary after the last stage has no time of its own.
            since = f"{self.seconds():4.0f} s  " if said.startswith(stage) else ""
            print(f"{start}{since}{said}", file=self.stream, flush=True)

    def rest(self) -> None:
        """Leave the terminal to others. (Not `close`, which Airflow's configuration of logging calls at once.)"""
        self.now = ""
        if self.stream.isatty():
            print("\r\033[K", end="", file=self.stream, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nThe run was interrupted, and its stages with it; run it again and it goes on.")
