"""What was known when, what can no longer be edited, and what the changelog must say."""

from __future__ import annotations

import re
import shutil
import tomllib
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import factors
from factors.catalogue import FactorSet
from factors.check import check
from factors.frozen import freeze, frozen
from factors.registry import FactorError, drafts, in_force, load
from tests.spec.test_factors import ASSIGNMENT, ASSIGNMENTS, FIXED_A, FIXED_B, MOBILE_A, MOBILE_B, SET, SET_FILE, change, folder

__all__ = ["folder"]

SHIPPED = Path(factors.__file__).parent
JUNE = date(2026, 6, 1)
CORRECTED = MOBILE_A.replace('"10"', '"8"').replace("2025-12-15\nsource", "2026-07-20\nversion = 2\nsource")
OTHERS = (MOBILE_B, FIXED_A, FIXED_B)
MOBILE = "TEST/mobile/volume/2026-01"


def a_of(folder: Path, month: date, as_of: date | None, brand: str = "ours") -> Decimal:
    """Grams per gigabyte of mobile data in a month, as they were known on a day."""
    (found,) = [f for f in in_force(folder, month, [brand], as_of) if (f.network, f.component) == ("mobile", "volume")]
    return found.gco2e_per_unit


@pytest.fixture
def released(folder: Path) -> Path:
    """The small valid folder with all it holds frozen, the changelog that this asks for, and no hypothesis."""
    from factors.changelog import row

    registry = load(folder)
    rows = [row(factor_set, stated) for factor_set in registry.sets.values() for stated in factor_set.stated]
    (folder / "CHANGELOG.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "hypotheses.toml").write_text("", encoding="utf-8")
    freeze(folder, registry.hashes)
    return folder


# Known when


@pytest.mark.parametrize(
    ("month", "as_of", "amount"),
    [
        (date(2022, 1, 1), date(2022, 2, 17), "49.4"),
        (date(2023, 12, 1), date(2026, 1, 1), "49.4"),
        (date(2023, 12, 1), date(2022, 2, 17), "49.4"),
        (date(2024, 1, 1), date(2024, 3, 1), "12.3"),
        (date(2026, 10, 1), None, "12.3"),
    ],
)
def test_the_history_of_the_french_mobile_value_is_replayed_as_of_any_day(month, as_of, amount):
    assert a_of(SHIPPED, month, as_of) == Decimal(amount)


@pytest.mark.parametrize(("month", "as_of"), [(date(2022, 1, 1), date(2022, 2, 16)), (date(2024, 1, 1), date(2024, 2, 29))])
def test_before_a_value_was_known_the_month_has_none(month, as_of):
    with pytest.raises(FactorError, match=f"for {month:%Y-%m}, as known on {as_of}"):
        a_of(SHIPPED, month, as_of)


def test_a_correction_is_a_version_known_later_and_what_it_corrects_stays_on_record(folder):
    change(folder, SET_FILE, MOBILE_A, MOBILE_A + CORRECTED)

    assert a_of(folder, JUNE, date(2026, 7, 19)) == 10
    assert a_of(folder, JUNE, date(2026, 7, 20)) == 8
    assert a_of(folder, JUNE, None) == 8
    assert {f.factor_id for f in in_force(folder, JUNE, ["ours"]) if f.component == "volume"} == {
        f"{MOBILE}/v2",
        "TEST/fixed/volume/2026-01",
    }


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("known_from = 2026-07-20", "known_from = 2025-12-15", "mobile/volume/2026-01/v2 is not known later"),
        ("version = 2", "version = 3", "versions of mobile/volume/2026-01 are not numbered 1, 2"),
        ("version = 2\n", "", "two values for mobile/volume/2026-01"),
        ("version = 2", "version = 0", "version"),
    ],
)
def test_a_correction_that_is_not_told_apart_is_refused(folder, old, new, said):
    change(folder, SET_FILE, MOBILE_A, MOBILE_A + CORRECTED.replace(old, new))

    with pytest.raises(FactorError, match=said):
        load(folder)


def test_of_two_assignments_that_cover_a_month_the_one_known_later_serves(folder):
    (folder / "sets/NEXT.toml").write_text((folder / SET_FILE).read_text().replace('"TEST"', '"NEXT"').replace('"10"', '"7"'))
    later = (
        ASSIGNMENT.replace("TEST", "NEXT")
        .replace("from_month = 2026-01", "from_month = 2026-06")
        .replace("2025-12-15", "2026-05-20")
    )
    change(folder, ASSIGNMENTS, ASSIGNMENT, ASSIGNMENT + later)

    found = {(m, d): a_of(folder, date(2026, m, 1), date(2026, 5, d)) for m in (5, 6) for d in (19, 20)}

    assert found == {(5, 19): 10, (5, 20): 10, (6, 19): 10, (6, 20): 7}


def test_a_value_that_has_ended_leaves_a_hole_that_is_named(folder):
    change(folder, SET_FILE, MOBILE_A, MOBILE_A.replace("known_from", "valid_until = 2026-06-01\nknown_from"))

    assert a_of(folder, date(2026, 5, 1), None) == 10
    with pytest.raises(FactorError, match="set TEST: no value for mobile/volume in 2026-06"):
        in_force(folder, JUNE, ["ours"])


def test_a_value_cannot_be_known_before_its_source_is_dated(folder):
    change(folder, "sources.toml", 'address = "a shelf"', 'address = "a shelf"\ndated = 2025-12-16')

    with pytest.raises(FactorError, match="known_from 2025-12-15 is before its source is dated, 2025-12-16"):
        load(folder)


def test_an_operators_own_value_says_who_approved_it_and_a_national_one_need_not(folder):
    change(folder, SET_FILE, 'approval = { by = "A person", on = 2025-12-15 }\n', "")

    with pytest.raises(FactorError, match="approval is missing"):
        load(folder)
    assert {v.approval for s in load(SHIPPED).sets.values() for v in s.value} == {None}


def test_a_set_for_comparison_can_be_put_to_no_month(folder):
    change(folder, SET_FILE, "data_year = 2025", "data_year = 2025\nis_comparison = true")

    with pytest.raises(FactorError, match=r"assignment of TEST to brand .* the set is for comparison only"):
        load(folder)


VERSIONS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 400)), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(VERSIONS, st.integers(1, 12), st.integers(-1, 500))
def test_a_value_as_of_a_day_is_the_last_version_known_then_of_the_last_start_known_then(told, month, day):
    """Against a reading of the rule that shares no code: go through what was told, day by day, and keep a note for each start."""
    entries = []
    versions: dict[int, list[tuple[int, int]]] = {1: [(0, 1000)]}
    for number, (start, known) in enumerate(told, start=1):
        if all(known > earlier for earlier, _ in versions.get(start, [])):
            versions.setdefault(start, []).append((known, number))
    for start, of_start in versions.items():
        for version, (known, amount) in enumerate(of_start, start=1):
            text = MOBILE_A.replace('"10"', f'"{amount}"').replace("2026-01-01", f"2026-{start:02}-01")
            text = text.replace("known_from = 2025-12-15", f"known_from = {date(2026, 1, 1) + timedelta(days=known)}")
            entries.append(text.replace("unit =", f"version = {version}\nunit ="))
    found = FactorSet.model_validate(tomllib.loads(SET + "".join(entries) + "".join(OTHERS)))

    value = found.in_force("mobile", "volume", date(2026, month, 1), date(2026, 1, 1) + timedelta(days=day))

    note = {
        start: [amount for known, amount in of_start if known <= day] for start, of_start in versions.items() if start <= month
    }
    heard = {start: amounts for start, amounts in note.items() if amounts}
    assert (value and value.amount) == (heard[max(heard)][-1] if heard else None)


# Released


def test_every_shipped_value_parameter_and_assignment_is_frozen_as_it_is():
    assert frozen(SHIPPED) == load(SHIPPED).hashes


def test_a_released_folder_passes_the_check(released):
    assert "Released: 5 entries are as they were, none is missing" in check(released)


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        (SET_FILE, 'amount = "10"', 'amount = "10.1"', MOBILE),
        (SET_FILE, 'amount = "10"', 'amount = "10"\nhigh = "12"', MOBILE),
        (SET_FILE, 'amount = "10"', 'amount = "10"\nvalid_until = 2026-09-01', MOBILE),
        (SET_FILE, "known_from = 2025-12-15", "known_from = 2025-12-16", MOBILE),
        (SET_FILE, 'status = "measured"', 'status = "measured"\npage = "9"', MOBILE),
        (SET_FILE, "gb_basis = 1000000000", "gb_basis = 1073741824", MOBILE),
        (SET_FILE, 'perimeter = "network"', 'perimeter = "network and box"', MOBILE),
        (ASSIGNMENTS, "until_month = 2027-01-01", "until_month = 2026-09-01", "assignment/*/TEST/2026-01/2025-12-15"),
    ],
)
def test_what_was_released_and_then_edited_is_refused_by_name_by_the_check_and_by_a_run(released, file, old, new, named):
    change(released, file, old, new)

    for asked in (lambda: check(released), lambda: in_force(released, JUNE, ["ours"])):
        with pytest.raises(FactorError) as refused:
            asked()
        assert re.search(rf"released and then edited: [^.]*{re.escape(named)}", str(refused.value))


def test_a_released_value_that_is_gone_is_refused_by_name(released):
    change(
        released, SET_FILE, MOBILE_A, MOBILE_A.replace("2026-01-01", "2025-12-01") + MOBILE_A.replace("2026-01-01", "2026-02-01")
    )
    for kept in OTHERS:
        change(released, SET_FILE, kept, kept + kept.replace("2026-01-01", "2025-12-01"))

    with pytest.raises(FactorError, match=f"released and then removed: .*{MOBILE}"):
        check(released)


@pytest.mark.parametrize(
    ("old", "new"),
    [('mark = "V"', 'mark = "V2"'), ('amount = "10"', 'amount = "10.0"'), ('mark = "V"', 'mark = "V"\nnote = "Read."')],
)
def test_how_far_a_released_value_was_checked_may_still_be_said_better(released, old, new):
    change(released, SET_FILE, old, new)

    assert in_force(released, JUNE, ["ours"])


def test_a_new_value_is_said_to_be_a_draft_until_it_is_frozen_and_then_it_cannot_be_edited_either(released):
    before = frozen(released)
    change(released, SET_FILE, MOBILE_A, MOBILE_A + CORRECTED)
    row = f"| `{MOBILE}/v2` | 8 gCO2e/GB | 2026-01-01 to 2026-12-31 | 2026-07-20 |"
    with pytest.raises(FactorError, match="1 values are not there with their period") as refused:
        check(released)
    assert str(refused.value).endswith(row)
    (released / "CHANGELOG.md").write_text((released / "CHANGELOG.md").read_text() + row, encoding="utf-8")

    assert f"1 are not yet frozen: {MOBILE}/v2" in check(released)
    assert freeze(released, load(released).hashes) == [f"{MOBILE}/v2"]
    assert freeze(released, load(released).hashes) == []
    assert {name: digest for name, digest in frozen(released).items() if name in before} == before
    change(released, SET_FILE, 'amount = "8"', 'amount = "7"')
    with pytest.raises(FactorError, match=f"released and then edited: {MOBILE}/v2"):
        freeze(released, load(released).hashes)


def test_a_folder_in_which_nothing_is_frozen_is_refused_by_the_check(released):
    (released / "frozen.toml").unlink()

    with pytest.raises(FactorError, match=r"frozen.toml: nothing is frozen"):
        check(released)


def test_what_serves_a_month_and_is_not_frozen_is_known_by_name(released):
    change(released, SET_FILE, MOBILE_A, MOBILE_A + MOBILE_A.replace('"10"', '"8"').replace("2026-01-01", "2026-07-01"))

    assert drafts(released, JUNE) == ()
    assert drafts(released, date(2026, 7, 1)) == ("TEST/mobile/volume/2026-07",)
    (released / "frozen.toml").unlink()
    assert {"assignment/*/TEST/2026-01/2025-12-15", MOBILE} < set(drafts(released, JUNE))
    assert drafts(released, date(2027, 1, 1)) == ()


@pytest.mark.parametrize("month", [date(2022, 1, 1), date(2026, 10, 1)])
def test_nothing_that_serves_a_month_as_shipped_can_be_edited(month):
    assert drafts(SHIPPED, month) == ()


# The changelog


def test_a_period_that_a_later_value_ends_must_be_stated_anew(released):
    change(released, SET_FILE, MOBILE_A, MOBILE_A + MOBILE_A.replace('"10"', '"8"').replace("2026-01-01", "2026-07-01"))

    with pytest.raises(FactorError) as refused:
        check(released)

    assert "2 values are not there with their period" in str(refused.value)
    assert str(refused.value).endswith(f"| `{MOBILE}` | 10 gCO2e/GB | 2026-01-01 to 2026-06-30 | 2025-12-15 |")


def test_a_shipped_period_that_is_not_in_the_changelog_is_refused(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "factors")
    change(tmp_path / "factors", "CHANGELOG.md", "2022-01-01 to 2023-12-31 |", "2022-01-01 to 2023-12-30 |")

    with pytest.raises(FactorError, match=r"the first row to add is\n.*2022-01-01 to 2023-12-31"):
        check(tmp_path / "factors")
