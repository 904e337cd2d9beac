"""A month of pipe records in DuckDB: the script that a user would write instead.

``python -m tests.bench.duckdb_month LANDING KEYS OUT`` parses, pseudonymises with the same keyed HMAC, keeps the latest of each
record, writes what it accepts as Parquet without identifiers, cuts the month, gives usage to the holder at the close, adds up,
estimates and writes Parquet. It rejects silently, keeps no trail and cannot be run again for a late file. A record is known by a
hash of 64 bits, so that of 100 million records two are taken for one with a probability of 0.03 %.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pyarrow as pa

from tests.bench.script import ACCEPTED, BEGIN, END, ESTIMATED, FACTORS, PIPE_COLUMNS, hashed, key_of, say_done, say_totals

_ASSIGNMENTS = """
CREATE TABLE exported AS
SELECT subscription_id, network, identifier_type, identifier, epoch(assigned_from::TIMESTAMPTZ)::BIGINT AS assigned_from,
       coalesce(epoch(assigned_to::TIMESTAMPTZ)::BIGINT, 1::BIGINT << 40) AS assigned_to,
       epoch(active_from::TIMESTAMPTZ)::BIGINT AS active_from,
       coalesce(epoch(active_to::TIMESTAMPTZ)::BIGINT, 1::BIGINT << 40) AS active_to
FROM read_csv($files, header = true, all_varchar = true)
"""
# Without detection and strictness the reader takes a quarter less time, and finds the same records.
_READ = f"""
CREATE TABLE read AS
WITH parsed AS (
    SELECT IMSI AS imsi, hash(RecordType || '|' || CallIdentification) AS record_key, RecordType AS roaming_zone,
           epoch(try_strptime(EventTimestamp, '%Y%m%d%H%M%S'))::BIGINT
               - (CASE left(UTCoffset, 1) WHEN '-' THEN -1 ELSE 1 END)
               * (try_cast(substr(UTCoffset, 2, 2) AS BIGINT) * 3600
                  + try_cast(substr(UTCoffset, 4, 2) AS BIGINT) * 60) AS opened,
           try_cast(EventDuration AS BIGINT) AS lasted,
           try_cast(UploadVol AS BIGINT) AS up, try_cast(DownloadVol AS BIGINT) AS down,
           regexp_extract(filename, '(\\d{{6}})(\\.gz)?$', 1)::INT AS sequence
    FROM read_csv($files, delim = '|', header = false, quote = '', escape = '', ignore_errors = true, filename = true,
                  auto_detect = false, strict_mode = false,
                  columns = {{{", ".join(f"'{name}': 'VARCHAR'" for name in PIPE_COLUMNS)}}})
    WHERE Apn <> 'ims' AND IMSI LIKE '00101%'
)
SELECT *, opened + lasted AS closed FROM parsed
WHERE opened IS NOT NULL AND lasted >= 0 AND up >= 0 AND down >= 0
"""
# Few records come twice: to sort those alone takes half the time of a window over all.
_RECORDS = """
CREATE TABLE repeated AS SELECT record_key FROM read GROUP BY record_key HAVING count(*) > 1;
CREATE VIEW records AS
SELECT * FROM read ANTI JOIN repeated USING (record_key)
UNION ALL
(SELECT * FROM read SEMI JOIN repeated USING (record_key)
 QUALIFY row_number() OVER (PARTITION BY record_key ORDER BY sequence DESC) = 1)
"""
_ACCEPTED = """
COPY (
    SELECT identifier_key, record_key,
           make_timestamp(opened * 1000000) AS opened_at, make_timestamp(closed * 1000000) AS closed_at,
           up AS octets_up, down AS octets_down, roaming_zone, sequence AS file_sequence
    FROM records JOIN pseudonyms USING (imsi)
) TO $out (FORMAT parquet, COMPRESSION zstd)
"""
_CUT = "({0} * (greatest(0, least({2}, opened + lasted) - opened)) // greatest(lasted, 1))"
_INSIDE = " + ".join(
    f"{_CUT.format(octets, 0, END)} - {_CUT.format(octets, 0, BEGIN)}" for octets in ("up::HUGEINT", "down::HUGEINT")
)
# Few records straddle an end of the month, and a division of 128 bits takes long.
_USAGE = f"""
CREATE TABLE usage AS
SELECT holder.subscription_key,
       sum(CASE WHEN opened >= {BEGIN} AND closed <= {END} THEN up + down ELSE ({_INSIDE})::BIGINT END)::BIGINT AS octets
FROM records JOIN pseudonyms USING (imsi)
JOIN assignments AS holder ON holder.identifier_key = pseudonyms.identifier_key
    AND holder.assigned_from <= records.closed AND records.closed < holder.assigned_to
GROUP BY ALL
"""


def _cases(position: int) -> str:
    return " ".join(f"WHEN '{network}' THEN {amounts[position]}::DECIMAL(18,14)" for network, amounts in FACTORS.items())


_ESTIMATED = f"""
COPY (
    SELECT subscription_key, any_value(network) AS network, coalesce(any_value(octets), 0) AS octets,
           any_value(CASE network {_cases(0)} END)
               * (coalesce(any_value(octets), 0)::DECIMAL(18,0) * 0.000000001::DECIMAL(10,9))::DECIMAL(17,9)
           + any_value(CASE network {_cases(1)} END) AS gco2e
    FROM assignments LEFT JOIN usage USING (subscription_key)
    WHERE active_from < {END} AND active_to > {BEGIN}
    GROUP BY subscription_key
) TO $out (FORMAT parquet, COMPRESSION zstd)
"""


def main(landing: Path, keys: Path, out: Path) -> None:
    """Run the month and say what it added up to."""
    say_done("land")
    connection = duckdb.connect(config={"temp_directory": str(out / "spilled"), "preserve_insertion_order": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(_ASSIGNMENTS, {"files": [str(path) for path in landing.glob("subscriptions/*.csv")]})
    connection.execute(_READ, {"files": [str(path) for path in sorted(landing.glob("pgw_pipe/*"))]})
    connection.execute(_RECORDS)
    imsis = _texts(
        connection, "SELECT DISTINCT imsi FROM records UNION SELECT identifier FROM exported WHERE identifier_type = 'imsi'"
    )
    connection.register("pseudonyms", _hashed(key_of(keys, "identifier"), "imsi", "imsi", "identifier_key", imsis))
    connection.execute(_ACCEPTED, {"out": str(out / ACCEPTED)})
    say_done("accept")
    ids = _texts(connection, "SELECT DISTINCT subscription_id FROM exported")
    served = _hashed(key_of(keys, "serving"), "subscription", "subscription_id", "subscription_key", ids)
    connection.register("served", served)
    connection.execute(
        "CREATE TABLE assignments AS SELECT subscription_key, network, identifier_key, assigned_from, assigned_to, active_from, "
        "active_to FROM exported JOIN served USING (subscription_id) "
        "LEFT JOIN pseudonyms ON pseudonyms.imsi = CASE identifier_type WHEN 'imsi' THEN identifier END"
    )
    connection.execute(_USAGE)
    say_done("meter")
    connection.execute(_ESTIMATED, {"out": str(out / ESTIMATED)})
    found = connection.execute(f"SELECT count(*), sum(octets)::BIGINT, sum(gco2e) FROM '{out / ESTIMATED}'").fetchone()
    assert found is not None
    say_done("estimate")
    say_totals(*found)


def _texts(connection: duckdb.DuckDBPyConnection, query: str) -> pa.ChunkedArray:
    return connection.execute(query).to_arrow_table().column(0)


def _hashed(secret: bytes, kind: str, name: str, key_name: str, values: pa.ChunkedArray) -> pa.Table:
    return pa.table({name: values, key_name: hashed(secret, kind, values.to_pylist())})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
