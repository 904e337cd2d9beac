"""The pipeline and the scripts beside it, each run in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.launch import STAGES
from jobs.pseudonyms import FROM_THE_BEGINNING, NAMES, make_key
from jobs.run import Settings
from tests.bench.landing import MONTH, Landing
from tests.bench.processes import Measured, Sample, measured

END = "end"
"""What comes after the last stage: the summary, and the end of the processes."""
PASSED_ON = ("FOOTPRINT_DRIVER_MEMORY", "FOOTPRINT_SPARK_MASTER")


@dataclass(frozen=True)
class Run:
    """One run of one engine: seconds, memory and traffic of each stage and in total, and the octets it found."""

    stages: dict[str, Sample]
    total: Sample
    octets: int

    @classmethod
    def of(cls, found: Measured, octets: int) -> Run:
        """``at`` of each sample becomes what it took. A stage lasts until the last line that begins with its name."""
        begin, stages = 0.0, {}
        for stage in STAGES:
            ends = [at for at, line in found.lines if line.startswith(f"{stage} ")]
            if ends:
                stages[stage] = _took(found, begin, ends[-1])
                begin = ends[-1]
        stages[END] = _took(found, begin, found.seconds)
        return cls(stages, found.total, octets)


def _took(found: Measured, begin: float, end: float) -> Sample:
    sample = found.between(begin, end)
    return Sample(end - begin, sample.resident, sample.read, sample.written)


def footprint(landing: Landing, bench: Path) -> Run:
    """The pipeline, all stages in one process, into an empty lake and an embedded PostgreSQL of its own."""
    var = bench / "run"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FOOTPRINT_") or k in PASSED_ON}
    environment |= {"FOOTPRINT_VAR": str(var), "FOOTPRINT_LOG": "text"}
    _clear(var, environment)
    (var / "landing").mkdir(parents=True)
    (var / "jars").symlink_to(Settings.from_environment().jars.resolve())
    for name in (landing.source, "subscriptions"):
        (var / "landing" / name).symlink_to(landing.folder / name)

    def postmaster() -> Iterator[int]:
        """PostgreSQL is a daemon, no descendant of who started it."""
        process = var / "serving" / "postmaster.pid"
        if process.is_file():
            yield int(process.read_text(encoding="utf-8").split("\n", 1)[0])

    try:
        found = measured([sys.executable, "-m", "jobs", "run", "--month", MONTH], environment, postmaster)
        return Run.of(found, _published_octets(var))
    finally:
        _clear(var, environment)


def _clear(var: Path, environment: dict[str, str]) -> None:
    if var.exists():
        stop = [sys.executable, "-m", "jobs", "serving", "stop"]
        subprocess.run(stop, env=environment, capture_output=True, check=False)
        shutil.rmtree(var)


def _published_octets(var: Path) -> int:
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    volumes = DeltaTable(str(var / "lake" / "published")).to_pyarrow_table(columns=["data_volume_bytes"])
    return int(pc.sum(volumes["data_volume_bytes"]).as_py())


def script(engine: str) -> Callable[[Landing, Path], Run]:
    """A script beside the pipeline, which reads the same files with keys of the same kind."""

    def run(landing: Landing, bench: Path) -> Run:
        keys, out = bench / "keys", bench / engine
        for name in NAMES:
            make_key(keys, name, FROM_THE_BEGINNING)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        command = [sys.executable, "-m", f"tests.bench.{engine}_month", str(landing.folder), str(keys), str(out)]
        found = measured(command, dict(os.environ))
        return Run.of(found, json.loads(found.lines[-1][1])["octets"])

    return run


ENGINES: dict[str, Callable[[Landing, Path], Run]] = {
    "footprint": footprint,
    "duckdb": script("duckdb"),
    "polars": script("polars"),
}
