"""What an auditor asks again and again, as views over the tables, declared once for every engine that holds the tables.

The SQL is what DuckDB and PostgreSQL both read. A view is opened where every table it reads is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schemas.table import Column, Table
from schemas.tables import (
    ACCEPTED,
    BATCHES,
    COMPLETENESS,
    DELTAS,
    ESTIMATED,
    FILE_BALANCES,
    LANDED,
    PUBLICATIONS,
    REVISIONS,
    VERDICTS,
)


@dataclass(frozen=True)
class View:
    """A view: its columns with their meaning, declared as those of a table are, the tables it reads, and its query.

    ``{schema}`` in the query stands for what comes before the name of a table, ``{legal_timezone}`` for the zone of the months.
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

    def sql(self, schema: str = "", legal_timezone: str = "Europe/Paris") -> str:
        """The query for DuckDB, its columns in the order, of the names and of the types declared."""
        return self._typed(schema, legal_timezone, _duckdb_type)

    def postgres_ddl(self, schema: str, legal_timezone: str = "Europe/Paris") -> str:
        """CREATE VIEW for PostgreSQL, with comments, safe to repeat."""
        name = f"{schema}.{self.name}"
        query = self._typed(f"{schema}.", legal_timezone, lambda column: column.postgres_type)
        statements = [f"DROP VIEW IF EXISTS {name}", f"CREATE VIEW {name} AS {query}"]
        statements.append(f"COMMENT ON VIEW {name} IS {_quoted(self.comment)}")
        statements += [f"COMMENT ON COLUMN {name}.{c.name} IS {_quoted(c.comment)}" for c in self.columns]
        return ";\n".join(statements) + ";"

    def _typed(self, schema: str, legal_timezone: str, kind: Callable[[Column], str]) -> str:
        query = self.query.format(schema=schema, legal_timezone=legal_timezone)
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


_OF_PUBLISHED = "\n".join(
    f"{c.name} {c.sql_type}{' NOT NULL' if c.is_required else ''} COMMENT {_quoted(c.comment)}" for c in REVISIONS.columns
)

PUBLISHED_HISTORY = View(
    Table(
        name="published_history",
        comment="Every row that was ever published, with why, when, and whether it still stands.",
        text=_OF_PUBLISHED
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

RECEIVED_BALANCE = View(
    Table(
        name="received_balance",
        comment="What was received of each source, by the legal month its file closed in, and what became of it. A file counts once.",
        text="""
        usage_month      DATE               COMMENT 'Legal month of the last record of the file; null where no time was read.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        files            BIGINT    NOT NULL COMMENT 'Files read, each content once.'
        records_received BIGINT    NOT NULL COMMENT 'Records counted independently of the parser.'
        records_accepted BIGINT    NOT NULL COMMENT 'Records that count.'
        records_duplicate BIGINT   NOT NULL COMMENT 'Records received before.'
        records_rejected BIGINT    NOT NULL COMMENT 'Records refused with a reason.'
        records_out_of_scope BIGINT NOT NULL COMMENT 'Records out of scope by the policy of the source.'
        records_unaccounted BIGINT NOT NULL COMMENT 'Received less all of these: 0, or a file is out of balance.'
        octets_received  DECIMAL(38,0) NOT NULL COMMENT 'Octets of the files, uncompressed.'
        octets_quarantined DECIMAL(38,0) NOT NULL COMMENT 'Octets that could not be parsed into a record.'
        volume_parsed_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume of all parsed intervals, up and down.'
        volume_accepted_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume accepted.'
        volume_duplicate_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume of duplicates.'
        volume_out_of_scope_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume out of scope.'
        """,
        key=("usage_month", "source"),
    ),
    (FILE_BALANCES, BATCHES),
    """
    SELECT CAST(date_trunc('month', timezone('{legal_timezone}', last_closed_at)) AS DATE) AS usage_month, source,
        count(*) AS files, sum(records_received) AS records_received, sum(records_accepted) AS records_accepted,
        sum(records_duplicate) AS records_duplicate, sum(records_rejected) AS records_rejected,
        sum(records_out_of_scope) AS records_out_of_scope,
        sum(records_received - records_accepted - records_duplicate - records_rejected - records_out_of_scope) AS records_unaccounted,
        sum(octets_received) AS octets_received, sum(octets_quarantined) AS octets_quarantined,
        sum(volume_parsed_octets) AS volume_parsed_octets, sum(volume_accepted_octets) AS volume_accepted_octets,
        sum(volume_duplicate_octets) AS volume_duplicate_octets, sum(volume_out_of_scope_octets) AS volume_out_of_scope_octets
    FROM """
    + visible("{schema}file_balances")
    + """ AS counted GROUP BY 1, 2""",
)

FACTOR_USE = View(
    Table(
        name="factor_use",
        comment="Which factor was applied to how much of a revision of a month, and what came of it.",
        text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month.'
        revision         INT       NOT NULL COMMENT 'Revision of the month; one beyond the last published was tried and not published.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile.'
        component        STRING    NOT NULL COMMENT 'volume or subscription.'
        factor_id        STRING    NOT NULL COMMENT 'Factor applied.'
        gco2e_per_unit   DECIMAL(18,14) NOT NULL COMMENT 'The factor, grams of CO2 equivalent per unit of the quantity.'
        is_national_default BOOLEAN NOT NULL COMMENT 'The factor is the national default, not the operator''s own.'
        subscriptions    BIGINT    NOT NULL COMMENT 'Subscriptions it was applied to.'
        quantity         DECIMAL(38,9) NOT NULL COMMENT 'Decimal gigabytes, or subscription-months.'
        quantity_unit    STRING    NOT NULL COMMENT 'GB or subscription-month.'
        gco2e            DECIMAL(38,12) NOT NULL COMMENT 'Grams of CO2 equivalent.'
        """,
        key=("usage_month", "revision", "network", "component", "factor_id"),
    ),
    (ESTIMATED,),
    """
    SELECT usage_month, revision, network, component, factor_id, gco2e_per_unit, is_national_default, quantity_unit,
        count(DISTINCT subscription_key) AS subscriptions, sum(quantity) AS quantity, sum(gco2e) AS gco2e
    FROM {schema}estimated
    GROUP BY usage_month, revision, network, component, factor_id, gco2e_per_unit, is_national_default, quantity_unit
    """,
)

SOURCE_DAYS = View(
    Table(
        name="source_days",
        comment="What came of each source and day, while records are kept, beside what its network elements numbered.",
        text="""
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        day              DATE      NOT NULL COMMENT 'UTC day on which intervals closed; for numbered records, on which they were opened.'
        intervals        BIGINT    NOT NULL COMMENT 'Intervals accepted, or counted between readings; 0 once their records are erased.'
        octets           DECIMAL(38,0) NOT NULL COMMENT 'Their octets, up and down.'
        octets_share_of_median DECIMAL(18,6) COMMENT 'Octets over the median day of the source: under a tenth it is a silent day. Null if the median is 0.'
        nodes            BIGINT    NOT NULL COMMENT 'Network elements that numbered records; 0 if none does.'
        records_numbered BIGINT    NOT NULL COMMENT 'Records with a sequence number.'
        records_missing  BIGINT    NOT NULL COMMENT 'Sequence numbers that no file of the source holds, missed on this day: records that never came.'
        """,
        key=("source", "day"),
    ),
    (ACCEPTED, DELTAS, COMPLETENESS, BATCHES),
    """
    WITH came AS (
        SELECT source, CAST(timezone('UTC', closed_at) AS DATE) AS day, count(*) AS intervals, sum(octets_up + octets_down) AS octets
        FROM (
            SELECT source, closed_at, octets_up, octets_down FROM """
    + visible("{schema}accepted")
    + """ AS a UNION ALL SELECT source, closed_at, octets_up, octets_down
            FROM (SELECT *, max(revision) OVER (PARTITION BY usage_month) AS latest FROM {schema}deltas) AS d WHERE revision = latest
        ) AS every GROUP BY 1, 2
    ), ranged AS (
        SELECT *, max(last_sequence) OVER earlier AS end_before FROM """
    + visible("{schema}completeness")
    + """ AS c
        WINDOW earlier AS (
            PARTITION BY source, node ORDER BY first_sequence, last_sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ), clustered AS (
        SELECT *, count(*) FILTER (end_before IS NULL OR first_sequence > end_before) OVER (
            PARTITION BY source, node ORDER BY first_sequence, last_sequence ROWS UNBOUNDED PRECEDING
        ) AS cluster
        FROM ranged
    ), clusters AS (
        SELECT source, min(day) AS day, min(first_sequence) - 1 - min(end_before) FILTER (first_sequence > end_before) AS before,
            max(last_sequence) - min(first_sequence) + 1 - sum(records) AS within
        FROM clustered GROUP BY source, node, cluster
    ), missed AS (
        SELECT source, day, sum(CASE WHEN before BETWEEN 1 AND 1000000 THEN before ELSE 0 END
            + CASE WHEN within BETWEEN 1 AND 1000000 THEN within ELSE 0 END) AS missing
        FROM clusters GROUP BY source, day
    ), numbered AS (
        SELECT source, day, count(DISTINCT node) AS nodes, sum(records) AS records FROM ranged GROUP BY 1, 2
    ), medians AS (
        SELECT source, median(octets) AS octets FROM came GROUP BY source
    )
    SELECT coalesce(came.source, numbered.source) AS source, coalesce(came.day, numbered.day) AS day,
        coalesce(came.intervals, 0) AS intervals, coalesce(came.octets, 0) AS octets,
        came.octets / nullif(medians.octets, 0) AS octets_share_of_median,
        coalesce(numbered.nodes, 0) AS nodes, coalesce(numbered.records, 0) AS records_numbered,
        coalesce(missed.missing, 0) AS records_missing
    FROM came FULL JOIN numbered ON numbered.source = came.source AND numbered.day = came.day
    LEFT JOIN medians ON medians.source = came.source
    LEFT JOIN missed ON missed.source = numbered.source AND missed.day = numbered.day
    """,
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

VIEWS = (RECEIVED_BALANCE, FILES_RECEIVED, SOURCE_DAYS, FACTOR_USE, PUBLICATION_HISTORY, PUBLISHED_HISTORY)
"""Every view. PostgreSQL has those whose tables it has."""
