"""The main job on one machine: a month through Airflow, in the foreground, with the stages' own words on the terminal.

    .venv/bin/python .setup/run.py 2026-10
    .venv/bin/python .setup/run.py 2026-01 2026-12

Of several months, oldest first, those that are published are left alone, and the first that fails ends it, since counters that
only grow are counted on from month to month. Run again, it goes on there. A single month is made up first where there are no
landing files of one's own. Airflow's chatter goes to var/log/run.log.
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


def main(first: str, last: str = "") -> None:
    """Make the demonstration where it is wanted, run the months, show what was published."""
    months = months_between(first, last or first)
    if not last:
        make_demo(first)
    LOG.unlink(missing_ok=True)
    left = without_published(months) if last else months
    while left:
        run(left[0], left[1:])
        left = left[1:]
    if last:
        print(f"{first} to {last}: every month is published", flush=True)


def months_between(first: str, last: str) -> list[str]:
    """The months from the first to the last, in order."""
    for month in (first, last):
        if not re.fullmatch(r"[12]\d{3}-(0[1-9]|1[0-2])", month):
            sys.exit(f"{month!r} is not a month: write it as YYYY-MM, for example make run MONTH=2026-10")
    begin, end = (int(month[:4]) * 12 + int(month[5:]) - 1 for month in (first, last))
    if end < begin:
        sys.exit(f"{last} is before {first}: name the oldest month first")
    return [f"{number // 12}-{number % 12 + 1:02}" for number in range(begin, end + 1)]


def without_published(months: list[str]) -> list[str]:
    """The months that the ledger does not have, with a word on those it has."""
    from jobs.lake_reader import reading, rows
    from jobs.run import Settings
    from schemas.tables import PUBLICATIONS

    with reading(Settings.from_environment().lake, [PUBLICATIONS]) as ledger:
        published = {f"{row['usage_month']:%Y-%m}" for row in rows(ledger, f"SELECT usage_month FROM {PUBLICATIONS.name}")}
    there = [month for month in months if month in published]
    if there:
        print(f"Published already: {', '.join(there)}", flush=True)
    return [month for month in months if month not in published]


def run(month: str, following: list[str]) -> None:
    """Run one month and say how long it took, or why it failed and which months are left."""
    print(f"Running {month} through Airflow (its whole log: {near(LOG)})", flush=True)
    terminal = Terminal()
    succeeded = False
    with aside():
        succeeded = run_dag(month, terminal)
    terminal.rest()
    if not succeeded:
        failure = terminal.failure or f"{month}: Airflow could not run the stages"
        left = f" Not run: {', '.join(following)}." if following else ""
        sys.exit(f"The run stopped. {failure}.{left} More is in {near(LOG)}; put it right and run this again.")
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
    with LOG.open("a", encoding="utf-8") as log:
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
    dag.deadline = None  # is the scheduler's; `dag.test` of Airflow 3.3.2 fails on one
    stages = logging.getLogger("jobs.launch")
    stages.addHandler(terminal)
    stages.setLevel(logging.INFO)
    try:
        return str(dag.test(run_conf=conf).state) == "success"
    finally:
        stages.removeHandler(terminal)
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
        message, fields = record.getMessage(), getattr(record, "fields", {})
        if record.levelno >= logging.ERROR:
            self.failure = message
        elif message.endswith(" begins"):
            self.now = message.removesuffix(" begins")
        else:
            start = "\r\033[K" if self.stream.isatty() else ""
            # The summary after the last stage has no time of its own: it is not of the stage's log.
            said = f"{self.seconds():4.0f} s  {fields['stage']:<9} {message}" if "seconds" in fields else message
            print(f"{start}{said}", file=self.stream, flush=True)

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
