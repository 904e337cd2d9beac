"""Pages made from the code and the data they describe, at each build: nobody has to keep a copy of them fresh.

A Sphinx extension. They are written to ``docs/generated/``, which git does not keep. (Auditors are sent the data dictionary as it
stands, so that is committed, and ``make check`` sees whether it is fresh.)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx

from data_quality.rules import MARKS, Rule, read_rules
from factors import report
from factors.catalogue import Citation, FactorSet
from factors.hypotheses import read_hypotheses
from factors.registry import Registry, load, method_text
from jobs.cli import command_line
from jobs.run import PROJECT, SETTINGS, Settings

DOCS = Path(__file__).resolve().parent
Lines = Iterator[str]


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx looks for pages."""
    app.connect("builder-inited", lambda _: write(DOCS / "generated"))
    return {"parallel_read_safe": True}


def write(folder: Path) -> None:
    """Write each page whose text has changed, and remove those that are of nothing any more."""
    texts = pages()
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in texts:
            path.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Text of each page by its place under the folder."""
    registry = load(PROJECT / "factors")
    made: dict[str, Lines] = {
        "settings.md": _settings(),
        "commands.md": _commands(command_line()),
        "rules.md": _rules(read_rules().values()),
        "hypotheses.md": _hypotheses(),
        "auditor-notebook.md": _notebook(DOCS / "notebooks" / "auditor.ipynb"),
        "factors/index.md": _catalogue(registry),
        "factors/sources.md": _sources(registry.citations),
        **{f"factors/{name}.md": _factor_set(registry, factor_set) for name, factor_set in registry.sets.items()},
    }
    return {name: "\n".join(lines) + "\n" for name, lines in made.items()}


def _settings() -> Lines:
    yield from ("# Settings", "")
    yield "From the environment, read and checked once at the start of every command. A name that is no setting is refused."
    yield ""
    place = PROJECT / "var"
    defaults = Settings.from_environment({})
    given = {name: getattr(defaults, name.removeprefix("FOOTPRINT_").lower(), None) for name in SETTINGS}
    texts = {name: "unset" if value is None else f"`{value}`" for name, value in given.items()}
    shown = {name: text.replace(f"{place}", "var").replace(f"{PROJECT}/", "") for name, text in texts.items()}
    yield from _table(("setting", "default", "meaning"), [(f"`{name}`", shown[name], SETTINGS[name]) for name in SETTINGS])


def _commands(parser: argparse.ArgumentParser) -> Lines:
    yield from ("# Commands", "", "`footprint` is `.venv/bin/footprint`. Exit codes: 0 done; 1 the data was refused, so that")
    yield "running again changes nothing; 2 the call was wrong; 3 something broke on the way, and running again may help."
    for name, command in _commands_of(parser):
        yield from ("", f"## {name}", "", f"{_sentence(command.description or '')}", "", "```text")
        yield command.format_usage().removeprefix("usage: ").rstrip()
        yield from ("```", "")
        options = [a for a in command._actions if not isinstance(a, argparse._HelpAction | argparse._SubParsersAction)]
        explained = [row for row in map(_option, options) if row[1]]
        if explained:
            yield from _table(("option", "meaning"), explained)


def _commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command.prog.removeprefix("footprint "), command
                yield from _commands_of(command)


def _option(action: argparse.Action) -> tuple[str, str]:
    takes = f" {action.metavar or '|'.join(map(str, action.choices or ())) or action.dest.upper()}" if action.nargs != 0 else ""
    names = ", ".join(f"`{name}{takes}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    meaning = [_sentence(action.help)] if action.help else []
    if action.required and action.option_strings:
        meaning.append("Required.")
    if action.default not in (None, False, [], argparse.SUPPRESS) and action.nargs != 0:
        meaning.append(f"Default: `{action.default}`.")
    return names, " ".join(meaning)


def _rules(rules: Iterable[Rule]) -> Lines:
    yield from (
        "# Rules of the verdict",
        "",
        "From `data_quality/limits.toml`. A blocking rule stops publication; what to do then is in",
    )
    yield "[the runbook](../runbook.md). Below `plausible from` subscriptions a rule only warns."
    yield ""
    rows = [
        (
            f"`{rule.name}`",
            rule.network or "each",
            f"{'up' if rule.lowest is None else rule.lowest} to {rule.highest} {rule.unit}",
            "blocks" if rule.is_blocking else "warns",
            str(rule.plausible_from or ""),
            rule.description + (f" Limit: {rule.source}." if rule.source else ""),
            MARKS[rule.mark] if rule.mark else "",
        )
        for rule in rules
    ]
    yield from _table(("rule", "network", "allowed", "", "plausible from", "what it says", "limit checked"), rows)


def _catalogue(registry: Registry) -> Lines:
    yield from (
        "# Factor sets",
        "",
        "What `factors/` holds. How it works, and how to write a set of your own: [](../../factors.md).",
        "",
    )
    yield from _table(
        ("set", "serves", "brand", "known from"),
        [
            (f"[{a.factor_set}]({a.factor_set}.md)", _months(a.from_month, a.until_month), f"`{a.brand}`", str(a.known_from))
            for a in registry.assignments
        ],
    )
    assigned = {a.factor_set for a in registry.assignments}
    yield ""
    yield (
        "Assigned to no month: " + (", ".join(f"[{n}]({n}.md)" for n in sorted(registry.sets.keys() - assigned)) or "none") + "."
    )
    yield from ("", "```{toctree}", *sorted(registry.sets), "sources", "../hypotheses", "```")


def _months(first: Any, end: Any) -> str:
    return f"{first:%Y-%m} on" if end is None else f"{first:%Y-%m} to before {end:%Y-%m}"


def _factor_set(registry: Registry, factor_set: FactorSet) -> Lines:
    yield from (f"# {factor_set.name}", "", factor_set.description, "")
    if factor_set.is_comparison:
        yield from ("For comparison only: no month can be assigned to it.", "")
    facts = {
        "geography": factor_set.geography,
        "perimeter": factor_set.perimeter,
        "year of the data": factor_set.data_year,
        "a gigabyte is": f"{factor_set.gb_basis:,} octets ({factor_set.gb_basis_mark}): {factor_set.gb_basis_note}",
        "volume counts": f"{factor_set.volume_basis} ({factor_set.volume_basis_mark}): {factor_set.volume_basis_note}",
        "method": f"`{factor_set.method_id}`, below as customers read it",
    }
    yield from _table(("", ""), facts.items())
    entries = {e["id"]: e for e in report.known(registry, report.When())}
    rows = [(stated, entries[factor_set.identity(stated)]) for stated in factor_set.stated]
    yield from ("", "## Values", "")
    yield from _table(
        ("value", "amount", "holds", "known since", "status", "source", "checked"),
        [
            (
                f"`{stated.name}`",
                entry["amount"],
                entry["holds"],
                entry["known_from"] + (f", corrected from {entry['corrected_from']}" if entry["corrected_from"] else ""),
                entry["status"].replace("_", " ") + ("" if entry["is_frozen"] else ", not frozen"),
                f"[{stated.source}](sources.md#{stated.source})" + (f", {stated.page}" if stated.page else ", page not recorded"),
                MARKS[stated.mark],
            )
            for stated, entry in rows
        ],
    )
    for stated, _ in rows:
        against = "; ".join(f"{c.amount} in [{c.source}](sources.md#{c.source})" for c in stated.conflicting)
        if stated.note or against:
            yield from ("", f"`{stated.name}`: {stated.note}" + (f" Printed otherwise: {against}." if against else ""))
    for language, title in (("en", "Method"), ("fr", "Méthode")):
        text = method_text(registry.folder, factor_set.method_id, language)
        yield from ("", f"## {title}", "", text.partition("\n")[2].strip())


def _sources(citations: Mapping[str, Citation]) -> Lines:
    yield from ("# Sources", "", "Each citation with its licence and how far it was checked.")
    for name, cited in citations.items():
        yield from ("", f"## {name}", "", f"*{cited.title}*, {cited.publisher}{f', {cited.dated}' if cited.dated else ''}.", "")
        yield f"Where: {cited.address}. Licence: {cited.licence} Checked: {MARKS[cited.mark]}."
        yield from ("", cited.note)


def _hypotheses() -> Lines:
    yield from ("# Hypotheses", "", "What the figures take for granted, by whom, and by when somebody looks at it again.")
    for each in read_hypotheses(PROJECT / "factors"):
        yield from ("", f"## {each.id}", "", each.text, "")
        facts = {
            "why": each.reason,
            "effect": each.expected_effect,
            "months": _months(each.valid_from, each.valid_until),
            "owner": each.owner,
            "expires": each.expires,
            "applied in": f"{each.applies_in}: {each.where}",
            "alternative": f"`footprint scenario --hypothesis {each.id}`" if each.alternative else "none can be computed",
        }
        yield from _table(("", ""), facts.items())


def _notebook(path: Path) -> Lines:
    """The cells as they stand: the tests run them, the site shows them."""
    for cell in nbformat.read(path, as_version=4).cells:
        yield from (("```python", cell.source, "```", "") if cell.cell_type == "code" else (cell.source, ""))


def _table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> Lines:
    yield _row(heads)
    yield "|" + "---|" * len(heads)
    yield from map(_row, rows)


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
