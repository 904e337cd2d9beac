"""The demonstration month against its truth, through Airflow itself, and a search of all it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.launch import STAGES
from jobs.run import PROJECT, Settings
from schemas.flow import FLOWS

pytest.importorskip("airflow")
pytestmark = [pytest.mark.airflow, pytest.mark.slow]

MONTH = "2026-10"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A var folder in which Airflow has run a small demonstration month, as `make run` does."""
    folder = tmp_path_factory.mktemp("var")
    (folder / "jars").symlink_to(Settings.from_environment().jars)
    (folder / "java").symlink_to((Settings.from_environment().var / "java").resolve())
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("FOOTPRINT_", "AIRFLOW_", "TZ"))} | {
        "FOOTPRINT_VAR": str(folder)
    }
    shell = ". .setup/environment && airflow db migrate >/dev/null 2>&1 && "
    demo = f"footprint demo --month {MONTH} --subscriptions 120 --seed 7 --formats delimited,ts32297,chf && "
    ran = subprocess.run(
        ["sh", "-c", f"{shell}{demo}python .setup/run.py {MONTH}"],
        cwd=PROJECT, env=settings | {"FOOTPRINT_LANDING": str(folder / "landing")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (folder / "printed").write_text(ran.stdout, encoding="utf-8")
    yield folder
    subprocess.run([sys.executable, "-m", "jobs", "serving", "stop"], cwd=PROJECT, env=settings, check=False)


def table(place: Path, name: str) -> list[dict[str, Any]]:
    from deltalake import DeltaTable

    rows: list[dict[str, Any]] = DeltaTable(str(place / "lake" / name)).to_pyarrow_table().to_pylist()
    return rows


def truth(place: Path) -> dict[str, dict[str, str]]:
    """The truth of the month by subscription key."""
    from jobs.pseudonyms import SERVING_KEY, read_key

    key = read_key(place / "keys", f"{SERVING_KEY}.key")
    with (place / "landing" / f"truth_{MONTH}.csv").open(encoding="utf-8") as file:
        return {key.pseudonym("subscription", row["subscription_id"]).hex(): row for row in csv.DictReader(file)}


def test_every_volume_is_true_to_the_octet(place):
    expected = {key: int(row["octets_up"]) + int(row["octets_down"]) for key, row in truth(place).items()}

    assert {row["subscription_key"]: row["data_volume_bytes"] for row in table(place, "published")} == expected


def test_every_subscription_whose_volume_cannot_be_known_is_flagged(place):
    flagged = {row["subscription_key"] for row in table(place, "published") if row["is_estimated"]}
    unknowable = {key for key, row in truth(place).items() if row["is_unknowable"] == "true"}

    assert unknowable <= flagged
    # A damaged record without octets cannot be told from one that had some.
    assert len(flagged) <= corrupt_records(place)


def corrupt_records(place: Path) -> int:
    counts = json.loads((place / "landing" / f"truth_{MONTH}.json").read_text(encoding="utf-8"))["sources"]
    return sum(source.get("corrupt_records", 0) for source in counts.values())


def test_active_days_network_and_brand_are_true(place):
    expected = {key: (int(row["active_days"]), row["network"], row["brand"]) for key, row in truth(place).items()}

    found = {
        row["subscription_key"].hex(): (row["active_days"], row["network"], row["brand"]) for row in table(place, "subscribed")
    }
    assert found == expected


def test_airflow_ran_every_stage_and_the_terminal_told_what_came_of_it(place):
    printed = (place / "printed").read_text(encoding="utf-8")

    for stage in ("land", "accept", "meter", "estimate", "verify", "publish"):
        assert re.search(rf"\d+ s  {stage} ", printed), stage
    assert "fit to publish" in printed


def test_the_event_of_the_published_asset_has_what_the_ledger_has(place):
    with sqlite3.connect(place / "airflow" / "airflow.db") as metadata:
        ((extra,),) = metadata.execute("SELECT extra FROM asset_event")
    (publication,) = table(place, "publications")

    assert json.loads(extra) == {
        "month": MONTH,
        "rows": len(table(place, "published")),
        "factor_sets": [publication["factor_sets"]],
        **{name: publication[name] for name in ("revision", "publication_id", "figures_hash")},
    }


def test_the_tables_a_run_leaves_are_those_its_stages_are_said_to_write(place):
    said = {name for stage in STAGES for name in FLOWS[stage].writes}

    assert {folder.name for folder in (place / "lake").iterdir()} - said == {"keys", "stage_runs"}


def test_nothing_a_run_leaves_on_disk_names_a_subscriber_or_a_key(place):
    needles = clear_identifiers(place) | {
        (place / "keys" / f"{name}.key").read_bytes().strip() for name in ("identifier", "serving")
    }
    leaks = []
    for path in place.rglob("*"):
        if not path.is_file() or path.is_relative_to(place / "landing") or path.is_relative_to(place / "keys"):
            continue
        octets = contents(path)
        leaks += [f"{path}: {needle!r}" for needle in needles if needle in octets]

    assert len(needles) > 300
    assert leaks == []


def contents(path: Path) -> bytes:
    """A file's octets; of Parquet, its values too, which are compressed."""
    octets = path.read_bytes()
    if path.suffix == ".parquet":
        import pyarrow.parquet

        octets += str(pyarrow.parquet.read_table(path, partitioning=None).to_pylist()).encode()
    return octets


def clear_identifiers(place: Path) -> set[bytes]:
    """Subscription ids and identifiers of the export, as written and without national prefixes."""
    with (place / "landing" / "subscriptions" / "subscriptions_202610.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row[name].lstrip("+").encode() for row in rows for name in ("subscription_id", "identifier")}
