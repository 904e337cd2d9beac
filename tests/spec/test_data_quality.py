"""Whether a month is fit: every rule is declared whole, and a measurement passes up to its limits and not beyond."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_quality.benchmarks import read_benchmarks
from data_quality.judge import Measurement, judge
from data_quality.ratios import ratios
from data_quality.rules import EVERY_NETWORK, LIMITS, MARKS, Rule, read_rules, rule_for
from jobs.verify import _against_before, _in_words

NETWORKS = ("fixed", "mobile", EVERY_NETWORK)
SHARE = Rule("share", None, None, Decimal("0.02"), "share", True, 0, "A share.", "a choice")
BAND = Rule("band", "mobile", Decimal(4), Decimal(50), "GB", True, 1000, "A mean.", None)
ZERO = Rule("zero", None, Decimal(0), Decimal(0), "octets", True, 0, "A difference.", None)


def test_every_rule_says_what_it_measures_what_it_may_be_and_in_which_unit():
    rules = read_rules()

    assert rules
    for (name, network), rule in rules.items():
        assert (rule.name, rule.network) == (name, network)
        assert network in (None, "fixed", "mobile")
        assert rule.lowest is not None or rule.highest is not None, f"{name} has no limit"
        assert rule.lowest is None or rule.highest is None or rule.lowest <= rule.highest, name
        assert rule.description.endswith("."), name
        assert rule.unit, name
        # A limit that is neither zero nor a definition comes from somewhere.
        is_chosen = any(limit not in (None, Decimal(0)) for limit in (rule.lowest, rule.highest))
        assert bool(rule.source) or not is_chosen, f"{name} has a limit without a source"


def test_a_rule_is_declared_for_each_network_or_for_all():
    rules = read_rules()

    for name in {name for name, _ in rules}:
        of_networks = {network for declared, network in rules if declared == name}
        assert of_networks in ({None}, {"fixed", "mobile"}), name


def test_a_network_has_its_own_rule_or_the_one_for_all_and_an_unknown_rule_is_an_error():
    rules = read_rules()

    assert rule_for(rules, "mean_gigabytes_per_subscription", "mobile").network == "mobile"
    assert rule_for(rules, "rejected_records_share", "mobile").network is None
    with pytest.raises(KeyError):
        rule_for(rules, "mean_gigabytes_per_subscription", EVERY_NETWORK)
    with pytest.raises(KeyError):
        rule_for(rules, "nobody_measures_this", "mobile")


def test_every_rule_that_verify_measures_is_declared_and_every_declared_rule_is_measured():
    measured = set(re.findall(r'yield "(\w+)"', (LIMITS.parent.parent / "jobs" / "verify.py").read_text(encoding="utf-8")))
    measured |= set(ratios(1, Decimal(1), Decimal(1), Decimal(1)))

    assert measured == {name for name, _ in read_rules()}


def test_every_band_that_rests_on_published_figures_says_how_they_were_checked():
    for rule in read_rules().values():
        is_choice = rule.source is None or rule.source.startswith("operator's choice")
        assert is_choice == (rule.mark is None), f"{rule.name} of {rule.network}"
        assert rule.mark is None or rule.mark in MARKS


@pytest.mark.parametrize(
    ("name", "network", "sound"),
    [
        # A month as the national factors give it: 15 GB and 225 GB, 12.3 and 1.75 g/GB, 475 and 4,175 g.
        ("mean_gigabytes_per_subscription", "mobile", "15"),
        ("mean_gigabytes_per_subscription", "fixed", "225"),
        ("volume_gco2e_per_gigabyte", "mobile", "12.3"),
        ("subscription_gco2e_per_subscription", "fixed", "4175"),
        ("gigabytes_against_month_before", "mobile", "1.1"),
        ("gco2e_against_month_before", "fixed", "0.9"),
    ],
)
@pytest.mark.parametrize("times", [8, 1000])
def test_a_slip_of_a_unit_is_outside_the_band_in_either_direction_and_named(name, network, sound, times):
    rule = rule_for(read_rules(), name, network)

    assert rule.slip(Decimal(sound)) is None
    assert str(rule.slip(Decimal(sound) * times)).startswith(f"{times:,} times too much: ")
    assert str(rule.slip(Decimal(sound) / times)).startswith(f"{times:,} times too little: ")


@pytest.mark.parametrize(
    ("before", "now"),
    [("5", "40"), ("50", "6.25"), ("60", "480"), ("100", "800")],
)
def test_what_a_wide_band_lets_pass_the_month_before_does_not(before, now):
    rules = read_rules()
    bands = [rules["mean_gigabytes_per_subscription", network] for network in ("fixed", "mobile")]
    assert any(band.passes(Decimal(before)) and band.passes(Decimal(now)) for band in bands)

    assert not rules["gigabytes_against_month_before", None].passes(Decimal(now) / Decimal(before))


def test_the_refusal_names_the_measurement_its_band_and_the_slip():
    rule = rule_for(read_rules(), "volume_gco2e_per_gigabyte", "mobile")

    assert _in_words(Measurement("mobile", rule, Decimal("98.4"), True)) == (
        "volume_gco2e_per_gigabyte of mobile is 98.4 gCO2e/GB, allowed 10 to 55 (8 times too much: bits and bytes?)"
    )


def test_means_are_compared_with_those_of_the_month_before_where_it_was_published():
    now = SimpleNamespace(gigabytes=Decimal(240), gco2e=Decimal(4000))
    before = SimpleNamespace(subscriptions=5, octets=75 * 10**9, gco2e=Decimal(2500))

    assert list(_against_before(before, "mobile", now, 2)) == [
        ("gigabytes_against_month_before", "mobile", 8),  # 120 GB after 15 GB
        ("gco2e_against_month_before", "mobile", 4),
    ]
    assert [measured for *_, measured in _against_before(None, "mobile", now, 2)] == [None, None]


def test_a_value_outside_its_band_that_no_slip_explains_is_not_given_one():
    band = rule_for(read_rules(), "mean_gigabytes_per_subscription", "mobile")

    assert not band.passes(Decimal(3))
    assert BAND.slip(Decimal("0.0000001")) is None
    assert ZERO.slip(Decimal(8)) is None


def test_every_published_figure_to_compare_with_has_a_band_a_source_and_a_mark():
    rules = read_rules()

    for other in read_benchmarks():
        rule = rule_for(rules, other.measure, other.network)
        assert rule.unit == other.unit
        assert rule.passes(other.value), f"{other.of}: {other.value} is outside the band it helped to set"
        assert other.source
        assert other.mark in MARKS


def test_energy_and_sector_figures_have_a_unit_a_source_and_a_mark():
    assert {other.unit for other in read_benchmarks("energy")} == {"kWh/GB"}
    assert {other.network for other in read_benchmarks("energy")} == {"fixed", "mobile"}
    assert {(other.measure, other.unit) for other in read_benchmarks("sector")} == {
        ("emissions_per_year", "ktCO2e"),
        ("electricity_per_year", "GWh"),
    }
    for other in (*read_benchmarks("energy"), *read_benchmarks("sector")):
        assert other.value > 0
        assert other.source
        assert other.mark in MARKS


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[Measurement, bool]], Path]:
    """One judgement of measurements at and beyond their limits: Great Expectations takes ten seconds to import."""
    cases = {
        "fixed": [(SHARE, "0.02"), (BAND, "4"), (ZERO, "0")],
        "mobile": [(SHARE, "0.020000000001"), (BAND, "50"), (ZERO, "1")],
        "all": [(SHARE, None), (BAND, "3.999999999999"), (ZERO, "-1")],
        "other": [(SHARE, "0"), (BAND, "50.000000000001"), (ZERO, None)],
    }
    measurements = [
        Measurement(network, rule, None if value is None else Decimal(value), is_blocking=rule is not BAND)
        for network, found in cases.items()
        for rule, value in found
    ]
    pages = tmp_path_factory.mktemp("pages") / "2026-10"
    return list(zip(measurements, judge(measurements, "2026-10", pages), strict=True)), pages


@pytest.mark.slow
def test_a_measurement_passes_up_to_its_limits_and_where_nothing_was_measured(judged):
    found = {(m.network, m.rule.name): passed for m, passed in judged[0]}

    assert {name for name, passed in found.items() if not passed} == {
        ("mobile", "share"),
        ("all", "band"),
        ("other", "band"),
        ("mobile", "zero"),
        ("all", "zero"),
    }


@pytest.mark.slow
def test_the_judgement_is_written_as_pages_that_name_every_measured_rule(judged):
    measurements, pages = judged
    html = {page.relative_to(pages).parts[0]: page.read_text(encoding="utf-8") for page in pages.rglob("*.html")}

    assert (pages / "index.html").is_file()
    for measurement, _ in measurements:
        is_named = measurement.column in html["validations"]
        assert is_named == (measurement.measured is not None), measurement.column
    # The frame judged has one row, and no value that failed is listed as a row's.
    assert "Sampled Unexpected Values" not in html["validations"]
    assert "50.000000000001" not in html["validations"]


@pytest.mark.slow
def test_a_month_with_nothing_to_measure_passes(tmp_path):
    assert judge([Measurement("all", SHARE, None, True)], "2026-11", tmp_path / "pages") == [True]
