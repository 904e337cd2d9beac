"""A month published under the national values of 2022, restated under the operator's own set, and told in words; then once more
when its records are erased. The tests tell one story, in order.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.run import Refused, Settings
from tests.e2e import both_engines
from tests.e2e.conftest import run_stages
from tests.e2e.landing import GB, HEADER, pipe, subscription, write

pytestmark = [pytest.mark.spark, pytest.mark.slow]

MONTH, OCTOBER = "2023-10", date(2023, 10, 1)
PUBLISHED, RESTATED, ERASED, AGAIN = (
    datetime(*day, 12, tzinfo=UTC) for day in ((2023, 11, 5), (2023, 11, 20), (2023, 12, 20), (2024, 6, 10))
)
ANA = "001010000000001"
SINCE = ("2023-01-01T00:00:00+01:00", "")
REASON, APPROVER = "own factors replace the national values", "CSR reporting"

# What is in force: ana used 14.3 GB, ben nothing, fay 100 GB on a fixed line.
#   FR-AGEC-2022:  ana 14.3 x 49.4 = 706.42, ben 0, fay 4,100                                   4,806.42
#   OWN:           ana 14.3 x 12.3 + 475 = 650.89, ben 475, fay 100 x 1.75 + 4,175 = 4,350      5,475.89
#   OWN-CORRECTED: mobile 20.3 g/GB: ana 14.3 x 20.3 + 475 = 765.29                             5,590.29


def with_set(settings: Settings, name: str, mobile: str, known_from: date) -> None:
    """The operator releases a set of its own: from 2022 on, known later than the one that serves the month."""
    folder = settings.factors
    text = (folder / "sets" / "FR-RCP2-NAT-2022.toml").read_text(encoding="utf-8")
    # No source is dated after its values were known: the operator's own is not in the register, so any earlier one stands for it.
    text = text.replace("ademe-6789-2024", "bouygues-telecom-2022")
    for old, new in (
        ("FR-RCP2-NAT-2022", name),
        ("2024-01-01", "2022-01-01"),
        ("2024-03-01", f"{known_from}"),
        ('"12.3"', f'"{mobile}"'),
    ):
        text = text.replace(old, new)
    (folder / "sets" / f"{name}.toml").write_text(text, encoding="utf-8")
    months = f"from_month = 2022-01-01\nuntil_month = 2024-01-01\nknown_from = {known_from}"
    with (folder / "assignments.toml").open("a", encoding="utf-8") as assignments:
        assignments.write(f'\n[[assignment]]\nfactor_set = "{name}"\nbrand = "*"\n{months}\n')


@pytest.fixture(scope="module")
def own(settings: Settings) -> Settings:
    """The settings with a folder of factors that the tests may add to."""
    import shutil

    shutil.copytree(settings.factors, settings.var / "factors", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return dataclasses.replace(settings, factors=settings.var / "factors")


def done(settings: Settings, now: datetime, do: Callable[[Any], Any]) -> list[str]:
    """Do something in the lake as if it were that day; return what was said."""
    from jobs.workplace import workplace

    said: list[str] = []
    with workplace(settings, "test", said.append) as opened:
        do(dataclasses.replace(opened, now=lambda: now))
    return said


def restate(settings: Settings, now: datetime, reason: str = REASON) -> list[str]:
    from jobs import stages

    return done(settings, now, lambda opened: stages.restate(opened, OCTOBER, reason, APPROVER))


def key_of(settings: Settings, name: str) -> str:
    from jobs.cli import _subscription_key

    return _subscription_key(settings, name, OCTOBER)


def explained(settings: Settings, name: str, revision: int | None = None) -> tuple[list[str], dict[str, Any]]:
    from jobs.explain import explain
    from jobs.explain_words import as_json, in_words

    found = explain(settings, OCTOBER, key_of(settings, name), revision)
    assert found.agrees
    return list(in_words(found)), json.loads(as_json(found))


def served(settings: Settings, statement: str) -> list[Any]:
    from jobs.postgres import connect

    with closing(connect(settings)) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_the_month_is_published_under_the_national_values(own):
    from jobs import stages
    from jobs.launch import STAGES

    landing = Path(own.landing)
    held = [("ana", "mobile", ("imsi", ANA)), ("ben", "mobile", ("imsi", "001010000000002"))]
    lines = [subscription(*who, SINCE, SINCE) for who in (*held, ("fay", "fixed", ("line_id", "L000000002")))]
    write(landing, "subscriptions/subscriptions_202310.csv", [HEADER, *lines])
    write(landing, "pgw_pipe/S4PGWB000001", [pipe(ANA, "20231005100000", "a1", 14 * GB + 3 * GB // 10, seconds=7200)])
    fixed = "L000000002,2023-10-02T00:00:00Z,2023-10-03T00:00:00Z,40000000000,60000000000"
    write(landing, "fixed_deltas/fixed_20231002_0001.csv", ["line_id,interval_start,interval_end,octets_up,octets_down", fixed])

    done(own, PUBLISHED, lambda opened: [stages.run(opened, stage, OCTOBER) for stage in STAGES])

    assert served(own, "SELECT factor_sets, footprint_gco2e FROM footprint.publications") == [
        ("FR-AGEC-2022", Decimal("4806.42"))
    ]
    words, told = explained(own, "ana")
    assert "  footprint           706.420000000000 gCO2e, shown as 706 g" in words
    assert (told["restatement"], "restatement" in words) == (None, False)


def test_it_is_restated_under_the_operators_own_set_and_the_difference_is_told_in_words(own):
    with_set(own, "OWN", "12.3", date(2023, 11, 15))

    restate(own, RESTATED)

    words, told = explained(own, "ana")
    sentences = words[words.index("restatement") + 1 :][:6]
    assert [sentence.strip() for sentence in sentences] == [
        "2023-10 was restated: revision 2, published on 2023-11-20, replaces revision 1, published on 2023-11-05, which is kept "
        "as it was published. Reason: own factors replace the national values. Approved by CSR reporting.",
        "The emissions of all subscriptions of the month are 5,475.89 gCO2e instead of 4,806.42 gCO2e: +669.47 gCO2e (+13.9 %).",
        "Fixed: other emission factors account for +250 gCO2e (1 subscription). "
        "For each gigabyte: 1.75 gCO2e/GB (OWN/fixed/volume/2022-01) in place of 0 gCO2e/GB (FR-AGEC-2022/fixed/volume/2022-01). "
        "For each subscription and month: 4,175 gCO2e (OWN/fixed/subscription/2022-01) in place of 4,100 gCO2e "
        "(FR-AGEC-2022/fixed/subscription/2022-01).",
        "Mobile: other emission factors account for +419.47 gCO2e (2 subscriptions). "
        "For each gigabyte: 12.3 gCO2e/GB (OWN/mobile/volume/2022-01) in place of 49.4 gCO2e/GB "
        "(FR-AGEC-2022/mobile/volume/2022-01). "
        "For each subscription and month: 475 gCO2e (OWN/mobile/subscription/2022-01) in place of 0 gCO2e "
        "(FR-AGEC-2022/mobile/subscription/2022-01).",
        "Nothing else changed the figures: no usage was added, none was withdrawn, no subscription was corrected, the same "
        "octets count, the calculation is the same.",
        "This subscription was shown 706 g and is now shown 651 g; unrounded, 650.89 gCO2e instead of 706.42 gCO2e: -55.53 gCO2e "
        "(-7.9 %).",
    ]
    assert told["restatement"]["text"] == [sentence.strip() for sentence in sentences]
    assert told["restatement"]["published_before"]["footprint_gco2e"] == "706.420000000000"
    assert explained(own, "ana", 1)[1]["restatement"] is None, "the revision before is explained by what was known then"


def test_the_pack_tells_it_in_french_too_and_by_which_code_it_was_published(own, tmp_path):
    import zipfile

    from jobs.pack import pack
    from jobs.pack_check import check
    from jobs.run import code_version, lock_hash

    pack(own, OCTOBER, 2, tmp_path / "two.zip")
    pack(own, OCTOBER, 1, tmp_path / "one.zip")

    with zipfile.ZipFile(tmp_path / "two.zip") as packed:
        text = packed.read("restatement.txt").decode()
        manifest = json.loads(packed.read("manifest.json"))
    assert (
        "Les émissions de tous les abonnements du mois s'élèvent à 5\u202f475,89 g éqCO2 au lieu de 4\u202f806,42 g éqCO2 : "
        "+669,47 g éqCO2 (+13,9 %)." in text
    )
    assert "Rien d'autre n'a modifié les chiffres : aucun usage n'a été ajouté, aucun n'a été retiré," in text
    assert lock_hash() is not None
    assert manifest["published_by"] == manifest["packed_by"] == {"code_version": code_version(), "lock_hash": lock_hash()}
    for name in ("one", "two"):
        checked = check(tmp_path / f"{name}.zip")
        assert checked.differences == []
        assert f"published   code {code_version()}, packages {lock_hash()}" in checked.facts
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert "restatement.txt" not in packed.namelist()


def test_when_the_records_are_erased_other_factors_are_applied_to_what_was_metered(own):
    from jobs.upkeep import upkeep

    assert "upkeep    records erased: 2023-10, with 2 files" in done(own, ERASED, upkeep)
    write(Path(own.landing), "pgw_pipe/S4PGWB000002", [pipe(ANA, "20231025100000", "late", 4 * GB)])
    run_stages(own, MONTH, ("land", "accept"))
    with_set(own, "OWN-CORRECTED", "20.3", date(2024, 6, 1))

    restate(own, AGAIN, "factor A corrected")

    first, second, third = served(
        own, "SELECT revision, batch_cutoff, reason, footprint_gco2e FROM footprint.publications ORDER BY publication_id"
    )
    reason = "factor A corrected (from the volumes metered before: the records were erased on 2023-12-20)"
    assert third == (3, first[1], reason, Decimal("5590.29"))
    assert second[1] == first[1], "what came late is held, and counted by none"
    causes = "SELECT network, cause, gco2e, octets FROM footprint.restatements WHERE revision = 3 AND (gco2e <> 0 OR octets <> 0)"
    assert served(own, causes) == [("mobile", "factors", Decimal("114.4"), 0)]  # 8 g/GB more on 14.3 GB
    days = "SELECT sum(octets) FROM footprint.completeness WHERE revision = {}"
    assert [served(own, days.format(revision)) for revision in (1, 2, 3)] == [[(Decimal("114300000000"),)]] * 3


def test_that_revision_is_explained_packed_and_verified_and_held_records_are_still_told(own, tmp_path):
    from jobs import ledger
    from jobs.pack import pack
    from jobs.pack_check import check

    words, _ = explained(own, "ana")
    assert any("no usage was added" in line for line in words)
    assert any("the records were erased on 2023-12-20" in line for line in words)
    pack(own, OCTOBER, None, tmp_path / "three.zip")
    assert check(tmp_path / "three.zip").differences == []
    found: list[Any] = []
    done(own, AGAIN, lambda opened: found.append(ledger.held(opened.lake)[OCTOBER]))
    assert (found[0].records, found[0].octets) == (1, 4 * GB)


def test_without_a_change_of_factors_nothing_is_published(own):
    with pytest.raises(Refused, match="2023-10 would be as revision 3 is: nothing changes, nothing is published"):
        restate(own, AGAIN, "once more")


@pytest.mark.parametrize("name", [*both_engines.BY_NAME, *both_engines.BESIDE])
def test_an_auditor_reads_the_same_rows_in_the_lake_and_in_postgresql(own, name):
    ours, theirs = both_engines.in_both(own, name)

    months = [ours[0].index("usage_month"), ours[0].index("revision")] if "revision" in ours[0] else []
    published = [row for row in ours[1] if not months or row[months[1]] <= 3]
    assert (ours[0], published) == theirs
    assert published
