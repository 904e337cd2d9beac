"""A stage of a month as a task: the process, what is said of it, what it reads and writes.

Parsing loads neither Spark nor Arrow: a page's text comes from the source of the stage's module, and lineage is made while a task
runs.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.alerts import tell_of_failure
from jobs import launch
from schemas.flow import FLOWS

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

PUBLISHED = Asset(name="published", uri="x-lake://published")
"""What billing and the portal may schedule on. Its events say what the ledger has of the publication: month, revision,
publication_id, rows, factor_sets, figures_hash. A publication that is there already may be told again: go by its id."""

DEFAULTS = {
    "retries": 2,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=10),
    "on_failure_callback": tell_of_failure,
}
"""Of every task: what may pass by itself is tried three times, then somebody is told."""

Command = Callable[[str, str | None, Any], list[str]]


def plain_command(stage: str, month: str | None, params: Any) -> list[str]:
    """The stage of the month, whatever else the run was asked."""
    return launch.stage_command(stage, month)


class StageOperator(BaseOperator):
    """Runs one stage to its end. Refused data and wrong calls are not tried again."""

    def __init__(
        self,
        *,
        stage: str,
        month_of: Callable[[Any, Any], str | None],
        command: Command = plain_command,
        outlets: Sequence[Asset] = (),
        **kwargs: Any,
    ) -> None:
        """Name the task after its stage. ``month_of`` takes the run's params and the run; ``command`` is what is started."""
        super().__init__(task_id=stage, doc_md=documentation(stage), outlets=list(outlets), **kwargs)
        self.stage, self.month_of, self.command = stage, month_of, command

    def execute(self, context: Any) -> None:
        """Run the stage; what it published goes with the event of each asset the task changes."""
        params = context["params"]
        month = self.month_of(params, context["dag_run"])
        try:
            with _in_airflows_log(self.log):
                result = launch.launch(
                    self.stage, month, lambda stage, of: self.command(stage, of, params), context["dag_run"].run_id
                )
        except launch.StageFailed as failure:
            if failure.is_final:
                raise AirflowFailException(str(failure)) from failure
            raise
        for asset in self.outlets:
            context["outlet_events"][asset].extra = result

    def get_openlineage_facets_on_start(self) -> OperatorLineage:
        """What the stage reads and writes, for the OpenLineage provider, which asks only where lineage is wanted."""
        from dags.lineage import of_stage

        return of_stage(self.stage)


class ReportOperator(StageOperator):
    """Writes the month report. Where that fails the month stays published, and the run a success: the task is skipped."""

    def execute(self, context: Any) -> None:
        """Write it; what goes wrong is said, with what writes it."""
        try:
            super().execute(context)
        except (AirflowFailException, launch.StageFailed) as failure:
            month = self.month_of(context["params"], context["dag_run"])
            raise AirflowSkipException(f"{failure}; footprint report --month {month} writes it") from failure


def documentation(stage: str) -> str:
    """The docstring of the stage's module, and the tables it reads and writes, as Markdown."""
    module = Path(launch.__file__).with_name(f"{stage}.py")
    source = (module if module.is_file() else module.with_suffix("") / "__init__.py").read_text(encoding="utf-8")
    flow = FLOWS[stage]
    reads, writes = (", ".join(f"`{name}`" for name in names) for names in (flow.reads, flow.writes))
    return f"{ast.get_docstring(ast.parse(source))}\n\n**Reads** {reads}.\n\n**Writes** {writes}.\n"


@contextmanager
def _in_airflows_log(log: Any) -> Iterator[None]:
    """Give the stage's log to Airflow's own, with levels and fields; the standard library's would lose the fields."""
    stages, handler = logging.getLogger(launch.__name__), _Handing(log)
    stages.addHandler(handler)
    before, stages.propagate = stages.propagate, False
    try:
        yield
    finally:
        stages.removeHandler(handler)
        stages.propagate = before


class _Handing(logging.Handler):
    def __init__(self, log: Any) -> None:
        super().__init__()
        self._to = log

    def emit(self, record: logging.LogRecord) -> None:
        self._to.log(record.levelno, record.getMessage(), **getattr(record, "fields", {}))
