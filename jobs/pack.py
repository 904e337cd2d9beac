"""pack: all that a month's published figures were worked out from, in one archive that anyone can verify without the lake.

The same lake and revision give the same octets. A subscription is a row number here, in the order of the figures: no key or
pseudonym comes along, and the number tells nothing of whom it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet

from factors.hypotheses import hypotheses_of
from factors.registry import Registry, in_force
from jobs import exact_sql
from jobs.explain import catalogue
from jobs.lake_reader import Row, publication, reading, rows, stage_rows
from jobs.legal_calendar import bounds
from jobs.pack_text import readme
from jobs.restated import in_words, restatement
from jobs.run import Refused, Settings, code_version, lock_hash
from schemas.dictionary import dictionary
from schemas.table import Table
from schemas.tables import (
    BATCHES,
    COUNTER_BALANCES,
    ERASURES,
    EVIDENCE,
    EVIDENCE_FACTORS,
    FILE_BALANCES,
    LANDED,
    METERED,
    PUBLICATIONS,
    PUBLISHED,
    RESTATEMENTS,
    REVISIONS,
    SUBSCRIBED,
    TOTALS_BY,
    VERDICTS,
)
from schemas.views import visible

FORMAT = "footprint pack 1"
MANIFEST = "manifest.json"
SUBSCRIBED_MEMBER, METERED_MEMBER, PUBLISHED_MEMBER = (
    "input/subscribed.parquet",
    "input/metered.parquet",
    "output/published.parquet",
)
TABLES = (
    *(LANDED, BATCHES, FILE_BALANCES, COUNTER_BALANCES, METERED, SUBSCRIBED, EVIDENCE, VERDICTS),
    *(REVISIONS, PUBLICATIONS, ERASURES, RESTATEMENTS, EVIDENCE_FACTORS),
)
_ROW_GROUP = 1 << 17
_LEFT_OUT = ("usage_month", "batch_cutoff", "subscription_key", "revision", "factors_id")
"""Columns of the input that are keys, or the same in every row and said in the manifest."""


def pack(settings: Settings, usage_month: date, revision: int | None, out: Path) -> str:
    """Write the archive of a month's revision. Return the SHA-256 of its manifest, which stands for the archive.

    Raises:
        Refused: the month has no such revision, or what it was worked out from is no longer kept.
    """
    with tempfile.TemporaryDirectory(prefix="footprint-pack-") as name, reading(settings.lake, TABLES) as connection:
        folder = Path(name)
        published = publication(connection, usage_month, revision)
        registry = catalogue(settings, connection, published)
        _write_rows(connection, published, folder)
        _write_texts(connection, settings, registry, published, folder)
        members = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        manifest = _manifest(connection, registry, published, {member: folder / member for member in members})
        (folder / MANIFEST).write_text(as_json(manifest), encoding="utf-8")
        archive({member: folder / member for member in [MANIFEST, *members]}, out)
        return digest(folder / MANIFEST)


def archive(members: Mapping[str, Path], out: Path) -> None:
    """Write a zip archive that depends on nothing but its members: no time, no owner, no compression."""
    partial = out.with_name(f"{out.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for member, path in members.items():
            entry = zipfile.ZipInfo(member)  # its time is 1980-01-01
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            with path.open("rb") as source, file.open(entry, "w", force_zip64=True) as target:
                while block := source.read(1 << 20):
                    target.write(block)
    partial.replace(out)


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> str:
    """JSON with sorted keys; amounts are text, so that no digit is lost."""
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, default=_plain) + "\n"


def _plain(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else value.isoformat()


def _write_rows(connection: duckdb.DuckDBPyConnection, published: Row, folder: Path) -> None:
    """Number the subscriptions of the month in the order of their figures, and write input and output under the numbers."""
    month, number = published["usage_month"], published["publication_id"]
    connection.execute(f"CREATE TEMP TABLE subscribed_now AS SELECT * FROM {stage_rows(SUBSCRIBED, published)}")
    connection.execute(f"CREATE TEMP TABLE metered_now AS SELECT * FROM {stage_rows(METERED, published)}")
    connection.execute(
        f"""CREATE TEMP TABLE published_now AS SELECT *, unhex(subscription_key) AS of_key FROM {REVISIONS.name}
            WHERE usage_month = ? AND publication_id = ?""",
        [month, number],
    )
    if connection.execute("SELECT count(*) FROM published_now").fetchone() == (0,):
        raise Refused(f"revision {published['revision']} of {month:%Y-%m} has no figures any more: they were erased")
    used = _columns(METERED)
    usage = ", ".join(f"coalesce(CAST({name} AS VARCHAR), 'null')" for name in used)
    figures = [f"p.{name}" for name in exact_sql.FIGURES]
    # Whoever has the same figures, and the same volumes behind them, may change places: the archive stays the same.
    order = ", ".join([*figures, *[f"s.{name}" for name in _columns(SUBSCRIBED)], "u.usage"])
    connection.execute(f"""
        CREATE TEMP TABLE numbered AS
        SELECT coalesce(p.of_key, s.subscription_key) AS subscription_key, row_number() OVER (ORDER BY {order}) AS row
        FROM published_now AS p FULL JOIN subscribed_now AS s ON s.subscription_key = p.of_key
        LEFT JOIN (
            SELECT subscription_key, string_agg(said, chr(30) ORDER BY said) AS usage
            FROM (SELECT subscription_key, concat_ws(chr(31), {usage}) AS said FROM metered_now) GROUP BY subscription_key
        ) AS u ON u.subscription_key = coalesce(p.of_key, s.subscription_key)""")
    _write(connection, "subscribed_now JOIN numbered USING (subscription_key)", SUBSCRIBED, folder / SUBSCRIBED_MEMBER)
    _write(connection, "metered_now LEFT JOIN numbered USING (subscription_key)", METERED, folder / METERED_MEMBER)
    joined = "published_now AS p JOIN numbered AS n ON n.subscription_key = p.of_key"
    _write(connection, f"(SELECT n.row, p.* FROM {joined}) AS output", PUBLISHED, folder / PUBLISHED_MEMBER, exact_sql.FIGURES)


def _columns(table: Table) -> list[str]:
    return [name for name in table.names if name not in _LEFT_OUT]


def _write(
    connection: duckdb.DuckDBPyConnection, source: str, table: Table, path: Path, columns: Iterable[str] | None = None
) -> None:
    """Write rows as Parquet, in an order that is total up to equal rows, in row groups of one size."""
    names = list(columns or _columns(table))
    schema = pa.schema([pa.field("row", pa.int64()), *[table.arrow_schema.field(name) for name in names]])
    path.parent.mkdir(parents=True, exist_ok=True)
    found = connection.execute(f"SELECT row, {', '.join(names)} FROM {source} ORDER BY ALL NULLS LAST")
    with pa.parquet.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
        for group in _even(found.to_arrow_reader(_ROW_GROUP)):
            writer.write_table(group.cast(schema), row_group_size=_ROW_GROUP)


def _even(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in tables of one size."""
    held: pa.Table | None = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= _ROW_GROUP:
            yield held.slice(0, _ROW_GROUP)
            held = held.slice(_ROW_GROUP)
    if held is not None and held.num_rows:
        yield held


def _write_texts(
    connection: duckdb.DuckDBPyConnection, settings: Settings, registry: Registry, published: Row, folder: Path
) -> None:
    month, verdict = published["usage_month"], published["verdict_id"]
    brands = [brand for (brand,) in connection.execute("SELECT DISTINCT brand FROM subscribed_now ORDER BY 1").fetchall()]
    used = in_force(settings.factors, month, brands, registry.known_on)
    evidence = f"SELECT * FROM {EVIDENCE.name} WHERE verdict_id = ? ORDER BY network, rule"
    texts = {
        "README.txt": readme(published),
        "data-dictionary.md": dictionary(),
        "factors.json": as_json([asdict(factor) for factor in used]),
        "hypotheses.json": as_json(_hypotheses(settings, registry, {factor.factor_set for factor in used}, month)),
        "verdict.json": as_json(
            {
                "verdict": rows(connection, f"SELECT * FROM {VERDICTS.name} WHERE verdict_id = ?", [verdict]),
                "evidence": rows(connection, evidence, [verdict]),
            }
        ),
        "balances.json": as_json(_balances(connection, settings, published)),
    }
    if restated := restatement(connection, published):
        texts["restatement.txt"] = "\n".join([*in_words(restated, "en"), "", *in_words(restated, "fr"), ""])
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in sorted(settings.factors.rglob("*")):
        if path.is_file() and path.suffix in (".toml", ".md"):
            target = folder / "factors" / path.relative_to(settings.factors)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def _hypotheses(settings: Settings, registry: Registry, used: Iterable[str], month: date) -> list[Row]:
    """What is taken for granted: the registered hypotheses, what the factor sets in force assume, and values not measured."""
    found: list[Row] = [hypothesis.model_dump(mode="json") for hypothesis in hypotheses_of(settings.factors, month)]
    for name in sorted(used):
        factor_set = registry.sets[name]
        if factor_set.gb_basis_mark == "hypothesis":
            found.append({"factor_set": name, "of": "gb_basis", "is": factor_set.gb_basis, "note": factor_set.gb_basis_note})
        if factor_set.volume_basis_mark == "hypothesis":
            note = factor_set.volume_basis_note
            found.append({"factor_set": name, "of": "volume_basis", "is": factor_set.volume_basis, "note": note})
        for value in factor_set.value:
            if value.mark != "V" or value.status != "measured":
                what = {"of": value.name, "is": value.amount, "unit": value.unit, "status": value.status, "mark": value.mark}
                found.append({"factor_set": name, **what, "source": value.source, "note": value.note})
    return found


def _balances(connection: duckdb.DuckDBPyConnection, settings: Settings, published: Row) -> Row:
    """The files that touch the month with their balances, counters, volume that nobody holds, and erasures."""
    month, cutoff = published["usage_month"], published["batch_cutoff"]
    begin, end = bounds(month, settings.legal_timezone)
    counts = [name for name in FILE_BALANCES.names if name not in ("batch", "source", "file_number")]
    files = f"""
        SELECT l.source, l.file_name, l.file_hash, l.size_octets, {", ".join(f"b.{name}" for name in counts)}
        FROM {visible(FILE_BALANCES.name, cutoff)} AS b JOIN {LANDED.name} AS l USING (file_number)
        WHERE NOT coalesce(b.last_closed_at < ? OR b.first_closed_at >= ?, false) ORDER BY l.source, l.file_name, l.file_hash"""
    counters = f"SELECT * FROM {COUNTER_BALANCES.name} WHERE usage_month = ? AND batch_cutoff = ? ORDER BY source"
    metered = """
        SELECT attribution, sum(octets_up)::DECIMAL(38,0) AS octets_up, sum(octets_down)::DECIMAL(38,0) AS octets_down,
            sum(intervals)::DECIMAL(38,0) AS intervals
        FROM metered_now GROUP BY attribution ORDER BY attribution"""
    erasures = f"SELECT * FROM {ERASURES.name} WHERE usage_month = ? AND kind <> 'records' ORDER BY kind, erased_at"
    return {
        "files": rows(connection, files, [begin, end]),
        "counters": rows(connection, counters, [month, cutoff]),
        "metered": rows(connection, metered),
        "erasures": rows(connection, erasures, [month]),
    }


def _manifest(
    connection: duckdb.DuckDBPyConnection, registry: Registry, published: Row, members: Mapping[str, Path]
) -> dict[str, Any]:
    output = "(SELECT p.*, s.segment FROM published_now AS p LEFT JOIN subscribed_now AS s ON s.subscription_key = p.of_key)"
    return {
        "format": FORMAT,
        "publication": {name: value for name, value in published.items() if name != "rows_hash"},
        "published_by": {"code_version": published["code_version"], "lock_hash": published["lock_hash"]},
        "packed_by": {"code_version": code_version(), "lock_hash": lock_hash()},
        "factors_known_on": registry.known_on.isoformat() if registry.known_on else None,
        "rows": connection.execute("SELECT count(*) FROM published_now").fetchall()[0][0],
        "figures_hash_of_rows": exact_sql.figures_hash(connection, "published_now"),
        "totals": {group: totals(connection, output, group) for group in ("all", *TOTALS_BY)},
        "display_rounding_residual": residual(connection, "published_now"),
        "members": {name: {"sha256": digest(path), "size": path.stat().st_size} for name, path in members.items()},
    }


def totals(connection: duckdb.DuckDBPyConnection, output: str, group: str) -> list[Row]:
    """Rows, bytes and grams by network, brand or segment, or of ``all``."""
    by = "'all'" if group == "all" else group
    return rows(
        connection,
        f"""SELECT {by} AS name, count(*) AS subscriptions, sum(data_volume_bytes)::DECIMAL(38,0) AS data_volume_bytes,
            sum(footprint_gco2e)::DECIMAL(38,12) AS footprint_gco2e FROM {output} GROUP BY 1 ORDER BY 1""",
    )


def residual(connection: duckdb.DuckDBPyConnection, output: str) -> Row:
    """What display rounding adds: the sum of what is shown less the sum of what is exact."""
    (found,) = rows(
        connection,
        f"""SELECT (sum(footprint_gco2e_displayed) - sum(footprint_gco2e))::DECIMAL(38,12) AS gco2e,
            (sum(data_volume_gb_displayed)::HUGEINT * 1000000000 - sum(data_volume_bytes)::HUGEINT)::DECIMAL(38,0) AS bytes
            FROM {output}""",
    )
    return found
