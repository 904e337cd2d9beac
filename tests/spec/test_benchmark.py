"""The benchmark table: own ratios beside bands and published figures, and plainly what is not known."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from factors.registry import load
from jobs.benchmark import Energy, benchmark, energy_per_gigabyte
from jobs.run import PROJECT, Refused
from tests.audit_lake import MONTH, Used, settings_of, write_month

TODAY = date(2026, 11, 5)


def test_own_ratios_stand_beside_their_band_and_what_others_published(tmp_path):
    lines = list(benchmark(write_month(tmp_path), MONTH))

    # 17.800000001 GB of four mobile subscriptions.
    assert "  A: grams of the volume for each GB         12.30          10 to 55  gCO2e/GB: within" in lines
    assert any(
        "France, transitional national value, 2022 (an upper bound)" in line and "own is 0.25 of it" in line for line in lines
    )
    assert any("read in the primary text: Bouygues Telecom" in line for line in lines)


def test_a_slip_of_bits_for_bytes_is_named(tmp_path):
    wrong = [Used(f"s{n}", volumes=(("4g", "home", 0, 8 * 15_000_000_000),)) for n in range(3)]

    lines = list(benchmark(write_month(tmp_path, wrong), MONTH))

    assert any(line.endswith("GB: above the band, 8 times too much: bits and bytes?") for line in lines)


def test_electricity_that_no_factor_states_is_said_not_to_be_known_and_what_others_published_is_shown(tmp_path):
    lines = list(benchmark(write_month(tmp_path), MONTH))

    assert "  mobile, own: not known. FR-RCP2-NAT-2022 states grams, not electricity" in lines
    assert any(
        line.strip().startswith("France, Base Empreinte") and "0.236  kWh/GB; read in the primary text" in line for line in lines
    )
    assert any("No operator's figure by that definition was found." in line for line in lines)


def test_a_set_that_states_energy_gives_the_carbon_intensity_of_its_operation():
    example = load(PROJECT / "factors").sets["EXAMPLE-ENERGY-GRID"]

    # 0.236 kWh/GB x 51.9 g/kWh; the embodied grams are not of the operation.
    assert energy_per_gigabyte(example, "mobile", MONTH, TODAY) == Energy(Decimal("0.236"), Decimal("12.2484"))
    assert energy_per_gigabyte(example, "fixed", MONTH, TODAY) == Energy(Decimal("0.0687"), Decimal("3.56553"))


def test_twelve_times_the_month_is_set_beside_the_totals_of_the_sector(tmp_path):
    lines = list(benchmark(write_month(tmp_path), MONTH))

    # 10,906.44 g x 12 = 130.88 kg
    assert "totals of the French sector in a year; twelve times the own month is 0.00013 ktCO2e" in lines
    (arcep,) = [line for line in lines if "scope 1 and 2, 2023" in line]
    assert "397  ktCO2e; own is 0.000033 % of it; not verified: Arcep" in arcep
    assert any("They do not reconcile" in line for line in lines)


def test_a_month_that_is_not_published_has_nothing_to_compare(tmp_path: Path):
    with pytest.raises(Refused, match="nothing is published for 2026-10"):
        list(benchmark(settings_of(tmp_path), MONTH))
