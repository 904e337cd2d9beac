"""A published month as Delta tables, written without Spark, of as many subscriptions as are asked for.

Its figures come from plain arithmetic here, with the shipped factors; ``tests/e2e/test_audit.py`` has those of the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import write_deltalake

from factors.registry import factors_id, in_force
from jobs import exact_sql
from jobs.run import PROJECT, Settings
from schemas.table import Table
from schemas.tables import (
    BATCHES,
    ESTIMATED,
    EVIDENCE,
    EVIDENCE_DAYS,
    EVIDENCE_FACTORS,
    EVIDENCE_RECEIVED,
    FILE_BALANCES,
    LANDED,
    METERED,
    PUBLICATIONS,
    REVISIONS,
    SUBSCRIBED,
    VERDICTS,
)

MONTH = date(2026, 10, 1)
NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
A = {"mobile": Decimal("12.3"), "fixed": Decimal("1.75")}
B = {"mobile": Decimal(475), "fixed": Decimal(4175)}
_FILLED: dict[str, Any] = {
    "BIGINT": 0,
    "INT": 0,
    "STRING": "-",
    "BOOLEAN": False,
    "BINARY": b"",
    "TIMESTAMP": NOW,
    "DATE": MONTH,
    "ARRAY<BIGINT>": [],
}


@dataclass(frozen=True)
class Used:
    """A subscription with its volumes: technology, zone, octets up and down."""

    name: str
    network: str = "mobile"
    volumes: tuple[tuple[str, str, int, int], ...] = ()
    brand: str = "Alpha"
    segment: str = "consumer"
    is_estimated: bool = False
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.name.encode().ljust(16, b"\0"))


SMALL = (
    Used("ana", volumes=(("4g", "home", 1_000_000_000, 2_000_000_000), ("4g", "roaming", 0, 1))),
    Used("ben", volumes=(("5g", "home", 0, 500_000_000),), is_estimated=True),
    Used("cat"),
    Used("dan", volumes=(("4g", "home", 300_000_000, 14_000_000_000),), brand="Beta", segment="business"),
    Used("eve", "fixed"),
    Used("fay", "fixed", (("fibre", "home", 25_000_000_000, 225_000_000_000),)),
)


def settings_of(var: Path) -> Settings:
    """Settings of a place."""
    return Settings.from_environment({"FOOTPRINT_VAR": str(var)})


def write_month(var: Path, used: Iterable[Used] = SMALL) -> Settings:
    """Write a published month below a folder."""
    settings, some = settings_of(var), list(used)
    published = [_published(each) for each in some]
    publication = _publication(published, sorted({each.brand for each in some}))
    write(settings, SUBSCRIBED, [_subscribed(each) for each in some])
    write(settings, METERED, [*[row for each in some for row in _metered(each)], UNKNOWN])
    write(settings, ESTIMATED, [row for each in some for row in _estimated(each, publication["factors_id"])])
    write(settings, REVISIONS, published)
    write(settings, PUBLICATIONS, [publication])
    write(
        settings,
        VERDICTS,
        [_shared(publication) | {"revision": 1, "verdict_id": 1, "passed": True, "rules": 1, "summary": "every rule is met"}],
    )
    write(settings, EVIDENCE, [EVIDENCE_ROW])
    write(settings, EVIDENCE_RECEIVED, [BALANCE | {"usage_month": MONTH, "verdict_id": 1, "files": 1}])
    write(settings, EVIDENCE_DAYS, [{"usage_month": MONTH, "verdict_id": 1, "source": "pgw_pipe", "day": date(2026, 10, 3)}])
    write(settings, EVIDENCE_FACTORS, [row for network in A for row in _factor_use(network, some)])
    write(settings, BATCHES, [{"batch": 1, "state": state, "file_numbers": [1]} for state in ("planned", "committed")])
    write(
        settings,
        LANDED,
        [{"file_number": 1, "source": "pgw_pipe", "file_name": "S4PGWM000001", "file_hash": "ab" * 32, "status": "new"}],
    )
    write(settings, FILE_BALANCES, [BALANCE])
    return settings


def write(settings: Settings, table: Table, rows: list[Mapping[str, Any]], mode: str = "append") -> None:
    """Append rows to a table, or overwrite it; columns left out are filled."""
    default = {c.name: _FILLED.get(c.sql_type, Decimal(0)) if c.is_required else None for c in table.columns}
    filled = [default | {name: row[name] for name in table.names if name in row} for row in rows]
    write_deltalake(f"{settings.lake}/{table.name}", pa.Table.from_pylist(filled, schema=table.arrow_schema), mode=mode)


_OF_MONTH = {"usage_month": MONTH, "batch_cutoff": 1, "revision": 1}
UNKNOWN = _OF_MONTH | {"attribution": "unknown_identifier", "network": "mobile", "octets_down": 7, "roaming_zone": "home"}
EVIDENCE_ROW = {"usage_month": MONTH, "verdict_id": 1, "network": "all", "rule": "files_out_of_balance", "unit": "files"} | {
    "measured": Decimal(0), "highest": Decimal(0), "is_blocking": True, "passed": True
}  # fmt: skip
BALANCE = {"batch": 1, "source": "pgw_pipe", "file_number": 1, "records_received": 10, "records_accepted": 8} | {
    "records_duplicate": 1, "records_out_of_scope": 1, "octets_received": 100, "octets_records": 100,
    "first_closed_at": datetime(2026, 10, 2, tzinfo=UTC), "last_closed_at": datetime(2026, 10, 3, tzinfo=UTC),
}  # fmt: skip


def _subscribed(used: Used) -> dict[str, Any]:
    named = {"subscription_key": used.key, "network": used.network, "segment": used.segment, "brand": used.brand}
    return _OF_MONTH | named | {"active_days": 31, "is_estimated": used.is_estimated}


def _metered(used: Used) -> list[dict[str, Any]]:
    return [
        _OF_MONTH
        | {"subscription_key": used.key, "attribution": "holder", "network": used.network, "intervals": 1}
        | dict(zip(("access_technology", "roaming_zone", "octets_up", "octets_down"), volume, strict=True))
        for volume in used.volumes
    ]


def _grams(octets: int, network: str) -> Decimal:
    return (Decimal(octets) * A[network] / 10**9).quantize(Decimal("1e-12"), ROUND_HALF_UP)


def _estimated(used: Used, factors: str) -> list[dict[str, Any]]:
    shared = _OF_MONTH | {"subscription_key": used.key, "network": used.network, "brand": used.brand, "factors_id": factors}
    shared |= {"factor_set": "FR-RCP2-NAT-2022", "is_national_default": True, "method_id": "fr-rcp-fai-v2"}
    found = [("subscription", None, None, Decimal(1), B[used.network], B[used.network])]
    for technology, zone, up, down in used.volumes:
        found.append(
            ("volume", technology, zone, Decimal(up + down).scaleb(-9), A[used.network], _grams(up + down, used.network))
        )
    names = ("component", "access_technology", "roaming_zone", "quantity", "gco2e_per_unit", "gco2e")
    return [
        shared
        | dict(zip(names, each, strict=True))
        | {"factor_id": f"FR-RCP2-NAT-2022/{used.network}/{each[0]}/2024-01", "is_estimated": used.is_estimated}
        for each in found
    ]


def _factor_use(network: str, some: list[Used]) -> list[dict[str, Any]]:
    of_network = [each for each in some if each.network == network]
    volumes = [up + down for each in of_network for _, _, up, down in each.volumes]
    applied = {
        "volume": (sum(bool(each.volumes) for each in of_network), Decimal(sum(volumes)).scaleb(-9), A[network]),
        "subscription": (len(of_network), Decimal(len(of_network)), B[network]),
    }
    grams = {"volume": sum(_grams(octets, network) for octets in volumes), "subscription": B[network] * len(of_network)}
    return [
        {"usage_month": MONTH, "verdict_id": 1, "network": network, "component": component, "subscriptions": subscriptions}
        | {"quantity": quantity, "gco2e_per_unit": factor, "gco2e": grams[component], "factor_id": component}
        for component, (subscriptions, quantity, factor) in applied.items()
        if subscriptions
    ]


def _published(used: Used) -> dict[str, Any]:
    octets = sum(up + down for _, _, up, down in used.volumes)
    volume = sum((_grams(up + down, used.network) for _, _, up, down in used.volumes), Decimal(0))
    return {
        "subscription_key": used.key.hex(),
        "usage_month": MONTH,
        "network": used.network,
        "brand": used.brand,
        "data_volume_bytes": octets,
        "data_volume_gb_displayed": (octets + 5 * 10**8) // 10**9,
        "is_estimated": used.is_estimated,
        "volume_gco2e": volume,
        "subscription_gco2e": B[used.network],
        "footprint_gco2e": volume + B[used.network],
        "footprint_gco2e_displayed": int((volume + B[used.network]).quantize(Decimal(1), ROUND_HALF_UP)),
        "factor_set": "FR-RCP2-NAT-2022",
        "is_national_default": True,
        "method_id": "fr-rcp-fai-v2",
        "revision": 1,
        "publication_id": 1,
    }


def _publication(published: list[dict[str, Any]], brands: list[str]) -> dict[str, Any]:
    with duckdb.connect() as connection:
        connection.register("rows", pa.Table.from_pylist(published, schema=REVISIONS.arrow_schema))
        figures_hash = exact_sql.figures_hash(connection, "rows")
    return {
        "publication_id": 1,
        "usage_month": MONTH,
        "revision": 1,
        "reason": "first publication",
        "batch_cutoff": 1,
        "factors_id": factors_id(in_force(PROJECT / "factors", MONTH, brands)),
        "factor_sets": "FR-RCP2-NAT-2022",
        "code_version": "0.1.0",
        "verdict_id": 1,
        "subscriptions": len(published),
        "data_volume_bytes": sum(row["data_volume_bytes"] for row in published),
        "footprint_gco2e": sum((row["footprint_gco2e"] for row in published), Decimal(0)),
        "figures_hash": figures_hash,
        "published_at": NOW,
    }


def _shared(publication: Mapping[str, Any]) -> dict[str, Any]:
    return {name: publication[name] for name in ("usage_month", "batch_cutoff", "factors_id", "code_version")}
