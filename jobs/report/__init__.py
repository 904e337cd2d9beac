"""The month report: one self-contained page of what a month's figures are, where they came from and how they were judged."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from jobs.run import Settings, revision_name


def place(settings: Settings, usage_month: date, revision: int) -> Path:
    """Where the report of a revision of a month lies unless it is asked for elsewhere."""
    return settings.reports / f"{revision_name(usage_month, revision)}.html"
