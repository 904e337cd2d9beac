"""Erases what may no longer be kept, once a week.

Records of a published month go `FOOTPRINT_RECORDS_KEPT_DAYS` after it ended, with the files they came in; figures after
`FOOTPRINT_FIGURES_KEPT_MONTHS`. Old versions of the Delta tables keep a row for seven days more, so it is physically gone three
weeks after it was due at the latest. Months that are not published are kept and named, for a year at the longest.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import CronDataIntervalTimetable, dag

from dags.stage import DEFAULTS, StageOperator


@dag(
    schedule=CronDataIntervalTimetable("0 3 * * 0", "UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    default_args=DEFAULTS | {"retry_delay": timedelta(minutes=10)},
)
def lake_upkeep() -> None:
    """Erase and vacuum."""
    StageOperator(stage="upkeep", month_of=lambda params, dag_run: None)


lake_upkeep()
