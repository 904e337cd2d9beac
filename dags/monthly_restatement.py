"""Publishes the next revision of a published month: late, withdrawn and corrected inputs, or other factors.

**When.** Never by itself. `footprint calendar` says what is held for which month; whoever decides that it counts triggers this.

**By hand.** Trigger with `month` (`YYYY-MM`), `reason`, and `approver` if somebody approved it: both go to the ledger, the reason
to billing too. What is accepted now is counted; nothing is landed, so that nobody publishes what they have not seen.

**When it fails.** The message names the month and the reason. A month that is not published, or that would stay as it is, is
refused and not retried. Any other failure is retried twice; killed anywhere, it goes on.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pendulum
from airflow.sdk import Asset, Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

from jobs.launch import StageFailed, launch, stage_command

PUBLISHED = Asset(name="published", uri="x-lake://published")
"""The same as that of `monthly_footprint`: what depends on a month being published depends on its revisions too."""


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    params={
        "month": Param(type="string", pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="The month to restate, YYYY-MM."),
        "reason": Param(type="string", pattern=r"\S", description="Why, for the ledger and for billing."),
        "approver": Param(None, type=["null", "string"], description="Who approved it, for the ledger."),
    },
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
    },
)
def monthly_restatement() -> None:
    """Meter, estimate, verify and publish the next revision of one month."""

    @task(outlets=[PUBLISHED])
    def restate(params: Any = None) -> None:
        try:
            launch("restate", params["month"], partial(restate_command, reason=params["reason"], approver=params["approver"]))
        except StageFailed as failure:
            if failure.is_final:
                raise AirflowFailException(str(failure)) from failure
            raise

    restate()


def restate_command(stage: str, month: str | None, reason: str, approver: str | None) -> list[str]:
    """The stage with why and by whom. One argument each, so that no text is taken for an option."""
    return [*stage_command(stage, month), f"--reason={reason}", *([f"--approver={approver}"] if approver else [])]


monthly_restatement()
