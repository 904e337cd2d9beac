"""The page of plots, and what it is drawn from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.fit import power, power_beyond_fixed
from tests.bench.landing import MONTH
from tests.bench.month import Row, merged
from tests.bench.page import write_page
from tests.bench.processes import measured

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def rows_of(engine: str, records: int, seconds: float, of_format: str = "delimited") -> list[Row]:
    named = {"format": of_format, "records": records, "engine": engine, "runs": 3}
    shares = {"total": 1.0, "land": 0.1, "accept": 0.6, "meter": 0.2, "end": 0.1}
    amounts = {"peak_rss_bytes": 2**30, "read_bytes": 10**9, "written_bytes": 10**8}
    return [
        named | amounts | {"stage": stage} | dict.fromkeys(("seconds", "seconds_min", "seconds_max"), seconds * share)
        for stage, share in shares.items()
    ]


def test_the_exponent_of_a_power_is_found() -> None:
    assert power(SIZES, [2 * size**1.5 for size in SIZES]) == pytest.approx((2, 1.5))


def test_the_exponent_beyond_a_fixed_cost_is_found() -> None:
    fixed, _, exponent = power_beyond_fixed(SIZES, [20 + size / 100_000 for size in SIZES])

    assert fixed == pytest.approx(20, rel=0.01)
    assert exponent == pytest.approx(1, abs=0.02)


def test_a_measurement_replaces_those_of_its_format_size_and_engine_only() -> None:
    known = [*rows_of("footprint", 1000, 9.0), *rows_of("duckdb", 1000, 1.0), *rows_of("footprint", 2000, 18.0)]

    together = merged(known, rows_of("footprint", 1000, 5.0))

    totals = {(row["engine"], row["records"]): row["seconds"] for row in together if row["stage"] == "total"}
    assert totals == {("footprint", 1000): 5.0, ("duckdb", 1000): 1.0, ("footprint", 2000): 18.0}
    assert len(together) == len(known)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    rows = [row for size in SIZES for row in rows_of("footprint", size, 20 + size / 1e5)]
    rows += [row for size in SIZES for row in rows_of("duckdb", size, 0.3 + size / 1e6)]
    rows += rows_of("footprint", 5000, 30.0, "parquet")

    write_page(rows, tmp_path / "index.html")

    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4 + 3 + 1
    assert not any(remote in page for remote in ("src=", "<link", "@import", "url(http"))


@pytest.mark.skipif(sys.platform != "linux", reason="traffic is counted by Linux only")
def test_traffic_of_ended_children_counts_once(tmp_path: Path) -> None:
    octets = 8_000_000
    # A child that is waited for, and one of a parent that ignores the ends of its children.
    child = f"open({str(tmp_path / 'x')!r} + __import__('sys').argv[1], 'wb').write(b'x' * {octets}); __import__('time').sleep(1)"
    program = (
        "import signal, subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {child!r}, '1']); time.sleep(0.6)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}, '2']); time.sleep(2); print('{MONTH}')\n"
    )

    found = measured([sys.executable, "-c", program], {})

    assert [line for _, line in found.lines] == [MONTH]
    assert 2 * octets <= found.total.written < 2.5 * octets
