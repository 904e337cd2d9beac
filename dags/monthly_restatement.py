"""Publishes the next revision of a published month: late, withdrawn and corrected inputs, or other factors.

**When.** Never by itself. `footprint calendar` says what is held for which month; whoever decides that it counts triggers this.

**By hand.** Trigger with `month` (`YYYY-MM`), `reason`, and `approver` if somebody approved it: both go to the ledger, the reason
to billing too. What is accepted now is counted; nothing is landed, so that nobody publishes what they have not seen.

**When it fails.** The message names the month and the reason. A month that is not published, or that would stay as it is, is
refused and not retried. Any other failure is retried twice; killed anywhere, it goes on.

**Afterwards** `report` writes the month report of the revision. It changes nothing that others read, so it is skipped, and says
why, if it fails.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.sdk import Param, chain, dag

from dags.stage import DEFAULTS, PUBLISHED, ReportOperator, StageOperator
from jobs.launch import stage_command


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
    default_args=DEFAULTS,
)
def monthly_restatement() -> None:
    """Meter, estimate, verify and publish the next revision of one month."""
    restate = StageOperator(stage="restate", month_of=month_of, command=restate_command, outlets=[PUBLISHED])
    chain(restate, ReportOperator(stage="report", month_of=month_of))


def month_of(params: Any, dag_run: Any) -> str:
    """The month asked for: there is no other."""
    return str(params["month"])


def restate_command(stage: str, month: str | None, params: Any) -> list[str]:
    """The stage with why and by whom. One argument each, so that no text is taken for an option."""
    approver = params["approver"]
    return [*stage_command(stage, month), f"--reason={params['reason']}", *([f"--approver={approver}"] if approver else [])]


monthly_restatement()
