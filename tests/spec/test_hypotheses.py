"""What is taken for granted: registered whole, in force by the month, and expired by the month, not by the clock."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import factors
from factors.hypotheses import FILE, Hypothesis, Touches, hypotheses_of, read_hypotheses
from factors.reading import FactorError
from schemas.tables import ESTIMATED
from tests.conftest import rows

SHIPPED = Path(factors.__file__).parent
ENTRY = """
[[hypothesis]]
id = "flat"
text = "The earth is flat."
owner = "A person"
reason = "It looks so."
valid_from = 2026-01-01
valid_until = 2027-01-01
expires = 2026-06-30
expected_effect = "None."
applies_in = "code"
where = "nowhere"
touches = "every"
"""


def folder_with(folder: Path, text: str) -> Path:
    (folder / FILE).write_text(text, encoding="utf-8")
    return folder


def flat(**settings: object) -> Hypothesis:
    return Hypothesis.model_validate(tomllib.loads(ENTRY)["hypothesis"][0] | settings)


def test_what_the_figures_take_for_granted_is_registered():
    assert {h.id for h in hypotheses_of(SHIPPED, date(2026, 10, 1))} == {
        "whole-subscription-month",
        "roaming-at-the-national-factor",
        "fixed-wireless-as-sold",
        "estimated-volume-counts-as-measured",
        "calendar-month",
        "national-default",
        "decimal-gigabyte",
        "both-directions",
    }


def test_each_shipped_owner_is_a_function_that_is_said_to_be_a_placeholder():
    for hypothesis in read_hypotheses(SHIPPED):
        assert hypothesis.owner in ("CSR reporting", "network data (mediation)", "customer billing")
        assert hypothesis.owner_is_placeholder, "nobody at an operator has agreed to own it"
        assert hypothesis.reason
        assert hypothesis.expected_effect
        assert hypothesis.expires >= date(2026, 12, 31)


def test_a_check_names_the_owners_that_the_operator_must_replace(tmp_path):
    import shutil

    from factors.check import check

    shutil.copytree(SHIPPED, tmp_path / "factors", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    folder = tmp_path / "factors"
    text = (folder / FILE).read_text(encoding="utf-8")
    marked = 'owner = "customer billing"\nowner_is_placeholder = true\n'
    (folder / FILE).write_text(text.replace(marked, 'owner = "billing of the operator, A. Person"\n'), encoding="utf-8")

    said = check(folder)

    assert "Owners of hypotheses: 7 have a placeholder that the operator must replace: whole-subscription-month, " in said
    assert "calendar-month" not in said
    (folder / FILE).write_text(text.replace("owner_is_placeholder = true\n", ""), encoding="utf-8")
    assert "Owners of hypotheses: all are named." in check(folder)


def test_the_national_default_is_taken_for_granted_only_since_the_operators_own_is_asked():
    assert "national-default" not in {h.id for h in hypotheses_of(SHIPPED, date(2023, 12, 1))}
    assert "national-default" in {h.id for h in hypotheses_of(SHIPPED, date(2024, 1, 1))}


def test_every_set_whose_bases_are_hypotheses_has_them_registered():
    from factors.registry import load

    registered = {h.id for h in read_hypotheses(SHIPPED)}
    for factor_set in load(SHIPPED).sets.values():
        assert factor_set.gb_basis_mark != "hypothesis" or "decimal-gigabyte" in registered
        assert factor_set.volume_basis_mark != "hypothesis" or "both-directions" in registered


@pytest.mark.parametrize(
    ("month", "is_in_force"),
    [(date(2025, 12, 1), False), (date(2026, 1, 1), True), (date(2026, 12, 1), True), (date(2027, 1, 1), False)],
)
def test_a_hypothesis_is_in_force_from_its_first_month_until_its_last(tmp_path, month, is_in_force):
    found = hypotheses_of(folder_with(tmp_path, ENTRY), month)

    assert [h.id for h in found] == (["flat"] if is_in_force else [])


@pytest.mark.parametrize(
    ("expires", "is_expired"), [(date(2026, 6, 29), True), (date(2026, 6, 30), False), (date(2026, 5, 31), True)]
)
def test_it_has_expired_for_a_month_that_ends_after_its_expiry_day(expires, is_expired):
    assert flat(expires=expires).is_expired(date(2026, 6, 1)) == is_expired


@given(st.dates(date(2026, 1, 1), date(2030, 12, 31)), st.dates(date(2026, 1, 1), date(2030, 12, 31)))
def test_it_has_expired_if_and_only_if_some_day_of_the_month_is_later(expires, day):
    month = day.replace(day=1)
    days = [month + timedelta(days=n) for n in range(31) if (month + timedelta(days=n)).month == month.month]

    assert flat(expires=expires).is_expired(month) == any(later > expires for later in days)


def test_one_that_has_expired_is_still_in_force_since_nobody_ended_it(tmp_path):
    (found,) = hypotheses_of(folder_with(tmp_path, ENTRY), date(2026, 7, 1))

    assert found.is_expired(date(2026, 7, 1))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('owner = "A person"\n', "", "hypothesis 1 (flat).owner: Field required"),
        ("expires = 2026-06-30\n", "", "hypothesis 1 (flat).expires: Field required"),
        ('reason = "It looks so."', 'reason = ""', "hypothesis 1 (flat).reason"),
        ("valid_until = 2027-01-01", "valid_until = 2026-01-01", "is not after valid_from"),
        ("valid_from = 2026-01-01", "valid_from = 2026-01-02", "hypothesis 1 (flat).valid_from"),
        ('touches = "every"', 'touches = "some"', "hypothesis 1 (flat).touches"),
        ('applies_in = "code"', 'applies_in = "the mind"', "hypothesis 1 (flat).applies_in"),
        ('id = "flat"', 'id = "Flat earth"', "id"),
        (ENTRY, ENTRY + ENTRY, "two hypotheses are called flat"),
        ('where = "nowhere"', 'where = "nowhere"\nmood = "good"', "mood"),
    ],
)
def test_one_that_is_not_whole_is_refused_with_file_and_entry(tmp_path, old, new, said):
    with pytest.raises(FactorError) as refused:
        read_hypotheses(folder_with(tmp_path, ENTRY.replace(old, new)))

    assert FILE in str(refused.value)
    assert said in str(refused.value)


def test_a_folder_that_registers_none_must_say_so_with_an_empty_file(tmp_path):
    with pytest.raises(FactorError, match=r"hypotheses\.toml: cannot be read"):
        read_hypotheses(tmp_path)

    assert read_hypotheses(folder_with(tmp_path, "")) == ()


@pytest.mark.spark
def test_a_hypothesis_decides_the_components_that_it_names(spark):
    from jobs.assumed import decided_by

    estimated = rows(
        spark,
        ESTIMATED,
        """
        | factor_id | network | component    | roaming_zone | is_estimated | is_national_default |
        | home      | mobile  | volume       | home         | false        | false               |
        | abroad    | mobile  | volume       | roaming      | true         | false               |
        | line      | fixed   | volume       | home         | false        | true                |
        | month     | fixed   | subscription |              | false        | true                |
        """,
    )
    decided = {
        touches: {row.factor_id for row in estimated.where(decided_by(touches)).collect()} for touches in get_args(Touches)
    }

    assert decided == {
        "every": {"home", "abroad", "line", "month"},
        "volume": {"home", "abroad", "line"},
        "subscription": {"month"},
        "mobile": {"home", "abroad"},
        "roaming": {"abroad"},
        "estimated": {"abroad"},
        "national_default": {"line", "month"},
    }


def test_an_alternative_is_only_said_where_a_scenario_computes_it():
    text = (SHIPPED.parent / "jobs" / "scenario.py").read_text(encoding="utf-8")

    for found in read_hypotheses(SHIPPED):
        assert found.alternative is None or f'"{found.alternative}" in alternatives' in text
