"""A regulator pack: the same octets for the same month, verified without the lake, and every difference in it is listed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest

from jobs import exact_sql
from jobs.explain import explain
from jobs.pack import MANIFEST, PUBLISHED_MEMBER, archive, as_json, pack
from jobs.pack_check import check
from jobs.run import PROJECT, Refused, code_version, lock_hash
from schemas.tables import ERASURES, METERED, PUBLICATIONS, REVISIONS, SUBSCRIBED
from tests.audit_lake import MONTH, NOW, SMALL, settings_of, write, write_month


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the small month."""
    var = tmp_path_factory.mktemp("var")
    pack(write_month(var), MONTH, None, var / "pack.zip")
    return var / "pack.zip"


def unpacked(file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(file) as zipped:
        zipped.extractall(folder)
    return folder


def packed_again(folder: Path, out: Path, *, honest: bool) -> Path:
    """An archive of changed members; if not honest, with a manifest whose hashes are made to fit."""
    members = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST
    )
    if not honest:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name in members:
            content = (folder / name).read_bytes()
            manifest["members"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        (folder / MANIFEST).write_text(as_json(manifest), encoding="utf-8")
    archive({name: folder / name for name in (MANIFEST, *members)}, out)
    return out


def with_rows(folder: Path, member: str, change: Callable[[list[dict[str, Any]]], Iterable[dict[str, Any]]]) -> None:
    table = pa.parquet.read_table(folder / member)
    pa.parquet.write_table(pa.Table.from_pylist(list(change(table.to_pylist())), schema=table.schema), folder / member)


def test_a_pack_that_nobody_touched_has_no_difference(packed):
    checked = check(packed)

    assert checked.differences == []
    assert "rows        6 worked out again from the input" in checked.facts
    assert "published   code 0.1.0, packages not known" in checked.facts
    assert f"packed      code {code_version()}, packages {lock_hash()}" in checked.facts
    # 475 x 4 + 4,175 x 2 + 12.3 x (3.000000001 + 0.5 + 14.3) + 1.75 x 250 = 10,906.4400000123
    assert any("10906.440000012300 gCO2e" in fact for fact in checked.facts)


def test_it_is_verified_by_a_process_without_lake_settings_or_network(packed, tmp_path):
    alone = (
        ["unshare", "-n"]
        if shutil.which("unshare") and subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0
        else []
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOOTPRINT_", "JAVA", "SPARK"))}
    environment = kept | {"FOOTPRINT_VAR": str(tmp_path / "nothing"), "PYTHONPATH": str(PROJECT)}
    call = [*alone, sys.executable, "-X", "importtime", "-m", "jobs", "verify", str(packed)]

    done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("verified    every hash, every row, every sum: no difference\n")
    assert "pyspark" not in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_the_same_lake_and_revision_give_the_same_octets_in_whatever_order_the_rows_are_stored(packed, tmp_path):
    settings = write_month(tmp_path, reversed(SMALL))

    pack(settings, MONTH, 1, tmp_path / "again.zip")

    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_no_key_or_pseudonym_comes_along(packed, tmp_path):
    folder = unpacked(packed, tmp_path)

    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for used in SMALL:
        assert used.key not in content
        assert used.key.hex().encode() not in content
    for path in folder.rglob("*.parquet"):
        assert not {"subscription_key", "rows_hash"} & set(pa.parquet.read_schema(path).names)
    assert b'"rows_hash"' not in (folder / MANIFEST).read_bytes()


def test_rows_are_numbered_in_the_order_of_their_figures_not_of_their_keys(tmp_path):
    renamed = [type(used)(name, *[getattr(used, f) for f in ("network", "volumes", "brand", "segment", "is_estimated")])
               for used, name in zip(SMALL, ("f", "b", "e", "a", "d", "c"), strict=True)]  # fmt: skip

    for name, some in (("one", SMALL), ("two", renamed)):
        (tmp_path / name).mkdir()
        pack(write_month(tmp_path / name, some), MONTH, None, tmp_path / f"{name}.zip")

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_flipped_octet_in_any_member_is_named_by_member(packed, tmp_path):
    octets = packed.read_bytes()
    with zipfile.ZipFile(packed) as zipped:
        middles = {
            entry.filename: entry.header_offset + len(entry.FileHeader(True)) + entry.file_size // 2 for entry in zipped.filelist
        }
    for name, place in middles.items():
        damaged = tmp_path / "damaged.zip"
        damaged.write_bytes(octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :])
        if name == MANIFEST:
            with pytest.raises(Refused, match=r"manifest\.json: its octets are not those that were packed"):
                check(damaged)
        else:
            assert check(damaged).differences[0].startswith(f"{name}: its octets are not those"), name


def test_a_member_that_is_changed_added_or_taken_away_is_named(packed, tmp_path):
    folder = unpacked(packed, tmp_path / "members")
    (folder / "README.txt").write_text("Nothing to see.", encoding="utf-8")
    (folder / "hypotheses.json").unlink()
    (folder / "more.txt").write_text("more", encoding="utf-8")

    differences = check(packed_again(folder, tmp_path / "changed.zip", honest=True)).differences

    assert [said.split(":")[0] for said in differences] == ["README.txt", "hypotheses.json", "more.txt"]


def test_what_surrounds_the_members_is_judged_too(packed, tmp_path):
    (tmp_path / "longer.zip").write_bytes(b"before" + packed.read_bytes())

    assert check(tmp_path / "longer.zip").differences == [
        "the archive: its members are as they were, but what surrounds them was changed"
    ]


def test_an_edited_figure_with_hashes_made_to_fit_is_found_by_the_second_calculation(packed, tmp_path):
    folder = unpacked(packed, tmp_path / "members")

    def lower(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[0]["footprint_gco2e"] -= Decimal("0.000000000001")
        rows[3]["data_volume_gb_displayed"] += 1
        return rows

    with_rows(folder, PUBLISHED_MEMBER, lower)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE edited AS FROM read_parquet('{folder / PUBLISHED_MEMBER}')")
        edited = exact_sql.figures_hash(connection, "edited")
    manifest["figures_hash_of_rows"] = manifest["publication"]["figures_hash"] = edited
    (folder / MANIFEST).write_text(as_json(manifest), encoding="utf-8")

    differences = check(packed_again(folder, tmp_path / "edited.zip", honest=False)).differences

    of_rows = [said for said in differences if re.search(r": row \d+: ", said)]
    assert of_rows == [
        "output/published.parquet: row 1: footprint_gco2e is 4174.999999999999, the input gives 4175.000000000000",
        "output/published.parquet: row 4: data_volume_gb_displayed is 2, the input gives 1",
    ]
    assert not any("figures hash" in said for said in differences)
    assert any("sums by segment" in said for said in differences)
    assert any("residual of display rounding" in said for said in differences)


def test_every_difference_is_listed_not_the_first(packed, tmp_path):
    folder = unpacked(packed, tmp_path / "members")
    with_rows(folder, "input/metered.parquet", lambda rows: [row | {"octets_down": row["octets_down"] * 8} for row in rows])

    differences = check(packed_again(folder, tmp_path / "eight.zip", honest=False)).differences

    assert {said.split(":")[1].strip() for said in differences if said.startswith("output/published.parquet: row")} == {
        "row 2", "row 4", "row 5", "row 6"
    }  # fmt: skip
    assert any(said.startswith("balances.json: volume of holder") for said in differences)


@pytest.mark.parametrize(
    ("member", "old", "new", "said"),
    [
        (
            "factors/sets/FR-RCP2-NAT-2022.toml",
            'amount = "12.3"',
            'amount = "12.4"',
            "factors.json: FR-RCP2-NAT-2022/mobile/volume",
        ),
        ("factors.json", "12.30000000000000", "12.40000000000000", "factors.json: its hash is"),
        (
            "balances.json",
            '"records_accepted": 8',
            '"records_accepted": 9',
            "balances.json: pgw_pipe/S4PGWM000001: records balance",
        ),
        (
            "verdict.json",
            '"measured": "0.000000000000"',
            '"measured": "1.000000000000"',
            "verdict.json: files_out_of_balance of all",
        ),
    ],
)
def test_what_does_not_agree_with_the_rest_is_found_though_hashes_were_made_to_fit(packed, tmp_path, member, old, new, said):
    folder = unpacked(packed, tmp_path / "members")
    text = (folder / member).read_text(encoding="utf-8")
    assert old in text
    (folder / member).write_text(text.replace(old, new), encoding="utf-8")

    differences = check(packed_again(folder, tmp_path / "edited.zip", honest=False)).differences

    assert any(difference.startswith(said) for difference in differences), differences


def test_a_row_taken_away_from_input_and_output_is_missed_by_the_totals(packed, tmp_path):
    folder = unpacked(packed, tmp_path / "members")
    for member in ("input/subscribed.parquet", "input/metered.parquet", PUBLISHED_MEMBER):
        with_rows(folder, member, lambda rows: [row for row in rows if row["row"] != 1])

    differences = check(packed_again(folder, tmp_path / "less.zip", honest=False)).differences

    assert any("rows add up to (5," in said for said in differences)


def test_a_pack_stays_valid_after_an_erasure_and_one_made_after_it_says_what_is_missing(tmp_path):
    settings = write_month(tmp_path)
    pack(settings, MONTH, None, tmp_path / "before.zip")
    key = SMALL[0].key
    for table in (REVISIONS, SUBSCRIBED, METERED):
        kept = [row for row in rows_of(settings, table) if row["subscription_key"] not in (key, key.hex())]
        write(settings, table, kept, mode="overwrite")
    write(settings, ERASURES, [{"kind": "subscription", "usage_month": MONTH, "reason": "art. 17", "erased_at": NOW}])
    pack(settings, MONTH, None, tmp_path / "after.zip")

    before, after = check(tmp_path / "before.zip"), check(tmp_path / "after.zip")

    assert (before.differences, after.differences) == ([], [])
    assert any(fact.startswith("erased      figures of the month were erased after publication") for fact in after.facts)
    assert "rows        5 worked out again from the input" in after.facts


def rows_of(settings: Any, table: Any) -> list[dict[str, Any]]:
    from deltalake import DeltaTable

    return list(DeltaTable(f"{settings.lake}/{table.name}").to_pyarrow_table().to_pylist())


def test_what_is_no_pack_is_refused(tmp_path):
    (tmp_path / "text").write_text("no archive", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as zipped:
        zipped.writestr("a", "b")

    for name, said in (("absent", "is not there"), ("text", "is no archive"), ("other.zip", "it is no pack of this system")):
        with pytest.raises(Refused, match=said):
            check(tmp_path / name)


def test_a_month_or_revision_that_is_not_published_is_refused(tmp_path):
    settings = settings_of(tmp_path)
    with pytest.raises(Refused, match="nothing is published for 2026-10"):
        pack(settings, MONTH, None, tmp_path / "x.zip")

    write_month(tmp_path)
    with pytest.raises(Refused, match="2026-10 has no revision 2: published are 1"):
        pack(settings, MONTH, 2, tmp_path / "x.zip")

    # What a revision was made of goes with its figures.
    first = rows_of(settings, PUBLICATIONS)[0]
    write(settings, PUBLICATIONS, [first | {"publication_id": 2, "revision": 2, "batch_cutoff": 2}])
    with pytest.raises(Refused, match="revision 2 of 2026-10 has no figures any more: they were erased"):
        pack(settings, MONTH, 2, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_the_readme_says_in_both_languages_that_it_is_a_controlled_document(packed):
    with zipfile.ZipFile(packed) as zipped:
        text = zipped.read("README.txt").decode()
        names = zipped.namelist()

    assert "CONTROLLED DOCUMENT" in text
    assert "DOCUMENT À DIFFUSION CONTRÔLÉE" in text
    for name in names:
        told = name if not name.startswith("factors/") else "factors/"
        assert name == "README.txt" or text.count(f"  {told}") == 2, name


CORRECTION = """
[[value]]
network = "mobile"
component = "volume"
version = 2
amount = "13.1"
unit = "gCO2e/GB"
valid_from = 2024-01-01
known_from = {known_from}
source = "ademe-6789-2024"
mark = "V2"
status = "national_default"
"""


def test_a_factor_corrected_since_leaves_what_was_published_explained_with_what_was_known_then(tmp_path):
    settings = write_month(tmp_path)
    factors = tmp_path / "factors"
    shutil.copytree(settings.factors, factors, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    catalogue = factors / "sets" / "FR-RCP2-NAT-2022.toml"
    correction = CORRECTION.format(known_from=(NOW + timedelta(days=9)).date())
    catalogue.write_text(catalogue.read_text(encoding="utf-8") + correction, encoding="utf-8")
    corrected = replace(settings, factors=factors)

    pack(corrected, MONTH, None, tmp_path / "pack.zip")

    assert check(tmp_path / "pack.zip").differences == []
    manifest = json.loads((unpacked(tmp_path / "pack.zip", tmp_path / "pack") / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["factors_known_on"] == f"{NOW:%Y-%m-%d}"
    found = explain(corrected, MONTH, SMALL[0].key.hex())
    assert found.agrees
    assert {each["id"] for each in found.hypotheses} >= {"decimal-gigabyte"}
    assert {part["factor_id"] for part in found.components} == {
        "FR-RCP2-NAT-2022/mobile/volume/2024-01",
        "FR-RCP2-NAT-2022/mobile/subscription/2024-01",
    }
