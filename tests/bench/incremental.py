"""A month accepted day by day beside the month at once, and a late file: ``python -m tests.bench.incremental [--records N]``.

One process and one Spark session for all, so that what is compared is the work of accept and not the start of Java.
"""

# ruff: noqa: T201 (a command speaks on the terminal)

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.run import PROJECT, Settings
from tests.bench.landing import landing_of

BENCH = PROJECT / "var" / "bench"


def main() -> None:
    """Accept the same files in one batch and in parts, and say what either took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--parts", type=int, default=30)
    asked = parser.parse_args()
    landing = landing_of(BENCH, "delimited", asked.records)
    files = sorted((landing.folder / landing.source).iterdir(), key=_turn)
    exports = sorted((landing.folder / "subscriptions").iterdir())
    late = files[len(files) // 2]
    at_once = accepted("once", landing.source, [[*exports, *(file for file in files if file != late)], [late]])
    parts = [files[n * len(files) // asked.parts : (n + 1) * len(files) // asked.parts] for n in range(asked.parts)]
    daily = accepted("daily", landing.source, [[*exports, *parts[0]], *parts[1:]])
    print(f"{landing.records:,} records: at once {at_once[0]:.1f} s, in {asked.parts} parts {sum(daily):.1f} s")
    print(f"ratio {sum(daily) / at_once[0]:.2f}; a part {min(daily[1:]):.1f} to {max(daily[1:]):.1f} s")
    print(f"a late file of {late.stat().st_size:,} octets after the month: {at_once[1]:.1f} s")


def _turn(file: Path) -> tuple[str, str]:
    """Its place in the order of delivery: every network element counts its files, and each has some for a day."""
    return re.sub(r"\D", "", file.name), file.name


def accepted(name: str, source: str, batches: Sequence[Sequence[Path]]) -> list[float]:
    """Seconds that land and accept take for each batch of files."""
    from jobs import stages
    from jobs.postgres import stop_embedded
    from jobs.workplace import workplace

    var = BENCH / "incremental"  # of both, since the session keeps its files there
    place = var / name
    shutil.rmtree(place, ignore_errors=True)
    for folder in (source, "subscriptions"):
        (place / "landing" / folder).mkdir(parents=True)
    if not (var / "jars").exists():
        (var / "jars").symlink_to(Settings.from_environment().jars.resolve())
    settings = Settings.from_environment(
        {"FOOTPRINT_VAR": str(var)} | {f"FOOTPRINT_{part.upper()}": str(place / part) for part in ("landing", "lake", "keys")}
    )
    seconds = []
    with workplace(settings, "bench", lambda line: None) as opened:
        # The first job of a session pays for the start of everything.
        opened.lake.spark.range(10).groupBy("id").count().collect()
        for files in batches:
            for file in files:
                with contextlib.suppress(FileExistsError):
                    (place / "landing" / file.parent.name / file.name).symlink_to(file)
            begun = time.monotonic()
            stages.run(opened, "land", None)
            stages.run(opened, "accept", None)
            seconds.append(time.monotonic() - begun)
            print(f"  {len(files):3} files {seconds[-1]:6.1f} s", file=sys.stderr, flush=True)
    stop_embedded(settings)
    shutil.rmtree(place)
    return seconds


if __name__ == "__main__":
    main()
