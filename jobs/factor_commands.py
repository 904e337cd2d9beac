"""The commands ``footprint factors``, ``footprint hypotheses`` and ``footprint scenario``. The first two reach no lake."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from jobs.run import CallError, Refused, Settings, usage_month

Run = Callable[[argparse.Namespace, Settings], None]
Command = Callable[[str, Run, str], argparse.ArgumentParser]
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def add(command: Command) -> None:
    """Add the commands to the parser of ``footprint``."""
    actions = command("factors", _list, "the catalogue of emission factors").add_subparsers(required=True, metavar="ACTION")

    def action(name: str, run: Run, text: str, *options: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        for option in options:
            added.add_argument(option, **_OPTIONS[option])
        return added

    action("list", _list, "what is in force in a month; without one, what is known", "--month", "--as-of", "--brand", "--json")
    show = action("show", _show, "one value with its citation; with a month, what it comes to", "--month", "--as-of", "--json")
    show.add_argument("id", help="as `list` prints it, or factor_id of the table estimated")
    diff = action("diff", _diff, "what differs between two sets, or between two days", "--month", "--as-of", "--brand", "--json")
    diff.add_argument("first", help="a set, or a day as YYYY-MM-DD")
    diff.add_argument("second", help="another of the same kind")
    action("check", _check, "is the folder of factors fit for use, and what was released still as it was")
    action("freeze", _freeze, "keep a hash of all values and assignments that are not yet frozen: they cannot be edited any more")
    hypotheses = command("hypotheses", _hypotheses, "what the figures take for granted, by whom, and until when unquestioned")
    scenario = command("scenario", _scenario, "what a month would come to with other factors or hypotheses; never published")
    for option in ("--month", "--json"):
        hypotheses.add_argument(option, **_OPTIONS[option])
        scenario.add_argument(option, **(_OPTIONS[option] | ({"required": True} if option == "--month" else {})))
    factors = scenario.add_mutually_exclusive_group()
    factors.add_argument("--factors", type=Path, metavar="FOLDER", help="a folder of factors; edited values are allowed")
    factors.add_argument("--set", metavar="NAME", help="a set of the folder of factors, for every brand; one for comparison too")
    scenario.add_argument("--hypothesis", action="append", default=[], metavar="ID", help="compute its alternative; repeatable")


_OPTIONS: dict[str, dict[str, Any]] = {
    "--month": {"metavar": "YYYY-MM"},
    "--as-of": {"metavar": "YYYY-MM-DD", "help": "only what was known on that day"},
    "--brand": {"default": "*", "help": "default: every brand without an assignment of its own"},
    "--json": {"action": "store_true"},
}


@contextmanager
def _refusing() -> Iterator[None]:
    """Factors that cannot be used are data that are refused."""
    from factors.arithmetic import PrecisionError
    from factors.reading import FactorError

    try:
        yield
    except (FactorError, PrecisionError) as error:
        raise Refused(f"the factors: {error}") from None


def _when(call: argparse.Namespace) -> Any:
    from factors.report import When

    return When(usage_month(call.month) if call.month else None, _day(call.as_of) if call.as_of else None)


def _day(text: str) -> date:
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise CallError(f"{text!r} is not a day: write it as YYYY-MM-DD, for example 2026-10-31")


def _list(call: argparse.Namespace, settings: Settings) -> None:
    from factors import report
    from factors.registry import load

    when = _when(call)
    columns: tuple[str, ...]
    with _refusing():
        registry = load(settings.factors)
        if when.month:
            entries = report.serving(registry, call.brand, when.month, when.as_of)
            columns = ("id", "gco2e_per_unit", "gco2e_per_unit_low", "gco2e_per_unit_high", "unit", "status", "mark", "source")
        else:
            entries = report.known(registry, when)
            columns = ("id", "amount", "holds", "known_from", "status", "mark", "source")
    _say(call.json, entries, lambda: _table(entries, columns))


def _show(call: argparse.Namespace, settings: Settings) -> None:
    from factors import report
    from factors.registry import load

    when = _when(call)
    with _refusing():
        entry = report.shown(load(settings.factors), call.id, when)
    _say(call.json, entry, lambda: _facts(entry))


def _diff(call: argparse.Namespace, settings: Settings) -> None:
    from factors import report
    from factors.registry import load

    when, of_days = _when(call), [bool(_DAY.fullmatch(name)) for name in (call.first, call.second)]
    if of_days[0] != of_days[1]:
        raise CallError("diff compares two sets, or two days written as YYYY-MM-DD")
    if of_days[0] and when.as_of:
        raise CallError("diff of two days takes no --as-of: the days are what it compares")
    with _refusing():
        registry = load(settings.factors)
        if of_days[0]:
            entries = report.between_days(registry, call.brand, (_day(call.first), _day(call.second)), when.month)
        else:
            entries = report.between_sets(registry, (call.first, call.second), when)
    _say(call.json, entries, lambda: _differences(entries))


def _check(call: argparse.Namespace, settings: Settings) -> None:
    from factors.check import check

    with _refusing():
        _write(check(settings.factors))


def _freeze(call: argparse.Namespace, settings: Settings) -> None:
    from factors.frozen import FILE, freeze
    from factors.registry import load

    with _refusing():
        added = freeze(settings.factors, load(settings.factors).hashes)
    for identity in added:
        _write(f"frozen    {identity}")
    _write(
        f"freeze    {len(added)} entries added to {settings.factors / FILE}" + (": commit it" if added else ", it is complete")
    )


def _hypotheses(call: argparse.Namespace, settings: Settings) -> None:
    from factors.hypotheses import hypotheses_of, read_hypotheses

    month = usage_month(call.month) if call.month else None
    with _refusing():
        found = hypotheses_of(settings.factors, month) if month else read_hypotheses(settings.factors)
    entries = [
        hypothesis.model_dump(mode="json") | ({"is_expired": hypothesis.is_expired(month)} if month else {})
        for hypothesis in found
    ]
    _say(call.json, entries, lambda: [line for entry in entries for line in (*_facts(entry), "")])


def _scenario(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import scenario
    from jobs.workplace import workplace

    month = usage_month(call.month)
    asked = scenario.Scenario(call.factors.absolute() if call.factors else None, call.set, tuple(sorted(set(call.hypothesis))))
    with _refusing():
        asked.check(settings.factors, month)
    with workplace(settings, "scenario", _write) as opened, _refusing():
        found = scenario.run(opened, month, asked)
    _say(call.json, found, lambda: scenario.in_words(found))


def _say(as_json: bool, content: Any, lines: Callable[[], Sequence[str]]) -> None:
    _write(json.dumps(content, ensure_ascii=False, indent=2, default=str) if as_json else "\n".join(lines()))


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _table(entries: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    rows = [list(columns), *[["-" if entry[name] is None else str(entry[name]) for name in columns] for entry in entries]]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _facts(entry: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in entry.items():
        if isinstance(value, dict):
            lines += [f"{name}:", *[f"  {line}" for line in _facts(value)]]
        elif isinstance(value, list):
            lines += [f"{name:<17} {item}" for item in value]
        elif value not in (None, ""):
            lines.append(f"{name:<17} {value}")
    return lines


def _differences(entries: Sequence[dict[str, Any]]) -> list[str]:
    if not entries:
        return ["no difference"]
    return [line for e in entries for line in (e["what"], f"  - {_or_none(e['first'])}", f"  + {_or_none(e['second'])}")]


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)
