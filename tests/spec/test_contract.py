"""What readers rely on. A change that breaks them fails here and in `make check`, unless the contract has a new major version."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.pseudonyms import SERVING_KEY, Key
from jobs.run import Settings
from jobs.serving_schema import TABLES as SERVED_TABLES
from jobs.serving_schema import VIEWS as SERVED_VIEWS
from schemas.__main__ import main
from schemas.compatibility import ENDING, FOLDER, RELEASED, SUMS, change, complaints, release, rendered, write
from schemas.odcs import CONTRACTS, PUBLISHED_CONTRACT, TEST_VECTORS, document
from schemas.readers import READERS
from schemas.tables import TABLES
from schemas.views import VIEWS

DOCUMENTS = [document(contract) for contract in CONTRACTS]
PUBLISHED_1 = FOLDER / RELEASED / f"published-1.0.0{ENDING}"


def column(found: dict[str, Any], table: str, name: str) -> dict[str, Any]:
    return next(c for c in properties(found, table) if c["name"] == name)


def properties(found: dict[str, Any], table: str) -> list[dict[str, Any]]:
    return next(declared["properties"] for declared in found["schema"] if declared["name"] == table)


# What is promised


def test_the_contracts_are_as_declared_and_keep_what_was_released():
    assert complaints(DOCUMENTS) == []
    assert main(["contracts", "--check"]) == 0


def test_published_keeps_every_column_and_type_that_its_first_version_promised():
    found = yaml.safe_load(PUBLISHED_1.read_text(encoding="utf-8"))

    promised = {c["name"]: (c["physicalType"], c["required"]) for c in properties(found, "published")}
    assert promised["subscription_key"] == ("STRING", True)
    assert promised["data_volume_bytes"] == ("BIGINT", True)
    assert promised["footprint_gco2e"] == ("DECIMAL(24,12)", True)
    assert promised["footprint_gco2e_low"] == ("DECIMAL(24,12)", False)
    assert len(promised) == 18
    assert change(found, document(PUBLISHED_CONTRACT)).breaks == ()


def test_every_audit_view_and_every_table_of_billing_and_the_portal_has_a_contract():
    covered = {declared.name for contract in CONTRACTS for declared in contract.objects}

    assert covered >= {view.name for view in VIEWS}
    assert covered >= {*READERS["footprint_billing"], *READERS["footprint_portal"]}


@pytest.mark.parametrize("found", DOCUMENTS, ids=lambda found: found["name"])
def test_a_contract_is_valid_against_the_schema_of_the_standard(found):
    # The one that the contract CLI has for the declared version.
    schema = json.loads((files("datacontract") / "schemas" / "odcs-3.1.0.schema.json").read_text(encoding="utf-8"))

    jsonschema.validators.validator_for(schema)(schema).validate(yaml.load(rendered(found), yaml.CSafeLoader))


@pytest.mark.parametrize("found", DOCUMENTS, ids=lambda found: found["name"])
def test_a_contract_names_no_place_of_a_machine_and_the_roles_that_postgresql_grants(found):
    names = {declared["name"] for declared in found["schema"]}
    servers = {server["server"]: server for server in found["servers"]}

    assert not [server for server in servers.values() if str(server.get("path", "")).startswith(("/", "~"))]
    assert {role["role"] for role in found.get("roles", ())} == {role for role, read in READERS.items() if names & set(read)}
    served = {table.name for table in SERVED_TABLES} | {view.name for view in SERVED_VIEWS}
    assert ("postgresql" in servers) == (names <= served)
    assert ("lake" in servers) == (names <= {table.name for table in TABLES})


def test_the_service_levels_are_the_defaults_of_the_close_calendar(tmp_path):
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)})

    levels = {level["property"]: level["value"] for level in document(PUBLISHED_CONTRACT)["slaProperties"]}

    expected = {"timeToEstimate": settings.provisional_days, "latency": settings.billing_days, "frequency": 1}
    expected |= {"timeToRestate": settings.restatement_days, "retention": settings.figures_kept_months}
    assert levels == expected


def test_a_unit_and_a_row_rule_of_the_declaration_are_in_the_contract():
    found = document(PUBLISHED_CONTRACT)

    assert {"property": "unit", "value": "gCO2e"} in column(found, "published", "footprint_gco2e")["customProperties"]
    assert {"property": "unit", "value": "bytes"} in column(found, "published", "data_volume_bytes")["customProperties"]
    rules = {rule["name"]: rule["query"] for rule in found["schema"][0]["quality"]}
    assert rules["volume_not_negative"] == "SELECT count(*) FROM ${table} WHERE NOT (data_volume_bytes >= 0)"


@pytest.mark.parametrize("vector", TEST_VECTORS, ids=lambda vector: vector["subscriptionId"])
def test_billing_derives_subscription_key_as_the_test_vectors_of_the_contract_say(vector):
    secret, subscription = bytes.fromhex(vector["servingKeyHex"]), vector["subscriptionId"]

    by_the_standard_library = hmac.new(secret, b"subscription\x00" + subscription.encode(), hashlib.sha256).hexdigest()[:32]

    assert by_the_standard_library == vector["subscriptionKey"]
    assert Key(SERVING_KEY, secret).pseudonym("subscription", subscription).hex() == vector["subscriptionKey"]


# What breaks it


def without_brand(found: dict[str, Any]) -> None:
    properties(found, "published").remove(column(found, "published", "brand"))


def without_corrections(found: dict[str, Any]) -> None:
    found["schema"] = [declared for declared in found["schema"] if declared["name"] != "corrections"]


def of_another_type(found: dict[str, Any]) -> None:
    column(found, "published", "footprint_gco2e")["physicalType"] = "DECIMAL(24,9)"


def that_may_be_null(found: dict[str, Any]) -> None:
    column(found, "published", "network")["required"] = False


def that_is_never_null(found: dict[str, Any]) -> None:
    column(found, "published", "footprint_gco2e_low")["required"] = True


def of_another_unit(found: dict[str, Any]) -> None:
    column(found, "published", "footprint_gco2e")["customProperties"] = [{"property": "unit", "value": "kgCO2e"}]


def of_another_grain(found: dict[str, Any]) -> None:
    column(found, "published", "network").update(primaryKey=True, primaryKeyPosition=3)


def without_a_rule(found: dict[str, Any]) -> None:
    found["schema"][0]["quality"].pop()


BREAKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "published.brand is gone": without_brand,
    "corrections.reason is gone": without_corrections,
    "published.footprint_gco2e was DECIMAL(24,12), not null, gCO2e and is DECIMAL(24,9), not null, gCO2e": of_another_type,
    "published.network was STRING, not null and is STRING, null": that_may_be_null,
    "published.footprint_gco2e_low was DECIMAL(24,12), null, gCO2e and is DECIMAL(24,12), not null, gCO2e": that_is_never_null,
    "published.footprint_gco2e was DECIMAL(24,12), not null, gCO2e and is DECIMAL(24,12), not null, kgCO2e": of_another_unit,
    "published: its grain was": of_another_grain,
    "published: rule footprint_not_negative is gone": without_a_rule,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The contract of published, released as 1.0.0."""
    (tmp_path / RELEASED).mkdir()
    first = document(PUBLISHED_CONTRACT) | {"version": "1.0.0"}
    write([first], tmp_path)
    assert release([first], tmp_path) == [f"published-1.0.0{ENDING}"]
    return tmp_path


def changed(by: Callable[[dict[str, Any]], None], version: str) -> dict[str, Any]:
    found = copy.deepcopy(document(PUBLISHED_CONTRACT)) | {"version": version}
    by(found)
    return found


@pytest.mark.parametrize(("said", "by"), BREAKS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_what_breaks_readers_is_refused_until_the_major_version_is_raised(folder, said, by):
    for version in ("1.0.0", "1.0.1", "1.9.0"):
        found = changed(by, version)
        write([found], folder)
        (complaint,) = complaints([found], folder)
        assert complaint.startswith("contract published breaks its readers (")
        assert said in complaint
        assert complaint.endswith("1.0.0 is released, so VERSIONS must say 2.0.0 or more")
        with pytest.raises(ValueError, match="breaks its readers"):
            release([found], folder)

    found = changed(by, "2.0.0")
    write([found], folder)
    assert complaints([found], folder) == []
    assert release([found], folder) == [f"published-2.0.0{ENDING}"]


def with_a_column(found: dict[str, Any]) -> None:
    properties(found, "published").append(
        {"name": "footprint_gco2e_rank", "physicalType": "INT", "logicalType": "integer", "required": False}
    )


def with_a_rule(found: dict[str, Any]) -> None:
    found["schema"][1]["quality"] = [{"name": "revision_from_1", "query": "SELECT count(*) FROM ${table} WHERE revision < 1"}]


def with_a_table(found: dict[str, Any]) -> None:
    found["schema"].append(copy.deepcopy(found["schema"][0]) | {"name": "published_again"})


@pytest.mark.parametrize("by", [with_a_column, with_a_rule, with_a_table])
def test_an_addition_asks_for_a_minor_version(folder, by):
    found = changed(by, "1.0.1")
    write([found], folder)
    (complaint,) = complaints([found], folder)
    assert "is another than was released" in complaint
    assert complaint.endswith("VERSIONS must say 1.1.0 or more")

    found = changed(by, "1.1.0")
    write([found], folder)
    assert complaints([found], folder) == []


def test_another_word_asks_for_a_patch_version(folder):
    def by(found: dict[str, Any]) -> None:
        column(found, "published", "brand")["description"] = "Brand."

    found = changed(by, "1.0.0")
    write([found], folder)
    (complaint,) = complaints([found], folder)
    assert complaint.endswith("(its words are others): 1.0.0 is released, so VERSIONS must say 1.0.1 or more")


def test_a_later_version_is_held_against_the_last_one_released_not_against_the_first(folder):
    second = changed(with_a_column, "1.10.0")
    write([second], folder)
    release([second], folder)

    third = changed(lambda found: None, "1.11.0")
    write([third], folder)
    (complaint,) = complaints([third], folder)

    assert "published.footprint_gco2e_rank is gone" in complaint
    assert "1.10.0 is released" in complaint


def test_what_was_released_cannot_be_edited_removed_or_added_by_hand(folder):
    first = [document(PUBLISHED_CONTRACT) | {"version": "1.0.0"}]
    path = folder / RELEASED / f"published-1.0.0{ENDING}"
    kept = path.read_bytes()

    path.write_bytes(kept.replace(b"DECIMAL(24,12)", b"DECIMAL(24,9)"))
    assert any("was released and then edited" in complaint for complaint in complaints(first, folder))
    path.unlink()
    assert any("was released and then edited, removed" in complaint for complaint in complaints(first, folder))
    path.write_bytes(kept)
    assert complaints(first, folder) == []
    shutil.copy(path, folder / RELEASED / f"published-0.9.0{ENDING}")
    assert any("put there by hand" in complaint for complaint in complaints(first, folder))


def test_a_contract_that_was_released_cannot_vanish(folder):
    write([], folder)

    assert complaints([], folder) == ["contract published was released and is gone"]


def test_a_stale_or_a_forgotten_file_is_named(folder):
    first = document(PUBLISHED_CONTRACT) | {"version": "1.0.0"}
    (folder / f"published{ENDING}").write_text("", encoding="utf-8")
    (folder / f"old{ENDING}").write_text("", encoding="utf-8")

    stale = [complaint.split(" is not")[0] for complaint in complaints([first], folder)]

    assert stale == [f"old{ENDING}", f"published{ENDING}"]


def test_the_sums_of_what_was_released_are_those_that_sha256sum_reads(folder):
    (line,) = (folder / RELEASED / SUMS).read_text(encoding="utf-8").splitlines()
    digest, name = line.split("  ")

    assert hashlib.sha256((folder / RELEASED / name).read_bytes()).hexdigest() == digest
