"""What an auditor asks again and again, as views over the tables, declared once for every engine that holds the tables.

The SQL is what DuckDB and PostgreSQL both read. A view is opened where every table it reads is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schemas.table import Column, Table
from schemas.tables import (
    BATCHES,
    EVIDENCE_DAYS,
    EVIDENCE_FACTORS,
    EVIDENCE_RECEIVED,
    FILE_BALANCES,
    LANDED,
    PUBLICATIONS,
    PUBLISHED,
    REVISIONS,
    TABLES,
    VERDICTS,
)


@dataclass(frozen=True)
class View:
    """A view: its columns with their meaning, declared as those of a table are, the tables it reads, and its query.

    ``{schema}`` in the query stands for what comes before the name of a table.
    """

    columns_of: Table
    reads: tuple[Table, ...]
    query: str

    @property
    def name(self) -> str:
        """The name of the view."""
        return self.columns_of.name

    @property
    def comment(self) -> str:
        """What one row is."""
        return self.columns_of.comment

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns in their order."""
        return self.columns_of.columns

    def sql(self, schema: str = "") -> str:
        """The query for DuckDB, its columns in the order, of the names and of the types declared."""
        return self._typed(schema, _duckdb_type)

    def postgres_ddl(self, schema: str) -> str:
        """CREATE VIEW for PostgreSQL, with comments, safe to repeat."""
        name = f"{schema}.{self.name}"
        query = self._typed(f"{schema}.", lambda column: column.postgres_type)
        statements = [f"DROP VIEW IF EXISTS {name}", f"CREATE VIEW {name} AS {query}"]
        statements.append(f"COMMENT ON VIEW {name} IS {_quoted(self.comment)}")
        statements += [f"COMMENT ON COLUMN {name}.{c.name} IS {_quoted(c.comment)}" for c in self.columns]
        return ";\n".join(statements) + ";"

    def _typed(self, schema: str, kind: Callable[[Column], str]) -> str:
        query = self.query.format(schema=schema)
        columns = ", ".join(f"CAST(asked.{c.name} AS {kind(c)}) AS {c.name}" for c in self.columns)
        return f"SELECT {columns} FROM ({query}) AS asked"


def _duckdb_type(column: Column) -> str:
    return {"STRING": "VARCHAR", "BINARY": "BLOB", "TIMESTAMP": "TIMESTAMPTZ"}.get(column.sql_type, column.sql_type)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def visible(table: str, cutoff: int | None = None) -> str:
    """A query in parentheses: the rows of a table that count, as of a batch; for DuckDB.

    Rows of uncommitted batches count for nobody; those of a delivery that was withdrawn cease with the withdrawing batch.
    """
    until = "" if cutoff is None else f" AND batch <= {cutoff}"
    committed = f"SELECT batch FROM {BATCHES.name} WHERE state = 'committed'{until}"
    withdrawn = f"""
        SELECT 1 FROM (
            SELECT batch AS withdrawn_by, unnest(withdrawn_file_numbers) AS withdrawn FROM {BATCHES.name}
            WHERE state = 'committed'{until}
        ) AS w WHERE withdrawn = found.file_number AND found.batch < withdrawn_by"""
    return f"(SELECT * FROM {table} AS found WHERE batch IN ({committed}) AND NOT EXISTS ({withdrawn}))"


def _declared(columns: Iterable[Column]) -> str:
    """Columns as a table declares them."""
    return "\n".join(f"{c.name} {c.sql_type}{' NOT NULL' if c.is_required else ''} COMMENT {_quoted(c.comment)}" for c in columns)


PUBLISHED_HISTORY = View(
    Table(
        name="published_history",
        comment="Every row that was ever published, with why, when, and whether it still stands.",
        text=_declared(REVISIONS.columns)
        + """
        reason           STRING    NOT NULL COMMENT 'Why it was published.'
        published_at     TIMESTAMP NOT NULL COMMENT 'When it was published.'
        is_current       BOOLEAN   NOT NULL COMMENT 'It is the latest publication of its month.'
        """,
        key=("publication_id", "subscription_key"),
    ),
    (REVISIONS, PUBLICATIONS),
    """
    SELECT revisions.*, ledger.reason, ledger.published_at, ledger.publication_id = ledger.current_id AS is_current
    FROM {schema}revisions AS revisions
    JOIN (
        SELECT publication_id, usage_month, reason, published_at, max(publication_id) OVER (PARTITION BY usage_month) AS current_id
        FROM {schema}publications
    ) AS ledger
    ON ledger.publication_id = revisions.publication_id AND ledger.usage_month = revisions.usage_month
    """,
)

PUBLICATION_HISTORY = View(
    Table(
        name="publication_history",
        comment="Every revision of every month: why, when, judged how, totals, their change, and hashes.",
        text="""
        usage_month      DATE      NOT NULL COMMENT 'Month published.'
        revision         INT       NOT NULL COMMENT 'Revision of the month, from 1.'
        is_current       BOOLEAN   NOT NULL COMMENT 'It is the latest publication of its month.'
        published_at     TIMESTAMP NOT NULL COMMENT 'When it was published.'
        reason           STRING    NOT NULL COMMENT 'Why it was published.'
        subscriptions    BIGINT    NOT NULL COMMENT 'Rows published.'
        subscriptions_change BIGINT         COMMENT 'Rows more than in the revision before; null for the first.'
        data_volume_bytes BIGINT   NOT NULL COMMENT 'Sum of the volume published.'
        data_volume_bytes_change BIGINT     COMMENT 'Bytes more than in the revision before; null for the first.'
        footprint_gco2e  DECIMAL(38,12) NOT NULL COMMENT 'Sum of the unrounded grams published.'
        footprint_gco2e_change DECIMAL(38,12) COMMENT 'Grams more than in the revision before; null for the first.'
        factor_sets      STRING    NOT NULL COMMENT 'Factor sets in force, comma separated.'
        factors_id       STRING    NOT NULL COMMENT 'Hash of the factors in force.'
        code_version     STRING    NOT NULL COMMENT 'Version of the code.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted.'
        verdict          STRING    NOT NULL COMMENT 'Summary of the verdict that let it pass.'
        warnings         INT       NOT NULL COMMENT 'Rules that failed and do not block.'
        figures_hash     STRING    NOT NULL COMMENT 'SHA-256 over the sorted rows without keys or times: equal figures, equal hash.'
        publication_id   BIGINT    NOT NULL COMMENT 'Number of the publication.'
        """,
        key=("publication_id",),
    ),
    (PUBLICATIONS, VERDICTS),
    """
    SELECT p.*, v.summary AS verdict, v.warnings,
        p.publication_id = max(p.publication_id) OVER (PARTITION BY p.usage_month) AS is_current,
        p.subscriptions - lag(p.subscriptions) OVER months AS subscriptions_change,
        p.data_volume_bytes - lag(p.data_volume_bytes) OVER months AS data_volume_bytes_change,
        p.footprint_gco2e - lag(p.footprint_gco2e) OVER months AS footprint_gco2e_change
    FROM {schema}publications AS p JOIN {schema}verdicts AS v ON v.verdict_id = p.verdict_id
    WINDOW months AS (PARTITION BY p.usage_month ORDER BY p.publication_id)
    """,
)

_JUDGED = """
    SELECT verdicts.verdict_id, verdicts.revision, publications.publication_id,
        max(publications.publication_id) OVER (PARTITION BY verdicts.usage_month) AS current_id
    FROM {schema}verdicts AS verdicts
    LEFT JOIN {schema}publications AS publications ON publications.verdict_id = verdicts.verdict_id
    WHERE publications.publication_id IS NOT NULL OR verdicts.verdict_id = (
        SELECT max(latest.verdict_id) FROM {schema}verdicts AS latest WHERE latest.usage_month = verdicts.usage_month
    )
"""
"""Verdicts that let a month pass, and the latest of a month if it has not been published. Where only publications are copied to,
there are no others."""

_OF_VERDICT = """
        usage_month      DATE      NOT NULL COMMENT 'Legal month.'
        revision         INT       NOT NULL COMMENT 'Revision of the month, from 1.'
"""
_IS_CURRENT = """
        is_current       BOOLEAN   NOT NULL COMMENT 'It is the latest publication of its month. A revision that is only judged, and not published, is not.'
"""


def _judged_view(name: str, comment: str, evidence: Table, more: str = "", also: str = "") -> View:
    """A view of evidence by month and revision: its columns, and more that follow from them."""
    own = tuple(c for c in evidence.columns if c.name not in ("usage_month", "verdict_id"))
    key = tuple(n for n in evidence.key if n != "verdict_id")
    return View(
        Table(name, comment, _OF_VERDICT + _declared(own) + more + _IS_CURRENT, ("usage_month", "revision", *key)),
        (evidence, VERDICTS, PUBLICATIONS),
        f"""
    SELECT evidence.*, judged.revision, coalesce(judged.publication_id = judged.current_id, false) AS is_current{also}
    FROM {{schema}}{evidence.name} AS evidence JOIN ({_JUDGED}) AS judged ON judged.verdict_id = evidence.verdict_id
    """,
    )


RECEIVED_BALANCE = _judged_view(
    "received_balance",
    "What was received of each source for a revision of a month, and what became of it.",
    EVIDENCE_RECEIVED,
    """
        records_unaccounted BIGINT NOT NULL COMMENT 'Received less accepted, duplicate, rejected and out of scope: 0, or a file is out of balance.'
    """,
    """,
        evidence.records_received - evidence.records_accepted - evidence.records_duplicate - evidence.records_rejected
            - evidence.records_out_of_scope AS records_unaccounted""",
)

COMPLETENESS = _judged_view(
    "completeness",
    "What came of each source on each day for a revision of a month, beside what its network elements numbered: silent days, and "
    "records that never came. It stays when the records are erased.",
    EVIDENCE_DAYS,
)

FACTOR_USE = _judged_view(
    "factor_use",
    "Which factor was applied to how much of a revision of a month, and what came of it.",
    EVIDENCE_FACTORS,
)

FILES_RECEIVED = View(
    Table(
        name="files_received",
        comment="Every delivery of a file with its hash, its status, and the balance of its records if it was read and counts.",
        text="""
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        file_name        STRING    NOT NULL COMMENT 'Name relative to the folder of the source.'
        file_hash        STRING    NOT NULL COMMENT 'SHA-256 of the bytes as delivered, hexadecimal.'
        size_octets      BIGINT    NOT NULL COMMENT 'Octets of the file as delivered.'
        status           STRING    NOT NULL COMMENT 'new, duplicate, superseding or refused.'
        landed_at        TIMESTAMP NOT NULL COMMENT 'When the delivery was registered.'
        batch            BIGINT             COMMENT 'Batch that read the file; null if none that counts did.'
        records_received BIGINT             COMMENT 'Records counted independently of the parser.'
        records_accepted BIGINT             COMMENT 'Records that count.'
        records_duplicate BIGINT            COMMENT 'Records received before.'
        records_rejected BIGINT             COMMENT 'Records refused with a reason.'
        records_out_of_scope BIGINT         COMMENT 'Records out of scope by the policy of the source.'
        """,
        key=("source", "file_name", "landed_at"),
    ),
    (LANDED, FILE_BALANCES, BATCHES),
    """
    SELECT l.source, l.file_name, l.file_hash, l.size_octets, l.status, l.landed_at, b.batch, b.records_received,
        b.records_accepted, b.records_duplicate, b.records_rejected, b.records_out_of_scope
    FROM {schema}landed AS l LEFT JOIN """
    + visible("{schema}file_balances")
    + """ AS b ON b.file_number = l.file_number
    """,
)

VIEWS = (RECEIVED_BALANCE, COMPLETENESS, FACTOR_USE, PUBLICATION_HISTORY, PUBLISHED_HISTORY, FILES_RECEIVED)
"""Every view. PostgreSQL has those whose tables it has."""

OF_PUBLICATIONS = tuple(table for table in TABLES if "publication_id" in table.names and table not in (PUBLICATIONS, PUBLISHED))
"""Tables whose rows count once their publication is in the ledger: an auditor is shown no others."""
