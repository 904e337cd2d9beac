"""The contracts against a month published and restated: the contract CLI finds what they promise, wherever it is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from psycopg.conninfo import conninfo_to_dict

from jobs.export import TABLES, opened, write_parquet
from jobs.postgres import connect, url
from jobs.run import Settings
from schemas.compatibility import ENDING, FOLDER
from schemas.odcs import CONTRACTS, Contract, document
from tests.e2e.conftest import at_a_place, run_stages
from tests.e2e.test_restatement import MONTH, late_file, october, restate

pytestmark = [pytest.mark.spark, pytest.mark.slow]

NOT_CHECKED = "Checking types in parquet files is not supported yet."
"""What the CLI says of every type in a Parquet file; tests/test_export.py compares these types."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> Iterator[Settings]:
    """A month that was published and, since a file came late, restated."""
    with at_a_place(tmp_path_factory.mktemp("place")) as found:
        october(Path(found.landing))
        run_stages(found, MONTH)
        late_file(found)
        restate(found)
        yield found


@pytest.fixture(scope="module")
def exports(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every table and view as `footprint export parquet` writes it."""
    folder = tmp_path_factory.mktemp("exports")
    for name in TABLES:
        with opened(settings, name, None) as rows:
            write_parquet(rows, folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which DuckDB finds its Delta extension, which comes in a wheel: nothing is fetched."""
    wheel = find_spec("duckdb_extension_delta")
    assert wheel is not None
    assert wheel.origin is not None
    (extension,) = Path(wheel.origin).parent.rglob("delta.duckdb_extension")
    import duckdb

    with duckdb.connect() as connection:
        ((platform,),) = connection.execute("PRAGMA platform").fetchall()
    folder = tmp_path_factory.mktemp("home")
    place = folder / ".duckdb" / "extensions" / f"v{duckdb.__version__}" / platform
    place.mkdir(parents=True)
    (place / extension.name).symlink_to(extension)
    return folder


def verdict(contract: Contract, server: str, cwd: Path, **environment: str) -> tuple[int, list[str], int]:
    """What the contract CLI says: its exit code, what it does not pass, and how many checks it made."""
    out = cwd / f"{contract.name}-{server}.json"
    command = [str(Path(sys.executable).with_name("datacontract")), "test", str(FOLDER / f"{contract.name}{ENDING}")]
    command += ["--server", server, "--output", str(out), "--output-format", "json"]
    ended = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    checks = json.loads(out.read_text(encoding="utf-8"))["checks"]
    wrong = [f"{c['name']}: {c['reason']}" for c in checks if c["result"] != "passed" and c["reason"] != NOT_CHECKED]
    return ended.returncode, wrong, len(checks)


def served_by(server: str) -> list[Contract]:
    return [c for c in CONTRACTS if server in {found["server"] for found in document(c)["servers"]}]


def promises(contract: Contract) -> int:
    """How many columns and rules a contract has at least."""
    return sum(len(found["properties"]) + len(found.get("quality", ())) for found in document(contract)["schema"])


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_the_contract_cli_finds_nothing_wrong_with_a_contract(contract):
    command = [str(Path(sys.executable).with_name("datacontract")), "lint", str(FOLDER / f"{contract.name}{ENDING}")]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout
    assert "valid against ODCS v3.1.0" in ended.stdout


@pytest.mark.parametrize("contract", served_by("lake"), ids=lambda contract: contract.name)
def test_the_lake_keeps_its_contract(settings, home, tmp_path, contract):
    code, wrong, checks = verdict(contract, "lake", tmp_path, HOME=str(home), FOOTPRINT_LAKE=settings.lake)

    assert (code, wrong) == (0, [])
    assert checks > promises(contract)


@pytest.mark.parametrize("contract", served_by("postgresql"), ids=lambda contract: contract.name)
def test_postgresql_keeps_its_contract_for_an_auditor_who_reads_it(settings, tmp_path, contract):
    with closing(connect(settings)):  # it runs
        place = conninfo_to_dict(url(settings, "footprint_auditor"))
    login = {"DATACONTRACT_POSTGRES_USERNAME": str(place["user"]), "DATACONTRACT_POSTGRES_PASSWORD": "none is asked for"}

    code, wrong, checks = verdict(
        contract, "postgresql", tmp_path, PGHOST=str(place["host"]), PGDATABASE=str(place["dbname"]), **login
    )

    assert (code, wrong) == (0, [])
    assert checks > promises(contract)


@pytest.mark.parametrize("contract", served_by("export"), ids=lambda contract: contract.name)
def test_exports_keep_their_contract(exports, contract):
    code, wrong, checks = verdict(contract, "export", exports)

    assert (code, wrong) == (0, [])
    assert checks > promises(contract)


def test_data_that_break_the_contract_are_found(exports, tmp_path):
    for name in ("published", "publications", "corrections"):
        table = pyarrow.parquet.read_table(exports / f"{name}.parquet")
        if name == "published":
            rows = table.to_pylist()
            rows[0] |= {"data_volume_bytes": -1}
            rows[1] |= {"network": None}
            free = pa.schema([field.with_nullable(True) for field in table.schema])
            table = pa.Table.from_pylist([*rows, rows[2]], schema=free).drop_columns("brand")
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")

    code, wrong, _ = verdict(CONTRACTS[0], "export", tmp_path)

    assert code == 1
    said = "\n".join(wrong)
    for name in ("field 'brand' is present", "field network has no missing values", "data_volume_bytes >= 0", "primary key"):
        assert name in said, said
