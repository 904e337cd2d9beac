"""Great Expectations judges the evidence of a month and writes it as pages that a person can read.

It sees one row of measurements, never a subscriber's row, so its cost is constant and its store holds no personal data.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from data_quality.rules import MARKS, Rule

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when Great Expectations is imported

_RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}


@dataclass(frozen=True)
class Measurement:
    """What was measured for a rule in a network; None if there was nothing to measure. What was counted may be named."""

    network: str
    rule: Rule
    measured: Decimal | None
    is_blocking: bool
    named: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        """Name of the measurement on the pages."""
        return f"{self.network}: {self.rule.name} [{self.rule.unit}]"


def load() -> None:
    """Begin to import Great Expectations, which takes seconds, while something else goes on."""
    threading.Thread(target=_import, daemon=True).start()


def _import() -> None:
    if "great_expectations" in sys.modules:
        return
    gc.disable()  # modules stay: to look for unused objects among them takes a fifth of the time, and of each look after that
    try:
        importlib.import_module("great_expectations.expectations")
    finally:
        gc.freeze()
        gc.enable()


def judge(measurements: Sequence[Measurement], title: str, pages: Path) -> list[bool]:
    """Judge each measurement and write Data Docs to a folder. Nothing measured passes.

    Args:
        measurements: the evidence.
        title: name of the suite and of the page, such as ``2026-10``.
        pages: folder of the site; its ``index.html`` is the entrance.
    """
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.add_data_docs_site(title, _site(pages))
    found = [m for m in measurements if m.measured is not None]
    frame = pd.DataFrame({m.column: [float(m.measured)] for m in found if m.measured is not None})
    asset = context.data_sources.add_pandas("evidence").add_dataframe_asset(title)
    batch = asset.add_batch_definition_whole_dataframe("month")
    suite = context.suites.add(gx.ExpectationSuite(name=f"month_{title}", expectations=[_expectation(m) for m in found]))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=f"evidence_{title}", data=batch, suite=suite))
    result = definition.run(batch_parameters={"dataframe": frame}, result_format=_RESULT_FORMAT)
    context.build_data_docs(site_names=[title])
    passed = {outcome.expectation_config.kwargs["column"]: bool(outcome.success) for outcome in result.results}
    return [measurement.measured is None or passed[measurement.column] for measurement in measurements]


def _expectation(measurement: Measurement) -> object:
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    rule = measurement.rule
    checked = f" Checked: {MARKS[rule.mark]}." if rule.mark else ""
    notes = [rule.description, *([f"Limit: {rule.source}.{checked}"] if rule.source else [])]
    return ExpectColumnValuesToBeBetween(
        column=measurement.column,
        min_value=None if rule.lowest is None else float(rule.lowest),
        max_value=None if rule.highest is None else float(rule.highest),
        severity="critical" if measurement.is_blocking else "warning",
        notes=notes,
    )


def _site(pages: Path) -> dict[str, object]:
    pages.mkdir(parents=True, exist_ok=True)
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(pages)},
    }
