"""``python -m schemas dictionary [--check]``: write docs/data-dictionary.md, or see whether it is fresh. Exit 1 if it is not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.dictionary import dictionary

PAGE = Path(__file__).resolve().parent.parent / "docs" / "data-dictionary.md"


def main(arguments: Sequence[str] | None = None, page: Path = PAGE) -> int:
    """Write or check the data dictionary."""
    parser = argparse.ArgumentParser(prog="python -m schemas", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("dictionary", help="write docs/data-dictionary.md")
    command.add_argument("--check", action="store_true", help="only see whether it is fresh")
    call = parser.parse_args(arguments)
    if not call.check:
        page.write_text(dictionary(), encoding="utf-8")
        return 0
    if page.is_file() and page.read_text(encoding="utf-8") == dictionary():
        return 0
    sys.stderr.write(f"{page.name} is not what schemas/ declares now: run `python -m schemas dictionary`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
