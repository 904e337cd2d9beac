"""Fixtures: one Spark session for all tests, and tables written as a reader would write them."""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
import structlog

from jobs.pseudonyms import Key, Keys, Term
from jobs.run import Settings
from schemas.table import Table

os.environ["TZ"] = "America/New_York"  # a zone that no figure may depend on
os.environ["FOOTPRINT_LOG"] = "text"  # what a person would read, though output is captured

# A folder of this run's own. The one that pytest would share among all runs of a user is closed to others at the start of each:
# run as root, whose PostgreSQL is another user's, a second run of any project's tests would take the first one's servers away.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ:  # a process that shares the work has it from the one that began
    _FOLDER = TemporaryDirectory(prefix="footprint-tests-", ignore_cleanup_errors=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = _FOLDER.name

# Java's second compiler pays after minutes in one loop. Here every plan is another, and it took half of the processors' time.
# With the first alone, Java would reserve a fifth of the usual space for compiled code: too little for Spark.
os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"


def pytest_unconfigure() -> None:
    """Keep Py4J from reporting at the very end, to a stream that is closed by then, that it closes its connections."""
    logging.getLogger("py4j").setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command that a test calls sets up the log of its process, on a stream that ends with the test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A var folder for the session, with the JARs that set-up resolved."""
    folder = tmp_path_factory.mktemp("var")
    (folder / "jars").symlink_to(Settings.from_environment().jars)
    return folder


@pytest.fixture(scope="session")
def spark(var: Path) -> Iterator[Any]:
    """One small Spark session: a start takes ten seconds and more."""
    from jobs.spark import session

    settings = Settings.from_environment({"FOOTPRINT_VAR": str(var), "FOOTPRINT_SPARK_MASTER": "local[2]"})
    started = session(settings)
    started.conf.set("spark.sql.shuffle.partitions", "2")
    yield started
    started.stop()


_KEY_FILES = TemporaryDirectory()


def keys_of(*secrets: tuple[date, Key]) -> Keys:
    """Keys with their files, each with the first month it serves."""
    folder = Path(tempfile.mkdtemp(dir=_KEY_FILES.name))
    terms = tuple(Term(secret.name, serves_from, secret.fingerprint) for serves_from, secret in secrets)
    for term, (_, secret) in zip(terms, secrets, strict=True):
        (folder / term.file_name).touch(0o600)
        (folder / term.file_name).write_text(secret.secret.hex(), encoding="ascii")
    return Keys(folder, terms)


def key(name: str) -> bytes:
    """A readable stand-in for a 16-byte pseudonym."""
    return name.encode().ljust(16, b"\0")


def table_of(text: str, declared: Table) -> pa.Table:
    """An Arrow table from a Markdown table: declared types, an empty cell is null, columns left out are filled with a default."""
    lines = [line.strip().strip("|") for line in text.strip().splitlines() if not set(line.strip()) <= set("|-: ")]
    names, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    records = [{n: _value(v, declared.column(n).sql_type) for n, v in zip(names, row, strict=True)} for row in rows]
    for record in records:
        for column in declared.columns:
            if column.name not in record:
                record[column.name] = _default(column.sql_type) if column.is_required else None
    return pa.Table.from_pylist(records, schema=declared.arrow_schema)


def hashed(declared: Table) -> Table:
    """A table with the hash of what a record says, which is worked out where records are compared."""
    return dataclasses.replace(declared, text=f"{declared.text}\n content_hash BIGINT NOT NULL COMMENT 'Hash'")


def rows(spark: Any, declared: Table, text: str) -> Any:
    """A Spark frame from a Markdown table, in the columns of a declared table."""
    return spark.createDataFrame(table_of(text, declared), declared.spark_schema)


def _value(text: str, sql_type: str) -> Any:
    if not text:
        return None
    if sql_type.startswith("DECIMAL"):
        return Decimal(text)
    convert = {
        "BINARY": key,
        "DATE": date.fromisoformat,
        "TIMESTAMP": lambda t: datetime.fromisoformat(t).replace(tzinfo=UTC) if "+" not in t else datetime.fromisoformat(t),
        "BOOLEAN": lambda t: {"true": True, "false": False}[t],
        "INT": lambda t: int(t.replace("_", "")),
        "BIGINT": lambda t: int(t.replace("_", "")),
        "STRING": str,
    }[sql_type]
    return convert(text)


def _default(sql_type: str) -> Any:
    if sql_type.startswith("DECIMAL"):
        return Decimal(0)
    return {
        "BINARY": key("nobody"),
        "DATE": date(2026, 10, 1),
        "TIMESTAMP": datetime(2026, 10, 15, 12, tzinfo=UTC),
        "BOOLEAN": False,
        "INT": 0,
        "BIGINT": 0,
        "STRING": "-",
        "ARRAY<BIGINT>": [],
    }[sql_type]
