"""Each subscription's data usage and emissions for one calendar month.

**When.** On the first of each month (UTC) for the month before, after waiting `late_days` days for late records.

**By hand.** Trigger with `usage_month` (`YYYY-MM`): that month is run at once, without the wait. Running a published month again
changes nothing; records that came for it since are held and counted, and `publish` says so and refuses (exit 1).

**When it fails.** The message names the month, the stage and the reason. Refused data is not retried: the reason has to be
removed first; then clear the failed task. Any other failure is retried twice. Who is named in `FOOTPRINT_ALERT_WEBHOOK` and
`FOOTPRINT_ALERT_MAIL` is told of it, and of a month that is not published `FOOTPRINT_BILLING_DAYS` after its run was queued.

**Afterwards** `report` writes the month report. It changes nothing that others read: if it fails it is skipped, and says why.

**Many months.** Nothing is caught up by itself. A year, oldest month first, one at a time:

    airflow backfill create --dag-id monthly_footprint --from-date 2026-01-01 --to-date 2026-12-01 \\
        --max-active-runs 1 --reprocess-behavior failed

A month that fails ends it: the months after it fail at once and say so. The same command again goes on with them. `make backfill`
does the same on one machine, without a scheduler.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import CronDataIntervalTimetable, Param, chain, dag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.alerts import MonthBefore, publication_is_due
from dags.stage import DEFAULTS, PUBLISHED, ReportOperator, StageOperator
from jobs.launch import STAGES

WAITED_FOR = "{{ (dag_run.data_interval_end or dag_run.run_after) + macros.timedelta(days=params.late_days) }}"
WAIT = """Waits `late_days` days after the month's end for late records. A run by hand or of an old month does not wait.

In a backfill, a month whose month before failed ends here: counters that only grow are counted on from month to month.
"""


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
    default_args=DEFAULTS,
    deadline=publication_is_due(),
)
def monthly_footprint() -> None:
    """Land, accept, meter, estimate, verify and publish one calendar month."""
    late_records = DateTimeSensorAsync(task_id="late_records", target_time=WAITED_FOR, pre_execute=before_the_wait, doc_md=WAIT)
    chain(late_records, *(stage_task(stage) for stage in STAGES), ReportOperator(stage="report", month_of=month_of))


def stage_task(stage: str) -> StageOperator:
    """The task that runs one stage. Only `publish` changes what others read."""
    return StageOperator(
        stage=stage,
        month_of=month_of,
        outlets=[PUBLISHED] if stage == "publish" else [],
        trigger_rule="none_failed" if stage == STAGES[0] else "all_success",  # the wait before it may be skipped
    )


def month_of(params: Any, dag_run: Any) -> str:
    """The month asked for, else the month of the run's data interval; a run with neither fails."""
    if params["usage_month"]:
        return str(params["usage_month"])
    if dag_run.data_interval_start is None:
        raise AirflowFailException("No month to run: trigger with usage_month (YYYY-MM), or with a logical date.")
    return f"{dag_run.data_interval_start:%Y-%m}"


def before_the_wait(context: Any) -> None:
    """Whoever asks for a month has decided that it is complete. A backfill goes on only from a month that is done."""
    dag_run = context["dag_run"]
    if context["params"]["usage_month"] or dag_run.data_interval_end is None:
        raise AirflowSkipException("run by hand: not waiting for late records")
    if dag_run.run_type == "backfill":
        before = context["ti"].get_previous_dagrun()
        if before is not None and before.data_interval_end == dag_run.data_interval_start and before.state != "success":
            raise MonthBefore(
                f"{dag_run.data_interval_start:%Y-%m} waits for {before.data_interval_start:%Y-%m}, which is {before.state}: "
                "put that right and run the backfill again"
            )
    if dag_run.data_interval_end + timedelta(days=context["params"]["late_days"]) <= datetime.now(UTC):
        raise AirflowSkipException("the days of waiting for late records have passed")


monthly_footprint()
