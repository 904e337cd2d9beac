"""Search for octets that break a reader, in every format that has a fuzzer.

Run as ``PYTHONPATH=. python -m tests.fuzz [--minutes 10] [--format NAME] [--seed 0]``.
"""

from __future__ import annotations

import sys

from tests.fuzz import charging, ipdr, radius
from tests.fuzz.search import Target, fuzz_all

TARGETS: dict[str, Target] = {**charging.TARGETS, **radius.TARGETS, **ipdr.TARGETS}

if __name__ == "__main__":
    sys.exit(fuzz_all(TARGETS))
