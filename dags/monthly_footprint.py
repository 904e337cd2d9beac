"""Each subscription's data usage and emissions for one calendar month.

**When.** On the first of each month (UTC) for the month before, after waiting `late_days` days for late records.

**By hand.** Trigger with `usage_month` (`YYYY-MM`): that month is run at once, without the wait. Running a published month again
changes nothing; records that came for it since are held and counted, and `publish` says so and refuses (exit 1).

**When it fails.** The message names the month, the stage and the reason. Refused data is not retried: the reason has to be
removed first; then clear the failed task. Any other failure is retried twice.

**Afterwards** `report` writes the month report. It changes nothing that others read, so it is skipped, and says why, if it fails.

**Many months.** `airflow backfill create --dag-id monthly_footprint --from-date … --to-date …`; nothing is caught up by itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import Asset, CronDataIntervalTimetable, Param, chain, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from jobs.launch import STAGES, StageFailed, launch

PUBLISHED = Asset(name="published", uri="x-lake://published")
"""What billing and the portal may schedule on: it changes when a month has been published."""

WAITED_FOR = "{{ (dag_run.data_interval_end or dag_run.run_after) + macros.timedelta(days=params.late_days) }}"


@dag(
    # In UTC, because a monthly interval of Europe/Paris begins on the last day of the month before. Which records belong
    # to the legal month is decided by `accept`.
    schedule=CronDataIntervalTimetable("@monthly", "UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    params={
        "usage_month": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-(0[1-9]|1[0-2])$",
            description="The month to run, YYYY-MM; empty: the month of the schedule.",
        ),
        "late_days": Param(5, type="integer", minimum=0, description="Days a scheduled run waits for late records."),
    },
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
    },
)
def monthly_footprint() -> None:
    """Land, accept, meter, estimate, verify and publish one calendar month."""
    late_records = DateTimeSensorAsync(task_id="late_records", target_time=WAITED_FOR, pre_execute=skip_the_wait_by_hand)
    chain(late_records, *(stage_task(stage) for stage in STAGES), report_task())


def stage_task(stage: str) -> Any:
    """The task that runs one stage. Only `publish` changes what others read."""

    @task(
        task_id=stage,
        outlets=[PUBLISHED] if stage == "publish" else [],
        trigger_rule="none_failed" if stage == STAGES[0] else "all_success",  # the wait before it may be skipped
    )
    def run_stage(params: Any = None, dag_run: Any = None) -> None:
        try:
            launch(stage, month_of(params, dag_run))
        except StageFailed as failure:
            if failure.is_final:
                raise AirflowFailException(str(failure)) from failure
            raise

    return run_stage()


@task(task_id="report")
def report_task(params: Any = None, dag_run: Any = None) -> None:
    """Write the report of what was published. Where that fails the month stays so, and the run a success: the task is skipped."""
    month = month_of(params, dag_run)
    try:
        launch("report", month)
    except StageFailed as failure:
        raise AirflowSkipException(f"{failure}; footprint report --month {month} writes it") from failure


def month_of(params: Any, dag_run: Any) -> str:
    """The month asked for, else the month of the run's data interval; a run with neither fails."""
    if params["usage_month"]:
        return str(params["usage_month"])
    if dag_run.data_interval_start is None:
        raise AirflowFailException("No month to run: trigger with usage_month (YYYY-MM), or with a logical date.")
    return f"{dag_run.data_interval_start:%Y-%m}"


def skip_the_wait_by_hand(context: Any) -> None:
    """Whoever asks for a month has decided that it is complete."""
    if context["params"]["usage_month"] or context["dag_run"].data_interval_end is None:
        raise AirflowSkipException("run by hand: not waiting for late records")


monthly_footprint()
