"""verify FILE: a regulator pack checked where there is no lake, no Spark and no network. It lists every difference it finds.

Hashes say that the archive is the one that was handed over; the second calculation says that its figures follow from its input,
whoever wrote the hashes.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet

from factors.factor import Factor, factors_id
from factors.reading import FactorError
from factors.registry import Registry, load
from jobs import exact_sql
from jobs.lake_reader import in_memory, rows
from jobs.pack import (
    FORMAT,
    MANIFEST,
    METERED_MEMBER,
    PUBLISHED_MEMBER,
    SUBSCRIBED_MEMBER,
    archive,
    as_json,
    digest,
    residual,
    totals,
)
from jobs.recompute import coefficient
from jobs.run import Refused
from schemas.table import Table
from schemas.tables import FILE_BALANCES, METERED, PUBLISHED, SUBSCRIBED, TOTALS_BY

_PARQUET = {
    "subscribed": (SUBSCRIBED_MEMBER, SUBSCRIBED),
    "metered": (METERED_MEMBER, METERED),
    "published": (PUBLISHED_MEMBER, PUBLISHED),
}
_HALF_GRAM, _HALF_GIGABYTE = Decimal("0.5"), Decimal(500_000_000)


@dataclass(frozen=True)
class Checked:
    """What a check found: facts to say, and every difference."""

    facts: list[str]
    differences: list[str]


def check(file: Path) -> Checked:
    """Check a pack. Raises Refused where it is not one at all."""
    with tempfile.TemporaryDirectory(prefix="footprint-verify-") as name:
        folder = Path(name) / "members"
        unreadable = _unpack(file, folder)
        manifest = _manifest(folder)
        differences = [*unreadable, *_hashes(folder, manifest, {said.split(":")[0] for said in unreadable})]
        if not differences:
            again = Path(name) / "again.zip"
            archive({member: folder / member for member in [MANIFEST, *sorted(manifest["members"])]}, again)
            if digest(again) != digest(file):
                differences.append("the archive: its members are as they were, but what surrounds them was changed")
        facts = [f"pack        {_title(manifest)}", f"manifest    sha256 {digest(folder / MANIFEST)}"]
        facts += [f"{done:<12}{_code(manifest[f'{done}_by'])}" for done in ("published", "packed")]
        with in_memory() as connection:
            found = _figures(connection, folder, manifest)
        return Checked([*facts, *found.facts], [*differences, *found.differences])


def _unpack(file: Path, folder: Path) -> list[str]:
    """Write the members below a folder; say which cannot be read."""
    faults = []
    try:
        with zipfile.ZipFile(file) as packed:
            for name in packed.namelist():
                if name != str(PurePosixPath(name)) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    faults.append(f"{name!r}: no name that a member of a pack has")
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.write_bytes(packed.read(name))
                except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError):
                    faults.append(f"{name}: its octets are not those that were packed (checksum of the archive)")
    except FileNotFoundError:
        raise Refused(f"{file} is not there") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise Refused(f"{file} is no archive, or its table of contents is damaged: {error}") from None
    if any(fault.startswith(f"{MANIFEST}:") for fault in faults):
        raise Refused(f"{MANIFEST}: its octets are not those that were packed: nothing else can be judged by it")
    return faults


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        is_one = manifest["format"] == FORMAT and isinstance(manifest["members"], dict) and bool(manifest["publication"])
    except (OSError, ValueError, KeyError, TypeError):
        is_one = False
    if not is_one:
        raise Refused(f"it holds no {MANIFEST} of the format {FORMAT!r}: it is no pack of this system, or of another version")
    return dict(manifest)


def _hashes(folder: Path, manifest: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    for name, stated in sorted(manifest["members"].items()):
        if name in known:
            continue
        if name not in there:
            yield f"{name}: the manifest names it, and it is not in the archive"
        elif (size := (folder / name).stat().st_size) != stated["size"]:
            yield f"{name}: it has {size:,} octets, the manifest says {stated['size']:,}"
        elif (found := digest(folder / name)) != stated["sha256"]:
            yield f"{name}: its SHA-256 is {found}, the manifest says {stated['sha256']}"
    for name in sorted(there - manifest["members"].keys()):
        yield f"{name}: it is in the archive, and the manifest does not name it"


def _title(manifest: Mapping[str, Any]) -> str:
    published = manifest["publication"]
    return (
        f"{published['usage_month'][:7]} revision {published['revision']}, published {published['published_at'][:10]} "
        f"({published['reason']}), {len(manifest['members'])} members"
    )


def _code(by: Mapping[str, Any]) -> str:
    """Code and packages that a publication or a pack was made with."""
    return f"code {by['code_version']}, packages {by['lock_hash'] or 'not known'}"


def _figures(connection: duckdb.DuckDBPyConnection, folder: Path, manifest: Mapping[str, Any]) -> Checked:
    """Work everything out again from the members. What cannot be judged is said, and the rest goes on."""
    facts: list[str] = []
    differences: list[str] = []
    found: dict[str, Any] = {}

    def judged(what: str, judge: Callable[[], Iterable[str]]) -> None:
        try:
            differences.extend(judge())
        except FactorError as error:
            differences.append(f"factors/: {str(error).replace(f'{folder}/', '')}")
        except (OSError, pa.ArrowException, duckdb.Error, ValueError, LookupError, TypeError, ArithmeticError) as error:
            differences.append(f"{what} cannot be judged with these members ({type(error).__name__})")

    def read() -> Iterator[str]:
        for name, (member, table) in _PARQUET.items():
            yield from _read(connection, name, folder / member, table)
        month, known_on = date.fromisoformat(manifest["publication"]["usage_month"]), manifest["factors_known_on"]
        registry = replace(load(folder / "factors"), known_on=date.fromisoformat(known_on) if known_on else None)
        yield from _factors(connection, folder, registry, manifest, month)
        exact_sql.recompute_all(connection, registry, month)
        facts.append(f"rows        {_one(connection, 'SELECT count(*) FROM recomputed'):,} worked out again from the input")

    def sums() -> Iterator[str]:
        found.update(_json(folder / "balances.json"))
        yield from _balances(connection, found)

    def add_up() -> Iterator[str]:
        totals_found = _totals(connection, manifest, found["erasures"])
        facts.extend(totals_found.facts)
        yield from totals_found.differences

    judged("input and factors", read)
    judged("rows", lambda: _rows(connection))
    judged("balances", sums)
    judged("the verdict", lambda: _verdict(_json(folder / "verdict.json"), manifest))
    judged("totals", add_up)
    return Checked(facts, differences)


def _read(connection: duckdb.DuckDBPyConnection, name: str, path: Path, table: Table) -> Iterator[str]:
    found = pa.parquet.read_schema(path)
    for column in found.names:
        if column != "row" and (column not in table.names or found.field(column).type != table.column(column).arrow_type):
            yield f"{path.parent.name}/{path.name}: column {column} is not as {table.name} is declared"
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM read_parquet(?)", [str(path)])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    found = connection.execute(query).fetchone()
    return found[0] if found else None


def _factors(
    connection: duckdb.DuckDBPyConnection, folder: Path, registry: Registry, manifest: Mapping[str, Any], month: date
) -> Iterator[str]:
    """The factors in force are those of the catalogue that is packed, and those the ledger names."""
    amounts = ("gco2e_per_unit", "gco2e_per_unit_low", "gco2e_per_unit_high")
    stated = [
        Factor(**(row | {name: None if row[name] is None else Decimal(row[name]) for name in amounts}))
        for row in _json(folder / "factors.json")
    ]
    if (found := factors_id(stated)) != manifest["publication"]["factors_id"]:
        yield f"factors.json: its hash is {found}, the publication says {manifest['publication']['factors_id']}"
    for row in stated:
        used = coefficient(registry, row.brand, row.network, row.component, month)
        ours = (used.factor_id, used.gco2e, used.low, used.high, used.is_national_default, used.method_id, used.counts_up)
        theirs = (row.factor_id, row.gco2e_per_unit, row.gco2e_per_unit_low, row.gco2e_per_unit_high)
        if ours != (*theirs, row.is_national_default, row.method_id, row.volume_basis == "up_and_down"):
            yield f"factors.json: {row.factor_id} of brand {row.brand} is not what the catalogue in factors/ says"
    in_use = {brand for (brand,) in connection.execute("SELECT DISTINCT brand FROM subscribed").fetchall()}
    for brand in sorted(in_use - {row.brand for row in stated}):
        yield f"factors.json: it has no factor of brand {brand}"


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Every row and column that is not what the input gives."""
    for name, of in (("input/metered.parquet", "metered"), ("output/published.parquet", "published")):
        query = f"SELECT row FROM {of} ANTI JOIN subscribed USING (row) WHERE row IS NOT NULL ORDER BY row"
        for (row,) in connection.execute(query).fetchall():
            yield f"{name}: row {row} is not in {SUBSCRIBED_MEMBER}"
    for (row,) in connection.execute("SELECT row FROM subscribed ANTI JOIN published USING (row) ORDER BY row").fetchall():
        yield f"{SUBSCRIBED_MEMBER}: row {row} is not in {PUBLISHED_MEMBER}"
    for of in ("subscribed", "published"):
        for row, times in connection.execute(f"SELECT row, count(*) FROM {of} GROUP BY row HAVING count(*) > 1").fetchall():
            yield f"{_PARQUET[of][0]}: row {row} stands {times} times"
    negative = (
        "SELECT coalesce(row, 0) FROM metered WHERE octets_up < 0 OR octets_down < 0 OR (row IS NULL) = (attribution = 'holder')"
    )
    for (row,) in connection.execute(negative).fetchall():
        yield f"{METERED_MEMBER}: row {row} has negative octets, or a holder that is none"
    pairs = ", ".join(f"{exact_sql.compared('p', name)}, r.{name}" for name in exact_sql.FIGURES)
    differs = " OR ".join(f"{exact_sql.compared('p', name)} IS DISTINCT FROM r.{name}" for name in exact_sql.FIGURES)
    query = f"SELECT p.row, {pairs} FROM published AS p JOIN recomputed AS r USING (row) WHERE {differs} ORDER BY p.row"
    found = connection.execute(query)
    while some := found.fetchmany(10_000):
        for row, *values in some:
            for name, ours, theirs in zip(exact_sql.FIGURES, values[::2], values[1::2], strict=True):
                if ours != theirs:
                    yield (
                        f"{PUBLISHED_MEMBER}: row {row}: {name} is {exact_sql.said(name, ours)}, "
                        f"the input gives {exact_sql.said(name, theirs)}"
                    )


def _balances(connection: duckdb.DuckDBPyConnection, balances: Mapping[str, Any]) -> Iterator[str]:
    """Every file's balance closes, and volume by attribution is that of the input."""
    with in_memory() as files:
        numbers = [c.name for c in FILE_BALANCES.columns if c.sql_type == "BIGINT" and c.name not in ("batch", "file_number")]
        files.execute(f"CREATE TABLE balance (name VARCHAR, {', '.join(f'{name} HUGEINT' for name in numbers)})")
        places = [[f"{row['source']}/{row['file_name']}", *[row[name] for name in numbers]] for row in balances["files"]]
        if places:
            files.executemany(f"INSERT INTO balance VALUES ({', '.join('?' * (len(numbers) + 1))})", places)
        for rule, condition in FILE_BALANCES.checks.items():
            for (name,) in files.execute(f"SELECT name FROM balance WHERE NOT ({condition}) ORDER BY name").fetchall():
                yield f"balances.json: {name}: {rule.replace('_', ' ')} does not close ({condition})"
    stated = {
        row["attribution"]: [int(row[name]) for name in ("octets_up", "octets_down", "intervals")] for row in balances["metered"]
    }
    sums = "sum(octets_up)::HUGEINT, sum(octets_down)::HUGEINT, sum(intervals)::HUGEINT"
    found = {
        row[0]: list(row[1:]) for row in connection.execute(f"SELECT attribution, {sums} FROM metered GROUP BY 1").fetchall()
    }
    for attribution in sorted(stated.keys() | found.keys()):
        if stated.get(attribution) != found.get(attribution):
            ours, theirs = stated.get(attribution, "nothing"), found.get(attribution, "nothing")
            yield f"balances.json: volume of {attribution} is {ours} (up, down, intervals), {METERED_MEMBER} gives {theirs}"


def _verdict(found: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    """The verdict let it pass, and each measurement is judged as its limits say."""
    published = manifest["publication"]
    (verdict,) = found["verdict"]
    for name in ("verdict_id", "usage_month", "factors_id", "batch_cutoff"):
        if verdict[name] != published[name]:
            yield f"verdict.json: {name} is {verdict[name]}, the publication says {published[name]}"
    if not verdict["passed"]:
        yield "verdict.json: the month did not pass"
    if verdict["rules"] != len(found["evidence"]):
        yield f"verdict.json: {verdict['rules']} rules were judged, evidence holds {len(found['evidence'])}"
    for row in found["evidence"]:
        measured, lowest, highest = (None if row[n] is None else Decimal(row[n]) for n in ("measured", "lowest", "highest"))
        above = measured is None or lowest is None or measured >= lowest
        passes = above and (measured is None or highest is None or measured <= highest)
        if passes != row["passed"] or (verdict["passed"] and row["is_blocking"] and not passes):
            yield f"verdict.json: {row['rule']} of {row['network']} measured {row['measured']} is judged {row['passed']}"


def _totals(connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], erasures: list[Any]) -> Checked:
    """Sums of rows, by group and in all, the hash of the figures, and what display rounding leaves."""
    facts: list[str] = []
    differences: list[str] = []
    published = manifest["publication"]
    connection.execute("CREATE VIEW output AS SELECT p.*, s.segment FROM published AS p LEFT JOIN subscribed AS s USING (row)")
    for group in ("all", *TOTALS_BY):
        found = json.loads(as_json(totals(connection, "output", group)))
        if found != manifest["totals"].get(group):
            differences.append(f"{MANIFEST}: totals by {group} are {manifest['totals'].get(group)}, the rows give {found}")
        ours = _sums(totals(connection, "output", group))
        theirs = rows(
            connection,
            """SELECT count(*) AS subscriptions, sum(data_volume_bytes)::HUGEINT AS data_volume_bytes,
               sum(footprint_gco2e)::HUGEINT AS footprint_gco2e FROM recomputed""",
        )[0]
        again = (theirs["subscriptions"], theirs["data_volume_bytes"], Decimal(theirs["footprint_gco2e"] or 0).scaleb(-12))
        if ours != again:
            differences.append(f"{PUBLISHED_MEMBER}: sums by {group} add up to {ours}, the input gives {again}")
    hashed = exact_sql.figures_hash(connection, "published")
    if hashed != manifest["figures_hash_of_rows"]:
        differences.append(
            f"{PUBLISHED_MEMBER}: its figures hash is {hashed}, the manifest says {manifest['figures_hash_of_rows']}"
        )
    total = _sums(totals(connection, "output", "all"))
    ledger = (int(published["subscriptions"]), int(published["data_volume_bytes"]), Decimal(published["footprint_gco2e"]))
    facts.append(
        f"totals      {total[0]:,} subscriptions, {total[1]:,} bytes, {total[2]:f} gCO2e; by {', '.join(TOTALS_BY)} the same"
    )
    if erasures:
        facts.append(
            f"erased      figures of the month were erased after publication ({len(erasures)} times): the ledger's totals "
            f"({ledger[0]:,} subscriptions) and figures hash {published['figures_hash']} are of rows that are no longer all here"
        )
        if total[0] >= ledger[0]:
            differences.append("balances.json: figures are said to be erased, but no row is missing")
    else:
        if total != ledger:
            differences.append(f"{PUBLISHED_MEMBER}: rows add up to {total}, the publication says {ledger}")
        if hashed != published["figures_hash"]:
            differences.append(
                f"{PUBLISHED_MEMBER}: its figures hash is {hashed}, the publication says {published['figures_hash']}"
            )
    facts.append(f"figures     {hashed}")
    found_residual = residual(connection, "published")
    grams, octets = found_residual["gco2e"], int(found_residual["bytes"])
    facts.append(f"rounding    the sum of what is shown less the sum of what is exact: {grams:+f} g, {octets:+,} bytes")
    if json.loads(as_json(found_residual)) != manifest["display_rounding_residual"]:
        differences.append(f"{MANIFEST}: the residual of display rounding is not what the rows give")
    if abs(grams) > _HALF_GRAM * total[0] or abs(octets) > _HALF_GIGABYTE * total[0]:
        differences.append(f"{PUBLISHED_MEMBER}: display rounding leaves more than half a unit a row")
    return Checked(facts, differences)


def _sums(found: list[dict[str, Any]]) -> tuple[int, int, Decimal]:
    grams = sum((row["footprint_gco2e"] for row in found), Decimal(0))
    return sum(row["subscriptions"] for row in found), int(sum(row["data_volume_bytes"] for row in found)), grams
