"""Explaining, packing and verifying a month of many subscriptions: processor seconds, time and peak memory of each command.

``python -m tests.bench.audit [--subscriptions 1000000] [--records 2]``. It makes a month of mobile subscriptions with a few
records each, runs it through the pipeline into ``var/bench/audit_N`` unless it is there, and then calls each command in a process
of its own.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.run import PROJECT, Settings

MONTH = "2026-10"
_HEADER = (
    "subscription_id,network,access_technology,identifier_type,identifier,"
    "assigned_from,assigned_to,active_from,active_to,segment,brand"
)
_SINCE = "2025-01-01T00:00:00+01:00"
_FILE_RECORDS = 250_000


def main() -> None:
    """Make the month if it is not there, and measure each command on it."""
    parser = argparse.ArgumentParser(prog="tests.bench.audit", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=2)
    asked = parser.parse_args()
    settings = Settings.from_environment()
    place = settings.var / "bench" / f"audit_{asked.subscriptions}"
    environment = os.environ | {"FOOTPRINT_VAR": str(place), "PYTHONPATH": str(PROJECT)}
    if not (place / "published").is_file():
        (place / "landing").mkdir(parents=True, exist_ok=True)
        if not (place / "jars").exists():
            (place / "jars").symlink_to(settings.jars)
        write_month(place / "landing", asked.subscriptions, asked.records)
        called(environment, "run", "--month", MONTH)
        called(environment, "serving", "stop")
        (place / "published").touch()
    pack = str(place / "pack.zip")
    subscription = f"s{asked.subscriptions // 2:07d}"
    print(f"{asked.subscriptions:,} subscriptions, {asked.records} records each")
    for words in (
        ("explain", "--subscription", subscription, "--month", MONTH),
        ("pack", "--month", MONTH, "--out", pack),
        ("verify", pack),
    ):
        print(called(environment, *words), flush=True)
    print(f"pack: {Path(pack).stat().st_size / 1e6:.1f} MB")


def write_month(landing: Path, subscriptions: int, records: int) -> None:
    """The export of subscriptions, and files of records whose volumes a mobile subscription may have."""
    for name in ("subscriptions", "pgw_pipe"):
        (landing / name).mkdir(exist_ok=True)
    with (landing / "subscriptions" / "subscriptions_202610.csv").open("w", encoding="utf-8") as export:
        export.write(f"{_HEADER}\n")
        export.writelines(
            f"s{n:07d},mobile,4g,imsi,{_imsi(n)},{_SINCE},,{_SINCE},,{'consumer' if n % 9 else 'business'},Alpha\n"
            for n in range(subscriptions)
        )
    lines = _records(subscriptions, records)
    for number in range(-(-subscriptions * records // _FILE_RECORDS)):
        with (landing / "pgw_pipe" / f"S4PGWB{number + 1:06d}").open("w", encoding="utf-8") as file:
            file.writelines(line for _, line in zip(range(_FILE_RECORDS), lines, strict=False))


def _imsi(number: int) -> str:
    return f"00101{number:010d}"


def _records(subscriptions: int, records: int) -> Iterator[str]:
    """Records of 4 to 10 GB in the order of their days, so that two of a subscription come to 14 GB in the mean."""
    for each in range(records):
        day = 1 + each * 28 // records
        for n in range(subscriptions):
            octets = 4_000_000_000 + (n * 7919 + each * 104_729) % 6_000_000_000
            start = f"202610{day:02d}{n % 20:02d}0000"
            fields = ["GP", *[""] * 4, _imsi(n), start, "14000", str(octets), "0", "", "", "internet", "+0200", *[""] * 10]
            yield "|".join([*fields, f"c{each}-{n}"]) + "\n"


def called(environment: dict[str, str], *words: str) -> str:
    """Call ``footprint`` in a process of its own, and say what it took."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        started = subprocess.Popen([sys.executable, "-m", "jobs", *words], env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(started.pid, 0)
        seconds = time.monotonic() - began
        said.seek(0)
        if status:
            sys.exit(f"{words[0]} ended with {os.waitstatus_to_exitcode(status)}: {said.read().decode()[-2000:]}")
    return (
        f"{words[0]:<8} {used.ru_utime + used.ru_stime:7.1f} s of processor, {seconds:7.1f} s, {used.ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    main()
