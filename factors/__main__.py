"""``python -m factors check [FOLDER]``: is this folder of factors fit for use? Exit 0 yes, 1 no and why, 2 the call was wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from factors.arithmetic import PrecisionError
from factors.check import check
from factors.reading import FactorError


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a folder of factors, as ``footprint factors check`` does, without anything but this package."""
    parser = argparse.ArgumentParser(prog="python -m factors", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("check", help="check a folder of factors and the arithmetic")
    command.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    try:
        sys.stdout.write(check(parser.parse_args(arguments).folder) + "\n")
    except (FactorError, PrecisionError) as error:
        sys.stderr.write(f"The factors are refused: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
