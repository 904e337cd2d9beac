"""A month of pipe records in DuckDB: the script that a user would write instead.

``python -m tests.bench.duckdb_month LANDING KEYS OUT`` parses, pseudonymises with the same keyed HMAC, keeps the latest of each
record, cuts the month, gives usage to the holder at the close, adds up, estimates and writes Parquet. It rejects silently, keeps
no trail and cannot be run again for a late file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pyarrow as pa

from tests.bench.script import BEGIN, END, FACTORS, PIPE_COLUMNS, hashed, key_of, say_totals

_RECORDS = f"""
CREATE TABLE records AS
WITH parsed AS (
    SELECT IMSI AS imsi, RecordType || '|' || CallIdentification AS record_key,
           epoch(try_strptime(EventTimestamp, '%Y%m%d%H%M%S'))::BIGINT
               - (CASE left(UTCoffset, 1) WHEN '-' THEN -1 ELSE 1 END)
               * (try_cast(substr(UTCoffset, 2, 2) AS BIGINT) * 3600
                  + try_cast(substr(UTCoffset, 4, 2) AS BIGINT) * 60) AS opened,
           try_cast(EventDuration AS BIGINT) AS lasted,
           try_cast(UploadVol AS BIGINT) AS up, try_cast(DownloadVol AS BIGINT) AS down,
           regexp_extract(filename, '(\\d{{6}})(\\.gz)?$', 1)::BIGINT AS sequence
    FROM read_csv($files, delim = '|', header = false, quote = '', escape = '', ignore_errors = true, filename = true,
                  columns = {{{", ".join(f"'{name}': 'VARCHAR'" for name in PIPE_COLUMNS)}}})
    WHERE Apn <> 'ims' AND IMSI LIKE '00101%'
)
SELECT imsi, opened, opened + lasted AS closed, lasted, up, down FROM parsed
WHERE opened IS NOT NULL AND lasted >= 0 AND up >= 0 AND down >= 0
QUALIFY row_number() OVER (PARTITION BY record_key ORDER BY sequence DESC) = 1
"""
_CUT = "({0} * (greatest(0, least({2}, opened + lasted) - opened)) // greatest(lasted, 1))"
_INSIDE = " + ".join(
    f"{_CUT.format(octets, 0, END)} - {_CUT.format(octets, 0, BEGIN)}" for octets in ("up::HUGEINT", "down::HUGEINT")
)
_USAGE = f"""
CREATE TABLE usage AS
SELECT holder.subscription_key, sum({_INSIDE})::BIGINT AS octets
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
) TO $out (FORMAT parquet)
"""
_ASSIGNMENTS = """
CREATE TABLE exported AS
SELECT subscription_id, network, identifier_type, identifier, epoch(assigned_from::TIMESTAMPTZ)::BIGINT AS assigned_from,
       coalesce(epoch(assigned_to::TIMESTAMPTZ)::BIGINT, 1::BIGINT << 40) AS assigned_to,
       epoch(active_from::TIMESTAMPTZ)::BIGINT AS active_from,
       coalesce(epoch(active_to::TIMESTAMPTZ)::BIGINT, 1::BIGINT << 40) AS active_to
FROM read_csv($files, header = true, all_varchar = true)
"""


def main(landing: Path, keys: Path, out: Path) -> None:
    """Run the month and say what it added up to."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(_ASSIGNMENTS, {"files": [str(path) for path in landing.glob("subscriptions/*.csv")]})
    connection.execute(_RECORDS, {"files": [str(path) for path in sorted(landing.glob("pgw_pipe/*"))]})
    identifier, serving = key_of(keys, "identifier"), key_of(keys, "serving")
    imsis = connection.execute(
        "SELECT DISTINCT imsi FROM records UNION SELECT identifier FROM exported WHERE identifier_type = 'imsi'"
    )
    names = [row[0] for row in imsis.fetchall()]
    pseudonyms = pa.table({"imsi": names, "identifier_key": hashed(identifier, "imsi", names)})
    ids = [row[0] for row in connection.execute("SELECT DISTINCT subscription_id FROM exported").fetchall()]
    served = pa.table({"subscription_id": ids, "subscription_key": hashed(serving, "subscription", ids)})
    connection.register("pseudonyms", pseudonyms)
    connection.register("served", served)
    connection.execute(
        "CREATE TABLE assignments AS SELECT subscription_key, network, pseudonyms.identifier_key, assigned_from, assigned_to, "
        "active_from, active_to FROM exported JOIN served USING (subscription_id) "
        "LEFT JOIN pseudonyms ON identifier_type = 'imsi' AND pseudonyms.imsi = identifier"
    )
    connection.execute(_USAGE)
    connection.execute(_ESTIMATED, {"out": str(out)})
    found = connection.execute(f"SELECT count(*), sum(octets)::BIGINT, sum(gco2e) FROM '{out}'").fetchone()
    assert found is not None
    say_totals(*found)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
