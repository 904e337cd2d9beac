"""An explanation in words and tables for a person, and as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from jobs import restated
from jobs.explain import Explanation

_CODES = {"V": "read in the primary text", "V2": "known through a secondary source only", "D": "own arithmetic", "?": "contested"}


def as_json(explained: Explanation) -> str:
    """Everything as JSON: amounts as text, so that no digit is lost; pseudonyms other than the published key left out."""
    row, published = explained.row, explained.publication
    usage = [
        {k: v for k, v in each.items() if k not in ("subscription_key", "network", "attribution")} for each in explained.usage
    ]
    return json.dumps(
        {
            "published": row,
            "components": explained.components,
            "metered": usage,
            "active_days": explained.subscribed["active_days"],
            "is_estimated_because_records_are_lost": explained.subscribed["is_estimated"],
            "provenance": explained.provenance,
            "hypotheses": explained.hypotheses,
            "publication": {k: v for k, v in published.items() if k != "rows_hash"},
            "verdict": explained.verdict,
            "restatement": _restatement(explained),
            "recomputed": {"agrees": explained.agrees, "differences": explained.differences},
        },
        ensure_ascii=False,
        indent=2,
        default=_plain,
    )


def _restatement(explained: Explanation) -> Mapping[str, Any] | None:
    if explained.restatement is None:
        return None
    sentences = [*restated.in_words(explained.restatement), restated.of_row(explained.earlier, explained.row)]
    return {"text": sentences, "causes": explained.restatement.causes, "published_before": explained.earlier}


def _plain(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else value.isoformat()


def in_words(explained: Explanation) -> Iterator[str]:
    """Lines for a person."""
    row = explained.row
    yield f"{row['usage_month']:%Y-%m}, subscription_key {row['subscription_key']}"
    yield from _table("published", _published(explained))
    yield ""
    yield "components     quantity × factor = gCO2e, half up to 12 places"
    yield from _components(explained)
    for citation in {each["citation"]["key"]: each for each in explained.components}.values():
        yield from _citation(citation)
    yield ""
    yield "volume         metered, in octets"
    for used in explained.usage:
        flag = ", estimated" if used["is_estimated"] else ""
        yield (
            f"  {used['access_technology']:<12}{used['roaming_zone']:<9} up {used['octets_up']:,}, down {used['octets_down']:,}, "
            f"{used['intervals']:,} intervals{flag}"
        )
    if not explained.usage:
        yield "  none"
    yield from _provenance(explained.provenance)
    yield ""
    yield "hypotheses     taken for granted in the month; footprint hypotheses says why"
    for each in explained.hypotheses:
        owner = f"{each['owner']}, which is a placeholder" if each["owner_is_placeholder"] else each["owner"]
        yield f"  {each['id']}: {each['text']} ({owner}; until {each['expires']})"
    yield ""
    yield from _table("publication", _publication(explained))
    yield ""
    yield from _restated(explained)
    yield from _verdict_of_second_path(explained)


def _restated(explained: Explanation) -> Iterator[str]:
    """What the revision changed, of a month that was restated."""
    if explained.restatement is None:
        return
    yield "restatement"
    for sentence in (*restated.in_words(explained.restatement), restated.of_row(explained.earlier, explained.row)):
        yield f"  {sentence}"
    yield ""


def _published(explained: Explanation) -> Mapping[str, str]:
    row = explained.row
    interval = [row["footprint_gco2e_low"], row["footprint_gco2e_high"]]
    default = ", national default" if row["is_national_default"] else ""
    lost = " (records of it are known to be lost)" if explained.subscribed["is_estimated"] else ""
    return {
        "network, brand": f"{row['network']}, {row['brand']}, active on {explained.subscribed['active_days']} days",
        "volume": f"{row['data_volume_bytes']:,} bytes, shown as {row['data_volume_gb_displayed']:,} GB",
        "footprint": f"{row['footprint_gco2e']} gCO2e, shown as {row['footprint_gco2e_displayed']:,} g",
        "of which": f"volume {row['volume_gco2e']}, subscription {row['subscription_gco2e']}",
        "interval": "the source gives none" if None in interval else f"{interval[0]} to {interval[1]} gCO2e",
        "estimated data": ("yes" if row["is_estimated"] else "no") + lost,
        "factor set, method": f"{row['factor_set']}{default}, {row['method_id']}",
    }


def _components(explained: Explanation) -> Iterator[str]:
    for each in explained.components:
        what = " ".join(filter(None, (each["component"], each["access_technology"], each["roaming_zone"])))
        quantity, factor = f"{each['quantity']} {each['quantity_unit']}", f"{_short(each['factor'])} {each['factor_unit']}"
        checked = f"{each['mark']}: {_CODES[each['mark']]}"
        yield f"  {what:<26}{quantity} × {factor} = {each['gco2e']}"
        yield f"  {'':<26}{each['factor_id']} ({each['status']}, {checked}) from {each['citation']['key']}"


def _citation(component: Mapping[str, Any]) -> Iterator[str]:
    source = component["citation"]
    dated = f", {source['dated']}" if source.get("dated") else ""
    page = f", {source['page']}" if source.get("page") else ""
    yield f"  source {source['key']}: {source['publisher']}, « {source['title']} »{dated}{page}"
    yield f"    {source['address']}; licence: {source['licence']} Checked: {_CODES[source['mark']]}."
    yield f"    perimeter: {component['perimeter']}"


def _provenance(found: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    if not found["records_kept"]:
        yield "sources        the records of the month are erased; what was received of each source in files that touch it:"
        for source in found["sources"]:
            yield (
                f"  {source['source']}: {source['files']:,} files, {source['records_received']:,} records received, "
                f"{source['records_accepted']:,} accepted with {source['volume_accepted_octets']:,} octets, "
                f"{source['records_duplicate']:,} duplicate, {source['records_rejected']:,} rejected, "
                f"{source['records_out_of_scope']:,} out of scope"
            )
        return
    yield "sources"
    for used in found["usage"]:
        technology = used["access_technology"] or "technology not named"
        yield f"  {used['source']}, {technology}, {used['roaming_zone']}: {_counts(used)}"
    rejected = ", ".join(f"{r['records']:,} {r['reason'].replace('_', ' ')} ({r['source']})" for r in found["rejected"])
    yield f"  not counted: {rejected or 'no record that is known to be its own'}"
    yield f"files          {len(found['files']):,}"
    for file in found["files"]:
        yield f"  {file['source']}/{file['file_name']}  sha256 {file['file_hash']}: {_counts(file)}"
    same = found["octets_of_records"] == found["octets_metered"]
    yield (
        f"  records add up to {found['octets_of_records']:,} octets, "
        + ("which is what was metered" if same else f"but {found['octets_metered']:,} were metered")
    )


def _counts(row: Mapping[str, Any]) -> str:
    apart = "".join(f", {row[name]:,} {name}" for name in ("prorated", "estimated") if row[name])
    return f"{row['records']:,} records, up {row['octets_up']:,}, down {row['octets_down']:,}{apart}"


def _publication(explained: Explanation) -> Mapping[str, str]:
    published, verdict = explained.publication, explained.verdict
    judged = ", ".join(f"{verdict[name]} {name}" for name in ("rules", "failures", "warnings"))
    return {
        "revision": f"{published['revision']}, publication {published['publication_id']}",
        "published at": f"{published['published_at']:%Y-%m-%d %H:%M:%S} UTC",
        "reason": published["reason"],
        "verdict": f"{verdict['verdict_id']}: {judged}; {verdict['summary']}",
        "code version": published["code_version"],
        "packages": f"lock sha256 {published['lock_hash']}" if published["lock_hash"] else "not known",
        "factors": f"{published['factors_id']} ({published['factor_sets']})",
        "records up to": f"batch {published['batch_cutoff']}",
        "figures hash": published["figures_hash"],
    }


def _verdict_of_second_path(explained: Explanation) -> Iterator[str]:
    if explained.agrees:
        yield "recomputed     from the stored volumes and the factor catalogue by a second path: it agrees to the last decimal"
        return
    yield "recomputed     from the stored volumes and the factor catalogue by a second path: it DOES NOT AGREE"
    for difference in explained.differences:
        yield f"  {difference}"


def _table(title: str, facts: Mapping[str, Any]) -> Iterator[str]:
    yield title
    for name, text in facts.items():
        yield f"  {name:<20}{text.isoformat() if isinstance(text, date | datetime) else text}"


def _short(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
