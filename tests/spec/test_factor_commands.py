"""``footprint factors`` and ``footprint hypotheses``: what they print is the catalogue's, and none of them opens a lake."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

import factors
from factors.__main__ import main
from tests.spec.test_cli import called, var

__all__ = ["var"]

SHIPPED = Path(factors.__file__).parent
MOBILE = "FR-RCP2-NAT-2022/mobile/volume/2024-01"


def entries(capsys, *arguments: str):
    code, out, err = called(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_list_of_a_month_has_one_factor_for_each_network_and_component(capsys):
    found = entries(capsys, "factors", "list", "--month", "2026-10")

    amounts = {(e["network"], e["component"]): (e["gco2e_per_unit"], e["unit"], e["gco2e_per_unit_low"]) for e in found}
    assert amounts == {
        ("fixed", "volume"): ("1.75", "gCO2e/GB", None),
        ("fixed", "subscription"): ("4175", "gCO2e/subscription-month", None),
        ("mobile", "volume"): ("12.3", "gCO2e/GB", None),
        ("mobile", "subscription"): ("475", "gCO2e/subscription-month", None),
    }
    assert {e["status"] for e in found} == {"national_default"}


def test_list_without_a_month_has_all_that_was_known_on_the_day(capsys):
    sets = [
        {e["id"].split("/")[0] for e in entries(capsys, "factors", "list", "--as-of", day)}
        for day in ("2022-02-16", "2022-02-17")
    ]

    assert sets == [set(), {"FR-AGEC-2022"}]
    assert len(entries(capsys, "factors", "list")) == 17


def test_a_period_is_told_to_its_last_day_and_text_and_json_agree(capsys):
    (listed,) = [e for e in entries(capsys, "factors", "list") if e["id"] == "FR-AGEC-2022/mobile/volume/2022-01"]
    _, out, _ = called(capsys, "factors", "list")

    assert (listed["valid_from"], listed["valid_to"], listed["known_from"]) == ("2022-01-01", "2023-12-31", "2022-02-17")
    (line,) = [line for line in out.splitlines() if line.startswith(listed["id"])]
    assert line.split() == [
        *(listed["id"], "49.4", "gCO2e/GB", "2022-01-01", "to", "2023-12-31", "2022-02-17"),
        *("transitional", "V", "bouygues-telecom-2022"),
    ]


def test_show_cites_a_value_and_says_how_far_it_was_checked(capsys):
    found = entries(capsys, "factors", "show", MOBILE, "--month", "2026-10")

    assert (found["publisher"], found["mark"], found["source_mark"]) == ("ADEME, by Resilio with the operators", "V2", "V2")
    assert (found["licence"], found["gb_basis_is"], found["is_frozen"]) == (
        "Fact cited. Licence of the report not read.",
        "hypothesis",
        True,
    )
    assert found["approval"].startswith("none, which only a national published value may go without")
    assert (found["low"], found["in_month"]["amount"]) == (None, "12.3")


def test_show_of_an_expression_has_its_terms_and_parts(capsys):
    found = entries(capsys, "factors", "show", "EXAMPLE-ENERGY-GRID/mobile/volume/2024-01", "--month", "2026-10")

    assert found["in_month"]["amount"] == "20.2184"
    assert found["in_month"]["terms"] == ["use: mobile-energy × grid@FR", "embodied: mobile-embodied"]
    assert found["in_month"]["parts"][1] == "EXAMPLE-ENERGY-GRID/parameter/grid@FR/2024-01 = 51.9 gCO2e/kWh"
    again = entries(capsys, "factors", "show", found["in_month"]["factor_id"])
    assert again["id"] == found["id"]


def test_diff_of_two_sets_says_what_differs(capsys):
    found = {e["what"]: (e["first"], e["second"]) for e in entries(capsys, "factors", "diff", "FR-AGEC-2022", "FR-RCP2-NAT-2022")}

    assert set(found) == {
        "method_id",
        "data_year",
        *(f"{n}/{c}" for n in ("fixed", "mobile") for c in ("volume", "subscription")),
    }
    assert found["mobile/volume"] == (
        "49.4 gCO2e/GB (FR-AGEC-2022/mobile/volume/2022-01)",
        f"12.3 gCO2e/GB ({MOBILE})",
    )
    assert called(capsys, "factors", "diff", "FR-AGEC-2022", "FR-AGEC-2022") == (0, "no difference\n", "")


def test_diff_of_two_days_says_what_became_known(capsys):
    found = entries(capsys, "factors", "diff", "2024-02-29", "2024-03-01", "--month", "2024-01")
    whole = entries(capsys, "factors", "diff", "2024-02-29", "2024-03-01")

    assert {(e["what"], e["first"]) for e in found} == {
        (f"{n}/{c}", None) for n in ("fixed", "mobile") for c in ("volume", "subscription")
    }
    assert {e["what"].split("/")[0] for e in whole} == {"FR-RCP2-NAT-2022"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("list", "--month", "2021-12"), 1, "no factor set is assigned to brand * for 2021-12"),
        (("list", "--month", "2024-01", "--as-of", "2024-02-29"), 1, "for 2024-01, as known on 2024-02-29"),
        (("list", "--as-of", "2024-2-1"), 2, "is not a day: write it as YYYY-MM-DD"),
        (("list", "--as-of", "2024-02-30"), 2, "is not a day"),
        (("list", "--month", "2024"), 2, "is not a month"),
        (("show", "nothing"), 1, "no set holds nothing"),
        (("show", MOBILE, "--as-of", "2024-02-29"), 1, f"no set holds {MOBILE}, as known on 2024-02-29"),
        (("diff", "FR-AGEC-2022", "LOST"), 1, "there is no set LOST"),
        (("diff", "FR-AGEC-2022", "2024-01-01"), 2, "two sets, or two days"),
        (("diff", "2024-01-01", "2024-03-01", "--as-of", "2024-02-01"), 2, "takes no --as-of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_told_ends_with_1_and_what_cannot_be_asked_with_2(capsys, arguments, code, said):
    found, out, err = called(capsys, "factors", *arguments)

    assert (found, out) == (code, "")
    assert said in err


def test_check_is_the_same_check_by_either_entry(capsys, monkeypatch, tmp_path):
    copy = Path(shutil.copytree(SHIPPED, tmp_path / "factors"))
    monkeypatch.setenv("FOOTPRINT_FACTORS", str(copy))
    assert called(capsys, "factors", "check")[:2] == (main(["check", str(copy)]), capsys.readouterr().out)

    changed = copy / "sets" / "FR-RCP2-NAT-2022.toml"
    changed.write_text(changed.read_text().replace('"12.3"', '"12.4"'))

    code, _, err = called(capsys, "factors", "check")
    assert code == main(["check", str(copy)]) == 1
    assert err.partition(": the factors: ")[2] == capsys.readouterr().err.partition("The factors are refused: ")[2]
    assert f"released and then edited: {MOBILE}." in err


def test_freeze_adds_what_is_new_once(capsys, monkeypatch, tmp_path):
    copy = Path(shutil.copytree(SHIPPED, tmp_path / "factors"))
    monkeypatch.setenv("FOOTPRINT_FACTORS", str(copy))
    changed = copy / "sets" / "FR-RCP2-NAT-2022.toml"
    later = changed.read_text().split("[[value]]")[1].replace("2024-01-01", "2027-01-01").replace("2024-03-01", "2026-12-01")
    changed.write_text(changed.read_text() + "\n[[value]]" + later)

    assert called(capsys, "factors", "freeze")[1].splitlines() == [
        "frozen    FR-RCP2-NAT-2022/fixed/volume/2027-01",
        f"freeze    1 entries added to {copy / 'frozen.toml'}: commit it",
    ]
    assert called(capsys, "factors", "freeze")[1] == f"freeze    0 entries added to {copy / 'frozen.toml'}, it is complete\n"


def test_hypotheses_lists_them_with_owner_and_expiry_and_of_a_month_whether_they_expired(capsys):
    found = entries(capsys, "hypotheses")
    late = entries(capsys, "hypotheses", "--month", "2028-01")

    assert {"id", "text", "owner", "reason", "valid_from", "expires", "expected_effect", "applies_in", "where"} <= found[0].keys()
    assert len(found) == 8
    assert {e["is_expired"] for e in late} == {True}
    assert "owner             CSR reporting\nowner_is_placeholder True" in called(capsys, "hypotheses")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "a scenario needs --factors, --set or --hypothesis"),
        (("--factors", "/nowhere"), "--factors: /nowhere is not a folder"),
        (("--set", "LOST"), "holds EXAMPLE-ENERGY-GRID, FR-AGEC-2022, FR-RCP2-NAT-2022, not LOST"),
        (("--hypothesis", "calendar-month"), "--hypothesis: calendar-month has no alternative in 2026-10"),
        (("--hypothesis", "lost"), "--hypothesis: lost has no alternative in 2026-10"),
        (("--set", "FR-AGEC-2022", "--factors", "/tmp"), "not allowed with argument"),
    ],
)
def test_a_scenario_that_asks_nothing_possible_ends_with_2_before_a_lake_is_opened(capsys, arguments, said):
    code, out, err = called(capsys, "scenario", "--month", "2026-10", *arguments)

    assert (code, out) == (2, "")
    assert said in err


# docs/factors.md, as it is written


def commands_of_the_page() -> list[str]:
    page = (SHIPPED.parent / "docs" / "factors.md").read_text(encoding="utf-8")
    return [line.partition("#")[0].strip() for line in page.splitlines() if line.startswith("footprint ")]


@pytest.mark.parametrize("command", [c for c in commands_of_the_page() if " scenario " not in c])
def test_every_command_of_the_page_on_factors_works_as_it_is_written(capsys, command):
    assert called(capsys, *command.split()[1:])[0] == 0


def test_the_scenarios_of_the_page_ask_for_what_there_is():
    from jobs.scenario import Scenario

    asked = [c.split() for c in commands_of_the_page() if " scenario " in c]
    hypotheses = tuple(name for words in asked for word, name in pairwise(words) if word == "--hypothesis")
    sets = [name for words in asked for word, name in pairwise(words) if word == "--set"]

    assert (len(asked), sets) == (3, ["EXAMPLE-ENERGY-GRID"])
    assert Scenario(None, None, hypotheses).check(SHIPPED, date(2026, 10, 1))


def test_an_operators_own_set_is_put_in_force_by_the_steps_of_the_page(capsys, monkeypatch, tmp_path):
    from factors.changelog import row
    from factors.registry import load

    copy = Path(shutil.copytree(SHIPPED, tmp_path / "factors"))
    monkeypatch.setenv("FOOTPRINT_FACTORS", str(copy))
    shutil.copy(copy / "sets" / "operator-template.toml.example", copy / "sets" / "OURS-2026.toml")
    filled = (copy / "sets" / "OURS-2026.toml").read_text(encoding="utf-8").replace("<OPERATOR-YEAR>", "OURS-2026")
    filled = filled.replace("<method id, lower case, e.g. fr-rcp-fai-v2>", "fr-rcp-fai-v2").replace(
        "<key in sources.toml>", "ours"
    )
    filled = re.sub(r'amount = "<[^>]*>"', 'amount = "7"', filled)
    (copy / "sets" / "OURS-2026.toml").write_text(filled, encoding="utf-8")
    with (copy / "sources.toml").open("a", encoding="utf-8") as sources:
        sources.write('[ours]\ntitle = "T"\npublisher = "P"\naddress = "A"\nlicence = "L"\nmark = "V"\n')
    page = (SHIPPED.parent / "docs" / "factors.md").read_text(encoding="utf-8")
    (assignment,) = re.findall(r"```toml\n(\s*\[\[assignment\]\].*?)```", page, flags=re.DOTALL)
    with (copy / "assignments.toml").open("a", encoding="utf-8") as assignments:
        assignments.write(f"\n{assignment}")

    assert "4 values are not there with their period" in called(capsys, "factors", "check")[2]
    own = load(copy).sets["OURS-2026"]
    with (copy / "CHANGELOG.md").open("a", encoding="utf-8") as changelog:
        changelog.write("\n".join(row(own, value) for value in own.value) + "\n")
    assert "5 are not yet frozen" in called(capsys, "factors", "check")[1]
    assert "5 entries added" in called(capsys, "factors", "freeze")[1]
    assert "none is missing" in called(capsys, "factors", "check")[1]
    served = {day: {e["id"].split("/")[0] for e in entries(capsys, "factors", "list", "--month", "2026-01", "--as-of", day)}
              for day in ("2025-12-14", "2025-12-15")}  # fmt: skip
    assert served == {"2025-12-14": {"FR-RCP2-NAT-2022"}, "2025-12-15": {"OURS-2026"}}
