"""The readers on one core, beside other ways to the same columns.

Run as ``PYTHONPATH=. python -m tests.bench.readers [--format NAME] [--scale S] [--runs R]``; what it measures is also written to
``var/bench/readers.json``. Every engine must find the same octets up and down as our reader, or the run fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from tests.bench import charging_reader, ipdr_reader, radius_reader
from tests.bench.in_turn import Comparison, measured, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "var" / "bench" / "readers.json"
Say = Callable[[str], None]

MODULES: dict[str, Callable[[float, Path, Say], Iterator[Comparison]]] = {
    "ts32297": charging_reader.comparisons,
    "radius-detail": radius_reader.comparisons,
    "ipdr": ipdr_reader.comparisons,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(prog="tests.bench.readers", description=__doc__)
    parser.add_argument("--format", choices=list(MODULES), help="one only")
    parser.add_argument("--scale", type=float, default=1.0, help="of the inputs")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args(arguments)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    results = []
    with TemporaryDirectory() as folder:
        for name in [options.format] if options.format else MODULES:
            for comparison in MODULES[name](options.scale, Path(folder), say):
                results += measured(comparison, options.runs)
    say(f"{options.runs} runs in turn")
    for line in table(results):
        say(line)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([one.as_json() for one in results], indent=1) + "\n", encoding="utf-8")
    say(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
