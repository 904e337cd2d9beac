"""``python -m factors check [FOLDER]``: is this folder of factors fit for use? Exit 0 yes, 1 no and why, 2 the call was wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from factors.arithmetic import PrecisionError, prove
from factors.reading import FactorError
from factors.registry import load


def main(arguments: Sequence[str] | None = None) -> int:
    """Check every set, assignment, citation and method text of a folder, and the arithmetic of the formula."""
    parser = argparse.ArgumentParser(prog="python -m factors", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("check", help="check a folder of factors and the arithmetic")
    command.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    try:
        sys.stdout.write(_checked(parser.parse_args(arguments).folder) + "\n")
    except (FactorError, PrecisionError) as error:
        sys.stderr.write(f"The factors are refused: {error}\n")
        return 1
    return 0


def _checked(folder: Path) -> str:
    registry = load(folder)
    values = sum(len(factor_set.value) for factor_set in registry.sets.values())
    return (
        f"{folder}: {len(registry.sets)} sets, {values} values, {len(registry.citations)} sources, "
        f"{len(registry.assignments)} assignments and their method texts are consistent.\n"
        f"Arithmetic: {len(prove())} rules hold for every value of the declared types: no product exceeds 38 digits "
        f"or loses a digit silently."
    )


if __name__ == "__main__":
    sys.exit(main())
