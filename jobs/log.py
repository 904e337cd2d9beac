"""What a command says while it works, on standard error: text on a terminal, JSON lines in a pipe (or as FOOTPRINT_LOG says).

A JSON line has ``time`` (UTC), ``level``, ``event``, ``run_id``, ``stage``, ``month`` where there is one, ``seconds`` since the
stage began, and the counts that the event has. What was asked for, such as the summary of a run, goes to standard output.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, merge_contextvars
from structlog.typing import EventDict

_begun: ContextVar[float] = ContextVar("begun")
_log = structlog.get_logger()


def begin(environment: Mapping[str, str], stage: str, month: str | None) -> None:
    """Set up the log of this process. Whoever starts the stages of a run gives all of them its FOOTPRINT_RUN_ID."""
    form = environment.get("FOOTPRINT_LOG") or ("text" if sys.stderr.isatty() else "json")
    as_json = [_seconds, _event, structlog.processors.TimeStamper(fmt="iso", key="time"), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[merge_contextvars, structlog.processors.add_log_level, *(as_json if form == "json" else [_text])],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    clear_contextvars()
    _begun.set(time.monotonic())
    bind_contextvars(run_id=environment.get("FOOTPRINT_RUN_ID") or str(uuid.uuid4()), stage=stage)
    if month:
        bind_contextvars(month=month)


def say(line: str) -> None:
    """Write a line of progress at once. ``counted`` around the call gives it numbers."""
    _log.info(line)


def error(line: str) -> None:
    """Write why the command ends."""
    _log.error(line)


@contextmanager
def of_stage(stage: str) -> Iterator[None]:
    """What is said within is of that stage, and timed from here."""
    before = _begun.set(time.monotonic())
    try:
        with bound_contextvars(stage=stage):
            yield
    finally:
        _begun.reset(before)


counted = bound_contextvars
"""Numbers of what is said within, by name: ``with counted(files=3): …``."""


def _text(_: object, __: str, entry: EventDict) -> str:
    return str(entry["event"])


def _seconds(_: object, __: str, entry: EventDict) -> EventDict:
    entry["seconds"] = round(time.monotonic() - _begun.get(), 1)
    return entry


def _event(_: object, __: str, entry: EventDict) -> EventDict:
    """Without the name of the stage in a column of its own, which a person reads and ``stage`` has."""
    words = str(entry["event"]).split()
    entry["event"] = " ".join(words[1:] if words[:1] == [entry["stage"]] else words)
    return entry
