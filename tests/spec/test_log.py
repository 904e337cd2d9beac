"""What a command says while it works: text for a person, JSON lines for a machine, on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from jobs import cli, log
from jobs.run import Refused


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


AS_JSON = {"FOOTPRINT_LOG": "json", "FOOTPRINT_RUN_ID": "run-1"}


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_json_line_has_time_level_event_run_stage_month_seconds_and_counts(capsys):
    log.begin(AS_JSON, "run", "2026-10")
    with log.of_stage("accept"), log.counted(files=3, records=1200):
        log.say("accept    3 files in batch 1")

    (line,) = lines(capsys)
    assert datetime.fromisoformat(str(line.pop("time"))).tzinfo == UTC
    assert 0 <= float(str(line.pop("seconds"))) < 60
    assert line == {
        "level": "info",
        "event": "3 files in batch 1",
        "run_id": "run-1",
        "stage": "accept",
        "month": "2026-10",
        "files": 3,
        "records": 1200,
    }


def test_counts_and_the_stage_end_with_what_they_are_of(capsys):
    log.begin(AS_JSON, "run", "2026-10")
    with log.of_stage("accept"), log.counted(files=3):
        log.say("accept    3 files")
    log.say("held      2 records for 2026-09")

    counted, held = lines(capsys)
    assert (counted["stage"], counted["files"]) == ("accept", 3)
    assert (held["stage"], held["event"], "files" in held) == ("run", "held 2 records for 2026-09", False)


def test_seconds_are_those_of_the_stage(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("jobs.log.time.monotonic", lambda: now[0])
    log.begin(AS_JSON, "run", "2026-10")
    now[0] = 130.0
    with log.of_stage("meter"):
        now[0] = 142.5
        log.say("meter     done")
    log.say("all done")

    assert [line["seconds"] for line in lines(capsys)] == [12.5, 42.5]


def test_text_is_the_line_as_it_was_said(capsys):
    log.begin({"FOOTPRINT_LOG": "text"}, "accept", "2026-10")
    with log.counted(files=3):
        log.say("accept    3 files in batch 1")
    log.error("refused: file 3 is torn")

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "accept    3 files in batch 1\nrefused: file 3 is torn\n")


@pytest.mark.parametrize(("is_terminal", "is_json"), [(True, False), (False, True)])
def test_a_terminal_gets_text_and_a_pipe_json(capsys, monkeypatch, is_terminal, is_json):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    log.begin({}, "land", None)
    log.say("land      2 new")

    assert capsys.readouterr().err.startswith("{") == is_json


def test_a_run_without_an_id_is_given_one_that_all_its_lines_have(capsys):
    seen = set()
    for _ in range(2):
        log.begin({"FOOTPRINT_LOG": "json"}, "land", None)
        log.say("one")
        log.say("two")
        first, second = lines(capsys)
        assert first["run_id"] == second["run_id"]
        seen.add(first["run_id"])
    assert len(seen) == 2


def test_why_a_command_ends_is_a_line_of_level_error(capsys, monkeypatch):
    def refuse(*_: object) -> None:
        raise Refused("file 3 is torn")

    monkeypatch.setattr(cli, "_key", refuse)
    monkeypatch.setenv("FOOTPRINT_LOG", "json")

    assert cli.main(["key", "SUB-1", "--month", "2026-10"]) == 1
    (line,) = lines(capsys)
    assert (line["level"], line["event"], line["month"]) == ("error", "refused: file 3 is torn", "2026-10")
