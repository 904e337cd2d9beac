"""A month from landing to published, beside a DuckDB and a Polars script that do the same work on the same files.

``python -m tests.bench.month [--records N] [--runs R] [--engines footprint,duckdb,polars]``. Engines run in turn, each in a
process of its own; the octets they find must be the same. Results go to ``var/bench/latest.json``: a row per engine and stage (or
``total``) with seconds and the peak memory of all processes, the median of the runs.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median

import psutil

from jobs.demo import generate
from jobs.launch import STAGES
from jobs.pseudonyms import FROM_THE_BEGINNING, NAMES, make_key
from jobs.run import PROJECT

BENCH = PROJECT / "var" / "bench"
MONTH = "2026-10"
RECORDS_PER_SUBSCRIPTION = 15.3
"""Records of the pipe source that the demo makes per subscription at one record a day: half of them use it."""


@dataclass
class Run:
    """One run of one engine."""

    seconds: float = 0.0
    peak_rss_octets: int = 0
    read_octets: int = 0
    written_octets: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    octets: int = 0


def main() -> None:
    """Make the files, run the engines in turn, print and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--engines", default="footprint,duckdb,polars")
    asked = parser.parse_args()
    landing, records = landing_of(asked.records)
    engines = asked.engines.split(",")
    runs: dict[str, list[Run]] = {engine: [] for engine in engines}
    for number in range(asked.runs):
        for engine in engines:
            run = ENGINES[engine](landing)
            runs[engine].append(run)
            print(f"run {number + 1} {engine:<10}{run.seconds:8.1f} s  {run.peak_rss_octets / 2**20:8,.0f} MiB", flush=True)
    if len({run.octets for found in runs.values() for run in found}) != 1:
        sys.exit(f"the engines do not agree: {[(e, sorted({r.octets for r in found})) for e, found in runs.items()]}")
    report(runs, records)
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "latest.json").write_text(json.dumps(list(rows(runs, records)), indent=1) + "\n", encoding="utf-8")


def landing_of(records: int) -> tuple[Path, int]:
    """A landing folder with about so many pipe records and the export, made once, and how many there are."""
    place = BENCH / f"delimited_{records}"
    if not (place / "records").is_file():
        shutil.rmtree(place, ignore_errors=True)
        print(f"making about {records:,} records in {place}", flush=True)
        made = generate(place, date.fromisoformat(f"{MONTH}-01"), max(20, int(records / RECORDS_PER_SUBSCRIPTION)), 1, 1)
        for other in ("pgw_flattened", "fixed_deltas"):
            shutil.rmtree(place / other)
        _keep_who_is_measured(place / "subscriptions")
        (place / "records").write_text(str(made.records["pgw_pipe"]), encoding="utf-8")
    return place, int((place / "records").read_text(encoding="utf-8"))


def _keep_who_is_measured(exports: Path) -> None:
    """The first brand's mobile subscriptions, whose records are there; a month of lines without usage is not plausible."""
    for path in exports.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines[1:] if ",mobile," in line and line.endswith(",Alpha\n")]
        path.write_text("".join([lines[0], *kept]), encoding="utf-8")


def footprint(landing: Path) -> Run:
    """The pipeline, all stages in one process, into an empty lake and an embedded PostgreSQL of its own."""
    var = BENCH / "run"
    if var.exists():
        subprocess.run([sys.executable, "-m", "jobs", "serving", "stop"], env=_environment(var), capture_output=True, check=False)
        shutil.rmtree(var)
    var.mkdir(parents=True)
    (var / "jars").symlink_to((PROJECT / "var" / "jars").resolve())
    (var / "landing").mkdir()
    for name in ("pgw_pipe", "subscriptions"):
        (var / "landing" / name).symlink_to(landing / name)
    run, said = measured([sys.executable, "-m", "jobs", "run", "--month", MONTH], _environment(var))
    before = 0.0
    for stage in STAGES:
        ends = [at for at, line in said if line.startswith(f"{stage} ")]
        if ends:
            run.stages[stage], before = ends[-1] - before, ends[-1]
    run.octets = int(_only(var, "SELECT sum(data_volume_bytes)::BIGINT FROM '{}'"))
    subprocess.run([sys.executable, "-m", "jobs", "serving", "stop"], env=_environment(var), capture_output=True, check=False)
    return run


def script(module: str) -> Callable[[Path], Run]:
    """A script beside the pipeline."""

    def engine(landing: Path) -> Run:
        keys, out = BENCH / "keys", BENCH / f"{module}.parquet"
        for name in NAMES:
            make_key(keys, name, FROM_THE_BEGINNING)
        command = [sys.executable, "-m", f"tests.bench.{module}", str(landing), str(keys), str(out)]
        run, said = measured(command, dict(os.environ))
        run.octets = json.loads(said[-1][1])["octets"]
        return run

    return engine


ENGINES: dict[str, Callable[[Path], Run]] = {
    "footprint": footprint,
    "duckdb": script("duckdb_month"),
    "polars": script("polars_month"),
}


def measured(command: list[str], environment: dict[str, str]) -> tuple[Run, list[tuple[float, str]]]:
    """Run a command to its end: time, peak memory and traffic of all its processes, and its lines with when they came."""
    run, said = Run(), list[tuple[float, str]]()
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watching = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, run, watching), daemon=True)
    watcher.start()
    assert process.stdout is not None
    for line in process.stdout:
        said.append((time.monotonic() - begun, line.rstrip()))
    errors = process.stderr.read() if process.stderr else ""
    if process.wait() != 0:
        sys.exit(f"{' '.join(command[:4])} failed: {errors[-2000:]}")
    run.seconds = time.monotonic() - begun
    watching.set()
    watcher.join()
    return run, said


def _watch(pid: int, run: Run, is_over: threading.Event) -> None:
    """Sum the processes' memory several times a second, and remember what each has read and written."""
    traffic: dict[int, tuple[int, int]] = {}
    while not is_over.wait(0.2):
        resident = 0
        for process in _tree(pid):
            try:
                resident += process.memory_info().rss
                counted = process.io_counters()
                traffic[process.pid] = (counted.read_chars, counted.write_chars)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        run.peak_rss_octets = max(run.peak_rss_octets, resident)
    run.read_octets, run.written_octets = (sum(found[at] for found in traffic.values()) for at in (0, 1))


def _tree(pid: int) -> Iterator[psutil.Process]:
    try:
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _environment(var: Path) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("FOOTPRINT_")} | {"FOOTPRINT_VAR": str(var)}


def _only(var: Path, statement: str) -> str:
    """One value from the rows that are published."""
    import duckdb
    from deltalake import DeltaTable

    rows = DeltaTable(str(var / "lake" / "published")).to_pyarrow_table(filters=[("network", "=", "mobile")])
    connection = duckdb.connect()
    connection.register("published", rows)
    found = connection.execute(re.sub(r"'\{\}'", "published", statement)).fetchone()
    return str(found[0] if found else 0)


def report(runs: dict[str, list[Run]], records: int) -> None:
    """The table that a person reads."""
    beside = median(run.seconds for run in runs.get("duckdb", [Run(1.0)]))
    print(f"\n{records:,} records")
    print(f"{'engine':<12}{'median s':>10}{'min-max':>18}{'to duckdb':>11}{'peak MiB':>10}{'read MB':>10}{'written MB':>12}")
    for engine, found in runs.items():
        seconds = [run.seconds for run in found]
        peak, read, written = (median(getattr(run, name) for run in found) for name in _AMOUNTS)
        spread = f"{min(seconds):.1f}-{max(seconds):.1f}"
        print(
            f"{engine:<12}{median(seconds):>10.1f}{spread:>18}{median(seconds) / beside:>11.2f}"
            f"{peak / 2**20:>10,.0f}{read / 1e6:>10,.0f}{written / 1e6:>12,.0f}"
        )
        for stage in found[0].stages:
            print(f"  {stage:<10}{median(run.stages[stage] for run in found):>10.1f}")


_AMOUNTS = ("peak_rss_octets", "read_octets", "written_octets")


def rows(runs: dict[str, list[Run]], records: int) -> Iterator[dict[str, object]]:
    """Rows of ``latest.json``."""
    for engine, found in runs.items():
        peak = int(median(run.peak_rss_octets for run in found))
        common = {"format": "delimited", "records": records, "engine": engine}
        for stage in ("total", *found[0].stages):
            seconds = [run.seconds if stage == "total" else run.stages[stage] for run in found]
            yield {
                **common, "stage": stage, "seconds": round(median(seconds), 3), "peak_rss_bytes": peak,
                "seconds_min": round(min(seconds), 3), "seconds_max": round(max(seconds), 3),
            }  # fmt: skip


if __name__ == "__main__":
    main()
