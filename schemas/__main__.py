"""What is generated from the declarations: the data dictionary and the data contracts.

``python -m schemas dictionary [--check]`` writes docs/data-dictionary.md, ``python -m schemas contracts [--check | --release]``
schemas/contracts/, or sees whether they are fresh and keep what was released. Exit 1 if they are or do not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.dictionary import dictionary

PAGE = Path(__file__).resolve().parent.parent / "docs" / "data-dictionary.md"


def main(arguments: Sequence[str] | None = None, page: Path = PAGE) -> int:
    """Write or check what is generated."""
    parser = argparse.ArgumentParser(prog="python -m schemas", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="what")
    of_dictionary = commands.add_parser("dictionary", help="write docs/data-dictionary.md")
    of_contracts = commands.add_parser("contracts", help="write schemas/contracts/")
    either = of_contracts.add_mutually_exclusive_group()
    for group in (of_dictionary, either):
        group.add_argument("--check", action="store_true", help="only see whether it is fresh, and keeps what was released")
    either.add_argument("--release", action="store_true", help="keep the versions of now for good: readers rely on them")
    call = parser.parse_args(arguments)
    return _contracts(call.check, call.release) if call.what == "contracts" else _dictionary(call.check, page)


def _dictionary(is_check: bool, page: Path) -> int:
    if not is_check:
        page.write_text(dictionary(), encoding="utf-8")
        return 0
    if page.is_file() and page.read_text(encoding="utf-8") == dictionary():
        return 0
    sys.stderr.write(f"{page.name} is not what schemas/ declares now: run `python -m schemas dictionary`\n")
    return 1


def _contracts(is_check: bool, is_release: bool) -> int:
    from schemas.compatibility import complaints, release, write
    from schemas.odcs import CONTRACTS, document

    documents = [document(contract) for contract in CONTRACTS]
    if is_release:
        try:
            sys.stdout.writelines(f"released {name}\n" for name in release(documents))
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    if not is_check:
        write(documents)
        return 0
    found = complaints(documents)
    sys.stderr.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
