"""The auditor's notebook is executed on a month that was published and restated; a cell that finds a difference fails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from jobs import demo, stages
from jobs.run import PROJECT, Settings
from jobs.workplace import workplace
from tests.e2e.conftest import at_a_place, run_stages
from tests.e2e.landing import GB, pipe, write

NOTEBOOK = PROJECT / "docs" / "notebooks" / "auditor.ipynb"
MONTH = date(2026, 10, 1)
SIM_OF_A_SUBSCRIPTION = "001010000000000"


def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> Iterator[Settings]:
    """A small month of the demonstration, restated for a late file."""
    with at_a_place(tmp_path_factory.mktemp("place")) as found:
        demo.generate(Path(found.landing), MONTH, 120, 1, 1, ["delimited"])
        run_stages(found, "2026-10")
        write(Path(found.landing), "pgw_pipe/S4PGWB009999", [pipe(SIM_OF_A_SUBSCRIPTION, "20261012100000", "late", 2 * GB)])
        run_stages(found, "2026-10", ("land", "accept"))
        with workplace(found, "restate", lambda _: None) as opened:
            stages.restate(opened, MONTH, "a late file", None)
        yield found


@pytest.mark.spark
@pytest.mark.slow
def test_the_notebook_finds_no_difference(settings, monkeypatch):
    monkeypatch.setenv("FOOTPRINT_VAR", str(settings.var))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    read = notebook()

    NotebookClient(read, timeout=300, resources={"metadata": {"path": str(PROJECT)}}).execute()

    said = "".join(output.get("text", "") for cell in read.cells for output in cell.get("outputs", []))
    assert "refused: nothing can be written" in said
    assert "late_usage" in said


def test_the_notebook_is_kept_without_what_it_printed():
    code = [cell for cell in notebook().cells if cell.cell_type == "code"]

    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
