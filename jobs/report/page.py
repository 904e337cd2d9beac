"""The page: what the lake says of a published month, in figures and tables. No clock: the same lake gives the same octets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data_quality.rules import MARKS
from factors.values import Stated
from jobs import customer
from jobs.benchmark import own_ratios
from jobs.benchmark import said as ratio
from jobs.explain import catalogue
from jobs.lake_reader import Row, publication, reading
from jobs.portal.page import style
from jobs.report import place, standing
from jobs.report import received as receipts
from jobs.report import subscriptions as used
from jobs.report.cells import LEAST_SUBSCRIPTIONS
from jobs.report.drawing import FULL, HALF, Bar, Told, bars, drawn, heat, sankey
from jobs.report.numbers import gigabytes, measured, percent, seconds, signed, tonnes, whole
from jobs.report.tables import Sheet
from jobs.run import CallError, Settings, revision_name
from schemas.source import SourceError, read_sources
from schemas.tables import TABLES

_TEMPLATES = Path(__file__).resolve().parent / "templates"
NODES_DRAWN = 20
"""Network elements that the heat map shows, the least complete first; the table has them all."""
HEAT = (
    (1.0, "100 %"),
    (0.999, "99.9 % and more"),
    (0.99, "99 % and more"),
    (0.95, "95 % and more"),
    (0.0, "less than 95 %"),
)
"""Classes of completeness, from the fullest colour on; the last colour is of a day without a record."""
SILENT = (
    (0.75, "75 % and more"),
    (0.5, "50 % and more"),
    (0.25, "25 % and more"),
    (0.1, "10 % and more"),
    (0.0, "less than 10 %"),
)
"""Classes of a day's octets beside the source's median day; under a tenth it is a silent day (rule silent_days)."""


SECTIONS = (
    ("published", "What was published"),
    ("received", "What was received, and what became of it"),
    ("completeness", "Completeness"),
    ("subscriptions", "What a subscription used and emitted"),
    ("technologies", "By network and technology"),
    ("months", "Beside earlier months"),
    ("restatements", "Revisions and restatements"),
    ("plausibility", "Plausibility"),
    ("verdict", "Verdict"),
    ("factors", "Factors and hypotheses"),
    ("times", "Time of the stages"),
)
"""The parts of the page by their id."""


@dataclass(frozen=True)
class Shown:
    """A figure with its caption and the table that says the same."""

    picture: Markup
    caption: str
    sheet: Sheet


def report(settings: Settings, usage_month: date, revision: int | None, out: Path | None) -> Path:
    """Write the report of a month.

    Args:
        settings: where lake, factors, Data Docs and reports are.
        usage_month: the month.
        revision: revision of the month; None for the one that counts.
        out: the file; None for its place among the reports.

    Returns:
        The file.

    Raises:
        Refused: nothing is published for the month, or the factors are others.
        CallError: the file cannot be written, or a source cannot be read.
    """
    if out is not None and not out.parent.is_dir():
        raise CallError(f"--out: {out.parent} is not a folder")
    with reading(settings.lake, TABLES) as connection:
        published = publication(connection, usage_month, revision)
        file = out or place(settings, usage_month, published["revision"])
        text = page(connection, settings, published, file)
    try:
        if out is None:
            file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CallError(f"--out: {file} cannot be written ({error.strerror})") from None
    return file


def page(connection: duckdb.DuckDBPyConnection, settings: Settings, published: Row, file: Path) -> str:
    """The page as it stands in a file, from which its links lead."""
    try:
        sources = read_sources(settings.sources)
    except SourceError as error:
        raise CallError(str(error)) from None
    zone = settings.legal_timezone.key
    found = receipts.received(connection, published, zone, [name for name, s in sources.items() if s.kind == "subscriptions"])
    sums = used.totals(connection, published)
    flow = receipts.volume_flow(connection, published, found, {each.networks: each.octets for each in sums}) if sums else None
    registry = catalogue(settings, connection, published)
    applied, citations = standing.factors_applied(connection, registry, published)
    shown_months = used.months(connection, published)
    ledger = standing.revisions(connection, published, shown_months[0].publication["usage_month"])
    docs = settings.data_docs / revision_name(published["usage_month"], published["revision"]) / "index.html"
    return _environment().get_template("report.html").render(
        style=Markup(style()),
        month=customer.month_name(published["usage_month"], "en"),
        published=published,
        published_at=_instant(published["published_at"]),
        sections=SECTIONS,
        tiles=_tiles(published, sums, found),
        sums=_sums(sums),
        records=_records(found),
        reasons=_reasons(found),
        unread=found.without_time,
        volumes=_volumes(flow) if flow and flow.links else None,
        complete=_complete(receipts.completeness(connection, published)),
        distributions=_distributions(connection, published, sums),
        technologies=_technologies(connection, published, sums),
        months=_months(shown_months),
        changes=_changes(used.changes(shown_months)),
        revisions=_revisions(ledger),
        causes=_causes(standing.restatements(connection, ledger)),
        factors=_factors(applied),
        citations=citations,
        marks=MARKS,
        hypotheses=standing.hypotheses(settings, published),
        plausibility=_plausibility(sums),
        verdict=(judged := standing.verdict(connection, published, all(len(each.networks) == 1 for each in sums) and bool(sums))),
        evidence=_evidence(judged),
        docs=os.path.relpath(docs, file.parent) if docs.is_file() else None,
        times=_times(standing.stage_times(connection, published)),
        least=LEAST_SUBSCRIPTIONS,
    )  # fmt: skip


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _instant(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _tiles(published: Row, sums: Sequence[used.Totals], found: receipts.Received) -> list[dict[str, str]]:
    received = found.total("records_received")
    tiles = [(whole(received), "records received"), (percent(found.total("records_accepted"), received), "of them accepted")]
    if sums:
        octets, grams = sum(each.octets for each in sums), sum((each.gco2e for each in sums), Decimal(0))
        tiles = [
            (whole(sum(each.subscriptions for each in sums)), "subscriptions"),
            (gigabytes(octets).removesuffix(" GB"), "GB sent and received"),
            (tonnes(grams), "CO2e attributed"),
            *tiles,
        ]
    return [{"value": value, "words": words} for value, words in tiles]


def _sums(sums: Sequence[used.Totals]) -> Sheet:
    rows = [
        [
            each.name,
            whole(each.subscriptions),
            gigabytes(each.octets),
            tonnes(each.volume_gco2e),
            tonnes(each.gco2e - each.volume_gco2e),
            tonnes(each.gco2e),
            "too few to tell" if each.estimated is None else whole(each.estimated),
        ]
        for each in sums
    ]
    heads = (
        "Network",
        "Subscriptions",
        "Volume",
        "CO2e, volume part",
        "CO2e, subscription part",
        "CO2e",
        "Estimated data",
    )
    volume = sum((each.volume_gco2e for each in sums), Decimal(0))
    grams = sum((each.gco2e for each in sums), Decimal(0))
    whole_month = [
        "All",
        whole(sum(each.subscriptions for each in sums)),
        gigabytes(sum(each.octets for each in sums)),
        *(tonnes(volume), tonnes(grams - volume), tonnes(grams), ""),
    ]
    nothing = f"There are fewer than {LEAST_SUBSCRIPTIONS} subscriptions: nothing is told of what they used."
    return Sheet("Published, by network", heads, rows, range(1, 7), whole_month if len(rows) > 1 else (), nothing)


def _records(found: receipts.Received) -> Shown | None:
    received = found.total("records_received")
    if not received:
        return None
    outcomes = [f"records_{outcome}" for outcome in receipts.OUTCOMES]
    told = ", ".join(f"{whole(found.total(name))} {name.removeprefix('records_').replace('_', ' ')}" for name in outcomes)
    columns = ["files", "records_received", *outcomes, "octets_received", "octets_quarantined"]
    return Shown(
        drawn(
            Told("records", "Flow of records", f"{whole(received)} records received from {len(found.sources)} sources: {told}."),
            FULL,
            sankey(receipts.record_flow(found), whole, received),
        ),
        "Records from their source to what became of them, of files whose last record closed in the month. Widths are records; a"
        " flow too thin to be seen is a hair.",
        Sheet(
            "Records by source, and the octets of their files",
            (
                "Source",
                "Files",
                "Received",
                "Accepted",
                "Duplicate",
                "Rejected",
                "Out of scope",
                "Octets of files",
                "Quarantined",
            ),
            [[row["source"], *(whole(row[name]) for name in columns)] for row in found.sources],
            range(1, 9),
            ["All", *(whole(found.total(name)) for name in columns)],
        ),
    )


def _reasons(found: receipts.Received) -> Sheet:
    rows = [
        [reason.replace("_", " "), outcome.replace("_", " "), whole(records)]
        for outcome, reasons in found.reasons.items()
        for reason, records in sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    ]
    return Sheet(
        "Records that do not count, by reason",
        ("Reason", "What became of it", "Records"),
        rows,
        (2,),
        nothing="Every record counts.",
    )


def _volumes(flow: Any) -> Shown:
    whole_volume = sum(flow.out_of(node.name) for node in flow.layers[0])
    ends = ", ".join(f"{gigabytes(flow.into(node.name))} {node.name}" for layer in flow.layers[1:] for node in layer)
    return Shown(
        drawn(
            Told("volumes", "Flow of octets", f"{gigabytes(whole_volume)} measured for subscribers: {ends}."),
            FULL,
            sankey(flow, gigabytes, whole_volume),
        ),
        "What subscribers sent and received, from its source to what is published. Widths are octets. «Other files» and «other"
        " months» are what files hold of a month other than that of their last record, on balance.",
        Sheet(
            "Octets from source to publication",
            ("From", "To", "Octets", "Volume"),
            [[source, to, whole(octets), gigabytes(octets)] for (source, to), octets in flow.links.items()],
            (2, 3),
        ),
    )


@dataclass(frozen=True)
class Heat:
    """A heat map with the words of its classes."""

    shown: Shown
    legend: Sequence[str]


def _class_of(share: float | None, classes: Sequence[tuple[float, str]]) -> int:
    """5 for the first class, down to 1 for the last; 0 where nothing came."""
    if share is None:
        return 0
    return len(classes) - next(place for place, (least, _) in enumerate(classes) if share >= least)


def _complete(found: receipts.Completeness) -> list[Heat]:
    heads = [str(day.day) for day in found.days]
    maps = []
    if found.nodes:
        maps.append(Heat(_nodes(found, heads), [*(words for _, words in HEAT), "no record"]))
    if found.sources:
        maps.append(Heat(_sources(found, heads), [*(words for _, words in SILENT), "nothing"]))
    return maps


def _nodes(found: receipts.Completeness, heads: Sequence[str]) -> Shown:
    def share(came: int, missing: int) -> float:
        return came / (came + missing)

    counts = {node: found.of_node(node) for node in found.nodes}
    worst = sorted(counts, key=lambda node: (share(*counts[node]), node))
    lines = [
        (f"{node} ({source})", [_class_of(share(*by_day[day]) if day in by_day else None, HEAT) for day in found.days])
        for source, node in worst[:NODES_DRAWN]
        for by_day in [found.nodes[source, node]]
    ]
    rows = []
    for source, node in worst:
        came, missing = counts[source, node]
        gaps = [f"{day.day} ({whole(lost)})" for day, (_, lost) in sorted(found.nodes[source, node].items()) if lost]
        silent = [str(day.day) for day in found.days if day not in found.nodes[source, node]]
        rows.append([
            node, source, whole(came), whole(missing), percent(came, came + missing),
            ", ".join(gaps) or "none", ", ".join(silent) or "none",
        ])  # fmt: skip
    missing = sum(lost for _, lost in counts.values())
    left_out = f" The {NODES_DRAWN} least complete of {len(worst)} are drawn." if len(worst) > NODES_DRAWN else ""
    return Shown(
        drawn(
            Told("nodes", "Completeness by network element and day", f"{len(worst)} network elements numbered their records; "
                 f"{whole(missing)} numbers never came."),
            FULL,
            heat(lines, heads),
        ),
        f"Records that came, of those that each network element numbered, by day (UTC).{left_out}",
        Sheet(
            "Completeness of numbered records by network element",
            ("Network element", "Source", "Records", "Missing", "Complete", "Days with missing numbers", "Days without a record"),
            rows,
            (2, 3, 4),
        ),
    )  # fmt: skip


def _sources(found: receipts.Completeness, heads: Sequence[str]) -> Shown:
    lines = [(source, [_class_of(by_day[day], SILENT) for day in found.days]) for source, by_day in found.sources.items()]
    rows = []
    for source, by_day in found.sources.items():
        there = {day: share for day, share in by_day.items() if share is not None}
        least = min(there, key=lambda day: (there[day], day))
        silent = [str(day.day) for day, share in by_day.items() if share is None or share < SILENT[-2][0]]
        rows.append([source, str(least.day), percent(there[least], 1), ", ".join(silent) or "none"])
    return Shown(
        drawn(
            Told(
                "sources",
                "Volume by source and day",
                f"Octets of each of {len(lines)} sources, day by day, beside its median day.",
            ),
            FULL,
            heat(lines, heads),
        ),
        "Octets of each source and legal day beside the source's median day: a day that fails is seen though nothing numbers it.",
        Sheet(
            "Volume of sources beside their median day",
            ("Source", "Weakest day", "Of the median", "Days under a tenth of it"),
            rows,
            (1, 2),
        ),
    )


def _distributions(connection: duckdb.DuckDBPyConnection, published: Row, sums: Sequence[used.Totals]) -> list[Shown]:
    found = []
    for each in sums:
        for shown in used.distributions(connection, published, each.networks):
            measure = "volume" if shown.unit == "GB" else "footprint"
            title = f"{each.name.capitalize()}: subscriptions by {measure}"
            most = max(shown.classes, key=lambda one: one[1], default=("", 0))
            told = f"{whole(each.subscriptions)} subscriptions; most, {whole(most[1])}, have {most[0]} {shown.unit}."
            lines = [Bar(label, [(count, each.tone)], percent(count, each.subscriptions)) for label, count in shown.classes]
            sheet = Sheet(
                f"{title}, {shown.unit}",
                (f"{shown.unit} of a subscription", "Subscriptions", "Share"),
                [[label, whole(count), percent(count, each.subscriptions)] for label, count in shown.classes],
                (1, 2),
                nothing="Classes are not told apart: some would hold too few subscriptions.",
            )
            name = f"{'-'.join(each.networks)}-{measure}"
            found.append(Shown(drawn(Told(name, title, told), HALF, bars(lines, 128, 58)), f"{title}, {shown.unit}.", sheet))
    return found


def _technologies(connection: duckdb.DuckDBPyConnection, published: Row, sums: Sequence[used.Totals]) -> list[Shown]:
    found = []
    for each in sums:
        parts = used.technologies(connection, published, each.networks)
        volume = sum((part.gigabytes for part in parts), Decimal(0))
        grams = sum((part.gco2e for part in parts), Decimal(0))
        title = f"{each.name.capitalize()}: volume by access technology"
        lines = [Bar(part.name, [(float(part.gigabytes), each.tone)], percent(part.gigabytes, volume)) for part in parts]
        sheet = Sheet(
            f"{title}, at home or roaming",
            ("Technology", "Volume", "Share", "CO2e of the volume"),
            [
                [part.name, gigabytes(part.gigabytes.scaleb(9)), percent(part.gigabytes, volume), tonnes(part.gco2e)]
                for part in parts
            ],
            (1, 2, 3),
            ["All", gigabytes(volume.scaleb(9)), percent(volume, volume), tonnes(grams)] if len(parts) > 1 else (),
            nothing="Too few used anything to be told of.",
        )
        told = Told(f"{'-'.join(each.networks)}-technology", title, f"{gigabytes(volume.scaleb(9))} in {len(parts)} parts.")
        found.append(Shown(drawn(told, HALF, bars(lines, 150, 58)), f"{title}, at home or roaming.", sheet))
    return found


@dataclass(frozen=True)
class Months:
    """Figures of the months, and the one table that says what both show."""

    pictures: Sequence[Shown]
    sheet: Sheet


def _months(shown: Sequence[used.MonthShown]) -> Months:
    rows, volumes, grams = [], [], []
    for each in shown:
        month, revision = f"{each.publication['usage_month']:%Y-%m}", str(each.publication["revision"])
        label = f"{customer.month_name(each.publication['usage_month'], 'en')}"
        octets, gco2e = sum(t.octets for t in each.totals), sum((t.gco2e for t in each.totals), Decimal(0))
        said = (gigabytes(octets), tonnes(gco2e)) if each.totals else ("erased or too few",) * 2
        volumes.append(Bar(label, [(t.octets / 1e9, t.tone) for t in each.totals], said[0]))
        grams.append(Bar(label, [(float(t.gco2e), t.tone) for t in each.totals], said[1]))
        for part in each.totals:
            kilograms = f"{part.gco2e / part.subscriptions:,.0f} g"
            mean = gigabytes(Decimal(part.octets) / part.subscriptions)
            rows.append([
                month, revision, part.name, whole(part.subscriptions), gigabytes(part.octets), tonnes(part.gco2e), mean, kilograms
            ])  # fmt: skip
        if not each.totals:
            rows.append([month, revision, "figures erased, or too few to tell", *["-"] * 5])
    heads = ("Month", "Revision", "Network", "Subscriptions", "Volume", "CO2e", "Volume of each", "CO2e of each")
    sheet = Sheet("Months as they stand, by network", heads, rows, (1, 3, 4, 5, 6, 7), is_long=True)
    found = []
    for name, title, lines in (("volume", "Volume by month", volumes), ("grams", "CO2e by month", grams)):
        told = Told(f"months-{name}", title, f"{len(shown)} months, fixed and mobile: {lines[-1].label} {lines[-1].value}.")
        found.append(Shown(drawn(told, HALF, bars(lines, 118, 96)), f"{title}, by network.", sheet))
    return Months(found, sheet)


def _changes(pairs: Iterable[tuple[used.Totals, used.Totals]]) -> Sheet:
    def change(before: int | Decimal, now: int | Decimal) -> str:
        return f"{signed(100 * (Decimal(now) / Decimal(before) - 1))} %" if before else "-"

    rows = [
        [
            now.name,
            change(before.subscriptions, now.subscriptions),
            change(before.octets, now.octets),
            change(before.gco2e, now.gco2e),
            change(Decimal(before.octets) / before.subscriptions, Decimal(now.octets) / now.subscriptions),
            change(before.gco2e / before.subscriptions, now.gco2e / now.subscriptions),
        ]
        for before, now in pairs
    ]
    heads = ("Network", "Subscriptions", "Volume", "CO2e", "Volume of each", "CO2e of each")
    return Sheet("Against the month before", heads, rows, range(1, 6), nothing="The month before was not published.")


def _revisions(ledger: Sequence[Row]) -> Sheet:
    rows = [
        [
            f"{each['usage_month']:%Y-%m}",
            str(each["revision"]),
            f"{each['published_at']:%Y-%m-%d}",
            each["reason"],
            each["approver"] or "-",
            each["factor_sets"],
            each["figures_hash"][:16],
            each["code_version"],
        ]
        for each in ledger
    ]
    heads = ("Month", "Revision", "Published", "Why", "Approved by", "Factors", "Figures hash", "Code")
    return Sheet("Every publication of these months", heads, rows, (1, 2))


def _causes(found: Sequence[standing.Restatement]) -> Sheet:
    rows = []
    for each in found:
        for cause in each.causes:
            few = cause["subscriptions"] is None
            rows.append([
                f"{each.publication['usage_month']:%Y-%m}, revision {each.publication['revision']}",
                cause["network"],
                cause["cause"].replace("_", " "),
                "too few to tell" if few else whole(cause["subscriptions"]),
                "withheld" if few else f"{signed(Decimal(cause['octets']).scaleb(-9), 3)} GB",
                "withheld" if few else f"{signed(cause['gco2e'], 1)} g",
                each.publication["reason"],
            ])  # fmt: skip
        if not each.causes:
            named = f"{each.publication['usage_month']:%Y-%m}, revision {each.publication['revision']}"
            rows.append([named, "-", "no figure changed", "-", "-", "-", each.publication["reason"]])
    heads = ("Restated", "Network", "Cause", "Subscriptions", "Volume", "CO2e", "Why")
    return Sheet("Restatements by network and cause", heads, rows, (3, 4, 5), nothing="No month shown here was restated.")


def _factors(applied: Sequence[standing.Applied]) -> Sheet:
    rows = []
    for each in applied:
        value = each.value
        note = "; ".join(filter(None, (value.note, *(f"conflicting: {o.amount} ({o.source})" for o in value.conflicting))))
        rows.append([
            f"{each.network}, {each.component}", each.factor_id, measured(each.gco2e_per_unit), value.unit,
            value.status.replace("_", " "), _source(value), note or "-",
        ])  # fmt: skip
        rows += [
            [
                f"{each.network}, {each.component}: part",
                name,
                measured(part.amount),
                part.unit,
                part.status.replace("_", " "),
                _source(part),
                part.note or "-",
            ]
            for name, part in each.parts
        ]
    heads = ("Applied to", "Factor", "Amount", "Unit", "Status", "Source", "Note")
    return Sheet("Factors applied", heads, rows, (2,))


def _source(stated: Stated) -> str:
    page = f", p. {stated.page}" if stated.page else ""
    return f"{stated.source}{page} ({MARKS[stated.mark]})"


def _plausibility(sums: Sequence[used.Totals]) -> list[Sheet]:
    sheets = []
    for each in sums:
        if len(each.networks) > 1:
            continue
        ratios = own_ratios(each.name, each.subscriptions, each.octets, each.volume_gco2e, each.gco2e)
        rows = []
        for own in ratios:
            where = f"{own.rule.source or '-'} ({MARKS[own.rule.mark]})" if own.rule.mark else own.rule.source or "-"
            rows.append([own.words, own.said, own.rule.unit, own.band, own.judged, where])
            rows += [
                [f"beside: {other.of}", ratio(other.value), other.unit, "-", f"own is {share:.2f} of it",
                 f"{other.source} ({MARKS[other.mark]})"]
                for other, share in own.beside
            ]  # fmt: skip
        heads = ("Ratio", "Value", "Unit", "Plausible", "Judged", "Source")
        sheets.append(Sheet(f"{each.name.capitalize()}: own ratios, their bands and what others published", heads, rows, (1, 3)))
    return sheets


def _evidence(judged: standing.Verdict) -> Sheet:
    def limits(row: Row) -> str:
        low, high = measured(row["lowest"]), measured(row["highest"])
        return f"up to {high}" if row["lowest"] is None else f"from {low}" if row["highest"] is None else f"{low} to {high}"

    rows = [
        [
            row["rule"].replace("_", " "),
            row["network"],
            measured(row["measured"]),
            limits(row),
            row["unit"],
            "met" if row["passed"] else "not met",
            "stops the month" if row["is_blocking"] else "warns",
        ]
        for row in judged.evidence
    ]
    heads = ("Rule", "Network", "Measured", "May be", "Unit", "Judged", "If not met")
    return Sheet("What was measured, rule by rule", heads, rows, (2, 3), is_long=True)


def _times(times: Sequence[standing.StageTime]) -> Shown | None:
    if not times:
        return None
    lines = [Bar(each.stage, [(each.seconds, "source")], seconds(each.seconds)) for each in times]
    whole_time = sum(each.seconds for each in times)
    told = Told("times", "Time of each stage", f"{len(times)} stages took {seconds(whole_time)} in all.")
    sheet = Sheet(
        "Time of the stages that led to this publication",
        ("Stage", "Time", "Share", "Code"),
        [[each.stage, seconds(each.seconds), percent(each.seconds, whole_time), each.code_version] for each in times],
        (1, 2),
        ["All", seconds(whole_time), percent(whole_time, whole_time), ""],
    )
    return Shown(drawn(told, HALF, bars(lines, 80, 90)), "Work of each stage, without the start of Spark.", sheet)
