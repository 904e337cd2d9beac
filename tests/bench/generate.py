"""The generator: how fast it writes a month in each format, and in how much memory, at one size and at four times that.

``python -m tests.bench.generate [--subscriptions 50000] [--records-per-day 6]``. A month has the records of every network: a
figure is of a whole one whose mobile or fixed records are in the format. Each is written by a process of its own, into a folder
that is removed.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

from jobs.demo.plan import FORMATS
from jobs.run import PROJECT
from tests.bench.processes import measured

_MONTH = date(2026, 10, 1)
_LARGER = 4


def main() -> None:
    """Measure every format at both sizes."""
    parser = argparse.ArgumentParser(prog="tests.bench.generate", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=50_000)
    parser.add_argument("--records-per-day", type=int, default=6)
    parser.add_argument("--write", nargs=2, metavar=("FORMAT", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        _write(*asked.write, asked.subscriptions, asked.records_per_day)
        return
    print(f"{'format':<12}{'records':>12}{'records/s':>12}{'MB/s':>8}{'peak MiB':>10}")
    for name in FORMATS:
        for subscriptions in (asked.subscriptions, asked.subscriptions * _LARGER):
            with tempfile.TemporaryDirectory(dir=PROJECT / "var") as folder:
                sized = ["--subscriptions", str(subscriptions), "--records-per-day", str(asked.records_per_day)]
                command = [sys.executable, "-m", "tests.bench.generate", *sized, "--write", name, folder]
                found = measured(command, dict(os.environ))
            records, octets = json.loads(found.lines[-1][1])
            speed, peak = records / found.seconds, found.largest_resident / 2**20
            print(f"{name:<12}{records:>12,}{speed:>12,.0f}{octets / found.seconds / 1e6:>8.0f}{peak:>10,.0f}", flush=True)


def _write(name: str, folder: str, subscriptions: int, records_per_day: int) -> None:
    """Write a month in this process, and say how many records and octets it has."""
    from jobs.demo import generate

    landing = Path(folder)
    made = generate(landing, _MONTH, subscriptions, 1, records_per_day, [name])
    octets = sum(file.stat().st_size for file in landing.rglob("*") if file.is_file())
    print(json.dumps([sum(made.records.values()), octets]))


if __name__ == "__main__":
    main()
