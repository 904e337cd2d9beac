"""A stage as a process of its own: an orchestrator need not import Spark, and a killed task leaves no Spark behind.

Imports the standard library only, because a DAG is parsed every few seconds.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

STAGES = ("land", "accept", "meter", "estimate", "verify", "publish")
"""The stages of a month in their order; each is a command of ``python -m jobs``."""

WITH_RESULT = ("publish", "restate")
"""Stages that take ``--result FILE`` and write there, as one JSON object, the publication that counts."""

GRACE_SECONDS = 3.0
"""Time a stage has to end by itself. Airflow gives the task 5 s between TERM and KILL, and this has to fit in."""

REFUSED, MISCALLED = 1, 2
"""Exit codes of a stage that running again cannot help: the data was refused, the call was wrong."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_log = logging.getLogger("jobs.launch")


class StageFailed(Exception):
    """A stage ended without doing its work; the message names the month, the stage and the reason."""

    def __init__(self, month: str | None, stage: str, reason: str, exit_code: int) -> None:
        """Say which stage of which month failed, why, and how its process ended."""
        super().__init__(f"{month or 'no month'}: {stage} {self.verb}: {reason}")
        self.exit_code = exit_code

    verb = "failed"

    @property
    def is_final(self) -> bool:
        """Running again would end the same way."""
        return self.exit_code == MISCALLED


class StageRefused(StageFailed):
    """The data was refused: it, or a setting, has to change before the stage is run again."""

    verb = "refused the data"

    @property
    def is_final(self) -> bool:
        """Running again would end the same way."""
        return True


def stage_command(stage: str, month: str | None) -> list[str]:
    """What is run for a stage: this interpreter, so that the stage sees the packages its caller sees."""
    return [sys.executable, "-m", "jobs", stage, *(["--month", month] if month else [])]


def launch(
    stage: str,
    month: str | None,
    command: Callable[[str, str | None], list[str]] = stage_command,
    run_id: str | None = None,
) -> dict[str, Any]:
    """Run one stage to its end, its output line by line in the log. Raises StageRefused, StageFailed.

    What the stage logs keeps its level; its other numbers and names are ``fields`` of the record. Whatever ends the caller ends
    the stage with all its processes: a signal, an exception, and on Linux even SIGKILL.

    Returns:
        What the stage came to, if it is one of WITH_RESULT; else nothing.
    """
    about = {"stage": stage, **({"month": month} if month else {}), **({"run_id": run_id} if run_id else {})}
    _log.info("%s begins", stage, extra={"fields": about})
    with TemporaryDirectory(prefix="footprint-stage-") as folder:
        result = Path(folder, "result.json")
        asked = [*command(stage, month), *([f"--result={result}"] if stage in WITH_RESULT else [])]
        with _sigterm_raises():
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(os.getpid()), *asked],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "FOOTPRINT_LOG": "json"} | _run_of(run_id),
            )
            try:
                reason = _follow(process, about)
            except BaseException:
                _end_group(process)
                _log.error("%s: %s was stopped before its end", month or "no month", stage, extra={"fields": about})
                raise
        if process.returncode == 0:
            return json.loads(result.read_bytes()) if result.is_file() else {}
    failure = _failure(stage, month, process.returncode, reason)
    _log.error("%s", failure, extra={"fields": about})
    raise failure


def _run_of(run_id: str | None) -> dict[str, str]:
    return {"FOOTPRINT_RUN_ID": run_id} if run_id else {}


def _follow(process: subprocess.Popen[bytes], about: Mapping[str, Any]) -> str | None:
    """Log what the stage writes until it has ended, and return why it says it failed."""
    reasons: list[str] = []
    # The end of the process counts, not the end of its output: a server that the stage started may keep that open.
    reader = threading.Thread(target=_read, args=(process, about, reasons), daemon=True)
    reader.start()
    process.wait()
    reader.join(timeout=GRACE_SECONDS)
    return reasons[-1] if reasons else None


def _read(process: subprocess.Popen[bytes], about: Mapping[str, Any], reasons: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            level, said, fields = _entry(line.decode(errors="replace").rstrip())
            _log.log(level, "%s", said, extra={"fields": {**about, **fields}})
            if said.startswith(("refused: ", "error: ")):
                reasons.append(said)


def _entry(line: str) -> tuple[int, str, dict[str, Any]]:
    """Level, words and fields of a line: those of a line of the stage's log, else the line as it is."""
    if not line.startswith("{"):
        return logging.INFO, line, {}
    try:
        entry: dict[str, Any] = json.loads(line)
        level = logging.getLevelNamesMapping()[entry.pop("level").upper()]
        entry.pop("time")  # the record has one
        return level, str(entry.pop("event")), entry
    except (AttributeError, KeyError, ValueError):
        return logging.INFO, line, {}


def _failure(stage: str, month: str | None, exit_code: int, reason: str | None) -> StageFailed:
    # Python itself exits with 1 on a traceback: only a stage that says so has refused.
    if exit_code == REFUSED and reason is not None and reason.startswith("refused: "):
        return StageRefused(month, stage, reason.removeprefix("refused: "), exit_code)
    ending = f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    said = reason.partition(": ")[2] if reason else "it gave no reason; its output is in the log"
    return StageFailed(month, stage, f"{said} ({ending})", exit_code)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the stage and everything it started: by TERM, then by KILL."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        try:
            os.killpg(process.pid, ending)
            while time.monotonic() < deadline:
                process.poll()  # reaps the leader, which as a zombie would keep its group alive
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        except (ProcessLookupError, PermissionError):
            return  # the group is gone (macOS says PermissionError of a group of zombies)
        finally:
            process.poll()


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception while a stage runs: Airflow's own handler would leave the stage running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, _: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _become(parent: int, command: list[str]) -> None:
    """Turn this process into ``command``, which dies with its parent where the kernel offers that (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(128 + signal.SIGKILL)
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
