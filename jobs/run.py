"""Identity and settings of a run: read from the environment once, validated, each with a default that works on one machine."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from schemas.service_levels import BILLING_DAYS, FIGURES_KEPT_MONTHS, PROVISIONAL_DAYS, RECORDS_KEPT_DAYS, RESTATEMENT_DAYS

PROJECT = Path(__file__).resolve().parent.parent
LONGEST_RECORDS_DAYS = 365
"""Billing data is kept for a year at most (code des postes et des communications électroniques, R10-14)."""


class Refused(Exception):
    """The data was refused; the message says what, where and why. Exit code 1: running again changes nothing."""


class CallError(Exception):
    """The call or its settings were wrong; the message says what to change. Exit code 2."""


@dataclass(frozen=True)
class Settings:
    """Where a run reads, writes and computes. Places may be local paths or URIs of an object store."""

    landing: str
    lake: str
    sources: Path
    factors: Path
    keys: Path
    spark_master: str
    serving_url: str | None
    legal_timezone: ZoneInfo
    driver_memory: str
    records_kept_days: int
    figures_kept_months: int
    provisional_days: int
    billing_days: int
    restatement_days: int
    materiality_gco2e: Decimal | None
    portal_key: Path
    portal_token_minutes: int
    var: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings from variables that begin with ``FOOTPRINT_``. Raises CallError on an unknown or unusable one."""
        given = {name: value for name, value in environment.items() if name.startswith("FOOTPRINT_") and value}
        unknown = sorted(given.keys() - SETTINGS.keys())
        if unknown:
            raise CallError(f"{unknown[0]} is not a setting; known are {', '.join(sorted(SETTINGS))}")
        var = Path(given.get("FOOTPRINT_VAR", PROJECT / "var")).absolute()
        records_kept, restatement, billing = _days(given)
        _check_orchestration(given)
        keys = Path(given.get("FOOTPRINT_KEYS", var / "keys")).absolute()
        return cls(
            landing=place(given.get("FOOTPRINT_LANDING", str(var / "landing"))),
            lake=place(given.get("FOOTPRINT_LAKE", str(var / "lake"))),
            sources=_folder("FOOTPRINT_SOURCES", given, PROJECT / "schemas" / "sources"),
            factors=_folder("FOOTPRINT_FACTORS", given, PROJECT / "factors"),
            keys=keys,
            spark_master=given.get("FOOTPRINT_SPARK_MASTER", "local[*]"),
            serving_url=given.get("FOOTPRINT_SERVING_URL"),
            legal_timezone=_legal_timezone(given.get("FOOTPRINT_LEGAL_TIMEZONE", "Europe/Paris")),
            driver_memory=given.get("FOOTPRINT_DRIVER_MEMORY", "2g"),
            records_kept_days=records_kept,
            figures_kept_months=_number(given, "FOOTPRINT_FIGURES_KEPT_MONTHS", FIGURES_KEPT_MONTHS, range(1, 121)),
            provisional_days=_number(given, "FOOTPRINT_PROVISIONAL_DAYS", min(PROVISIONAL_DAYS, billing), range(billing + 1)),
            billing_days=billing,
            restatement_days=restatement,
            materiality_gco2e=_grams(given, "FOOTPRINT_MATERIALITY_GCO2E"),
            portal_key=Path(given.get("FOOTPRINT_PORTAL_KEY", keys / "portal.key")).absolute(),
            portal_token_minutes=_number(given, "FOOTPRINT_PORTAL_TOKEN_MINUTES", 15, range(1, 24 * 60 + 1)),
            var=var,
        )

    @property
    def jars(self) -> Path:
        """Folder of the Delta JARs that set-up resolved."""
        return self.var / "jars"

    @property
    def data_docs(self) -> Path:
        """Folder of the Great Expectations pages, one site a month."""
        return self.var / "data_docs"

    @property
    def reports(self) -> Path:
        """Folder of the month reports, a page for each revision."""
        return self.var / "reports"

    @property
    def scenarios(self) -> Path:
        """Folder of what scenarios came to; never a lake."""
        return self.var / "scenarios"


SETTINGS = {
    "FOOTPRINT_VAR": "Folder in which the defaults of the others lie.",
    "FOOTPRINT_LANDING": "Landing folder, with a folder per source: local, or a URI of an object store (`s3://…`).",
    "FOOTPRINT_LAKE": "Place of the Delta tables: local, or a URI of an object store.",
    "FOOTPRINT_SOURCES": "Folder of the source files (`*.toml`).",
    "FOOTPRINT_FACTORS": "Folder of the factor sets, assignments, hypotheses and method texts.",
    "FOOTPRINT_KEYS": "Folder of the two pseudonymisation keys, mode 0600; on a cluster, the same path on every worker.",
    "FOOTPRINT_SPARK_MASTER": "Any Spark master.",
    "FOOTPRINT_DRIVER_MEMORY": "Memory of the driver, on one machine.",
    "FOOTPRINT_SERVING_URL": "A PostgreSQL of version 14 or later; unset, the embedded one.",
    "FOOTPRINT_LEGAL_TIMEZONE": "Time zone whose months count.",
    "FOOTPRINT_RECORDS_KEPT_DAYS": "Days that records and their files stay after their month ended and was published, to 334.",
    "FOOTPRINT_FIGURES_KEPT_MONTHS": "Months that figures stay.",
    "FOOTPRINT_PROVISIONAL_DAYS": "Days after a month's end on which its estimate is due.",
    "FOOTPRINT_BILLING_DAYS": "Days after a month's end on which its publication is due; no earlier than its estimate.",
    "FOOTPRINT_RESTATEMENT_DAYS": "Days after a month's end on which its last restatement is due, while its records are kept.",
    "FOOTPRINT_MATERIALITY_GCO2E": "Grams, unrounded, from which billing is told of a restatement; unset, any displayed change.",
    "FOOTPRINT_PORTAL_KEY": "Key that the portal's tokens are signed with, mode 0600; made if it is missing beside the others.",
    "FOOTPRINT_PORTAL_TOKEN_MINUTES": "Minutes that a token shows a page.",
    "FOOTPRINT_LOG": "What is said on standard error: `text` or `json`; unset, text on a terminal and JSON in a pipe.",
    "FOOTPRINT_RUN_ID": "Identity of a run in its log lines; Airflow sets it, and unset, each command has one of its own.",
    "FOOTPRINT_ALERT_WEBHOOK": "Address that Airflow posts to when somebody must act.",
    "FOOTPRINT_ALERT_MAIL": "Addresses, between commas, that Airflow mails to when somebody must act.",
    "FOOTPRINT_LINEAGE": "File or URL that Airflow writes OpenLineage events to.",
}
"""Each setting with its meaning; its value is the field of ``Settings`` of the same name, if the stages read it."""
LOG_FORMS = ("text", "json")
"""What FOOTPRINT_LOG may be: how standard error is written (``jobs.log``)."""


def billing_days(environment: Mapping[str, str] = os.environ) -> int:
    """Days after a month's end on which it is due to be published, of the same variables as the settings. Raises CallError."""
    return _days({name: value for name, value in environment.items() if value})[2]


def _days(given: Mapping[str, str]) -> tuple[int, int, int]:
    """Days that records are kept, and on which the last restatement and the publication are due."""
    records_kept = _number(given, "FOOTPRINT_RECORDS_KEPT_DAYS", RECORDS_KEPT_DAYS, range(LONGEST_RECORDS_DAYS - 30))
    # A day of the calendar lies before the next, and a month is restated while its records are there to be counted anew.
    restatement = _number(given, "FOOTPRINT_RESTATEMENT_DAYS", min(RESTATEMENT_DAYS, records_kept), range(records_kept + 1))
    billing = _number(given, "FOOTPRINT_BILLING_DAYS", min(BILLING_DAYS, restatement), range(restatement + 1))
    return records_kept, restatement, billing


def _check_orchestration(given: Mapping[str, str]) -> None:
    """Refuse settings that Airflow or the log would find unusable only when something has gone wrong."""
    form, webhook, mail = (given.get(f"FOOTPRINT_{name}") for name in ("LOG", "ALERT_WEBHOOK", "ALERT_MAIL"))
    if form is not None and form not in LOG_FORMS:
        raise CallError(f"FOOTPRINT_LOG: {form!r} is neither {' nor '.join(LOG_FORMS)}")
    # The address may hold a token, so it is not repeated.
    if webhook is not None and (urlsplit(webhook).scheme not in ("http", "https") or not urlsplit(webhook).hostname):
        raise CallError("FOOTPRINT_ALERT_WEBHOOK: not an address that begins with https:// or http://")
    if mail is not None and not all(re.fullmatch(r"[^@\s]+@[^@\s]+", address.strip()) for address in mail.split(",")):
        raise CallError("FOOTPRINT_ALERT_MAIL: not an address, or several between commas")


def place(text: str) -> str:
    """A place as it is used: a URI, or an absolute path."""
    return text.rstrip("/") if "://" in text else str(Path(text).absolute())


def _folder(variable: str, given: Mapping[str, str], default: Path) -> Path:
    folder = Path(given.get(variable, default)).absolute()
    if not folder.is_dir():
        raise CallError(f"{variable}: {folder} is not a folder")
    return folder


def _number(given: Mapping[str, str], variable: str, default: int, allowed: range) -> int:
    text = given.get(variable, str(default))
    if not text.isdecimal() or int(text) not in allowed:
        raise CallError(f"{variable}: {text!r} is not a whole number from {allowed[0]} to {allowed[-1]}")
    return int(text)


def _grams(given: Mapping[str, str], variable: str) -> Decimal | None:
    """Grams that are asked for, None if none are. Text to Decimal, never through a float."""
    text = given.get(variable)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text):
        raise CallError(f"{variable}: {text!r} is not an amount of grams such as 0.5")
    return Decimal(text)


def _legal_timezone(name: str) -> ZoneInfo:
    from schemas.source import zone  # not above: what a DAG imports of this module loads in no time

    try:
        return zone(name)
    except ValueError as error:
        raise CallError(f"FOOTPRINT_LEGAL_TIMEZONE: {error}") from None


def usage_month(text: str) -> date:
    """The first day of a month written ``YYYY-MM``. Raises CallError."""
    if not re.fullmatch(r"[12][0-9]{3}-(0[1-9]|1[0-2])", text):
        raise CallError(f"{text!r} is not a month: write it as YYYY-MM, for example 2026-10")
    return date.fromisoformat(f"{text}-01")


def revision_name(usage_month: date, revision: int) -> str:
    """Name of the pages about a revision of a month."""
    return f"{usage_month:%Y-%m}" + (f"-revision-{revision}" if revision > 1 else "")


@cache
def lock_hash() -> str | None:
    """SHA-256 of the lock that names the version and hash of every package of the pipeline; None where it is not there."""
    lock = PROJECT / ".setup" / "pipeline.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


@cache
def code_version() -> str:
    """Version of the code that runs: the package's, with the commit where the project is a git checkout."""
    package = version("footprint")
    try:
        commit = subprocess.run(
            ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return package
    return f"{package}+{commit.stdout.strip()}"
