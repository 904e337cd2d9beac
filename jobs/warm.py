"""Compile ahead: the machine code of compiled readers is kept beside their modules, so that no run waits for it.

``python -m jobs.warm`` is a step of set-up.
"""

from __future__ import annotations

import io

import numpy as np

from jobs.decode import EVERY_RECORD
from jobs.demo.ber import CDR_HEADER_OCTETS, LONGEST_OCTETS, encode_chf, encode_pgw
from jobs.pseudonyms import load_compiled
from jobs.readers.block import Tally
from jobs.readers.charging import read_charging
from jobs.readers.delimited_walk import fields
from schemas.source import CHARGING_COLUMNS


def main() -> None:
    """Write and read a record of each kind, hash a text, and meet it twice."""
    load_compiled()
    fields(b"a|b\n", np.zeros(1, np.int64), np.full(1, 3, np.int64), "|", ("a", "b"), ("b",))
    digits = np.full((1, 15), 49, np.uint8)
    name, plmn = np.full((1, 8), 97, np.uint8), np.zeros((1, 3), np.uint8)
    numbers = np.array([[1, 1, 1, 1_790_000_000, 1_790_003_600, 3600, 10, 20, 2]], np.int64)
    for kind in ("pgw", "chf"):
        offsets, out = np.empty(2, np.int32), np.empty(LONGEST_OCTETS, np.uint8)
        if kind == "pgw":
            encode_pgw(digits, digits[:, :11].copy(), name, plmn, name[0], numbers, offsets, out)
        else:
            encode_chf(digits, name, digits[:, :12].copy(), np.array([True]), numbers, offsets, out)
        record = bytes(out[CDR_HEADER_OCTETS : offsets[1]])
        header = (54).to_bytes(4, "big")
        framed = (54 + int(offsets[1])).to_bytes(4, "big") + header + bytes(46) + bytes(out[: offsets[1]])
        for octets, is_framed in ((record, False), (framed, True)):
            for _ in read_charging(io.BytesIO(octets), EVERY_RECORD, is_framed, CHARGING_COLUMNS, Tally()):
                pass


if __name__ == "__main__":
    main()
