"""Which factor serves which month and brand, and what a folder of factors is refused for.

Each refusal breaks one thing in a small valid folder and must name the file and the value.
"""

import random
import shutil
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

import factors
from factors.__main__ import main
from factors.catalogue import PAIRS
from factors.factor import DECIMAL_GIGABYTE, per_decimal_gigabyte
from factors.registry import Factor, FactorError, check_volume_basis, citation, factors_id, in_force, load, method_text
from schemas.source import read_sources
from schemas.tables import FACTORS

SHIPPED = Path(factors.__file__).parent
SOURCES = SHIPPED.parent / "schemas" / "sources"
BINARY_GIGABYTE = 2**30

SET = """
name = "TEST"
description = "A set for tests."
geography = "FR"
perimeter = "network"
method_id = "test-method"
data_year = 2025
valid_until = 2027-01-01
gb_basis = 1000000000
gb_basis_mark = "stated"
gb_basis_note = "A test."
volume_basis = "up_and_down"
volume_basis_mark = "stated"
volume_basis_note = "A test."
"""
VALUE = """
[[value]]
network = "{}"
component = "{}"
amount = "{}"
unit = "{}"
valid_from = {}
known_from = 2025-12-15
source = "report"
mark = "V"
approval = {{ by = "A person", on = 2025-12-15 }}
status = "measured"
"""
MOBILE_A = VALUE.format("mobile", "volume", "10", "gCO2e/GB", "2026-01-01")
MOBILE_B = VALUE.format("mobile", "subscription", "500", "gCO2e/subscription-month", "2026-01-01")
FIXED_A = VALUE.format("fixed", "volume", "2", "gCO2e/GB", "2026-01-01")
FIXED_B = VALUE.format("fixed", "subscription", "4000", "gCO2e/subscription-month", "2026-01-01")
CITATION = """
[report]
title = "A report"
publisher = "A publisher"
address = "a shelf"
licence = "Fact cited."
mark = "V"
"""
ASSIGNMENT = """
[[assignment]]
factor_set = "TEST"
brand = "*"
from_month = 2026-01-01
until_month = 2027-01-01
known_from = 2025-12-15
"""
OWN = ASSIGNMENT.replace('"*"', '"ours"')
SET_FILE, CITATIONS, ASSIGNMENTS = "sets/TEST.toml", "sources.toml", "assignments.toml"
JUNE = date(2026, 6, 1)


@pytest.fixture
def folder(tmp_path):
    """A small valid folder: one set, one source, one assignment, one method in two languages."""
    (tmp_path / "sets").mkdir()
    (tmp_path / "methods").mkdir()
    (tmp_path / SET_FILE).write_text(SET + MOBILE_A + MOBILE_B + FIXED_A + FIXED_B)
    (tmp_path / CITATIONS).write_text(CITATION)
    (tmp_path / ASSIGNMENTS).write_text(ASSIGNMENT)
    for language in ("fr", "en"):
        (tmp_path / "methods" / f"test-method.{language}.md").write_text("How it is calculated.")
    return tmp_path


def change(folder, file, old, new):
    path = folder / file
    text = path.read_text()
    assert text.count(old) >= 1, f"{file} does not hold {old}"
    path.write_text(text.replace(old, new, 1))


def refusal(folder, month=JUNE, brand="ours"):
    with pytest.raises(FactorError) as refused:
        in_force(folder, month, [brand])
    return str(refused.value)


def per_unit(factors_of_month):
    return {(f.network, f.component): f.gco2e_per_unit for f in factors_of_month}


# What is shipped


@pytest.mark.parametrize("month", [date(2022, 1, 1), date(2023, 12, 1)])
def test_2022_and_2023_take_the_transitional_national_values(month):
    assert per_unit(in_force(SHIPPED, month, ["ours"])) == {
        ("mobile", "volume"): Decimal("49.4"),
        ("mobile", "subscription"): 0,
        ("fixed", "volume"): 0,
        ("fixed", "subscription"): 4100,
    }


@pytest.mark.parametrize("month", [date(2024, 1, 1), date(2026, 10, 1)])
def test_from_2024_on_the_two_part_national_values_serve(month):
    assert per_unit(in_force(SHIPPED, month, ["ours"])) == {
        ("mobile", "volume"): Decimal("12.3"),
        ("mobile", "subscription"): 475,
        ("fixed", "volume"): Decimal("1.75"),
        ("fixed", "subscription"): 4175,
    }


def test_every_shipped_factor_says_that_it_is_the_national_default():
    assert all(f.is_national_default for month in (2022, 2024) for f in in_force(SHIPPED, date(month, 1, 1), ["ours"]))


def test_before_2022_no_factor_serves():
    assert "no factor set is assigned to brand ours for 2021-12" in refusal(SHIPPED, date(2021, 12, 1))


def test_a_factor_is_named_by_set_network_component_and_first_month():
    identities = {f.factor_id for f in in_force(SHIPPED, date(2025, 5, 1), ["ours"]) if f.network == "mobile"}

    assert identities == {"FR-RCP2-NAT-2022/mobile/volume/2024-01", "FR-RCP2-NAT-2022/mobile/subscription/2024-01"}


def test_the_values_of_2022_are_verified_those_of_2024_secondary_and_the_zeros_derived():
    shown = [s for s in load(SHIPPED).sets.values() if not s.is_comparison]
    marks = {f"{s.name} {v.network} {v.component}": v.mark for s in shown for v in s.value}

    assert {name for name, mark in marks.items() if mark == "V"} == {
        "FR-AGEC-2022 mobile volume",
        "FR-AGEC-2022 fixed subscription",
    }
    assert {name for name, mark in marks.items() if mark == "D"} == {
        "FR-AGEC-2022 mobile subscription",
        "FR-AGEC-2022 fixed volume",
    }


def test_the_citation_that_contradicts_the_mobile_value_of_2022_is_on_record():
    value, source = citation(SHIPPED, "FR-AGEC-2022/mobile/volume/2022-01")

    assert (source.publisher, source.mark) == ("Bouygues Telecom", "V")
    assert [other.amount for other in value.conflicting] == [Decimal("49.2")]


def test_the_citation_of_an_unknown_factor_is_refused():
    with pytest.raises(FactorError, match="no set holds the factor X/mobile/volume/2022-01"):
        citation(SHIPPED, "X/mobile/volume/2022-01")


def test_what_a_gigabyte_is_and_which_directions_count_are_marked_as_hypotheses():
    bases = {(s.gb_basis, s.gb_basis_mark, s.volume_basis, s.volume_basis_mark) for s in load(SHIPPED).sets.values()}

    assert bases == {(10**9, "hypothesis", "up_and_down", "hypothesis")}


def test_the_shipped_factors_agree_with_the_shipped_sources():
    check_volume_basis(in_force(SHIPPED, JUNE, ["ours"]), read_sources(SOURCES))


def test_the_changelog_of_figures_names_every_shipped_set():
    changelog = (SHIPPED / "CHANGELOG.md").read_text(encoding="utf-8")

    assert all(name in changelog for name in load(SHIPPED).sets)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_no_method_text_claims_neutrality(language):
    for factor_set in load(SHIPPED).sets.values():
        text = method_text(SHIPPED, factor_set.method_id, language).lower()
        assert not any(claim in text for claim in ("neutr", "zéro carbone", "zero carbon", "compens", "offset"))


def test_the_method_text_of_2022_shows_the_values_that_are_applied():
    text = method_text(SHIPPED, "fr-agec-2022", "fr")

    assert "49,4 g" in text
    assert "4 100 g" in text


def test_the_operator_template_becomes_a_valid_set_once_filled_in(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "factors")
    template = tmp_path / "factors" / "sets" / "operator-template.toml.example"
    filled = template.read_text(encoding="utf-8")
    filled = filled.replace('"<grams', '"7<grams').replace("<key in sources.toml>", "ademe-6789-2024")
    filled = filled.replace("<grams per gigabyte>", "").replace("<grams per subscription-month>", "")
    filled = filled.replace("<OPERATOR-YEAR>", "OURS-2026").replace(
        "<method id, lower case, e.g. fr-rcp-fai-v2>", "fr-rcp-fai-v2"
    )
    (template.parent / "OURS-2026.toml").write_text(filled, encoding="utf-8")
    with (tmp_path / "factors" / ASSIGNMENTS).open("a") as assignments:
        assignments.write(
            '[[assignment]]\nfactor_set = "OURS-2026"\nbrand = "ours"\nfrom_month = 2026-01-01\nknown_from = 2025-12-15\n'
        )

    own = in_force(tmp_path / "factors", JUNE, ["ours"])

    assert {(f.factor_set, f.gco2e_per_unit, f.is_national_default) for f in own} == {("OURS-2026", Decimal(7), False)}


# Which factor serves


def test_a_factor_has_the_columns_of_the_declared_table():
    assert tuple(field.name for field in fields(Factor)) == FACTORS.names


def test_each_brand_gets_one_factor_per_network_and_component_under_its_own_name(folder):
    rows = [(f.brand, f.network, f.component) for f in in_force(folder, JUNE, ["theirs", "ours", "ours"])]

    assert rows == [(brand, *pair) for brand in ("ours", "theirs") for pair in PAIRS]


def test_a_later_value_of_a_set_serves_from_its_month_on(folder):
    later = MOBILE_A.replace('"10"', '"8"').replace("2026-01", "2026-07")
    change(folder, SET_FILE, FIXED_A, FIXED_A + later)

    amounts = {month: per_unit(in_force(folder, date(2026, month, 1), ["ours"]))["mobile", "volume"] for month in (6, 7)}

    assert amounts == {6: 10, 7: 8}


def test_a_brand_with_an_assignment_of_its_own_takes_its_own_set_from_that_month_on(folder):
    (folder / "sets/OURS.toml").write_text((folder / SET_FILE).read_text().replace('"TEST"', '"OURS"'))
    change(folder, ASSIGNMENTS, ASSIGNMENT, ASSIGNMENT + OWN.replace("TEST", "OURS").replace("2026-01", "2026-06"))

    served = {(m, f.brand): f.factor_set for m in (5, 6) for f in in_force(folder, date(2026, m, 1), ["ours", "theirs"])}

    assert served == {(5, "ours"): "TEST", (5, "theirs"): "TEST", (6, "ours"): "OURS", (6, "theirs"): "TEST"}


def test_a_brand_whose_own_assignment_has_ended_does_not_fall_back_to_the_default(folder):
    change(folder, ASSIGNMENTS, ASSIGNMENT, ASSIGNMENT + OWN.replace("2027-01", "2026-06"))

    assert f"{ASSIGNMENTS}: no factor set is assigned to brand ours for 2026-06" in refusal(folder)


def test_without_low_and_high_in_the_source_a_factor_has_none(folder):
    assert {(f.gco2e_per_unit_low, f.gco2e_per_unit_high) for f in in_force(folder, JUNE, ["ours"])} == {(None, None)}


def test_a_value_for_binary_gigabytes_is_converted_with_its_interval_and_a_subscription_is_not(folder):
    change(folder, SET_FILE, "gb_basis = 1000000000", "gb_basis = 1073741824")
    change(folder, SET_FILE, 'amount = "10"', 'amount = "107.3741824"\nlow = "53.6870912"\nhigh = "214.7483648"')

    by_pair = {(f.network, f.component): f for f in in_force(folder, JUNE, ["ours"])}

    volume = by_pair["mobile", "volume"]
    assert (volume.gco2e_per_unit, volume.gco2e_per_unit_low, volume.gco2e_per_unit_high) == (100, 50, 200)
    assert by_pair["mobile", "subscription"].gco2e_per_unit == 500


@pytest.mark.parametrize("amount", ["0", "0.0000000000001", "1.75", "12.3", "49.4", "9999.9999999999999"])
def test_the_conversion_of_binary_gigabytes_inverts_to_thirteen_places(amount):
    converted = per_decimal_gigabyte(Decimal(amount), BINARY_GIGABYTE)

    assert round(converted * BINARY_GIGABYTE / DECIMAL_GIGABYTE, 13) == Decimal(amount)


def test_the_conversion_rounds_half_up_once_to_fourteen_places():
    # 49.4 x 10^9 / 2^30 = 46.007335186004638671875
    assert per_decimal_gigabyte(Decimal("49.4"), BINARY_GIGABYTE) == Decimal("46.00733518600464")


def test_a_value_for_decimal_gigabytes_is_not_changed():
    assert per_decimal_gigabyte(Decimal("9999.99999999999999"), DECIMAL_GIGABYTE) == Decimal("9999.99999999999999")


# The identity of a month's factors


def test_the_identity_of_the_factors_does_not_depend_on_their_order_or_on_trailing_zeros():
    rows = in_force(SHIPPED, JUNE, ["ours", "theirs"])
    shuffled = random.Random(1).sample(rows, len(rows))

    assert factors_id(shuffled) == factors_id(rows)
    assert factors_id([replace(f, gco2e_per_unit=f.gco2e_per_unit.normalize()) for f in rows]) == factors_id(rows)


def test_the_identity_of_the_factors_is_stable_and_changes_with_any_value():
    rows = in_force(SHIPPED, date(2022, 1, 1), ["ours"])
    last_digit = replace(rows[0], gco2e_per_unit=rows[0].gco2e_per_unit + Decimal("0.00000000000001"))

    assert factors_id(rows) == "082c51a20e477ef3"
    assert factors_id([last_digit, *rows[1:]]) != factors_id(rows)


# What is refused


def test_a_month_after_the_last_assignment_is_a_gap(folder):
    assert f"{ASSIGNMENTS}: no factor set is assigned to brand ours for 2027-01" in refusal(folder, date(2027, 1, 1))


def test_a_gap_between_two_assignments_of_a_brand_is_refused_in_any_month(folder):
    first = ASSIGNMENT.replace("2027-01", "2026-03")
    change(folder, ASSIGNMENTS, ASSIGNMENT, first + ASSIGNMENT.replace("2026-01", "2026-04"))

    assert f"{ASSIGNMENTS}: a gap from 2026-03-01 to 2026-04-01 for brand *" in refusal(folder)


@pytest.mark.parametrize("start", ["2026-01", "2026-09"])
def test_two_assignments_of_a_brand_for_one_month_are_refused(folder, start):
    change(folder, ASSIGNMENTS, ASSIGNMENT, ASSIGNMENT + ASSIGNMENT.replace("2026-01", start))

    message = refusal(folder)

    assert f"{ASSIGNMENTS}: assignment of TEST to brand * from {start} overlaps" in message


def test_an_open_assignment_followed_by_another_overlaps(folder):
    change(folder, SET_FILE, "valid_until = 2027-01-01", "")
    opened = ASSIGNMENT.replace("until_month = 2027-01-01", "")
    change(folder, ASSIGNMENTS, ASSIGNMENT, opened + ASSIGNMENT.replace("2026-01", "2026-09"))

    assert "overlaps" in refusal(folder)


def test_an_assignment_that_ends_before_it_starts_is_refused(folder):
    change(folder, ASSIGNMENTS, "until_month = 2027-01-01", "until_month = 2026-01-01")

    message = refusal(folder)

    assert f"{ASSIGNMENTS}: assignment 1 (TEST/*)" in message
    assert "until_month 2026-01-01 is not after from_month 2026-01-01" in message


def test_an_assignment_of_an_unknown_set_is_refused(folder):
    change(folder, ASSIGNMENTS, ASSIGNMENT, ASSIGNMENT + OWN.replace("TEST", "LOST"))

    assert f"{ASSIGNMENTS}: assignment of LOST to brand ours from 2026-01: there is no sets/LOST.toml" in refusal(folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("from_month = 2026-01-01", "from_month = 2025-12-01", "the set starts only in 2026-01"),
        ("until_month = 2027-01-01", "until_month = 2027-02-01", "until_month is 2027-02-01, the set ends before 2027-01"),
        ("until_month = 2027-01-01", "", "until_month is open, the set ends before 2027-01"),
    ],
)
def test_an_assignment_outside_the_months_of_its_set_is_refused(folder, old, new, said):
    change(folder, ASSIGNMENTS, old, new)

    assert f"{ASSIGNMENTS}: assignment of TEST to brand *" in (message := refusal(folder))
    assert said in message


@pytest.mark.parametrize("value", [MOBILE_A, MOBILE_B, FIXED_A, FIXED_B])
def test_a_set_without_both_components_of_both_networks_is_refused(folder, value):
    change(folder, SET_FILE, value, "")

    message = refusal(folder)

    assert SET_FILE in message
    assert "from 2026-01, the first month of the set" in message


def test_a_component_that_starts_later_than_its_set_leaves_a_gap(folder):
    change(folder, SET_FILE, FIXED_A, FIXED_A.replace("2026-01", "2026-02"))

    assert f"{SET_FILE}: set: no value for fixed/volume from 2026-01" in refusal(folder)


def test_two_values_of_a_component_from_one_month_are_refused(folder):
    change(folder, SET_FILE, MOBILE_A, MOBILE_A + MOBILE_A.replace('"10"', '"11"'))

    assert f"{SET_FILE}: set: two values for mobile/volume/2026-01" in refusal(folder)


def test_a_value_that_starts_when_its_set_has_ended_is_refused(folder):
    change(folder, SET_FILE, FIXED_A, FIXED_A + FIXED_A.replace("2026-01", "2027-01"))

    assert f"{SET_FILE}: set: fixed/volume/2027-01 starts when the set has ended" in refusal(folder)


def test_a_network_that_mixes_own_and_national_values_is_refused(folder):
    change(folder, SET_FILE, 'status = "measured"', 'status = "national_default"')

    assert f"{SET_FILE}: set: mobile: status mixes operator and national values" in refusal(folder)


def test_own_values_of_one_network_may_stand_beside_national_values_of_the_other(folder):
    for _ in range(2):
        change(folder, SET_FILE, 'status = "measured"', 'status = "national_default"')

    origins = {(f.network, f.is_national_default) for f in in_force(folder, JUNE, ["ours"])}

    assert origins == {("mobile", True), ("fixed", False)}


def test_a_value_whose_source_is_not_cited_is_refused(folder):
    change(folder, SET_FILE, 'source = "report"', 'source = "rumour"')

    assert f"{SET_FILE}: mobile/volume/2026-01: source 'rumour' is not in sources.toml" in refusal(folder)


def test_a_value_without_a_source_is_refused(folder):
    change(folder, SET_FILE, 'source = "report"\n', "")

    assert f"{SET_FILE}: value 1 (mobile/volume).source: Field required" in refusal(folder)


def test_a_conflicting_citation_whose_source_is_not_cited_is_refused(folder):
    change(folder, SET_FILE, MOBILE_A, MOBILE_A + '[[value.conflicting]]\namount = "9"\nsource = "rumour"\n')

    assert f"{SET_FILE}: mobile/volume/2026-01: source 'rumour' is not in sources.toml" in refusal(folder)


@pytest.mark.parametrize("unit", ["kgCO2e/GB", "gCO2e/subscription-month", "gCO2e/Go", "kWh/GB"])
def test_a_value_in_another_unit_than_its_component_has_is_refused(folder, unit):
    change(folder, SET_FILE, 'unit = "gCO2e/GB"', f'unit = "{unit}"')

    message = refusal(folder)

    assert f"{SET_FILE}: value 1 (mobile/volume)" in message
    assert unit in message


@pytest.mark.parametrize(
    "amount", ["49.4", "10", '"-1"', '"1e3"', '"49,4"', '""', '"NaN"', '" 1"', '"٣"', '"10000"', '"0.000000000000001"', "true"]
)
def test_an_amount_that_is_not_plain_text_of_a_decimal_that_fits_the_column_is_refused(folder, amount):
    change(folder, SET_FILE, 'amount = "10"', f"amount = {amount}")

    message = refusal(folder)

    assert f"{SET_FILE}: value 1 (mobile/volume).amount: an amount" in message
    assert f"given {amount.strip(chr(34))}" in message.replace("'", "").replace("True", "true")


@pytest.mark.parametrize(("end", "said"), [('low = "11"', "low 11 is above"), ('high = "9"', "high 9 is below")])
def test_an_interval_that_does_not_hold_its_amount_is_refused(folder, end, said):
    change(folder, SET_FILE, 'amount = "10"', f'amount = "10"\n{end}')

    assert f"{SET_FILE}: value 1 (mobile/volume): {said} the amount 10" in refusal(folder)


@pytest.mark.parametrize("day", ["2026-01-15", "2026-01-01T00:00:00", '"2026-01-01"', "20260101"])
def test_a_start_that_is_not_the_first_day_of_a_month_is_refused(folder, day):
    change(folder, SET_FILE, "valid_from = 2026-01-01", f"valid_from = {day}")

    assert f"{SET_FILE}: value 1 (mobile/volume).valid_from" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        (SET_FILE, "gb_basis = 1000000000", "gb_basis = 1000000", "gb_basis"),
        (SET_FILE, 'volume_basis = "up_and_down"', 'volume_basis = "up"', "volume_basis"),
        (SET_FILE, "valid_until = 2027-01-01", "valid_until = 2027-01-02", "valid_until"),
        (SET_FILE, 'network = "mobile"', 'network = "satellite"', "network"),
        (SET_FILE, 'component = "volume"', 'component = "A"', "component"),
        (SET_FILE, 'mark = "V"', 'mark = "sure"', "mark"),
        (SET_FILE, 'status = "measured"', 'status = "fine"', "status"),
        (SET_FILE, 'geography = "FR"', 'geography = "FR"\ncolour = "green"', "colour"),
        (SET_FILE, 'perimeter = "network"', "", "perimeter"),
        (SET_FILE, 'method_id = "test-method"', 'method_id = "../test"', "method_id"),
        (SET_FILE, 'name = "TEST"', 'name = "OTHER"', "name is 'OTHER', not the name of its file"),
        (SET_FILE, 'name = "TEST"', "name = TEST", "Invalid value"),
        (CITATIONS, 'title = "A report"', "", "report.title"),
        (CITATIONS, 'mark = "V"', 'mark = "sure"', "report.mark"),
        (ASSIGNMENTS, "from_month = 2026-01-01", "from_month = 2026-01-02", "assignment 1 (TEST/*).from_month"),
        (ASSIGNMENTS, 'brand = "*"', 'brand = ""', "brand"),
    ],
)
def test_an_unknown_missing_or_unusable_setting_is_refused_with_file_and_name(folder, file, old, new, named):
    change(folder, file, old, new)

    message = refusal(folder)

    assert file in message
    assert named in message


@pytest.mark.parametrize("file", [CITATIONS, ASSIGNMENTS, "methods/test-method.fr.md", "methods/test-method.en.md"])
def test_a_missing_file_is_refused_by_name(folder, file):
    (folder / file).unlink()

    assert file in refusal(folder)


def test_a_folder_without_a_set_is_refused(folder):
    (folder / SET_FILE).unlink()

    assert "sets: holds no factor set" in refusal(folder)


def test_an_empty_method_text_is_refused(folder):
    (folder / "methods/test-method.fr.md").write_text("\n")

    assert "methods/test-method.fr.md: the text of method test-method is empty" in refusal(folder)


def test_a_file_that_is_not_utf_8_is_refused_by_name(folder):
    (folder / CITATIONS).write_bytes(b'[report]\ntitle = "\xe9tude"')

    assert f"{CITATIONS}: cannot be read" in refusal(folder)


def test_a_broken_set_that_no_month_uses_is_refused_all_the_same(folder):
    (folder / "sets/NEXT.toml").write_text(SET.replace("TEST", "NEXT") + MOBILE_A)

    assert "sets/NEXT.toml: set: no value for" in refusal(folder)


def test_a_month_is_asked_for_by_its_first_day(folder):
    assert "2026-06-15 is not the first day of a month" in refusal(folder, date(2026, 6, 15))


@pytest.mark.parametrize("brand", ["ours", "theirs"])
def test_factors_that_count_other_volume_than_a_source_are_refused_with_both_names(folder, brand):
    change(folder, SET_FILE, 'volume_basis = "up_and_down"', 'volume_basis = "down_only"')

    with pytest.raises(FactorError, match=r"source \w+ \(\w+\.toml\): volume_counted is 'up_and_down'") as refused:
        check_volume_basis(in_force(folder, JUNE, [brand]), read_sources(SOURCES))

    assert f"factor set TEST (brand {brand}" in str(refused.value)
    assert "volume_basis 'down_only'" in str(refused.value)


def test_factors_of_a_network_that_no_source_measures_are_not_compared(folder):
    change(folder, SET_FILE, 'volume_basis = "up_and_down"', 'volume_basis = "down_only"')
    mobile = {name: s for name, s in read_sources(SOURCES).items() if getattr(s, "network", None) != "fixed"}

    check_volume_basis([f for f in in_force(folder, JUNE, ["ours"]) if f.network == "fixed"], mobile)


# The command


def test_check_says_what_it_checked_in_four_lines(capsys):
    assert main(["check"]) == 0

    said = capsys.readouterr().out
    assert "3 sets, 12 values, 5 parameters, 6 sources, 2 assignments, 8 hypotheses" in said
    assert "not yet frozen" not in said
    assert len(said.splitlines()) == 4


def test_check_of_a_refused_folder_says_why_and_fails(folder, capsys):
    change(folder, SET_FILE, 'amount = "10"', 'amount = "-10"')

    assert main(["check", str(folder)]) == 1
    assert f"The factors are refused: {folder / SET_FILE}: value 1 (mobile/volume).amount" in capsys.readouterr().err
