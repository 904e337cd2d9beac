"""Tells people that a month needs them: a task that failed for good, a month that is not published when it is due.

`FOOTPRINT_ALERT_WEBHOOK` takes one JSON object by POST; `FOOTPRINT_ALERT_MAIL` (addresses between commas) takes the same as text,
through Airflow's connection `smtp_default`. Neither set: Airflow shows it, nobody is told. What is told names dag, task, month,
run and reason, in the words of our own refusals, which hold no subscriber's value; of any other error only its type is told.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import urllib.request
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import structlog
from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowFailException

from jobs.launch import StageFailed
from jobs.run import billing_days

SECONDS_TO_ANSWER = 10
"""A webhook that does not answer must not keep the task."""

_OUR_WORDS = (StageFailed, AirflowFailException, str)
"""What an error may be whose words are told; the scheduler says in a text that it found a task dead."""
_log = structlog.get_logger("dags.alerts")


class MonthBefore(AirflowFailException):
    """A month of a backfill waits for the one before it, which failed: its failure was told, so this one is not."""


def tell_of_failure(context: Any) -> None:
    """For ``on_failure_callback``: what failed for good. Whatever goes wrong in telling is logged and hides nothing."""
    ti, dag_run, error = context["ti"], context["dag_run"], context.get("exception")
    if isinstance(error, MonthBefore):
        return
    _tell(
        {
            "event": "task failed",
            "dag": ti.dag_id,
            "task": ti.task_id,
            "month": _month(dag_run.conf, dag_run.data_interval_start),
            "run_id": dag_run.run_id,
            "reason": str(error) if isinstance(error, _OUR_WORDS) else type(error).__name__,
            "try": ti.try_number,
            "log": getattr(ti, "log_url", None),
        }
    )


async def tell_of_missed_deadline(context: Mapping[str, Any]) -> None:
    """For a DeadlineAlert, in the triggerer: a run that has not published its month when that is due."""
    run = context["dag_run"]
    alert = {
        "event": "month not published in time",
        "dag": run["dag_id"],
        "task": None,
        "month": _month(run.get("conf"), run.get("data_interval_start")),
        "run_id": run["dag_run_id"],
        "reason": f"the run is {run['state']}, and publication was due at {context['deadline']['deadline_time']}",
        "try": None,
        "log": None,
    }
    await asyncio.to_thread(_tell, alert)


def publication_is_due() -> DeadlineAlert:
    """A run is to have published its month ``FOOTPRINT_BILLING_DAYS`` after it was queued: a scheduled one is at the month's end.

    A run of an old month, by hand or in a backfill, is given as long.
    """
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(days=billing_days()),
        callback=AsyncCallback(tell_of_missed_deadline),
        name="publication",
    )


def _month(conf: Mapping[str, Any] | None, interval_start: Any) -> str | None:
    """The month a run was asked for, else that of its interval."""
    asked = (conf or {}).get("usage_month") or (conf or {}).get("month")
    return str(asked or interval_start or "")[:7] or None


def _tell(alert: Mapping[str, Any]) -> None:
    ways: dict[str, Callable[[str, Mapping[str, Any]], None]] = {
        "FOOTPRINT_ALERT_WEBHOOK": _post,
        "FOOTPRINT_ALERT_MAIL": _mail,
    }
    for variable, send in ways.items():
        address = os.environ.get(variable)
        if not address:
            continue
        try:
            send(address, alert)
            _log.info("told", by=variable, of=dict(alert))
        except Exception as error:  # noqa: BLE001 - the failure that is told of counts, not that of telling; an address may hold a token
            _log.error("could not be told", by=variable, error=type(error).__name__, of=dict(alert))


def _post(url: str, alert: Mapping[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(alert).encode(), {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER):
        pass


def _mail(addresses: str, alert: Mapping[str, Any]) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    lines = "".join(
        f"<tr><th align='left'>{name}</th><td>{html.escape(str(said))}</td></tr>" for name, said in alert.items() if said
    )
    with SmtpHook() as hook:
        hook.send_email_smtp(
            to=[address.strip() for address in addresses.split(",")],
            subject=f"{alert['dag']} {alert['month']}: {alert['event']}",
            html_content=f"<table>{lines}</table>",
        )
