"""The command ``footprint``: 0 done, 1 the data was refused, 2 the call was wrong, 3 something broke; each with one sentence.

No command here reaches Spark.
"""

from __future__ import annotations

import hmac
import json
from contextlib import nullcontext
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobs import cli, run
from jobs.lock import LakeBusy, LockLost
from jobs.pseudonyms import FROM_THE_BEGINNING, make_key, read_key
from jobs.run import CallError, Refused, Settings, usage_month

STAGES = ("land", "accept", "meter", "estimate", "verify", "publish")


@pytest.fixture(autouse=True)
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place to work in; whatever opens the lake fails."""
    monkeypatch.setenv("FOOTPRINT_VAR", str(tmp_path))
    for name in ("LANDING", "LAKE", "SOURCES", "FACTORS", "KEYS", "SERVING_URL", "LEGAL_TIMEZONE"):
        monkeypatch.delenv(f"FOOTPRINT_{name}", raising=False)

    def opened(*_: object) -> None:
        raise AssertionError("the lake was opened")

    monkeypatch.setattr("jobs.workplace.workplace", opened)
    return tmp_path


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and what was said of a failure."""
    try:
        code = cli.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_key", fail)


# The call


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("run",),
        ("run", "2026-10"),
        ("run", "--month"),
        *[(stage,) for stage in STAGES if stage not in ("land", "accept")],
        ("summary",),
        ("show", "--month", "2026-10"),
        ("show", "--subscription", "SUB-1"),
        ("show", "--subscription", "SUB-1", "--month", "2026-10", "--lang", "de"),
        ("explain", "--month", "2026-10"),
        ("explain", "--subscription", "SUB-1"),
        ("pack", "--month", "2026-10"),
        ("pack", "--out", "pack.zip"),
        ("verify", "pack.zip", "--month", "2026-10"),
        ("benchmark",),
        ("key",),
        ("demo",),
        ("demo", "--month", "2026-10", "--subscriptions", "many"),
        ("reaccept", "fixed/a.csv"),
        ("reaccept", "--reason", "why not"),
        ("restate", "--month", "2026-10"),
        ("restate", "--reason", "late file"),
        ("calendar", "--month", "2026-10"),
        ("serving",),
        ("serving", "restart"),
    ],
    ids=" ".join,
)
def test_a_call_that_lacks_or_mistakes_an_argument_ends_with_2_and_the_usage(capsys, arguments):
    code, out, err = called(capsys, *arguments)

    assert (code, out) == (2, "")
    assert err.startswith("usage: footprint")


def test_help_lists_every_command(capsys):
    code, out, _ = called(capsys, "--help")

    assert code == 0
    more = ("summary", "calendar", "restate", "show", "key", "demo", "reaccept", "serving", "explain", "pack", "sql", "benchmark")
    for command in ("run", *STAGES, *more):
        assert f"\n    {command}" in out


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-00", "2026-1", "26-10", "2026-10-01", "october", "2026/10", ""])
def test_what_is_no_month_ends_with_2_and_says_how_to_write_one(capsys, month):
    code, _, err = called(capsys, "run", "--month", month)

    assert code == 2
    assert err == f"error: {month!r} is not a month: write it as YYYY-MM, for example 2026-10\n"


@pytest.mark.parametrize(
    "command",
    [
        ("run",),
        *[(stage,) for stage in STAGES],
        ("show", "--subscription", "SUB-1"),
        ("restate", "--reason", "late file"),
        ("explain", "--subscription", "SUB-1"),
        ("pack", "--out", "pack.zip"),
        ("benchmark",),
        ("demo",),
        ("summary",),
    ],
    ids=" ".join,
)
def test_a_month_is_checked_before_anything_is_opened(capsys, monkeypatch, command):
    def opened(*_: object) -> None:
        raise AssertionError("something was opened")

    monkeypatch.setattr("jobs.cli.begin_embedded", opened)
    monkeypatch.setattr("jobs.spark.session", opened)
    code, _, err = called(capsys, *command, "--month", "2026-13")

    assert code == 2
    assert "is not a month" in err


def test_a_month_is_its_first_day():
    assert usage_month("2026-10") == date(2026, 10, 1)


@pytest.mark.parametrize("month", ["2026-1 ", " 026-10", "2026-+1", "+026-10", "２０２６-10"])
def test_a_month_is_four_and_two_digits_and_nothing_else(month):
    with pytest.raises(CallError):
        usage_month(month)


def test_what_was_published_is_written_for_whoever_asked_for_the_result(capsys, monkeypatch, tmp_path):
    row = {"revision": 2, "publication_id": 3, "subscriptions": 4, "factor_sets": "ONE, TWO", "figures_hash": "ab"}
    monkeypatch.setattr("jobs.workplace.workplace", lambda *_: nullcontext(SimpleNamespace(lake=None)))
    monkeypatch.setattr("jobs.stages.run", lambda *_: None)
    monkeypatch.setattr("jobs.summary.write", lambda *_: None)
    monkeypatch.setattr("jobs.ledger.current", lambda *_: SimpleNamespace(**row))

    ended = called(capsys, "publish", "--month", "2026-10", "--result", str(tmp_path / "result.json"))

    assert ended == (0, "", "")
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "month": "2026-10",
        "revision": 2,
        "publication_id": 3,
        "rows": 4,
        "factor_sets": ["ONE", "TWO"],
        "figures_hash": "ab",
    }


# The settings


def test_every_setting_has_a_default_on_one_machine(tmp_path):
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path)})

    assert (settings.landing, settings.lake, settings.keys) == (
        f"{tmp_path}/landing",
        f"{tmp_path}/lake",
        tmp_path / "keys",
    )
    assert (settings.sources, settings.factors) == (run.PROJECT / "schemas" / "sources", run.PROJECT / "factors")
    assert (settings.spark_master, settings.serving_url, settings.legal_timezone) == ("local[*]", None, ZoneInfo("Europe/Paris"))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FOOTPRINT_LAKES", "x", "FOOTPRINT_LAKES is not a setting; known are FOOTPRINT_ALERT_MAIL, "),
        ("FOOTPRINT_SOURCES", "/nowhere", "FOOTPRINT_SOURCES: /nowhere is not a folder"),
        ("FOOTPRINT_FACTORS", "/nowhere", "FOOTPRINT_FACTORS: /nowhere is not a folder"),
        ("FOOTPRINT_LEGAL_TIMEZONE", "Paris", "FOOTPRINT_LEGAL_TIMEZONE: Paris is not an IANA time zone"),
        ("FOOTPRINT_PROVISIONAL_DAYS", "8", "FOOTPRINT_PROVISIONAL_DAYS: '8' is not a whole number from 0 to 7"),
        ("FOOTPRINT_BILLING_DAYS", "33", "FOOTPRINT_BILLING_DAYS: '33' is not a whole number from 0 to 32"),
        ("FOOTPRINT_RESTATEMENT_DAYS", "36", "FOOTPRINT_RESTATEMENT_DAYS: '36' is not a whole number from 0 to 35"),
        ("FOOTPRINT_LOG", "xml", "FOOTPRINT_LOG: 'xml' is neither text nor json"),
        (
            "FOOTPRINT_ALERT_WEBHOOK",
            "alerts.example.org/token",
            "FOOTPRINT_ALERT_WEBHOOK: not an address that begins with https://",
        ),
        ("FOOTPRINT_ALERT_WEBHOOK", "https:///token", "FOOTPRINT_ALERT_WEBHOOK: not an address that begins with https://"),
        ("FOOTPRINT_ALERT_MAIL", "a@example.org, night", "FOOTPRINT_ALERT_MAIL: not an address, or several between commas"),
        ("FOOTPRINT_MATERIALITY_GCO2E", "0,5", "FOOTPRINT_MATERIALITY_GCO2E: '0,5' is not an amount of grams such as 0.5"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_with_2_and_is_named(capsys, monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)

    code, _, err = called(capsys, "key", "SUB-1")

    assert code == 2
    assert err.startswith(f"error: {said}")


def test_the_days_of_the_close_calendar_come_in_their_order_and_end_with_the_records(tmp_path):
    def days(**given: str) -> tuple[int, int, int]:
        settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), **{f"FOOTPRINT_{n}": v for n, v in given.items()}})
        return settings.provisional_days, settings.billing_days, settings.restatement_days

    assert days() == (2, 7, 32)
    assert days(RECORDS_KEPT_DAYS="5") == (2, 5, 5)
    assert days(PROVISIONAL_DAYS="0", BILLING_DAYS="10", RESTATEMENT_DAYS="35") == (0, 10, 35)


def test_what_is_material_is_an_exact_amount_of_grams_or_any_displayed_change(tmp_path):
    def materiality(text: str) -> Decimal | None:
        return Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), "FOOTPRINT_MATERIALITY_GCO2E": text}).materiality_gco2e

    assert (materiality("0.1"), materiality("0"), materiality("")) == (Decimal("0.1"), Decimal(0), None)


def test_a_restatement_without_a_reason_ends_with_2(capsys):
    code, _, err = called(capsys, "restate", "--month", "2026-10", "--reason", "  ")

    assert (code, err) == (2, "error: --reason is empty: the ledger and billing are told why a month is restated\n")


def test_a_place_may_be_a_folder_or_an_object_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"FOOTPRINT_LANDING": "in", "FOOTPRINT_LAKE": "s3a://bucket/lake/"}

    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), **places})

    assert (settings.landing, settings.lake) == (f"{tmp_path}/in", "s3a://bucket/lake")


def test_an_empty_setting_is_no_setting(tmp_path):
    settings = Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), "FOOTPRINT_LANDING": "", "FOOTPRINT_SERVING_URL": ""})

    assert (settings.landing, settings.serving_url) == (f"{tmp_path}/landing", None)


def test_variables_of_others_are_left_alone(tmp_path):
    assert Settings.from_environment({"FOOTPRINT_VAR": str(tmp_path), "CARBON_FOOTPRINT_X": "1", "PATH": "/bin"})


# The subscription key


def test_key_says_the_subscription_key_as_billing_derives_it(capsys, var):
    make_key(var / "keys", "serving", FROM_THE_BEGINNING)
    secret = read_key(var / "keys", "serving.key").secret
    expected = hmac.new(secret, b"subscription\0SUB-1", "sha256").hexdigest()[:32]

    assert called(capsys, "key", "SUB-1") == (0, f"{expected}\n", "")
    assert called(capsys, "key", " SUB-1 ") == (0, f"{expected}\n", "")


def test_key_of_a_month_is_under_the_key_that_serves_it_else_under_the_latest(capsys, var):
    make_key(var / "keys", "serving", FROM_THE_BEGINNING)
    make_key(var / "keys", "serving", date(2027, 1, 1))
    old, new = (read_key(var / "keys", f"serving{month}.key").pseudonym("subscription", "SUB-1") for month in ("", ".2027-01"))

    assert called(capsys, "key", "SUB-1", "--month", "2026-12")[1] == f"{old.hex()}\n"
    assert called(capsys, "key", "SUB-1", "--month", "2027-01")[1] == f"{new.hex()}\n"
    assert called(capsys, "key", "SUB-1")[1] == f"{new.hex()}\n"


def test_key_without_a_key_file_ends_with_2_and_names_it(capsys, var):
    code, out, err = called(capsys, "key", "SUB-1")

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {var}/keys/serving.key is missing: ")


def test_a_demo_is_written_to_a_local_folder_only(capsys, monkeypatch):
    monkeypatch.setenv("FOOTPRINT_LANDING", "s3://bucket/landing")

    code, _, err = called(capsys, "demo", "--month", "2026-10")

    assert code == 2
    assert err == "error: FOOTPRINT_LANDING is not a local folder: the demo is written to a local folder only\n"


# The auditor's commands


@pytest.mark.parametrize("command", [("pack", "--out", "pack.zip"), ("benchmark",)], ids=" ".join)
def test_a_month_that_is_not_published_ends_with_1_and_says_so(capsys, command):
    assert called(capsys, *command, "--month", "2026-10") == (1, "", "refused: nothing is published for 2026-10\n")


def test_a_file_that_is_no_pack_ends_with_1_and_says_so(capsys, tmp_path):
    code, _, err = called(capsys, "verify", str(tmp_path / "absent.zip"))

    assert (code, err) == (1, f"refused: {tmp_path}/absent.zip is not there\n")


def test_a_pack_goes_to_a_folder_that_is_there(capsys, tmp_path):
    code, _, err = called(capsys, "pack", "--month", "2026-10", "--out", str(tmp_path / "no" / "pack.zip"))

    assert (code, err) == (2, f"error: --out: {tmp_path}/no is not a folder\n")


def test_a_question_in_wrong_sql_ends_with_2_and_duckdbs_words(capsys):
    code, out, err = called(capsys, "sql", "SELECT nothing FROM nowhere")

    assert (code, out) == (2, "")
    assert err.startswith("error: Catalog Error: Table with name nowhere does not exist")


# How a command ends


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Refused("the month is empty"), 1, "refused: the month is empty\n"),
        (CallError("say which"), 2, "error: say which\n"),
        (LakeBusy("accept holds the lake"), 3, "error: accept holds the lake\n"),
        (LockLost("the lock was lost"), 3, "error: the lock was lost\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; run again to go on\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exit_code_tells_whether_running_again_may_help(capsys, monkeypatch, error, code, said):
    failing(monkeypatch, error)

    assert called(capsys, "key", "SUB-1") == (code, "", said)


@pytest.mark.parametrize(
    "error",
    [ValueError("33612345678 is not valid"), KeyError("33612345678"), RuntimeError("row 33612345678"), OSError(5, "33612345678")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_library_ends_with_3_and_never_shows_a_value(capsys, monkeypatch, error):
    failing(monkeypatch, error)

    code, out, err = called(capsys, "key", "SUB-1")

    assert (code, out) == (3, "")
    assert err.startswith(f"error: {type(error).__name__} ")
    assert err.count("\n") == 1
    assert "33612345678" not in err


def test_a_command_that_did_its_work_ends_with_0(capsys, monkeypatch):
    seen: list[Any] = []
    monkeypatch.setattr(cli, "_key", lambda call, settings: seen.append((call.subscription, settings.lake)))

    assert called(capsys, "key", "SUB-1")[0] == 0
    assert [subscription for subscription, _ in seen] == ["SUB-1"]
