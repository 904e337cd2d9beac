"""The stages by name, as the CLI and Airflow call them, and what each says when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import Any

from pyspark.sql import Row

from jobs import ledger
from jobs.accept import accept, reaccept
from jobs.lake import in_month
from jobs.land import land, read_deliveries, sequence_gaps
from jobs.legal_calendar import months_before
from jobs.log import counted, of_stage
from jobs.month import estimate_month, is_left_behind, meter_month
from jobs.publish import publish_month
from jobs.restate import restate_month
from jobs.run import CallError, Refused, code_version
from jobs.verify import is_published, latest_verdict, verify_month
from jobs.workplace import Workplace
from schemas.tables import CORRECTIONS, RESTATEMENTS, STAGE_RUNS


def run(workplace: Workplace, stage: str, usage_month: date | None) -> None:
    """Run one stage and say in a line what it did. Raises Refused and CallError as the stage does."""
    is_pinned = usage_month is not None and is_published(workplace, usage_month)
    work = _work(workplace, stage, usage_month, is_pinned)
    with of_stage(stage):
        if usage_month is None or is_pinned:
            work()  # the times that are kept stay those of the work that led to the publication
            return
        with timed(workplace, stage, usage_month):
            work()


def _work(workplace: Workplace, stage: str, usage_month: date | None, is_pinned: bool) -> Callable[[], None]:
    if stage in _OF_FILES:
        return partial(_OF_FILES[stage], workplace)
    if usage_month is None:
        raise CallError(f"{stage} needs --month YYYY-MM")
    if stage != "publish" and is_pinned:
        nothing = f"{stage:<9} {usage_month:%Y-%m} is published: its figures are pinned, nothing to do"
        return partial(workplace.say, nothing)
    return partial(_OF_MONTH[stage], workplace, usage_month)


@contextmanager
def timed(workplace: Workplace, stage: str, usage_month: date) -> Iterator[None]:
    """Keep in the lake, where a cluster and every engine see it, how long a stage took that came to its end."""
    began_at = workplace.now()
    yield
    ended_at = max(began_at, workplace.now())  # a clock may have been set back in between
    run = {"usage_month": usage_month, "stage": stage, "began_at": began_at, "ended_at": ended_at}
    workplace.lake.append_rows(STAGE_RUNS, [run | {"code_version": code_version()}])


def published(workplace: Workplace, usage_month: date) -> dict[str, Any]:
    """The publication of a month that counts, of the ledger: what others are told who work on when a month was published."""
    publication = ledger.current(workplace.lake, usage_month)
    assert publication is not None
    return {
        "month": f"{usage_month:%Y-%m}",
        "revision": publication.revision,
        "publication_id": publication.publication_id,
        "rows": publication.subscriptions,
        "factor_sets": publication.factor_sets.split(", "),
        "figures_hash": publication.figures_hash,
    }


def reaccept_file(workplace: Workplace, file: str, reason: str) -> None:
    """Withdraw the rows of a file, named SOURCE/NAME, and read it anew. Raises CallError, Refused."""
    source, _, name = file.partition("/")
    known = [d for d in read_deliveries(workplace.lake) if (d.source, d.file_name) == (source, name) and d.status != "refused"]
    if not known:
        raise CallError(f"{file} was never read: name it as SOURCE/NAME, as under the landing folder")
    number = reaccept(workplace, known[-1], reason)
    workplace.say(f"reaccept  {file} read anew in batch {number}: {reason}")


def restate(workplace: Workplace, usage_month: date, reason: str, approver: str | None) -> None:
    """Publish the next revision of a month, and say what changed and why. Raises Refused."""
    with timed(workplace, "restate", usage_month):
        publication = restate_month(workplace, usage_month, reason, approver)
    _say_published(workplace, "restate", publication)
    for row in workplace.lake.small(RESTATEMENTS):
        if row.publication_id == publication.publication_id and (row.gco2e or row.octets):
            workplace.say(
                f"restate   {row.network}, {row.cause.replace('_', ' ')}: {row.gco2e:+,.3f} gCO2e, {row.octets / 1e9:+,.3f} GB, "
                f"{row.subscriptions:,} subscriptions"
            )
    told = workplace.lake.read(CORRECTIONS, in_month(usage_month)).where(f"publication_id = {publication.publication_id}")
    workplace.say(f"restate   {told.count():,} corrections for billing")
    following = months_before(usage_month, -1)
    if is_left_behind(workplace.lake, following):
        workplace.say(f"restate   {following:%Y-%m} is left behind: it counts from counters of {usage_month:%Y-%m} that changed")


def _say_published(workplace: Workplace, stage: str, publication: Row) -> None:
    with counted(**published(workplace, publication.usage_month)):
        workplace.say(
            f"{stage:<9} {publication.usage_month:%Y-%m} revision {publication.revision}, publication "
            f"{publication.publication_id}: {publication.subscriptions:,} subscriptions, figures {publication.figures_hash[:16]}"
        )


def say_held(workplace: Workplace, usage_month: date) -> None:
    """Say what is held for months other than the one that runs."""
    for month, late in ledger.held(workplace.lake).items():
        if month != usage_month:
            workplace.say(f"held      {_in_words(late)} for {month:%Y-%m}, which is published: they wait for its restatement")


def _land(workplace: Workplace) -> None:
    deliveries = land(workplace.lake, workplace.settings.landing, workplace.sources, workplace.now())
    for delivery in deliveries:
        if delivery.status == "refused":
            workplace.say(f"land      {delivery.source}/{delivery.file_name} is refused: {delivery.reason}")
    counts = {status: sum(d.status == status for d in deliveries) for status in ("new", "superseding", "duplicate", "refused")}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no new file"
    gaps = sequence_gaps(read_deliveries(workplace.lake))
    for series, numbers in gaps.items():
        workplace.say(f"land      {series}: {len(numbers)} missing in the sequence, the first {numbers[0]}")
    with counted(files=len(deliveries), new_files=counts["new"] + counts["superseding"]):
        workplace.say(f"land      {said}")


def _accept(workplace: Workplace) -> None:
    done = accept(workplace)
    if not done:
        workplace.say("accept    nothing new to read")
        return
    rows = [row for batch in done for row in batch.balances]
    total = {
        name: sum(row[f"records_{name}"] for row in rows)
        for name in ("received", "accepted", "duplicate", "rejected", "out_of_scope")
    }
    names = {d.file_number: f"{d.source}/{d.file_name}" for d in read_deliveries(workplace.lake)}
    for batch in done:
        for number, fault in sorted(batch.faults.items()):
            workplace.say(f"accept    {names[number]} could not be read to its end: {fault}")
    words = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in total.items())
    with counted(files=len(rows), **{f"{'' if name == 'received' else name + '_'}records": n for name, n in total.items()}):
        workplace.say(f"accept    {len(rows)} files in batch {', '.join(str(batch.number) for batch in done)}: {words}")


def _meter(workplace: Workplace, usage_month: date) -> None:
    subscriptions, rows = meter_month(workplace, usage_month)
    with counted(subscriptions=subscriptions, rows=rows):
        workplace.say(f"meter     {subscriptions:,} subscriptions active, {rows:,} rows of usage")


def _estimate(workplace: Workplace, usage_month: date) -> None:
    components = estimate_month(workplace, usage_month)
    with counted(components=components):
        workplace.say(f"estimate  {components:,} components")


def _verify(workplace: Workplace, usage_month: date) -> None:
    verify_month(workplace, usage_month)
    verdict = latest_verdict(workplace, usage_month)
    with counted(rules=verdict.rules, warnings=verdict.warnings):
        workplace.say(f"verify    {verdict.rules} rules judged, {verdict.warnings} warnings: {verdict.summary}")


def _publish(workplace: Workplace, usage_month: date) -> None:
    publication = publish_month(workplace, usage_month)
    _say_published(workplace, "publish", publication)
    late = ledger.held(workplace.lake).get(usage_month)
    if late:
        raise Refused(
            f"{usage_month:%Y-%m} is published as revision {publication.revision}; {_in_words(late)} came later and are held "
            f"until it is restated"
        )


def _in_words(late: ledger.Held) -> str:
    words = f"{late.records:,} records with {late.octets / 1e9:.3f} GB"
    if late.withdrawn_records:
        words += f", and the withdrawal of {late.withdrawn_records:,} with {late.withdrawn_octets / 1e9:.3f} GB,"
    return words


_OF_FILES: dict[str, Callable[[Workplace], None]] = {"land": _land, "accept": _accept}
_OF_MONTH: dict[str, Callable[[Workplace, date], None]] = {
    "meter": _meter,
    "estimate": _estimate,
    "verify": _verify,
    "publish": _publish,
}
