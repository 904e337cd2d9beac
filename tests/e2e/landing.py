"""Files as mediation writes them, small enough to add up by head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

HEADER = (
    "subscription_id,network,access_technology,identifier_type,identifier,"
    "assigned_from,assigned_to,active_from,active_to,segment,brand"
)
GB = 1_000_000_000


def pipe(
    imsi: str,
    start: str,
    call: str,
    down: int | str,
    up: int | str = 0,
    *,
    seconds: int | str = 3600,
    kind: str = "GP",
    apn: str = "internet",
    offset: str = "+0200",
) -> str:
    """One record of the 25-field layout; ``start`` is local time, YYYYMMDDHHMMSS."""
    fields = [kind, "", "", "", "", imsi, start, str(seconds), str(down), str(up), "", "", apn, offset, *[""] * 10, call]
    return "|".join(fields)


def subscription(
    name: str,
    network: str,
    identifier: tuple[str, str],
    assigned: tuple[str, str] = ("2025-01-01T00:00:00+01:00", ""),
    active: tuple[str, str] = ("2025-01-01T00:00:00+01:00", ""),
    brand: str = "Alpha",
) -> str:
    """One identifier assignment of the export."""
    technology = "fibre" if network == "fixed" else "4g"
    return ",".join([name, network, technology, *identifier, *assigned, *active, "consumer", brand])


def write(landing: Path, place: str, lines: Sequence[str]) -> Path:
    """Write a file of lines, as SOURCE/NAME."""
    path = landing / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_flattened(landing: Path, name: str, containers: Sequence[tuple[str, str, str, int, int]]) -> Path:
    """Write flattened PGW containers: mdn, APN, time of last usage, octets up, octets down."""
    names = ["mdn", "accesspointnameni", "l_timeoflastusage", "l_datavolumefbcuplink", "l_datavolumefbcdownlink"]
    path = landing / "pgw_flattened" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = dict(zip(names, map(list, zip(*containers, strict=True)), strict=True))
    empty = {extra: [""] * len(containers) for extra in ("servedimeisv", "t804", "prov", "city")}
    pa.parquet.write_table(pa.table(columns | empty), path)
    return path
