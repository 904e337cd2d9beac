"""Run a command and measure it: time, memory, and bytes read and written, of all its processes and of daemons that serve it.

Memory is the sum of resident sets, sampled: pages that processes share (Python's workers after a fork, PostgreSQL's buffers)
count for each, so that it is exact for one process and up to a fifth too much for the pipeline's. Bytes written are those that
went towards a disk. Bytes read are those that were asked for, from a disk, the page cache or a pipe: what a JVM is handed by its
Python workers counts, what is mapped into memory does not. Both are zero where the system does not count them (macOS).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from jobs.run import PROJECT

INTERVAL_SECONDS = 0.2
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Sample:
    """What the processes hold at a moment, and have read and written until then."""

    at: float
    resident: int
    read: int
    written: int


@dataclass
class Measured:
    """A command that has ended: its lines with when they came, the most that one process of it held, and the samples."""

    seconds: float
    lines: list[tuple[float, str]]
    largest_resident: int
    samples: list[Sample]

    @property
    def total(self) -> Sample:
        """The most that was held, and all that was read and written."""
        resident = max(sample.resident for sample in self.samples)
        return replace(self.samples[-1], at=self.seconds, resident=max(resident, self.largest_resident))

    def between(self, begin: float, end: float) -> Sample:
        """The most that was held between two moments, and what was read and written."""
        before, inside = self._until(begin), [sample for sample in self.samples if begin < sample.at <= end]
        after = self._until(end)
        resident = max((sample.resident for sample in [*inside, before]), default=0)
        return Sample(end, resident, after.read - before.read, after.written - before.written)

    def _until(self, moment: float) -> Sample:
        return next((sample for sample in reversed(self.samples) if sample.at <= moment), Sample(0.0, 0, 0, 0))


def measured(command: list[str], environment: dict[str, str], daemons: Callable[[], Iterable[int]] = tuple) -> Measured:
    """Run a command until all its processes have let go of its output. Exits if it fails.

    ``daemons`` names processes that work for it without being its descendants.
    """
    begun, lines = time.monotonic(), list[tuple[float, str]]()
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, text=True, errors="replace", **piped) as process:
        watch = _Watch(process.pid, daemons, begun)
        with watch:
            lines.extend((time.monotonic() - begun, line.rstrip()) for line in process.stdout or ())
        _, status, used = os.wait4(process.pid, 0)
        seconds, process.returncode = time.monotonic() - begun, os.waitstatus_to_exitcode(status)
        if process.returncode:
            said = "\n".join(line for _, line in lines)
            sys.exit(f"{' '.join(command[:4])} failed: {said[-2000:]}")
    # The kernel knows the most that one process held, also between two samples.
    return Measured(seconds, lines, used.ru_maxrss * _RSS_UNIT, watch.samples)


@dataclass(frozen=True)
class _Seen:
    """A process as it was last seen: its traffic, its parent, and whether it waits for its own children."""

    read: int
    written: int
    parent: int
    waits: bool


@dataclass
class _Watch:
    """Samples the processes in a thread while the block lasts, and once at its end, when the command is not yet forgotten."""

    pid: int
    daemons: Callable[[], Iterable[int]]
    begun: float
    samples: list[Sample] = field(default_factory=list)
    seen: dict[Any, _Seen] = field(default_factory=dict)
    ended: list[_Seen] = field(default_factory=list)

    def __enter__(self) -> _Watch:
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self.is_over.wait(INTERVAL_SECONDS):
            self._sample()

    def _sample(self) -> None:
        running, memory = self._members(), dict[int, Any]()
        for process, parent in running.items():
            try:
                memory[process.pid] = process.memory_info()
                self.seen[process] = _Seen(*_traffic(process), parent, _waits_for_children(process.pid))
            except psutil.Error:
                self.seen.setdefault(process, _Seen(0, 0, parent, False))
        self._bury({process for process in self.seen if process not in running})
        counting = [*self.seen.values(), *self.ended]
        traffic = (sum(one.read for one in counting), sum(one.written for one in counting))
        copies = {p.pid for p, parent in running.items() if _is_copy(memory.get(p.pid), memory.get(parent))}
        resident = sum(found.rss for pid, found in memory.items() if pid not in copies)
        self.samples.append(Sample(time.monotonic() - self.begun, resident, *traffic))

    def _members(self) -> dict[Any, int]:
        """The command, the daemons, all their descendants, and descendants of those that have ended; each with its parent."""
        every = {process.pid: process for process in psutil.process_iter(["ppid"])}
        children: dict[int, list[int]] = {}
        for process in every.values():
            children.setdefault(process.info["ppid"], []).append(process.pid)
        known = (process.pid for process in self.seen if every.get(process.pid) == process)
        waiting, members = [self.pid, *self.daemons(), *known], dict[Any, int]()
        while waiting:
            process = every.get(waiting.pop())
            if process is not None and process not in members:
                members[process] = process.info["ppid"]
                waiting += children.get(process.pid, [])
        return members

    def _bury(self, gone: set[Any]) -> None:
        """Keep the traffic of what has ended, unless the kernel has added it to that of who waited for it."""
        by_pid = {process.pid: process for process in self.seen}

        def is_taken_over(process: Any) -> bool:
            parent = by_pid.get(self.seen[process].parent)
            if parent is None or not self.seen[parent].waits:
                return False
            return parent not in gone or is_taken_over(parent)

        self.ended += [self.seen[process] for process in gone if not is_taken_over(process)]
        for process in gone:
            del self.seen[process]


def _is_copy(memory: Any, of_parent: Any) -> bool:
    """A process that has just been forked has its parent's memory and none of its own; a JVM's would count twice."""
    return bool(memory and of_parent and abs(memory.vms - of_parent.vms) <= of_parent.vms // 1000)


def _waits_for_children(pid: int) -> bool:
    """False of a process that ignores the ends of its children, as PySpark's daemon does, or has ended."""
    try:
        written = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    status = dict(line.split(":", 1) for line in written.splitlines())
    ignores = int(status["SigIgn"], 16) >> (signal.SIGCHLD - 1) & 1
    return not ignores and not status["State"].strip().startswith("Z")


def _traffic(process: Any) -> tuple[int, int]:
    counters = getattr(process, "io_counters", None)
    if counters is None:
        return 0, 0
    found = counters()
    return found.read_chars, found.write_bytes
