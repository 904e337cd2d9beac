"""A month beside what it would come to otherwise, and a month that takes for granted what nobody has looked at again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from jobs.run import CallError, Refused
from tests.e2e.landing import GB, HEADER, pipe, subscription, write

pytestmark = [pytest.mark.spark, pytest.mark.slow]

OCTOBER = "2026-10"
ANA, BEN = "001010000000001", "001010000000002"


@pytest.fixture(scope="module")
def factors(settings) -> Path:
    """A copy of the shipped factors, for a test to change."""
    return Path(shutil.copytree(settings.factors, settings.var / "factors"))


@pytest.fixture
def place(settings, factors):
    """The settings with factors of their own."""
    return dataclasses.replace(settings, factors=factors)


def october(landing: Path) -> None:
    half = ("2026-10-17T00:00:00+02:00", "")
    write(
        landing,
        "subscriptions/subscriptions_202610.csv",
        [
            HEADER,
            subscription("ana", "mobile", ("imsi", ANA)),
            subscription("ben", "mobile", ("imsi", BEN), half, half),  # 15 of 31 days
            subscription("eve", "fixed", ("line_id", "L000000001")),
        ],
    )
    write(
        landing,
        "pgw_pipe/S4PGWB000001",
        [pipe(ANA, "20261005100000", "a1", 6 * GB, 2 * GB), pipe(BEN, "20261020100000", "b1", GB)],
    )
    write(landing, "pgw_pipe/S4PGWM000001", [pipe(ANA, "20261012100000", "m1", 2 * GB, kind="RGP")])
    line = ["L000000001,2026-10-02T00:00:00Z,2026-10-02T01:00:00Z,0,100000000000"]
    write(landing, "fixed_deltas/fixed_20261002_0001.csv", ["line_id,interval_start,interval_end,octets_up,octets_down", *line])


def scenario(settings, folder: Path | None = None, name: str | None = None, *hypotheses: str) -> dict:
    from jobs.run import usage_month
    from jobs.scenario import Scenario, run
    from jobs.workplace import workplace

    with workplace(settings, "test", str) as opened:
        return run(opened, usage_month(OCTOBER), Scenario(folder, name, hypotheses))


def grams(found: dict) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """Grams beside and in the scenario, by network and component."""
    return {(row["network"], row["component"]): (row["beside_gco2e"], row["scenario_gco2e"]) for row in found["components"]}


def versions(settings) -> dict[str, int]:
    from deltalake import DeltaTable

    return {folder.name: DeltaTable(str(folder)).version() for folder in sorted(Path(settings.lake).iterdir())}


def test_an_expired_hypothesis_stops_the_month_and_is_named_in_the_verdict_as_are_factors_not_frozen(place, run):
    october(Path(place.landing))
    lock = place.factors / "frozen.toml"
    frozen = lock.read_text(encoding="utf-8")
    lock.write_text("\n".join(line for line in frozen.splitlines() if "RCP2-NAT-2022/mobile" not in line), encoding="utf-8")
    file = place.factors / "hypotheses.toml"
    shipped = file.read_text(encoding="utf-8")
    entries = shipped.split("[[hypothesis]]")
    # National defaults serve the month, so theirs counts; nothing of the month is estimated, so the other does not.
    for name in ("national-default", "estimated-volume-counts-as-measured"):
        entries = [e.replace("expires = 2027-12-31", "expires = 2026-10-30") if f'id = "{name}"' in e else e for e in entries]
    file.write_text("[[hypothesis]]".join(entries), encoding="utf-8")

    with pytest.raises(Refused, match=r"expired_hypotheses of all is 1 hypotheses \(national-default\), allowed up to 0"):
        run(place, OCTOBER)

    from deltalake import DeltaTable

    (verdict,) = DeltaTable(f"{place.lake}/verdicts").to_pyarrow_table().to_pylist()
    assert not verdict["passed"]
    assert "(national-default)" in verdict["summary"]
    drafts = [f"FR-RCP2-NAT-2022/mobile/{component}/2024-01" for component in ("subscription", "volume")]
    assert f"unfrozen_factors of all is 2 entries ({', '.join(drafts)})" in verdict["summary"]
    assert (verdict["failures"], verdict["warnings"]) == (1, 1)
    assert not (Path(place.lake) / "publications").exists()
    with pytest.raises(Refused, match="has no passed verdict"):
        run(place, OCTOBER, ("publish",))
    file.write_text(shipped, encoding="utf-8")
    lock.write_text(frozen, encoding="utf-8")


def test_before_a_month_is_published_a_scenario_stands_beside_its_estimate(place):
    found = scenario(place, None, "EXAMPLE-ENERGY-GRID")

    assert found["beside"] == "estimated"
    assert grams(found) == {
        ("mobile", "volume"): (11 * Decimal("12.3"), 11 * Decimal("20.2184")),
        ("mobile", "subscription"): (2 * 475, 0),
        ("fixed", "volume"): (100 * Decimal("1.75"), 100 * Decimal("7.99553")),
        ("fixed", "subscription"): (4175, 0),
    }


def test_a_scenario_leaves_every_table_of_the_lake_as_it_was(place, run):
    run(place, OCTOBER)
    before = versions(place)

    found = scenario(place, None, "EXAMPLE-ENERGY-GRID")

    assert found["beside"] == "published as revision 1"
    assert versions(place) == before
    assert found["place"].startswith(f"{place.var}/scenarios/{OCTOBER}/EXAMPLE-ENERGY-GRID-")
    assert {row["difference_percent"] for row in found["components"] if row["component"] == "subscription"} == {Decimal(-100)}


def test_the_difference_is_that_of_computing_the_month_anew(place, tmp_path):
    edited = Path(shutil.copytree(place.factors, tmp_path / "edited"))
    changed = edited / "sets" / "FR-RCP2-NAT-2022.toml"
    changed.write_text(changed.read_text().replace('amount = "12.3"', 'amount = "24.3"\nlow = "20"\nhigh = "30"'))

    found = scenario(place, edited)

    (mobile,) = [row for row in found["components"] if (row["network"], row["component"]) == ("mobile", "volume")]
    assert mobile["difference_gco2e"] == 11 * 12
    assert [row["difference_gco2e"] for row in found["components"] if row is not mobile] == [0, 0, 0]
    # B of the set has no interval, so the network has none.
    assert [(row["gco2e_low"], row["gco2e_high"]) for row in found["intervals"]] == [(None, None)] * 2


@pytest.mark.parametrize(
    ("hypothesis", "key", "amount"),
    [
        ("whole-subscription-month", ("mobile", "subscription"), 475 + Decimal("0.483870968") * 475),  # 15/31 in nine places
        ("roaming-at-the-national-factor", ("mobile", "volume"), 9 * Decimal("12.3")),
        ("decimal-gigabyte", ("fixed", "volume"), 100 * Decimal("1.62981450557709")),  # 1.75 x 10^9 / 2^30
    ],
)
def test_an_alternative_of_a_hypothesis_changes_what_it_decides(place, hypothesis, key, amount):
    found = scenario(place, None, None, hypothesis)

    figures = grams(found)
    assert figures[key][1] == amount
    untouched = {"volume" if key[1] == "subscription" else "subscription"}
    assert all(beside == other for (_, component), (beside, other) in figures.items() if component in untouched)


def test_a_scenario_cannot_be_taken_for_a_lake_and_published(place, run):
    made = Path(scenario(place, None, "EXAMPLE-ENERGY-GRID")["place"]).parent

    with pytest.raises(CallError, match="is of a scenario, which is no lake"):
        run(dataclasses.replace(place, lake=str(made)), OCTOBER, ("publish",))


def test_the_command_prints_the_difference_by_network_and_component(place, monkeypatch, capsys):
    from jobs import cli

    for name in ("FOOTPRINT_VAR", "FOOTPRINT_FACTORS", "FOOTPRINT_SPARK_MASTER"):
        value = {"FOOTPRINT_VAR": place.var, "FOOTPRINT_FACTORS": place.factors, "FOOTPRINT_SPARK_MASTER": "local[2]"}[name]
        monkeypatch.setenv(name, str(value))

    assert cli.main(["scenario", "--month", OCTOBER, "--set", "EXAMPLE-ENERGY-GRID"]) == 0
    said = capsys.readouterr().out
    assert cli.main(["scenario", "--month", OCTOBER, "--set", "EXAMPLE-ENERGY-GRID", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert said.startswith("2026-10 with EXAMPLE-ENERGY-GRID, beside what is published as revision 1; grams of CO2 equivalent")
    assert "mobile   volume                         135.300                 222.402                  87.102    +64.38" in said
    assert Decimal(found["components"][2]["scenario_gco2e"]) == 0


def test_an_edited_released_value_stops_a_run(place, run):
    changed = place.factors / "sets" / "FR-RCP2-NAT-2022.toml"
    changed.write_text(changed.read_text().replace('amount = "12.3"', 'amount = "12.4"'))
    from jobs.month import factors_of
    from jobs.run import usage_month
    from jobs.workplace import workplace

    edited = pytest.raises(Refused, match="released and then edited: FR-RCP2-NAT-2022/mobile/volume/2024-01")
    with workplace(place, "test", str) as opened, edited:
        factors_of(opened, usage_month(OCTOBER), ["Alpha"])
