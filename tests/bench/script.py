"""What the scripts beside the pipeline share: the month, the factors, the layout, the pseudonyms, and what they say."""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from factors.registry import in_force
from jobs.legal_calendar import bounds
from jobs.run import PROJECT
from schemas.source import read_source

MONTH = date(2026, 10, 1)
BEGIN, END = (int(moment.timestamp()) for moment in bounds(MONTH, ZoneInfo("Europe/Paris")))
_source = read_source(PROJECT / "schemas" / "sources" / "pgw_pipe.toml")
assert _source.delimited is not None
PIPE_COLUMNS = _source.delimited.columns
_found = {(f.network, f.component): f.gco2e_per_unit for f in in_force(PROJECT / "factors", MONTH, ["Alpha"])}
FACTORS = {network: (_found[network, "volume"], _found[network, "subscription"]) for network in ("fixed", "mobile")}
"""Grams per gigabyte and per subscription-month, by network."""

ACCEPTED, ESTIMATED = "accepted.parquet", "estimated.parquet"
"""What a script leaves: the accepted records, which the pipeline keeps too, and an amount a subscription."""


def key_of(keys: Path, name: str) -> bytes:
    """The pipeline's own key, so that the work is the same."""
    return bytes.fromhex((keys / f"{name}.key").read_text(encoding="ascii").strip())


def hashed(secret: bytes, kind: str, values: Sequence[str]) -> pa.Array:
    """Pseudonyms of distinct values."""
    begin = kind.encode() + b"\0"
    return pa.array([hmac.digest(secret, begin + value.encode(), "sha256")[:16] for value in values], pa.binary())


def say_done(stage: str) -> None:
    """Say that a stage is done, in the first word of a line as the pipeline does."""
    print(f"{stage:<9} done", flush=True)  # noqa: T201


def say_totals(subscriptions: int, octets: int, gco2e: Decimal | float) -> None:
    """Say what came out, to be compared."""
    print(json.dumps({"subscriptions": subscriptions, "octets": octets, "gco2e": f"{gco2e:.6f}"}))  # noqa: T201
