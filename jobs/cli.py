"""The command ``footprint``. Exit codes: 0 done, 1 the data was refused (running again changes nothing), 2 the call was wrong."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path

from jobs import factor_commands, log
from jobs.launch import MISCALLED, REFUSED, STAGES, WITH_RESULT
from jobs.lock import LakeBusy, LockLost
from jobs.postgres import begin_embedded
from jobs.run import PROJECT, CallError, Refused, Settings, place, usage_month
from schemas.source import CHARGING_FORMATS, COUNTER_FORMATS, RADIUS_FORMATS, SAMIS_FORMATS

PINNED = ("meter", "estimate", "verify")
"""Stages with nothing to do once a month is published."""
_TURN_SECONDS = 0.0005
"""A thread that is ready waits for its turn for ten times as long by default: each answer of Java or PostgreSQL would."""
FAILED = 3
"""Neither the data nor the call: something broke on the way, and running again may help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of this process; say in one sentence why it did not work."""
    if arguments is not None:
        return _run_command(arguments)
    sys.setswitchinterval(_TURN_SECONDS)
    code = _run_command(None)
    gc.freeze()  # Python would look for unused objects among all that was imported, for two seconds, before it ends
    return code


def _run_command(arguments: Sequence[str] | None) -> int:
    call = command_line().parse_args(arguments)
    log.begin(os.environ, call.stage, getattr(call, "month", None))
    try:
        call.run(call, Settings.from_environment())
    except (LakeBusy, LockLost) as error:
        return _fail("error", error, FAILED)
    except Refused as error:
        return _fail("refused", error, REFUSED)
    except CallError as error:
        return _fail("error", error, MISCALLED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has seen enough
        return FAILED
    except KeyboardInterrupt:
        return _fail("error", "interrupted; run again to go on", 130)
    except Exception as error:  # noqa: BLE001 - a library's message may quote a subscriber's value
        return _fail("error", _harmless(error), FAILED)
    return 0


def _harmless(error: Exception) -> str:
    """What is known of an error that is not our own, and where in our code; its message may quote a subscriber's value."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    from jobs.lake import LakeError, harmless_cause

    if isinstance(error, LakeError):
        return str(error)
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(PROJECT / "jobs")]
    where = f"in {Path(ours[-1].filename).name} line {ours[-1].lineno}" if ours else "in a library"
    cause = f" {harmless_cause(error)}" if isinstance(error, PySparkException | Py4JJavaError) else ""
    return f"{type(error).__name__}{cause} {where}"


def _fail(kind: str, reason: object, code: int) -> int:
    log.error(f"{kind}: {reason}")
    return code


def say(line: str) -> None:
    """Write a line of what was asked for at once; progress goes to the log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def command_line() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(prog="footprint", description="Monthly data usage and emissions per telecom subscription.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Settings], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run, stage=name)
        return added

    _month(command("run", _run, "run all stages of a month in one process"), is_required=True)
    for stage in STAGES:
        added = command(stage, _stage, _STAGE_HELP[stage])
        if stage == "verify":
            either = added.add_mutually_exclusive_group(required=True)
            either.add_argument(
                "file", nargs="?", type=Path, metavar="FILE", help="a pack, to be verified without lake or network"
            )
            either.add_argument("--month", metavar="YYYY-MM")
        else:
            _month(added, is_required=stage not in ("land", "accept"))
        if stage in WITH_RESULT:
            _result(added)
    _month(command("summary", _summary, "what became of a month's records, and what was published"), is_required=True)
    standing = command("calendar", _calendar, "where each month stands: open, provisional, closed or restated, and what is held")
    standing.add_argument("--json", action="store_true", help="as JSON, amounts as text")
    anew = command("restate", _restate, "publish the next revision of a published month, with what changed and why")
    anew.add_argument("--reason", required=True, help="why, for the ledger and billing")
    anew.add_argument("--approver", help="who approved it, for the ledger")
    _month(anew, is_required=True)
    _result(anew)
    show = command("show", _show, "a subscription's month as the customer area words it")
    show.add_argument("--subscription", required=True, help="the operator's subscription id")
    show.add_argument("--lang", choices=("fr", "en"), default="fr")
    _month(show, is_required=True)
    customers = command("customer-page", _customer_page, "a subscription's page for the customer area, as one HTML file")
    customers.add_argument("--subscription", required=True, help="the operator's subscription id")
    customers.add_argument("--lang", choices=("fr", "en"), default="fr")
    customers.add_argument("--out", required=True, type=Path, metavar="FILE")
    customers.add_argument("--month", metavar="YYYY-MM", help="the latest published one if none is named")
    issued = command("portal-token", _portal_token, "a token that shows a subscription's page in the portal for some minutes")
    issued.add_argument("--subscription", required=True, help="the operator's subscription id")
    portal = command("portal", _portal, "serve the customer's page, read-only, from PostgreSQL")
    portal.add_argument("--host", default="127.0.0.1")
    portal.add_argument("--port", type=int, default=8600)
    why = command("explain", _explain, "what was published of a subscription and why, worked out a second time")
    why.add_argument("--subscription", required=True, help="the operator's subscription id")
    _revision(why)
    why.add_argument("--json", action="store_true", help="as JSON")
    _month(why, is_required=True)
    packed = command("pack", _pack, "write all that a month's figures were worked out from, to be verified without the lake")
    _month(packed, is_required=True)
    _revision(packed)
    packed.add_argument("--out", required=True, type=Path, metavar="FILE")
    exported = command(
        "export", _export, "write published rows or an audit view for others to read: TMF677 reports, Parquet, CSV"
    )
    exported.add_argument("format", choices=("tmf677", "parquet", "csv"))
    exported.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="tmf677: *.jsonl for JSON lines, *.json for an array"
    )
    exported.add_argument("--month", metavar="YYYY-MM", help="of parquet and csv: all months if none is named")
    exported.add_argument("--table", help="of parquet and csv: published, or an audit view")
    exported.add_argument("--subscription", help="of tmf677: the operator's subscription id; all if none is named")
    ask = command("sql", _sql, "ask the lake in SQL: its tables and the audit views; a shell where no query is given")
    ask.add_argument("query", nargs="?", help="one statement; SELECT * FROM dictionary says what there is")
    ask.add_argument("--csv", action="store_true", help="as CSV, all rows")
    beside = command("benchmark", _benchmark, "a month's own ratios beside plausible bands and what others published")
    _month(beside, is_required=True)
    _revision(beside)
    reported = command("report", _report, "write what a month's figures are and how they came about, as one HTML page")
    _month(reported, is_required=True)
    _revision(reported)
    reported.add_argument("--out", type=Path, metavar="FILE", help="by default the place that the summary of a month names")
    key = command("key", _key, "the subscription_key of a subscription id")
    key.add_argument("subscription")
    _month(key, is_required=False)
    rotate = command("rotate-key", _rotate_key, "make a key that serves from a month on; earlier months keep theirs")
    rotate.add_argument("name", choices=("identifier", "serving"))
    rotate.add_argument("--from", dest="month", required=True, metavar="YYYY-MM")
    demo = command("demo", _demo, "write a deterministic month of records into the landing folder")
    demo.add_argument("--subscriptions", type=int, default=2000)
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument("--records-per-day", type=int, default=6)
    demo.add_argument(
        "--formats",
        default="delimited",
        help="some of delimited,ts32297,chf, which share out mobile records, and of deltas,radius,samis, fixed ones",
    )
    _month(demo, is_required=True)
    look = command("decode", _decode, "write the intervals of files of usage records as JSON lines")
    look.add_argument("--format", required=True, choices=(*CHARGING_FORMATS, *COUNTER_FORMATS))
    look.add_argument("--clear", action="store_true", help="identifiers in the clear")
    look.add_argument("--input-octets", choices=("up", "down"), help="RADIUS: what Acct-Input-Octets is to the subscriber")
    look.add_argument("--service-direction-1", choices=("up", "down"), help="SAMIS: what ServiceDirection 1 is to the subscriber")
    look.add_argument("--zone", help="counters: the clock of times without an offset, the legal one by default")
    look.add_argument("--delimiter", help="radacct: between its columns, a comma by default")
    look.add_argument("files", nargs="+", metavar="FILE")
    again = command("reaccept", _reaccept, "withdraw a file's rows and read it anew")
    again.add_argument("file", help="SOURCE/NAME as under the landing folder")
    again.add_argument("--reason", required=True)
    command("upkeep", _upkeep, "erase records and figures that may no longer be kept, and vacuum the tables")
    erase = command("erase", _erase, "erase the figures of a subscription where the law no longer asks for them")
    erase.add_argument("--subscription", required=True, help="the operator's subscription id")
    erase.add_argument("--reason", required=True)
    factor_commands.add(command)
    serving = command("serving", _serving, "the embedded PostgreSQL")
    serving.add_argument("action", choices=("start", "stop", "url"))
    serving.add_argument("--role", choices=("billing", "portal", "auditor"), help="with url: the URL as this reader")
    return parser


_STAGE_HELP = {
    "land": "register the files of the landing folder",
    "accept": "read registered files into the lake",
    "meter": "add up usage per subscription",
    "estimate": "apply emission factors",
    "verify": "judge whether the month is fit to publish; or, of a pack, whether its figures follow from its input",
    "publish": "publish the month to the ledger, the table and PostgreSQL",
}


def _month(parser: argparse.ArgumentParser, is_required: bool) -> None:
    parser.add_argument("--month", required=is_required, metavar="YYYY-MM", help="a calendar month in the legal time zone")


def _result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--result", type=Path, metavar="FILE", help="write the publication that counts to FILE, as JSON")


def _revision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", type=int, metavar="N", help="revision of the month; the one that counts if none is named")


def _run(call: argparse.Namespace, settings: Settings) -> None:
    month = usage_month(call.month)
    begin_embedded(settings)
    from data_quality.judge import load
    from jobs.pseudonyms import load_compiled
    from jobs.spark import Session

    session = Session(settings)
    # All that takes long to start, or to import, does so side by side. Where the run is refused, Java ends with it.
    session.begin(load_compiled, load)
    from jobs import stages, summary
    from jobs.workplace import workplace

    with workplace(settings, f"run {call.month}", log.say, session) as opened:
        try:
            for stage in STAGES:
                stages.run(opened, stage, month)
        finally:
            stages.say_held(opened, month)
        summary.write(opened, month, say)


def _stage(call: argparse.Namespace, settings: Settings) -> None:
    if getattr(call, "file", None):
        _verify_pack(call.file)
        return
    from jobs import stages, summary
    from jobs.workplace import workplace

    month = usage_month(call.month) if call.month else None
    if call.stage in PINNED and month and _is_served(settings, month):
        log.say(f"{call.stage:<9} {call.month} is published: its figures are pinned, nothing to do")
        return
    with workplace(settings, f"{call.stage} {call.month or ''}".strip(), log.say) as opened:
        try:
            stages.run(opened, call.stage, month)
            if call.stage == "publish" and month:
                _write_result(call, stages.published(opened, month))
        finally:
            if call.stage == "publish" and month:
                summary.write(opened, month, say)


def _is_served(settings: Settings, month: date) -> bool:
    """PostgreSQL has the month, so the ledger has it; asked here because starting Spark to find nothing to do takes long."""
    from jobs import serving
    from jobs.postgres import connect
    from jobs.serving_schema import prepare

    with closing(connect(settings)) as connection:
        prepare(connection)
        return month in serving.publication_ids(connection)


def _summary(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import summary
    from jobs.workplace import workplace

    month = usage_month(call.month)
    with workplace(settings, "summary", log.say) as opened:
        summary.write(opened, month, say)


def _calendar(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import close_calendar
    from jobs.workplace import workplace

    with workplace(settings, "calendar", log.say) as opened:
        standings = close_calendar.standings(opened)
    for line in close_calendar.as_json(standings) if call.json else close_calendar.words(standings):
        say(line)


def _restate(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import stages
    from jobs.workplace import workplace

    month, reason, approver = usage_month(call.month), call.reason.strip(), (call.approver or "").strip() or None
    if not reason:
        raise CallError("--reason is empty: the ledger and billing are told why a month is restated")
    with workplace(settings, f"restate {call.month}", log.say) as opened:
        stages.restate(opened, month, reason, approver)
        _write_result(call, stages.published(opened, month))


def _write_result(call: argparse.Namespace, result: Mapping[str, object]) -> None:
    """For whoever started the stage: one JSON object, whole or not at all."""
    if call.result:
        new = call.result.with_name(f"{call.result.name}.new")
        new.write_text(json.dumps(result), encoding="utf-8")
        new.replace(call.result)


def _show(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import customer, serving
    from jobs.postgres import connect
    from jobs.serving_schema import prepare

    month = usage_month(call.month)
    key = _subscription_key(settings, call.subscription, month)
    with closing(connect(settings)) as connection:
        prepare(connection)
        row = serving.published_row(connection, key, month)
        if row is None:
            raise Refused(f"nothing is published for this subscription in {call.month}")
        say(customer.words(row, serving.method_text(connection, row["method_id"], call.lang), call.lang))
        say(customer.revision_words(row, *serving.change_of(connection, row), call.lang))


def _customer_page(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.portal import rows
    from jobs.portal.equivalences import equivalences
    from jobs.portal.page import page
    from jobs.postgres import connect
    from jobs.serving_schema import prepare

    month = usage_month(call.month) if call.month else None
    with closing(connect(settings)) as connection:
        prepare(connection)
        account = rows.account(connection, _every_subscription_key(settings, call.subscription), month, call.lang)
    if account is None:
        raise Refused(f"nothing is published for this subscription{f' in {call.month}' if call.month else ''}")
    try:
        call.out.write_text(page(account, call.lang, equivalences(settings.factors)), encoding="utf-8")
    except OSError as error:
        raise CallError(f"--out: {call.out} cannot be written ({error.strerror})") from None
    say(f"page      {call.out}, {account.month:%Y-%m}, {call.out.stat().st_size:,} octets")


def _portal_token(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.portal.tokens import tokens

    say(tokens(settings).of_subscription(_every_subscription_key(settings, call.subscription)))


def _portal(call: argparse.Namespace, settings: Settings) -> None:
    try:
        from jobs.portal import service
    except ModuleNotFoundError as error:
        raise CallError(f"{error.name} is not installed: the portal is an extra, pip install footprint[portal]") from None
    from jobs import serving

    if not settings.serving_url:
        serving.start(settings)
    service.serve(settings, call.host, call.port, say)


def _explain(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import explain, explain_words

    month = usage_month(call.month)
    explained = explain.explain(settings, month, _subscription_key(settings, call.subscription, month), call.revision)
    if call.json:
        say(explain_words.as_json(explained))
    else:
        for line in explain_words.in_words(explained):
            say(line)
    if not explained.agrees:
        raise Refused(f"the published row is not what the stored volumes give: {len(explained.differences)} differences")


def _pack(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.pack import pack

    if not call.out.parent.is_dir():
        raise CallError(f"--out: {call.out.parent} is not a folder")
    digest = pack(settings, usage_month(call.month), call.revision, call.out)
    say(f"pack      {call.out}, {call.out.stat().st_size:,} octets; its manifest has SHA-256 {digest}")
    say("pack      a controlled document: it holds the exact bytes of each subscription (README.txt)")


def _export(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import export
    from jobs.export_tmf677 import write_tmf677

    month = usage_month(call.month) if call.month else None
    if call.format == "tmf677":
        if month is None or call.table:
            raise CallError("export tmf677 needs --month, and has no --table: it writes what is published")
        key = _subscription_key(settings, call.subscription, month) if call.subscription else None
        count = write_tmf677(settings, month, call.out, key)
    else:
        if call.table not in export.TABLES or call.subscription:
            raise CallError(f"export {call.format} needs --table, one of {', '.join(export.TABLES)}, and has no --subscription")
        with export.opened(settings, call.table, month) as rows:
            count = (export.write_parquet if call.format == "parquet" else export.write_csv)(rows, call.out)
    say(f"export    {call.out}, {count:,} rows, {call.out.stat().st_size:,} octets")


def _verify_pack(file: Path) -> None:
    from jobs.pack_check import check

    checked = check(file)
    for line in (*checked.facts, *checked.differences):
        say(line)
    if checked.differences:
        raise Refused(f"{file}: {len(checked.differences):,} differences")
    say("verified    every hash, every row, every sum: no difference")


def _sql(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.audit_sql import answer, converse, opened

    with opened(settings) as connection:
        if call.query:
            answer(connection, call.query, sys.stdout, call.csv)
        else:
            converse(connection, sys.stdin, sys.stdout, call.csv)


def _benchmark(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.benchmark import benchmark

    for line in benchmark(settings, usage_month(call.month), call.revision):
        say(line)


def _report(call: argparse.Namespace, settings: Settings) -> None:
    try:
        from jobs.report.page import report
    except ModuleNotFoundError as error:
        raise CallError(f"{error.name} is not installed: the report is an extra, pip install footprint[report]") from None
    file = report(settings, usage_month(call.month), call.revision, call.out)
    say(f"report    {file}, {file.stat().st_size:,} octets")


def _key(call: argparse.Namespace, settings: Settings) -> None:
    say(_subscription_key(settings, call.subscription, usage_month(call.month) if call.month else None))


def _subscription_key(settings: Settings, subscription_id: str, month: date | None) -> str:
    """Under the key of the month, or under the latest one."""
    from jobs.legal_calendar import month_number
    from jobs.pseudonyms import SERVING_KEY, terms_of

    keys = terms_of(settings.keys, SERVING_KEY)
    key = keys.of_month(month_number(month or keys.terms[-1].serves_from))
    return key.pseudonym("subscription", subscription_id.strip()).hex()


def _every_subscription_key(settings: Settings, subscription_id: str) -> list[str]:
    """Under each serving key that is there, since a subscription's months may have been published under several."""
    from jobs.pseudonyms import SERVING_KEY, read_key, terms_of

    keys = [read_key(settings.keys, term.file_name) for term in terms_of(settings.keys, SERVING_KEY).terms]
    return [key.pseudonym("subscription", subscription_id.strip()).hex() for key in keys]


def _rotate_key(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.workplace import rotate_key, workplace

    month = usage_month(call.month)
    with workplace(settings, "rotate-key", log.say) as opened:
        term = rotate_key(opened, call.name, month)
    say(f"rotate    {settings.keys / term.file_name} serves from {call.month} on; months before keep their {call.name} key")


def _demo(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import demo

    if "://" in settings.landing:
        raise CallError("FOOTPRINT_LANDING is not a local folder: the demo is written to a local folder only")
    month, formats = usage_month(call.month), call.formats.split(",")
    asked = (call.subscriptions, call.seed, call.records_per_day, formats)
    try:
        made = demo.generate(Path(settings.landing), month, *asked, _progress())
    except ValueError as error:
        raise CallError(str(error)) from None
    files, records = sum(made.files.values()), sum(made.records.values())
    say(f"demo      {files} files with {records:,} records in {settings.landing}; truth in {made.truth}")


def _progress() -> Callable[[str, int, int], None] | None:
    """A line that is written over on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(what: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r{what}: {done:,} of {total:,}" + ("\n" if done == total else ""))

    return show


def _decode(call: argparse.Namespace, settings: Settings) -> None:
    places = [place(file) for file in call.files]
    for option, formats in _DECODED.items():
        if getattr(call, option) is not None and call.format not in formats:
            raise CallError(f"--{option.replace('_', '-')} is for the formats {', '.join(formats)}")
    if call.format in CHARGING_FORMATS:
        from jobs.decode import decode

        decode(call.format, places, call.clear, say, log.say)
        return
    from jobs.decode_counters import decode_counters, source_of
    from jobs.spark import session

    zone = call.zone or settings.legal_timezone.key
    source = source_of(call.format, call.input_octets or call.service_direction_1, zone, call.delimiter or ",")
    decode_counters(source, places, call.clear, lambda: session(settings, "footprint decode"), say, log.say)


_DECODED = {
    "input_octets": RADIUS_FORMATS,
    "service_direction_1": SAMIS_FORMATS,
    "zone": COUNTER_FORMATS,
    "delimiter": ("radacct",),
}
"""Options of ``decode`` that some formats have."""


def _reaccept(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import stages
    from jobs.workplace import workplace

    with workplace(settings, "reaccept", log.say) as opened:
        stages.reaccept_file(opened, call.file, call.reason)


def _upkeep(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.upkeep import upkeep
    from jobs.workplace import workplace

    with workplace(settings, "upkeep", log.say) as opened:
        upkeep(opened)


def _erase(call: argparse.Namespace, settings: Settings) -> None:
    from jobs.upkeep import erase_subscription
    from jobs.workplace import workplace

    with workplace(settings, "erase", log.say) as opened:
        erase_subscription(opened, call.subscription.strip(), call.reason)


def _serving(call: argparse.Namespace, settings: Settings) -> None:
    from jobs import serving
    from jobs.postgres import stop_embedded, url

    if call.action == "start":
        say(serving.start(settings))
    elif call.action == "url":
        say(url(settings, f"footprint_{call.role}" if call.role else None))
    else:
        say("stopped" if stop_embedded(settings) else "it did not run")
